/*
 * engine/ops.h - every kernel of the engine: what it computes and in which order
 *
 * Letters:  B sequences, T tokens (rows of a batch, whatever sequence they are of), C channels,
 *           V vocabulary, H query heads, G key/value heads (G divides H), D channels of a head,
 *           N rows of whatever the op is about.
 * Layout:   row-major, dense unless strides are given.
 * Order:    backend, pool where there is one, results, inputs, sizes.
 * Backward: gradients are ADDED to what the array holds, unless the contract says "assigned".
 * Bits:     all arithmetic is binary32 in the order that docs/numerics.md writes down; backend,
 *           pool, batch and chunking never change a bit.
 * Devices:  with kernels of a device (engine/device.h) all arrays of add, scale, gather, scatter, embed_forward,
 *           rmsnorm, rope, swiglu, logprob, adamw_update and the matrix products are the device's,
 *           and nothing waits. The others are for the host's kernels.
 * Sources:  RMSNorm arXiv:1910.07467; SwiGLU arXiv:2002.05202; RoPE arXiv:2104.09864; grouped queries
 *           arXiv:2305.13245; attention in blocks with running maxima arXiv:2205.14135; drawing by
 *           Gumbel noise arXiv:1411.0030, its random words Philox doi:10.1145/2063384.2063405; AdamW
 *           arXiv:1711.05101. docs/math.md derives what is not obvious.
 * Failure:  none: sizes and ids are the caller's to have checked, and numbers that are not finite go
 *           through (all_finite finds them).
 * Threads:  ops with a pool split their outputs over it (NULL: inline); all are otherwise
 *           reentrant. None allocates; attention uses up to 1 MiB of stack per thread.
 *
 * The matrix products are in engine/matmul.h, exp, log and their kin in engine/cpu/math.h; both
 * are included here.
 */
#ifndef ENGINE_OPS_H
#define ENGINE_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "engine/cpu/math.h"
#include "engine/kernels.h"
#include "engine/matmul.h"
#include "engine/rope.h"

#define ATTENTION_BLOCK 256u /* positions; part of the numerics class */
#define ATTENTION_D_MAX 128u

/* The class's sum: sixteen lanes in blocks of 256, the rule applied again to the block sums. 0
 * for n = 0. dot16 is the same sum of a[i] * b[i], each product entering by fma. */
float sum16(const float *x, size_t n);
float dot16(const float *a, const float *b, size_t n);
/* The same bits, faster. */
float sum_forward(const struct kernels *k, const float *x, size_t n);
float dot_forward(const struct kernels *k, const float *a, const float *b, size_t n);

/* Whether no element is NaN or infinite. */
bool all_finite(const struct kernels *k, const float *x, size_t n);

/* y = a + b. y may be a or b. */
void add_forward(const struct kernels *k, float *y, const float *a, const float *b, size_t n);
/* y = x * s. y may be x. */
void scale_forward(const struct kernels *k, float *y, const float *x, float s, size_t n);

void bf16_from_f32_row(const struct kernels *k, uint16_t *y, const float *x, size_t n);
void f32_from_bf16_row(const struct kernels *k, float *y, const uint16_t *x, size_t n);

/* Rounds n numbers of keys or values, in place, to what the class's cache holds: bf16 in class
 * bf16-1, nothing is changed in the others. Its gradient is taken to be that of a copy. */
void cache_round(const struct kernels *k, float *x, size_t n);
/* Whether the pages of a cache on the host are bf16 (k NULL: they are not). */
bool cache_is_narrow(const struct kernels *k);

/* y[i, :] = x[index[i], :], and y[index[i], :] = x[i, :], for n rows of C. Different indices. */
void gather_rows(const struct kernels *k, float *y, const float *x, const uint32_t *index,
                 size_t n, size_t C);
void scatter_rows(const struct kernels *k, float *y, const float *x, const uint32_t *index,
                  size_t n, size_t C);

/* y (T, C) = table[id[t], :]. Ids must be in range: the caller has checked them. */
void embed_forward(const struct kernels *k, float *y, const float *table, const int32_t *id,
                   size_t T, size_t C);
/* dtable[id[t], :] = dtable[id[t], :] + dy[t, :] for t ascending. */
void embed_backward(const struct kernels *k, float *dtable, const float *dy, const int32_t *id,
                    size_t T, size_t C);

/*
 * r = 1 / sqrt(sum(x^2) / C + eps),  y = (x * r) * w,  for each of N rows of C. For the norms
 * of single heads: N = T * H, C = D. y may be x.
 */
void rmsnorm_forward(const struct kernels *k, float *y, const float *x, const float *w,
                     size_t N, size_t C, float eps);
/*
 * With h = x * r and u = dy * w:  dx += r * fma(-h, sum(u * h) / C, u)   (one add)
 *                                 dw = fma(dy, h, dw) over rows ascending
 *   dx (N, C), dw (C)  in/out;  dy, x (N, C), w (C)  in. r is computed anew. dx must not be dy.
 */
void rmsnorm_backward(const struct kernels *k, float *dx, float *dw, const float *dy,
                      const float *x, const float *w, size_t N, size_t C, float eps);

/*
 * Rows first..n_pos-1 of the rotation tables (n_pos, D/2) for heads of D channels (D even):
 *   inv_freq[i] = (float) scaled(theta^(-2i/D)),  angle = (float)pos * inv_freq[i],
 *   cos, sin (n_pos, D/2) of that f32 angle, computed in binary64 and rounded once.
 * `scaling` may be NULL: none.
 */
void rope_table(float *cos, float *sin, double theta, const struct rope_scaling *scaling,
                size_t first, size_t n_pos, size_t D);
/*
 * In place, for each of T rows of H heads; channel i is paired with i + D/2:
 *   x1' = fma(-x2, sin, x1 * cos),  x2' = fma(x1, sin, x2 * cos)
 *   x (T, H, D) in/out;  pos (T) in, indices into the tables.
 */
void rope_forward(const struct kernels *k, float *x, const float *cos, const float *sin,
                  const int32_t *pos, size_t T, size_t H, size_t D);
/* In place: the gradient of the outputs becomes that of the inputs (the opposite rotation). */
void rope_backward(const struct kernels *k, float *dx, const float *cos, const float *sin,
                   const int32_t *pos, size_t T, size_t H, size_t D);

/* y = (g / (1 + exp(-g))) * u. y may be g or u. */
void swiglu_forward(const struct kernels *k, struct pool *pool, float *y, const float *g,
                    const float *u, size_t n);
/*
 * e = 1 + exp(-g),  s = 1 / e:   du = dy * (g / e),   dg = (dy * u) * (s * fma(g, 1 - s, 1))
 * dg and du are assigned; dg may be g, and du may be u or dy.
 */
void swiglu_backward(const struct kernels *k, struct pool *pool, float *dg, float *du,
                     const float *dy, const float *g, const float *u, size_t n);

/* The shape of an attention call, common to all its runs. Strides are in floats, from one
 * position's row to the next; head h of a row starts at h * D. */
struct attention_shape {
    size_t H, G, D;              /* D <= ATTENTION_D_MAX */
    size_t q_stride, out_stride; /* also of dq and dout */
    size_t k_stride, v_stride;   /* also of dk and dv */
    float scale;                 /* 1 / sqrt(D), from attention_scale() */
};
float attention_scale(size_t D);

/*
 * Keys and values that are kept for later lie in pages of ATTENTION_PAGE positions, in the layout
 * that the products over them read: for each of G heads, the keys as panels (D, PACK_LANES) of
 * PACK_LANES positions each, then the values as rows of D, whole panels wide. What no position was
 * filed in holds any numbers. Of a class whose cache is bf16 they are narrow panels (struct gemm of
 * engine/cpu/table.h), which take half the room.
 */
#define ATTENTION_PAGE 64u /* divides ATTENTION_BLOCK */

/* Floats of one head of a page, counted as the room they take. */
size_t attention_page_head(size_t D, bool is_narrow);
/* The key (G, D) and the value (G, D) that were filed at position `at` of a layer of a page. */
void attention_page_read(float *key, float *value, const float *layer, size_t at, size_t G,
                         size_t D, bool is_narrow);

/* n consecutive positions of one sequence, the first of them at position `first`. */
struct attention_run {
    float *out;     /* (n, H, D) out, assigned */
    float *lse;     /* (n, H)    out  M + log l, for the backward pass; or NULL */
    const float *q; /* (n, H, D) in */
    const float *k; /* rows 0 .. first + n - 1 of the sequence, (G, D) each */
    const float *v; /* likewise */
    size_t first;
    size_t n;
    /* Or NULL. Page i of the sequence is at pages[i] + page_at; then k and v are only the n rows of
     * the run, which are filed in the pages, and those before them are there already. */
    float *const *pages;
    size_t page_at;
};
/*
 * Causal attention: the query at position p sees keys 0..p, in blocks of ATTENTION_BLOCK from
 * the sequence's start; prefill, chunked prefill and decode give the same bits. Query head h
 * uses key/value head h / (H/G). Here exp(x) = +0 for x < -87. The pool splits runs, heads and
 * rows. No two runs may file in the same page. Of neighbours with one query each that begin with the
 * same pages (pages[i] equal), a page is read once for all, which is what their decoding takes time for.
 */
void attention_forward(const struct kernels *k, struct pool *pool,
                       const struct attention_run *runs, size_t n_runs,
                       const struct attention_shape *s);

/* One whole sequence: positions 0 .. n-1. */
struct attention_grad {
    float *dq;         /* (n, H, D) out, assigned; not any of the inputs */
    float *dk, *dv;    /* (n, G, D) out, assigned */
    const float *dout; /* (n, H, D) in */
    const float *out;  /* (n, H, D) in, from the forward pass, like the following */
    const float *lse;  /* (n, H) */
    const float *q;    /* (n, H, D) */
    const float *k, *v;
    size_t n;
};
/*
 * P = exp(s - lse),  dP = dout . v,  dS = P * (dP - sum(dout * out)):
 *   dq = (running fma of dS * k over keys ascending) * scale
 *   dk = (running fma of dS * q over (head of the group, query) ascending) * scale
 *   dv =  running fma of P * dout over the same
 */
void attention_backward(const struct kernels *k, struct pool *pool,
                        const struct attention_grad *seqs, size_t n_seqs,
                        const struct attention_shape *s);

/*
 * With y = logit / temperature (a division) and m = max y:
 *
 *   logp = (y[token] - m) - log(sum(exp(y - m)))
 *
 *   logp (N) out;  logits (N, V), token (N) in.  temperature > 0; for 0 it is taken as 1.
 */
void logprob_forward(const struct kernels *k, struct pool *pool, float *logp,
                     const float *logits, const int32_t *token, float temperature, size_t N,
                     size_t V);
/*
 * The gradient of -sum_n weight[n] * logp[n]:
 *   dlogits = ((exp(y - m) * (1 / sum) - [v = token]) * weight) / temperature
 * dlogits (N, V) is assigned and may be logits. A row of weight 0 becomes +0 and is not read.
 */
void logprob_backward(const struct kernels *k, struct pool *pool, float *dlogits,
                      const float *weight, const float *logits, const int32_t *token,
                      float temperature, size_t N, size_t V);

/*
 * The same two on the host, with each exponential computed once: the first leaves exp(y - m) in logits
 * (N, V) in/out and 1 / sum in inv (N) out, of which the second makes dlogits, in place.
 */
void logprob_forward_exps(const struct kernels *k, struct pool *pool, float *logp, float *inv,
                          float *logits, const int32_t *token, float temperature, size_t N,
                          size_t V);
void logprob_backward_exps(const struct kernels *k, struct pool *pool, float *exps,
                           const float *inv, const float *weight, const int32_t *token,
                           float temperature, size_t N, size_t V);

/* What they are made of: sum(exp(y - m)), and *m = max y. */
float exp_sum_forward(const struct kernels *k, const float *logits, float *m, float temperature,
                      size_t V);

/* The highest logit; the lowest id on ties. NaN never wins. */
int32_t argmax_forward(const struct kernels *k, const float *logits, size_t V);
/*
 * Draws the token at `position` of the sample whose Philox key is `seed`: the argmax of y + g
 * (docs/numerics.md, "Sampling"), or of the logits for temperature 0. *logp (or NULL) gets
 * logprob_forward's bits. The logits must be finite: check with all_finite.
 */
int32_t sample_token(const struct kernels *k, float *logp, const float *logits, size_t V,
                     float temperature, uint64_t seed, uint32_t position);
/* How far `token` is from being what sample_token draws there: max (y + g) less its own, >= 0, in
 * units of y; 0 if it is drawn. temperature > 0. */
float sample_margin(const struct kernels *k, const float *logits, size_t V, float temperature,
                    uint64_t seed, uint32_t position, int32_t token);
/* The Gumbel noise g of one 32-bit word, for tests and documentation. */
float gumbel_f32(uint32_t r);

/* Gradient norm: square sums per tensor (per row by the class's sum, then the rows by it), then
 * the tensors in name order. grad_norm's result is not finite if some gradient is not. */
float grad_square_sum(const struct kernels *k, const float *g, size_t rows, size_t cols);
float grad_norm(const float *square_sums, size_t n_tensors);
/* min(1, max_norm / (norm + 1e-6)); 1 if max_norm is 0 (no clipping). */
float grad_clip_scale(float norm, float max_norm);

struct adamw_scalars {
    float lr, b1, b2, eps, wd;
    float bc1, bc2;   /* adamw_bias_correction() of this step, counted from 1 */
    float grad_scale; /* grad_clip_scale() */
};
float adamw_bias_correction(float beta, uint64_t step); /* 1 - beta^step in binary64, rounded */
/* One step of one tensor: p, m, v (n) in/out, g (n) in. docs/numerics.md, "AdamW". */
void adamw_update(const struct kernels *k, struct pool *pool, float *p, float *m, float *v,
                  const float *g, const struct adamw_scalars *s, size_t n);

#endif
