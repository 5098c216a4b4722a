/*
 * ledger/entry.h - one entry of the ledger, and its bytes
 *
 * The ledger is a list of entries, each naming the hash of the one before: to change one is to
 * change all after it. An entry says who caused it, what happened (type and body, ledger/body.h)
 * and what money moved (postings, whose sum is zero).
 *
 * Bytes (little-endian; docs/ledger.md):
 *   magic u32 | version u16 | type u16 | seq u64 | time_us u64 | run[32] | prev[32] | idem[16] |
 *   actor[32] | body_len u32 | n_postings u16 | flags u16 = 0 | body | {account[16], i64} ...
 *   hash = BLAKE2b-256("muster/1/entry\0" || all of it)
 * The run is the hash of entry 0, GENESIS, whose own `run` and `prev` are zero.
 */
#ifndef LEDGER_ENTRY_H
#define LEDGER_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "ledger/account.h"
#include "proto/types.h"

#define LEDGER_MAGIC        0x4745444cu /* "LDEG" */
#define LEDGER_VERSION      1u
#define LEDGER_HEADER_BYTES 144u
#define LEDGER_POSTINGS_MAX 20u
#define LEDGER_BODY_MAX     (128u << 10)
#define LEDGER_ENTRY_MAX    (LEDGER_HEADER_BYTES + LEDGER_BODY_MAX + LEDGER_POSTINGS_MAX * 24u)

/* X(NAME, number, body, moves_money, text). Numbers are on disk and never reused. `body` names
 * struct ledger_<body>, ledger_<body>_body_encode and ledger_<body>_body_decode. */
#define LEDGER_TYPE_MAP(X)                                                                     \
    X(GENESIS, 1, genesis, false, "the run begins")                                            \
    X(PARAM, 2, param, false, "a setting was noted")                                           \
    X(INVITE, 3, invite, false, "an invite was made")                                          \
    X(NODE_ADMIT, 4, node_admit, false, "a node joined")                                       \
    X(NODE_REVOKE, 5, node_revoke, false, "a node was barred")                                 \
    X(DEPOSIT, 6, deposit, true, "money came in")                                              \
    X(STAKE, 7, stake, true, "an owner staked a node")                                         \
    X(UNSTAKE, 8, unstake, true, "stake went back to its owner")                               \
    X(TASK_OPEN, 9, task_open, true, "a task was opened and paid in")                          \
    X(TASK_CLOSE, 10, task_close, true, "a task was closed, what is left went back")           \
    X(LEASE, 11, lease, true, "a unit was leased")                                             \
    X(COMMIT, 12, commit, false, "a worker committed to a unit")                               \
    X(DRAW, 13, draw, false, "checks were drawn")                                              \
    X(ASSIGN, 14, assign, false, "a check went to another validator")                          \
    X(VERDICT, 15, verdict, false, "a validator judged")                                       \
    X(ACCEPT, 16, accept, true, "a unit was accepted and paid")                                \
    X(VOID, 17, void, true, "a unit was taken back")                                           \
    X(REJECT_SOFT, 18, reject_soft, true, "a unit was refused, without fraud")                 \
    X(REJECT_HARD, 19, reject_hard, true, "a unit was refused for fraud, its worker slashed")  \
    X(GIVEUP, 20, giveup, false, "a unit was given up")                                        \
    X(MATURE, 21, mature, true, "pay matured")                                                 \
    X(BATCH, 22, batch, false, "a batch was put together")                                     \
    X(STEP, 23, step, true, "a weight version was published")                                  \
    X(ABANDON, 24, abandon, false, "a weight version was abandoned")                           \
    X(EQUIVOCATION, 25, equivocation, false, "two contents for one weight version")            \
    X(HEAD, 26, head, false, "a summary of all before")                                        \
    X(CANARY_REVEAL, 27, canary_reveal, true, "a unit was a canary, and is free again")        \
    X(CANARY_JUDGE, 28, canary_judge, true, "a canary was compared with the unit made again")  \
    X(WITNESS, 29, witness, false, "a validator has seen a head")                              \
    X(VERDICT_SEAL, 30, verdict_seal, false, "a validator committed to its verdict")           \
    X(STATES_JUDGE, 31, states_judge, true, "a validator's states were not those of the unit") \
    X(STEP_ASSIGN, 32, step_assign, false, "a validator is to recompute a weight version")     \
    X(STEP_VERDICT, 33, step_verdict, true, "a weight version was recomputed, and is right")   \
    X(DISPUTE_OPEN, 34, dispute_open, true, "a weight version was challenged")                 \
    X(DISPUTE_MOVE, 35, dispute_move, false, "a move of a dispute")                            \
    X(DISPUTE_CLOSE, 36, dispute_close, true, "a dispute was lost")                            \
    X(OPENING, 37, opening, false, "a worker opened a drawn unit")

#define LEDGER_TYPE_MEMBER(name, number, body, moves_money, text) LEDGER_##name = number,
enum ledger_type { LEDGER_NONE, LEDGER_TYPE_MAP(LEDGER_TYPE_MEMBER) LEDGER_TYPE_COUNT };
#undef LEDGER_TYPE_MEMBER

const char *ledger_type_name(enum ledger_type t); /* "LEASE"; NULL if unknown */
const char *ledger_type_text(enum ledger_type t);
enum ledger_type ledger_type_parse(const char *name); /* LEDGER_NONE if unknown */

struct ledger_posting {
    struct account account;
    int64_t delta; /* ucr, never 0 */
};

struct ledger_entry {
    uint64_t seq;
    int64_t time_us; /* wall clock, never going back */
    enum ledger_type type;
    struct digest run, prev;
    struct idem idem;        /* of the request answered; all zero: answers none */
    struct public_key actor; /* who caused it; all zero: the orchestrator by itself */
    struct bytes body;       /* lent */
    uint32_t n_postings;
    struct ledger_posting posting[LEDGER_POSTINGS_MAX];
};

bool idem_is_zero(const struct idem *a);

/* Appends the bytes of an entry. ERR_LIMIT if the body or the postings are too many. */
MUST_USE enum status ledger_entry_encode(struct buf *out, const struct ledger_entry *en,
                                         struct err *e);
/* Trusts nothing. What decodes, encodes to the same bytes. The body is not looked into. */
MUST_USE enum status ledger_entry_decode(struct ledger_entry *en, struct bytes in,
                                         struct err *e);
/* The hash of an entry from its bytes. */
void ledger_entry_hash(struct digest *out, struct bytes encoded);

#endif
