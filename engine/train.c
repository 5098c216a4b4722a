#include "engine/train_inside.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

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
    layer_norm(m, t->hidden, t->last, m->w->norm, b->rows);
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

/* The log-probabilities of the n rows at hand, to their places in logp. With a gradient to follow
 * the host's logits become exponentials, which are not computed again then. */
static enum status gathered_logp(struct train *t, const struct train_batch *b, float *logp,
                                 size_t n, bool has_gradient, struct err *e)
{
    const struct model *m = t->model;
    enum status st;

    if (has_gradient && !t->device)
        logprob_forward_exps(m->kernels, m->pool, t->s.logp, t->inv, t->s.logits, t->tokens_at,
                             b->temperature, n, m->config.vocab);
    else
        logprob_forward(m->kernels, m->pool, t->s.logp, t->s.logits, t->tokens_at,
                        b->temperature, n, m->config.vocab);
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
            st = gathered_logp(t, b, logp, n, false, e);
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
            t->inv[to] = t->inv[i];
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
    float *grad = t->grads->head ? t->grads->head : t->grads->embed;

    if (n == 0)
        return;
    if (t->device)
        logprob_backward(k, m->pool, s->logits, s->weight, s->logits, t->tokens_at, temperature,
                         n, V);
    else
        logprob_backward_exps(k, m->pool, s->logits, t->inv, s->weight, t->tokens_at,
                              temperature, n, V);
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
    layer_norm(m, s->h, a->x_mid, w->post_norm, T);
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
    layer_norm(m, s->h, a->x_in, w->input_norm, T);
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
    float *const table = t->apart.at ? t->apart.at : t->grads->embed;

    if (t->device) {
        m->kernels->ops->embed_backward(t->device, table, t->s.dx, t->there.tokens,
                                        t->there.order, t->there.start, t->there.n_ids, c->dim);
        return;
    }
    embed_backward(m->kernels, table, t->s.dx, b->tokens, b->rows, c->dim);
    for (size_t r = 0; t->apart.has_row && r < b->rows; r++)
        t->apart.has_row[b->tokens[r]] = true;
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
            st = gathered_logp(t, b, logp, n, true, e);
        if (!st)
            st = weigh_rows(t, weigh, arg, n, &left, e);
        if (st)
            return st;
        gathered_backward(t, b->temperature, left);
    }
    body_backward(t, b);
    return OK;
}
