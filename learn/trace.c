#include "learn/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "learn/tiles.h"
#include "proto/merkle.h"

static size_t numbers(const struct graph *g, uint32_t tensor)
{
    return (size_t)g->tensor[tensor].shape.rows * g->tensor[tensor].shape.cols;
}

/* ---- making ---------------------------------------------------------------------------------- */

static enum status make_tables(struct trace *t, struct err *e)
{
    const struct model_config *c = &t->g->config;
    size_t n_pos = 0;
    enum status st;

    for (size_t i = 0; i < t->g->n_rows; i++)
        n_pos = (size_t)t->g->pos[i] >= n_pos ? (size_t)t->g->pos[i] + 1 : n_pos;
    st = alloc_array(&t->cos, n_pos * (c->head_dim / 2), sizeof(float), "rotations", e);
    if (!st)
        st = alloc_array(&t->sin, n_pos * (c->head_dim / 2), sizeof(float), "rotations", e);
    if (!st)
        rope_table(t->cos, t->sin, c->rope_theta, &c->rope_scaling, 0, n_pos, c->head_dim);
    return st;
}

enum status trace_new(struct trace **out, const struct graph *g, const struct weights *masters,
                      const struct adamw *opt, const struct trace_options *options,
                      struct err *e)
{
    struct trace *t = xcalloc(1, sizeof(*t));
    enum status st;

    CHECK(opt->step == g->opt_step && masters->n_tensors == g->n_parameters);
    *out = NULL;
    t->g = g;
    t->masters = masters;
    t->opt = opt;
    t->options = *options;
    t->at = t->packed_of = GRAPH_NONE;
    st = alloc_array(&t->made, g->n_tensors, sizeof(*t->made), "tensors", e);
    if (!st)
        st = alloc_array(&t->root, g->n_tensors, sizeof(*t->root), "roots of tensors", e);
    if (!st)
        st = alloc_array(&t->leaf, g->n_ops, sizeof(*t->leaf), "hashes of operations", e);
    if (!st)
        st = make_tables(t, e);
    if (st)
        trace_free(&t);
    *out = t;
    return st;
}

/* Forgets what the operations made. */
static void reset(struct trace *t)
{
    for (size_t i = 0; i < t->g->n_tensors; i++) {
        free(t->made[i]);
        t->made[i] = NULL;
    }
    for (size_t i = 0; i < GRAPH_INS; i++) {
        free(t->kept[i]);
        t->kept[i] = NULL;
    }
    packed_clear(&t->packed);
    t->packed_of = t->at = GRAPH_NONE;
}

void trace_free(struct trace **p)
{
    struct trace *t = *p;

    if (!t)
        return;
    if (t->made)
        reset(t);
    free(t->made);
    free(t->root);
    free(t->leaf);
    free(t->cos);
    free(t->sin);
    free(t);
    *p = NULL;
}

/* ---- one operation --------------------------------------------------------------------------- */

const float *trace_tensor(const struct trace *t, uint32_t tensor)
{
    const struct graph_tensor *x = &t->g->tensor[tensor];

    switch (x->state) {
    case GRAPH_MASTER: return t->masters->tensors[x->index].data;
    case GRAPH_M: return t->opt->m->tensors[x->index].data;
    case GRAPH_V: return t->opt->v->tensors[x->index].data;
    default: break;
    }
    for (size_t i = 0; t->at != GRAPH_NONE && i < GRAPH_INS; i++)
        if (t->kept[i] && t->g->op[t->at].in[i] == tensor)
            return t->kept[i];
    CHECK(t->made[tensor]);
    return t->made[tensor];
}

/* Gives output o memory: its own, or an input's, which is copied first if it will be asked for. */
static enum status place(struct trace *t, const struct graph_op *op, size_t o, bool is_sought,
                         struct err *e)
{
    const size_t n = numbers(t->g, op->out[o]);
    const uint8_t slot = op->reuse[o];
    enum status st = OK;

    if (slot == GRAPH_INS || op->in[slot] == GRAPH_NONE)
        return alloc_array(&t->made[op->out[o]], n, sizeof(float), "an operation's output", e);
    if (is_sought)
        st = alloc_array(&t->kept[slot], n, sizeof(float), "an operation's input", e);
    if (st)
        return st;
    t->made[op->out[o]] = t->made[op->in[slot]];
    t->made[op->in[slot]] = NULL;
    if (is_sought)
        memcpy(t->kept[slot], t->made[op->out[o]], n * sizeof(float));
    return OK;
}

static void apply_fault(const struct trace *t, uint32_t index)
{
    const struct trace_fault *f = t->options.fault;
    uint32_t bits;
    float *at;

    if (!f || f->op != index || t->g->op[index].kind == GRAPH_CONCLUDE)
        return;
    at = t->made[t->g->op[index].out[f->out]] + f->at;
    memcpy(&bits, at, sizeof(bits));
    bits ^= f->flip;
    memcpy(at, &bits, sizeof(bits));
}

static enum status step(struct trace *t, uint32_t index, bool is_sought, struct err *e)
{
    const struct graph_op *op = &t->g->op[index];
    const float *in[GRAPH_INS] = {0};
    float *out[GRAPH_OUTS] = {0};
    enum status st = OK;

    if (op->kind == GRAPH_CONCLUDE)
        return OK;
    for (size_t i = 0; i < GRAPH_INS; i++)
        if (op->in[i] != GRAPH_NONE)
            in[i] = trace_tensor(t, op->in[i]);
    for (size_t o = 0; !st && o < op->n_outs; o++) {
        st = place(t, op, o, is_sought, e);
        out[o] = t->made[op->out[o]];
    }
    if (!st)
        st = trace_execute(t, op, in, out, e);
    if (!st)
        apply_fault(t, index);
    return st;
}

/* Frees what nobody reads after operation `index`. */
static void release(struct trace *t, uint32_t index)
{
    const struct graph_op *op = &t->g->op[index];

    for (size_t i = 0; i < GRAPH_INS; i++)
        if (op->in[i] != GRAPH_NONE && t->g->tensor[op->in[i]].last == index) {
            free(t->made[op->in[i]]);
            t->made[op->in[i]] = NULL;
        }
    for (size_t o = 0; op->kind != GRAPH_CONCLUDE && o < op->n_outs; o++)
        if (t->g->tensor[op->out[o]].last == GRAPH_NONE) {
            free(t->made[op->out[o]]);
            t->made[op->out[o]] = NULL;
        }
}

/* ---- the two passes -------------------------------------------------------------------------- */

/* The roots that the optimizer's operations come to. */
static enum status conclude(struct trace *t, struct err *e)
{
    const struct graph *g = t->g;
    size_t n = g->n_parameters;
    const struct trace_fault *f = t->options.fault;
    struct digest *root;
    enum status st = alloc_array(&root, 3 * n, sizeof(*root), "roots of parameters", e);

    if (st)
        return st;
    for (size_t i = 0; i < g->n_ops; i++)
        for (size_t o = 0; g->op[i].kind == GRAPH_ADAMW && o < 3; o++)
            root[o * n + g->op[i].parameter] = t->root[g->op[i].out[o]];
    state_masters_root(&t->masters_after, root, n);
    state_optimizer_root(&t->optimizer_after, g->opt_step + 1, root + n, root + 2 * n, n);
    if (f && f->op == g->n_ops - 1)
        (f->out ? &t->optimizer_after : &t->masters_after)->b[f->at % DIGEST_BYTES] ^=
            (uint8_t)(f->flip | 1);
    free(root);
    return OK;
}

size_t trace_outs(const struct trace *t, uint32_t op, struct digest root[GRAPH_OUTS])
{
    const struct graph_op *o = &t->g->op[op];

    if (o->kind == GRAPH_CONCLUDE) {
        root[0] = t->masters_after;
        root[1] = t->optimizer_after;
        return 2;
    }
    for (size_t i = 0; i < o->n_outs; i++)
        root[i] = t->root[o->out[i]];
    return o->n_outs;
}

static enum status commit_op(struct trace *t, uint32_t index, struct err *e)
{
    const struct graph_op *op = &t->g->op[index];
    struct digest outs[GRAPH_OUTS];
    enum status st = OK;
    size_t n;

    if (op->kind == GRAPH_CONCLUDE)
        st = conclude(t, e);
    for (size_t o = 0; !st && op->kind != GRAPH_CONCLUDE && o < op->n_outs; o++)
        st = tiles_root(&t->root[op->out[o]], &t->g->tensor[op->out[o]].shape,
                        t->made[op->out[o]], t->options.pool, e);
    if (st)
        return st;
    n = trace_outs(t, index, outs);
    merkle_leaf(&t->leaf[index],
                (struct bytes){(const uint8_t *)outs, n * sizeof(struct digest)});
    return OK;
}

static enum status commit_state(struct trace *t, struct err *e)
{
    size_t n = t->g->n_parameters;
    enum status st = tiles_weights_roots(t->root, t->masters, t->options.pool, e);

    if (!st)
        st = tiles_weights_roots(t->root + n, t->opt->m, t->options.pool, e);
    if (!st)
        st = tiles_weights_roots(t->root + 2 * n, t->opt->v, t->options.pool, e);
    if (st)
        return st;
    state_masters_root(&t->masters_before, t->root, n);
    state_optimizer_root(&t->optimizer_before, t->opt->step, t->root + n, t->root + 2 * n, n);
    return OK;
}

enum status trace_commit(struct trace *t, struct err *e)
{
    struct merkle tree;
    enum status st;

    reset(t);
    st = commit_state(t, e);
    merkle_init(&tree);
    for (uint32_t i = 0; !st && i < t->g->n_ops; i++) {
        st = step(t, i, false, e);
        if (!st)
            st = commit_op(t, i, e);
        if (st)
            break;
        merkle_add_hash(&tree, &t->leaf[i]);
        release(t, i);
    }
    if (!st)
        merkle_root(&tree, &t->all);
    reset(t);
    return st;
}

/* Goes on from the operation sought before: frees what it kept. */
static void leave(struct trace *t)
{
    for (size_t i = 0; i < GRAPH_INS; i++) {
        free(t->kept[i]);
        t->kept[i] = NULL;
    }
    release(t, t->at);
}

enum status trace_seek(struct trace *t, uint32_t op, struct err *e)
{
    uint32_t first = 0;
    enum status st = OK;

    CHECK(op < t->g->n_ops);
    if (t->at == op)
        return OK;
    if (t->at != GRAPH_NONE && t->at < op) {
        first = t->at + 1;
        leave(t);
    } else {
        reset(t);
    }
    for (uint32_t i = first; !st && i <= op; i++) {
        t->at = i == op ? op : GRAPH_NONE;
        st = step(t, i, i == op, e);
        if (!st && i < op)
            release(t, i);
    }
    if (st)
        reset(t);
    return st;
}
