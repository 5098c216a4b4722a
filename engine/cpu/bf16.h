/*
 * engine/cpu/bf16.h - the inner loops of class bf16-1 (private to engine/)
 *
 * The product of the class (docs/numerics.md, section 11) over blocks of BF16_BLOCK steps: two
 * running sums, one of the even and one of the odd steps of a block, whose sum is then added to
 * the element. Operands are rounded to bf16 beforehand, and what is subnormal among them is made
 * a zero of its sign, as which it counts in any case.
 *
 * The right operand has one form for all backends, that of an AMX tile: panels of PACK_LANES
 * columns, in each the pair of steps 2p and 2p + 1 of a column side by side, (steps / 2,
 * PACK_LANES, 2). The form of the left operand is the backend's own.
 */
#ifndef ENGINE_CPU_BF16_H
#define ENGINE_CPU_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BF16_BLOCK 32u

/* `steps` in whole blocks. */
#define BF16_PADDED(steps) (((size_t)(steps) + BF16_BLOCK - 1) / BF16_BLOCK * BF16_BLOCK)

/* A left operand's bytes at most, whichever form it has: rows in whole tiles of 16. */
#define BF16_LEFT_BYTES(rows, steps)                                                           \
    (((size_t)(rows) + 15) / 16 * 16 * BF16_PADDED(steps) * sizeof(float))

/*
 * c[r, j] += the blocks of steps of a[r, s] * b[s, j], one after the other, from +0 or, with
 * `resume`, from c[r, j].
 *
 *   a  what left() made of it; a_row and a_step are the backend's
 *   b  panels as above, b_panel elements apart, aligned to 64 bytes; all lanes are readable
 *   c  element (r, j) at c + r * c_row + j; only the `cols` columns are written
 */
struct bf16_gemm {
    float *c;
    const void *a;
    const uint16_t *b;
    size_t c_row, a_row, a_step, b_panel;
    size_t rows, cols;
    size_t steps; /* in whole blocks */
    bool resume;
};

struct bf16_loops {
    /* Rounds the left operand, g->rows by n steps padded to g->steps with +0, into `room`
     * (BF16_LEFT_BYTES, aligned to 64) and points g at it. Element (r, s) is x[r * row + s *
     * step]; row or step is 1. */
    void (*left)(struct bf16_gemm *g, void *room, const float *x, size_t row, size_t step,
                 size_t n);
    /* Rounds n steps of `cols` columns, rows of x `row` apart, into panels of BF16_PADDED(n)
     * steps; steps and columns that are not there become +0. */
    void (*right)(uint16_t *panels, const float *x, size_t row, size_t n, size_t cols);
    void (*gemm)(const struct bf16_gemm *g);
};

#endif
