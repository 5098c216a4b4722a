/*
 * support/random.h - the seed of a random test
 *
 * TEST_SEED=n in the environment repeats a run; without it the seed is `fallback`, so that the
 * ordinary run is the same every time. Whichever it is, it is printed once.
 */
#ifndef SUPPORT_RANDOM_H
#define SUPPORT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

struct rng random_seeded(uint64_t fallback);
/* Uniform in [-scale, scale]. */
void random_floats(struct rng *r, float *out, size_t n, float scale);
void random_bytes(struct rng *r, uint8_t *out, size_t n);

#endif
