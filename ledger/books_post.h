/*
 * ledger/books_post.h - how postings are made, for ledger/books_post.c and ledger/books_unit.c
 *
 * One function a type: may this entry be the next one, and what does it move? They read the
 * books and change nothing.
 */
#ifndef LEDGER_BOOKS_POST_H
#define LEDGER_BOOKS_POST_H

#include "ledger/books_state.h"

/* The postings so far: one row an account. */
struct post {
    struct ledger_posting *v; /* LEDGER_POSTINGS_MAX of them */
    uint32_t n;
};
void post_add(struct post *p, const struct account *a, int64_t delta);
void post_move(struct post *p, struct account from, struct account to, int64_t amount);

/* A node that may act in this role (ROLE_NONE: in any). */
MUST_USE enum status post_find_actor(const struct node_book **out, const struct ledger_books *b,
                                     const struct public_key *key, enum role role,
                                     struct err *e);
MUST_USE enum status post_need_task(const struct ledger_books *b, struct err *e);
/* The unit in its live attempt, which is committed. */
MUST_USE enum status post_find_committed(const struct unit_book **out,
                                         const struct ledger_books *b, uint64_t unit,
                                         uint64_t lease, struct err *e);
/* The salt shown is the one that was sealed, and the attempt was checked as deep as it says. */
MUST_USE enum status post_check_salt(const struct ledger_books *b, const struct unit_book *u,
                                     const struct digest *salt, struct err *e);
/* A drawn unit, and a validator that has not judged it. */
MUST_USE enum status post_check_judge(const struct unit_book **out,
                                      const struct ledger_books *b, uint64_t unit,
                                      uint64_t lease, const struct public_key *validator,
                                      struct err *e);
/* Was the verdict sealed, and has it the states that it must have? */
MUST_USE enum status post_check_states(const struct ledger_books *b,
                                       const struct ledger_verdict *x, struct err *e);
/* What a contradicted verdict costs: the fee and a slice of stake, or all. */
void post_strike(const struct ledger_books *b, const struct public_key *validator,
                 struct post *p);
/* Ends an attempt: fees and pay out of its reserve, the rest back to the escrow. */
void post_settle(const struct ledger_books *b, const struct unit_book *u, int64_t pay,
                 struct post *p);
uint32_t post_count_accepts(const struct unit_book *u, uint32_t depth); /* at least so deep */
struct account post_task_account(const struct ledger_books *b, enum account_kind kind);

#define POST_DECLARE(NAME, number, body, moves_money, text)                                    \
    MUST_USE enum status post_##body(const struct ledger_books *b,                             \
                                     const struct ledger_##body *x, struct post *p,            \
                                     struct err *e);
LEDGER_TYPE_MAP(POST_DECLARE)
#undef POST_DECLARE

#endif
