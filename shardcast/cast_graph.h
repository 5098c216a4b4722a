/*
 * shardcast/cast_graph.h - whom a node dials
 *
 * All nodes stand on a ring in the order of BLAKE2b(transport key). A node dials those that can
 * be dialled (not revoked, endpoint known) at distance 1, 2, 4, 8 ... after it, and fills up with
 * the next ones after it. The edges of distance 1 alone connect everybody; the doubling keeps the
 * diameter at log n; and the hash leaves no one a say in where he stands.
 */
#ifndef SHARDCAST_CAST_GRAPH_H
#define SHARDCAST_CAST_GRAPH_H

#include <stddef.h>

#include "proto/msg.h"

#define CAST_GRAPH_SMALL 24u /* up to so many nodes, all dial the trainer as well */

/* Writes indices into r->entry to `pick` (room for `max`) and returns how many: at most `degree`,
 * and the trainer's besides in a small network. `self` need not be in the roster. */
size_t cast_graph_choose(size_t *pick, size_t max, const struct msg_roster *r,
                         const struct public_key *self, size_t degree);

#endif
