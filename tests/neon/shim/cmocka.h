/*
 * tests/neon/shim/cmocka.h - as much of cmocka as the tests of the engine use
 *
 * For the tests that run under an emulator of another processor, for which Debian's cmocka is not
 * here: the first failure ends the program with status 1.
 */
#ifndef SHIM_CMOCKA_H
#define SHIM_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void shim_test_fn(void **state);
typedef int shim_fixture_fn(void **state);

struct CMUnitTest {
    const char *name;
    shim_test_fn *test;
    shim_fixture_fn *setup, *teardown;
    void *state;
};

#define cmocka_unit_test(f)                                                                    \
    {                                                                                          \
#f, (f), NULL, NULL, NULL                                                              \
    }
#define cmocka_unit_test_prestate(f, s)                                                        \
    {                                                                                          \
#f, (f), NULL, NULL, (s)                                                               \
    }
#define cmocka_unit_test_setup_teardown(f, up, down)                                           \
    {                                                                                          \
#f, (f), (up), (down), NULL                                                            \
    }

static inline void _fail(const char *file, int line)
{
    fprintf(stderr, "%s:%d: failed\n", file, line);
    exit(1);
}

#define print_error(...)                 fprintf(stderr, __VA_ARGS__)
#define fail_msg(...)                    (print_error(__VA_ARGS__), _fail(__FILE__, __LINE__))
#define assert_true(c)                   ((c) ? (void)0 : fail_msg("%s is not so\n", #c))
#define assert_false(c)                  assert_true(!(c))
#define assert_int_equal(a, b)           assert_true((unsigned long long)(a) == (unsigned long long)(b))
#define assert_ptr_equal(a, b)           assert_true((const void *)(a) == (const void *)(b))
#define assert_null(p)                   assert_true(!(p))
#define assert_non_null(p)               assert_true((p) != NULL)
#define assert_string_equal(a, b)        assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n)     assert_true(memcmp(a, b, n) == 0)
#define assert_memory_not_equal(a, b, n) assert_true(memcmp(a, b, n) != 0)
#define test_calloc                      calloc
#define test_free                        free

static inline int shim_run(const char *group, const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = tests[i].state;

        printf("%s: %s\n", group, tests[i].name);
        fflush(stdout);
        if (tests[i].setup && tests[i].setup(&state))
            return 1;
        tests[i].test(&state);
        if (tests[i].teardown && tests[i].teardown(&state))
            return 1;
    }
    printf("%s: %zu passed\n", group, n);
    return 0;
}

#define cmocka_run_group_tests_name(group, tests, up, down)                                    \
    shim_run(group, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
