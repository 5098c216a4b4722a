/*
 * learn/trace.h - a step computed operation by operation, with a root over what each one made
 *
 * The trace of a step is the Merkle tree over its operations in order, the leaf of one being the
 * roots of its outputs (learn/graph.h, learn/tiles.h), one after the other. Two parties
 * with different results have different traces, and the first operation where they differ has
 * inputs that both agree on. Nobody makes a trace unless a step is disputed: the trainer's own
 * step (learn/learner.h) knows nothing of it.
 *
 * A whole trace does not fit in memory, so a party goes through the step twice:
 *
 *   trace_commit   everything, keeping roots only
 *   trace_seek     up to one operation, without hashing; its inputs and outputs stay at hand
 *
 * Threads: a trace belongs to one thread; kernels and hashing split over its pool.
 */
#ifndef LEARN_TRACE_H
#define LEARN_TRACE_H

#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "engine/adamw.h"
#include "engine/kernels.h"
#include "learn/graph.h"
#include "proto/types.h"

/* For tests of disputes and for showing one: bits of one number of one output are flipped as soon as
 * it was computed, in every pass. */
struct trace_fault {
    uint32_t op, out;
    uint64_t at; /* number of the output, row by row */
    uint32_t flip;
};

struct trace_options {
    const struct kernels *kernels;   /* borrowed */
    struct pool *pool;               /* borrowed; may be NULL */
    const struct trace_fault *fault; /* borrowed; NULL: none */
};

struct trace {
    const struct graph *g;         /* borrowed */
    const struct weights *masters; /* borrowed, like `opt`: the state before the step */
    const struct adamw *opt;
    struct trace_options options;

    float **made;           /* owned, by tensor; NULL: not there (any more) */
    float *kept[GRAPH_INS]; /* owned: inputs of the operation sought whose place it took */
    uint32_t at;            /* operation sought, or GRAPH_NONE */
    float *cos, *sin;       /* owned: rotation of the positions in the step */
    struct packed packed;   /* of the tensor packed_of, for products one after another */
    uint32_t packed_of;

    /* After trace_commit, owned: */
    struct digest *root; /* by tensor */
    struct digest *leaf; /* by operation: leaf hashes */
    struct digest all;   /* root over them */
    struct digest masters_before, optimizer_before, masters_after, optimizer_after;
};

/* ERR_NO_MEMORY. The state must have the graph's config and step count. */
MUST_USE enum status trace_new(struct trace **out, const struct graph *g,
                               const struct weights *masters, const struct adamw *opt,
                               const struct trace_options *options, struct err *e);
void trace_free(struct trace **p);

/* ERR_NO_MEMORY. */
MUST_USE enum status trace_commit(struct trace *t, struct err *e);
/* Makes the inputs and outputs of an operation available. From one operation to a later one it goes on
 * from there. ERR_NO_MEMORY: the next call begins anew. */
MUST_USE enum status trace_seek(struct trace *t, uint32_t op, struct err *e);

/* The numbers of an input or output of the operation sought. */
const float *trace_tensor(const struct trace *t, uint32_t tensor);
/* The roots of an operation's outputs, after trace_commit; how many. */
size_t trace_outs(const struct trace *t, uint32_t op, struct digest root[GRAPH_OUTS]);

/* For learn/trace_ops.c and learn/referee.c: the factors of a norm's row, and one row's loss weight. */
float trace_rms(const struct kernels *k, const float *x, size_t n, float eps);
float trace_loss_weight(const struct graph *g, const struct graph_op *op, size_t i, float logp);

/* Computes operation `op` of t->g into its outputs, which have memory: learn/trace_ops.c. `in` and
 * `out` as the operation lists them, NULL where there is none. ERR_NO_MEMORY. */
MUST_USE enum status trace_execute(struct trace *t, const struct graph_op *op,
                                   const float *const in[GRAPH_INS],
                                   float *const out[GRAPH_OUTS], struct err *e);

#endif
