/*
 * Attention of a GPU, or of the emulated one, against the CPU's, bit for bit.
 */
#include "engine/device_ops.h"

#include <math.h>

#include "numerics.h"

/* The device at hand and its kernels of class f32-1; without one the program exits with 77. */
static struct device *device;
static const struct kernels *kernels;

struct shape {
    size_t H, G, D;
    size_t pad; /* floats that rows lie further apart than they hold */
    float q, v; /* the largest of q and k, and of v */
};

/* Weights beside each other, weights most of which the exponential cuts to +0, and values so small
 * that products underflow to zeros of either sign. */
static const struct shape shapes[] = {
    {4, 2, 16, 0, 3.0f, 1.0f},  {2, 2, 7, 3, 3.0f, 1.0f},       {3, 1, 64, 0, 3.0f, 1.0f},
    {2, 1, 32, 0, 30.0f, 1.0f}, {1, 1, 128, 4, 3.0f, 1.0f},     {9, 1, 20, 1, 3.0f, 0x1p-140f},
    {5, 1, 9, 1, 30.0f, 1.0f},  {1, 1, 96, 0, 3.0f, 0x1p-140f},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* Rows of a batch, on the host and on the device. */
struct batch {
    struct shape d;
    struct attention_shape s;
    size_t rows;
    float *q, *k, *v, *dout, *out, *lse;         /* owned */
    float *on_q, *on_k, *on_v, *on_out, *on_lse; /* owned, the device's */
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

static void wait(void)
{
    struct err e;

    if (device_wait(device, &e))
        fail_msg("%s", e.text);
}

static void assert_on_device(const float *on, const float *want, size_t n)
{
    float *got = garbage(n);

    device_get(device, got, on, n * sizeof(float));
    wait();
    assert_same_bits(got, want, n);
    free(got);
}

static struct batch batch_of(struct rng *r, struct shape d, size_t rows)
{
    struct batch b = {.d = d, .rows = rows};
    size_t q = d.H * d.D + d.pad, kv = d.G * d.D + 2 * d.pad;

    b.s = (struct attention_shape){d.H, d.G, d.D, q, q, kv, kv, attention_scale(d.D)};
    b.q = some_floats(r, rows * q, d.q);
    b.k = some_floats(r, rows * kv, d.q);
    b.v = some_floats(r, rows * kv, d.v);
    b.dout = some_floats(r, rows * q, 1.0f);
    b.out = zeros(rows * q);
    b.lse = zeros(rows * d.H);
    b.on_q = put(b.q, rows * q * sizeof(float));
    b.on_k = put(b.k, rows * kv * sizeof(float));
    b.on_v = put(b.v, rows * kv * sizeof(float));
    b.on_out = put(b.out, rows * q * sizeof(float));
    b.on_lse = put(b.lse, rows * d.H * sizeof(float));
    return b;
}

static void batch_clear(struct batch *b)
{
    float *host[] = {b->q, b->k, b->v, b->dout, b->out, b->lse};
    float *on[] = {b->on_q, b->on_k, b->on_v, b->on_out, b->on_lse};

    for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++)
        free(host[i]);
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++)
        device_release(device, on[i]);
}

/* One sequence of positions first .. first + n - 1 by the CPU; its rows of k and v lie from row `kv`
 * of the batch on. */
static void compute(struct batch *b, size_t row, size_t kv, size_t first, size_t n)
{
    struct attention_run run = {.out = b->out + row * b->s.out_stride,
                                .lse = b->lse + row * b->s.H,
                                .q = b->q + row * b->s.q_stride,
                                .k = b->k + kv * b->s.k_stride,
                                .v = b->v + kv * b->s.v_stride,
                                .first = first,
                                .n = n};

    attention_forward(kernels_best(), NULL, &run, 1, &b->s);
}

static struct device_attention call_of(const struct batch *b, const struct device_run *runs,
                                       size_t n_runs)
{
    struct device_attention a = {.out = b->on_out,
                                 .lse = b->on_lse,
                                 .q = b->on_q,
                                 .k = b->on_k,
                                 .v = b->on_v,
                                 .n_runs = n_runs,
                                 .rows = b->rows,
                                 .shape = &b->s};

    for (size_t i = 0; i < n_runs; i++) {
        a.max_n = runs[i].n > a.max_n ? runs[i].n : a.max_n;
        if (runs[i].first + runs[i].n > a.max_len)
            a.max_len = runs[i].first + runs[i].n;
    }
    return a;
}

/* Queues the call. */
static void attend(struct device_attention a, const struct device_run *runs)
{
    void *on_runs = put(runs, a.n_runs * sizeof(runs[0]));

    a.runs = on_runs;
    kernels->ops->attention(device, &a);
    device_release(device, on_runs);
}

static void sequences_side_by_side_have_the_bits_of_the_cpu(void **state)
{
    const struct device_run runs[] = {
        {0, 5, 0, 0}, {5, 70, 0, 0}, {75, 1, 0, 0}, {76, 266, 0, 0}};
    struct rng r = random_seeded(1);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], 342);
        for (size_t j = 0; j < 4; j++)
            compute(&b, runs[j].row, runs[j].row, 0, runs[j].n);

        attend(call_of(&b, runs, 4), runs);

        assert_on_device(b.on_out, b.out, b.rows * b.s.out_stride);
        assert_on_device(b.on_lse, b.lse, b.rows * b.s.H);
        batch_clear(&b);
    }
}

/* A product with a masked key, even times zero, would make these rows NaN. */
static void later_keys_are_not_entered(void **state)
{
    const struct device_run run = {0, 20, 0, 0};
    struct rng r = random_seeded(2);
    struct batch b = batch_of(&r, shapes[0], 20);
    const size_t kv = b.s.k_stride;

    (void)state;
    compute(&b, 0, 0, 0, 20);
    for (size_t i = 0; i < kv; i++)
        b.k[19 * kv + i] = b.v[19 * kv + i] = NAN;
    device_put(device, b.on_k, b.k, 20 * kv * sizeof(float));
    device_put(device, b.on_v, b.v, 20 * kv * sizeof(float));

    attend(call_of(&b, &run, 1), &run);

    assert_on_device(b.on_out, b.out, 19 * b.s.out_stride);
    batch_clear(&b);
}

/* The second key is 88.4 below the first, the third 86.3: each alone has a channel of the values. */
static void weights_below_the_cut_are_dropped(void **state)
{
    static const float q[6] = {1, 0, 1, 0, 1, 0}, k[6] = {0, 0, -125, 0, -122, 0},
                       v[6] = {0, 0, 1, 0, 0, 1};
    const struct device_run run = {0, 3, 0, 0};
    struct rng r = random_seeded(6);
    struct batch b = batch_of(&r, (struct shape){1, 1, 2, 0, 1.0f, 1.0f}, 3);

    (void)state;
    memcpy(b.q, q, sizeof(q));
    memcpy(b.k, k, sizeof(k));
    memcpy(b.v, v, sizeof(v));
    device_put(device, b.on_q, q, sizeof(q));
    device_put(device, b.on_k, k, sizeof(k));
    device_put(device, b.on_v, v, sizeof(v));
    compute(&b, 0, 0, 0, 3);
    assert_true(b.out[4] == 0.0f && b.out[5] > 0.0f);

    attend(call_of(&b, &run, 1), &run);

    assert_on_device(b.on_out, b.out, 6);
    batch_clear(&b);
}

/* Pages of one sequence after the other, each in descending order, in a room of NaN. */
struct paged {
    size_t per;         /* pages of a sequence */
    size_t layer, page; /* floats */
    float *room;        /* owned, the device's */
    float **table;      /* owned, the device's (n_seqs, per) */
};

static struct paged paged_of(const struct batch *b, size_t n_seqs, size_t len)
{
    struct paged p = {.per = (len + ATTENTION_PAGE - 1) / ATTENTION_PAGE,
                      .layer = kernels->ops->page_floats(&b->s)};
    const size_t n = n_seqs * p.per;
    float **at = xcalloc(n, sizeof(at[0]));

    p.page = 2 * p.layer;
    float *nan = garbage(n * p.page);
    p.room = put(nan, n * p.page * sizeof(float));
    for (size_t i = 0; i < n; i++)
        at[i] = p.room + (n - 1 - i) * p.page;
    p.table = put(at, n * sizeof(at[0]));
    free(nan);
    free(at);
    return p;
}

static void paged_clear(struct paged *p)
{
    device_release(device, p->room);
    device_release(device, p->table);
}

/* Three sequences that go on by steps of their own, in calls together. */
static void pages_and_steps_change_no_bit(void **state)
{
    enum { SEQS = 3, LEN = 290 };
    static const uint32_t steps[SEQS][6] = {
        {1, 63, 150, 1, 1, 74}, {200, 55, 1, 1, 1, 32}, {3, 1, 280, 1, 4, 1}};
    struct rng r = random_seeded(3);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch all = batch_of(&r, shapes[i], SEQS * LEN);
        struct paged p = paged_of(&all, SEQS, LEN);
        uint32_t at[SEQS] = {0};
        for (size_t j = 0; j < SEQS; j++)
            compute(&all, j * LEN, j * LEN, 0, LEN);

        for (size_t step = 0; step < 6; step++) {
            struct device_run runs[SEQS];
            for (uint32_t j = 0; j < SEQS; j++) {
                runs[j] = (struct device_run){j * LEN + at[j], steps[j][step], at[j],
                                              j * (uint32_t)p.per};
                at[j] += steps[j][step];
            }
            struct device_attention a = call_of(&all, runs, SEQS);
            a.pages = (float *const *)p.table;
            a.page_at = p.layer;
            attend(a, runs);
        }

        assert_on_device(all.on_out, all.out, all.rows * all.s.out_stride);
        assert_on_device(all.on_lse, all.lse, all.rows * all.s.H);
        paged_clear(&p);
        batch_clear(&all);
    }
}

/* The last position of many sequences, more than fill any device, and of few: the sequences are the
 * same but for their last query. */
static void decode(size_t n_runs, struct shape d, size_t len)
{
    struct rng r = random_seeded(4);
    struct batch past = batch_of(&r, d, len), last = batch_of(&r, d, n_runs);
    struct paged p = paged_of(&past, n_runs, len);
    struct device_run *runs = xcalloc(n_runs, sizeof(runs[0]));
    const struct device_run run = {0, (uint32_t)len, 0, (uint32_t)((n_runs - 1) * p.per)};
    struct device_attention a = call_of(&past, &run, 1);
    const size_t kv = past.s.k_stride, end = len - 1;

    a.pages = (float *const *)p.table;
    attend(a, &run);
    for (size_t i = 1; i < n_runs; i++) /* the last sequence's pages come first */
        device_copy(device, p.room + i * p.per * p.page, p.room,
                    p.per * p.page * sizeof(float));
    for (size_t i = 0; i < n_runs; i++) {
        runs[i] = (struct device_run){(uint32_t)i, 1, (uint32_t)end, (uint32_t)(i * p.per)};
        memcpy(last.k + i * kv, past.k + end * kv, kv * sizeof(float));
        memcpy(last.v + i * kv, past.v + end * kv, kv * sizeof(float));
        struct attention_run one = {.out = last.out + i * last.s.out_stride,
                                    .lse = last.lse + i * last.s.H,
                                    .q = last.q + i * last.s.q_stride,
                                    .k = past.k,
                                    .v = past.v,
                                    .first = end,
                                    .n = 1};
        attention_forward(kernels_best(), NULL, &one, 1, &last.s);
    }
    device_put(device, last.on_k, last.k, n_runs * kv * sizeof(float));
    device_put(device, last.on_v, last.v, n_runs * kv * sizeof(float));
    a = call_of(&last, runs, n_runs);
    a.pages = (float *const *)p.table;

    attend(a, runs);

    assert_on_device(last.on_out, last.out, n_runs * last.s.out_stride);
    assert_on_device(last.on_lse, last.lse, n_runs * last.s.H);
    free(runs);
    paged_clear(&p);
    batch_clear(&past);
    batch_clear(&last);
}

static void decode_of_few_and_of_many_has_the_bits_of_the_cpu(void **state)
{
    (void)state;
    decode(2, (struct shape){7, 1, 64, 0, 3.0f, 1.0f}, 520);
    decode(1, (struct shape){4, 2, 128, 0, 3.0f, 1.0f}, 520);
    decode(3, (struct shape){11, 1, 24, 1, 30.0f, 0x1p-140f}, 513);
    decode(136, (struct shape){4, 4, 8, 0, 3.0f, 1.0f}, 258);
}

static void gradients_have_the_bits_of_the_cpu(void **state)
{
    const struct device_run runs[] = {
        {0, 5, 0, 0}, {5, 130, 0, 0}, {135, 1, 0, 0}, {136, 64, 0, 0}};
    enum { N_RUNS = 4, ROWS = 200 };
    struct rng r = random_seeded(5);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct batch b = batch_of(&r, shapes[i], ROWS);
        const size_t q = ROWS * b.s.q_stride, kv = ROWS * b.s.k_stride;
        float *dq = zeros(q), *dk = zeros(kv), *dv = zeros(kv);
        float *on_dq = put(dq, q * sizeof(float)), *on_dk = put(dk, kv * sizeof(float)),
              *on_dv = put(dv, kv * sizeof(float)), *on_dout = put(b.dout, q * sizeof(float));
        void *on_runs = put(runs, sizeof(runs));
        for (size_t j = 0; j < N_RUNS; j++) {
            size_t row = runs[j].row;
            struct attention_grad g = {
                dq + row * b.s.q_stride,      dk + row * b.s.k_stride,
                dv + row * b.s.v_stride,      b.dout + row * b.s.out_stride,
                b.out + row * b.s.out_stride, b.lse + row * b.s.H,
                b.q + row * b.s.q_stride,     b.k + row * b.s.k_stride,
                b.v + row * b.s.v_stride,     runs[j].n};
            compute(&b, row, row, 0, runs[j].n);
            attention_backward(kernels_best(), NULL, &g, 1, &b.s);
        }
        device_put(device, b.on_out, b.out, q * sizeof(float));
        device_put(device, b.on_lse, b.lse, ROWS * b.s.H * sizeof(float));
        struct device_attention_grad g = {on_dq,    on_dk,  on_dv,  on_dout, b.on_out,
                                          b.on_lse, b.on_q, b.on_k, b.on_v,  on_runs,
                                          N_RUNS,   ROWS,   130,    &b.s};

        kernels->ops->attention_backward(device, &g);

        assert_on_device(on_dq, dq, q);
        assert_on_device(on_dk, dk, kv);
        assert_on_device(on_dv, dv, kv);
        float *host[] = {dq, dk, dv};
        void *on[] = {on_dq, on_dk, on_dv, on_dout, on_runs};
        for (size_t j = 0; j < 3; j++)
            free(host[j]);
        for (size_t j = 0; j < 5; j++)
            device_release(device, on[j]);
        batch_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_side_by_side_have_the_bits_of_the_cpu),
        cmocka_unit_test(later_keys_are_not_entered),
        cmocka_unit_test(weights_below_the_cut_are_dropped),
        cmocka_unit_test(pages_and_steps_change_no_bit),
        cmocka_unit_test(decode_of_few_and_of_many_has_the_bits_of_the_cpu),
        cmocka_unit_test(gradients_have_the_bits_of_the_cpu),
    };
    struct err e;
    int failed;

    if (device_count() == 0)
        return 77;
    if (device_open(&device, "cuda", &e) ||
        device_kernels(&kernels, device, NUMERICS_F32_1, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    failed = cmocka_run_group_tests_name("engine/device_attention", tests, NULL, NULL);
    device_close(&device);
    return failed;
}
