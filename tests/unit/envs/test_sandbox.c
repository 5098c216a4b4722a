/*
 * envs/sandbox.h: what a confined process can still do. Each attempt is made in a child.
 */
#include "envs/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

#define ENTERED 42 /* exit status of a child that survived its attempt */

/* How a child ends that enters the sandbox and then makes the attempt. */
static int attempt(void (*f)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct err e;

        if (sandbox_enter((size_t)64 << 20, &e)) {
            fprintf(stderr, "%s\n", e.text);
            _exit(1);
        }
        f();
        _exit(ENTERED);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_killed(void (*f)(void))
{
    int status = attempt(f);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void nothing(void)
{
}

static void opens(void)
{
    (void)!open("/etc/passwd", O_RDONLY);
}

static void connects(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void forks(void)
{
    (void)!fork();
}

static void executes(void)
{
    execl("/bin/true", "true", (char *)NULL);
}

static void kills(void)
{
    kill(getppid(), SIGTERM);
}

static void maps_code(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0);
}

static void reads_and_allocates(void)
{
    volatile char *p = malloc(1 << 20);

    if (!p)
        _exit(2);
    p[0] = 1;
    if (write(2, "", 0) != 0)
        _exit(3);
}

static void a_confined_process_can_work_and_exit(void **state)
{
    (void)state;
    int status = attempt(nothing);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ENTERED);
    status = attempt(reads_and_allocates);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ENTERED);
}

static void opening_a_file_ends_it(void **state)
{
    (void)state;

    assert_killed(opens);
}

static void a_socket_ends_it(void **state)
{
    (void)state;

    assert_killed(connects);
}

static void another_process_ends_it(void **state)
{
    (void)state;

    assert_killed(forks);
    assert_killed(executes);
    assert_killed(kills);
}

static void executable_memory_ends_it(void **state)
{
    (void)state;

    assert_killed(maps_code);
}

static void this_machine_can_confine(void **state)
{
    (void)state;
    struct err e = {0};

    assert_ok(sandbox_check(&e), &e);
}

int main(void)
{
    struct err e;

    if (sandbox_check(&e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_can_confine),
        cmocka_unit_test(a_confined_process_can_work_and_exit),
        cmocka_unit_test(opening_a_file_ends_it),
        cmocka_unit_test(a_socket_ends_it),
        cmocka_unit_test(another_process_ends_it),
        cmocka_unit_test(executable_memory_ends_it),
    };

    return cmocka_run_group_tests_name("envs/sandbox", tests, NULL, NULL);
}
