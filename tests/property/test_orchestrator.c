/*
 * The orchestrator among nodes that crash, over a network that drops, repeats and reorders, and
 * crashing itself at any moment: the run ends, its ledger is right, nothing acknowledged is
 * lost, and in order "unit" the batches hold what an undisturbed run would have put there.
 */
#include "orchestrator/orch_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/audit.h"
#include "ledger/books.h"
#include "ledger/log.h"
#include "support/random.h"
#include "support/test.h"
#include "unit/orchestrator/world.h"

#define HOUR_MS 3600000

static const struct world_options calm = {.n_workers = 3,
                                          .n_verifiers = 3,
                                          .steps = 4,
                                          .units_per_batch = 5,
                                          .lag = 1,
                                          .order = "unit",
                                          .delay_ms = 20};

static struct world_options stormy(void)
{
    struct world_options o = calm;

    o.drop = 150;
    o.twice = 150;
    o.delay_ms = 400;
    o.crash = 10;
    o.node_crash = 30;
    return o;
}

static const struct ledger_books *books_of(struct world *w)
{
    return ledger_log_books(orch_log(w->orch));
}

static void audit_is_clean(struct world *w)
{
    struct audit_report *r = xcalloc(1, sizeof(*r));

    db_close(&w->db); /* one process opens a directory once */
    if (audit_run(r, w->dir) != AUDIT_CLEAN)
        fail_msg("entry %llu: %s", (unsigned long long)r->bad_seq, r->why);
    free(r);
}

static void all_receipts_are_kept(struct world *w)
{
    for (size_t i = 0; i < w->n_receipts; i++) {
        const struct world_receipt *r = &w->receipt[i];
        assert_true(r->seq < ledger_log_length(orch_log(w->orch)));
        assert_true(digest_equal(&r->hash, ledger_log_hash(orch_log(w->orch), r->seq)));
    }
}

/* Every unit of every batch is accepted, holds the honest content, and is where it belongs. */
static void batches_are_the_expected_ones(struct world *w)
{
    uint64_t n = (uint64_t)(w->opt.units_per_batch * w->opt.steps);

    assert_int_equal(ledger_books_next_batch(books_of(w)), w->opt.steps);
    for (uint64_t i = 0; i < n; i++) {
        const struct ledger_unit *u = ledger_books_unit(books_of(w), i);
        int64_t batch = (int64_t)i / w->opt.units_per_batch;
        int64_t version = batch > w->opt.lag ? batch - w->opt.lag : 0;
        struct digest want;
        assert_non_null(u);
        assert_int_equal(u->state, UNIT_ACCEPTED);
        assert_true(u->is_batched);
        assert_int_equal(u->version, version);
        assert_int_equal(u->is_flat, world_is_flat(i));
        world_expected_root(w, i, version, &want);
        if (!w->opt.has_cheat) /* a light check does not see altered tokens */
            assert_true(digest_equal(&want, &u->root));
    }
    assert_null(ledger_books_unit(books_of(w), n));
}

static void run_to_the_end(const struct world_options *o, uint64_t seed)
{
    struct world *w;

    world_new(&w, o, seed);
    if (!world_run(w, HOUR_MS)) {
        struct buf json;
        buf_init(&json, 1u << 20);
        orch_status(w->orch, STATUS_SUMMARY, 0, w->now_ms, &json);
        fprintf(stderr, "%s\n", buf_cstr(&json));
        fail_msg("seed %llu: the run does not end", (unsigned long long)seed);
    }

    all_receipts_are_kept(w);
    assert_int_equal(ledger_books_version(books_of(w)), o->steps);
    if (!strcmp(o->order, "unit"))
        batches_are_the_expected_ones(w);
    world_restart(w);
    assert_true(orch_is_done(w->orch));
    audit_is_clean(w);
    world_free(&w);
}

static void a_calm_run_ends_with_a_clean_ledger(void **state)
{
    (void)state;
    run_to_the_end(&calm, 1);
}

static void a_stormy_run_ends_the_same(void **state)
{
    struct rng r = random_seeded(20);
    struct world_options o = stormy();

    (void)state;
    for (int i = 0; i < 12; i++)
        run_to_the_end(&o, rng_u64(&r));
}

static void lag_and_batch_size_do_not_matter(void **state)
{
    struct rng r = random_seeded(21);

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct world_options o = stormy();
        o.lag = (int64_t)rng_below(&r, 4);
        o.units_per_batch = 1 + (int64_t)rng_below(&r, 6);
        o.n_workers = 1 + (uint32_t)rng_below(&r, 4);
        o.n_verifiers = 1 + (uint32_t)rng_below(&r, 3);
        run_to_the_end(&o, rng_u64(&r));
    }
}

static void arrival_order_ends_too(void **state)
{
    struct rng r = random_seeded(22);
    struct world_options o = stormy();

    (void)state;
    o.order = "arrival";
    for (int i = 0; i < 6; i++)
        run_to_the_end(&o, rng_u64(&r));
}

/* Every full check needs an opening, which messages that are lost and crashes must not cost anybody. */
static void an_open_class_ends_the_same_and_refuses_nobody(void **state)
{
    struct rng r = random_seeded(30);
    struct world_options o = stormy();

    (void)state;
    o.is_open = true;
    o.drop = o.twice = 100;
    for (int i = 0; i < 3; i++)
        run_to_the_end(&o, rng_u64(&r));
}

static void opinions_slash_nobody_and_the_run_goes_on(void **state)
{
    struct rng r = random_seeded(31);
    struct world_options o = stormy();

    (void)state;
    o.is_open = true;
    for (int i = 0; i < 2; i++) {
        uint64_t n_refused = 0;
        struct world *w;

        o.has_cheat = i % 2;
        o.has_closed = !o.has_cheat;
        world_new(&w, &o, rng_u64(&r));
        assert_true(world_run(w, HOUR_MS));
        for (size_t k = 0; k < ledger_books_n_nodes(books_of(w)); k++) {
            const struct ledger_node *n = ledger_books_node_at(books_of(w), k);
            assert_false(n->is_slashed);
            n_refused += n->n_refused;
        }
        assert_true(n_refused > 0);
        batches_are_the_expected_ones(w);
        all_receipts_are_kept(w);
        audit_is_clean(w);
        world_free(&w);
    }
}

static void a_cheat_is_slashed_and_the_run_goes_on(void **state)
{
    struct rng r = random_seeded(23);
    struct world_options o = stormy();

    (void)state;
    o.has_cheat = true;
    for (int i = 0; i < 4; i++) {
        struct world *w;
        const struct ledger_node *cheat;
        world_new(&w, &o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        cheat = ledger_books_node(books_of(w),
                                  &w->node[world_node_of(w, ROLE_INFERENCE, 0)].key->node);
        for (size_t k = 0; k < ledger_books_n_nodes(books_of(w)); k++) {
            const struct ledger_node *n = ledger_books_node_at(books_of(w), k);
            assert_int_equal(n->is_slashed, n == cheat && cheat->n_commits > 0);
        }
        batches_are_the_expected_ones(w);
        all_receipts_are_kept(w);
        audit_is_clean(w);
        world_free(&w);
    }
}

static void one_lying_validator_of_three_gets_nobody_slashed(void **state)
{
    struct rng r = random_seeded(24);
    struct world_options o = calm;

    (void)state;
    o.has_liar = true;
    o.drop = o.twice = 50;
    for (int i = 0; i < 4; i++) {
        struct world *w;
        world_new(&w, &o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        for (size_t k = 0; k < ledger_books_n_nodes(books_of(w)); k++)
            assert_false(ledger_books_node_at(books_of(w), k)->is_slashed);
        batches_are_the_expected_ones(w);
        audit_is_clean(w);
        world_free(&w);
    }
}

/* ---- canaries -------------------------------------------------------------------------- */

static const struct ledger_node *validator_of(struct world *w, uint32_t i)
{
    return ledger_books_node(books_of(w),
                             &w->node[world_node_of(w, ROLE_VERIFIER, i)].key->node);
}

static int64_t stake_of(struct world *w, const struct ledger_node *n)
{
    struct account stake = account_of_key(ACCOUNT_STAKE, &n->node);

    return ledger_books_balance(books_of(w), &stake);
}

#define GRANT 1000000

/* Nobody but perhaps the first validator has lost anything. */
static void the_honest_lost_nothing(struct world *w, bool first_is_honest)
{
    for (uint32_t i = first_is_honest ? 0 : 1; i < w->opt.n_verifiers; i++) {
        assert_int_equal(validator_of(w, i)->n_contradicted, 0);
        assert_int_equal(stake_of(w, validator_of(w, i)), GRANT);
    }
    for (uint32_t i = 0; i < w->opt.n_workers; i++) {
        const struct ledger_node *n = ledger_books_node(
            books_of(w), &w->node[world_node_of(w, ROLE_INFERENCE, i)].key->node);
        assert_false(n->is_slashed);
        assert_int_equal(n->n_refused, 0);
        assert_int_equal(stake_of(w, n), GRANT);
    }
}

static uint64_t count_revealed(struct world *w)
{
    uint64_t n = 0;

    for (size_t i = 0; i < ledger_books_n_units(books_of(w)); i++)
        n += ledger_books_unit_at(books_of(w), i)->n_canaries;
    return n;
}

static struct world_options with_canaries(int64_t ppm)
{
    struct world_options o = stormy();

    o.canary_ppm = ppm;
    o.steps = 6;
    return o;
}

static void canaries_reach_no_batch_and_hurt_nobody_honest(void **state)
{
    struct rng r = random_seeded(25);
    uint64_t revealed = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct world_options o = with_canaries(500000);
        struct world *w;
        o.order = i % 3 == 2 ? "arrival" : "unit";
        world_new(&w, &o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        revealed += count_revealed(w);
        the_honest_lost_nothing(w, true);
        all_receipts_are_kept(w);
        if (i % 3 != 2)
            batches_are_the_expected_ones(w);
        audit_is_clean(w);
        world_free(&w);
    }
    assert_true(revealed > 30); /* of 180 units about a half were, once */
}

/* How many rounds of a run were not witnessed. */
static enum status count_unwitnessed(void *arg, const struct ledger_entry *en, struct bytes raw,
                                     struct err *e)
{
    static struct ledger_draw d;
    uint64_t *n = arg;
    enum status st = OK;

    (void)raw;
    if (en->type == LEDGER_DRAW) {
        st = ledger_draw_body_decode(&d, en->body, e);
        n[0]++;
        for (uint32_t i = 0; i < d.n_rows; i++)
            n[1] += d.row[i].probability < LEDGER_ONE;
    }
    return st;
}

/* Rounds, and units drawn with a probability below 1. */
static void count_rounds(struct world *w, uint64_t n[2])
{
    struct ledger_log *log;
    struct db_txn *t;

    n[0] = n[1] = 0;
    ledger_log_new(&log);
    assert_ok(db_begin(&t, w->db, false, NULL), NULL);
    assert_ok(ledger_log_load(log, t, count_unwitnessed, n, NULL), NULL);
    db_abort(&t);
    ledger_log_free(&log);
}

static void witnessed_runs_end_too(void **state)
{
    struct rng r = random_seeded(28);
    uint64_t spared = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct world_options o = i % 2 ? stormy() : calm;
        struct world *w;
        uint64_t n[2];
        o.witnesses = 1 + i % 3;
        o.canary_ppm = 200000;
        o.steps = 8;
        world_new(&w, &o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        count_rounds(w, n);
        assert_true(n[0] > 4);
        spared += n[1];
        the_honest_lost_nothing(w, true);
        batches_are_the_expected_ones(w);
        all_receipts_are_kept(w);
        audit_is_clean(w);
        world_free(&w);
    }
    assert_true(spared > 20); /* in witnessed rounds some are checked lightly */
}

/* Sealed verdicts through losses, repeats and crashes; every full check is made twice. */
static void sealed_runs_end_too(void **state)
{
    struct rng r = random_seeded(31);

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct world_options o = i % 2 ? stormy() : calm;
        struct world *w;
        o.recheck_ppm = i % 3 ? 1000000 : 300000;
        o.canary_ppm = 100000;
        o.has_lazy = i == 4;
        o.steps = 6;
        world_new(&w, &o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        if (o.has_lazy)
            assert_true(validator_of(w, 0)->n_contradicted > 0);
        else
            the_honest_lost_nothing(w, true);
        batches_are_the_expected_ones(w);
        all_receipts_are_kept(w);
        audit_is_clean(w);
        world_free(&w);
    }
}

/* The validator whose verdict on the unit is sealed, none being shown. */
static uint32_t sealer_of(struct world *w, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(books_of(w), unit);

    for (uint32_t i = 0; u && u->state == UNIT_COMMITTED && i < w->opt.n_verifiers; i++) {
        uint32_t node = world_node_of(w, ROLE_VERIFIER, i);
        if (!u->n_opinions && ledger_books_seal(books_of(w), unit, &w->node[node].key->node))
            return node;
    }
    return WORLD_NODES_MAX;
}

/* Of two validators one seals, is killed before it shows, and comes back when the other has shown: it
 * cannot seal anew, and the other's verdict stands. */
static void who_forgot_what_it_sealed_stops_nobody(void **state)
{
    struct world_options o = calm;
    struct rng r = random_seeded(37);

    (void)state;
    o.n_verifiers = 2;
    o.units_per_batch = 1;
    o.lag = 0;
    o.check_ms = 10000; /* what was sent is sent again within this time */
    o.recheck_ppm = 1000000;
    for (int i = 0; i < 8; i++) {
        struct world *w;
        uint32_t first;
        world_new(&w, &o, rng_u64(&r));
        while ((first = sealer_of(w, 0)) == WORLD_NODES_MAX)
            world_round(w);
        world_crash_node(w, first);
        w->node[first].is_dead = true;
        while (!ledger_books_unit(books_of(w), 0)->n_opinions)
            world_round(w);
        w->node[first].is_dead = false;

        assert_true(world_run(w, HOUR_MS));

        the_honest_lost_nothing(w, true);
        batches_are_the_expected_ones(w);
        audit_is_clean(w);
        world_free(&w);
    }
}

static void a_witness_that_keeps_its_nonces_stops_nobody(void **state)
{
    struct world_options o = calm;
    struct world *w;

    (void)state;
    o.witnesses = 1;
    o.has_mute = true;
    world_new(&w, &o, 29);

    assert_true(world_run(w, HOUR_MS));

    batches_are_the_expected_ones(w);
    audit_is_clean(w);
    world_free(&w);
}

/* Runs four networks whose first validator is dishonest; how often it was contradicted. */
static uint64_t run_dishonest(const struct world_options *o, uint64_t tag, uint32_t *n_barred)
{
    struct rng r = random_seeded(tag);
    uint64_t n = 0;

    *n_barred = 0;
    for (int i = 0; i < 4; i++) {
        struct world *w;
        world_new(&w, o, rng_u64(&r));

        assert_true(world_run(w, HOUR_MS));

        const struct ledger_node *first = validator_of(w, 0);
        n += first->n_contradicted;
        *n_barred += first->is_slashed;
        assert_int_equal(first->is_slashed, first->n_contradicted >= 3);
        assert_true(first->n_contradicted == 0 || stake_of(w, first) < GRANT);
        the_honest_lost_nothing(w, false);
        batches_are_the_expected_ones(w);
        audit_is_clean(w);
        world_free(&w);
    }
    return n;
}

static void a_lazy_validator_is_caught_by_canaries(void **state)
{
    struct world_options o = with_canaries(600000);
    uint32_t n_barred;

    (void)state;
    o.has_lazy = true;
    /* 30 units, of which 0.6 * 3/4 are bad canaries, a third of them for it: four and a half */
    assert_true(run_dishonest(&o, 26, &n_barred) >= 6);
    assert_true(n_barred >= 1);
}

static void a_framing_validator_is_caught_by_canaries(void **state)
{
    struct world_options o = with_canaries(1000000);
    uint32_t n_barred;

    (void)state;
    o.has_framer = true;
    o.steps = 8;
    /* 40 units, a quarter of them good canaries, a third of those for it: three */
    assert_true(run_dishonest(&o, 27, &n_barred) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calm_run_ends_with_a_clean_ledger),
        cmocka_unit_test(a_stormy_run_ends_the_same),
        cmocka_unit_test(lag_and_batch_size_do_not_matter),
        cmocka_unit_test(arrival_order_ends_too),
        cmocka_unit_test(an_open_class_ends_the_same_and_refuses_nobody),
        cmocka_unit_test(opinions_slash_nobody_and_the_run_goes_on),
        cmocka_unit_test(a_cheat_is_slashed_and_the_run_goes_on),
        cmocka_unit_test(canaries_reach_no_batch_and_hurt_nobody_honest),
        cmocka_unit_test(witnessed_runs_end_too),
        cmocka_unit_test(sealed_runs_end_too),
        cmocka_unit_test(who_forgot_what_it_sealed_stops_nobody),
        cmocka_unit_test(a_witness_that_keeps_its_nonces_stops_nobody),
        cmocka_unit_test(a_lazy_validator_is_caught_by_canaries),
        cmocka_unit_test(a_framing_validator_is_caught_by_canaries),
        cmocka_unit_test(one_lying_validator_of_three_gets_nobody_slashed),
    };
    return cmocka_run_group_tests_name("property/orchestrator", tests, NULL, NULL);
}
