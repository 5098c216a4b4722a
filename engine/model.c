#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/layer.h"

#define MAX_ROWS_DEFAULT 256
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

/* Matrix i of the model, the head being the first: its shape and where its numbers are. */
struct matrix {
    size_t n, k;
    const void *data; /* NULL: nobody asked for numbers */
    enum dtype dtype;
    const struct weights_map_tensor *tensor; /* of the map */
};

static struct matrix matrix_shape(const struct model_config *c, size_t i)
{
    const size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;
    const size_t shapes[LAYER_MATRICES][2] = {
        {q, c->dim},      {kv, c->dim},     {kv, c->dim},    {c->dim, q},
        {c->ffn, c->dim}, {c->ffn, c->dim}, {c->dim, c->ffn}};
    const size_t *shape = shapes[(i + LAYER_MATRICES - 1) % LAYER_MATRICES];

    if (i == 0)
        return (struct matrix){.n = c->vocab, .k = c->dim};
    return (struct matrix){.n = shape[0], .k = shape[1]};
}

static size_t n_matrices(const struct model_config *c)
{
    return 1 + (size_t)c->layers * LAYER_MATRICES;
}

static struct matrix matrix_of_map(const struct weights_map *map, size_t i)
{
    static const char *const names[LAYER_MATRICES] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    struct matrix x = matrix_shape(&map->config, i);
    char name[WEIGHTS_NAME_BYTES];

    if (i == 0)
        snprintf(name, sizeof(name), "%s",
                 map->config.tie ? "model.embed_tokens.weight" : "lm_head.weight");
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
    const struct weights_layer *l = &w->layers[i > 0 ? (i - 1) / LAYER_MATRICES : 0];
    const float *const all[LAYER_MATRICES] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};

    x.data = all[(i + LAYER_MATRICES - 1) % LAYER_MATRICES];
    if (i == 0)
        x.data = w->head ? w->head : w->embed;
    x.dtype = DTYPE_F32;
    return x;
}

static struct packed *packed_at(struct model *m, size_t i)
{
    struct model_layer *l = &m->layers[i > 0 ? (i - 1) / LAYER_MATRICES : 0];
    struct packed *const all[LAYER_MATRICES] = {&l->q,    &l->k,  &l->v,   &l->o,
                                                &l->gate, &l->up, &l->down};

    return i == 0 ? &m->head : all[(i - 1) % LAYER_MATRICES];
}

/* Bytes of a matrix in the arena, in whole cache lines. */
static uint64_t arena_bytes(const struct kernels *k, const struct matrix *x)
{
    return ((uint64_t)packed_bytes_as(k, x->n, x->k, packed_keeps(k, x->dtype)) + 63) / 64 * 64;
}

/* Bytes of all packed matrices; of the map, or if that is NULL, of weights in memory. */
static uint64_t packed_bytes_of(const struct kernels *k, const struct model_config *c,
                                const struct weights_map *map)
{
    uint64_t n = 0;

    for (size_t i = 0; i < n_matrices(c); i++) {
        struct matrix x = map ? matrix_of_map(map, i) : matrix_shape(c, i);
        n += arena_bytes(k, &x);
    }
    return n;
}

static uint64_t bytes_of(const struct model_config *c, const struct weights_map *map,
                         const struct kernels *k, size_t max_rows)
{
    struct layer_acts a;
    uint64_t rows = max_rows ? max_rows : MAX_ROWS_DEFAULT;

    if (rows > UINT32_MAX)
        return UINT64_MAX;
    return packed_bytes_of(k ? k : kernels_best(), c, map) +
           2 * table_floats(c) * sizeof(float) +
           carve_acts(&a, (struct carve){0}, c, rows) * sizeof(float) +
           rows * (sizeof(int32_t) + sizeof(struct attention_run) + sizeof(struct model_piece));
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

/* Packs the matrices of m->map or m->w. */
static void pack_all(struct model *m)
{
    for (size_t i = 0; i < n_matrices(&m->config); i++) {
        struct matrix x = m->map ? matrix_of_map(m->map, i) : matrix_of_weights(m->w, i);

        packed_set(m->kernels, m->pool, packed_at(m, i), x.data, x.dtype);
        if (m->map)
            weights_map_rest(m->map, x.tensor);
    }
}

static enum status init_packed(struct model *m, struct err *e)
{
    uint64_t bytes = packed_bytes_of(m->kernels, &m->config, m->map);
    enum status st = arena_init(&m->arena, (size_t)bytes, "packed weights", e);
    uint8_t *at = m->arena.data;

    for (size_t i = 0; !st && i < n_matrices(&m->config); i++) {
        struct matrix x = m->map ? matrix_of_map(m->map, i) : matrix_shape(&m->config, i);

        packed_place(packed_at(m, i), x.n, x.k, packed_keeps(m->kernels, x.dtype), at);
        at += arena_bytes(m->kernels, &x);
    }
    return st;
}

/* Norms and biases of a map, widened into memory of the model's own. */
static enum status init_vectors(struct model *m, struct err *e)
{
    enum status st = weights_new_vectors(&m->vectors, &m->config, e);

    for (size_t i = 0; !st && i < m->map->n_tensors; i++) {
        struct weights_tensor *t = &m->vectors->tensors[i];

        if (!t->is_matrix)
            weights_map_read(t->data, &m->map->tensors[i], 0, t->cols);
    }
    m->w = m->vectors;
    m->embed = weights_map_find(m->map, "model.embed_tokens.weight");
    return st;
}

static enum status init_scratch(struct model *m, struct err *e)
{
    struct layer_acts counted;
    uint64_t floats = carve_acts(&counted, (struct carve){0}, &m->config, m->max_rows);
    enum status st = alloc_array(&m->floats, (size_t)floats, sizeof(float), "model scratch", e);

    m->a = xcalloc(1, sizeof(*m->a));
    if (!st)
        st = alloc_array(&m->pos, m->max_rows, sizeof(m->pos[0]), "model scratch", e);
    if (!st)
        st = alloc_array(&m->runs, m->max_rows, sizeof(m->runs[0]), "model scratch", e);
    if (!st)
        st = alloc_array(&m->pieces, m->max_rows, sizeof(m->pieces[0]), "model scratch", e);
    if (st)
        return st;
    carve_acts(m->a, (struct carve){.base = m->floats}, &m->config, m->max_rows);
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
    if (st) {
        free(cos);
        return st;
    }
    if (m->n_rope > 0) {
        memcpy(cos, m->cos, m->n_rope * half * sizeof(float));
        memcpy(sin, m->sin, m->n_rope * half * sizeof(float));
    }
    rope_table(cos, sin, c->rope_theta, &c->rope_scaling, m->n_rope, n, c->head_dim);
    free(m->cos);
    free(m->sin);
    m->cos = cos;
    m->sin = sin;
    m->n_rope = n;
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
    enum status st;

    *out = NULL;
    if (bytes > (opt->max_bytes ? opt->max_bytes : SIZE_MAX - 1))
        return err_set(e, ERR_LIMIT,
                       "the model takes %" PRIu64 " bytes besides its weights, more than the "
                       "%" PRIu64 " allowed",
                       bytes, opt->max_bytes);
    m = xcalloc(1, sizeof(*m));
    m->config = *c;
    m->w = w;
    m->map = map;
    m->kernels = opt->kernels ? opt->kernels : kernels_best();
    m->pool = opt->pool;
    m->round_cache = opt->round_cache;
    m->max_rows = opt->max_rows ? opt->max_rows : MAX_ROWS_DEFAULT;
    st = alloc_array(&m->layers, m->config.layers, sizeof(m->layers[0]), "layers", e);
    if (!st && map)
        st = init_vectors(m, e);
    if (!st)
        st = init_packed(m, e);
    if (!st)
        st = init_scratch(m, e);
    if (!st) {
        pack_all(m);
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
    free(m->cos);
    free(m->sin);
    free(m->floats);
    free(m->pos);
    free(m->runs);
    free(m->pieces);
    free(m->a);
    free(m);
    *p = NULL;
}

void model_reload(struct model *m, const struct weights *w)
{
    CHECK(!m->map && model_config_equal(&m->config, &w->config));
    m->w = w;
    pack_all(m);
}

const struct model_config *model_config(const struct model *m)
{
    return &m->config;
}

const struct kernels *model_kernels(const struct model *m)
{
    return m->kernels;
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
          kv->width == (size_t)m->config.kv_heads * m->config.head_dim);
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

/* Describes the attention calls, which file the rows' keys and values in the cache. */
static void plan_attention(struct model *m, const struct kv_cache *kv, size_t layer,
                           size_t n_pieces)
{
    const struct layer_acts *a = m->a;
    size_t q_width = (size_t)m->config.heads * m->config.head_dim, width = kv->width, row = 0;

    for (size_t i = 0; i < n_pieces; i++) {
        const struct model_piece *p = &m->pieces[i];

        m->runs[i] = (struct attention_run){
            .out = a->att + row * q_width,
            .q = a->q + row * q_width,
            .k = a->k + row * width,
            .v = a->v + row * width,
            .first = p->first,
            .n = p->n,
            .pages = kv_cache_table(kv, p->slot),
            .page_at = kv_cache_layer(kv, layer),
        };
        row += p->n;
    }
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

    if (m->map)
        pool_run(m->pool, rows, 8, look_up_rows, &job);
    else
        embed_forward(x, m->w->embed, tokens, rows, m->config.dim);
}

/* Runs the pieces, `rows` rows in all. Returns how many rows of hidden were written. */
static size_t forward_pieces(struct model *m, const struct kv_cache *kv, float *hidden,
                             size_t n_pieces, const int32_t *tokens, size_t rows)
{
    const struct layer_acts *a = m->a;
    struct attention_shape shape = layer_attention_shape(m);
    size_t C = m->config.dim, row = 0, n_out = 0;

    for (size_t i = 0; i < n_pieces; i++)
        for (size_t j = 0; j < m->pieces[i].n; j++)
            m->pos[row++] = (int32_t)(m->pieces[i].first + j);
    CHECK(row == rows);
    look_up(m, a->x_in, tokens, rows);
    for (size_t layer = 0; layer < m->config.layers; layer++) {
        layer_before_attention(m, layer, a, m->pos, rows);
        plan_attention(m, kv, layer, n_pieces);
        attention_forward(m->kernels, m->pool, m->runs, n_pieces, &shape);
        layer_after_attention(m, layer, a, rows);
    }
    row = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        const struct model_piece *p = &m->pieces[i];

        row += p->n;
        rmsnorm_forward(m->kernels, hidden + n_out * C, a->x_out + (row - p->n_out) * C,
                        m->w->norm, p->n_out, C, m->config.norm_eps);
        n_out += p->n_out;
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

enum status model_forward(struct model *m, struct kv_cache *kv, float *hidden,
                          const struct model_run *runs, size_t n_runs, const int32_t *tokens,
                          struct err *e)
{
    enum status st = begin_runs(m, kv, runs, n_runs, tokens, e);
    size_t run = 0, at = 0;

    if (st)
        return st;
    while (run < n_runs) {
        size_t n_pieces = 0, rows = 0;

        while (run < n_runs && rows < m->max_rows) {
            struct model_piece p = cut(&runs[run], at, m->max_rows - rows);

            m->pieces[n_pieces++] = p;
            rows += p.n;
            at += p.n;
            if (at == runs[run].n) {
                run++;
                at = 0;
            }
        }
        hidden += forward_pieces(m, kv, hidden, n_pieces, tokens, rows) * m->config.dim;
        tokens += rows;
    }
    return OK;
}

void model_logits(struct model *m, float *logits, const float *hidden, size_t rows)
{
    matmul_forward(m->kernels, m->pool, logits, hidden, &m->head, NULL, rows);
}
