/*
 * proto/transcript.h - a dispute over a step as a file that anyone can replay (docs/disputes.md)
 *
 * Everything that both parties stood on, and what each of them said, signed:
 *
 *   "MUSTERDI" | u32 2 | blob bundle | blob PUBLISH envelope of the disputed version |
 *   blob BATCH body | u64 steps that the optimizer had taken | 32 bytes challenger's key |
 *   blob STEP_VERDICT envelope of the challenge | blob moves (blob DISPUTE envelope, one after the other) | BLAKE2b-256 of all before it
 *
 * blob: u32 length, bytes; numbers are little-endian. What the parties argue about has a name that
 * every move carries:
 *
 *   BLAKE2b-256("muster/dispute" NUL | digest of the PUBLISH envelope | u64 steps | challenger)
 *
 * A dispute that is direct has the challenge, and neither batch nor moves; one with a game has those, and
 * no challenge.
 *
 * The manifest in the envelope names task, batch, settings and the roots before and after. The number
 * of steps is bound by the root of the optimizer's state before: a wrong one leads nowhere.
 *
 * Moves alternate: those of even number are the defender's, those of odd number the challenger's, so
 * that who keeps the record need not know the game (replay/transcript_play.h, learn/dispute.h).
 *
 * Threads: any.
 */
#ifndef PROTO_TRANSCRIPT_H
#define PROTO_TRANSCRIPT_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define TRANSCRIPT_MAX_BYTES ((size_t)256 << 20)
#define TRANSCRIPT_MAGIC     "MUSTERDI"

struct transcript { /* all lent: after transcript_decode, parts of `in` */
    struct bytes bundle, manifest, batch, challenge, moves;
    uint64_t opt_steps;
    struct public_key challenger;
};

/* Appends the file. Fails as buf_status: it is longer than `out` may be. */
MUST_USE enum status transcript_encode(struct buf *out, const struct transcript *t,
                                       struct err *e);
/* ERR_MALFORMED, ERR_UNSUPPORTED (a later version), ERR_DIGEST (damaged). */
MUST_USE enum status transcript_decode(struct transcript *t, struct bytes in, struct err *e);

/* `manifest`: digest of the PUBLISH envelope. */
void transcript_id(struct digest *out, const struct digest *manifest, uint64_t opt_steps,
                   const struct public_key *challenger);

/* The body of the move that follows `moves`, whose last envelope it names. ERR_MALFORMED: they are
 * cut short. */
MUST_USE enum status transcript_next(struct msg_dispute *m, struct bytes moves,
                                     const struct digest *id, struct bytes move, struct err *e);
/* Signs `move` as the next one and appends its blob to `moves`. */
MUST_USE enum status transcript_add(struct buf *moves, const struct digest *id,
                                    const struct digest *run, struct bytes move,
                                    const struct secret_key *secret, struct err *e);

#endif
