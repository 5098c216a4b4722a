#include "engine/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "engine/cpu/math.h"

#define TWO_PI 6.283185307179586476925

/* A row of the table of tensors, while the struct is being laid out. */
struct plan {
    struct weights_tensor tensor;
    float **at; /* the field that shall point to its data */
};

struct plans {
    struct plan *rows;
    size_t n, cap;
};

/* cols = 0 makes a vector of `rows` numbers. */
static void plan(struct plans *p, float **at, size_t rows, size_t cols, const char *name)
{
    struct weights_tensor *t = &p->rows[p->n].tensor;

    CHECK(p->n < p->cap);
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->is_matrix = cols > 0;
    t->rows = cols > 0 ? rows : 1;
    t->cols = cols > 0 ? cols : rows;
    p->rows[p->n++].at = at;
}

static void plan_in_layer(struct plans *p, float **at, size_t rows, size_t cols, size_t layer,
                          const char *name)
{
    char full[WEIGHTS_NAME_BYTES];

    snprintf(full, sizeof(full), "model.layers.%zu.%s", layer, name);
    plan(p, at, rows, cols, full);
}

static void plan_layer(struct plans *p, struct weights_layer *l, size_t i,
                       const struct model_config *c)
{
    size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;

    plan_in_layer(p, &l->input_norm, c->dim, 0, i, "input_layernorm.weight");
    plan_in_layer(p, &l->q, q, c->dim, i, "self_attn.q_proj.weight");
    plan_in_layer(p, &l->k, kv, c->dim, i, "self_attn.k_proj.weight");
    plan_in_layer(p, &l->v, kv, c->dim, i, "self_attn.v_proj.weight");
    plan_in_layer(p, &l->o, c->dim, q, i, "self_attn.o_proj.weight");
    if (c->qkv_bias) {
        plan_in_layer(p, &l->q_bias, q, 0, i, "self_attn.q_proj.bias");
        plan_in_layer(p, &l->k_bias, kv, 0, i, "self_attn.k_proj.bias");
        plan_in_layer(p, &l->v_bias, kv, 0, i, "self_attn.v_proj.bias");
    }
    if (c->o_bias)
        plan_in_layer(p, &l->o_bias, c->dim, 0, i, "self_attn.o_proj.bias");
    if (c->qk_norm) {
        plan_in_layer(p, &l->q_norm, c->head_dim, 0, i, "self_attn.q_norm.weight");
        plan_in_layer(p, &l->k_norm, c->head_dim, 0, i, "self_attn.k_norm.weight");
    }
    plan_in_layer(p, &l->post_norm, c->dim, 0, i, "post_attention_layernorm.weight");
    plan_in_layer(p, &l->gate, c->ffn, c->dim, i, "mlp.gate_proj.weight");
    plan_in_layer(p, &l->up, c->ffn, c->dim, i, "mlp.up_proj.weight");
    plan_in_layer(p, &l->down, c->dim, c->ffn, i, "mlp.down_proj.weight");
}

static int by_name(const void *a, const void *b)
{
    const struct plan *x = a, *y = b;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* Fills p with every tensor of w->config in name order; w->layers is there. */
static void plan_all(struct plans *p, struct weights *w)
{
    const struct model_config *c = &w->config;

    plan(p, &w->embed, c->vocab, c->dim, "model.embed_tokens.weight");
    plan(p, &w->norm, c->dim, 0, "model.norm.weight");
    if (!c->tie)
        plan(p, &w->head, c->vocab, c->dim, "lm_head.weight");
    for (size_t i = 0; i < c->layers; i++)
        plan_layer(p, &w->layers[i], i, c);
    qsort(p->rows, p->n, sizeof(p->rows[0]), by_name);
}

/* A weights struct without data: the tables only. *out is empty when this fails. */
static enum status tables_new(struct weights **out, struct plans *plans,
                              const struct model_config *c, struct err *e)
{
    size_t n_max = 3 + (size_t)c->layers * WEIGHTS_LAYER_TENSORS;
    struct weights *w = NULL;
    enum status st = model_config_check(c, e);

    *out = NULL;
    *plans = (struct plans){.cap = n_max};
    if (st)
        return st;
    w = xcalloc(1, sizeof(*w));
    w->config = *c;
    st = alloc_array(&w->tensors, n_max, sizeof(w->tensors[0]), "tensor table", e);
    if (!st)
        st = alloc_array(&w->layers, c->layers, sizeof(w->layers[0]), "layer table", e);
    if (!st)
        st = alloc_array(&plans->rows, n_max, sizeof(plans->rows[0]), "tensor table", e);
    if (st) {
        weights_free(&w);
        return st;
    }
    plan_all(plans, w);
    for (size_t i = 0; i < plans->n; i++)
        w->tensors[i] = plans->rows[i].tensor;
    w->n_tensors = plans->n;
    *out = w;
    return OK;
}

enum status weights_table(struct weights_tensor **out, size_t *n, const struct model_config *c,
                          struct err *e)
{
    struct plans plans;
    struct weights *w;
    enum status st = tables_new(&w, &plans, c, e);

    *out = NULL;
    *n = 0;
    if (!st) {
        *out = w->tensors;
        *n = w->n_tensors;
        w->tensors = NULL; /* it is the caller's now */
    }
    free(plans.rows);
    weights_free(&w);
    return st;
}

/* Room for the tensors, or those that are no matrices, and pointers into it. */
static enum status make(struct weights **out, const struct model_config *c, struct device *d,
                        bool is_vectors, struct err *e)
{
    struct plans plans;
    struct weights *w;
    enum status st = tables_new(&w, &plans, c, e);
    void *data = NULL;
    float *at;

    *out = NULL;
    if (st)
        goto out;
    w->device = d;
    for (size_t i = 0; i < w->n_tensors; i++)
        if (!is_vectors || !w->tensors[i].is_matrix)
            w->n_data += w->tensors[i].rows * w->tensors[i].cols;
    st = device_alloc(d, &data, (uint64_t)w->n_data * sizeof(w->data[0]),
                      is_vectors ? "norms and biases" : "weights", e);
    if (st)
        goto out;
    at = w->data = data;
    for (size_t i = 0; i < w->n_tensors; i++) {
        if (is_vectors && w->tensors[i].is_matrix)
            continue;
        w->tensors[i].data = *plans.rows[i].at = at;
        at += w->tensors[i].rows * w->tensors[i].cols;
    }
    *out = w;
    w = NULL; /* it is the caller's now */
out:
    free(plans.rows);
    weights_free(&w);
    return st;
}

enum status weights_new(struct weights **out, const struct model_config *c, struct err *e)
{
    return make(out, c, NULL, false, e);
}

enum status weights_new_on(struct weights **out, const struct model_config *c, struct device *d,
                           struct err *e)
{
    return make(out, c, d, false, e);
}

enum status weights_new_vectors(struct weights **out, const struct model_config *c,
                                struct device *d, struct err *e)
{
    return make(out, c, d, true, e);
}

void weights_free(struct weights **w)
{
    if (!*w)
        return;
    device_release((*w)->device, (*w)->data);
    free((*w)->tensors);
    free((*w)->layers);
    free(*w);
    *w = NULL;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Box-Muller on two words: u in (0, 1) has 32 bits and is never 0. */
static void normal_pair(double out[2], uint32_t a, uint32_t b)
{
    double u = ((double)a + 0.5) * 0x1p-32;
    double r = sqrt(-2.0 * log_f64(u));
    double angle = TWO_PI * ((double)b * 0x1p-32);

    out[0] = r * cos_f64(angle);
    out[1] = r * sin_f64(angle);
}

static void fill_normal(float *data, size_t n, double deviation, uint64_t seed, uint64_t stream)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t block = i / 4;
        uint32_t words[4];
        double z[4];

        philox4x32(words, seed,
                   (const uint32_t[4]){(uint32_t)block, (uint32_t)(block >> 32),
                                       (uint32_t)stream, (uint32_t)(stream >> 32)});
        normal_pair(z, words[0], words[1]);
        normal_pair(z + 2, words[2], words[3]);
        for (size_t j = 0; j < 4 && i + j < n; j++)
            data[i + j] = (float)(deviation * z[j]);
    }
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

void weights_init_random(struct weights *w, uint64_t seed)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        struct weights_tensor *t = &w->tensors[i];
        size_t n = t->rows * t->cols;
        bool is_residual =
            ends_with(t->name, "o_proj.weight") || ends_with(t->name, "down_proj.weight");

        if (t->is_matrix) {
            double part = is_residual ? 1.0 / (2.0 * (double)w->config.layers) : 1.0;

            fill_normal(t->data, n, part / sqrt((double)t->cols), seed, i);
            continue;
        }
        for (size_t j = 0; j < n; j++)
            t->data[j] = ends_with(t->name, ".bias") ? 0.0f : 1.0f;
    }
}

void weights_zero(struct weights *w)
{
    device_zero(w->device, w->data, w->n_data * sizeof(w->data[0]));
}

void weights_copy(struct weights *to, const struct weights *from)
{
    const size_t bytes = to->n_data * sizeof(to->data[0]);

    CHECK(model_config_equal(&to->config, &from->config) && to->n_data == from->n_data);
    if (to->device == from->device)
        device_copy(to->device, to->data, from->data, bytes);
    else if (to->device)
        device_put(to->device, to->data, from->data, bytes);
    else
        device_get(from->device, to->data, from->data, bytes);
}

void weights_round(struct weights *w, enum dtype dtype)
{
    CHECK(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    for (size_t i = 0; dtype == DTYPE_BF16 && i < w->n_data; i++)
        w->data[i] = f32_from_bf16(bf16_from_f32(w->data[i]));
}

enum status weights_check_finite(const struct weights *w, struct err *e)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct weights_tensor *t = &w->tensors[i];

        for (size_t j = 0; j < t->rows * t->cols; j++)
            if (!isfinite(t->data[j]))
                return err_set(e, ERR_NUMERIC, "tensor '%s': number %zu is not finite", t->name,
                               j);
    }
    return OK;
}

struct weights_tensor *weights_table_find(struct weights_tensor *table, size_t n,
                                          const char *name)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, table[mid].name);

        if (order == 0)
            return &table[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

struct weights_tensor *weights_find(const struct weights *w, const char *name)
{
    return weights_table_find(w->tensors, w->n_tensors, name);
}
