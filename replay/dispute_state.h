/*
 * replay/dispute_state.h - recomputing versions, and a party's part in disputes: the pure machine
 *
 * Beside the role's own state, with questions of its own:
 *
 *   validator  AUDIT_ASK until a version is to be recomputed; SEEK, then BATCH_ASK and STEP from where it
 *              stands to that version. Every version on the way is compared with what was published
 *              (AUDIT_ASK of it). The same: STEP_VERDICT, accepted. The first that is another:
 *              STEP_VERDICT, not accepted, which opens a dispute; but none over what follows from another
 *              state than the records lead to, which no game could show. If only the file is another: PROVE,
 *              and the challenge has the proof, and no game. One without the file cannot, and passes it over.
 *              Version 0: FIRST until it is made from the task, and the verdict; it has no game, so no
 *              more is due. A version 1 that begins with another state than version 0's file is has
 *              version 0 made, asked or not
 *   both       DISPUTE_ASK; if a dispute of its is open: SEEK and STEP to the version before, OPEN; then
 *              DISPUTE_ASK, and MOVE and DISPUTE whenever it is its turn
 *
 * Nothing of it is stored: after a restart the orchestrator says what is open, and moves are functions
 * of the ones before.
 *
 * Threads: one.
 */
#ifndef REPLAY_DISPUTE_STATE_H
#define REPLAY_DISPUTE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "proto/msg.h"

struct dispute_state;

struct dispute_state_options {
    const struct node_key *key; /* borrowed */
    uint64_t boot;     /* differs between lives of the process, and from the role's own */
    bool is_validator; /* else the trainer */
    /* Dishonest ones, for trying a network's defences: */
    bool accuses;   /* a validator: whatever it recomputes it challenges */
    bool is_lazy;   /* a validator: recomputes nothing, and finds all right */
    bool is_silent; /* makes no move */
};

void dispute_state_new(struct dispute_state **out, const struct dispute_state_options *opt);
void dispute_state_free(struct dispute_state **s);

/* The orchestrator answered, and jobs can be made. `recomputes`: the task has versions recomputed. */
void dispute_state_ready(struct dispute_state *s, uint64_t peer, const struct digest *run,
                         bool recomputes, int64_t now_ms, struct effects *out);
/* True: the message was an answer to a question of this machine. */
bool dispute_state_message(struct dispute_state *s, struct bytes data, int64_t now_ms,
                           struct effects *out);
/* A job of replay/dispute_jobs.h ended. */
void dispute_state_job(struct dispute_state *s, uint32_t job, uint64_t number, enum status st,
                       struct bytes result, const struct err *e, int64_t now_ms,
                       struct effects *out);
void dispute_state_tick(struct dispute_state *s, int64_t now_ms, struct effects *out);
void dispute_state_stop(struct dispute_state *s);
/* A version whose published file may be needed yet; -1: none. */
int64_t dispute_state_needs(const struct dispute_state *s);
const char *dispute_state_why(const struct dispute_state *s); /* what failed last; lent */

#endif
