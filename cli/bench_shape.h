/*
 * cli/bench_shape.h - the models that training is timed with: llama-shaped, tied, random weights
 */
#ifndef CLI_BENCH_SHAPE_H
#define CLI_BENCH_SHAPE_H

#include <stdint.h>

#include "engine/config.h"

#define BENCH_SHAPES "15m|110m" /* what `--shape` names */

struct bench_shape {
    const char *name;
    uint32_t dim, layers, heads, ffn;
    double target; /* of training: times PyTorch f32, on two cores */
};

const struct bench_shape *bench_shape_find(const char *name); /* NULL: there is none */
struct model_config bench_shape_config(const struct bench_shape *s, int64_t length);

#endif
