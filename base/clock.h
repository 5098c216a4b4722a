/*
 * base/clock.h - the two clocks
 *
 * State machines take the time as a parameter. Who reads a clock waits for something outside: run
 * files and cli/, node/ and the threads of shardcast, processes that are waited for (base/helper.h,
 * envs/env.h, replay/lane_group.h), log lines, and the measuring of a device's speed.
 *
 * Threads: any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void); /* for deadlines and durations */
int64_t clock_mono_us(void);
int64_t clock_wall_us(void); /* since 1970, UTC; for what people read */

#endif
