/*
 * envs/arena.h
 */
#include "envs/arena.h"

#include <string.h>

#include "support/test.h"

#define LIMIT ((size_t)1 << 20)

static int setup(void **state)
{
    struct arena *a;

    if (arena_open(&a, LIMIT, NULL))
        return -1;
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    struct arena *a = *state;

    arena_close(&a);
    return 0;
}

static void blocks_have_the_same_low_address_bits_in_every_arena(void **state)
{
    struct arena *a = *state, *b;
    uint8_t *p, *q;

    assert_ok(arena_open(&b, LIMIT, NULL), NULL);
    assert_int_equal((uint32_t)(uintptr_t)a, 0); /* whatever process this is */
    assert_int_equal((uint32_t)(uintptr_t)b, 0);

    for (size_t n = 1; n < 5000; n += 37) {
        p = arena_realloc(a, NULL, 0, n);
        q = arena_realloc(b, NULL, 0, n);
        assert_int_equal((uint32_t)(uintptr_t)p, (uint32_t)(uintptr_t)q);
        assert_ptr_not_equal(p, q);
    }

    arena_close(&b);
}

static void a_freed_block_serves_the_next_of_its_size(void **state)
{
    struct arena *a = *state;
    void *p = arena_realloc(a, NULL, 0, 100);
    size_t taken = arena_taken(a);

    arena_realloc(a, p, 100, 0);

    assert_ptr_equal(arena_realloc(a, NULL, 0, 97), p);
    assert_int_equal(arena_taken(a), taken);
}

static void growing_keeps_the_bytes(void **state)
{
    struct arena *a = *state;
    char *p = arena_realloc(a, NULL, 0, 10);

    memcpy(p, "123456789", 10);
    for (size_t n = 10; n < 100000; n *= 3)
        p = arena_realloc(a, p, n, n * 3);

    assert_string_equal(p, "123456789");
}

static void the_limit_is_final_until_restored(void **state)
{
    struct arena *a = *state;
    void *p;

    assert_ok(arena_save(a, NULL), NULL);
    assert_null(arena_realloc(a, NULL, 0, LIMIT + 1));
    assert_true(arena_is_over(a));
    assert_null(arena_realloc(a, NULL, 0, 16));
    arena_restore(a);
    p = arena_realloc(a, NULL, 0, 16);

    assert_non_null(p);
    assert_false(arena_is_over(a));
}

static void a_huge_request_is_over_the_limit(void **state)
{
    struct arena *a = *state;
    void *p = arena_realloc(a, NULL, 0, 16);

    assert_null(arena_realloc(a, p, 16, SIZE_MAX));
    assert_null(arena_realloc(a, NULL, 0, SIZE_MAX));
    assert_true(arena_is_over(a));
}

static void shrinking_never_fails(void **state)
{
    struct arena *a = *state;
    char *p = arena_realloc(a, NULL, 0, 600000);

    assert_non_null(p);
    memcpy(p, "kept", 5);
    assert_null(arena_realloc(a, NULL, 0, LIMIT));
    p = arena_realloc(a, p, 600000, 100);

    assert_non_null(p);
    assert_string_equal(p, "kept");
}

static void restore_brings_every_byte_back(void **state)
{
    struct arena *a = *state;
    char *p = arena_realloc(a, NULL, 0, 64), *q;

    memcpy(p, "before", 7);
    assert_ok(arena_save(a, NULL), NULL);
    for (int i = 0; i < 3; i++) {
        memcpy(p, "after", 6);
        q = arena_realloc(a, NULL, 0, 5000);
        arena_realloc(a, p, 64, 0);
        arena_restore(a);
        assert_string_equal(p, "before");
        assert_ptr_equal(arena_realloc(a, NULL, 0, 5000), q);
        arena_restore(a);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(blocks_have_the_same_low_address_bits_in_every_arena),
        TEST(a_freed_block_serves_the_next_of_its_size),
        TEST(growing_keeps_the_bytes),
        TEST(the_limit_is_final_until_restored),
        TEST(a_huge_request_is_over_the_limit),
        TEST(shrinking_never_fails),
        TEST(restore_brings_every_byte_back),
    };

    return cmocka_run_group_tests_name("envs/arena", tests, NULL, NULL);
}
