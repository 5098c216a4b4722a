/*
 * engine/cpu/bf16_vec.h - the product of class bf16-1 in vectors of VEC_LANES (private to
 * engine/cpu/)
 *
 * A tile of R rows by P panels keeps two sums for each of its elements in registers for one
 * block of steps, and adds them to the element in memory at its end: with sixteen fma to a sum
 * that costs little, and leaves the registers to chains of fma.
 */
#include "engine/cpu/bf16.h"
#include "engine/cpu/bf16_exact.h"
#include "engine/cpu/table.h"
#include "engine/cpu/vec.h"

#if VEC_LANES == 4
#define BF16_ROWS 2u /* of four vectors: 16 sums of 32 registers */
#elif VEC_LANES == 8
#define BF16_ROWS 3u /* of two vectors: 12 sums of 16 registers */
#else
#define BF16_ROWS 6u /* of two vectors: 24 sums of 32 registers */
#endif
#define BF16_PANEL_VECS (PACK_LANES / VEC_LANES)

/* What a processor does that keeps subnormals: the block again, in the definition's arithmetic. */
ALWAYS_INLINE void bf16_block_again(const struct bf16_gemm *g, float *c, size_t c_row,
                                    const float *a, const uint16_t *b, bool is_first,
                                    const size_t R, const size_t P)
{
    for (size_t r = 0; r < R; r++)
        for (size_t j = 0; j < P * PACK_LANES; j++) {
            float *at = c + r * c_row + j;
            *at =
                bf16_block_exact(is_first ? 0.0f : bf16_flush(*at), a + r * g->a_row, g->a_step,
                                 b + j / PACK_LANES * g->b_panel + j % PACK_LANES * 2);
        }
}

/* R and P are constants at every call, which makes the sums registers. */
ALWAYS_INLINE void bf16_block(const struct bf16_gemm *g, float *c, size_t c_row, const float *a,
                              const uint16_t *b, bool is_first, const size_t R, const size_t P)
{
    VEC even[BF16_ROWS][4], odd[BF16_ROWS][4];
    const size_t n_vecs = P * BF16_PANEL_VECS, a_row = g->a_row, a_step = g->a_step;
#if !VEC_FLUSHES
    VEC_SEEN seen = vec_seen_none();
#endif

    for (size_t r = 0; r < R; r++)
        for (size_t v = 0; v < n_vecs; v++)
            even[r][v] = odd[r][v] = vec_zero();
    for (size_t p = 0; p < BF16_BLOCK / 2; p++) {
        const uint16_t *pairs = b + p * 2 * PACK_LANES;
        VEC row[4];
#define BF16_AT(v)                                                                             \
    (pairs + (v) / BF16_PANEL_VECS * g->b_panel + (v) % BF16_PANEL_VECS * 2 * VEC_LANES)
        for (size_t v = 0; v < n_vecs; v++)
            row[v] = vec_even(BF16_AT(v));
        for (size_t r = 0; r < R; r++) {
            VEC x = vec_all(a[r * a_row + 2 * p * a_step]);
            for (size_t v = 0; v < n_vecs; v++)
                even[r][v] = vec_fma(x, row[v], even[r][v]);
        }
        for (size_t v = 0; v < n_vecs; v++)
            row[v] = vec_odd(BF16_AT(v));
#undef BF16_AT
        for (size_t r = 0; r < R; r++) {
            VEC x = vec_all(a[r * a_row + (2 * p + 1) * a_step]);
            for (size_t v = 0; v < n_vecs; v++)
                odd[r][v] = vec_fma(x, row[v], odd[r][v]);
        }
#if !VEC_FLUSHES
        for (size_t r = 0; r < R; r++)
            for (size_t v = 0; v < n_vecs; v++)
                seen = vec_tiny(vec_tiny(seen, even[r][v]), odd[r][v]);
#endif
    }
#if !VEC_FLUSHES
    if (vec_seen_any(seen)) {
        bf16_block_again(g, c, c_row, a, b, is_first, R, P);
        return;
    }
#endif
    for (size_t r = 0; r < R; r++)
        for (size_t v = 0; v < n_vecs; v++) {
            float *at = c + r * c_row + v * VEC_LANES;
            VEC acc = is_first ? vec_zero() : vec_load(at);
#if VEC_FLUSHES
            vec_store(at, vec_add(acc, vec_add(even[r][v], odd[r][v])));
#else
            VEC sum = vec_flush(vec_add(even[r][v], odd[r][v]));
            vec_store(at, vec_flush(vec_add(vec_flush(acc), sum)));
#endif
        }
}

ALWAYS_INLINE void bf16_tile(const struct bf16_gemm *g, float *c, size_t c_row, const float *a,
                             const uint16_t *b, const size_t R, const size_t P)
{
    for (size_t s = 0; s < g->steps; s += BF16_BLOCK)
        bf16_block(g, c, c_row, a + s * g->a_step, b + s * PACK_LANES, s == 0 && !g->resume, R,
                   P);
}

/* Panels that a tile of so many rows takes: at least eight sums are to run side by side. */
static size_t bf16_panels(size_t rows)
{
#if VEC_LANES == 4
    (void)rows;
    return 1;
#elif VEC_LANES == 8
    return rows == 1 ? 2 : 1;
#else
    return rows == 1 ? 4 : 2;
#endif
}

#define BF16_CASE(R, P)                                                                        \
    case R: bf16_tile(g, c, c_row, a, b, R, P); break

static void bf16_wide_tile(const struct bf16_gemm *g, float *c, size_t c_row, const float *a,
                           const uint16_t *b, size_t rows)
{
    switch (rows) {
#if VEC_LANES == 4
        BF16_CASE(1u, 1u);
        BF16_CASE(2u, 1u);
#elif VEC_LANES == 8
        BF16_CASE(1u, 2u);
        BF16_CASE(2u, 1u);
        BF16_CASE(3u, 1u);
#else
        BF16_CASE(1u, 4u);
        BF16_CASE(2u, 2u);
        BF16_CASE(3u, 2u);
        BF16_CASE(4u, 2u);
        BF16_CASE(5u, 2u);
        BF16_CASE(6u, 2u);
#endif
    default: break;
    }
}

/* One panel, for what bf16_wide_tile leaves over. */
static void bf16_narrow_tile(const struct bf16_gemm *g, float *c, size_t c_row, const float *a,
                             const uint16_t *b, size_t rows)
{
    switch (rows) {
        BF16_CASE(1u, 1u);
        BF16_CASE(2u, 1u);
#if VEC_LANES > 4
        BF16_CASE(3u, 1u);
#endif
#if VEC_LANES > 8
        BF16_CASE(4u, 1u);
        BF16_CASE(5u, 1u);
        BF16_CASE(6u, 1u);
#endif
    default: break;
    }
}

/* The last columns, fewer than a panel: computed in a full one aside. */
static void bf16_ragged_tile(const struct bf16_gemm *g, float *c, const float *a,
                             const uint16_t *b, size_t rows, size_t cols)
{
    float aside[BF16_ROWS * PACK_LANES] = {0};

    for (size_t r = 0; g->resume && r < rows; r++)
        memcpy(aside + r * PACK_LANES, c + r * g->c_row, cols * sizeof(float));
    bf16_narrow_tile(g, aside, PACK_LANES, a, b, rows);
    for (size_t r = 0; r < rows; r++)
        memcpy(c + r * g->c_row, aside + r * PACK_LANES, cols * sizeof(float));
}

/* A function of its own, called through: nothing of it may be moved to where subnormals are
 * treated otherwise. */
static NEVER_INLINE void bf16_tiles(const struct bf16_gemm *g)
{
    const size_t n_panels = g->cols / PACK_LANES, left = g->cols % PACK_LANES;
    const size_t wide = bf16_panels(g->rows < BF16_ROWS ? g->rows : BF16_ROWS);
    const float *rows_of = g->a;

    for (size_t p = 0; p < n_panels + (left > 0);) {
        const bool is_wide = p + wide <= n_panels;
        const uint16_t *b = g->b + p * g->b_panel;
        for (size_t r = 0; r < g->rows; r += BF16_ROWS) {
            const size_t rows = g->rows - r < BF16_ROWS ? g->rows - r : BF16_ROWS;
            const float *a = rows_of + r * g->a_row;
            float *c = g->c + r * g->c_row + p * PACK_LANES;
            if (p == n_panels)
                bf16_ragged_tile(g, c, a, b, rows, left);
            else if (is_wide && bf16_panels(rows) == wide)
                bf16_wide_tile(g, c, g->c_row, a, b, rows);
            else
                for (size_t q = 0; q < (is_wide ? wide : 1); q++)
                    bf16_narrow_tile(g, c + q * PACK_LANES, g->c_row, a, b + q * g->b_panel,
                                     rows);
        }
        p += is_wide ? wide : 1;
    }
}

static void bf16_gemm(const struct bf16_gemm *g)
{
#if VEC_FLUSHES
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040u); /* FTZ and DAZ */
    bf16_tiles(g);
    _mm_setcsr(mode);
#else
    bf16_tiles(g);
#endif
}
