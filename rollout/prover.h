/*
 * rollout/prover.h - what is put away of the states behind a sample's tokens, in open classes
 *
 * Private to rollout/. States come token after token; of each started ROLLOUT_PROOF_EVERY a TOPLOC
 * proof and a digest are kept: a sample's part of an opening (proto/opening.h).
 *
 * Threads: as the world's. Errors: ERR_LIMIT, ERR_NO_MEMORY, and those of toploc_prove.
 */
#ifndef ROLLOUT_PROVER_H
#define ROLLOUT_PROVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/kernels.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "rollout/rollout.h"

struct prover {
    struct buf proofs, states; /* owned: of the chunks that are over */
    uint16_t *rows; /* owned, (ROLLOUT_PROOF_EVERY, dim), bf16: of the one that is not */
    struct digest_state digest; /* of the same rows, float32 */
    size_t n, dim;
};

/* On failure *p is cleared. */
MUST_USE enum status prover_init(struct prover *p, size_t dim, struct err *e);
void prover_clear(struct prover *p);

/* The state (dim) that predicted the next sampled token. */
MUST_USE enum status prover_add(struct prover *p, const struct kernels *k, const float *state,
                                struct err *e);
/* After the last: ends a chunk that is not full. */
MUST_USE enum status prover_end(struct prover *p, struct err *e);

/* The opening of the submission by the provers of its samples, and its root as m->opening. Appends
 * the encoded OPENING to `out`. */
MUST_USE enum status prover_open(struct buf *out, struct msg_submit *m, const struct prover *p,
                                 struct err *e);

#endif
