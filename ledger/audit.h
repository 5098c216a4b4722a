/*
 * ledger/audit.h - is this ledger right?
 *
 * Offline, trusting nothing but the bytes: opens a ledger directory for reading (also one whose
 * orchestrator was killed), replays every entry in one pass and recomputes
 *   the chain of hashes, sequence numbers and times; every posting and balance (I1-I15);
 *   the beacon, every draw and every assignment; every batch root and HEAD;
 *   owner certificates; and for each envelope an entry refers to: that it is there, hashes to its
 *   name, is signed by the key the entry names, and says what the entry says.
 * Then the tables beside the entries: "idem", "blobs", "meta".
 */
#ifndef LEDGER_AUDIT_H
#define LEDGER_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"
#include "ledger/body.h"
#include "proto/types.h"

enum audit_result { AUDIT_CLEAN = 0, AUDIT_VIOLATION = 1, AUDIT_UNREADABLE = 2 };

struct audit_report {
    enum audit_result result;
    bool has_bad_seq;
    uint64_t bad_seq; /* the first entry that is wrong */
    char why[ERR_TEXT_BYTES];
    struct digest run, head; /* hash of entries 0 and last */
    uint64_t n_entries, n_blobs;
    uint64_t n_of_type[LEDGER_TYPE_COUNT];
    uint64_t n_signatures; /* verified */
    uint64_t n_drawn, n_drawn_full;
    uint64_t n_contradicted; /* verdicts, by canaries */
    uint64_t n_units, n_accepted, n_given_up;
    int64_t deposited, escrow, reserved, stake, pending, avail, jackpot, burnt;
    int64_t paid_workers, paid_validators, paid_trainer, refunded, slashed;
};

/* Always fills *r; the result is also its return value. */
enum audit_result audit_run(struct audit_report *r, const char *dir);

#endif
