/*
 * proto/merkle.h - Merkle trees in the shape of RFC 6962
 *
 *   hash of leaf d     = BLAKE2b-256(0x00 || d)
 *   hash of two trees  = BLAKE2b-256(0x01 || left || right)
 *   n leaves           = the largest power of two below n on the left, the rest on the right
 *   no leaves          = BLAKE2b-256("")
 *
 * The prefixes keep a node from passing for a leaf; the shape, unlike one that repeats the last
 * leaf, gives every list of leaves its own root.
 */
#ifndef PROTO_MERKLE_H
#define PROTO_MERKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

#define MERKLE_PATH_MAX 64u

/* Leaf by leaf, with memory for log2(n) digests and no allocation. */
struct merkle {
    struct digest stack[MERKLE_PATH_MAX];
    uint64_t n; /* leaves so far */
};
void merkle_init(struct merkle *m);
void merkle_add(struct merkle *m, struct bytes leaf);
void merkle_add_hash(struct merkle *m, const struct digest *leaf_hash);
void merkle_root(const struct merkle *m, struct digest *root);

void merkle_leaf(struct digest *out, struct bytes leaf);
void merkle_node(struct digest *out, const struct digest *left, const struct digest *right);

/* Root over n leaves that are digests themselves: leaf i = 32 bytes at digests.data + 32 i.
 * CHECKs that the length is a multiple of 32. What weights and batches use. */
void merkle_root_of_digests(struct digest *root, struct bytes digests);

/* The path of leaf `index` among n leaf hashes, nearest sibling first, at most MERKLE_PATH_MAX
 * long. index < n. */
void merkle_path(struct digest path[MERKLE_PATH_MAX], size_t *n_path, const struct digest *leaf,
                 uint64_t n, uint64_t index);
/* ERR_DIGEST unless the path leads from this leaf hash, at `index` of n, to the root. */
MUST_USE enum status merkle_verify(const struct digest *root, const struct digest *leaf_hash,
                                   uint64_t index, uint64_t n, const struct digest *path,
                                   size_t n_path, struct err *e);

#endif
