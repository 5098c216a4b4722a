/*
 * cli/up_eval.h - how good is a model directory at a task?
 */
#ifndef CLI_UP_EVAL_H
#define CLI_UP_EVAL_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"
#include "rollout/rollout.h"

struct up_eval {
    struct bytes bundle; /* of the task */
    const char *dir;     /* a Hugging Face directory of the task's shape */
    size_t n;            /* held-out problems, each answered once */
    float temperature;
    struct pool *pool;             /* or NULL */
    const struct env_options *env; /* or NULL */
};

/* In the class of the training steps, which every CPU computes. *reward is the mean; the first `n_samples` go to
 * `samples`. Errors of setup_open, weights_load and rollout_evaluate; ERR_INVALID: the model has another shape. */
MUST_USE enum status up_evaluate(const struct up_eval *v, float *reward,
                                 struct rollout_sample *samples, size_t n_samples,
                                 struct err *e);

#endif
