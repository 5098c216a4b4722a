/* base/clock */
#include "base/clock.h"

#include "support/test.h"
#include "support/wait.h"

static void monotonic_clock_goes_forward(void **state)
{
    (void)state;
    int64_t before = clock_mono_us();

    wait_pause(); /* 2 ms */

    assert_true(clock_mono_us() - before >= 2000);
}

static void milliseconds_are_a_thousandth_of_microseconds(void **state)
{
    (void)state;
    int64_t before = clock_mono_us() / 1000;
    int64_t ms = clock_mono_ms();
    int64_t after = clock_mono_us() / 1000;

    assert_in_range(ms, before, after);
}

static void wall_clock_is_in_microseconds_since_1970(void **state)
{
    (void)state;

    /* between 2020 and 2200 */
    assert_in_range(clock_wall_us(), INT64_C(1577836800000000), INT64_C(7258118400000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_clock_goes_forward),
        cmocka_unit_test(milliseconds_are_a_thousandth_of_microseconds),
        cmocka_unit_test(wall_clock_is_in_microseconds_since_1970),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
