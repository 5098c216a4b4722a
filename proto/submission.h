/*
 * proto/submission.h - what a worker commits to when it submits a unit
 *
 * The root covers everything the worker claims and nothing that the orchestrator chose for this
 * attempt (the lease), so two honest workers commit to the same root for one unit.
 *
 *   leaf 0       "muster/submit\0" || unit || version || task || weights || numerics || prompt ||
 *                opening || number of samples || reward and finish of each
 *   then, for each sample and each started SUBMISSION_CHUNK of its tokens:
 *                sample || chunk || tokens || log-probs || mask
 *
 * Exact layout: docs/protocol.md. `opening` is zero where bits are defined (proto/opening.h).
 */
#ifndef PROTO_SUBMISSION_H
#define PROTO_SUBMISSION_H

#include <stdbool.h>

#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define SUBMISSION_CHUNK                                                                       \
    32u /* tokens to a Merkle leaf; sampled tokens to a proof of an opening */

/* Needs only what the codec guarantees; lengths that contradict each other give some root. */
void submission_root(struct digest *root, const struct msg_submit *m);

/* Sizes that must agree: at least one sample, a prompt, an opening in open classes and in no other;
 * per sample at least one token, a log-prob for each, a mask that is empty or has a byte for each,
 * 0 or 1 and not all 1, +0 log-prob where it is 0, no negative id, finite numbers, log-probs <= 0, a
 * known finish.
 * ERR_MALFORMED, or ERR_NUMERIC for numbers; *why (may be NULL) gets the reason to give the
 * worker. Whether the root is right is not asked. */
MUST_USE enum status submission_check_bounds(const struct msg_submit *m, enum reason *why,
                                             struct err *e);

/* Was token i drawn from the policy, or is it the environment's? */
static inline bool submission_is_sampled(const struct msg_sample *s, size_t i)
{
    return s->mask.len == 0 || s->mask.data[i] == 1;
}

/* Sampled tokens (mask 1) of one sample, and of all: what is paid for. */
uint64_t submission_sample_tokens(const struct msg_sample *s);
uint64_t submission_tokens(const struct msg_submit *m);
/* How many proofs so many sampled tokens need. */
uint64_t submission_proofs(uint64_t sampled_tokens);

#endif
