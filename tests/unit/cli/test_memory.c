/* What a command may take: MiB as they are given, however many. */
#include "cli/memory.h"

#include "support/test.h"

#define MIB ((uint64_t)1 << 20)

static void what_is_allowed_fits_and_no_byte_more(void **state)
{
    struct err e;

    (void)state;
    assert_ok(memory_check(NULL, 5 * MIB, 5, "it", &e), &e);
    assert_status(memory_check(NULL, 5 * MIB + 1, 5, "it", &e), ERR_LIMIT, &e);
    assert_string_equal(e.text, "it takes 6 MiB, more than the 5 MiB allowed");
}

/* 2^44 MiB are 2^64 bytes, which is 0 in 64 bits. */
static void more_than_64_bits_of_bytes_are_no_limit(void **state)
{
    static const int64_t many[] = {(int64_t)1 << 44, ((int64_t)1 << 44) + 1, INT64_MAX};
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        assert_ok(memory_check(NULL, UINT64_MAX, many[i], "it", &e), &e);
    assert_status(memory_check(NULL, UINT64_MAX, ((int64_t)1 << 43) - 1, "it", &e), ERR_LIMIT,
                  &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allowed_fits_and_no_byte_more),
        cmocka_unit_test(more_than_64_bits_of_bytes_are_no_limit),
    };
    return cmocka_run_group_tests_name("cli/memory", tests, NULL, NULL);
}
