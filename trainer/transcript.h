/*
 * trainer/transcript.h - a dispute over a step as a file that anyone can replay (docs/disputes.md)
 *
 * Everything that both parties stood on, and what each of them said, signed:
 *
 *   "MUSTERDI" | u32 1 | blob bundle | blob PUBLISH envelope of the disputed version |
 *   blob BATCH body | u64 steps that the optimizer had taken | 32 bytes challenger's key |
 *   blob moves (blob DISPUTE envelope, one after the other) | BLAKE2b-256 of all before it
 *
 * blob: u32 length, bytes; numbers are little-endian. What the parties argue about has a name that
 * every move carries:
 *
 *   BLAKE2b-256("muster/dispute" NUL | digest of the PUBLISH envelope | u64 steps | challenger)
 *
 * The manifest in the envelope names task, batch, settings and the roots before and after. The number
 * of steps is bound by the root of the optimizer's state before: a wrong one leads nowhere.
 *
 * Threads: any.
 */
#ifndef TRAINER_TRANSCRIPT_H
#define TRAINER_TRANSCRIPT_H

#include "base/bytes.h"
#include "base/status.h"
#include "learn/dispute.h"
#include "proto/msg.h"
#include "proto/types.h"

#define TRANSCRIPT_MAX_BYTES ((size_t)256 << 20)
#define TRANSCRIPT_MAGIC     "MUSTERDI"

struct transcript { /* all lent: after transcript_decode, parts of `in` */
    struct bytes bundle, manifest, batch, moves;
    uint64_t opt_steps;
    struct public_key challenger;
};

MUST_USE enum status transcript_encode(struct buf *out, const struct transcript *t,
                                       struct err *e);
/* ERR_MALFORMED, ERR_UNSUPPORTED (a later version), ERR_DIGEST (damaged). */
MUST_USE enum status transcript_decode(struct transcript *t, struct bytes in, struct err *e);

void transcript_id(struct digest *out, struct bytes manifest_envelope, uint64_t opt_steps,
                   const struct public_key *challenger);

/* Signs `move` as the next one and appends its blob to `moves`, whose last envelope it follows. */
MUST_USE enum status transcript_add(struct buf *moves, const struct digest *id,
                                    const struct digest *run, struct bytes move,
                                    const struct secret_key *secret, struct err *e);

/* The step that is argued about, as a referee has it from public records. */
struct transcript_step {
    struct graph *graph;        /* owned */
    struct opening_claim claim; /* of the manifest; the trace's root is not known yet */
    struct digest run, id;
    struct public_key defender;
    int64_t version;
};
/* Checks the manifest's signature, and that bundle, settings and batch are those it names.
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
    char why[200];   /* said of the loser */
    char where[160]; /* the operation, if it came to one; else empty */
};
/* Replays the moves. OK: they are what they claim to be, whoever lost. ERR_MALFORMED, ERR_DIGEST,
 * ERR_DENIED: the file accuses nobody. */
MUST_USE enum status transcript_replay(struct transcript_result *out,
                                       const struct transcript *t, struct err *e);

#endif
