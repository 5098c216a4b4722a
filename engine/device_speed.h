/*
 * engine/device_speed.h - how fast a device's whole passes are, on weights made up on the device
 *
 * For `muster bench`: a model of 7B in f32 takes 30 GB of the host, and speed does not depend on what
 * the numbers say as long as they are not all zero. Everything that a model does in a step is done:
 * tokens in, all layers, logits, drawing, tokens out; or forward, loss, backward, AdamW, new weights.
 *
 * Only for classes with passes of their own (open-cuda). Threads: as the device.
 */
#ifndef ENGINE_DEVICE_SPEED_H
#define ENGINE_DEVICE_SPEED_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/config.h"
#include "engine/device.h"

#define DEVICE_WAYS 24u

/* y (M, N) = x (M, K) W (N, K)', all bf16 but y if it is f32; gated: W is gate, then up, and y (M, N / 2)
 * = swiglu of the product, for which there is room (M, N). Arrays of the device. */
struct device_product {
    size_t M, N, K;
    bool is_f32, is_gated;
    const void *x, *w;
    void *y, *room;
};
/* One way in which the class can compute it. */
struct device_way {
    char name
        [40]; /* "cuBLASLt 0", "64x64/2": rows by columns of a tile, and blocks that split it */
    double seconds;
};
/* All ways, at most DEVICE_WAYS, each timed as a step of decoding meets it: the weights in no cache, and a
 * short kernel before. ERR_UNSUPPORTED: the class has no choice. */
MUST_USE enum status device_speed_ways(struct device_way *ways, size_t *n,
                                       const struct kernels *k, const struct device_product *p,
                                       struct err *e);

struct device_speed;

/* Weights of this shape, and if `trains` masters, moments and gradients. ERR_UNSUPPORTED: the class has
 * no passes, or not of this shape; ERR_NO_MEMORY. */
MUST_USE enum status device_speed_new(struct device_speed **out, const struct kernels *k,
                                      const struct model_config *c, bool trains, struct err *e);
void device_speed_free(struct device_speed **p);

/* Seconds of the median of `steps` steps, after some that are not counted. */

/* One new token for each of `batch` sequences of `context` tokens, drawn and got by the host; with_top: and
 * the MODEL_TOP largest of each one's state, of which proofs are made. */
MUST_USE enum status device_speed_decode(double *seconds, struct device_speed *s, size_t batch,
                                         size_t context, bool with_top, size_t steps,
                                         struct err *e);
/* All steps of a worker whose batch shrinks from `batch` sequences to one, two steps each, `seconds` together. How
 * many graphs were captured for that: *n_graphs. */
MUST_USE enum status device_speed_shrinking(double *seconds, size_t *n_graphs,
                                            struct device_speed *s, size_t batch,
                                            size_t context, struct err *e);
/* Of that the attention of all layers alone. */
MUST_USE enum status device_speed_attention(double *seconds, struct device_speed *s,
                                            size_t batch, size_t context, size_t steps,
                                            struct err *e);
/* Drawing from n rows of logits alone. */
MUST_USE enum status device_speed_sampling(double *seconds, struct device_speed *s, size_t n,
                                           size_t steps, struct err *e);
/* n_seqs prompts of `length` tokens at once, with the logits of their last tokens. */
MUST_USE enum status device_speed_prefill(double *seconds, struct device_speed *s,
                                          size_t n_seqs, size_t length, size_t steps,
                                          struct err *e);
/* One step of one micro-batch. `trains` must have been asked for. */
MUST_USE enum status device_speed_train(double *seconds, struct device_speed *s, size_t n_seqs,
                                        size_t length, bool recompute, size_t steps,
                                        struct err *e);

#endif
