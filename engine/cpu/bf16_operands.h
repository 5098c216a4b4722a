/*
 * engine/cpu/bf16_operands.h - the operands of class bf16-1 (private to engine/cpu/)
 *
 * Rounding is by integers, so it does not matter whether the processor flushes subnormals. Like
 * loops.h this is plain C that each backend compiles with its own flags.
 */
#ifndef ENGINE_CPU_BF16_OPERANDS_H
#define ENGINE_CPU_BF16_OPERANDS_H

#include <string.h>

#include "engine/cpu/bf16.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

/* x rounded to bf16, as the bits of the binary32 number it is; subnormal results become zeros. */
ALWAYS_INLINE uint32_t bf16_operand(float x)
{
    uint32_t u = (uint32_t)lane_bf16(x) << 16;
    return (u & LANE_INF) ? u : u & 0x80000000u;
}

/* y[i] = x[i] rounded; places from n to `whole` become +0. */
static inline void bf16_round_row(float *restrict y, const float *restrict x, size_t n,
                                  size_t whole)
{
    for (size_t i = 0; i < n; i++)
        y[i] = lane_float(bf16_operand(x[i]));
    if (whole > n)
        memset(y + n, 0, (whole - n) * sizeof(float));
}

/* The left operand stays as wide as it was, in the order it came in: a backend that multiplies
 * in binary32 broadcasts its elements from memory. */
static inline void bf16_left(struct bf16_gemm *g, void *room, const float *x, size_t row,
                             size_t step, size_t n)
{
    float *y = room;

    g->a = room;
    if (step == 1) {
        g->a_row = g->steps;
        g->a_step = 1;
        for (size_t r = 0; r < g->rows; r++)
            bf16_round_row(y + r * g->steps, x + r * row, n, g->steps);
        return;
    }
    g->a_row = 1;
    g->a_step = g->rows;
    for (size_t s = 0; s < n; s++)
        bf16_round_row(y + s * g->rows, x + s * step, g->rows, g->rows);
    memset(y + n * g->rows, 0, (g->steps - n) * g->rows * sizeof(float));
}

/* Two steps of sixteen columns, the even one in the lower half: little-endian, as all machines
 * are that have a backend. */
static void bf16_pair_row(uint16_t *restrict y, const float *restrict even,
                          const float *restrict odd)
{
    uint32_t pair[PACK_LANES];

    for (size_t j = 0; j < PACK_LANES; j++)
        pair[j] = bf16_operand(odd[j]) | bf16_operand(even[j]) >> 16;
    memcpy(y, pair, sizeof(pair));
}

static void bf16_right(uint16_t *panels, const float *x, size_t row, size_t n, size_t cols)
{
    for (size_t c = 0; c < cols; c += PACK_LANES) {
        const size_t width = cols - c < PACK_LANES ? cols - c : PACK_LANES;
        for (size_t s = 0; s < BF16_PADDED(n); s += 2, panels += 2 * PACK_LANES) {
            const float *from = x + s * row + c;
            if (width == PACK_LANES && s + 1 < n) {
                bf16_pair_row(panels, from, from + row);
                continue;
            }
            float pair[2][PACK_LANES] = {{0}};
            for (size_t i = 0; i < 2 && s + i < n; i++)
                memcpy(pair[i], from + i * row, width * sizeof(float));
            bf16_pair_row(panels, pair[0], pair[1]);
        }
    }
}

#endif
