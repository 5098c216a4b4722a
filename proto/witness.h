/*
 * proto/witness.h - heads that validators have seen, and the nonces they mix into draws
 *
 * Before a draw the orchestrator appends a HEAD entry and calls its witnesses (WITNESS_CALL, signed):
 * "entry `seq` of my ledger has this hash". A witness files the call, durably, and only then answers:
 * it reveals the nonce it had committed to and commits to the next. What is drawn is then a function
 * of nonces that nobody had when the head was fixed. The calls are proof against an orchestrator that
 * shows another ledger later, or that learned nonces for one head and recorded another.
 *
 *   commitment    BLAKE2b-256("muster/1/nonce" NUL || witness key || nonce)
 *   mix           exclusive or, over the nonces given for a head, of
 *                 BLAKE2b-256("muster/1/mix" NUL || witness key || nonce)
 *
 * A file of heads:  "MUSTERWH" | u32 1 | blob WITNESS_CALL envelope ...   (little-endian)
 *
 * Pure.
 */
#ifndef PROTO_WITNESS_H
#define PROTO_WITNESS_H

#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define WITNESS_CALL_MAX 512u /* bytes of its envelope */

void witness_commitment(struct digest *out, const struct public_key *witness,
                        const struct digest *nonce);
/* Mixes one nonce in. */
void witness_mix(struct digest *mix, const struct public_key *witness,
                 const struct digest *nonce);

/* What a file of heads begins with. */
void witness_file_begin(struct buf *out);

struct witness_head {
    struct public_key orchestrator; /* who signed it */
    struct digest run;
    uint64_t seq;
    struct digest entry;
};
typedef enum status witness_visit(void *arg, const struct witness_head *h, struct err *e);
/* Each head of a file, in its order, signature checked. ERR_MALFORMED, ERR_UNSUPPORTED, ERR_DIGEST, or
 * what `fn` gives. A last entry that is cut short (its writer died) is no error. */
MUST_USE enum status witness_file_read(struct bytes file, witness_visit *fn, void *arg,
                                       struct err *e);

#endif
