/*
 * A model on a device in class f32-1: hidden states, logits, sampled tokens, chunked prefill, gradients and
 * optimizer steps have the bits of the CPU's, in every family.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/adamw.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/train.h"
#include "on_device.h"
#include "support/close.h"
#include "support/grads.h"
#include "tiny_model.h"

#define LEN     70 /* more than a page */
#define N_SEQS  3
#define ROWS    60
#define N_STEPS 10

static struct on_device there;

struct fixture {
    struct model_config c;
    struct weights *w;
    struct model *cpu, *gpu;
    int32_t tokens[LEN];
    struct err e;
};

static const struct kernels *kernels_there(struct err *e)
{
    const struct kernels *k;

    assert_ok(device_kernels(&k, there.device, NUMERICS_F32_1, e), e);
    return k;
}

static int setup_arch(void **state, enum model_arch arch)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct model_options here = {.kernels = there.cpu};
    struct model_options opt = {.kernels = kernels_there(&f->e), .max_rows = 32};

    f->c = tiny_config(arch);
    f->w = tiny_weights(&f->c, 5);
    tiny_tokens(f->tokens, LEN, &f->c, 4);
    assert_ok(model_new(&f->cpu, f->w, &here, &f->e), &f->e);
    assert_ok(model_new(&f->gpu, f->w, &opt, &f->e), &f->e);
    *state = f;
    return 0;
}

static int setup_llama(void **state)
{
    return setup_arch(state, MODEL_ARCH_LLAMA);
}

static int setup_qwen2(void **state)
{
    return setup_arch(state, MODEL_ARCH_QWEN2);
}

static int setup_qwen3(void **state)
{
    return setup_arch(state, MODEL_ARCH_QWEN3);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    model_free(&f->cpu);
    model_free(&f->gpu);
    weights_free(&f->w);
    test_free(f);
    return 0;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* The tokens in one slot of a cache, `step` at a time: hidden states and logits of all rows. */
static void forward(struct fixture *f, struct model *m, size_t step, float *hidden,
                    float *logits)
{
    struct kv_cache *kv;

    assert_ok(model_cache_new(&kv, m, 2, LEN, 0, &f->e), &f->e);
    for (size_t at = 0; at < LEN; at += step) {
        size_t n = LEN - at < step ? LEN - at : step;
        const struct model_run run = {.slot = 1, .first = at, .n = n, .n_out = n};

        assert_ok(model_forward(m, kv, hidden + at * f->c.dim, &run, 1, f->tokens + at, &f->e),
                  &f->e);
    }
    assert_ok(model_logits(m, logits, hidden, LEN, &f->e), &f->e);
    kv_cache_free(&kv);
}

static void forward_is_the_cpus(void **state)
{
    struct fixture *f = *state;
    static const size_t steps[] = {LEN, 23, 64, 1};
    const size_t n_steps = there.is_small ? 2 : 4;
    const size_t C = f->c.dim, V = f->c.vocab;
    float *want = xcalloc(LEN * (C + V), sizeof(*want)), *got = xcalloc(LEN * (C + V), 4);

    forward(f, f->cpu, LEN, want, want + LEN * C);
    for (size_t i = 0; i < n_steps; i++) {
        memset(got, 0xff, LEN * (C + V) * sizeof(*got));
        forward(f, f->gpu, steps[i], got, got + LEN * C);
        assert_same_bits(got, want, LEN * (C + V));
    }
    free(want);
    free(got);
}

/* What a validator shows of its prefill. */
static void filed_keys_and_values_are_the_cpus(void **state)
{
    struct fixture *f = *state;
    struct model *const models[2] = {f->cpu, f->gpu};
    const struct model_run run = {.slot = 1, .first = 0, .n = LEN, .n_out = 1};
    const size_t width = (size_t)f->c.kv_heads * f->c.head_dim;
    float *hidden = xcalloc(f->c.dim, sizeof(*hidden)), *row[2];
    struct kv_cache *kv[2];

    for (size_t i = 0; i < 2; i++) {
        row[i] = xcalloc(2 * width, sizeof(*row[i]));
        assert_ok(model_cache_new(&kv[i], models[i], 2, LEN, 0, &f->e), &f->e);
        assert_ok(model_forward(models[i], kv[i], hidden, &run, 1, f->tokens, &f->e), &f->e);
    }
    for (size_t layer = 0; layer < f->c.layers; layer++)
        for (size_t at = 0; at < LEN; at += 3) {
            for (size_t i = 0; i < 2; i++)
                kv_cache_read(kv[i], row[i], row[i] + width, 1, layer, at);
            assert_same_bits(row[1], row[0], 2 * width);
        }
    for (size_t i = 0; i < 2; i++) {
        kv_cache_free(&kv[i]);
        free(row[i]);
    }
    free(hidden);
}

static void new_weights_are_the_ones_used(void **state)
{
    struct fixture *f = *state;
    struct weights *other = tiny_weights(&f->c, 9);
    const size_t C = f->c.dim, V = f->c.vocab;
    float *want = xcalloc(LEN * (C + V), sizeof(*want)), *got = xcalloc(LEN * (C + V), 4);

    assert_ok(model_reload(f->cpu, other, &f->e), &f->e);
    assert_ok(model_reload(f->gpu, other, &f->e), &f->e);
    forward(f, f->cpu, LEN, want, want + LEN * C);
    forward(f, f->gpu, LEN, got, got + LEN * C);
    assert_same_bits(got, want, LEN * (C + V));
    weights_free(&other);
    free(want);
    free(got);
}

/* ---- sampling -------------------------------------------------------------------------------- */

#define MAX_TOKENS 256

struct drawn {
    size_t n;
    float logp[MAX_TOKENS];
    int32_t token[MAX_TOKENS];
    uint64_t sample[MAX_TOKENS];
    float hidden[MAX_TOKENS];
};

static void note_token(void *ctx, const struct sampler_token *t)
{
    struct drawn *d = ctx;

    assert_true(d->n < MAX_TOKENS);
    d->token[d->n] = t->token;
    d->logp[d->n] = t->logp;
    d->hidden[d->n] = t->hidden ? t->hidden[3] : 0.0f;
    d->sample[d->n++] = t->tag << 8 | t->sample;
}

static int32_t always_second(void *ctx, const struct draw_place *at, float *logp)
{
    (void)ctx;
    *logp = at->logits[1];
    return 1;
}

static void sample(struct fixture *f, struct model *m, struct drawn *d, bool wants_hidden,
                   draw_fn *choose)
{
    const uint64_t seeds[] = {11, 12, 13};
    const struct sampler_options opt = {.n_slots = 4,
                                        .max_len = LEN + 20,
                                        .chunk = 40,
                                        .on_token = note_token,
                                        .wants_hidden = wants_hidden,
                                        .choose = choose,
                                        .ctx = d};
    struct sampler *s;

    d->n = 0;
    assert_ok(sampler_new(&s, m, &opt, &f->e), &f->e);
    for (uint64_t i = 0; i < 3; i++) {
        const struct sampler_request r = {.tag = i,
                                          .prompt = f->tokens,
                                          .n_prompt = i == 1 ? LEN : 5 + i,
                                          .seeds = seeds + i,
                                          .n_samples = 3 - i,
                                          .temperature = i == 2 ? 0.0f : 0.8f,
                                          .max_new = 12};

        assert_ok(sampler_add(s, &r, &f->e), &f->e);
    }
    assert_ok(sampler_run(s, &f->e), &f->e);
    assert_int_equal(d->n, 12 * (3 + 2 + 1));
    sampler_free(&s);
}

static void assert_same_draws(const struct drawn *got, const struct drawn *want)
{
    assert_int_equal(got->n, want->n);
    assert_memory_equal(got->token, want->token, want->n * sizeof(want->token[0]));
    assert_memory_equal(got->sample, want->sample, want->n * sizeof(want->sample[0]));
    assert_same_bits(got->logp, want->logp, want->n);
    assert_same_bits(got->hidden, want->hidden, want->n);
}

#define N_CLAIMS 70

/* Half of them right: what the CPU draws from the logits. */
static void make_claims(struct fixture *f, struct model_claim *c, const float *hidden)
{
    const size_t V = f->c.vocab;
    float *logits = test_calloc(N_CLAIMS * V, sizeof(*logits));

    assert_ok(model_logits(f->cpu, logits, hidden, N_CLAIMS, &f->e), &f->e);
    for (size_t i = 0; i < N_CLAIMS; i++) {
        c[i] = (struct model_claim){.seed = 1000 + i, .position = (uint32_t)(i / 3)};
        c[i].token =
            sample_token(there.cpu, NULL, logits + i * V, V, 0.7f, c[i].seed, c[i].position);
        if (i % 2 == 1)
            c[i].token = (int32_t)((size_t)c[i].token + 1 + i) % (int32_t)V;
    }
    test_free(logits);
}

/* Margins but for the rounding of four numbers below 32 in magnitude and their sums: half of 2^-19 each. */
static void claims_are_seen_as_on_the_cpu(void **state)
{
    struct fixture *f = *state;
    struct model_claim want[N_CLAIMS], got[N_CLAIMS];
    struct rng r = rng_of(8, 8);
    float *hidden = some_floats(&r, N_CLAIMS * f->c.dim, 2.0f);
    size_t n_off = 0;

    make_claims(f, want, hidden);
    memcpy(got, want, sizeof(got));
    assert_ok(model_claims(f->cpu, want, hidden, N_CLAIMS, 0.7f, &f->e), &f->e);
    assert_ok(model_claims(f->gpu, got, hidden, N_CLAIMS, 0.7f, &f->e), &f->e);
    for (size_t i = 0; i < N_CLAIMS; i++) {
        assert_true(want[i].is_finite && got[i].is_finite);
        assert_memory_equal(&got[i].logp, &want[i].logp, sizeof(float));
        assert_true(want[i].margin >= 0.0f && (i % 2 == 1 || want[i].margin == 0.0f));
        assert_true(want[i].logp > -28.0f && want[i].margin < 32.0f);
        assert_true(fabsf(got[i].margin - want[i].margin) < 7 * 0x1p-20f);
        n_off += want[i].margin > 0.0f;
    }
    assert_true(n_off > N_CLAIMS / 3);
    hidden[3 * f->c.dim] = NAN;
    assert_ok(model_claims(f->cpu, want, hidden, 5, 0.7f, &f->e), &f->e);
    assert_ok(model_claims(f->gpu, got, hidden, 5, 0.7f, &f->e), &f->e);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(want[i].is_finite, i != 3);
        assert_int_equal(got[i].is_finite, i != 3);
    }
    free(hidden);
}

static void sampled_tokens_are_the_cpus(void **state)
{
    struct fixture *f = *state;
    struct drawn *got = xcalloc(1, sizeof(*got)), *want = xcalloc(1, sizeof(*want));

    for (int wants_hidden = 0; wants_hidden < 2; wants_hidden++) {
        sample(f, f->cpu, want, wants_hidden, NULL);
        sample(f, f->gpu, got, wants_hidden, NULL);
        assert_same_draws(got, want);
    }
    free(got);
    free(want);
}

static void a_hook_sees_the_logits(void **state)
{
    struct fixture *f = *state;
    struct drawn *got = xcalloc(1, sizeof(*got)), *want = xcalloc(1, sizeof(*want));

    sample(f, f->cpu, want, true, always_second);
    sample(f, f->gpu, got, true, always_second);
    assert_same_draws(got, want);
    free(got);
    free(want);
}

/* Whether element a of the row comes before b among the largest. */
static bool is_larger(const float *row, size_t a, size_t b)
{
    uint16_t x, y;

    dtype_narrow((uint8_t *)&x, row + a, DTYPE_BF16, 1);
    dtype_narrow((uint8_t *)&y, row + b, DTYPE_BF16, 1);
    x &= 0x7fff;
    y &= 0x7fff;
    return x != y ? x > y : a < b;
}

static void assert_top(const uint32_t *index, const uint16_t *value, const float *hidden,
                       size_t rows, size_t dim)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0, n = 0; i < dim; i++) {
            const float *row = hidden + r * dim;
            size_t before = 0;
            uint16_t bits;

            for (size_t j = 0; j < dim; j++)
                before += is_larger(row, j, i);
            if (before >= MODEL_TOP)
                continue;
            dtype_narrow((uint8_t *)&bits, row + i, DTYPE_BF16, 1);
            assert_int_equal(index[r * MODEL_TOP + n], i);
            assert_int_equal(value[r * MODEL_TOP + n], bits);
            n++;
        }
}

static void the_largest_of_states_come_without_them(void **state)
{
    enum { N = 3 };
    struct fixture *f = *state;
    struct model_config c = f->c;
    struct model_options opt = {.kernels = kernels_there(&f->e)};
    struct model_draw draws[N] = {{.row = 0}, {.row = 1}, {.row = 2}};
    const uint32_t *index;
    const uint16_t *value;
    struct kv_cache *kv;
    struct model *m;

    assert_false(model_has_top(f->gpu)); /* too narrow */
    assert_false(model_has_top(f->cpu));
    c.dim = 160;
    struct weights *w = tiny_weights(&c, 6);
    float *hidden = xcalloc((size_t)N * c.dim, sizeof(*hidden));
    assert_ok(model_new(&m, w, &opt, &f->e), &f->e);
    assert_true(model_has_top(m));
    assert_ok(model_cache_new(&kv, m, 1, N, 0, &f->e), &f->e);
    /* Of one state, which nobody asks for any more: what is drawn next, of more rows, comes without. */
    const struct model_run one = {.n = N, .n_out = 1}, all = {.n = N, .n_out = N};
    assert_ok(model_forward(m, kv, hidden, &one, 1, f->tokens, &f->e), &f->e);
    assert_ok(model_top_begin(m, &f->e), &f->e);
    assert_ok(model_forward(m, kv, hidden, &all, 1, f->tokens, &f->e), &f->e);
    assert_ok(model_draw(m, draws, N, NULL, NULL, &f->e), &f->e);
    /* By themselves, then with what is drawn: of other tokens, and fewer states than before. */
    for (size_t rows = N; rows >= N - 1; rows--) {
        const struct model_run run = {.n = N, .n_out = rows};

        assert_ok(model_forward(m, kv, hidden, &run, 1, f->tokens + N - rows, &f->e), &f->e);
        assert_ok(model_top_begin(m, &f->e), &f->e);
        if (rows < N)
            assert_ok(model_draw(m, draws, rows, NULL, NULL, &f->e), &f->e);
        assert_ok(model_top_end(m, &index, &value, &f->e), &f->e);
        assert_top(index, value, hidden, rows, c.dim);
    }
    kv_cache_free(&kv);
    model_free(&m);
    weights_free(&w);
    free(hidden);
}

static void logits_that_are_not_finite_are_told(void **state)
{
    struct fixture *f = *state;
    struct weights *bad = tiny_weights(&f->c, 5);
    const uint64_t seed = 3;
    const struct sampler_options opt = {.n_slots = 1, .max_len = 8};
    const struct sampler_request r = {.prompt = f->tokens,
                                      .n_prompt = 2,
                                      .seeds = &seed,
                                      .n_samples = 1,
                                      .temperature = 1.0f,
                                      .max_new = 2};
    struct sampler *s;

    bad->norm[2] = INFINITY;
    assert_ok(model_reload(f->gpu, bad, &f->e), &f->e);
    assert_ok(sampler_new(&s, f->gpu, &opt, &f->e), &f->e);
    assert_ok(sampler_add(s, &r, &f->e), &f->e);
    assert_status(sampler_run(s, &f->e), ERR_NUMERIC, &f->e);
    sampler_free(&s);
    weights_free(&bad);
}

/* ---- training -------------------------------------------------------------------------------- */

static const size_t lengths[N_SEQS] = {23, 1, 36};

struct lesson {
    int32_t tokens[ROWS], targets[ROWS];
    float weight[ROWS];
    struct train_batch b;
};

static void fill_lesson(struct lesson *l, const struct fixture *f, uint64_t seed)
{
    tiny_tokens(l->tokens, ROWS, &f->c, seed);
    tiny_tokens(l->targets, ROWS, &f->c, seed + 1000);
    l->targets[0] = l->targets[22] = l->targets[59] = -1;
    for (size_t i = 0; i < ROWS; i++)
        l->weight[i] = i % 7 == 2 ? 0.0f : ((float)(i % 5) * 0.3f - 0.5f) / ROWS;
    l->b = (struct train_batch){.tokens = l->tokens,
                                .targets = l->targets,
                                .lengths = lengths,
                                .n_seqs = N_SEQS,
                                .rows = ROWS,
                                .temperature = 0.7f};
}

static uint64_t steps_of(const struct fixture *f)
{
    return there.is_small && f->c.arch != MODEL_ARCH_QWEN2 ? 3 : N_STEPS;
}

/* Steps on the host's numbers or on the device's, which are fetched at the end only. */
static void learn(struct fixture *f, const struct kernels *k, bool recompute, struct weights *w,
                  struct adamw *a, float *logp, struct weights **grads)
{
    const struct adamw_settings s = {.lr = 0.01f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .eps = 1e-8f,
                                     .weight_decay = 0.01f,
                                     .clip_norm = 0.5f};
    const struct train_options opt = {.kernels = k, .max_rows = ROWS, .recompute = recompute};
    struct weights *published = NULL, *g;
    struct adamw_report report;
    struct lesson l;
    struct train *t;

    assert_ok(weights_new(&published, &f->c, &f->e), &f->e);
    weights_copy(published, w);
    weights_round(published, f->c.dtype);
    assert_ok(train_new(&t, published, &opt, &f->e), &f->e);
    for (uint64_t step = 0; step < steps_of(f); step++) {
        fill_lesson(&l, f, step);
        train_zero(t);
        assert_ok(
            train_gradients(t, &l.b, train_weigh_known, l.weight, logp + step * ROWS, &f->e),
            &f->e);
        train_finish(t);
        assert_ok(train_grads(&g, t, &f->e), &f->e);
        weights_copy(*grads, g);
        assert_ok(train_update(t, a, w, &s, &report, &f->e), &f->e);
        assert_int_equal(a->step, step + 1);
        weights_copy(published, w); /* on a device these are not the new ones */
        weights_round(published, f->c.dtype);
        assert_ok(train_publish(t, published, &f->e), &f->e);
    }
    assert_ok(train_fetch(t, a, w, &f->e), &f->e);
    assert_ok(train_forward(t, &l.b, logp, &f->e), &f->e);
    train_free(&t);
    weights_free(&published);
}

static void compare_learning(struct fixture *f, bool recompute)
{
    struct weights *w[2], *grads[2];
    struct adamw *a[2];
    float *logp[2];

    for (size_t i = 0; i < 2; i++) {
        w[i] = tiny_weights(&f->c, 5);
        grads[i] = tiny_weights(&f->c, 5);
        logp[i] = xcalloc((size_t)N_STEPS * ROWS, sizeof(float));
        assert_ok(adamw_new(&a[i], &f->c, &f->e), &f->e);
        learn(f, i ? kernels_there(&f->e) : there.cpu, recompute, w[i], a[i], logp[i],
              &grads[i]);
    }
    assert_same_bits(logp[1], logp[0], (size_t)N_STEPS * ROWS);
    assert_same_bits(grads[1]->data, grads[0]->data, w[0]->n_data);
    assert_same_bits(w[1]->data, w[0]->data, w[0]->n_data);
    assert_same_bits(a[1]->m->data, a[0]->m->data, w[0]->n_data);
    assert_same_bits(a[1]->v->data, a[0]->v->data, w[0]->n_data);
    for (size_t i = 0; i < 2; i++) {
        weights_free(&w[i]);
        weights_free(&grads[i]);
        adamw_free(&a[i]);
        free(logp[i]);
    }
}

static void ten_steps_are_the_cpus(void **state)
{
    compare_learning(*state, false);
}

static void ten_steps_of_bf16_weights_are_the_cpus(void **state)
{
    struct fixture *f = *state;

    f->c.dtype = DTYPE_BF16;
    compare_learning(f, true);
}

static void gradients_can_be_taken_and_put_back(void **state)
{
    struct fixture *f = *state;
    const struct train_options opt = {.kernels = kernels_there(&f->e), .max_rows = ROWS};
    struct weights *got, *want = tiny_weights(&f->c, 77);
    struct train *t;

    assert_ok(train_new(&t, f->w, &opt, &f->e), &f->e);
    train_grads_set(t, want);
    assert_ok(train_grads(&got, t, &f->e), &f->e);
    assert_ptr_not_equal(got, want);
    assert_same_bits(got->data, want->data, want->n_data);
    train_free(&t);
    weights_free(&want);
}

#define OF_EACH_FAMILY(test)                                                                   \
    cmocka_unit_test_setup_teardown(test, setup_llama, teardown),                              \
        cmocka_unit_test_setup_teardown(test, setup_qwen2, teardown),                          \
        cmocka_unit_test_setup_teardown(test, setup_qwen3, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        OF_EACH_FAMILY(forward_is_the_cpus),
        cmocka_unit_test_setup_teardown(filed_keys_and_values_are_the_cpus, setup_qwen3,
                                        teardown),
        cmocka_unit_test_setup_teardown(new_weights_are_the_ones_used, setup_llama, teardown),
        OF_EACH_FAMILY(sampled_tokens_are_the_cpus),
        OF_EACH_FAMILY(claims_are_seen_as_on_the_cpu),
        cmocka_unit_test_setup_teardown(the_largest_of_states_come_without_them, setup_llama,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_hook_sees_the_logits, setup_qwen2, teardown),
        cmocka_unit_test_setup_teardown(logits_that_are_not_finite_are_told, setup_llama,
                                        teardown),
        OF_EACH_FAMILY(ten_steps_are_the_cpus),
        cmocka_unit_test_setup_teardown(ten_steps_of_bf16_weights_are_the_cpus, setup_qwen3,
                                        teardown),
        cmocka_unit_test_setup_teardown(gradients_can_be_taken_and_put_back, setup_llama,
                                        teardown),
    };
    int failed;

    there = on_device_open(argc, argv);
    failed = cmocka_run_group_tests_name("engine/device_model", tests, NULL, NULL);
    device_close(&there.device);
    return failed;
}
