/*
 * rollout/rollout.h - (weights, unit) -> a group of rollouts with its commitments
 *
 * A pure function: the submission of a unit depends on the task bundle, the weights and the
 * unit's number, and on nothing else - not on which units share the batch, how many threads
 * run, or how the prompt was cut into pieces. Workers run it to earn, validators run
 * rollout/check.h, its mirror, to verify.
 *
 * Threads: a world belongs to one thread at a time.
 */
#ifndef ROLLOUT_ROLLOUT_H
#define ROLLOUT_ROLLOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/pool.h"
#include "base/status.h"
#include "engine/chat.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/tokenizer.h"
#include "envs/env.h"
#include "envs/task.h"
#include "proto/types.h"
#include "rollout/plan.h"

/* Of openings: tokens between two TOPLOC proofs, and activations in each (arXiv:2501.16007). */
#define ROLLOUT_PROOF_EVERY 32u
#define ROLLOUT_PROOF_TOPK  128u

/* How far the sequential tests of an open class have climbed (rollout/check_open.c). */
struct rollout_heights {
    double margin, logprob;
};

/* What a unit is computed from. Everything is borrowed. */
struct rollout_world {
    const struct task *task;
    struct digest task_id;
    struct plan plan;
    const struct tokenizer *tokenizer;
    const struct chat *chat; /* NULL: texts are encoded as they stand */
    struct env *env;
    struct model *model; /* holds the weights of `version` */
    int64_t version;
    struct digest weights;  /* their root */
    enum numerics numerics; /* the class of the run: what submissions name */
    /* In open classes: other kernels with the same weights, without whose word nothing is refused
     * for what a tolerance says; NULL: `model` is believed. */
    struct model *second;
    /* In open classes, in a full check of one submission: where the tests stand by its worker's units
     * before, and afterwards with this one; NULL: they begin anew with each. */
    struct rollout_heights *heights;
    /* Draws tokens otherwise than the plan's seeds do (engine/sampler.h); NULL in an honest
     * program. */
    int32_t (*choose)(void *choose_ctx, const struct draw_place *at, float *logp);
    void *choose_ctx;
};

struct rollout_unit {
    uint64_t unit;
    uint64_t lease;
    struct buf body;    /* owned: an encoded msg_submit, once rollout_generate returned OK */
    struct buf opening; /* owned: in open classes the encoded msg_opening of it; else empty */
    uint64_t tokens;    /* sampled in all samples of the unit */
    float reward_mean;
};

/* Called as tokens appear, from the generating thread; `tokens` counts the unit's so far. */
typedef void rollout_progress(void *arg, uint64_t unit, uint64_t tokens);

/* Room for a reply: every rollout_unit's body must have been buf_init'ed by this. */
void rollout_unit_init(struct rollout_unit *u, uint64_t unit, uint64_t lease);
void rollout_unit_clear(struct rollout_unit *u);

/* Generates `n` units together, by continuous batching. On failure no unit is valid:
 *   ERR_TIMEOUT  the environment's wall clock ran out: no verdict on anybody, try again
 *   ERR_LIMIT    a prompt or an episode does not fit the model's positions
 *   ERR_NUMERIC  NaN or infinity in the logits: these weights cannot be sampled
 *   ERR_IO, ERR_NO_MEMORY, ERR_INVALID (the environment is at fault; the text says how) */
MUST_USE enum status rollout_generate(const struct rollout_world *w, struct rollout_unit *units,
                                      size_t n, rollout_progress *progress, void *progress_arg,
                                      struct err *e);

/* One problem posed, answered and scored, in words: for evaluation and for people. */
struct rollout_sample {
    struct buf prompt;     /* owned, text */
    struct buf completion; /* owned, text: all that was said after the prompt */
    float reward;
    struct env_score score; /* with its metrics */
    uint64_t tokens;        /* sampled */
};
void rollout_sample_clear(struct rollout_sample *s);

/* Poses held-out problems [0, n) and answers each once, at `temperature` (0: greedy). Sets
 * *reward_mean (0 on failure); on OK fills the first `n_samples` of `samples` (may be NULL), each
 * the caller's to clear. n > 0. Errors as above. */
MUST_USE enum status rollout_evaluate(const struct rollout_world *w, size_t n,
                                      float temperature, float *reward_mean,
                                      struct rollout_sample *samples, size_t n_samples,
                                      struct err *e);

#endif
