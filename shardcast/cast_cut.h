/*
 * shardcast/cast_cut.h - the origin's side: a file, as it is written, becomes shards and segments
 *
 *     cast_cut_init(&cut, &options);
 *     cast_cut_add(&cut, bytes, e) ...      any amounts; on_shard and on_segment are called
 *     cast_cut_end(&cut, &manifest, e);     the rest, and what the manifest says of the content
 *     cast_cut_clear(&cut);
 *
 * on_shard is called for each shard in order, on_segment for each MSG_MAX_LEAVES of them and for
 * the last ones: by then their shards have been given. Memory: one shard, one segment.
 */
#ifndef SHARDCAST_CAST_CUT_H
#define SHARDCAST_CAST_CUT_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/content.h"
#include "proto/merkle.h"
#include "proto/msg.h"

struct cast_cut_options {
    struct digest run;
    struct content content;
    uint32_t shard_bytes;            /* content_shard_bytes() of the length expected */
    const struct secret_key *secret; /* borrowed; NULL: no envelopes are made, on_segment is not
                                         called: for who only wants the root */
    /* `shard` is lent for the call. Not OK ends cast_cut_add with that. Both may be NULL. */
    enum status (*on_shard)(void *arg, uint32_t index, struct bytes shard, struct err *e);
    enum status (*on_segment)(void *arg, uint32_t number, struct bytes envelope, struct err *e);
    void *arg;
};

struct cast_cut {
    struct cast_cut_options opt;
    struct merkle tree;
    struct digest previous; /* of the body of the segment before */
    struct buf shard;       /* begun */
    struct buf leaves;      /* of the segment begun */
    uint64_t file_bytes;
    uint32_t n_shards;
};

void cast_cut_init(struct cast_cut *c, const struct cast_cut_options *opt);
void cast_cut_clear(struct cast_cut *c);
MUST_USE enum status cast_cut_add(struct cast_cut *c, struct bytes more, struct err *e);
/* Fills in content, weights, file_bytes, shard_bytes, n_shards and last_segment, and leaves the
 * rest of *m alone. ERR_INVALID: nothing was added. ERR_LIMIT: more than MSG_MAX_SHARDS. */
MUST_USE enum status cast_cut_end(struct cast_cut *c, struct msg_manifest *m, struct err *e);

#endif
