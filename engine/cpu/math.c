#include "engine/cpu/math.h"

#include <math.h>

#include "engine/cpu/math_lanes.h"

float exp_f32(float x)
{
    return lane_exp(x);
}

float log_f32(float x)
{
    return lane_log(x);
}

float log1p_f32(float x)
{
    return lane_log1p(x);
}

uint16_t bf16_from_f32(float x)
{
    return lane_bf16(x);
}

float f32_from_bf16(uint16_t x)
{
    return lane_float((uint32_t)x << 16);
}

#define LN2_HI 0x1.62e42fefa39efp-1
#define LN2_LO 0x1.abc9e3b39803fp-56

/* 2^n for -1022 <= n <= 1023. */
static double exp2_int(int n)
{
    uint64_t u = (uint64_t)(n + 1023) << 52;
    double x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* |r| <= ln(2)/2: the Taylor series to r^13, whose next term is below 2^-57. */
static double exp_series(double r)
{
    double y = 1.0;
    for (int i = 13; i >= 2; i--)
        y = fma(y, r / i, 1.0);
    return fma(y, r, 1.0);
}

double exp_f64(double x)
{
    if (!(x < 710.0))
        return x != x ? x : (double)INFINITY;
    if (x < -746.0)
        return 0.0;
    double n = fma(x, 0x1.71547652b82fep+0, 0x1.8p52) - 0x1.8p52;
    double y = exp_series(fma(n, -LN2_LO, fma(n, -LN2_HI, x)));
    int i = (int)n;
    int half = i / 2;
    return y * exp2_int(half) * exp2_int(i - half);
}

/* x = 2^e * m, 2/3 <= m < 4/3, x normal and positive. */
static double split_f64(double x, int *e)
{
    uint64_t u;
    memcpy(&u, &x, sizeof(u));
    const uint64_t two_thirds = 0x3fe5555555555555u;
    *e = (int)((u - two_thirds + (UINT64_C(1) << 63)) >> 52) - 2048;
    u -= (uint64_t)(int64_t)*e << 52;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* log(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 1/5: terms to s^25, the next below 2^-62.
 * */
double log_f64(double x)
{
    if (x != x || x < 0.0)
        return (double)NAN;
    if (x == 0.0)
        return -(double)INFINITY;
    if (x > 0x1.fffffffffffffp1023)
        return x;
    int shift = 0, e;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        shift = 54;
    }
    double f = split_f64(x, &e) - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double y = 1.0 / 25;
    for (int i = 23; i >= 3; i -= 2)
        y = fma(y, z, 1.0 / i);
    double n = (double)(e - shift);
    double tail = fma(2.0 * s * z, y, n * LN2_LO);
    return fma(n, LN2_HI, 2.0 * s + tail);
}

double pow_f64(double x, double y)
{
    return exp_f64(y * log_f64(x));
}

/* |r| <= pi/4: Taylor series whose next terms are below 2^-60. */
static double sin_series(double r)
{
    double z = r * r;
    double y = 1.0;
    for (int i = 18; i >= 2; i -= 2)
        y = fma(y, -z / (i * (i + 1)), 1.0);
    return y * r;
}

static double cos_series(double r)
{
    double z = r * r;
    double y = 1.0;
    for (int i = 19; i >= 1; i -= 2)
        y = fma(y, -z / (i * (i + 1)), 1.0);
    return y;
}

/* x = n * pi/2 + r; returns n mod 4. The two parts of pi/2 carry 106 bits, n has 30, so the
 * first step is exact and the second loses less than 2^-53. */
static unsigned reduce(double x, double *r)
{
    double n = fma(x, 0x1.45f306dc9c883p-1, 0x1.8p52) - 0x1.8p52;
    *r = fma(n, -0x1.1a62633145c07p-54, fma(n, -0x1.921fb54442d18p+0, x));
    return (unsigned)((int64_t)n & 3);
}

double sin_f64(double x)
{
    double r;
    switch (reduce(x, &r)) {
    case 0: return sin_series(r);
    case 1: return cos_series(r);
    case 2: return -sin_series(r);
    default: return -cos_series(r);
    }
}

double cos_f64(double x)
{
    double r;
    switch (reduce(x, &r)) {
    case 0: return cos_series(r);
    case 1: return -sin_series(r);
    case 2: return -cos_series(r);
    default: return sin_series(r);
    }
}
