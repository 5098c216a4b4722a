/*
 * The tiles that AVX-512 uses (sixteen lanes, twelve rows, two panels), with plain C in place
 * of its instructions: so that a machine without AVX-512 tests all of them but the spelling of
 * five instructions.
 */
#include "engine/cpu/gemm_vec.h"

#include <math.h>

#include "numerics.h"

/* Cuts the lower halves of b off, in place, and returns the same numbers as narrow panels. */
static uint32_t *narrowed(float *b, size_t n)
{
    uint32_t *to = xcalloc(n / 2, sizeof(*to)), bits;

    for (size_t i = 0; i < n; i++) {
        size_t step = i / PACK_LANES, lane = i % PACK_LANES;
        memcpy(&bits, &b[i], sizeof(bits));
        bits &= 0xffff0000u;
        memcpy(&b[i], &bits, sizeof(bits));
        to[step * 8 + lane % 8] |= lane < 8 ? bits >> 16 : bits;
    }
    return to;
}

static void check_tiles(bool is_narrow)
{
    struct rng r = random_seeded(1);
    const size_t steps = 21, widest = 11 * PACK_LANES;
    float *a = some_floats(&r, 40 * steps, 1.0f);
    float *b = some_floats(&r, steps * widest, 1.0f);
    float *start = some_floats(&r, 40 * widest, 1.0f);
    float *c = zeros(40 * widest), *want = zeros(40 * widest);

    uint32_t *narrow = is_narrow ? narrowed(b, steps * widest) : NULL;
    const size_t step = is_narrow ? PACK_LANES / 2 : PACK_LANES;

    for (size_t rows = 1; rows <= 40; rows++)
        for (size_t cols = 1; cols <= widest; cols += cols % 16 == 15 ? 1 : 5) {
            bool resume = (rows + cols) % 2;
            struct gemm g = {.c = c,
                             .a = a,
                             .b = is_narrow ? NULL : b,
                             .narrow = narrow,
                             .c_row = widest,
                             .a_row = steps,
                             .a_step = 1,
                             .b_step = step,
                             .b_panel = steps * step,
                             .rows = rows,
                             .cols = cols,
                             .steps = steps,
                             .resume = resume};
            memcpy(c, start, 40 * widest * sizeof(float));
            memcpy(want, start, 40 * widest * sizeof(float));
            for (size_t m = 0; m < rows; m++)
                for (size_t n = 0; n < cols; n++) {
                    float acc = resume ? start[m * widest + n] : 0.0f;
                    for (size_t s = 0; s < steps; s++)
                        acc = fmaf(a[m * steps + s], b[n / 16 * steps * 16 + s * 16 + n % 16],
                                   acc);
                    want[m * widest + n] = acc;
                }

            gemm(&g);

            assert_same_bits(c, want, 40 * widest);
        }

    free(a);
    free(b);
    free(narrow);
    free(start);
    free(c);
    free(want);
}

static void tiles_of_sixteen_lanes_are_running_fmas(void **state)
{
    (void)state;
    check_tiles(false);
}

static void so_are_those_of_narrow_panels(void **state)
{
    (void)state;
    check_tiles(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_of_sixteen_lanes_are_running_fmas),
        cmocka_unit_test(so_are_those_of_narrow_panels),
    };
    return cmocka_run_group_tests_name("engine/matmul_lanes16", tests, NULL, NULL);
}
