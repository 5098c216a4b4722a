/*
 * trainer/train_state.h - what the trainer does next: the pure machine
 *
 *   OPEN job: newest checkpoint, or initial weights and warm-up       -> a version v
 *   loop:  announce v (shardcast), PUBLISH until its receipt
 *          v is the last, or the task was closed: EXPORT job, done
 *          BATCH_ASK(v) until the BATCH comes; STEP job                -> version v + 1
 *
 * A restart begins with OPEN again. If the checkpoint is older than what was published, the same
 * steps are redone from the same batches, give the same bits, and get the first receipts.
 *
 * Threads: one.
 */
#ifndef TRAINER_TRAIN_STATE_H
#define TRAINER_TRAIN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "node/rpc.h"
#include "proto/msg.h"

/* Jobs. OPEN and STEP result in: i64 version, then the manifest's body as a blob. STEP's args are
 * an encoded msg_batch; EXPORT's and OPEN's are empty. */
enum train_job { TRAIN_JOB_OPEN = 1, TRAIN_JOB_STEP, TRAIN_JOB_EXPORT };

struct train_state;

struct train_state_options {
    const struct node_key *key; /* borrowed */
    uint64_t boot;              /* differs between lives of the process */
};

void train_state_new(struct train_state **out, const struct train_state_options *opt);
void train_state_free(struct train_state **s);

/* The orchestrator answered: it is `peer` of the shell, and this is its run. */
void train_state_welcome(struct train_state *s, uint64_t peer, const struct digest *run);
/* The bundle is here: the OPEN job starts. `steps`: versions after version 0. */
void train_state_ready(struct train_state *s, uint64_t steps, int64_t now_ms,
                       struct effects *out);
/* An envelope from the orchestrator that is not part of membership. Rubbish is ignored. */
void train_state_message(struct train_state *s, struct bytes data, int64_t now_ms,
                         struct run_news *news, struct effects *out);
/* A job ended, with `st` and its result; `e` says why it failed, and may be NULL. */
void train_state_job(struct train_state *s, uint32_t job, enum status st, struct bytes result,
                     const struct err *e, int64_t now_ms, struct effects *out);
void train_state_tick(struct train_state *s, int64_t now_ms, struct effects *out);

/* A version that must be announced to shardcast: its number, or -1. The shell does it before the
 * effects of the same call leave. Cleared by asking. */
int64_t train_state_take_announcement(struct train_state *s, struct bytes *manifest);
bool train_state_is_done(const struct train_state *s);
/* OK, or why the trainer cannot go on: the process should end with it. */
enum status train_state_failure(const struct train_state *s, struct err *e);
const char *train_state_why(const struct train_state *s); /* why it waits; "" if it does not */

#endif
