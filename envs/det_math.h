/*
 * envs/det_math.h - elementary functions with the same bits everywhere
 *
 * A reward may depend on a logarithm, and the C library's differ in the last bit between
 * releases and between processors of one release. These are computed in twice binary64
 * precision from additions, multiplications and divisions alone, and rounded once: the result is
 * the correctly rounded one except where the exact value lies within 2^-40 ulp of the middle
 * between two numbers. Special values follow C11 annex F. Must be compiled without contraction
 * of multiplications and additions.
 */
#ifndef ENVS_DET_MATH_H
#define ENVS_DET_MATH_H

double det_exp(double x);
double det_log(double x);
double det_log2(double x);
double det_log10(double x);
double det_pow(double x, double y);
double det_sin(double x);
double det_cos(double x);
double det_tan(double x);
double det_asin(double x);
double det_acos(double x);
double det_atan2(double y, double x);

#endif
