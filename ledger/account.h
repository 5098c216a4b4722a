/*
 * ledger/account.h - the names of accounts, and their balances
 *
 * An account is 16 bytes: its kind, then the first 15 bytes of the key or task it belongs to (two
 * owners meet in one account only after 2^60 keys). Money is int64 micro-credits ("ucr").
 *
 *   external        where deposits come from: minus the supply, the only one below zero
 *   avail(owner)    an owner's own money
 *   stake(node)     what a node loses for fraud
 *   pending(node)   earned, and not yet matured
 *   escrow(task)    a task's money that nothing is promised from
 *   reserved(task)  promised: to leased units, and to steps not yet made
 *   bond(node)      a challenger's, of the stake, while a dispute of its is open
 *   jackpot, burn   where slashed money goes
 */
#ifndef LEDGER_ACCOUNT_H
#define LEDGER_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"
#include "proto/types.h"

/* X(name, text) */
#define ACCOUNT_KIND_MAP(X)                                                                    \
    X(EXTERNAL, "external")                                                                    \
    X(AVAIL, "avail")                                                                          \
    X(STAKE, "stake")                                                                          \
    X(PENDING, "pending")                                                                      \
    X(ESCROW, "escrow")                                                                        \
    X(RESERVED, "reserved")                                                                    \
    X(JACKPOT, "jackpot")                                                                      \
    X(BURN, "burn")                                                                            \
    X(BOND, "bond")

#define ACCOUNT_KIND_MEMBER(name, text) ACCOUNT_##name,
enum account_kind { ACCOUNT_NONE, ACCOUNT_KIND_MAP(ACCOUNT_KIND_MEMBER) ACCOUNT_KIND_COUNT };
#undef ACCOUNT_KIND_MEMBER

struct account {
    uint8_t b[16];
};

struct account account_of_key(enum account_kind kind, const struct public_key *key);
struct account account_of_task(enum account_kind kind, const struct digest *task);
struct account account_of_pool(enum account_kind kind); /* EXTERNAL, JACKPOT, BURN */

enum account_kind account_kind(const struct account *a); /* ACCOUNT_NONE if unknown */
bool account_equal(const struct account *a, const struct account *b);

#define ACCOUNT_TEXT_BYTES 48
/* "pending:9f3c5b..." (30 hex digits), "burn". */
void account_text(char out[ACCOUNT_TEXT_BYTES], const struct account *a);
/* The reverse, of a whole key in hexadecimal too; fewer than 30 digits are ERR_MALFORMED. */
MUST_USE enum status account_parse(struct account *out, const char *text, struct err *e);

/* ---- balances ---------------------------------------------------------------------------- */

struct account_row {
    struct account account;
    int64_t balance;
};
/* Sorted by account; one row per account ever used. */
struct account_table {
    struct account_row *v; /* owned */
    size_t n, cap;
};

void account_table_init(struct account_table *t);
void account_table_clear(struct account_table *t);
int64_t account_balance(const struct account_table *t, const struct account *a); /* 0: unused */
/* Adds; the caller has checked that the sum fits. */
void account_add(struct account_table *t, const struct account *a, int64_t delta);
/* BLAKE2b-256 over all rows in order: what a HEAD entry commits to. */
void account_table_root(struct digest *out, const struct account_table *t);

#endif
