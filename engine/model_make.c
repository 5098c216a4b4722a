#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/attend.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/layer.h"

#define MAX_ROWS_DEFAULT 256
#define MAX_ROWS_DEVICE  2048 /* a GPU wants more to do at once */
#define ROPE_FIRST       1024 /* positions */

/* Inference needs no value twice: one buffer serves each line of struct layer_acts. */
static uint64_t carve_acts(struct layer_acts *a, struct carve at, const struct model_config *c,
                           uint64_t T)
{
    uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

    a->x_in = a->x_mid = a->x_out = carve_take(&at, T * c->dim);
    a->h1 = a->h2 = carve_take(&at, T * c->dim);
    a->q_raw = a->q = carve_take(&at, T * q);
    a->k_raw = a->k = carve_take(&at, T * kv);
    a->v = carve_take(&at, T * kv);
    a->att = carve_take(&at, T * q);
    a->lse = NULL;
    a->gate = a->act = carve_take(&at, T * c->ffn);
    a->up = carve_take(&at, T * c->ffn);
    return at.n;
}

static uint64_t table_floats(const struct model_config *c)
{
    return (uint64_t)c->max_len * (c->head_dim / 2);
}

/* The matrices of a layer, in the order of struct model_layer, and the head. */
enum { LAYER_MATRICES = 7 };

/* Matrix i of the model, the head being the first, and the embedding, where it is packed, the last:
 * its shape and where its numbers are. */
struct matrix {
    size_t n, k;
    const void *data; /* NULL: nobody asked for numbers */
    enum dtype dtype;
    const struct weights_map_tensor *tensor; /* of the map */
};

/* Past the layers' comes the embedding. */
static bool is_table(const struct model_config *c, size_t i)
{
    return i == 1 + (size_t)c->layers * LAYER_MATRICES;
}

static struct matrix matrix_shape(const struct model_config *c, size_t i)
{
    const size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;
    const size_t shapes[LAYER_MATRICES][2] = {
        {q, c->dim},      {kv, c->dim},     {kv, c->dim},    {c->dim, q},
        {c->ffn, c->dim}, {c->ffn, c->dim}, {c->dim, c->ffn}};
    const size_t *shape = shapes[(i + LAYER_MATRICES - 1) % LAYER_MATRICES];

    if (i == 0 || is_table(c, i))
        return (struct matrix){.n = c->vocab, .k = c->dim};
    return (struct matrix){.n = shape[0], .k = shape[1]};
}

/* A device has an embedding of its own unless it is the head, or lies there with the weights. */
static size_t n_matrices(const struct model_config *c, const struct kernels *k,
                         const struct weights *w)
{
    bool has_table = kernels_device(k) && !c->tie && !(w && w->device);

    return 1 + (size_t)c->layers * LAYER_MATRICES + has_table;
}

static struct matrix matrix_of_map(const struct weights_map *map, size_t i)
{
    static const char *const names[LAYER_MATRICES] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    struct matrix x = matrix_shape(&map->config, i);
    char name[WEIGHTS_NAME_BYTES];

    if (i == 0 || is_table(&map->config, i))
        snprintf(name, sizeof(name), "%s",
                 i > 0 || map->config.tie ? "model.embed_tokens.weight" : "lm_head.weight");
    else
        snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", (i - 1) / LAYER_MATRICES,
                 names[(i - 1) % LAYER_MATRICES]);
    x.tensor = weights_map_find(map, name);
    CHECK(x.tensor); /* a map has every tensor of its config */
    x.data = x.tensor->data.data;
    x.dtype = x.tensor->dtype;
    return x;
}

static struct matrix matrix_of_weights(const struct weights *w, size_t i)
{
    struct matrix x = matrix_shape(&w->config, i);
    const struct weights_layer *l =
        &w->layers[i > 0 && !is_table(&w->config, i) ? (i - 1) / LAYER_MATRICES : 0];
    const float *const all[LAYER_MATRICES] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};

    x.data = all[(i + LAYER_MATRICES - 1) % LAYER_MATRICES];
    if (i == 0 || is_table(&w->config, i))
        x.data = i == 0 && w->head ? w->head : w->embed;
    x.dtype = DTYPE_F32;
    return x;
}

static struct packed *packed_at(struct model *m, size_t i)
{
    struct model_layer *l =
        &m->layers[i > 0 && !is_table(&m->config, i) ? (i - 1) / LAYER_MATRICES : 0];
    struct packed *const all[LAYER_MATRICES] = {&l->q,    &l->k,  &l->v,   &l->o,
                                                &l->gate, &l->up, &l->down};

    if (is_table(&m->config, i))
        return &m->table;
    return i == 0 ? &m->head : all[(i - 1) % LAYER_MATRICES];
}

/* Bytes of a matrix in the arena, in whole cache lines, and as a device likes them aligned. */
static uint64_t arena_bytes(const struct kernels *k, const struct matrix *x)
{
    const uint64_t align = kernels_device(k) ? 256 : 64;

    return ((uint64_t)packed_bytes_as(k, x->n, x->k, packed_keeps(k, x->dtype)) + align - 1) /
           align * align;
}

/* Bytes of all packed matrices; of the map, or if that is NULL, of weights in memory. */
static uint64_t packed_bytes_of(const struct kernels *k, const struct model_config *c,
                                const struct weights_map *map, const struct weights *w)
{
    uint64_t n = 0;

    for (size_t i = 0; i < n_matrices(c, k, w); i++) {
        struct matrix x = map ? matrix_of_map(map, i) : matrix_shape(c, i);
        n += arena_bytes(k, &x);
    }
    return n;
}

static size_t default_rows(const struct kernels *k)
{
    return kernels_device(k) ? MAX_ROWS_DEVICE : MAX_ROWS_DEFAULT;
}

static uint64_t pass_bytes(const struct model_config *c, const struct kernels *k, size_t rows)
{
    return k->device && k->ops->pass ? k->ops->pass_bytes(c, rows) : 0;
}

static uint64_t bytes_of(const struct model_config *c, const struct weights_map *map,
                         const struct kernels *kernels, size_t max_rows)
{
    const struct kernels *k = kernels ? kernels : kernels_best();
    uint64_t rows = max_rows ? max_rows : default_rows(k);
    struct layer_acts a;

    if (rows > UINT32_MAX)
        return UINT64_MAX;
    return packed_bytes_of(k, c, map, NULL) + 2 * table_floats(c) * sizeof(float) +
           carve_acts(&a, (struct carve){0}, c, rows) * sizeof(float) + pass_bytes(c, k, rows) +
           attend_room(rows) + rows * (sizeof(int32_t) + sizeof(struct model_piece));
}

uint64_t model_bytes(const struct model_config *c, const struct kernels *k, size_t max_rows)
{
    return bytes_of(c, NULL, k, max_rows);
}

uint64_t model_map_bytes(const struct weights_map *map, const struct kernels *k,
                         size_t max_rows)
{
    return bytes_of(&map->config, map, k, max_rows);
}

/* Packs the matrices of m->map, or of w. */
static void pack_all(struct model *m, const struct weights *w)
{
    for (size_t i = 0; i < n_matrices(&m->config, m->kernels, w); i++) {
        struct matrix x = m->map ? matrix_of_map(m->map, i) : matrix_of_weights(w, i);

        if (w && w->device)
            m->kernels->ops->set(m->device, packed_at(m, i), x.data, x.dtype, false);
        else
            packed_set(m->kernels, m->pool, packed_at(m, i), x.data, x.dtype);
        if (m->map)
            weights_map_rest(m->map, x.tensor);
    }
}

static enum status init_packed(struct model *m, const struct weights *w, struct err *e)
{
    uint64_t bytes = packed_bytes_of(m->kernels, &m->config, m->map, w);
    enum status st = arena_init(&m->arena, m->device, (size_t)bytes, "packed weights", e);
    uint8_t *at = m->arena.data;

    for (size_t i = 0; !st && i < n_matrices(&m->config, m->kernels, w); i++) {
        struct matrix x = m->map ? matrix_of_map(m->map, i) : matrix_shape(&m->config, i);

        packed_place(packed_at(m, i), x.n, x.k, packed_keeps(m->kernels, x.dtype), at);
        at += arena_bytes(m->kernels, &x);
    }
    return st;
}

/* Norms and biases of the map or of w, widened, where the model works. */
static enum status set_vectors(struct model *m, const struct weights *w, struct err *e)
{
    enum status st = OK;
    float *wide = NULL;

    for (size_t i = 0; !st && i < m->vectors->n_tensors; i++) {
        const struct weights_tensor *t = &m->vectors->tensors[i];
        const size_t bytes = t->cols * sizeof(float);

        if (t->is_matrix)
            continue;
        if (w) {
            device_put(m->device, t->data, w->tensors[i].data, bytes);
            continue;
        }
        st = alloc_array(&wide, t->cols, sizeof(float), "a vector", e);
        if (st)
            break;
        weights_map_read(wide, &m->map->tensors[i], 0, t->cols);
        device_put(m->device, t->data, wide, bytes);
        free(wide);
    }
    return st;
}

/* m->w: the weights that are read in place, or vectors of the model's own. */
static enum status init_vectors(struct model *m, const struct weights *w, struct err *e)
{
    enum status st;

    m->w = w;
    if (w && w->device == m->device)
        return OK;
    st = weights_new_vectors(&m->vectors, &m->config, m->device, e);
    m->w = m->vectors;
    if (!st)
        st = set_vectors(m, w, e);
    if (m->map)
        m->embed = weights_map_find(m->map, "model.embed_tokens.weight");
    return st;
}

static enum status init_scratch(struct model *m, struct err *e)
{
    struct layer_acts counted;
    uint64_t floats = carve_acts(&counted, (struct carve){0}, &m->config, m->max_rows);
    uint64_t pass = pass_bytes(&m->config, m->kernels, m->max_rows);
    void *data = NULL;
    enum status st = device_alloc(m->device, &data, floats * sizeof(float), "model scratch", e);

    m->floats = data;
    m->a = xcalloc(1, sizeof(*m->a));
    m->attend = xcalloc(1, sizeof(*m->attend));
    m->stage.device = m->device;
    if (!st && pass > 0)
        st = device_alloc(m->device, &m->pass, pass, "model scratch", e);
    if (!st)
        st = attend_init(m->attend, m->max_rows, e);
    if (!st)
        st = alloc_array(&m->pieces, m->max_rows, sizeof(m->pieces[0]), "model scratch", e);
    if (st)
        return st;
    carve_acts(m->a, (struct carve){.base = m->floats}, &m->config, m->max_rows);
    return OK;
}

typedef enum status alloc_fn(struct device *d, void **out, uint64_t bytes, const char *what,
                             struct err *e);

static enum status grow(struct room *r, struct device *d, alloc_fn *alloc, uint64_t n,
                        const char *what, struct err *e)
{
    void *at = NULL;
    const enum status st = n > SIZE_MAX / sizeof(float)
                               ? err_set(e, ERR_NO_MEMORY, "no memory for %s", what)
                               : alloc(d, &at, n * sizeof(float), what, e);

    r->at = at;
    r->n = st ? 0 : (size_t)n;
    return st;
}

enum status room_grow(struct room *r, struct device *d, uint64_t n, const char *what,
                      struct err *e)
{
    if (n <= r->n)
        return OK;
    device_release(d, r->at);
    return grow(r, d, device_alloc, n, what, e);
}

enum status room_grow_host(struct room *r, struct device *d, uint64_t n, const char *what,
                           struct err *e)
{
    if (n <= r->n)
        return OK;
    device_release_host(d, r->at);
    return grow(r, d, device_alloc_host, n, what, e);
}

/* Positions below n of the tables, into (n, half) of the host each. */
static void fill_rope(const struct model *m, float *cos, float *sin, size_t first, size_t n)
{
    const struct model_config *c = &m->config;

    rope_table(cos, sin, c->rope_theta, &c->rope_scaling, first, n, c->head_dim);
}

/* A device's tables are made on the host, whole: the numbers are the class's, not the device's. */
static enum status send_rope(struct model *m, float *cos, float *sin, size_t n, struct err *e)
{
    const size_t bytes = n * (m->config.head_dim / 2) * sizeof(float);
    void *there[2] = {NULL, NULL};
    enum status st = device_alloc(m->device, &there[0], bytes, "rope table", e);

    if (!st)
        st = device_alloc(m->device, &there[1], bytes, "rope table", e);
    if (st) {
        device_release(m->device, there[0]);
        return st;
    }
    fill_rope(m, cos, sin, 0, n);
    device_put(m->device, there[0], cos, bytes);
    device_put(m->device, there[1], sin, bytes);
    device_release(m->device, m->cos);
    device_release(m->device, m->sin);
    m->cos = there[0];
    m->sin = there[1];
    return OK;
}

enum status model_rope(struct model *m, size_t n_pos, struct err *e)
{
    const struct model_config *c = &m->config;
    const size_t half = c->head_dim / 2;
    size_t n = 2 * m->n_rope > ROPE_FIRST ? 2 * m->n_rope : ROPE_FIRST;
    float *cos, *sin = NULL;
    enum status st;

    CHECK(n_pos <= c->max_len);
    if (n_pos <= m->n_rope)
        return OK;
    n = n < n_pos ? n_pos : n > c->max_len ? c->max_len : n;
    st = alloc_array(&cos, n * half, sizeof(float), "rope table", e);
    if (!st)
        st = alloc_array(&sin, n * half, sizeof(float), "rope table", e);
    if (!st && m->device)
        st = send_rope(m, cos, sin, n, e);
    if (st || m->device) {
        free(cos);
        free(sin);
        m->n_rope = st ? m->n_rope : n;
        return st;
    }
    if (m->n_rope > 0) {
        memcpy(cos, m->cos, m->n_rope * half * sizeof(float));
        memcpy(sin, m->sin, m->n_rope * half * sizeof(float));
    }
    fill_rope(m, cos, sin, m->n_rope, n);
    free(m->cos);
    free(m->sin);
    m->cos = cos;
    m->sin = sin;
    m->n_rope = n;
    return OK;
}

/* What a device does not compute. */
static enum status check_device(const struct model_config *c, const struct model_options *opt,
                                struct err *e)
{
    const struct kernels *k = opt->kernels;
    const char *why = k && k->device ? model_config_refuses(c, k->numerics) : NULL;

    if (why)
        return err_set(e, ERR_UNSUPPORTED, "class %s does not compute this model on %s: %s",
                       numerics_name(k->numerics), device_name(k->device), why);
    if (k && k->device && opt->round_cache)
        return err_set(e, ERR_UNSUPPORTED, "a cache of another width is for the CPU");
    return OK;
}

/* From `map`, or if that is NULL from `w`. */
static enum status make(struct model **out, const struct weights *w,
                        const struct weights_map *map, const struct model_options *opt,
                        struct err *e)
{
    const struct model_config *c = map ? &map->config : &w->config;
    uint64_t bytes = bytes_of(c, map, opt->kernels, opt->max_rows);
    struct model *m = NULL;
    enum status st = check_device(c, opt, e);

    *out = NULL;
    if (st)
        return st;
    if (bytes > (opt->max_bytes ? opt->max_bytes : SIZE_MAX - 1))
        return err_set(e, ERR_LIMIT,
                       "the model takes %" PRIu64 " bytes besides its weights, more than the "
                       "%" PRIu64 " allowed",
                       bytes, opt->max_bytes);
    m = xcalloc(1, sizeof(*m));
    m->config = *c;
    m->map = map;
    m->kernels = opt->kernels ? opt->kernels : kernels_best();
    m->device = kernels_device(m->kernels);
    m->weights_id = device_next_id();
    m->pool = opt->pool;
    m->round_cache = opt->round_cache;
    m->max_rows = opt->max_rows ? opt->max_rows : default_rows(m->kernels);
    st = alloc_array(&m->layers, m->config.layers, sizeof(m->layers[0]), "layers", e);
    if (!st)
        st = init_vectors(m, w, e);
    if (!st)
        st = init_packed(m, w, e);
    if (!st)
        st = init_scratch(m, e);
    if (!st) {
        pack_all(m, w);
        st = device_wait(m->device, e);
    }
    if (!st) {
        *out = m;
        m = NULL; /* it is the caller's now */
    }
    model_free(&m);
    return st;
}

enum status model_new(struct model **out, const struct weights *w,
                      const struct model_options *opt, struct err *e)
{
    return make(out, w, NULL, opt, e);
}

enum status model_open(struct model **out, const struct weights_map *map,
                       const struct model_options *opt, struct err *e)
{
    return make(out, NULL, map, opt, e);
}

void model_free(struct model **p)
{
    struct model *m = *p;

    if (!m)
        return;
    arena_clear(&m->arena);
    weights_free(&m->vectors);
    free(m->layers);
    device_release(m->device, m->cos);
    device_release(m->device, m->sin);
    device_release(m->device, m->floats);
    device_release(m->device, m->pass);
    device_release(m->device, m->hidden.at);
    device_release(m->device, m->logits.at);
    device_release(m->device, m->drawn.at);
    device_release(m->device, m->top.at);
    device_release(NULL, m->host_logits.at);
    device_release_host(m->device, m->host_drawn.at);
    device_release_host(m->device, m->host_top.at);
    stage_clear(&m->stage);
    if (m->attend)
        attend_clear(m->attend);
    free(m->attend);
    free(m->pieces);
    free(m->a);
    free(m);
    *p = NULL;
}

enum status model_reload(struct model *m, const struct weights *w, struct err *e)
{
    enum status st = OK;

    CHECK(!m->map && model_config_equal(&m->config, &w->config));
    if (m->vectors)
        st = set_vectors(m, w, e);
    else
        m->w = w;
    if (!m->vectors) /* whose arrays may be others */
        m->weights_id = device_next_id();
    pack_all(m, w);
    return st ? st : device_wait(m->device, e);
}

const struct model_config *model_config(const struct model *m)
{
    return &m->config;
}

const struct kernels *model_kernels(const struct model *m)
{
    return kernels_host(m->kernels);
}

enum numerics model_numerics(const struct model *m)
{
    return kernels_numerics(m->kernels);
}

struct device *model_device(const struct model *m)
{
    return m->device;
}

enum status model_cache_new(struct kv_cache **out, const struct model *m, size_t n_slots,
                            size_t max_len, uint64_t max_bytes, struct err *e)
{
    return kv_cache_new(out, &m->config, m->kernels, n_slots, max_len, max_bytes, e);
}

enum status model_cache_new_pages(struct kv_cache **out, const struct model *m, size_t n_slots,
                                  size_t max_len, size_t n_pages, struct err *e)
{
    return kv_cache_new_pages(out, &m->config, m->kernels, n_slots, max_len, n_pages, e);
}

uint64_t model_cache_page_bytes(const struct model *m)
{
    return kv_cache_page_bytes(&m->config, m->kernels);
}

struct pool *model_pool(const struct model *m)
{
    return m->pool;
}
