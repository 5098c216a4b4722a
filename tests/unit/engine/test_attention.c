/*
 * Attention against its definition in docs/numerics.md, bit for bit, and against numbers
 * computed in 60-digit arithmetic by tests/reference/ops.py.
 */
#include "engine/ops.h"

#include <math.h>

#include "numerics.h"
#include "ops_reference.h"

struct shape {
    size_t n, H, G, D;
};

static const struct shape shapes[] = {
    {1, 1, 1, 2},  {5, 4, 4, 16},  {20, 4, 2, 16}, {40, 4, 4, 32},  {67, 6, 2, 24},
    {13, 2, 1, 7}, {130, 3, 3, 9}, {257, 2, 1, 8}, {600, 2, 1, 16},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* Rows lie apart by more than they hold, as in a cache or a fused projection. */
#define PAD 3u

struct fixture {
    struct shape d;
    struct attention_shape s;
    float *q, *k, *v, *dout, *out, *lse; /* owned; out and lse are zero at first */
};

static struct fixture fixture_of(struct rng *r, struct shape d)
{
    struct fixture f = {.d = d};
    size_t q = d.H * d.D + PAD, kv = d.G * d.D + 2 * PAD;

    f.s = (struct attention_shape){d.H, d.G, d.D, q, q, kv, kv, attention_scale(d.D)};
    f.q = some_floats(r, d.n * q, 3.0f);
    f.k = some_floats(r, d.n * kv, 3.0f);
    f.v = some_floats(r, d.n * kv, 1.0f);
    f.dout = some_floats(r, d.n * q, 1.0f);
    f.out = zeros(d.n * q);
    f.lse = zeros(d.n * d.H);
    return f;
}

static void fixture_clear(struct fixture *f)
{
    free(f->q);
    free(f->k);
    free(f->v);
    free(f->dout);
    free(f->out);
    free(f->lse);
}

static struct attention_run run_of(const struct fixture *f, float *out, float *lse,
                                   size_t first, size_t n)
{
    return (struct attention_run){.out = out + first * f->s.out_stride,
                                  .lse = lse ? lse + first * f->s.H : NULL,
                                  .q = f->q + first * f->s.q_stride,
                                  .k = f->k,
                                  .v = f->v,
                                  .first = first,
                                  .n = n};
}

static float cut_exp(float x)
{
    return x < -87.0f ? 0.0f : exp_f32(x);
}

static float chain(const float *a, const float *b, size_t n)
{
    float acc = 0.0f;
    for (size_t i = 0; i < n; i++)
        acc = fmaf(a[i], b[i], acc);
    return acc;
}

/* One row of one head, as docs/numerics.md says it. */
static void define_row(const struct fixture *f, size_t t, size_t h, float *out, float *lse)
{
    const struct attention_shape *s = &f->s;
    const float *q = f->q + t * s->q_stride + h * s->D;
    size_t kv = h / (s->H / s->G) * s->D;
    float M = 0, L = 0, o[ATTENTION_D_MAX];

    for (size_t b0 = 0; b0 <= t; b0 += 256) {
        size_t n = t + 1 - b0 < 256 ? t + 1 - b0 : 256;
        float p[256], m = -INFINITY, add[ATTENTION_D_MAX];
        for (size_t j = 0; j < n; j++) {
            p[j] = chain(q, f->k + (b0 + j) * s->k_stride + kv, s->D) * s->scale;
            m = p[j] > m ? p[j] : m;
        }
        for (size_t j = 0; j < n; j++)
            p[j] = cut_exp(p[j] - m);
        float l = sum16(p, n);
        for (size_t i = 0; i < s->D; i++) {
            add[i] = 0.0f;
            for (size_t j = 0; j < n; j++)
                add[i] = fmaf(p[j], f->v[(b0 + j) * s->v_stride + kv + i], add[i]);
        }
        if (b0 == 0) {
            M = m;
            L = l;
            memcpy(o, add, sizeof(o));
            continue;
        }
        float top = M > m ? M : m, a = cut_exp(M - top), b = cut_exp(m - top);
        L = fmaf(L, a, l * b);
        for (size_t i = 0; i < s->D; i++)
            o[i] = fmaf(o[i], a, add[i] * b);
        M = top;
    }
    for (size_t i = 0; i < s->D; i++)
        out[i] = o[i] * (1.0f / L);
    *lse = M + log_f32(L);
}

static void define_all(const struct fixture *f, float *out, float *lse)
{
    for (size_t t = 0; t < f->d.n; t++)
        for (size_t h = 0; h < f->s.H; h++)
            define_row(f, t, h, out + t * f->s.out_stride + h * f->s.D, lse + t * f->s.H + h);
}

static void forward_has_the_bits_of_its_definition(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(1);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.d.n * f.s.out_stride), *want_lse = zeros(f.d.n * f.s.H);
        struct attention_run run = run_of(&f, f.out, f.lse, 0, f.d.n);
        define_all(&f, want, want_lse);

        attention_forward(k, NULL, &run, 1, &f.s);

        assert_same_bits(f.out, want, f.d.n * f.s.out_stride);
        assert_same_bits(f.lse, want_lse, f.d.n * f.s.H);
        free(want);
        free(want_lse);
        fixture_clear(&f);
    }
}

/* A row that sees a far larger key in a later block: M grows, and exp of the old M underflows
 * the cut. And a key far below the maximum, whose weight is +0. */
static void forward_merges_blocks_whose_maxima_are_far_apart(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(2);
    struct fixture f = fixture_of(&r, (struct shape){520, 1, 1, 16});
    float *want = zeros(f.d.n * f.s.out_stride), want_lse[520];
    struct attention_run run = run_of(&f, f.out, f.lse, 0, f.d.n);
    for (size_t j = 0; j < f.d.n; j++)
        for (size_t i = 0; i < f.s.D; i++)
            f.k[j * f.s.k_stride + i] *= j == 300 ? 60.0f : j == 10 ? -40.0f : 1.0f;
    define_all(&f, want, want_lse);

    attention_forward(k, NULL, &run, 1, &f.s);

    assert_same_bits(f.out, want, f.d.n * f.s.out_stride);
    assert_same_bits(f.lse, want_lse, f.d.n);
    free(want);
    fixture_clear(&f);
}

/* The second key is 88.4 below the first: e^-88.4 is a normal number, but its weight is +0. The
 * third is 86.3 below and counts. */
static void forward_drops_weights_below_the_cut(void **state)
{
    const struct kernels *k = *state;
    const float q[2] = {1, 0}, key[6] = {0, 0, -125, 0, -122, 0}, v[6] = {0, 0, 1, 0, 0, 1};
    struct attention_shape s = {1, 1, 2, 2, 2, 2, 2, attention_scale(2)};
    float out[2], lse;
    struct attention_run run = {
        .out = out, .lse = &lse, .q = q, .k = key, .v = v, .first = 2, .n = 1};

    attention_forward(k, NULL, &run, 1, &s);

    assert_same_bits(out, ((float[2]){0.0f, exp_f32(-122 * s.scale)}), 2);
}

static void backward_drops_weights_below_the_cut(void **state)
{
    const struct kernels *k = *state;
    const float q[4] = {0, 0, 1, 0}, key[4] = {-125, 0, 0, 0}, v[4] = {1, 0, 0, 0};
    const float dout[4] = {0, 0, 1, 1};
    struct attention_shape s = {1, 1, 2, 2, 2, 2, 2, attention_scale(2)};
    float out[4], lse[2], dq[4], dk[4], dv[4];
    struct attention_run run = {
        .out = out, .lse = lse, .q = q, .k = key, .v = v, .first = 0, .n = 2};
    struct attention_grad g = {dq, dk, dv, dout, out, lse, q, key, v, 2};

    attention_forward(k, NULL, &run, 1, &s);
    attention_backward(k, NULL, &g, 1, &s);

    assert_same_bits(dv, ((float[4]){0, 0, 1, 1}), 4);
}

static void prefill_chunks_and_decode_have_the_same_bits(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(3);
    struct fixture f = fixture_of(&r, (struct shape){300, 4, 2, 8});
    struct attention_run whole = run_of(&f, f.out, f.lse, 0, f.d.n);
    attention_forward(k, NULL, &whole, 1, &f.s);

    for (size_t step = 1; step <= 70; step += 23) {
        float *out = zeros(f.d.n * f.s.out_stride);
        for (size_t t = 0; t < f.d.n; t += step) {
            size_t n = f.d.n - t < step ? f.d.n - t : step;
            struct attention_run run = run_of(&f, out, NULL, t, n);
            attention_forward(k, NULL, &run, 1, &f.s);
        }
        assert_same_bits(out, f.out, f.d.n * f.s.out_stride);
        free(out);
    }

    fixture_clear(&f);
}

/* Files and attends n rows at a time, then reads what was filed. Pages are full of NaN and in any
 * order: what is not filed is not read. */
static void assert_pages_change_nothing(const struct kernels *k, const struct fixture *f,
                                        struct pool *pool, size_t step)
{
    const size_t D = f->d.D, G = f->d.G;
    const size_t layer = G * attention_page_head(D, cache_is_narrow(k));
    const size_t n_pages = (f->d.n + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
    float *room = garbage(n_pages * 2 * layer), *out = garbage(f->d.n * f->s.out_stride);
    float *pages[16], key[512], value[512];

    for (size_t p = 0; p < n_pages; p++)
        pages[p] = room + (n_pages - 1 - p) * 2 * layer;
    memset(out, 0, f->d.n * f->s.out_stride * sizeof(float));
    for (size_t t = 0; t < f->d.n; t += step) {
        size_t n = f->d.n - t < step ? f->d.n - t : step;
        struct attention_run run = run_of(f, out, NULL, t, n);
        run.k += t * f->s.k_stride;
        run.v += t * f->s.v_stride;
        run.pages = pages;
        run.page_at = layer;
        attention_forward(k, pool, &run, 1, &f->s);
    }

    assert_same_bits(out, f->out, f->d.n * f->s.out_stride);
    assert_true(G * D <= 512);
    for (size_t t = 0; t < f->d.n; t++) {
        attention_page_read(key, value, pages[t / ATTENTION_PAGE] + layer, t % ATTENTION_PAGE,
                            G, D, cache_is_narrow(k));
        assert_same_bits(key, f->k + t * f->s.k_stride, G * D);
        assert_same_bits(value, f->v + t * f->s.v_stride, G * D);
    }
    free(room);
    free(out);
}

static void assert_pages_change_no_bit(const struct kernels *k)
{
    struct rng r = random_seeded(13);
    static const size_t steps[] = {1, 7, 16, 64, 200, 600};
    struct pool *pool;

    pool_new(&pool, 2);
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        struct attention_run whole = run_of(&f, f.out, NULL, 0, f.d.n);

        cache_round(k, f.k, f.d.n * f.s.k_stride);
        cache_round(k, f.v, f.d.n * f.s.v_stride);
        attention_forward(k, NULL, &whole, 1, &f.s);
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++)
            assert_pages_change_nothing(k, &f, j % 2 ? pool : NULL, steps[j]);
        fixture_clear(&f);
    }
    pool_free(&pool);
}

static void pages_change_no_bit(void **state)
{
    assert_pages_change_no_bit(*state);
}

static void narrow_pages_change_no_bit(void **state)
{
    const struct kernels *k = kernels_in_class(*state, NUMERICS_BF16_1);

    assert_true(cache_is_narrow(k));
    assert_pages_change_no_bit(k);
}

/* Sequences of which some begin as another one does: so many of its pages are theirs too. Past its end
 * each has the other's as well, which it must not be taken to share. */
static const struct family {
    size_t len, parent, shared;
} families[] = {
    {600, 0, 0}, {200, 0, 3}, {200, 0, 3}, {141, 2, 2}, {333, 2, 3}, {522, 0, 8},
    {63, 0, 0},  {70, 0, 1},  {64, 0, 0},  {192, 7, 1}, {193, 9, 2}, {600, 10, 3},
};
#define N_FAMILY   (sizeof(families) / sizeof(families[0]))
#define MOST_PAGES 10u

struct member {
    struct fixture f;
    float *room; /* owned: pages of its own, full of NaN at first */
    float *pages[MOST_PAGES];
};

static void member_init(struct member *all, size_t i, struct rng *r, const struct kernels *k,
                        struct shape shape)
{
    const struct family *how = &families[i];
    struct member *m = &all[i];
    const struct member *parent = &all[how->parent];
    const size_t layer = shape.G * attention_page_head(shape.D, cache_is_narrow(k));
    const size_t shared = how->shared * ATTENTION_PAGE;

    shape.n = how->len;
    m->f = fixture_of(r, shape);
    m->room = garbage(MOST_PAGES * layer);
    memcpy(m->f.k, parent->f.k, shared * m->f.s.k_stride * sizeof(float));
    memcpy(m->f.v, parent->f.v, shared * m->f.s.v_stride * sizeof(float));
    cache_round(k, m->f.k, how->len * m->f.s.k_stride);
    cache_round(k, m->f.v, how->len * m->f.s.v_stride);
    for (size_t p = 0; p < MOST_PAGES; p++) {
        const bool is_own = p >= how->shared && p * ATTENTION_PAGE < how->len;
        m->pages[p] = is_own ? m->room + p * layer : parent->pages[p];
    }
}

static struct attention_run member_run(struct member *m, float *out, size_t first, size_t n)
{
    struct attention_run run = run_of(&m->f, out, m->f.lse, first, n);

    run.k += first * m->f.s.k_stride;
    run.v += first * m->f.s.v_stride;
    run.pages = m->pages;
    return run;
}

/* All last queries together, after everything before them was filed. */
static void assert_sharing_changes_no_bit(const struct kernels *k, struct pool *pool,
                                          struct shape shape)
{
    struct rng r = random_seeded(17);
    struct member all[N_FAMILY];
    struct attention_run runs[N_FAMILY];

    for (size_t i = 0; i < N_FAMILY; i++) {
        const size_t last = families[i].len - 1, from = families[i].shared * ATTENTION_PAGE;
        member_init(all, i, &r, k, shape);
        struct attention_run before = member_run(&all[i], all[i].f.out, from, last - from);
        if (last > from)
            attention_forward(k, NULL, &before, 1, &all[i].f.s);
        runs[i] = member_run(&all[i], all[i].f.out, last, 1);
    }

    attention_forward(k, pool, runs, N_FAMILY, &all[0].f.s);

    for (size_t i = 0; i < N_FAMILY; i++) {
        const size_t last = families[i].len - 1, width = shape.H * shape.D;
        float *out = zeros(families[i].len * all[i].f.s.out_stride);
        float *lse = zeros(families[i].len * shape.H);
        struct attention_run alone = run_of(&all[i].f, out, lse, last, 1);
        attention_forward(k, NULL, &alone, 1, &all[i].f.s);
        assert_same_bits(runs[i].out, alone.out, width);
        assert_same_bits(runs[i].lse, alone.lse, shape.H);
        free(out);
        free(lse);
    }
    for (size_t i = 0; i < N_FAMILY; i++) {
        fixture_clear(&all[i].f);
        free(all[i].room);
    }
}

/* With few heads to a group all go together; with 16 four at most, with 65 each alone. */
static void neighbours_that_share_pages_are_sequences_alone(void **state)
{
    static const struct shape heads[] = {
        {0, 4, 2, 24}, {0, 6, 6, 16}, {0, 32, 2, 8}, {0, 65, 1, 4}};
    const struct kernels *k[] = {*state, kernels_in_class(*state, NUMERICS_BF16_1)};
    struct pool *pool;

    pool_new(&pool, 3);
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        for (size_t class = 0; class < 2; class ++) {
            assert_sharing_changes_no_bit(k[class], NULL, heads[i]);
            assert_sharing_changes_no_bit(k[class], pool, heads[i]);
        }
    pool_free(&pool);
}

static void runs_together_on_threads_are_runs_alone(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(4);
    struct fixture f = fixture_of(&r, (struct shape){90, 4, 2, 16});
    struct attention_run runs[9], alone;
    float *out = zeros(f.d.n * f.s.out_stride), *lse = zeros(f.d.n * f.s.H);
    struct pool *pool;
    pool_new(&pool, 3);
    for (size_t i = 0; i < 9; i++) {
        runs[i] = run_of(&f, f.out, f.lse, i * 10, 10);
        alone = run_of(&f, out, lse, i * 10, 10);
        attention_forward(k, NULL, &alone, 1, &f.s);
    }

    attention_forward(k, pool, runs, 9, &f.s);

    assert_same_bits(f.out, out, f.d.n * f.s.out_stride);
    assert_same_bits(f.lse, lse, f.d.n * f.s.H);
    pool_free(&pool);
    free(out);
    free(lse);
    fixture_clear(&f);
}

/* A product with a masked key, even times zero, would make these rows NaN. */
static void forward_does_not_read_later_keys(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(5);
    struct fixture f = fixture_of(&r, (struct shape){17, 2, 2, 16});
    struct attention_run whole = run_of(&f, f.out, f.lse, 0, f.d.n);
    float *out = zeros(f.d.n * f.s.out_stride);
    size_t last = f.d.n - 1;
    attention_forward(k, NULL, &whole, 1, &f.s);
    for (size_t i = 0; i < f.s.G * f.s.D; i++)
        f.k[last * f.s.k_stride + i] = f.v[last * f.s.v_stride + i] = NAN;

    whole.out = out;
    attention_forward(k, NULL, &whole, 1, &f.s);

    assert_same_bits(out, f.out, last * f.s.out_stride);
    free(out);
    fixture_clear(&f);
}

struct grads {
    float *dq, *dk, *dv; /* owned */
};

static struct grads grads_of(const struct fixture *f)
{
    return (struct grads){zeros(f->d.n * f->s.q_stride), zeros(f->d.n * f->s.k_stride),
                          zeros(f->d.n * f->s.v_stride)};
}

static void grads_clear(struct grads *g)
{
    free(g->dq);
    free(g->dk);
    free(g->dv);
}

static struct attention_grad grad_of(const struct fixture *f, struct grads *g)
{
    return (struct attention_grad){g->dq,  g->dk, g->dv, f->dout, f->out,
                                   f->lse, f->q,  f->k,  f->v,    f->d.n};
}

/* Accumulators in place: dq over keys, dk and dv over (head, query), each ascending. */
static void define_backward(const struct fixture *f, struct grads *g)
{
    const struct attention_shape *s = &f->s;
    const size_t R = s->H / s->G, D = s->D;

    for (size_t h = 0; h < s->H; h++)
        for (size_t t = 0; t < f->d.n; t++) {
            const float *q = f->q + t * s->q_stride + h * D;
            const float *dout = f->dout + t * s->out_stride + h * D;
            float *dq = g->dq + t * s->q_stride + h * D;
            float sum = dot16(dout, f->out + t * s->out_stride + h * D, D);
            for (size_t j = 0; j <= t; j++) {
                const float *key = f->k + j * s->k_stride + h / R * D;
                const float *value = f->v + j * s->v_stride + h / R * D;
                float *dk = g->dk + j * s->k_stride + h / R * D;
                float *dv = g->dv + j * s->v_stride + h / R * D;
                float p = cut_exp(chain(q, key, D) * s->scale - f->lse[t * s->H + h]);
                float ds = p * (chain(dout, value, D) - sum);
                for (size_t i = 0; i < D; i++) {
                    dq[i] = fmaf(ds, key[i], dq[i]);
                    dk[i] = fmaf(ds, q[i], dk[i]);
                    dv[i] = fmaf(p, dout[i], dv[i]);
                }
            }
        }
    for (size_t t = 0; t < f->d.n; t++) {
        for (size_t i = 0; i < s->H * D; i++)
            g->dq[t * s->q_stride + i] *= s->scale;
        for (size_t i = 0; i < s->G * D; i++)
            g->dk[t * s->k_stride + i] *= s->scale;
    }
}

static void backward_has_the_bits_of_its_definition(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(6);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        struct grads want = grads_of(&f), got = grads_of(&f);
        struct attention_grad g = grad_of(&f, &got);
        define_all(&f, f.out, f.lse);
        define_backward(&f, &want);

        attention_backward(k, NULL, &g, 1, &f.s);

        assert_same_bits(got.dq, want.dq, f.d.n * f.s.q_stride);
        assert_same_bits(got.dk, want.dk, f.d.n * f.s.k_stride);
        assert_same_bits(got.dv, want.dv, f.d.n * f.s.v_stride);
        grads_clear(&want);
        grads_clear(&got);
        fixture_clear(&f);
    }
}

static void backward_of_sequences_on_threads_is_that_of_each_alone(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(7);
    struct fixture f[3];
    struct grads alone[3], together[3];
    struct attention_grad g[3];
    struct pool *pool;
    pool_new(&pool, 3);
    for (size_t i = 0; i < 3; i++) {
        f[i] = fixture_of(&r, (struct shape){30 + 11 * i, 4, 2, 16});
        define_all(&f[i], f[i].out, f[i].lse);
        alone[i] = grads_of(&f[i]);
        together[i] = grads_of(&f[i]);
        g[i] = grad_of(&f[i], &alone[i]);
        attention_backward(k, NULL, &g[i], 1, &f[i].s);
        g[i] = grad_of(&f[i], &together[i]);
    }

    attention_backward(k, pool, g, 3, &f[0].s);

    for (size_t i = 0; i < 3; i++) {
        assert_same_bits(together[i].dq, alone[i].dq, f[i].d.n * f[i].s.q_stride);
        assert_same_bits(together[i].dk, alone[i].dk, f[i].d.n * f[i].s.k_stride);
        assert_same_bits(together[i].dv, alone[i].dv, f[i].d.n * f[i].s.v_stride);
        grads_clear(&alone[i]);
        grads_clear(&together[i]);
        fixture_clear(&f[i]);
    }
    pool_free(&pool);
}

static void backward_assigns(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(8);
    struct fixture f = fixture_of(&r, (struct shape){9, 2, 1, 16});
    struct grads once = grads_of(&f), twice = grads_of(&f);
    struct attention_grad g = grad_of(&f, &once);
    define_all(&f, f.out, f.lse);

    attention_backward(k, NULL, &g, 1, &f.s);
    g = grad_of(&f, &twice);
    attention_backward(k, NULL, &g, 1, &f.s);
    attention_backward(k, NULL, &g, 1, &f.s);

    assert_same_bits(twice.dq, once.dq, f.d.n * f.s.q_stride);
    assert_same_bits(twice.dk, once.dk, f.d.n * f.s.k_stride);
    assert_same_bits(twice.dv, once.dv, f.d.n * f.s.v_stride);
    grads_clear(&once);
    grads_clear(&twice);
    fixture_clear(&f);
}

/* Scores are below 8 and every sum has at most 16 terms below 4, so a value is wrong by at most
 * some 20 roundings of terms of that size: 20 * 4 * 2^-24 = 5e-6 of 1. */
static const double ATOL = 5e-6;

static void both_directions_match_the_reference_numbers(void **state)
{
    const struct kernels *k = *state;
    float q[32], key[16], v[16], dout[32], out[32], lse[16], dq[32], dk[16], dv[16];
    struct attention_shape s = {4, 2, 2, 8, 8, 4, 4, attention_scale(2)};
    struct attention_run run = {
        .out = out, .lse = lse, .q = q, .k = key, .v = v, .first = 0, .n = 4};
    struct attention_grad g = {dq, dk, dv, dout, out, lse, q, key, v, 4};
    ops_fill(q, 7, 32);
    ops_fill(key, 8, 16);
    ops_fill(v, 9, 16);
    ops_fill(dout, 10, 32);

    attention_forward(k, NULL, &run, 1, &s);
    attention_backward(k, NULL, &g, 1, &s);

    assert_close(out, want_attention, 32, ATOL, 0.0);
    assert_close(lse, want_attention_lse, 16, ATOL, 0.0);
    assert_close(dq, want_attention_dq, 32, ATOL, 0.0);
    assert_close(dk, want_attention_dk, 16, ATOL, 0.0);
    assert_close(dv, want_attention_dv, 16, ATOL, 0.0);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(forward_has_the_bits_of_its_definition),
        BACKEND_TEST(forward_merges_blocks_whose_maxima_are_far_apart),
        BACKEND_TEST(forward_drops_weights_below_the_cut),
        BACKEND_TEST(backward_drops_weights_below_the_cut),
        BACKEND_TEST(prefill_chunks_and_decode_have_the_same_bits),
        BACKEND_TEST(pages_change_no_bit),
        BACKEND_TEST(narrow_pages_change_no_bit),
        BACKEND_TEST(neighbours_that_share_pages_are_sequences_alone),
        BACKEND_TEST(runs_together_on_threads_are_runs_alone),
        BACKEND_TEST(forward_does_not_read_later_keys),
        BACKEND_TEST(backward_has_the_bits_of_its_definition),
        BACKEND_TEST(backward_of_sequences_on_threads_is_that_of_each_alone),
        BACKEND_TEST(backward_assigns),
        BACKEND_TEST(both_directions_match_the_reference_numbers),
    };
    return cmocka_run_group_tests_name("engine/attention", tests, NULL, NULL);
}
