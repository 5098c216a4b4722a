/*
 * cli/tree_node.h - one node of a relay tree, for 'muster bench shardcast --mode=relay'
 *
 * shardcast/tree_state.h over plain TCP: each request a connection of its own, one line in
 * ("LIST", or "GET VERSION INDEX"), a length and so many bytes out. That is HTTP/1.0 without its
 * headers, and without TLS as in the package; a thread is a thread here where the package starts a
 * wget for each shard. Files are in DIR as VERSION.INDEX; a client puts the file together and hashes
 * it (BLAKE2b-256 for SHA-256 or BLAKE3), as the package does.
 */
#ifndef CLI_TREE_NODE_H
#define CLI_TREE_NODE_H

#include <stdint.h>

#include "base/status.h"
#include "cli/bench_net.h"

struct tree_node_options {
    const char *dir;
    const struct bench_net *net; /* borrowed: only for addresses */
    size_t index, nodes, relays; /* 0: the origin; 1..relays; the rest are clients */
    uint16_t port;
    int64_t seed;
};

/* Serves until the end of stdin; lines in and out as in cli/cmd_cast_node.c. */
MUST_USE enum status tree_node_run(const struct tree_node_options *opt, struct err *e);

#endif
