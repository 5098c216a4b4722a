/*
 * cli/bench_weights.h - weights like those of a large model, and what Adam does to them
 *
 * Masters N(0, 0.02), and the first moment of Adam over the root of its second where gradients are
 * noise: it keeps 0.9 of itself from step to step, and its deviation of 0.2. At a rate of 1e-6 a step
 * changes 0.85 % of the weights rounded to bf16.
 */
#ifndef CLI_BENCH_WEIGHTS_H
#define CLI_BENCH_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/status.h"

struct bench_weights {
    size_t n;
    float *masters, *moment; /* owned */
    struct rng r;
};

/* n weights, rounded down to an even number. Always the same. ERR_NO_MEMORY; clear it even then. */
MUST_USE enum status bench_weights_new(struct bench_weights *s, size_t n, struct err *e);
void bench_weights_clear(struct bench_weights *s);
void bench_weights_step(struct bench_weights *s, double lr);
/* Appends a safetensors file of one tensor, F32 if `is_wide`, else BF16. */
MUST_USE enum status bench_weights_file(struct buf *out, const struct bench_weights *s,
                                        bool is_wide, struct err *e);

#endif
