/*
 * engine/cpu/pack_plain.h - packing, one number after the other (private to engine/cpu/)
 */
#include "engine/cpu/table.h"

static void pack(float *panels, const float *w, size_t w_row, size_t N, size_t K)
{
    for (size_t n0 = 0; n0 < N; n0 += PACK_LANES)
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < PACK_LANES; j++)
                *panels++ = n0 + j < N ? w[(n0 + j) * w_row + i] : 0.0f;
}
