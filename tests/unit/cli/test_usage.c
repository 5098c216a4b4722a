/* What every subcommand does with its command line. */
#include "cli/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"

#define ARGS_MAX 8

/* A command with an option that is required, one that is not, a flag and two operands; and what
 * it printed. */
struct fixture {
    char *dir;
    int64_t count;
    char *place;
    bool is_loud;
    struct opt table[3];
    const char *operand[2];
    struct usage u;
    char *out, *err;
    int argc;
    char *argv[ARGS_MAX];
};

static int setup(void **state)
{
    static struct fixture f;
    const struct opt table[3] = {
        {"count", OPT_INT, &f.count, "3", "1..9", "how often", false},
        {"place", OPT_STRING, &f.place, NULL, NULL, "where", false},
        {"loud", OPT_FLAG, &f.is_loud, "false", NULL, "say more", false},
    };

    memset(&f, 0, sizeof(f));
    memcpy(f.table, table, sizeof(table));
    f.u = (struct usage){.line = "muster sing SONG [VERSE]",
                         .about = "Sings a song.",
                         .table = f.table,
                         .n = 3,
                         .operand = f.operand,
                         .max_operands = 2};
    f.dir = tempdir_make();
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    opt_clear(f->table, 3);
    free(f->out);
    free(f->err);
    tempdir_remove(&f->dir);
    return 0;
}

static char *read_text(const char *path)
{
    struct buf b;
    char *text;

    buf_init(&b, 1u << 20);
    assert_ok(file_read(&b, path, NULL), NULL);
    text = strdup(buf_cstr(&b));
    buf_clear(&b);
    return text;
}

/* Points descriptor `to` at a file; returns the old one. */
static int divert(FILE *stream, int to, const char *path)
{
    int old, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    fflush(stream);
    old = dup(to);
    assert_true(fd >= 0 && old >= 0 && dup2(fd, to) == to);
    close(fd);
    return old;
}

static void restore(FILE *stream, int to, int old)
{
    fflush(stream);
    dup2(old, to);
    close(old);
}

/* Parses the words of `line`; what it prints goes to f->out and f->err. */
static int parse(struct fixture *f, const char *line)
{
    const char *out_path = tempdir_path(f->dir, "out"), *err_path = tempdir_path(f->dir, "err");
    char *words = strdup(line), *rest = words;
    int out, err, status;

    f->argc = 0;
    f->argv[f->argc++] = (char *)"sing";
    for (char *w = strtok_r(rest, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        f->argv[f->argc++] = w;
    out = divert(stdout, STDOUT_FILENO, out_path);
    err = divert(stderr, STDERR_FILENO, err_path);
    status = usage_parse(&f->u, f->argc, f->argv);
    restore(stdout, STDOUT_FILENO, out);
    restore(stderr, STDERR_FILENO, err);
    f->out = read_text(out_path);
    f->err = read_text(err_path);
    for (size_t i = 0; i < f->u.n_operands; i++) /* they outlive `words` here */
        f->operand[i] = !strcmp(f->operand[i], "song") ? "song" : "verse";
    free(words);
    return status;
}

static int n_lines(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void assert_parses(struct fixture *f, const char *line)
{
    assert_int_equal(parse(f, line), USAGE_RUN);
    assert_string_equal(f->err, "");
    assert_string_equal(f->out, "");
    assert_int_equal(f->count, 5);
    assert_string_equal(f->place, "hall");
    assert_int_equal(f->u.n_operands, 2);
    assert_string_equal(f->operand[0], "song");
    assert_string_equal(f->operand[1], "verse");
}

/* An error may quote a file of others, and a terminal obeys what it is sent. */
static void an_error_has_no_controls(void **state)
{
    struct fixture *f = *state;
    const char *path = tempdir_path(f->dir, "err");
    int old = divert(stderr, STDERR_FILENO, path);
    int status = usage_fail("of \x1b[2J\x7f\r in\ntwo lines");

    restore(stderr, STDERR_FILENO, old);
    f->err = read_text(path);
    assert_int_equal(status, 1);
    assert_string_equal(f->err, "muster: of ?[2J?? in\ntwo lines\n");
}

static void options_may_come_first(void **state)
{
    assert_parses(*state, "--count 5 --place hall song verse");
}

static void operands_may_come_first(void **state)
{
    assert_parses(*state, "song verse --place=hall --count=5");
}

static void they_may_be_mixed(void **state)
{
    assert_parses(*state, "--place hall song --count 5 verse");
}

static void defaults_stand_for_what_is_not_named(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(parse(f, "--place hall"), USAGE_RUN);

    assert_int_equal(f->count, 3);
    assert_false(f->is_loud);
    assert_int_equal(f->u.n_operands, 0);
}

static void help_goes_to_stdout_with_status_0(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(parse(f, "song --help"), 0);

    assert_string_equal(f->err, "");
    assert_contains(f->out, "usage: muster sing SONG [VERSE]\n\nSings a song.\n");
    assert_contains(f->out, "--count N");
    assert_contains(f->out, "how often (default 3, 1..9)");
    assert_contains(f->out, "where (required)");
}

/* Whoever asks for help need not have the rest right. */
static void help_comes_before_errors(void **state)
{
    assert_int_equal(parse(*state, "--nope -h"), 0);
}

static void after_two_hyphens_help_is_a_word(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(parse(f, "--place hall -- --help"), USAGE_RUN);

    assert_int_equal(f->u.n_operands, 1);
}

/* Two lines on stderr, nothing on stdout, status 2. */
static void assert_refused(struct fixture *f, const char *line, const char *part)
{
    assert_int_equal(parse(f, line), 2);
    assert_string_equal(f->out, "");
    assert_int_equal(n_lines(f->err), 2);
    assert_contains(f->err, part);
    assert_contains(f->err, "\nusage: muster sing SONG [VERSE]");
}

static void an_unknown_option_is_named(void **state)
{
    assert_refused(*state, "--place hall --cuont 5", "cuont");
}

static void a_value_out_of_range_is_named_with_the_range(void **state)
{
    assert_refused(*state, "--place hall --count 10", "1..9");
}

static void a_required_option_is_asked_for(void **state)
{
    assert_refused(*state, "song", "place");
}

static void a_word_too_many_is_named(void **state)
{
    assert_refused(*state, "--place hall song verse encore", "'encore'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_error_has_no_controls, setup, teardown),
        cmocka_unit_test_setup_teardown(options_may_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(operands_may_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(they_may_be_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(defaults_stand_for_what_is_not_named, setup, teardown),
        cmocka_unit_test_setup_teardown(help_goes_to_stdout_with_status_0, setup, teardown),
        cmocka_unit_test_setup_teardown(help_comes_before_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(after_two_hyphens_help_is_a_word, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_option_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_out_of_range_is_named_with_the_range, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_required_option_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_word_too_many_is_named, setup, teardown),
    };
    return cmocka_run_group_tests_name("cli/usage", tests, NULL, NULL);
}
