/*
 * The processes that `muster up` keeps alive. Each child is this very program, executed again
 * with words that tell it how to live: see be_a_child().
 */
#include "cli/children.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"

#define LONG_MS 10000 /* a machine under load may take so long to start a process */

struct fixture {
    struct children c;
    char *dir;
    int64_t now_ms; /* virtual: the children see no other clock */
};

static int setup(void **state)
{
    static struct fixture f;

    f.dir = tempdir_make();
    f.now_ms = 1000000;
    children_init(&f.c);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    children_clear(&f->c, 5000);
    tempdir_remove(&f->dir);
    return 0;
}

static struct child *add(struct fixture *f, const char *verb, const char *what)
{
    const char *const args[] = {verb, what, NULL};

    return children_add(&f->c, "one", f->dir, args);
}

static void tick(struct fixture *f)
{
    struct err e;

    assert_ok(children_tick(&f->c, f->now_ms, &e), &e);
}

static bool has_ended(struct fixture *f, const struct child *ch)
{
    tick(f);
    return !ch->pid;
}

/* One life of the child, which began `lived_ms` before its end; it is not started again yet. */
static void live(struct fixture *f, struct child *ch, int64_t lived_ms)
{
    f->now_ms = ch->restart_at_ms > f->now_ms ? ch->restart_at_ms : f->now_ms;
    tick(f);
    assert_true(ch->pid > 0);
    f->now_ms += lived_ms;
    assert_within(LONG_MS, has_ended(f, ch));
}

static void one_that_ends_well_is_done_and_stays_so(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "0");

    live(f, ch, 10);
    f->now_ms += 60000;
    tick(f);

    assert_true(ch->is_done);
    assert_int_equal(ch->pid, 0);
}

static void one_that_fails_is_started_again_after_a_pause_that_doubles(void **state)
{
    static const int64_t want[] = {200, 400, 800, 1600, 3200, 5000, 5000};
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "1");

    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        live(f, ch, 10);
        assert_int_equal(ch->restart_at_ms - f->now_ms, want[i]);
        f->now_ms = ch->restart_at_ms - 1;
        tick(f);
        assert_int_equal(ch->pid, 0);
    }
}

static void a_long_life_starts_over_at_the_first_pause(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "1");

    live(f, ch, 10);
    live(f, ch, 10);
    live(f, ch, 10001);

    assert_int_equal(ch->restart_at_ms - f->now_ms, 200);
    assert_int_equal(ch->quick_lives, 1);
}

static void one_that_cannot_be_used_so_is_given_up(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "2");

    live(f, ch, 10);
    f->now_ms += 60000;
    tick(f);

    assert_true(ch->is_given_up);
    assert_int_equal(ch->pid, 0);
}

static void one_that_was_refused_is_not_started_again(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "3");

    live(f, ch, 10);
    f->now_ms += 60000;
    tick(f);

    assert_true(ch->is_refused);
    assert_false(ch->is_done);
    assert_int_equal(ch->pid, 0);
    assert_false(children_is_stuck(ch, f->now_ms));
}

static void five_short_lives_and_it_is_stuck_with_its_last_word(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "say", "2026-01-02T03:04:05.678Z E one full disk=1\n");

    for (int i = 0; i < 4; i++)
        live(f, ch, 10);
    assert_false(children_is_stuck(ch, f->now_ms));
    live(f, ch, 10);

    assert_true(children_is_stuck(ch, f->now_ms));
    assert_string_equal(ch->why, "E one full disk=1");
}

/* As a trainer whose disk has no room for its next checkpoint, after half a minute's work each time. */
static void five_long_lives_in_vain_and_it_is_stuck_too(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "1");

    for (int i = 0; i < 4; i++)
        live(f, ch, 30000);
    assert_false(children_is_stuck(ch, f->now_ms));
    live(f, ch, 30000);
    assert_true(children_is_stuck(ch, f->now_ms));
    children_progress(&f->c);

    assert_false(children_is_stuck(ch, f->now_ms));
}

static void one_that_then_lives_is_no_longer_stuck(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "wait", "");

    ch->quick_lives = CHILD_QUICK_LIVES;
    tick(f);
    assert_true(children_is_stuck(ch, f->now_ms + 10000));

    assert_false(children_is_stuck(ch, f->now_ms + 10001));
}

static void a_signal_is_told_as_such(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "wait", "");

    tick(f);
    assert_int_equal(kill(ch->pid, SIGKILL), 0);
    assert_within(LONG_MS, has_ended(f, ch));

    assert_contains(ch->why, "killed by signal 9");
}

static void the_tail_of_a_log_is_its_last_lines(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "say", "first\nsecond\nthird\n");
    char *one, *two, *all;

    live(f, ch, 10);
    one = children_log_tail(ch, 1);
    two = children_log_tail(ch, 2);
    all = children_log_tail(ch, 9);

    assert_string_equal(one, "third");
    assert_string_equal(two, "second\nthird");
    assert_string_equal(all, "first\nsecond\nthird");
    free(one);
    free(two);
    free(all);
}

static void a_log_that_is_not_there_has_an_empty_tail(void **state)
{
    struct fixture *f = *state;
    char *tail = children_log_tail(add(f, "exit", "0"), 3);

    assert_string_equal(tail, "");
    free(tail);
}

/* Of a log that is longer than what is looked at, whole lines still come out. */
static void the_tail_of_a_long_log_is_found(void **state)
{
    struct fixture *f = *state;
    struct child *ch = add(f, "exit", "0");
    struct buf text;
    char *tail;

    buf_init(&text, 1u << 20);
    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "line %d\n", i);
    assert_ok(file_write_atomic(ch->log_path, buf_bytes(&text), 0600, NULL), NULL);
    tail = children_log_tail(ch, 2);

    assert_string_equal(tail, "line 19998\nline 19999");
    free(tail);
    buf_clear(&text);
}

static bool has_said(const struct child *ch, const char *want)
{
    char *tail = children_log_tail(ch, 1);
    bool is_so = !strcmp(tail, want);

    free(tail);
    return is_so;
}

/* The second does not hear SIGTERM: it is killed once the time is over. */
static void clear_ends_all_of_them(void **state)
{
    static const char *const deaf_args[] = {"deaf", NULL};
    struct fixture *f = *state;
    pid_t willing, deaf;
    struct child *second;

    add(f, "wait", "");
    second = children_add(&f->c, "two", f->dir, deaf_args);
    tick(f);
    willing = f->c.v[0].pid;
    deaf = second->pid;
    assert_within(LONG_MS, has_said(second, "deaf"));
    children_clear(&f->c, 200);

    assert_int_equal(kill(willing, 0), -1);
    assert_int_equal(kill(deaf, 0), -1);
    children_init(&f->c);
}

/* "exit N", "say TEXT" (and fail), "wait" for a signal, or "deaf" to SIGTERM. */
static int be_a_child(char **argv)
{
    if (!strcmp(argv[1], "exit"))
        return argv[2][0] - '0';
    if (!strcmp(argv[1], "say")) {
        fputs(argv[2], stderr);
        return 1;
    }
    if (!strcmp(argv[1], "deaf")) {
        signal(SIGTERM, SIG_IGN);
        fputs("deaf\n", stderr);
    }
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_that_ends_well_is_done_and_stays_so, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            one_that_fails_is_started_again_after_a_pause_that_doubles, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_life_starts_over_at_the_first_pause, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_used_so_is_given_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_was_refused_is_not_started_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(five_short_lives_and_it_is_stuck_with_its_last_word,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(five_long_lives_in_vain_and_it_is_stuck_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_then_lives_is_no_longer_stuck, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_signal_is_told_as_such, setup, teardown),
        cmocka_unit_test_setup_teardown(the_tail_of_a_log_is_its_last_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_that_is_not_there_has_an_empty_tail, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_tail_of_a_long_log_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(clear_ends_all_of_them, setup, teardown),
    };

    if (argc > 1)
        return be_a_child(argv);
    return cmocka_run_group_tests_name("cli/children", tests, NULL, NULL);
}
