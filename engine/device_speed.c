#include "engine/device_speed.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/layer.h"
#include "engine/model.h"

#define RANDOM_BYTES ((size_t)1 << 24) /* made by the host; the rest are copies of them */
#define LOGITS_ROWS  2048u
#define WARM_STEPS   4u
#define REPEATS      8u

enum { MATRICES = 7 };

struct device_speed {
    struct device *d;
    const struct device_ops *ops;
    struct model_config c;
    struct model_layer *packed;      /* owned, (layers) */
    struct weights_layer *w, *grads; /* owned, (layers) */
    struct packed head;              /* the embedding as well */
    void *arena;                     /* owned, the device's: packed matrices */
    float *vectors;                  /* owned, likewise: norms and biases, all alike */
    float *masters, *m, *v, *g;      /* owned, likewise: (params) */
    float *head_grad, *embed_grad;   /* within g */
    float *norm_grad;
    size_t params;
    /* Of a timed call, released after it. */
    void *own[24];
    size_t n_own;
    struct err error; /* of the first allocation that failed */
};

/* ---- making ---------------------------------------------------------------------------------- */

static void matrix_shapes(const struct model_config *c, size_t shape[MATRICES][2])
{
    const size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;
    const size_t all[MATRICES][2] = {{q, c->dim},     {kv, c->dim},     {kv, c->dim},
                                     {c->dim, q},     {c->ffn, c->dim}, {c->ffn, c->dim},
                                     {c->dim, c->ffn}};
    memcpy(shape, all, sizeof(all));
}

static size_t layer_numbers(const struct model_config *c)
{
    size_t shape[MATRICES][2], n = 0;

    matrix_shapes(c, shape);
    for (size_t i = 0; i < MATRICES; i++)
        n += shape[i][0] * shape[i][1];
    return n;
}

static size_t vector_numbers(const struct model_config *c)
{
    size_t n = c->dim, q = (size_t)c->heads * c->head_dim;

    return n > q ? n : q;
}

/* Small bf16 numbers, as often as they fit; as f32 where is_wide. */
static enum status fill(const struct device_speed *s, void *to, size_t bytes, bool is_wide,
                        struct err *e)
{
    uint16_t *x = xcalloc(RANDOM_BYTES, 1);
    struct rng r = rng_of(7, 7);

    for (size_t i = 0; i < RANDOM_BYTES / sizeof(x[0]); i++) {
        const float y = 0.04f * (rng_f32(&r) - 0.5f);
        uint32_t bits;

        memcpy(&bits, &y, sizeof(bits));
        x[i] = (uint16_t)(bits >> 16);
        if (is_wide) /* the upper half of an f32: every second one */
            x[i] = i % 2 == 1 ? x[i] : 0;
    }
    for (size_t at = 0; at < bytes; at += RANDOM_BYTES) {
        const size_t n = bytes - at < RANDOM_BYTES ? bytes - at : RANDOM_BYTES;

        if (at == 0)
            device_put(s->d, to, x, n);
        else
            device_copy(s->d, (uint8_t *)to + at, to, n);
    }
    free(x);
    return device_wait(s->d, e);
}

static void place_layers(struct device_speed *s)
{
    uint16_t *at = s->arena;
    size_t shape[MATRICES][2];

    matrix_shapes(&s->c, shape);
    for (size_t i = 0; i < s->c.layers; i++) {
        struct model_layer *l = &s->packed[i];
        struct packed *const all[MATRICES] = {&l->q,    &l->k,  &l->v,   &l->o,
                                              &l->gate, &l->up, &l->down};

        for (size_t j = 0; j < MATRICES; j++) {
            packed_place(all[j], shape[j][0], shape[j][1], DTYPE_BF16, at);
            at += shape[j][0] * shape[j][1];
        }
        s->w[i].input_norm = s->w[i].post_norm = s->vectors;
        if (s->c.qkv_bias)
            s->w[i].q_bias = s->w[i].k_bias = s->w[i].v_bias = s->vectors;
    }
    packed_place(&s->head, s->c.vocab, s->c.dim, DTYPE_BF16, at);
}

/* Points the gradients into s->g. */
static void place_grads(struct device_speed *s)
{
    float *at = s->g;
    size_t shape[MATRICES][2];
    const size_t table = (size_t)s->c.vocab * s->c.dim;

    matrix_shapes(&s->c, shape);
    for (size_t i = 0; i < s->c.layers; i++) {
        struct weights_layer *g = &s->grads[i];
        float **const all[MATRICES] = {&g->q, &g->k, &g->v, &g->o, &g->gate, &g->up, &g->down};

        for (size_t j = 0; j < MATRICES; j++) {
            *all[j] = at;
            at += shape[j][0] * shape[j][1];
        }
        g->input_norm = g->post_norm = at;
        if (s->c.qkv_bias)
            g->q_bias = g->k_bias = g->v_bias = at;
        at += vector_numbers(&s->c);
    }
    s->norm_grad = at;
    s->head_grad = at + vector_numbers(&s->c);
    s->embed_grad = s->head_grad + table;
}

static enum status make_trained(struct device_speed *s, struct err *e)
{
    float **const all[] = {&s->masters, &s->m, &s->v, &s->g};
    enum status st = OK;

    s->params = s->c.layers * (layer_numbers(&s->c) + vector_numbers(&s->c)) +
                vector_numbers(&s->c) + 2 * (size_t)s->c.vocab * s->c.dim;
    for (size_t i = 0; !st && i < 4; i++) {
        void *at;

        st = device_alloc(s->d, &at, s->params * sizeof(float), "parameters", e);
        *all[i] = at;
    }
    if (!st)
        st = fill(s, s->masters, s->params * sizeof(float), true, e);
    if (!st)
        place_grads(s);
    return st;
}

enum status device_speed_new(struct device_speed **out, const struct kernels *k,
                             const struct model_config *c, bool trains, struct err *e)
{
    const size_t numbers = c->layers * layer_numbers(c) + (size_t)c->vocab * c->dim;
    struct device_speed *s;
    enum status st;
    void *at;

    *out = NULL;
    if (!k->device || !k->ops->pass)
        return err_set(e, ERR_UNSUPPORTED, "class %s has no passes of its own",
                       numerics_name(k->numerics));
    if (model_config_refuses(c, k->numerics))
        return err_set(e, ERR_UNSUPPORTED, "%s", model_config_refuses(c, k->numerics));
    s = xcalloc(1, sizeof(*s));
    s->d = k->device;
    s->ops = k->ops;
    s->c = *c;
    s->packed = xcalloc(c->layers, sizeof(s->packed[0]));
    s->w = xcalloc(c->layers, sizeof(s->w[0]));
    s->grads = xcalloc(c->layers, sizeof(s->grads[0]));
    st = device_alloc(s->d, &s->arena, numbers * sizeof(uint16_t), "weights", e);
    if (!st)
        st = fill(s, s->arena, numbers * sizeof(uint16_t), false, e);
    if (!st)
        st = device_alloc(s->d, &at, vector_numbers(c) * sizeof(float), "norms", e);
    if (!st) {
        s->vectors = at;
        st = fill(s, at, vector_numbers(c) * sizeof(float), true, e);
    }
    if (!st)
        place_layers(s);
    if (!st && trains)
        st = make_trained(s, e);
    if (!st) {
        *out = s;
        s = NULL; /* it is the caller's now */
    }
    device_speed_free(&s);
    return st;
}

void device_speed_free(struct device_speed **p)
{
    struct device_speed *s = *p;

    if (!s)
        return;
    device_release(s->d, s->arena);
    device_release(s->d, s->vectors);
    device_release(s->d, s->masters);
    device_release(s->d, s->m);
    device_release(s->d, s->v);
    device_release(s->d, s->g);
    free(s->packed);
    free(s->w);
    free(s->grads);
    free(s);
    *p = NULL;
}

/* ---- what the timed calls share -------------------------------------------------------------- */

/* Memory of the device until `end`. NULL: there is none, and the end says so. */
static void *own(struct device_speed *s, size_t bytes, const char *what)
{
    void *at = NULL;

    CHECK(s->n_own < sizeof(s->own) / sizeof(s->own[0]));
    if (s->error.code == OK && !device_alloc(s->d, &at, bytes, what, &s->error))
        s->own[s->n_own++] = at;
    return at;
}

static void *own_copy(struct device_speed *s, const void *from, size_t bytes, const char *what)
{
    void *at = own(s, bytes, what);

    if (at)
        device_put(s->d, at, from, bytes);
    return at;
}

static enum status end(struct device_speed *s, struct err *e)
{
    enum status st = device_wait(s->d, e);

    for (size_t i = 0; i < s->n_own; i++)
        device_release(s->d, s->own[i]);
    s->n_own = 0;
    if (s->error.code != OK)
        st = err_set(e, s->error.code, "%s", s->error.text);
    memset(&s->error, 0, sizeof(s->error));
    return st;
}

static int by_time(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Calls step(arg, i), which waits for the device, and takes the median. */
static double median(struct device *d, void (*step)(void *arg, size_t i), void *arg,
                     size_t steps)
{
    int64_t *us = xcalloc(steps, sizeof(us[0]));
    double seconds;

    for (size_t i = 0; i < WARM_STEPS + steps; i++) {
        int64_t start;

        if (i == WARM_STEPS)
            device_watch(d, true);
        start = clock_mono_us();
        step(arg, i);
        if (i >= WARM_STEPS)
            us[i - WARM_STEPS] = clock_mono_us() - start;
    }
    device_watch(d, false);
    qsort(us, steps, sizeof(us[0]), by_time);
    seconds = (double)us[steps / 2] * 1e-6;
    free(us);
    return seconds;
}

static void rotation(struct device_speed *s, struct device_pass *p, size_t n_pos)
{
    const size_t n = n_pos * (s->c.head_dim / 2);
    float *cos = xcalloc(n, sizeof(*cos)), *sin = xcalloc(n, sizeof(*sin));

    rope_table(cos, sin, s->c.rope_theta, NULL, 0, n_pos, s->c.head_dim);
    p->cos = own_copy(s, cos, n * sizeof(*cos), "rotation");
    p->sin = own_copy(s, sin, n * sizeof(*sin), "rotation");
    free(cos);
    free(sin);
}

/* Pages for n_seqs sequences of n_pos positions, random numbers in them. */
static void pages(struct device_speed *s, struct device_pass *p, size_t n_seqs, size_t n_pos)
{
    const struct attention_shape shape = {
        .H = s->c.heads, .G = s->c.kv_heads, .D = s->c.head_dim};
    const size_t layer = s->ops->page_floats(&shape), page = layer * s->c.layers;
    const size_t n = n_seqs * ((n_pos + ATTENTION_PAGE - 1) / ATTENTION_PAGE);
    float **table = xcalloc(n, sizeof(table[0]));
    float *all = own(s, n * page * sizeof(float), "the cache");

    for (size_t i = 0; all && i < n; i++)
        table[i] = all + i * page;
    if (all && !s->error.code)
        (void)fill(s, all, n * page * sizeof(float), false, &s->error);
    p->pages = own_copy(s, table, n * sizeof(table[0]), "pages");
    p->page_layer = 2 * layer; /* in bf16 numbers */
    free(table);
}

static int32_t *random_tokens(const struct device_speed *s, size_t n)
{
    int32_t *t = xcalloc(n, sizeof(t[0]));
    struct rng r = rng_of(3, 3);

    for (size_t i = 0; i < n; i++)
        t[i] = (int32_t)rng_below(&r, s->c.vocab);
    return t;
}

/* ---- decoding and prefill -------------------------------------------------------------------- */

/* Of one number among a row's largest: where it is, and its value. */
#define TOP_BYTES (sizeof(uint32_t) + sizeof(uint16_t))

struct forward {
    struct device_speed *s;
    struct device_pass p;
    struct device_run *runs; /* the host's */
    int32_t *tokens;         /* the host's */
    int32_t *on_tokens;
    uint32_t *last; /* rows whose logits are wanted */
    float *rows, *hidden, *logits;
    struct device_draw *draws;
    struct device_drawn *drawn, *got; /* got: the host's */
    uint32_t *top, *top_got;          /* likewise: indices, then values; NULL: not asked for */
    size_t n_seqs, context;
};

static void forward_step(void *arg, size_t i)
{
    struct forward *f = arg;
    struct device_speed *s = f->s;
    const struct device_ops *ops = s->ops;
    const size_t C = s->c.dim;

    if (f->p.max_n == 1)
        for (size_t j = 0; j < f->n_seqs; j++) {
            f->runs[j].first = (uint32_t)(f->context + i);
            f->tokens[j] = f->got[j].token;
        }
    f->p.max_len = f->runs[0].first + f->runs[0].n;
    device_put(s->d, (void *)(uintptr_t)f->p.runs, f->runs, f->p.n_runs * sizeof(f->runs[0]));
    device_put(s->d, f->on_tokens, f->tokens, f->p.rows * sizeof(f->tokens[0]));
    ops->embed_packed(s->d, f->p.x, &s->head, f->on_tokens, f->p.rows, C);
    ops->pass(s->d, &f->p);
    if (f->p.max_n > 1)
        ops->gather(s->d, f->rows, f->p.x, f->last, f->n_seqs, C);
    ops->rmsnorm(s->d, f->hidden, f->p.max_n > 1 ? f->rows : f->p.x, s->vectors, f->n_seqs, C,
                 s->c.norm_eps);
    ops->forward(s->d, &(struct product){.y = f->logits, .W = &s->head}, f->hidden,
                 device_padded_rows(ops, f->n_seqs, SIZE_MAX));
    ops->sample(s->d, f->drawn, f->draws, f->logits, f->n_seqs, s->c.vocab);
    device_get_later(s->d, f->got, f->drawn, f->n_seqs * sizeof(f->got[0]));
    device_mark(s->d, 0);
    if (f->top) { /* as model_draw does it */
        ops->top(s->d, f->top, (uint16_t *)(f->top + f->n_seqs * MODEL_TOP), f->hidden,
                 f->n_seqs, C);
        device_get_later(s->d, f->top_got, f->top, f->n_seqs * MODEL_TOP * TOP_BYTES);
    }
    if (device_await(s->d, 0, &s->error))
        return; /* told at the end */
}

/* Memory of the host that the device reaches; NULL: s->error says why. */
static void *own_host(struct device_speed *s, size_t bytes, const char *what)
{
    void *p = NULL;

    if (s->error.code != OK || device_alloc_host(s->d, &p, bytes, what, &s->error))
        return NULL;
    memset(p, 0, bytes);
    return p;
}

/* Several times, for what the host does in between takes as long as one. */
static void attention_step(void *arg, size_t i)
{
    struct forward *f = arg;

    (void)i;
    f->p.max_len = f->context + 1;
    for (size_t j = 0; j < REPEATS; j++)
        f->s->ops->pass_attention(f->s->d, &f->p);
    device_get(f->s->d, f->got, f->drawn, sizeof(f->got[0])); /* waits */
}

static void sampling_step(void *arg, size_t i)
{
    struct forward *f = arg;

    (void)i;
    for (size_t j = 0; j < REPEATS; j++)
        f->s->ops->sample(f->s->d, f->drawn, f->draws, f->logits, f->n_seqs, f->s->c.vocab);
    device_get(f->s->d, f->got, f->drawn, sizeof(f->got[0]));
}

/* What is timed: `step`, of n_seqs sequences with n new tokens each after `context` others. */
struct timed {
    void (*step)(void *arg, size_t i);
    size_t n_seqs, n, context;
    bool with_top;
};

/* How many sequences are decoded or filled, and with how many rows that is done. */
static void set_rows(struct forward *f, size_t n_seqs, size_t n)
{
    f->n_seqs = n_seqs;
    f->p.rows = device_padded_rows(f->s->ops, n_seqs * n, SIZE_MAX);
    f->p.n_runs = n == 1 ? f->p.rows : n_seqs;
    for (size_t i = n_seqs; i < f->p.n_runs; i++)
        f->runs[i] = (struct device_run){.row = (uint32_t)i};
}

/* The arrays of steps up to position n_pos; `end` and end_forward release them. */
static void begin_forward(struct forward *f, struct device_speed *s, const struct timed *t,
                          size_t n_pos)
{
    const size_t n_seqs = t->n_seqs, n = t->n, C = s->c.dim;
    const size_t rows = device_padded_rows(s->ops, n_seqs * n, SIZE_MAX);
    const size_t padded = device_padded_rows(s->ops, n_seqs, SIZE_MAX);
    const size_t slot = (n_pos + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
    struct device_draw *draws = xcalloc(n_seqs, sizeof(draws[0]));
    uint32_t *last = xcalloc(n_seqs, sizeof(last[0]));

    *f = (struct forward){.s = s, .context = t->context};
    f->runs = xcalloc(padded, sizeof(f->runs[0]));
    f->got = own_host(s, n_seqs * sizeof(f->got[0]), "draws");
    f->tokens = random_tokens(s, rows);
    for (size_t i = 0; i < n_seqs; i++) {
        f->runs[i] = (struct device_run){(uint32_t)(i * n), (uint32_t)n, (uint32_t)t->context,
                                         (uint32_t)(i * slot)};
        draws[i] = (struct device_draw){i, (uint32_t)t->context, (uint32_t)i, 1.0f};
        last[i] = (uint32_t)(i * n + n - 1);
    }
    f->p = (struct device_pass){.weights_id = device_next_id(),
                                .config = &s->c,
                                .packed = s->packed,
                                .w = s->w,
                                .max_n = n};
    set_rows(f, n_seqs, n);
    f->p.x = own(s, rows * C * sizeof(float), "rows");
    f->p.scratch = own(s, s->ops->pass_bytes(&s->c, rows), "scratch");
    rotation(s, &f->p, n_pos);
    pages(s, &f->p, n_seqs, n_pos);
    f->p.runs = own_copy(s, f->runs, f->p.n_runs * sizeof(f->runs[0]), "runs");
    f->on_tokens = own(s, rows * sizeof(int32_t), "tokens");
    f->last = own_copy(s, last, n_seqs * sizeof(last[0]), "rows");
    f->rows = own(s, n_seqs * C * sizeof(float), "rows");
    f->hidden = own(s, padded * C * sizeof(float), "rows");
    f->logits = own(s, padded * s->c.vocab * sizeof(float), "logits");
    f->draws = own_copy(s, draws, n_seqs * sizeof(draws[0]), "draws");
    f->drawn = own(s, n_seqs * sizeof(f->drawn[0]), "draws");
    if (t->with_top) {
        f->top = own(s, n_seqs * MODEL_TOP * TOP_BYTES, "largest");
        f->top_got = own_host(s, n_seqs * MODEL_TOP * TOP_BYTES, "largest");
    }
    free(draws);
    free(last);
}

static void end_forward(struct forward *f)
{
    free(f->runs);
    free(f->tokens);
    device_release_host(f->s->d, f->got);
    device_release_host(f->s->d, f->top_got);
}

static enum status time_forward(double *seconds, struct device_speed *s, const struct timed *t,
                                size_t steps, struct err *e)
{
    struct forward f;
    enum status st;

    begin_forward(&f, s, t, t->context + t->n + WARM_STEPS + steps);
    if (s->error.code == OK)
        *seconds = median(s->d, t->step, &f, steps);
    st = end(s, e);
    end_forward(&f);
    return st;
}

enum status device_speed_decode(double *seconds, struct device_speed *s, size_t batch,
                                size_t context, bool with_top, size_t steps, struct err *e)
{
    const struct timed t = {forward_step, batch, 1, context, with_top};

    return time_forward(seconds, s, &t, steps, e);
}

/* Always at the same position: that of a sequence makes no difference to what is captured. */
enum status device_speed_shrinking(double *seconds, size_t *n_graphs, struct device_speed *s,
                                   size_t batch, size_t context, struct err *e)
{
    const struct timed t = {forward_step, batch, 1, context, false};
    const size_t before = s->ops->graphs_made(s->d);
    struct forward f;
    enum status st;
    int64_t start;

    begin_forward(&f, s, &t, context + 1);
    start = clock_mono_us();
    for (size_t n = batch; n > 0 && s->error.code == OK; n--) {
        set_rows(&f, n, 1);
        forward_step(&f, 0);
        forward_step(&f, 0);
    }
    *seconds = (double)(clock_mono_us() - start) * 1e-6;
    *n_graphs = s->ops->graphs_made(s->d) - before;
    st = end(s, e);
    end_forward(&f);
    return st;
}

enum status device_speed_attention(double *seconds, struct device_speed *s, size_t batch,
                                   size_t context, size_t steps, struct err *e)
{
    const struct timed t = {attention_step, batch, 1, context, false};
    enum status st = time_forward(seconds, s, &t, steps, e);

    *seconds /= REPEATS;
    return st;
}

enum status device_speed_prefill(double *seconds, struct device_speed *s, size_t n_seqs,
                                 size_t length, size_t steps, struct err *e)
{
    const struct timed t = {forward_step, n_seqs, length, 0, false};

    return time_forward(seconds, s, &t, steps, e);
}

/* Logits as they are of a model that knows little. */
enum status device_speed_sampling(double *seconds, struct device_speed *s, size_t n,
                                  size_t steps, struct err *e)
{
    const size_t bytes = n * s->c.vocab * sizeof(float);
    struct forward f = {.s = s, .n_seqs = n};
    struct device_draw *draws = xcalloc(n, sizeof(draws[0]));
    enum status st;

    for (size_t i = 0; i < n; i++)
        draws[i] = (struct device_draw){i, 1024, (uint32_t)i, 1.0f};
    f.logits = own(s, bytes, "logits");
    f.draws = own_copy(s, draws, n * sizeof(draws[0]), "draws");
    f.drawn = own(s, n * sizeof(f.drawn[0]), "draws");
    f.got = xcalloc(n, sizeof(f.got[0]));
    if (s->error.code == OK)
        (void)fill(s, f.logits, bytes, true, &s->error);
    if (s->error.code == OK)
        *seconds = median(s->d, sampling_step, &f, steps) / REPEATS;
    st = end(s, e);
    free(f.got);
    free(draws);
    return st;
}

/* ---- training -------------------------------------------------------------------------------- */

struct training {
    struct device_speed *s;
    struct device_train_pass p;
    int32_t *tokens;
    uint32_t *order, *start;
    float *hidden, *dh, *logits, *logp, *weight, *sum, *scratch;
    size_t n_ids, chunk;
};

static void loss_step(const struct training *t)
{
    struct device_speed *s = t->s;
    const size_t rows = t->p.p.rows, C = s->c.dim, V = s->c.vocab;

    for (size_t at = 0, n; at < rows; at += n) {
        float *h = t->hidden + at * C;

        n = rows - at < t->chunk ? rows - at : t->chunk;
        s->ops->forward(s->d, &(struct product){.y = t->logits, .W = &s->head}, h, n);
        s->ops->logprob(s->d, t->logp + at, t->logits, t->tokens + at, 1.0f, n, V);
        s->ops->logprob_backward(s->d, t->logits, t->weight + at, t->logits, t->tokens + at,
                                 1.0f, n, V);
        s->ops->dw(s->d, s->head_grad, t->logits, h, n, V, C);
        s->ops->dx_packed(s->d, t->dh + at * C, t->logits, &s->head, n);
    }
}

static void update_step(const struct training *t)
{
    struct device_speed *s = t->s;
    const struct adamw_scalars scalars = {.lr = 1e-6f,
                                          .b1 = 0.9f,
                                          .b2 = 0.95f,
                                          .eps = 1e-8f,
                                          .bc1 = 0.1f,
                                          .bc2 = 0.05f,
                                          .grad_scale = 1.0f};
    const size_t table = (size_t)s->c.vocab * s->c.dim;
    struct packed all = s->packed[0].q;

    s->ops->add(s->d, s->embed_grad, s->embed_grad, s->head_grad, table);
    s->ops->square_sum(s->d, t->sum, t->scratch, s->g, s->params / 1024, 1024);
    s->ops->adamw(s->d, s->masters, s->m, s->v, s->g, &scalars, s->params);
    /* All matrices at once: how they are cut makes no difference to the copy. */
    all.N = s->c.layers * layer_numbers(&s->c) + table;
    all.K = 1;
    s->ops->set(s->d, &all, s->masters, DTYPE_F32, false);
}

static void train_step(void *arg, size_t i)
{
    struct training *t = arg;
    struct device_speed *s = t->s;
    const size_t rows = t->p.p.rows, C = s->c.dim;
    float logp;

    (void)i;
    device_zero(s->d, s->g, s->params * sizeof(float));
    s->ops->embed_packed(s->d, t->p.p.x, &s->head, t->tokens, rows, C);
    s->ops->train_pass_forward(s->d, &t->p);
    s->ops->rmsnorm(s->d, t->hidden, t->p.out, s->vectors, rows, C, s->c.norm_eps);
    loss_step(t);
    device_zero(s->d, t->p.dx, rows * C * sizeof(float));
    s->ops->rmsnorm_backward(s->d, t->p.dx, s->norm_grad, t->dh, t->p.out, s->vectors, rows, C,
                             s->c.norm_eps);
    s->ops->train_pass_backward(s->d, &t->p);
    s->ops->embed_backward(s->d, s->embed_grad, t->p.dx, t->tokens, t->order, t->start,
                           t->n_ids, C);
    update_step(t);
    device_get(s->d, &logp, t->logp, sizeof(logp));
}

/* order and start of embed_backward, by counting. Returns how many different ids there are. */
static size_t sort_rows(const int32_t *tokens, size_t rows, size_t vocab, uint32_t *order,
                        uint32_t *start)
{
    uint32_t *count = xcalloc(vocab + 1, sizeof(count[0]));
    size_t n_ids = 0;

    for (size_t r = 0; r < rows; r++)
        count[tokens[r] + 1]++;
    for (size_t v = 0; v < vocab; v++) {
        if (count[v + 1] > 0)
            start[n_ids++] = count[v];
        count[v + 1] += count[v];
    }
    start[n_ids] = (uint32_t)rows;
    for (size_t r = 0; r < rows; r++)
        order[count[tokens[r]]++] = (uint32_t)r;
    free(count);
    return n_ids;
}

static void train_arrays(struct training *t, size_t n_seqs, size_t length)
{
    struct device_speed *s = t->s;
    const size_t rows = n_seqs * length, C = s->c.dim;
    int32_t *tokens = random_tokens(s, rows);
    uint32_t *order = xcalloc(rows, sizeof(order[0])),
             *start = xcalloc(rows + 1, sizeof(start[0]));
    struct device_run *runs = xcalloc(n_seqs, sizeof(runs[0]));
    float *weight = xcalloc(rows, sizeof(weight[0]));

    for (size_t i = 0; i < n_seqs; i++)
        runs[i] = (struct device_run){(uint32_t)(i * length), (uint32_t)length, 0, 0};
    for (size_t r = 0; r < rows; r++)
        weight[r] = 1.0f / (float)rows;
    t->n_ids = sort_rows(tokens, rows, s->c.vocab, order, start);
    t->tokens = own_copy(s, tokens, rows * sizeof(tokens[0]), "tokens");
    t->order = own_copy(s, order, rows * sizeof(order[0]), "tokens");
    t->start = own_copy(s, start, (rows + 1) * sizeof(start[0]), "tokens");
    t->weight = own_copy(s, weight, rows * sizeof(weight[0]), "weights of rows");
    t->p.p.runs = own_copy(s, runs, n_seqs * sizeof(runs[0]), "runs");
    t->p.p.x = own(s, rows * C * sizeof(float), "rows");
    t->p.out = own(s, rows * C * sizeof(float), "rows");
    t->p.dx = own(s, rows * C * sizeof(float), "rows");
    t->hidden = own(s, rows * C * sizeof(float), "rows");
    t->dh = own(s, rows * C * sizeof(float), "rows");
    t->logp = own(s, rows * sizeof(float), "rows");
    t->logits = own(s, t->chunk * s->c.vocab * sizeof(float), "logits");
    t->sum = own(s, sizeof(float), "a sum");
    t->scratch = own(s, (s->params / 1024 + 1) * sizeof(float), "sums");
    t->p.p.scratch =
        own(s, s->ops->train_pass_bytes(&s->c, rows, t->p.recompute), "activations");
    rotation(s, &t->p.p, length);
    free(tokens);
    free(order);
    free(start);
    free(runs);
    free(weight);
}

enum status device_speed_train(double *seconds, struct device_speed *s, size_t n_seqs,
                               size_t length, bool recompute, size_t steps, struct err *e)
{
    const size_t rows = n_seqs * length;
    struct training t = {.s = s, .chunk = rows < LOGITS_ROWS ? rows : LOGITS_ROWS};

    CHECK(s->g);
    t.p = (struct device_train_pass){.p = {.config = &s->c,
                                           .packed = s->packed,
                                           .w = s->w,
                                           .n_runs = n_seqs,
                                           .rows = rows,
                                           .max_n = length,
                                           .max_len = length},
                                     .grads = s->grads,
                                     .recompute = recompute};
    train_arrays(&t, n_seqs, length);
    if (s->error.code == OK)
        *seconds = median(s->d, train_step, &t, steps);
    return end(s, e);
}

enum status device_speed_ways(struct device_way *ways, size_t *n, const struct kernels *k,
                              const struct device_product *p, struct err *e)
{
    *n = 0;
    if (!k->ops || !k->ops->ways)
        return err_set(e, ERR_UNSUPPORTED, "class %s computes a product in one way",
                       numerics_name(k->numerics));
    *n = k->ops->ways(k->device, ways, p);
    return device_wait(k->device, e);
}
