/*
 * sim/swarm.h - one file, from one origin to all nodes, by the machines of shardcast
 *
 * Each node is a `struct cast_state`, the very one that a real node runs, in the network of
 * sim/fabric.h. Signatures are checked once for each message, not once for each node; a shard is a
 * token of eight bytes that weighs what the shard would (its leaf is the hash of the token, and is
 * checked). Everything else is done as in a node: every message is encoded, sent and decoded.
 *
 * The lower bound that times are compared with (Kumar and Ross): no protocol can be done before
 *
 *   max(F / up of the origin, F / slowest down, N F / (up of the origin + sum of up))
 *
 * with N receivers and a file of F bytes; attackers count neither as receivers nor as uplinks.
 */
#ifndef SIM_SWARM_H
#define SIM_SWARM_H

#include <stdbool.h>
#include <stdint.h>

struct swarm_options {
    uint64_t seed;
    uint32_t nodes; /* the origin is one of them */
    uint32_t shards;
    uint32_t links;             /* of a node, on average */
    double bytes;               /* of the file */
    double up, down, origin_up; /* bits a second */
    double write;               /* the origin writes the file at this rate; 0: it is there */
    double latency_ms;          /* one way, mean */
    double churn;               /* share of nodes that crash once and come back */
    double down_s;              /* for so long */
    bool is_churn_empty;        /* with an empty disk */
    double origin_quits;        /* dies after sending so many times the file; 0: never */
    double garbage, silent,
        liars;         /* shares of nodes: claim everything, and serve rubbish; serve
                                      nothing; say that they do not have it after all */
    double unevenness; /* sim/fabric.h, like what follows */
    bool has_headers;  /* sim/fabric.h */
    /* Now and then: how much of all there is to fetch is there. May be NULL. */
    void (*progress)(void *ctx, double now_s, double share);
    void *ctx;
};

struct swarm_result {
    double bound_s;
    uint32_t n_receivers, n_finished;
    double p50_s, p99_s, max_s;
    double announce_p99_s;   /* until a node knows that there is the content */
    double origin_copies;    /* bytes that the origin sent / F */
    double wasted;           /* shard bytes that were rubbish or came again / all received, */
    double garbage;          /* and those that were rubbish */
    double small_share;      /* bytes of all other messages / bytes of shards */
    uint32_t n_named;        /* attackers that somebody banned, */
    uint32_t n_honest_named; /* and honest nodes that were, wrongly */
    uint64_t events, messages, refetched, timeouts;
};

double swarm_bound_s(const struct swarm_options *opt);
/* Runs until every honest node has the file, or nothing happens any more. */
void swarm_run(struct swarm_result *out, const struct swarm_options *opt);

#endif
