/*
 * ledger/beacon.h - randomness that nobody could steer, and what is drawn from it
 *
 * h_0 is secret, h_i = H(h_{i-1}), and h_N stands in GENESIS. Round i (1, 2, ...) reveals
 * h_{N-i}: anybody checks that H of it is the value before, nobody could know it earlier but the
 * orchestrator, and it cannot choose another. A worker's commitment is on record before the
 * round that draws it, so the worker cannot know what will be checked; the draw mixes in the
 * commitment's own root and nothing that the orchestrator writes.
 *
 * All integers: probabilities are parts of LEDGER_ONE = 2^32.
 */
#ifndef LEDGER_BEACON_H
#define LEDGER_BEACON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"
#include "proto/types.h"

#define BEACON_LENGTH_MAX (1ull << 24)

/* The secret half, at the orchestrator. Keeps a checkpoint every sqrt(N): a value costs at most
 * so many hashes. */
struct beacon;

/* Computes the chain: `length` hashes (a million take half a second). The seed should be a secret
 * function of the orchestrator's key, so that a copy of the ledger's directory tells nothing. */
void beacon_new(struct beacon **out, const struct digest *seed, uint64_t length);
void beacon_free(struct beacon **b);
const struct digest *beacon_head(const struct beacon *b); /* h_N, for GENESIS */
/* The value of round 1..N. ERR_LIMIT past the end of the chain. */
MUST_USE enum status beacon_value(struct digest *out, const struct beacon *b, uint64_t round,
                                  struct err *e);
/* h_i from h_{i-1}. */
void beacon_next(struct digest *out, const struct digest *in);

/* r of one unit. `mix`: of the witnesses' nonces (proto/witness.h), zero if there are none. */
void draw_value(struct digest *out, const struct digest *beacon_value, const struct digest *mix,
                uint64_t unit, const struct digest *commit_root);
/* Is the low half of r below p? p >= LEDGER_ONE: always. */
bool draw_is_audited(const struct digest *r, uint64_t p);

/* p = clamp(2 p*, floor, 1), p* = s / (d (R + S + P)): the least probability at which cheating
 * on a unit of pay R, which saves s = R * saving_ppm / 10^6, does not pay when a full check
 * finds it with chance d = detection_ppm / 10^6 and costs stake S and pending P (docs/ledger.md).
 * Rounded up. R = 0: floor. */
struct audit_policy {
    int64_t reward, stake, pending; /* ucr, >= 0 */
    uint32_t saving_ppm, detection_ppm;
    uint64_t floor;
};
uint64_t audit_probability(const struct audit_policy *p);

struct draw_candidate {
    struct public_key node, owner;
};
/* Puts the indices of the eligible candidates into order[], shuffled by r, and returns how many.
 * Never the worker itself; its owner's only when there are no others. */
size_t draw_validators(uint8_t order[], const struct digest *r, const struct draw_candidate *v,
                       size_t n, const struct public_key *worker,
                       const struct public_key *worker_owner);

#endif
