/*
 * learn/opening.h - the tiles that one question depends on, with their way up to what was committed
 *
 * Made by a party from its trace, judged by anybody:
 *
 *   u8 1, the accumulators before the segment  |  u8 0 for the first segment
 *   u32 n, n times (u32 operation, the roots of its outputs), blob proof       to the trace's root
 *   three times, for masters, first and second moments:
 *   u32 n, n times (u32 parameter, its root), blob proof                       to the state's roots
 *   u32 n, n times (u32 tensor, u32 m, m times (u32 tile, its numbers), blob proof)
 *
 * Indices ascend; a proof is proto/merkle_many.h's; blob: u32 length, bytes; all little-endian.
 * CONCLUDE has no tiles: its opening is the roots that the optimizer's operations made.
 *
 * Threads: any.
 */
#ifndef LEARN_OPENING_H
#define LEARN_OPENING_H

#include "base/bytes.h"
#include "base/status.h"
#include "learn/referee.h"
#include "learn/trace.h"

#define OPENING_MAX_BYTES ((size_t)16 << 20)

/* What everybody holds the parties to. */
struct opening_claim {
    struct digest trace; /* root over the operations */
    struct digest masters_before, optimizer_before, masters_after, optimizer_after;
};

/* Appends the opening for one segment of a tile of the operation that the trace has sought; `q->n` is
 * 1. ERR_LIMIT: it would be larger than `out` may grow. ERR_NO_MEMORY. */
MUST_USE enum status opening_make(struct buf *out, struct trace *t,
                                  const struct referee_question *q, struct err *e);

/* What an opening comes to. */
struct opening_result {
    struct digest before;    /* leaf hash of the accumulators shown; zero if there are none */
    struct digest after;     /* of the tile recomputed; of CONCLUDE: the roots it gives */
    struct digest optimizer; /* CONCLUDE only */
};

/* Checks every proof against the claim and computes the tile. ERR_MALFORMED, ERR_DIGEST,
 * ERR_NOT_FOUND (a tile is missing): the opening proves nothing, and whoever made it is to blame.
 * ERR_NO_MEMORY: nobody is. */
MUST_USE enum status opening_judge(struct opening_result *out, struct bytes opening,
                                   const struct graph *g, const struct kernels *kernels,
                                   const struct opening_claim *claim,
                                   const struct referee_question *q, struct err *e);

#endif
