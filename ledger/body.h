/*
 * ledger/body.h - what the entries say
 *
 * One struct a type. On disk each begins with a version byte; integers are little-endian, lists
 * have a count before them (docs/ledger.md). Decoding copies: a decoded body owns all it holds.
 * `lease` is the sequence number of a LEASE entry: with the unit it names one attempt.
 */
#ifndef LEDGER_BODY_H
#define LEDGER_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "ledger/entry.h"
#include "proto/types.h"

#define LEDGER_TEXT_BYTES     256u /* NUL included */
#define LEDGER_DRAW_ROWS_MAX  256u
#define LEDGER_CANDIDATES_MAX 64u
#define LEDGER_ASSIGNED_MAX   4u /* validators a DRAW gives one unit to */
#define LEDGER_VERDICTS_MAX   8u /* on one attempt */
#define LEDGER_OPENED_MAX     (LEDGER_VERDICTS_MAX - 1u)
#define LEDGER_BATCH_ROWS_MAX 4096u
#define LEDGER_SAMPLES_MAX    64u          /* of a unit: MSG_MAX_SAMPLES */
#define LEDGER_ONE            (1ull << 32) /* probability 1 */
#define LEDGER_SUPPLY_MAX     (1ll << 53) /* ucr: a sum of money is exact in any language (I14) */

struct ledger_genesis {
    struct public_key node, transport, owner; /* the orchestrator's */
    struct digest beacon_head;                /* h_N, ledger/beacon.h */
    uint64_t beacon_length;                   /* N */
    uint64_t mature_window;                   /* entries between earning and maturing */
    uint32_t finder_percent;                  /* of a slash: 10 */
    uint32_t jackpot_percent;                 /* 40; the rest is burnt */
};
struct ledger_param {
    char name[64];
    char value[LEDGER_TEXT_BYTES];
};
struct ledger_invite {
    uint8_t id[16];
    struct digest secret; /* BLAKE2b-256 of the invite's secret */
    uint32_t role;        /* enum role */
};
struct ledger_node_admit {
    struct public_key node, transport, owner;
    uint32_t role;
    struct signature owner_sig; /* msg_join.owner_sig */
    uint8_t invite[16];         /* used up by this entry */
};
struct ledger_node_revoke {
    struct public_key node;
    uint32_t code; /* enum reason */
};
struct ledger_deposit {
    struct public_key owner;
    int64_t amount;
    uint8_t reference[16]; /* of the payment outside, unique */
};
struct ledger_stake { /* avail(the node's owner) -> stake(node) */
    struct public_key node;
    int64_t amount;
};
struct ledger_unstake { /* back; refused while the node holds a unit or has pending pay */
    struct public_key node;
    int64_t amount;
};
struct ledger_task_open {
    struct digest task;          /* of the bundle, which is a blob */
    struct public_key initiator; /* node; its owner pays and gets the rest back */
    int64_t deposit;
    int64_t price_token;         /* to the worker, per sampled token */
    int64_t fee_light, fee_full; /* to a validator, per verdict */
    int64_t price_step;          /* to the trainer; deposit >= steps * price_step */
    int64_t stake_required;      /* of a worker, before it is leased a unit */
    int64_t stake_granted;       /* what of a stake the run gave: it deters nobody */
    uint64_t steps;
    uint64_t tokens_max;    /* of one unit: group * max_new_tokens */
    uint32_t verdicts_max;  /* of one attempt, what is reserved for; 1..LEDGER_VERDICTS_MAX */
    uint32_t validators;    /* assigned by a DRAW, 1..LEDGER_ASSIGNED_MAX */
    uint32_t audit_first;   /* so many first commits of a worker are checked fully */
    uint64_t audit_floor;   /* least probability, in LEDGER_ONE */
    uint32_t saving_ppm;    /* what a cheat saves, of a unit's pay: 550000 */
    uint32_t detection_ppm; /* chance that a full check finds it: 980000 */
    uint64_t
        canary_rate; /* of first attempts that are canaries (proto/canary.h), in LEDGER_ONE */
    int64_t canary_bonus;    /* to who finds a bad one, at most a third of the jackpot */
    int64_t bond_required;   /* stake of a validator, before it is drawn */
    uint32_t bond_slice_ppm; /* of its stake, for a verdict that a canary contradicts */
    uint32_t bond_strikes;   /* so many such verdicts cost all and bar it */
    uint64_t
        recheck_rate; /* of full checks that a second validator makes as well (proto/states.h),
                            * in LEDGER_ONE; 0: verdicts are not sealed and carry no states */
    uint32_t witnesses; /* nonces that a draw needs (proto/witness.h); 0: draws have none */
    uint64_t
        step_rate; /* least probability that a version is recomputed, in LEDGER_ONE; 0: none is */
    uint32_t step_first;  /* so many first versions of a trainer are all recomputed */
    int64_t fee_step;     /* to the validator, for one that it found right */
    int64_t dispute_bond; /* of a challenger's stake */
    uint32_t dispute_ms;  /* for each move; who is silent longer loses */
};
struct ledger_task_close {
    struct digest task;
};
struct ledger_lease {
    uint64_t unit;
    uint32_t attempt; /* 1, 2, ... */
    struct public_key worker;
    int64_t version;
    int64_t expires_us, hard_us; /* wall clock */
    int64_t reserve;             /* ledger_unit_reserve() */
    struct digest seal;          /* canary_seal() of the attempt's salt */
};
/* What can be told of a sample without a model (ledger/watch.h). */
struct ledger_sample {
    uint64_t print;     /* first 8 bytes of BLAKE2b-256("muster/1/print" NUL || tokens) */
    uint32_t tokens;    /* sampled */
    uint32_t surprise;  /* minus the sum of its log-probs, thousandths of a nat, rounded down */
    uint32_t has_ended; /* by an end token; 0 or 1 */
    int32_t reward;     /* thousandths, rounded toward zero, within +-2^30 */
};
struct ledger_commit {
    uint64_t unit, lease;
    int64_t version;
    struct digest root;     /* submission_root() */
    struct digest envelope; /* of the SUBMIT envelope, which is a blob */
    uint64_t tokens;        /* sampled: what is paid for */
    bool is_flat;           /* all rewards of the group are equal, as numbers */
    uint32_t n_samples;     /* 0 only where there is no submission (sim/market.h) */
    struct ledger_sample sample[LEDGER_SAMPLES_MAX];
};
/* In open classes, of a unit that is to be checked in full (proto/opening.h). */
struct ledger_opening {
    uint64_t unit, lease;
    struct digest envelope; /* of the OPENING envelope, which is a blob */
};
struct ledger_draw_row {
    uint64_t unit, lease;
    uint32_t depth;       /* enum check_depth */
    uint64_t probability; /* in LEDGER_ONE, for the record */
    uint32_t n_assigned;
    uint8_t assigned[LEDGER_ASSIGNED_MAX]; /* indices into `candidate` */
};
struct ledger_draw {
    uint64_t round;      /* 1, 2, ... */
    struct digest value; /* the beacon's, revealed now */
    uint64_t through;    /* all undrawn commits with seq <= through are drawn, no other */
    uint32_t n_candidates;
    struct public_key candidate[LEDGER_CANDIDATES_MAX]; /* validators that were there */
    uint32_t n_rows;
    struct ledger_draw_row row[LEDGER_DRAW_ROWS_MAX]; /* by unit, ascending */
};
struct ledger_assign {
    uint64_t unit, lease;
    struct public_key from; /* who missed its deadline; zero: another opinion is wanted */
    struct public_key to;
    uint32_t depth;
};
/* A full check's verdict is sealed before anybody shows one: */
struct ledger_verdict_seal {
    uint64_t unit, lease;
    struct public_key validator;
    struct digest
        verdict; /* of the VERDICT envelope to come, whose signature nobody can guess */
    struct digest envelope; /* of the VERDICT_SEAL envelope, which is a blob */
};
struct ledger_opened {
    struct public_key validator;
    struct digest found; /* at its places, by whoever gives the verdict */
};
_Static_assert(sizeof(struct ledger_opened) == KEY_BYTES + DIGEST_BYTES, "as in VERDICT");
struct ledger_verdict {
    uint64_t unit, lease;
    struct public_key validator;
    uint32_t depth;
    bool is_accepted;
    uint32_t code;          /* enum reason */
    struct digest envelope; /* of the VERDICT envelope, which is a blob */
    struct digest states;   /* states_seal(); zero: no prefill was made, or none is asked for */
    uint32_t n_opened;
    struct ledger_opened opened[LEDGER_OPENED_MAX]; /* of those it was to check, in order */
};
/* `validator` gave states, or opened another's, otherwise than `first` and `second` found them. */
struct ledger_states_judge {
    uint64_t unit, lease;
    struct public_key validator;
    struct public_key first, second; /* one of them opened what the other had sealed */
};
/* `salt` in all that ends an attempt: what the LEASE sealed. */
struct ledger_accept {
    uint64_t unit, lease;
    bool is_sole; /* a second full check was drawn, and nobody was there to make it */
    struct digest salt;
};
struct ledger_void {
    uint64_t unit, lease;
    uint32_t code; /* enum reason: EXPIRED, STALE, REVOKED ... */
    struct digest salt;
};
struct ledger_reject_soft {
    uint64_t unit, lease;
    uint32_t code;
    struct digest salt;
};
struct ledger_reject_hard {
    uint64_t unit, lease;
    uint32_t code;
    bool is_sole; /* one validator's word, because no second one was alive */
    struct digest salt;
};
struct
    ledger_canary_reveal { /* ends an attempt that was a canary: all are paid, nothing is kept */
    uint64_t unit, lease;
    struct digest salt;
};
/* What the verdicts on a revealed canary were worth, when the unit was made again, in full checked
 * and accepted. */
enum ledger_canary_outcome {
    LEDGER_CANARY_BAD = 1, /* its root is that of the new submission altered by its salt */
    LEDGER_CANARY_GOOD,    /* its root is that of the new submission */
    LEDGER_CANARY_OPEN,    /* neither, or there is no new submission: nobody is judged */
};
struct ledger_canary_judge {
    uint64_t unit, lease; /* of the canary */
    uint32_t outcome;
};
struct ledger_witness { /* about the last HEAD */
    uint64_t seq;       /* of the HEAD entry */
    struct public_key validator;
    struct digest nonce;    /* zero: it begins, or begins anew */
    struct digest next;     /* commitment to its nonce for another head */
    struct digest envelope; /* of the WITNESS envelope, which is a blob */
};
struct ledger_giveup {
    uint64_t unit;
    uint32_t code;
};
struct ledger_mature { /* all that `node` earned by entries up to `through` */
    struct public_key node;
    uint64_t through;
};
enum ledger_batch_use { LEDGER_TRAINED = 1, LEDGER_FLAT, LEDGER_GIVEN_UP };
struct ledger_batch_row {
    uint64_t unit;
    uint32_t use; /* enum ledger_batch_use */
};
struct ledger_batch {
    uint64_t batch;
    struct digest root; /* Merkle root over the SUBMIT envelope digests of TRAINED rows */
    uint32_t n_rows;
    struct ledger_batch_row row[LEDGER_BATCH_ROWS_MAX];
};
struct ledger_step {
    int64_t version;
    struct digest parent, weights; /* weights roots */
    struct digest batch;           /* root; zero for version 0 */
    struct digest envelope;        /* of the PUBLISH envelope, which is a blob */
    struct public_key trainer;
};
struct ledger_abandon {
    int64_t version;
    struct digest weights;
};
struct ledger_equivocation {
    int64_t version;
    struct public_key trainer;
    struct digest first, second; /* PUBLISH envelopes, both blobs */
};
/* The draw has given the version to nobody, to one that is gone, or has not been. */
struct ledger_step_assign {
    int64_t version;
    struct public_key from; /* zero: nobody */
    struct public_key to;
};
struct ledger_step_verdict { /* recomputed, and the same came out */
    int64_t version;
    struct public_key validator;
    struct digest envelope; /* of the STEP_VERDICT envelope, which is a blob */
};
struct ledger_dispute_open { /* recomputed, and another came out */
    int64_t version;
    struct public_key challenger;
    struct digest
        dispute; /* its name: transcript_id() of the STEP's envelope, opt_steps, challenger */
    uint64_t opt_steps; /* that the optimizer had taken before: batches trained on */
    bool is_direct;     /* no moves: the referee sees who is right by itself */
    struct digest weights, masters, optimizer; /* that the challenger has */
    struct digest envelope; /* of the STEP_VERDICT envelope, which is a blob */
};
/* Moves alternate, the trainer's first. */
enum ledger_move { LEDGER_MOVE_SHOW = 1, LEDGER_MOVE_PICK, LEDGER_MOVE_OPEN, LEDGER_MOVE_CALL };
struct ledger_dispute_move {
    struct digest dispute;
    uint32_t number;        /* from 0 */
    uint32_t kind;          /* enum ledger_move: its first byte; OPEN and CALL end the game */
    struct digest envelope; /* of the DISPUTE envelope, which is a blob */
};
struct ledger_dispute_close {
    struct digest dispute;
    struct public_key loser;
    bool
        is_silent; /* its move was due until the deadline; else all below is what the moves give */
    uint32_t n_moves;
    struct digest last; /* envelope of the last of them; zero: none */
    uint32_t op, out;   /* which the game came to (learn/graph.h) */
    uint64_t tile;
    uint32_t segment;
};
struct ledger_head {
    uint64_t seq;       /* the last entry covered: the one before this */
    struct digest root; /* RFC 6962 tree over the hashes of entries 0..seq */
    struct digest balances;
};

#define LEDGER_BODY_DECLARE(NAME, number, body, moves_money, text)                             \
    MUST_USE enum status ledger_##body##_body_encode(                                          \
        struct buf *out, const struct ledger_##body *b, struct err *e);                        \
    MUST_USE enum status ledger_##body##_body_decode(struct ledger_##body *b, struct bytes in, \
                                                     struct err *e);
LEDGER_TYPE_MAP(LEDGER_BODY_DECLARE)
#undef LEDGER_BODY_DECLARE

/* Any of them; large. Allocate it. */
union ledger_body {
#define LEDGER_BODY_FIELD(NAME, number, body, moves_money, text) struct ledger_##body body##_;
    LEDGER_TYPE_MAP(LEDGER_BODY_FIELD)
#undef LEDGER_BODY_FIELD
};
/* By type: bodies.lease_, bodies.void_ ... ERR_UNSUPPORTED for an unknown type. */
MUST_USE enum status ledger_body_decode(union ledger_body *b, enum ledger_type type,
                                        struct bytes in, struct err *e);

#endif
