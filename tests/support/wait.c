#include "support/wait.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

int64_t wait_now_ms(void)
{
    return clock_mono_ms();
}

void wait_pause(void)
{
    struct timespec pause = {0, 2000000};

    (void)nanosleep(&pause, NULL);
}

bool wait_until(wait_fn *cond, void *arg, int64_t ms)
{
    int64_t deadline = clock_mono_ms() + ms;

    for (;;) {
        if (cond(arg))
            return true;
        if (clock_mono_ms() > deadline)
            return false;
        wait_pause();
    }
}

void wait_failed(const char *expr, int64_t ms, const char *file, int line)
{
    print_error("not within %" PRId64 " ms: %s\n", ms, expr);
    _fail(file, line);
}
