/*
 * cli/earnings.h - what a task would pay this machine by the hour
 *
 * Three rates are measured with a model of the task's shape and random weights (speed does not depend
 * on what they say), by the code that the roles run:
 *
 *   decode   tokens sampled a second, EARNINGS_UNITS units together, as a worker takes them
 *   prefill  rows of one prompt a second: also what a validator's full check goes by
 *   train    rows a second, and the seconds that a step takes beside them (its optimizer)
 *
 * From those the hour of somebody who always finds work, whose prompts and answers are all as long as
 * the task allows, and whose work is all accepted:
 *
 *   inference  units an hour * tokens of a unit * the task's price of a token in the class
 *   verifier   full checks an hour * budget.fee_full
 *   trainer    steps an hour * budget.price_step
 *
 * What is left out: the environment's time, proofs (at most 1 %), the network, light checks, waiting.
 *
 * Threads: the caller's, and the pool.
 */
#ifndef CLI_EARNINGS_H
#define CLI_EARNINGS_H

#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "engine/config.h"
#include "engine/kernels.h"
#include "envs/task.h"

#define EARNINGS_UNITS 4u /* the default of muster inference --units */

struct earnings_rates {
    double decode, prefill, train; /* tokens a second; train 0: see why_no_train */
    double step_seconds;           /* of a training step, beside its rows */
    char why_no_train[160];        /* "" where it was measured */
};

/* Takes about three times `seconds`, and longer only where a single pass takes longer. Memory is
 * planned first: ERR_LIMIT where not even the model fits the free memory of the kernels' device;
 * ERR_NO_MEMORY. */
MUST_USE enum status earnings_measure(struct earnings_rates *r, const struct task *t,
                                      const struct model_config *c, const struct kernels *k,
                                      struct pool *pool, double seconds, struct err *e);

/* ucr an hour; negative: the task does not pay for it, or it could not be measured. */
struct earnings {
    double inference, verifier, trainer;
};
/* `numerics`: of the rates. All negative where the task has no price for it. */
struct earnings earnings_of(const struct task *t, const char *numerics,
                            const struct earnings_rates *r);

#endif
