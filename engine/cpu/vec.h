/*
 * engine/cpu/vec.h - the few vector operations that the *_vec.h are written in
 *
 * The including file defines VEC_AVX2, VEC_AVX512 or VEC_NEON; with none it gets VEC_LANES = 16
 * in plain C, which lets a machine without AVX-512 test the code that is written for it.
 *
 * vec_even and vec_odd widen the first or the second bf16 of VEC_LANES pairs. VEC_FLUSHES says
 * that the processor can flush subnormals as class bf16-1 does (after rounding: x86); otherwise
 * vec_flush makes zeros of them, and vec_tiny marks the lanes of `seen` whose number in y, not
 * zero, lies at or below 2^-126.
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
#define vec_add(a, b)    _mm256_add_ps(a, b)
#define vec_even(p)                                                                            \
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)(p)), 16))
#define vec_odd(p)                                                                             \
    _mm256_castsi256_ps(                                                                       \
        _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(p)), _mm256_set1_epi32(-65536)))
#define VEC_FLUSHES 1

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
#define vec_add(a, b)    _mm512_add_ps(a, b)
#define vec_even(p)      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))
#define vec_odd(p)                                                                             \
    _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(-65536)))
#define VEC_FLUSHES 1

ALWAYS_INLINE void vec_widen(__m512 *to, const uint32_t *step)
{
    __m512i twice =
        _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)step));
    __m512i low = _mm512_slli_epi32(twice, 16);

    *to = _mm512_castsi512_ps(
        _mm512_mask_and_epi32(low, 0xff00, twice, _mm512_set1_epi32((int)0xffff0000u)));
}

#elif defined(VEC_NEON)

#include <arm_neon.h>
#define VEC              float32x4_t
#define VEC_LANES        4u
#define vec_zero()       vdupq_n_f32(0.0f)
#define vec_load(p)      vld1q_f32(p)
#define vec_store(p, v)  vst1q_f32(p, v)
#define vec_all(x)       vdupq_n_f32(x)
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)
#define vec_max(a, b)    vbslq_f32(vcgtq_f32(a, b), a, b)
#define vec_add(a, b)    vaddq_f32(a, b)
#define vec_even(p)      vreinterpretq_f32_u32(vshlq_n_u32(vec_pairs(p), 16))
#define vec_odd(p)       vreinterpretq_f32_u32(vandq_u32(vec_pairs(p), vdupq_n_u32(0xffff0000u)))
#define VEC_FLUSHES      0
#define VEC_SEEN         uint32x4_t
#define vec_seen_none()  vdupq_n_u32(0)
#define vec_seen_any(s)  (vmaxvq_u32(s) != 0)

ALWAYS_INLINE uint32x4_t vec_pairs(const uint16_t *p)
{
    return vreinterpretq_u32_u16(vld1q_u16(p));
}

ALWAYS_INLINE uint32x4_t vec_size(float32x4_t y)
{
    return vreinterpretq_u32_f32(vabsq_f32(y));
}

ALWAYS_INLINE uint32x4_t vec_tiny(uint32x4_t seen, float32x4_t y)
{
    uint32x4_t below = vsubq_u32(vec_size(y), vdupq_n_u32(1));
    return vorrq_u32(seen, vcltq_u32(below, vdupq_n_u32(0x00800000u)));
}

ALWAYS_INLINE void vec_widen(float32x4_t *to, const uint32_t *step)
{
    for (int i = 0; i < 2; i++) {
        uint32x4_t word = vld1q_u32(step + 4 * i);

        to[i] = vreinterpretq_f32_u32(vshlq_n_u32(word, 16));
        to[i + 2] = vreinterpretq_f32_u32(vandq_u32(word, vdupq_n_u32(0xffff0000u)));
    }
}

ALWAYS_INLINE float32x4_t vec_flush(float32x4_t y)
{
    uint32x4_t whole = vcgeq_u32(vec_size(y), vdupq_n_u32(0x00800000u));
    uint32x4_t keep = vorrq_u32(whole, vdupq_n_u32(0x80000000u));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(y), keep));
}

#else

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/cpu/math_lanes.h"

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

ALWAYS_INLINE struct vec vec_add(struct vec a, struct vec b)
{
    for (int i = 0; i < 16; i++)
        a.lane[i] += b.lane[i];
    return a;
}

ALWAYS_INLINE struct vec vec_even(const uint16_t *p)
{
    struct vec v;
    for (int i = 0; i < 16; i++)
        v.lane[i] = lane_float((uint32_t)p[2 * i] << 16);
    return v;
}

ALWAYS_INLINE struct vec vec_odd(const uint16_t *p)
{
    return vec_even(p + 1);
}

#define VEC_FLUSHES     0
#define VEC_SEEN        bool
#define vec_seen_none() false
#define vec_seen_any(s) (s)

ALWAYS_INLINE bool vec_tiny(bool seen, struct vec y)
{
    for (int i = 0; i < 16; i++)
        seen |= (lane_bits(y.lane[i]) & 0x7fffffffu) - 1u < 0x00800000u;
    return seen;
}

ALWAYS_INLINE struct vec vec_flush(struct vec y)
{
    for (int i = 0; i < 16; i++)
        if ((lane_bits(y.lane[i]) & 0x7fffffffu) < 0x00800000u)
            y.lane[i] = lane_float(lane_bits(y.lane[i]) & 0x80000000u);
    return y;
}

#endif

#endif
