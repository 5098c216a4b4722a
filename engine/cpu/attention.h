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
