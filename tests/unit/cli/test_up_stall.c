/* When `muster up` tells that a process cannot live, and when it gives up. */
#include "cli/up_stall.h"

#include <string.h>

#include "support/test.h"

/* Two children that were never started: what is looked at is set by hand. */
struct fixture {
    struct children c;
    struct child *trainer, *worker;
    struct up_stall s;
    int64_t now_ms;
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.c.n = 2;
    f.trainer = &f.c.v[0];
    f.worker = &f.c.v[1];
    strncpy(f.trainer->name, "trainer", CHILD_NAME_BYTES - 1);
    strncpy(f.worker->name, "inference-1", CHILD_NAME_BYTES - 1);
    f.now_ms = 1000;
    f.trainer->pid = f.worker->pid = 1;
    f.trainer->start_ms = f.worker->start_ms = f.now_ms;
    up_stall_init(&f.s, f.now_ms);
    *state = &f;
    return 0;
}

static void make_stuck(struct child *ch, const char *why)
{
    ch->pid = 0;
    ch->quick_lives = CHILD_QUICK_LIVES;
    strncpy(ch->why, why, CHILD_WHY_BYTES - 1);
}

static enum status check(struct fixture *f, int version, int batches, int accepted,
                         struct err *e)
{
    json_t *o = json_pack("{s:i, s:i, s:i}", "version", version, "batches", batches, "accepted",
                          accepted);
    enum status st = up_stall_check(&f->s, &f->c, o, f->now_ms, e);

    json_decref(o);
    return st;
}

static void a_child_that_cannot_live_is_told_with_its_last_word(void **state)
{
    struct fixture *f = *state;
    char text[512];

    assert_null(up_stuck_note(&f->c, f->now_ms, text, sizeof(text)));
    make_stuck(f->worker, "no sandbox");

    assert_string_equal(up_stuck_note(&f->c, f->now_ms, text, sizeof(text)),
                        "inference-1 ends again and again: no sandbox");
}

static void a_minute_without_progress_and_it_is_over(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    make_stuck(f->worker, "no sandbox");
    assert_ok(check(f, 2, 2, 8, &e), &e);
    f->now_ms += UP_STALL_MS - 1;
    assert_ok(check(f, 2, 2, 8, &e), &e);
    f->now_ms += 1;

    assert_status(check(f, 2, 2, 8, &e), ERR_IO, &e);
    assert_string_equal(
        e.text, "inference-1 cannot live, and nothing got further for 60 s: no sandbox");
}

static void without_an_honest_worker_it_is_over_too(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    json_t *o = json_pack("{s:i, s:i, s:[{s:s, s:b}, {s:s, s:b}, {s:s, s:b}]}", "version", 2,
                          "batches", 2, "nodes", "role", "trainer", "barred", 0, "role",
                          "inference", "barred", 1, "role", "inference", "barred", 0);
    json_t *last = json_array_get(json_object_get(o, "nodes"), 2);

    assert_ok(up_stall_check(&f->s, &f->c, o, f->now_ms, &e), &e);
    f->now_ms += UP_STALL_MS;
    assert_ok(up_stall_check(&f->s, &f->c, o, f->now_ms, &e), &e);
    json_object_set_new(last, "barred", json_true());

    assert_status(up_stall_check(&f->s, &f->c, o, f->now_ms, &e), ERR_DENIED, &e);
    json_decref(o);
}

static void without_a_validator_it_is_over_too(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    json_t *o =
        json_pack("{s:i, s:i, s:[{s:s, s:b}, {s:s, s:b}]}", "version", 2, "batches", 2, "nodes",
                  "role", "verifier", "barred", 1, "role", "inference", "barred", 0);

    assert_ok(up_stall_check(&f->s, &f->c, o, f->now_ms, &e), &e);
    f->now_ms += UP_STALL_MS;

    assert_status(up_stall_check(&f->s, &f->c, o, f->now_ms, &e), ERR_DENIED, &e);
    assert_contains(e.text, "every validator was barred");
    json_decref(o);
}

/* One worker was barred: the others may take their time. */
static void who_was_refused_is_told_and_nobody_gives_up_for_that(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    char text[512];

    f->worker->pid = 0;
    f->worker->is_refused = true;
    strncpy(f->worker->why, "this node was barred", CHILD_WHY_BYTES - 1);
    assert_ok(check(f, 2, 2, 8, &e), &e);
    f->now_ms += 100 * UP_STALL_MS;

    assert_ok(check(f, 2, 2, 8, &e), &e);
    assert_string_equal(up_stuck_note(&f->c, f->now_ms, text, sizeof(text)),
                        "inference-1 is not started again: this node was barred");
}

static void without_the_trainer_it_is_over(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    f->trainer->pid = 0;
    f->trainer->is_refused = true;
    assert_ok(check(f, 2, 3, 8, &e), &e);
    f->now_ms += UP_STALL_MS;

    assert_status(check(f, 2, 3, 8, &e), ERR_IO, &e);
    assert_contains(e.text, "trainer cannot live");
}

static void while_all_live_any_wait_is_fine(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    assert_ok(check(f, 2, 2, 8, &e), &e);
    f->now_ms += 100 * UP_STALL_MS;

    assert_ok(check(f, 2, 2, 8, &e), &e);
}

/* One worker of several cannot live: the others go on. */
static void while_units_are_accepted_it_goes_on(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    make_stuck(f->worker, "no sandbox");
    for (int i = 0; i < 10; i++) {
        f->now_ms += UP_STALL_MS - 1;
        assert_ok(check(f, 2, 2, 8 + i, &e), &e);
    }
}

static void a_trainer_that_computes_has_all_the_time_it_wants(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    make_stuck(f->worker, "no sandbox");
    for (int i = 0; i < 3; i++) {
        assert_ok(check(f, -1, 0, 0, &e), &e); /* the warm-up */
        f->now_ms += 2 * UP_STALL_MS;
        f->trainer->start_ms = f->now_ms - 1;
    }
    for (int i = 0; i < 3; i++) {
        assert_ok(check(f, 4, 5, 40, &e), &e); /* a step */
        f->now_ms += 2 * UP_STALL_MS;
    }
}

static void a_trainer_that_cannot_live_has_not(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    make_stuck(f->trainer, "disk full");
    assert_ok(check(f, -1, 0, 0, &e), &e);
    f->now_ms += UP_STALL_MS;

    assert_status(check(f, -1, 0, 0, &e), ERR_IO, &e);
    assert_contains(e.text, "trainer cannot live");
}

/* It lives for half a minute each time: as long as it takes to come to what cannot be written. */
static void a_trainer_that_dies_of_each_step_has_not_either(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    f->trainer->vain_lives = 3; /* before the last version came */
    assert_ok(check(f, 4, 5, 40, &e), &e);
    assert_int_equal(f->trainer->vain_lives, 0);
    f->trainer->vain_lives = CHILD_QUICK_LIVES;
    f->trainer->quick_lives = 1;
    f->trainer->start_ms = f->now_ms;
    f->now_ms += UP_STALL_MS - 1;
    assert_ok(check(f, 4, 5, 40, &e), &e);
    f->now_ms += 1;

    assert_status(check(f, 4, 5, 40, &e), ERR_IO, &e);
    assert_contains(e.text, "trainer cannot live");
}

static void an_orchestrator_that_never_answers_ends_it_too(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    make_stuck(f->worker, "disk full");
    assert_ok(up_stall_check(&f->s, &f->c, NULL, f->now_ms, &e), &e);
    f->now_ms += UP_STALL_MS;

    assert_status(up_stall_check(&f->s, &f->c, NULL, f->now_ms, &e), ERR_IO, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_child_that_cannot_live_is_told_with_its_last_word, setup),
        cmocka_unit_test_setup(a_minute_without_progress_and_it_is_over, setup),
        cmocka_unit_test_setup(without_an_honest_worker_it_is_over_too, setup),
        cmocka_unit_test_setup(without_a_validator_it_is_over_too, setup),
        cmocka_unit_test_setup(who_was_refused_is_told_and_nobody_gives_up_for_that, setup),
        cmocka_unit_test_setup(without_the_trainer_it_is_over, setup),
        cmocka_unit_test_setup(while_all_live_any_wait_is_fine, setup),
        cmocka_unit_test_setup(while_units_are_accepted_it_goes_on, setup),
        cmocka_unit_test_setup(a_trainer_that_computes_has_all_the_time_it_wants, setup),
        cmocka_unit_test_setup(a_trainer_that_cannot_live_has_not, setup),
        cmocka_unit_test_setup(a_trainer_that_dies_of_each_step_has_not_either, setup),
        cmocka_unit_test_setup(an_orchestrator_that_never_answers_ends_it_too, setup),
    };
    return cmocka_run_group_tests_name("cli/up_stall", tests, NULL, NULL);
}
