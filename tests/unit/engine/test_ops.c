/*
 * Sums, norms, rotations, activations: every backend against the portable scalar one bit for
 * bit, and against numbers computed in 60-digit arithmetic by tests/reference/ops.py.
 */
#include "engine/ops.h"

#include <float.h>
#include <math.h>

#include "numerics.h"
#include "ops_reference.h"

/* The definition compiled for any CPU: its fma is a call of the C library. */
static const struct kernels *const plain = &kernels_scalar;

static const size_t lengths[] = {0,  1,  2,   7,   8,   15,  16,  17,  31,   33,
                                 64, 90, 255, 256, 257, 300, 512, 700, 1000, 4099};
#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))
#define LONGEST   4099

/* "Sums" of docs/numerics.md word for word: sixteen lanes, halves, blocks of 256 of blocks. */
static float define_sum(const float *a, const float *b, size_t n)
{
    if (n > 256) {
        size_t n_parts = (n + 255) / 256;
        float *part = zeros(n_parts), total;
        for (size_t i = 0; i < n_parts; i++)
            part[i] = define_sum(a + i * 256, b ? b + i * 256 : NULL,
                                 n - i * 256 < 256 ? n - i * 256 : 256);
        total = define_sum(part, NULL, n_parts);
        free(part);
        return total;
    }
    float s[16] = {0};
    for (size_t i = 0; i < n; i++)
        s[i % 16] = b ? fmaf(a[i], b[i], s[i % 16]) : s[i % 16] + a[i];
    for (size_t half = 8; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

static void sums_follow_the_sixteen_lane_rule(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(1);
    const size_t longest = 65536 * 2 + 300;
    float *a = some_floats(&r, longest, 1.0f), *b = some_floats(&r, longest, 1.0f);

    for (size_t i = 0; i <= N_LENGTHS + 2; i++) {
        size_t n = i < N_LENGTHS ? lengths[i] : i == N_LENGTHS ? 65536 : longest - (i & 1);
        float sum = define_sum(a, NULL, n), dot = define_sum(a, b, n);
        float got[4] = {sum16(a, n), sum_forward(k, a, n), dot16(a, b, n),
                        dot_forward(k, a, b, n)};
        assert_same_bits(got, ((float[4]){sum, sum, dot, dot}), 4);
    }

    free(a);
    free(b);
}

static void elementwise_ops_have_the_bits_of_the_definition(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(2);
    float *a = some_floats(&r, LONGEST, 9.0f), *b = some_floats(&r, LONGEST, 9.0f);
    float *c = some_floats(&r, LONGEST, 9.0f);
    float *got = zeros(2 * LONGEST), *want = zeros(2 * LONGEST);

    for (size_t i = 0; i < N_LENGTHS; i++) {
        size_t n = lengths[i];
        add_forward(k, got, a, b, n);
        add_forward(plain, want, a, b, n);
        assert_same_bits(got, want, 2 * LONGEST);
        scale_forward(k, got, a, 0.3f, n);
        scale_forward(plain, want, a, 0.3f, n);
        assert_same_bits(got, want, 2 * LONGEST);
        k->merge(got, b, 0.7f, 0.4f, n);
        plain->merge(want, b, 0.7f, 0.4f, n);
        assert_same_bits(got, want, 2 * LONGEST);
        swiglu_forward(k, NULL, got, a, b, n);
        swiglu_forward(plain, NULL, want, a, b, n);
        assert_same_bits(got, want, 2 * LONGEST);
        swiglu_backward(k, NULL, got, got + LONGEST, c, a, b, n);
        swiglu_backward(plain, NULL, want, want + LONGEST, c, a, b, n);
        assert_same_bits(got, want, 2 * LONGEST);
    }

    free(a);
    free(b);
    free(c);
    free(got);
    free(want);
}

static void rows_have_the_bits_of_the_definition(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(3);
    float *x = some_floats(&r, LONGEST, 2.0f), *w = some_floats(&r, LONGEST, 1.0f);
    float *dy = some_floats(&r, LONGEST, 1.0f), *cos = some_floats(&r, 64, 1.0f);
    float *got = zeros(2 * LONGEST), *want = zeros(2 * LONGEST);

    for (size_t i = 1; i < N_LENGTHS; i++) {
        size_t n = lengths[i], D = n < 128 ? n / 2 * 2 : 128;
        rmsnorm_forward(k, got, x, w, 1, n, 1e-6f);
        rmsnorm_forward(plain, want, x, w, 1, n, 1e-6f);
        assert_same_bits(got, want, 2 * LONGEST);
        rmsnorm_backward(k, got, got + LONGEST, dy, x, w, 1, n, 1e-6f);
        rmsnorm_backward(plain, want, want + LONGEST, dy, x, w, 1, n, 1e-6f);
        assert_same_bits(got, want, 2 * LONGEST);
        for (int inverse = 0; inverse < 2; inverse++) {
            k->rope(got, cos, w, D, inverse);
            plain->rope(want, cos, w, D, inverse);
            assert_same_bits(got, want, 2 * LONGEST);
        }
    }

    free(x);
    free(w);
    free(dy);
    free(cos);
    free(got);
    free(want);
}

static void ops_may_work_in_place(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(4);
    const size_t n = 77;
    float *a = some_floats(&r, n, 4.0f), *b = some_floats(&r, n, 4.0f);
    float *dy = some_floats(&r, n, 4.0f), *apart = zeros(n), *apart2 = zeros(n), *x = zeros(n);

    swiglu_forward(k, NULL, apart, a, b, n);
    memcpy(x, a, n * sizeof(float));
    swiglu_forward(k, NULL, x, x, b, n);
    assert_same_bits(x, apart, n);

    rmsnorm_forward(k, apart, a, b, 7, 11, 1e-5f);
    memcpy(x, a, n * sizeof(float));
    rmsnorm_forward(k, x, x, b, 7, 11, 1e-5f);
    assert_same_bits(x, apart, n);

    swiglu_backward(k, NULL, apart, apart2, dy, a, b, n);
    memcpy(x, a, n * sizeof(float));
    swiglu_backward(k, NULL, x, dy, dy, x, b, n);
    assert_same_bits(x, apart, n);
    assert_same_bits(dy, apart2, n);

    free(a);
    free(b);
    free(dy);
    free(apart);
    free(apart2);
    free(x);
}

/* Some ten roundings of numbers up to 4, and two ulp where exp is involved. */
static const double RTOL = 1e-6, ATOL = 2e-6;

static void rmsnorm_matches_the_reference_numbers(void **state)
{
    const struct kernels *k = *state;
    float x[10], w[5], dy[10], y[10], dx[10] = {0}, dw[5] = {0};
    ops_fill(x, 1, 10);
    ops_fill(w, 2, 5);
    ops_fill(dy, 3, 10);

    rmsnorm_forward(k, y, x, w, 2, 5, 0x1p-10f);
    rmsnorm_backward(k, dx, dw, dy, x, w, 2, 5, 0x1p-10f);

    assert_close(y, want_rmsnorm, 10, ATOL, RTOL);
    assert_close(dx, want_rmsnorm_dx, 10, ATOL, RTOL);
    assert_close(dw, want_rmsnorm_dw, 5, ATOL, RTOL);
}

static void rmsnorm_backward_adds_to_what_is_there(void **state)
{
    const struct kernels *k = *state;
    float x[10], w[5], dy[10], dx[10] = {0}, dw[5] = {0}, dx2[10], want[10];
    ops_fill(x, 1, 10);
    ops_fill(w, 2, 5);
    ops_fill(dy, 3, 10);
    ops_fill(dx2, 4, 10);
    rmsnorm_backward(k, dx, dw, dy, x, w, 2, 5, 0x1p-10f);
    for (size_t i = 0; i < 10; i++)
        want[i] = dx2[i] + dx[i];

    rmsnorm_backward(k, dx2, dw, dy, x, w, 2, 5, 0x1p-10f);

    assert_same_bits(dx2, want, 10);
    for (size_t i = 0; i < 5; i++)
        want[i] = 2 * want_rmsnorm_dw[i];
    assert_close(dw, want, 5, 2 * ATOL, RTOL);
}

static void swiglu_matches_the_reference_numbers(void **state)
{
    const struct kernels *k = *state;
    float g[7], u[7], dy[7], y[7], dg[7], du[7];
    ops_fill(g, 4, 7);
    ops_fill(u, 5, 7);
    ops_fill(dy, 6, 7);

    swiglu_forward(k, NULL, y, g, u, 7);
    swiglu_backward(k, NULL, dg, du, dy, g, u, 7);

    assert_close(y, want_swiglu, 7, ATOL, RTOL);
    assert_close(dg, want_swiglu_dg, 7, ATOL, RTOL);
    assert_close(du, want_swiglu_du, 7, ATOL, RTOL);
}

/* exp(-g) overflows below -89: e is infinite, s zero, and nothing may become NaN. */
static void swiglu_is_finite_where_exp_is_not(void **state)
{
    const struct kernels *k = *state;
    const float g[3] = {-200.0f, 200.0f, -89.5f}, u[3] = {1, 1, 1}, dy[3] = {1, 1, 1};
    const float want[3] = {-0.0f, 200.0f, -0.0f}, want_dg[3] = {-0.0f, 1.0f, -0.0f};
    float y[3], dg[3], du[3];

    swiglu_forward(k, NULL, y, g, u, 3);
    swiglu_backward(k, NULL, dg, du, dy, g, u, 3);

    assert_same_bits(y, want, 3);
    assert_same_bits(dg, want_dg, 3);
    assert_same_bits(du, want, 3);
}

/* Tables are rounded once, so half an ulp of 1; the angle of the reference is the f32 product.
 * */
static void rope_table_matches_the_reference_numbers(void **state)
{
    (void)state;
    const size_t pos[3] = {1, 100, 4095};
    float *cos = zeros(4096 * 4), *sin = zeros(4096 * 4);

    rope_table(cos, sin, 10000.0, NULL, 0, 4096, 8);

    for (size_t i = 0; i < 3; i++) {
        assert_close(cos + pos[i] * 4, want_rope_cos + i * 4, 4, 6e-8, 0.0);
        assert_close(sin + pos[i] * 4, want_rope_sin + i * 4, 4, 6e-8, 0.0);
    }
    free(cos);
    free(sin);
}

static void rope_table_scales_frequencies_as_llama3_does(void **state)
{
    (void)state;
    const struct rope_scaling scaling = {ROPE_LLAMA3, 8192, 8.0, 1.0, 4.0};
    const size_t pos[3] = {1, 100, 4095};
    float *cos = zeros(4096 * 8), *sin = zeros(4096 * 8);

    rope_table(cos, sin, 500000.0, &scaling, 0, 4096, 16);

    for (size_t i = 0; i < 3; i++) {
        assert_close(cos + pos[i] * 8, want_rope_llama3_cos + i * 8, 8, 6e-8, 0.0);
        assert_close(sin + pos[i] * 8, want_rope_llama3_sin + i * 8, 8, 6e-8, 0.0);
    }
    free(cos);
    free(sin);
}

static void rope_rotates_pairs_of_the_two_halves_and_back(void **state)
{
    const struct kernels *k = *state;
    float cos[5 * 2], sin[5 * 2], x[2 * 2 * 4], y[2 * 2 * 4], want[4];
    const int32_t pos[2] = {3, 0};
    rope_table(cos, sin, 100.0, NULL, 0, 5, 4);
    ops_fill(x, 1, 16);
    memcpy(y, x, sizeof(y));
    for (size_t i = 0; i < 2; i++) { /* row 0, head 1 */
        want[i] = fmaf(-x[6 + i], sin[6 + i], x[4 + i] * cos[6 + i]);
        want[2 + i] = fmaf(x[4 + i], sin[6 + i], x[6 + i] * cos[6 + i]);
    }

    rope_forward(k, y, cos, sin, pos, 2, 2, 4);
    assert_same_bits(y + 4, want, 4);
    assert_same_bits(y + 8, x + 8, 8); /* position 0 is the identity */

    /* The inverse rotation; a few roundings of numbers below 2. */
    rope_backward(k, y, cos, sin, pos, 2, 2, 4);
    assert_close(y, x, 16, 1e-6, 0.0);
}

static void embedding_gradient_adds_in_batch_order(void **state)
{
    const struct kernels *k = *state;
    const int32_t id[4] = {2, 0, 2, 2};
    float table[3 * 2] = {1, 2, 3, 4, 5, 6}, y[8], dtable[6] = {0};
    /* 1 is lost beside 2^24 unless the order is another one. */
    const float dy[8] = {0x1p24f, 1, 7, 8, 1, 2, -0x1p24f, 3};
    const float want[6] = {7, 8, 0, 0, 0, 6};

    embed_forward(k, y, table, id, 4, 2);
    embed_backward(k, dtable, dy, id, 4, 2);

    assert_same_bits(y, ((float[8]){5, 6, 1, 2, 5, 6, 5, 6}), 8);
    assert_same_bits(dtable, want, 6);
}

static void all_finite_finds_one_bad_element_anywhere(void **state)
{
    const struct kernels *k = *state;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    float x[70];

    for (size_t n = 0; n <= 70; n++) {
        for (size_t i = 0; i < 70; i++)
            x[i] = i < n ? FLT_MAX : NAN;
        assert_true(all_finite(k, x, n));
        for (size_t i = 0; i < n; i++) {
            x[i] = bad[i % 3];
            assert_false(all_finite(k, x, n));
            x[i] = -FLT_MAX;
        }
    }
}

static void bf16_rows_are_the_single_conversions(void **state)
{
    const struct kernels *k = *state;
    float x[100], back[100];
    uint16_t y[100];
    struct rng r = random_seeded(5);

    for (size_t round = 0; round < 2000; round++) {
        for (size_t i = 0; i < 100; i++) {
            uint32_t u = rng_u32(&r);
            memcpy(&x[i], &u, sizeof(u));
        }
        bf16_from_f32_row(k, y, x, 100);
        f32_from_bf16_row(k, back, y, 100);
        for (size_t i = 0; i < 100; i++) {
            float want = f32_from_bf16(y[i]);
            assert_int_equal(y[i], bf16_from_f32(x[i]));
            assert_memory_equal(&back[i], &want, sizeof(want));
        }
    }
}

static void threads_do_not_change_activations(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(6);
    const size_t n = 40001;
    float *g = some_floats(&r, n, 5.0f), *u = some_floats(&r, n, 5.0f);
    float *one = zeros(n), *three = zeros(n);
    struct pool *pool;
    pool_new(&pool, 3);

    swiglu_forward(k, NULL, one, g, u, n);
    swiglu_forward(k, pool, three, g, u, n);

    assert_same_bits(three, one, n);
    pool_free(&pool);
    free(g);
    free(u);
    free(one);
    free(three);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(sums_follow_the_sixteen_lane_rule),
        BACKEND_TEST(elementwise_ops_have_the_bits_of_the_definition),
        BACKEND_TEST(rows_have_the_bits_of_the_definition),
        BACKEND_TEST(ops_may_work_in_place),
        BACKEND_TEST(rmsnorm_matches_the_reference_numbers),
        BACKEND_TEST(rmsnorm_backward_adds_to_what_is_there),
        BACKEND_TEST(swiglu_matches_the_reference_numbers),
        BACKEND_TEST(swiglu_is_finite_where_exp_is_not),
        BACKEND_TEST(rope_table_matches_the_reference_numbers),
        BACKEND_TEST(rope_table_scales_frequencies_as_llama3_does),
        BACKEND_TEST(rope_rotates_pairs_of_the_two_halves_and_back),
        BACKEND_TEST(embedding_gradient_adds_in_batch_order),
        BACKEND_TEST(all_finite_finds_one_bad_element_anywhere),
        BACKEND_TEST(bf16_rows_are_the_single_conversions),
        BACKEND_TEST(threads_do_not_change_activations),
    };
    return cmocka_run_group_tests_name("engine/ops", tests, NULL, NULL);
}
