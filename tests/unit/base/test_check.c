/* base/check: what a failed CHECK does to the process, seen from a parent */
#include "base/check.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

static void a_true_condition_goes_on(void **state)
{
    (void)state;
    int evaluated = 0;

    CHECK(++evaluated == 1);

    assert_int_equal(evaluated, 1);
}

static void a_false_condition_says_where_and_aborts(void **state)
{
    (void)state;
    char text[512] = "";
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        dup2(fds[1], 2);
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    close(fds[1]);
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_contains(text, "test_check.c:");
    assert_contains(text, "1 + 1 == 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_true_condition_goes_on),
        cmocka_unit_test(a_false_condition_says_where_and_aborts),
    };
    return cmocka_run_group_tests_name("base/check", tests, NULL, NULL);
}
