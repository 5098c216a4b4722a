/* base/memory */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support/test.h"

#define BYTES ((size_t)8 << 20)

static void what_was_touched_is_in_the_peak(void **state)
{
    uint64_t before = memory_peak();
    uint8_t *p;

    (void)state;
    assert_ok(alloc_array(&p, BYTES, 1, "memory", NULL), NULL);
    memset(p, 1, BYTES);
    assert_true(before > 0);
    assert_true(memory_peak() >= before && memory_peak() >= BYTES);
    free(p);
}

static void some_is_available(void **state)
{
    (void)state;
    assert_true(memory_available() > BYTES); /* or this test would not have come so far */
    assert_true(memory_available() < (uint64_t)1 << 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_touched_is_in_the_peak),
        cmocka_unit_test(some_is_available),
    };

    return cmocka_run_group_tests_name("base/memory", tests, NULL, NULL);
}
