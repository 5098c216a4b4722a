#include "support/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct rng random_seeded(uint64_t fallback)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text && text[0] ? strtoull(text, NULL, 0) : fallback;

    (void)fprintf(stderr, "TEST_SEED=%" PRIu64 "\n", seed);
    return rng_of(seed, 0);
}

void random_floats(struct rng *r, float *out, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (2.0f * rng_f32(r) - 1.0f) * scale;
}

void random_bytes(struct rng *r, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)rng_u32(r);
}
