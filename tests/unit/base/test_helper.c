/*
 * base/helper: this program is its own helper, which does as the first byte it is sent says.
 */
#include "base/helper.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/test.h"

#define COMMAND "test-helper"
#define MARK    "TEST_HELPER_MARK=1"

static struct helper start_with(bool keep_environment)
{
    const struct helper_options o = {.command = COMMAND,
                                     .mark = MARK,
                                     .keep_environment = keep_environment,
                                     .keep_stderr = true};
    struct helper h = HELPER_NONE;
    struct err e;

    assert_ok(helper_start(&h, &o, &e), &e);
    assert_true(h.pid > 0 && h.fd >= 0);
    return h;
}

static uint8_t ask(const struct helper *h, char what)
{
    uint8_t answer = 0;

    assert_ok(helper_send(h, (struct bytes){(const uint8_t *)&what, 1}, INT64_MAX), NULL);
    assert_int_equal(helper_receive(h, &answer, 1, clock_mono_ms() + 60000), OK);
    return answer;
}

static void a_helper_answers_on_its_socket(void **state)
{
    struct helper h = start_with(false);

    (void)state;
    assert_int_equal(ask(&h, 'e'), 'e');
    assert_int_equal(ask(&h, 'e'), 'e');
    helper_stop(&h);
    assert_true(h.pid == 0 && h.fd == -1);
    assert_int_equal(helper_stop(&h), 0); /* there is none */
}

/* More than a socket holds, there and back: neither side waits for ever. */
static void many_bytes_arrive_whole(void **state)
{
    static uint8_t sent[3 << 20], got[3 << 20];
    struct helper h = start_with(false);

    (void)state;
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(ask(&h, 'm'), 'm');
    assert_ok(helper_send(&h, BYTES_OF(sent), INT64_MAX), NULL);
    assert_int_equal(helper_receive(&h, got, sizeof(got), INT64_MAX), OK);
    assert_memory_equal(got, sent, sizeof(sent));
    helper_stop(&h);
}

static void it_has_its_mark_and_the_environment_it_is_given(void **state)
{
    struct helper h = start_with(false);

    (void)state;
    assert_int_equal(setenv("TEST_HELPER_OTHER", "1", 1), 0);
    assert_int_equal(ask(&h, 'k'), 1);
    assert_int_equal(ask(&h, 'o'), 0);
    helper_stop(&h);
    h = start_with(true);
    assert_int_equal(ask(&h, 'k'), 1);
    assert_int_equal(ask(&h, 'o'), 1);
    helper_stop(&h);
    assert_false(helper_is_marked(MARK));
}

static void it_holds_no_descriptor_of_its_parent(void **state)
{
    int fd = open("/dev/null", O_RDONLY); /* without FD_CLOEXEC */
    struct helper h = start_with(false);

    (void)state;
    assert_true(fd >= 3);
    assert_int_equal(ask(&h, 'd'), 0);
    helper_stop(&h);
    close(fd);
}

static void a_helper_that_ends_is_noticed(void **state)
{
    struct helper h = start_with(false);
    uint8_t answer;
    int status;

    (void)state;
    assert_ok(helper_send(&h, BYTES_LIT("x"), INT64_MAX), NULL);
    assert_int_equal(helper_receive(&h, &answer, 1, INT64_MAX), ERR_IO);
    status = helper_stop(&h);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void silence_has_an_end(void **state)
{
    struct helper h = start_with(false);
    uint8_t answer;

    (void)state;
    assert_int_equal(helper_receive(&h, &answer, 1, clock_mono_ms() + 20), ERR_TIMEOUT);
    assert_int_equal(ask(&h, 'e'), 'e'); /* and is no death */
    assert_true(WIFSIGNALED(helper_stop(&h)));
}

/* More than a socket holds, and nobody reads. */
static void who_does_not_listen_is_not_waited_for(void **state)
{
    static const uint8_t sent[8 << 20] = {0};
    struct helper h = start_with(false);

    (void)state;
    assert_int_equal(ask(&h, 'e'), 'e'); /* it runs */
    assert_int_equal(kill(h.pid, SIGSTOP), 0);
    alarm(60);
    assert_int_equal(helper_send(&h, BYTES_OF(sent), clock_mono_ms() + 20), ERR_TIMEOUT);
    alarm(0);
    assert_true(WIFSIGNALED(helper_stop(&h)));
}

static void a_helper_ends_with_its_parents_socket(void **state)
{
    struct helper h = start_with(false);
    int status;

    (void)state;
    close(h.fd);
    assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    const struct helper_options o = {
        .program = "/nowhere/muster", .command = COMMAND, .mark = MARK};
    struct helper h = HELPER_NONE;
    struct err e;

    (void)state;
    assert_status(helper_start(&h, &o, &e), ERR_IO, NULL);
    assert_contains(e.text, "/nowhere/muster");
    assert_true(h.pid == 0 && h.fd == -1);
}

static void serve(void)
{
    static uint8_t many[3 << 20];
    uint8_t what, answer;

    while (helper_read(&what, 1)) {
        answer = what;
        if (what == 'x')
            _exit(7);
        if (what == 'k')
            answer = helper_is_marked(MARK);
        if (what == 'o')
            answer = getenv("TEST_HELPER_OTHER") != NULL;
        if (what == 'd')
            answer = fcntl(3, F_GETFD) != -1;
        if (!helper_write(BYTES_OF(answer)))
            return;
        if (what == 'm' && (!helper_read(many, sizeof(many)) || !helper_write(BYTES_OF(many))))
            return;
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], COMMAND)) {
        serve();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_helper_answers_on_its_socket),
        cmocka_unit_test(many_bytes_arrive_whole),
        cmocka_unit_test(it_has_its_mark_and_the_environment_it_is_given),
        cmocka_unit_test(it_holds_no_descriptor_of_its_parent),
        cmocka_unit_test(a_helper_that_ends_is_noticed),
        cmocka_unit_test(silence_has_an_end),
        cmocka_unit_test(who_does_not_listen_is_not_waited_for),
        cmocka_unit_test(a_helper_ends_with_its_parents_socket),
        cmocka_unit_test(a_program_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests_name("base/helper", tests, NULL, NULL);
}
