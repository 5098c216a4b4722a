/* base/log: through a pipe */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/test.h"

struct pipe_log {
    int fds[2];
    char text[8192];
};

static int setup(void **state)
{
    static struct pipe_log p;

    assert_int_equal(pipe(p.fds), 0);
    assert_int_equal(fcntl(p.fds[0], F_SETFL, O_NONBLOCK), 0);
    log_set_fd(p.fds[1]);
    log_set_level(LOG_I);
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    struct pipe_log *p = *state;

    log_set_fd(2);
    close(p->fds[0]);
    close(p->fds[1]);
    return 0;
}

/* What was logged since the last call; "" if nothing. */
static const char *logged(struct pipe_log *p)
{
    ssize_t n = read(p->fds[0], p->text, sizeof(p->text) - 1);

    p->text[n > 0 ? n : 0] = '\0';
    return p->text;
}

static void a_line_has_time_level_module_and_event(void **state)
{
    static const char form[] = "0000-00-00T00:00:00.000Z W trainer step n=118\n";
    struct pipe_log *p = *state;

    log_line(LOG_W, "trainer", "step n=%d", 118);

    logged(p);
    for (size_t i = 0; i < 24; i++)
        if (p->text[i] >= '0' && p->text[i] <= '9')
            p->text[i] = '0';
    assert_string_equal(p->text, form);
}

static void lines_above_the_level_are_dropped(void **state)
{
    struct pipe_log *p = *state;

    log_line(LOG_D, "trainer", "detail");
    assert_string_equal(logged(p), "");

    log_set_level(LOG_D);
    log_line(LOG_D, "trainer", "detail");
    assert_contains(logged(p), " D trainer detail\n");

    log_set_level(LOG_E);
    log_line(LOG_W, "trainer", "warning");
    assert_string_equal(logged(p), "");
}

static void a_peer_cannot_make_two_lines_of_one(void **state)
{
    struct pipe_log *p = *state;

    log_line(LOG_I, "node", "refused why=%s", "x\n2026 E node forged\x1b[31m");

    assert_contains(logged(p), "why=x 2026 E node forged [31m\n");
    assert_ptr_equal(strchr(p->text, '\n'), p->text + strlen(p->text) - 1);
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    struct pipe_log *p = *state;
    char text[6000];
    memset(text, 'a', sizeof(text));
    for (int len = 4000; len <= 4200; len++) {
        size_t n;

        log_line(LOG_I, "node", "%.*s", len, text);

        n = strlen(logged(p));
        assert_in_range(n, 4000, 4096);
        assert_int_equal(p->text[n - 1], '\n');
    }
}

static void logging_leaves_errno_alone(void **state)
{
    struct pipe_log *p = *state;

    log_line(LOG_I, "node", "event");
    log_set_fd(p->fds[0]); /* not open for writing: EBADF */
    errno = ENOSPC;
    log_line(LOG_I, "node", "event");
    assert_int_equal(errno, ENOSPC);

    log_set_fd(-1);
    log_line(LOG_I, "node", "event");
    assert_int_equal(errno, ENOSPC);
    assert_contains(logged(p), "event");
    assert_string_equal(logged(p), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_time_level_module_and_event, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lines_above_the_level_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_peer_cannot_make_two_lines_of_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_line_is_cut_and_still_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(logging_leaves_errno_alone, setup, teardown),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
