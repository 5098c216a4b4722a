/*
 * engine/cpu/loops.h - the inner loops of a backend, in plain C (private to engine/cpu/)
 *
 * Included once by each kernels_*.c, which compiles it with its own instruction flags. Nothing in
 * here depends on them: the loops run over independent elements or over the sixteen lanes of the
 * class's sum, so a compiler may vectorise them at any width, and with contraction and reordering
 * switched off it has no other freedom. That is how one text is both the definition and the fast
 * version. Only the matrix product needs more (gemm_vec.h).
 *
 * The including file has defined BACKEND_NAME, BACKEND_TABLE, gemm() and pack().
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/sum_tree.h"
#include "engine/cpu/table.h"

#define STRIP 16u

/* y[at] = value for at = 0..n-1. Sixteen values are computed before the first is stored, so y may
 * be one of the arrays that `value` reads at [at], and the compiler need not ask. */
#define EACH(y, n, value)                                                                      \
    do {                                                                                       \
        size_t at_ = 0;                                                                        \
        for (; at_ + STRIP <= (n); at_ += STRIP) {                                             \
            float strip_[STRIP];                                                               \
            for (size_t j_ = 0; j_ < STRIP; j_++) {                                            \
                const size_t at = at_ + j_;                                                    \
                strip_[j_] = (value);                                                          \
            }                                                                                  \
            memcpy((y) + at_, strip_, sizeof(strip_));                                         \
        }                                                                                      \
        for (; at_ < (n); at_++) {                                                             \
            const size_t at = at_;                                                             \
            (y)[at] = (value);                                                                 \
        }                                                                                      \
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

static float max(const float *x, size_t n)
{
    float m[STRIP];
    size_t i = 0;

    for (size_t j = 0; j < STRIP; j++)
        m[j] = -INFINITY;
    for (; i + STRIP <= n; i += STRIP)
        for (size_t j = 0; j < STRIP; j++)
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (size_t j = 0; i + j < n; j++)
        m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (size_t half = STRIP / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            m[j] = m[j + half] > m[j] ? m[j + half] : m[j];
    return m[0];
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
    float *x1 = x, *x2 = x + D / 2;
    const float sign = inverse ? -1.0f : 1.0f;

    for (size_t i = 0; i < D / 2; i += STRIP) {
        size_t n = D / 2 - i < STRIP ? D / 2 - i : STRIP;
        float a[STRIP], b[STRIP];
        for (size_t j = 0; j < n; j++) {
            float s = sin[i + j] * sign;
            a[j] = fmaf(-x2[i + j], s, x1[i + j] * cos[i + j]);
            b[j] = fmaf(x1[i + j], s, x2[i + j] * cos[i + j]);
        }
        memcpy(x1 + i, a, n * sizeof(float));
        memcpy(x2 + i, b, n * sizeof(float));
    }
}

static void swiglu(float *y, const float *g, const float *u, size_t n)
{
    EACH(y, n, (g[at] / (1.0f + lane_exp(-g[at]))) * u[at]);
}

static void swiglu_grad(float *dg, float *du, const float *dy, const float *g, const float *u,
                        size_t n)
{
    for (size_t i = 0; i < n; i += STRIP) {
        size_t m = n - i < STRIP ? n - i : STRIP;
        float a[STRIP], b[STRIP];
        for (size_t j = 0; j < m; j++) {
            float e = 1.0f + lane_exp(-g[i + j]);
            float s = 1.0f / e;
            a[j] = (dy[i + j] * u[i + j]) * (s * fmaf(g[i + j], 1.0f - s, 1.0f));
            b[j] = dy[i + j] * (g[i + j] / e);
        }
        memcpy(dg + i, a, m * sizeof(float));
        memcpy(du + i, b, m * sizeof(float));
    }
}

/* Attention's exponential. */
ALWAYS_INLINE float exp_cut(float x)
{
    return x < -87.0f ? 0.0f : lane_exp(x);
}

/* Scaling by c > 0 keeps the order, so the maximum is scaled instead of sought again. */
static float softmax(float *p, float *m, float scale, size_t n)
{
    float top = max(p, n) * scale;
    EACH(p, n, exp_cut(p[at] * scale - top));
    *m = top;
    return sum_block(p, n);
}

static void softmax_grad(float *p, float *dp, float scale, float lse, float D, size_t n)
{
    EACH(p, n, exp_cut(p[at] * scale - lse));
    EACH(dp, n, p[at] * (dp[at] - D));
}

static float exp_sum(const float *x, float *m, float T, size_t n)
{
    struct sum_tree tree;
    float e[SUM_BLOCK];
    float top = max(x, n) / T; /* division by T > 0 keeps the order */

    sum_tree_init(&tree);
    for (size_t i = 0; i < n; i += SUM_BLOCK) {
        size_t len = n - i < SUM_BLOCK ? n - i : SUM_BLOCK;
        EACH(e, len, lane_exp(x[i + at] / T - top));
        sum_tree_add(&tree, sum_block(e, len));
    }
    *m = top;
    return sum_tree_total(&tree);
}

static void exp_grad(float *y, const float *x, float T, float m, float inv, float weight,
                     size_t n)
{
    EACH(y, n, ((lane_exp(x[at] / T - m) * inv) * weight) / T);
}

static void gumbel(float *y, const float *x, const uint32_t *word, float T, size_t n)
{
    EACH(y, n, x[at] / T + lane_gumbel(word[at]));
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

const struct kernels BACKEND_TABLE = {
    .name = BACKEND_NAME,
    .gemm = gemm,
    .pack = pack,
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
    .gumbel = gumbel,
    .adamw = adamw,
};
