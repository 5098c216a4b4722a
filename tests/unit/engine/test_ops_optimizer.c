/*
 * Gradient norm, clipping and AdamW.
 */
#include "engine/ops.h"

#include <math.h>

#include "numerics.h"
#include "ops_reference.h"

static void norm_is_the_sum_of_rows_then_of_tensors(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(1);
    const size_t shapes[][2] = {{1, 1}, {3, 17}, {300, 5}, {70, 300}, {513, 2}};
    float tensors[5], want[5], got, norm;

    for (size_t i = 0; i < 5; i++) {
        size_t rows = shapes[i][0], cols = shapes[i][1];
        float *g = some_floats(&r, rows * cols, 1.0f), *row = zeros(rows);
        for (size_t j = 0; j < rows; j++)
            row[j] = dot16(g + j * cols, g + j * cols, cols);
        want[i] = sum16(row, rows);
        tensors[i] = grad_square_sum(k, g, rows, cols);
        free(g);
        free(row);
    }
    got = grad_norm(tensors, 5);

    assert_same_bits(tensors, want, 5);
    norm = sqrtf(sum16(want, 5));
    assert_same_bits(&got, &norm, 1);
}

static void norm_is_not_finite_if_a_gradient_is_not(void **state)
{
    const struct kernels *k = *state;
    float g[40] = {0}, sum;

    g[33] = NAN;
    sum = grad_square_sum(k, g, 2, 20);
    assert_true(isnan(grad_norm(&sum, 1)));
    g[33] = -INFINITY;
    sum = grad_square_sum(k, g, 2, 20);
    assert_true(isinf(grad_norm(&sum, 1)));
}

static void clip_scales_only_what_is_too_long(void **state)
{
    (void)state;
    float got[4] = {grad_clip_scale(0.5f, 1.0f), grad_clip_scale(4.0f, 1.0f),
                    grad_clip_scale(4.0f, 0.0f), grad_clip_scale(0.0f, 1.0f)};
    const float want[4] = {1.0f, 1.0f / (4.0f + 1e-6f), 1.0f, 1.0f};

    assert_same_bits(got, want, 4);
}

static struct adamw_scalars scalars(uint64_t step)
{
    return (struct adamw_scalars){.lr = 0x1p-6f,
                                  .b1 = 0.875f,
                                  .b2 = 0.984375f,
                                  .eps = 0x1p-20f,
                                  .wd = 0.125f,
                                  .bc1 = adamw_bias_correction(0.875f, step),
                                  .bc2 = adamw_bias_correction(0.984375f, step),
                                  .grad_scale = 1.0f};
}

/* Three steps of some ten roundings each: of p (below 2) 2^-24 each, of the step (below 2^-5)
 * much less. */
static void three_steps_match_the_reference_numbers(void **state)
{
    const struct kernels *k = *state;
    float p[9], g[9], m[9] = {0}, v[9] = {0};
    ops_fill(p, 13, 9);
    ops_fill(g, 14, 9);

    for (uint64_t step = 1; step <= 3; step++) {
        struct adamw_scalars s = scalars(step);
        adamw_update(k, NULL, p, m, v, g, &s, 9);
    }

    assert_close(p, want_adamw, 9, 5e-7, 0.0);
}

static void update_has_the_bits_of_its_definition_on_any_threads(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(2);
    const size_t n = 50003;
    float *g = some_floats(&r, n, 0.1f), *start = some_floats(&r, n, 1.0f);
    float *p = zeros(n), *m = zeros(n), *v = zeros(n);
    float *want_p = zeros(n), *want_m = zeros(n), *want_v = zeros(n);
    struct adamw_scalars s = scalars(7);
    struct pool *pool;
    pool_new(&pool, 3);
    s.grad_scale = 0.3f;
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * s.grad_scale;
        p[i] = want_p[i] = start[i];
        m[i] = 0.01f * start[n - 1 - i];
        v[i] = fabsf(m[i]);
        want_m[i] = fmaf(s.b1, m[i], (1.0f - s.b1) * d);
        want_v[i] = fmaf(s.b2, v[i], (1.0f - s.b2) * (d * d));
        want_p[i] *= 1.0f - s.lr * s.wd;
        want_p[i] -= (s.lr / s.bc1) * (want_m[i] / (sqrtf(want_v[i]) / sqrtf(s.bc2) + s.eps));
    }

    adamw_update(k, pool, p, m, v, g, &s, n);

    assert_same_bits(p, want_p, n);
    assert_same_bits(m, want_m, n);
    assert_same_bits(v, want_v, n);
    pool_free(&pool);
    free(g);
    free(start);
    free(p);
    free(m);
    free(v);
    free(want_p);
    free(want_m);
    free(want_v);
}

static void moments_below_the_floor_are_stored_as_zero(void **state)
{
    const struct kernels *k = *state;
    const float tiny = 0x1.8p-101f; /* times 7/8 it is below 2^-100 */
    float p[20] = {0}, m[20], v[20], g[20] = {0};
    struct adamw_scalars s = scalars(1);
    for (size_t i = 0; i < 20; i++) {
        m[i] = i % 2 ? -tiny : tiny;
        v[i] = i % 3 ? tiny : 0x1p-99f;
    }

    adamw_update(k, NULL, p, m, v, g, &s, 20);

    for (size_t i = 0; i < 20; i++) {
        float want = i % 3 ? 0.0f : 0.984375f * 0x1p-99f;
        assert_same_bits(&m[i], &(float){0.0f}, 1);
        assert_same_bits(&v[i], &want, 1);
    }
}

/* 1 - beta^step loses the leading digits of beta^step: the binary64 error of 2^-49 * (1 + step
 * * 1e-3) is far below half an ulp of the float result, which is all that remains. */
static void bias_correction_is_rounded_once(void **state)
{
    (void)state;

    for (uint64_t step = 1; step < 20000; step = step * 3 / 2 + 1) {
        float want = (float)(1.0 - pow(0.999f, (double)step));
        float got = adamw_bias_correction(0.999f, step);
        assert_close(&got, &want, 1, 0.0, 1.2e-7);
    }
    assert_true(adamw_bias_correction(0.0f, 1) == 1.0f);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(norm_is_the_sum_of_rows_then_of_tensors),
        BACKEND_TEST(norm_is_not_finite_if_a_gradient_is_not),
        BACKEND_TEST(clip_scales_only_what_is_too_long),
        BACKEND_TEST(three_steps_match_the_reference_numbers),
        BACKEND_TEST(update_has_the_bits_of_its_definition_on_any_threads),
        BACKEND_TEST(moments_below_the_floor_are_stored_as_zero),
        BACKEND_TEST(bias_correction_is_rounded_once),
    };
    return cmocka_run_group_tests_name("engine/ops_optimizer", tests, NULL, NULL);
}
