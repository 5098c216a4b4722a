#include "replay/party.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/adamw.h"
#include "engine/kernels.h"

struct party {
    struct transcript_step step;
    struct public_key challenger;
    struct weights *masters; /* owned */
    struct adamw *opt;       /* owned */
    struct trace_fault fault;
    struct trace *trace; /* owned; NULL: the step trained on nothing, or is contradicted */
    struct dispute_party own;
};

void party_free(struct party **pp)
{
    struct party *p = *pp;

    if (!p)
        return;
    dispute_party_clear(&p->own);
    trace_free(&p->trace);
    transcript_step_clear(&p->step);
    weights_free(&p->masters);
    adamw_free(&p->opt);
    free(p);
    *pp = NULL;
}

static enum status copy_state(struct party *p, const struct party_options *o, struct err *e)
{
    enum status st = weights_new(&p->masters, &o->masters->config, e);

    if (!st)
        st = adamw_new(&p->opt, &o->masters->config, e);
    if (st)
        return st;
    weights_copy(p->masters, o->masters);
    weights_copy(p->opt->m, o->opt->m);
    weights_copy(p->opt->v, o->opt->v);
    p->opt->step = o->opt->step;
    return OK;
}

/* The operation that makes the gradient which the cheat alters: the last one, before it is squared. */
static uint32_t find_gradient(const struct graph *g)
{
    uint32_t found = GRAPH_NONE;

    for (uint32_t i = 0; i < g->n_ops; i++) {
        const struct graph_op *op = &g->op[i];

        if ((op->kind == GRAPH_DW || op->kind == GRAPH_ADD) && op->parameter != GRAPH_NONE &&
            !strcmp(g->parameter[op->parameter].name, TRAIN_CHEAT_TENSOR))
            found = i;
    }
    return found;
}

/* Which bits the cheat turns, from the honest trace, which is made once more with them. */
static enum status make_fault(struct party *p, const struct trace_options *options,
                              struct err *e)
{
    struct trace_options altered = *options;
    uint32_t op = find_gradient(p->step.graph), was, is;
    float number;
    enum status st;

    if (op == GRAPH_NONE)
        return OK;
    st = trace_seek(p->trace, op, e);
    if (st)
        return st;
    number = trace_tensor(p->trace, p->step.graph->op[op].out[0])[TRAIN_CHEAT_AT];
    memcpy(&was, &number, sizeof(was));
    number = train_cheat_altered(number);
    memcpy(&is, &number, sizeof(is));
    p->fault = (struct trace_fault){.op = op, .at = TRAIN_CHEAT_AT, .flip = was ^ is};
    altered.fault = &p->fault;
    trace_free(&p->trace);
    st = trace_new(&p->trace, p->step.graph, p->masters, p->opt, &altered, e);
    return st ? st : trace_commit(p->trace, e);
}

enum status party_open(struct party **out, const struct transcript *t,
                       const struct party_options *o, struct err *e)
{
    const struct trace_options options = {.kernels = kernels_best(), .pool = o->pool};
    struct party *p = xcalloc(1, sizeof(*p));
    enum status st = transcript_open(&p->step, t, e);

    p->challenger = t->challenger;
    if (!st)
        st = copy_state(p, o, e);
    if (!st && p->step.graph)
        st = trace_new(&p->trace, p->step.graph, p->masters, p->opt, &options, e);
    if (!st && p->trace)
        st = trace_commit(p->trace, e);
    if (!st && p->trace && o->side == DISPUTE_DEFENDER && train_cheat_is_gradient(o->cheat))
        st = make_fault(p, &options, e);
    dispute_party_init(&p->own, o->side, p->trace);
    if (st)
        party_free(&p);
    *out = p;
    return st;
}

enum status party_move(struct party *p, struct bytes moves, struct buf *out, struct err *e)
{
    struct dispute d;
    uint32_t n = 0;
    enum status st;

    if (p->step.is_empty)
        return OK; /* nobody has a move */
    transcript_begin(&d, &p->step);
    st = transcript_moves(&d, &n, &p->step, &p->challenger, moves, e);
    if (!st && (n % 2 ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER) == p->own.side) {
        if (d.level == DISPUTE_CLOSED)
            buf_put_u8(out, DISPUTE_CALL);
        else
            st = dispute_party_move(&p->own, &d, out, e);
    }
    dispute_clear(&d);
    return st;
}
