/* Looking at the JSON that an orchestrator answers with. */
#include "cli/json_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/test.h"

static json_t *json(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);

    assert_non_null(o);
    return o;
}

static void a_field_is_what_it_says(void **state)
{
    json_t *o = json("{\"name\": \"x\", \"n\": 9007199254740993}");
    (void)state;

    assert_string_equal(json_view_text(o, "name"), "x");
    assert_true(json_view_int(o, "n") == 9007199254740993);
    json_decref(o);
}

static void a_missing_field_is_empty(void **state)
{
    json_t *o = json("{}");
    (void)state;

    assert_string_equal(json_view_text(o, "name"), "");
    assert_true(json_view_int(o, "n") == 0);
    assert_string_equal(json_view_text(NULL, "name"), "");
    assert_true(json_view_int(NULL, "n") == 0);
    json_decref(o);
}

static void a_field_of_another_type_is_empty(void **state)
{
    json_t *o = json("{\"name\": 3, \"n\": \"x\"}");
    (void)state;

    assert_string_equal(json_view_text(o, "name"), "");
    assert_true(json_view_int(o, "n") == 0);
    json_decref(o);
}

static void what_was_wrong_is_told_from_what_was_late(void **state)
{
    json_t *o = json("{\"LOGPROB\": 3, \"EXPIRED\": 5, \"REVOKED\": 7, \"REWARD\": 11}");
    int64_t wrong = 100, late = 200;
    (void)state;

    json_view_refused(o, &wrong, &late);

    assert_int_equal(wrong, 114);
    assert_int_equal(late, 212);
    json_decref(o);
}

static void an_object_is_printed_on_one_line(void **state)
{
    json_t *o = json("{\"a\": \"two\\nlines \\u001b\"}");
    char text[256];
    ssize_t got;
    int ends[2], old;
    (void)state;

    fflush(stdout);
    old = dup(STDOUT_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDOUT_FILENO);
    json_view_print(o);
    fflush(stdout);
    dup2(old, STDOUT_FILENO);
    got = read(ends[0], text, sizeof(text) - 1);

    assert_true(got > 0);
    text[got] = '\0';
    assert_string_equal(text, "{\"a\":\"two\\nlines \\u001B\"}\n");
    close(old);
    close(ends[0]);
    close(ends[1]);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_is_what_it_says),
        cmocka_unit_test(a_missing_field_is_empty),
        cmocka_unit_test(a_field_of_another_type_is_empty),
        cmocka_unit_test(what_was_wrong_is_told_from_what_was_late),
        cmocka_unit_test(an_object_is_printed_on_one_line),
    };
    return cmocka_run_group_tests_name("cli/json_view", tests, NULL, NULL);
}
