#include "engine/ops.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/sum_tree.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"

#define GRAIN  4096u /* elements that a thread should get at least */
#define TWO_PI 6.283185307179586476925

float sum16(const float *x, size_t n)
{
    return kernels_scalar.sum(x, n);
}

float dot16(const float *a, const float *b, size_t n)
{
    return kernels_scalar.dot(a, b, n);
}

float sum_forward(const struct kernels *k, const float *x, size_t n)
{
    return k->sum(x, n);
}

float dot_forward(const struct kernels *k, const float *a, const float *b, size_t n)
{
    return k->dot(a, b, n);
}

bool all_finite(const struct kernels *k, const float *x, size_t n)
{
    return k->all_finite(x, n);
}

void add_forward(const struct kernels *k, float *y, const float *a, const float *b, size_t n)
{
    if (k->device)
        k->ops->add(k->device, y, a, b, n);
    else
        k->add(y, a, b, n);
}

void scale_forward(const struct kernels *k, float *y, const float *x, float s, size_t n)
{
    if (k->device)
        k->ops->scale(k->device, y, x, s, n);
    else
        k->scale(y, x, s, n);
}

void bf16_from_f32_row(const struct kernels *k, uint16_t *y, const float *x, size_t n)
{
    k->bf16_from_f32(y, x, n);
}

void f32_from_bf16_row(const struct kernels *k, float *y, const uint16_t *x, size_t n)
{
    k->f32_from_bf16(y, x, n);
}

bool cache_is_narrow(const struct kernels *k)
{
    return k && !k->device && k->products->is_cache_bf16;
}

void cache_round(const struct kernels *k, float *x, size_t n)
{
    uint16_t narrow[256];

    if (k->device)
        return; /* no class of a device has one that is narrower than its activations */
    for (size_t i = 0; k->products->is_cache_bf16 && i < n; i += 256) {
        size_t len = n - i < 256 ? n - i : 256;
        k->bf16_from_f32(narrow, x + i, len);
        k->f32_from_bf16(x + i, narrow, len);
    }
}

void gather_rows(const struct kernels *k, float *y, const float *x, const uint32_t *index,
                 size_t n, size_t C)
{
    if (k->device)
        k->ops->gather(k->device, y, x, index, n, C);
    for (size_t i = 0; !k->device && i < n; i++)
        memcpy(y + i * C, x + index[i] * C, C * sizeof(float));
}

void scatter_rows(const struct kernels *k, float *y, const float *x, const uint32_t *index,
                  size_t n, size_t C)
{
    if (k->device)
        k->ops->scatter(k->device, y, x, index, n, C);
    for (size_t i = 0; !k->device && i < n; i++)
        memcpy(y + index[i] * C, x + i * C, C * sizeof(float));
}

void embed_forward(const struct kernels *k, float *y, const float *table, const int32_t *id,
                   size_t T, size_t C)
{
    if (k->device) {
        k->ops->embed(k->device, y, table, id, T, C);
        return;
    }
    for (size_t t = 0; t < T; t++)
        memcpy(y + t * C, table + (size_t)id[t] * C, C * sizeof(float));
}

void embed_backward(const struct kernels *k, float *dtable, const float *dy, const int32_t *id,
                    size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++) {
        float *row = dtable + (size_t)id[t] * C;
        k->add(row, row, dy + t * C, C);
    }
}

void rmsnorm_forward(const struct kernels *k, float *y, const float *x, const float *w,
                     size_t N, size_t C, float eps)
{
    if (k->device) {
        k->ops->rmsnorm(k->device, y, x, w, N, C, eps);
        return;
    }
    for (size_t n = 0; n < N; n++)
        k->rmsnorm(y + n * C, x + n * C, w, C, eps);
}

// NOLINTNEXTLINE(readability-function-size): a struct for its nine would be used once
void rmsnorm_backward(const struct kernels *k, float *dx, float *dw, const float *dy,
                      const float *x, const float *w, size_t N, size_t C, float eps)
{
    if (k->device) {
        k->ops->rmsnorm_backward(k->device, dx, dw, dy, x, w, N, C, eps);
        return;
    }
    for (size_t n = 0; n < N; n++)
        k->rmsnorm_grad(dx + n * C, dw, dy + n * C, x + n * C, w, C, eps);
}

/* A frequency f turns f * original_len / (2 pi) times within the original context. */
static double rope_scale(double f, const struct rope_scaling *s)
{
    if (!s || s->type == ROPE_DEFAULT)
        return f;
    double turns = f * (double)s->original_len / TWO_PI;

    if (turns > s->high_freq_factor)
        return f;
    if (turns < s->low_freq_factor)
        return f / s->factor;
    double keep = (turns - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (1.0 - keep) * (f / s->factor) + keep * f;
}

void rope_table(float *cos, float *sin, double theta, const struct rope_scaling *scaling,
                size_t first, size_t n_pos, size_t D)
{
    CHECK(D % 2 == 0 && theta > 0.0);
    for (size_t i = 0; i < D / 2; i++) {
        double f = pow_f64(theta, -2.0 * (double)i / (double)D);
        float inv_freq = (float)rope_scale(f, scaling);

        for (size_t p = first; p < n_pos; p++) {
            float angle = (float)p * inv_freq;
            cos[p * (D / 2) + i] = (float)cos_f64(angle);
            sin[p * (D / 2) + i] = (float)sin_f64(angle);
        }
    }
}

static void rope_rows(const struct kernels *k, float *x, const float *cos, const float *sin,
                      const int32_t *pos, size_t rows, const size_t shape[2], bool inverse)
{
    const size_t H = shape[0], D = shape[1];

    if (k->device) {
        k->ops->rope(k->device, x, cos, sin, pos, rows, H, D, inverse);
        return;
    }
    for (size_t t = 0; t < rows; t++) {
        size_t at = (size_t)pos[t] * (D / 2);
        for (size_t h = 0; h < H; h++)
            k->rope(x + (t * H + h) * D, cos + at, sin + at, D, inverse);
    }
}

void rope_forward(const struct kernels *k, float *x, const float *cos, const float *sin,
                  const int32_t *pos, size_t T, size_t H, size_t D)
{
    rope_rows(k, x, cos, sin, pos, T, (size_t[2]){H, D}, false);
}

void rope_backward(const struct kernels *k, float *dx, const float *cos, const float *sin,
                   const int32_t *pos, size_t T, size_t H, size_t D)
{
    rope_rows(k, dx, cos, sin, pos, T, (size_t[2]){H, D}, true);
}

struct swiglu_job {
    const struct kernels *k;
    float *y, *dg, *du;
    const float *dy, *g, *u;
};

static void swiglu_part(void *arg, size_t lo, size_t hi)
{
    const struct swiglu_job *j = arg;
    j->k->swiglu(j->y + lo, j->g + lo, j->u + lo, hi - lo);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void swiglu_forward(const struct kernels *k, struct pool *pool, float *y, const float *g,
                    const float *u, size_t n)
{
    struct swiglu_job job = {.k = k, .y = y, .g = g, .u = u};

    if (k->device)
        k->ops->swiglu_forward(k->device, y, g, u, n);
    else
        pool_run(pool, n, GRAIN, swiglu_part, &job);
}

static void swiglu_grad_part(void *arg, size_t lo, size_t hi)
{
    const struct swiglu_job *j = arg;
    j->k->swiglu_grad(j->dg + lo, j->du + lo, j->dy + lo, j->g + lo, j->u + lo, hi - lo);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void swiglu_backward(const struct kernels *k, struct pool *pool, float *dg, float *du,
                     const float *dy, const float *g, const float *u, size_t n)
{
    struct swiglu_job job = {.k = k, .dg = dg, .du = du, .dy = dy, .g = g, .u = u};

    if (k->device)
        k->ops->swiglu_backward(k->device, dg, du, dy, g, u, n);
    else
        pool_run(pool, n, GRAIN, swiglu_grad_part, &job);
}

struct logprob_job {
    const struct kernels *k;
    float *y;
    const float *logits, *weight;
    const int32_t *token;
    float T;
    size_t V;
};

static void logprob_rows(void *arg, size_t lo, size_t hi)
{
    const struct logprob_job *j = arg;

    for (size_t n = lo; n < hi; n++) {
        const float *x = j->logits + n * j->V;
        float m, sum = j->k->exp_sum(x, &m, j->T, j->V);
        CHECK((size_t)j->token[n] < j->V);
        j->y[n] = (x[j->token[n]] / j->T - m) - log_f32(sum);
    }
}

static size_t row_grain(size_t V)
{
    return V > GRAIN ? 1 : GRAIN / V;
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void logprob_forward(const struct kernels *k, struct pool *pool, float *logp,
                     const float *logits, const int32_t *token, float temperature, size_t N,
                     size_t V)
{
    struct logprob_job job = {.k = k,
                              .y = logp,
                              .logits = logits,
                              .token = token,
                              .T = temperature == 0.0f ? 1.0f : temperature,
                              .V = V};
    CHECK(V > 0 && temperature >= 0.0f);
    if (k->device)
        k->ops->logprob(k->device, logp, logits, token, job.T, N, V);
    else
        pool_run(pool, N, row_grain(V), logprob_rows, &job);
}

float exp_sum_forward(const struct kernels *k, const float *logits, float *m, float temperature,
                      size_t V)
{
    return k->exp_sum(logits, m, temperature == 0.0f ? 1.0f : temperature, V);
}

/* The element of the token is written apart: it alone has a 1 to subtract. */
static void logprob_grad_row(const struct logprob_job *j, size_t n)
{
    const float *x = j->logits + n * j->V;
    float *y = j->y + n * j->V;
    size_t token = (size_t)j->token[n];
    float own, m, inv, weight = j->weight[n];

    CHECK(token < j->V);
    inv = 1.0f / j->k->exp_sum(x, &m, j->T, j->V);
    own = ((exp_f32(x[token] / j->T - m) * inv - 1.0f) * weight) / j->T;
    j->k->exp_grad(y, x, j->T, m, inv, weight, j->V);
    y[token] = own;
}

static void logprob_grad_rows(void *arg, size_t lo, size_t hi)
{
    const struct logprob_job *j = arg;

    for (size_t n = lo; n < hi; n++)
        if (j->weight[n] == 0.0f)
            memset(j->y + n * j->V, 0, j->V * sizeof(float));
        else
            logprob_grad_row(j, n);
}

// NOLINTNEXTLINE(readability-non-const-parameter,readability-function-size)
void logprob_backward(const struct kernels *k, struct pool *pool, float *dlogits,
                      const float *weight, const float *logits, const int32_t *token,
                      float temperature, size_t N, size_t V)
{
    struct logprob_job job = {.k = k,
                              .y = dlogits,
                              .logits = logits,
                              .weight = weight,
                              .token = token,
                              .T = temperature == 0.0f ? 1.0f : temperature,
                              .V = V};
    CHECK(V > 0 && temperature >= 0.0f);
    if (k->device)
        k->ops->logprob_backward(k->device, dlogits, weight, logits, token, job.T, N, V);
    else
        pool_run(pool, N, row_grain(V), logprob_grad_rows, &job);
}
