/* base/options */
#include "base/options.h"

#include <string.h>

#include "support/test.h"

struct config {
    bool verbose;
    int64_t threads;
    double temperature;
    char *dir;
    char *kernels;
    struct opt table[5];
};

#define N 5

static int setup(void **state)
{
    static struct config c;
    const struct opt table[N] = {
        {"verbose", OPT_FLAG, &c.verbose, "false", NULL, "say more", false},
        {"threads", OPT_INT, &c.threads, "2", "1..64", "threads to compute with", false},
        {"sampling.temperature", OPT_REAL, &c.temperature, "1", "0..100", "of the softmax",
         false},
        {"dir", OPT_STRING, &c.dir, NULL, NULL, "where everything is kept", false},
        {"kernels", OPT_CHOICE, &c.kernels, "auto", "auto|scalar|avx2", "which to use", false},
    };

    memset(&c, 0xa5, sizeof(c)); /* opt_defaults must not read what was there */
    memcpy(c.table, table, sizeof(table));
    opt_defaults(c.table, N);
    *state = &c;
    return 0;
}

static int teardown(void **state)
{
    struct config *c = *state;

    opt_clear(c->table, N);
    return 0;
}

static void defaults_are_set_and_required_ones_are_null(void **state)
{
    struct config *c = *state;

    assert_false(c->verbose);
    assert_int_equal(c->threads, 2);
    assert_true(c->temperature == 1.0);
    assert_null(c->dir);
    assert_string_equal(c->kernels, "auto");
}

static void set_takes_every_type(void **state)
{
    struct config *c = *state;
    struct err e;

    assert_ok(opt_set(c->table, N, "verbose", "true", &e), &e);
    assert_ok(opt_set(c->table, N, "threads", "64", &e), &e);
    assert_ok(opt_set(c->table, N, "sampling.temperature", "0.25", &e), &e);
    assert_ok(opt_set(c->table, N, "dir", "one", &e), &e);
    assert_ok(opt_set(c->table, N, "dir", "two", &e), &e);
    assert_ok(opt_set(c->table, N, "kernels", "avx2", &e), &e);

    assert_true(c->verbose);
    assert_int_equal(c->threads, 64);
    assert_true(c->temperature == 0.25);
    assert_string_equal(c->dir, "two");
    assert_string_equal(c->kernels, "avx2");
    assert_true(c->table[1].was_set);
}

static void a_text_is_empty_only_where_that_is_the_default(void **state)
{
    struct config *c = *state;
    char *note = NULL;
    struct opt free_text = {"note", OPT_STRING, &note, "", NULL, "anything", false};
    struct err e;

    assert_status(opt_set(c->table, N, "dir", "", &e), ERR_INVALID, &e);
    assert_contains(e.text, "'dir' cannot be empty");
    assert_null(c->dir);

    opt_defaults(&free_text, 1);
    assert_ok(opt_set(&free_text, 1, "note", "", &e), &e);
    opt_clear(&free_text, 1);
}

/* Each with the same error: the key, the value and what is allowed. */
static void assert_refused(struct config *c, const char *key, const char *value,
                           const char *allowed)
{
    struct err e;

    assert_status(opt_set(c->table, N, key, value, &e), ERR_INVALID, &e);
    assert_contains(e.text, key);
    assert_contains(e.text, value);
    assert_contains(e.text, allowed);
}

static void set_refuses_numbers_that_are_not_whole_or_not_in_range(void **state)
{
    struct config *c = *state;

    assert_refused(c, "threads", "0", "1..64");
    assert_refused(c, "threads", "65", "1..64");
    assert_refused(c, "threads", "4x", "1..64");
    assert_refused(c, "threads", "", "1..64");
    assert_refused(c, "threads", " 4", "1..64");
    assert_refused(c, "threads", "4.5", "1..64");
    assert_refused(c, "threads", "99999999999999999999", "1..64");
    assert_refused(c, "sampling.temperature", "-0.1", "0..100");
    assert_refused(c, "sampling.temperature", "nan", "0..100");
    assert_refused(c, "sampling.temperature", "inf", "0..100");
    assert_refused(c, "sampling.temperature", "1e999", "0..100");
    assert_refused(c, "sampling.temperature", "1,5", "0..100");

    assert_int_equal(c->threads, 2);
    assert_true(c->temperature == 1.0);
    assert_false(c->table[1].was_set);
}

static void set_refuses_words_that_are_no_choice(void **state)
{
    struct config *c = *state;

    assert_refused(c, "kernels", "avx", "auto|scalar|avx2");
    assert_refused(c, "kernels", "avx22", "auto|scalar|avx2");
    assert_refused(c, "kernels", "auto|scalar", "auto|scalar|avx2");
    assert_refused(c, "kernels", "", "auto|scalar|avx2");
    assert_refused(c, "verbose", "yes", "true or false");

    assert_string_equal(c->kernels, "auto");
}

static void ranges_may_be_open_on_either_side(void **state)
{
    (void)state;
    int64_t n;
    double x;
    struct opt table[] = {
        {"n", OPT_INT, &n, "5", "1..", "count", false},
        {"x", OPT_REAL, &x, "-5", "..0", "a loss", false},
    };
    struct err e;

    opt_defaults(table, 2);

    assert_ok(opt_set(table, 2, "n", "9223372036854775807", &e), &e);
    assert_status(opt_set(table, 2, "n", "0", &e), ERR_INVALID, &e);
    assert_status(opt_set(table, 2, "n", "9223372036854775808", &e), ERR_INVALID, &e);
    assert_ok(opt_set(table, 2, "n", "1", &e), &e);
    assert_ok(opt_set(table, 2, "x", "-1e300", &e), &e);
    assert_status(opt_set(table, 2, "x", "0.1", &e), ERR_INVALID, &e);
    assert_status(opt_set(table, 2, "x", "-1e999", &e), ERR_INVALID, &e);
    assert_ok(opt_set(table, 2, "x", "0", &e), &e);
}

static void unknown_key_suggests_the_nearest(void **state)
{
    struct config *c = *state;
    struct err e;

    assert_status(opt_set(c->table, N, "thread", "1", &e), ERR_NOT_FOUND, &e);
    assert_string_equal(e.text, "unknown option 'thread'; did you mean 'threads'?");
    assert_status(opt_set(c->table, N, "sampling.temprature", "1", &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "did you mean 'sampling.temperature'?");

    assert_status(opt_set(c->table, N, "zebra", "1", &e), ERR_NOT_FOUND, &e);
    assert_string_equal(e.text, "unknown option 'zebra'");
    assert_status(opt_set(c->table, N, "eads", "1", &e), ERR_NOT_FOUND, &e);
    assert_string_equal(e.text, "unknown option 'eads'");
}

static enum status parse(struct config *c, const char *const *argv, int *at, struct err *e)
{
    int argc = 0;

    while (argv[argc])
        argc++;
    return opt_parse(c->table, N, argc, (char **)argv, at, e); /* it only reads */
}

static void parse_takes_both_spellings_and_stops_at_an_operand(void **state)
{
    struct config *c = *state;
    const char *const argv[] = {"cmd",       "--threads=4", "--dir",          "x=y",
                                "--verbose", "file",        "--kernels=avx2", NULL};
    struct err e;
    int at = 1;

    assert_ok(parse(c, argv, &at, &e), &e);

    assert_int_equal(at, 5);
    assert_int_equal(c->threads, 4);
    assert_string_equal(c->dir, "x=y");
    assert_true(c->verbose);
    assert_string_equal(c->kernels, "auto");
}

static void parse_stops_after_two_dashes_and_at_one(void **state)
{
    struct config *c = *state;
    const char *const two[] = {"cmd", "--verbose=false", "--", "--threads=4", NULL};
    const char *const one[] = {"cmd", "-", NULL};
    struct err e;
    int at = 1;

    assert_ok(parse(c, two, &at, &e), &e);
    assert_int_equal(at, 3);
    at = 1;
    assert_ok(parse(c, one, &at, &e), &e);
    assert_int_equal(at, 1);

    assert_int_equal(c->threads, 2);
    assert_false(c->verbose);
}

static void parse_refuses_bad_words(void **state)
{
    struct config *c = *state;
    const char *const missing[] = {"cmd", "--dir", NULL};
    const char *const unknown[] = {"cmd", "--thread=4", NULL};
    const char *const dash[] = {"cmd", "-t", "4", NULL};
    const char *const value[] = {"cmd", "--threads", "many", NULL};
    struct err e;
    int at = 1;

    assert_status(parse(c, missing, &at, &e), ERR_INVALID, &e);
    assert_contains(e.text, "'dir' needs a value");
    at = 1;
    assert_status(parse(c, unknown, &at, &e), ERR_NOT_FOUND, &e);
    at = 1;
    assert_status(parse(c, dash, &at, &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "'-t'");
    at = 1;
    assert_status(parse(c, value, &at, &e), ERR_INVALID, &e);
    assert_contains(e.text, "'many'");
}

static void required_options_are_asked_for(void **state)
{
    struct config *c = *state;
    struct err e;

    assert_status(opt_check_required(c->table, N, &e), ERR_INVALID, &e);
    assert_contains(e.text, "'dir' is required");

    assert_ok(opt_set(c->table, N, "dir", "x", &e), &e);
    assert_ok(opt_check_required(c->table, N, &e), &e);
}

static void help_lines_up_and_names_defaults_and_ranges(void **state)
{
    struct config *c = *state;
    struct buf b;

    buf_init(&b, 4096);
    opt_help(&b, c->table, N);

    assert_string_equal(
        buf_cstr(&b),
        "  --verbose                 say more\n"
        "  --threads N               threads to compute with (default 2, 1..64)\n"
        "  --sampling.temperature X  of the softmax (default 1, 0..100)\n"
        "  --dir TEXT                where everything is kept (required)\n"
        "  --kernels WORD            which to use (default auto, auto|scalar|avx2)\n");
    buf_clear(&b);
}

static void print_shows_values_that_read_back(void **state)
{
    struct config *c = *state;
    struct buf b;
    struct err e;

    buf_init(&b, 4096);
    assert_ok(opt_set(c->table, N, "sampling.temperature", "0.1", &e), &e);
    opt_print(&b, c->table, N);

    assert_string_equal(buf_cstr(&b), "verbose=false\nthreads=2\nsampling.temperature=0.1\n"
                                      "dir=\nkernels=auto\n");
    buf_clear(&b);
}

#define LINES(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static void what_was_printed_is_read_but_for_what_was_set(void **state)
{
    struct config *c = *state;
    struct buf b;
    struct err e;

    buf_init(&b, 4096);
    assert_ok(opt_set(c->table, N, "dir", "a=b c", &e), &e);
    assert_ok(opt_set(c->table, N, "threads", "7", &e), &e);
    opt_print(&b, c->table, N);
    opt_clear(c->table, N);
    opt_defaults(c->table, N);
    assert_ok(opt_set(c->table, N, "threads", "3", &e), &e);

    assert_ok(opt_read(c->table, N, buf_bytes(&b), &e), &e);
    assert_string_equal(c->dir, "a=b c");
    assert_int_equal(c->threads, 3);
    assert_ok(opt_check_required(c->table, N, &e), &e);
    assert_ok(opt_read(c->table, N, LINES("kernels=scalar"), &e),
              &e); /* kernels was read: it stays */
    assert_string_equal(c->kernels, "auto");
    assert_ok(opt_read(c->table, N, LINES(""), &e), &e);
    buf_clear(&b);
}

static void lines_that_are_none_are_refused(void **state)
{
    struct config *c = *state;
    struct err e;

    assert_status(opt_read(c->table, N, LINES("threads=3\nkernels\n"), &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "'kernels' is not name=value");
    assert_int_equal(c->threads, 3);
    assert_status(opt_read(c->table, N, LINES("dir=x\0y\n"), &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "byte 5 is 0");
    assert_null(c->dir);
    assert_status(opt_read(c->table, N, LINES("thread=3\n"), &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "did you mean 'threads'?");
    assert_status(opt_read(c->table, N, LINES("verbose=yes"), &e), ERR_INVALID, &e);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_set_and_required_ones_are_null),
        TEST(set_takes_every_type),
        TEST(a_text_is_empty_only_where_that_is_the_default),
        TEST(set_refuses_numbers_that_are_not_whole_or_not_in_range),
        TEST(set_refuses_words_that_are_no_choice),
        TEST(ranges_may_be_open_on_either_side),
        TEST(unknown_key_suggests_the_nearest),
        TEST(parse_takes_both_spellings_and_stops_at_an_operand),
        TEST(parse_stops_after_two_dashes_and_at_one),
        TEST(parse_refuses_bad_words),
        TEST(required_options_are_asked_for),
        TEST(help_lines_up_and_names_defaults_and_ranges),
        TEST(print_shows_values_that_read_back),
        TEST(what_was_printed_is_read_but_for_what_was_set),
        TEST(lines_that_are_none_are_refused),
    };
    return cmocka_run_group_tests_name("base/options", tests, NULL, NULL);
}
