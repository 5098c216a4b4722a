/*
 * shardcast/delta_avx2.c - the loops of patches with AVX2 and BMI2
 */
#include <immintrin.h>

#include "shardcast/delta_words.h"

#define LOOPS_TABLE delta_loops_avx2
#define LOOPS_NAME  "avx2"

/* One bit for each of 64 comparisons, which are all ones or all zeros. */
ALWAYS_INLINE uint64_t bits_of(__m256i a, __m256i b, __m256i c, __m256i d)
{
    /* packs takes the halves of both alternately; the permutation puts them in order. */
    __m256i low = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
    __m256i high = _mm256_permute4x64_epi64(_mm256_packs_epi16(c, d), 0xd8);

    return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high)
                                                     << 32;
}

ALWAYS_INLINE __m256i load256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ALWAYS_INLINE void masks_of(struct masks *m, const uint8_t *base, const uint8_t *now, size_t n,
                            const struct bounds *b)
{
    if (n < WORD_NUMBERS) {
        masks_plain(m, base, now, n, b);
        return;
    }
    const __m256i positive = _mm256_set1_epi16(0x7fff);
    __m256i v[4], at_least[4];
    uint64_t bits[DELTA_CLASSES_GAPS];

    for (unsigned i = 0; i < 4; i++)
        v[i] = load256(base + 32 * (size_t)i);
    m->differ = 0;
    if (base != now)
        m->differ = ~bits_of(_mm256_cmpeq_epi16(v[0], load256(now)),
                             _mm256_cmpeq_epi16(v[1], load256(now + 32)),
                             _mm256_cmpeq_epi16(v[2], load256(now + 64)),
                             _mm256_cmpeq_epi16(v[3], load256(now + 96)));
    for (unsigned c = 0; c < DELTA_CLASSES_GAPS; c++) {
        __m256i below = _mm256_set1_epi16((int16_t)(b->from[c] - 1));

        for (unsigned i = 0; i < 4; i++)
            at_least[i] = _mm256_cmpgt_epi16(_mm256_and_si256(v[i], positive), below);
        bits[c] = bits_of(at_least[0], at_least[1], at_least[2], at_least[3]);
    }
    split(m, bits, n);
}

ALWAYS_INLINE size_t select_bit(uint64_t m, unsigned k)
{
    return (size_t)CTZ64(_pdep_u64(UINT64_C(1) << k, m));
}

ALWAYS_INLINE void copy_word(uint8_t *to, const uint8_t *from)
{
    for (unsigned i = 0; i < WORD_BYTES; i += 32)
        _mm256_storeu_si256((__m256i *)(void *)(to + i), load256(from + i));
}

/* Past the caches: a line that is written whole need not be read first. */
static void copy_out(uint8_t *to, const uint8_t *from, size_t n)
{
    size_t head = (size_t)(-(uintptr_t)to & 31), i;

    head = head < n ? head : n;
    memcpy(to, from, head);
    for (i = head; n - i >= 32; i += 32)
        _mm256_stream_si256((__m256i *)(void *)(to + i), load256(from + i));
    memcpy(to + i, from + i, n - i);
}

ALWAYS_INLINE void copy_done(void)
{
    _mm_sfence(); /* streamed stores are ordered by nothing else */
}

#include "shardcast/delta_body.h"
