/*
 * sim/graph.h - random graphs in which every node has the same number of neighbours
 */
#ifndef SIM_GRAPH_H
#define SIM_GRAPH_H

#include <stdint.h>

#include "base/rng.h"

struct graph_edge {
    uint32_t from, to; /* from dials */
};

/* Pairs the ends of n * degree / 2 edges at random, without loops or double edges (those that
 * cannot be avoided are left out). `edge` has room for n * degree / 2. Returns how many. */
uint32_t graph_regular(struct graph_edge *edge, uint32_t n, uint32_t degree, struct rng *rng);

#endif
