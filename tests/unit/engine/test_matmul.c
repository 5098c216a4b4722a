/*
 * The matrix products against their definition (one running fma per output element), bit for
 * bit.
 */
#include "engine/matmul.h"

#include <math.h>

#include "matmul_any.h"

/* Around the edges of panels (16), tiles (6, 12), blocks of steps (128, 256) and of rows (96).
 * */
static const size_t shapes[][3] = {
    {1, 1, 1},    {1, 16, 8},   {2, 17, 9},    {3, 33, 40},  {4, 64, 64},   {5, 15, 257},
    {6, 16, 256}, {7, 50, 31},  {11, 100, 70}, {12, 32, 16}, {13, 130, 20}, {25, 31, 300},
    {97, 48, 33}, {193, 70, 5}, {300, 20, 20}, {1, 300, 64}, {2, 128, 520}, {31, 257, 131},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void forward_is_one_running_fma_and_one_add_of_the_bias(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(1);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.M * f.N);
        for (size_t m = 0; m < f.M; m++)
            for (size_t n = 0; n < f.N; n++) {
                float acc = 0.0f;
                for (size_t j = 0; j < f.K; j++)
                    acc = fmaf(f.x[m * f.K + j], f.W[n * f.K + j], acc);
                want[m * f.N + n] = acc + f.bias[n];
            }

        float *y = product(k, NULL, &f, f.bias, f.M, f.x);

        assert_same_bits(y, want, f.M * f.N);
        free(y);
        free(want);
        fixture_clear(&f);
    }
}

static void dx_is_one_running_fma_over_outputs(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(3);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.M * f.K), *sum = zeros(f.M * f.K);
        float *dx = garbage(f.M * f.K);
        for (size_t m = 0; m < f.M; m++)
            for (size_t j = 0; j < f.K; j++) {
                float acc = 0.0f;
                for (size_t n = 0; n < f.N; n++)
                    acc = fmaf(f.dy[m * f.N + n], f.W[n * f.K + j], acc);
                want[m * f.K + j] = acc;
                sum[m * f.K + j] = f.x[m * f.K + j] + acc;
            }

        matmul_dx(k, NULL, dx, f.dy, f.W, f.M, f.N, f.K);
        assert_same_bits(dx, want, f.M * f.K);

        matmul_dx_add(k, NULL, f.x, f.dy, f.W, f.M, f.N, f.K);
        assert_same_bits(f.x, sum, f.M * f.K);

        free(want);
        free(sum);
        free(dx);
        fixture_clear(&f);
    }
}

static void dw_goes_on_from_what_is_there_over_tokens(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(4);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.N * f.K);
        for (size_t n = 0; n < f.N; n++)
            for (size_t j = 0; j < f.K; j++) {
                float acc = f.W[n * f.K + j];
                for (size_t t = 0; t < f.M; t++)
                    acc = fmaf(f.dy[t * f.N + n], f.x[t * f.K + j], acc);
                want[n * f.K + j] = acc;
            }

        matmul_dw(k, NULL, f.W, f.dy, f.x, f.M, f.N, f.K);

        assert_same_bits(f.W, want, f.N * f.K);
        free(want);
        fixture_clear(&f);
    }
}

static void dw_of_two_micro_batches_is_that_of_one_batch(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(5);
    struct fixture f = fixture_of(&r, (size_t[3]){301, 37, 29});
    float *whole = zeros(f.N * f.K), *parts = zeros(f.N * f.K);

    matmul_dw(k, NULL, whole, f.dy, f.x, f.M, f.N, f.K);
    for (size_t t = 0, n = 1; t < f.M; t += n, n = n * 3) {
        n = f.M - t < n ? f.M - t : n;
        matmul_dw(k, NULL, parts, f.dy + t * f.N, f.x + t * f.K, n, f.N, f.K);
    }

    assert_same_bits(parts, whole, f.N * f.K);
    free(whole);
    free(parts);
    fixture_clear(&f);
}

static void bias_gradient_adds_tokens_in_order(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(6);
    struct fixture f = fixture_of(&r, (size_t[3]){41, 37, 1});
    float want[37];
    for (size_t n = 0; n < f.N; n++) {
        want[n] = f.bias[n];
        for (size_t t = 0; t < f.M; t++)
            want[n] += f.dy[t * f.N + n];
    }

    bias_backward(k, f.bias, f.dy, f.M, f.N);

    assert_same_bits(f.bias, want, f.N);
    fixture_clear(&f);
}

static void packed_layout_is_panels_padded_with_zeros(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(9);
    const size_t sizes[][2] = {{1, 1}, {16, 8}, {17, 9}, {24, 24}, {37, 11}, {8, 7}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t N = sizes[i][0], K = sizes[i][1];
        float *w = some_floats(&r, N * K, 1.0f);
        struct packed p;
        assert_ok(packed_init(&p, k, N, K, NULL), NULL);

        packed_set(k, NULL, &p, w, DTYPE_F32);

        for (size_t n = 0; n < (N + 15) / 16 * 16; n++)
            for (size_t j = 0; j < K; j++) {
                float want = n < N ? w[n * K + j] : 0.0f;
                assert_same_bits(&((const float *)p.data)[n / 16 * K * 16 + j * 16 + n % 16],
                                 &want, 1);
            }
        packed_clear(&p);
        free(w);
    }
}

static void packed_bytes_are_those_of_whole_panels(void **state)
{
    const struct kernels *k = *state;

    assert_int_equal(packed_bytes(k, 17, 3), sizeof(float[32][3]));
}

/* What a wrong start (-0, or the first product instead of a fma on +0) or a flush of subnormals
 * would change. */
static void forward_keeps_signed_zeros_and_subnormals(void **state)
{
    const struct kernels *k = *state;
    const float x[3] = {0.0f, -1.0f, 0x1p-140f};
    const float W[4 * 3] = {0, 0, 0x1p-5f, 0, 0, -0x1p-12f, 0, 1, 0, -1, 0, -0.0f};
    const float want[4] = {0x1p-145f, -0.0f, -1.0f, 0.0f};
    struct fixture f = {1, 4, 3, NULL, (float *)W, NULL, NULL};

    float *y = product(k, NULL, &f, NULL, 1, x);

    assert_same_bits(y, want, 4);
    free(y);
}

/* Matrices kept as bf16, from bf16 and from the f32 numbers they widen to: the products are those
 * of the wide ones, with any number of rows. */
static void matrices_kept_as_bf16_give_the_bits_of_wide_ones(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(10);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        size_t bytes = packed_bytes_as(k, f.N, f.K, DTYPE_BF16);
        uint16_t *w16 = xcalloc(f.N * f.K, sizeof(*w16));
        float *got = garbage(f.M * f.N);
        void *room;
        struct packed p;
        for (size_t j = 0; j < f.N * f.K; j++) {
            w16[j] = bf16_from_f32(f.W[j]);
            f.W[j] = f32_from_bf16(w16[j]);
        }
        float *want = product(k, NULL, &f, f.bias, f.M, f.x);

        assert_int_equal(bytes, packed_bytes(k, f.N, f.K) / 2);
        for (int from = 0; from < 2; from++) {
            assert_ok(alloc_array(&room, bytes, 1, "panels", NULL), NULL);
            packed_place(&p, f.N, f.K, DTYPE_BF16, room);
            packed_set(k, NULL, &p, from ? (const void *)f.W : w16,
                       from ? DTYPE_F32 : DTYPE_BF16);
            matmul_forward(k, NULL, got, f.x, &p, f.bias, f.M);
            assert_same_bits(got, want, f.M * f.N);
            for (size_t n = 0; n < f.N; n++) {
                float *row = garbage(f.K);
                assert_true(packed_row(k, row, &p, n));
                assert_same_bits(row, f.W + n * f.K, f.K);
                free(row);
            }
            packed_clear(&p);
            free(room);
        }
        free(w16);
        free(got);
        free(want);
        fixture_clear(&f);
    }
}

/* Several products handed over together, one of them added to what is there, and the two of an
 * MLP: what they are one by one. */
static void products_together_are_what_they_are_one_by_one(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(11);
    static const size_t Ms[] = {1, 3, 13, 200, 401};
    struct pool *pool;

    pool_new(&pool, 3);
    for (size_t i = 0; i < sizeof(Ms) / sizeof(Ms[0]); i++) {
        const size_t M = Ms[i], N = 83, K = 70;
        struct fixture a = fixture_of(&r, (size_t[3]){M, N, K});
        struct fixture b = fixture_of(&r, (size_t[3]){M, 21, K});
        struct packed pa, pb;
        assert_ok(packed_init(&pa, k, N, K, NULL), NULL);
        assert_ok(packed_init(&pb, k, 21, K, NULL), NULL);
        packed_set(k, NULL, &pa, a.W, DTYPE_F32);
        packed_set(k, NULL, &pb, b.W, DTYPE_F32);
        float *ya = product(k, NULL, &a, a.bias, M, a.x);
        float *yb = product(k, NULL, &b, NULL, M, a.x);
        float *gate = product(k, NULL, &a, NULL, M, a.x), *up = zeros(M * N);
        float *got = garbage(M * 21), *act = garbage(M * N);
        add_forward(k, ya, a.dy, ya, M * N);

        const struct product all[] = {{got, &pb, NULL, NULL}, {a.dy, &pa, a.bias, a.dy}};
        const struct product two[] = {{act, &pa, NULL, NULL}, {up, &pa, NULL, NULL}};
        matmul_forward_all(k, pool, a.x, all, 2, M);
        assert_same_bits(got, yb, M * 21);
        assert_same_bits(a.dy, ya, M * N);
        matmul_swiglu(k, pool, act, a.x, two, M);
        assert_same_bits(up, gate, M * N);
        swiglu_forward(k, NULL, gate, gate, gate, M * N);
        assert_same_bits(act, gate, M * N);

        packed_clear(&pa);
        packed_clear(&pb);
        free(ya);
        free(yb);
        free(gate);
        free(up);
        free(got);
        free(act);
        fixture_clear(&a);
        fixture_clear(&b);
    }
    pool_free(&pool);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        MATMUL_ANY_TESTS,
        BACKEND_TEST(forward_is_one_running_fma_and_one_add_of_the_bias),
        BACKEND_TEST(dx_is_one_running_fma_over_outputs),
        BACKEND_TEST(dw_goes_on_from_what_is_there_over_tokens),
        BACKEND_TEST(dw_of_two_micro_batches_is_that_of_one_batch),
        BACKEND_TEST(bias_gradient_adds_tokens_in_order),
        BACKEND_TEST(packed_layout_is_panels_padded_with_zeros),
        BACKEND_TEST(packed_bytes_are_those_of_whole_panels),
        BACKEND_TEST(forward_keeps_signed_zeros_and_subnormals),
        BACKEND_TEST(matrices_kept_as_bf16_give_the_bits_of_wide_ones),
        BACKEND_TEST(products_together_are_what_they_are_one_by_one),
    };
    return cmocka_run_group_tests_name("engine/matmul", tests, NULL, NULL);
}
