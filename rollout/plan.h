/*
 * rollout/plan.h - what a unit consists of, from its number alone
 *
 * A worker chooses nothing: the prompt, the environment's seed and the seed of every sample are
 * functions of (task id, seed of the task, unit, sample). Keys and run ids stay out of it, so two
 * runs of one task file generate the same rollouts, whoever makes them.
 *
 *   h = BLAKE2b-256("muster/plan\0" || task id || seed u64 || unit u64 || purpose u32 || n u32)
 *
 * and the value is the first eight bytes of h, little-endian.
 *
 * Threads: any; all of it is pure.
 */
#ifndef ROLLOUT_PLAN_H
#define ROLLOUT_PLAN_H

#include <stdint.h>

#include "proto/types.h"

struct plan {
    struct digest task;
    uint64_t seed;    /* task.seed */
    uint64_t n_tasks; /* the environment's number of training tasks, > 0 */
};

/* Which of the environment's tasks the unit poses, in [0, n_tasks). */
uint64_t plan_task_index(const struct plan *p, uint64_t unit);
/* The seed the environment gets for this unit. */
uint64_t plan_env_seed(const struct plan *p, uint64_t unit);
/* The Philox key of one sample of the unit. */
uint64_t plan_sample_seed(const struct plan *p, uint64_t unit, uint32_t sample);
/* Demonstration i of the warm-up: the environment's task and seed. */
uint64_t plan_demo_index(const struct plan *p, uint64_t i);
uint64_t plan_demo_seed(const struct plan *p, uint64_t i);
/* The seed of the initial weights. */
uint64_t plan_init_seed(const struct plan *p);
/* Held-out problem i, posed in the environment's held-out split. */
uint64_t plan_heldout_index(const struct plan *p, uint64_t i);
uint64_t plan_heldout_seed(const struct plan *p, uint64_t i);

#endif
