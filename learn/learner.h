/*
 * learn/learner.h - (weights, optimizer state, batch) -> the next, to the last bit
 *
 * A pure function of its inputs: however the batch is cut into micro-batches, however many
 * threads run, however many processes share the lanes, and whether the state was kept in memory or
 * came from a checkpoint. Trainers run it; `muster replay` runs it again and compares roots.
 *
 * The masters are f32. Forward passes use the published weights: the masters themselves, or
 * their bf16 rounding when config.dtype says so.
 *
 * Threads: a learner belongs to one thread; kernels split over its pool.
 */
#ifndef LEARN_LEARNER_H
#define LEARN_LEARNER_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/adamw.h"
#include "engine/train.h"
#include "engine/weights.h"
#include "learn/batch.h"
#include "learn/lanes.h"
#include "learn/loss.h"
#include "proto/types.h"

enum learn_schedule { LEARN_CONSTANT, LEARN_LINEAR, LEARN_COSINE };

struct learn_settings {
    struct loss_settings loss;
    float temperature; /* of the sampling: the log-probabilities' */
    struct {
        double lr, lr_end; /* lr_end as a part of lr */
        float beta1, beta2, eps, weight_decay, clip_norm;
        enum learn_schedule schedule;
        uint64_t warm_steps, total_steps;
    } optimizer;
    double warmup_lr;    /* of the supervised steps */
    uint32_t grad_lanes; /* learn/lanes.h: 1, 2, 4 or 8; of the supervised steps too */
};

/* What the settings come to, as 32 bytes: every step commits to it. */
void learn_settings_digest(struct digest *out, const struct learn_settings *s);
/* The learning rate of reinforcement step `step` (from 0), in binary64, rounded once. Linear and
 * cosine fall from lr to lr * lr_end over the steps after the warm ones. */
float learn_rate(const struct learn_settings *s, uint64_t step);

/* Processes that share the lanes of every step, this one included (replay/lane_group.h). */
struct learn_crew {
    void *ctx;
    uint32_t n_processes; /* divides the settings' grad_lanes */
    /* As lanes_gradient of all lanes with these published weights, `own` being this process's part.
     * After a failure nothing that a step makes has changed. */
    enum status (*gradient)(void *ctx, struct lanes *own, const struct weights *published,
                            const struct learn_work *w, struct learn_tally *tally,
                            struct err *e);
};

struct learner_options {
    const struct kernels *kernels; /* borrowed */
    struct pool *pool;             /* borrowed; may be NULL */
    size_t max_rows;               /* rows of a micro-batch; at least the longest sequence */
    uint64_t max_bytes;            /* refuse to take more memory; 0: no limit */
    bool recompute;                /* as struct train_options */
    const struct learn_crew *crew; /* borrowed; NULL: this process makes all lanes */
    /* Of kernels of a device: masters, published weights and moments of the host are brought up to date by
     * learner_fetch only, not after every step. For kernels of the host: no */
    bool is_lazy;
    /* Or NULL. A dishonest trainer's: may change a reinforcement step's gradients (tests). */
    void (*tamper)(struct weights *grads);
};

/* What learner_new takes and what it is given, together: masters, published weights, moments,
 * gradients, activations, sums of lanes; of a crew this process's. UINT64_MAX: does not fit. */
uint64_t learner_bytes(const struct model_config *c, const struct learn_settings *settings,
                       const struct learner_options *options);
/* That of it which lies where the kernels compute: all but masters, published weights and moments. On a
 * device it is what must fit there. */
uint64_t learner_bytes_there(const struct model_config *c,
                             const struct learn_settings *settings,
                             const struct learner_options *options);

struct learner {
    struct learn_settings settings;
    struct weights *masters;   /* owned */
    struct weights *published; /* owned; NULL when the masters are published as they are */
    struct adamw *opt;         /* owned */
    struct train *train;       /* owned */
    struct lanes *lanes;       /* owned */
    struct learner_options options;
    bool is_behind; /* masters, published and opt: see is_lazy */
};

/* Takes masters and optimizer over (both NULL afterwards, also on failure). `opt` or *opt may be
 * NULL: a fresh one. ERR_LIMIT: it would take more than max_bytes; ERR_NO_MEMORY. */
MUST_USE enum status learner_new(struct learner **out, struct weights **masters,
                                 struct adamw **opt, const struct learn_settings *settings,
                                 const struct learner_options *options, struct err *e);
void learner_free(struct learner **l);

/* Brings the host's numbers up to date, where is_lazy. ERR_IO: the device failed. */
MUST_USE enum status learner_fetch(struct learner *l, struct err *e);
/* A new optimizer, with the masters as they are. ERR_NO_MEMORY; ERR_IO: the device failed. */
MUST_USE enum status learner_restart(struct learner *l, struct err *e);
/* The weights that are published: lent until the next step. */
const struct weights *learner_published(const struct learner *l);
/* What a step commits to (learn/tiles.h). ERR_NO_MEMORY. */
MUST_USE enum status learner_roots(const struct learner *l, struct digest *masters,
                                   struct digest *optimizer, struct err *e);

struct learn_report {
    float loss; /* -sum J / n */
    float kl;   /* mean over tokens of ratio - 1 - log ratio (k3, of pi against mu) */
    float ratio_max;
    float clipped;   /* part of the tokens whose gradient the clip zeroed */
    float grad_norm; /* before clipping */
    float reward_mean;
    float lr;
    uint64_t n_tokens;
};

/* One reinforcement step; `step` counts from 0. An empty batch changes nothing. ERR_NUMERIC: a
 * loss, gradient or weight is not finite: the learner must be thrown away and resumed from
 * before the step. ERR_LIMIT: a sequence is longer than max_rows; ERR_NO_MEMORY; of a crew ERR_IO, and
 * nothing has changed. */
MUST_USE enum status learner_step(struct learner *l, const struct learn_batch *b, uint64_t step,
                                  struct learn_report *report, struct err *e);

/* A sequence to imitate: loss on tokens [n_prompt, n), or on those that is_answer says. */
struct learn_demo {
    const int32_t *tokens; /* (n), borrowed */
    size_t n_prompt, n;
    const uint8_t
        *is_answer; /* (n), 1 or 0, borrowed; NULL: see n_prompt. The first is never one */
};

/* One supervised step: the loss is the mean of -log p over the answers' tokens, at temperature 1
 * and the rate warmup_lr. Errors as learner_step; ERR_INVALID: not one answer has a token. */
MUST_USE enum status learner_imitate(struct learner *l, const struct learn_demo *demo, size_t n,
                                     struct learn_report *report, struct err *e);

/* The loss that a supervised step would begin with, and no step. */
MUST_USE enum status learner_evaluate(struct learner *l, const struct learn_demo *demo,
                                      size_t n, struct learn_report *report, struct err *e);

#endif
