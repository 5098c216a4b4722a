/*
 * rollout/generate.h - groups of episodes, generated together
 *
 * Private to rollout/: what rollout_generate and rollout_evaluate have in common.
 *
 * Threads: as the world's. Errors: as rollout_generate.
 */
#ifndef ROLLOUT_GENERATE_H
#define ROLLOUT_GENERATE_H

#include <stdint.h>

#include "proto/msg.h"
#include "rollout/episode.h"
#include "rollout/prover.h"

/* One problem and its samples. */
struct group {
    uint64_t unit;                /* for progress reports */
    struct episode_prompt prompt; /* owned */
    uint64_t seed[MSG_MAX_SAMPLES];
    size_t n_samples;
    struct episode *episode; /* owned, (n_samples) */
    struct prover *prover;   /* owned, (n_samples); NULL: nothing is put away of states */
    float *reward;           /* owned, (n_samples) */
    uint64_t tokens;         /* sampled so far in all of them */
};

/* `seed` has `n_samples` entries, 1..MSG_MAX_SAMPLES, and is copied. On failure *g is cleared. */
MUST_USE enum status group_init(struct group *g, const struct rollout_world *w, uint64_t unit,
                                const struct env_problem *problem, const uint64_t *seed,
                                size_t n_samples, struct err *e);
void group_clear(struct group *g);

/* How many sequences groups_generate decodes together, of n groups of n_samples. */
size_t groups_slots(size_t n, size_t n_samples);

/* Plays every episode to its end and scores it. `with_provers`: what openings need is put away. */
MUST_USE enum status groups_generate(const struct rollout_world *w, struct group *groups,
                                     size_t n, float temperature, bool with_provers,
                                     rollout_progress *progress, void *progress_arg,
                                     struct err *e);

#endif
