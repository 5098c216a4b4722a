/*
 * rollout/setup.h - a task, opened on this machine
 *
 * Everything that a bundle determines and that needs no weights: the parsed task, the model's
 * shape, the tokenizer, the environment's worker process, the plan. Workers, validators, the
 * trainer's warm-up, evaluation and replay all begin with it.
 *
 * Threads: one at a time (the environment is a conversation with one process).
 */
#ifndef ROLLOUT_SETUP_H
#define ROLLOUT_SETUP_H

#include "base/bytes.h"
#include "base/status.h"
#include "engine/chat.h"
#include "engine/config.h"
#include "engine/kernels.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"
#include "envs/env.h"
#include "envs/task.h"
#include "proto/types.h"
#include "rollout/plan.h"
#include "rollout/rollout.h"

struct setup {
    struct task task;
    struct digest task_id;
    struct model_config config;
    struct tokenizer *tokenizer; /* owned */
    struct chat *chat;           /* owned; NULL: prompts are plain text */
    struct env *env;             /* owned */
    struct plan plan;
    struct buf bundle; /* owned: the encoded bytes */
};

/* `bundle` is copied. `env_opt` may be NULL. ERR_MALFORMED, ERR_INVALID, ERR_UNSUPPORTED (a
 * tokenizer, a chat template or a shape that this program does not know), ERR_DENIED (no sandbox). */
MUST_USE enum status setup_open(struct setup **out, struct bytes bundle,
                                const struct env_options *env_opt, struct err *e);
void setup_close(struct setup **s);

/* The shape alone, from a parsed task and its bundle: no environment is started. *tokenizer is the
 * caller's; NULL on failure. Errors as setup_open. */
MUST_USE enum status setup_model_config(struct model_config *out, struct tokenizer **tokenizer,
                                        const struct task *t, const struct bundle *b,
                                        struct err *e);

/* How many of the newest weight versions a node of this run needs at hand. */
uint32_t setup_versions(const struct setup *s);

/* `k` in the class of the task: what the models of this run must be made with. ERR_UNSUPPORTED: it does
 * not run there. */
MUST_USE enum status setup_kernels(const struct kernels **out, const struct setup *s,
                                   const struct kernels *k, struct err *e);
/* The same in the class of its training steps, which defines bits (envs/task.h): what the trainer
 * computes with, and the second kernels of a check in an open class (struct rollout_world). */
MUST_USE enum status setup_train_kernels(const struct kernels **out, const struct setup *s,
                                         const struct kernels *k, struct err *e);

/* The world of one weight version, for rollout_generate and rollout_check. `m` may be NULL; it
 * computes in the class of the task. */
struct rollout_world setup_world(const struct setup *s, struct model *m, int64_t version,
                                 const struct digest *weights);

/* Demonstration i of the warm-up: prompt ids (bos first), answer, stop token; written to
 * `ids`, which has room for `cap`; *n is their number, *n_prompt that of the prompt's. ERR_LIMIT: longer than that or than model.max_len;
 * ERR_NOT_FOUND: the environment has no demonstrations. */
MUST_USE enum status setup_demo(const struct setup *s, uint64_t i, int32_t *ids, size_t cap,
                                size_t *n_prompt, size_t *n, struct err *e);

#endif
