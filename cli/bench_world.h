/*
 * cli/bench_world.h - a task with two weight versions, made in memory, for bench verify
 *
 * A character model is warmed up on lines of words and then takes one step of reinforcement, so
 * that version 1 differs from version 0 as one version of a run does from the one before.
 *
 * Threads: one at a time.
 */
#ifndef CLI_BENCH_WORLD_H
#define CLI_BENCH_WORLD_H

#include "base/pool.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "rollout/setup.h"

struct bench_world_options {
    size_t dim, layers; /* dim: a multiple of 64 */
    size_t group;       /* samples of a unit */
    size_t tokens;      /* of a sample */
    size_t warmup;      /* supervised steps; 0: random weights, and both versions are one */
    struct pool *pool;  /* borrowed */
};

struct bench_world {
    struct setup *setup;        /* owned */
    struct weights *weights[2]; /* owned: of versions 0 and 1 */
    struct digest root[2];
};

/* Errors of the task, the environment and the steps. On failure *w is closed. */
MUST_USE enum status bench_world_open(struct bench_world *w,
                                      const struct bench_world_options *opt, struct err *e);
void bench_world_close(struct bench_world *w);

/* Version 1 as the check of a run in `numerics` sees it. */
struct rollout_world bench_world_view(const struct bench_world *w, enum numerics numerics,
                                      struct model *m);

#endif
