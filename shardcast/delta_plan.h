/*
 * shardcast/delta_plan.h - which contents to fetch for the versions one wants: pure
 *
 * A version is had by fetching it whole, or by having its base and fetching the patch. So versions
 * are nodes, a whole one is an edge from nowhere, a patch an edge from its base, and what it costs
 * is its length. The cheapest way to one version is the shortest path from what is here. Several
 * wanted versions are taken in ascending order, each reached one being there for the next: for a
 * row of versions that is the cheapest set, since bases are older than what is made of them.
 *
 * Thus a joiner fetches the oldest of the versions kept whole and patches for the rest, a node
 * that lags takes the patch that skips, and a node that has nothing a patch begins at takes the
 * whole.
 */
#ifndef SHARDCAST_DELTA_PLAN_H
#define SHARDCAST_DELTA_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

struct delta_offer {
    struct content content; /* CONTENT_FULL or CONTENT_DELTA; others are passed over */
    bool is_here;           /* CONTENT_FULL: the version is here. The cost is not looked at */
    uint64_t cost;          /* bytes that are missing of it, and what its use costs in bytes */
};

#define DELTA_OFFERS_MAX 512u

/* Sets fetch[i] for each offer that the wanted versions, ascending, need and that is not here. A
 * version that no offer leads to is passed over. At most DELTA_OFFERS_MAX offers, in any order, no
 * content twice. */
void delta_plan(bool *fetch, const struct delta_offer *offer, size_t n_offers,
                const int64_t *wanted, size_t n_wanted);

#endif
