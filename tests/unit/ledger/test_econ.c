/* When a cheat pays, against the policy that is there to prevent it. */
#include "base/rng.h"
#include "ledger/econ.h"
#include "support/test.h"

static struct econ_terms terms_of(uint32_t saving_ppm, uint64_t floor, int64_t stake,
                                  int64_t granted)
{
    struct ledger_task_open open = {.price_token = 10,
                                    .tokens_max = 100,
                                    .stake_required = stake,
                                    .stake_granted = granted,
                                    .audit_first = 5,
                                    .audit_floor = floor,
                                    .saving_ppm = saving_ppm,
                                    .detection_ppm = 980000};
    struct econ_terms t;

    econ_terms_of(&t, &open, 600000);
    return t;
}

static unsigned count_paying(const struct econ_terms *t)
{
    unsigned n_pay = 0;
    size_t n;
    const struct econ_cheat *c = econ_cheats(&n);

    for (size_t i = 0; i < n; i++) {
        struct econ_row row;
        econ_judge(&row, t, &c[i]);
        assert_true(row.honest == (double)(t->pay - t->cost));
        assert_true(row.pays == (row.gain > row.loss));
        n_pay += row.pays;
    }
    return n_pay;
}

static void the_usual_terms_let_no_cheat_pay(void **state)
{
    struct econ_terms t = terms_of(550000, LEDGER_ONE / 20, 1000000, 1000000);

    (void)state;
    assert_int_equal(count_paying(&t), 0);
}

/* p = min(1, 2 p*): where the saving that the policy assumes is the true one, gain <= loss. */
static void no_cheat_pays_where_the_policy_knows_what_it_saves(void **state)
{
    struct rng r = rng_of(7, 1);

    (void)state;
    for (int i = 0; i < 300; i++) {
        int64_t stake = (int64_t)rng_below(&r, 100000);
        struct econ_terms t = terms_of(600000, 0, stake, (int64_t)rng_below(&r, 100000));
        assert_int_equal(count_paying(&t), 0);
    }
}

/* Nor does a version that was never made, unless none is recomputed. */
static void skipping_a_batch_pays_only_where_nobody_looks(void **state)
{
    struct econ_terms t = terms_of(550000, LEDGER_ONE / 20, 1000000, 1000000);
    struct econ_row row;

    (void)state;
    t.open.price_step = 1000;
    assert_false(econ_judge_trainer(&row, &t)); /* a class without disputes */
    t.open.dispute_ms = 60000;
    assert_true(econ_judge_trainer(&row, &t));
    assert_true(row.pays);
    for (uint64_t floor = 1; floor <= LEDGER_ONE; floor *= 16) {
        t.open.step_rate = floor;
        assert_true(econ_judge_trainer(&row, &t));
        assert_false(row.pays);
    }
}

static void a_policy_that_is_told_too_little_is_called_out(void **state)
{
    struct econ_terms t = terms_of(1000, 0, 1000000, 0);

    (void)state;
    assert_true(count_paying(&t) > 10);
}

static void what_the_light_check_finds_pays_under_no_terms(void **state)
{
    struct econ_terms t = terms_of(0, 0, 0, 0);
    struct econ_row row;

    (void)state;
    econ_judge(&row, &t, econ_cheat_find("reward"));
    assert_false(row.pays);
    assert_true(row.found == 1.0);
    econ_judge(&row, &t, econ_cheat_find("nothing"));
    assert_true(row.pays);
}

static void a_given_stake_deters_nobody(void **state)
{
    struct econ_terms own = terms_of(550000, 0, 1000000, 0);
    struct econ_terms given = terms_of(550000, 0, 1000000, 1000000);
    struct econ_row a, b;

    (void)state;
    econ_judge(&a, &own, econ_cheat_find("nothing"));
    econ_judge(&b, &given, econ_cheat_find("nothing"));
    assert_true(a.audited < 0.01);
    assert_true(b.audited == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_terms_let_no_cheat_pay),
        cmocka_unit_test(no_cheat_pays_where_the_policy_knows_what_it_saves),
        cmocka_unit_test(skipping_a_batch_pays_only_where_nobody_looks),
        cmocka_unit_test(a_policy_that_is_told_too_little_is_called_out),
        cmocka_unit_test(what_the_light_check_finds_pays_under_no_terms),
        cmocka_unit_test(a_given_stake_deters_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
