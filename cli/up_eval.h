/*
 * cli/up_eval.h - how good is a model directory at a task?
 */
#ifndef CLI_UP_EVAL_H
#define CLI_UP_EVAL_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"
#include "rollout/rollout.h"

/* Loads DIR (a Hugging Face directory of the task's shape), poses `n` held-out problems of the
 * bundle's task and answers each once at `temperature`, in the class of the training steps, which every CPU
 * computes. *reward is the mean; the first `n_samples` go to `samples`. `pool` and `env` may be NULL. */
MUST_USE enum status up_evaluate(struct bytes bundle, const char *dir, size_t n,
                                 float temperature, struct pool *pool,
                                 const struct env_options *env, float *reward,
                                 struct rollout_sample *samples, size_t n_samples,
                                 struct err *e);

#endif
