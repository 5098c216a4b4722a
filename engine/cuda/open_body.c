/*
 * A layer of class open-cuda, forward:
 *
 *   h = norm(x_in)                          bf16
 *   q, k, v = h (Wq; Wk; Wv)'               one product where the matrices lie side by side
 *   bias, head norms, rotation; keys and values into the cache: one kernel, or in attention's
 *   x_mid = x_in + attention Wo'            f32, added by the product
 *   h = norm(x_mid);  gate, up = h (Wgate; Wup)';  act = swiglu(gate, up)
 *   x_out = x_mid + act Wdown'
 *
 * Decoding is five to eight launches a layer (attention of new rows does what is done to heads, the product
 * with gate and up may give act itself, and one that adds to x the norm of it), of which a graph is made. Training keeps of a layer what
 * its products gave and computes norms and activations again, as engine/train.h says.
 */
#include "engine/cuda/open_body.h"

#include <string.h>

#include "base/check.h"
#include "engine/layer.h"

#define ALIGN      256u
#define BF16_BYTES sizeof(uint16_t)

/* The buffers of a layer; those of one line may be one and the same if there is no backward. */
struct acts {
    float *x_in, *x_mid, *x_out; /* (T, C) */
    uint16_t *raw, *qkv;         /* (T, (H + 2G) D): before and after what is done to heads */
    uint16_t *att;               /* (T, H, D) */
    float *lse;                  /* (T, H), or NULL */
    uint16_t *gu;                /* (T, 2F) */
    uint16_t *h;                 /* (T, C) */
    float *squares;              /* of struct open_normed */
    uint16_t *act;               /* (T, F) */
    float *partial;
};

/* What backward needs besides, of one layer at a time. */
struct grads {
    uint16_t *dx, *dh; /* (T, C) */
    uint16_t *datt;    /* (T, H, D) */
    uint16_t *dqkv;
};

struct widths {
    size_t C, F, H, G, D, Q, K, all; /* all: of queries, keys and values */
};

static struct widths widths_of(const struct model_config *c)
{
    const size_t Q = (size_t)c->heads * c->head_dim, K = (size_t)c->kv_heads * c->head_dim;

    return (struct widths){c->dim, c->ffn, c->heads, c->kv_heads, c->head_dim, Q, K, Q + 2 * K};
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A carver of the scratch; without base it only counts. */
struct carver {
    uint8_t *base;
    size_t n;
};

static void *take(struct carver *c, size_t n, size_t size)
{
    void *at = c->base ? c->base + c->n : NULL;

    c->n += (n * size + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

static void carve_rows(struct acts *a, struct carver *at, const struct widths *w, size_t T)
{
    a->h = take(at, T * w->C, BF16_BYTES);
    a->squares =
        take(at, (T < OPEN_THIN_ROWS ? T : OPEN_THIN_ROWS) * (w->C / 16 + 1), sizeof(float));
    a->act = take(at, T * w->F, BF16_BYTES);
    a->partial = take(at, OPEN_BLOCKS * (w->H / w->G) * (w->D + 4), sizeof(float));
}

static void carve_layer(struct acts *a, struct carver *at, const struct model_config *c,
                        const struct widths *w, size_t T)
{
    a->qkv = take(at, T * w->all, BF16_BYTES);
    a->raw = c->qk_norm ? take(at, T * w->all, BF16_BYTES) : a->qkv;
    a->att = take(at, T * w->Q, BF16_BYTES);
    a->gu = take(at, T * 2 * w->F, BF16_BYTES);
}

static size_t carve_pass(struct acts *a, struct carver at, const struct model_config *c,
                         size_t T)
{
    const struct widths w = widths_of(c);

    memset(a, 0, sizeof(*a));
    carve_rows(a, &at, &w, T);
    carve_layer(a, &at, c, &w, T);
    return at.n;
}

size_t open_body_bytes(const struct model_config *c, size_t rows)
{
    struct acts a;

    return carve_pass(&a, (struct carver){0}, c, rows);
}

/* Where things are in training. Layer i's arrays are found by counting, so that nothing has to be
 * kept on the host. */
struct training {
    struct acts rows; /* h, act */
    struct grads g;
    struct carver layers; /* from here on */
    size_t layer_bytes;   /* of one layer's own; 0 if all use the same */
    size_t input_bytes;   /* of a layer's input */
};

static void carve_own(struct acts *a, struct carver *at, const struct model_config *c,
                      const struct widths *w, size_t T)
{
    carve_layer(a, at, c, w, T);
    a->lse = take(at, T * w->H, sizeof(float));
    a->x_mid = take(at, T * w->C, sizeof(float));
}

static size_t carve_training(struct training *t, struct carver at, const struct model_config *c,
                             size_t T, bool recompute)
{
    const struct widths w = widths_of(c);
    struct carver one = {0};
    struct acts a;

    memset(t, 0, sizeof(*t));
    carve_rows(&t->rows, &at, &w, T);
    t->g.dx = take(&at, T * w.C, BF16_BYTES);
    t->g.dh = take(&at, T * w.C, BF16_BYTES);
    t->g.datt = take(&at, T * w.Q, BF16_BYTES);
    t->g.dqkv = take(&at, T * w.all, BF16_BYTES);
    t->layers = at;
    carve_own(&a, &one, c, &w, T);
    t->layer_bytes = recompute ? 0 : one.n;
    (void)take(&at, recompute ? 1 : c->layers, one.n);
    one.n = 0;
    (void)take(&one, T * w.C, sizeof(float));
    t->input_bytes = one.n;
    (void)take(&at, c->layers, one.n);
    return at.n;
}

/* The buffers of layer i. The inputs of layers 1.. lie behind what the layers have of their own. */
static struct acts acts_of(const struct training *t, const struct device_train_pass *p,
                           size_t i)
{
    const struct model_config *c = p->p.config;
    const struct widths w = widths_of(c);
    struct carver at = t->layers, own = {0};
    struct acts a = t->rows;
    uint8_t *inputs;

    carve_own(&a, &own, c, &w, p->p.rows);
    inputs = at.base + at.n + (p->recompute ? own.n : own.n * c->layers);
    at.n += i * t->layer_bytes;
    carve_own(&a, &at, c, &w, p->p.rows);
    a.x_in = i == 0 ? p->p.x : (float *)(void *)(inputs + (i - 1) * t->input_bytes);
    a.x_out = i + 1 == c->layers ? p->out : (float *)(void *)(inputs + i * t->input_bytes);
    return a;
}

size_t open_body_train_bytes(const struct model_config *c, size_t rows, bool recompute)
{
    struct training t;

    return carve_training(&t, (struct carver){0}, c, rows, recompute);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Whether n matrices lie one after the other, as one of more rows. */
static bool is_adjacent(const struct packed *const *all, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if ((const uint8_t *)all[i]->data !=
            (const uint8_t *)all[i - 1]->data + all[i - 1]->N * all[i - 1]->K * BF16_BYTES)
            return false;
    return true;
}

/* act (M, F) = swiglu of the products of a norm with two that are adjacent; gu (M, 2F) is overwritten. */
static void gated(struct device *d, uint16_t *act, uint16_t *gu, const struct open_normed *x,
                  const struct packed *gate, size_t M)
{
    open_multiply(d, &(struct open_product){.kind = OPEN_FORWARD,
                                            .M = M,
                                            .N = 2 * gate->N,
                                            .K = gate->K,
                                            .a_stride = gate->K,
                                            .b_stride = gate->K,
                                            .y_stride = gate->N,
                                            .a = x->h,
                                            .b = gate->data,
                                            .y = act,
                                            .is_gated = true,
                                            .room = gu,
                                            .takes = x});
}

/* The products of a norm (M, K) with each, side by side in y (M, stride). */
static void products(struct device *d, uint16_t *y, size_t stride, const struct open_normed *x,
                     const struct packed *const *all, size_t n, size_t M)
{
    struct open_product p = {.kind = OPEN_FORWARD,
                             .M = M,
                             .K = all[0]->K,
                             .a_stride = all[0]->K,
                             .b_stride = all[0]->K,
                             .y_stride = stride,
                             .a = x->h,
                             .y = y,
                             .takes = x};

    if (is_adjacent(all, n)) {
        p.N = stride;
        p.b = all[0]->data;
        open_multiply(d, &p);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        p.N = all[i]->N;
        p.b = all[i]->data;
        p.y = y;
        open_multiply(d, &p);
        y += all[i]->N;
    }
}

/* What is done to heads, and attention. */
static void attend(struct device *d, const struct device_pass *p, const struct acts *a,
                   const struct weights_layer *v, size_t page_at)
{
    const struct model_config *c = p->config;
    const struct widths w = widths_of(c);
    const struct open_heads heads = {
        .y = a->qkv,
        .x = a->raw,
        .q_bias = v->q_bias,
        .k_bias = v->k_bias,
        .v_bias = v->v_bias,
        .q_norm = c->qk_norm ? v->q_norm : NULL,
        .k_norm = c->qk_norm ? v->k_norm : NULL,
        .cos = p->cos,
        .sin = p->sin,
        .runs = p->runs,
        .n_runs = p->n_runs,
        .max_n = p->max_n,
        .pages = (uint16_t *const *)(const void *)p->pages,
        .page_at = page_at,
        .H = w.H,
        .G = w.G,
        .D = w.D,
        .eps = c->norm_eps,
    };
    const struct open_attention x = {
        .out = a->att,
        .lse = a->lse,
        .q = a->qkv,
        .k = a->qkv + w.Q,
        .v = a->qkv + w.Q + w.K,
        .q_stride = w.all,
        .kv_stride = w.all,
        .out_stride = w.Q,
        .pages = (uint16_t *const *)(const void *)p->pages,
        .page_at = page_at,
        .runs = p->runs,
        .n_runs = p->n_runs,
        .rows = p->rows,
        .max_n = p->max_n,
        .max_len = p->max_len,
        .H = w.H,
        .G = w.G,
        .D = w.D,
        .scale = attention_scale(w.D),
        .partial = a->partial,
    };

    if (p->pages && p->max_n == 1) {
        open_attention_decode(d, &x, &heads);
        return;
    }
    open_heads_forward(d, &heads);
    open_attention_forward(d, &x);
}

/* Whether every product of a norm divides rows, so that the norm may come in halves. */
static bool may_divide(const struct device_pass *p, const struct acts *a, size_t layer)
{
    const struct widths w = widths_of(p->config);
    const struct model_layer *m = &p->packed[layer];
    const struct packed *const qkv[] = {&m->q, &m->k, &m->v}, *const gu[] = {&m->gate, &m->up};
    bool may = p->pages && p->max_n == 1 && is_adjacent(qkv, 3) && is_adjacent(gu, 2);

    return may && open_thin_fits(&(struct open_product){.kind = OPEN_FORWARD,
                                                        .M = p->rows,
                                                        .N = w.all,
                                                        .K = w.C,
                                                        .a_stride = w.C,
                                                        .b_stride = w.C,
                                                        .y_stride = w.all,
                                                        .a = a->h,
                                                        .b = m->q.data,
                                                        .y = a->raw});
}

/* y = add + x W' + bias, and the norm of y by `norm`; bias and norm or NULL. */
struct sum {
    float *y;
    const float *add, *bias, *norm;
    const uint16_t *x;
    const struct packed *W;
    bool may_divide; /* whoever takes the norm */
};

static void add(struct device *d, struct open_normed *h, const struct sum *s, size_t M)
{
    const bool is_one = s->norm && s->may_divide && !s->bias;

    open_multiply(d, &(struct open_product){.kind = OPEN_FORWARD,
                                            .is_f32 = true,
                                            .M = M,
                                            .N = s->W->N,
                                            .K = s->W->K,
                                            .a_stride = s->W->K,
                                            .b_stride = s->W->K,
                                            .y_stride = s->W->N,
                                            .a = s->x,
                                            .b = s->W->data,
                                            .y = s->y,
                                            .add = s->add,
                                            .gives = is_one ? h : NULL,
                                            .norm = s->norm});
    if (s->bias)
        open_bias(d, s->y, s->bias, M, s->W->N);
    if (is_one || !s->norm)
        return;
    open_norm(d, h->h, s->y, s->norm, M, h->C, h->eps);
    h->n = 0;
}

static struct open_normed input_norm(struct device *d, const struct device_pass *p,
                                     const struct acts *a, size_t layer)
{
    const struct model_config *c = p->config;
    const struct open_normed h = {
        .h = a->h, .squares = a->squares, .C = c->dim, .eps = c->norm_eps};

    open_norm(d, h.h, a->x_in, p->w[layer].input_norm, p->rows, h.C, h.eps);
    return h;
}

/* *h is the norm of x_in; then that of x_out by `next`, unless it is NULL. */
static void layer_forward(struct device *d, const struct device_pass *p, const struct acts *a,
                          size_t layer, struct open_normed *h, const float *next)
{
    const struct widths w = widths_of(p->config);
    const struct model_layer *m = &p->packed[layer];
    const struct weights_layer *v = &p->w[layer];
    const struct packed *const qkv[] = {&m->q, &m->k, &m->v}, *const gu[] = {&m->gate, &m->up};

    products(d, a->raw, w.all, h, qkv, 3, p->rows);
    attend(d, p, a, v, layer * p->page_layer);
    add(d, h,
        &(struct sum){.y = a->x_mid,
                      .add = a->x_in,
                      .bias = v->o_bias,
                      .norm = v->post_norm,
                      .x = a->att,
                      .W = &m->o,
                      .may_divide = may_divide(p, a, layer)},
        p->rows);
    if (is_adjacent(gu, 2) && !a->lse) /* without a backward, which reads gu */
        gated(d, a->act, a->gu, h, &m->gate, p->rows);
    else {
        products(d, a->gu, 2 * w.F, h, gu, 2, p->rows);
        open_swiglu(d, a->act, a->gu, p->rows, w.F, NULL);
    }
    add(d, h,
        &(struct sum){.y = a->x_out,
                      .add = a->x_mid,
                      .norm = next,
                      .x = a->act,
                      .W = &m->down,
                      .may_divide = next && may_divide(p, a, layer + 1)},
        p->rows);
}

static void layers(struct device *d, const void *arg)
{
    const struct device_pass *p = arg;
    struct open_normed h;
    struct acts a;

    (void)carve_pass(&a, (struct carver){.base = p->scratch}, p->config, p->rows);
    a.x_in = a.x_mid = a.x_out = p->x;
    h = input_norm(d, p, &a, 0);
    for (size_t i = 0; i < p->config->layers; i++)
        layer_forward(d, p, &a, i, &h,
                      i + 1 < p->config->layers ? p->w[i + 1].input_norm : NULL);
}

/* A layer whose backward, or the next layer's forward, comes later. */
static void train_layer_forward(struct device *d, const struct device_pass *p,
                                const struct acts *a, size_t layer)
{
    struct open_normed h = input_norm(d, p, a, layer);

    layer_forward(d, p, a, layer, &h, NULL);
}

/* What decides over the launches of a step of decoding: all of the pass but how long the sequences
 * are, which its kernels read from the runs. */
struct pass_key {
    uint64_t launches; /* which: of a whole pass, or of attention alone */
    uint64_t weights_id;
    const void *x, *scratch, *cos, *sin, *runs, *pages;
    uint64_t rows, page_layer, parts; /* there is a run for each row */
};

_Static_assert(sizeof(struct pass_key) <= OPEN_GRAPH_KEY_BYTES, "all of it is compared");

enum { WHOLE_PASS = 1, ATTENTION_ALONE };

static void run_by_graph(struct device *d, const struct device_pass *p, uint64_t which,
                         open_launches *launches)
{
    const struct open_attention shape = {
        .n_runs = p->n_runs, .max_len = p->max_len, .G = p->config->kv_heads};
    union {
        struct pass_key key;
        unsigned char bytes[OPEN_GRAPH_KEY_BYTES];
    } k = {.bytes = {0}};

    CHECK(p->weights_id > 0 && p->n_runs == p->rows);
    k.key = (struct pass_key){which,
                              p->weights_id,
                              p->x,
                              p->scratch,
                              p->cos,
                              p->sin,
                              p->runs,
                              p->pages,
                              p->rows,
                              p->page_layer,
                              open_attention_parts(d, &shape)};
    open_graph_run(d, k.bytes, launches, p);
}

void open_body_forward(struct device *d, const struct device_pass *p)
{
    CHECK(!model_config_refuses(p->config, NUMERICS_OPEN_CUDA) && p->rows > 0);
    if (!p->pages || p->max_n > 1)
        layers(d, p);
    else
        run_by_graph(d, p, WHOLE_PASS, layers);
}

static void attention_of_all(struct device *d, const void *arg)
{
    const struct device_pass *p = arg;
    struct acts a;

    (void)carve_pass(&a, (struct carver){.base = p->scratch}, p->config, p->rows);
    for (size_t i = 0; i < p->config->layers; i++)
        attend(d, p, &a, &p->w[i], i * p->page_layer);
}

void open_body_attention(struct device *d, const struct device_pass *p)
{
    CHECK(p->pages && p->max_n == 1);
    run_by_graph(d, p, ATTENTION_ALONE, attention_of_all);
}

void open_body_train_forward(struct device *d, const struct device_train_pass *p)
{
    struct training t;

    CHECK(!model_config_refuses(p->p.config, NUMERICS_OPEN_CUDA) && !p->p.pages);
    (void)carve_training(&t, (struct carver){.base = p->p.scratch}, p->p.config, p->p.rows,
                         p->recompute);
    for (size_t i = 0; i < p->p.config->layers; i++) {
        const struct acts a = acts_of(&t, p, i);
        train_layer_forward(d, &p->p, &a, i);
    }
}

/* ---- backward -------------------------------------------------------------------------------- */

/* dW (N, K) += dy' x, of T rows; dy in rows of `stride`. */
static void weight_grad(struct device *d, float *dW, const uint16_t *dy, size_t stride,
                        const uint16_t *x, const struct packed *W, size_t T)
{
    open_multiply(d, &(struct open_product){.kind = OPEN_DW,
                                            .is_f32 = true,
                                            .M = W->N,
                                            .N = W->K,
                                            .K = T,
                                            .a_stride = stride,
                                            .b_stride = W->K,
                                            .y_stride = W->K,
                                            .a = dy,
                                            .b = x,
                                            .y = dW,
                                            .add = dW});
}

/* dx (T, K) = dy (T, stride) times the matrices, whose rows go with dy's columns. */
static void input_grad(struct device *d, uint16_t *dx, const uint16_t *dy, size_t stride,
                       const struct packed *const *all, size_t n, size_t T)
{
    struct open_product p = {.kind = OPEN_DX,
                             .M = T,
                             .N = all[0]->K,
                             .a_stride = stride,
                             .b_stride = all[0]->K,
                             .y_stride = all[0]->K,
                             .a = dy,
                             .y = dx};

    if (is_adjacent(all, n)) {
        p.K = stride;
        p.b = all[0]->data;
        open_multiply(d, &p);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        p.K = all[i]->N;
        p.a = dy;
        p.b = all[i]->data;
        p.add = i > 0 ? dx : NULL;
        open_multiply(d, &p);
        dy += all[i]->N;
    }
}

/* The gradient of x_out, in p->dx and t->g.dx, becomes that of x_mid. */
static void mlp_backward(struct device *d, const struct device_train_pass *p,
                         const struct training *t, const struct acts *a, size_t layer)
{
    const struct widths w = widths_of(p->p.config);
    const struct model_layer *m = &p->p.packed[layer];
    const struct weights_layer *v = &p->p.w[layer], *g = &p->grads[layer];
    const struct packed *const gu[] = {&m->gate, &m->up}, *const down[] = {&m->down};
    const size_t T = p->p.rows;

    input_grad(d, a->act, t->g.dx, w.C, down, 1, T);
    open_swiglu_backward(d, a->gu, a->act, T, w.F);
    weight_grad(d, g->down, t->g.dx, w.C, a->act, &m->down, T);
    open_norm(d, a->h, a->x_mid, v->post_norm, T, w.C, p->p.config->norm_eps);
    weight_grad(d, g->gate, a->gu, 2 * w.F, a->h, &m->gate, T);
    weight_grad(d, g->up, a->gu + w.F, 2 * w.F, a->h, &m->up, T);
    input_grad(d, t->g.dh, a->gu, 2 * w.F, gu, 2, T);
    open_norm_backward(d, p->dx, g->post_norm, t->g.dx, t->g.dh, a->x_mid, v->post_norm, T, w.C,
                       p->p.config->norm_eps);
}

/* From the gradient of the attention's output to that of what the products gave. */
static void heads_backward(struct device *d, const struct device_train_pass *p,
                           const struct training *t, const struct acts *a, size_t layer)
{
    const struct model_config *c = p->p.config;
    const struct widths w = widths_of(c);
    const struct weights_layer *v = &p->p.w[layer], *g = &p->grads[layer];

    open_attention_backward(d, &(struct open_attention_grad){
                                   .dq = t->g.dqkv,
                                   .dk = t->g.dqkv + w.Q,
                                   .dv = t->g.dqkv + w.Q + w.K,
                                   .dout = t->g.datt,
                                   .out = a->att,
                                   .q = a->qkv,
                                   .k = a->qkv + w.Q,
                                   .v = a->qkv + w.Q + w.K,
                                   .lse = a->lse,
                                   .q_stride = w.all,
                                   .kv_stride = w.all,
                                   .out_stride = w.Q,
                                   .runs = p->p.runs,
                                   .n_runs = p->p.n_runs,
                                   .rows = p->p.rows,
                                   .max_n = p->p.max_n,
                                   .H = w.H,
                                   .G = w.G,
                                   .D = w.D,
                                   .scale = attention_scale(w.D),
                               });
    open_heads_backward(d, &(struct open_heads_grad){
                               .dy = t->g.dqkv,
                               .x = a->raw,
                               .q_norm = c->qk_norm ? v->q_norm : NULL,
                               .k_norm = c->qk_norm ? v->k_norm : NULL,
                               .dq_norm = g->q_norm,
                               .dk_norm = g->k_norm,
                               .dq_bias = g->q_bias,
                               .dk_bias = g->k_bias,
                               .dv_bias = g->v_bias,
                               .q_bias = v->q_bias,
                               .k_bias = v->k_bias,
                               .cos = p->p.cos,
                               .sin = p->p.sin,
                               .runs = p->p.runs,
                               .n_runs = p->p.n_runs,
                               .rows = p->p.rows,
                               .max_n = p->p.max_n,
                               .H = w.H,
                               .G = w.G,
                               .D = w.D,
                               .eps = c->norm_eps,
                           });
}

/* The gradient of x_mid becomes that of x_in. */
static void attention_block_backward(struct device *d, const struct device_train_pass *p,
                                     const struct training *t, const struct acts *a,
                                     size_t layer)
{
    const struct widths w = widths_of(p->p.config);
    const struct model_layer *m = &p->p.packed[layer];
    const struct weights_layer *v = &p->p.w[layer], *g = &p->grads[layer];
    const struct packed *const qkv[] = {&m->q, &m->k, &m->v}, *const o[] = {&m->o};
    const size_t T = p->p.rows;

    if (g->o_bias)
        open_bias_backward(d, g->o_bias, p->dx, T, w.C);
    weight_grad(d, g->o, t->g.dx, w.C, a->att, &m->o, T);
    input_grad(d, t->g.datt, t->g.dx, w.C, o, 1, T);
    heads_backward(d, p, t, a, layer);
    open_norm(d, a->h, a->x_in, v->input_norm, T, w.C, p->p.config->norm_eps);
    weight_grad(d, g->q, t->g.dqkv, w.all, a->h, &m->q, T);
    weight_grad(d, g->k, t->g.dqkv + w.Q, w.all, a->h, &m->k, T);
    weight_grad(d, g->v, t->g.dqkv + w.Q + w.K, w.all, a->h, &m->v, T);
    input_grad(d, t->g.dh, t->g.dqkv, w.all, qkv, 3, T);
    open_norm_backward(d, p->dx, g->input_norm, t->g.dx, t->g.dh, a->x_in, v->input_norm, T,
                       w.C, p->p.config->norm_eps);
}

void open_body_train_backward(struct device *d, const struct device_train_pass *p)
{
    const struct model_config *c = p->p.config;
    struct training t;

    (void)carve_training(&t, (struct carver){.base = p->p.scratch}, c, p->p.rows, p->recompute);
    open_narrow(d, t.g.dx, p->dx, p->p.rows * c->dim);
    for (size_t i = c->layers; i-- > 0;) {
        const struct acts a = acts_of(&t, p, i);

        if (p->recompute && i + 1 < c->layers) /* the last one's are still there */
            train_layer_forward(d, &p->p, &a, i);
        mlp_backward(d, p, &t, &a, i);
        attention_block_backward(d, p, &t, &a, i);
    }
}
