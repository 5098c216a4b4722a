#include "proto/toploc_top.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/toploc.h"

/* ---- the rule of the heap ---------------------------------------------------------------- */

/* The order of the sort: larger magnitudes first, indices not looked at. */
static bool before(const struct toploc_item *a, const struct toploc_item *b)
{
    return a->magnitude > b->magnitude;
}

static void swap(struct toploc_item *a, struct toploc_item *b)
{
    struct toploc_item t = *a;

    *a = *b;
    *b = t;
}

/* Lets `item` sink from `hole` to a leaf along the later child, then rise to its place. The heap's
 * top is the item that comes last in the order. */
static void heap_sift(struct toploc_item *heap, size_t n, size_t hole, struct toploc_item item)
{
    size_t top = hole;
    size_t child = hole;

    while (child < (n - 1) / 2) {
        child = 2 * (child + 1);
        if (before(&heap[child], &heap[child - 1]))
            child--;
        heap[hole] = heap[child];
        hole = child;
    }
    if (n % 2 == 0 && child == (n - 2) / 2) {
        child = 2 * child + 1; /* the last parent has one child */
        heap[hole] = heap[child];
        hole = child;
    }
    while (hole > top && before(&heap[(hole - 1) / 2], &item)) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = item;
}

/* Heaps the first k, then lets each later item that comes before the top replace it. */
static void select_by_heap(struct toploc_item *v, size_t n, size_t k)
{
    for (size_t i = k / 2; i-- > 0;)
        heap_sift(v, k, i, v[i]);
    for (size_t i = k; i < n; i++) {
        if (before(&v[i], &v[0])) {
            struct toploc_item item = v[i];
            v[i] = v[0];
            heap_sift(v, k, 0, item);
        }
    }
}

/* Puts the median of v[1], v[n / 2], v[n - 1] at v[0]. */
static void choose_pivot(struct toploc_item *v, size_t n)
{
    struct toploc_item *a = &v[1], *b = &v[n / 2], *c = &v[n - 1];

    if (before(a, b)) {
        if (before(b, c))
            swap(v, b);
        else
            swap(v, before(a, c) ? c : a);
    } else if (before(a, c)) {
        swap(v, a);
    } else {
        swap(v, before(b, c) ? c : b);
    }
}

/* Splits v[1..n) about v[0]; returns where the second part begins. The median of three stops both
 * scans inside the array. */
static size_t partition(struct toploc_item *v, size_t n)
{
    size_t lo = 1, hi = n;

    choose_pivot(v, n);
    for (;;) {
        while (before(&v[lo], &v[0]))
            lo++;
        hi--;
        while (before(&v[0], &v[hi]))
            hi--;
        if (lo >= hi)
            return lo;
        swap(&v[lo], &v[hi]);
        lo++;
    }
}

static void insertion_sort(struct toploc_item *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct toploc_item item = v[i];
        size_t at = i;

        for (; at > 0 && before(&item, &v[at - 1]); at--)
            v[at] = v[at - 1];
        v[at] = item;
    }
}

/* Introselect for place k - 1. */
static void select_by_partition(struct toploc_item *v, size_t n, size_t k)
{
    size_t nth = k - 1;
    unsigned depth = 0;

    for (size_t rest = n; rest > 1; rest /= 2)
        depth += 2;
    while (n > 3) {
        size_t cut;

        if (depth-- == 0) {
            select_by_heap(v, n, nth + 1);
            swap(&v[0], &v[nth]);
            return;
        }
        cut = partition(v, n);
        if (cut <= nth) {
            v += cut;
            n -= cut;
            nth -= cut;
        } else {
            n = cut;
        }
    }
    insertion_sort(v, n);
}

void toploc_heap_select(struct toploc_item *v, size_t n, size_t k)
{
    if (k <= n / 64)
        select_by_heap(v, n, k);
    else
        select_by_partition(v, n, k);
}

static enum status top_heap(uint32_t *index, const uint16_t *values, size_t n, uint32_t k,
                            struct err *e)
{
    struct toploc_item *item = NULL;
    enum status st;

    st = alloc_array(&item, n, sizeof(*item), "toploc items", e);
    if (st)
        return st;
    for (size_t i = 0; i < n; i++)
        item[i] = (struct toploc_item){values[i] & 0x7fff, (uint32_t)i};
    toploc_heap_select(item, n, k);
    for (uint32_t i = 0; i < k; i++)
        index[i] = item[i].index;
    free(item);
    return OK;
}

/* ---- the lowest index -------------------------------------------------------------------- */

#define BLOCK_MIN      16u /* values; with fewer to a block their maxima say little */
#define BLOCKS_A_VALUE 8u  /* blocks to each value that is wanted */
#define BLOCKS_MAX     8192u
#define CANDIDATES_MAX 8192u

/* Some of the values, ascending: all of them if `index` is NULL. */
struct among {
    const uint16_t *values;
    const uint32_t *index;
    size_t n;
};

static uint32_t index_at(const struct among *a, size_t i)
{
    return a->index ? a->index[i] : (uint32_t)i;
}

/* The largest magnitude, 0 of none. Signed, as every vector unit has that maximum. */
static uint16_t largest(const uint16_t *values, size_t n)
{
    int16_t top = 0;

    for (size_t i = 0; i < n; i++) {
        int16_t magnitude = (int16_t)(values[i] & 0x7fff);
        top = magnitude > top ? magnitude : top;
    }
    return (uint16_t)top;
}

/* The largest bin b such that the bins from b up hold at least *k; *k becomes how many of bin b
 * itself are needed. */
static uint32_t find_bin(const uint32_t *bin, uint32_t n_bins, uint32_t *k)
{
    uint32_t b = n_bins - 1;

    while (bin[b] < *k) {
        *k -= bin[b];
        b--;
    }
    return b;
}

/* The k-th magnitude by counting exponents and then, within one exponent, mantissas: no sort.
 * *k becomes how many of those equal to it are taken. */
static uint32_t find_kth(const struct among *a, uint32_t *k)
{
    uint32_t by_exponent[256] = {0};
    uint32_t by_mantissa[128] = {0};
    uint32_t exponent;

    for (size_t i = 0; i < a->n; i++)
        by_exponent[a->values[index_at(a, i)] >> 7 & 0xff]++;
    exponent = find_bin(by_exponent, 256, k);
    for (size_t i = 0; i < a->n; i++) {
        uint16_t v = a->values[index_at(a, i)];
        if ((v >> 7 & 0xffu) == exponent)
            by_mantissa[v & 0x7f]++;
    }
    return exponent << 7 | find_bin(by_mantissa, 128, k);
}

/* Those that can be among the k largest, or all where that would be many. The k-th largest of the
 * maxima of blocks is no larger than the k-th largest value, since k blocks have one as large: what
 * is below it need not be looked at again. */
static struct among find_candidates(uint32_t *candidate, const uint16_t *values, size_t n,
                                    uint32_t k)
{
    const struct among all = {values, NULL, n};
    size_t block = n / ((size_t)BLOCKS_A_VALUE * k), n_found = 0, n_blocks;
    uint16_t top[BLOCKS_MAX];
    uint32_t rest = k, bound;

    n_blocks = block ? (n + block - 1) / block : 0;
    if (block < BLOCK_MIN || n_blocks > BLOCKS_MAX)
        return all;
    for (size_t b = 0; b < n_blocks; b++)
        top[b] = largest(values + b * block, n - b * block < block ? n - b * block : block);
    bound = find_kth(&(struct among){top, NULL, n_blocks}, &rest);
    for (size_t b = 0; b < n_blocks; b++) {
        size_t end = (b + 1) * block < n ? (b + 1) * block : n;

        if (top[b] < bound)
            continue;
        if (n_found + block > CANDIDATES_MAX)
            return all;
        for (size_t i = b * block; i < end; i++) {
            candidate[n_found] = (uint32_t)i;
            n_found += (values[i] & 0x7fffu) >= bound;
        }
    }
    return (struct among){values, candidate, n_found};
}

static void top_lowest(uint32_t *index, const uint16_t *values, size_t n, uint32_t k)
{
    uint32_t candidate[CANDIDATES_MAX + 1]; /* one is written before it is known to be one */
    struct among a = find_candidates(candidate, values, n, k);
    uint32_t rest = k, kth = find_kth(&a, &rest), n_top = 0;

    for (size_t i = 0; i < a.n && n_top < k; i++) {
        uint32_t at = index_at(&a, i), magnitude = values[at] & 0x7fffu;

        if (magnitude > kth || (magnitude == kth && rest > 0)) {
            rest -= magnitude == kth;
            index[n_top++] = at;
        }
    }
}

static enum status refuse_nan(const uint16_t *values, struct err *e)
{
    size_t i = 0;

    while ((values[i] & 0x7fff) <= 0x7f80)
        i++;
    return err_set(e, ERR_NUMERIC, "toploc: value %zu is not a number", i);
}

enum status toploc_top(uint32_t *index, uint32_t *n_top, const uint16_t *values, size_t n,
                       uint32_t k, enum toploc_tie tie, struct err *e)
{
    if (largest(values, n) > 0x7f80)
        return refuse_nan(values, e);
    *n_top = n < k ? (uint32_t)n : k;
    if (n <= k) {
        for (size_t i = 0; i < n; i++)
            index[i] = (uint32_t)i;
        return OK;
    }
    if (tie == TOPLOC_TIE_HEAP)
        return top_heap(index, values, n, k, e);
    top_lowest(index, values, n, k);
    return OK;
}
