/*
 * Recomputed versions and disputes over them: ledger/books_step.c, ledger/books_dispute.c
 *
 * The trainer's first two versions of this world are always recomputed; a draw after a version says by
 * whom. Validators have 10000 at stake, of which a challenge binds 2000; the trainer has 10000. A slash
 * goes to the winner by a tenth, to the jackpot by four.
 */
#include "ledger/steps.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/audit.h"
#include "proto/transcript.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"
#include "unit/ledger/world_steps.h"

#define BOND INT64_C(2000)
#define FEE  INT64_C(30)

struct place {
    struct world w;
    char *dir; /* owned */
};

/* One version made from a batch, and drawn. */
static int setup_with(void **state,
                      void (*init)(struct world *w, const char *dir, int64_t bond, int64_t fee))
{
    struct place *p = xcalloc(1, sizeof(*p));
    const uint64_t unit = 0;

    p->dir = tempdir_make();
    init(&p->w, p->dir, BOND, FEE);
    world_accept_unit(&p->w, unit, 1, false);
    assert_ok(world_try_batch(&p->w, &unit, 1), &p->w.e);
    assert_ok(world_try_step(&p->w), &p->w.e);
    world_commit_unit(&p->w, 1, 1); /* whose draw covers the version */
    *state = p;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, world_init_steps);
}

static int setup_granted(void **state)
{
    return setup_with(state, world_init_granted);
}

static int teardown(void **state)
{
    struct place *p = *state;

    world_clear(&p->w);
    tempdir_remove(&p->dir);
    free(p);
    return 0;
}

static const struct ledger_step_state *version_1(const struct world *w)
{
    return ledger_books_step(world_books(w), 1);
}

static unsigned drawn(const struct world *w)
{
    for (unsigned i = 0; i < WORLD_VALIDATORS; i++)
        if (key_equal(&world_validator(w, i)->node, &version_1(w)->validator))
            return i;
    assert_true(!"a validator of this world");
    return 0;
}

static const struct public_key *trainer_of(const struct world *w)
{
    return &w->node[WORLD_TRAINER].node;
}

/* What an audit of the directory says, with a judge to whom the trainer always loses. */
static enum status everybody_loses(struct bytes transcript, const atomic_bool *is_stopped,
                                   struct ledger_judgement *out, struct err *e)
{
    struct transcript t;

    (void)is_stopped;
    memset(out, 0, sizeof(*out));
    out->is_over = out->has_trainer_lost = true;
    out->op = 7;
    return transcript_decode(&t, transcript, e);
}

static void audit_says(struct place *p, enum audit_result want, const char *why)
{
    const struct audit_options o = {.judge = everybody_loses};
    struct audit_report *r = xcalloc(1, sizeof(*r));

    world_flush(&p->w);
    db_close(&p->w.db);
    assert_int_equal(audit_run_with(r, p->dir, &o), want);
    assert_contains(r->why, why);
    free(r);
}

static void the_first_versions_are_drawn_and_paid_for(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);
    int64_t had = world_balance(w, ACCOUNT_PENDING, &world_validator(w, i)->node);

    assert_true(version_1(w)->is_wanted);
    world_refused(w, world_try_step_verdict(w, 1, (i + 1) % WORLD_VALIDATORS, true), ERR_DENIED,
                  "I9: version 1 was not given to this validator");
    assert_ok(world_try_step_verdict(w, 1, i, true), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, &world_validator(w, i)->node),
                     had + FEE);
    world_refused(w, world_try_step_verdict(w, 1, i, true), ERR_EXISTS,
                  "I4: version 1 was recomputed before");
    audit_says(p, AUDIT_CLEAN, "");
}

/* Moves 0 and 1, of which the last ends the game. */
static void play(struct world *w)
{
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_CALL), &w->e);
}

static void a_trainer_that_loses_is_slashed_and_barred(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const struct public_key *challenger = &world_validator(w, drawn(w))->node;
    int64_t pending = world_balance(w, ACCOUNT_PENDING, challenger), escrow = world_escrow(w);
    unsigned i = drawn(w);

    assert_ok(world_try_step_verdict(w, 1, i, false), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_BOND, challenger), BOND);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, challenger), WORLD_STAKE - BOND);
    world_refused(w, world_try_close(w), ERR_DENIED, "I3: ");
    play(w);
    assert_ok(world_try_dispute_close(w, trainer_of(w), false, 7), &w->e);

    assert_int_equal(world_balance(w, ACCOUNT_STAKE, trainer_of(w)), 0);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, trainer_of(w)), 0);
    assert_int_equal(world_balance(w, ACCOUNT_BOND, challenger), 0);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, challenger), WORLD_STAKE);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, challenger), pending + WORLD_STAKE / 10);
    assert_int_equal(world_escrow(w), escrow + 50); /* what version 1 was paid */
    assert_true(ledger_books_node(world_books(w), trainer_of(w))->is_slashed);
    audit_says(p, AUDIT_CLEAN, "");
}

static void a_challenger_that_loses_loses_its_bond(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);
    const struct public_key *challenger = &world_validator(w, i)->node;
    int64_t pending = world_balance(w, ACCOUNT_PENDING, trainer_of(w));

    assert_ok(world_try_step_verdict(w, 1, i, false), &w->e);
    play(w);
    assert_ok(world_try_dispute_close(w, challenger, false, 0), &w->e);

    assert_int_equal(world_balance(w, ACCOUNT_STAKE, challenger), WORLD_STAKE - BOND);
    assert_int_equal(world_balance(w, ACCOUNT_BOND, challenger), 0);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, trainer_of(w)), pending + BOND / 10);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, trainer_of(w)), WORLD_STAKE);
    world_refused(w, world_try_step_verdict(w, 1, i, false), ERR_EXISTS,
                  "I4: the validator has challenged version 1 before");
    assert_true(key_is_zero(&version_1(w)->validator)); /* somebody else is to look */
    audit_says(p, AUDIT_VIOLATION, "I9: by its moves the dispute ends otherwise");
}

/* The first version is drawn with the first of those made from batches; it has no moves. */
static void the_first_of_all_is_drawn_and_disputed_without_moves(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const struct ledger_step_state *s = ledger_books_step(world_books(w), 0);
    const struct ledger_dispute *d;
    unsigned i = 0;

    assert_true(s->is_wanted && !s->has_batch);
    while (!key_equal(&world_validator(w, i)->node, &s->validator))
        i++;
    w->bend = BEND_GAME;
    world_refused(w, world_try_step_verdict(w, 0, i, false), ERR_INVALID,
                  "I10: version 0 was made from no batch, and has no game");
    w->bend = BEND_NOTHING;
    assert_ok(world_try_step_verdict(w, 0, i, false), &w->e);
    d = ledger_books_open_dispute(world_books(w));
    assert_null(ledger_books_turn(world_books(w), d));
    world_refused(w, world_try_dispute_move(w, LEDGER_MOVE_SHOW), ERR_DENIED,
                  "I4: no move is due in this dispute");
    assert_ok(world_try_dispute_close(w, trainer_of(w), false, 7), &w->e);
    assert_true(ledger_books_node(world_books(w), trainer_of(w))->is_slashed);
    audit_says(p, AUDIT_CLEAN, "");
}

/* What is without moves has a proof in its challenge. */
static void a_dispute_of_another_kind_than_its_challenge_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    w->bend = BEND_GAME;
    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    audit_says(p, AUDIT_VIOLATION, "I10: a dispute of another kind than its challenge");
}

static void moves_alternate_and_end_the_game(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);
    const struct public_key *challenger = &world_validator(w, i)->node;

    assert_ok(world_try_step_verdict(w, 1, i, false), &w->e);
    world_refused(w, world_try_dispute_close(w, challenger, false, 0), ERR_DENIED,
                  "I9: the game is not over");
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
    assert_true(
        key_equal(ledger_books_turn(world_books(w), ledger_books_open_dispute(world_books(w))),
                  challenger));
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_PICK), &w->e);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_OPEN), &w->e);
    assert_null(ledger_books_turn(world_books(w), ledger_books_open_dispute(world_books(w))));
    world_refused(w, world_try_dispute_move(w, LEDGER_MOVE_PICK), ERR_DENIED,
                  "I4: no move is due in this dispute");
    world_refused(w, world_try_dispute_close(w, trainer_of(w), true, 0), ERR_DENIED, "I9: ");
}

static void silence_loses_after_the_deadline_and_not_before(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);
    const struct public_key *challenger = &world_validator(w, i)->node;

    assert_ok(world_try_step_verdict(w, 1, i, false), &w->e);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
    world_refused(w, world_try_dispute_close(w, challenger, true, 0), ERR_DENIED,
                  "I15: the deadline of move 1 has not passed");
    w->now_us += WORLD_DISPUTE_MS * 1000;
    world_refused(w, world_try_dispute_close(w, trainer_of(w), true, 0), ERR_DENIED,
                  "I9: it was not the loser's turn");
    assert_ok(world_try_dispute_close(w, challenger, true, 0), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, challenger), WORLD_STAKE - BOND);
    audit_says(p, AUDIT_CLEAN, "");
}

/* Four times what one move may take, for all of a party's together: the other's do not count. */
static void a_partys_moves_together_have_a_limit(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const int64_t slow_us = WORLD_DISPUTE_MS * 1000 - 2000000;
    const struct ledger_dispute *d;
    int64_t left;

    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    for (unsigned i = 0; i < LEDGER_PATIENCE; i++) {
        w->now_us += slow_us;
        assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
        w->now_us += slow_us / 2;
        assert_ok(world_try_dispute_move(w, LEDGER_MOVE_PICK), &w->e);
    }
    d = ledger_books_open_dispute(world_books(w));
    left = ledger_books_dispute_patience_us(world_books(w), d);
    assert_true(left > 0 && left <= LEDGER_PATIENCE * 2000000);
    w->now_us += left - 1000000;
    world_refused(w, world_try_dispute_close(w, trainer_of(w), true, 0), ERR_DENIED,
                  "I15: the deadline of move 8 has not passed");
    w->now_us += 1000000;
    assert_ok(world_try_dispute_close(w, trainer_of(w), true, 0), &w->e);
    audit_says(p, AUDIT_CLEAN, "");
}

/* While the orchestrator was away a party could not move: at most one move's time is lost to it. */
static void a_long_absence_takes_one_moves_time(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const struct ledger_dispute *d;

    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    w->now_us += INT64_C(3600000000);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_PICK), &w->e);
    d = ledger_books_open_dispute(world_books(w));
    assert_int_equal(d->used_us[0], WORLD_DISPUTE_MS * 1000);
    assert_int_equal(ledger_books_dispute_patience_us(world_books(w), d),
                     WORLD_DISPUTE_MS * 1000);
}

/* However often it was away: whoever's turn it is then has an eighth of a move's time. */
static void no_absence_leaves_a_party_without_time(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const int64_t least_us = WORLD_DISPUTE_MS * 1000 / 8;

    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    for (unsigned i = 0; i < LEDGER_PATIENCE; i++) {
        w->now_us += INT64_C(3600000000);
        assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
        assert_ok(world_try_dispute_move(w, LEDGER_MOVE_PICK), &w->e);
    }
    assert_int_equal(ledger_books_dispute_patience_us(
                         world_books(w), ledger_books_open_dispute(world_books(w))),
                     least_us);
    w->now_us += least_us - 1000000;
    world_refused(w, world_try_dispute_close(w, trainer_of(w), true, 0), ERR_DENIED,
                  "I15: the deadline of move 8 has not passed");
    w->now_us += 1000000;
    assert_ok(world_try_dispute_close(w, trainer_of(w), true, 0), &w->e);
    audit_says(p, AUDIT_CLEAN, "");
}

static void each_lost_challenge_doubles_the_bond_of_the_next(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);
    const struct public_key *challenger = &world_validator(w, i)->node;

    assert_ok(world_try_step_verdict(w, 1, i, false), &w->e);
    play(w);
    assert_ok(world_try_dispute_close(w, challenger, false, 0), &w->e);
    assert_ok(world_try_step_verdict(w, 0, i, false), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_BOND, challenger), 2 * BOND);
    assert_ok(world_try_dispute_close(w, challenger, false, 0), &w->e);
    assert_int_equal(world_balance(w, ACCOUNT_STAKE, challenger), WORLD_STAKE - 3 * BOND);
    assert_int_equal(world_balance(w, ACCOUNT_BOND, challenger), 0);
    assert_int_equal(ledger_books_dispute_bond(world_books(w), challenger), 4 * BOND);
}

/* Else a key that cost nothing could keep others from their disputes. */
static void who_was_not_asked_binds_its_own(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w), other = 0;

    while (other == i || key_equal(&world_validator(w, other)->node,
                                   &ledger_books_step(world_books(w), 0)->validator))
        other++;
    world_refused(w, world_try_step_verdict(w, 1, other, false), ERR_INSUFFICIENT,
                  "I8: the challenger was not given version 1, and its stake is below 2000 ucr "
                  "beside what was granted");
    assert_ok(world_try_step_verdict(w, 0, i, false), &w->e); /* on the way to version 1 */
    assert_ok(world_try_dispute_close(w, &world_validator(w, i)->node, false, 0), &w->e);
}

static void pay_waits_for_a_dispute(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct ledger_mature m;
    int64_t amount;

    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    for (unsigned i = 0; i < 2 * WORLD_WINDOW; i++)
        assert_ok(world_try_head(w), &w->e);
    ledger_mature_build(&m, &amount, world_books(w), trainer_of(w));
    assert_int_equal(amount, 0);
    play(w);
    assert_ok(world_try_dispute_close(w, &world_validator(w, drawn(w))->node, false, 0), &w->e);
}

static enum status try_abandon(struct world *w)
{
    const struct ledger_abandon x = {1, version_1(w)->weights};
    struct ledger_cause why = world_cause(w);

    return ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e);
}

/* Or a trainer would cheat, and take back what a draw falls upon. */
static void what_is_looked_at_is_not_abandoned(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w);

    world_refused(w, try_abandon(w), ERR_DENIED, "I9: version 1 is to be recomputed");
    assert_ok(world_try_step_verdict(w, 1, (i + 1) % WORLD_VALIDATORS, false), &w->e);
    world_refused(w, try_abandon(w), ERR_DENIED, "I9: version 1 is to be recomputed");
    play(w);
    assert_ok(world_try_dispute_close(w, &world_validator(w, (i + 1) % WORLD_VALIDATORS)->node,
                                      false, 0),
              &w->e);
    assert_ok(world_try_step_verdict(w, 1, i, true), &w->e);
    assert_ok(try_abandon(w), &w->e);
}

/* Whoever found right what is refuted later did not look. */
static void who_confirmed_a_wrong_version_is_struck(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned i = drawn(w), other = (i + 1) % WORLD_VALIDATORS;
    int64_t stake;

    assert_ok(world_try_step_verdict(w, 1, i, true), &w->e);
    world_refused(w, world_try_step_verdict(w, 1, i, false), ERR_DENIED,
                  "I4: the validator found version 1 right");
    stake = world_balance(w, ACCOUNT_STAKE, &world_validator(w, i)->node);
    assert_ok(world_try_step_verdict(w, 1, other, false), &w->e);
    play(w);
    assert_ok(world_try_dispute_close(w, trainer_of(w), false, 7), &w->e);
    assert_true(world_balance(w, ACCOUNT_STAKE, &world_validator(w, i)->node) < stake);
    assert_int_equal(
        ledger_books_node(world_books(w), &world_validator(w, i)->node)->n_contradicted, 1);
    audit_says(p, AUDIT_CLEAN, "");
}

static void a_move_that_follows_another_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_ok(world_try_step_verdict(w, 1, drawn(w), false), &w->e);
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_SHOW), &w->e);
    w->bend = BEND_PREVIOUS;
    assert_ok(world_try_dispute_move(w, LEDGER_MOVE_PICK), &w->e);
    audit_says(p, AUDIT_VIOLATION, "I10: DISPUTE follows another move");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_versions_are_drawn_and_paid_for),
        TEST(a_trainer_that_loses_is_slashed_and_barred),
        TEST(a_challenger_that_loses_loses_its_bond),
        TEST(the_first_of_all_is_drawn_and_disputed_without_moves),
        TEST(a_dispute_of_another_kind_than_its_challenge_is_found),
        TEST(moves_alternate_and_end_the_game),
        TEST(silence_loses_after_the_deadline_and_not_before),
        TEST(a_partys_moves_together_have_a_limit),
        TEST(a_long_absence_takes_one_moves_time),
        TEST(no_absence_leaves_a_party_without_time),
        TEST(each_lost_challenge_doubles_the_bond_of_the_next),
        cmocka_unit_test_setup_teardown(who_was_not_asked_binds_its_own, setup_granted,
                                        teardown),
        TEST(pay_waits_for_a_dispute),
        TEST(what_is_looked_at_is_not_abandoned),
        TEST(who_confirmed_a_wrong_version_is_struck),
        TEST(a_move_that_follows_another_is_found),
    };

    return cmocka_run_group_tests_name("ledger/steps", tests, NULL, NULL);
}
