/*
 * learn/trace_ops.c - operations of a step, whole tensors at a time, by the engine's kernels
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "learn/loss.h"
#include "learn/trace.h"

/* An operation at work. */
struct work {
    struct trace *t;
    const struct graph *g;
    const struct graph_op *op;
    const float *const *in;
    float *const *out;
    const struct kernels *k;
    struct pool *pool;
    struct err *e;
};

static const struct tiling *shape_in(const struct work *w, size_t i)
{
    return &w->g->tensor[w->op->in[i]].shape;
}

static const struct tiling *shape_out(const struct work *w, size_t i)
{
    return &w->g->tensor[w->op->out[i]].shape;
}

static size_t count(const struct tiling *t)
{
    return (size_t)t->rows * t->cols;
}

static const struct graph_micro *micro(const struct work *w)
{
    return &w->g->micro[w->op->micro];
}

/* ---- rows ------------------------------------------------------------------------------------ */

static enum status do_round(const struct work *w)
{
    size_t n = count(shape_out(w, 0));
    uint16_t row[1024];

    for (size_t i = 0; i < n; i += 1024) {
        size_t m = n - i < 1024 ? n - i : 1024;

        bf16_from_f32_row(w->k, row, w->in[0] + i, m);
        f32_from_bf16_row(w->k, w->out[0] + i, row, m);
    }
    return OK;
}

static enum status do_embed(const struct work *w)
{
    embed_forward(w->k, w->out[0], w->in[0], w->g->token + micro(w)->first_row, micro(w)->rows,
                  shape_out(w, 0)->cols);
    return OK;
}

static void norm_rows(void *arg, size_t lo, size_t hi)
{
    const struct work *w = arg;
    const size_t C = shape_in(w, 0)->cols, H = w->op->heads, D = C / H;
    const float eps = w->g->config.norm_eps;

    rmsnorm_forward(w->k, w->out[0] + lo * C, w->in[0] + lo * C, w->in[1], (hi - lo) * H, D,
                    eps);
    for (size_t i = lo * H; i < hi * H; i++)
        w->out[1][i] = trace_rms(w->k, w->in[0] + i * D, D, eps);
}

static enum status do_norm(struct work *w)
{
    pool_run(w->pool, shape_in(w, 0)->rows, 16, norm_rows, w);
    return OK;
}

/* The weights of a product in packed form; those of the last one are still there. */
static enum status pack(const struct work *w, uint32_t tensor)
{
    const struct tiling *shape = &w->g->tensor[tensor].shape;
    struct trace *t = w->t;
    enum status st;

    if (t->packed_of == tensor)
        return OK;
    packed_clear(&t->packed);
    t->packed_of = GRAPH_NONE;
    st = packed_init(&t->packed, w->k, shape->rows, shape->cols, w->e);
    if (st)
        return st;
    packed_set(w->k, w->pool, &t->packed, w->in[1], DTYPE_F32);
    t->packed_of = tensor;
    return OK;
}

static enum status do_linear(const struct work *w)
{
    struct product p = {.y = w->out[0], .W = &w->t->packed, .bias = w->in[2], .add = w->in[3]};
    enum status st = pack(w, w->op->in[1]);

    if (!st)
        matmul_forward_all(w->k, w->pool, w->in[0], &p, 1, shape_in(w, 0)->rows);
    return st;
}

static enum status do_rope(const struct work *w, bool is_back)
{
    const int32_t *pos = w->g->pos + micro(w)->first_row;
    const size_t T = micro(w)->rows, H = w->op->heads, D = w->g->config.head_dim;

    memcpy(w->out[0], w->in[0], T * H * D * sizeof(float));
    (is_back ? rope_backward : rope_forward)(w->k, w->out[0], w->t->cos, w->t->sin, pos, T, H,
                                             D);
    return OK;
}

static struct attention_shape attention_shape(const struct model_config *c)
{
    size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim;

    return (struct attention_shape){.H = c->heads,
                                    .G = c->kv_heads,
                                    .D = c->head_dim,
                                    .q_stride = q,
                                    .out_stride = q,
                                    .k_stride = kv,
                                    .v_stride = kv,
                                    .scale = attention_scale(c->head_dim)};
}

static enum status do_attend(const struct work *w)
{
    const struct graph_micro *m = micro(w);
    const struct attention_shape s = attention_shape(&w->g->config);
    struct attention_run *runs = xcalloc(m->n_seqs, sizeof(*runs));
    size_t row = 0;

    for (size_t i = 0; i < m->n_seqs; i++) {
        runs[i] = (struct attention_run){.out = w->out[0] + row * s.out_stride,
                                         .lse = w->out[1] + row * s.H,
                                         .q = w->in[0] + row * s.q_stride,
                                         .k = w->in[1] + row * s.k_stride,
                                         .v = w->in[2] + row * s.v_stride,
                                         .n = w->g->length[m->first_seq + i]};
        row += runs[i].n;
    }
    attention_forward(w->k, w->pool, runs, m->n_seqs, &s);
    free(runs);
    return OK;
}

static enum status do_attend_back(const struct work *w)
{
    const struct graph_micro *m = micro(w);
    const struct attention_shape s = attention_shape(&w->g->config);
    struct attention_grad *seqs = xcalloc(m->n_seqs, sizeof(*seqs));
    size_t row = 0;

    for (size_t i = 0; i < m->n_seqs; i++) {
        seqs[i] = (struct attention_grad){.dq = w->out[0] + row * s.q_stride,
                                          .dk = w->out[1] + row * s.k_stride,
                                          .dv = w->out[2] + row * s.v_stride,
                                          .q = w->in[0] + row * s.q_stride,
                                          .k = w->in[1] + row * s.k_stride,
                                          .v = w->in[2] + row * s.v_stride,
                                          .out = w->in[3] + row * s.out_stride,
                                          .lse = w->in[4] + row * s.H,
                                          .dout = w->in[5] + row * s.out_stride,
                                          .n = w->g->length[m->first_seq + i]};
        row += seqs[i].n;
    }
    attention_backward(w->k, w->pool, seqs, m->n_seqs, &s);
    free(seqs);
    return OK;
}

/* ---- the loss -------------------------------------------------------------------------------- */

/* The row of its micro-batch that row i of loss is. */
static size_t loss_row(const struct work *w, size_t i)
{
    return w->g->loss_row[w->g->chunk[w->op->chunk].first + i];
}

static int32_t target(const struct graph *g, const struct graph_op *op, size_t i)
{
    return g
        ->target[g->micro[op->micro].first_row + g->loss_row[g->chunk[op->chunk].first + i]];
}

static enum status do_gather(const struct work *w)
{
    const struct tiling *s = shape_out(w, 0);

    for (size_t i = 0; i < s->rows; i++)
        memcpy(w->out[0] + i * s->cols, w->in[0] + loss_row(w, i) * s->cols,
               s->cols * sizeof(float));
    return OK;
}

static enum status do_spread(const struct work *w)
{
    size_t C = shape_out(w, 0)->cols;

    for (size_t i = 0; w->in[0] && i < shape_in(w, 0)->rows; i++)
        memcpy(w->out[0] + loss_row(w, i) * C, w->in[0] + i * C, C * sizeof(float));
    return OK;
}

static void logprob_rows(void *arg, size_t lo, size_t hi)
{
    const struct work *w = arg;
    const size_t V = shape_in(w, 0)->cols;
    const float T = w->g->settings.temperature;

    for (size_t i = lo; i < hi; i++) {
        const float *x = w->in[0] + i * V;
        float *m = w->out[1] + i;

        w->out[2][i] = exp_sum_forward(w->k, x, m, T, V);
        w->out[0][i] = (x[target(w->g, w->op, i)] / T - *m) - log_f32(w->out[2][i]);
    }
}

static enum status do_logprob(struct work *w)
{
    pool_run(w->pool, shape_in(w, 0)->rows, 1, logprob_rows, w);
    return OK;
}

float trace_loss_weight(const struct graph *g, const struct graph_op *op, size_t i, float logp)
{
    size_t row = g->micro[op->micro].first_row + g->loss_row[g->chunk[op->chunk].first + i];

    return loss_token_of(logp, g->behaviour[row], g->advantage[row], &g->settings.loss).coef /
           g->n_tokens;
}

static enum status do_weigh(const struct work *w)
{
    for (size_t i = 0; i < shape_in(w, 0)->rows; i++)
        w->out[0][i] = trace_loss_weight(w->g, w->op, i, w->in[0][i]);
    return OK;
}

static enum status do_logprob_back(const struct work *w)
{
    size_t n = shape_in(w, 0)->rows, V = shape_in(w, 0)->cols;
    int32_t *token = xcalloc(n, sizeof(*token));

    for (size_t i = 0; i < n; i++)
        token[i] = target(w->g, w->op, i);
    logprob_backward(w->k, w->pool, w->out[0], w->in[3], w->in[0], token,
                     w->g->settings.temperature, n, V);
    free(token);
    return OK;
}

/* ---- gradients ------------------------------------------------------------------------------- */

static enum status do_dx(const struct work *w)
{
    size_t M = shape_in(w, 0)->rows, N = shape_in(w, 0)->cols, K = shape_in(w, 1)->cols;

    (w->in[2] ? matmul_dx_add : matmul_dx)(w->k, w->pool, w->out[0], w->in[0], w->in[1], M, N,
                                           K);
    return OK;
}

/* Runs of rows that have a weight. */
static enum status do_dw(const struct work *w)
{
    size_t T = shape_in(w, 0)->rows, N = shape_in(w, 0)->cols, K = shape_in(w, 1)->cols;

    for (size_t lo = 0, hi; lo < T; lo = hi + 1) {
        for (hi = lo; hi < T && (!w->in[2] || w->in[2][hi] != 0.0f);)
            hi++;
        if (hi > lo)
            matmul_dw(w->k, w->pool, w->out[0], w->in[0] + lo * N, w->in[1] + lo * K, hi - lo,
                      N, K);
    }
    return OK;
}

static enum status do_norm_back(const struct work *w)
{
    size_t H = w->op->heads, D = shape_in(w, 1)->cols / H;

    rmsnorm_backward(w->k, w->out[0], w->out[1], w->in[0], w->in[1], w->in[2],
                     shape_in(w, 1)->rows * H, D, w->g->config.norm_eps);
    return OK;
}

static enum status do_embed_back(const struct work *w)
{
    embed_backward(w->k, w->out[0], w->in[0], w->g->token + micro(w)->first_row, micro(w)->rows,
                   shape_in(w, 0)->cols);
    return OK;
}

/* ---- the optimizer --------------------------------------------------------------------------- */

static enum status do_row_squares(const struct work *w)
{
    const struct tiling *s = shape_in(w, 0);

    for (size_t i = 0; i < s->rows; i++)
        w->out[0][i] =
            dot_forward(w->k, w->in[0] + i * s->cols, w->in[0] + i * s->cols, s->cols);
    return OK;
}

static enum status do_squares(const struct work *w)
{
    w->out[0][w->op->parameter] = sum_forward(w->k, w->in[0], shape_in(w, 0)->rows);
    return OK;
}

static enum status do_scale(const struct work *w)
{
    w->out[0][0] = grad_clip_scale(grad_norm(w->in[0], shape_in(w, 0)->cols),
                                   w->g->settings.optimizer.clip_norm);
    return OK;
}

static enum status do_adamw(const struct work *w)
{
    struct adamw_scalars s = w->g->adamw;
    size_t n = count(shape_in(w, 0));

    s.grad_scale = w->in[4][0];
    for (size_t i = 0; i < 3; i++)
        memcpy(w->out[i], w->in[i], n * sizeof(float));
    adamw_update(w->k, w->pool, w->out[0], w->out[1], w->out[2], w->in[3], &s, n);
    return OK;
}

/* An absent operand is all +0, and is added: -0 + +0 is +0. */
static enum status do_add(const struct work *w)
{
    size_t n = count(shape_out(w, 0));

    if (w->in[0] && w->in[1]) {
        add_forward(w->k, w->out[0], w->in[0], w->in[1], n);
        return OK;
    }
    const float *x = w->in[0] ? w->in[0] : w->in[1];
    for (size_t i = 0; i < n; i++)
        w->out[0][i] = x[i] + 0.0f;
    return OK;
}

float trace_rms(const struct kernels *k, const float *x, size_t n, float eps)
{
    return 1.0f / sqrtf(dot_forward(k, x, x, n) / (float)n + eps);
}

enum status trace_execute(struct trace *t, const struct graph_op *op,
                          const float *const in[GRAPH_INS], float *const out[GRAPH_OUTS],
                          struct err *e)
{
    struct work w = {t, t->g, op, in, out, t->options.kernels, t->options.pool, e};

    switch (op->kind) {
    case GRAPH_ROUND: return do_round(&w);
    case GRAPH_EMBED: return do_embed(&w);
    case GRAPH_NORM: return do_norm(&w);
    case GRAPH_LINEAR: return do_linear(&w);
    case GRAPH_ROPE: return do_rope(&w, false);
    case GRAPH_ROPE_BACK: return do_rope(&w, true);
    case GRAPH_ATTEND: return do_attend(&w);
    case GRAPH_SWIGLU:
        swiglu_forward(w.k, w.pool, out[0], in[0], in[1], count(shape_out(&w, 0)));
        return OK;
    case GRAPH_GATHER: return do_gather(&w);
    case GRAPH_LOGPROB: return do_logprob(&w);
    case GRAPH_WEIGH: return do_weigh(&w);
    case GRAPH_LOGPROB_BACK: return do_logprob_back(&w);
    case GRAPH_DX: return do_dx(&w);
    case GRAPH_DW: return do_dw(&w);
    case GRAPH_SPREAD: return do_spread(&w);
    case GRAPH_NORM_BACK: return do_norm_back(&w);
    case GRAPH_SWIGLU_BACK:
        swiglu_backward(w.k, w.pool, out[0], out[1], in[0], in[1], in[2],
                        count(shape_out(&w, 0)));
        return OK;
    case GRAPH_BIAS_BACK:
        bias_backward(w.k, out[0], in[0], shape_in(&w, 0)->rows, shape_in(&w, 0)->cols);
        return OK;
    case GRAPH_ATTEND_BACK: return do_attend_back(&w);
    case GRAPH_EMBED_BACK: return do_embed_back(&w);
    case GRAPH_ADD: return do_add(&w);
    case GRAPH_ROW_SQUARES: return do_row_squares(&w);
    case GRAPH_SQUARES: return do_squares(&w);
    case GRAPH_SCALE: return do_scale(&w);
    case GRAPH_ADAMW: return do_adamw(&w);
    case GRAPH_CONCLUDE:
    case GRAPH_KIND_COUNT: break;
    }
    CHECK(!"an operation of this kind is executed");
    return OK;
}
