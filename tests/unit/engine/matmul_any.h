/*
 * matmul_any.h - what is true of the matrix products of every class that defines bits
 *
 * A test program includes it once and lists MATMUL_ANY_TESTS among its own.
 */
#ifndef TEST_MATMUL_ANY_H
#define TEST_MATMUL_ANY_H

#include "engine/matmul.h"

#include "numerics.h"

struct fixture {
    size_t M, N, K;
    float *x, *W, *dy, *bias; /* owned */
};

static struct fixture fixture_of(struct rng *r, const size_t s[3])
{
    struct fixture f = {s[0], s[1], s[2], NULL, NULL, NULL, NULL};
    f.x = some_floats(r, f.M * f.K, 1.0f);
    f.W = some_floats(r, f.N * f.K, 1.0f);
    f.dy = some_floats(r, f.M * f.N, 1.0f);
    f.bias = some_floats(r, f.N, 1.0f);
    return f;
}

static void fixture_clear(struct fixture *f)
{
    free(f->x);
    free(f->W);
    free(f->dy);
    free(f->bias);
}

static float *product(const struct kernels *k, struct pool *pool, const struct fixture *f,
                      const float *bias, size_t M, const float *x)
{
    struct packed p;
    float *y = garbage(M * f->N);
    assert_ok(packed_init(&p, k, f->N, f->K, NULL), NULL);
    packed_set(k, pool, &p, f->W, DTYPE_F32);
    matmul_forward(k, pool, y, x, &p, bias, M);
    packed_clear(&p);
    return y;
}

static void forward_of_a_row_does_not_depend_on_the_other_rows(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(2);
    struct fixture f = fixture_of(&r, (size_t[3]){103, 83, 70});
    float *together = product(k, NULL, &f, NULL, f.M, f.x);

    for (size_t m = 0; m < f.M; m += 6) {
        size_t n = f.M - m < 1 + m % 5 ? f.M - m : 1 + m % 5;
        float *alone = product(k, NULL, &f, NULL, n, f.x + m * f.K);
        assert_same_bits(alone, together + m * f.N, n * f.N);
        free(alone);
    }

    free(together);
    fixture_clear(&f);
}

/* Large enough that the work is handed out. */
static void threads_do_not_change_a_bit(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(7);
    struct fixture f = fixture_of(&r, (size_t[3]){201, 247, 150});
    struct pool *pool;
    float *a = zeros(f.M * f.K), *b = zeros(f.M * f.K), *one, *three;
    float *dw1 = zeros(f.N * f.K), *dw3 = zeros(f.N * f.K);
    pool_new(&pool, 3);

    one = product(k, NULL, &f, f.bias, f.M, f.x);
    three = product(k, pool, &f, f.bias, f.M, f.x);
    matmul_dx(k, NULL, a, f.dy, f.W, f.M, f.N, f.K);
    matmul_dx(k, pool, b, f.dy, f.W, f.M, f.N, f.K);
    matmul_dw(k, NULL, dw1, f.dy, f.x, f.M, f.N, f.K);
    matmul_dw(k, pool, dw3, f.dy, f.x, f.M, f.N, f.K);

    assert_same_bits(three, one, f.M * f.N);
    assert_same_bits(b, a, f.M * f.K);
    assert_same_bits(dw3, dw1, f.N * f.K);
    pool_free(&pool);
    free(a);
    free(b);
    free(one);
    free(three);
    free(dw1);
    free(dw3);
    fixture_clear(&f);
}

static void packing_bf16_is_packing_what_it_widens_to(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(8);
    const size_t N = 45, K = 303, bytes = packed_bytes(k, N, K);
    uint16_t *w16 = xcalloc(N * K, sizeof(uint16_t));
    float *w = some_floats(&r, N * K, 1.0f);
    struct packed narrow, wide;
    for (size_t i = 0; i < N * K; i++) {
        w16[i] = bf16_from_f32(w[i]);
        w[i] = f32_from_bf16(w16[i]);
    }
    assert_ok(packed_init(&narrow, k, N, K, NULL), NULL);
    assert_ok(packed_init(&wide, k, N, K, NULL), NULL);

    packed_set(k, NULL, &narrow, w16, DTYPE_BF16);
    packed_set(k, NULL, &wide, w, DTYPE_F32);

    assert_memory_equal(narrow.data, wide.data, bytes);
    packed_clear(&narrow);
    packed_clear(&wide);
    free(w16);
    free(w);
}

static void packed_bytes_refuses_what_no_memory_can_hold(void **state)
{
    const struct kernels *k = *state;

    assert_true(packed_bytes(k, SIZE_MAX / 4, 64) == SIZE_MAX);
    assert_true(packed_bytes(k, 64, SIZE_MAX / 4) == SIZE_MAX);
    assert_true(packed_bytes(k, SIZE_MAX - 3, 1) == SIZE_MAX);
    assert_true(packed_bytes(k, 1, SIZE_MAX - 3) == SIZE_MAX);
}

#define MATMUL_ANY_TESTS                                                                       \
    BACKEND_TEST(forward_of_a_row_does_not_depend_on_the_other_rows),                          \
        BACKEND_TEST(threads_do_not_change_a_bit),                                             \
        BACKEND_TEST(packing_bf16_is_packing_what_it_widens_to),                               \
        BACKEND_TEST(packed_bytes_refuses_what_no_memory_can_hold)

#endif
