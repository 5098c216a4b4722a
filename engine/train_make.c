#include "engine/train_inside.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

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

/* ---- the embedding's gradient apart from the head's ------------------------------------------ */

static enum status apart_init(struct apart *a, struct device *d, const struct model_config *c,
                              struct err *e)
{
    const uint64_t bytes = (uint64_t)c->vocab * c->dim * sizeof(float);
    void *at = NULL;
    enum status st;

    if (d) {
        st = device_alloc(d, &at, bytes, "gradient of the embedding", e);
        a->at = at;
        return st;
    }
    if (bytes < SIZE_MAX)
        at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!at || at == MAP_FAILED)
        return err_set(e, ERR_NO_MEMORY, "no room for a gradient of %" PRIu64 " bytes", bytes);
    a->at = at;
    a->bytes = (size_t)bytes;
    (void)madvise(at, a->bytes, MADV_NOHUGEPAGE); /* its rows lie far apart */
    return alloc_array(&a->has_row, c->vocab, sizeof(a->has_row[0]), "rows of a gradient", e);
}

static void apart_clear(struct apart *a, struct device *d)
{
    if (a->bytes > 0)
        munmap(a->at, a->bytes);
    else
        device_release(d, a->at);
    free(a->has_row);
    memset(a, 0, sizeof(*a));
}

/* +0 everywhere; the host gives the pages back. */
static void apart_zero(struct apart *a, struct device *d, const struct model_config *c)
{
    if (!a->at)
        return;
    if (a->bytes == 0) {
        device_zero(d, a->at, (size_t)c->vocab * c->dim * sizeof(float));
        return;
    }
    if (madvise(a->at, a->bytes, MADV_DONTNEED) != 0)
        memset(a->at, 0, a->bytes);
    memset(a->has_row, 0, c->vocab * sizeof(a->has_row[0]));
}

/* table = this + table. A row that nobody wrote is +0, and is added too: it makes a +0 of a -0. */
static void apart_add(const struct apart *a, const struct kernels *k, float *table,
                      const struct model_config *c)
{
    const size_t C = c->dim;

    if (a->bytes == 0) {
        add_forward(k, table, a->at, table, (size_t)c->vocab * C);
        return;
    }
    for (size_t v = 0; v < c->vocab; v++) {
        float *row = table + v * C;

        if (a->has_row[v])
            k->add(row, a->at + v * C, row, C);
        else
            for (size_t i = 0; i < C; i++)
                row[i] += 0.0f;
    }
}

/* ---- making ---------------------------------------------------------------------------------- */

static enum status init_arrays(struct train *t, const struct model_config *c, struct err *e)
{
    uint64_t floats = carve_all(t, (struct carve){0}, c, t->max_rows, t->logits_rows);
    const size_t R = t->logits_rows;
    void *data = NULL;
    uint64_t pass = pass_bytes(c, t->model->kernels, t->max_rows, t->recompute);
    enum status st = OK;

    t->acts = xcalloc(c->layers, sizeof(t->acts[0]));
    t->tokens = xcalloc(R, sizeof(t->tokens[0]));
    t->index = xcalloc(R, sizeof(t->index[0]));
    t->logp = xcalloc(R, sizeof(t->logp[0]));
    t->weight = xcalloc(R, sizeof(t->weight[0]));
    t->inv = xcalloc(R, sizeof(t->inv[0]));
    if (c->tie)
        st = apart_init(&t->apart, t->device, c, e);
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
    apart_clear(&t->apart, t->device);
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
    free(t->inv);
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

void train_forget_optimizer(struct train *t)
{
    adamw_free(&t->optimizer);
    weights_free(&t->masters);
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
    weights_zero(t->grads);
    apart_zero(&t->apart, t->device, &t->model->config);
}

void train_finish(struct train *t)
{
    const struct model_config *c = &t->model->config;

    if (!t->apart.at)
        return;
    apart_add(&t->apart, t->model->kernels, t->grads->embed, c);
    apart_zero(&t->apart, t->device, c);
}
