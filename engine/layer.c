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

void layer_before_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                            const int32_t *pos, size_t T)
{
    const struct model_config *c = &m->config;
    const struct weights_layer *w = &m->w->layers[layer];
    const struct model_layer *p = &m->layers[layer];
    const struct kernels *k = m->kernels;

    rmsnorm_forward(k, a->h1, a->x_in, w->input_norm, T, c->dim, c->norm_eps);
    matmul_forward(k, m->pool, a->q_raw, a->h1, &p->q, w->q_bias, T);
    matmul_forward(k, m->pool, a->k_raw, a->h1, &p->k, w->k_bias, T);
    matmul_forward(k, m->pool, a->v, a->h1, &p->v, w->v_bias, T);
    if (c->qk_norm) {
        rmsnorm_forward(k, a->q, a->q_raw, w->q_norm, T * c->heads, c->head_dim, c->norm_eps);
        rmsnorm_forward(k, a->k, a->k_raw, w->k_norm, T * c->kv_heads, c->head_dim,
                        c->norm_eps);
    } else {
        CHECK(a->q == a->q_raw && a->k == a->k_raw);
    }
    rope_forward(k, a->q, m->cos, m->sin, pos, T, c->heads, c->head_dim);
    rope_forward(k, a->k, m->cos, m->sin, pos, T, c->kv_heads, c->head_dim);
    cache_round(k, a->k, T * c->kv_heads * c->head_dim);
    cache_round(k, a->v, T * c->kv_heads * c->head_dim);
}

void layer_after_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                           size_t T)
{
    const struct model_config *c = &m->config;
    const struct weights_layer *w = &m->w->layers[layer];
    const struct model_layer *p = &m->layers[layer];
    const struct kernels *k = m->kernels;
    size_t C = c->dim;

    matmul_forward(k, m->pool, a->proj, a->att, &p->o, w->o_bias, T);
    add_forward(k, a->x_mid, a->x_in, a->proj, T * C);
    rmsnorm_forward(k, a->h2, a->x_mid, w->post_norm, T, C, c->norm_eps);
    matmul_forward(k, m->pool, a->gate, a->h2, &p->gate, NULL, T);
    matmul_forward(k, m->pool, a->up, a->h2, &p->up, NULL, T);
    swiglu_forward(k, m->pool, a->act, a->gate, a->up, T * c->ffn);
    matmul_forward(k, m->pool, a->proj, a->act, &p->down, NULL, T);
    add_forward(k, a->x_out, a->x_mid, a->proj, T * C);
}

float *carve_take(struct carve *c, uint64_t n)
{
    float *at = c->base ? c->base + c->n : NULL;

    /* Arrays start on cache lines. */
    c->n += (n + 15) / 16 * 16;
    return at;
}
