/* base/alloc */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "support/test.h"

static void small_allocations_work_for_zero_bytes_too(void **state)
{
    (void)state;
    void *a = xmalloc(0), *b = xcalloc(0, 8), *c = xrealloc(NULL, 0);

    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    free(a);
    free(b);
    free(c);
}

static void strdup_copies(void **state)
{
    (void)state;
    const char *text = "some words";

    char *copy = xstrdup(text);

    assert_string_equal(copy, text);
    assert_ptr_not_equal(copy, text);
    free(copy);
}

static void array_is_zeroed_and_aligned(void **state)
{
    (void)state;
    float *v;
    struct err e;

    assert_ok(alloc_array(&v, 1000, sizeof(*v), "activations", &e), &e);

    assert_int_equal((uintptr_t)v % 64, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(v[i] == 0.0f);
    free(v);
}

static void array_of_nothing_can_be_freed(void **state)
{
    (void)state;
    float *v;
    struct err e;

    assert_ok(alloc_array(&v, 0, sizeof(*v), "nothing", &e), &e);

    assert_non_null(v);
    free(v);
}

static void array_refuses_a_product_that_overflows(void **state)
{
    (void)state;
    int x;
    float *v = (float *)&x;
    struct err e;

    assert_status(alloc_array(&v, SIZE_MAX / 2, 4, "the cache", &e), ERR_NO_MEMORY, &e);

    assert_null(v);
    assert_contains(e.text, "the cache");
}

/* 2^62 bytes: no machine has them, and no sanitizer's allocator tries. */
static void array_refuses_more_than_there_is(void **state)
{
    (void)state;
    float *v;
    struct err e;

    assert_status(alloc_array(&v, (size_t)1 << 60, 4, "the cache", &e), ERR_NO_MEMORY, &e);

    assert_null(v);
    assert_contains(e.text, "1152921504606846976 x 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_allocations_work_for_zero_bytes_too),
        cmocka_unit_test(strdup_copies),
        cmocka_unit_test(array_is_zeroed_and_aligned),
        cmocka_unit_test(array_of_nothing_can_be_freed),
        cmocka_unit_test(array_refuses_a_product_that_overflows),
        cmocka_unit_test(array_refuses_more_than_there_is),
    };
    return cmocka_run_group_tests_name("base/alloc", tests, NULL, NULL);
}
