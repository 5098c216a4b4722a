/*
 * The forward pass: right, against the same model in binary64; and the same bits however the rows
 * come.
 */
#include "engine/layer.h"
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "engine/kernels.h"
#include "support/close.h"
#include "support/test.h"
#include "tiny_model.h"

#define LEN 300 /* crosses attention's block of 256 */

struct fixture {
    struct model_config c;
    struct weights *w;
    struct model *m;
    struct kv_cache *kv;
    int32_t tokens[LEN];
    float *want; /* (LEN, C): the hidden states of one whole prefill */
    float *got;
    struct err e;
};

static struct model *make_model(struct fixture *f, const char *kernels, struct pool *pool,
                                size_t max_rows)
{
    struct model_options opt = {.pool = pool, .max_rows = max_rows};
    struct model *m;

    assert_ok(kernels_choose(&opt.kernels, NUMERICS_F32_1, kernels, &f->e), &f->e);
    assert_ok(model_new(&m, f->w, &opt, &f->e), &f->e);
    return m;
}

/* Rows [first, first + n) of the fixture's sequence, in `slot`; all are wanted. */
static void feed(struct fixture *f, struct model *m, size_t slot, size_t first, size_t n)
{
    const struct model_run run = {.slot = slot, .first = first, .n = n, .n_out = n};

    assert_ok(
        model_forward(m, f->kv, f->got + first * f->c.dim, &run, 1, f->tokens + first, &f->e),
        &f->e);
}

static int setup_arch(void **state, enum model_arch arch)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->c = tiny_config(arch);
    f->w = tiny_weights(&f->c, 7);
    f->m = make_model(f, "scalar", NULL, 512);
    assert_ok(kv_cache_new(&f->kv, &f->c, NULL, 4, f->c.max_len, 0, &f->e), &f->e);
    tiny_tokens(f->tokens, LEN, &f->c, 3);
    f->want = xcalloc((size_t)LEN * f->c.dim, sizeof(float));
    f->got = xcalloc((size_t)LEN * f->c.dim, sizeof(float));
    feed(f, f->m, 0, 0, LEN);
    memcpy(f->want, f->got, (size_t)LEN * f->c.dim * sizeof(float));
    memset(f->got, 0, (size_t)LEN * f->c.dim * sizeof(float));
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

    model_free(&f->m);
    kv_cache_free(&f->kv);
    weights_free(&f->w);
    free(f->want);
    free(f->got);
    test_free(f);
    return 0;
}

static void assert_as_prefilled(const struct fixture *f, size_t n)
{
    assert_same_bits(f->got, f->want, n * f->c.dim);
}

/* Errors of some 20 operations on sums of up to 300 terms, each within 300 * 2^-24 of what it adds
 * up if all rounding goes one way: 4e-4 of values around 1. */
static void forward_is_the_model_computed_in_binary64(void **state)
{
    struct fixture *f = *state;
    size_t n_hidden = (size_t)LEN * f->c.dim, n_logits = (size_t)LEN * f->c.vocab;
    double *hidden = xcalloc(n_hidden, sizeof(double)),
           *logits = xcalloc(n_logits, sizeof(double));
    float *want = xcalloc(n_logits, sizeof(float)), *got = xcalloc(n_logits, sizeof(float));

    tiny_reference(hidden, logits, f->w, f->tokens, LEN);
    assert_ok(model_logits(f->m, got, f->want, LEN, NULL), NULL);

    for (size_t i = 0; i < n_logits; i++)
        want[i] = (float)logits[i];
    assert_close(got, want, n_logits, 4e-4, 4e-4);
    free(hidden);
    free(logits);
    free(want);
    free(got);
}

static void decode_gives_the_bits_of_prefill(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < LEN; i++)
        feed(f, f->m, 1, i, 1);

    assert_as_prefilled(f, LEN);
}

static void chunks_give_the_bits_of_prefill(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0, n = 1; i < LEN; i += n, n = (n * 7 + 3) % 90 + 1)
        feed(f, f->m, 1, i, i + n < LEN ? n : LEN - i);

    assert_as_prefilled(f, LEN);
}

static void a_model_of_few_rows_gives_the_same_bits(void **state)
{
    struct fixture *f = *state;
    struct model *small = make_model(f, "scalar", NULL, 17);

    feed(f, small, 2, 0, LEN);

    assert_as_prefilled(f, LEN);
    model_free(&small);
}

static void every_backend_gives_the_same_bits(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; kernels_name_at(NUMERICS_F32_1, i); i++) {
        if (!kernels_available(NUMERICS_F32_1, kernels_name_at(NUMERICS_F32_1, i)))
            continue;
        struct model *m = make_model(f, kernels_name_at(NUMERICS_F32_1, i), NULL, 64);

        kv_cache_truncate(f->kv, 3, 0);
        feed(f, m, 3, 0, LEN);
        assert_as_prefilled(f, LEN);
        model_free(&m);
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    struct fixture *f = *state;
    struct pool *pool;

    pool_new(&pool, 3);
    struct model *m = make_model(f, "auto", pool, 64);
    feed(f, m, 1, 0, LEN);

    assert_as_prefilled(f, LEN);
    model_free(&m);
    pool_free(&pool);
}

/* Three sequences in one call, all pieces of the fixture's: a prompt, a chunk and a decoded row. */
static void what_else_is_in_the_call_does_not_matter(void **state)
{
    struct fixture *f = *state;
    size_t C = f->c.dim;
    const struct model_run runs[] = {
        {.slot = 2, .first = 0, .n = 40, .n_out = 2},
        {.slot = 1, .first = 270, .n = 30, .n_out = 30},
        {.slot = 3, .first = 259, .n = 1, .n_out = 1},
    };
    int32_t tokens[71];
    float out[33 * 12];

    feed(f, f->m, 1, 0, 270);
    feed(f, f->m, 3, 0, 259);
    memcpy(tokens, f->tokens, 40 * sizeof(tokens[0]));
    memcpy(tokens + 40, f->tokens + 270, 30 * sizeof(tokens[0]));
    tokens[70] = f->tokens[259];
    assert_ok(model_forward(f->m, f->kv, out, runs, 3, tokens, &f->e), &f->e);

    assert_same_bits(out, f->want + 38 * C, 2 * C);
    assert_same_bits(out + 2 * C, f->want + 270 * C, 30 * C);
    assert_same_bits(out + 32 * C, f->want + 259 * C, C);
}

static void a_copied_prompt_goes_on_as_if_computed(void **state)
{
    struct fixture *f = *state;

    feed(f, f->m, 1, 0, 260);
    kv_cache_copy(f->kv, 2, 1, 260);
    kv_cache_truncate(f->kv, 1, 0);
    feed(f, f->m, 2, 260, LEN - 260);

    assert_as_prefilled(f, LEN);
}

/* Three slots share a prompt that ends inside a page; each goes on by tokens of its own. */
static void slots_that_share_pages_do_not_see_each_other(void **state)
{
    struct fixture *f = *state;
    const size_t n = 150, C = f->c.dim;
    float *alone = xcalloc((size_t)LEN * C, sizeof(float));
    size_t free_before;

    feed(f, f->m, 1, 0, n);
    kv_cache_copy(f->kv, 2, 1, n);
    kv_cache_copy(f->kv, 3, 1, n);
    free_before = f->kv->n_free;
    for (size_t i = n; i < LEN; i++)
        f->tokens[i] = (f->tokens[i] + 1) % (int32_t)f->c.vocab;
    feed(f, f->m, 2, n, LEN - n); /* other tokens in the page that slots 1 and 3 read */
    memcpy(alone, f->got, (size_t)LEN * C * sizeof(float));
    assert_int_equal(free_before - f->kv->n_free, kv_cache_pages(LEN) - n / 64);
    for (size_t i = n; i < LEN; i++)
        f->tokens[i] = (f->tokens[i] + (int32_t)f->c.vocab - 1) % (int32_t)f->c.vocab;
    feed(f, f->m, 1, n, LEN - n);
    assert_as_prefilled(f, LEN);
    feed(f, f->m, 3, n, LEN - n);
    assert_as_prefilled(f, LEN);
    assert_memory_not_equal(alone + n * C, f->want + n * C, C * sizeof(float));

    for (size_t slot = 1; slot < 4; slot++)
        kv_cache_truncate(f->kv, slot, 0);
    assert_int_equal(f->kv->n_free, f->kv->n_pages - kv_cache_pages(LEN));
    free(alone);
}

/* Of four slots that share their only page, in a cache of four, the last to write keeps it. */
static void slots_that_share_a_page_fit_a_cache_of_as_many(void **state)
{
    struct fixture *f = *state;
    struct model_run runs[4];
    int32_t tokens[4];
    float out[4 * 12];

    kv_cache_free(&f->kv);
    assert_ok(kv_cache_new_pages(&f->kv, &f->c, NULL, 4, 64, 4, &f->e), &f->e);
    feed(f, f->m, 0, 0, 10);
    for (size_t i = 0; i < 4; i++) {
        kv_cache_copy(f->kv, i, 0, 10);
        runs[i] = (struct model_run){.slot = i, .first = 10, .n = 1, .n_out = 1};
        tokens[i] = f->tokens[10];
    }
    assert_ok(model_forward(f->m, f->kv, out, runs, 4, tokens, &f->e), &f->e);

    assert_int_equal(f->kv->n_free, 0);
    for (size_t i = 0; i < 4; i++)
        assert_same_bits(out + i * f->c.dim, f->want + 10 * f->c.dim, f->c.dim);
}

static void a_full_cache_refuses_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct model_run run = {.slot = 0, .n = 200, .n_out = 1};

    kv_cache_free(&f->kv);
    assert_ok(kv_cache_new_pages(&f->kv, &f->c, NULL, 2, LEN, 5, &f->e), &f->e);
    assert_ok(model_forward(f->m, f->kv, f->got, &run, 1, f->tokens, &f->e), &f->e);
    run.slot = 1;
    assert_status(model_forward(f->m, f->kv, f->got, &run, 1, f->tokens, &f->e), ERR_LIMIT,
                  &f->e);
    assert_int_equal(f->kv->n_free, 1);
    assert_int_equal(f->kv->len[1], 0);
    kv_cache_truncate(f->kv, 0, 0);
    feed(f, f->m, 1, 0, LEN);

    assert_as_prefilled(f, LEN);
}

static void positions_may_be_computed_again(void **state)
{
    struct fixture *f = *state;
    int32_t kept = f->tokens[100];

    f->tokens[100] = (kept + 1) % (int32_t)f->c.vocab;
    feed(f, f->m, 1, 0, 120);
    f->tokens[100] = kept;
    feed(f, f->m, 1, 100, LEN - 100);

    assert_as_prefilled(f, LEN);
}

static void reload_takes_the_new_weights(void **state)
{
    struct fixture *f = *state;
    struct weights *other = tiny_weights(&f->c, 8);
    struct model *m;

    assert_ok(model_reload(f->m, other, NULL), NULL);
    feed(f, f->m, 1, 0, 20);
    assert_memory_not_equal(f->got, f->want, (size_t)20 * f->c.dim * sizeof(float));
    m = f->m;
    assert_ok(model_reload(m, f->w, NULL), NULL);
    feed(f, m, 2, 0, 20);

    assert_as_prefilled(f, 20);
    weights_free(&other);
}

static void bad_runs_are_refused_and_change_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct model_run bad[] = {
        {.slot = 9, .first = 0, .n = 1, .n_out = 1},     /* no such slot */
        {.slot = 1, .first = 1, .n = 1, .n_out = 1},     /* a gap */
        {.slot = 0, .first = 300, .n = 0, .n_out = 0},   /* empty */
        {.slot = 0, .first = 300, .n = 1, .n_out = 2},   /* more out than in */
        {.slot = 0, .first = 300, .n = 341, .n_out = 1}, /* past the end */
    };
    const struct model_run twice[] = {{.slot = 0, .first = 300, .n = 1, .n_out = 1},
                                      {.slot = 0, .first = 301, .n = 1, .n_out = 1}};
    static const int32_t zeros[400];
    float out[2 * 12];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_status(model_forward(f->m, f->kv, out, &bad[i], 1, zeros, &f->e), ERR_INVALID,
                      &f->e);
    assert_status(model_forward(f->m, f->kv, out, twice, 2, zeros, &f->e), ERR_INVALID, &f->e);
    assert_status(model_forward(f->m, f->kv, out, twice, 1, (const int32_t[]){23}, &f->e),
                  ERR_INVALID, &f->e);
    assert_status(model_forward(f->m, f->kv, out, twice, 1, (const int32_t[]){-1}, &f->e),
                  ERR_INVALID, &f->e);

    assert_int_equal(f->kv->len[0], LEN);
}

static void what_takes_too_much_memory_is_refused_with_its_size(void **state)
{
    struct fixture *f = *state;
    const struct model_options opt = {.max_rows = 64, .max_bytes = 1000};
    struct model *m;
    struct kv_cache *kv;

    assert_status(model_new(&m, f->w, &opt, &f->e), ERR_LIMIT, &f->e);
    assert_contains(f->e.text, "1000");
    assert_status(kv_cache_new(&kv, &f->c, NULL, 4, 100, 1000, &f->e), ERR_LIMIT, &f->e);
    assert_true(kv_cache_bytes(&f->c, NULL, 4, 100) >
                (size_t)4 * 100 * 2 * 2 * 12 * sizeof(float));
    assert_status(kv_cache_new(&kv, &f->c, NULL, 1, f->c.max_len + 1, 0, &f->e), ERR_INVALID,
                  &f->e);
}

/* 2^24 positions would be tables of half a gigabyte. */
static void a_claimed_length_takes_no_memory_before_it_is_reached(void **state)
{
    struct fixture *f = *state;
    struct weights *w;
    struct kv_cache *kv;
    struct model *m;
    struct model_config c = f->c;
    const struct model_options opt = {.max_rows = 512};
    const struct model_run run = {.n = LEN, .n_out = LEN};
    c.max_len = 1u << 24;
    w = tiny_weights(&c, 7);

    assert_ok(model_new(&m, w, &opt, &f->e), &f->e);
    assert_ok(kv_cache_new(&kv, &c, NULL, 1, LEN, 0, &f->e), &f->e);
    assert_ok(model_forward(m, kv, f->got, &run, 1, f->tokens, &f->e), &f->e);

    assert_in_range(m->n_rope, LEN, 4096);
    assert_same_bits(f->got, f->want, (size_t)LEN * c.dim);
    kv_cache_free(&kv);
    model_free(&m);
    weights_free(&w);
}

#define WITH(test, arch) cmocka_unit_test_setup_teardown(test, setup_##arch, teardown)
#define WITH_ALL(test)   WITH(test, llama), WITH(test, qwen2), WITH(test, qwen3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ALL(forward_is_the_model_computed_in_binary64),
        WITH_ALL(decode_gives_the_bits_of_prefill),
        WITH_ALL(chunks_give_the_bits_of_prefill),
        WITH_ALL(a_model_of_few_rows_gives_the_same_bits),
        WITH_ALL(every_backend_gives_the_same_bits),
        WITH_ALL(threads_do_not_change_a_bit),
        WITH_ALL(what_else_is_in_the_call_does_not_matter),
        WITH_ALL(a_copied_prompt_goes_on_as_if_computed),
        WITH(slots_that_share_pages_do_not_see_each_other, llama),
        WITH(slots_that_share_a_page_fit_a_cache_of_as_many, llama),
        WITH(a_full_cache_refuses_and_changes_nothing, llama),
        WITH(positions_may_be_computed_again, llama),
        WITH(reload_takes_the_new_weights, llama),
        WITH(bad_runs_are_refused_and_change_nothing, llama),
        WITH(what_takes_too_much_memory_is_refused_with_its_size, llama),
        WITH(a_claimed_length_takes_no_memory_before_it_is_reached, llama),
    };
    return cmocka_run_group_tests_name("engine/model", tests, NULL, NULL);
}
