/*
 * verifier/verify_run.h - the validator as a process
 *
 * Returns when the run is over, when drained, on SIGTERM, or with the failure that ended it.
 *
 * On disk:  DIR/evidence/unit-U-lease-L.evidence for each unit it rejected for fraud
 *           (rollout/evidence.h); what the station keeps (shardcast/station.h).
 * Threads:  the caller's is the main one, until it returns.
 */
#ifndef VERIFIER_VERIFY_RUN_H
#define VERIFIER_VERIFY_RUN_H

#include <stdbool.h>

#include "base/status.h"
#include "node/node_options.h"

struct verify_run_options {
    struct node_options node;
    bool is_lazy; /* approves without looking: for trying a network's defences */
    bool allow_unsandboxed;
};

MUST_USE enum status verify_run(const struct verify_run_options *opt, struct err *e);

#endif
