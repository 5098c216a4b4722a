#include "engine/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/layer.h"

/* Logits exist for a few rows at a time: about this many numbers, and never less than a block. A
 * chunk should be large, for the head's weights and their gradient pass through memory with each. */
#define LOGITS_CHUNK (1u << 23)
#define LOGITS_ROWS  256u
#define LOGITS_BLOCK 32u /* of bf16-1: positions of a sequence that must not be torn apart */

/* What is at hand for one layer, or one chunk of logits, at a time. */
struct scratch {
    float *h;             /* (T, C): normed x_in, then normed x_mid */
    float *act;           /* (T, F): the activation, then its gradient */
    float *dx;            /* (T, C): the gradient of the residual stream */
    float *dh;            /* (T, C) */
    float *datt;          /* (T, H, D); then dq before q_norm */
    float *dq, *dk, *dv;  /* (T, H, D), (T, G, D) twice */
    float *dk_raw;        /* (T, G, D): dk before k_norm; NULL without one */
    float *logits;        /* (R, V) */
    float *rows, *drows;  /* (R, C): hidden states of the rows whose logits are at hand */
    float *logp, *weight; /* (R) */
};

struct train {
    struct model *model;   /* owned */
    struct weights *grads; /* owned */
    float *head_grad;      /* owned, (V, C); NULL unless tied */
    size_t max_rows, logits_rows;
    bool recompute;

    float *floats;           /* owned: what the fields below point into */
    struct layer_acts *acts; /* owned, one a layer */
    float *hidden;           /* (T, C) */
    float *last;             /* (T, C): the stream after the last layer */
    struct scratch s;

    int32_t *pos;                 /* owned, (T) */
    int32_t *tokens;              /* owned, (R): targets of the rows at hand */
    size_t *index;                /* owned, (R): which rows they are */
    struct attention_run *runs;   /* owned, (T) */
    struct attention_grad *parts; /* owned, (T) */
};

/* ---- making ---------------------------------------------------------------------------------- */

static void carve_layer(struct layer_acts *a, struct carve *at, const struct model_config *c,
                        uint64_t T)
{
    uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

    a->q = carve_take(at, T * q);
    a->q_raw = c->qk_norm ? carve_take(at, T * q) : a->q;
    a->k = carve_take(at, T * kv);
    a->k_raw = c->qk_norm ? carve_take(at, T * kv) : a->k;
    a->v = carve_take(at, T * kv);
    a->att = carve_take(at, T * q);
    a->lse = carve_take(at, T * c->heads);
    a->x_mid = carve_take(at, T * c->dim);
    a->gate = carve_take(at, T * c->ffn);
    a->up = carve_take(at, T * c->ffn);
}

static void carve_scratch(struct scratch *s, struct carve *at, const struct model_config *c,
                          uint64_t T, uint64_t R)
{
    uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

    s->h = carve_take(at, T * c->dim);
    s->act = carve_take(at, T * c->ffn);
    s->dx = carve_take(at, T * c->dim);
    s->dh = carve_take(at, T * c->dim);
    s->datt = carve_take(at, T * q);
    s->dq = carve_take(at, T * q);
    s->dk = carve_take(at, T * kv);
    s->dv = carve_take(at, T * kv);
    s->dk_raw = c->qk_norm ? carve_take(at, T * kv) : NULL;
    s->logits = carve_take(at, R * c->vocab);
    s->rows = carve_take(at, R * c->dim);
    s->drows = carve_take(at, R * c->dim);
    s->logp = carve_take(at, R);
    s->weight = carve_take(at, R);
}

/* Points everything into at.base, or only counts when that is NULL. Without t->acts one
 * layer stands for all. */
static uint64_t carve_all(struct train *t, struct carve at, const struct model_config *c,
                          uint64_t T, uint64_t R)
{
    struct layer_acts one = {0};
    float *x = carve_take(&at, T * c->dim);

    t->hidden = carve_take(&at, T * c->dim);
    carve_scratch(&t->s, &at, c, T, R);
    for (uint32_t i = 0; i < c->layers; i++) {
        struct layer_acts *a = t->acts ? &t->acts[i] : &one;

        if (i == 0 || !t->recompute)
            carve_layer(a, &at, c, T);
        else if (t->acts)
            *a = t->acts[0];
        a->x_in = x;
        a->h1 = a->h2 = t->s.h;
        a->act = t->s.act;
        x = a->x_out = carve_take(&at, T * c->dim);
    }
    t->last = x;
    return at.n;
}

static size_t logits_rows(const struct model_config *c, size_t max_rows)
{
    size_t rows = LOGITS_CHUNK / c->vocab;

    if (rows < LOGITS_BLOCK)
        rows = LOGITS_BLOCK;
    if (rows > LOGITS_ROWS)
        rows = LOGITS_ROWS;
    return rows < max_rows ? rows : max_rows;
}

uint64_t train_bytes(const struct model_config *c, size_t max_rows, bool recompute)
{
    struct train counted = {.recompute = recompute};
    uint64_t table = (uint64_t)c->vocab * c->dim;

    if (max_rows > 1u << 24)
        return UINT64_MAX;
    return model_bytes(c, NULL, 0) +
           (model_config_params(c) + (c->tie ? table : 0)) * sizeof(float) +
           carve_all(&counted, (struct carve){0}, c, max_rows, logits_rows(c, max_rows)) *
               sizeof(float) +
           max_rows *
               (sizeof(int32_t) + sizeof(struct attention_run) + sizeof(struct attention_grad));
}

static enum status init_arrays(struct train *t, const struct model_config *c, struct err *e)
{
    uint64_t floats = carve_all(t, (struct carve){0}, c, t->max_rows, t->logits_rows);
    enum status st = OK;

    t->acts = xcalloc(c->layers, sizeof(t->acts[0]));
    t->tokens = xcalloc(t->logits_rows, sizeof(t->tokens[0]));
    t->index = xcalloc(t->logits_rows, sizeof(t->index[0]));
    if (c->tie)
        st = alloc_array(&t->head_grad, (size_t)c->vocab * c->dim, sizeof(float),
                         "gradient of the head", e);
    if (!st)
        st = alloc_array(&t->floats, (size_t)floats, sizeof(float), "activations", e);
    if (!st)
        st = alloc_array(&t->pos, t->max_rows, sizeof(t->pos[0]), "positions", e);
    if (!st)
        st = alloc_array(&t->runs, t->max_rows, sizeof(t->runs[0]), "attention runs", e);
    if (!st)
        st = alloc_array(&t->parts, t->max_rows, sizeof(t->parts[0]), "attention runs", e);
    if (!st)
        carve_all(t, (struct carve){.base = t->floats}, c, t->max_rows, t->logits_rows);
    return st;
}

enum status train_new(struct train **out, const struct weights *w,
                      const struct train_options *opt, struct err *e)
{
    uint64_t bytes = train_bytes(&w->config, opt->max_rows, opt->recompute);
    struct model_options mopt = {.kernels = opt->kernels, .pool = opt->pool};
    struct train *t = NULL;
    enum status st;

    *out = NULL;
    if (opt->max_rows == 0)
        return err_set(e, ERR_INVALID, "training needs room for at least one row");
    if (bytes > (opt->max_bytes ? opt->max_bytes : SIZE_MAX - 1))
        return err_set(e, ERR_LIMIT,
                       "training with %zu rows takes %" PRIu64
                       " bytes besides the weights, more "
                       "than the %" PRIu64 " allowed",
                       opt->max_rows, bytes, opt->max_bytes);
    t = xcalloc(1, sizeof(*t));
    t->max_rows = opt->max_rows;
    t->recompute = opt->recompute;
    t->logits_rows = logits_rows(&w->config, opt->max_rows);
    st = model_new(&t->model, w, &mopt, e);
    if (!st)
        st = weights_new(&t->grads, &w->config, e);
    if (!st)
        st = init_arrays(t, &w->config, e);
    if (!st) {
        *out = t;
        t = NULL; /* it is the caller's now */
    }
    train_free(&t);
    return st;
}

void train_free(struct train **p)
{
    struct train *t = *p;

    if (!t)
        return;
    model_free(&t->model);
    weights_free(&t->grads);
    free(t->head_grad);
    free(t->floats);
    free(t->acts);
    free(t->pos);
    free(t->tokens);
    free(t->index);
    free(t->runs);
    free(t->parts);
    free(t);
    *p = NULL;
}

struct model *train_model(struct train *t)
{
    return t->model;
}

void train_reload(struct train *t, const struct weights *w)
{
    model_reload(t->model, w);
}

struct weights *train_grads(struct train *t)
{
    return t->grads;
}

void train_zero(struct train *t)
{
    const struct model_config *c = &t->model->config;

    weights_zero(t->grads);
    if (t->head_grad)
        memset(t->head_grad, 0, (size_t)c->vocab * c->dim * sizeof(float));
}

void train_finish(struct train *t)
{
    const struct model_config *c = &t->model->config;
    size_t n = (size_t)c->vocab * c->dim;

    if (!t->head_grad)
        return;
    add_forward(t->model->kernels, t->grads->embed, t->grads->embed, t->head_grad, n);
    memset(t->head_grad, 0, n * sizeof(float));
}

/* ---- forward --------------------------------------------------------------------------------- */

static enum status check_batch(const struct train *t, const struct train_batch *b,
                               struct err *e)
{
    const struct model_config *c = &t->model->config;
    size_t rows = 0;

    if (b->rows == 0 || b->rows > t->max_rows || b->n_seqs == 0)
        return err_set(e, ERR_INVALID, "a batch of %zu rows, wants 1..%zu", b->rows,
                       t->max_rows);
    if (!(b->temperature > 0.0f) || !isfinite(b->temperature))
        return err_set(e, ERR_INVALID, "temperature is %g, wants a positive number",
                       (double)b->temperature);
    for (size_t i = 0; i < b->n_seqs; i++) {
        if (b->lengths[i] == 0 || b->lengths[i] > c->max_len || b->lengths[i] > b->rows - rows)
            return err_set(e, ERR_INVALID, "sequence %zu has %zu rows, wants 1..%" PRIu32, i,
                           b->lengths[i], c->max_len);
        rows += b->lengths[i];
    }
    if (rows != b->rows)
        return err_set(e, ERR_INVALID, "the sequences have %zu rows, the batch %zu", rows,
                       b->rows);
    for (size_t r = 0; r < rows; r++)
        if (b->tokens[r] < 0 || (uint32_t)b->tokens[r] >= c->vocab || b->targets[r] < -1 ||
            (b->targets[r] >= 0 && (uint32_t)b->targets[r] >= c->vocab))
            return err_set(e, ERR_INVALID,
                           "row %zu: token %" PRId32 " or target %" PRId32
                           " is outside the vocabulary of %" PRIu32,
                           r, b->tokens[r], b->targets[r], c->vocab);
    return OK;
}

static enum status begin(struct train *t, const struct train_batch *b, struct err *e)
{
    enum status st = check_batch(t, b, e);
    size_t n_pos = 0;

    if (st)
        return st;
    for (size_t i = 0; i < b->n_seqs; i++)
        if (b->lengths[i] > n_pos)
            n_pos = b->lengths[i];
    return model_rope(t->model, n_pos, e);
}

static void attend(struct train *t, const struct train_batch *b, const struct layer_acts *a)
{
    struct attention_shape shape = layer_attention_shape(t->model);
    size_t row = 0;

    for (size_t i = 0; i < b->n_seqs; i++) {
        t->runs[i] = (struct attention_run){
            .out = a->att + row * shape.out_stride,
            .lse = a->lse + row * shape.H,
            .q = a->q + row * shape.q_stride,
            .k = a->k + row * shape.k_stride,
            .v = a->v + row * shape.v_stride,
            .first = 0,
            .n = b->lengths[i],
        };
        row += b->lengths[i];
    }
    attention_forward(t->model->kernels, t->model->pool, t->runs, b->n_seqs, &shape);
}

static void layer_forward(struct train *t, const struct train_batch *b, size_t layer)
{
    const struct layer_acts *a = &t->acts[layer];

    layer_before_attention(t->model, layer, a, t->pos, b->rows);
    attend(t, b, a);
    layer_after_attention(t->model, layer, a, b->rows);
}

/* From the tokens to `hidden`. */
static void body_forward(struct train *t, const struct train_batch *b)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;
    size_t row = 0;

    for (size_t i = 0; i < b->n_seqs; i++)
        for (size_t j = 0; j < b->lengths[i]; j++)
            t->pos[row++] = (int32_t)j;
    embed_forward(t->acts[0].x_in, m->w->embed, b->tokens, b->rows, c->dim);
    for (size_t i = 0; i < c->layers; i++)
        layer_forward(t, b, i);
    rmsnorm_forward(m->kernels, t->hidden, t->last, m->w->norm, b->rows, c->dim, c->norm_eps);
}

/* The first row of the block that row r lies in, as a name for it. */
static size_t block_of(const struct train *t, size_t r)
{
    return r - (size_t)t->pos[r] % LOGITS_BLOCK;
}

/* Collects the next rows from *at on that have a target: their hidden states into s.rows, their
 * logits into s.logits. Returns how many. */
static size_t gather(struct train *t, const struct train_batch *b, size_t *at)
{
    size_t C = t->model->config.dim, n = 0;

    for (; *at < b->rows && n < t->logits_rows; (*at)++) {
        if (b->targets[*at] < 0)
            continue;
        if (n > 0 && n + LOGITS_BLOCK > t->logits_rows && t->logits_rows < b->rows &&
            block_of(t, *at) != block_of(t, t->index[n - 1]))
            break;
        memcpy(t->s.rows + n * C, t->hidden + *at * C, C * sizeof(float));
        t->tokens[n] = b->targets[*at];
        t->index[n++] = *at;
    }
    if (n > 0)
        model_logits(t->model, t->s.logits, t->s.rows, n);
    return n;
}

/* The log-probabilities of the n rows at hand, to their places in logp. */
static enum status gathered_logp(struct train *t, const struct train_batch *b, float *logp,
                                 size_t n, struct err *e)
{
    const struct model *m = t->model;

    logprob_forward(m->kernels, m->pool, t->s.logp, t->s.logits, t->tokens, b->temperature, n,
                    m->config.vocab);
    for (size_t i = 0; i < n; i++) {
        logp[t->index[i]] = t->s.logp[i];
        if (!isfinite(t->s.logp[i]))
            return err_set(e, ERR_NUMERIC, "row %zu: its log-probability is not finite",
                           t->index[i]);
    }
    return OK;
}

enum status train_forward(struct train *t, const struct train_batch *b, float *logp,
                          struct err *e)
{
    size_t at = 0, n;
    enum status st = begin(t, b, e);

    if (st)
        return st;
    body_forward(t, b);
    memset(logp, 0, b->rows * sizeof(logp[0]));
    while (!st && (n = gather(t, b, &at)) > 0)
        st = gathered_logp(t, b, logp, n, e);
    return st;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Weighs the n rows at hand and drops those of weight 0: their place in the sums is none, not a
 * zero. Returns through *left how many stay. */
static enum status weigh_rows(struct train *t, train_weigh *weigh, void *arg, size_t n,
                              size_t *left, struct err *e)
{
    const struct scratch *s = &t->s;
    size_t C = t->model->config.dim, V = t->model->config.vocab, to = 0;

    for (size_t i = 0; i < n; i++) {
        float w = weigh(arg, t->index[i], s->logp[i]);

        if (!isfinite(w))
            return err_set(e, ERR_NUMERIC, "row %zu: its loss weight is not finite",
                           t->index[i]);
        if (w == 0.0f)
            continue;
        if (to < i) {
            memcpy(s->logits + to * V, s->logits + i * V, V * sizeof(float));
            memcpy(s->rows + to * C, s->rows + i * C, C * sizeof(float));
            t->tokens[to] = t->tokens[i];
            t->index[to] = t->index[i];
        }
        s->weight[to++] = w;
    }
    *left = to;
    return OK;
}

/* The head's gradient over the n rows at hand, block by block: in bf16-1 the sums go by blocks of
 * a sequence's positions, and rows without loss have no place in them. */
static void head_grad(const struct train *t, float *grad, size_t n)
{
    const struct model *m = t->model;
    size_t lengths[LOGITS_ROWS], n_blocks = 0;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || block_of(t, t->index[i]) != block_of(t, t->index[i - 1]))
            lengths[n_blocks++] = 0;
        lengths[n_blocks - 1]++;
    }
    matmul_dw_seqs(m->kernels, m->pool, grad, t->s.logits, t->s.rows, lengths, n_blocks,
                   m->config.vocab, m->config.dim);
}

/* The gradient of the n rows at hand: the head's, and that of their hidden states into s.dh. */
static void gathered_backward(struct train *t, float temperature, size_t n)
{
    const struct model *m = t->model;
    const struct kernels *k = m->kernels;
    const struct scratch *s = &t->s;
    size_t C = m->config.dim, V = m->config.vocab;
    float *grad = t->head_grad ? t->head_grad : t->grads->head;

    if (n == 0)
        return;
    logprob_backward(k, m->pool, s->logits, s->weight, s->logits, t->tokens, temperature, n, V);
    head_grad(t, grad, n);
    matmul_dx(k, m->pool, s->drows, s->logits, m->w->head ? m->w->head : m->w->embed, n, V, C);
    for (size_t i = 0; i < n; i++)
        memcpy(s->dh + t->index[i] * C, s->drows + i * C, C * sizeof(float));
}

/* x_out = x_mid + down(swiglu(gate(h2), up(h2))), h2 = rmsnorm(x_mid): s.dx in place. gate and up
 * become their gradients. */
static void mlp_backward(struct train *t, const struct train_batch *b, size_t layer)
{
    const struct model *m = t->model;
    const struct kernels *k = m->kernels;
    const struct weights_layer *w = &m->w->layers[layer], *g = &t->grads->layers[layer];
    const struct layer_acts *a = &t->acts[layer];
    const struct scratch *s = &t->s;
    size_t T = b->rows, C = m->config.dim, F = m->config.ffn;

    swiglu_forward(k, m->pool, s->act, a->gate, a->up, T * F);
    matmul_dw_seqs(k, m->pool, g->down, s->dx, s->act, b->lengths, b->n_seqs, C, F);
    matmul_dx(k, m->pool, s->act, s->dx, w->down, T, C, F);
    swiglu_backward(k, m->pool, a->gate, a->up, s->act, a->gate, a->up, T * F);
    rmsnorm_forward(k, s->h, a->x_mid, w->post_norm, T, C, m->config.norm_eps);
    matmul_dw_seqs(k, m->pool, g->gate, a->gate, s->h, b->lengths, b->n_seqs, F, C);
    matmul_dw_seqs(k, m->pool, g->up, a->up, s->h, b->lengths, b->n_seqs, F, C);
    matmul_dx(k, m->pool, s->dh, a->gate, w->gate, T, F, C);
    matmul_dx_add(k, m->pool, s->dh, a->up, w->up, T, F, C);
    rmsnorm_backward(k, s->dx, g->post_norm, s->dh, a->x_mid, w->post_norm, T, C,
                     m->config.norm_eps);
}

/* s.datt to s.dq, s.dk, s.dv: attention, then RoPE. */
static void attend_backward(struct train *t, const struct train_batch *b,
                            const struct layer_acts *a)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;
    struct attention_shape shape = layer_attention_shape(m);
    const struct scratch *s = &t->s;
    size_t row = 0;

    for (size_t i = 0; i < b->n_seqs; i++) {
        t->parts[i] = (struct attention_grad){
            .dq = s->dq + row * shape.q_stride,
            .dk = s->dk + row * shape.k_stride,
            .dv = s->dv + row * shape.v_stride,
            .dout = s->datt + row * shape.out_stride,
            .out = a->att + row * shape.out_stride,
            .lse = a->lse + row * shape.H,
            .q = a->q + row * shape.q_stride,
            .k = a->k + row * shape.k_stride,
            .v = a->v + row * shape.v_stride,
            .n = b->lengths[i],
        };
        row += b->lengths[i];
    }
    attention_backward(m->kernels, m->pool, t->parts, b->n_seqs, &shape);
    rope_backward(m->kernels, s->dq, m->cos, m->sin, t->pos, b->rows, c->heads, c->head_dim);
    rope_backward(m->kernels, s->dk, m->cos, m->sin, t->pos, b->rows, c->kv_heads, c->head_dim);
}

/* The gradient of one projection of h1: its weights, its bias if it has one. */
static void project_backward(const struct train *t, const struct train_batch *b, float *dw,
                             float *dbias, const float *dy, size_t N)
{
    const struct model *m = t->model;

    matmul_dw_seqs(m->kernels, m->pool, dw, dy, t->s.h, b->lengths, b->n_seqs, N,
                   m->config.dim);
    if (dbias)
        bias_backward(m->kernels, dbias, dy, b->rows, N);
}

/* x_mid = x_in + o(attention(q(h1), k(h1), v(h1))), h1 = rmsnorm(x_in): s.dx in place. */
static void attention_block_backward(struct train *t, const struct train_batch *b, size_t layer)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;
    const struct kernels *k = m->kernels;
    const struct weights_layer *w = &m->w->layers[layer], *g = &t->grads->layers[layer];
    const struct layer_acts *a = &t->acts[layer];
    const struct scratch *s = &t->s;
    size_t T = b->rows, C = c->dim, D = c->head_dim, Q = c->heads * D, K = c->kv_heads * D;
    const float *dq = s->dq, *dk = s->dk;

    if (g->o_bias)
        bias_backward(k, g->o_bias, s->dx, T, C);
    matmul_dw_seqs(k, m->pool, g->o, s->dx, a->att, b->lengths, b->n_seqs, C, Q);
    matmul_dx(k, m->pool, s->datt, s->dx, w->o, T, C, Q);
    attend_backward(t, b, a);
    if (c->qk_norm) {
        memset(s->datt, 0, T * Q * sizeof(float));
        memset(s->dk_raw, 0, T * K * sizeof(float));
        rmsnorm_backward(k, s->datt, g->q_norm, s->dq, a->q_raw, w->q_norm, T * c->heads, D,
                         c->norm_eps);
        rmsnorm_backward(k, s->dk_raw, g->k_norm, s->dk, a->k_raw, w->k_norm, T * c->kv_heads,
                         D, c->norm_eps);
        dq = s->datt;
        dk = s->dk_raw;
    }
    rmsnorm_forward(k, s->h, a->x_in, w->input_norm, T, C, c->norm_eps);
    project_backward(t, b, g->q, g->q_bias, dq, Q);
    project_backward(t, b, g->k, g->k_bias, dk, K);
    project_backward(t, b, g->v, g->v_bias, s->dv, K);
    matmul_dx(k, m->pool, s->dh, dq, w->q, T, Q, C);
    matmul_dx_add(k, m->pool, s->dh, dk, w->k, T, K, C);
    matmul_dx_add(k, m->pool, s->dh, s->dv, w->v, T, K, C);
    rmsnorm_backward(k, s->dx, g->input_norm, s->dh, a->x_in, w->input_norm, T, C, c->norm_eps);
}

/* From s.dh, the gradient of `hidden`, to the embedding. */
static void body_backward(struct train *t, const struct train_batch *b)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;

    memset(t->s.dx, 0, b->rows * c->dim * sizeof(float));
    rmsnorm_backward(m->kernels, t->s.dx, t->grads->norm, t->s.dh, t->last, m->w->norm, b->rows,
                     c->dim, c->norm_eps);
    for (size_t i = c->layers; i-- > 0;) {
        if (t->recompute && i + 1 < c->layers) /* the last one's activations are still there */
            layer_forward(t, b, i);
        mlp_backward(t, b, i);
        attention_block_backward(t, b, i);
    }
    embed_backward(m->kernels, t->grads->embed, t->s.dx, b->tokens, b->rows, c->dim);
}

float train_weigh_known(void *arg, size_t row, float logp)
{
    (void)logp;
    return ((const float *)arg)[row];
}

enum status train_gradients(struct train *t, const struct train_batch *b, train_weigh *weigh,
                            void *arg, float *logp, struct err *e)
{
    size_t at = 0, n, left = 0;
    enum status st = begin(t, b, e);

    if (st)
        return st;
    body_forward(t, b);
    memset(logp, 0, b->rows * sizeof(logp[0]));
    memset(t->s.dh, 0, b->rows * t->model->config.dim * sizeof(float));
    while ((n = gather(t, b, &at)) > 0) {
        st = gathered_logp(t, b, logp, n, e);
        if (!st)
            st = weigh_rows(t, weigh, arg, n, &left, e);
        if (st)
            return st;
        gathered_backward(t, b->temperature, left);
    }
    body_backward(t, b);
    return OK;
}
