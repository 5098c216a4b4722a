/*
 * shardcast/cast_lane.h - inside cast.c: two connections a neighbour, one for shards
 *
 * A HEAD of 300 bytes shall not wait behind megabytes of shards. So whoever dials opens two
 * connections to the same endpoint: the first carries everything but shards, the second, the data
 * lane, carries SHARD both ways and nothing else. Its first frame is LANE_HELLO, which is no
 * envelope; it is said again every LANE_HELLO_MS, since a connection that was made anew is another
 * one to the side that accepted it. Where the data lane is not known (yet), shards go by the other.
 *
 * The machine sees one link a neighbour: that of the first connection.
 *
 * Threads: the shell's.
 */
#ifndef SHARDCAST_CAST_LANE_H
#define SHARDCAST_CAST_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/shell.h"
#include "proto/types.h"

#define LANE_HELLO    "muster/data-lane"
#define LANE_HELLO_MS 2000
#define LANES_MAX     256u /* the least heard of those that dialled us makes room */

struct lane {
    struct public_key key;
    bool is_ours;           /* we dialled */
    uint64_t control, data; /* of the shell; 0: not known */
    int64_t heard_ms;
};
struct lanes {
    struct lane v[LANES_MAX];
    size_t n;
};

/* We dialled. */
void lanes_opened(struct lanes *l, const struct public_key *key, uint64_t control,
                  uint64_t data);
/* Forgets one that we dialled; returns its data lane, to be closed too. */
uint64_t lanes_closed(struct lanes *l, uint64_t control);
/* A frame came in: the link to tell the machine, or 0 for a hello, which is dealt with. */
uint64_t lanes_heard(struct lanes *l, const struct shell_message *m, int64_t now_ms);
/* By which number shards for this link go. */
uint64_t lanes_data(const struct lanes *l, uint64_t control);

#endif
