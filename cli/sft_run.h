/*
 * cli/sft_run.h - supervised fine-tuning of a model directory
 *
 * What comes out is a function of the model, the data and the settings that `struct sft_settings`
 * calls so; how it is run (threads, processes, kernels, micro-batches, recomputation, being killed and
 * resumed) changes no bit. A step takes `batch` sequences, in an order that is shuffled anew for each epoch.
 *
 * On disk: DIR/sft.checkpoint while it trains; at the end the model takes its place.
 */
#ifndef CLI_SFT_RUN_H
#define CLI_SFT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct sft_settings {
    int64_t epochs, steps; /* steps < 0: as many as the epochs take */
    int64_t batch, seed;
    int64_t grad_lanes; /* 1, 2, 4 or 8 (learn/lanes.h) */
    int64_t max_length; /* tokens; 0: what the model can hold */
    char *numerics;     /* "f32-1" or "bf16-1" */
    char *too_long;     /* "refuse", "cut" or "drop" */
    char *template;     /* of chats, by its name; "": the model's own */
    double eval_fraction;
    char *schedule; /* "constant", "linear" or "cosine" */
    int64_t warm_steps;
    double lr, lr_end, weight_decay, beta1, beta2, clip_norm;
};

struct sft_manner {
    char *data, *eval, *kernels, *device; /* eval "": none */
    int64_t threads, processes, rows, max_memory, checkpoint_every, eval_every;
    bool special; /* texts were rendered already: what they spell of special tokens is read */
    bool recompute, resume, json;
};

/* Trains the model in directory `model` and leaves the result in `out`. */
MUST_USE enum status sft_run(const struct sft_settings *s, const struct sft_manner *m,
                             const char *model, const char *out, struct err *e);

#endif
