/*
 * shardcast/tree_state.h - the relay tree of SHARDCAST, as a pure state machine, for comparison
 *
 * How INTELLECT-2 moved its weights (arXiv:2505.07291; the published package, 0.1 to 0.3): an
 * origin, relays that copy all of it, clients that fetch from the relays. This is the part that
 * decides: when to look at a list of versions, what to fetch from whom, what to do when it fails.
 * Whoever runs it (muster bench shardcast --mode=relay over plain TCP, the simulator over links of
 * its own) carries out the acts and says how they went. The defaults are those of the package:
 *
 *   - a relay looks at its upstream's list every 30 s, a client at a relay's every 5 s; the phase is
 *     by lot. A relay fetches versions in the order of the list, a client only the newest;
 *   - shards of 50,000,000 bytes, ten at a time, in order; a version is on a relay's own list
 *     before its shards are there, and one that is not there yet is a failure;
 *   - for each server an average of rate (MB/s) and of success (alpha 0.3); a server is drawn with
 *     the weight of their product; each update adds 0.01 to everybody's success, up to 1. A failure
 *     feeds 30 to the average of the rate, as the package does by mistake;
 *   - a failed fetch is tried again after 2 s, at the fourth time and later after 15 s, without end.
 *
 * The first estimate of a server's rate is that of a dummy of 1 MB, which every server is asked
 * for at the start (version -1).
 */
#ifndef SHARDCAST_TREE_STATE_H
#define SHARDCAST_TREE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

#define TREE_SERVERS_MAX  64u
#define TREE_AT_ONCE_MAX  64u
#define TREE_SHARD_BYTES  50000000u
#define TREE_DUMMY_BYTES  1000000u
#define TREE_DUMMY        (-1)
#define TREE_VERSIONS_MAX 16u

enum tree_role { TREE_RELAY, TREE_CLIENT };

struct tree_options {
    enum tree_role role;
    uint32_t n_servers; /* 1..TREE_SERVERS_MAX: those above it */
    uint64_t seed;
    uint64_t shard_bytes; /* 0: TREE_SHARD_BYTES */
    uint32_t at_once;     /* 0: 10 */
    int64_t poll_ms;      /* 0: 30 s of a relay, 5 s of a client */
};

enum tree_act_kind {
    TREE_LIST,     /* server: answer with tree_state_listed() */
    TREE_FETCH,    /* slot, server, version, index: answer with tree_state_fetched() */
    TREE_KNOWN,    /* version: from now on it is on this node's own list */
    TREE_COMPLETE, /* version: all its shards are here */
    TREE_WAKE,     /* at_ms: call tree_state_tick */
};
struct tree_act {
    enum tree_act_kind kind;
    uint32_t slot, server, index;
    int64_t version;
    uint64_t bytes; /* TREE_FETCH: how long that shard is; TREE_KNOWN: the file */
    int64_t at_ms;
};
struct tree_out {
    struct tree_act *v; /* owned */
    size_t n, cap;
};
void tree_out_clear(struct tree_out *l); /* frees; as zeros */

struct tree_version {
    int64_t version;
    uint64_t bytes;
};

struct tree_state;
void tree_state_new(struct tree_state **out, const struct tree_options *opt);
void tree_state_free(struct tree_state **s);

void tree_state_tick(struct tree_state *s, int64_t now_ms, struct tree_out *out);
/* The list of a server, oldest first; at most TREE_VERSIONS_MAX count. n = 0 also if it failed. */
void tree_state_listed(struct tree_state *s, const struct tree_version *v, size_t n,
                       int64_t now_ms, struct tree_out *out);
/* A TREE_FETCH ended: with all bytes, or with failure (not there, broken, 30 s of silence). */
void tree_state_fetched(struct tree_state *s, uint32_t slot, bool is_ok, int64_t took_ms,
                        int64_t now_ms, struct tree_out *out);

uint32_t tree_n_shards(uint64_t bytes, uint64_t shard_bytes);

#endif
