/*
 * top-k, top-p and min-p: what is kept, and that the draw among it is sample_token's.
 */
#include "engine/truncate.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/kernels.h"
#include "engine/ops.h"
#include "support/close.h"
#include "support/test.h"

#define N_IDS   6
#define N_SEEDS 4000u

/* Of the ids 3, 1, 5, 0, 2, 4 the probabilities are 1/2, 1/4, 1/8, 1/16, 1/32, 1/32 at the temperature
 * at which a unit of a logit is worth log 2. */
static const float logits[N_IDS] = {-4, -2, -5, -1, -5, -3};
static const size_t order[N_IDS] = {3, 1, 5, 0, 2, 4};
#define TEMPERATURE (1.0f / 0.6931472f)

struct drawn {
    size_t n[N_IDS];
};

static const struct kernels *scalar(void)
{
    const struct kernels *k;
    struct err e;

    assert_ok(kernels_choose(&k, NUMERICS_F32_1, "scalar", &e), &e);
    return k;
}

static struct draw_place place(const float *from, uint64_t seed)
{
    return (struct draw_place){.kernels = scalar(),
                               .logits = from,
                               .V = N_IDS,
                               .temperature = TEMPERATURE,
                               .seed = seed,
                               .position = 7};
}

static struct drawn draw(size_t top_k, float top_p, float min_p)
{
    const struct truncate_options opt = {.top_k = top_k, .top_p = top_p, .min_p = min_p};
    struct drawn d = {0};
    struct truncate *t;
    struct err e;

    assert_ok(truncate_new(&t, &opt, N_IDS, 1, &e), &e);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const struct draw_place at = place(logits, seed);

        d.n[truncate_draw(t, &at, NULL)]++;
    }
    truncate_free(&t);
    return d;
}

static void assert_keeps(struct drawn d, size_t n)
{
    for (size_t i = 0; i < N_IDS; i++)
        assert_int_equal(d.n[order[i]] > 0, i < n);
}

static void draws_as_sample_token_where_nothing_is_cut(void **state)
{
    (void)state;
    const struct truncate_options all = {.top_p = 1.0f}, most = {.top_k = N_IDS, .top_p = 1.0f};
    struct truncate *t, *u;
    struct err e;

    assert_ok(truncate_new(&t, &all, N_IDS, 1, &e), &e);
    assert_ok(truncate_new(&u, &most, N_IDS, 1, &e), &e);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const struct draw_place at = place(logits, seed);
        float want_logp, logp;
        int32_t want =
            sample_token(at.kernels, &want_logp, logits, N_IDS, at.temperature, seed, 7);

        assert_int_equal(truncate_draw(t, &at, &logp), want);
        assert_same_bits(&logp, &want_logp, 1);
        assert_int_equal(truncate_draw(u, &at, NULL), want);
    }
    truncate_free(&t);
    truncate_free(&u);
}

static void top_k_keeps_the_first_k(void **state)
{
    (void)state;
    for (size_t k = 1; k <= N_IDS; k++)
        assert_keeps(draw(k, 1.0f, 0.0f), k);
}

static void of_equal_logits_the_lower_id_is_first(void **state)
{
    (void)state;
    const struct truncate_options opt = {.top_k = 1, .top_p = 1.0f};
    const float equal[N_IDS] = {-1.0f, -0.0f, 0.0f, -0.0f, 0.0f, -1.0f};
    struct truncate *t;
    struct err e;

    assert_ok(truncate_new(&t, &opt, N_IDS, 1, &e), &e);
    for (uint64_t seed = 0; seed < 50; seed++) {
        const struct draw_place at = place(equal, seed);

        assert_int_equal(truncate_draw(t, &at, NULL), 1);
    }
    truncate_free(&t);
}

static void top_p_keeps_the_fewest_that_have_it(void **state)
{
    (void)state;
    assert_keeps(draw(0, 0.0f, 0.0f), 1);
    assert_keeps(draw(0, 0.49f, 0.0f), 1);
    assert_keeps(draw(0, 0.51f, 0.0f), 2);
    assert_keeps(draw(0, 0.74f, 0.0f), 2);
    assert_keeps(draw(0, 0.76f, 0.0f), 3);
    assert_keeps(draw(0, 0.95f, 0.0f), 5);
}

/* Of the first two, 1/2 and 1/4, the first has two thirds. */
static void top_p_is_a_part_of_what_top_k_left(void **state)
{
    (void)state;
    assert_keeps(draw(2, 0.65f, 0.0f), 1);
    assert_keeps(draw(2, 0.68f, 0.0f), 2);
}

static void min_p_keeps_what_is_likely_enough(void **state)
{
    (void)state;
    assert_keeps(draw(0, 1.0f, 1.0f), 1);
    assert_keeps(draw(0, 1.0f, 0.51f), 1);
    assert_keeps(draw(0, 1.0f, 0.49f), 2);
    assert_keeps(draw(0, 1.0f, 0.12f), 4);
    assert_keeps(draw(3, 1.0f, 0.12f), 3);
    assert_keeps(draw(0, 0.51f, 0.12f), 2);
}

/* Two thirds of N draws: N p within five times sqrt(N p (1 - p)), which one seed in two million
 * would miss; the seeds are fixed, so it is missed always or never. */
static void what_is_kept_is_drawn_in_proportion(void **state)
{
    (void)state;
    const struct drawn d = draw(2, 1.0f, 0.0f);
    const double want = N_SEEDS * 2.0 / 3.0, sigma = sqrt(N_SEEDS * 2.0 / 9.0);

    assert_true(fabs((double)d.n[3] - want) < 5 * sigma);
}

static void logp_is_of_the_whole_distribution(void **state)
{
    (void)state;
    const struct truncate_options opt = {.top_k = 1, .top_p = 1.0f};
    struct truncate *t;
    float logp;
    struct err e;

    assert_ok(truncate_new(&t, &opt, N_IDS, 1, &e), &e);
    const struct draw_place at = place(logits, 1);
    assert_int_equal(truncate_draw(t, &at, &logp), 3);
    /* log(1/2); the temperature's rounding moves it by less than its last bits */
    assert_close(&logp, ((const float[]){-0.6931472f}), 1, 0, 1e-6);
    truncate_free(&t);
}

static void temperature_0_is_the_likeliest(void **state)
{
    (void)state;
    const struct truncate_options opt = {.top_k = 3, .top_p = 0.9f, .min_p = 0.01f};
    struct truncate *t;
    struct err e;

    assert_ok(truncate_new(&t, &opt, N_IDS, 1, &e), &e);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct draw_place at = place(logits, seed);

        at.temperature = 0.0f;
        assert_int_equal(truncate_draw(t, &at, NULL), 3);
    }
    truncate_free(&t);
}

static void refuses_what_is_no_part(void **state)
{
    (void)state;
    const struct truncate_options wrong[] = {
        {.top_p = 1.5f}, {.top_p = -0.1f}, {.top_p = NAN}, {.top_p = 1, .min_p = 2}};
    struct truncate *t;
    struct err e;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_status(truncate_new(&t, &wrong[i], N_IDS, 1, &e), ERR_INVALID, NULL);
        assert_contains(e.text, "0..1");
        assert_null(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_as_sample_token_where_nothing_is_cut),
        cmocka_unit_test(top_k_keeps_the_first_k),
        cmocka_unit_test(of_equal_logits_the_lower_id_is_first),
        cmocka_unit_test(top_p_keeps_the_fewest_that_have_it),
        cmocka_unit_test(top_p_is_a_part_of_what_top_k_left),
        cmocka_unit_test(min_p_keeps_what_is_likely_enough),
        cmocka_unit_test(what_is_kept_is_drawn_in_proportion),
        cmocka_unit_test(logp_is_of_the_whole_distribution),
        cmocka_unit_test(temperature_0_is_the_likeliest),
        cmocka_unit_test(refuses_what_is_no_part),
    };

    return cmocka_run_group_tests_name("engine/truncate", tests, NULL, NULL);
}
