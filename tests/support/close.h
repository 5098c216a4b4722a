/*
 * support/close.h - comparing arrays of floats
 */
#ifndef SUPPORT_CLOSE_H
#define SUPPORT_CLOSE_H

#include <stddef.h>

/* Fails unless |got[i] - want[i]| <= atol + rtol * |want[i]| for every i. A NaN on either side
 * fails. The message names the element that is furthest outside, by its index. */
#define assert_close(got, want, n, atol, rtol)                                                 \
    assert_close_at(#got, (got), (want), (n), (atol), (rtol), __FILE__, __LINE__)

/* Fails unless the bits are the same: 0 and -0 differ, a NaN equals itself. */
#define assert_same_bits(got, want, n)                                                         \
    assert_same_bits_at(#got, (got), (want), (n), __FILE__, __LINE__)

void assert_close_at(const char *name, const float *got, const float *want, size_t n,
                     double atol, double rtol, const char *file, int line);
void assert_same_bits_at(const char *name, const float *got, const float *want, size_t n,
                         const char *file, int line);

#endif
