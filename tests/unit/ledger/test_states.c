/*
 * Sealed verdicts, and two prefills against a third: ledger/books_states.c
 *
 * Every full check of this world is drawn for two. An honest validator finds what is a function of
 * the unit and of whose places it looks at; one that lies invents numbers of its own. A strike takes
 * a quarter of 10000 at stake and the fee of 20.
 */
#include "ledger/books.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/audit.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"

#define STRIKE (WORLD_STAKE / 4 + INT64_C(20))

struct place {
    struct world w;
    char *dir;         /* owned */
    unsigned judge[3]; /* in the order in which they are asked about unit 0 */
};

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->dir = tempdir_make();
    world_init_rechecks(&p->w, p->dir, LEDGER_ONE);
    world_commit_unit(&p->w, 0, 1);
    p->judge[0] = world_judge(&p->w, 0);
    p->judge[1] = (p->judge[0] + 1) % 3;
    p->judge[2] = (p->judge[0] + 2) % 3;
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    world_clear(&p->w);
    tempdir_remove(&p->dir);
    free(p);
    return 0;
}

static enum status seal(struct place *p, unsigned i)
{
    return world_try_seal(&p->w, 0, p->judge[i], REASON_NONE);
}

/* The first two judge before either is shown; if that leaves a question, the third is asked. */
static void play(struct place *p)
{
    struct world *w = &p->w;

    assert_ok(seal(p, 0), &w->e);
    assert_ok(world_try_assign(w, 0, p->judge[1], CHECK_FULL), &w->e);
    assert_ok(seal(p, 1), &w->e);
    assert_ok(world_try_show(w, p->judge[0]), &w->e);
    assert_ok(world_try_show(w, p->judge[1]), &w->e);
    if (!ledger_books_states_differ(world_books(w), 0))
        return;
    assert_ok(world_try_assign(w, 0, p->judge[2], CHECK_FULL), &w->e);
    assert_ok(world_try_verdict(w, 0, p->judge[2], REASON_NONE), &w->e);
}

/* Who is struck of the three, if it must be one of them, and not another. */
static void assert_struck(struct place *p, unsigned i)
{
    struct ledger_states_judge x;
    const struct public_key *key = &world_validator(&p->w, p->judge[i])->node;
    unsigned a = p->judge[(i + 1) % 3], c = p->judge[(i + 2) % 3];
    struct world *w = &p->w;

    assert_true(ledger_states_judge_build(&x, world_books(w), 0));
    assert_true(key_equal(&x.validator, key));
    world_refused(w, world_try_judge_states(w, 0, a, c, p->judge[i]), ERR_INVALID,
                  "I9: the verdicts on unit 0 say otherwise");
    assert_ok(world_try_judge_states(w, 0, p->judge[i], a, c), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, key), WORLD_STAKE - STRIKE);
    assert_int_equal(ledger_books_node(world_books(w), key)->n_contradicted, 1);
    assert_false(ledger_states_judge_build(&x, world_books(w), 0));
    world_refused(w, world_try_judge_states(w, 0, p->judge[i], a, c), ERR_EXISTS, "I9");
    assert_ok(world_try_accept(w, 0), &w->e);
    world_flush(w);
    struct audit_report r;
    assert_int_equal(audit_run(&r, p->dir), AUDIT_CLEAN);
}

static void two_honest_ones_need_no_third(void **state)
{
    struct place *p = *state;
    struct ledger_states_judge x;

    play(p);
    assert_int_equal(world_unit(&p->w, 0)->n_opinions, 2);
    assert_false(ledger_states_judge_build(&x, world_books(&p->w), 0));
    assert_ok(world_try_accept(&p->w, 0), &p->w.e);
}

static void a_first_that_did_not_look_is_struck(void **state)
{
    struct place *p = *state;

    p->w.lies[p->judge[0]] = true;
    play(p);
    assert_struck(p, 0);
}

static void a_second_that_did_not_look_is_struck(void **state)
{
    struct place *p = *state;

    p->w.lies[p->judge[1]] = true;
    play(p);
    assert_struck(p, 1);
}

/* The third alone has looked: two words against one, of which none is anything but invented. */
static void being_outvoted_strikes_nobody(void **state)
{
    struct place *p = *state;
    struct ledger_states_judge x;

    p->w.lies[p->judge[0]] = p->w.lies[p->judge[1]] = true;
    play(p);
    assert_int_equal(world_unit(&p->w, 0)->n_opinions, 3);
    assert_true(ledger_books_states_differ(world_books(&p->w), 0));
    assert_false(ledger_states_judge_build(&x, world_books(&p->w), 0));
    world_refused(&p->w,
                  world_try_judge_states(&p->w, 0, p->judge[2], p->judge[0], p->judge[1]),
                  ERR_INVALID, "I9");
}

static void a_verdict_is_the_one_that_was_sealed(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    world_refused(w, seal(p, 1), ERR_DENIED, "I9: unit 0 was not given to this validator");
    assert_ok(seal(p, 0), &w->e);
    w->sealed[p->judge[0]].entry.envelope.b[0] ^= 1;
    world_refused(w, world_try_show(w, p->judge[0]), ERR_DENIED, "was sealed");
    w->sealed[p->judge[0]].entry.envelope.b[0] ^= 1;
    memset(&w->sealed[p->judge[0]].entry.states, 0, DIGEST_BYTES);
    world_refused(w, world_try_show(w, p->judge[0]), ERR_INVALID, "without states");
}

/* A validator that was started again may seal anew as long as it has seen nothing. */
static void a_seal_may_be_made_anew_until_something_is_shown(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_ok(seal(p, 0), &w->e);
    assert_ok(world_try_assign(w, 0, p->judge[1], CHECK_FULL), &w->e);
    assert_ok(seal(p, 1), &w->e);
    assert_ok(seal(p, 0), &w->e);
    assert_ok(world_try_show(w, p->judge[0]), &w->e);
    world_refused(w, seal(p, 1), ERR_EXISTS, "others were shown");
}

static void who_comes_later_opens_those_before(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct world_verdict *v = &w->sealed[p->judge[1]];

    assert_ok(seal(p, 0), &w->e);
    assert_ok(world_try_assign(w, 0, p->judge[1], CHECK_FULL), &w->e);
    assert_ok(seal(p, 1), &w->e);
    assert_int_equal(v->entry.n_opened, 1);
    v->entry.n_opened = 0;
    world_refused(w, world_try_show(w, p->judge[1]), ERR_INVALID, "opens others");
    v->entry.n_opened = 1;
    assert_ok(world_try_show(w, p->judge[1]), &w->e);
}

static void a_unit_drawn_for_two_is_not_accepted_by_one_in_silence(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_ok(world_try_verdict(w, 0, p->judge[0], REASON_NONE), &w->e);
    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "drawn for two checks");
    w->is_sole = true;
    assert_ok(world_try_accept(w, 0), &w->e);
}

static void bent(struct place *p, enum world_bend bend, const char *why)
{
    struct audit_report r;

    p->w.bend = bend;
    assert_ok(world_try_verdict(&p->w, 0, p->judge[0], REASON_NONE), &p->w.e);
    world_flush(&p->w);
    assert_int_equal(audit_run(&r, p->dir), AUDIT_VIOLATION);
    assert_contains(r.why, why);
}

static void the_audit_compares_states(void **state)
{
    bent(*state, BEND_STATES, "VERDICT has other states");
}

static void the_audit_compares_seals(void **state)
{
    bent(*state, BEND_SEAL, "VERDICT_SEAL says something else");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(two_honest_ones_need_no_third),
        TEST(a_first_that_did_not_look_is_struck),
        TEST(a_second_that_did_not_look_is_struck),
        TEST(being_outvoted_strikes_nobody),
        TEST(a_verdict_is_the_one_that_was_sealed),
        TEST(a_seal_may_be_made_anew_until_something_is_shown),
        TEST(who_comes_later_opens_those_before),
        TEST(a_unit_drawn_for_two_is_not_accepted_by_one_in_silence),
        TEST(the_audit_compares_states),
        TEST(the_audit_compares_seals),
    };
    return cmocka_run_group_tests_name("ledger/states", tests, NULL, NULL);
}
