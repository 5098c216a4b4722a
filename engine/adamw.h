/*
 * engine/adamw.h - the optimizer: norm clip and AdamW
 *
 * Exactly as docs/numerics.md has it (Loshchilov & Hutter 2019, arXiv:1711.05101); weight decay
 * applies to every tensor. The state is two moments shaped like the weights, and a step count.
 *
 * Threads: a state belongs to one thread; inside, loops are split over the pool, which never changes a
 * result.
 */
#ifndef ENGINE_ADAMW_H
#define ENGINE_ADAMW_H

#include <stdint.h>

#include "base/status.h"
#include "engine/weights.h"

struct kernels;
struct pool;

struct adamw {
    struct weights *m; /* owned: first moment */
    struct weights *v; /* owned: second moment */
    uint64_t step;     /* steps taken */
    float *sums; /* owned, on a device: square sums of the tensors, then scratch of rows */
};

struct adamw_settings {
    float lr; /* of this step: the schedule's value, rounded once */
    float beta1, beta2, eps;
    float weight_decay;
    float clip_norm; /* 0: no clipping */
};

/* What a step did, for the log. */
struct adamw_report {
    float grad_norm; /* before clipping */
    float scale;     /* what the gradients were multiplied by */
};

/* Moments of zeros, before the first step. Fails as weights_new. */
MUST_USE enum status adamw_new(struct adamw **out, const struct model_config *c, struct err *e);
/* The same on a device (NULL: the host): its masters and gradients must lie there too. */
MUST_USE enum status adamw_new_on(struct adamw **out, const struct model_config *c,
                                  struct device *d, struct err *e);
void adamw_free(struct adamw **a);

/* One step: masters and moments change, `grads` do not (the clip scales them on the way). ERR_NUMERIC, with nothing
 * changed, when the gradients' norm is not finite; ERR_NUMERIC also when a weight comes out not
 * finite: then everything must be reloaded from before the step. ERR_IO: the device failed. */
MUST_USE enum status adamw_step(struct adamw *a, struct weights *masters, struct weights *grads,
                                const struct adamw_settings *s, const struct kernels *k,
                                struct pool *pool, struct adamw_report *report, struct err *e);

#endif
