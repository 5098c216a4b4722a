/*
 * engine/cpu/pack_avx.h - packing by 8 x 8 transposes in AVX2 (private to engine/cpu/)
 */
#include "engine/cpu/table.h"

#include <immintrin.h>

/* Eight steps of eight rows of w, to eight of the sixteen lanes of eight steps of a panel. */
ALWAYS_INLINE void transpose8(float *p, const float *w, size_t w_row)
{
    __m256 r[8], t[8];

    for (size_t i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(w + i * w_row);
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
    for (size_t n0 = 0; n0 < N; n0 += PACK_LANES, panels += K * PACK_LANES) {
        const float *rows = w + n0 * w_row;
        size_t n = N - n0 < PACK_LANES ? N - n0 : PACK_LANES, whole = n / 8 * 8, i = 0;

        for (; i + 8 <= K; i += 8)
            for (size_t j = 0; j < whole; j += 8)
                transpose8(panels + i * PACK_LANES + j, rows + j * w_row + i, w_row);
        for (size_t s = 0; s < K; s++)
            for (size_t j = s < i ? whole : 0; j < PACK_LANES; j++)
                panels[s * PACK_LANES + j] = j < n ? rows[j * w_row + s] : 0.0f;
    }
}
