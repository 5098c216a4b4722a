/*
 * base/clock.h - the two clocks
 *
 * Only run files and cli/ read them; everything below takes the time as a parameter.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void); /* for deadlines and durations */
int64_t clock_mono_us(void);
int64_t clock_wall_us(void); /* since 1970, UTC; for what people read */

#endif
