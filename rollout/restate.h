/*
 * rollout/restate.h - what the true weights say of tokens that somebody else chose
 *
 * An honest worker has no use for it: log-probabilities and openings come with the tokens. It is
 * what a dishonest one computes whose tokens are a smaller model's (TOPLOC alone accepts them,
 * arXiv:2501.16007, section 6), and so belongs to trying a network's defences.
 *
 * Threads: as the world's.
 */
#ifndef ROLLOUT_RESTATE_H
#define ROLLOUT_RESTATE_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "rollout/rollout.h"

/* Appends the prompt's ids of a unit, int32 little-endian. Errors as rollout_generate. */
MUST_USE enum status restate_prompt(const struct rollout_world *w, uint64_t unit,
                                    struct buf *ids, struct err *e);

/* For the tokens of every sample of m, given its prompt, appends to the sample's buffer of
 * `logprobs` (m->n_samples) a float32 for each, 0 where it was not sampled. Their ceilings are set.
 * Where the world's class is an open one and `opening` is not NULL, also makes the opening, appends
 * it encoded, and sets m->opening. *n_drawn (may be NULL) becomes the number of sampled tokens that
 * these weights draw under the unit's seeds. Ids must be in range. Errors as rollout_generate. */
MUST_USE enum status restate_samples(const struct rollout_world *w, struct msg_submit *m,
                                     struct buf *logprobs, struct buf *opening,
                                     uint64_t *n_drawn, struct err *e);

#endif
