/*
 * learn/loss: the clip of INTELLECT-2 against its definition in binary64, its edges, and what
 * it has in common with PPO.
 */
#include "learn/loss.h"

#include <math.h>
#include <string.h>

#include "support/close.h"
#include "support/random.h"
#include "support/test.h"

static const struct loss_settings settings = {
    .clip_eps = 0.2f, .delta = 4.0f, .log_ratio_max = 20.0f};

/* A token of which the ratio is pi/mu = exp(log_ratio). */
static struct loss_token token_at(float log_ratio, float advantage)
{
    return loss_token_of(-3.0f + log_ratio, -3.0f, advantage, &settings);
}

/* The objective as the header states it, in binary64, for a ratio. */
static double objective(double ratio, double a, const struct loss_settings *s)
{
    double eps = (double)s->clip_eps, delta = (double)s->delta;
    double bounded = fmin(ratio, delta) * a;
    double clipped = fmin(fmax(ratio, 1.0 - eps), 1.0 + eps) * a;

    return fmin(bounded, clipped);
}

static void objective_is_the_two_sided_clip(void **state)
{
    (void)state;

    for (int i = -40; i <= 40; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            float log_ratio = (float)i / 16.0f, a = 0.75f * (float)sign;
            struct loss_token t = token_at(log_ratio, a);
            float want = (float)objective(exp((double)log_ratio), (double)a, &settings);
            float want_ratio = (float)exp((double)log_ratio);

            /* -3 + x is exact for these x (multiples of 1/16). exp_f32 is within 1 ulp (6e-8
             * relative), the product adds half of one, and 1 +- eps half of one: 2e-7. */
            assert_close(&t.ratio, &want_ratio, 1, 0.0, 2e-7);
            assert_close(&t.objective, &want, 1, 0.0, 2e-7);
        }
}

static void two_sided_is_ppo_unless_the_ratio_passes_delta(void **state)
{
    (void)state;
    struct loss_settings ppo = settings;

    ppo.delta = INFINITY;
    for (int i = -48; i <= 48; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            float logp = -3.0f + (float)i / 16.0f, a = 0.5f * (float)sign;
            struct loss_token ours = loss_token_of(logp, -3.0f, a, &settings);
            struct loss_token theirs = loss_token_of(logp, -3.0f, a, &ppo);

            if (a < 0.0f && ours.ratio >= settings.delta) {
                assert_true(ours.coef == 0.0f && theirs.coef < -2.0f);
                assert_true(ours.objective == settings.delta * a);
                continue;
            }
            assert_same_bits(&ours.coef, &theirs.coef, 1);
            assert_same_bits(&ours.objective, &theirs.objective, 1);
            assert_int_equal(ours.is_clipped, theirs.is_clipped);
        }
}

static void a_good_token_is_clipped_above_only(void **state)
{
    (void)state;

    assert_true(token_at(-5.0f, 1.0f).coef > 0.0f); /* far too unlikely: still pulled up */
    assert_true(token_at(0.125f, 1.0f).coef > 1.0f);
    assert_false(token_at(0.125f, 1.0f).is_clipped);
    assert_true(token_at(0.25f, 1.0f).is_clipped); /* exp(0.25) = 1.28 */
    assert_true(token_at(0.25f, 1.0f).coef == 0.0f);
    assert_true(token_at(3.0f, 1.0f).is_clipped);
}

static void a_bad_token_is_clipped_below_and_past_delta(void **state)
{
    (void)state;

    assert_true(token_at(-0.25f, -1.0f).is_clipped); /* exp(-0.25) = 0.78 */
    assert_true(token_at(-0.25f, -1.0f).coef == 0.0f);
    assert_false(token_at(-0.1875f, -1.0f).is_clipped); /* 0.83 */
    assert_true(token_at(-0.1875f, -1.0f).coef < -0.8f);
    assert_true(token_at(1.375f, -1.0f).coef < -3.9f); /* 3.96: no upper clip before delta */
    assert_true(token_at(1.4375f, -1.0f).is_clipped);  /* 4.21 */
}

static void at_equal_probabilities_the_ratio_is_exactly_one(void **state)
{
    (void)state;
    struct rng r = random_seeded(11);

    for (int i = 0; i < 1000; i++) {
        float logp = -30.0f * rng_f32(&r), a = 2.0f * rng_f32(&r) - 1.0f;
        struct loss_token t = loss_token_of(logp, logp, a, &settings);

        assert_true(t.ratio == 1.0f);
        assert_same_bits(&t.coef, &a, 1);
        assert_same_bits(&t.objective, &a, 1);
    }
}

static void log_ratio_is_clamped_before_exp(void **state)
{
    (void)state;
    float at_bound = loss_token_of(0.0f, -20.0f, 1.0f, &settings).ratio;
    float past = loss_token_of(0.0f, -2000.0f, 1.0f, &settings).ratio;
    float below = loss_token_of(-2000.0f, 0.0f, 1.0f, &settings).ratio;
    float low_bound = loss_token_of(-20.0f, 0.0f, 1.0f, &settings).ratio;
    float want = 485165195.4f; /* exp(20) */

    assert_close(&at_bound, &want, 1, 0.0, 1.2e-7); /* 1 ulp of exp_f32 */
    assert_same_bits(&past, &at_bound, 1);
    assert_same_bits(&below, &low_bound, 1);
    assert_true(below > 0.0f);
}

static void coefficient_is_the_slope_of_the_objective(void **state)
{
    (void)state;
    const float h = 1.0f / 1024; /* logp +- h is exact */
    unsigned n_clipped = 0;

    for (int i = -41; i <= 41; i += 2) /* odd sixteenths: no edge within h of any of them */
        for (int sign = -1; sign <= 1; sign += 2) {
            float a = 0.75f * (float)sign, x = (float)i / 16.0f;
            struct loss_token t = token_at(x, a);
            float slope =
                (token_at(x + h, a).objective - token_at(x - h, a).objective) / (2 * h);
            /* Truncation: h^2/6 of the value, 1.6e-7 relative. Rounding: each objective is off
             * by up to 2e-7 of itself, over 2h: 2e-7 * 1024 = 2.1e-4 of the objective. */
            double atol = 2.1e-4 * fabs((double)t.objective);

            assert_close(&t.coef, &slope, 1, atol, 1e-6);
            n_clipped += t.is_clipped;
        }
    assert_in_range(n_clipped, 10, 60); /* both kinds of token were seen */
}

static void advantages_are_rewards_less_their_mean(void **state)
{
    (void)state;
    const float reward[4] = {1.0f, 0.0f, 0.5f, 0.5f};
    const float want[4] = {0.5f, -0.5f, 0.0f, 0.0f}; /* the mean 0.5 is exact */
    float got[4];

    loss_advantages(got, reward, 4);

    assert_same_bits(got, want, 4);
}

static void advantages_sum_to_nearly_nothing(void **state)
{
    (void)state;
    struct rng r = random_seeded(12);
    float reward[64], a[64];

    for (size_t n = 2; n <= 64; n++) {
        double sum = 0.0;

        for (size_t i = 0; i < n; i++)
            reward[i] = rng_f32(&r);
        loss_advantages(a, reward, n);
        for (size_t i = 0; i < n; i++)
            sum += (double)a[i];
        /* u = 2^-24. The sum of n values in [0, 1) has at most n roundings, each of at most
         * u * n; over n that is n * u in the mean, and n of them in the sum: n^2 u. Each
         * subtraction adds u/2: n * u / 2. */
        assert_true(fabs(sum) <= ((double)n * (double)n + (double)n) * 0x1p-24);
        assert_true(loss_group_has_signal(reward, n));
    }
}

static void equal_rewards_carry_no_signal(void **state)
{
    (void)state;
    float reward[8];

    for (size_t i = 0; i < 8; i++)
        reward[i] = 0.3f;
    assert_false(loss_group_has_signal(reward, 8));
    reward[7] = nextafterf(0.3f, 1.0f);
    assert_true(loss_group_has_signal(reward, 8));
    reward[7] = 0.3f;
    reward[0] = 0.0f;
    assert_true(loss_group_has_signal(reward, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objective_is_the_two_sided_clip),
        cmocka_unit_test(two_sided_is_ppo_unless_the_ratio_passes_delta),
        cmocka_unit_test(a_good_token_is_clipped_above_only),
        cmocka_unit_test(a_bad_token_is_clipped_below_and_past_delta),
        cmocka_unit_test(at_equal_probabilities_the_ratio_is_exactly_one),
        cmocka_unit_test(log_ratio_is_clamped_before_exp),
        cmocka_unit_test(coefficient_is_the_slope_of_the_objective),
        cmocka_unit_test(advantages_are_rewards_less_their_mean),
        cmocka_unit_test(advantages_sum_to_nearly_nothing),
        cmocka_unit_test(equal_rewards_carry_no_signal),
    };
    return cmocka_run_group_tests_name("learn/loss", tests, NULL, NULL);
}
