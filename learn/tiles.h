/*
 * learn/tiles.h - matrices cut into tiles, their roots, and the roots of a training state
 *
 * A matrix of f32 is cut into tiles of at most tile_rows by tile_cols numbers, row of tiles after row
 * of tiles; those at the right and lower edges are smaller. A tile's leaf is its numbers, row by row,
 * little-endian; a matrix's root is the Merkle root (proto/merkle.h) over its tiles.
 *
 * The state of a training run is committed to by two roots: of the masters, the Merkle root over the
 * roots of the parameters in name order; of the optimizer,
 *
 *   BLAKE2b-256("muster/optimizer" NUL | u64 steps taken | root over the first moments | root over
 *               the second moments)
 *
 * So any tile of either can be shown with some hundred bytes beside it, which is what disputes do
 * (docs/disputes.md).
 *
 * Threads: any; hashing splits over the pool.
 */
#ifndef LEARN_TILES_H
#define LEARN_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "engine/adamw.h"
#include "engine/weights.h"
#include "proto/types.h"

#define TILE_SIDE 32u
#define TILE_MAX  (TILE_SIDE * TILE_SIDE) /* numbers of a tile */

struct tiling {
    uint32_t rows, cols;
    uint32_t tile_rows, tile_cols; /* of a whole tile, at most TILE_SIDE each */
};

/* A whole-sized tiling of tiles TILE_SIDE by TILE_SIDE. */
struct tiling tiling_of(size_t rows, size_t cols);

/* Where one tile lies. */
struct tile {
    size_t row, col, rows, cols;
};
uint64_t tiling_count(const struct tiling *t);
struct tile tiling_at(const struct tiling *t, uint64_t index);

/* Copies a tile out of a dense matrix. */
void tile_copy(float to[TILE_MAX], const struct tiling *t, const float *matrix, uint64_t index);
/* Its leaf hash, from its numbers. */
void tile_leaf(struct digest *out, const float *numbers, size_t n);

/* The leaf hash of every tile: room for tiling_count. */
void tiles_leaves(struct digest *leaf, const struct tiling *t, const float *matrix,
                  struct pool *pool);
/* ERR_NO_MEMORY. */
MUST_USE enum status tiles_root(struct digest *out, const struct tiling *t, const float *matrix,
                                struct pool *pool, struct err *e);
/* The root of every parameter: room for w->n_tensors. ERR_NO_MEMORY. */
MUST_USE enum status tiles_weights_roots(struct digest *root, const struct weights *w,
                                         struct pool *pool, struct err *e);

/* The two roots of a state from the roots of its parameters, n of each. */
void state_masters_root(struct digest *out, const struct digest *root, size_t n);
void state_optimizer_root(struct digest *out, uint64_t steps, const struct digest *m_root,
                          const struct digest *v_root, size_t n);
/* The second from the roots over all first and all second moments. */
void state_optimizer_join(struct digest *out, uint64_t steps, const struct digest *m,
                          const struct digest *v);

/* The two roots of a state. ERR_NO_MEMORY. */
MUST_USE enum status state_roots(struct digest *masters, struct digest *optimizer,
                                 const struct weights *w, const struct adamw *opt,
                                 struct pool *pool, struct err *e);

#endif
