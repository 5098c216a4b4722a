/* base/status */
#include "base/status.h"

#include <string.h>

#include "support/test.h"

static void every_status_has_a_name_and_a_text(void **state)
{
    (void)state;

    for (int i = 0; i < STATUS_COUNT; i++) {
        assert_non_null(status_name((enum status)i));
        assert_true(strlen(status_text((enum status)i)) > 0);
    }
    assert_string_equal(status_name(ERR_DIGEST), "ERR_DIGEST");
    assert_string_equal(status_text(ERR_DIGEST), "digest mismatch");
    assert_string_equal(status_name((enum status)999), "ERR_UNKNOWN");
}

static void set_fills_code_and_text_and_returns_the_code(void **state)
{
    (void)state;
    struct err e;

    enum status st = err_set(&e, ERR_IO, "cannot open '%s': %d", "x", 7);

    assert_int_equal(st, ERR_IO);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.text, "cannot open 'x': 7");
}

static void set_without_a_place_for_the_text_still_returns_the_code(void **state)
{
    (void)state;

    assert_int_equal(err_set(NULL, ERR_FULL, "nobody reads this"), ERR_FULL);
    assert_int_equal(err_prefix(NULL, ERR_FULL, "nor this"), ERR_FULL);
}

static void set_cuts_a_text_that_is_too_long(void **state)
{
    (void)state;
    char text[2 * ERR_TEXT_BYTES];
    struct err e;

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';

    err_set(&e, ERR_IO, "%s", text);

    assert_int_equal(strlen(e.text), ERR_TEXT_BYTES - 1);
}

static void prefix_puts_context_in_front(void **state)
{
    (void)state;
    struct err e;
    enum status st = err_set(&e, ERR_MALFORMED, "field 3 is missing");

    st = err_prefix(&e, st, "file '%s'", "a.json");

    assert_int_equal(st, ERR_MALFORMED);
    assert_int_equal(e.code, ERR_MALFORMED);
    assert_string_equal(e.text, "file 'a.json': field 3 is missing");
}

static void prefix_that_fills_the_text_leaves_it_terminated(void **state)
{
    (void)state;
    char text[ERR_TEXT_BYTES];
    struct err e;

    memset(text, 'a', sizeof(text) - 2);
    text[sizeof(text) - 2] = '\0';
    err_set(&e, ERR_IO, "the reason");

    err_prefix(&e, ERR_IO, "%s", text);

    assert_int_equal(strlen(e.text), ERR_TEXT_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_name_and_a_text),
        cmocka_unit_test(set_fills_code_and_text_and_returns_the_code),
        cmocka_unit_test(set_without_a_place_for_the_text_still_returns_the_code),
        cmocka_unit_test(set_cuts_a_text_that_is_too_long),
        cmocka_unit_test(prefix_puts_context_in_front),
        cmocka_unit_test(prefix_that_fills_the_text_leaves_it_terminated),
    };
    return cmocka_run_group_tests_name("base/status", tests, NULL, NULL);
}
