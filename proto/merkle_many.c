#include "proto/merkle_many.h"

#include "base/check.h"
#include "proto/merkle.h"

/* Leaves of the left child of a node of n >= 2. */
static uint64_t left_of(uint64_t n)
{
    uint64_t k = 1;

    while (k < n - k)
        k *= 2;
    return k;
}

static size_t fan(struct merkle_range *child, struct merkle_range node, unsigned levels)
{
    uint64_t k;
    size_t n;

    if (node.n == 1 || levels == 0) {
        *child = node;
        return 1;
    }
    k = left_of(node.n);
    n = fan(child, (struct merkle_range){node.first, k}, levels - 1);
    return n + fan(child + n, (struct merkle_range){node.first + k, node.n - k}, levels - 1);
}

size_t merkle_fan(struct merkle_range child[MERKLE_FAN], struct merkle_range node)
{
    CHECK(node.n > 0);
    return fan(child, node, MERKLE_FAN_LEVELS);
}

static const struct digest *join(struct digest *out, uint64_t n, const struct digest *child,
                                 unsigned levels)
{
    struct digest right;
    uint64_t k;

    if (n == 1 || levels == 0) {
        *out = *child;
        return child + 1;
    }
    k = left_of(n);
    child = join(out, k, child, levels - 1);
    child = join(&right, n - k, child, levels - 1);
    merkle_node(out, out, &right);
    return child;
}

void merkle_fan_join(struct digest *node_hash, struct merkle_range node,
                     const struct digest *child)
{
    CHECK(node.n > 0);
    join(node_hash, node.n, child, MERKLE_FAN_LEVELS);
}

void merkle_range_root(struct digest *out, const struct digest *leaf, struct merkle_range r)
{
    struct merkle m;

    merkle_init(&m);
    for (uint64_t i = 0; i < r.n; i++)
        merkle_add_hash(&m, &leaf[r.first + i]);
    merkle_root(&m, out);
}

/* What is left of the sorted indices, as the tree is walked from left to right. */
struct wanted {
    const uint64_t *index;
    size_t n;
};

static bool reaches(const struct wanted *w, struct merkle_range r)
{
    return w->n > 0 && w->index[0] < r.first + r.n;
}

static void prove(struct buf *out, const struct digest *leaf, struct merkle_range r,
                  struct wanted *w)
{
    struct digest hash;
    uint64_t k;

    if (!reaches(w, r)) {
        merkle_range_root(&hash, leaf, r);
        buf_append(out, BYTES_OF(hash.b));
        return;
    }
    if (r.n == 1) {
        w->index++;
        w->n--;
        return;
    }
    k = left_of(r.n);
    prove(out, leaf, (struct merkle_range){r.first, k}, w);
    prove(out, leaf, (struct merkle_range){r.first + k, r.n - k}, w);
}

void merkle_many_prove(struct buf *out, const struct digest *leaf, uint64_t n,
                       const uint64_t *index, size_t n_index)
{
    struct wanted w = {index, n_index};

    CHECK(n > 0);
    prove(out, leaf, (struct merkle_range){0, n}, &w);
    CHECK(w.n == 0);
}

struct joining {
    struct wanted wanted;
    const struct digest *leaf;
    struct reader *proof;
};

static void join_many(struct digest *out, struct merkle_range r, struct joining *j)
{
    struct digest right;
    uint64_t k;

    if (!reaches(&j->wanted, r)) {
        reader_copy(j->proof, out->b, sizeof(out->b));
        return;
    }
    if (r.n == 1) {
        *out = *j->leaf++;
        j->wanted.index++;
        j->wanted.n--;
        return;
    }
    k = left_of(r.n);
    join_many(out, (struct merkle_range){r.first, k}, j);
    join_many(&right, (struct merkle_range){r.first + k, r.n - k}, j);
    merkle_node(out, out, &right);
}

enum status merkle_many_join(struct digest *root, uint64_t n, const uint64_t *index,
                             const struct digest *leaf, size_t n_index, struct reader *proof,
                             struct err *e)
{
    struct joining j = {.wanted = {index, n_index}, .leaf = leaf, .proof = proof};

    CHECK(n > 0);
    for (size_t i = 0; i < n_index; i++)
        if (index[i] >= n || (i > 0 && index[i] <= index[i - 1]))
            return err_set(e, ERR_MALFORMED, "leaves of a proof are not in order below %llu",
                           (unsigned long long)n);
    join_many(root, (struct merkle_range){0, n}, &j);
    if (proof->bad)
        return err_set(e, ERR_MALFORMED, "a proof of %zu leaves is too short", n_index);
    return OK;
}
