/*
 * stand_in/cmocka.h - as much of cmocka as the engine's tests use, where cmocka is not installed
 *
 * For builds of the engine alone (MUSTER_ENGINE_ONLY); everywhere else the library is used. One
 * program is one group of tests; a failed check ends its test, and the group's status counts them.
 */
#ifndef STAND_IN_CMOCKA_H
#define STAND_IN_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction setup_func, teardown_func;
    void *initial_state;
};

#define cmocka_unit_test(f)                                                                    \
    {                                                                                          \
#f, f, NULL, NULL, NULL                                                                \
    }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                    \
    {                                                                                          \
#f, f, setup, teardown, NULL                                                           \
    }
#define cmocka_unit_test_prestate(f, state)                                                    \
    {                                                                                          \
#f, f, NULL, NULL, state                                                               \
    }

/* Where a failed check of the running test goes; one for all files of the program. */
jmp_buf *stand_in_place(void);
int stand_in_run(const char *name, const struct CMUnitTest *tests, size_t n,
                 CMFixtureFunction setup, CMFixtureFunction teardown);

#define cmocka_run_group_tests(tests, setup, teardown)                                         \
    stand_in_run(#tests, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                              \
    stand_in_run(name, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

static inline void _fail(const char *file, int line)
{
    fprintf(stderr, "%s:%d: failed\n", file, line);
    longjmp(*stand_in_place(), 1);
}

#define test_calloc(n, size) calloc(n, size)
#define test_malloc(n)       malloc(n)
#define test_free(p)         free(p)

#define print_error(...)   ((void)fprintf(stderr, __VA_ARGS__))
#define print_message(...) ((void)printf(__VA_ARGS__))
#define fail_msg(...)                                                                          \
    do {                                                                                       \
        print_error("ERROR: " __VA_ARGS__);                                                    \
        print_error("\n");                                                                     \
        _fail(__FILE__, __LINE__);                                                             \
    } while (0)

static inline void stand_in_check(int holds, const char *text, const char *file, int line)
{
    if (holds)
        return;
    print_error("%s does not hold\n", text);
    _fail(file, line);
}

static inline void stand_in_compare(uintmax_t a, uintmax_t b, int want_equal, const char *text,
                                    const char *file, int line)
{
    if ((a == b) == want_equal)
        return;
    print_error("%s: %#jx and %#jx\n", text, a, b);
    _fail(file, line);
}

#define stand_in_number(x) ((uintmax_t)(x))
#define assert_true(x)     stand_in_check(!!(x), #x, __FILE__, __LINE__)
#define assert_false(x)    stand_in_check(!(x), "not " #x, __FILE__, __LINE__)
#define assert_null(p)     stand_in_check((p) == NULL, #p " == NULL", __FILE__, __LINE__)
#define assert_non_null(p) stand_in_check((p) != NULL, #p " != NULL", __FILE__, __LINE__)
#define assert_int_equal(a, b)                                                                 \
    stand_in_compare(stand_in_number(a), stand_in_number(b), 1, #a " == " #b, __FILE__,        \
                     __LINE__)
#define assert_int_not_equal(a, b)                                                             \
    stand_in_compare(stand_in_number(a), stand_in_number(b), 0, #a " != " #b, __FILE__,        \
                     __LINE__)
#define assert_ptr_equal(a, b)                                                                 \
    stand_in_check((const void *)(a) == (const void *)(b), #a " == " #b, __FILE__, __LINE__)
#define assert_ptr_not_equal(a, b)                                                             \
    stand_in_check((const void *)(a) != (const void *)(b), #a " != " #b, __FILE__, __LINE__)
#define assert_string_equal(a, b)                                                              \
    stand_in_check(strcmp((a), (b)) == 0, #a " == " #b, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n)                                                           \
    stand_in_check(memcmp((a), (b), (n)) == 0, #a " == " #b, __FILE__, __LINE__)
#define assert_memory_not_equal(a, b, n)                                                       \
    stand_in_check(memcmp((a), (b), (n)) != 0, #a " != " #b, __FILE__, __LINE__)
#define assert_in_range(x, lo, hi)                                                             \
    stand_in_check((x) >= (lo) && (x) <= (hi), #lo " <= " #x " <= " #hi, __FILE__, __LINE__)

#endif
