/*
 * engine/cpu/scalar.h - the definition of what vec.h speeds up (private to engine/cpu/)
 *
 * Included by kernels_scalar.c, and by kernels_scalar_fma.c, which compiles the same text for
 * CPUs whose fmaf() is one instruction.
 */
#include "engine/cpu/table.h"

#include <math.h>
#include <string.h>

/* Column j of a step of a narrow panel. */
ALWAYS_INLINE float narrow_lane(const uint32_t *step, size_t j)
{
    uint32_t word = step[j % (PACK_LANES / 2)];
    uint32_t bits = j < PACK_LANES / 2 ? word << 16 : word & 0xffff0000u;
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

#include "engine/cpu/bf16_exact.h"
#include "engine/cpu/pack_plain.h"

#define TILE_COLS PACK_LANES

static void gemm(const struct gemm *g)
{
    for (size_t r = 0; r < g->rows; r++)
        for (size_t j = 0; j < g->cols; j++) {
            const float *a = gemm_row(g, r);
            const size_t panel = (j / PACK_LANES) * g->b_panel;
            float *c = g->c + r * g->c_row + j;
            float acc = g->resume ? *c : 0.0f;
            for (size_t s = 0; s < g->steps; s++) {
                size_t at = panel + s * g->b_step;
                float b = g->narrow ? narrow_lane(g->narrow + at, j % PACK_LANES)
                                    : g->b[at + j % PACK_LANES];
                acc = fmaf(a[s * g->a_step], b, acc);
            }
            *c = acc;
        }
}

static void bf16_gemm(const struct bf16_gemm *g)
{
    const float *left = g->a;

    for (size_t r = 0; r < g->rows; r++)
        for (size_t j = 0; j < g->cols; j++) {
            const float *a = left + r * g->a_row;
            const uint16_t *b = g->b + (j / PACK_LANES) * g->b_panel + j % PACK_LANES * 2;
            float *c = g->c + r * g->c_row + j;
            float acc = g->resume ? bf16_flush(*c) : 0.0f;
            for (size_t s = 0; s < g->steps; s += BF16_BLOCK)
                acc = bf16_block_exact(acc, a + s * g->a_step, g->a_step, b + s * PACK_LANES);
            *c = acc;
        }
}

static float max(const float *x, size_t n)
{
    float m[PACK_LANES];

    for (size_t j = 0; j < PACK_LANES; j++)
        m[j] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        m[i % PACK_LANES] = x[i] > m[i % PACK_LANES] ? x[i] : m[i % PACK_LANES];
    for (size_t half = PACK_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            m[j] = m[j + half] > m[j] ? m[j + half] : m[j];
    return m[0];
}

static float fma_peak(size_t n)
{
    float acc[12] = {0}, all = 0.0f;

    for (size_t i = 0; i < n; i += 12)
        for (size_t j = 0; j < 12; j++)
            acc[j] = fmaf(acc[j], 0.5f, 1.0f);
    for (size_t j = 0; j < 12; j++)
        all += acc[j];
    return all;
}

static float read_floats(const float *x, size_t n)
{
    return max(x, n);
}

#include "engine/cpu/loops.h"
