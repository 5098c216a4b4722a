/*
 * shardcast/relay.h - the relay role: a node that only passes weights on
 *
 * It joins, says HELLO, follows the roster, and holds and serves every version as shardcast does
 * in each node. What it adds to a network is an address that others can dial and upload that
 * nobody else needs. It can withhold; it cannot make anyone keep a byte that is not the trainer's.
 */
#ifndef SHARDCAST_RELAY_H
#define SHARDCAST_RELAY_H

#include <stdint.h>

#include "base/status.h"
#include "node/node_options.h"
#include "shardcast/cast_state.h"

struct relay_options {
    struct node_options node; /* kernels and threads are not used */
    uint64_t max_bytes;       /* of the shards on disk; 0: the default */
    uint32_t keep;            /* versions kept; 0: the default */
    const int64_t *pin;       /* versions kept whatever their age */
    size_t n_pins;            /* at most CAST_PINS_MAX */
};

/* Reads "0,64,128"; "" are none. ERR_INVALID: it is no such list, or too long. */
MUST_USE enum status relay_parse_pins(int64_t version[CAST_PINS_MAX], size_t *n,
                                      const char *list, struct err *e);

/* Runs until the run is over, a signal, or a failure. */
MUST_USE enum status relay_run(const struct relay_options *opt, struct err *e);

#endif
