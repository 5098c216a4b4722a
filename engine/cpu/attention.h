/*
 * engine/cpu/attention.h - what attention's two directions share (private to engine/cpu/)
 *
 * Both work on blocks of at most ATTENTION_BLOCK keys of one key/value head. A block's rows
 * serve packed as "weights" of a product over the head's channels (scores), and as they lie as
 * the steps of a product over keys.
 */
#ifndef ENGINE_CPU_ATTENTION_H
#define ENGINE_CPU_ATTENTION_H

#include "base/attr.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

/* Rows that go through a product together although the mask cuts them at different keys. */
#define ATTENTION_TILE   6u
#define ATTENTION_INLINE (1u << 16) /* below this many products another thread does not pay */

/* Channels of a head, in whole panels. */
ALWAYS_INLINE size_t attention_width(size_t D)
{
    return (D + PACK_LANES - 1) / PACK_LANES * PACK_LANES;
}

/* exp, with +0 below -87: what is left out is less than 2^-125 of the row's largest term. */
ALWAYS_INLINE float attention_exp(float x)
{
    return x < -87.0f ? 0.0f : lane_exp(x);
}

/* Rows (queries times heads of a group) that share one reading of a block of keys. */
#define ATTENTION_ROWS 64u

/* What rows have of the blocks behind them. */
struct attention_sums {
    float o[ATTENTION_ROWS *
            ATTENTION_D_MAX]; /* not yet divided by l; attention_width(D) apart */
    float m[ATTENTION_ROWS], l[ATTENTION_ROWS];
};

/* Takes a block into row i: the sum of its weighted values, and its M and l. */
// NOLINTNEXTLINE(readability-function-size): a row, and what is taken into it
void attention_take(const struct kernels *k, struct attention_sums *sums, size_t i,
                    const float *add, size_t D, float m, float l, bool is_first);
/* out = o / l of row i; lse = M + log l, if not NULL. */
void attention_finish(const struct kernels *k, const struct attention_sums *sums, size_t i,
                      size_t D, float *out, float *lse);

/* A product with panels of the cache: narrow ones if they are. What of g->next it will not get to is
 * fetched first. */
void attention_multiply(const struct kernels *k, struct gemm *g, bool is_narrow);

/* Runs of one query each, of one key/value head: together at most ATTENTION_ROWS rows, all with
 * pages. A page that neighbours share is read once for them. `then` is read next by this thread. */
void attention_decode(const struct kernels *k, const struct attention_run *runs, size_t n_runs,
                      const struct attention_shape *s, size_t group, struct span then);

struct attention_block {
    const float *rows; /* (n, row): borrowed from the cache, or `padded` */
    size_t row;
    float panels[ATTENTION_BLOCK * ATTENTION_D_MAX]; /* for pack() */
    float padded[ATTENTION_BLOCK * ATTENTION_D_MAX];
};

/* Sets rows and row: n rows of D channels, `stride` apart, with whole panels readable. */
void attention_block_load(struct attention_block *b, const float *rows, size_t stride, size_t n,
                          size_t D);

/* The product p (n, ATTENTION_BLOCK) = q (n, width) times the packed keys. */
ALWAYS_INLINE struct gemm attention_scores(float *p, const float *q, size_t width,
                                           const float *panels, size_t n, size_t n_keys,
                                           size_t D)
{
    return (struct gemm){.c = p,
                         .a = q,
                         .b = panels,
                         .c_row = ATTENTION_BLOCK,
                         .a_row = width,
                         .a_step = 1,
                         .b_step = PACK_LANES,
                         .b_panel = D * PACK_LANES,
                         .rows = n,
                         .cols = n_keys,
                         .steps = D};
}

#endif
