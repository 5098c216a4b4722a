/*
 * engine/cpu/bf16_amx.h - the product of class bf16-1 in tiles of AMX (private to engine/cpu/)
 *
 * TDPBF16PS adds one block of steps to sixteen rows by sixteen columns, as the class defines it:
 * it is what the class was made from. Two by two tiles of results share what is loaded.
 *
 * The including file defines the operations below for its tiles: those of the processor
 * (kernels_amx.c), or plain C, which lets a machine without AMX test all but their spelling.
 *
 *   amx_begin(), amx_end()          tiles of 16 rows of 64 bytes, and none
 *   amx_zero(t)
 *   amx_load(t, p, stride)          stride in bytes
 *   amx_store(t, p, stride)
 *   amx_dot(c, a, b)                a, b and c are tiles
 *
 * Tiles 0 to 3 are results (row of tiles, column of tiles), 4 and 5 left, 6 and 7 right operands.
 */
#include "engine/cpu/bf16.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

#include <string.h>

#define AMX_ROWS 16u

/* The left operand in bf16, (rows in whole tiles, steps). */
static void bf16_left_amx(struct bf16_gemm *g, void *room, const float *x, size_t row,
                          size_t step, size_t n)
{
    const size_t rows = (g->rows + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS;
    uint16_t *y = room;

    g->a = room;
    g->a_row = g->steps;
    g->a_step = 1;
    if (step == 1) {
        for (size_t r = 0; r < g->rows; r++) {
            for (size_t s = 0; s < n; s++)
                y[r * g->steps + s] = lane_bf16(x[r * row + s]);
            memset(y + r * g->steps + n, 0, (g->steps - n) * sizeof(*y));
        }
    } else {
        for (size_t s = 0; s < n; s++)
            for (size_t r = 0; r < g->rows; r++)
                y[r * g->steps + s] = lane_bf16(x[s * step + r]);
        for (size_t r = 0; r < g->rows; r++)
            memset(y + r * g->steps + n, 0, (g->steps - n) * sizeof(*y));
    }
    memset(y + g->rows * g->steps, 0, (rows - g->rows) * g->steps * sizeof(*y));
}

/* Where tile (i, j) of the results lies: in c if all of it belongs there, otherwise aside. */
struct amx_place {
    float *at;
    size_t row; /* numbers */
    size_t rows, cols;
    float *c;
};

static void amx_place(struct amx_place *p, float *aside, const struct bf16_gemm *g, size_t r,
                      size_t col)
{
    p->rows = g->rows - r < AMX_ROWS ? g->rows - r : AMX_ROWS;
    p->cols = g->cols - col < PACK_LANES ? g->cols - col : PACK_LANES;
    p->c = g->c + r * g->c_row + col;
    p->at = p->c;
    p->row = g->c_row;
    if (p->rows == AMX_ROWS && p->cols == PACK_LANES)
        return;
    p->at = aside;
    p->row = PACK_LANES;
    for (size_t i = 0; g->resume && i < p->rows; i++)
        memcpy(aside + i * PACK_LANES, p->c + i * g->c_row, p->cols * sizeof(float));
}

static void amx_settle(const struct amx_place *p, size_t c_row)
{
    for (size_t i = 0; p->at != p->c && i < p->rows; i++)
        memcpy(p->c + i * c_row, p->at + i * PACK_LANES, p->cols * sizeof(float));
}

/* The steps of R by P tiles; tile numbers must be constants, hence the spelling out. */
#define AMX_STEPS(R, P)                                                                        \
    for (size_t s = 0; s < g->steps; s += BF16_BLOCK) {                                        \
        amx_load(6, b + s * PACK_LANES, 64);                                                   \
        if (P == 2)                                                                            \
            amx_load(7, b + g->b_panel + s * PACK_LANES, 64);                                  \
        amx_load(4, a + s, a_bytes);                                                           \
        amx_dot(0, 4, 6);                                                                      \
        if (P == 2)                                                                            \
            amx_dot(1, 4, 7);                                                                  \
        if (R == 2) {                                                                          \
            amx_load(5, a + AMX_ROWS * g->a_row + s, a_bytes);                                 \
            amx_dot(2, 5, 6);                                                                  \
            if (P == 2)                                                                        \
                amx_dot(3, 5, 7);                                                              \
        }                                                                                      \
    }

#define AMX_START(t)                                                                           \
    do {                                                                                       \
        if (g->resume)                                                                         \
            amx_load(t, place[t].at, place[t].row * sizeof(float));                            \
        else                                                                                   \
            amx_zero(t);                                                                       \
    } while (0)
#define AMX_FINISH(t) amx_store(t, place[t].at, place[t].row * sizeof(float))

static void amx_tiles(const struct bf16_gemm *g, size_t r, size_t col)
{
    _Alignas(64) float aside[4][AMX_ROWS * PACK_LANES] = {{0}};
    struct amx_place place[4];
    const bool two_rows = r + AMX_ROWS < g->rows, two_cols = col + PACK_LANES < g->cols;
    const size_t a_bytes = g->a_row * sizeof(uint16_t);
    const uint16_t *a = (const uint16_t *)g->a + r * g->a_row;
    const uint16_t *b = g->b + col / PACK_LANES * g->b_panel;

    for (size_t t = 0; t < 4; t++)
        if ((t < 2 || two_rows) && (t % 2 == 0 || two_cols))
            amx_place(&place[t], aside[t], g, r + t / 2 * AMX_ROWS, col + t % 2 * PACK_LANES);
    AMX_START(0);
    if (two_cols)
        AMX_START(1);
    if (two_rows)
        AMX_START(2);
    if (two_rows && two_cols)
        AMX_START(3);
    if (two_rows && two_cols) {
        AMX_STEPS(2, 2)
    } else if (two_rows) {
        AMX_STEPS(2, 1)
    } else if (two_cols) {
        AMX_STEPS(1, 2)
    } else {
        AMX_STEPS(1, 1)
    }
    AMX_FINISH(0);
    if (two_cols)
        AMX_FINISH(1);
    if (two_rows)
        AMX_FINISH(2);
    if (two_rows && two_cols)
        AMX_FINISH(3);
    for (size_t t = 0; t < 4; t++)
        if ((t < 2 || two_rows) && (t % 2 == 0 || two_cols))
            amx_settle(&place[t], g->c_row);
}

/* Columns outermost: the panels of two tiles serve all rows while they are near. */
static void bf16_gemm_amx(const struct bf16_gemm *g)
{
    amx_begin();
    for (size_t col = 0; col < g->cols; col += 2 * PACK_LANES)
        for (size_t r = 0; r < g->rows; r += 2 * AMX_ROWS)
            amx_tiles(g, r, col);
    amx_end();
}
