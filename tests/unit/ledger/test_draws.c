/*
 * ledger/books.h: draws are the beacon's, and attempts end by the salt that was sealed
 *
 * Terms of the world as in test_books.c.
 */
#include "ledger/books.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/canary.h"
#include "support/test.h"
#include "unit/ledger/world.h"

#define PAY INT64_C(30)

static int setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    world_init(w, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_clear(*state);
    free(*state);
    return 0;
}

static void a_draw_takes_the_beacons_next_value_only(void **state)
{
    struct world *w = *state;
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    struct ledger_cause why = world_cause(w);
    struct digest value;

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    assert_ok(world_try_commit(w, 0, 10, false), &w->e);
    assert_ok(beacon_value(&value, w->beacon, 2, &w->e), &w->e);
    struct ledger_salts salts = world_salts(w);
    ledger_draw_build(d, world_books(w), &value, NULL, 0, &salts);

    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I9: this is not the beacon's value of round 1");
    free(d);
}

/* A good draw of three units, then each way to bend it. */
static void a_draw_cannot_be_bent(void **state)
{
    struct world *w = *state;
    struct ledger_draw *good = xcalloc(1, sizeof(*good)), *d = xcalloc(1, sizeof(*d));
    struct public_key candidate[WORLD_VALIDATORS];
    struct ledger_cause why = world_cause(w);
    struct digest value;

    for (unsigned i = 0; i < WORLD_VALIDATORS; i++)
        candidate[i] = world_validator(w, i)->node;
    for (uint64_t u = 0; u < 3; u++) {
        assert_ok(world_try_lease(w, 2 - u, 1), &w->e);
        assert_ok(world_try_commit(w, 2 - u, 10, false), &w->e);
    }
    assert_ok(beacon_value(&value, w->beacon, 1, &w->e), &w->e);
    struct ledger_salts salts = world_salts(w);
    ledger_draw_build(good, world_books(w), &value, candidate, WORLD_VALIDATORS, &salts);
    assert_int_equal(good->n_rows, 3);
    assert_int_equal(good->row[0].unit, 0); /* ascending, though committed last */

    *d = *good;
    d->n_rows = 2; /* one left out */
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I9: 2 units are drawn, 3");
    *d = *good;
    d->row[2].assigned[0] = (uint8_t)((d->row[2].assigned[0] + 1) % 3);
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I9: unit 2 was drawn otherwise");
    *d = *good;
    d->row[0].probability--;
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I9: unit 0 was drawn otherwise");
    *d = *good;
    d->candidate[1] = d->candidate[0];
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I9: candidate 1 stands there twice");
    assert_ok(ledger_append_draw(w->log, good, &why, &w->out, NULL, &w->e), &w->e);
    free(good);
    free(d);
}

static void a_depth_that_the_salt_does_not_give_cannot_end(void **state)
{
    struct world *w = *state;
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    struct public_key candidate[] = {world_validator(w, 1)->node};
    struct ledger_salts salts = world_salts(w);
    struct ledger_cause why = world_cause(w);
    struct digest value;

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    assert_ok(world_try_commit(w, 0, 10, false), &w->e); /* its worker's first: in full */
    assert_ok(beacon_value(&value, w->beacon, 1, &w->e), &w->e);
    ledger_draw_build(d, world_books(w), &value, candidate, 1, &salts);
    d->row[0].depth = CHECK_LIGHT;
    assert_ok(ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), &w->e);
    assert_ok(world_try_verdict(w, 0, 1, REASON_NONE), &w->e);

    world_refused(w, world_try_accept(w, 0), ERR_INVALID,
                  "I9: by its salt unit 0 was to be drawn otherwise");
    free(d);
}

static void a_salt_that_was_not_sealed_ends_nothing(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    assert_ok(world_try_verdict(w, 0, world_judge(w, 0), REASON_NONE), &w->e);
    w->salts = 7;
    world_refused(w, world_try_accept(w, 0), ERR_DIGEST,
                  "I9: the salt of unit 0 is not the sealed one");
    world_refused(w, world_try_void(w, 0, REASON_EXPIRED), ERR_DIGEST, "I9: the salt");
    w->salts = 0;
    assert_ok(world_try_accept(w, 0), &w->e);
}

static void the_first_units_of_a_worker_are_checked_fully(void **state)
{
    struct world *w = *state;

    world_accept_unit(w, 0, 1, false);
    world_accept_unit(w, 1, 1, false);
    world_commit_unit(w, 2, 1);
    struct audit_policy third = {PAY, WORLD_STAKE, 2 * PAY, 550000, 980000, LEDGER_ONE / 50};
    struct ledger_salts salts = world_salts(w);
    struct digest value, r, salt;
    assert_ok(beacon_value(&value, w->beacon, 3, &w->e), &w->e);
    static const struct digest no_mix;
    draw_value(&r, &value, &no_mix, 2, &world_unit(w, 2)->root);
    salts.salt(salts.ctx, 2, 1, &salt);
    canary_draw_value(&r, &r, &salt);

    assert_int_equal(world_unit(w, 2)->depth,
                     draw_is_audited(&r, audit_probability(&third)) ? CHECK_FULL : CHECK_LIGHT);
}

/* Units 0 to 3 have made them no beginners; then unit 5 says what unit 4 said. */
static void copies_are_checked_fully_for_certain(void **state)
{
    struct world *w = *state;

    for (uint64_t unit = 0; unit < 2; unit++) {
        world_accept_unit(w, 2 * unit, 0, false);
        world_accept_unit(w, 2 * unit + 1, 1, false);
    }
    w->surprises = true;
    assert_ok(world_try_lease(w, 4, 0), &w->e);
    assert_ok(world_try_commit(w, 4, 12, false), &w->e);
    assert_int_equal(world_unit(w, 4)->watch.code, REASON_NONE);
    assert_ok(world_try_lease(w, 5, 1), &w->e);
    assert_ok(world_try_commit(w, 5, 12, false), &w->e);
    assert_int_equal(world_unit(w, 5)->watch.code, REASON_COPIED);
    assert_int_equal(world_unit(w, 5)->watch.other, 4);
    assert_int_equal(world_unit(w, 5)->watch.at, 1);
    assert_int_equal(world_unit(w, 4)->watch.code, REASON_COPIED); /* which is the copy? */
    assert_int_equal(world_unit(w, 4)->watch.other, 5);
    assert_ok(world_try_draw(w), &w->e);
    assert_int_equal(world_unit(w, 4)->depth, CHECK_FULL);
    assert_int_equal(world_unit(w, 5)->depth, CHECK_FULL);
    assert_ok(world_try_lease(w, 6, 1), &w->e);
    assert_ok(world_try_commit(w, 6, 12, false), &w->e);
    assert_int_equal(world_unit(w, 6)->watch.other, 4);
    assert_int_equal(world_unit(w, 4)->watch.other, 5); /* drawn already: as it was */
}

static void a_worker_is_not_judged_by_its_owners_validator(void **state)
{
    struct world *w = *state;

    for (uint64_t unit = 0; unit < 30; unit++) {
        world_commit_unit(w, unit, 0); /* worker 0 and validator 0 have one owner */
        assert_int_not_equal(world_judge(w, unit), 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_draw_takes_the_beacons_next_value_only),
        TEST(a_draw_cannot_be_bent),
        TEST(a_depth_that_the_salt_does_not_give_cannot_end),
        TEST(a_salt_that_was_not_sealed_ends_nothing),
        TEST(the_first_units_of_a_worker_are_checked_fully),
        TEST(copies_are_checked_fully_for_certain),
        TEST(a_worker_is_not_judged_by_its_owners_validator),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
