/*
 * ledger/steps.h - which weight versions are recomputed, by whom, and disputes over them
 *
 * A STEP is drawn by the first DRAW that covers it: with the probability of a unit of its pay
 * (audit_probability: saving and detection are 1, the floor is step_rate), the trainer's first
 * step_first ones always, and the first version with the first of them. One that no DRAW covers may
 * be given out by STEP_ASSIGN. The validator recomputes the version: STEP_VERDICT, or DISPUTE_OPEN,
 * which any validator with the bond may make; with what was granted it, only of versions up to one
 * that it was given.
 *
 * Some disputes are direct, and have no moves, for the referee sees it by itself: those over the first
 * version, which it recomputes, and those whose challenge proves that the file of the weights is not
 * what the masters beside it give. In others moves alternate, the trainer's first, against a clock for
 * each party. OPEN and CALL are the last; then DISPUTE_CLOSE says who lost, which follows from the
 * moves (learn/dispute.h) and is what an audit replays. Meanwhile neither party's pay matures.
 *
 * `ledger_transcript` puts together what a dispute stands on, from the ledger alone: the bytes that
 * `muster verify` replays (proto/transcript.h).
 *
 * Part of the books (ledger/books.h), and as threads go like them.
 */
#ifndef LEDGER_STEPS_H
#define LEDGER_STEPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "ledger/books.h"
#include "proto/types.h"

/* So many times a version is given out by an orchestrator: whoever has it may be silent. */
#define LEDGER_GIVEN_MAX 16u
struct ledger_step_state {
    int64_t version;
    uint64_t seq; /* of the STEP entry */
    struct digest envelope, weights;
    struct public_key trainer;
    bool has_batch;     /* not the first version */
    uint64_t batch;     /* it was made from */
    uint64_t opt_steps; /* that the optimizer had taken before: batches with trained rows */
    bool is_empty;      /* its batch has none: nothing may have changed */
    bool is_abandoned;
    bool is_drawn;               /* by a DRAW */
    bool is_wanted;              /* to be recomputed */
    bool is_done;                /* by `validator`, who found it right */
    bool is_disputed;            /* a dispute over it was opened */
    uint64_t probability;        /* it was drawn with */
    struct public_key validator; /* whose turn it is; zero: nobody's */
    uint32_t n_given;            /* to whom it was given, the first LEDGER_GIVEN_MAX times */
    struct public_key given[LEDGER_GIVEN_MAX];
};
#define LEDGER_MOVES_MAX 64u /* so many moves end a game */
/* A party's moves together may take so many times dispute_ms, each at most once that; a party that has used
 * it up, by the entries' clock, which runs while the orchestrator is away, has a part of dispute_ms for each. */
#define LEDGER_PATIENCE      4
#define LEDGER_PATIENCE_PART 8
struct ledger_dispute {
    struct digest id;
    int64_t version;
    uint64_t opened; /* seq */
    uint64_t step;   /* seq of the STEP */
    uint64_t opt_steps, batch;
    struct digest manifest; /* envelope of the PUBLISH */
    struct public_key trainer, challenger;
    int64_t bond;
    struct digest challenge; /* of the STEP_VERDICT envelope, if it is direct; else zero */
    uint32_t n_moves;
    struct digest last; /* envelope of the last move; zero: none yet */
    int64_t last_us;    /* when that was, or the opening */
    int64_t used_us[2]; /* for moves made, by the trainer and by the challenger */
    bool is_called;     /* no more moves: to be judged */
    bool is_closed;
    struct public_key loser; /* once closed */
    bool is_silent;
};

/* Lent until the next ledger_apply. */

/* The newest STEP of a version that stands; NULL: unknown. */
const struct ledger_step_state *ledger_books_step(const struct ledger_books *b,
                                                  int64_t version);
size_t ledger_books_n_steps(const struct ledger_books *b); /* ever, abandoned ones included */
const struct ledger_step_state *ledger_books_step_at(const struct ledger_books *b, size_t i);
uint64_t ledger_books_batch_seq(const struct ledger_books *b, uint64_t batch); /* it exists */
size_t ledger_books_n_disputes(const struct ledger_books *b);
const struct ledger_dispute *ledger_books_dispute_at(const struct ledger_books *b, size_t i);
const struct ledger_dispute *ledger_books_dispute(const struct ledger_books *b,
                                                  const struct digest *id);
/* The one that is not closed; NULL: none. There is one at a time. */
const struct ledger_dispute *ledger_books_open_dispute(const struct ledger_books *b);
/* Envelope of its move i. */
const struct digest *ledger_books_move(const struct ledger_books *b, const struct digest *id,
                                       uint32_t i);
/* What a challenge of this validator binds: dispute_bond, twice that after one it has lost, and so on. */
int64_t ledger_books_dispute_bond(const struct ledger_books *b,
                                  const struct public_key *challenger);
/* How long after the last move whoever's turn it is may be silent. 0: it is nobody's. */
int64_t ledger_books_dispute_patience_us(const struct ledger_books *b,
                                         const struct ledger_dispute *d);
/* Whose move is due; NULL: nobody's, it is called or closed. */
const struct public_key *ledger_books_turn(const struct ledger_books *b,
                                           const struct ledger_dispute *d);

/* r of a version's draw. `mix`: of the witnesses' nonces. */
void step_draw_value(struct digest *out, const struct digest *beacon_value,
                     const struct digest *mix, int64_t version, const struct digest *envelope);

/* What the moves of a dispute come to. This module knows no model: whoever does lends the function
 * (replay/transcript_play.h). What takes long ends soon after *is_stopped (NULL: never) is set: ERR_TIMEOUT. */
struct ledger_judgement {
    bool is_over; /* else nobody has lost yet */
    bool has_trainer_lost;
    uint32_t op, out; /* which the game came to; zero if it did not go so far */
    uint64_t tile;
    uint32_t segment;
    char why[200];
};
typedef enum status ledger_judge(struct bytes transcript, const atomic_bool *is_stopped,
                                 struct ledger_judgement *out, struct err *e);

/* Where entries and blobs are read from: OK with the bytes appended to `out`. */
struct ledger_source {
    void *ctx;
    enum status (*blob)(void *ctx, const struct digest *digest, struct buf *out, struct err *e);
    enum status (*entry)(void *ctx, uint64_t seq, struct buf *out, struct err *e);
};
/* Appends the BATCH body that version `s` was made from. The errors of the source; ERR_NO_MEMORY. */
MUST_USE enum status ledger_step_batch(struct buf *out, const struct ledger_books *b,
                                       const struct ledger_step_state *s,
                                       const struct ledger_source *src, struct err *e);
/* Appends the encoded transcript of a dispute, with the moves so far. */
MUST_USE enum status ledger_transcript(struct buf *out, const struct ledger_books *b,
                                       const struct ledger_dispute *d,
                                       const struct ledger_source *src, struct err *e);

#endif
