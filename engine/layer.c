#include "engine/layer.h"

#include "base/check.h"

struct attention_shape layer_attention_shape(const struct model *m)
{
    const struct model_config *c = &m->config;
    size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;

    return (struct attention_shape){
        .H = c->heads,
        .G = c->kv_heads,
        .D = c->head_dim,
        .q_stride = q,
        .out_stride = q,
        .k_stride = kv,
        .v_stride = kv,
        .scale = attention_scale(c->head_dim),
    };
}

/* Rows of a norm, or of everything that is done to heads: cheap work, but in a batch of many rows
 * the other threads would wait for it. */
struct rows_job {
    const struct model *m;
    const struct layer_acts *a;
    const struct weights_layer *w;
    const int32_t *pos;
    float *y; /* of a norm: from x by weights `norm` */
    const float *x, *norm;
};

#define ROW_FLOATS 4096u /* below this much of a loop another thread does not pay */

static void run_rows(struct rows_job *j, pool_fn *fn, size_t T, size_t row)
{
    pool_run(j->m->device ? NULL : j->m->pool, T, ROW_FLOATS / row + 1, fn, j);
}

static void norm_rows(void *arg, size_t lo, size_t hi)
{
    const struct rows_job *j = arg;
    const size_t C = j->m->config.dim;

    rmsnorm_forward(j->m->kernels, j->y + lo * C, j->x + lo * C, j->norm, hi - lo, C,
                    j->m->config.norm_eps);
}

static void layer_norm(const struct model *m, float *y, const float *x, const float *norm,
                       size_t T)
{
    struct rows_job j = {.m = m, .y = y, .x = x, .norm = norm};

    run_rows(&j, norm_rows, T, m->config.dim);
}

/* Norms of heads where there are any, then rotation, then what the class does to the cache. */
static void head_rows(void *arg, size_t lo, size_t hi)
{
    const struct rows_job *j = arg;
    const struct model *m = j->m;
    const struct model_config *c = &m->config;
    const size_t D = c->head_dim, Q = c->heads * D, K = c->kv_heads * D, n = hi - lo;
    const struct layer_acts *a = j->a;

    if (c->qk_norm) {
        rmsnorm_forward(m->kernels, a->q + lo * Q, a->q_raw + lo * Q, j->w->q_norm,
                        n * c->heads, D, c->norm_eps);
        rmsnorm_forward(m->kernels, a->k + lo * K, a->k_raw + lo * K, j->w->k_norm,
                        n * c->kv_heads, D, c->norm_eps);
    }
    rope_forward(m->kernels, a->q + lo * Q, m->cos, m->sin, j->pos + lo, n, c->heads, D);
    rope_forward(m->kernels, a->k + lo * K, m->cos, m->sin, j->pos + lo, n, c->kv_heads, D);
    if (m->round_cache) {
        m->round_cache(a->k + lo * K, n * K);
        m->round_cache(a->v + lo * K, n * K);
    }
    cache_round(m->kernels, a->k + lo * K, n * K);
    cache_round(m->kernels, a->v + lo * K, n * K);
}

void layer_before_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                            const int32_t *pos, size_t T)
{
    const struct weights_layer *w = &m->w->layers[layer];
    const struct model_layer *p = &m->layers[layer];
    const struct product qkv[] = {
        {.y = a->q_raw, .W = &p->q, .bias = w->q_bias},
        {.y = a->k_raw, .W = &p->k, .bias = w->k_bias},
        {.y = a->v, .W = &p->v, .bias = w->v_bias},
    };
    struct rows_job heads = {.m = m, .a = a, .w = w, .pos = pos};

    CHECK(m->config.qk_norm || (a->q == a->q_raw && a->k == a->k_raw));
    layer_norm(m, a->h1, a->x_in, w->input_norm, T);
    matmul_forward_all(m->kernels, m->pool, a->h1, qkv, 3, T);
    run_rows(&heads, head_rows, T, m->config.dim);
}

void layer_after_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                           size_t T)
{
    const struct weights_layer *w = &m->w->layers[layer];
    const struct model_layer *p = &m->layers[layer];
    const struct product o = {.y = a->x_mid, .W = &p->o, .bias = w->o_bias, .add = a->x_in};
    const struct product gate_up[] = {{.y = a->gate, .W = &p->gate}, {.y = a->up, .W = &p->up}};
    const struct product down = {.y = a->x_out, .W = &p->down, .add = a->x_mid};

    matmul_forward_all(m->kernels, m->pool, a->att, &o, 1, T);
    layer_norm(m, a->h2, a->x_mid, w->post_norm, T);
    matmul_swiglu(m->kernels, m->pool, a->act, a->h2, gate_up, T);
    matmul_forward_all(m->kernels, m->pool, a->act, &down, 1, T);
}

float *carve_take(struct carve *c, uint64_t n)
{
    float *at = c->base ? c->base + c->n : NULL;

    /* Arrays start on cache lines. */
    c->n += (n + 15) / 16 * 16;
    return at;
}
