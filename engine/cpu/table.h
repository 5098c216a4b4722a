/*
 * engine/cpu/table.h - the inner loops that a backend consists of (private to engine/)
 *
 * Every function is the definition of kernels_scalar.c or gives its bits. They work on one row
 * or one tile; engine/ops.h has what is made of them. `n` may be 0 unless said.
 */
#ifndef ENGINE_CPU_TABLE_H
#define ENGINE_CPU_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/bf16.h"
#include "engine/ops.h"
#include "engine/products.h"

/* Memory that is going to be read. */
struct span {
    const void *at;
    size_t bytes;
};

/*
 * c[r, j] = running fma over steps s ascending of a[r, s] * b[s, j], from +0 or, with `resume`,
 * from c[r, j].
 *
 *   a  element (r, s) at a + r * a_row + s * a_step
 *   b  panels of PACK_LANES columns: element (s, j) at
 *      b + (j / PACK_LANES) * b_panel + s * b_step + j % PACK_LANES; all lanes of the last panel
 *      are readable, whatever they hold.
 *   narrow  instead of b: the same panels in bf16. Of a step, word j (0..7) holds column j in its
 *      lower half and column j + 8 in its upper; b_step and b_panel count words.
 *   c  element (r, j) at c + r * c_row + j; only the `cols` columns are written
 */
struct gemm {
    float *c;
    const float *a;
    const float *b;
    size_t c_row, a_row, a_step, b_step, b_panel;
    size_t rows, cols, steps;
    bool resume;
    const uint32_t *narrow; /* or NULL */
    struct span next;       /* what will be read after this, to be fetched meanwhile, at most a
                             * cache line a step and panel; of no bytes: the panels after these */
    const void *after;      /* without `next`: the panel read after the last; or NULL */
};

struct kernels {
    const char *name;
    enum numerics numerics;
    const struct products *products; /* how its class multiplies */
    const struct bf16_loops *bf16;   /* what bf16-1 multiplies with */

    /* Of a GPU: the operations of engine/ops.h are handed to `ops`, and nothing below is there. */
    struct device *device;
    const struct device_ops *ops;
    const struct kernels *host; /* for arrays of the host */

    void (*gemm)(const struct gemm *g);
    /* W (N, K), rows w_row apart, into panels of (K, PACK_LANES); lanes past N become +0. */
    void (*pack)(float *panels, const float *w, size_t w_row, size_t N, size_t K);
    /* n steps of a panel to bf16, cutting the lower halves off: the caller knows they are 0. */
    void (*narrow)(uint32_t *to, const float *panel, size_t n);

    float (*sum)(const float *x, size_t n);
    float (*dot)(const float *a, const float *b, size_t n);
    /* Sixteen lanes, then halves, by x > m ? x : m. -inf for n = 0; NaN is passed over. */
    float (*max)(const float *x, size_t n);
    bool (*all_finite)(const float *x, size_t n);
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*scale)(float *y, const float *x, float s, size_t n);
    /* y = fma(y, a, x * b) */
    void (*merge)(float *y, const float *x, float a, float b, size_t n);
    void (*bf16_from_f32)(uint16_t *y, const float *x, size_t n);
    void (*f32_from_bf16)(float *y, const uint16_t *x, size_t n);

    void (*exp)(float *y, const float *x, size_t n);
    void (*log)(float *y, const float *x, size_t n);
    void (*log1p)(float *y, const float *x, size_t n);

    /* one row each; C <= 65536 in the gradient */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t C, float eps);
    void (*rmsnorm_grad)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                         size_t C, float eps);
    /* one head; sin is taken as is, or negated for the gradient */
    void (*rope)(float *x, const float *cos, const float *sin, size_t D, bool inverse);
    void (*swiglu)(float *y, const float *g, const float *u, size_t n);
    void (*swiglu_grad)(float *dg, float *du, const float *dy, const float *g, const float *u,
                        size_t n);

    /* Attention, one row of one block, 1 <= n <= ATTENTION_BLOCK; p and dp have room for n
     * rounded up to a multiple of 16. p holds q.k and gets exp(q.k * scale - m), exp being +0
     * below -87; the sum is returned, *m the maximum. */
    float (*softmax)(float *p, float *m, float scale, size_t n);
    /* p holds q.k and gets P = exp(q.k * scale - lse); dp holds dout.v and gets P * (dp - D).
     * */
    void (*softmax_grad)(float *p, float *dp, float scale, float lse, float D, size_t n);

    /* *m = max(x) / T and the sum of exp(x / T - *m) */
    float (*exp_sum)(const float *x, float *m, float T, size_t n);
    /* y = ((exp(x / T - m) * inv) * weight) / T. y may be x. */
    void (*exp_grad)(float *y, const float *x, float T, float m, float inv, float weight,
                     size_t n);
    /* n <= 64 blocks of four words of Philox4x32-10, at counters (first + i, position, 0, 0).
     * */
    void (*philox)(uint32_t *word, uint64_t key, uint32_t first, uint32_t position, size_t n);
    /* y = x / T + gumbel(word) */
    void (*gumbel)(float *y, const float *x, const uint32_t *word, float T, size_t n);

    void (*adamw)(float *p, float *m, float *v, const float *g, const struct adamw_scalars *s,
                  size_t n);

    /* What `muster bench` compares with: n fma (a multiple of 192) on registers, and the
     * reading of n floats in four streams. What they return keeps the compiler from leaving
     * them out. */
    float (*fma_peak)(size_t n);
    float (*read)(const float *x, size_t n);
};

extern const struct kernels kernels_scalar;     /* any CPU */
extern const struct kernels kernels_scalar_fma; /* the same source for CPUs with FMA */
extern const struct kernels kernels_neon;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const struct bf16_loops bf16_loops_amx; /* for kernels_avx512 */

#endif
