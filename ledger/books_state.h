/*
 * ledger/books_state.h - the inside of struct ledger_books, for ledger/books*.c only
 */
#ifndef LEDGER_BOOKS_STATE_H
#define LEDGER_BOOKS_STATE_H

#include "ledger/books.h"
#include "ledger/map.h"
#include "ledger/steps.h"
#include "proto/merkle.h"

#define ASSIGNED_KEPT 16u
#define NO_UNIT       UINT64_MAX

/* What an entry credited to a node's pending account. */
struct credit {
    uint64_t seq;
    uint64_t unit, lease; /* of an ACCEPT, for its worker; unit is NO_UNIT otherwise */
    int64_t amount;
};
struct node_book {
    struct ledger_node pub;
    struct credit *credit; /* owned; [head, n) are not matured */
    size_t head, n, cap;
    bool is_witness;    /* it has a commitment on record */
    struct digest next; /* that commitment */
    uint64_t began;     /* the HEAD for which it began, and gave no nonce */
    uint64_t gave;      /* the HEAD for which it gave a nonce last */
};
/* What an opinion found at another validator's places. */
struct opened_book {
    uint32_t opinion; /* whose: its index */
    struct ledger_opened is;
};
struct unit_book {
    struct ledger_unit pub;
    struct ledger_canary *canary; /* owned; what pub.canary lends */
    uint64_t nth;                 /* of its worker's commits, from 1 */
    struct digest r;              /* of its draw */
    uint64_t probability;         /* the one it was drawn with */
    uint32_t drawn;               /* depth by the draw, which ASSIGN does not change; 0: none */
    struct assigned_book {
        uint32_t node, n_seals; /* sealed when it was asked */
    } assigned[ASSIGNED_KEPT];  /* the last so many */
    uint32_t n_assigned;        /* ever */
    struct seal_book {
        uint32_t node;
        struct digest verdict;
    } seal[LEDGER_VERDICTS_MAX];
    uint32_t n_seals;
    struct opened_book *opened; /* owned */
    uint32_t n_opened;
};
struct invite_book {
    struct digest secret;
    uint32_t role;
    bool is_used;
};
struct commit_mark {
    size_t unit; /* index */
    uint64_t seq;
};
struct batch_mark {
    struct digest root;
    uint64_t seq;
    uint32_t n_trained; /* rows */
};
struct step_book {
    struct ledger_step_state pub;
    uint64_t nth; /* of its trainer's with a batch, from 1 */
};
struct dispute_book {
    struct ledger_dispute pub;
    struct digest *move; /* owned: envelopes */
    size_t cap;
};
struct version_mark {
    int64_t version;
    struct digest weights;
};

struct ledger_books {
    struct ledger_genesis genesis;
    struct digest run;
    uint64_t next_seq;
    int64_t time_us;
    struct account_table accounts;
    struct merkle tree; /* over the hashes of all entries */

    struct map node_at; /* pending account -> index */
    struct node_book *node;
    size_t n_nodes, cap_nodes;
    struct map unit_at; /* number -> index */
    struct unit_book *unit;
    size_t n_units, cap_units;
    struct map invite_at; /* id -> index */
    struct invite_book *invite;
    size_t n_invites, cap_invites;
    struct map reference; /* of deposits */
    struct map idem;      /* hash of actor and idem -> seq */

    struct ledger_task task;
    struct digest beacon; /* the value revealed last */
    uint64_t round;
    struct commit_mark *undrawn; /* [undrawn_head, n_undrawn), some of them void since */
    size_t undrawn_head, n_undrawn, cap_undrawn;

    struct version_mark *version; /* published and not abandoned */
    size_t n_versions, cap_versions;
    int64_t next_version;
    struct batch_mark *batch;
    size_t n_batches, cap_batches;
    uint64_t n_trained;     /* batches that a standing version was made from */
    struct step_book *step; /* owned; every STEP, by seq */
    size_t n_steps, cap_steps;
    struct dispute_book *dispute; /* owned; in their order */
    size_t n_disputes, cap_disputes;

    struct watch watch;

    struct ledger_round head; /* the last HEAD, and what its witnesses gave */
    struct digest mix;

    union ledger_body *scratch; /* owned: the body being applied */
};

struct account books_pending(const struct public_key *node);
const struct node_book *books_find_node(const struct ledger_books *b,
                                        const struct public_key *key);
const struct unit_book *books_find_unit(const struct ledger_books *b, uint64_t unit);
int64_t books_fee(const struct ledger_books *b, uint32_t depth);
/* What is still pending for the accepted unit. */
int64_t books_unmatured(const struct ledger_books *b, const struct unit_book *u);
bool books_has_version(const struct ledger_books *b, int64_t version);

/* The depth at which the salt has the unit checked, drawn with r and p. */
uint32_t books_sealed_depth(const struct ledger_books *b, const struct unit_book *u,
                            const struct digest *r, uint64_t p, const struct digest *salt);
/* The attempt that ended was a canary: what it was and what was said of it stays. */
void books_keep_canary(struct unit_book *u, const struct digest *salt);
void books_judge_canary(struct ledger_books *b, const struct ledger_canary_judge *x,
                        const struct ledger_posting *v, uint32_t n);
/* What a verdict that is contradicted costs the validator, and what it comes to. */
void books_strike(struct ledger_books *b, const struct public_key *validator);
void books_seal_verdict(struct ledger_books *b, const struct ledger_verdict_seal *x);
void books_take_verdict(struct ledger_books *b, const struct ledger_verdict *x);
void books_judge_states(struct ledger_books *b, const struct ledger_states_judge *x,
                        const struct ledger_posting *v, uint32_t n);
/* Does a verdict with this code say that a prefill was made? */
bool books_has_states(uint32_t code);
bool books_is_contradicted(const struct ledger_opinion *o, uint32_t outcome);
void books_open_round(struct ledger_books *b, const struct ledger_head *x);
void books_take_witness(struct ledger_books *b, const struct ledger_witness *x);
void books_close_round(struct ledger_books *b);
/* Gave all the nonces that the last HEAD asks for? Without, everything is checked in full. */
bool books_is_witnessed(const struct ledger_books *b);
/* Is this validator expected to give a nonce for the last HEAD, and has not? */
bool books_is_missing(const struct ledger_books *b, const struct node_book *node);
/* The rows that a DRAW of `value` through `through` must have, in d. False: more than fit. With
 * `salts` NULL the depths are left 0: only who has the salts knows them. */
bool books_draw_rows(struct ledger_draw *d, const struct ledger_books *b,
                     const struct ledger_salts *salts);

/* One more element at the end of a growing array. */
void *books_grow(void *array, size_t n, size_t *cap, size_t size);

/* books_step.c: batches, versions, and who recomputes them */
void books_take_batch(struct ledger_books *b, const struct ledger_batch *x);
bool books_pays_step(const struct ledger_books *b); /* the next STEP */
void books_take_step(struct ledger_books *b, const struct ledger_step *x);
void books_abandon(struct ledger_books *b, const struct ledger_abandon *x);
void books_draw_steps(struct ledger_books *b, const struct ledger_draw *x);
void books_assign_step(struct ledger_books *b, const struct ledger_step_assign *x);
void books_judge_step(struct ledger_books *b, const struct ledger_step_verdict *x,
                      const struct ledger_posting *v, uint32_t n);
void books_clear_steps(struct ledger_books *b); /* and disputes */
/* The newest STEP of this version that was not abandoned; NULL: there is none. */
struct step_book *books_find_step(const struct ledger_books *b, int64_t version);
/* Pay of this node that entries from here on earned cannot mature yet. */
uint64_t books_frozen_from(const struct ledger_books *b, const struct public_key *node);

/* books_dispute.c */
void books_open_dispute(struct ledger_books *b, const struct ledger_dispute_open *x,
                        int64_t time_us);
void books_move_dispute(struct ledger_books *b, const struct ledger_dispute_move *x,
                        int64_t time_us);
void books_close_dispute(struct ledger_books *b, const struct ledger_dispute_close *x,
                         const struct ledger_posting *v, uint32_t n);
/* Who is to move in it; NULL: nobody. */
const struct public_key *books_turn_of(const struct ledger_books *b,
                                       const struct digest *dispute);
bool books_is_party(const struct ledger_books *b, const struct public_key *node);
/* A DISPUTE_CLOSE for silence comes after the deadline. */
MUST_USE enum status books_check_silence(const struct ledger_books *b,
                                         const struct ledger_entry *en, struct err *e);

#endif
