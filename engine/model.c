#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/attend.h"
#include "engine/cpu/table.h"
#include "engine/layer.h"

#define MAX_ROWS_DEFAULT 256
#define MAX_ROWS_DEVICE  2048 /* a GPU wants more to do at once */
#define ROPE_FIRST       1024 /* positions */

/* A part of a run that is computed in one go. */
struct model_piece {
    size_t slot;
    size_t first;
    size_t n;
    size_t n_out; /* of its last rows */
};

/* ---- making ---------------------------------------------------------------------------------- */

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

enum status room_grow(struct room *r, struct device *d, uint64_t n, const char *what,
                      struct err *e)
{
    void *at = NULL;
    enum status st;

    if (n <= r->n)
        return OK;
    device_release(d, r->at);
    r->at = NULL;
    r->n = 0;
    st = n > SIZE_MAX / sizeof(float) ? err_set(e, ERR_NO_MEMORY, "no memory for %s", what)
                                      : device_alloc(d, &at, n * sizeof(float), what, e);
    r->at = at;
    r->n = st ? 0 : (size_t)n;
    return st;
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
    const char *why = k && k->device && k->ops->refuses ? k->ops->refuses(c) : NULL;

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
    device_release(NULL, m->host_logits.at);
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

/* ---- running --------------------------------------------------------------------------------- */

static enum status check_run(const struct kv_cache *kv, const struct model_run *r, size_t i,
                             struct err *e)
{
    if (r->slot >= kv->n_slots)
        return err_set(e, ERR_INVALID, "run %zu: there is no slot %zu", i, r->slot);
    if (kv->stamp[r->slot] == kv->calls)
        return err_set(e, ERR_INVALID, "run %zu: slot %zu is in the call already", i, r->slot);
    kv->stamp[r->slot] = kv->calls;
    if (r->n == 0 || r->n_out > r->n)
        return err_set(e, ERR_INVALID, "run %zu: %zu rows out of %zu", i, r->n_out, r->n);
    if (r->first > kv->len[r->slot])
        return err_set(e, ERR_INVALID,
                       "run %zu starts at position %zu, slot %zu holds only %zu before it", i,
                       r->first, r->slot, kv->len[r->slot]);
    if (r->n > kv->max_len - r->first)
        return err_set(e, ERR_INVALID, "run %zu ends at position %zu, the cache holds %zu", i,
                       r->first + r->n, kv->max_len);
    return OK;
}

static enum status begin_runs(struct model *m, struct kv_cache *kv,
                              const struct model_run *runs, size_t n_runs,
                              const int32_t *tokens, struct err *e)
{
    size_t at = 0, need = 0, n_pos = 0;
    enum status st;

    CHECK(kv->layers == m->config.layers && kv->max_len <= m->config.max_len &&
          kv->width == (size_t)m->config.kv_heads * m->config.head_dim &&
          kv->arena.device == m->device);
    kv->calls++;
    kv_cache_claims_reset(kv);
    for (size_t i = 0; i < n_runs; i++) {
        st = check_run(kv, &runs[i], i, e);
        if (st)
            return st;
        if (runs[i].first + runs[i].n > n_pos)
            n_pos = runs[i].first + runs[i].n;
        need += kv_cache_claim(kv, runs[i].slot, runs[i].first, runs[i].n);
        for (size_t j = 0; j < runs[i].n; j++, at++)
            if (tokens[at] < 0 || (uint32_t)tokens[at] >= m->config.vocab)
                return err_set(e, ERR_INVALID,
                               "run %zu: token %" PRId32
                               " is outside the vocabulary of %" PRIu32,
                               i, tokens[at], m->config.vocab);
    }
    if (need > kv->n_free)
        return err_set(e, ERR_LIMIT, "the cache has %zu free pages, this call takes %zu",
                       kv->n_free, need);
    st = model_rope(m, n_pos, e);
    if (st)
        return st;
    for (size_t i = 0; i < n_runs; i++)
        kv_cache_write(kv, runs[i].slot, runs[i].first, runs[i].n);
    return OK;
}

struct look_up {
    const struct model *m;
    float *x;
    const int32_t *tokens;
};

/* Rows of a map's embedding: where it is the head as well, from that, which is in memory anyway. */
static void look_up_rows(void *arg, size_t lo, size_t hi)
{
    const struct look_up *j = arg;
    const struct model *m = j->m;
    const size_t C = m->config.dim;

    for (size_t i = lo; i < hi; i++)
        if (!m->config.tie ||
            !packed_row(m->kernels, j->x + i * C, &m->head, (size_t)j->tokens[i]))
            weights_map_read(j->x + i * C, m->embed, (size_t)j->tokens[i] * C, C);
}

static void look_up(const struct model *m, float *x, const int32_t *tokens, size_t rows)
{
    struct look_up job = {m, x, tokens};

    if (m->w->embed)
        embed_forward(m->kernels, x, m->w->embed, tokens, rows, m->config.dim);
    else if (m->device)
        m->kernels->ops->embed_packed(m->device, x, m->config.tie ? &m->head : &m->table,
                                      tokens, rows, m->config.dim);
    else
        pool_run(m->pool, rows, 8, look_up_rows, &job);
}

/* What the operations of a call read besides numbers: addresses for them. */
struct call {
    const int32_t *tokens, *pos;
    size_t n_pieces, rows;
};

static enum status stage_call(struct model *m, const struct kv_cache *kv, const int32_t *tokens,
                              struct call *c, struct err *e)
{
    const size_t bytes = c->rows * sizeof(int32_t);
    const void *there;
    enum status st;
    int32_t *pos;

    attend_reset(m->attend);
    for (size_t i = 0; i < c->n_pieces; i++)
        attend_add(m->attend, m->pieces[i].n, m->pieces[i].first,
                   kv_cache_table(kv, m->pieces[i].slot));
    CHECK(m->attend->rows == c->rows);
    st =
        stage_begin(&m->stage, 2 * stage_bytes(bytes) + attend_bytes(m->attend, m->kernels), e);
    if (st)
        return st;
    pos = stage_take(&m->stage, bytes, &there);
    c->pos = there;
    for (size_t i = 0; i < c->n_pieces; i++)
        for (size_t j = 0; j < m->pieces[i].n; j++)
            *pos++ = (int32_t)(m->pieces[i].first + j);
    c->tokens = tokens;
    if (m->device) {
        memcpy(stage_take(&m->stage, bytes, &there), tokens, bytes);
        c->tokens = there;
    }
    attend_stage(m->attend, m->kernels, &m->stage);
    stage_send(&m->stage);
    return OK;
}

/* All layers by a class of a device that goes through them in one. */
static void pass_layers(struct model *m, const struct kv_cache *kv)
{
    const struct attend *a = m->attend;

    m->kernels->ops->pass(m->device,
                          &(struct device_pass){
                              .config = &m->config,
                              .packed = m->layers,
                              .w = m->w->layers,
                              .x = m->a->x_in,
                              .scratch = m->pass,
                              .cos = m->cos,
                              .sin = m->sin,
                              .runs = a->runs,
                              .n_runs = a->n,
                              .rows = a->rows,
                              .max_n = a->max_n,
                              .max_len = a->max_len,
                              .pages = a->pages,
                              .page_layer = kv->layer_floats * sizeof(float) / sizeof(uint16_t),
                          });
}

static void run_layers(struct model *m, const struct kv_cache *kv, const struct call *c)
{
    if (m->device && m->kernels->ops->pass) {
        pass_layers(m, kv);
        return;
    }
    for (size_t layer = 0; layer < m->config.layers; layer++) {
        layer_before_attention(m, layer, m->a, c->pos, c->rows);
        attend_forward(m->attend, m, m->a, kv_cache_layer(kv, layer));
        layer_after_attention(m, layer, m->a, c->rows);
    }
}

/* The last norm of the rows that are wanted, those together that lie together. Returns how many. */
static size_t last_norm(const struct model *m, float *hidden, size_t n_pieces)
{
    const size_t C = m->config.dim;
    size_t row = 0, n_out = 0, first = 0, n = 0;

    for (size_t i = 0; i <= n_pieces; i++) {
        const struct model_piece *p = i < n_pieces ? &m->pieces[i] : NULL;

        if (p && (n == 0 || row + p->n - p->n_out == first + n)) {
            first = n == 0 ? row + p->n - p->n_out : first;
            n += p->n_out;
        } else {
            if (n > 0)
                rmsnorm_forward(m->kernels, hidden + n_out * C, m->a->x_out + first * C,
                                m->w->norm, n, C, m->config.norm_eps);
            n_out += n;
            first = p ? row + p->n - p->n_out : 0;
            n = p ? p->n_out : 0;
        }
        row += p ? p->n : 0;
    }
    return n_out;
}

/* The part of run r from its row `at` on, at most `room` rows. */
static struct model_piece cut(const struct model_run *r, size_t at, size_t room)
{
    struct model_piece p = {.slot = r->slot, .first = r->first + at, .n = r->n - at};
    size_t from_out = r->n - r->n_out; /* rows of the run from here on are wanted */

    if (p.n > room)
        p.n = room;
    if (at + p.n > from_out)
        p.n_out = at >= from_out ? p.n : at + p.n - from_out;
    return p;
}

/* Where the hidden states go: into the caller's array, or one of the model's. */
static enum status place_hidden(struct model *m, float **at, float *hidden,
                                const struct model_run *runs, size_t n_runs, struct err *e)
{
    enum status st = OK;

    m->last = NULL;
    m->n_last = 0;
    for (size_t i = 0; i < n_runs; i++)
        m->n_last += runs[i].n_out;
    *at = hidden;
    if (m->device || !hidden) {
        st = room_grow(&m->hidden, m->device, (uint64_t)m->n_last * m->config.dim,
                       "hidden states", e);
        *at = m->hidden.at;
    }
    return st;
}

/* Computes as much as goes at once from *run and its row *at on. Returns through *out how many rows
 * of `hidden` were written. */
static enum status forward_some(struct model *m, const struct kv_cache *kv, float *hidden,
                                const struct model_run *runs, size_t n_runs,
                                const int32_t **tokens, size_t where[2], size_t *out,
                                struct err *e)
{
    struct call c = {0};
    enum status st;

    while (where[0] < n_runs && c.rows < m->max_rows) {
        struct model_piece p = cut(&runs[where[0]], where[1], m->max_rows - c.rows);

        m->pieces[c.n_pieces++] = p;
        c.rows += p.n;
        where[1] += p.n;
        if (where[1] == runs[where[0]].n) {
            where[0]++;
            where[1] = 0;
        }
    }
    st = stage_call(m, kv, *tokens, &c, e);
    if (st)
        return st;
    look_up(m, m->a->x_in, c.tokens, c.rows);
    run_layers(m, kv, &c);
    *out = last_norm(m, hidden, c.n_pieces);
    *tokens += c.rows;
    return OK;
}

enum status model_forward(struct model *m, struct kv_cache *kv, float *hidden,
                          const struct model_run *runs, size_t n_runs, const int32_t *tokens,
                          struct err *e)
{
    const size_t C = m->config.dim;
    size_t where[2] = {0, 0}, n_out = 0, n;
    enum status st = begin_runs(m, kv, runs, n_runs, tokens, e);
    float *at;

    if (!st)
        st = place_hidden(m, &at, hidden, runs, n_runs, e);
    while (!st && where[0] < n_runs) {
        st = forward_some(m, kv, at + n_out * C, runs, n_runs, &tokens, where, &n, e);
        n_out += st ? 0 : n;
    }
    if (st)
        return st;
    CHECK(n_out == m->n_last);
    m->last = at;
    if (m->device && hidden) {
        device_get(m->device, hidden, at, n_out * C * sizeof(float));
        st = device_wait(m->device, e);
    }
    return st;
}
