#include "learn/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define NONE GRAPH_NONE

const char *graph_kind_name(enum graph_kind k)
{
#define GRAPH_KIND_NAME(name) #name,
    static const char *const names[] = {GRAPH_KIND_MAP(GRAPH_KIND_NAME)};
#undef GRAPH_KIND_NAME

    return (unsigned)k < GRAPH_KIND_COUNT ? names[k] : "?";
}

/* ---- tiles and segments ---------------------------------------------------------------------- */

static size_t pieces(size_t n, size_t of)
{
    return (n + of - 1) / of;
}

size_t graph_terms(const struct graph *g, const struct graph_op *op, uint32_t out)
{
    static const struct graph_tensor none;
    const struct graph_tensor *first = op->in[0] == NONE ? &none : &g->tensor[op->in[0]];

    switch (op->kind) {
    case GRAPH_LINEAR:
    case GRAPH_DX: return first->shape.cols;
    case GRAPH_DW:
    case GRAPH_BIAS_BACK:
    case GRAPH_EMBED_BACK: return first->shape.rows;
    case GRAPH_NORM_BACK: return out == 1 ? (size_t)first->shape.rows * op->heads : 0;
    default: return 0;
    }
}

size_t graph_segments(const struct graph *g, const struct graph_op *op, uint32_t out)
{
    size_t terms = graph_terms(g, op, out);

    return terms ? pieces(terms, GRAPH_SEGMENT) : 1;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* The graph being built. It grows with the batch, which is in memory already, by some hundred bytes
 * an operation of a thousand rows. */
struct build {
    struct graph *g;
    uint32_t *weight;   /* owned: the tensor that forward passes use of each parameter */
    uint32_t *gradient; /* owned: the newest sum of each parameter's in this lane, or NONE */
    uint32_t *level[LANES_LEVELS]; /* owned: the same of lanes that wait for their neighbours */
    uint32_t head_gradient;        /* a tied head's */
    size_t micro, layer;           /* at hand */
    uint32_t chunk;
};

static uint32_t add_tensor(struct graph *g, size_t rows, size_t cols)
{
    if (g->n_tensors == g->cap_tensors) {
        g->cap_tensors = g->cap_tensors ? 2 * g->cap_tensors : 1024;
        g->tensor = xrealloc(g->tensor, g->cap_tensors * sizeof(g->tensor[0]));
    }
    CHECK(g->n_tensors < NONE);
    g->tensor[g->n_tensors] =
        (struct graph_tensor){.shape = tiling_of(rows, cols), .op = NONE, .last = NONE};
    return (uint32_t)g->n_tensors++;
}

/* An operation of these inputs; outputs follow by add_out. */
static struct graph_op *add_op(struct build *b, enum graph_kind kind,
                               const uint32_t in[GRAPH_INS])
{
    struct graph *g = b->g;
    struct graph_op *op;

    if (g->n_ops == g->cap_ops) {
        g->cap_ops = g->cap_ops ? 2 * g->cap_ops : 1024;
        g->op = xrealloc(g->op, g->cap_ops * sizeof(g->op[0]));
    }
    op = &g->op[g->n_ops++];
    *op = (struct graph_op){.kind = kind,
                            .micro = (uint32_t)b->micro,
                            .chunk = b->chunk,
                            .layer = (uint32_t)b->layer,
                            .heads = 1,
                            .parameter = NONE,
                            .out = {NONE, NONE, NONE},
                            .reuse = {GRAPH_INS, GRAPH_INS, GRAPH_INS}};
    memcpy(op->in, in, sizeof(op->in));
    for (size_t i = 0; i < GRAPH_INS; i++)
        if (in[i] != NONE)
            g->tensor[in[i]].last = (uint32_t)(g->n_ops - 1);
    return op;
}

#define IN(...) ((const uint32_t[GRAPH_INS]){__VA_ARGS__})

/* One more output of the newest operation. `reuse` as in struct graph_op. */
static uint32_t add_out(struct build *b, size_t rows, size_t cols, uint8_t reuse)
{
    struct graph *g = b->g;
    struct graph_op *op = &g->op[g->n_ops - 1];
    uint32_t t = add_tensor(g, rows, cols);

    g->tensor[t].op = (uint32_t)(g->n_ops - 1);
    g->tensor[t].index = op->n_outs;
    op->reuse[op->n_outs] = reuse;
    op->out[op->n_outs++] = t;
    return t;
}

static size_t rows_of(const struct build *b, uint32_t t)
{
    return b->g->tensor[t].shape.rows;
}

static size_t cols_of(const struct build *b, uint32_t t)
{
    return b->g->tensor[t].shape.cols;
}

/* The parameter of this name, or NONE if the architecture has none. */
static uint32_t find(const struct build *b, const char *name)
{
    const struct graph *g = b->g;
    char full[2 * WEIGHTS_NAME_BYTES];
    const struct weights_tensor *t;

    if (b->layer == NONE)
        snprintf(full, sizeof(full), "%s", name);
    else
        snprintf(full, sizeof(full), "model.layers.%zu.%s", b->layer, name);
    t = weights_table_find(g->parameter, g->n_parameters, full);
    return t ? (uint32_t)(t - g->parameter) : NONE;
}

/* ---- operations ------------------------------------------------------------------------------ */

/* What a norm gives: the rows, and the factors that backward needs again. */
struct normed {
    uint32_t y, r;
};

static struct normed norm(struct build *b, uint32_t x, uint32_t parameter, size_t heads)
{
    struct normed n;
    size_t rows = rows_of(b, x), cols = cols_of(b, x);

    add_op(b, GRAPH_NORM, IN(x, b->weight[parameter], NONE, NONE, NONE, NONE))->heads =
        (uint32_t)heads;
    n.y = add_out(b, rows, cols, GRAPH_INS);
    n.r = add_out(b, rows, heads, GRAPH_INS);
    return n;
}

static uint32_t linear(struct build *b, uint32_t x, uint32_t parameter, uint32_t bias,
                       uint32_t add)
{
    uint32_t W = b->weight[parameter];

    add_op(b, GRAPH_LINEAR, IN(x, W, bias == NONE ? NONE : b->weight[bias], add, NONE, NONE));
    return add_out(b, rows_of(b, x), rows_of(b, W), GRAPH_INS);
}

static uint32_t unary(struct build *b, enum graph_kind kind, uint32_t x, size_t heads)
{
    add_op(b, kind, IN(x, NONE, NONE, NONE, NONE, NONE))->heads = (uint32_t)heads;
    return add_out(b, rows_of(b, x), cols_of(b, x), GRAPH_INS);
}

static uint32_t product_dx(struct build *b, uint32_t dy, uint32_t parameter, uint32_t add)
{
    uint32_t W = b->weight[parameter];

    add_op(b, GRAPH_DX, IN(dy, W, add, NONE, NONE, NONE));
    return add_out(b, rows_of(b, dy), cols_of(b, W), add == NONE ? GRAPH_INS : 2);
}

/* `sum` is the parameter's gradient, or a tied head's. */
static void product_dw(struct build *b, uint32_t *sum, uint32_t parameter, uint32_t dy,
                       uint32_t x, uint32_t weight)
{
    add_op(b, GRAPH_DW, IN(dy, x, weight, *sum, NONE, NONE))->parameter = parameter;
    *sum = add_out(b, cols_of(b, dy), cols_of(b, x), 3);
}

static void bias_back(struct build *b, uint32_t parameter, uint32_t dy)
{
    uint32_t *sum = &b->gradient[parameter];

    add_op(b, GRAPH_BIAS_BACK, IN(dy, *sum, NONE, NONE, NONE, NONE));
    *sum = add_out(b, 1, cols_of(b, dy), 1);
}

/* Returns dx plus what comes through the norm. */
static uint32_t norm_back(struct build *b, uint32_t dx, uint32_t dy, uint32_t x, uint32_t r,
                          uint32_t parameter)
{
    uint32_t *sum = &b->gradient[parameter];
    uint32_t out;
    size_t heads = cols_of(b, r);

    add_op(b, GRAPH_NORM_BACK, IN(dy, x, b->weight[parameter], r, dx, *sum))->heads =
        (uint32_t)heads;
    out = add_out(b, rows_of(b, x), cols_of(b, x), 4);
    *sum = add_out(b, 1, cols_of(b, x) / heads, 5);
    return out;
}

/* ---- a layer --------------------------------------------------------------------------------- */

struct layer_params {
    uint32_t input_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, o, o_bias, post_norm;
    uint32_t gate, up, down;
};

/* What backward needs of a layer's forward. */
struct layer_tensors {
    struct layer_params p;
    uint32_t x_in, q, k, v, att, lse, x_mid, gate, up, act;
    uint32_t q_raw, k_raw; /* before the norms of heads */
    struct normed h1, h2, qn, kn;
};

static struct layer_params find_layer(const struct build *b)
{
    return (struct layer_params){
        .input_norm = find(b, "input_layernorm.weight"),
        .q = find(b, "self_attn.q_proj.weight"),
        .k = find(b, "self_attn.k_proj.weight"),
        .v = find(b, "self_attn.v_proj.weight"),
        .q_bias = find(b, "self_attn.q_proj.bias"),
        .k_bias = find(b, "self_attn.k_proj.bias"),
        .v_bias = find(b, "self_attn.v_proj.bias"),
        .q_norm = find(b, "self_attn.q_norm.weight"),
        .k_norm = find(b, "self_attn.k_norm.weight"),
        .o = find(b, "self_attn.o_proj.weight"),
        .o_bias = find(b, "self_attn.o_proj.bias"),
        .post_norm = find(b, "post_attention_layernorm.weight"),
        .gate = find(b, "mlp.gate_proj.weight"),
        .up = find(b, "mlp.up_proj.weight"),
        .down = find(b, "mlp.down_proj.weight"),
    };
}

static uint32_t layer_forward(struct build *b, struct layer_tensors *l, uint32_t x)
{
    const struct model_config *c = &b->g->config;
    const struct layer_params *p = &l->p;
    size_t rows = rows_of(b, x);

    l->p = find_layer(b);
    l->x_in = x;
    l->h1 = norm(b, x, p->input_norm, 1);
    l->qn.y = l->q_raw = linear(b, l->h1.y, p->q, p->q_bias, NONE);
    l->kn.y = l->k_raw = linear(b, l->h1.y, p->k, p->k_bias, NONE);
    l->v = linear(b, l->h1.y, p->v, p->v_bias, NONE);
    if (c->qk_norm) {
        l->qn = norm(b, l->q_raw, p->q_norm, c->heads);
        l->kn = norm(b, l->k_raw, p->k_norm, c->kv_heads);
    }
    l->q = unary(b, GRAPH_ROPE, l->qn.y, c->heads);
    l->k = unary(b, GRAPH_ROPE, l->kn.y, c->kv_heads);
    add_op(b, GRAPH_ATTEND, IN(l->q, l->k, l->v, NONE, NONE, NONE));
    l->att = add_out(b, rows, cols_of(b, l->q), GRAPH_INS);
    l->lse = add_out(b, rows, c->heads, GRAPH_INS);
    b->g->tensor[l->lse].shape.tile_cols = 1; /* for each head has keys of its own */
    l->x_mid = linear(b, l->att, p->o, p->o_bias, x);
    l->h2 = norm(b, l->x_mid, p->post_norm, 1);
    l->gate = linear(b, l->h2.y, p->gate, NONE, NONE);
    l->up = linear(b, l->h2.y, p->up, NONE, NONE);
    add_op(b, GRAPH_SWIGLU, IN(l->gate, l->up, NONE, NONE, NONE, NONE));
    l->act = add_out(b, rows, c->ffn, GRAPH_INS);
    return linear(b, l->act, p->down, NONE, l->x_mid);
}

static uint32_t mlp_back(struct build *b, const struct layer_tensors *l, uint32_t dx)
{
    const struct layer_params *p = &l->p;
    uint32_t dact, dgate, dup, dh;

    product_dw(b, &b->gradient[p->down], p->down, dx, l->act, NONE);
    dact = product_dx(b, dx, p->down, NONE);
    add_op(b, GRAPH_SWIGLU_BACK, IN(dact, l->gate, l->up, NONE, NONE, NONE));
    dgate = add_out(b, rows_of(b, dact), cols_of(b, dact), GRAPH_INS);
    dup = add_out(b, rows_of(b, dact), cols_of(b, dact), GRAPH_INS);
    product_dw(b, &b->gradient[p->gate], p->gate, dgate, l->h2.y, NONE);
    product_dw(b, &b->gradient[p->up], p->up, dup, l->h2.y, NONE);
    dh = product_dx(b, dgate, p->gate, NONE);
    dh = product_dx(b, dup, p->up, dh);
    return norm_back(b, dx, dh, l->x_mid, l->h2.r, p->post_norm);
}

/* The gradient of one projection of h1. */
static void project_back(struct build *b, const struct layer_tensors *l, uint32_t parameter,
                         uint32_t bias, uint32_t dy)
{
    product_dw(b, &b->gradient[parameter], parameter, dy, l->h1.y, NONE);
    if (bias != NONE)
        bias_back(b, bias, dy);
}

static uint32_t attention_back(struct build *b, const struct layer_tensors *l, uint32_t dx)
{
    const struct model_config *c = &b->g->config;
    const struct layer_params *p = &l->p;
    uint32_t datt, dq, dk, dv, dh;

    if (p->o_bias != NONE)
        bias_back(b, p->o_bias, dx);
    product_dw(b, &b->gradient[p->o], p->o, dx, l->att, NONE);
    datt = product_dx(b, dx, p->o, NONE);
    add_op(b, GRAPH_ATTEND_BACK, IN(l->q, l->k, l->v, l->att, l->lse, datt));
    dq = add_out(b, rows_of(b, dx), cols_of(b, l->q), GRAPH_INS);
    dk = add_out(b, rows_of(b, dx), cols_of(b, l->k), GRAPH_INS);
    dv = add_out(b, rows_of(b, dx), cols_of(b, l->v), GRAPH_INS);
    dq = unary(b, GRAPH_ROPE_BACK, dq, c->heads);
    dk = unary(b, GRAPH_ROPE_BACK, dk, c->kv_heads);
    if (c->qk_norm) {
        dq = norm_back(b, NONE, dq, l->q_raw, l->qn.r, p->q_norm);
        dk = norm_back(b, NONE, dk, l->k_raw, l->kn.r, p->k_norm);
    }
    project_back(b, l, p->q, p->q_bias, dq);
    project_back(b, l, p->k, p->k_bias, dk);
    project_back(b, l, p->v, p->v_bias, dv);
    dh = product_dx(b, dq, p->q, NONE);
    dh = product_dx(b, dk, p->k, dh);
    dh = product_dx(b, dv, p->v, dh);
    return norm_back(b, dx, dh, l->x_in, l->h1.r, p->input_norm);
}

/* ---- the head and the loss ------------------------------------------------------------------- */

/* Adds one column of n numbers, each a tile of its own: a row of logits is all that one may open. */
static uint32_t add_column(struct build *b, size_t n)
{
    uint32_t t = add_out(b, n, 1, GRAPH_INS);

    b->g->tensor[t].shape.tile_rows = 1;
    return t;
}

/* Rows of loss of chunk b->chunk, there and back: dh with their gradients in place. */
static uint32_t head(struct build *b, uint32_t hidden, uint32_t dh, uint32_t parameter)
{
    const struct graph *g = b->g;
    size_t n = g->chunk[b->chunk].n, rows = rows_of(b, hidden), C = cols_of(b, hidden);
    uint32_t x, logits, logp, top, sum, weight, dlogits, drows;
    bool tied = g->config.tie;

    add_op(b, GRAPH_GATHER, IN(hidden, NONE, NONE, NONE, NONE, NONE));
    x = add_out(b, n, C, GRAPH_INS);
    logits = linear(b, x, parameter, NONE, NONE);
    b->g->tensor[logits].shape.tile_rows = 1; /* for whole rows have to be shown */
    add_op(b, GRAPH_LOGPROB, IN(logits, NONE, NONE, NONE, NONE, NONE));
    logp = add_column(b, n);
    top = add_column(b, n);
    sum = add_column(b, n);
    add_op(b, GRAPH_WEIGH, IN(logp, NONE, NONE, NONE, NONE, NONE));
    weight = add_out(b, n, 1, GRAPH_INS);
    add_op(b, GRAPH_LOGPROB_BACK, IN(logits, top, sum, weight, NONE, NONE));
    dlogits = add_out(b, n, g->config.vocab, GRAPH_INS);
    product_dw(b, tied ? &b->head_gradient : &b->gradient[parameter], parameter, dlogits, x,
               weight);
    drows = product_dx(b, dlogits, parameter, NONE);
    add_op(b, GRAPH_SPREAD, IN(drows, dh, NONE, NONE, NONE, NONE));
    return add_out(b, rows, C, 1);
}

static uint32_t all_heads(struct build *b, uint32_t hidden, size_t first_chunk, size_t n)
{
    uint32_t parameter =
        find(b, b->g->config.tie ? "model.embed_tokens.weight" : "lm_head.weight");
    uint32_t dh = NONE;

    if (n == 0) { /* no loss, no gradient: but -0 + 0 is +0, so the rows count */
        add_op(b, GRAPH_SPREAD, IN(NONE, NONE, NONE, NONE, NONE, NONE));
        dh = add_out(b, rows_of(b, hidden), cols_of(b, hidden), GRAPH_INS);
    }
    for (size_t i = 0; i < n; i++) {
        b->chunk = (uint32_t)(first_chunk + i);
        dh = head(b, hidden, dh, parameter);
    }
    b->chunk = NONE;
    return dh;
}

/* One micro-batch, there and back. */
static void micro_ops(struct build *b, struct layer_tensors *l, size_t first_chunk,
                      size_t n_chunks)
{
    const struct model_config *c = &b->g->config;
    uint32_t embed, final, x, dx, dh;
    struct normed hidden;

    b->layer = NONE;
    embed = find(b, "model.embed_tokens.weight");
    final = find(b, "model.norm.weight");
    add_op(b, GRAPH_EMBED, IN(b->weight[embed], NONE, NONE, NONE, NONE, NONE));
    x = add_out(b, b->g->micro[b->micro].rows, c->dim, GRAPH_INS);
    for (b->layer = 0; b->layer < c->layers; b->layer++)
        x = layer_forward(b, &l[b->layer], x);
    b->layer = NONE;
    hidden = norm(b, x, final, 1);
    dh = all_heads(b, hidden.y, first_chunk, n_chunks);
    dx = norm_back(b, NONE, dh, x, hidden.r, final);
    for (size_t i = c->layers; i-- > 0;) {
        b->layer = i;
        dx = mlp_back(b, &l[i], dx);
        dx = attention_back(b, &l[i], dx);
    }
    b->layer = NONE;
    add_op(b, GRAPH_EMBED_BACK, IN(dx, b->gradient[embed], NONE, NONE, NONE, NONE));
    b->gradient[embed] = add_out(b, c->vocab, c->dim, 1);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Gradients that are not there are +0, and so is their sum. */
static uint32_t add_gradients(struct build *b, uint32_t parameter, uint32_t x, uint32_t y)
{
    const struct weights_tensor *p = &b->g->parameter[parameter];

    if (x == NONE && y == NONE)
        return NONE;
    add_op(b, GRAPH_ADD, IN(x, y, NONE, NONE, NONE, NONE))->parameter = parameter;
    return add_out(b, p->rows, p->cols, x == NONE ? 1 : 0);
}

/* The end of a lane: what lanes_gradient does then, as lanes_settle does it. */
static void settle(struct build *b, uint32_t lane)
{
    const struct graph *g = b->g;
    uint32_t n_lanes = g->settings.grad_lanes, k = 0;

    b->micro = b->layer = NONE;
    if (g->config.tie) {
        uint32_t embed = find(b, "model.embed_tokens.weight");

        b->gradient[embed] = add_gradients(b, embed, b->gradient[embed], b->head_gradient);
    }
    b->head_gradient = NONE;
    for (; lane >> k & 1u; k++)
        for (uint32_t i = 0; i < g->n_parameters; i++)
            b->gradient[i] = add_gradients(b, i, b->level[k][i], b->gradient[i]);
    for (size_t i = 0; n_lanes >> k != 1 && i < g->n_parameters; i++) {
        b->level[k][i] = b->gradient[i];
        b->gradient[i] = NONE;
    }
}

/* ---- the optimizer --------------------------------------------------------------------------- */

static void optimizer_ops(struct build *b)
{
    struct graph *g = b->g;
    size_t n = g->n_parameters;
    uint32_t squares = NONE, rows, scale;

    b->micro = b->layer = NONE;
    for (size_t i = 0; i < n; i++) {
        CHECK(b->gradient[i] != NONE);
        add_op(b, GRAPH_ROW_SQUARES, IN(b->gradient[i], NONE, NONE, NONE, NONE, NONE));
        rows = add_out(b, g->parameter[i].rows, 1, GRAPH_INS);
        add_op(b, GRAPH_SQUARES, IN(rows, squares, NONE, NONE, NONE, NONE))->parameter =
            (uint32_t)i;
        squares = add_out(b, 1, n, 1);
    }
    add_op(b, GRAPH_SCALE, IN(squares, NONE, NONE, NONE, NONE, NONE));
    scale = add_out(b, 1, 1, GRAPH_INS);
    for (uint32_t i = 0; i < n; i++) {
        add_op(b, GRAPH_ADAMW,
               IN(i, (uint32_t)(n + i), (uint32_t)(2 * n + i), b->gradient[i], scale, NONE))
            ->parameter = i;
        for (size_t o = 0; o < 3; o++)
            add_out(b, g->parameter[i].rows, g->parameter[i].cols, GRAPH_INS);
    }
    add_op(b, GRAPH_CONCLUDE, IN(NONE, NONE, NONE, NONE, NONE, NONE))->n_outs = 2;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static enum status alloc_rows(struct graph *g, const struct learn_batch *batch, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < batch->n_samples; i++) {
        if (batch->sample[i].n < 2)
            return err_set(e, ERR_INVALID, "sample %zu of the batch has %zu tokens, wants 2", i,
                           batch->sample[i].n);
        g->n_rows += batch->sample[i].n - 1;
    }
    g->n_seqs = batch->n_samples;
    st = alloc_array(&g->token, g->n_rows, sizeof(g->token[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->target, g->n_rows, sizeof(g->target[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->pos, g->n_rows, sizeof(g->pos[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->behaviour, g->n_rows, sizeof(g->behaviour[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->advantage, g->n_rows, sizeof(g->advantage[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->loss_row, g->n_rows, sizeof(g->loss_row[0]), "rows", e);
    if (!st)
        st = alloc_array(&g->length, g->n_seqs, sizeof(g->length[0]), "sequences", e);
    if (!st)
        st = alloc_array(&g->micro, g->n_seqs, sizeof(g->micro[0]), "micro-batches", e);
    if (!st) /* at most one begun chunk for each micro-batch */
        st = alloc_array(&g->chunk, g->n_seqs + g->n_rows / GRAPH_LOSS_ROWS,
                         sizeof(g->chunk[0]), "chunks of loss", e);
    return st;
}

static void fill_rows(struct graph *g, const struct learn_batch *batch)
{
    struct graph_micro *m = NULL;
    size_t row = 0;

    for (size_t i = 0; i < batch->n_samples; i++) {
        const struct learn_sample *s = &batch->sample[i];
        uint32_t lane = lanes_of(row, g->n_rows, g->settings.grad_lanes);

        if (!m || m->lane != lane || m->rows + s->n - 1 > GRAPH_ROWS) {
            m = &g->micro[g->n_micros++];
            *m = (struct graph_micro){.first_row = row, .first_seq = i, .lane = lane};
        }
        for (size_t t = 0; t + 1 < s->n; t++, row++) {
            g->token[row] = s->tokens[t];
            g->target[row] = s->mask[t + 1] == 1 ? s->tokens[t + 1] : -1;
            g->pos[row] = (int32_t)t;
            g->behaviour[row] = s->logprobs[t + 1];
            g->advantage[row] = s->advantage;
        }
        g->length[i] = s->n - 1;
        m->rows += s->n - 1;
        m->n_seqs++;
    }
}

/* The rows of loss of a micro-batch; returns in how many chunks. */
static size_t cut_loss(struct graph *g, const struct graph_micro *m, size_t *at)
{
    size_t n_before = g->n_chunks;
    struct graph_chunk *c = NULL;

    for (size_t r = 0; r < m->rows; r++) {
        if (g->target[m->first_row + r] < 0)
            continue;
        if (!c || c->n == GRAPH_LOSS_ROWS) {
            c = &g->chunk[g->n_chunks++];
            *c = (struct graph_chunk){.first = *at};
        }
        g->loss_row[(*at)++] = (uint32_t)r;
        c->n++;
    }
    return g->n_chunks - n_before;
}

static void set_scalars(struct graph *g, uint64_t step)
{
    const struct learn_settings *s = &g->settings;

    g->adamw = (struct adamw_scalars){
        .lr = learn_rate(s, step),
        .b1 = s->optimizer.beta1,
        .b2 = s->optimizer.beta2,
        .eps = s->optimizer.eps,
        .wd = s->optimizer.weight_decay,
        .bc1 = adamw_bias_correction(s->optimizer.beta1, g->opt_step + 1),
        .bc2 = adamw_bias_correction(s->optimizer.beta2, g->opt_step + 1),
    };
}

/* The tensors of the state, and the weights as published. */
static void state_tensors(struct build *b)
{
    struct graph *g = b->g;
    static const enum graph_state states[] = {GRAPH_MASTER, GRAPH_M, GRAPH_V};

    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < g->n_parameters; i++) {
            uint32_t t = add_tensor(g, g->parameter[i].rows, g->parameter[i].cols);

            g->tensor[t].state = states[s];
            g->tensor[t].index = (uint32_t)i;
        }
    b->micro = b->layer = b->chunk = NONE;
    for (uint32_t i = 0; i < g->n_parameters; i++) {
        b->weight[i] = i;
        b->gradient[i] = NONE;
        if (g->config.dtype == DTYPE_F32)
            continue;
        add_op(b, GRAPH_ROUND, IN(i, NONE, NONE, NONE, NONE, NONE));
        b->weight[i] = add_out(b, g->parameter[i].rows, g->parameter[i].cols, GRAPH_INS);
    }
}

static void build_ops(struct graph *g)
{
    struct layer_tensors *l = xcalloc(g->config.layers, sizeof(*l));
    struct build b = {.g = g, .head_gradient = NONE};
    size_t at = 0, m = 0;

    b.weight = xcalloc(g->n_parameters, sizeof(b.weight[0]));
    b.gradient = xcalloc(g->n_parameters, sizeof(b.gradient[0]));
    for (size_t k = 0; k < LANES_LEVELS; k++)
        b.level[k] = xcalloc(g->n_parameters, sizeof(b.level[k][0]));
    state_tensors(&b);
    for (uint32_t lane = 0; lane < g->settings.grad_lanes; lane++) {
        for (; m < g->n_micros && g->micro[m].lane == lane; m++) {
            size_t first = g->n_chunks, n = cut_loss(g, &g->micro[m], &at);

            b.micro = m;
            micro_ops(&b, l, first, n);
        }
        settle(&b, lane);
    }
    optimizer_ops(&b);
    free(b.weight);
    free(b.gradient);
    for (size_t k = 0; k < LANES_LEVELS; k++)
        free(b.level[k]);
    free(l);
}

static bool has_loss(const struct graph *g)
{
    for (size_t r = 0; r < g->n_rows; r++)
        if (g->target[r] >= 0)
            return true;
    return false;
}

enum status graph_new(struct graph **out, const struct model_config *config,
                      const struct learn_settings *settings, enum numerics numerics,
                      const struct learn_batch *batch, uint64_t step, uint64_t opt_step,
                      struct err *e)
{
    struct graph *g;
    enum status st;

    *out = NULL;
    if (numerics != NUMERICS_F32_1)
        return err_set(e, ERR_UNSUPPORTED,
                       "operations of a step are written out for class f32-1, not for '%s'",
                       numerics_name(numerics));
    CHECK(lanes_is_count(settings->grad_lanes));
    if (!batch->n_samples || !batch->n_tokens)
        return err_set(e, ERR_INVALID, "an empty batch makes no step");
    g = xcalloc(1, sizeof(*g));
    g->config = *config;
    g->settings = *settings;
    g->opt_step = opt_step;
    g->n_tokens = (float)batch->n_tokens;
    set_scalars(g, step);
    st = weights_table(&g->parameter, &g->n_parameters, config, e);
    if (!st)
        st = alloc_rows(g, batch, e);
    if (st) {
        graph_free(&g);
        return st;
    }
    fill_rows(g, batch);
    if (!has_loss(g)) {
        graph_free(&g);
        return err_set(e, ERR_UNSUPPORTED, "no row of the batch bears loss");
    }
    build_ops(g);
    *out = g;
    return OK;
}

void graph_free(struct graph **p)
{
    struct graph *g = *p;

    if (!g)
        return;
    free(g->parameter);
    free(g->op);
    free(g->tensor);
    free(g->micro);
    free(g->length);
    free(g->chunk);
    free(g->loss_row);
    free(g->token);
    free(g->target);
    free(g->pos);
    free(g->behaviour);
    free(g->advantage);
    free(g);
    *p = NULL;
}

/* The parameter an operation is about, or NONE. */
static uint32_t parameter_of(const struct graph *g, const struct graph_op *op)
{
    if (op->parameter != NONE)
        return op->parameter;
    for (size_t i = 0; i < GRAPH_INS; i++) {
        const struct graph_tensor *t = op->in[i] == NONE ? NULL : &g->tensor[op->in[i]];

        if (t && t->state == GRAPH_MASTER)
            return t->index;
        if (t && t->op != NONE && g->op[t->op].kind == GRAPH_ROUND)
            return parameter_of(g, &g->op[t->op]);
    }
    return NONE;
}

void graph_describe(char *text, size_t size, const struct graph *g, uint32_t op)
{
    const struct graph_op *o = &g->op[op];
    uint32_t parameter = parameter_of(g, o);
    char where[64] = "";

    if (o->micro != NONE)
        snprintf(where, sizeof(where), "micro-batch %" PRIu32 " ", o->micro);
    if (o->layer != NONE)
        snprintf(where + strlen(where), sizeof(where) - strlen(where), "layer %" PRIu32 " ",
                 o->layer);
    snprintf(text, size, "%s%s%s%s", where, graph_kind_name(o->kind),
             parameter == NONE ? "" : " of ",
             parameter == NONE ? "" : g->parameter[parameter].name);
}
