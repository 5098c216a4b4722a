/* The options of `muster up`, and that a run goes on with those it was begun with. */
#include "cli/up_options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/usage.h"
#include "support/tempdir.h"
#include "support/test.h"

static int setup(void **state)
{
    *state = tempdir_make();
    return 0;
}

static int teardown(void **state)
{
    char *dir = *state;

    tempdir_remove(&dir);
    return 0;
}

/* "up --dir DIR", then words up to NULL. */
static int parse(struct up_options *o, const char **task, const char *dir,
                 const char *const *words)
{
    char *argv[32] = {xstrdup("up"), xstrdup("--dir"), xstrdup(dir)};
    int argc = 3, status;

    for (; *words; words++)
        argv[argc++] = xstrdup(*words);
    *task = NULL;
    status = up_options_parse(o, task, argc, argv);
    *task = *task ? "named" : NULL;
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return status;
}

#define PARSE(o, task, dir, ...) parse(o, task, dir, (const char *const[]){__VA_ARGS__, NULL})

static void begin(const char *dir)
{
    assert_ok(file_write_atomic(tempdir_path(dir, UP_BEGUN), bytes_str("a task"), 0644, NULL),
              NULL);
}

static void write_kept(const char *dir, const char *text)
{
    begin(dir);
    assert_ok(file_write_atomic(tempdir_path(dir, "options"), bytes_str(text), 0644, NULL),
              NULL);
}

static void a_run_goes_on_with_what_it_was_begun_with(void **state)
{
    struct up_options o;
    const char *task;
    struct err e;

    assert_int_equal(PARSE(&o, &task, *state, "small", "--inference", "3", "--cheats", "0",
                           "--relays=2", "--listen", "tcp://0.0.0.0:*", "--seed", "5",
                           "--json"),
                     USAGE_RUN);
    assert_non_null(task);
    assert_ok(up_options_keep(&o, &e), &e);
    up_options_clear(&o);

    assert_int_equal(PARSE(&o, &task, *state, "--threads", "2"), USAGE_RUN);
    assert_int_equal(o.inference,
                     4); /* interrupted before the task was there: none was begun */
    up_options_clear(&o);
    begin(*state);
    assert_int_equal(PARSE(&o, &task, *state, "--threads", "2", "--relays", "1"), USAGE_RUN);
    assert_null(task);
    assert_int_equal(o.inference, 3);
    assert_int_equal(o.cheats, 0);
    assert_int_equal(o.relays, 1);
    assert_int_equal(o.threads, 2);
    assert_string_equal(o.listen, "tcp://0.0.0.0:*");
    assert_string_equal(o.dir, *state);
    assert_int_equal(o.seed, -1); /* of the task, which is kept itself */
    assert_false(o.as_json);      /* of the one command */
    assert_ok(up_options_keep(&o, &e), &e);
    up_options_clear(&o);

    /* what is said again counts that time, and no directory has another's */
    assert_int_equal(PARSE(&o, &task, *state, "--inference", "2"), USAGE_RUN);
    assert_int_equal(o.inference, 2);
    assert_int_equal(o.relays, 2);
    assert_int_equal(o.threads, 1);
    up_options_clear(&o);
    assert_int_equal(PARSE(&o, &task, tempdir_path(*state, "other"), "--relays", "0"),
                     USAGE_RUN);
    assert_int_equal(o.inference, 4);
    assert_int_equal(o.cheats, 1);
    up_options_clear(&o);
}

static void who_cheats_stays_as_it_was(void **state)
{
    static const char *const others[][2] = {{"--cheats", "1"},
                                            {"--cheats", "0"},
                                            {"--inference", "3"},
                                            {"--cheat", "stale"},
                                            {"--cheat-verifier", "lazy"},
                                            {"--cheat-trainer", "skip-batch"}};
    struct up_options o;
    const char *task;

    write_kept(*state, "inference=4\ncheats=2\ncheat=int4\n");
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(PARSE(&o, &task, *state, others[i][0], others[i][1]), 1);
        up_options_clear(&o);
    }
    assert_int_equal(PARSE(&o, &task, *state, "--cheats", "2", "--threads", "3"), USAGE_RUN);
    assert_string_equal(o.cheat, "int4");
    up_options_clear(&o);

    /* honest workers may be fewer, and nobody becomes a cheat for want of a file or a line */
    write_kept(*state, "inference=4\n");
    assert_int_equal(PARSE(&o, &task, *state, "--inference", "3"), USAGE_RUN);
    assert_int_equal(o.cheats, 0);
    up_options_clear(&o);
    assert_int_equal(unlink(tempdir_path(*state, "options")), 0);
    assert_int_equal(PARSE(&o, &task, *state, "--inference", "3"), USAGE_RUN);
    assert_int_equal(o.cheats, 0);
    up_options_clear(&o);
    assert_int_equal(PARSE(&o, &task, *state, "--cheats", "1"),
                     USAGE_RUN); /* as one knows it was */
    assert_int_equal(o.cheats, 1);
    up_options_clear(&o);
}

static void a_file_of_that_name_is_not_overwritten(void **state)
{
    struct up_options o;
    const char *task;
    struct err e;

    assert_ok(
        file_write_atomic(tempdir_path(*state, "options"), bytes_str("my notes"), 0644, NULL),
        NULL);
    assert_int_equal(PARSE(&o, &task, *state, "--cheats", "0"), USAGE_RUN);
    assert_status(up_options_keep(&o, &e), ERR_INVALID, &e);
    assert_contains(e.text, "name another directory");
    up_options_clear(&o);
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    static const char *const devices[] = {"--worker-device", "--verifier-device",
                                          "--trainer-device"};
    struct up_options o;
    const char *task;

    assert_int_equal(PARSE(&o, &task, *state, "--inference", "1", "--cheats", "2"), 2);
    up_options_clear(&o);
    assert_int_equal(PARSE(&o, &task, *state, "--listen", "nowhere"), 2);
    up_options_clear(&o);
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        assert_int_equal(PARSE(&o, &task, *state, devices[i], "cudaa"), 2);
        up_options_clear(&o);
        assert_int_equal(PARSE(&o, &task, *state, devices[i], "cuda:7"), USAGE_RUN);
        up_options_clear(&o);
    }

    assert_int_equal(PARSE(&o, &task, *state, "--worker-device", "cpu\nrelays=8"), 2);
    up_options_clear(&o);
}

static void a_damaged_file_is_an_error(void **state)
{
    static const char *const bad[] = {"inference", "inference=many\n", "inference=33\n",
                                      "nosuch=1\n", "dir=elsewhere\n"};
    struct up_options o;
    const char *task;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        write_kept(*state, bad[i]);
        assert_int_equal(PARSE(&o, &task, *state, "--cheats", "0"), 1);
        up_options_clear(&o);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_goes_on_with_what_it_was_begun_with),
        TEST(who_cheats_stays_as_it_was),
        TEST(a_file_of_that_name_is_not_overwritten),
        TEST(options_that_contradict_each_other_are_refused),
        TEST(a_damaged_file_is_an_error),
    };
    return cmocka_run_group_tests_name("cli/up_options", tests, NULL, NULL);
}
