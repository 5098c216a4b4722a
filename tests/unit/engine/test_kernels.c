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

    assert_ok(kernels_choose(&a, NUMERICS_F32_1, "auto", NULL), NULL);
    assert_ok(kernels_choose(&b, NUMERICS_F32_1, NULL, NULL), NULL);

    assert_ptr_equal(a, kernels_best());
    assert_ptr_equal(b, kernels_best());
}

static size_t names_of(enum numerics numerics)
{
    size_t n = 0;

    for (const char *name; (name = kernels_name_at(numerics, n)); n++) {
        const struct kernels *k;
        struct err e;
        enum status st = kernels_choose(&k, numerics, name, &e);
        if (kernels_available(numerics, name)) {
            assert_ok(st, &e);
            assert_string_equal(kernels_name(k), name);
            assert_int_equal(kernels_numerics(k), numerics);
        } else {
            assert_status(st, ERR_UNSUPPORTED, NULL);
            assert_null(k);
            assert_contains(e.text, name);
        }
    }
    assert_true(kernels_available(numerics, "scalar"));
    return n;
}

static void every_available_name_gives_that_backend(void **state)
{
    (void)state;

    assert_int_equal(names_of(NUMERICS_F32_1), 4);
    assert_int_equal(names_of(NUMERICS_BF16_1), 5);
}

static void an_unknown_name_is_refused_with_the_names_there_are(void **state)
{
    (void)state;
    const struct kernels *k;
    struct err e;

    assert_status(kernels_choose(&k, NUMERICS_F32_1, "sse9", &e), ERR_INVALID, NULL);

    assert_contains(e.text, "sse9");
    assert_contains(e.text, "auto, scalar, neon, avx2 and avx512");
    assert_false(kernels_available(NUMERICS_F32_1, "sse9"));
    assert_status(kernels_choose(&k, NUMERICS_F32_1, "amx", &e), ERR_INVALID, NULL);
}

static void classes_are_known_by_name(void **state)
{
    (void)state;
    enum numerics n;
    struct err e;

    for (size_t i = 0; i < NUMERICS_COUNT; i++) {
        assert_ok(numerics_parse(&n, numerics_name((enum numerics)i), &e), &e);
        assert_int_equal(n, i);
    }
    assert_status(numerics_parse(&n, "f64-1", &e), ERR_INVALID, NULL);
    assert_contains(e.text, "f64-1");
    assert_contains(e.text, "bf16-1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_and_null_choose_the_best),
        cmocka_unit_test(every_available_name_gives_that_backend),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_names_there_are),
        cmocka_unit_test(classes_are_known_by_name),
    };
    return cmocka_run_group_tests_name("engine/kernels", tests, NULL, NULL);
}
