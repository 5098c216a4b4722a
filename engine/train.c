#include "engine/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/attend.h"
#include "engine/cpu/table.h"
#include "engine/layer.h"

/* Logits exist for a few rows at a time: about this many numbers, and never less than a block. A
 * chunk should be large, for the head's weights and their gradient pass through memory with each. */
#define LOGITS_CHUNK (1u << 23)
#define LOGITS_ROWS  256u
#define DEVICE_CHUNK (1u << 27) /* a GPU has room, and wants more to do at once */
#define DEVICE_ROWS  2048u
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

/* Of a batch, addresses for operations. */
struct batch_there {
    const int32_t *tokens, *pos;
    const uint32_t *order, *start; /* rows by token (engine/device_ops.h), of a device */
    size_t n_ids;
};

/* All numbers but those of `host_grads`, `logp` and `index` are where the model computes. */
struct train {
    struct model *model;        /* owned */
    struct device *device;      /* the model's */
    struct weights *weights;    /* owned: what a model on a device reads; NULL on the CPU */
    struct weights *grads;      /* owned */
    struct weights *host_grads; /* owned: a copy of a device's, once somebody asked for it */
    struct weights *masters; /* owned, on a device: the optimizer's, from the first update on */
    struct adamw *optimizer; /* owned, likewise */
    float *head_grad;        /* owned, (V, C); NULL unless tied */
    size_t max_rows, logits_rows;
    bool recompute, is_pass;

    void *pass;              /* owned: where is_pass, what a class keeps of the layers */
    float *floats;           /* owned: what the fields below point into */
    struct layer_acts *acts; /* owned, one a layer */
    float *hidden;           /* (T, C) */
    float *last;             /* (T, C): the stream after the last layer */
    struct scratch s;

    struct attend attend;
    struct stage call, chunk; /* what operations read of a batch, and of the rows at hand */
    struct batch_there there;
    const int32_t *pos;       /* (T), in `call` */
    int32_t *tokens;          /* owned, (R): targets of the rows at hand */
    const int32_t *tokens_at; /* the same, for operations */
    uint32_t *index;          /* owned, (R): which rows they are */
    const uint32_t *index_at;
    float *logp, *weight; /* owned, (R): the host's */
    uint64_t *sorted;     /* owned, (T): rows by token, of a device */
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
    if (t->is_pass) { /* between input and output everything is in t->pass */
        if (t->acts)
            t->acts[0].x_in = x;
        t->last = carve_take(&at, T * c->dim);
        return at.n;
    }
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

static size_t logits_rows(const struct model_config *c, const struct kernels *k,
                          size_t max_rows)
{
    const bool is_device = k && k->device;
    size_t rows = (is_device ? DEVICE_CHUNK : LOGITS_CHUNK) / c->vocab;
    const size_t most = is_device ? DEVICE_ROWS : LOGITS_ROWS;

    if (rows < LOGITS_BLOCK)
        rows = LOGITS_BLOCK;
    if (rows > most)
        rows = most;
    return rows < max_rows ? rows : max_rows;
}

/* Scratch of a class of a device that passes through all layers itself. */
static uint64_t pass_bytes(const struct model_config *c, const struct kernels *k, size_t rows,
                           bool recompute)
{
    return k && k->device && k->ops->train_pass_bytes
               ? k->ops->train_pass_bytes(c, rows, recompute)
               : 0;
}

uint64_t train_bytes(const struct model_config *c, const struct kernels *k, size_t max_rows,
                     bool recompute)
{
    const bool is_pass = pass_bytes(c, k, 1, recompute) > 0;
    struct train counted = {.recompute = recompute, .is_pass = is_pass};
    uint64_t table = (uint64_t)c->vocab * c->dim, copies = k && k->device ? 5 : 1;

    if (max_rows > 1u << 24)
        return UINT64_MAX;
    return model_bytes(c, k, 0) +
           (copies * model_config_params(c) + (c->tie ? table : 0)) * sizeof(float) +
           carve_all(&counted, (struct carve){0}, c, max_rows, logits_rows(c, k, max_rows)) *
               sizeof(float) +
           pass_bytes(c, k, max_rows, recompute) + attend_room(max_rows) +
           max_rows * sizeof(int32_t);
}

static enum status init_arrays(struct train *t, const struct model_config *c, struct err *e)
{
    uint64_t floats = carve_all(t, (struct carve){0}, c, t->max_rows, t->logits_rows);
    const size_t R = t->logits_rows;
    void *data = NULL, *head = NULL;
    uint64_t pass = pass_bytes(c, t->model->kernels, t->max_rows, t->recompute);
    enum status st = OK;

    t->acts = xcalloc(c->layers, sizeof(t->acts[0]));
    t->tokens = xcalloc(R, sizeof(t->tokens[0]));
    t->index = xcalloc(R, sizeof(t->index[0]));
    t->logp = xcalloc(R, sizeof(t->logp[0]));
    t->weight = xcalloc(R, sizeof(t->weight[0]));
    if (c->tie)
        st = device_alloc(t->device, &head, (uint64_t)c->vocab * c->dim * sizeof(float),
                          "gradient of the head", e);
    t->head_grad = head;
    if (!st)
        st = device_alloc(t->device, &data, floats * sizeof(float), "activations", e);
    t->floats = data;
    if (!st && pass > 0)
        st = device_alloc(t->device, &t->pass, pass, "activations", e);
    if (!st)
        st = attend_init(&t->attend, t->max_rows, e);
    if (!st && t->device)
        st = alloc_array(&t->sorted, t->max_rows, sizeof(t->sorted[0]), "rows by token", e);
    if (!st)
        carve_all(t, (struct carve){.base = t->floats}, c, t->max_rows, t->logits_rows);
    return st;
}

enum status train_new(struct train **out, const struct weights *w,
                      const struct train_options *opt, struct err *e)
{
    uint64_t bytes = train_bytes(&w->config, opt->kernels, opt->max_rows, opt->recompute);
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
    t->is_pass = pass_bytes(&w->config, opt->kernels, 1, opt->recompute) > 0;
    t->device = opt->kernels ? kernels_device(opt->kernels) : NULL;
    t->call.device = t->chunk.device = t->device;
    t->logits_rows = logits_rows(&w->config, opt->kernels, opt->max_rows);
    st = t->device ? weights_new_on(&t->weights, &w->config, t->device, e) : OK;
    if (!st && t->device)
        weights_copy(t->weights, w);
    if (!st)
        st = model_new(&t->model, t->device ? t->weights : w, &mopt, e);
    if (!st)
        st = weights_new_on(&t->grads, &w->config, t->device, e);
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
    weights_free(&t->weights);
    weights_free(&t->grads);
    weights_free(&t->host_grads);
    weights_free(&t->masters);
    adamw_free(&t->optimizer);
    device_release(t->device, t->head_grad);
    device_release(t->device, t->floats);
    device_release(t->device, t->pass);
    attend_clear(&t->attend);
    stage_clear(&t->call);
    stage_clear(&t->chunk);
    free(t->acts);
    free(t->tokens);
    free(t->index);
    free(t->logp);
    free(t->weight);
    free(t->sorted);
    free(t);
    *p = NULL;
}

struct model *train_model(struct train *t)
{
    return t->model;
}

enum status train_reload(struct train *t, const struct weights *w, struct err *e)
{
    if (!t->device)
        return model_reload(t->model, w, e);
    weights_copy(t->weights, w);
    return model_reload(t->model, t->weights, e);
}

enum status train_grads(struct weights **out, struct train *t, struct err *e)
{
    enum status st = OK;

    *out = t->grads;
    if (!t->device)
        return OK;
    *out = NULL;
    if (!t->host_grads)
        st = weights_new(&t->host_grads, &t->grads->config, e);
    if (st)
        return st;
    weights_copy(t->host_grads, t->grads);
    st = device_wait(t->device, e);
    if (!st)
        *out = t->host_grads;
    return st;
}

/* The optimizer's arrays on the device, as `a` and `masters` have them. */
static enum status move_optimizer(struct train *t, const struct adamw *a,
                                  const struct weights *masters, struct err *e)
{
    enum status st;

    if (t->optimizer)
        return OK;
    st = adamw_new_on(&t->optimizer, &masters->config, t->device, e);
    if (!st)
        st = weights_new_on(&t->masters, &masters->config, t->device, e);
    if (st)
        return st;
    weights_copy(t->optimizer->m, a->m);
    weights_copy(t->optimizer->v, a->v);
    weights_copy(t->masters, masters);
    t->optimizer->step = a->step;
    return OK;
}

enum status train_update(struct train *t, struct adamw *a, struct weights *masters,
                         const struct adamw_settings *s, struct adamw_report *report,
                         struct err *e)
{
    const struct kernels *k = t->model->kernels;
    enum status st;

    if (!t->device)
        return adamw_step(a, masters, t->grads, s, k, t->model->pool, report, e);
    st = move_optimizer(t, a, masters, e);
    if (!st)
        st = adamw_step(t->optimizer, t->masters, t->grads, s, k, NULL, report, e);
    if (t->optimizer)
        a->step = t->optimizer->step;
    return st;
}

enum status train_fetch(const struct train *t, struct adamw *a, struct weights *masters,
                        struct err *e)
{
    if (!t->optimizer)
        return OK;
    weights_copy(masters, t->masters);
    weights_copy(a->m, t->optimizer->m);
    weights_copy(a->v, t->optimizer->v);
    return device_wait(t->device, e);
}

enum status train_publish(struct train *t, const struct weights *w, struct err *e)
{
    if (!t->masters)
        return train_reload(t, w, e);
    if (t->masters->config.dtype == DTYPE_BF16)
        t->model->kernels->ops->round_bf16(t->device, t->weights->data, t->masters->data,
                                           t->masters->n_data);
    else
        weights_copy(t->weights, t->masters);
    return model_reload(t->model, t->weights, e);
}

struct weights *train_grads_there(struct train *t)
{
    return t->grads;
}

void train_grads_set(struct train *t, const struct weights *grads)
{
    if (grads != t->grads)
        weights_copy(t->grads, grads);
}

void train_zero(struct train *t)
{
    const struct model_config *c = &t->model->config;

    weights_zero(t->grads);
    if (t->head_grad)
        device_zero(t->device, t->head_grad, (size_t)c->vocab * c->dim * sizeof(float));
}

void train_finish(struct train *t)
{
    const struct model_config *c = &t->model->config;
    size_t n = (size_t)c->vocab * c->dim;

    if (!t->head_grad)
        return;
    add_forward(t->model->kernels, t->grads->embed, t->grads->embed, t->head_grad, n);
    device_zero(t->device, t->head_grad, n * sizeof(float));
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

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What a device needs to add rows to an embedding's gradient without two that write the same. */
static void stage_order(struct train *t, const struct train_batch *b)
{
    const void *there;
    uint32_t *order = stage_take(&t->call, b->rows * sizeof(*order), &there);
    uint32_t *start;

    t->there.order = there;
    start = stage_take(&t->call, (b->rows + 1) * sizeof(*start), &there);
    t->there.start = there;
    t->there.n_ids = 0;
    for (size_t r = 0; r < b->rows; r++)
        t->sorted[r] = (uint64_t)b->tokens[r] << 32 | r;
    qsort(t->sorted, b->rows, sizeof(t->sorted[0]), by_value);
    for (size_t i = 0; i < b->rows; i++) {
        order[i] = (uint32_t)t->sorted[i];
        if (i == 0 || t->sorted[i] >> 32 != t->sorted[i - 1] >> 32)
            start[t->there.n_ids++] = (uint32_t)i;
    }
    start[t->there.n_ids] = (uint32_t)b->rows;
}

static enum status stage_batch(struct train *t, const struct train_batch *b, struct err *e)
{
    const size_t bytes = b->rows * sizeof(int32_t);
    const void *there;
    enum status st;
    int32_t *pos;

    attend_reset(&t->attend);
    for (size_t i = 0; i < b->n_seqs; i++)
        attend_add(&t->attend, b->lengths[i], 0, NULL);
    st = stage_begin(&t->call,
                     4 * stage_bytes(bytes + sizeof(int32_t)) +
                         attend_bytes(&t->attend, t->model->kernels),
                     e);
    if (st)
        return st;
    t->pos = pos = stage_take(&t->call, bytes, &there);
    t->there.pos = there;
    for (size_t i = 0; i < b->n_seqs; i++)
        for (size_t j = 0; j < b->lengths[i]; j++)
            *pos++ = (int32_t)j;
    t->there.tokens = b->tokens;
    if (t->device) {
        memcpy(stage_take(&t->call, bytes, &there), b->tokens, bytes);
        t->there.tokens = there;
        stage_order(t, b);
    }
    attend_stage(&t->attend, t->model->kernels, &t->call);
    stage_send(&t->call);
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
    st = model_rope(t->model, n_pos, e);
    return st ? st : stage_batch(t, b, e);
}

static void layer_forward(struct train *t, const struct train_batch *b, size_t layer)
{
    const struct layer_acts *a = &t->acts[layer];

    layer_before_attention(t->model, layer, a, t->there.pos, b->rows);
    attend_forward(&t->attend, t->model, a, 0);
    layer_after_attention(t->model, layer, a, b->rows);
}

static struct device_train_pass whole_pass(const struct train *t)
{
    const struct model *m = t->model;

    return (struct device_train_pass){
        .p = {.config = &m->config,
              .packed = m->layers,
              .w = m->w->layers,
              .x = t->acts[0].x_in,
              .scratch = t->pass,
              .cos = m->cos,
              .sin = m->sin,
              .runs = t->attend.runs,
              .n_runs = t->attend.n,
              .rows = t->attend.rows,
              .max_n = t->attend.max_n,
              .max_len = t->attend.max_len},
        .grads = t->grads->layers,
        .out = t->last,
        .dx = t->s.dx,
        .recompute = t->recompute,
    };
}

/* From the tokens to `hidden`. */
static void body_forward(struct train *t, const struct train_batch *b)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;

    embed_forward(m->kernels, t->acts[0].x_in, m->w->embed, t->there.tokens, b->rows, c->dim);
    if (t->is_pass) {
        const struct device_train_pass p = whole_pass(t);
        m->kernels->ops->train_pass_forward(t->device, &p);
    }
    for (size_t i = 0; !t->is_pass && i < c->layers; i++)
        layer_forward(t, b, i);
    rmsnorm_forward(m->kernels, t->hidden, t->last, m->w->norm, b->rows, c->dim, c->norm_eps);
}

/* The first row of the block that row r lies in, as a name for it. */
static size_t block_of(const struct train *t, size_t r)
{
    return r - (size_t)t->pos[r] % LOGITS_BLOCK;
}

/* Tells operations which rows are at hand, and their targets. */
static enum status stage_rows(struct train *t, size_t n, struct err *e)
{
    const void *there;
    enum status st;

    t->tokens_at = t->tokens;
    t->index_at = t->index;
    if (!t->device)
        return OK;
    st = stage_begin(&t->chunk, 2 * stage_bytes(n * sizeof(t->tokens[0])), e);
    if (st)
        return st;
    memcpy(stage_take(&t->chunk, n * sizeof(t->tokens[0]), &there), t->tokens,
           n * sizeof(t->tokens[0]));
    t->tokens_at = there;
    memcpy(stage_take(&t->chunk, n * sizeof(t->index[0]), &there), t->index,
           n * sizeof(t->index[0]));
    t->index_at = there;
    stage_send(&t->chunk);
    return OK;
}

/* Collects the next rows from *at on that have a target: their hidden states into s.rows, their
 * logits into s.logits. *found: how many. */
static enum status gather(struct train *t, const struct train_batch *b, size_t *at,
                          size_t *found, struct err *e)
{
    const struct model *m = t->model;
    size_t C = m->config.dim, n = 0;
    enum status st;

    for (; *at < b->rows && n < t->logits_rows; (*at)++) {
        if (b->targets[*at] < 0)
            continue;
        if (n > 0 && n + LOGITS_BLOCK > t->logits_rows && t->logits_rows < b->rows &&
            block_of(t, *at) != block_of(t, t->index[n - 1]))
            break;
        t->tokens[n] = b->targets[*at];
        t->index[n++] = (uint32_t)*at;
    }
    *found = n;
    st = n > 0 ? stage_rows(t, n, e) : OK;
    if (n == 0 || st)
        return st;
    gather_rows(m->kernels, t->s.rows, t->hidden, t->index_at, n, C);
    matmul_forward(m->kernels, m->pool, t->s.logits, t->s.rows, &m->head, NULL, n);
    return OK;
}

/* The log-probabilities of the n rows at hand, to their places in logp. */
static enum status gathered_logp(struct train *t, const struct train_batch *b, float *logp,
                                 size_t n, struct err *e)
{
    const struct model *m = t->model;
    enum status st;

    logprob_forward(m->kernels, m->pool, t->s.logp, t->s.logits, t->tokens_at, b->temperature,
                    n, m->config.vocab);
    device_get(t->device, t->logp, t->s.logp, n * sizeof(t->logp[0]));
    st = device_wait(t->device, e);
    for (size_t i = 0; !st && i < n; i++) {
        logp[t->index[i]] = t->logp[i];
        if (!isfinite(t->logp[i]))
            st = err_set(e, ERR_NUMERIC, "row %" PRIu32 ": its log-probability is not finite",
                         t->index[i]);
    }
    return st;
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
    do {
        st = gather(t, b, &at, &n, e);
        if (!st && n > 0)
            st = gathered_logp(t, b, logp, n, e);
    } while (!st && n > 0);
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
        float w = weigh(arg, t->index[i], t->logp[i]);

        if (!isfinite(w))
            return err_set(e, ERR_NUMERIC, "row %" PRIu32 ": its loss weight is not finite",
                           t->index[i]);
        if (w == 0.0f)
            continue;
        if (to < i) {
            device_copy(t->device, s->logits + to * V, s->logits + i * V, V * sizeof(float));
            device_copy(t->device, s->rows + to * C, s->rows + i * C, C * sizeof(float));
            t->tokens[to] = t->tokens[i];
            t->index[to] = t->index[i];
        }
        t->weight[to++] = w;
    }
    *left = to;
    device_put(t->device, s->weight, t->weight, to * sizeof(t->weight[0]));
    return to > 0 && to < n ? stage_rows(t, to, e) : OK;
}

/* The head's gradient over the n rows at hand, block by block: in bf16-1 the sums go by blocks of
 * a sequence's positions, and rows without loss have no place in them. */
static void head_grad(const struct train *t, float *grad, size_t n)
{
    const struct model *m = t->model;
    size_t lengths[DEVICE_ROWS], n_blocks = 0;

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
    logprob_backward(k, m->pool, s->logits, s->weight, s->logits, t->tokens_at, temperature, n,
                     V);
    head_grad(t, grad, n);
    matmul_dx(k, m->pool, s->drows, s->logits, m->w->head ? m->w->head : m->w->embed, n, V, C);
    scatter_rows(k, s->dh, s->drows, t->index_at, n, C);
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
static void attend_grad(struct train *t, const struct train_batch *b,
                        const struct layer_acts *a)
{
    const struct model *m = t->model;
    const struct model_config *c = &m->config;
    const struct scratch *s = &t->s;
    const struct attention_grad g = {
        .dq = s->dq,
        .dk = s->dk,
        .dv = s->dv,
        .dout = s->datt,
        .out = a->att,
        .lse = a->lse,
        .q = a->q,
        .k = a->k,
        .v = a->v,
    };

    attend_backward(&t->attend, m, &g);
    rope_backward(m->kernels, s->dq, m->cos, m->sin, t->there.pos, b->rows, c->heads,
                  c->head_dim);
    rope_backward(m->kernels, s->dk, m->cos, m->sin, t->there.pos, b->rows, c->kv_heads,
                  c->head_dim);
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
    attend_grad(t, b, a);
    if (c->qk_norm) {
        device_zero(t->device, s->datt, T * Q * sizeof(float));
        device_zero(t->device, s->dk_raw, T * K * sizeof(float));
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

    device_zero(t->device, t->s.dx, b->rows * c->dim * sizeof(float));
    rmsnorm_backward(m->kernels, t->s.dx, t->grads->norm, t->s.dh, t->last, m->w->norm, b->rows,
                     c->dim, c->norm_eps);
    if (t->is_pass) {
        const struct device_train_pass p = whole_pass(t);
        m->kernels->ops->train_pass_backward(t->device, &p);
    }
    for (size_t i = t->is_pass ? 0 : c->layers; i-- > 0;) {
        if (t->recompute && i + 1 < c->layers) /* the last one's activations are still there */
            layer_forward(t, b, i);
        mlp_backward(t, b, i);
        attention_block_backward(t, b, i);
    }
    if (t->device)
        m->kernels->ops->embed_backward(t->device, t->grads->embed, t->s.dx, t->there.tokens,
                                        t->there.order, t->there.start, t->there.n_ids, c->dim);
    else
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
    device_zero(t->device, t->s.dh, b->rows * t->model->config.dim * sizeof(float));
    for (;;) {
        st = gather(t, b, &at, &n, e);
        if (!st && n == 0)
            break;
        if (!st)
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
