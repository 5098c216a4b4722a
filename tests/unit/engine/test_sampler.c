/*
 * The sampler: each sequence comes out as if it were alone.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "engine/kernels.h"
#include "engine/ops.h"
#include "support/close.h"
#include "support/test.h"
#include "tiny_model.h"

#define MAX_TAGS    8
#define MAX_SAMPLES 3
#define MAX_LEN     200
#define C           12

/* What came out of one sample. */
struct record {
    int32_t token[MAX_LEN];
    float logp[MAX_LEN];
    float hidden[MAX_LEN * C];
    size_t n;
    size_t n_done; /* as told by on_done */
    bool is_done;
    enum sampler_finish why;
};

struct fixture {
    struct model_config c;
    struct weights *w;
    struct model *m;
    struct sampler *s;
    struct record out[MAX_TAGS][MAX_SAMPLES];
    int32_t prompt[MAX_LEN];
    size_t end_tag,
        end_index; /* on_token ends that request's samples there, if end_index > 0 */
    struct sampler_request again; /* added from inside on_done, once, if n_samples > 0 */
    struct err e;
};

static void on_token(void *ctx, const struct sampler_token *t)
{
    struct fixture *f = ctx;
    struct record *r = &f->out[t->tag][t->sample];

    assert_false(r->is_done);
    assert_int_equal(t->index, r->n);
    r->token[r->n] = t->token;
    r->logp[r->n] = t->logp;
    memcpy(r->hidden + r->n * C, t->hidden, C * sizeof(float));
    r->n++;
    if (f->end_index > 0 && t->tag == f->end_tag && t->index == f->end_index)
        sampler_end_sample(f->s);
}

static void on_done(void *ctx, uint64_t tag, size_t sample, size_t n, enum sampler_finish why)
{
    struct fixture *f = ctx;
    struct record *r = &f->out[tag][sample];

    assert_false(r->is_done);
    r->is_done = true;
    r->n_done = n;
    r->why = why;
    if (f->again.n_samples > 0) {
        const struct sampler_request request = f->again;

        f->again.n_samples = 0;
        assert_ok(sampler_add(f->s, &request, &f->e), &f->e);
    }
}

static void make_sampler(struct fixture *f, size_t n_slots, size_t max_len)
{
    const struct sampler_options opt = {
        .n_slots = n_slots,
        .max_len = max_len,
        .on_token = on_token,
        .wants_hidden = true,
        .on_done = on_done,
        .ctx = f,
    };

    sampler_free(&f->s);
    memset(f->out, 0, sizeof(f->out));
    assert_ok(sampler_new(&f->s, f->m, &opt, &f->e), &f->e);
}

static void add(struct fixture *f, uint64_t tag, size_t n_prompt, size_t n_samples,
                size_t max_new, int32_t stop)
{
    const uint64_t seeds[MAX_SAMPLES] = {100 * tag, 100 * tag + 1, 100 * tag + 2};
    const struct sampler_request r = {
        .tag = tag,
        .prompt = f->prompt + tag,
        .n_prompt = n_prompt,
        .seeds = seeds,
        .n_samples = n_samples,
        .temperature = 0.9f,
        .max_new = max_new,
        .stops = &stop,
        .n_stops = stop >= 0 ? 1 : 0,
    };

    assert_ok(sampler_add(f->s, &r, &f->e), &f->e);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    const struct model_options opt = {.max_rows = 16};

    f->c = tiny_config(MODEL_ARCH_QWEN3);
    f->w = tiny_weights(&f->c, 11);
    tiny_tokens(f->prompt, MAX_LEN, &f->c, 12);
    assert_ok(model_new(&f->m, f->w, &opt, &f->e), &f->e);
    make_sampler(f, 4, MAX_LEN);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    sampler_free(&f->s);
    model_free(&f->m);
    weights_free(&f->w);
    test_free(f);
    return 0;
}

/* The definition: one sequence, one whole forward for every token. */
static void generate_alone(struct fixture *f, struct record *r, uint64_t tag, size_t sample,
                           size_t n_prompt, size_t n_new)
{
    int32_t tokens[MAX_LEN];
    float hidden[C], logits[32];
    struct kv_cache *kv;

    memset(r, 0, sizeof(*r));
    memcpy(tokens, f->prompt + tag, n_prompt * sizeof(tokens[0]));
    assert_ok(kv_cache_new(&kv, &f->c, NULL, 1, MAX_LEN, 0, &f->e), &f->e);
    for (size_t i = 0; i < n_new; i++) {
        const struct model_run run = {.n = n_prompt + i, .n_out = 1};

        assert_ok(model_forward(f->m, kv, hidden, &run, 1, tokens, &f->e), &f->e);
        assert_ok(model_logits(f->m, logits, hidden, 1, NULL), NULL);
        tokens[n_prompt + i] = r->token[i] =
            sample_token(model_kernels(f->m), &r->logp[i], logits, f->c.vocab, 0.9f,
                         100 * tag + sample, (uint32_t)(n_prompt + i));
        memcpy(r->hidden + i * C, hidden, sizeof(hidden));
        r->n++;
    }
    kv_cache_free(&kv);
}

static void assert_as_alone(struct fixture *f, uint64_t tag, size_t sample, size_t n_prompt)
{
    struct record want, *got = &f->out[tag][sample];

    assert_true(got->is_done && got->n > 0 && got->n == got->n_done);
    generate_alone(f, &want, tag, sample, n_prompt, got->n);
    assert_memory_equal(got->token, want.token, sizeof(want.token));
    assert_same_bits(got->logp, want.logp, MAX_LEN);
    assert_same_bits(got->hidden, want.hidden, (size_t)MAX_LEN * C);
}

static void sequences_come_out_as_if_alone(void **state)
{
    struct fixture *f = *state;

    add(f, 0, 5, 3, 12, -1);
    add(f, 1, 20, 2, 4, -1); /* waits: one slot is free */
    add(f, 2, 1, 1, 20, -1);
    assert_int_equal(sampler_active(f->s), 6);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_int_equal(sampler_active(f->s), 0);
    for (size_t i = 0; i < 3; i++)
        assert_as_alone(f, 0, i, 5);
    for (size_t i = 0; i < 2; i++)
        assert_as_alone(f, 1, i, 20);
    assert_as_alone(f, 2, 0, 1);
    assert_int_equal(f->out[0][0].n, 12);
    assert_int_equal(f->out[0][0].why, SAMPLER_MAX_NEW);
    assert_memory_not_equal(f->out[0][0].token, f->out[0][1].token, 12 * sizeof(int32_t));
}

static void threads_do_not_change_a_token(void **state)
{
    struct fixture *f = *state;
    struct pool *pool;
    struct model_options opt = {0};

    pool_new(&pool, 3);
    opt.pool = pool;
    sampler_free(&f->s);
    model_free(&f->m);
    assert_ok(model_new(&f->m, f->w, &opt, &f->e), &f->e);
    make_sampler(f, 4, MAX_LEN);
    add(f, 3, 7, 3, 9, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    for (size_t i = 0; i < 3; i++)
        assert_as_alone(f, 3, i, 7);
    sampler_free(&f->s);
    model_free(&f->m);
    pool_free(&pool);
}

static void a_stop_id_is_the_last_token(void **state)
{
    struct fixture *f = *state;
    struct record alone;
    size_t first = 0;

    generate_alone(f, &alone, 0, 0, 5, 12);
    while (alone.token[first] != alone.token[6])
        first++;
    add(f, 0, 5, 1, 12, alone.token[6]);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_int_equal(f->out[0][0].why, SAMPLER_STOP);
    assert_int_equal(f->out[0][0].n, first + 1);
    assert_as_alone(f, 0, 0, 5);
}

static void a_callback_ends_its_own_sample_only(void **state)
{
    struct fixture *f = *state;

    f->end_tag = 1;
    f->end_index = 4;
    add(f, 0, 5, 1, 12, -1);
    add(f, 1, 5, 2, 12, -1);
    add(f, 2, 5, 1, 12, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_int_equal(f->out[0][0].n, 12);
    assert_int_equal(f->out[2][0].n, 12);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(f->out[1][i].n, 5);
        assert_int_equal(f->out[1][i].why, SAMPLER_STOP);
        assert_as_alone(f, 1, i, 5);
    }
}

static void a_full_cache_ends_a_sequence(void **state)
{
    struct fixture *f = *state;

    make_sampler(f, 2, 9);
    add(f, 0, 5, 1, 100, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_int_equal(f->out[0][0].why, SAMPLER_MAX_LEN);
    assert_int_equal(f->out[0][0].n, 4);
}

static void requests_may_be_added_from_a_callback(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seed = 400;

    f->again = (struct sampler_request){
        .tag = 4,
        .prompt = f->prompt + 4,
        .n_prompt = 3,
        .seeds = &seed,
        .n_samples = 1,
        .temperature = 0.9f,
        .max_new = 5,
    };
    add(f, 0, 5, 1, 2, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_as_alone(f, 4, 0, 3);
}

/* Prompts come in pieces of 9 rows and fewer while others decode. */
static void prompts_in_chunks_change_nothing(void **state)
{
    struct fixture *f = *state;
    const struct sampler_options opt = {
        .n_slots = 4,
        .max_len = MAX_LEN,
        .chunk = 9,
        .on_token = on_token,
        .wants_hidden = true,
        .on_done = on_done,
        .ctx = f,
    };
    size_t steps = 0;

    sampler_free(&f->s);
    assert_ok(sampler_new(&f->s, f->m, &opt, &f->e), &f->e);
    add(f, 0, 5, 1, 30, -1);
    add(f, 1, 60, 2, 6, -1);
    add(f, 2, 33, 1, 4, -1);
    while (f->out[1][0].n == 0) {
        assert_ok(sampler_step(f->s, &f->e), &f->e);
        steps++;
    }
    assert_int_equal(steps,
                     8); /* 4 rows of the second prompt beside the first, then by nines */
    assert_true(f->out[0][0].n == steps); /* and no step went by without a token of the first */
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_as_alone(f, 0, 0, 5);
    assert_as_alone(f, 1, 0, 60);
    assert_as_alone(f, 1, 1, 60);
    assert_as_alone(f, 2, 0, 33);
}

/* The next turn of an episode: its prompt is a sequence that is over, and more. */
static void a_next_turn_goes_on_from_the_last(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seed = 0;
    struct sampler_request r = {
        .tag = 0, .prompt = f->prompt, .n_prompt = 70, .seeds = &seed, .n_samples = 1};

    add(f, 0, 70, 2, 20, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);
    assert_as_alone(f, 0, 1, 70);
    memcpy(f->prompt + 70, f->out[0][0].token, 20 * sizeof(int32_t));
    memset(f->out, 0, sizeof(f->out));
    r.n_prompt = 95; /* five more tokens of the fixture's */
    r.temperature = 0.9f;
    r.max_new = 10;
    assert_ok(sampler_add(f->s, &r, &f->e), &f->e);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_as_alone(f, 0, 0, 95);
    assert_int_equal(sampler_stats(f->s).reused, 89); /* all but the last token drawn */
    assert_int_equal(sampler_stats(f->s).computed, 70 + 6);
}

/* Pages for two long sequences and a half: the rest waits, what is kept makes way, all ends. */
static void a_small_cache_only_takes_longer(void **state)
{
    struct fixture *f = *state;
    const struct sampler_options opt = {
        .n_slots = 4,
        .max_len = MAX_LEN,
        .max_bytes = 10 * kv_cache_page_bytes(&f->c, NULL),
        .on_token = on_token,
        .wants_hidden = true,
        .on_done = on_done,
        .ctx = f,
    };
    struct sampler_options less = opt;
    struct sampler *none;

    sampler_free(&f->s);
    assert_ok(sampler_new(&f->s, f->m, &opt, &f->e), &f->e);
    for (uint64_t tag = 0; tag < MAX_TAGS; tag++)
        add(f, tag, 20 + 15 * tag, tag % 2 + 1, 60, -1);
    assert_ok(sampler_run(f->s, &f->e), &f->e);
    for (uint64_t tag = 0; tag < MAX_TAGS; tag++)
        for (size_t i = 0; i <= tag % 2; i++)
            assert_as_alone(f, tag, i, 20 + 15 * tag);

    less.max_bytes = 3 * kv_cache_page_bytes(&f->c, NULL);
    assert_status(sampler_new(&none, f->m, &less, &f->e), ERR_LIMIT, &f->e);
}

static void a_request_larger_than_the_cache_is_refused(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seeds[4];
    const struct sampler_options opt = {
        .n_slots = 4, .max_len = MAX_LEN, .max_bytes = 8 * kv_cache_page_bytes(&f->c, NULL)};
    const struct sampler_request r = {.prompt = f->prompt,
                                      .n_prompt = 30,
                                      .seeds = seeds,
                                      .n_samples = 4,
                                      .max_new = 100}; /* three pages each */

    sampler_free(&f->s);
    assert_ok(sampler_new(&f->s, f->m, &opt, &f->e), &f->e);
    assert_status(sampler_add(f->s, &r, &f->e), ERR_LIMIT, &f->e);
    assert_int_equal(sampler_active(f->s), 0);
}

static void temperature_0_takes_the_likeliest(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seeds[2] = {1, 2};
    const struct sampler_request r = {
        .prompt = f->prompt, .n_prompt = 4, .seeds = seeds, .n_samples = 2, .max_new = 8};

    assert_ok(sampler_add(f->s, &r, &f->e), &f->e);
    assert_ok(sampler_run(f->s, &f->e), &f->e);

    assert_memory_equal(f->out[0][0].token, f->out[0][1].token, 8 * sizeof(int32_t));
    assert_true(f->out[0][0].logp[0] > -3.2f); /* better than 1 in 23 */
}

static void bad_requests_are_refused(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seeds[5];
    const struct sampler_request good = {
        .prompt = f->prompt, .n_prompt = 4, .seeds = seeds, .n_samples = 1, .max_new = 8};
    struct sampler_request bad[7] = {good, good, good, good, good, good, good};

    bad[0].n_prompt = 0;
    bad[1].n_prompt = MAX_LEN;
    bad[2].n_samples = 5;
    bad[3].max_new = 0;
    bad[4].temperature = NAN;
    bad[5].temperature = -1.0f;
    bad[6].temperature = 1e-40f; /* every logit would become infinite */
    for (size_t i = 0; i < 7; i++)
        assert_status(sampler_add(f->s, &bad[i], &f->e), ERR_INVALID, &f->e);
    f->prompt[2] = 23;
    assert_status(sampler_add(f->s, &good, &f->e), ERR_INVALID, &f->e);
    assert_int_equal(sampler_active(f->s), 0);
}

static void logits_that_are_not_finite_are_refused(void **state)
{
    struct fixture *f = *state;

    f->w->norm[1] = INFINITY;
    add(f, 0, 5, 2, 4, -1);

    assert_status(sampler_run(f->s, &f->e), ERR_NUMERIC, &f->e);
    sampler_reset(f->s);
    assert_int_equal(sampler_active(f->s), 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(sequences_come_out_as_if_alone),
        WITH(threads_do_not_change_a_token),
        WITH(a_stop_id_is_the_last_token),
        WITH(a_callback_ends_its_own_sample_only),
        WITH(a_full_cache_ends_a_sequence),
        WITH(requests_may_be_added_from_a_callback),
        WITH(prompts_in_chunks_change_nothing),
        WITH(a_next_turn_goes_on_from_the_last),
        WITH(a_small_cache_only_takes_longer),
        WITH(a_request_larger_than_the_cache_is_refused),
        WITH(temperature_0_takes_the_likeliest),
        WITH(bad_requests_are_refused),
        WITH(logits_that_are_not_finite_are_refused),
    };
    return cmocka_run_group_tests_name("engine/sampler", tests, NULL, NULL);
}
