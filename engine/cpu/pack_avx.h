/*
 * engine/cpu/pack_avx.h - packing by 8 x 8 transposes in AVX2 (private to engine/cpu/)
 */
#include "engine/cpu/table.h"

#include <immintrin.h>

/* Steps at .. at + 7 of eight rows, to eight of the sixteen lanes of eight steps of a panel. */
ALWAYS_INLINE void transpose8(float *p, const float *const row[8], const size_t at[8])
{
    __m256 r[8], t[8];

    for (size_t i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(row[i] + at[i]);
    for (size_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (size_t i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(p + i * PACK_LANES, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(p + (i + 4) * PACK_LANES,
                         _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

static void pack(float *panels, const float *w, size_t w_row, size_t N, size_t K)
{
    static const float nothing[8]; /* rows that are not there */

    for (size_t n0 = 0; n0 < N; n0 += PACK_LANES, panels += K * PACK_LANES) {
        const size_t n = N - n0 < PACK_LANES ? N - n0 : PACK_LANES;
        for (size_t half = 0; half < PACK_LANES; half += 8) {
            const float *row[8];
            size_t step[8], at[8], s = 0;
            for (size_t i = 0; i < 8; i++) {
                bool is_there = half + i < n;
                row[i] = is_there ? w + (n0 + half + i) * w_row : nothing;
                step[i] = is_there;
            }
            for (; s + 8 <= K; s += 8) {
                for (size_t i = 0; i < 8; i++)
                    at[i] = s * step[i];
                transpose8(panels + s * PACK_LANES + half, row, at);
            }
            for (; s < K; s++)
                for (size_t i = 0; i < 8; i++)
                    panels[s * PACK_LANES + half + i] = row[i][s * step[i]];
        }
    }
}
