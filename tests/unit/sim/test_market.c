/* Markets of honest and dishonest workers, on real ledgers. */
#include "sim/market.h"
#include "support/test.h"

static struct market_options options_of(const char *cheat, uint32_t saving_ppm, uint64_t floor)
{
    struct ledger_task_open open = {.deposit = 1000000000,
                                    .price_token = 10,
                                    .tokens_max = 100,
                                    .stake_required = 20000,
                                    .fee_light = 5,
                                    .fee_full = 50,
                                    .steps = 1,
                                    .verdicts_max = 4,
                                    .validators = 1,
                                    .audit_first = 5,
                                    .audit_floor = floor,
                                    .saving_ppm = saving_ppm,
                                    .detection_ppm = 980000};
    struct market_options o = {.mature_window = 512,
                               .workers = 20,
                               .dishonest = cheat ? 4 : 0,
                               .verify_ppm = 40000,
                               .units = 5000,
                               .seed = 3,
                               .cheat = cheat ? econ_cheat_find(cheat) : NULL};

    econ_terms_of(&o.terms, &open, 600000);
    return o;
}

static struct market_result result_of(const struct market_options *o)
{
    struct market_result r;
    struct err e;

    assert_ok(market_run(&r, o, &e), &e);
    assert_true(r.accepted >= o->units);
    assert_int_equal(r.honest_refused, 0);
    assert_true(r.honest_lost == 0.0);
    return r;
}

static void every_cheat_ends_below_honesty(void **state)
{
    size_t n;
    const struct econ_cheat *c = econ_cheats(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct market_options o = options_of(c[i].name, 550000, LEDGER_ONE / 20);
        struct market_result r = result_of(&o);
        if (r.cheats >= r.honest)
            fail_msg("%s brought %.0f, honest work %.0f (%llu tried, %llu found)", c[i].name,
                     r.cheats, r.honest, (unsigned long long)r.cheated,
                     (unsigned long long)r.found);
        assert_int_equal(r.barred, r.found);
    }
}

static void the_honest_earn_what_they_make(void **state)
{
    struct market_options o = options_of(NULL, 550000, LEDGER_ONE / 20);
    struct market_result r = result_of(&o);

    (void)state;
    assert_int_equal(r.barred, 0);
    assert_int_equal(r.cheated, 0);
    assert_true(r.honest * o.workers == 400.0 * (double)r.accepted);
}

static void without_audits_cheating_pays(void **state)
{
    struct market_options o = options_of("sleeping-swarm", 0, 0);
    struct market_result r = result_of(&o);

    (void)state;
    assert_int_equal(r.found, 0);
    assert_true(r.let_in > 0);
    assert_true(r.cheats > r.honest);
}

/* With canaries, bonds and second checks; the last of four validators cheats. */
static void a_validator_that_cheats_ends_below_honesty(void **state)
{
    (void)state;
    for (int v = MARKET_VALIDATOR_LAZY; v < MARKET_VALIDATOR_COUNT; v++)
        for (int recheck = 0; recheck < 2; recheck++) {
            struct market_options o = options_of("swarm", 550000, LEDGER_ONE / 20);
            struct market_result r;

            if (v == MARKET_VALIDATOR_FRAMING && !recheck)
                continue; /* only good canaries find it, and there are few */
            o.validator = (enum market_validator)v;
            o.terms.open.canary_rate = LEDGER_ONE / 20;
            o.terms.open.recheck_rate = recheck ? LEDGER_ONE / 4 : 0;
            o.terms.open.bond_required = 100000;
            o.terms.open.bond_slice_ppm = 250000;
            o.terms.open.bond_strikes = 3;
            if (v != MARKET_VALIDATOR_COLLUDING)
                o.dishonest = 0;
            o.units = 1000;
            r = result_of(&o);
            assert_true(r.canaries > 10);
            assert_true(r.validator_cheats < r.validators_honest);
            assert_int_equal(r.honest_contradicted, 0);
            assert_int_equal(r.honest_refused, 0);
            if (v != MARKET_VALIDATOR_COLLUDING || recheck)
                assert_true(r.contradicted > 0);
            assert_int_equal(r.struck_by_states > 0, recheck);
        }
}

static void the_same_seed_gives_the_same_market(void **state)
{
    struct market_options o = options_of("units-5", 550000, LEDGER_ONE / 20);
    struct market_result a = result_of(&o), b = result_of(&o), c;

    (void)state;
    assert_int_equal(a.found, b.found);
    assert_true(a.cheats == b.cheats && a.honest == b.honest);
    o.seed = 4;
    c = result_of(&o);
    assert_true(a.cheated != c.cheated || a.audited != c.audited);
}

static void impossible_markets_are_refused(void **state)
{
    struct market_options o = options_of("nothing", 550000, 0);
    struct market_result r;
    struct err e;

    (void)state;
    o.dishonest = o.workers;
    assert_int_equal(market_run(&r, &o, &e), ERR_INVALID);
    o.dishonest = 1;
    o.workers = MARKET_WORKERS_MAX + 1;
    assert_int_equal(market_run(&r, &o, &e), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cheat_ends_below_honesty),
        cmocka_unit_test(the_honest_earn_what_they_make),
        cmocka_unit_test(without_audits_cheating_pays),
        cmocka_unit_test(a_validator_that_cheats_ends_below_honesty),
        cmocka_unit_test(the_same_seed_gives_the_same_market),
        cmocka_unit_test(impossible_markets_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
