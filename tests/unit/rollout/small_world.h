/*
 * rollout/small_world.h - a task opened in this process, with weights that have an opinion
 *
 * Programs that use it must begin main() with SMALL_WORLD_MAIN: they are their own workers.
 */
#ifndef SMALL_WORLD_H
#define SMALL_WORLD_H

#include "base/pool.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "proto/msg.h"
#include "rollout/rollout.h"
#include "rollout/setup.h"

#define SMALL_WORLD_MAIN(argc, argv)                                                           \
    if (env_is_worker((argc), (argv)))                                                         \
    return env_worker_main()

/* Tasks of the tests. SMALL: four letters backwards, the task of tests/integration. LONG: any
 * bytes, so that an answer has as many tokens as there is room for. TALK: several turns, which
 * end in all three ways. */
enum small_task { SMALL_TASK_SMALL, SMALL_TASK_LONG, SMALL_TASK_TALK };

struct small_world {
    struct buf bundle;       /* owned */
    struct setup *setup;     /* owned */
    struct weights *weights; /* owned */
    struct model *model;     /* owned */
    struct pool *pool;       /* owned */
    struct digest root;      /* of the weights' file */
    struct rollout_world world;
};

/* Appends the task's bundle. `tokens` of LONG: sampling.max_new_tokens, 0 means 40. */
void small_bundle(struct buf *out, enum small_task task, unsigned tokens);

/* Version 3, scalar kernels, one thread. */
void small_world_open(struct small_world *s, enum small_task task, unsigned tokens);
void small_world_close(struct small_world *s);
/* The same weights packed anew for other kernels and threads. */
void small_world_run_with(struct small_world *s, const char *kernels, size_t threads);
/* Weights of another seed instead; the root stays what it was. 1: the first ones. */
void small_world_reweigh(struct small_world *s, uint64_t seed);

/* The safetensors file of the weights, and its root. */
void small_file(struct buf *out, const struct weights *w);
void small_root(struct digest *root, struct bytes file);
void small_weights(struct weights *w, uint64_t seed);

/* A unit as the world's worker makes it, taken apart. */
struct claim {
    struct rollout_unit unit;
    struct msg_submit *s; /* owned; lends from unit.body */
};
void claim_make(struct claim *c, const struct rollout_world *w, uint64_t unit);
void claim_clear(struct claim *c);
/* The root over what it says now. */
void claim_seal(struct claim *c);
/* The i-th byte of what it lends, to be forged. */
uint8_t *claim_byte(struct bytes b, size_t i);
int32_t claim_token(const struct claim *c, size_t sample, size_t i);

#endif
