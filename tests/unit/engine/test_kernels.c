/*
 * Choosing a backend.
 */
#include "engine/kernels.h"

#include <string.h>

#include "support/test.h"

static void auto_and_null_choose_the_best(void **state)
{
    (void)state;
    const struct kernels *a, *b;

    assert_ok(kernels_choose(&a, "auto", NULL), NULL);
    assert_ok(kernels_choose(&b, NULL, NULL), NULL);

    assert_ptr_equal(a, kernels_best());
    assert_ptr_equal(b, kernels_best());
}

static void every_available_name_gives_that_backend(void **state)
{
    (void)state;
    size_t n = 0;

    for (const char *name; (name = kernels_name_at(n)); n++) {
        const struct kernels *k;
        struct err e;
        enum status st = kernels_choose(&k, name, &e);
        if (kernels_available(name)) {
            assert_ok(st, &e);
            assert_string_equal(kernels_name(k), name);
        } else {
            assert_status(st, ERR_UNSUPPORTED, NULL);
            assert_null(k);
            assert_contains(e.text, name);
        }
    }
    assert_int_equal(n, 3);
    assert_true(kernels_available("scalar"));
}

static void an_unknown_name_is_refused_with_the_names_there_are(void **state)
{
    (void)state;
    const struct kernels *k;
    struct err e;

    assert_status(kernels_choose(&k, "sse9", &e), ERR_INVALID, NULL);

    assert_contains(e.text, "sse9");
    assert_contains(e.text, "avx512");
    assert_false(kernels_available("sse9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_and_null_choose_the_best),
        cmocka_unit_test(every_available_name_gives_that_backend),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_names_there_are),
    };
    return cmocka_run_group_tests_name("engine/kernels", tests, NULL, NULL);
}
