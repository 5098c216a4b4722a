#include "tiny_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "support/test.h"

struct model_config tiny_config(enum model_arch arch)
{
    struct model_config c = {
        .arch = arch,
        .vocab = 23,
        .dim = 12,
        .layers = 2,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 6,
        .ffn = 20,
        .max_len = 640,
        .norm_eps = 1e-5f,
        .rope_theta = 10000.0,
        .tie = arch != MODEL_ARCH_LLAMA,
        .qkv_bias = arch == MODEL_ARCH_QWEN2 || arch == MODEL_ARCH_QWEN3,
        .o_bias = arch == MODEL_ARCH_QWEN3,
        .qk_norm = arch == MODEL_ARCH_QWEN3,
        .bos = -1,
        .pad = -1,
    };
    return c;
}

struct weights *tiny_weights(const struct model_config *c, uint64_t seed)
{
    struct weights *w;
    struct rng r = rng_of(seed, 1);
    struct err e;

    assert_ok(weights_new(&w, c, &e), &e);
    for (size_t i = 0; i < w->n_tensors; i++) {
        struct weights_tensor *t = &w->tensors[i];
        float centre = strstr(t->name, "norm") ? 1.0f : 0.0f;

        for (size_t j = 0; j < t->rows * t->cols; j++)
            t->data[j] = centre + 0.8f * (rng_f32(&r) - 0.5f);
    }
    return w;
}

void tiny_tokens(int32_t *out, size_t n, const struct model_config *c, uint64_t seed)
{
    struct rng r = rng_of(seed, 2);

    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)rng_below(&r, c->vocab);
}

/* ---- the model in binary64 ------------------------------------------------------------------- */

/* y[n] = sum_k W[n,k] x[k] + b[n] */
static void linear(double *y, const double *x, const float *W, const float *b, size_t N,
                   size_t K)
{
    for (size_t n = 0; n < N; n++) {
        y[n] = b ? (double)b[n] : 0.0;
        for (size_t k = 0; k < K; k++)
            y[n] += (double)W[n * K + k] * x[k];
    }
}

static void rms(double *y, const double *x, const float *w, size_t n, double eps)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / (double)n + eps) * (double)w[i];
}

static void rotate(double *x, size_t D, size_t pos, double theta)
{
    for (size_t i = 0; i < D / 2; i++) {
        double angle = (double)pos * pow(theta, -2.0 * (double)i / (double)D);
        double a = x[i], b = x[i + D / 2];

        x[i] = a * cos(angle) - b * sin(angle);
        x[i + D / 2] = b * cos(angle) + a * sin(angle);
    }
}

/* Heads of one row: norm if there is one, then rotation. */
static void heads(double *x, size_t H, const struct model_config *c, const float *norm,
                  size_t pos)
{
    for (size_t h = 0; h < H; h++) {
        double *head = x + h * c->head_dim;

        if (norm)
            rms(head, head, norm, c->head_dim, (double)c->norm_eps);
        rotate(head, c->head_dim, pos, c->rope_theta);
    }
}

/* The query of head h at position p over keys 0..p; `k` and `v` are (n, G * D). */
static void attend(double *out, const double *q, const double *k, const double *v, size_t p,
                   size_t h, const struct model_config *c)
{
    size_t D = c->head_dim, width = c->kv_heads * D, from = h / (c->heads / c->kv_heads) * D;
    double *s = xcalloc(p + 1, sizeof(s[0])), sum = 0.0;

    for (size_t j = 0; j <= p; j++) {
        for (size_t d = 0; d < D; d++)
            s[j] += q[d] * k[j * width + from + d];
        s[j] = exp(s[j] / sqrt((double)D));
        sum += s[j];
    }
    for (size_t d = 0; d < D; d++) {
        out[d] = 0.0;
        for (size_t j = 0; j <= p; j++)
            out[d] += s[j] / sum * v[j * width + from + d];
    }
    free(s);
}

static void attention_block(double *x, const struct weights *w, size_t layer, size_t n)
{
    const struct model_config *c = &w->config;
    const struct weights_layer *l = &w->layers[layer];
    size_t C = c->dim, D = c->head_dim, Q = c->heads * D, K = c->kv_heads * D;
    double *k = xcalloc(n * K, sizeof(k[0])), *v = xcalloc(n * K, sizeof(v[0]));
    double *h = xcalloc(C, sizeof(h[0])), *q = xcalloc(Q, sizeof(q[0]));
    double *att = xcalloc(Q, sizeof(att[0]));

    for (size_t p = 0; p < n; p++) {
        rms(h, x + p * C, l->input_norm, C, (double)c->norm_eps);
        linear(q, h, l->q, l->q_bias, Q, C);
        linear(k + p * K, h, l->k, l->k_bias, K, C);
        linear(v + p * K, h, l->v, l->v_bias, K, C);
        heads(q, c->heads, c, l->q_norm, p);
        heads(k + p * K, c->kv_heads, c, l->k_norm, p);
        for (size_t i = 0; i < c->heads; i++)
            attend(att + i * D, q + i * D, k, v, p, i, c);
        linear(h, att, l->o, l->o_bias, C, Q);
        for (size_t i = 0; i < C; i++)
            x[p * C + i] += h[i];
    }
    free(k);
    free(v);
    free(h);
    free(q);
    free(att);
}

static void mlp_block(double *x, const struct weights *w, size_t layer, size_t n)
{
    const struct model_config *c = &w->config;
    const struct weights_layer *l = &w->layers[layer];
    size_t C = c->dim, F = c->ffn;
    double *h = xcalloc(C, sizeof(h[0])), *g = xcalloc(F, sizeof(g[0]));
    double *u = xcalloc(F, sizeof(u[0]));

    for (size_t p = 0; p < n; p++) {
        rms(h, x + p * C, l->post_norm, C, (double)c->norm_eps);
        linear(g, h, l->gate, NULL, F, C);
        linear(u, h, l->up, NULL, F, C);
        for (size_t i = 0; i < F; i++)
            u[i] *= g[i] / (1.0 + exp(-g[i]));
        linear(h, u, l->down, NULL, C, F);
        for (size_t i = 0; i < C; i++)
            x[p * C + i] += h[i];
    }
    free(h);
    free(g);
    free(u);
}

void tiny_reference(double *hidden, double *logits, const struct weights *w,
                    const int32_t *tokens, size_t n)
{
    const struct model_config *c = &w->config;
    size_t C = c->dim;

    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < C; i++)
            hidden[p * C + i] = (double)w->embed[(size_t)tokens[p] * C + i];
    for (size_t layer = 0; layer < c->layers; layer++) {
        attention_block(hidden, w, layer, n);
        mlp_block(hidden, w, layer, n);
    }
    for (size_t p = 0; p < n; p++) {
        rms(hidden + p * C, hidden + p * C, w->norm, C, (double)c->norm_eps);
        linear(logits + p * c->vocab, hidden + p * C, w->head ? w->head : w->embed, NULL,
               c->vocab, C);
    }
}

double tiny_logp(const double *logits, size_t V, int32_t token, double temperature)
{
    double top = logits[0], sum = 0.0;

    for (size_t v = 1; v < V; v++)
        top = fmax(top, logits[v]);
    for (size_t v = 0; v < V; v++)
        sum += exp((logits[v] - top) / temperature);
    return (logits[token] - top) / temperature - log(sum);
}
