/*
 * learn/dispute.h - the game over one training step (docs/disputes.md)
 *
 * A defender (the trainer) stands by a step; a challenger says that its result is wrong. The
 * defender commits to a trace (learn/trace.h); the challenger is shown the hashes under a
 * node, sixteen at a time, and names the first one that is not his own. That leads to the first
 * operation where they differ, to one of its outputs, to one tile, to one segment of its sums. The
 * defender opens what the segment depends on, and the referee computes it. (The protocol is Verde's,
 * arXiv:2502.19405, itself after Canetti, Riva & Rothblum 2011, taken down to a tile.)
 *
 * Only the defender's word is ever tested: every tile it opens must lie under its own trace, so what
 * comes out is whether the defender's trace follows from itself at the place that the challenger
 * chose. A challenger who chooses badly loses, whoever is right elsewhere. An honest one
 * cannot: the first operation that differs has inputs that both sides have.
 *
 * A struct dispute is what everybody knows who has seen the moves: the two parties and the referee
 * hold the same. It is pure: moves and the time go in. A move that is malformed, or does not fit
 * what was shown before, loses at once; so does silence past the deadline.
 *
 * Moves: u8 kind, then
 *
 *   SHOW  the hashes under the node at hand (the first time before them: the trace's root, and the
 *         blob proof of its last leaf, which is the roots that the trainer signed); of an operation,
 *         the roots of its outputs; of a tile, the leaf hashes of its accumulators after each
 *         segment but the last
 *   PICK  u32: which of them
 *   OPEN  an opening (learn/opening.h)
 *   CALL  the other's last move lost: judge. Changes nothing in a game that is over; in one that is not it
 *         is a move of another kind than was due
 *
 * Moves alternate, the defender's first: also where there is but one thing to pick. So whoever keeps
 * the record of a dispute knows whose turn it is, and that OPEN and CALL end it, without the game.
 *
 * Threads: any, one at a time for one object.
 */
#ifndef LEARN_DISPUTE_H
#define LEARN_DISPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "learn/graph.h"
#include "learn/opening.h"
#include "learn/trace.h"
#include "proto/merkle_many.h"

enum dispute_side { DISPUTE_NOBODY, DISPUTE_CHALLENGER, DISPUTE_DEFENDER };
enum dispute_kind { DISPUTE_SHOW = 1, DISPUTE_PICK = 2, DISPUTE_OPEN = 3, DISPUTE_CALL = 4 };
enum dispute_level {
    DISPUTE_OPS,      /* a node of the trace */
    DISPUTE_OUTS,     /* an operation */
    DISPUTE_TILES,    /* a node of an output */
    DISPUTE_SEGMENTS, /* a tile whose sums are long */
    DISPUTE_OPENING,
    DISPUTE_CLOSED,
};

struct dispute_rules {
    const struct kernels *kernels; /* that the referee uses: of f32-1; borrowed */
    int64_t move_ms;               /* for each move */
};

struct dispute {
    const struct graph *g; /* borrowed */
    struct dispute_rules rules;
    struct opening_claim claim;

    enum dispute_level level;
    enum dispute_side turn; /* NOBODY when closed */
    bool is_shown;          /* the hashes at hand: the challenger picks */
    int64_t deadline_ms;
    uint32_t n_moves;
    uint64_t opened_bytes, shown_bytes;

    struct merkle_range range; /* of operations, then of tiles */
    struct digest node;
    struct digest *shown; /* owned: what the defender showed last */
    size_t n_shown;
    uint32_t op, out;
    uint64_t tile;
    size_t segment;
    struct digest before, after; /* the segment's accumulators, as the defender has them */

    enum dispute_side loser; /* once closed */
    char why[200];
};

/* Of `claim` the trace's root is not known yet: the defender's first move tells it. */
void dispute_init(struct dispute *d, const struct graph *g, const struct opening_claim *claim,
                  const struct dispute_rules *rules, int64_t now_ms);
void dispute_clear(struct dispute *d);

/* A party's move. OK: it was made, perhaps a losing one: see d->level. ERR_DENIED: it was not this
 * party's turn, or the dispute is closed, and nothing changed. ERR_NO_MEMORY: nothing changed but
 * the count; nobody is to blame. */
MUST_USE enum status dispute_move(struct dispute *d, enum dispute_side side, struct bytes move,
                                  int64_t now_ms, struct err *e);
/* The time: past the deadline whoever's turn it is loses. */
void dispute_tick(struct dispute *d, int64_t now_ms);

/* How many hashes the defender has to show now. */
size_t dispute_wanted(const struct dispute *d);
/* The question that the opening answers. */
struct referee_question dispute_question(const struct dispute *d);

/* ---- a party ----------------------------------------------------------------------------- */

/* Plays a side honestly by its own trace, which trace_commit has gone through; what that trace was
 * computed like is another matter. */
struct dispute_party {
    enum dispute_side side;
    struct trace *t;     /* borrowed */
    struct digest *leaf; /* owned: of the tiles of the output in question */
    uint32_t op, out;    /* that these are of; GRAPH_NONE: none yet */
};
void dispute_party_init(struct dispute_party *p, enum dispute_side side, struct trace *t);
void dispute_party_clear(struct dispute_party *p);

/* Appends the party's move. It must be its turn. ERR_NO_MEMORY, ERR_LIMIT. */
MUST_USE enum status dispute_party_move(struct dispute_party *p, const struct dispute *d,
                                        struct buf *out, struct err *e);

#endif
