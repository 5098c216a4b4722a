/*
 * ledger/books.h: what each entry moves, and what is refused
 *
 * Terms of the world: 3 ucr a token, 10 tokens a unit, at most 64; fees 5 and 20, at most 3
 * verdicts; 100 steps at 50; stakes of 10000.
 */
#include "ledger/books.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/steps.h"
#include "proto/canary.h"
#include "support/test.h"
#include "unit/ledger/world.h"

#define PAY      INT64_C(30)
#define FEE_FULL INT64_C(20)
#define RESERVE  (64 * 3 + 3 * 20)
#define STEPS    (100 * 50)
#define ESCROW   (WORLD_DEPOSIT - STEPS)

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

static int64_t pending(const struct world *w, const struct world_node *n)
{
    return world_balance(w, ACCOUNT_PENDING, &n->node);
}

static int64_t stake(const struct world *w, const struct world_node *n)
{
    return world_balance(w, ACCOUNT_STAKE, &n->node);
}

static int64_t avail(const struct world *w, const struct world_node *n)
{
    return world_balance(w, ACCOUNT_AVAIL, &n->owner);
}

/* ---- money and people ------------------------------------------------------------------------ */

static void opening_a_task_sets_its_steps_aside(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_escrow(w), ESCROW);
    assert_int_equal(world_reserved(w), STEPS);
    assert_int_equal(avail(w, &w->node[WORLD_INITIATOR]), 0);
    assert_int_equal(stake(w, world_worker(w, 0)), WORLD_STAKE);
    assert_int_equal(world_balance(w, ACCOUNT_EXTERNAL, NULL),
                     -(WORLD_DEPOSIT + (int64_t)(WORLD_NODES - 1) * WORLD_STAKE));
}

static void a_second_genesis_is_refused(void **state)
{
    struct world *w = *state;
    struct ledger_genesis g = {.beacon_length = 1};
    struct ledger_cause why = world_cause(w);

    world_refused(w, ledger_append_genesis(w->log, &g, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I10");
}

static void one_payment_is_deposited_once(void **state)
{
    struct world *w = *state;
    struct ledger_deposit d = {.amount = 5, .reference = {1}};
    struct ledger_cause why = world_cause(w);

    assert_ok(ledger_append_deposit(w->log, &d, &why, &w->out, NULL, &w->e), &w->e);
    world_refused(w, ledger_append_deposit(w->log, &d, &why, &w->out, NULL, &w->e), ERR_EXISTS,
                  "I5");
}

static void there_is_no_more_money_than_the_supply(void **state)
{
    struct world *w = *state;
    struct ledger_deposit d = {.amount = LEDGER_SUPPLY_MAX, .reference = {1}};
    struct ledger_cause why = world_cause(w);

    world_refused(w, ledger_append_deposit(w->log, &d, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I14");
}

static void nobody_stakes_what_he_has_not(void **state)
{
    struct world *w = *state;
    struct ledger_stake s = {.node = world_worker(w, 1)->node, .amount = 1};
    struct ledger_cause why = world_cause(w);

    world_refused(w, ledger_append_stake(w->log, &s, &why, &w->out, NULL, &w->e),
                  ERR_INSUFFICIENT, "I2: avail:");
}

static void stake_goes_back_to_its_owner(void **state)
{
    struct world *w = *state;
    struct ledger_unstake s = {.node = world_worker(w, 1)->node, .amount = WORLD_STAKE};
    struct ledger_cause why = world_cause(w);

    assert_ok(ledger_append_unstake(w->log, &s, &why, &w->out, NULL, &w->e), &w->e);

    assert_int_equal(stake(w, world_worker(w, 1)), 0);
    assert_int_equal(avail(w, world_worker(w, 1)), WORLD_STAKE);
}

static void stake_stays_while_work_or_pay_is_open(void **state)
{
    struct world *w = *state;
    struct ledger_unstake s = {.node = world_worker(w, 1)->node, .amount = 1};
    struct ledger_cause why = world_cause(w);

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    world_refused(w, ledger_append_unstake(w->log, &s, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I8: the node still holds 1");
    assert_ok(world_try_void(w, 0, REASON_EXPIRED), &w->e);
    world_accept_unit(w, 1, 1, false);
    world_refused(w, ledger_append_unstake(w->log, &s, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I8: the node still has pending");
}

static void an_invite_admits_one_node(void **state)
{
    struct world *w = *state;
    struct ledger_node_admit a = {.role = ROLE_RELAY, .node = {{77}}, .invite = {5}};
    struct ledger_invite i = {.id = {5}, .role = ROLE_RELAY};
    struct ledger_cause why = world_cause(w);

    world_refused(w, ledger_append_node_admit(w->log, &a, &why, &w->out, NULL, &w->e),
                  ERR_NOT_FOUND, "I10: no such invite");
    assert_ok(ledger_append_invite(w->log, &i, &why, &w->out, NULL, &w->e), &w->e);
    assert_int_equal(ledger_books_invite(world_books(w), i.id, NULL), ROLE_RELAY);
    a.role = ROLE_TRAINER;
    world_refused(w, ledger_append_node_admit(w->log, &a, &why, &w->out, NULL, &w->e),
                  ERR_DENIED, "I10: the invite is for role relay, not trainer");
    a.role = ROLE_RELAY;
    assert_ok(ledger_append_node_admit(w->log, &a, &why, &w->out, NULL, &w->e), &w->e);
    assert_int_equal(ledger_books_invite(world_books(w), i.id, NULL), ROLE_NONE);
    a.node.b[0] = 78;
    world_refused(w, ledger_append_node_admit(w->log, &a, &why, &w->out, NULL, &w->e),
                  ERR_DENIED, "I10: the invite was used");
}

/* ---- a unit ---------------------------------------------------------------------------------- */

static void a_lease_reserves_the_most_a_unit_can_cost(void **state)
{
    struct world *w = *state;

    assert_int_equal(ledger_unit_reserve(world_books(w)), RESERVE);
    assert_ok(world_try_lease(w, 7, 0), &w->e);

    assert_int_equal(world_escrow(w), ESCROW - RESERVE);
    assert_int_equal(world_reserved(w), STEPS + RESERVE);
    assert_int_equal(world_unit(w, 7)->state, UNIT_LEASED);
    assert_int_equal(world_unit(w, 7)->attempt, 1);
}

static void a_unit_has_one_lease_at_a_time(void **state)
{
    struct world *w = *state;

    assert_ok(world_try_lease(w, 7, 0), &w->e);

    world_refused(w, world_try_lease(w, 7, 1), ERR_EXISTS, "I4: unit 7 is leased");
}

static void the_reserve_is_not_the_writers_choice(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);
    struct ledger_lease x = {
        .unit = 1, .attempt = 1, .worker = world_worker(w, 0)->node, .reserve = RESERVE - 1};

    world_refused(w, ledger_append_lease(w->log, &x, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I6");
    x.reserve = RESERVE;
    x.attempt = 2;
    world_refused(w, ledger_append_lease(w->log, &x, &why, &w->out, NULL, &w->e), ERR_INVALID,
                  "I4: attempt 2");
    x.attempt = 1;
    x.version = 1;
    world_refused(w, ledger_append_lease(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I10: weight version 1");
}

static void only_staked_workers_are_leased_units(void **state)
{
    struct world *w = *state;
    struct ledger_unstake s = {.node = world_worker(w, 1)->node, .amount = 1};
    struct ledger_cause why = world_cause(w);
    struct ledger_lease x = {
        .unit = 1, .attempt = 1, .worker = world_validator(w, 0)->node, .reserve = RESERVE};

    assert_ok(ledger_append_unstake(w->log, &s, &why, &w->out, NULL, &w->e), &w->e);
    world_refused(w, world_try_lease(w, 7, 1), ERR_DENIED, "I8: the worker's stake");
    world_refused(w, ledger_append_lease(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I10: only a node of role inference");
}

static void an_accepted_unit_pays_worker_and_validator(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    unsigned judge = world_judge(w, 0);
    assert_int_equal(world_unit(w, 0)->depth, CHECK_FULL); /* its worker's first */
    assert_ok(world_try_verdict(w, 0, judge, REASON_NONE), &w->e);
    assert_ok(world_try_accept(w, 0), &w->e);

    assert_int_equal(pending(w, world_worker(w, 1)), PAY);
    assert_int_equal(pending(w, world_validator(w, judge)), FEE_FULL);
    assert_int_equal(world_escrow(w), ESCROW - PAY - FEE_FULL);
    assert_int_equal(world_reserved(w), STEPS);
    assert_int_equal(world_unit(w, 0)->state, UNIT_ACCEPTED);
}

static void an_accepted_unit_is_not_accepted_again(void **state)
{
    struct world *w = *state;

    world_accept_unit(w, 0, 1, false);

    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I4: unit 0 is accepted");
    world_refused(w, world_try_lease(w, 0, 0), ERR_EXISTS, "I4: unit 0 is accepted");
    world_refused(w, world_try_void(w, 0, REASON_EXPIRED), ERR_DENIED,
                  "I4: unit 0 is accepted");
    world_refused(w, world_try_commit(w, 0, 10, false), ERR_EXISTS, "I4: unit 0 is accepted");
}

static void nothing_is_paid_without_a_verdict(void **state)
{
    struct world *w = *state;

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I4: unit 0 is leased");
    assert_ok(world_try_commit(w, 0, 10, false), &w->e);
    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I9");
    assert_ok(world_try_draw(w), &w->e);
    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I9");
}

static void a_light_verdict_does_not_do_for_a_full_check(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);

    world_commit_unit(w, 0, 1);
    struct ledger_verdict x = {.unit = 0,
                               .lease = world_unit(w, 0)->lease,
                               .validator = world_validator(w, world_judge(w, 0))->node,
                               .depth = CHECK_LIGHT,
                               .is_accepted = true};
    assert_ok(ledger_append_verdict(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);

    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I9");
}

static void more_tokens_than_reserved_for_are_refused(void **state)
{
    struct world *w = *state;

    assert_ok(world_try_lease(w, 0, 1), &w->e);

    world_refused(w, world_try_commit(w, 0, 65, false), ERR_DENIED, "I6");
}

static void a_commit_is_of_the_version_that_was_leased(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    struct ledger_commit x = {.unit = 0, .lease = world_unit(w, 0)->lease, .version = 1};

    world_refused(w, ledger_append_commit(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I10: unit 0 was leased for version 0, not 1");
    x.version = 0;
    x.lease++;
    world_refused(w, ledger_append_commit(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: unit 0 is leased, and lease");
}

static void verdicts_come_from_the_drawn_once(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    unsigned judge = world_judge(w, 0), other = (judge + 1) % WORLD_VALIDATORS;
    world_refused(w, world_try_verdict(w, 0, other, REASON_NONE), ERR_DENIED,
                  "I9: unit 0 was not given");
    assert_ok(world_try_verdict(w, 0, judge, REASON_NONE), &w->e);
    world_refused(w, world_try_verdict(w, 0, judge, REASON_TOKEN), ERR_EXISTS, "I4");
    world_refused(w, world_try_assign(w, 0, judge, CHECK_FULL), ERR_EXISTS, "I4");
    assert_ok(world_try_assign(w, 0, other, CHECK_FULL), &w->e);
    assert_ok(world_try_verdict(w, 0, other, REASON_NONE), &w->e);
}

static void a_void_unit_gives_its_reserve_back_and_pays_its_judges(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    unsigned judge = world_judge(w, 0);
    assert_ok(world_try_verdict(w, 0, judge, REASON_TOKEN), &w->e);
    assert_ok(world_try_void(w, 0, REASON_INTERNAL), &w->e);

    assert_int_equal(world_escrow(w), ESCROW - FEE_FULL);
    assert_int_equal(pending(w, world_validator(w, judge)), FEE_FULL);
    assert_int_equal(pending(w, world_worker(w, 1)), 0);
    assert_int_equal(world_unit(w, 0)->state, UNIT_FREE);
    assert_ok(world_try_lease(w, 0, 2), &w->e);
    assert_int_equal(world_unit(w, 0)->attempt, 2);
}

static void a_soft_reject_needs_a_verdict_that_says_so(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    unsigned judge = world_judge(w, 0);
    world_refused(w, world_try_reject_soft(w, 0, REASON_BOUNDS), ERR_DENIED, "I9");
    assert_ok(world_try_verdict(w, 0, judge, REASON_BOUNDS), &w->e);
    world_refused(w, world_try_reject_soft(w, 0, REASON_STALE), ERR_DENIED, "I9");
    world_refused(w, world_try_reject_hard(w, 0, REASON_BOUNDS, true), ERR_DENIED, "I9");
    assert_ok(world_try_reject_soft(w, 0, REASON_BOUNDS), &w->e);

    assert_int_equal(stake(w, world_worker(w, 1)), WORLD_STAKE);
    assert_int_equal(world_escrow(w), ESCROW - FEE_FULL);
    assert_int_equal(ledger_books_node(world_books(w), &world_worker(w, 1)->node)->n_refused,
                     1);
}

static void a_free_unit_may_be_given_up_for_good(void **state)
{
    struct world *w = *state;

    world_refused(w, world_try_giveup(w, 0), ERR_DENIED, "I4: unit 0 is unknown");
    assert_ok(world_try_lease(w, 0, 1), &w->e);
    world_refused(w, world_try_giveup(w, 0), ERR_DENIED, "I4: unit 0 is leased");
    assert_ok(world_try_void(w, 0, REASON_EXPIRED), &w->e);
    assert_ok(world_try_giveup(w, 0), &w->e);
    world_refused(w, world_try_lease(w, 0, 1), ERR_EXISTS, "I4: unit 0 is given up");
}

static void no_lease_without_money_for_it(void **state)
{
    struct world *w = *state;
    uint64_t unit = 0;
    enum status st;

    do
        st = world_try_lease(w, unit++, 1);
    while (!st);

    world_refused(w, st, ERR_INSUFFICIENT, "I2: escrow:");
    assert_int_equal(unit - 1, ESCROW / RESERVE);
}

/* ---- fraud ----------------------------------------------------------------------------------- */

static void one_validator_alone_does_not_slash(void **state)
{
    struct world *w = *state;

    world_commit_unit(w, 0, 1);
    assert_ok(world_try_verdict(w, 0, world_judge(w, 0), REASON_TOKEN), &w->e);

    world_refused(w, world_try_reject_hard(w, 0, REASON_TOKEN, false), ERR_DENIED, "I9");
}

static void disagreeing_validators_do_not_slash(void **state)
{
    struct world *w = *state;
    unsigned judge[2];

    world_commit_unit(w, 0, 1);
    world_two_judges(w, 0, judge);
    assert_ok(world_try_verdict(w, 0, judge[0], REASON_TOKEN), &w->e);
    assert_ok(world_try_verdict(w, 0, judge[1], REASON_NONE), &w->e);

    world_refused(w, world_try_reject_hard(w, 0, REASON_TOKEN, true), ERR_DENIED, "I9");
    world_refused(w, world_try_accept(w, 0), ERR_DENIED, "I9");
}

/* The worker earned 30 for unit 0, in no batch, and 30 for unit 1, in batch 0. Unit 2 is fraud.
 * Refund 30; left are 30 pending and 10000 stake: finders 10 % = 1003, 501 each; jackpot 40 % =
 * 4012; burnt the rest, 5016. */
static void fraud_costs_stake_and_pending(void **state)
{
    struct world *w = *state;
    const uint64_t batch[] = {1};
    unsigned judge[2];

    world_accept_unit(w, 0, 1, false);
    world_accept_unit(w, 1, 1, false);
    assert_ok(world_try_batch(w, batch, 1), &w->e);
    world_commit_unit(w, 2, 1);
    world_two_judges(w, 2, judge);
    assert_ok(world_try_verdict(w, 2, judge[0], REASON_TOKEN), &w->e);
    assert_ok(world_try_verdict(w, 2, judge[1], REASON_LOGPROB), &w->e);
    int64_t escrow = world_escrow(w);
    int64_t before[2] = {pending(w, world_validator(w, judge[0])),
                         pending(w, world_validator(w, judge[1]))};

    assert_ok(world_try_reject_hard(w, 2, REASON_TOKEN, false), &w->e);

    assert_int_equal(stake(w, world_worker(w, 1)), 0);
    assert_int_equal(pending(w, world_worker(w, 1)), 0);
    assert_int_equal(world_escrow(w), escrow + RESERVE - 2 * FEE_FULL + PAY);
    assert_int_equal(pending(w, world_validator(w, judge[0])), before[0] + FEE_FULL + 501);
    assert_int_equal(pending(w, world_validator(w, judge[1])), before[1] + FEE_FULL + 501);
    assert_int_equal(world_balance(w, ACCOUNT_JACKPOT, NULL), 4012);
    assert_int_equal(world_balance(w, ACCOUNT_BURN, NULL), 5016);
    assert_int_equal(ledger_books_task(world_books(w))->slashed, WORLD_STAKE + PAY);
    assert_true(ledger_books_node(world_books(w), &world_worker(w, 1)->node)->is_slashed);
}

static void a_slashed_workers_units_are_leased_again_unless_batched(void **state)
{
    struct world *w = *state;
    const uint64_t batch[] = {1}, late[] = {0};
    unsigned judge[2];

    world_accept_unit(w, 0, 1, false);
    world_accept_unit(w, 1, 1, false);
    assert_ok(world_try_batch(w, batch, 1), &w->e);
    world_commit_unit(w, 2, 1);
    world_two_judges(w, 2, judge);
    assert_ok(world_try_verdict(w, 2, judge[0], REASON_TOKEN), &w->e);
    assert_ok(world_try_verdict(w, 2, judge[1], REASON_TOKEN), &w->e);
    assert_ok(world_try_reject_hard(w, 2, REASON_TOKEN, false), &w->e);
    int64_t escrow = world_escrow(w);

    world_refused(w, world_try_lease(w, 3, 1), ERR_DENIED, "I10: the node was barred");
    world_refused(w, world_try_batch(w, late, 1), ERR_DENIED,
                  "I4: unit 0 cannot be in batch 1");
    world_refused(w, world_try_void(w, 1, REASON_REVOKED), ERR_DENIED, "I4: unit 1");
    assert_ok(world_try_void(w, 0, REASON_REVOKED), &w->e);
    assert_int_equal(world_escrow(w), escrow); /* its money came back with the slash */
    world_accept_unit(w, 0, 2, false);
    assert_int_equal(pending(w, world_worker(w, 2)), PAY);
}

static void a_revoked_worker_gives_back_pay_for_units_not_used(void **state)
{
    struct world *w = *state;
    struct ledger_node_revoke r = {world_worker(w, 1)->node, REASON_REVOKED};
    struct ledger_cause why = world_cause(w);

    world_accept_unit(w, 0, 1, false);
    int64_t escrow = world_escrow(w);
    assert_ok(ledger_append_node_revoke(w->log, &r, &why, &w->out, NULL, &w->e), &w->e);
    assert_ok(world_try_void(w, 0, REASON_REVOKED), &w->e);

    assert_int_equal(world_escrow(w), escrow + PAY);
    assert_int_equal(pending(w, world_worker(w, 1)), 0);
    assert_int_equal(stake(w, world_worker(w, 1)), WORLD_STAKE);
}

/* ---- training -------------------------------------------------------------------------------- */

static void a_batch_takes_each_accepted_unit_once(void **state)
{
    struct world *w = *state;
    const uint64_t twice[] = {0, 0}, open[] = {1}, both[] = {0, 2, 3}, again[] = {0};

    world_accept_unit(w, 0, 1, false);
    assert_ok(world_try_lease(w, 1, 1), &w->e);
    world_accept_unit(w, 2, 1, true);
    assert_ok(world_try_lease(w, 3, 1), &w->e);
    assert_ok(world_try_void(w, 3, REASON_EXPIRED), &w->e);
    assert_ok(world_try_giveup(w, 3), &w->e);

    world_refused(w, world_try_batch(w, twice, 2), ERR_DENIED,
                  "I4: a unit is in batch 0 twice");
    world_refused(w, world_try_batch(w, open, 1), ERR_INVALID, "I4: unit 1 of batch 0");
    assert_ok(world_try_batch(w, both, 3), &w->e);
    world_refused(w, world_try_batch(w, again, 1), ERR_DENIED,
                  "I4: unit 0 cannot be in batch 1");
}

static void a_batch_has_the_root_of_its_units(void **state)
{
    struct world *w = *state;
    struct ledger_batch *x = xcalloc(1, sizeof(*x));
    struct ledger_cause why = world_cause(w);

    world_accept_unit(w, 0, 1, false);
    x->n_rows = 1;
    x->row[0] = (struct ledger_batch_row){0, LEDGER_TRAINED};
    world_refused(w, ledger_append_batch(w->log, x, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I10: the root of batch 0");
    x->row[0].use = LEDGER_FLAT;
    world_refused(w, ledger_append_batch(w->log, x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: unit 0 cannot be");
    free(x);
}

static void a_step_is_paid_and_the_first_version_is_not(void **state)
{
    struct world *w = *state;
    const struct world_node *trainer = &w->node[WORLD_TRAINER];

    assert_int_equal(ledger_books_version(world_books(w)), 0);
    assert_int_equal(pending(w, trainer), 0);
    world_refused(w, world_try_step(w), ERR_DENIED, "I4: no batch is there for version 1");
    assert_ok(world_try_batch(w, NULL, 0), &w->e);
    assert_ok(world_try_step(w), &w->e);

    assert_int_equal(ledger_books_version(world_books(w)), 1);
    assert_int_equal(pending(w, trainer), 50);
    assert_int_equal(world_reserved(w), STEPS - 50);
}

static void a_step_names_its_parent_and_its_batch(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);
    struct ledger_step x = {.version = 1, .trainer = w->node[WORLD_TRAINER].node};

    assert_ok(world_try_batch(w, NULL, 0), &w->e);
    world_refused(w, ledger_append_step(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I10: version 1 has another parent");
    x.parent = *ledger_books_weights(world_books(w));
    world_refused(w, ledger_append_step(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I10: version 1 has another batch");
    x.version = 2;
    world_refused(w, ledger_append_step(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: version 2 is not the next");
    x.version = 1;
    x.trainer = world_worker(w, 0)->node;
    world_refused(w, ledger_append_step(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I10: only a node of role trainer");
}

static void an_abandoned_version_does_not_stand(void **state)
{
    struct world *w = *state;
    struct digest first = *ledger_books_weights(world_books(w));
    struct ledger_cause why = world_cause(w);
    int64_t paid;

    assert_ok(world_try_batch(w, NULL, 0), &w->e);
    assert_ok(world_try_step(w), &w->e);
    struct ledger_abandon x = {1, *ledger_books_weights(world_books(w))};
    assert_ok(ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);

    assert_true(digest_equal(ledger_books_weights(world_books(w)), &first));
    world_refused(w, ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: version 1");
    paid = world_balance(w, ACCOUNT_PENDING, &w->node[WORLD_TRAINER].node);
    assert_true(paid > 0);
    assert_ok(world_try_step(w), &w->e); /* from the same batch, under the next number */
    assert_int_equal(ledger_books_version(world_books(w)), 2);
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, &w->node[WORLD_TRAINER].node), paid);
    assert_ok(world_try_batch(w, NULL, 0), &w->e);
    assert_ok(world_try_step(w), &w->e); /* another batch, and paid for */
    assert_int_equal(world_balance(w, ACCOUNT_PENDING, &w->node[WORLD_TRAINER].node), 2 * paid);
}

/* Made from the task: a later one in its place would follow from nothing that anybody can check. */
static void the_first_version_is_not_abandoned(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);
    struct ledger_abandon x = {0, *ledger_books_weights(world_books(w))};

    world_refused(w, ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: the first version");
    assert_ok(world_try_batch(w, NULL, 0), &w->e);
    assert_ok(world_try_step(w), &w->e);
    x = (struct ledger_abandon){1, *ledger_books_weights(world_books(w))};
    assert_ok(ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);
    x = (struct ledger_abandon){0, *ledger_books_weights(world_books(w))};
    world_refused(w, ledger_append_abandon(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I4: the first version");
    assert_ok(world_try_step(w), &w->e);
    assert_true(
        ledger_books_step(world_books(w), ledger_books_version(world_books(w)))->has_batch);
}

/* ---- maturing and closing -------------------------------------------------------------------- */

static void pay_matures_after_the_window(void **state)
{
    struct world *w = *state;
    const struct world_node *n = world_worker(w, 1);

    world_accept_unit(w, 0, 1, false);
    uint64_t earned = ledger_log_length(w->log) - 1;
    world_refused(w, world_try_mature(w, &n->node), ERR_INVALID, "I7");
    while (ledger_log_length(w->log) < earned + WORLD_WINDOW - 1)
        assert_ok(world_try_head(w), &w->e);
    world_refused(w, world_try_mature(w, &n->node), ERR_INVALID, "I7");
    struct ledger_mature early = {n->node, earned};
    struct ledger_cause why = world_cause(w);
    world_refused(w, ledger_append_mature(w->log, &early, &why, &w->out, NULL, &w->e),
                  ERR_DENIED, "I7");
    assert_ok(world_try_head(w), &w->e);
    assert_ok(world_try_mature(w, &n->node), &w->e);

    assert_int_equal(pending(w, n), 0);
    assert_int_equal(avail(w, n), PAY);
    world_refused(w, world_try_mature(w, &n->node), ERR_INVALID, "I7");
}

static void closing_gives_the_rest_back_and_lets_all_pay_mature(void **state)
{
    struct world *w = *state;
    const struct world_node *initiator = &w->node[WORLD_INITIATOR];

    world_accept_unit(w, 0, 1, false);
    assert_ok(world_try_lease(w, 1, 1), &w->e);
    world_refused(w, world_try_close(w), ERR_DENIED, "I3: 252 ucr");
    assert_ok(world_try_void(w, 1, REASON_DONE), &w->e);
    assert_ok(world_try_close(w), &w->e);

    assert_int_equal(avail(w, initiator), WORLD_DEPOSIT - PAY - FEE_FULL);
    assert_int_equal(world_escrow(w), 0);
    assert_int_equal(world_reserved(w), 0);
    assert_ok(world_try_mature(w, &world_worker(w, 1)->node), &w->e);
    world_refused(w, world_try_lease(w, 2, 1), ERR_DENIED, "I3: no task is open");
    world_refused(w, world_try_void(w, 0, REASON_DONE), ERR_DENIED, "I3: no task is open");
}

static void a_head_is_of_this_log_and_these_balances(void **state)
{
    struct world *w = *state;
    struct ledger_head h;
    struct ledger_cause why = world_cause(w);

    ledger_head_build(&h, w->log);
    h.balances.b[0] ^= 1;
    world_refused(w, ledger_append_head(w->log, &h, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I12");
    h.balances.b[0] ^= 1;
    h.root.b[0] ^= 1;
    world_refused(w, ledger_append_head(w->log, &h, &why, &w->out, NULL, &w->e), ERR_DIGEST,
                  "I10");
    h.root.b[0] ^= 1;
    assert_ok(ledger_append_head(w->log, &h, &why, &w->out, NULL, &w->e), &w->e);
}

static void equivocation_needs_two_contents_of_a_published_version(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = world_cause(w);
    struct ledger_equivocation x = {.version = 0, .trainer = w->node[WORLD_TRAINER].node};

    world_refused(w, ledger_append_equivocation(w->log, &x, &why, &w->out, NULL, &w->e),
                  ERR_INVALID, "I10");
    x.second.b[0] = 1;
    assert_ok(ledger_append_equivocation(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);
    x.version = 1;
    world_refused(w, ledger_append_equivocation(w->log, &x, &why, &w->out, NULL, &w->e),
                  ERR_INVALID, "I10");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opening_a_task_sets_its_steps_aside),
        TEST(a_second_genesis_is_refused),
        TEST(one_payment_is_deposited_once),
        TEST(there_is_no_more_money_than_the_supply),
        TEST(nobody_stakes_what_he_has_not),
        TEST(stake_goes_back_to_its_owner),
        TEST(stake_stays_while_work_or_pay_is_open),
        TEST(an_invite_admits_one_node),
        TEST(a_lease_reserves_the_most_a_unit_can_cost),
        TEST(a_unit_has_one_lease_at_a_time),
        TEST(the_reserve_is_not_the_writers_choice),
        TEST(only_staked_workers_are_leased_units),
        TEST(an_accepted_unit_pays_worker_and_validator),
        TEST(an_accepted_unit_is_not_accepted_again),
        TEST(nothing_is_paid_without_a_verdict),
        TEST(a_light_verdict_does_not_do_for_a_full_check),
        TEST(more_tokens_than_reserved_for_are_refused),
        TEST(a_commit_is_of_the_version_that_was_leased),
        TEST(verdicts_come_from_the_drawn_once),
        TEST(a_void_unit_gives_its_reserve_back_and_pays_its_judges),
        TEST(a_soft_reject_needs_a_verdict_that_says_so),
        TEST(a_free_unit_may_be_given_up_for_good),
        TEST(no_lease_without_money_for_it),
        TEST(one_validator_alone_does_not_slash),
        TEST(disagreeing_validators_do_not_slash),
        TEST(fraud_costs_stake_and_pending),
        TEST(a_slashed_workers_units_are_leased_again_unless_batched),
        TEST(a_revoked_worker_gives_back_pay_for_units_not_used),
        TEST(a_batch_takes_each_accepted_unit_once),
        TEST(a_batch_has_the_root_of_its_units),
        TEST(a_step_is_paid_and_the_first_version_is_not),
        TEST(a_step_names_its_parent_and_its_batch),
        TEST(an_abandoned_version_does_not_stand),
        TEST(the_first_version_is_not_abandoned),
        TEST(pay_matures_after_the_window),
        TEST(closing_gives_the_rest_back_and_lets_all_pay_mature),
        TEST(a_head_is_of_this_log_and_these_balances),
        TEST(equivocation_needs_two_contents_of_a_published_version),
    };
    return cmocka_run_group_tests_name("ledger/books", tests, NULL, NULL);
}
