/*
 * versions.h - weight files, cut and signed, for tests of shardcast
 */
#ifndef TESTS_SHARDCAST_VERSIONS_H
#define TESTS_SHARDCAST_VERSIONS_H

#include "base/bytes.h"
#include "node/key.h"
#include "proto/content.h"
#include "proto/msg.h"

#define VERSION_SEGMENTS 8u

struct version_made {
    int64_t number;
    struct content content;
    uint32_t shard_bytes;
    struct buf file;
    struct buf leaves;
    struct buf segment[VERSION_SEGMENTS]; /* envelopes */
    uint32_t n_segments;
    struct buf envelope; /* PUBLISH */
    struct digest weights;
};

/* The key of node `i`, a function of i. */
struct node_key *versions_key(uint32_t i);
/* A file of `n_bytes` that depends on (number, salt), its segments and manifest signed by
 * `trainer`: CONTENT_FULL. */
void version_make(struct version_made *v, const struct node_key *trainer,
                  const struct digest *run, int64_t number, size_t n_bytes, uint32_t salt);
/* Any content, in shards of a given length. */
void version_make_content(struct version_made *v, const struct node_key *trainer,
                          const struct digest *run, const struct content *c, size_t n_bytes,
                          uint32_t shard_bytes, uint32_t salt);
/* The same bytes under another number. */
void version_make_like(struct version_made *v, const struct node_key *trainer,
                       const struct digest *run, int64_t number,
                       const struct version_made *other);
void version_clear(struct version_made *v);
/* Shard i of the file. */
struct bytes version_shard(const struct version_made *v, size_t i);
struct digest version_leaf(const struct version_made *v, size_t i);
size_t version_n_shards(const struct version_made *v);
/* The body that CAST_SIGN gave, as a signed HEAD. */
void version_sign_head(struct buf *envelope, const struct node_key *trainer,
                       const struct digest *run, struct bytes body);

#endif
