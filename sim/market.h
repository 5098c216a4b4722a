/*
 * sim/market.h - what cheating brings, by a ledger of many workers
 *
 * A closed market in virtual time: workers lease units, commit to them, are drawn, judged, paid,
 * slashed, and come back under other keys, through the entries of a real ledger (ledger/log.h),
 * which computes all money, draws all checks and refuses what its rules forbid. Only the work is
 * imagined: a unit costs what the terms say (ledger/econ.h), a check finds what the cheat's row
 * says it finds. Four validators, of whom one may cheat, have bonds, seal their verdicts and are
 * tried by canaries, all as the terms say.
 *
 * A round: every worker that is there takes one unit, commits to it, all are drawn at once and
 * judged; a unit refused for fraud by two validators ends its worker, and is leased again. Every
 * MARKET_BATCH accepted units become a batch. Deterministic by `seed`.
 *
 * Threads: any; a market belongs to one.
 */
#ifndef SIM_MARKET_H
#define SIM_MARKET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "ledger/econ.h"

#define MARKET_BATCH       32u
#define MARKET_WORKERS_MAX 256u /* at a time: a DRAW has so many rows */

enum market_validator {
    MARKET_VALIDATOR_HONEST,
    MARKET_VALIDATOR_LAZY,      /* accepts without looking */
    MARKET_VALIDATOR_FRAMING,   /* accuses without looking */
    MARKET_VALIDATOR_COPYING,   /* says what was shown before it had to seal, or accepts */
    MARKET_VALIDATOR_COLLUDING, /* accepts what dishonest workers make */
    MARKET_VALIDATOR_COUNT
};
const char *market_validator_name(enum market_validator v); /* "lazy"; "none" */

struct market_options {
    struct econ_terms terms;
    uint64_t mature_window; /* ledger entries until pay matures */
    uint32_t workers;       /* 2..MARKET_WORKERS_MAX, dishonest ones included */
    uint32_t dishonest;     /* how many of them follow `cheat` */
    uint32_t verify_ppm;    /* what a full check costs, per million of what the unit did */
    uint64_t units;         /* until so many are accepted */
    uint64_t seed;
    const struct econ_cheat *cheat;  /* NULL: nobody cheats */
    enum market_validator validator; /* what the last of the validators does */
};

struct market_result {
    uint64_t rounds, accepted;       /* units */
    uint64_t cheated, found, let_in; /* units: tried, refused for it, accepted all the same */
    uint64_t barred, honest_refused; /* workers; units of honest workers */
    uint64_t checked, audited;       /* units judged; of these fully */
    double honest,
        cheats;        /* ucr a worker's place brought: all it owns at the end less what it paid
                              in and what its work cost */
    uint64_t canaries; /* revealed */
    uint64_t struck_by_states; /* STATES_JUDGE entries */
    uint64_t contradicted,
        honest_contradicted; /* verdicts: the cheating validator's, others' */
    bool is_validator_barred;
    double validators_honest, validator_cheats; /* ucr a validator's place brought */
    double honest_lost;                         /* of honest workers, by slashes: 0 */
    double verification; /* cost of all full checks, as a part of that of all generation */
};

/* ERR_INVALID: options out of range. ERR_INSUFFICIENT: the terms' deposit is spent before `units` are
 * made; others: the ledger refused an entry, which is a bug here. */
MUST_USE enum status market_run(struct market_result *out, const struct market_options *opt,
                                struct err *e);

#endif
