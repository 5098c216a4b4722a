/*
 * proto/content.h - how a content (proto/types.h) is cut and named
 *
 * A content is one file, cut into shards of `shard_bytes`, the last perhaps shorter, which are
 * numbered from 0. What a shard must be is said by its leaf:
 *
 *   leaf = BLAKE2b-256("muster/leaf" NUL index u32 || bytes u32 || lane 0 || ... || lane 3 || rest)
 *
 * so that a shard is never taken for one of another place. Its first 4 n bytes, n the largest
 * multiple of 128 of which there are four, are hashed as four lanes side by side
 * (proto/digest_lanes.h), the fewer than 512 after them as they are; with n = 0 there are no lanes. The leaves come in segments of
 * MSG_MAX_LEAVES, whose signature binds them to run and content. The root over all of them
 * (merkle_root_of_digests) is a function of the file and how it is cut alone: the name of weights
 * in manifests, submissions and the ledger, the same in every run that makes them.
 */
#ifndef PROTO_CONTENT_H
#define PROTO_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define CONTENT_TEXT_BYTES 64u

/* "12 full", "12 delta of 11", "12 state" */
void content_text(char out[CONTENT_TEXT_BYTES], const struct content *c);
/* By version, then kind, then base. */
int content_compare(const struct content *a, const struct content *b);
/* A known kind, version at least 0, and a base below it for CONTENT_DELTA, -1 for the others. */
bool content_is_valid(const struct content *c);
struct content content_full(int64_t version);

/* The length of its shards: a power of two near 1/2048 of the file, 64 KiB to 1 MiB. So a small
 * content has shards enough to spread, a large one few enough to count, and on disk each has pages
 * of its own. */
uint32_t content_shard_bytes(uint64_t file_bytes);
/* How many shards a file makes; 0 for an empty one. */
uint64_t content_n_shards(uint64_t file_bytes, uint32_t shard_bytes);

void content_leaf(struct digest *leaf, uint32_t index, struct bytes shard);
/* Root of a whole file in memory. */
void content_root(struct digest *root, uint32_t shard_bytes, struct bytes file);

/* ERR_MALFORMED unless a manifest's numbers agree: its content is valid, so many shards of that
 * size make so many bytes, and a delta, no other, names a base and an apply root. */
MUST_USE enum status content_manifest_check(const struct msg_manifest *m, struct err *e);

#endif
