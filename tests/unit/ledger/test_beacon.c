/* ledger/beacon.h */
#include "ledger/beacon.h"

#include <string.h>

#include "ledger/body.h"
#include "support/test.h"

static const struct digest no_mix;

static void every_round_reveals_the_preimage_of_the_one_before(void **state)
{
    (void)state;
    const uint64_t lengths[] = {1, 2, 3, 4, 15, 16, 17, 1000};
    struct digest seed = {{7}};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct beacon *b;
        struct digest above;
        struct err e;
        beacon_new(&b, &seed, lengths[i]);
        above = *beacon_head(b);
        for (uint64_t round = 1; round <= lengths[i]; round++) {
            struct digest value, h;
            assert_ok(beacon_value(&value, b, round, &e), &e);
            beacon_next(&h, &value);
            assert_true(digest_equal(&h, &above));
            above = value;
        }
        assert_true(digest_equal(&above, &seed)); /* round N reveals h_0 */
        beacon_free(&b);
    }
}

static void rounds_past_the_end_are_refused(void **state)
{
    (void)state;
    struct digest seed = {{7}}, value;
    struct beacon *b;
    struct err e;

    beacon_new(&b, &seed, 10);

    assert_status(beacon_value(&value, b, 0, &e), ERR_LIMIT, NULL);
    assert_status(beacon_value(&value, b, 11, &e), ERR_LIMIT, NULL);
    beacon_free(&b);
}

static void a_draw_depends_on_value_unit_and_root(void **state)
{
    (void)state;
    struct digest v1 = {{1}}, v2 = {{2}}, root1 = {{3}}, root2 = {{4}};
    struct digest r[4];

    draw_value(&r[0], &v1, &no_mix, 5, &root1);
    draw_value(&r[1], &v2, &no_mix, 5, &root1);
    draw_value(&r[2], &v1, &no_mix, 6, &root1);
    draw_value(&r[3], &v1, &no_mix, 5, &root2);

    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            assert_false(digest_equal(&r[i], &r[k]));
}

static void probability_one_draws_all_and_zero_none(void **state)
{
    (void)state;
    struct digest low = {{0}}, high;

    memset(&high, 0xff, sizeof(high));

    assert_true(draw_is_audited(&high, LEDGER_ONE));
    assert_false(draw_is_audited(&low, 0));
    assert_true(draw_is_audited(&low, 1));
    assert_false(draw_is_audited(&high, LEDGER_ONE - 1));
}

/* n draws at p are binomial: the count lies within 6 standard deviations of n p but once in 5e8
 * seeds, and this seed is fixed. n = 20000, p = 1/8: mean 2500, sd 46.8. */
static void units_are_drawn_as_often_as_the_probability_says(void **state)
{
    (void)state;
    struct digest value = {{9}}, root = {{0}};
    int n = 0;

    for (uint64_t unit = 0; unit < 20000; unit++) {
        struct digest r;
        draw_value(&r, &value, &no_mix, unit, &root);
        n += draw_is_audited(&r, LEDGER_ONE / 8);
    }

    assert_in_range(n, 2500 - 281, 2500 + 281);
}

static uint64_t probability(int64_t reward, int64_t stake, int64_t pending, uint64_t floor)
{
    struct audit_policy p = {reward, stake, pending, 550000, 980000, floor};

    return audit_probability(&p);
}

/* 2 p* = 2 s / (d (R + S + P)) with s = 0.55 R, d = 0.98, in parts of 2^32, rounded up. The
 * numbers are from python3: fractions, ceil. The inner quotient is rounded up as well, so the
 * result may be above by 2^32 / (R + S + P) + 1, at R + S + P >= 3e7 by 144 at the most. */
static void probability_is_twice_the_least_that_deters(void **state)
{
    (void)state;
    const uint64_t slack = 144;

    /* R=1, S=5, K=24: p* = 0.018707, so 0.037414 * 2^32 = 160696056 */
    assert_in_range(probability(1000000, 5000000, 24000000, 0), 160696056, 160696056 + slack);
    /* R=1, S=20, K=100: p* = 0.0046383 -> 39841998 */
    assert_in_range(probability(1000000, 20000000, 100000000, 0), 39841998, 39841998 + slack);
    /* R=1, S=0, K=0: 2 p* = 1.122 > 1 */
    assert_int_equal(probability(1000000, 0, 0, 0), LEDGER_ONE);
}

static void probability_is_clamped(void **state)
{
    (void)state;
    const int64_t rich = LEDGER_SUPPLY_MAX;

    assert_int_equal(probability(1, rich, rich, LEDGER_ONE / 50), LEDGER_ONE / 50);
    assert_int_equal(probability(0, 0, 0, LEDGER_ONE / 50), LEDGER_ONE / 50);
    assert_int_equal(probability(0, 100, 0, 3), 3);
    assert_int_equal(probability(rich, 0, 0, 0), LEDGER_ONE);
    assert_int_equal(probability(5, 0, 0, 2 * LEDGER_ONE), LEDGER_ONE);
}

/* R = S = P: at_stake = 3 R whatever R is, so p = 2 * 0.55 / 0.98 / 3 = 0.374150, even where the
 * products need more than 64 bits. */
static void probability_holds_for_all_the_money_there_is(void **state)
{
    (void)state;
    const uint64_t want = 1606960553; /* ceil(110 / 294 * 2^32) */

    assert_in_range(probability(LEDGER_SUPPLY_MAX, LEDGER_SUPPLY_MAX, LEDGER_SUPPLY_MAX, 0),
                    want, want + 1);
}

static void candidate(struct draw_candidate *c, uint8_t node, uint8_t owner)
{
    memset(c, 0, sizeof(*c));
    c->node.b[0] = node;
    c->owner.b[0] = owner;
}

static void validators_of_the_workers_owner_judge_only_without_others(void **state)
{
    (void)state;
    struct draw_candidate c[3];
    struct public_key worker = {{1}}, owner = {{50}};
    struct digest r = {{3}};
    uint8_t order[LEDGER_CANDIDATES_MAX];

    candidate(&c[0], 10, 50);
    candidate(&c[1], 11, 51);
    candidate(&c[2], 1, 52); /* the worker itself */
    assert_int_equal(draw_validators(order, &r, c, 3, &worker, &owner), 1);
    assert_int_equal(order[0], 1);

    assert_int_equal(draw_validators(order, &r, c, 1, &worker, &owner), 1);
    assert_int_equal(order[0], 0);

    assert_int_equal(draw_validators(order, &r, c + 2, 1, &worker, &owner), 0);
    assert_int_equal(draw_validators(order, &r, c, 0, &worker, &owner), 0);
}

/* 3000 draws among 3: each is first about 1000 times, sd 25.8; 6 sd = 155. */
static void each_validator_comes_first_as_often_as_the_others(void **state)
{
    (void)state;
    struct draw_candidate c[3];
    struct public_key worker = {{1}}, owner = {{50}};
    int first[3] = {0};

    for (uint8_t i = 0; i < 3; i++)
        candidate(&c[i], 10 + i, 60 + i);
    for (uint64_t unit = 0; unit < 3000; unit++) {
        struct digest value = {{5}}, root = {{6}}, r;
        uint8_t order[LEDGER_CANDIDATES_MAX];
        draw_value(&r, &value, &no_mix, unit, &root);
        assert_int_equal(draw_validators(order, &r, c, 3, &worker, &owner), 3);
        first[order[0]]++;
    }

    for (int i = 0; i < 3; i++)
        assert_in_range(first[i], 845, 1155);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_round_reveals_the_preimage_of_the_one_before),
        cmocka_unit_test(rounds_past_the_end_are_refused),
        cmocka_unit_test(a_draw_depends_on_value_unit_and_root),
        cmocka_unit_test(probability_one_draws_all_and_zero_none),
        cmocka_unit_test(units_are_drawn_as_often_as_the_probability_says),
        cmocka_unit_test(probability_is_twice_the_least_that_deters),
        cmocka_unit_test(probability_is_clamped),
        cmocka_unit_test(probability_holds_for_all_the_money_there_is),
        cmocka_unit_test(validators_of_the_workers_owner_judge_only_without_others),
        cmocka_unit_test(each_validator_comes_first_as_often_as_the_others),
    };
    return cmocka_run_group_tests_name("ledger/beacon", tests, NULL, NULL);
}
