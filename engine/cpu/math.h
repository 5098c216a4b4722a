/*
 * engine/cpu/math.h - the elementary functions of the numerics classes
 *
 * Own polynomials: libm differs between machines and versions, these do not. The f32 functions
 * are part of f32-1 and bf16-1 (docs/numerics.md, "Elementary functions") and within 2 ulp of
 * the true value over the whole range; the vector versions in the backends give the same bits.
 * The f64 functions run on the host only, for tables and scalars that are rounded once to f32
 * afterwards.
 *
 * A NaN argument, or one outside the domain, gives the quiet NaN 0x7fc00000 (f32).
 */
#ifndef ENGINE_CPU_MATH_H
#define ENGINE_CPU_MATH_H

#include <stddef.h>
#include <stdint.h>

/* +inf above 88.73, subnormals kept, +0 below -103.98. Attention's rule that exp is +0 below
 * -87 is attention's own (ops.h) and not in here. */
float exp_f32(float x);
/* log(+-0) = -inf; negative: NaN. */
float log_f32(float x);
/* log(1 + x); log1p(-1) = -inf; below -1: NaN. */
float log1p_f32(float x);

/* Relative error below 2^-49 unless said; zero, infinite and NaN arguments as in C. */
double exp_f64(double x);
double log_f64(double x);
/* x > 0. Relative error below 2^-49 * (1 + |y log x|). */
double pow_f64(double x, double y);
/* |x| <= 2^30; absolute error below 2^-48. */
double sin_f64(double x);
double cos_f64(double x);

/* Round to nearest even; a NaN keeps its sign and the top of its payload and is made quiet. */
uint16_t bf16_from_f32(float x);
float f32_from_bf16(uint16_t x); /* exact */

#endif
