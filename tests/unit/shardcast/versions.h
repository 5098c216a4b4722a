/*
 * versions.h - weight files and their signed manifests, for tests of shardcast
 */
#ifndef TESTS_SHARDCAST_VERSIONS_H
#define TESTS_SHARDCAST_VERSIONS_H

#include "base/bytes.h"
#include "node/key.h"
#include "proto/msg.h"

struct version_made {
    int64_t number;
    struct buf file;
    struct buf digests;
    struct buf envelope;
    struct digest weights;
};

/* The key of node `i`, a function of i. */
struct node_key *versions_key(uint32_t i);
/* A file of `n_bytes` that depends on (number, salt), and its manifest signed by `trainer`. */
void version_make(struct version_made *v, const struct node_key *trainer,
                  const struct digest *run, int64_t number, size_t n_bytes, uint32_t salt);
/* The same content under another number. */
void version_make_like(struct version_made *v, const struct node_key *trainer,
                       const struct digest *run, int64_t number,
                       const struct version_made *other);
void version_clear(struct version_made *v);
/* Shard i of the file. */
struct bytes version_shard(const struct version_made *v, size_t i);
struct digest version_digest(const struct version_made *v, size_t i);
size_t version_n_shards(const struct version_made *v);

#endif
