/*
 * base/rng.h - Philox4x32-10, the one random generator of the program
 *
 * Counter-based: any draw is a pure function of (key, counter), so a draw can be repeated from
 * its coordinates and never depends on what was drawn before (Salmon et al. 2011,
 * doi:10.1145/2063384.2063405). Nothing in muster is seeded from a clock.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* out = Philox4x32-10(key = (lo, hi of `key`), counter = ctr). */
void philox4x32(uint32_t out[4], uint64_t key, const uint32_t ctr[4]);

/* A convenience stream over consecutive counters, for initial weights, shuffles and tests. */
struct rng {
    uint64_t key;
    uint64_t stream; /* counter words 2 and 3 */
    uint64_t n;      /* draws of 32 bits taken so far */
};

struct rng rng_of(uint64_t key, uint64_t stream);
uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* unbiased, in [0, n); n > 0 */
/* Uniform in [0, 1) with 24 bits. */
float rng_f32(struct rng *r);

#endif
