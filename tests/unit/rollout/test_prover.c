/*
 * rollout/prover: proofs from each row's largest elements are those from whole rows.
 */
#include "rollout/prover.h"

#include <string.h>

#include "engine/device.h"
#include "engine/ops.h"
#include "engine/sampler.h"
#include "proto/toploc.h"
#include "support/random.h"
#include "support/test.h"

#define DIM  200u
#define ROWS 75u /* two chunks and a part */

struct both {
    struct prover whole, top;
    struct err e;
};

static void begin(struct both *b)
{
    assert_ok(prover_init(&b->whole, DIM, false, &b->e), &b->e);
    assert_ok(prover_init(&b->top, DIM, true, &b->e), &b->e);
}

static void clear(struct both *b)
{
    prover_clear(&b->whole);
    prover_clear(&b->top);
}

static void add(struct both *b, const float *state)
{
    assert_ok(prover_add(&b->whole, kernels_best(), state, &b->e), &b->e);
    assert_ok(prover_add(&b->top, kernels_best(), state, &b->e), &b->e);
}

static void assert_same_proofs(struct both *b)
{
    assert_ok(prover_end(&b->whole, &b->e), &b->e);
    assert_ok(prover_end(&b->top, &b->e), &b->e);
    assert_int_equal(b->top.proofs.len, 3 * TOPLOC_PROOF_BYTES);
    assert_int_equal(b->whole.proofs.len, b->top.proofs.len);
    assert_memory_equal(b->whole.proofs.data, b->top.proofs.data, b->top.proofs.len);
    assert_int_equal(b->top.states.len, 3 * sizeof(struct digest));
}

/* `values`: of how many a state's elements are drawn; few make equal magnitudes, of which the first count. */
static void proofs_are_those_of_whole_rows(size_t values, struct prover_crew *crew)
{
    struct rng r = random_seeded(values);
    struct both b = {0};

    begin(&b);
    b.top.crew = crew;
    for (size_t i = 0; i < ROWS; i++) {
        float state[DIM];

        for (size_t c = 0; c < DIM; c++)
            state[c] =
                ((float)rng_below(&r, values) + 1.0f) * (rng_u32(&r) & 1 ? 0.01f : -0.01f);
        add(&b, state);
    }
    assert_same_proofs(&b);
    clear(&b);
}

static void of_many_values(void **state)
{
    (void)state;
    proofs_are_those_of_whole_rows(100000, NULL);
}

static void of_equal_magnitudes_the_first_count(void **state)
{
    (void)state;
    proofs_are_those_of_whole_rows(3, NULL);
}

static void by_a_crew(void **state)
{
    struct prover_crew *crew;

    (void)state;
    prover_crew_new(&crew);
    for (size_t i = 0; i < 20; i++)
        proofs_are_those_of_whole_rows(1000 + i, crew);
    prover_crew_free(&crew);
    assert_null(crew);
}

#define SEQUENCES 40u

/* Those of many at once, each to its own prover; and one that is given up while the crew works on it. */
static void a_crew_has_many_provers(void **state)
{
    struct prover p[SEQUENCES];
    struct prover_crew *crew;
    struct prover alone;
    struct err e;

    (void)state;
    prover_crew_new(&crew);
    for (size_t i = 0; i < SEQUENCES; i++) {
        assert_ok(prover_init(&p[i], DIM, true, &e), &e);
        p[i].crew = crew;
    }
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < SEQUENCES; i++) {
            const float row[DIM] = {[3] = (float)(i + 1), [5] = (float)(r + 1)};

            assert_ok(prover_add(&p[i], kernels_best(), row, &e), &e);
        }
    for (size_t i = 0; i < SEQUENCES; i++)
        assert_ok(prover_close(&p[i], &e), &e);
    prover_clear(&p[0]);
    for (size_t i = 1; i < SEQUENCES; i++) {
        assert_ok(prover_init(&alone, DIM, true, &e), &e);
        for (size_t r = 0; r < ROWS; r++) {
            const float row[DIM] = {[3] = (float)(i + 1), [5] = (float)(r + 1)};

            assert_ok(prover_add(&alone, kernels_best(), row, &e), &e);
        }
        assert_ok(prover_end(&alone, &e), &e);
        assert_ok(prover_end(&p[i], &e), &e);
        assert_int_equal(p[i].proofs.len, 3 * TOPLOC_PROOF_BYTES);
        assert_memory_equal(p[i].proofs.data, alone.proofs.data, alone.proofs.len);
        assert_int_equal(p[i].states.len, alone.states.len);
        assert_memory_equal(p[i].states.data, alone.states.data, alone.states.len);
        prover_clear(&alone);
        prover_clear(&p[i]);
    }
    prover_crew_free(&crew);
}

/* NaN is no state: whoever adds the next chunk, or ends, is told. */
static void what_a_crew_cannot_make_is_told(void **state)
{
    struct prover_row row = {.index = {1, 2}, .value = {0x7fc0, 0x7fc0}};
    struct prover_crew *crew;
    struct prover p;
    struct err e;

    (void)state;
    prover_crew_new(&crew);
    assert_ok(prover_init(&p, DIM, true, &e), &e);
    p.crew = crew;
    assert_ok(prover_add_top(&p, row.index, row.value, &e), &e);
    assert_status(prover_end(&p, &e), ERR_NUMERIC, &e);
    prover_clear(&p);
    prover_crew_free(&crew);
}

static void one_other_value_is_another_digest(void **state)
{
    struct both b[2] = {0};
    float row[DIM] = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        begin(&b[i]);
        row[7] = (float)(i + 1);
        add(&b[i], row);
        assert_ok(prover_end(&b[i].top, &b[i].e), &b[i].e);
    }
    assert_memory_not_equal(b[0].top.states.data, b[1].top.states.data, sizeof(struct digest));
    clear(&b[0]);
    clear(&b[1]);
}

#define SAMPLES 2u

/* What the callbacks of a sampler were given: the largest of states, or the states. */
struct given {
    struct sampler *sampler;
    struct prover_row top[SAMPLES][4];
    size_t n_tokens[SAMPLES], n_tops[SAMPLES];
};

static void on_token(void *ctx, const struct sampler_token *t)
{
    struct given *g = ctx;
    uint16_t narrow[128];
    struct err e;

    assert_int_equal(g->n_tokens[t->sample]++, t->index);
    if (!t->hidden)
        return;
    bf16_from_f32_row(kernels_best(), narrow, t->hidden, 128);
    assert_ok(prover_top_of_row(&g->top[t->sample][t->index], narrow, 128, &e), &e);
    g->n_tops[t->sample]++;
}

static void on_top(void *ctx, const struct sampler_top *t)
{
    struct given *g = ctx;
    struct prover_row *row = &g->top[t->sample][g->n_tops[t->sample]++];

    assert_int_equal(g->n_tops[t->sample], g->n_tokens[t->sample]);
    memcpy(row->index, t->index, sizeof(row->index));
    memcpy(row->value, t->value, sizeof(row->value));
}

/* Of the first sample: it is over before the others. */
static void on_token_ends(void *ctx, const struct sampler_token *t)
{
    struct given *g = ctx;

    on_token(ctx, t);
    if (t->sample == 0 && t->index == 1)
        sampler_end_sample(g->sampler);
}

static void on_done(void *ctx, uint64_t tag, size_t sample, size_t n, enum sampler_finish why)
{
    const struct given *g = ctx;

    (void)tag;
    (void)why;
    assert_int_equal(g->n_tokens[sample], n);
    assert_int_equal(g->n_tops[sample], n);
}

/* Without a device, the emulated one among them, there is nothing to see. */
static void a_sampler_on_a_device_gives_the_largest_of_what_it_would_give(void **state)
{
    const struct model_config c = {.arch = MODEL_ARCH_LLAMA,
                                   .vocab = 11,
                                   .dim = 128,
                                   .layers = 1,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 32,
                                   .ffn = 64,
                                   .max_len = 16,
                                   .norm_eps = 1e-5f,
                                   .rope_theta = 1e4,
                                   .tie = true,
                                   .bos = -1,
                                   .pad = -1};
    const int32_t prompt[] = {1, 2, 3};
    const uint64_t seeds[SAMPLES] = {7, 8};
    struct given g[2] = {0};
    struct device *d = NULL;
    const struct kernels *k;
    struct weights *w;
    struct model *m;
    struct err e;

    (void)state;
    if (device_count() == 0)
        return;
    assert_ok(device_open(&d, "cuda", &e), &e);
    assert_ok(device_kernels(&k, d, NUMERICS_OPEN_CUDA, &e), &e);
    assert_ok(weights_new(&w, &c, &e), &e);
    weights_init_random(w, 3);
    assert_ok(model_new(&m, w, &(struct model_options){.kernels = k}, &e), &e);
    for (int i = 0; i < 2; i++) {
        const struct sampler_options so = {.n_slots = 2,
                                           .max_len = 16,
                                           .on_token = on_token_ends,
                                           .on_top = i == 1 ? on_top : NULL,
                                           .on_done = on_done,
                                           .wants_hidden = i == 0,
                                           .ctx = &g[i]};
        struct sampler *s;

        assert_ok(sampler_new(&s, m, &so, &e), &e);
        g[i].sampler = s;
        assert_ok(sampler_add(s,
                              &(struct sampler_request){.prompt = prompt,
                                                        .n_prompt = 3,
                                                        .seeds = seeds,
                                                        .n_samples = SAMPLES,
                                                        .temperature = 1.0f,
                                                        .max_new = 4},
                              &e),
                  &e);
        assert_ok(sampler_run(s, &e), &e);
        sampler_free(&s);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(g[i].n_tops[0], 2);
        assert_int_equal(g[i].n_tops[1], 4);
    }
    assert_memory_equal(g[0].top, g[1].top, sizeof(g[0].top));
    model_free(&m);
    weights_free(&w);
    device_close(&d);
}

static void only_open_cuda_takes_them(void **state)
{
    (void)state;
    assert_true(prover_takes_top(NUMERICS_OPEN_CUDA, 128));
    assert_false(prover_takes_top(NUMERICS_OPEN_CUDA, 127));
    assert_false(prover_takes_top(NUMERICS_OPEN_OPENBLAS, 128));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_many_values),
        cmocka_unit_test(of_equal_magnitudes_the_first_count),
        cmocka_unit_test(by_a_crew),
        cmocka_unit_test(a_crew_has_many_provers),
        cmocka_unit_test(what_a_crew_cannot_make_is_told),
        cmocka_unit_test(one_other_value_is_another_digest),
        cmocka_unit_test(a_sampler_on_a_device_gives_the_largest_of_what_it_would_give),
        cmocka_unit_test(only_open_cuda_takes_them),
    };
    return cmocka_run_group_tests_name("prover", tests, NULL, NULL);
}
