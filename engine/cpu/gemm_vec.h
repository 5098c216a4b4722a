/*
 * engine/cpu/gemm_vec.h - the matrix product in vectors of VEC_LANES (private to engine/cpu/)
 *
 * A tile of R rows by P panels of sixteen columns stays in registers for all steps. Two fma can
 * start per cycle and each takes four, so a tile needs at least eight accumulators; with few
 * rows it takes more panels. Rows are dealt evenly over the tiles, for a tile of one row at the
 * end would cost nearly as much as a full one.
 */
#include "engine/cpu/table.h"
#include "engine/cpu/vec.h"

#include <string.h>

#if VEC_LANES <= 8
#define TILE_ROWS   6u /* 12 accumulators of 16 registers, or 24 of 32 of half the lanes */
#define TILE_PANELS 1u
#else
#define TILE_ROWS   12u /* 24 of 32 */
#define TILE_PANELS 2u
#endif
#define PANEL_VECS  (PACK_LANES / VEC_LANES)
#define AHEAD_BYTES 1024u
#define CACHE_LINE  64u
#define TILE_COLS   (TILE_PANELS * PACK_LANES)
/* Or the sums would pass through the stack before they are stored. */
#if defined(__clang__)
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* Where the panels of a tile begin, and what is to be fetched meanwhile. */
struct tile_at {
    const float *b;
    const uint32_t *narrow;
    const char *next;             /* what is fetched meanwhile, beside the first panel */
    size_t next_step, next_panel; /* bytes */
};

/* R, P and is_narrow are constants at every call, which makes acc a set of registers. */
ALWAYS_INLINE void tile(const struct gemm *g, float *c, size_t c_row, const float *a,
                        const struct tile_at *at, const size_t R, const size_t P,
                        const bool is_narrow)
{
    VEC acc[TILE_ROWS][8];
    const size_t a_row = g->a_row, a_step = g->a_step, b_step = g->b_step, b_panel = g->b_panel;
    const size_t n_vecs = P * PANEL_VECS;
    const size_t next_panel = at->next_panel;
    const float *b = at->b;
    const uint32_t *narrow = at->narrow;
    const char *next = at->next;

    UNROLLED
    for (size_t r = 0; r < R; r++) {
        UNROLLED
        for (size_t v = 0; v < n_vecs; v++)
            acc[r][v] = g->resume ? vec_load(c + r * c_row + v * VEC_LANES) : vec_zero();
    }

    for (size_t s = g->steps; s > 0; s--) {
        VEC row[8];
        for (size_t p = 0; p < P; p++) {
            PREFETCH(next + p * next_panel);
            if (is_narrow)
                vec_widen(row + p * PANEL_VECS, narrow + p * b_panel);
            else
                for (size_t v = 0; v < PANEL_VECS; v++)
                    row[p * PANEL_VECS + v] = vec_load(b + p * b_panel + v * VEC_LANES);
        }
        for (size_t r = 0; r < R; r++) {
            VEC x = vec_all(a[r * a_row]);
            for (size_t v = 0; v < n_vecs; v++)
                acc[r][v] = vec_fma(x, row[v], acc[r][v]);
        }
        a += a_step;
        if (is_narrow)
            narrow += b_step;
        else
            b += b_step;
        next += at->next_step;
    }

    UNROLLED
    for (size_t r = 0; r < R; r++) {
        UNROLLED
        for (size_t v = 0; v < n_vecs; v++)
            vec_store(c + r * c_row + v * VEC_LANES, acc[r][v]);
    }
}

#define TILE_CASE(R, P)                                                                        \
    case (R)*16u + (P):                                                                        \
        if (at->narrow)                                                                        \
            tile(g, c, c_row, a, at, R, P, true);                                              \
        else                                                                                   \
            tile(g, c, c_row, a, at, R, P, false);                                             \
        break

/* One tile of whole panels: `rows` rows by `panels` <= tile_panels(rows) panels. */
static void tile_of(const struct gemm *g, float *c, size_t c_row, const float *a,
                    const struct tile_at *at, size_t rows, size_t panels)
{
    switch (rows * 16 + panels) {
        TILE_CASE(1u, 1u);
        TILE_CASE(1u, 2u);
#if VEC_LANES >= 8
        TILE_CASE(1u, 3u);
        TILE_CASE(1u, 4u);
#endif
        TILE_CASE(2u, 1u);
        TILE_CASE(2u, 2u);
        TILE_CASE(3u, 1u);
        TILE_CASE(4u, 1u);
        TILE_CASE(5u, 1u);
        TILE_CASE(6u, 1u);
#if VEC_LANES > 8
        TILE_CASE(1u, 5u);
        TILE_CASE(1u, 6u);
        TILE_CASE(1u, 7u);
        TILE_CASE(1u, 8u);
        TILE_CASE(2u, 3u);
        TILE_CASE(2u, 4u);
        TILE_CASE(3u, 2u);
        TILE_CASE(3u, 3u);
        TILE_CASE(3u, 4u);
        TILE_CASE(4u, 2u);
        TILE_CASE(5u, 2u);
        TILE_CASE(6u, 2u);
        TILE_CASE(7u, 1u);
        TILE_CASE(7u, 2u);
        TILE_CASE(8u, 1u);
        TILE_CASE(8u, 2u);
        TILE_CASE(9u, 1u);
        TILE_CASE(9u, 2u);
        TILE_CASE(10u, 1u);
        TILE_CASE(10u, 2u);
        TILE_CASE(11u, 1u);
        TILE_CASE(11u, 2u);
        TILE_CASE(12u, 1u);
        TILE_CASE(12u, 2u);
#endif
    default: break;
    }
}

static size_t tile_panels(size_t rows)
{
#if VEC_LANES == 4
    return rows <= 2 ? 2 : 1;
#elif VEC_LANES == 8
    return rows == 1 ? 4 : rows == 2 ? 2 : 1;
#else
    return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
#endif
}

/* The last columns, fewer than a panel: computed in a full one aside. */
static void tile_ragged(const struct gemm *g, float *c, const float *a,
                        const struct tile_at *at, size_t rows, size_t cols)
{
    float aside[TILE_ROWS * PACK_LANES];

    memset(aside, 0, sizeof(aside));
    if (g->resume)
        for (size_t r = 0; r < rows; r++)
            memcpy(aside + r * PACK_LANES, c + r * g->c_row, cols * sizeof(float));
    tile_of(g, aside, PACK_LANES, a, at, rows, 1);
    for (size_t r = 0; r < rows; r++)
        memcpy(c + r * g->c_row, aside + r * PACK_LANES, cols * sizeof(float));
}

/* Panel p, and what tiles fetch meanwhile. One tile alone uses the panel as it comes from memory, so
 * what lies a little ahead is fetched; of several, each fetches its share of the next panels. */
static struct tile_at panel_at(const struct gemm *g, size_t p, size_t panels, size_t n_tiles,
                               size_t share)
{
    const size_t width = g->narrow ? sizeof(uint32_t) : sizeof(float);
    const size_t step = g->b_step * width, panel = g->b_panel * width;
    struct tile_at at = {.next_step = step, .next_panel = panel};

    if (g->narrow) {
        at.narrow = g->narrow + p * g->b_panel;
        at.next = (const char *)at.narrow;
    } else {
        at.b = g->b + p * g->b_panel;
        at.next = (const char *)at.b;
    }
    if (g->next.bytes > 0) {
        at.next_step = share;
        at.next_panel = g->steps * share * n_tiles;
        at.next = (const char *)g->next.at + p * at.next_panel;
    } else if (n_tiles == 1) {
        at.next += AHEAD_BYTES;
    } else {
        const bool is_last = (p + panels) * PACK_LANES >= g->cols;
        at.next_step = share;
        at.next = g->after && is_last ? g->after : at.next + panels * panel;
    }
    return at;
}

/* Bytes of the next panels that a tile fetches with each step, of n_tiles. */
static size_t fetched_share(const struct gemm *g, size_t n_tiles)
{
    if (g->next.bytes > 0) {
        const size_t all = (g->cols + PACK_LANES - 1) / PACK_LANES * g->steps;
        const size_t even = (g->next.bytes + all - 1) / all;

        return ((even < CACHE_LINE ? even : CACHE_LINE) + n_tiles - 1) / n_tiles;
    }
    return g->b_step * (g->narrow ? sizeof(uint32_t) : sizeof(float)) / n_tiles + 1;
}

/* What the next tile adds to, and some of the rows that are copied after this product. */
ALWAYS_INLINE void fetch_meanwhile(const struct gemm *g, const float *c, size_t rows,
                                   size_t panels, size_t from, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panels; p++)
            PREFETCH(c + r * g->c_row + p * PACK_LANES);
    for (size_t i = from; i < from + n; i++)
        for (size_t at = 0; at < g->cols; at += PACK_LANES)
            PREFETCH(g->ahead + i * g->ahead_row + at);
}

/* Groups are cut into whole tiles, and what is left. */
ALWAYS_INLINE size_t rows_of_tile(const struct gemm *g, size_t t, size_t n_tiles)
{
    if (g->a_group)
        return t + 1 < n_tiles ? TILE_ROWS : g->rows - t * TILE_ROWS;
    return g->rows / n_tiles + (t < g->rows % n_tiles);
}

/* Rows that are a multiple of 4 KiB apart share the same eight lines of a first-level cache (Zen; 12 on Golden
 * Cove), so that a taller tile would drive its own rows out. */
static size_t tile_rows(const struct gemm *g)
{
    const bool is_crowded = g->a_row * sizeof(float) % 4096 == 0 && !g->a_group;

    return is_crowded && TILE_ROWS > 8 ? 8 : TILE_ROWS;
}

static void gemm(const struct gemm *g)
{
    const size_t n_tiles = (g->rows + tile_rows(g) - 1) / tile_rows(g);
    const size_t n_panels = g->cols / PACK_LANES, left = g->cols % PACK_LANES;

    if (n_tiles == 0)
        return;
    const size_t wide = tile_panels(rows_of_tile(g, 0, n_tiles));
    const size_t share = fetched_share(g, n_tiles);
    const size_t parts = g->n_ahead ? (n_panels + (left > 0) + wide - 1) / wide * n_tiles : 1;
    const size_t ahead = (g->n_ahead + parts - 1) / parts;

    for (size_t p = 0, panels; p < n_panels + (left > 0); p += panels) {
        panels = p == n_panels ? 1 : n_panels - p < wide ? n_panels - p : wide;
        struct tile_at at = panel_at(g, p, panels, n_tiles, share);
        float *c = g->c + p * PACK_LANES;
        for (size_t t = 0, r = 0, rows; t < n_tiles; t++, r += rows) {
            const float *a = gemm_row(g, r);
            rows = rows_of_tile(g, t, n_tiles);
            fetch_meanwhile(
                g, t + 1 < n_tiles ? c + rows * g->c_row : g->c + (p + panels) * PACK_LANES,
                rows, panels, (p / wide * n_tiles + t) * ahead, ahead);
            if (p == n_panels)
                tile_ragged(g, c, a, &at, rows, left);
            else
                tile_of(g, c, g->c_row, a, &at, rows, panels);
            c += rows * g->c_row;
            at.next += n_tiles > 1 || g->next.bytes > 0 ? share * g->steps : 0;
        }
    }
}
