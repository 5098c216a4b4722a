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
#include "node/node_options.h"

/* How a dishonest worker cheats: for trying a network's defences. */
enum infer_cheat {
    CHEAT_NONE,
    CHEAT_INT8,   /* generates with weights rounded per row to int8 */
    CHEAT_STALE,  /* generates with the oldest weights it has */
    CHEAT_REWARD, /* claims full marks for every sample */
    CHEAT_TOKENS, /* alters one token of every sample */
    CHEAT_SEED,   /* samples with seeds of its own choice */
    CHEAT_COUNT
};
const char *infer_cheat_name(enum infer_cheat c);     /* "int8"; "none" */
enum infer_cheat infer_cheat_parse(const char *name); /* CHEAT_COUNT if unknown */

struct infer_run_options {
    struct node_options node;
    int64_t units; /* generated together, 1..MSG_MAX_LEASES */
    enum infer_cheat cheat;
    bool allow_unsandboxed;
};

MUST_USE enum status infer_run(const struct infer_run_options *opt, struct err *e);

#endif
