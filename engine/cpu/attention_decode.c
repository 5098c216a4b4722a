/* Decoding: one query of each sequence. Sequences that begin alike share pages, and what is read of
 * memory is what decoding takes time for, so a page is read once for all neighbours that share it. */
#include "engine/cpu/attention.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/kv_page.h"

#define PIECES (ATTENTION_BLOCK / ATTENTION_PAGE)

/* A page of the block at hand, and the rows that see its first n keys. */
struct piece {
    struct page_head page;
    size_t lo, hi; /* rows */
    size_t at, n;  /* first key, counted in the block, and how many */
};

/* Everything one thread works in. Row i is head i % R of run i / R's group, R = H / G. */
struct decode {
    const struct kernels *k;
    const struct attention_run *runs;
    size_t n_runs;
    const struct attention_shape *s;
    size_t group;
    bool is_narrow; /* the pages */

    struct piece piece[PIECES * ATTENTION_ROWS]; /* by their keys, then by their rows */
    size_t n_pieces;
    struct span then; /* read after the last of them */
    float q[ATTENTION_ROWS * ATTENTION_D_MAX];
    float p[ATTENTION_ROWS * ATTENTION_BLOCK];
    float add[ATTENTION_ROWS * ATTENTION_D_MAX]; /* of the block at hand */
    struct attention_sums sums;
};

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many of the `room` keys from position `from` on a run sees. */
static size_t run_seen(const struct attention_run *run, size_t from, size_t room)
{
    return run->first < from ? 0 : min(run->first + 1 - from, room);
}

/* Where the neighbours end that see the whole page at `from` of run i as their own. */
static size_t sharers(const struct decode *d, size_t i, size_t from)
{
    const size_t page = from / ATTENTION_PAGE;
    size_t end = i + 1;

    if (run_seen(&d->runs[i], from, ATTENTION_PAGE) < ATTENTION_PAGE)
        return end;
    while (end < d->n_runs && run_seen(&d->runs[end], from, ATTENTION_PAGE) == ATTENTION_PAGE &&
           d->runs[end].pages[page] == d->runs[i].pages[page])
        end++;
    return end;
}

static void list_pieces(struct decode *d, size_t b0)
{
    const size_t R = d->s->H / d->s->G;

    d->n_pieces = 0;
    for (size_t at = 0; at < ATTENTION_BLOCK; at += ATTENTION_PAGE)
        for (size_t i = 0, end; i < d->n_runs; i = end) {
            const struct attention_run *run = &d->runs[i];
            const size_t n = run_seen(run, b0 + at, ATTENTION_PAGE);

            end = sharers(d, i, b0 + at);
            if (n > 0)
                d->piece[d->n_pieces++] = (struct piece){
                    .page = page_head(run->pages[(b0 + at) / ATTENTION_PAGE], run->page_at,
                                      d->group, d->s->D, d->is_narrow),
                    .lo = i * R,
                    .hi = end * R,
                    .at = at,
                    .n = n};
        }
}

/* What is read first of the blocks from b0 on; of no bytes if there are none. */
static struct span first_read(const struct decode *d, size_t b0)
{
    for (size_t i = 0; i < d->n_runs; i++) {
        const struct attention_run *run = &d->runs[i];
        const size_t n = run_seen(run, b0, ATTENTION_PAGE);

        if (n > 0) {
            const struct page_head h = page_head(run->pages[b0 / ATTENTION_PAGE], run->page_at,
                                                 d->group, d->s->D, d->is_narrow);
            return page_keys(&h, n, d->s->D, d->is_narrow);
        }
    }
    return (struct span){0};
}

static struct span keys_of(const struct decode *d, const struct piece *x)
{
    return page_keys(&x->page, x->n, d->s->D, d->is_narrow);
}

static struct span values_of(const struct decode *d, const struct piece *x)
{
    return page_values(&x->page, x->n, d->s->D, d->is_narrow);
}

/* p = q k. Each product fetches what the next one reads. */
static void score(struct decode *d)
{
    const size_t D = d->s->D, width = attention_width(D);

    for (size_t i = 0; i < d->n_pieces; i++) {
        const struct piece *x = &d->piece[i];
        struct gemm g =
            attention_scores(d->p + x->lo * ATTENTION_BLOCK + x->at, d->q + x->lo * width,
                             width, x->page.keys, x->hi - x->lo, x->n, D);

        g.b_step = page_room(g.b_step, d->is_narrow);
        g.b_panel = page_room(g.b_panel, d->is_narrow);
        g.next = i + 1 < d->n_pieces ? keys_of(d, x + 1) : values_of(d, d->piece);
        attention_multiply(d->k, &g, d->is_narrow);
    }
}

/* add = p v */
static void weigh(struct decode *d)
{
    const size_t D = d->s->D, width = attention_width(D);

    for (size_t i = 0; i < d->n_pieces; i++) {
        const struct piece *x = &d->piece[i];
        struct gemm g = {.c = d->add + x->lo * width,
                         .a = d->p + x->lo * ATTENTION_BLOCK + x->at,
                         .b = x->page.values,
                         .c_row = width,
                         .a_row = ATTENTION_BLOCK,
                         .a_step = 1,
                         .b_step = page_room(width, d->is_narrow),
                         .b_panel = page_room(PACK_LANES, d->is_narrow),
                         .rows = x->hi - x->lo,
                         .cols = D,
                         .steps = x->n,
                         .resume = x->at > 0,
                         .next = i + 1 < d->n_pieces ? values_of(d, x + 1) : d->then};

        attention_multiply(d->k, &g, d->is_narrow);
    }
}

static void decode_block(struct decode *d, size_t b0)
{
    const size_t D = d->s->D, R = d->s->H / d->s->G;
    float m[ATTENTION_ROWS], l[ATTENTION_ROWS];

    list_pieces(d, b0);
    score(d);
    for (size_t i = 0; i < d->n_runs * R; i++) {
        const size_t n = run_seen(&d->runs[i / R], b0, ATTENTION_BLOCK);
        if (n > 0)
            l[i] = d->k->softmax(d->p + i * ATTENTION_BLOCK, &m[i], d->s->scale, n);
    }
    weigh(d);
    for (size_t i = 0; i < d->n_runs * R; i++)
        if (run_seen(&d->runs[i / R], b0, 1) > 0)
            attention_take(d->k, &d->sums, i, d->add + i * attention_width(D), D, m[i], l[i],
                           b0 == 0);
}

// NOLINTNEXTLINE(readability-function-size): runs, one of their heads, and what comes then
void attention_decode(const struct kernels *k, const struct attention_run *runs, size_t n_runs,
                      const struct attention_shape *s, size_t group, struct span then)
{
    const size_t D = s->D, R = s->H / s->G, width = attention_width(D);
    size_t end = 0;
    struct decode d;

    CHECK(n_runs * R <= ATTENTION_ROWS);
    d.k = k;
    d.runs = runs;
    d.n_runs = n_runs;
    d.s = s;
    d.group = group;
    d.is_narrow = cache_is_narrow(k);
    for (size_t i = 0; i < n_runs * R; i++)
        memcpy(d.q + i * width, runs[i / R].q + (group * R + i % R) * D, D * sizeof(float));
    for (size_t i = 0; i < n_runs; i++)
        end = runs[i].first + 1 > end ? runs[i].first + 1 : end;
    for (size_t b0 = 0; b0 < end; b0 += ATTENTION_BLOCK) {
        d.then = b0 + ATTENTION_BLOCK < end ? first_read(&d, b0 + ATTENTION_BLOCK) : then;
        decode_block(&d, b0);
    }
    for (size_t i = 0; i < n_runs * R; i++) {
        const struct attention_run *run = &runs[i / R];
        const size_t head = group * R + i % R;

        attention_finish(k, &d.sums, i, D, run->out + head * D,
                         run->lse ? run->lse + head : NULL);
    }
}
