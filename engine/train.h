/*
 * engine/train.h - forward with memory, and backward
 *
 * A micro-batch is a few sequences packed end to end, without padding. The life of a step:
 *
 *   train_zero                 gradients = 0
 *   each micro-batch:
 *     train_gradients          log-probability of every target, of which the caller makes a loss
 *                              weight on the way; gradients += those of the micro-batch
 *   train_finish               joins the two gradients of a tied embedding
 *   train_update               the optimizer's step (engine/adamw.h)
 *   train_publish              packs the new weights
 *
 * The loss is L = -sum_r weight[r] * logp[r], so weight[r] = -dL/dlogp[r]: a positive weight makes a
 * token likelier. A weight of 0 marks a row that bears no loss. The logits are the largest array of a
 * step: they exist for a few rows at a time, and are made once.
 *
 * Bits: the forward is model_forward's, bit for bit. A gradient is one running fma over the rows
 * of the step in order, continued from call to call: how a batch is cut into micro-batches (between
 * sequences) changes nothing, nor does the number of threads.
 *
 * Order of the sums in backward that docs/numerics.md leaves to the model: the gradient of h in
 * front of q, k, v is dq Wq, then one add of dk Wk, then one add of dv Wv; in front of gate and up it
 * is dgate Wgate, then one add of dup Wup; a residual's gradient is what comes from above plus, in
 * one add, what comes through the block's norm. A tied head's gradient is kept apart from the
 * embedding's and added to it once, by train_finish.
 *
 * Memory: sized at creation for max_rows rows, but for the tables of positions (engine/model.h). What backward can have back by a norm or an
 * activation is computed again; with `recompute` a whole layer is, from its input, which is all
 * that is kept of it: the same bits, less than a third more work.
 *
 * Devices: with kernels of a device everything computed is there, and so are masters and moments from
 * the first train_update on: the caller's are then copies that train_fetch brings up to date, and the
 * weights given to train_new and train_reload are not borrowed. A device that failed shows as ERR_IO;
 * the train can then only be freed.
 *
 * Threads: as engine/model.h.
 */
#ifndef ENGINE_TRAIN_H
#define ENGINE_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/adamw.h"
#include "engine/model.h"
#include "engine/weights.h"

struct train;

struct train_options {
    const struct kernels *kernels; /* borrowed */
    struct pool *pool;             /* borrowed; may be NULL */
    size_t max_rows;    /* most rows of a micro-batch; must hold the longest sequence */
    uint64_t max_bytes; /* refuse to take more memory; 0: no limit */
    bool recompute;     /* keep the layers' inputs only */
};

/* `w` is borrowed as by model_new. ERR_LIMIT, ERR_NO_MEMORY. */
MUST_USE enum status train_new(struct train **out, const struct weights *w,
                               const struct train_options *opt, struct err *e);
void train_free(struct train **p);
/* What train_new would take, gradients and packed weights included; on a device also the optimizer's
 * copies there. UINT64_MAX: does not fit. */
uint64_t train_bytes(const struct model_config *c, const struct kernels *k, size_t max_rows,
                     bool recompute);

/* The model inside, for evaluating and sampling with the same weights between steps. */
struct model *train_model(struct train *t);
/* As model_reload. */
MUST_USE enum status train_reload(struct train *t, const struct weights *w, struct err *e);

struct train_batch {
    const int32_t *tokens;  /* (rows), sequences end to end, each from its position 0 */
    const int32_t *targets; /* (rows), the token whose probability after this row is asked for;
                               -1: none */
    const size_t *lengths;  /* (n_seqs), >= 1, their sum is `rows` */
    size_t n_seqs;
    size_t rows;
    float temperature; /* > 0 */
};

/*
 * For evaluation: no gradients.
 *
 *   logp  (rows)  out  log p(targets[r] | rows of its sequence up to r), 0 where there is none
 *
 * ERR_INVALID: more than max_rows, a token or target outside the vocabulary, a sequence longer than
 * the model's max_len. ERR_NUMERIC: a log-probability is not finite. ERR_NO_MEMORY: for the tables of
 * positions.
 */
MUST_USE enum status train_forward(struct train *t, const struct train_batch *b, float *logp,
                                   struct err *e);

/* The loss weight of a row, now that its log-probability is known. */
typedef float train_weigh(void *arg, size_t row, float logp);
/* One for weights that are known beforehand: arg is an array of them, (rows), only read. */
float train_weigh_known(void *arg, size_t row, float logp);

/* As train_forward, and adds the gradients of L. `weigh` is called for every row that has a target,
 * in order. ERR_NUMERIC also when a weight is not finite. After an error the gradients are worth
 * nothing. */
MUST_USE enum status train_gradients(struct train *t, const struct train_batch *b,
                                     train_weigh *weigh, void *arg, float *logp, struct err *e);

void train_zero(struct train *t);
/* Once, after the last micro-batch of a step and before the gradients are read. */
void train_finish(struct train *t);
/* The gradients, as the host sees them: of a device a copy that is made anew by every call, and lent
 * until the next. ERR_NO_MEMORY, ERR_IO: of a device. */
MUST_USE enum status train_grads(struct weights **out, struct train *t, struct err *e);
/* The same where the model computes, for operations with its kernels; on the CPU the same arrays. */
struct weights *train_grads_there(struct train *t);
/* What was changed in them, or others, take their place. */
void train_grads_set(struct train *t, const struct weights *grads);

/* adamw_step of the optimizer `a` and `masters` with the gradients. On a device its first call takes
 * both there, and from then on only a->step is up to date here, until train_fetch. */
MUST_USE enum status train_update(struct train *t, struct adamw *a, struct weights *masters,
                                  const struct adamw_settings *s, struct adamw_report *report,
                                  struct err *e);
/* Masters and moments as they are after the last update. Nothing to do on the CPU. */
MUST_USE enum status train_fetch(const struct train *t, struct adamw *a,
                                 struct weights *masters, struct err *e);
/* The next update begins with the optimizer and the masters that it is given, not with those of the update
 * before: for another optimizer. What is there already must have been fetched. */
void train_forget_optimizer(struct train *t);

/* The masters after an update become the weights that are computed with: on the CPU those of `w`, which is
 * what is published of them (rounded, if config.dtype says so) and borrowed; a device rounds its own. */
MUST_USE enum status train_publish(struct train *t, const struct weights *w, struct err *e);

#endif
