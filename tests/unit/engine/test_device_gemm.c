/*
 * The matrix products of a device in class f32-1: the bits of the definition, for shapes that end
 * anywhere in a tile, numbers of any size, and weights in f32 and bf16.
 */
#include "on_device.h"

/* M, N, K; each of them is in turn what is summed over. */
static const size_t shapes[][3] = {
    {1, 1, 1},    {1, 33, 20},    {1, 40, 520},   {2, 64, 8},    {3, 70, 64},   {5, 31, 129},
    {8, 64, 200}, {13, 40, 260},  {16, 33, 136},  {17, 65, 33},  {40, 100, 72}, {33, 32, 1},
    {70, 130, 8}, {129, 140, 36}, {136, 256, 24}, {7, 512, 300}, {44, 68, 48},
};
/* So many tiles that larger ones are chosen: in the emulator, which has four multiprocessors, ... */
static const size_t tile_shapes[][3] = {
    {125, 124, 40}, {124, 20, 128}, {20, 124, 128}, {129, 141, 40},
    {60, 2000, 16}, {60, 12, 2000}, {12, 60, 2000}, {251, 508, 24},
    {250, 510, 16}, {252, 20, 508}, {20, 252, 508},
};
/* ... and on a GPU. */
static const size_t large_shapes[][3] = {
    {1536, 1544, 264}, {1000, 1000, 1000}, {64, 3000, 896},  {1, 5000, 4864}, {16, 4864, 896},
    {2040, 2044, 40},  {2040, 20, 2044},   {20, 2040, 2044}, {60, 67000, 8},  {60, 8, 67000},
};
/* One of the largest tiles, of few products. */
static const size_t brief_shapes[][3] = {{1536, 1544, 40}};

struct case_of {
    const struct on_device *t;
    size_t M, N, K;
    enum range range;
    struct rng *r;
};

static void forward_has_the_bits(const struct case_of *c, enum dtype dtype)
{
    const struct on_device *t = c->t;
    const size_t M = c->M, N = c->N, K = c->K;
    float *x = numbers(c->r, M * K, c->range), *W = numbers(c->r, N * K, c->range);
    float *bias = numbers(c->r, N, c->range), *add = numbers(c->r, M * N, c->range);
    float *y = garbage(M * N);
    struct packed p, on = {.N = N, .K = K, .dtype = dtype};
    struct err e;

    for (size_t i = 0; dtype == DTYPE_BF16 && i < N * K; i++) {
        uint32_t u;
        memcpy(&u, &W[i], sizeof(u));
        u &= 0xffff0000u;
        memcpy(&W[i], &u, sizeof(u));
    }
    assert_ok(packed_init(&p, t->cpu, N, K, &e), &e);
    packed_set(t->cpu, NULL, &p, W, DTYPE_F32);
    assert_ok(device_alloc(t->device, &on.data, t->ops->bytes(N, K, dtype), "weights", &e), &e);
    t->ops->set(t->device, &on, W, DTYPE_F32, true);

    float *dx = PUT(t, x, M * K), *db = PUT(t, bias, N);
    for (int how = 0; how < 4; how++) {
        float *dy = PUT(t, how & 2 ? add : y, M * N);
        const struct product plain = {
            .y = y, .W = &p, .bias = how & 1 ? bias : NULL, .add = how & 2 ? add : NULL};
        const struct product device = {
            .y = dy, .W = &on, .bias = how & 1 ? db : NULL, .add = how & 2 ? dy : NULL};

        matmul_forward_all(t->cpu, NULL, x, &plain, 1, M);
        t->ops->forward(t->device, &device, dx, M);
        assert_device_has(t, dy, y, M * N, "y = x W'");
    }
    device_release(t->device, dx);
    device_release(t->device, db);
    device_release(t->device, on.data);
    packed_clear(&p);
    free(x);
    free(W);
    free(bias);
    free(add);
    free(y);
}

static void gradients_have_the_bits(const struct case_of *c)
{
    const struct on_device *t = c->t;
    const size_t M = c->M, N = c->N, K = c->K;
    float *dy = numbers(c->r, M * N, c->range), *W = numbers(c->r, N * K, c->range);
    float *x = numbers(c->r, M * K, c->range), *bias = numbers(c->r, N, c->range);
    float *on_dy = PUT(t, dy, M * N), *on_W = PUT(t, W, N * K), *on_x = PUT(t, x, M * K);
    float *on_dx = PUT(t, x, M * K), *on_bias = PUT(t, bias, N), *plain = garbage(M * K);
    float *on_plain = PUT(t, plain, M * K);

    matmul_dx(t->cpu, NULL, plain, dy, W, M, N, K);
    t->ops->dx(t->device, on_plain, on_dy, on_W, M, N, K, false);
    assert_device_has(t, on_plain, plain, M * K, "dx = dy W");
    t->ops->dx(t->device, on_dx, on_dy, on_W, M, N, K, true);
    t->ops->dw(t->device, on_W, on_dy, on_x, M, N, K);
    t->ops->bias_backward(t->device, on_bias, on_dy, M, N);
    matmul_dw(t->cpu, NULL, W, dy, x, M, N, K);
    assert_device_has(t, on_W, W, N * K, "dW += dy' x");
    for (size_t i = 0; i < M * K; i++)
        x[i] = x[i] + plain[i];
    assert_device_has(t, on_dx, x, M * K, "dx += dy W");
    bias_backward(t->cpu, bias, dy, M, N);
    assert_device_has(t, on_bias, bias, N, "dbias");
    device_release(t->device, on_dy);
    device_release(t->device, on_x);
    free(dy);
    free(W);
    free(x);
    free(bias);
    free(plain);
}

static void each_shape(const struct on_device *t, const size_t (*list)[3], size_t n,
                       enum range to)
{
    struct rng r = random_seeded(1);

    for (size_t i = 0; i < n; i++)
        for (enum range range = MODERATE; range < to; range++) {
            const struct case_of c = {t, list[i][0], list[i][1], list[i][2], range, &r};

            forward_has_the_bits(&c, DTYPE_F32);
            forward_has_the_bits(&c, DTYPE_BF16);
            gradients_have_the_bits(&c);
        }
}

static void products_have_the_bits_of_the_definition(void **state)
{
    const struct on_device *t = *state;

    each_shape(t, shapes, sizeof(shapes) / sizeof(shapes[0]), t->is_brief ? ANY_SIZE : RANGES);
}

static void larger_tiles_have_them_too(void **state)
{
    const struct on_device *t = *state;

    if (!t->is_brief)
        each_shape(t, tile_shapes, sizeof(tile_shapes) / sizeof(tile_shapes[0]), ANY_SIZE);
}

static void large_products_have_them_too(void **state)
{
    const struct on_device *t = *state;

    if (!t->is_small)
        each_shape(t, large_shapes, sizeof(large_shapes) / sizeof(large_shapes[0]), ANY_SIZE);
    if (t->is_brief)
        each_shape(t, brief_shapes, sizeof(brief_shapes) / sizeof(brief_shapes[0]), ANY_SIZE);
}

/* All arrays in one room, so that what is written beside them shows. */
static void arrays_may_begin_anywhere(void **state)
{
    const struct on_device *t = *state;
    const size_t M = 40, N = 72, K = 64;
    struct rng r = random_seeded(4);

    for (size_t shift = 0; shift < 4; shift++)
        for (int which = 0; which < 4; which++) { /* whose array it is that is shifted */
            const size_t x = which == 0 ? shift : 0, W = x + M * K + (which == 1 ? shift : 0);
            const size_t bias = W + N * K + (which == 2 ? shift : 0);
            const size_t y = bias + N + (which == 3 ? shift : 0), n = y + M * N + 4;
            float *want = numbers(&r, n, MODERATE), *got = PUT(t, want, n);
            struct packed p, on = {.data = got + W, .N = N, .K = K};
            struct err e;

            assert_ok(packed_init(&p, t->cpu, N, K, &e), &e);
            packed_set(t->cpu, NULL, &p, want + W, DTYPE_F32);
            const struct product plain = {
                .y = want + y, .W = &p, .bias = want + bias, .add = want + y};
            const struct product device = {
                .y = got + y, .W = &on, .bias = got + bias, .add = got + y};

            matmul_forward_all(t->cpu, NULL, want + x, &plain, 1, M);
            t->ops->forward(t->device, &device, got + x, M);
            matmul_dw(t->cpu, NULL, want + W, want + y, want + x, M, N, K);
            t->ops->dw(t->device, got + W, got + y, got + x, M, N, K);
            matmul_dx(t->cpu, NULL, want + x, want + y, want + W, M, N, K);
            t->ops->dx(t->device, got + x, got + y, got + W, M, N, K, false);
            assert_device_has(t, got, want, n, "a room of arrays");
            packed_clear(&p);
            free(want);
        }
}

static void gate_and_up_become_swiglu(void **state)
{
    const struct on_device *t = *state;
    const size_t M = 5, N = 70, K = 40;
    struct rng r = random_seeded(2);
    float *x = some_floats(&r, M * K, 1.0f), *W = some_floats(&r, 2 * N * K, 1.0f);
    float *y = garbage(3 * M * N), *on_x = PUT(t, x, M * K), *on_y = PUT(t, y, 3 * M * N);
    struct packed plain[2], on[2];
    struct err e;

    for (size_t i = 0; i < 2; i++) {
        assert_ok(packed_init(&plain[i], t->cpu, N, K, &e), &e);
        packed_set(t->cpu, NULL, &plain[i], W + i * N * K, DTYPE_F32);
        on[i] = (struct packed){.data = PUT(t, W + i * N * K, N * K), .N = N, .K = K};
    }
    const struct product p[2] = {{.y = y, .W = &plain[0]}, {.y = y + M * N, .W = &plain[1]}};
    const struct product q[2] = {{.y = on_y, .W = &on[0]}, {.y = on_y + M * N, .W = &on[1]}};

    matmul_swiglu(t->cpu, NULL, y + 2 * M * N, x, p, M);
    const struct kernels *there;
    assert_ok(device_kernels(&there, t->device, NUMERICS_F32_1, &e), &e);
    matmul_swiglu(there, NULL, on_y + 2 * M * N, on_x, q, M);
    assert_device_has(t, on_y, y, 3 * M * N, "gate, up and swiglu");
    for (size_t i = 0; i < 2; i++) {
        packed_clear(&plain[i]);
        device_release(t->device, on[i].data);
    }
    device_release(t->device, on_x);
    free(x);
    free(W);
    free(y);
}

/* All bit patterns of 16 bits as weights of each kind, from the host and from the device, kept as
 * each kind that can hold them. */
static void weights_are_widened_exactly(void **state)
{
    const struct on_device *t = *state;
    const size_t N = 256, K = 256;
    static uint16_t narrow[65536];
    static float want[65536];
    int32_t ids[256];

    for (size_t i = 0; i < 65536; i++)
        narrow[i] = (uint16_t)i;
    for (size_t i = 0; i < N; i++)
        ids[i] = (int32_t)(N - 1 - i);
    for (int how = 0; how < 8; how++) {
        const enum dtype dtype = how & 1 ? DTYPE_BF16 : DTYPE_F16;
        struct packed p = {.N = N, .K = K};
        void *on = PUT(t, narrow, 65536), *on_ids = PUT(t, ids, N), *wide = PUT(t, want, 65536);
        struct err e;

        p.dtype = how & 4 ? t->ops->keeps(dtype) : DTYPE_F32;
        assert_ok(device_alloc(t->device, &p.data, t->ops->bytes(N, K, p.dtype), "", &e), &e);
        t->ops->set(t->device, &p, how & 2 ? narrow : on, dtype, how & 2);
        t->ops->embed_packed(t->device, wide, &p, on_ids, N, K);
        for (size_t i = 0; i < N; i++)
            dtype_widen(want + i * K, (const uint8_t *)(narrow + (N - 1 - i) * K), dtype, K);
        assert_device_has(t, wide, want, 65536, dtype_name(dtype));
        device_release(t->device, p.data);
        device_release(t->device, on);
        device_release(t->device, on_ids);
    }
    assert_int_equal(t->ops->bytes(SIZE_MAX / 8, 4, DTYPE_F32), SIZE_MAX);
}

int main(int argc, char **argv)
{
    struct on_device t = on_device_open(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(products_have_the_bits_of_the_definition, &t),
        cmocka_unit_test_prestate(larger_tiles_have_them_too, &t),
        cmocka_unit_test_prestate(large_products_have_them_too, &t),
        cmocka_unit_test_prestate(arrays_may_begin_anywhere, &t),
        cmocka_unit_test_prestate(gate_and_up_become_swiglu, &t),
        cmocka_unit_test_prestate(weights_are_widened_exactly, &t),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    device_close(&t.device);
    return failed;
}
