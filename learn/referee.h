/*
 * learn/referee.h - one tile of one operation, computed again from the tiles it depends on
 *
 * What decides a dispute. It is the definition of every operation of learn/graph.h a second
 * time, for one tile: it asks a source for the tiles of the inputs as it needs them, so the same
 * code tells a party which tiles it has to show (the source notes them), and judges what was
 * shown (the source looks them up).
 *
 * Sums longer than GRAPH_SEGMENT terms can be taken up at any segment, from the accumulators there.
 *
 * Threads: any.
 */
#ifndef LEARN_REFEREE_H
#define LEARN_REFEREE_H

#include <stdint.h>

#include "base/status.h"
#include "engine/kernels.h"
#include "learn/graph.h"

/* The numbers of a tile, row by row, lent until the next call; NULL: it is not to be had. */
typedef const float *referee_source(void *arg, uint32_t tensor, uint64_t tile);

struct referee {
    const struct graph *g;         /* borrowed */
    const struct kernels *kernels; /* of f32-1; borrowed */
    referee_source *source;
    void *arg;
};

/* What is asked: segments [first, first + n) of a tile of an output of an operation other than
 * CONCLUDE; all of them are graph_segments. */
struct referee_question {
    uint32_t op, out;
    uint64_t tile;
    size_t first, n;
};

/*
 *   result  (numbers of the tile)  out  the accumulators after the last segment asked for; after the
 *                                       very last one, the output
 *   from    (numbers of the tile)  in   the accumulators before the first; NULL exactly if it is 0
 *
 * ERR_NOT_FOUND: a tile that it depends on is not to be had, and the text names it. ERR_NO_MEMORY.
 */
MUST_USE enum status referee_compute(float result[TILE_MAX], const struct referee *r,
                                     const struct referee_question *q, const float *from,
                                     struct err *e);

#endif
