/*
 * sim/tree.h - one file through a relay tree (shardcast/tree_state.h), for comparison
 *
 * An origin, relays that copy from it, clients that fetch from the relays, on the links of
 * sim/fabric.h. Each of a client's ten threads has a connection of its own to each relay. What is
 * left out favours the tree: the set-up of a connection for each shard, and all hashing, cutting
 * and joining of files.
 */
#ifndef SIM_TREE_H
#define SIM_TREE_H

#include <stdint.h>

#include "sim/swarm.h"

struct tree_sim_options {
    uint32_t relays;
    double relay_rate; /* bits a second, up and down */
};

/* Of `opt` count seed, nodes (the origin and clients; relays come on top), bytes, up, down,
 * origin_up, latency_ms, unevenness, has_headers and progress. The bound is that of the swarm
 * without relays. */
void tree_sim_run(struct swarm_result *out, const struct swarm_options *opt,
                  const struct tree_sim_options *tree);

#endif
