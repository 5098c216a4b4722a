/*
 * replay/party.h - one side of one recorded dispute, with the trace to play it by
 *
 * Either side, from the state before the step: the trace is computed (learn/trace.h), and for every
 * sequence of moves there is the next one, which is a function of them, so that a party that was
 * killed goes on where it was.
 *
 * Threads: one at a time; kernels split over the pool.
 */
#ifndef REPLAY_PARTY_H
#define REPLAY_PARTY_H

#include "base/pool.h"
#include "base/status.h"
#include "replay/cheat.h"
#include "replay/transcript_play.h"

struct party_options {
    enum dispute_side side;
    const struct weights *masters; /* before the step: borrowed for the call */
    const struct adamw *opt;
    struct pool *pool;      /* borrowed; may be NULL */
    enum train_cheat cheat; /* a defender's: its trace then ends in what it signed */
};

struct party;

/* `t` without moves: lent for the call. ERR_NO_MEMORY, the errors of transcript_open. */
MUST_USE enum status party_open(struct party **out, const struct transcript *t,
                                const struct party_options *options, struct err *e);
void party_free(struct party **p);

/* Appends the move that follows `moves` (a blob each), if it is this side's turn; else nothing. Errors as
 * transcript_moves, dispute_party_move. */
MUST_USE enum status party_move(struct party *p, struct bytes moves, struct buf *out,
                                struct err *e);

#endif
