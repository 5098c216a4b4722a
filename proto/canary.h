/*
 * proto/canary.h - units that are there to see who checks
 *
 * The orchestrator draws a secret salt for each attempt at a unit and puts its seal into the LEASE
 * entry, before anybody knows of the lease. The salt decides, by the task's rate, whether the
 * attempt is a canary; with the beacon, whether it is checked in full; and, of a bad canary, what
 * the worker alters in it. It is shown when the attempt has ended. So nobody can tell a canary
 * from another unit by the ledger before it is over, and the orchestrator cannot make or unmake
 * one after it was leased.
 *
 *   seal      BLAKE2b-256("muster/1/seal" NUL || salt || unit u64 || attempt u32)
 *   kind      first attempts only: k = BLAKE2b-256("muster/1/canary" NUL || salt). A canary if the
 *             first eight bytes of k, little-endian, are below rate * 2^32; of these those whose
 *             ninth byte is below 64 are good ones (nothing is altered), the others bad
 *   draw      BLAKE2b-256("muster/1/sealed" NUL || r || salt), whose first eight bytes are compared
 *             with the probability of a full check as those of r would be; canaries always
 *   alter     a = BLAKE2b-256("muster/1/alter" NUL || salt) as four u64: sample a0 mod their
 *             number; of its sampled tokens the one a1 mod their number; if a2 is even, the lowest
 *             bit of its log-probability is turned (+0 first becomes -0), else the token becomes
 *             another one that stands somewhere in the submission (its log-probability if there is
 *             none): the first different one among prompt and samples, cyclically from a3 on.
 *             Then the root is made anew
 *
 * What is altered is a function of the salt and the honest submission. So when the unit has been
 * made again by somebody else, anybody can tell whether the first was bad from the two submissions
 * alone: alter the later one, and compare the roots.
 *
 * Pure. Rates are parts of 2^32.
 */
#ifndef PROTO_CANARY_H
#define PROTO_CANARY_H

#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

enum canary_kind {
    CANARY_NONE,
    CANARY_BAD,  /* altered by order: who accepts it after a full check did not make one */
    CANARY_GOOD, /* as it should be: who rejects it accuses falsely */
};

void canary_seal(struct digest *seal, const struct digest *salt, uint64_t unit,
                 uint32_t attempt);
enum canary_kind canary_kind_of(const struct digest *salt, uint32_t attempt, uint64_t rate);
/* The value that decides between a light and a full check, from r of the draw. */
void canary_draw_value(struct digest *out, const struct digest *r, const struct digest *salt);
/* Alters an encoded msg_submit. ERR_MALFORMED: it is none, or a sample has no sampled token. */
MUST_USE enum status canary_alter(struct buf *body, const struct digest *salt, struct err *e);
/* Does altering the encoded msg_submit `honest` give this root? ERR_MALFORMED as above. */
MUST_USE enum status canary_altered_root(struct digest *root, struct bytes honest,
                                         const struct digest *salt, struct err *e);
/* The order in `envelope`, if it is one for this lease, of this run, with a valid signature (of
 * whom, the ledger's GENESIS says). ERR_MALFORMED or ERR_DIGEST. */
MUST_USE enum status canary_order_read(struct msg_canary_order *order, struct bytes envelope,
                                       const struct digest *run, uint64_t unit, uint64_t lease,
                                       struct err *e);

#endif
