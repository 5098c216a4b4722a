/* The options that every role has. */
#include "cli/role_options.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "support/test.h"

struct fixture {
    struct role_options o;
    struct opt table[ROLE_OPTIONS_COUNT];
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f.o, 0xa5, sizeof(f.o)); /* the defaults must not depend on what was there */
    role_options_table(f.table, &f.o);
    opt_defaults(f.table, ROLE_OPTIONS_COUNT);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    opt_clear(f->table, ROLE_OPTIONS_COUNT);
    log_set_level(LOG_I);
    return 0;
}

static void set(struct fixture *f, const char *key, const char *value)
{
    struct err e;

    assert_ok(opt_set(f->table, ROLE_OPTIONS_COUNT, key, value, &e), &e);
}

static void only_the_directory_is_required(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    assert_status(opt_check_required(f->table, ROLE_OPTIONS_COUNT, &e), ERR_INVALID, &e);
    assert_contains(e.text, "dir");

    set(f, "dir", "here");
    assert_ok(opt_check_required(f->table, ROLE_OPTIONS_COUNT, &e), &e);
}

static void a_role_gets_what_was_set(void **state)
{
    struct fixture *f = *state;
    struct node_options n;

    set(f, "dir", "here");
    set(f, "join", "muster1:abc");
    set(f, "listen", "tcp://0.0.0.0:4000");
    set(f, "advertise", "example.org");
    set(f, "kernels", "scalar");
    set(f, "threads", "7");
    set(f, "up-mbps", "12.5");
    set(f, "down-mbps", "100");
    n = role_options_apply(&f->o);

    assert_string_equal(n.dir, "here");
    assert_string_equal(n.link, "muster1:abc");
    assert_string_equal(n.listen, "tcp://0.0.0.0:4000");
    assert_string_equal(n.advertise, "example.org");
    assert_string_equal(n.kernels, "scalar");
    assert_int_equal(n.threads, 7);
    assert_float_equal(n.up_mbps, 12.5, 0);
    assert_float_equal(n.down_mbps, 100, 0);
}

/* How many of four lines, one of each level, are written. */
static int n_lines_written(void)
{
    int ends[2], n = 0;
    char text[4096];
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    log_set_fd(ends[1]);
    for (int level = LOG_E; level <= LOG_D; level++)
        log_line((enum log_level)level, "test", "line");
    log_set_fd(STDERR_FILENO);
    close(ends[1]);
    while ((got = read(ends[0], text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < got; i++)
            n += text[i] == '\n';
    close(ends[0]);
    return n;
}

static void each_log_level_lets_one_more_kind_of_line_through(void **state)
{
    static const char *const name[] = {"error", "warn", "info", "debug"};
    struct fixture *f = *state;

    set(f, "dir", "here");
    for (int i = 0; i < 4; i++) {
        set(f, "log-level", name[i]);
        (void)role_options_apply(&f->o);
        assert_int_equal(n_lines_written(), i + 1);
    }
}

static void a_success_is_0_a_failure_1_and_a_refusal_3(void **state)
{
    struct err e = {.text = "no luck"};
    (void)state;

    assert_int_equal(role_finish("trainer", OK, &e), 0);
    assert_int_equal(role_finish("trainer", ERR_IO, &e), 1);
    assert_int_equal(role_finish("trainer", ERR_DENIED, &e), ROLE_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_directory_is_required, setup, teardown),
        cmocka_unit_test_setup_teardown(a_role_gets_what_was_set, setup, teardown),
        cmocka_unit_test_setup_teardown(each_log_level_lets_one_more_kind_of_line_through,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_success_is_0_a_failure_1_and_a_refusal_3, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("cli/role_options", tests, NULL, NULL);
}
