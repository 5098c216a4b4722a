/*
 * The tiles in which AVX-512 and AMX compute the products of bf16-1, with plain C in place of
 * their instructions, against the scalar definition: so that a machine without them tests all
 * but the spelling of a few instructions. The vector code runs as on a processor that keeps
 * subnormals (NEON), and so does its way out.
 */
#include "engine/cpu/bf16_operands.h"
#include "engine/cpu/bf16_vec.h"

#include "numerics.h"

/* ---- tiles that are arrays ------------------------------------------------------------------- */

struct tile {
    uint8_t row[16][64];
};

static struct tile tiles[8];
static bool is_on;

static void amx_begin(void)
{
    memset(tiles, 0xff, sizeof(tiles));
    is_on = true;
}

static void amx_end(void)
{
    is_on = false;
}

static void amx_zero(size_t t)
{
    assert_true(is_on);
    memset(&tiles[t], 0, sizeof(tiles[t]));
}

static void amx_load(size_t t, const void *p, size_t stride)
{
    assert_true(is_on);
    for (size_t i = 0; i < 16; i++)
        memcpy(tiles[t].row[i], (const uint8_t *)p + i * stride, 64);
}

static void amx_store(size_t t, void *p, size_t stride)
{
    assert_true(is_on);
    for (size_t i = 0; i < 16; i++)
        memcpy((uint8_t *)p + i * stride, tiles[t].row[i], 64);
}

/* What the processor's manual says of TDPBF16PS, in the arithmetic of the class. */
static void amx_dot(size_t c, size_t a, size_t b)
{
    for (size_t m = 0; m < 16; m++)
        for (size_t n = 0; n < 16; n++) {
            uint16_t left[32], right[32];
            float even = 0.0f, odd = 0.0f, acc;
            memcpy(left, tiles[a].row[m], 64);
            memcpy(&acc, tiles[c].row[m] + 4 * n, 4);
            for (size_t p = 0; p < 16; p++)
                memcpy(right + 2 * p, tiles[b].row[p] + 4 * n, 4);
            for (size_t p = 0; p < 16; p++) {
                even =
                    bf16_fma(bf16_flush(bf16_wide(left[2 * p])), bf16_wide(right[2 * p]), even);
                odd = bf16_fma(bf16_flush(bf16_wide(left[2 * p + 1])),
                               bf16_wide(right[2 * p + 1]), odd);
            }
            acc = bf16_flush(bf16_flush(acc) + bf16_flush(even + odd));
            memcpy(tiles[c].row[m] + 4 * n, &acc, 4);
        }
}

#include "engine/cpu/bf16_amx.h"

static const struct bf16_loops lanes16 = {bf16_left, bf16_right, bf16_gemm};
static const struct bf16_loops amx = {bf16_left_amx, bf16_right, bf16_gemm_amx};

/* ---- tests ----------------------------------------------------------------------------------- */

#define ROWS 70u
#define COLS 83u
#define LONG 70u /* steps; 96 padded */

/* The left operand as forward products have it, or (is_turned) as those of dW do. */
static void run(const struct bf16_loops *loops, float *c, const float *x, const float *w,
                const size_t size[3], bool is_turned, bool resume)
{
    static _Alignas(64) uint8_t left[BF16_LEFT_BYTES(ROWS, LONG)];
    static _Alignas(64) uint16_t right[96 * 96];
    struct bf16_gemm g = {.c = c,
                          .b = right,
                          .c_row = COLS,
                          .b_panel = BF16_PADDED(size[2]) * PACK_LANES,
                          .rows = size[0],
                          .cols = size[1],
                          .steps = BF16_PADDED(size[2]),
                          .resume = resume};

    memset(left, 0xff, sizeof(left));
    loops->left(&g, left, x, is_turned ? 1 : LONG, is_turned ? ROWS : 1, size[2]);
    loops->right(right, w, COLS, size[2], size[1]);
    loops->gemm(&g);
}

/* Sums of products from 2^-160 to 2^10, so that each block has some that must be flushed if
 * is_small, and hardly any otherwise. */
static void check(const struct bf16_loops *loops, bool is_small)
{
    struct rng r = random_seeded(is_small ? 1 : 2);
    float *x = some_floats(&r, ROWS * LONG, 1.0f), *w = some_floats(&r, LONG * COLS, 1.0f);
    float *start = some_floats(&r, ROWS * COLS, 1.0f);
    float *got = zeros(ROWS * COLS), *want = zeros(ROWS * COLS);

    for (size_t i = 0; is_small && i < ROWS * LONG; i++)
        x[i] = ldexpf(x[i], -(int)rng_below(&r, 70));
    for (size_t i = 0; is_small && i < LONG * COLS; i++)
        w[i] = ldexpf(w[i], -(int)rng_below(&r, 90));
    for (size_t rows = 1; rows <= ROWS; rows += rows < 20 ? 1 : 10)
        for (size_t cols = 1; cols <= COLS; cols += cols % 16 == 15 ? 1 : 7)
            for (size_t turn = 0; turn < 4; turn++) {
                const size_t size[3] = {rows, cols, turn < 2 ? LONG : 5};
                memcpy(got, start, ROWS * COLS * sizeof(float));
                memcpy(want, start, ROWS * COLS * sizeof(float));

                run(loops, got, x, w, size, turn % 2, (rows + cols) % 2);
                run(kernels_scalar.bf16, want, x, w, size, turn % 2, (rows + cols) % 2);

                assert_same_bits(got, want, ROWS * COLS);
            }
    free(x);
    free(w);
    free(start);
    free(got);
    free(want);
}

static void lanes_of_sixteen_have_the_bits_of_the_definition(void **state)
{
    (void)state;
    check(&lanes16, false);
    check(&lanes16, true);
}

static void amx_tiles_have_the_bits_of_the_definition(void **state)
{
    (void)state;
    check(&amx, false);
    check(&amx, true);
    assert_false(is_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_of_sixteen_have_the_bits_of_the_definition),
        cmocka_unit_test(amx_tiles_have_the_bits_of_the_definition),
    };
    return cmocka_run_group_tests_name("engine/matmul_bf16_tiles", tests, NULL, NULL);
}
