/*
 * verifier/standing: the tests of a worker go on over its units, and count none twice.
 */
#include "verifier/standing.h"

#include "support/test.h"

static const struct public_key one = {{1}}, other = {{2}};

static void heights_go_on_and_are_a_workers_own(void **state)
{
    struct standing *s;
    struct rollout_heights h;

    (void)state;
    standing_new(&s);
    h = standing_of(s, &one, 10);
    assert_true(h.margin == 0.0 && h.logprob == 0.0);
    standing_put(s, &one, 10, (struct rollout_heights){9.5, 1.0});
    h = standing_of(s, &one, 11);
    assert_true(h.margin == 9.5 && h.logprob == 1.0);
    h = standing_of(s, &other, 11);
    assert_true(h.margin == 0.0);
    standing_free(&s);
}

static void an_attempt_that_is_checked_again_counts_once(void **state)
{
    struct standing *s;
    struct rollout_heights h;

    (void)state;
    standing_new(&s);
    standing_put(s, &one, 10, (struct rollout_heights){9.5, 0.0});
    h = standing_of(s, &one, 10); /* judged by itself */
    assert_true(h.margin == 0.0);
    standing_put(s, &one, 10, (struct rollout_heights){19.0, 0.0});
    h = standing_of(s, &one, 11);
    assert_true(h.margin == 9.5);
    standing_free(&s);
}

static void many_workers_are_kept_apart(void **state)
{
    struct standing *s;

    (void)state;
    standing_new(&s);
    for (uint8_t i = 0; i < 100; i++)
        standing_put(s, &(struct public_key){{7, i}}, 5, (struct rollout_heights){i, 0.0});
    for (uint8_t i = 0; i < 100; i++)
        assert_true(standing_of(s, &(struct public_key){{7, i}}, 6).margin == i);
    standing_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heights_go_on_and_are_a_workers_own),
        cmocka_unit_test(an_attempt_that_is_checked_again_counts_once),
        cmocka_unit_test(many_workers_are_kept_apart),
    };

    return cmocka_run_group_tests_name("verifier/standing", tests, NULL, NULL);
}
