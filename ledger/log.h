/*
 * ledger/log.h - appending to the ledger, and reading it back
 *
 * struct ledger_log is the end of the chain and the books. Appending computes sequence number,
 * links, postings and hash, applies the entry to the books, and asks for the PUTs that make it
 * durable; no file is touched here. If an append fails, nothing has changed and nothing was put.
 *
 * Threads: one log belongs to one thread.
 */
#ifndef LEDGER_LOG_H
#define LEDGER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/db.h"
#include "base/effect.h"
#include "base/status.h"
#include "ledger/body.h"
#include "ledger/books.h"
#include "ledger/entry.h"
#include "proto/types.h"

struct ledger_log;

void ledger_log_new(struct ledger_log **out);
void ledger_log_free(struct ledger_log **l);

const struct ledger_books *ledger_log_books(const struct ledger_log *l);
uint64_t ledger_log_length(const struct ledger_log *l);
/* The hash of entry `seq` (for receipts), which must exist. */
const struct digest *ledger_log_hash(const struct ledger_log *l, uint64_t seq);

/* Who caused an entry, and when. */
struct ledger_cause {
    const struct public_key *actor; /* NULL: the orchestrator by itself */
    const struct idem *idem; /* NULL: answers no request, or is not the first that does */
    int64_t wall_us;         /* clamped to the last entry's time */
};

/* Appends one entry. On OK *en (may be NULL) is the entry, whose body is lent until the next
 * append or replay. Text of a refusal: see ledger/books.h; ERR_EXISTS when the actor's idem is
 * on record already. */
MUST_USE enum status ledger_append(struct ledger_log *l, enum ledger_type type,
                                   struct bytes body, const struct ledger_cause *why,
                                   struct effects *out, struct ledger_entry *en, struct err *e);

/* The same from a body struct: ledger_append_lease(l, &lease, &why, out, &en, e) ... */
#define LEDGER_APPEND_DECLARE(NAME, number, body, moves_money, text)                           \
    MUST_USE enum status ledger_append_##body(                                                 \
        struct ledger_log *l, const struct ledger_##body *b, const struct ledger_cause *why,   \
        struct effects *out, struct ledger_entry *en, struct err *e);
LEDGER_TYPE_MAP(LEDGER_APPEND_DECLARE)
#undef LEDGER_APPEND_DECLARE

/* Takes in the next entry from its bytes, checking the chain and all rules. en->body is lent from
 * `encoded`. ERR_CORRUPT, ERR_MALFORMED, or what ledger_apply says. */
MUST_USE enum status ledger_replay(struct ledger_log *l, struct bytes encoded,
                                   struct ledger_entry *en, struct err *e);

/* Body of a HEAD entry for the log as it is. */
void ledger_head_build(struct ledger_head *h, const struct ledger_log *l);

/* ---- a directory ------------------------------------------------------------------------- */

/* Called with each entry in order, after it was replayed; `encoded` and en->body are lent for the
 * call. A status other than OK ends the walk: ERR_NOT_FOUND in peace, others as a failure. */
typedef enum status ledger_visit(void *arg, const struct ledger_entry *en, struct bytes encoded,
                                 struct err *e);

/* Replays all entries of an open ledger directory into an empty log, and checks that the last is
 * the one "meta" says. `fn` may be NULL. ERR_CORRUPT for an entry that breaks a rule, with a text
 * that begins "entry 17: I4: ..."; ledger_log_length() is then its number. */
MUST_USE enum status ledger_log_load(struct ledger_log *l, struct db_txn *t, ledger_visit *fn,
                                     void *arg, struct err *e);
/* One entry's bytes, lent until the transaction ends. ERR_NOT_FOUND. */
MUST_USE enum status ledger_read(struct bytes *encoded, struct db_txn *t, uint64_t seq,
                                 struct err *e);

#endif
