/*
 * Flash attention of class open-cuda against its definition in binary64, on the bf16 numbers that it
 * is given.
 */
#include "engine/cuda/open.h"

#include <math.h>

#include "numerics.h"

/* The device at hand; without one the program exits with 77. */
static struct device *device;

struct shape {
    size_t H, G, D;
};
static const struct shape shapes[] = {{2, 1, 32}, {2, 1, 64}, {1, 1, 128}};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* Weights, their gradients and results are rounded to bf16, 2^-9 of each at most, and the roundings
 * are as good as independent: the root mean square over all elements stays well below 2^-7. */
static const double TOLERANCE = 0x1p-7;

/* bf16 numbers, on the host as f32 and on the device. */
struct numbers {
    size_t n;
    float *x;     /* owned */
    uint16_t *on; /* owned, the device's */
};

static void *put(const void *from, size_t bytes)
{
    void *to;
    struct err e;

    if (device_alloc(device, &to, bytes, "a test", &e))
        fail_msg("%s", e.text);
    device_put(device, to, from, bytes);
    return to;
}

static void numbers_put(struct numbers *a)
{
    uint16_t *narrow = xcalloc(a->n, sizeof(narrow[0]));

    bf16_from_f32_row(kernels_best(), narrow, a->x, a->n);
    f32_from_bf16_row(kernels_best(), a->x, narrow, a->n);
    device_release(device, a->on);
    a->on = put(narrow, a->n * sizeof(narrow[0]));
    free(narrow);
}

static struct numbers numbers_of(struct rng *r, size_t n, float scale)
{
    struct numbers a = {n, some_floats(r, n, scale), NULL};

    numbers_put(&a);
    return a;
}

/* For results: NaN until they are assigned. */
static struct numbers room_of(size_t n)
{
    struct numbers a = {n, garbage(n), NULL};

    numbers_put(&a);
    return a;
}

static void numbers_get(struct numbers *a)
{
    uint16_t *narrow = xcalloc(a->n, sizeof(narrow[0]));
    struct err e;

    device_get(device, narrow, a->on, a->n * sizeof(narrow[0]));
    if (device_wait(device, &e))
        fail_msg("%s", e.text);
    f32_from_bf16_row(kernels_best(), a->x, narrow, a->n);
    free(narrow);
}

static void numbers_clear(struct numbers *a)
{
    free(a->x);
    device_release(device, a->on);
}

static void assert_near(const char *what, const float *got, const double *want, size_t n)
{
    double error = 0.0, size = 0.0;

    for (size_t i = 0; i < n; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(sqrt(error) <= TOLERANCE * sqrt(size)))
        fail_msg("%s is off by %g of its size", what, sqrt(error / size));
}

struct batch {
    struct shape d;
    size_t rows, q_stride, kv_stride;
    float scale;
    struct numbers q, k, v, dout, out, dq, dk, dv;
    float *lse;                                                /* owned, the device's */
    double *want_out, *want_lse, *want_dq, *want_dk, *want_dv; /* owned */
};

static double *doubles(size_t n)
{
    return xcalloc(n, sizeof(double));
}

static struct batch batch_of(struct rng *r, struct shape d, size_t rows)
{
    struct batch b = {.d = d, .rows = rows, .q_stride = d.H * d.D, .kv_stride = d.G * d.D + 8};
    const size_t q = rows * b.q_stride, kv = rows * b.kv_stride;
    float *lse = garbage(rows * d.H);

    b.scale = attention_scale(d.D);
    b.q = numbers_of(r, q, 3.0f);
    b.k = numbers_of(r, kv, 3.0f);
    b.v = numbers_of(r, kv, 1.0f);
    b.dout = numbers_of(r, q, 1.0f);
    b.out = room_of(q);
    b.dq = room_of(q);
    b.dk = room_of(kv);
    b.dv = room_of(kv);
    b.lse = put(lse, rows * d.H * sizeof(float));
    b.want_out = doubles(q);
    b.want_lse = doubles(rows * d.H);
    b.want_dq = doubles(q);
    b.want_dk = doubles(kv);
    b.want_dv = doubles(kv);
    free(lse);
    return b;
}

static void batch_clear(struct batch *b)
{
    struct numbers *all[] = {&b->q, &b->k, &b->v, &b->dout, &b->out, &b->dq, &b->dk, &b->dv};
    double *want[] = {b->want_out, b->want_lse, b->want_dq, b->want_dk, b->want_dv};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        numbers_clear(all[i]);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        free(want[i]);
    device_release(device, b->lse);
}

static double product(const float *a, const float *b, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* Both directions of one row of one head; `kv` is the row of the sequence's first key. */
static void define_row(struct batch *b, size_t row, size_t kv, size_t keys, size_t h)
{
    const size_t D = b->d.D, g = h / (b->d.H / b->d.G) * D, at = row * b->q_stride + h * D;
    double *p = doubles(keys), m = -INFINITY, l = 0.0, D_row = 0.0;

    for (size_t j = 0; j < keys; j++) {
        p[j] = product(b->q.x + at, b->k.x + (kv + j) * b->kv_stride + g, D) * b->scale;
        m = p[j] > m ? p[j] : m;
    }
    for (size_t j = 0; j < keys; j++)
        l += p[j] = exp(p[j] - m);
    b->want_lse[row * b->d.H + h] = m + log(l);
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < D; i++)
            b->want_out[at + i] += p[j] / l * b->v.x[(kv + j) * b->kv_stride + g + i];
    for (size_t i = 0; i < D; i++)
        D_row += b->want_out[at + i] * b->dout.x[at + i];
    for (size_t j = 0; j < keys; j++) {
        const size_t key = (kv + j) * b->kv_stride + g;
        const double ds = p[j] / l * (product(b->dout.x + at, b->v.x + key, D) - D_row);
        for (size_t i = 0; i < D; i++) {
            b->want_dq[at + i] += ds * b->scale * b->k.x[key + i];
            b->want_dk[key + i] += ds * b->scale * b->q.x[at + i];
            b->want_dv[key + i] += p[j] / l * b->dout.x[at + i];
        }
    }
    free(p);
}

static void define(struct batch *b, const struct device_run *runs, size_t n_runs)
{
    for (size_t i = 0; i < n_runs; i++)
        for (size_t t = 0; t < runs[i].n; t++)
            for (size_t h = 0; h < b->d.H; h++)
                define_row(b, runs[i].row + t, runs[i].row, t + 1, h);
}

static struct open_attention call_of(const struct batch *b, const struct device_run *on_runs,
                                     size_t n_runs, size_t max_n, size_t max_len)
{
    return (struct open_attention){.out = b->out.on,
                                   .lse = b->lse,
                                   .q = b->q.on,
                                   .k = b->k.on,
                                   .v = b->v.on,
                                   .q_stride = b->q_stride,
                                   .kv_stride = b->kv_stride,
                                   .out_stride = b->q_stride,
                                   .runs = on_runs,
                                   .n_runs = n_runs,
                                   .rows = b->rows,
                                   .max_n = max_n,
                                   .max_len = max_len,
                                   .H = b->d.H,
                                   .G = b->d.G,
                                   .D = b->d.D,
                                   .scale = b->scale};
}

static void assert_forward(struct batch *b)
{
    const size_t n = b->rows * b->d.H;
    float *lse = garbage(n);

    numbers_get(&b->out);
    device_get(device, lse, b->lse, n * sizeof(float));
    assert_near("out", b->out.x, b->want_out, b->rows * b->q_stride);
    assert_near("lse", lse, b->want_lse, n);
    free(lse);
}

static void both_directions_are_near_their_definition(void **state)
{
    static const struct device_run runs[] = {{0, 3, 0, 0}, {3, 140, 0, 0}, {143, 64, 0, 0}};
    enum { N_RUNS = 3, ROWS = 207 };
    struct rng r = random_seeded(1);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], ROWS);
        struct device_run *on_runs = put(runs, sizeof(runs));
        struct open_attention a = call_of(&b, on_runs, N_RUNS, 140, 140);
        struct open_attention_grad g = {.dq = b.dq.on,
                                        .dk = b.dk.on,
                                        .dv = b.dv.on,
                                        .dout = b.dout.on,
                                        .out = b.out.on,
                                        .q = b.q.on,
                                        .k = b.k.on,
                                        .v = b.v.on,
                                        .lse = b.lse,
                                        .q_stride = b.q_stride,
                                        .kv_stride = b.kv_stride,
                                        .out_stride = b.q_stride,
                                        .runs = on_runs,
                                        .n_runs = N_RUNS,
                                        .rows = ROWS,
                                        .max_n = 140,
                                        .H = b.d.H,
                                        .G = b.d.G,
                                        .D = b.d.D,
                                        .scale = b.scale};
        define(&b, runs, N_RUNS);

        open_attention_forward(device, &a);
        open_attention_backward(device, &g);

        assert_forward(&b);
        numbers_get(&b.dq);
        numbers_get(&b.dk);
        numbers_get(&b.dv);
        assert_near("dq", b.dq.x, b.want_dq, ROWS * b.q_stride);
        for (size_t t = 0; t < ROWS; t++) /* nobody assigns what lies between the rows */
            for (size_t j = b.d.G * b.d.D; j < b.kv_stride; j++)
                b.dk.x[t * b.kv_stride + j] = b.dv.x[t * b.kv_stride + j] = 0.0f;
        assert_near("dk", b.dk.x, b.want_dk, ROWS * b.kv_stride);
        assert_near("dv", b.dv.x, b.want_dv, ROWS * b.kv_stride);
        device_release(device, on_runs);
        batch_clear(&b);
    }
}

/* A sequence in pages that are NaN where nothing was filed, in two calls. */
static void pages_are_near_the_definition(void **state)
{
    enum { LEN = 150, FIRST = 61, PAGES = 3 };
    static const struct device_run all = {0, LEN, 0, 0},
                                   runs[] = {{0, FIRST, 0, 0}, {FIRST, LEN - FIRST, FIRST, 0}};
    struct rng r = random_seeded(2);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], LEN);
        const size_t D = b.d.D, values = b.d.G * ATTENTION_PAGE * D, page = 2 * values;
        struct numbers room = room_of(PAGES * page);
        uint16_t *table[PAGES], *const *on_table;
        define(&b, &all, 1);
        for (size_t t = 0; t < LEN; t++)
            for (size_t g = 0; g < b.d.G; g++)
                for (size_t j = 0; j < D; j++) {
                    size_t at = (PAGES - 1 - t / ATTENTION_PAGE) * page +
                                (g * ATTENTION_PAGE + t % ATTENTION_PAGE) * D + j;
                    room.x[at] = b.k.x[t * b.kv_stride + g * D + j];
                    room.x[at + values] = b.v.x[t * b.kv_stride + g * D + j];
                }
        numbers_put(&room);
        for (size_t j = 0; j < PAGES; j++)
            table[j] = room.on + (PAGES - 1 - j) * page;
        on_table = put(table, sizeof(table));

        for (size_t j = 0; j < 2; j++) {
            struct device_run *on_run = put(&runs[j], sizeof(runs[j]));
            struct open_attention a =
                call_of(&b, on_run, 1, runs[j].n, runs[j].first + runs[j].n);
            a.k = a.v = NULL;
            a.pages = on_table;
            open_attention_forward(device, &a);
            device_release(device, on_run);
        }

        assert_forward(&b);
        device_release(device, (void *)on_table);
        numbers_clear(&room);
        batch_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_directions_are_near_their_definition),
        cmocka_unit_test(pages_are_near_the_definition),
    };
    struct err e;
    int failed;

    if (device_count() == 0)
        return 77;
    if (device_open(&device, "cuda", &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    failed = cmocka_run_group_tests_name("engine/device_open_attention", tests, NULL, NULL);
    device_close(&device);
    return failed;
}
