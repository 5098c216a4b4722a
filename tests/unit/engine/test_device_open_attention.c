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
    static const struct device_run runs[] = {{0, 3, 0, 0}, {3, 130, 0, 0}, {133, 17, 0, 0}};
    enum { N_RUNS = 3, ROWS = 150 };
    struct rng r = random_seeded(1);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], ROWS);
        struct device_run *on_runs = put(runs, sizeof(runs));
        struct open_attention a = call_of(&b, on_runs, N_RUNS, 130, 130);
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
                                        .max_n = 130,
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

/* ---- pages ----------------------------------------------------------------------------------- */

/* Pages of two layers, of which the second is looked at; what nobody filed is NaN. */
struct paged {
    struct numbers room;
    uint16_t *const *on_table; /* owned, the device's */
    size_t page_at;
};

static size_t pages_of(size_t len)
{
    return (len + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
}

/* Keys and values of the batch: n sequences of these lengths, one after the other, without the newest of
 * each that `lacks`. The last page of the last one comes first in memory. */
static struct paged paged_of(const struct batch *b, const size_t *len, size_t n, size_t lacks)
{
    const size_t D = b->d.D, values = b->d.G * ATTENTION_PAGE * D, page = 4 * values;
    struct paged p = {.page_at = 2 * values};
    size_t pages = 0, row = 0, at;
    uint16_t **table;

    for (size_t i = 0; i < n; i++)
        pages += pages_of(len[i]);
    p.room = room_of(pages * page);
    table = xcalloc(pages, sizeof(table[0]));
    at = pages;
    for (size_t i = 0; i < n; i++) {
        for (size_t t = 0; t < len[i]; t++, row++)
            for (size_t g = 0; t + lacks < len[i] && g < b->d.G; g++)
                for (size_t j = 0; j < D; j++) {
                    const size_t to = (at - 1 - t / ATTENTION_PAGE) * page + p.page_at +
                                      (g * ATTENTION_PAGE + t % ATTENTION_PAGE) * D + j;
                    p.room.x[to] = b->k.x[row * b->kv_stride + g * D + j];
                    p.room.x[to + values] = b->v.x[row * b->kv_stride + g * D + j];
                }
        at -= pages_of(len[i]);
    }
    numbers_put(&p.room);
    for (size_t j = 0; j < pages; j++)
        table[j] = p.room.on + (pages - 1 - j) * page;
    p.on_table = put(table, pages * sizeof(table[0]));
    free(table);
    return p;
}

static void paged_clear(struct paged *p)
{
    device_release(device, (void *)p->on_table);
    numbers_clear(&p->room);
}

/* A sequence in two calls. */
static void pages_are_near_the_definition(void **state)
{
    enum { FIRST = 61 };
    const size_t len = 150;
    const struct device_run all = {0, (uint32_t)len, 0, 0},
                            runs[] = {{0, FIRST, 0, 0},
                                      {FIRST, (uint32_t)len - FIRST, FIRST, 0}};
    struct rng r = random_seeded(2);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], len);
        struct paged p = paged_of(&b, &len, 1, 0);
        define(&b, &all, 1);

        for (size_t j = 0; j < 2; j++) {
            struct device_run *on_run = put(&runs[j], sizeof(runs[j]));
            struct open_attention a =
                call_of(&b, on_run, 1, runs[j].n, runs[j].first + runs[j].n);
            a.k = a.v = NULL;
            a.pages = p.on_table;
            a.page_at = p.page_at;
            open_attention_forward(device, &a);
            device_release(device, on_run);
        }

        assert_forward(&b);
        paged_clear(&p);
        batch_clear(&b);
    }
}

/* ---- new rows -------------------------------------------------------------------------------- */

enum { SEQUENCES = 5 };
struct new_rows {
    size_t len[SEQUENCES], n;
};
/* Ends of tiles and of pages; the last one is cut into parts, of which one or more have no pages. */
static const struct new_rows new_rows[] = {
    {{1, 64, 130}, 3}, {{16, 33, 65, 1, 5}, 5}, {{300}, 1}};
/* Pointers are read 32 at a time: a part of more pages than that, for the smallest shape only. */
static const struct new_rows long_rows = {{9000}, 1};
static const struct shape new_shapes[] = {
    {1, 1, 32}, {9, 1, 32}, {6, 2, 64}, {7, 1, 128}, {12, 1, 128}};

static size_t rows_of(const struct new_rows *c)
{
    size_t rows = 0;

    for (size_t i = 0; i < c->n; i++)
        rows += c->len[i];
    return rows;
}

static size_t cases_of(size_t shape)
{
    return sizeof(new_rows) / sizeof(new_rows[0]) + (shape == 0);
}

static const struct new_rows *case_of(size_t j)
{
    return j < sizeof(new_rows) / sizeof(new_rows[0]) ? &new_rows[j] : &long_rows;
}

/* The batch's rows as they come from the products. */
static uint16_t *products_of(const struct batch *b)
{
    const size_t Q = b->q_stride, K = b->d.G * b->d.D, width = Q + 2 * K;
    struct numbers x = room_of(b->rows * width);

    for (size_t i = 0; i < b->rows; i++) {
        memcpy(x.x + i * width, b->q.x + i * Q, Q * sizeof(float));
        memcpy(x.x + i * width + Q, b->k.x + i * b->kv_stride, K * sizeof(float));
        memcpy(x.x + i * width + Q + K, b->v.x + i * b->kv_stride, K * sizeof(float));
    }
    numbers_put(&x);
    free(x.x);
    return x.on;
}

/* The pages of sequences, all filed but for the newest position, must now have that too. */
static void assert_filed(const struct batch *b, const struct new_rows *c, struct paged *p)
{
    struct paged want = paged_of(b, c->len, c->n, 0);

    numbers_get(&p->room);
    assert_memory_equal(p->room.x, want.room.x, p->room.n * sizeof(float));
    paged_clear(&want);
}

/* Rows that nobody wants, behind those of the batch. What their runs say besides is somebody's first page,
 * which must stay as it is. */
enum { LEFT_OUT = 1 };
static const struct device_run left_out = {0, 0, 0, 0};

static void assert_left_out(const struct batch *b, const uint16_t *out)
{
    for (size_t i = 0; i < LEFT_OUT * b->q_stride; i++)
        assert_int_equal(out[b->rows * b->q_stride + i], 0);
}

/* The newest row of each sequence, twice, which must give the same bits, beside rows that nobody wants. Nothing
 * is rotated: cosines are 1. Returns whether it was done in parts. */
static bool attend_new_rows(struct batch *b, const struct new_rows *c)
{
    const size_t bytes = (b->rows + LEFT_OUT) * b->q_stride * sizeof(uint16_t);
    const size_t n_partial = OPEN_BLOCKS * (b->d.H / b->d.G) * (b->d.D + 4);
    struct paged p = paged_of(b, c->len, c->n, 1);
    struct device_run runs[SEQUENCES + LEFT_OUT];
    struct open_attention a = call_of(b, NULL, c->n + LEFT_OUT, 1, 0);
    uint16_t *room = xcalloc(bytes, 1);
    uint16_t *got[2];
    uint32_t row = 0, pages = 0;
    float *partial = garbage(n_partial), *one, *zero;

    for (size_t i = 0; i < c->n; i++) {
        row += (uint32_t)c->len[i];
        runs[i] = (struct device_run){row - 1, 1, (uint32_t)c->len[i] - 1, pages};
        pages += (uint32_t)pages_of(c->len[i]);
        a.max_len = c->len[i] > a.max_len ? c->len[i] : a.max_len;
    }
    for (uint32_t i = 0; i < LEFT_OUT; i++) {
        runs[c->n + i] = left_out;
        runs[c->n + i].row = (uint32_t)b->rows + i;
    }
    memset(room, 0xff, bytes); /* NaN */
    a.out = put(room, bytes);
    one = xcalloc(a.max_len * b->d.D / 2, sizeof(float));
    zero = zeros(a.max_len * b->d.D / 2);
    for (size_t i = 0; i < a.max_len * b->d.D / 2; i++)
        one[i] = 1.0f;
    a.q = a.k = a.v = NULL;
    a.lse = NULL;
    a.pages = p.on_table;
    a.page_at = p.page_at;
    a.runs = put(runs, a.n_runs * sizeof(runs[0]));
    a.partial = put(partial, n_partial * sizeof(float));
    struct open_heads h = {.x = products_of(b),
                           .cos = put(one, a.max_len * b->d.D / 2 * sizeof(float)),
                           .sin = put(zero, a.max_len * b->d.D / 2 * sizeof(float)),
                           .runs = a.runs,
                           .n_runs = a.n_runs,
                           .max_n = 1,
                           .pages = a.pages,
                           .page_at = a.page_at,
                           .H = a.H,
                           .G = a.G,
                           .D = a.D};
    for (size_t i = 0; i < 2; i++) {
        got[i] = xcalloc(bytes, 1);
        open_attention_decode(device, &a, &h);
        device_get(device, got[i], a.out, bytes);
    }
    assert_memory_equal(got[0], got[1], bytes);
    assert_left_out(b, got[0]);
    assert_filed(b, c, &p);
    f32_from_bf16_row(kernels_best(), b->out.x, got[0], b->out.n);
    device_release(device, a.out);
    free(room);
    device_release(device, (void *)(uintptr_t)a.runs);
    device_release(device, a.partial);
    device_release(device, (void *)(uintptr_t)h.x);
    device_release(device, (void *)(uintptr_t)h.cos);
    device_release(device, (void *)(uintptr_t)h.sin);
    free(one);
    free(zero);
    free(got[0]);
    free(got[1]);
    free(partial);
    paged_clear(&p);
    return open_attention_parts(device, &a) > 1;
}

static void new_rows_are_near_the_definition(void **state)
{
    struct rng r = random_seeded(3);
    bool is_cut[2] = {false, false};

    (void)state;
    for (size_t i = 0; i < sizeof(new_shapes) / sizeof(new_shapes[0]); i++)
        for (size_t j = 0; j < cases_of(i); j++) {
            const struct new_rows *c = case_of(j);
            struct batch b = batch_of(&r, new_shapes[i], rows_of(c));
            size_t row = 0;

            is_cut[attend_new_rows(&b, c)] = true;
            for (size_t k = 0; k < c->n; k++) {
                const size_t first = row, at = (row += c->len[k]) - 1;
                for (size_t h = 0; h < b.d.H; h++)
                    define_row(&b, at, first, c->len[k], h);
                assert_near("a new row", b.out.x + at * b.q_stride,
                            b.want_out + at * b.q_stride, b.q_stride);
            }
            batch_clear(&b);
        }
    assert_true(is_cut[0] && is_cut[1]);
}

/* With queries of zero every position has the same weight, and the sum of values that are integers is
 * exact: each position counts, once. */
static void new_rows_are_the_mean_of_all_positions(void **state)
{
    struct rng r = random_seeded(4);

    (void)state;
    for (size_t i = 0; i < sizeof(new_shapes) / sizeof(new_shapes[0]); i++)
        for (size_t j = 0; j < cases_of(i); j++) {
            const struct new_rows *c = case_of(j);
            struct batch b = batch_of(&r, new_shapes[i], rows_of(c));
            size_t first = 0;

            memset(b.q.x, 0, b.q.n * sizeof(b.q.x[0]));
            for (size_t k = 0; k < b.v.n; k++)
                b.v.x[k] = (float)rng_below(&r, 256);
            numbers_put(&b.q);
            (void)attend_new_rows(&b, c);
            for (size_t k = 0; k < c->n; first += c->len[k++])
                for (size_t at = 0; at < b.q_stride; at++) {
                    const size_t g = at / b.d.D / (b.d.H / b.d.G), row = first + c->len[k] - 1;
                    float sum = 0.0f, mean;
                    uint16_t narrow;

                    for (size_t t = first; t <= row; t++)
                        sum += b.v.x[t * b.kv_stride + g * b.d.D + at % b.d.D];
                    mean = sum / (float)c->len[k];
                    bf16_from_f32_row(kernels_best(), &narrow, &mean, 1);
                    f32_from_bf16_row(kernels_best(), &mean, &narrow, 1);
                    if (b.out.x[row * b.q_stride + at] != mean)
                        fail_msg("shape %zu, case %zu, sequence %zu: channel %zu is %g, not %g",
                                 i, j, k, at, b.out.x[row * b.q_stride + at], mean);
                }
            batch_clear(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_directions_are_near_their_definition),
        cmocka_unit_test(pages_are_near_the_definition),
        cmocka_unit_test(new_rows_are_near_the_definition),
        cmocka_unit_test(new_rows_are_the_mean_of_all_positions),
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
