/*
 * proto/digest_lanes_avx2.c - four BLAKE2b (RFC 7693) in the four 64-bit lanes of AVX2 registers
 */
#include "proto/digest_lanes.h"

#include <immintrin.h>
#include <string.h>

#include "base/attr.h"

#define ROUNDS 12

static const uint64_t iv[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

/* One of four words of each lane: w[i] gets word i of all lanes. */
ALWAYS_INLINE void transpose(__m256i w[4], const uint8_t *in, size_t n)
{
    __m256i row[4], low01, high01, low23, high23;

    for (size_t i = 0; i < 4; i++)
        row[i] = _mm256_loadu_si256((const __m256i *)(const void *)(in + i * n));
    low01 = _mm256_unpacklo_epi64(row[0], row[1]);
    high01 = _mm256_unpackhi_epi64(row[0], row[1]);
    low23 = _mm256_unpacklo_epi64(row[2], row[3]);
    high23 = _mm256_unpackhi_epi64(row[2], row[3]);
    w[0] = _mm256_permute2x128_si256(low01, low23, 0x20);
    w[1] = _mm256_permute2x128_si256(high01, high23, 0x20);
    w[2] = _mm256_permute2x128_si256(low01, low23, 0x31);
    w[3] = _mm256_permute2x128_si256(high01, high23, 0x31);
}

ALWAYS_INLINE __m256i rotate_24(__m256i x)
{
    return _mm256_shuffle_epi8(x, _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15,
                                                   8, 9, 10, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13,
                                                   14, 15, 8, 9, 10));
}

ALWAYS_INLINE __m256i rotate_16(__m256i x)
{
    return _mm256_shuffle_epi8(x, _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14,
                                                   15, 8, 9, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12,
                                                   13, 14, 15, 8, 9));
}

ALWAYS_INLINE void half_mix(__m256i v[16], unsigned a, unsigned b, unsigned c, unsigned d,
                            __m256i x)
{
    v[a] = _mm256_add_epi64(_mm256_add_epi64(v[a], v[b]), x);
    v[d] = _mm256_shuffle_epi32(_mm256_xor_si256(v[d], v[a]), 0xb1); /* by 32 */
    v[c] = _mm256_add_epi64(v[c], v[d]);
    v[b] = rotate_24(_mm256_xor_si256(v[b], v[c]));
}

ALWAYS_INLINE void other_half(__m256i v[16], unsigned a, unsigned b, unsigned c, unsigned d,
                              __m256i y)
{
    __m256i t;

    v[a] = _mm256_add_epi64(_mm256_add_epi64(v[a], v[b]), y);
    v[d] = rotate_16(_mm256_xor_si256(v[d], v[a]));
    v[c] = _mm256_add_epi64(v[c], v[d]);
    t = _mm256_xor_si256(v[b], v[c]);
    v[b] = _mm256_or_si256(_mm256_srli_epi64(t, 63), _mm256_add_epi64(t, t));
}

/* Words s0 to s15 of the block, in the order of this round's permutation. */
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)            \
    do {                                                                                       \
        half_mix(v, 0, 4, 8, 12, m[s0]);                                                       \
        half_mix(v, 1, 5, 9, 13, m[s2]);                                                       \
        half_mix(v, 2, 6, 10, 14, m[s4]);                                                      \
        half_mix(v, 3, 7, 11, 15, m[s6]);                                                      \
        other_half(v, 0, 4, 8, 12, m[s1]);                                                     \
        other_half(v, 1, 5, 9, 13, m[s3]);                                                     \
        other_half(v, 2, 6, 10, 14, m[s5]);                                                    \
        other_half(v, 3, 7, 11, 15, m[s7]);                                                    \
        half_mix(v, 0, 5, 10, 15, m[s8]);                                                      \
        half_mix(v, 1, 6, 11, 12, m[s10]);                                                     \
        half_mix(v, 2, 7, 8, 13, m[s12]);                                                      \
        half_mix(v, 3, 4, 9, 14, m[s14]);                                                      \
        other_half(v, 0, 5, 10, 15, m[s9]);                                                    \
        other_half(v, 1, 6, 11, 12, m[s11]);                                                   \
        other_half(v, 2, 7, 8, 13, m[s13]);                                                    \
        other_half(v, 3, 4, 9, 14, m[s15]);                                                    \
    } while (0)

static void compress(__m256i h[8], const uint8_t *in, size_t n, uint64_t so_far, uint64_t last)
{
    __m256i v[16], m[16];

    for (size_t i = 0; i < 4; i++)
        transpose(m + 4 * i, in + 32 * i, n);
    for (size_t i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = _mm256_set1_epi64x((long long)iv[i]);
    }
    v[12] = _mm256_xor_si256(v[12], _mm256_set1_epi64x((long long)so_far));
    v[14] = _mm256_xor_si256(v[14], _mm256_set1_epi64x((long long)last));
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    for (size_t i = 0; i < 8; i++)
        h[i] = _mm256_xor_si256(h[i], _mm256_xor_si256(v[i], v[i + 8]));
}

/* The first words of the state are the parameters: 32 bytes of result, one string, and for whom. */
static void begin(__m256i h[8])
{
    uint64_t scope[2];

    memcpy(scope, DIGEST_LANE_SCOPE, sizeof(scope));
    for (size_t i = 0; i < 8; i++)
        h[i] = _mm256_set1_epi64x((long long)iv[i]);
    h[0] = _mm256_xor_si256(h[0], _mm256_set1_epi64x(0x01010000 ^ (long long)DIGEST_BYTES));
    h[6] = _mm256_xor_si256(h[6], _mm256_set1_epi64x((long long)scope[0]));
    h[7] = _mm256_xor_si256(h[7], _mm256_set1_epi64x((long long)scope[1]));
}

void digest_lanes_avx2(struct digest out[DIGEST_LANES], const uint8_t *in, size_t n)
{
    __m256i h[8];
    uint64_t word[4];

    begin(h);
    for (size_t at = 0; at < n; at += DIGEST_BLOCK)
        compress(h, in + at, n, at + DIGEST_BLOCK, at + DIGEST_BLOCK == n ? UINT64_MAX : 0);
    for (size_t i = 0; i < DIGEST_BYTES / 8; i++) {
        memcpy(word, &h[i], sizeof(word));
        for (size_t lane = 0; lane < DIGEST_LANES; lane++)
            memcpy(out[lane].b + 8 * i, &word[lane], 8);
    }
}
