/*
 * shardcast/cast_proof.h - a proof of equivocation as a file: whoever has it can check it alone
 *
 * Two envelopes that one trainer signed about one content and that cannot both be true. Every node
 * that hears of them keeps them as DIR/evidence/equivocation-<version>-<kind>-<base>.proof;
 * `muster verify FILE` checks it on any machine, without a network.
 *
 *   "MUSTEREQ" | u32 1 | blob envelope | blob envelope | BLAKE2b-256 of all before it
 *
 * Numbers are little-endian; blob: u32 length, bytes. Threads: any.
 */
#ifndef SHARDCAST_CAST_PROOF_H
#define SHARDCAST_CAST_PROOF_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

#define CAST_PROOF_MAGIC "MUSTEREQ"

struct cast_proof { /* lent: after cast_proof_decode, parts of `in` */
    struct bytes first, second;
};

MUST_USE enum status cast_proof_encode(struct buf *out, const struct cast_proof *p,
                                       struct err *e);
/* ERR_MALFORMED, ERR_UNSUPPORTED (a later version), ERR_DIGEST (damaged). */
MUST_USE enum status cast_proof_decode(struct cast_proof *p, struct bytes in, struct err *e);

struct cast_proof_result {
    struct public_key trainer; /* whether it is the run's, only its ledger can say */
    struct digest run;
    struct content about;
};
/* OK: who signed both equivocated. ERR_DIGEST, ERR_DENIED and ERR_MALFORMED: this accuses nobody. */
MUST_USE enum status cast_proof_judge(const struct cast_proof *p, struct cast_proof_result *out,
                                      struct err *e);

#endif
