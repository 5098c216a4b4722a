/*
 * ledger/show.h - an entry for people to read
 *
 * One line of text, or one JSON object:
 *
 *   17 2026-08-22T11:03:07.123456Z LEASE unit=3 attempt=1 worker=9f3c.. ... escrow:5a..-1200 ...
 *   {"seq": 17, "time_us": 1787..., "type": "LEASE", "hash": "..", "unit": 3, ..., "postings":
 *    [{"account": "escrow:5a..", "delta": -1200}, ...]}
 *
 * Money and numbers are integers, keys and digests hexadecimal: whole in JSON, their first four
 * bytes in text.
 */
#ifndef LEDGER_SHOW_H
#define LEDGER_SHOW_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "ledger/body.h"
#include "ledger/entry.h"

/* Appends the entry, without a line end. `hash` may be NULL. A body that does not decode is
 * ERR_MALFORMED or ERR_UNSUPPORTED, with nothing appended. */
MUST_USE enum status ledger_show(struct buf *out, const struct ledger_entry *en,
                                 const struct digest *hash, bool is_json, struct err *e);

/* Is the entry about this unit? Rows of DRAW and BATCH count. */
bool ledger_body_has_unit(enum ledger_type type, const union ledger_body *b, uint64_t unit);

#endif
