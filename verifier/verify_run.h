/*
 * verifier/verify_run.h - the validator as a process
 *
 * Returns when the run is over, when drained, on SIGTERM, or with the failure that ended it.
 *
 * On disk:  DIR/evidence/unit-U-lease-L.evidence for each unit it rejected for fraud
 *           (rollout/evidence.h); DIR/kept-V (replay/replica.h); DIR/heads.witness (verifier/head_file.h); what the station keeps (shardcast/station.h).
 * Threads:  the caller's is the main one, until it returns.
 */
#ifndef VERIFIER_VERIFY_RUN_H
#define VERIFIER_VERIFY_RUN_H

#include <stdbool.h>

#include "base/status.h"
#include "node/node_options.h"
#include "proto/types.h"

/* How a dishonest validator cheats: for trying a network's defences. */
enum verify_cheat {
    VERIFY_CHEAT_NONE,
    VERIFY_CHEAT_LAZY,      /* accepts everything without looking */
    VERIFY_CHEAT_FRAMING,   /* accuses everybody */
    VERIFY_CHEAT_COPYING,   /* says what others said, if it can find that out (verify_copy.h) */
    VERIFY_CHEAT_COLLUDING, /* accepts what its accomplice made, and checks the rest */
    VERIFY_CHEAT_CHALLENGING, /* challenges every version it recomputes; else honest */
    VERIFY_CHEAT_COUNT
};
const char *verify_cheat_name(enum verify_cheat c);     /* "lazy"; "none" */
enum verify_cheat verify_cheat_parse(const char *name); /* VERIFY_CHEAT_COUNT if unknown */

struct verify_run_options {
    struct node_options node;
    enum verify_cheat cheat;
    struct public_key accomplice; /* a worker's node key, of COLLUDING */
    const char *model;            /* as in course_options */
    bool allow_unsandboxed;
};

MUST_USE enum status verify_run(const struct verify_run_options *opt, struct err *e);

#endif
