/*
 * Witnessed draws in the books, and dishonest orchestrators in the audit: ledger/books_round.c,
 * audit_run_with. Draws of this world need one nonce.
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

struct place {
    struct world w;
    char *dir; /* owned */
    struct buf heads;
};

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->dir = tempdir_make();
    world_init_witnesses(&p->w, p->dir, 1);
    buf_init(&p->heads, 1u << 20);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    world_clear(&p->w);
    tempdir_remove(&p->dir);
    buf_clear(&p->heads);
    free(p);
    return 0;
}

static void commit(struct world *w, uint64_t unit, unsigned worker)
{
    assert_ok(world_try_lease(w, unit, worker), &w->e);
    assert_ok(world_try_commit(w, unit, 10, false), &w->e);
}

/* A head, and what the witnesses 1 and 2 give for it. */
static void open_round(struct world *w, bool anew)
{
    assert_ok(world_try_head(w), &w->e);
    assert_ok(world_try_witness(w, 1, anew), &w->e);
    assert_ok(world_try_witness(w, 2, anew), &w->e);
}

static void accept_drawn(struct world *w, uint64_t unit)
{
    assert_ok(world_try_verdict(w, unit, world_judge(w, unit), REASON_NONE), &w->e);
    assert_ok(world_try_accept(w, unit), &w->e);
}

/* A worker that is past its first two units, and witnesses that have begun. */
static void begin(struct world *w)
{
    for (uint64_t unit = 0; unit < 2; unit++) {
        commit(w, unit, 1);
        open_round(w, unit == 0);
        assert_ok(world_try_draw(w), &w->e);
        accept_drawn(w, unit);
    }
}

static void a_draw_wants_a_head_before_it_and_takes_all_it_covers(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    struct ledger_salts salts = world_salts(w);
    struct ledger_cause why = world_cause(w);
    struct digest value;

    commit(w, 0, 1);
    world_refused(w, world_try_draw(w), ERR_DENIED, "I9: a draw is of all that the head");
    assert_ok(world_try_head(w), &w->e);
    commit(w, 1, 1); /* too late for this head */
    assert_ok(beacon_value(&value, w->beacon, 1, &w->e), &w->e);
    ledger_draw_build(d, world_books(w), &value, &world_validator(w, 1)->node, 1, &salts);
    assert_int_equal(d->n_rows, 1);
    d->through--;
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I9: a draw is of all that the head");
    d->through += 3;
    world_refused(w, ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  "I9: a draw is of all that the head");
    d->through -= 2;
    assert_ok(ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e), &w->e);
    free(d);
}

static uint64_t p_of_next(struct world *w, uint64_t unit, unsigned n_given)
{
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    struct ledger_salts salts = world_salts(w);
    struct digest value;
    uint64_t p;

    commit(w, unit, 1);
    assert_ok(world_try_head(w), &w->e);
    for (unsigned i = 0; i < n_given; i++)
        assert_ok(world_try_witness(w, 1 + i, false), &w->e);
    assert_ok(beacon_value(&value, w->beacon, ledger_books_next_round(world_books(w)), &w->e),
              &w->e);
    ledger_draw_build(d, world_books(w), &value, &world_validator(w, 1)->node, 1, &salts);
    p = d->row[0].probability;
    free(d);
    return p;
}

static void a_missing_nonce_has_everything_checked_in_full(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    begin(w);
    assert_true(p_of_next(w, 2, 2) < LEDGER_ONE);
    assert_ok(world_try_draw(w), &w->e);
    assert_int_equal(p_of_next(w, 3, 1), LEDGER_ONE);
    assert_ok(world_try_draw(w), &w->e);
    assert_true(p_of_next(w, 4, 1) < LEDGER_ONE); /* who was missing is no witness any more */
    assert_ok(world_try_draw(w), &w->e);
    assert_int_equal(p_of_next(w, 5, 0), LEDGER_ONE);
}

static void a_nonce_is_the_one_committed_to_and_counts_once(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_ok(world_try_head(w), &w->e);
    world_refused(w, world_try_witness(w, 1, false), ERR_DIGEST, "not the nonce");
    assert_ok(world_try_witness(w, 1, true), &w->e);
    world_refused(w, world_try_witness(w, 1, false), ERR_EXISTS, "has seen head");
    begin(w);
    commit(w, 9, 1);
    assert_ok(world_try_head(w), &w->e);
    w->n_nonces[1]++; /* another than it committed to */
    world_refused(w, world_try_witness(w, 1, false), ERR_DIGEST, "not the nonce");
}

/* Else nonces could be tried out: look at them, and fix another head. */
static void no_head_comes_between_a_nonce_and_its_draw(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    begin(w);
    commit(w, 2, 1);
    open_round(w, false);
    world_refused(w, world_try_head(w), ERR_DENIED, "nonces were given for head");
    assert_ok(world_try_draw(w), &w->e);
    assert_ok(world_try_head(w), &w->e);
}

static void nonces_change_what_is_drawn(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct public_key candidate[] = {world_validator(w, 1)->node, world_validator(w, 2)->node};
    struct ledger_draw *d[2] = {xcalloc(1, sizeof(*d[0])), xcalloc(1, sizeof(*d[0]))};
    struct ledger_salts salts = world_salts(w);
    struct digest value;
    int n = 0;

    begin(w);
    for (uint64_t unit = 2; unit < 22; unit++)
        commit(w, unit, 1);
    assert_ok(world_try_head(w), &w->e);
    assert_ok(beacon_value(&value, w->beacon, ledger_books_next_round(world_books(w)), &w->e),
              &w->e);
    for (int i = 0; i < 2; i++) {
        assert_ok(world_try_witness(w, 1 + (unsigned)i, false), &w->e);
        ledger_draw_build(d[i], world_books(w), &value, candidate, 2, &salts);
    }
    for (uint32_t i = 0; i < 20; i++)
        n += d[0]->row[i].assigned[0] != d[1]->row[i].assigned[0];
    assert_in_range(n, 2, 18); /* 20 coins */
    free(d[0]);
    free(d[1]);
}

/* ---- dishonest orchestrators --------------------------------------------------------------- */

static enum audit_result audit_heads(struct audit_report *r, const char *dir,
                                     const struct bytes *file, size_t n)
{
    const struct audit_options o = {.file = file, .n_files = n};

    return audit_run_with(r, dir, &o);
}

static void audit_says(struct place *p, enum audit_result want, const char *why)
{
    struct audit_report *r = xcalloc(1, sizeof(*r));
    struct bytes file = buf_bytes(&p->heads);

    world_flush(&p->w);
    db_close(&p->w.db);
    assert_int_equal(audit_run(r, p->dir), AUDIT_CLEAN);
    assert_int_equal(audit_heads(r, p->dir, &file, 1), want);
    assert_contains(r->why, why);
    free(r);
}

/* Two rounds whose heads a witness is shown; `what` is what happens before the last. */
static void play(struct world *w, struct buf *heads, uint64_t what)
{
    begin(w);
    world_show_head(w, heads, ledger_books_round(world_books(w)).seq);
    commit(w, 2 + what, 1);
    open_round(w, false);
    world_show_head(w, heads, ledger_books_round(world_books(w)).seq);
    assert_ok(world_try_draw(w), &w->e);
    accept_drawn(w, 2 + what);
}

static void an_honest_ledger_has_all_that_witnesses_saw(void **state)
{
    struct place *p = *state;

    play(&p->w, &p->heads, 0);
    p->heads.len -= 9; /* its writer died in the last */
    audit_says(p, AUDIT_CLEAN, "");
}

static void an_orchestrator_that_rewrites_history_is_found(void **state)
{
    struct place *p = *state;
    struct world before;
    struct buf unseen;

    world_init_witnesses(&before, NULL, 1);
    play(&before, &p->heads, 0);
    buf_init(&unseen, 1u << 20);
    play(&p->w, &unseen, 1); /* unit 3 instead of unit 2 */
    buf_clear(&unseen);
    world_clear(&before);
    audit_says(p, AUDIT_VIOLATION, "history was rewritten");
}

static void an_orchestrator_that_drops_the_end_is_found(void **state)
{
    struct place *p = *state;
    struct world longer;

    world_init_witnesses(&longer, NULL, 1);
    play(&longer, &p->heads, 0);
    begin(&p->w);
    world_clear(&longer);
    audit_says(p, AUDIT_VIOLATION, "the ledger ends before");
}

/* One witness is shown this ledger, another that one: each ledger is refuted by the other's file. */
static void an_orchestrator_that_shows_two_histories_is_found(void **state)
{
    struct place *p = *state;
    struct audit_report *r = xcalloc(1, sizeof(*r));
    struct world other;
    struct bytes file[2];
    struct buf heads;

    buf_init(&heads, 1u << 20);
    world_init_witnesses(&other, NULL, 1);
    play(&other, &heads, 1);
    play(&p->w, &p->heads, 0);
    world_clear(&other);
    world_flush(&p->w);
    db_close(&p->w.db);
    file[0] = buf_bytes(&p->heads);
    file[1] = buf_bytes(&heads);
    assert_int_equal(audit_heads(r, p->dir, file, 1), AUDIT_CLEAN);
    assert_int_equal(r->n_witnessed, 2);
    assert_int_equal(audit_heads(r, p->dir, file, 2), AUDIT_VIOLATION);
    assert_contains(r->why, "or there are two");
    buf_clear(&heads);
    free(r);
}

/* It shows a head, learns the nonces, dislikes what they draw, and records another head, for which
 * the witnesses, who give a nonce once, have to begin anew. */
static void an_orchestrator_that_biases_a_draw_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w, tried;

    world_init_witnesses(&tried, NULL, 1);
    begin(&tried);
    commit(&tried, 2, 1);
    assert_ok(world_try_head(&tried), &tried.e);
    world_show_head(&tried, &p->heads, ledger_books_round(world_books(&tried)).seq);
    world_clear(&tried);
    begin(w);
    commit(w, 2, 1);
    commit(w, 3, 1); /* this friend's unit is to be drawn otherwise */
    assert_ok(world_try_head(w), &w->e);
    assert_ok(world_try_witness(w, 1, true), &w->e);
    assert_ok(world_try_witness(w, 2, true), &w->e);
    assert_false(ledger_books_round(world_books(w)).n_missing == 0); /* and all is checked */
    assert_ok(world_try_draw(w), &w->e);
    audit_says(p, AUDIT_VIOLATION, "I10: a witness was shown another entry");
}

static void heads_of_another_orchestrator_accuse_nobody(void **state)
{
    struct place *p = *state;
    struct audit_report *r = xcalloc(1, sizeof(*r));
    struct bytes file;

    begin(&p->w);
    memcpy(p->w.orchestrator.b, world_worker(&p->w, 0)->secret.b, sizeof(p->w.orchestrator.b));
    world_show_head(&p->w, &p->heads, 3);
    world_flush(&p->w);
    db_close(&p->w.db);
    file = buf_bytes(&p->heads);
    assert_int_equal(audit_heads(r, p->dir, &file, 1), AUDIT_UNREADABLE);
    file = BYTES_LIT("rubbish");
    assert_int_equal(audit_heads(r, p->dir, &file, 1), AUDIT_UNREADABLE);
    free(r);
}

static void a_co_signature_says_what_the_entry_says(void **state)
{
    static const enum world_bend bends[] = {BEND_SIGNATURE, BEND_SIGNER, BEND_IDEM};

    (void)state;
    for (size_t i = 0; i < sizeof(bends) / sizeof(bends[0]); i++) {
        struct audit_report *r = xcalloc(1, sizeof(*r));
        char *dir = tempdir_make();
        struct world w;
        world_init_witnesses(&w, dir, 1);
        assert_ok(world_try_head(&w), &w.e);
        w.bend = bends[i];
        assert_ok(world_try_witness(&w, 1, true), &w.e);
        world_flush(&w);
        db_close(&w.db);
        assert_int_equal(audit_run(r, dir), AUDIT_VIOLATION);
        world_clear(&w);
        tempdir_remove(&dir);
        free(r);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_draw_wants_a_head_before_it_and_takes_all_it_covers),
        TEST(a_missing_nonce_has_everything_checked_in_full),
        TEST(a_nonce_is_the_one_committed_to_and_counts_once),
        TEST(no_head_comes_between_a_nonce_and_its_draw),
        TEST(nonces_change_what_is_drawn),
        TEST(an_honest_ledger_has_all_that_witnesses_saw),
        TEST(an_orchestrator_that_rewrites_history_is_found),
        TEST(an_orchestrator_that_drops_the_end_is_found),
        TEST(an_orchestrator_that_shows_two_histories_is_found),
        TEST(an_orchestrator_that_biases_a_draw_is_found),
        TEST(heads_of_another_orchestrator_accuse_nobody),
        TEST(a_co_signature_says_what_the_entry_says),
    };
    return cmocka_run_group_tests_name("ledger/round", tests, NULL, NULL);
}
