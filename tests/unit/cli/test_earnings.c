/*
 * cli/earnings: money from rates, and rates from a task.
 */
#include "cli/earnings.h"

#include <string.h>

#include "support/test.h"

static const char yaml[] =
    "name: paid\n"
    "model: {dim: 16, layers: 1, heads: 2, ffn: 24, max_len: 24, alphabet: \"abcd\"}\n"
    "sampling: {group: 4, max_new_tokens: 8}\n"
    "algorithm: {units_per_batch: 2, steps: 4, grad_lanes: 2}\n"
    "budget: {fee_full: 700, price_step: 9000}\n"
    "prices: {f32-1: 10}\n";

static int setup(void **state)
{
    struct task *t = test_calloc(1, sizeof(*t));
    struct err e;

    assert_ok(task_parse(t, bytes_str(yaml), "task.yaml", &e), &e);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    task_clear(*state);
    test_free(*state);
    return 0;
}

static void an_hour_is_what_the_rates_come_to(void **state)
{
    /* A prompt of 16 takes 0.16 s, 4 answers of 8 take 0.64 s: 4,500 units of 32 tokens. A check is
     * 48 rows: 0.48 s. A step is 2 units of 4 sequences of 23 rows, 184: 1.84 s and 0.16 s. */
    const struct earnings_rates r = {
        .decode = 50.0, .prefill = 100.0, .train = 100.0, .step_seconds = 0.16};
    const struct earnings x = earnings_of(*state, "f32-1", &r);

    assert_true(x.inference > 1439999.0 && x.inference < 1440001.0); /* 4,500 * 320 */
    assert_true(x.verifier > 5249999.0 && x.verifier < 5250001.0);   /* 7,500 * 700 */
    assert_true(x.trainer > 16199999.0 && x.trainer < 16200001.0);   /* 1,800 * 9,000 */
}

static void what_is_not_paid_or_not_measured_is_no_number(void **state)
{
    const struct earnings_rates r = {.decode = 50.0, .prefill = 100.0};
    struct earnings x = earnings_of(*state, "bf16-1", &r);

    assert_true(x.inference < 0.0 && x.verifier < 0.0 && x.trainer < 0.0);
    x = earnings_of(*state, "open-openblas", &r);
    assert_true(x.inference < 0.0 && x.verifier < 0.0 && x.trainer < 0.0);
    x = earnings_of(*state, "f32-1", &r);
    assert_true(x.inference > 0.0 && x.verifier > 0.0 && x.trainer < 0.0);
}

static struct model_config config_of(const struct task *t)
{
    return (struct model_config){.arch = MODEL_ARCH_LLAMA,
                                 .vocab = 8,
                                 .dim = (uint32_t)t->model.dim,
                                 .layers = (uint32_t)t->model.layers,
                                 .heads = (uint32_t)t->model.heads,
                                 .kv_heads = (uint32_t)t->model.heads,
                                 .head_dim = 8,
                                 .ffn = (uint32_t)t->model.ffn,
                                 .max_len = (uint32_t)t->model.max_len,
                                 .norm_eps = 1e-5f,
                                 .rope_theta = 10000.0,
                                 .tie = true,
                                 .bos = -1,
                                 .pad = -1};
}

static void every_class_of_this_machine_is_measured(void **state)
{
    const struct model_config c = config_of(*state);
    unsigned n = 0;

    for (unsigned class = 0; class < NUMERICS_COUNT; class ++) {
        const struct kernels *k;
        struct earnings_rates r;
        struct pool *pool;
        struct err e;

        if (kernels_choose(&k, (enum numerics) class, NULL, NULL))
            continue;
        pool_new(&pool, 2);
        assert_ok(earnings_measure(&r, *state, &c, k, pool, 0.01, &e), &e);
        assert_true(r.decode > 0.0 && r.prefill > 0.0 && r.train > 0.0 &&
                    r.step_seconds >= 0.0);
        assert_string_equal(r.why_no_train, "");
        pool_free(&pool);
        n++;
    }
    assert_true(n >= 2); /* f32-1 and bf16-1 run anywhere */
}

static void what_does_not_fit_is_told_before_it_is_taken(void **state)
{
    struct model_config c = config_of(*state);
    struct earnings_rates r;
    struct err e;

    c.dim = 65536; /* 6 TB */
    c.head_dim = 32768;
    c.ffn = 262144;
    c.layers = 20;
    assert_status(earnings_measure(&r, *state, &c, kernels_best(), NULL, 0.01, &e), ERR_LIMIT,
                  NULL);
    assert_contains(e.text, "MiB free");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_hour_is_what_the_rates_come_to),
        CASE(what_is_not_paid_or_not_measured_is_no_number),
        CASE(every_class_of_this_machine_is_measured),
        CASE(what_does_not_fit_is_told_before_it_is_taken),
    };

    return cmocka_run_group_tests_name("cli/earnings", tests, NULL, NULL);
}
