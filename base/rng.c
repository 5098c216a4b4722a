#include "base/rng.h"

#include "base/check.h"

/* Multipliers and Weyl increments of Philox4x32 (Salmon et al. 2011, table 2). */
#define PHILOX_M0     0xD2511F53u
#define PHILOX_M1     0xCD9E8D57u
#define PHILOX_W0     0x9E3779B9u
#define PHILOX_W1     0xBB67AE85u
#define PHILOX_ROUNDS 10

void philox4x32(uint32_t out[4], uint64_t key, const uint32_t ctr[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];

    for (int i = 0; i < PHILOX_ROUNDS; i++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0;
        uint64_t p1 = (uint64_t)PHILOX_M1 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct rng rng_of(uint64_t key, uint64_t stream)
{
    return (struct rng){.key = key, .stream = stream};
}

uint32_t rng_u32(struct rng *r)
{
    uint64_t block = r->n / 4;
    uint32_t out[4];

    philox4x32(out, r->key,
               (const uint32_t[4]){(uint32_t)block, (uint32_t)(block >> 32),
                                   (uint32_t)r->stream, (uint32_t)(r->stream >> 32)});
    return out[r->n++ % 4];
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t lo = rng_u32(r);

    return lo | (uint64_t)rng_u32(r) << 32;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t x, unbiased;

    CHECK(n > 0);
    /* Draws at or above the greatest multiple of n in 2^64 would favour small results. */
    unbiased = UINT64_MAX - (UINT64_MAX % n + 1) % n;
    do
        x = rng_u64(r);
    while (x > unbiased);
    return x % n;
}

float rng_f32(struct rng *r)
{
    return (float)(rng_u32(r) >> 8) * 0x1p-24f;
}
