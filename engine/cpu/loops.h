/*
 * engine/cpu/loops.h - the inner loops of a backend, in plain C (private to engine/cpu/)
 *
 * Included once by each kernels_*.c, which compiles it with its own instruction flags. Nothing
 * in here depends on them: the loops run over independent elements or over the sixteen lanes of
 * the class's sum, so a compiler may vectorise them at any width, and with contraction and
 * reordering switched off it has no other freedom. That is how one text is both the definition
 * and the fast version. Only the matrix product needs more (gemm_vec.h).
 *
 * The including file has defined BACKEND_NAME, BACKEND_TABLE, TILE_COLS, gemm(), pack(), max(),
 * bf16_gemm(), fma_peak() and read_floats().
 */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/sum_tree.h"
#include "engine/cpu/table.h"

#include "engine/cpu/bf16_operands.h"

#define STRIP 16u

/* y may be one of the arrays that are read: each element is read before its place is written.
 * GCC finds out at run time that such an overlap is harmless, clang has to be told. */
#if defined(__clang__)
#define IN_PLACE _Pragma("clang loop vectorize(assume_safety)")
#else
#define IN_PLACE
#endif

/* y[at] = value for at = 0..n-1, `value` being an expression of at. */
#define EACH(y, n, value)                                                                      \
    do {                                                                                       \
        float *const to_ = (y);                                                                \
        const size_t n_ = (n);                                                                 \
        IN_PLACE                                                                               \
        for (size_t at = 0; at < n_; at++)                                                     \
            to_[at] = (value);                                                                 \
    } while (0)

static float sum(const float *x, size_t n)
{
    if (n <= SUM_BLOCK)
        return sum_block(x, n);
    struct sum_tree tree;
    sum_tree_init(&tree);
    for (size_t i = 0; i < n; i += SUM_BLOCK)
        sum_tree_add(&tree, sum_block(x + i, n - i < SUM_BLOCK ? n - i : SUM_BLOCK));
    return sum_tree_total(&tree);
}

static float dot(const float *a, const float *b, size_t n)
{
    if (n <= SUM_BLOCK)
        return dot_block(a, b, n);
    struct sum_tree tree;
    sum_tree_init(&tree);
    for (size_t i = 0; i < n; i += SUM_BLOCK)
        sum_tree_add(&tree, dot_block(a + i, b + i, n - i < SUM_BLOCK ? n - i : SUM_BLOCK));
    return sum_tree_total(&tree);
}

static bool all_finite_row(const float *x, size_t n)
{
    uint32_t worst[STRIP] = {0};
    size_t i = 0;

    for (; i + STRIP <= n; i += STRIP)
        for (size_t j = 0; j < STRIP; j++) {
            uint32_t u = lane_bits(x[i + j]) & 0x7fffffffu;
            worst[j] = u > worst[j] ? u : worst[j];
        }
    for (; i < n; i++)
        if ((lane_bits(x[i]) & 0x7fffffffu) >= LANE_INF)
            return false;
    for (size_t j = 0; j < STRIP; j++)
        if (worst[j] >= LANE_INF)
            return false;
    return true;
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    EACH(y, n, a[at] + b[at]);
}

static void scale_row(float *y, const float *x, float s, size_t n)
{
    EACH(y, n, x[at] * s);
}

static void merge(float *y, const float *x, float a, float b, size_t n)
{
    EACH(y, n, fmaf(y[at], a, x[at] * b));
}

static void bf16_narrow(uint16_t *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = lane_bf16(x[i]);
}

static void bf16_widen(float *restrict y, const uint16_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = lane_float((uint32_t)x[i] << 16);
}

static void narrow_panel(uint32_t *restrict to, const float *restrict panel, size_t n)
{
    for (size_t s = 0; s < n; s++, to += PACK_LANES / 2, panel += PACK_LANES)
        for (size_t j = 0; j < PACK_LANES / 2; j++)
            to[j] = lane_bits(panel[j]) >> 16 |
                    (lane_bits(panel[j + PACK_LANES / 2]) & 0xffff0000u);
}

static void exp_row(float *y, const float *x, size_t n)
{
    EACH(y, n, lane_exp(x[at]));
}

static void log_row(float *y, const float *x, size_t n)
{
    EACH(y, n, lane_log(x[at]));
}

static void log1p_row(float *y, const float *x, size_t n)
{
    EACH(y, n, lane_log1p(x[at]));
}

static float rms_scale(const float *x, size_t C, float eps)
{
    return 1.0f / sqrtf(dot(x, x, C) / (float)C + eps);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t C, float eps)
{
    float r = rms_scale(x, C, eps);
    EACH(y, C, (x[at] * r) * w[at]);
}

static void rmsnorm_grad(float *dx, float *dw, const float *dy, const float *x, const float *w,
                         size_t C, float eps)
{
    float r = rms_scale(x, C, eps);
    float h[SUM_BLOCK], u[SUM_BLOCK], part[SUM_BLOCK];
    size_t n_parts = 0;

    CHECK(C <= (size_t)SUM_BLOCK * SUM_BLOCK);
    for (size_t i = 0; i < C; i += SUM_BLOCK) {
        size_t n = C - i < SUM_BLOCK ? C - i : SUM_BLOCK;
        EACH(h, n, x[i + at] * r);
        EACH(u, n, dy[i + at] * w[i + at]);
        part[n_parts++] = dot_block(u, h, n);
    }
    float d = sum_block(part, n_parts) / (float)C;

    EACH(dw, C, fmaf(dy[at], x[at] * r, dw[at]));
    EACH(dx, C, dx[at] + r * fmaf(-(x[at] * r), d, dy[at] * w[at]));
}

static void rope(float *x, const float *cos, const float *sin, size_t D, bool inverse)
{
    float *const x1 = x, *const x2 = x + D / 2;
    const float sign = inverse ? -1.0f : 1.0f;

    IN_PLACE
    for (size_t i = 0; i < D / 2; i++) {
        float a = x1[i], b = x2[i], s = sin[i] * sign;
        x1[i] = fmaf(-b, s, a * cos[i]);
        x2[i] = fmaf(a, s, b * cos[i]);
    }
}

static void swiglu(float *y, const float *g, const float *u, size_t n)
{
    EACH(y, n, (g[at] / (1.0f + lane_exp(-g[at]))) * u[at]);
}

static void swiglu_grad(float *dg, float *du, const float *dy, const float *g, const float *u,
                        size_t n)
{
    IN_PLACE
    for (size_t i = 0; i < n; i++) {
        float e = 1.0f + lane_exp(-g[i]);
        float s = 1.0f / e;
        float a = (dy[i] * u[i]) * (s * fmaf(g[i], 1.0f - s, 1.0f));
        float b = dy[i] * (g[i] / e);
        dg[i] = a;
        du[i] = b;
    }
}

/* Attention's exponential. */
ALWAYS_INLINE float exp_cut(float x)
{
    return x < -87.0f ? 0.0f : lane_exp(x);
}

/* n rounded up to whole strips. A strip of exponentials costs little more than one. */
ALWAYS_INLINE size_t strips(size_t n)
{
    return (n + STRIP - 1) / STRIP * STRIP;
}

/* Scaling by c > 0 keeps the order, so the maximum is scaled instead of sought again. The lanes
 * past n become +0, which leaves the sum as it is. */
static float softmax(float *p, float *m, float scale, size_t n)
{
    float top = max(p, n) * scale;
    const size_t whole = strips(n);

    for (size_t i = n; i < whole; i++)
        p[i] = 0.0f;
    EACH(p, whole, exp_cut(p[at] * scale - top));
    for (size_t i = n; i < whole; i++)
        p[i] = 0.0f;
    *m = top;
    return sum_block(p, whole);
}

static void softmax_grad(float *p, float *dp, float scale, float lse, float D, size_t n)
{
    const size_t whole = strips(n);

    for (size_t i = n; i < whole; i++)
        p[i] = dp[i] = 0.0f;
    EACH(p, whole, exp_cut(p[at] * scale - lse));
    EACH(dp, whole, p[at] * (dp[at] - D));
}

static float exp_sum(float *keep, const float *x, float *m, float T, size_t n)
{
    struct sum_tree tree;
    float aside[SUM_BLOCK];
    float top = max(x, n) / T; /* division by T > 0 keeps the order */

    sum_tree_init(&tree);
    for (size_t i = 0; i < n; i += SUM_BLOCK) {
        size_t len = n - i < SUM_BLOCK ? n - i : SUM_BLOCK, whole = strips(len);
        const float *from = x + i;
        float *e = keep && whole == len ? keep + i : aside;
        if (whole > len) {
            memcpy(aside, from, len * sizeof(float));
            memset(aside + len, 0, (whole - len) * sizeof(float));
            from = aside;
        }
        if (T == 1.0f) /* dividing by it changes no bit, and costs as much as half of the exp */
            EACH(e, whole, lane_exp(from[at] - top));
        else
            EACH(e, whole, lane_exp(from[at] / T - top));
        if (keep && whole > len)
            memcpy(keep + i, e, len * sizeof(float));
        sum_tree_add(&tree, sum_block(e, len));
    }
    *m = top;
    return sum_tree_total(&tree);
}

static void exp_grad(float *y, float inv, float weight, float T, size_t n)
{
    if (T == 1.0f)
        EACH(y, n, (y[at] * inv) * weight);
    else
        EACH(y, n, ((y[at] * inv) * weight) / T);
}

#define PHILOX_BLOCKS 64u

/* Philox4x32-10 as in base/rng.h, the counters side by side. */
static void philox(uint32_t *word, uint64_t key, uint32_t first, uint32_t position, size_t n)
{
    uint32_t c0[PHILOX_BLOCKS], c1[PHILOX_BLOCKS], c2[PHILOX_BLOCKS], c3[PHILOX_BLOCKS];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    CHECK(n <= PHILOX_BLOCKS);
    for (size_t j = 0; j < n; j++) {
        c0[j] = first + (uint32_t)j;
        c1[j] = position;
        c2[j] = c3[j] = 0;
    }
    for (int round = 0; round < 10; round++) {
        for (size_t j = 0; j < n; j++) {
            uint64_t a = (uint64_t)0xd2511f53u * c0[j], b = (uint64_t)0xcd9e8d57u * c2[j];
            c0[j] = (uint32_t)(b >> 32) ^ c1[j] ^ k0;
            c1[j] = (uint32_t)b;
            c2[j] = (uint32_t)(a >> 32) ^ c3[j] ^ k1;
            c3[j] = (uint32_t)a;
        }
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (size_t j = 0; j < n; j++) {
        word[4 * j] = c0[j];
        word[4 * j + 1] = c1[j];
        word[4 * j + 2] = c2[j];
        word[4 * j + 3] = c3[j];
    }
}

/* Two passes: the constants of two logarithms do not fit the registers together. */
static void gumbel(float *y, const float *x, const uint32_t *word, float T, size_t n)
{
    float inner[SUM_BLOCK];

    for (size_t i = 0; i < n; i += SUM_BLOCK) {
        size_t len = n - i < SUM_BLOCK ? n - i : SUM_BLOCK;
        EACH(inner, len, lane_gumbel_inner(word[i + at]));
        EACH(y + i, len, x[i + at] / T - lane_log(inner[at]));
    }
}

ALWAYS_INLINE float keep_moment(float x)
{
    return fabsf(x) < 0x1p-100f ? 0.0f : x;
}

static void adamw(float *restrict p, float *restrict m, float *restrict v,
                  const float *restrict g, const struct adamw_scalars *s, size_t n)
{
    const float keep = 1.0f - s->lr * s->wd, step = s->lr / s->bc1, root = sqrtf(s->bc2);
    const float b1 = s->b1, c1 = 1.0f - s->b1, b2 = s->b2, c2 = 1.0f - s->b2;
    const float eps = s->eps, grad_scale = s->grad_scale;

    for (size_t i = 0; i < n; i++) {
        float d = g[i] * grad_scale;
        float a = keep_moment(fmaf(b1, m[i], c1 * d));
        float b = keep_moment(fmaf(b2, v[i], c2 * (d * d)));
        m[i] = a;
        v[i] = b;
        p[i] = p[i] * keep - step * (a / (sqrtf(b) / root + eps));
    }
}

static const struct bf16_loops bf16_loops = {
    .left = bf16_left,
    .right = bf16_right,
    .gemm = bf16_gemm,
};

const struct kernels BACKEND_TABLE = {
    .name = BACKEND_NAME,
    .products = &products_f32,
    .bf16 = &bf16_loops,
    .gemm = gemm,
    .tile_cols = TILE_COLS,
    .pack = pack,
    .narrow = narrow_panel,
    .sum = sum,
    .dot = dot,
    .max = max,
    .all_finite = all_finite_row,
    .add = add,
    .scale = scale_row,
    .merge = merge,
    .bf16_from_f32 = bf16_narrow,
    .f32_from_bf16 = bf16_widen,
    .exp = exp_row,
    .log = log_row,
    .log1p = log1p_row,
    .rmsnorm = rmsnorm,
    .rmsnorm_grad = rmsnorm_grad,
    .rope = rope,
    .swiglu = swiglu,
    .swiglu_grad = swiglu_grad,
    .softmax = softmax,
    .softmax_grad = softmax_grad,
    .exp_sum = exp_sum,
    .exp_grad = exp_grad,
    .philox = philox,
    .gumbel = gumbel,
    .adamw = adamw,
    .fma_peak = fma_peak,
    .read = read_floats,
};
