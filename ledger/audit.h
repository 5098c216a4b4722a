/*
 * ledger/audit.h - is this ledger right?
 *
 * Offline, trusting nothing but the bytes: opens a ledger directory for reading (also one whose
 * orchestrator was killed), replays every entry in one pass and recomputes
 *   the chain of hashes, sequence numbers and times; every posting and balance (I1-I15);
 *   the beacon, every draw and every assignment; every batch root and HEAD;
 *   owner certificates; and for each envelope an entry refers to: that it is there, hashes to its
 *   name, is signed by the key the entry names, and says what the entry says.
 *   of every dispute: that moves follow one another, each signed by whose turn it was; that silence had
 *   lasted until the deadline; with a judge, that the loser and the operation judged follow from
 *   bundle, manifest, batch and moves, which are all in the ledger.
 * Then the tables beside the entries: "idem", "blobs", "meta".
 *
 * With the heads that witnesses keep (proto/witness.h) it also finds an orchestrator that shows
 * another history than it showed them: that rewrote or dropped an entry they had seen a head of,
 * shows two ledgers, or learned their nonces for one head and recorded another to steer a draw.
 */
#ifndef LEDGER_AUDIT_H
#define LEDGER_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "ledger/body.h"
#include "ledger/steps.h"
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
    uint64_t n_witnessed;    /* heads of the witnesses' files that are in the ledger */
    uint64_t n_contradicted; /* verdicts, by canaries */
    uint64_t n_steps_drawn, n_steps_recomputed; /* versions */
    uint64_t n_disputes, n_replayed; /* of which so many were judged, and replayed here */
    uint64_t n_units, n_accepted, n_given_up;
    int64_t deposited, escrow, reserved, stake, pending, avail, jackpot, burnt, bonds;
    int64_t paid_workers, paid_validators, paid_trainer, refunded, slashed;
};

/* Always fills *r; the result is also its return value. */
enum audit_result audit_run(struct audit_report *r, const char *dir);
struct audit_options {
    const struct bytes *file; /* n of them: each head in them must be in the ledger */
    size_t n_files;
    ledger_judge *judge; /* replays disputes; NULL: they are not */
};
enum audit_result audit_run_with(struct audit_report *r, const char *dir,
                                 const struct audit_options *o);

#endif
