/*
 * sim/crowd.h - the membership of thousands of nodes (shardcast/overlay.h), and attacks on it
 *
 * Nodes join one after the other; all are in one roster from the beginning. Attackers are in it too,
 * each with an owner and a subnet of its own, so that no cap hinders them. They are there first, dial
 * all whom they may and a hundred others each, accept everybody, and are always alive. Seeds are
 * honest.
 *
 * When all have joined and `settle_s` have passed, links are counted; then a share of the honest
 * nodes that are no seeds crash at once, and it is measured how long their neighbours take to
 * notice, and to have as many links again as they want.
 */
#ifndef SIM_CROWD_H
#define SIM_CROWD_H

#include <stdbool.h>
#include <stdint.h>

struct crowd_options {
    uint64_t seed;
    uint32_t nodes, seeds; /* the seeds are the first of the nodes */
    double attackers;      /* share of the nodes */
    double hidden;         /* share of the honest ones that cannot be dialled */
    double crash;          /* share of the honest ones that are no seeds */
    double join_s, settle_s;
    double latency_ms;
};

struct crowd_result {
    uint32_t n_honest;
    uint32_t n_below; /* honest nodes with fewer than two honest neighbours */
    uint32_t n_apart; /* honest nodes that honest links do not connect with the first seed */
    double links;     /* of an honest node, mean */
    double chosen;    /* of them dialled by itself */
    double honest_links;
    uint32_t min_honest;
    double detect_max_s; /* until a crashed neighbour is given up */
    double repair_p99_s, repair_max_s;
    uint32_t n_unrepaired, n_apart_after,
        n_wrong; /* wrong: the living that were given up as dead */
    uint64_t messages, bytes;
    double bytes_s; /* that a node sends a second, mean, once all have joined */
};

void crowd_run(struct crowd_result *out, const struct crowd_options *opt);

#endif
