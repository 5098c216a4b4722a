/* tests/support itself: a check that cannot fail would make every test that uses it worthless.
 * Each expected failure happens in a child of its own, a cmocka group of one test. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "support/close.h"
#include "support/process.h"
#include "support/random.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"

static const float ones[3] = {1, 1, 1};

static void within_tolerance(void **state)
{
    (void)state;
    assert_close(((float[]){1, 1.001f, 1}), ones, 3, 0, 0.002);
}

static void outside_tolerance(void **state)
{
    (void)state;
    assert_close(((float[]){1, 1.003f, 0.99f}), ones, 3, 0, 0.002);
}

static void got_nan(void **state)
{
    (void)state;
    assert_close(((float[]){1, NAN, 1}), ones, 3, 1e30, 1);
}

static void wanted_nan(void **state)
{
    (void)state;
    assert_close(ones, ((float[]){1, NAN, 1}), 3, 1e30, 1);
}

static void zeros_of_two_signs(void **state)
{
    (void)state;
    assert_same_bits(((float[]){0.0f}), ((float[]){-0.0f}), 1);
}

static void never_true(void **state)
{
    (void)state;
    assert_within(10, false);
}

static void wrong_status(void **state)
{
    struct err e;

    (void)state;
    assert_ok(err_set(&e, ERR_DIGEST, "the reason"), &e);
}

static void wrong_text(void **state)
{
    (void)state;
    assert_contains("abc", "d");
}

/* Runs one test function in a child; true when it failed. Its output goes to `path`. */
static bool child_fails(CMUnitTestFunction fn, const char *path)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        const struct CMUnitTest tests[] = {{"expected failure", fn, NULL, NULL, NULL}};

        if (!freopen(path, "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(0);
        status = cmocka_run_group_tests(tests, NULL, NULL);
        (void)fflush(NULL);
        _exit(status != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) != 0;
}

static void assertions_fail_when_they_should(void **state)
{
    const char *path = tempdir_path(*state, "out");
    struct buf b;

    buf_init(&b, 1 << 16);
    assert_false(child_fails(within_tolerance, path));
    assert_true(child_fails(got_nan, path));
    assert_true(child_fails(wanted_nan, path));
    assert_true(child_fails(zeros_of_two_signs, path));
    assert_true(child_fails(never_true, path));
    assert_true(child_fails(wrong_text, path));
    assert_true(child_fails(wrong_status, path));
    assert_ok(file_read(&b, path, NULL), NULL);
    assert_contains(buf_cstr(&b), "ERR_DIGEST: the reason");
    buf_reset(&b);
    assert_true(child_fails(outside_tolerance, path));
    assert_ok(file_read(&b, path, NULL), NULL);
    assert_contains(buf_cstr(&b), "[2] = 0.99"); /* the worst, not the first */
    assert_contains(buf_cstr(&b), "5.00 times");
    buf_clear(&b);
}

static void process_keeps_output_and_status(void **state)
{
    const char *argv[] = {"sh", "-c", "echo out; echo err >&2; exit 3", NULL};
    struct process p;
    char *text;
    int status;

    process_start(&p, *state, "child", argv);
    assert_true(process_wait(&p, 5000, &status));

    assert_int_equal(status, 3);
    text = process_stdout(&p);
    assert_string_equal(text, "out\n");
    free(text);
    text = process_stderr(&p);
    assert_string_equal(text, "err\n");
    free(text);
    process_clear(&p);
}

static void process_can_be_killed(void **state)
{
    const char *argv[] = {"sleep", "60", NULL};
    struct process p;
    int status;

    process_start(&p, *state, "child", argv);
    assert_true(process_is_running(&p));
    assert_false(process_wait(&p, 1, &status));

    process_signal(&p, SIGKILL);

    assert_true(process_wait(&p, 5000, &status));
    assert_int_equal(status, 128 + SIGKILL);
    assert_false(process_is_running(&p));
    process_clear(&p);
}

static void a_program_that_is_missing_says_so(void **state)
{
    const char *argv[] = {"/no/such/program", NULL};
    struct process p;
    char *text;
    int status;

    process_start(&p, *state, "child", argv);
    assert_true(process_wait(&p, 5000, &status));

    assert_int_equal(status, 127);
    text = process_stderr(&p);
    assert_contains(text, "cannot run '/no/such/program'");
    free(text);
    process_clear(&p);
}

static bool count_to_three(void *arg)
{
    return ++*(int *)arg == 3;
}

static void wait_until_stops_when_true(void **state)
{
    (void)state;
    int n = 0, never = 100;

    assert_true(wait_until(count_to_three, &n, 5000));
    assert_int_equal(n, 3);
    assert_false(wait_until(count_to_three, &never, 5));
}

static void the_temporary_tree_is_removed(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    char *copy = strdup(dir);
    struct err e;

    assert_ok(file_mkdirs(tempdir_path(dir, "a/b"), 0700, &e), &e);
    assert_ok(file_write_atomic(tempdir_path(dir, "a/b/c"), BYTES_LIT("x"), 0600, &e), &e);

    tempdir_remove(&dir);

    assert_null(dir);
    if (!getenv("KEEP_TEMP"))
        assert_false(file_exists(copy));
    free(copy);
}

static void the_seed_comes_from_the_environment(void **state)
{
    (void)state;
    const char *old = getenv("TEST_SEED");
    char *saved = old ? strdup(old) : NULL;

    setenv("TEST_SEED", "0x10", 1);
    assert_int_equal(random_seeded(3).key, 16);
    unsetenv("TEST_SEED");
    assert_int_equal(random_seeded(3).key, 3);
    if (saved)
        setenv("TEST_SEED", saved, 1);
    free(saved);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(assertions_fail_when_they_should),
        TEST(process_keeps_output_and_status),
        TEST(process_can_be_killed),
        TEST(a_program_that_is_missing_says_so),
        cmocka_unit_test(wait_until_stops_when_true),
        cmocka_unit_test(the_temporary_tree_is_removed),
        cmocka_unit_test(the_seed_comes_from_the_environment),
    };
    return cmocka_run_group_tests_name("tests/support", tests, NULL, NULL);
}
