/*
 * proto/merkle_many.h - several nodes or leaves of a Merkle tree at once
 *
 * The trees are those of proto/merkle.h. A node covers the leaves [first, first + n); that of n > 1
 * leaves has two children, the left one with the largest power of two below n.
 *
 * Fan: what a game of bisection shows of a node is its descendants MERKLE_FAN_LEVELS further down
 * (a leaf that comes earlier stands for itself), so that a round narrows by sixteen, not two.
 *
 * Proof of many: for a set of leaves, the hashes of exactly those largest subtrees that hold none of
 * them, from left to right. One leaf's proof is an ordinary path; a tree's every leaf needs none.
 *
 * Threads: none of its own. Nothing allocates but the buf.
 */
#ifndef PROTO_MERKLE_MANY_H
#define PROTO_MERKLE_MANY_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

#define MERKLE_FAN_LEVELS 4u
#define MERKLE_FAN        16u

struct merkle_range {
    uint64_t first, n; /* n > 0 */
};

/* The descendants shown of a node, left to right; how many, 1..MERKLE_FAN. */
size_t merkle_fan(struct merkle_range child[MERKLE_FAN], struct merkle_range node);
/* The node that has these descendants, as many as merkle_fan says. */
void merkle_fan_join(struct digest *node_hash, struct merkle_range node,
                     const struct digest *child);
/* A node from the leaf hashes of the whole tree. */
void merkle_range_root(struct digest *out, const struct digest *leaf, struct merkle_range r);

/* Appends the proof of leaves index[0..n_index), ascending and all below n, of a tree of n leaf
 * hashes, n > 0. */
void merkle_many_prove(struct buf *out, const struct digest *leaf, uint64_t n,
                       const uint64_t *index, size_t n_index);
/* The root that these leaf hashes have with such a proof. ERR_MALFORMED: the indices do not ascend
 * or reach n, or the proof is too short; what is left of it is the caller's to judge. */
MUST_USE enum status merkle_many_join(struct digest *root, uint64_t n, const uint64_t *index,
                                      const struct digest *leaf, size_t n_index,
                                      struct reader *proof, struct err *e);

#endif
