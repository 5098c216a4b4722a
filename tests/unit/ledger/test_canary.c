/*
 * Canaries in the books and in the audit: ledger/books_canary.c
 *
 * Every first attempt of this world is a canary, three in four of them bad; a worker's submission
 * is a function of the unit, so two workers agree. Validators have 10000 at stake, of which a
 * strike takes a quarter and the fee of 20.
 */
#include "ledger/books.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/audit.h"
#include "proto/canary.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"

#define PAY      INT64_C(30)
#define FEE_FULL INT64_C(20)
#define STRIKE   (WORLD_STAKE / 4 + FEE_FULL)

struct place {
    struct world w;
    char *dir; /* owned */
};

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->dir = tempdir_make();
    world_init_canaries(&p->w, p->dir, LEDGER_ONE);
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

static void assert_refused(struct world *w, enum status got, enum status want, const char *why)
{
    assert_status(got, want, NULL);
    assert_contains(w->e.text, why);
}

/* The next unit from *unit on whose first attempt is a canary of this kind. */
static uint64_t unit_of_kind(struct world *w, uint64_t from, enum canary_kind kind)
{
    struct ledger_salts salts = world_salts(w);
    struct digest salt;

    for (uint64_t unit = from;; unit++) {
        salts.salt(salts.ctx, unit, 1, &salt);
        if (canary_kind_of(&salt, 1, LEDGER_ONE) == kind)
            return unit;
    }
}

/* Leased, committed as ordered, drawn, judged by whoever was drawn; its index. */
static unsigned play(struct world *w, uint64_t unit, unsigned worker, bool alters,
                     enum reason code)
{
    unsigned judge;

    w->alters = alters;
    world_commit_unit(w, unit, worker);
    w->alters = false;
    judge = world_judge(w, unit);
    assert_ok(world_try_verdict(w, unit, judge, code), &w->e);
    return judge;
}

static void make_again(struct world *w, uint64_t unit)
{
    play(w, unit, 2, false, REASON_NONE);
    assert_int_equal(world_unit(w, unit)->depth, CHECK_FULL);
    assert_ok(world_try_accept(w, unit), &w->e);
}

static void audit_says(struct place *p, enum audit_result want, const char *why)
{
    struct audit_report *r = xcalloc(1, sizeof(*r));

    world_flush(&p->w);
    db_close(&p->w.db);
    assert_int_equal(audit_run(r, p->dir), want);
    assert_contains(r->why, why);
    free(r);
}

static void a_canary_has_no_other_end(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_BAD);

    play(w, unit, 1, true, REASON_LOGPROB);

    assert_int_equal(world_unit(w, unit)->depth, CHECK_FULL);
    assert_refused(w, world_try_accept(w, unit), ERR_DENIED, "was a canary");
    assert_refused(w, world_try_void(w, unit, REASON_EXPIRED), ERR_DENIED, "CANARY_REVEAL");
    assert_refused(w, world_try_reject_hard(w, unit, REASON_LOGPROB, true), ERR_DENIED,
                   "was a canary");
    assert_ok(world_try_reveal(w, unit), &w->e);
    assert_int_equal(world_unit(w, unit)->state, UNIT_FREE);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, &world_worker(w, 1)->node), PAY);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, &world_worker(w, 1)->node), WORLD_STAKE);
}

static void what_is_no_canary_is_not_revealed(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_GOOD);

    play(w, unit, 1, false, REASON_NONE);
    assert_ok(world_try_reveal(w, unit), &w->e);
    play(w, unit, 2, false, REASON_NONE); /* its second attempt */
    assert_refused(w, world_try_reveal(w, unit), ERR_DENIED, "was no canary");
    assert_ok(world_try_accept(w, unit), &w->e);
}

static void who_accepts_a_bad_one_loses_a_slice_and_the_finder_nothing(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_BAD), second;
    unsigned lazy = play(w, unit, 1, true, REASON_NONE), finder;

    assert_ok(world_try_reveal(w, unit), &w->e);
    assert_refused(w, world_try_judge_canary(w, unit, LEDGER_CANARY_BAD), ERR_DENIED,
                   "was not made again");
    make_again(w, unit);
    assert_refused(w, world_try_batch(w, &unit, 1), ERR_DENIED, "cannot be in batch");
    assert_ok(world_try_judge_canary(w, unit, LEDGER_CANARY_BAD), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, &world_validator(w, lazy)->node),
                     WORLD_STAKE - STRIKE);
    assert_int_equal(world_balance(w, ACCOUNT_JACKPOT, NULL), STRIKE);
    assert_ok(world_try_batch(w, &unit, 1), &w->e);

    second = unit_of_kind(w, unit + 1, CANARY_BAD);
    finder = play(w, second, 1, true, REASON_TOKEN);
    assert_ok(world_try_reveal(w, second), &w->e);
    make_again(w, second);
    int64_t before = world_balance(w, ACCOUNT_PENDING, &world_validator(w, finder)->node);
    assert_ok(world_try_judge_canary(w, second, LEDGER_CANARY_BAD), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, &world_validator(w, finder)->node),
                     before + 500); /* a third of the jackpot is more */
    audit_says(p, AUDIT_CLEAN, "");
}

static void who_rejects_a_good_one_loses_a_slice(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_GOOD);
    unsigned framer = play(w, unit, 1, false, REASON_TOKEN);

    assert_ok(world_try_reveal(w, unit), &w->e);
    make_again(w, unit);
    assert_refused(w, world_try_judge_canary(w, unit, LEDGER_CANARY_BAD), ERR_INVALID,
                   "say otherwise");
    assert_ok(world_try_judge_canary(w, unit, LEDGER_CANARY_GOOD), &w->e);

    assert_int_equal(world_balance(w, ACCOUNT_STAKE, &world_validator(w, framer)->node),
                     WORLD_STAKE - STRIKE);
}

/* A worker that does not obey hurts no honest validator. */
static void a_bad_one_that_was_not_altered_contradicts_its_accuser_only(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_BAD);
    unsigned honest = play(w, unit, 1, false, REASON_NONE);

    assert_ok(world_try_reveal(w, unit), &w->e);
    make_again(w, unit);
    assert_refused(w, world_try_judge_canary(w, unit, LEDGER_CANARY_BAD), ERR_INVALID,
                   "say otherwise");
    assert_ok(world_try_judge_canary(w, unit, LEDGER_CANARY_GOOD), &w->e);

    assert_int_equal(world_balance(w, ACCOUNT_STAKE, &world_validator(w, honest)->node),
                     WORLD_STAKE);
}

static void the_third_strike_takes_all_and_bars(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t unit = 0;
    unsigned strikes[WORLD_VALIDATORS] = {0}, last;

    do {
        unit = unit_of_kind(w, unit, CANARY_BAD);
        last = play(w, unit, 1, true, REASON_NONE); /* everyone is lazy */
        assert_ok(world_try_reveal(w, unit), &w->e);
        make_again(w, unit);
        assert_ok(world_try_judge_canary(w, unit++, LEDGER_CANARY_BAD), &w->e);
    } while (++strikes[last] < 3);

    const struct public_key *key = &world_validator(w, last)->node;
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, key), 0);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, key), 0);
    assert_true(ledger_books_node(world_books(w), key)->is_slashed);
    audit_says(p, AUDIT_CLEAN, "");
}

static void the_audit_compares_the_submissions(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_BAD);

    play(w, unit, 1, true, REASON_NONE);
    assert_ok(world_try_reveal(w, unit), &w->e);
    make_again(w, unit);
    assert_ok(world_try_judge_canary(w, unit, LEDGER_CANARY_OPEN),
              &w->e); /* a friend is spared */
    audit_says(p, AUDIT_VIOLATION, "prove a bad canary");
}

/* The orchestrator ordered one thing and says another: the altered place is not the sealed one. */
static void the_audit_finds_a_bad_one_that_is_another_fraud(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t unit = unit_of_kind(w, 0, CANARY_BAD);

    assert_ok(world_try_lease(w, unit, 1), &w->e);
    assert_ok(world_try_commit(w, unit, 9, false), &w->e); /* one token fewer than is right */
    assert_ok(world_try_draw(w), &w->e);
    assert_ok(world_try_verdict(w, unit, world_judge(w, unit), REASON_NONE), &w->e);
    assert_ok(world_try_reveal(w, unit), &w->e);
    make_again(w, unit);
    assert_ok(world_try_judge_canary(w, unit, LEDGER_CANARY_BAD), &w->e);
    audit_says(p, AUDIT_VIOLATION, "prove no bad canary");
}

static void a_validator_without_a_bond_is_not_drawn(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    const struct world_node *poor = world_validator(w, 1);
    struct ledger_unstake x = {.node = poor->node, .amount = WORLD_STAKE - 999};
    struct ledger_cause why = world_cause(w);

    assert_ok(ledger_append_unstake(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);
    assert_ok(world_try_lease(w, 0, 1), &w->e);
    assert_ok(world_try_commit(w, 0, 10, false), &w->e);
    assert_refused(w, world_try_draw(w), ERR_DENIED, "not the stake of a validator");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_canary_has_no_other_end),
        TEST(what_is_no_canary_is_not_revealed),
        TEST(who_accepts_a_bad_one_loses_a_slice_and_the_finder_nothing),
        TEST(who_rejects_a_good_one_loses_a_slice),
        TEST(a_bad_one_that_was_not_altered_contradicts_its_accuser_only),
        TEST(the_third_strike_takes_all_and_bars),
        TEST(the_audit_compares_the_submissions),
        TEST(the_audit_finds_a_bad_one_that_is_another_fraud),
        TEST(a_validator_without_a_bond_is_not_drawn),
    };
    return cmocka_run_group_tests_name("ledger/canary", tests, NULL, NULL);
}
