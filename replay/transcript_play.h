/*
 * replay/transcript_play.h - the referee of a recorded dispute: the step, and the moves replayed
 *
 * From the file (proto/transcript.h) alone, trusting nothing in it: signatures, that bundle and
 * batch are those that the manifest names, and every move in its turn.
 *
 * Threads: any.
 */
#ifndef REPLAY_TRANSCRIPT_PLAY_H
#define REPLAY_TRANSCRIPT_PLAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "learn/dispute.h"
#include "proto/transcript.h"
#include "proto/types.h"

/* The step that is argued about, as a referee has it from public records. */
struct transcript_step {
    struct graph *graph;  /* owned; NULL: is_empty, is_contradicted, is_first or is_file */
    bool is_empty;        /* the batch trains on nothing */
    bool is_contradicted; /* the manifest has other settings than its task: its signer lost */
    bool is_first;        /* version 0, which the task makes, and no batch */
    bool is_file;         /* no step: whether the file is that of the masters */
    struct opening_claim claim; /* of the manifest; the trace's root is not known yet */
    struct model_config config;
    struct msg_manifest manifest;
    struct bytes proof; /* of is_file: lent from the transcript */
    struct digest run, id;
    struct public_key defender;
    int64_t version;
};
/* Checks the manifest's signature, and that bundle and batch, or the challenge of a dispute that is direct,
 * are of what it names.
 * ERR_MALFORMED, ERR_DIGEST, ERR_DENIED, and the errors of graph_new. */
MUST_USE enum status transcript_open(struct transcript_step *s, const struct transcript *t,
                                     struct err *e);
void transcript_step_clear(struct transcript_step *s);

struct transcript_result {
    struct public_key defender, challenger;
    struct digest run;
    int64_t version;
    uint32_t n_moves;
    uint64_t opened_bytes;
    enum dispute_side loser; /* NOBODY: the dispute is not over, and `turn` is silent */
    enum dispute_side turn;
    char why[200];                    /* said of the loser */
    struct referee_question question; /* that it came to; else zero */
    char where[160];                  /* the operation, if it came to one; else empty */
};
/* The game before its first move, or over before it: of a step that is contradicted. Not of an empty
 * one, nor of one that is direct. */
void transcript_begin(struct dispute *d, const struct transcript_step *s);
/* Puts the moves (a blob each) through a game that has begun; *n are there. What comes after its end is
 * checked for signature and place, and ignored. Errors as transcript_replay. */
MUST_USE enum status transcript_moves(struct dispute *d, uint32_t *n,
                                      const struct transcript_step *s,
                                      const struct public_key *challenger, struct bytes moves,
                                      struct err *e);
/* What judging version 0 of a task takes of the host's memory; depends on nothing but the bundle. The errors of
 * bundle_decode, task_parse, setup_model_config and course_first_bytes. */
MUST_USE enum status transcript_first_bytes(uint64_t *out, struct bytes bundle, struct err *e);

/* Replays the moves; of a challenge without, looks at its proof (replay/file_proof.h); of version 0, makes it (replay/course.h), for which a task that begins with a model's
 * directory needs that. OK: they are what they claim to be, whoever lost. ERR_MALFORMED, ERR_DIGEST,
 * ERR_DENIED: the file accuses nobody. Of version 0, which takes all cores, also the errors of setup_open,
 * course_begin and course_warm_up; ERR_LIMIT, before any of it is taken: more memory than is free. It ends after the supervised step at which
 * *is_stopped (NULL: never) is set: ERR_TIMEOUT. */
MUST_USE enum status transcript_replay(struct transcript_result *out,
                                       const struct transcript *t,
                                       const atomic_bool *is_stopped, struct err *e);

#endif
