/*
 * support/wait.h - waiting for something to become true, with an end
 *
 * The one place in tests that pauses: it looks again every few milliseconds, so a test takes as
 * long as the thing it waits for and no longer.
 */
#ifndef SUPPORT_WAIT_H
#define SUPPORT_WAIT_H

#include <stdbool.h>
#include <stdint.h>

typedef bool wait_fn(void *arg);

/* True as soon as cond(arg) is; false when it was not within `ms` milliseconds. */
bool wait_until(wait_fn *cond, void *arg, int64_t ms);

/* Fails the test when `expr` does not become true within `ms` milliseconds. */
#define assert_within(ms, expr)                                                                \
    do {                                                                                       \
        int64_t wait_deadline = wait_now_ms() + (ms);                                          \
        while (!(expr)) {                                                                      \
            if (wait_now_ms() > wait_deadline)                                                 \
                wait_failed(#expr, (ms), __FILE__, __LINE__);                                  \
            wait_pause();                                                                      \
        }                                                                                      \
    } while (0)

int64_t wait_now_ms(void);
void wait_pause(void);
void wait_failed(const char *expr, int64_t ms, const char *file, int line);

#endif
