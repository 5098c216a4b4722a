/*
 * The operations of a device over rows, logits and parameters in class f32-1: the bits of the
 * definition.
 */
#include "on_device.h"

static void elements_have_the_bits(void **state)
{
    const struct on_device *t = *state;
    struct rng r = random_seeded(1);
    const size_t n = 1000;

    for (enum range range = MODERATE; range < RANGES; range++) {
        float *a = numbers(&r, n, range), *b = numbers(&r, n, range),
              *c = numbers(&r, n, range);
        float *on_a = PUT(t, a, n), *on_b = PUT(t, b, n), *on_c = PUT(t, c, n);
        float *y = garbage(n), *z = garbage(n), *on_y = PUT(t, y, n), *on_z = PUT(t, z, n);

        add_forward(t->cpu, y, a, b, n);
        t->ops->add(t->device, on_y, on_a, on_b, n);
        scale_forward(t->cpu, z, a, 0.7f, n);
        t->ops->scale(t->device, on_z, on_a, 0.7f, n);
        assert_device_has(t, on_y, y, n, "a + b");
        assert_device_has(t, on_z, z, n, "a * 0.7");
        on_y = PUT(t, y, n);
        swiglu_forward(t->cpu, NULL, y, a, b, n);
        t->ops->swiglu_forward(t->device, on_y, on_a, on_b, n);
        assert_device_has(t, on_y, y, n, "swiglu");
        swiglu_backward(t->cpu, NULL, a, b, c, a, b, n);
        t->ops->swiglu_backward(t->device, on_a, on_b, on_c, on_a, on_b, n);
        assert_device_has(t, on_a, a, n, "the gradient of gate");
        assert_device_has(t, on_b, b, n, "the gradient of up");
        device_release(t->device, on_c);
        free(a);
        free(b);
        free(c);
        free(y);
        free(z);
    }
}

/* Numbers of all kinds in what the emulator does in little time. */
static bool is_worth(const struct on_device *t, const size_t shape[2], enum range range)
{
    return !t->is_small || range == MODERATE || shape[0] * shape[1] <= 5000;
}

static void norm_has_the_bits(const struct on_device *t, struct rng *r, size_t N, size_t C,
                              enum range range)
{
    const float eps = 1e-6f;
    float *x = numbers(r, N * C, range), *w = numbers(r, C, range),
          *dy = numbers(r, N * C, range);
    float *dx = numbers(r, N * C, range), *dw = numbers(r, C, range), *y = garbage(N * C);
    float *on_x = PUT(t, x, N * C), *on_w = PUT(t, w, C), *on_dy = PUT(t, dy, N * C);
    float *on_dx = PUT(t, dx, N * C), *on_dw = PUT(t, dw, C), *on_y = PUT(t, y, N * C);

    rmsnorm_forward(t->cpu, y, x, w, N, C, eps);
    t->ops->rmsnorm(t->device, on_y, on_x, on_w, N, C, eps);
    assert_device_has(t, on_y, y, N * C, "rmsnorm");
    rmsnorm_backward(t->cpu, dx, dw, dy, x, w, N, C, eps);
    t->ops->rmsnorm_backward(t->device, on_dx, on_dw, on_dy, on_x, on_w, N, C, eps);
    assert_device_has(t, on_dx, dx, N * C, "dx of rmsnorm");
    assert_device_has(t, on_dw, dw, C, "dw of rmsnorm");
    t->ops->rmsnorm(t->device, on_x, on_x, on_w, N, C, eps);
    assert_device_has(t, on_x, y, N * C, "rmsnorm in place");
    device_release(t->device, on_w);
    device_release(t->device, on_dy);
    free(x);
    free(w);
    free(dy);
    free(dx);
    free(dw);
    free(y);
}

static void norms_have_the_bits(void **state)
{
    const size_t shapes[][2] = {{1, 1},   {3, 17},  {9, 64},    {33, 128}, {2, 256},  {5, 257},
                                {2, 896}, {260, 8}, {257, 520}, {1, 5000}, {1, 65536}};
    const struct on_device *t = *state;
    struct rng r = random_seeded(2);

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (enum range range = MODERATE; range < RANGES; range++)
            if (is_worth(t, shapes[i], range))
                norm_has_the_bits(t, &r, shapes[i][0], shapes[i][1], range);
}

static void rotation_has_the_bits(void **state)
{
    const struct on_device *t = *state;
    struct rng r = random_seeded(3);
    enum { T = 7, H = 3, D = 40, POSITIONS = 50, n = T * H * D };
    float cos[POSITIONS * D / 2], sin[POSITIONS * D / 2], *x = some_floats(&r, n, 1.0f);
    int32_t pos[T];

    rope_table(cos, sin, 10000.0, NULL, 0, POSITIONS, D);
    for (size_t i = 0; i < T; i++)
        pos[i] = (int32_t)rng_below(&r, POSITIONS);
    float *on_x = PUT(t, x, n), *on_cos = PUT(t, cos, POSITIONS * D / 2);
    float *on_sin = PUT(t, sin, POSITIONS * D / 2), *kept = garbage(n);
    int32_t *on_pos = PUT(t, pos, T);
    float *on_kept = PUT(t, kept, n);

    rope_forward(t->cpu, x, cos, sin, pos, T, H, D);
    t->ops->rope(t->device, on_x, on_cos, on_sin, on_pos, T, H, D, false);
    device_copy(t->device, on_kept, on_x, n * sizeof(float));
    assert_device_has(t, on_kept, x, n, "rotation");
    rope_backward(t->cpu, x, cos, sin, pos, T, H, D);
    t->ops->rope(t->device, on_x, on_cos, on_sin, on_pos, T, H, D, true);
    assert_device_has(t, on_x, x, n, "the rotation back");
    device_release(t->device, on_cos);
    device_release(t->device, on_sin);
    device_release(t->device, on_pos);
    free(kept);
    free(x);
}

/* Rows sorted by id, as the caller makes them. */
static size_t sort_rows(const int32_t *id, size_t T, size_t n_ids, uint32_t *order,
                        uint32_t *start)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < n_ids; i++) {
        size_t first = at;
        for (size_t row = 0; row < T; row++)
            if ((size_t)id[row] == i)
                order[at++] = (uint32_t)row;
        if (at > first)
            start[n++] = (uint32_t)first;
    }
    start[n] = (uint32_t)at;
    return n;
}

static void embedding_moves_rows_and_adds_gradients_in_order(void **state)
{
    const struct on_device *t = *state;
    struct rng r = random_seeded(4);
    enum { V = 20, T = 60, C = 300 };
    float *table = numbers(&r, V * C, ANY_SIZE), *dy = numbers(&r, T * C, ANY_SIZE);
    float *y = garbage(T * C), *on_table = PUT(t, table, V * C), *on_dy = PUT(t, dy, T * C);
    float *on_y = PUT(t, y, T * C), *on_z = PUT(t, y, T * C), *on_d = PUT(t, table, V * C);
    int32_t id[T];
    uint32_t order[T], start[V + 1], turned[T];

    for (size_t i = 0; i < T; i++) {
        id[i] = (int32_t)rng_below(&r, V);
        turned[i] = (uint32_t)(T - 1 - i);
    }
    size_t n_ids = sort_rows(id, T, V, order, start);
    int32_t *on_id = PUT(t, id, T);
    uint32_t *on_order = PUT(t, order, T), *on_start = PUT(t, start, n_ids + 1);
    uint32_t *on_turned = PUT(t, turned, T);

    embed_forward(t->cpu, y, table, id, T, C);
    t->ops->embed(t->device, on_y, on_table, on_id, T, C);
    t->ops->gather(t->device, on_z, on_y, on_turned, T, C);
    t->ops->scatter(t->device, on_y, on_z, on_turned, T, C);
    assert_device_has(t, on_y, y, T * C, "rows turned and turned back");
    for (size_t i = 0; i < T; i++)
        embed_forward(t->cpu, y + i * C, table, &id[T - 1 - i], 1, C);
    assert_device_has(t, on_z, y, T * C, "rows turned");
    embed_backward(t->cpu, table, dy, id, T, C);
    t->ops->embed_backward(t->device, on_d, on_dy, on_id, on_order, on_start, n_ids, C);
    assert_device_has(t, on_d, table, V * C, "the gradient of the embedding");
    device_release(t->device, on_table);
    device_release(t->device, on_dy);
    device_release(t->device, on_id);
    device_release(t->device, on_order);
    device_release(t->device, on_start);
    device_release(t->device, on_turned);
    free(table);
    free(dy);
    free(y);
}

static void logprob_has_the_bits(const struct on_device *t, struct rng *r, size_t N, size_t V,
                                 float T, enum range range)
{
    float *x = numbers(r, N * V, range), *weight = some_floats(r, N, 1.0f), *logp = garbage(N);
    int32_t *token = xcalloc(N, sizeof(token[0]));

    for (size_t i = 0; i < N; i++)
        token[i] = (int32_t)rng_below(r, V);
    weight[N / 2] = 0.0f;
    float *on_x = PUT(t, x, N * V), *on_weight = PUT(t, weight, N), *on_logp = PUT(t, logp, N);
    int32_t *on_token = PUT(t, token, N);

    logprob_forward(t->cpu, NULL, logp, x, token, T, N, V);
    t->ops->logprob(t->device, on_logp, on_x, on_token, T, N, V);
    assert_device_has(t, on_logp, logp, N, "log-probabilities");
    logprob_backward(t->cpu, NULL, x, weight, x, token, T, N, V);
    t->ops->logprob_backward(t->device, on_x, on_weight, on_x, on_token, T, N, V);
    assert_device_has(t, on_x, x, N * V, "the gradient of log-probabilities");
    device_release(t->device, on_weight);
    device_release(t->device, on_token);
    free(x);
    free(weight);
    free(logp);
    free(token);
}

static void logprobs_have_the_bits(void **state)
{
    const size_t shapes[][2] = {{1, 1}, {4, 2}, {3, 16}, {5, 300}, {1, 4097}, {1, 65600}};
    const float temperatures[] = {1.0f, 0.7f, 0.0f};
    const struct on_device *t = *state;
    struct rng r = random_seeded(5);

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (size_t j = 0; j < 3; j++)
            for (enum range range = MODERATE; range < RANGES; range++)
                if (is_worth(t, shapes[i], range))
                    logprob_has_the_bits(t, &r, shapes[i][0], shapes[i][1], temperatures[j],
                                         range);
}

static void samples_are_the_definition_s(void **state)
{
    const struct on_device *t = *state;
    const size_t sizes[] = {1, 3, 16, 257, 1000, 6001};
    const float temperatures[] = {1.0f, 0.0f, 0.6f, 1e-3f, 1e30f};
    enum { ROWS = 3, DRAWS = 15 };
    struct rng r = random_seeded(7);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t V = sizes[i];
        float *x = numbers(&r, ROWS * V, i % 2 ? MODERATE : ANY_SIZE);
        struct device_draw draws[DRAWS];
        struct device_drawn none[DRAWS] = {{0}};

        for (size_t v = 0; v < V; v++)
            x[V + v] = (float)(v % 3); /* ties */
        for (size_t j = 0; j < DRAWS; j++)
            draws[j] = (struct device_draw){.seed = rng_u64(&r),
                                            .position = rng_u32(&r),
                                            .row = (uint32_t)(j % ROWS),
                                            .temperature = temperatures[j / ROWS]};
        float *on_x = PUT(t, x, ROWS * V);
        struct device_draw *on_draws = PUT(t, draws, DRAWS);
        struct device_drawn *on = PUT(t, none, DRAWS), *got;

        t->ops->sample(t->device, on, on_draws, on_x, DRAWS, V);
        got = from_device(t, on, sizeof(none));
        for (size_t j = 0; j < DRAWS; j++) {
            float logp;
            int32_t want = sample_token(t->cpu, &logp, x + draws[j].row * V, V,
                                        draws[j].temperature, draws[j].seed, draws[j].position);

            assert_int_equal(got[j].token, want);
            assert_same_bits(&got[j].logp, &logp, 1);
            assert_int_equal(got[j].is_finite, 1);
        }
        device_release(t->device, on_x);
        device_release(t->device, on_draws);
        free(got);
        free(x);
    }
}

static void rows_that_are_not_finite_are_told(void **state)
{
    const struct on_device *t = *state;
    enum { V = 700 };
    const float odd[] = {NAN, INFINITY, -INFINITY};
    float x[3 * V] = {0};
    struct device_draw draws[3];
    struct device_drawn none[3] = {{0}}, *got;

    for (uint32_t i = 0; i < 3; i++) {
        for (size_t v = 0; v < V; v++)
            x[i * V + v] = (float)v * 0.01f;
        x[i * V + 650] = odd[i];
        draws[i] = (struct device_draw){.row = i, .temperature = i == 1 ? 0.0f : 1.0f};
    }
    float *on_x = PUT(t, x, 3 * V);
    struct device_draw *on_draws = PUT(t, draws, 3);
    struct device_drawn *on = PUT(t, none, 3);

    t->ops->sample(t->device, on, on_draws, on_x, 3, V);
    got = from_device(t, on, sizeof(none));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(got[i].is_finite, 0);
    assert_int_not_equal(got[0].token, 650);
    device_release(t->device, on_x);
    device_release(t->device, on_draws);
    free(got);
}

/* ---- the largest ----------------------------------------------------------------------------- */

enum { TOP = 128 };

struct magnitude {
    uint32_t index;
    uint16_t bits;
};

static int by_magnitude(const void *a, const void *b)
{
    const struct magnitude *x = a, *y = b;
    int m = (x->bits & 0x7fff) - (y->bits & 0x7fff);

    return m ? -m : x->index < y->index ? -1 : 1;
}

static int by_index(const void *a, const void *b)
{
    return ((const struct magnitude *)a)->index < ((const struct magnitude *)b)->index ? -1 : 1;
}

static void top_is_right(const struct on_device *t, struct rng *r, size_t C, int kind)
{
    enum { N = 2 };
    float *x = numbers(r, N * C, kind == 1 ? ANY_SIZE : MODERATE);
    struct magnitude *m = xcalloc(C, sizeof(m[0]));
    uint32_t index[N * TOP], *got_index;
    uint16_t value[N * TOP], *got_value;

    for (size_t i = 0; kind == 2 && i < N * C; i++)
        x[i] = ((float)rng_below(r, 3) - 1.0f) * (rng_u32(r) & 1u ? 0.5f : 0.505f); /* ties */
    float *on_x = PUT(t, x, N * C);
    uint32_t *on_index = PUT(t, index, N * TOP);
    uint16_t *on_value = PUT(t, value, N * TOP);

    t->ops->top(t->device, on_index, on_value, on_x, N, C);
    got_index = from_device(t, on_index, sizeof(index));
    got_value = from_device(t, on_value, sizeof(value));
    for (size_t n = 0; n < N; n++) {
        for (size_t i = 0; i < C; i++) {
            m[i].index = (uint32_t)i;
            t->cpu->bf16_from_f32(&m[i].bits, &x[n * C + i], 1);
        }
        qsort(m, C, sizeof(m[0]), by_magnitude);
        qsort(m, TOP, sizeof(m[0]), by_index);
        for (size_t i = 0; i < TOP; i++) {
            assert_int_equal(got_index[n * TOP + i], m[i].index);
            assert_int_equal(got_value[n * TOP + i], m[i].bits);
        }
    }
    device_release(t->device, on_x);
    free(got_index);
    free(got_value);
    free(m);
    free(x);
}

static void top_takes_the_largest_and_of_equals_the_first(void **state)
{
    const size_t sizes[] = {128, 129, 300, 896, 4096, 9001};
    struct rng r = random_seeded(8);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int kind = 0; kind < 3; kind++)
            top_is_right(*state, &r, sizes[i], kind);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static void square_sums_have_the_bits(void **state)
{
    const size_t shapes[][2] = {{1, 1},   {3, 17},   {300, 5},   {70, 300}, {513, 2},
                                {2, 896}, {1, 5000}, {257, 520}, {600, 1},  {1, 66000}};
    const struct on_device *t = *state;
    struct rng r = random_seeded(9);

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (enum range range = MODERATE; range < RANGES; range++) {
            const size_t rows = shapes[i][0], cols = shapes[i][1];
            if (!is_worth(t, shapes[i], range))
                continue;
            float *g = numbers(&r, rows * cols, range), sum = 7.0f;
            float *room = garbage(rows), *on_g = PUT(t, g, rows * cols),
                  *on_sum = PUT(t, &sum, 1);
            float *on_room = PUT(t, room, rows);

            sum = grad_square_sum(t->cpu, g, rows, cols);
            t->ops->square_sum(t->device, on_sum, on_room, on_g, rows, cols);
            assert_device_has(t, on_sum, &sum, 1, "the sum of squares");
            device_release(t->device, on_room);
            device_release(t->device, on_g);
            free(room);
            free(g);
        }
}

static void adamw_has_the_bits(void **state)
{
    const struct on_device *t = *state;
    const size_t n = 3001;
    struct rng r = random_seeded(10);
    float *p = numbers(&r, n, MODERATE), *m = numbers(&r, n, ANY_SIZE), *v = zeros(n);
    const struct adamw_scalars s = {.lr = 3e-4f,
                                    .b1 = 0.9f,
                                    .b2 = 0.99f,
                                    .eps = 1e-8f,
                                    .wd = 0.01f,
                                    .bc1 = adamw_bias_correction(0.9f, 3),
                                    .bc2 = adamw_bias_correction(0.99f, 3),
                                    .grad_scale = 0.3f};

    for (size_t i = 0; i < n; i++)
        v[i] = m[i] * m[i];
    float *on_p = PUT(t, p, n), *on_m = PUT(t, m, n), *on_v = PUT(t, v, n);
    for (int step = 0; step < 3; step++) {
        float *g = numbers(&r, n, ANY_SIZE), *on_g = PUT(t, g, n);
        adamw_update(t->cpu, NULL, p, m, v, g, &s, n);
        t->ops->adamw(t->device, on_p, on_m, on_v, on_g, &s, n);
        device_release(t->device, on_g);
        free(g);
    }
    assert_device_has(t, on_p, p, n, "p of AdamW");
    assert_device_has(t, on_m, m, n, "m of AdamW");
    assert_device_has(t, on_v, v, n, "v of AdamW");
    free(p);
    free(m);
    free(v);
}

static void rounding_is_the_definition_s(void **state)
{
    const struct on_device *t = *state;
    enum { n = 3000 };
    struct rng r = random_seeded(11);
    float x[n], want[n];

    for (size_t i = 0; i < n; i++) {
        uint32_t u = i % 3 ? rng_u32(&r) : (uint32_t)i << 16 | 0x8000u; /* ties */
        uint16_t narrow;

        memcpy(&x[i], &u, sizeof(u));
        t->cpu->bf16_from_f32(&narrow, &x[i], 1);
        t->cpu->f32_from_bf16(&want[i], &narrow, 1);
    }
    float *on_x = PUT(t, x, n), *on_y = PUT(t, x, n);

    t->ops->round_bf16(t->device, on_y, on_x, n);
    assert_device_has(t, on_y, want, n, "the nearest bf16");
    device_release(t->device, on_x);
}

static void what_is_not_finite_is_found_anywhere(void **state)
{
    const struct on_device *t = *state;
    enum { n = 1000 };
    const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f};

    for (size_t i = 0; i < 4; i++) {
        float x[n] = {0};
        uint32_t flag = 0, *on_flag = PUT(t, &flag, 1), *got;
        x[i * 333] = odd[i];
        float *on_x = PUT(t, x, n);

        t->ops->not_finite(t->device, on_flag, on_x, n);
        got = from_device(t, on_flag, sizeof(flag));
        assert_int_equal(*got, i < 3);
        device_release(t->device, on_x);
        free(got);
    }
}

int main(int argc, char **argv)
{
    struct on_device t = on_device_open(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(elements_have_the_bits, &t),
        cmocka_unit_test_prestate(norms_have_the_bits, &t),
        cmocka_unit_test_prestate(rotation_has_the_bits, &t),
        cmocka_unit_test_prestate(embedding_moves_rows_and_adds_gradients_in_order, &t),
        cmocka_unit_test_prestate(logprobs_have_the_bits, &t),
        cmocka_unit_test_prestate(samples_are_the_definition_s, &t),
        cmocka_unit_test_prestate(rows_that_are_not_finite_are_told, &t),
        cmocka_unit_test_prestate(top_takes_the_largest_and_of_equals_the_first, &t),
        cmocka_unit_test_prestate(square_sums_have_the_bits, &t),
        cmocka_unit_test_prestate(adamw_has_the_bits, &t),
        cmocka_unit_test_prestate(rounding_is_the_definition_s, &t),
        cmocka_unit_test_prestate(what_is_not_finite_is_found_anywhere, &t),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    device_close(&t.device);
    return failed;
}
