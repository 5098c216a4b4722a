/*
 * learn/batch.h - accepted submissions, made ready for a step
 *
 * The trainer believes nobody, the orchestrator included: the order is checked against the
 * batch's root, each worker's signature, task, numerics class and staleness are checked again,
 * and a group without signal is refused rather than trained on.
 *
 * Threads: none of its own.
 */
#ifndef LEARN_BATCH_H
#define LEARN_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

/* One sequence to train on. Arrays are owned by the batch. */
struct learn_sample {
    const int32_t *tokens; /* (n) prompt and completion */
    const float *logprobs; /* (n) of the behaviour policy; 0 where mask is 0 */
    const uint8_t *mask;   /* (n) 1 where the token was sampled by the policy */
    size_t n;
    float advantage; /* reward less the group's mean */
    uint64_t unit;
};

struct learn_batch {
    struct learn_sample *sample; /* owned */
    size_t n_samples;
    uint64_t n_units;
    uint64_t n_tokens;  /* sampled ones: what the loss is divided by */
    uint64_t n_longest; /* tokens of the longest sequence */
    int64_t version_oldest;
    float reward_mean; /* over the samples */
    struct digest root;
    void *memory; /* private */
};

/* What the batch must agree with. */
struct learn_rules {
    struct digest run; /* all zero: any, signatures are checked within each envelope's own */
    struct digest task;
    const char *numerics;  /* "f32-1" */
    int64_t head;          /* the version this step starts from */
    int64_t max_staleness; /* head - version of a unit may not exceed it */
    uint32_t vocab;
    uint32_t max_len; /* tokens of prompt and completion together */
};

/* An empty message makes an empty batch, which is fine. On failure nothing is held:
 *   ERR_DIGEST     the root or a signature does not match
 *   ERR_MALFORMED  an envelope or its contents; the text names the unit. ERR_UNSUPPORTED: it is
 *                  of another protocol version
 *   ERR_DENIED     another task, run or class, or too stale */
MUST_USE enum status learn_batch_build(struct learn_batch *out, const struct msg_batch *m,
                                       const struct learn_rules *rules, struct err *e);
void learn_batch_clear(struct learn_batch *b);

/* The root a batch commits to: Merkle over the digests of its envelopes, in order. */
void learn_batch_root(struct digest *root, const struct msg_batch *m);

#endif
