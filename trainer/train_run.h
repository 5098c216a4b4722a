/*
 * trainer/train_run.h - the trainer as a process
 *
 * Returns when the last version has its receipt and the run is over, on SIGTERM, or with the
 * failure that ended it. Started again with the same directory it goes on, bit for bit.
 *
 * A version that is challenged it answers for (replay/dispute_state.h), by going back to the state before it.
 *
 * On disk:  DIR/kept-V (replay/replica.h); DIR/checkpoint.0 and .1, written in turn; DIR/model-v0 and DIR/model, Hugging Face
 *           directories of version 0 and of the last version; what the station keeps
 *           (shardcast/station.h).
 * Threads:  the caller's is the main one, until it returns.
 */
#ifndef TRAINER_TRAIN_RUN_H
#define TRAINER_TRAIN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "node/node_options.h"
#include "replay/cheat.h"

struct train_run_options {
    struct node_options node;
    int64_t checkpoint_every; /* versions, >= 1; version 0 and the last are always written */
    int64_t state_every; /* versions between publications of the optimizer's state; 0: never */
    int64_t processes;   /* that share a step's lanes */
    const char *model;   /* as in course_options */
    bool allow_unsandboxed;
    enum train_cheat cheat;
};

MUST_USE enum status train_run(const struct train_run_options *opt, struct err *e);

#endif
