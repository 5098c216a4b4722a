/*
 * engine/cpu/vec.h - the few vector operations that gemm_vec.h and max_vec.h are written in
 *
 * The including file defines VEC_AVX2 or VEC_AVX512; with neither it gets VEC_LANES = 16 in
 * plain C, which lets a machine without AVX-512 test the code that is written for it.
 */
#ifndef ENGINE_CPU_VEC_H
#define ENGINE_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#if defined(VEC_AVX2)

#include <immintrin.h>
#define VEC              __m256
#define VEC_LANES        8u
#define vec_zero()       _mm256_setzero_ps()
#define vec_load(p)      _mm256_loadu_ps(p)
#define vec_store(p, v)  _mm256_storeu_ps(p, v)
#define vec_all(x)       _mm256_set1_ps(x)
#define vec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vec_max(a, b)    _mm256_max_ps(a, b) /* a > b ? a : b */

/* The sixteen columns of a step of a narrow panel (table.h). */
ALWAYS_INLINE void vec_widen(__m256 *to, const uint32_t *step)
{
    __m256i word = _mm256_loadu_si256((const __m256i *)(const void *)step);

    to[0] = _mm256_castsi256_ps(_mm256_slli_epi32(word, 16));
    to[1] = _mm256_castsi256_ps(_mm256_and_si256(word, _mm256_set1_epi32((int)0xffff0000u)));
}

#elif defined(VEC_AVX512)

#include <immintrin.h>
#define VEC              __m512
#define VEC_LANES        16u
#define vec_zero()       _mm512_setzero_ps()
#define vec_load(p)      _mm512_loadu_ps(p)
#define vec_store(p, v)  _mm512_storeu_ps(p, v)
#define vec_all(x)       _mm512_set1_ps(x)
#define vec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vec_max(a, b)    _mm512_max_ps(a, b)

ALWAYS_INLINE void vec_widen(__m512 *to, const uint32_t *step)
{
    __m512i twice =
        _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)step));
    __m512i low = _mm512_slli_epi32(twice, 16);

    *to = _mm512_castsi512_ps(
        _mm512_mask_and_epi32(low, 0xff00, twice, _mm512_set1_epi32((int)0xffff0000u)));
}

#else

#include <math.h>
#include <string.h>
struct vec {
    float lane[16];
};
#define VEC       struct vec
#define VEC_LANES 16u

ALWAYS_INLINE struct vec vec_all(float x)
{
    struct vec v;
    for (int i = 0; i < 16; i++)
        v.lane[i] = x;
    return v;
}

ALWAYS_INLINE struct vec vec_zero(void)
{
    return vec_all(0.0f);
}

ALWAYS_INLINE struct vec vec_load(const float *p)
{
    struct vec v;
    memcpy(v.lane, p, sizeof(v.lane));
    return v;
}

ALWAYS_INLINE void vec_store(float *p, struct vec v)
{
    memcpy(p, v.lane, sizeof(v.lane));
}

ALWAYS_INLINE struct vec vec_fma(struct vec a, struct vec b, struct vec c)
{
    for (int i = 0; i < 16; i++)
        c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}

ALWAYS_INLINE void vec_widen(struct vec *to, const uint32_t *step)
{
    uint32_t bits[16];

    for (int i = 0; i < 8; i++) {
        bits[i] = step[i] << 16;
        bits[i + 8] = step[i] & 0xffff0000u;
    }
    memcpy(to->lane, bits, sizeof(bits));
}

#endif

#endif
