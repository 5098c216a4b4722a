/*
 * inference/infer_run.h - the inference worker as a process
 *
 * Returns when the run is over, when the orchestrator has drained this node, on SIGTERM, or with
 * the failure that ended it. Started again with the same directory it goes on.
 *
 * On disk:  DIR/orders/unit-U-lease-L.order for each submission it altered by order
 *           (proto/canary.h); what the station keeps (shardcast/station.h).
 *
 * Threads: the caller's is the main one, until it returns.
 */
#ifndef INFERENCE_INFER_RUN_H
#define INFERENCE_INFER_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "inference/cheat.h"
#include "node/node_options.h"

struct infer_run_options {
    struct node_options node;
    int64_t units;          /* generated together, 1..MSG_MAX_LEASES */
    enum infer_cheat cheat; /* inference/cheat.h; CHEAT_NONE: honest */
    bool allow_unsandboxed;
};

MUST_USE enum status infer_run(const struct infer_run_options *opt, struct err *e);

#endif
