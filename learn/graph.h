/*
 * learn/graph.h - a training step as a list of operations
 *
 * What learner_step does, written out: every operation in the order it is executed, with the
 * tensors it reads and those it makes. The graph is a function of public facts (the model's
 * config, the settings, the batch, the step's number), so whoever argues about a step has the same
 * one without exchanging it. It says what depends on what; learn/trace.h computes it, and
 * learn/referee.h computes any one tile of any one output again.
 *
 * Tensors are matrices of f32, made once and never changed (what the executor reuses in memory is
 * its own affair), and cut into tiles (learn/tiles.h) of TILE_SIDE by TILE_SIDE numbers; those of
 * logits and of what LOGPROB makes are of one row, since it takes whole rows of logits, and those of
 * lse are of one column.
 *
 * Sums that run over more than GRAPH_SEGMENT terms in one operation can be taken up in between:
 * segment s of a tile goes from the accumulators after s * GRAPH_SEGMENT terms to those
 * after the next, the last one through to the output.
 *
 * Micro-batches are whole sequences, filled in order up to GRAPH_ROWS rows; a longer sequence is one
 * by itself. No micro-batch reaches over the end of a lane (learn/lanes.h). Rows that bear loss go
 * through the head GRAPH_LOSS_ROWS at a time.
 *
 * Class f32-1. Threads: none of its own; read by many.
 */
#ifndef LEARN_GRAPH_H
#define LEARN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/config.h"
#include "engine/ops.h"
#include "engine/weights.h"
#include "learn/batch.h"
#include "learn/learner.h"
#include "learn/tiles.h"

#define GRAPH_ROWS      1024u
#define GRAPH_LOSS_ROWS 256u
#define GRAPH_SEGMENT   1024u
#define GRAPH_INS       6u
#define GRAPH_OUTS      3u
#define GRAPH_NONE      UINT32_MAX

/*
 * X(KIND, name): inputs -> outputs; those in brackets may be absent, an absent tensor that is added
 * to being all +0. T rows of the micro-batch, n rows of loss, C, Q, F, V widths, g heads in a row.
 *
 *   ROUND       W -> W as published (bf16 only)
 *   EMBED       table -> x (T, C)
 *   NORM        x (T, g * D), w (D) -> y, r (T, g): r = 1 / sqrt(sum(x^2) / D + eps)
 *   LINEAR      x (T, K), W (N, K), [bias], [add (T, N)] -> y = add + (x W' + bias)
 *   ROPE        x -> x rotated; ROPE_BACK the other way
 *   ATTEND      q, k, v -> out, lse (T, H)
 *   SWIGLU      gate, up -> act
 *   GATHER      hidden (T, C) -> rows of loss (n, C)
 *   LOGPROB     logits (n, V) -> logp, max, sum: (n, 1) each
 *   WEIGH       logp -> weight (n, 1)
 *   LOGPROB_BACK logits, max, sum, weight -> dlogits; a row of weight 0 is +0
 *   DX          dy (T, N), W (N, K), [add (T, K)] -> dx = add + dy W
 *   DW          dy (T, N), x (T, K), [weight (T, 1)], [acc (N, K)] -> acc + dy' x; rows of
 *               weight 0 are left out
 *   SPREAD      [drows (n, C)], [dh (T, C)] -> dh, the rows of loss replaced
 *   NORM_BACK   dy, x, w, r, [dx], [dw] -> dx + ..., dw + ...
 *   SWIGLU_BACK dact, gate, up -> dgate, dup
 *   BIAS_BACK   dy, [dbias] -> dbias
 *   ATTEND_BACK q, k, v, out, lse, dout -> dq, dk, dv
 *   EMBED_BACK  dx, [dtable] -> dtable
 *   ADD         [a], [b] -> a + b
 *   ROW_SQUARES g -> sum of squares of each row (rows, 1)
 *   SQUARES     row squares, [squares] -> squares (1, tensors), one more set
 *   SCALE       squares -> factor of the clip (1, 1)
 *   ADAMW       p, m, v, g, scale -> p, m, v
 *   CONCLUDE    of no tensors: the roots of masters and optimizer state after the step
 */
// clang-format off
#define GRAPH_KIND_MAP(X)                                                                      \
    X(ROUND) X(EMBED) X(NORM) X(LINEAR) X(ROPE) X(ROPE_BACK) X(ATTEND) X(SWIGLU) X(GATHER)     \
    X(LOGPROB) X(WEIGH) X(LOGPROB_BACK) X(DX) X(DW) X(SPREAD) X(NORM_BACK) X(SWIGLU_BACK)      \
    X(BIAS_BACK) X(ATTEND_BACK) X(EMBED_BACK) X(ADD) X(ROW_SQUARES) X(SQUARES) X(SCALE)        \
    X(ADAMW) X(CONCLUDE)
// clang-format on

#define GRAPH_KIND_MEMBER(name) GRAPH_##name,
enum graph_kind { GRAPH_KIND_MAP(GRAPH_KIND_MEMBER) GRAPH_KIND_COUNT };
#undef GRAPH_KIND_MEMBER

const char *graph_kind_name(enum graph_kind k); /* "LINEAR" */

/* Tensors of the state before the step: parameter i, its first and its second moment. */
enum graph_state { GRAPH_MADE, GRAPH_MASTER, GRAPH_M, GRAPH_V };

struct graph_tensor {
    struct tiling shape;
    enum graph_state state;
    uint32_t index; /* of the parameter; if made: which output of `op` */
    uint32_t op;    /* that makes it, or GRAPH_NONE */
    uint32_t last;  /* operation that reads it last, or GRAPH_NONE */
};

struct graph_op {
    enum graph_kind kind;
    uint32_t in[GRAPH_INS]; /* tensors, or GRAPH_NONE */
    uint32_t out[GRAPH_OUTS];
    uint32_t n_outs;
    uint32_t micro;            /* micro-batch, or GRAPH_NONE */
    uint32_t chunk;            /* rows of loss: graph.chunk, or GRAPH_NONE */
    uint32_t layer;            /* or GRAPH_NONE */
    uint32_t heads;            /* heads in a row, or 1 */
    uint32_t parameter;        /* DW, ADD, SQUARES, ADAMW: which; else GRAPH_NONE */
    uint8_t reuse[GRAPH_OUTS]; /* input that the output takes the place of; GRAPH_INS: none */
};

/* Sequences packed end to end. */
struct graph_micro {
    size_t first_row, rows; /* in the arrays of rows */
    size_t first_seq, n_seqs;
    uint32_t lane;
};

/* Some of the rows of loss of one micro-batch. */
struct graph_chunk {
    size_t first, n; /* in graph.loss_row */
};

struct graph {
    struct model_config config;
    struct learn_settings settings;
    struct adamw_scalars adamw; /* all but the factor of the clip */
    uint64_t opt_step;          /* steps the optimizer had taken before this one */
    float n_tokens;             /* what the loss is divided by */

    struct weights_tensor *parameter; /* owned; names and shapes, in name order */
    size_t n_parameters;

    struct graph_op *op; /* owned */
    size_t n_ops, cap_ops;
    /* owned: masters, first and second moments of the parameters, then what the operations make */
    struct graph_tensor *tensor;
    size_t n_tensors, cap_tensors;

    struct graph_micro *micro; /* owned */
    size_t n_micros;
    size_t *length; /* owned: rows of each sequence */
    size_t n_seqs;
    struct graph_chunk *chunk; /* owned */
    size_t n_chunks;
    uint32_t *loss_row; /* owned: rows of their micro-batch */

    /* All rows of the step, owned. */
    size_t n_rows;
    int32_t *token, *target, *pos;
    float *behaviour, *advantage; /* of the target */
};

/* The graph of reinforcement step `step` over a batch. ERR_INVALID: the batch is empty (such a step
 * changes nothing), or has a sequence without a row. ERR_UNSUPPORTED: numerics other than f32-1.
 * ERR_NO_MEMORY. */
MUST_USE enum status graph_new(struct graph **out, const struct model_config *config,
                               const struct learn_settings *settings, enum numerics numerics,
                               const struct learn_batch *batch, uint64_t step,
                               uint64_t opt_step, struct err *e);
void graph_free(struct graph **p);

/* Terms of the running sum that each number of an output is; 0: it is none, or none that can be
 * taken up in between. Segments: at least 1. */
size_t graph_terms(const struct graph *g, const struct graph_op *op, uint32_t out);
size_t graph_segments(const struct graph *g, const struct graph_op *op, uint32_t out);

/* "layer 3 DW self_attn.q_proj": what an operation is, for people. */
void graph_describe(char *text, size_t size, const struct graph *g, uint32_t op);

#endif
