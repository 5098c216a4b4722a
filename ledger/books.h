/*
 * ledger/books.h - what all entries so far add up to
 *
 * The books are a fold over the entries: accounts, nodes, the task, units and their attempts. For
 * a new entry they say which postings it must have (ledger_books_post) or why it may not be; no
 * other code computes money. Applying an entry checks it against that, so the writer, the replay
 * at start and the offline audit hold to the same rules.
 *
 * Life of a unit: FREE -> LEASED -> COMMITTED -> ACCEPTED -> batched, or from LEASED or COMMITTED
 * back to FREE by VOID, REJECT_SOFT or REJECT_HARD (each ends one attempt: exactly one of these
 * or ACCEPT an attempt), or from FREE to GIVEN_UP for good. An ACCEPTED unit that is in no batch
 * yet goes back to FREE by VOID when its worker was barred: then the next attempt may be paid.
 *
 * Canaries (proto/canary.h). Each LEASE seals a salt, which the end of the attempt must show. It
 * decided whether the check was light or full, and whether the attempt was a canary: that ends by
 * CANARY_REVEAL (or by VOID before anybody judged it) and goes back to FREE. Its next attempt is
 * checked in full; when it is accepted, CANARY_JUDGE says what the two submissions prove, and no
 * BATCH takes the unit before.
 *
 * Witnesses (proto/witness.h), where the task wants them. A HEAD opens a round: validators that have
 * seen it give nonces (WITNESS), and the DRAW after it draws all that the HEAD covers, with those
 * nonces in it. A validator that has committed to a nonce and does not give it leaves the round
 * unwitnessed, in which everything is checked in full, and is no witness until it begins anew. No
 * other HEAD may come between a nonce and its DRAW.
 *
 * States (proto/states.h), where the task has a recheck_rate. The verdict of a full check is sealed
 * before it is shown (VERDICT_SEAL), and carries a commitment to numbers that only a prefill yields.
 * Who is asked after others have sealed opens theirs with its own verdict. Two validators of whom
 * one opened what the other had sealed have both made the prefill; who gave or opened states
 * otherwise than these two is struck by STATES_JUDGE as by a canary. Being outvoted strikes nobody.
 *
 * Who is paid what:
 *   LEASE        escrow -> reserved: ledger_unit_reserve()
 *   ACCEPT       reserved -> pending(worker): tokens * price; reserved -> pending(validators):
 *                a fee for each verdict; the rest -> escrow
 *   REJECT_*     the fees likewise (whoever judged is paid, whatever the judgement: else a fee
 *   and VOID     would be a reason to accept); the rest -> escrow
 *   REJECT_HARD  also: pending(worker) -> escrow for its accepted units that are in no batch and
 *                not matured; what is left of pending and all of stake -> finders, jackpot, burn.
 *                The node is barred
 *   CANARY_REVEAL  the worker its pay, the validators their fees, the rest -> escrow
 *   CANARY_JUDGE stake of who is contradicted -> jackpot: the fee and bond_slice_ppm of it, the
 *                bond_strikes-th time all of it and of pending, and the node is barred; of a bad
 *                canary also jackpot -> pending(finders): canary_bonus, together at most a third
 *   STATES_JUDGE the same strike
 *   STEP         reserved -> pending(trainer): price_step, reserved since TASK_OPEN
 *   STEP_VERDICT escrow -> pending(validator): fee_step, or what the escrow has
 *   DISPUTE_OPEN stake(challenger) -> bond(challenger): ledger_books_dispute_bond()
 *   DISPUTE_CLOSE  the bond back if the trainer lost; pending(trainer) -> escrow: what it was paid for
 *                this version and later ones; what is left of its pending and all of stake, or the
 *                challenger's bond if that lost -> finder_percent to pending of the other,
 *                jackpot, burn. A trainer that lost is barred, and who found its version right is struck
 *   MATURE       pending(node) -> avail(owner), after genesis.mature_window entries, or at any
 *                time once the task is closed
 *   TASK_CLOSE   escrow and what steps did not use -> avail(initiator's owner); no live unit
 *
 * Recomputed versions and disputes: ledger/steps.h.
 *
 * Refused entries are ERR_DENIED, ERR_EXISTS, ERR_NOT_FOUND, ERR_INSUFFICIENT or ERR_INVALID with
 * a text that begins with the invariant, "I4: unit 7 is accepted already"; the books are as before.
 */
#ifndef LEDGER_BOOKS_H
#define LEDGER_BOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"
#include "ledger/account.h"
#include "ledger/body.h"
#include "ledger/entry.h"
#include "ledger/watch.h"
#include "proto/msg.h"
#include "proto/types.h"

struct ledger_books; /* opaque; grows with the entries */

void ledger_books_new(struct ledger_books **out);
void ledger_books_free(struct ledger_books **b);

/* The postings that an entry of this type and body has as the next one. *n <= the maximum.
 * `body` is what ledger_body_decode gave. */
MUST_USE enum status ledger_books_post(const struct ledger_books *b, enum ledger_type type,
                                       const union ledger_body *body,
                                       struct ledger_posting posting[LEDGER_POSTINGS_MAX],
                                       uint32_t *n, struct err *e);

/* Checks and applies the next entry, whose hash is `hash`. Checks I1-I9, I12-I15, what of I10
 * needs no envelope, and the entry's own run, seq and time; the hash chain is the log's business (ledger/log.h). */
MUST_USE enum status ledger_apply(struct ledger_books *b, const struct ledger_entry *en,
                                  const struct digest *hash, struct err *e);

/* ---- looking --------------------------------------------------------------------------------
 * Pointers are lent until the next ledger_apply; NULL: unknown. */

enum ledger_unit_state { UNIT_FREE, UNIT_LEASED, UNIT_COMMITTED, UNIT_ACCEPTED, UNIT_GIVEN_UP };
const char *ledger_unit_state_name(enum ledger_unit_state s); /* "committed" */

struct ledger_opinion {
    struct public_key validator;
    uint32_t depth;
    bool is_accepted;
    uint32_t code;
    struct digest states;
    bool is_struck; /* by STATES_JUDGE */
};
/* A revealed canary and what was said of it. */
struct ledger_canary {
    uint64_t lease;
    int64_t version;
    struct digest root, envelope, salt;
    bool is_judged;
    uint32_t n_opinions;
    struct ledger_opinion opinion[LEDGER_VERDICTS_MAX];
};
struct ledger_unit {
    uint64_t unit;
    enum ledger_unit_state state;
    bool is_batched;
    uint32_t attempt;                   /* leases so far */
    uint32_t n_canaries;                /* attempts that were revealed as canaries */
    const struct ledger_canary *canary; /* the last of them; NULL: none */
    /* of the live or accepted attempt: */
    uint64_t lease; /* seq of the LEASE entry */
    struct public_key worker;
    int64_t version, expires_us, hard_us, reserve;
    struct digest seal;
    uint64_t commit; /* seq of the COMMIT entry; 0: none */
    struct digest root, envelope;
    uint64_t tokens;
    bool is_flat;
    struct watch_finding watch; /* what stands out about it */
    uint32_t depth;             /* drawn; 0: not drawn yet. ASSIGN may raise it */
    struct digest opening;      /* the OPENING envelope; zero: it was not opened */
    uint32_t n_opinions;
    struct ledger_opinion opinion[LEDGER_VERDICTS_MAX];
    int64_t paid; /* to the worker, by ACCEPT */
};
struct ledger_node {
    struct public_key node, transport, owner;
    uint32_t role;
    bool is_revoked, is_slashed;
    uint64_t admitted; /* seq */
    uint64_t n_commits, n_accepted, n_refused, n_verdicts;
    /* Of these, what was before its last REJECT_SOFT: it begins anew, all is checked in full again. */
    uint64_t commits_before, accepted_before;
    uint64_t n_contradicted; /* verdicts, by CANARY_JUDGE and STATES_JUDGE */
    uint64_t n_lost;         /* challenges: each doubles the bond of the next */
    uint64_t n_live;         /* units LEASED or COMMITTED */
    int64_t earned;          /* ever credited to pending */
};
struct ledger_task {
    struct ledger_task_open open;
    bool is_open, is_closed;
    uint64_t opened;     /* seq */
    uint64_t steps_done; /* STEPs that were paid for */
    int64_t paid_workers, paid_validators, paid_trainer, refunded, slashed; /* totals */
    int64_t promised; /* reserved by live units */
};

const struct ledger_genesis *ledger_books_genesis(const struct ledger_books *b);
const struct digest *ledger_books_run(const struct ledger_books *b); /* zero before GENESIS */
uint64_t ledger_books_next_seq(const struct ledger_books *b);
int64_t ledger_books_time_us(const struct ledger_books *b); /* of the last entry */
const struct account_table *ledger_books_accounts(const struct ledger_books *b);
int64_t ledger_books_balance(const struct ledger_books *b, const struct account *a);
const struct ledger_task *ledger_books_task(const struct ledger_books *b); /* the last opened */
const struct ledger_unit *ledger_books_unit(const struct ledger_books *b, uint64_t unit);
size_t ledger_books_n_units(const struct ledger_books *b); /* of the last task, ever leased */
const struct ledger_unit *ledger_books_unit_at(const struct ledger_books *b, size_t i);
const struct ledger_node *ledger_books_node(const struct ledger_books *b,
                                            const struct public_key *node);
size_t ledger_books_n_nodes(const struct ledger_books *b);
const struct ledger_node *ledger_books_node_at(const struct ledger_books *b, size_t i);
int64_t ledger_books_version(const struct ledger_books *b); /* newest; -1: none */
int64_t ledger_books_next_version(const struct ledger_books *b);
const struct digest *ledger_books_weights(const struct ledger_books *b); /* its root */
/* The root of the batch that the next STEP must name; NULL: none is there, or the next is the first
 * version, which needs none. */
const struct digest *ledger_books_batch_to_train(const struct ledger_books *b);
/* Was the unit, in its live attempt, given to this validator? */
bool ledger_books_is_assigned(const struct ledger_books *b, uint64_t unit,
                              const struct public_key *validator);
/* The digest of the VERDICT envelope that the validator sealed for the live attempt; NULL: none. */
const struct digest *ledger_books_seal(const struct ledger_books *b, uint64_t unit,
                                       const struct public_key *validator);
/* Those whose states this validator has to open with its verdict: who had sealed theirs when it was
 * asked. Returns how many. */
uint32_t ledger_books_peers(const struct ledger_books *b, uint64_t unit,
                            const struct public_key *validator,
                            struct public_key peer[LEDGER_OPENED_MAX]);
/* r of the live attempt's draw; zero: it was not drawn yet. */
struct digest ledger_books_drawn(const struct ledger_books *b, uint64_t unit);
uint64_t ledger_books_next_batch(const struct ledger_books *b);
uint64_t ledger_books_next_round(const struct ledger_books *b); /* of the beacon */
/* The role an invite is for; ROLE_NONE when it is unknown or used. */
enum role ledger_books_invite(const struct ledger_books *b, const uint8_t id[16],
                              struct digest *secret);
/* The entry that answered this request before (I5). */
bool ledger_books_find_idem(const struct ledger_books *b, const struct public_key *actor,
                            const struct idem *idem, uint64_t *seq);

/* ---- filling bodies ---------------------------------------------------------------------- */

/* What a LEASE sets aside: tokens_max * price_token + verdicts_max * the larger fee. 0 without
 * an open task. */
int64_t ledger_unit_reserve(const struct ledger_books *b);
/* What a COMMIT says of a submission that is within bounds: tokens, is_flat and the samples. */
void ledger_commit_of(struct ledger_commit *c, const struct msg_submit *m);
/* The last HEAD, as the witnesses of draws see it. */
struct ledger_round {
    uint64_t seq;       /* of the HEAD entry; 0: there was none */
    uint64_t covers;    /* its `seq`: the last entry it covers */
    bool is_drawn;      /* a DRAW followed it */
    uint32_t n_given;   /* nonces */
    uint32_t n_missing; /* expected, and not given (yet, or because the witness began anew) */
};
struct ledger_round ledger_books_round(const struct ledger_books *b);
/* The commitment of a witness that is on record; zero: none. */
struct digest ledger_books_commitment(const struct ledger_books *b,
                                      const struct public_key *validator);
/* Where the salts of attempts come from, for whoever has sealed them. */
struct ledger_salts {
    void *ctx;
    void (*salt)(void *ctx, uint64_t unit, uint32_t attempt, struct digest *out);
};
/* The next DRAW: every committed and undrawn unit (at most LEDGER_DRAW_ROWS_MAX, oldest commits
 * first), its depth and its validators, from the beacon's next value. `candidate`: the
 * admitted validators that are there now, at most LEDGER_CANDIDATES_MAX. d->n_rows is 0 when there is nothing to draw. */
void ledger_draw_build(struct ledger_draw *d, const struct ledger_books *b,
                       const struct digest *value, const struct public_key *candidate,
                       uint32_t n_candidates, const struct ledger_salts *salts);
/* Is the live attempt a canary, by this salt? */
bool ledger_books_is_canary(const struct ledger_books *b, uint64_t unit,
                            const struct digest *salt);
/* Is the live attempt one that two validators are to check in full, by this salt? */
bool ledger_books_is_rechecked(const struct ledger_books *b, uint64_t unit,
                               const struct digest *salt);
/* Two or more validators gave states, and of no two of them has one opened what the other sealed. */
bool ledger_books_states_differ(const struct ledger_books *b, uint64_t unit);
/* The next STATES_JUDGE that the live attempt's verdicts call for. False: none. */
bool ledger_states_judge_build(struct ledger_states_judge *x, const struct ledger_books *b,
                               uint64_t unit);
/* Has the validator the stake that the task wants of it? */
bool ledger_books_has_bond(const struct ledger_books *b, const struct public_key *validator);
/* What a HEAD entry says of the log so far. */
void ledger_books_roots(const struct ledger_books *b, struct digest *entries,
                        struct digest *balances);
/* The root that a BATCH entry with these rows must have. ERR_INVALID if a TRAINED row is not an
 * accepted unit. */
MUST_USE enum status ledger_batch_root(struct digest *root, const struct ledger_books *b,
                                       const struct ledger_batch *batch, struct err *e);
/* What of node's pay may mature by the next entry; *amount 0: nothing, append none. */
void ledger_mature_build(struct ledger_mature *m, int64_t *amount, const struct ledger_books *b,
                         const struct public_key *node);

#endif
