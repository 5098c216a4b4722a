/*
 * Each function reduces its argument to a small one, sums a Taylor series there in double-double
 * arithmetic (a number as the unevaluated sum hi + lo, Dekker 1971, doi:10.1007/BF01397083), and
 * undoes the reduction. Inverse functions are Newton steps on the direct ones. Speed is not the
 * point: a call takes about a microsecond.
 */
#include "envs/det_math.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dd {
    double hi, lo;
};

static const struct dd DD_LN2 = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
static const struct dd DD_1_LN2 = {0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56};
static const struct dd DD_1_LN10 = {0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57};
static const struct dd DD_PI = {0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53};
static const struct dd DD_PI_2 = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54};

static struct dd dd_of(double x)
{
    return (struct dd){x, 0.0};
}

/* |a| >= |b| or a == 0 */
static struct dd quick_two_sum(double a, double b)
{
    double s = a + b;

    return (struct dd){s, b - (s - a)};
}

static struct dd two_sum(double a, double b)
{
    double s = a + b;
    double bb = s - a;

    return (struct dd){s, (a - (s - bb)) + (b - bb)};
}

static struct dd two_prod(double a, double b)
{
    const double splitter = 0x1p27 + 1.0;
    double p = a * b;
    double t = splitter * a;
    double a_hi = t - (t - a);
    double a_lo = a - a_hi;
    double b_hi, b_lo;

    t = splitter * b;
    b_hi = t - (t - b);
    b_lo = b - b_hi;
    return (struct dd){p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo};
}

static struct dd dd_add(struct dd a, struct dd b)
{
    struct dd s = two_sum(a.hi, b.hi);
    struct dd t = two_sum(a.lo, b.lo);

    s = quick_two_sum(s.hi, s.lo + t.hi);
    return quick_two_sum(s.hi, s.lo + t.lo);
}

static struct dd dd_neg(struct dd a)
{
    return (struct dd){-a.hi, -a.lo};
}

static struct dd dd_mul(struct dd a, struct dd b)
{
    struct dd p = two_prod(a.hi, b.hi);

    return quick_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static struct dd dd_div(struct dd a, struct dd b)
{
    double q1 = a.hi / b.hi;
    struct dd r = dd_add(a, dd_neg(dd_mul(b, dd_of(q1))));
    double q2 = r.hi / b.hi;
    double q3;

    r = dd_add(r, dd_neg(dd_mul(b, dd_of(q2))));
    q3 = r.hi / b.hi;
    r = quick_two_sum(q1, q2);
    return dd_add(r, dd_of(q3));
}

static struct dd dd_sqrt(struct dd a)
{
    double r = sqrt(a.hi);

    if (r == 0.0)
        return dd_of(0.0);
    struct dd rest = dd_add(a, dd_neg(two_prod(r, r)));
    return quick_two_sum(r, rest.hi / (2.0 * r));
}

/* exp(r) - 1 for |r| <= 0.4, to a relative 2^-95: the series at r / 256, of which 11 terms are
 * left out at 2^-130, then (1 + p)^2 - 1 = 2p + p^2 eight times. */
static struct dd expm1_small(struct dd r)
{
    struct dd t = dd_of(1.0);
    struct dd x = {r.hi * 0x1p-8, r.lo * 0x1p-8};
    struct dd p;

    for (int n = 11; n >= 2; n--)
        t = dd_add(dd_of(1.0), dd_mul(dd_div(x, dd_of(n)), t));
    p = dd_mul(x, t);
    for (int i = 0; i < 8; i++)
        p = dd_add((struct dd){2.0 * p.hi, 2.0 * p.lo}, dd_mul(p, p));
    return p;
}

/* exp(x) for |x| < 760 */
static double exp_dd(struct dd x)
{
    double k = floor(x.hi * DD_1_LN2.hi + 0.5);
    struct dd r = dd_add(x, dd_neg(dd_mul(DD_LN2, dd_of(k))));
    struct dd y = dd_add(dd_of(1.0), expm1_small(r));

    return ldexp(y.hi, (int)k);
}

double det_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > 710.0)
        return INFINITY;
    if (x < -750.0)
        return 0.0;
    return exp_dd(dd_of(x));
}

/* log(x) for a positive finite x. With x = 2^e m the start is the series of
 * 2 atanh((m-1)/(m+1)), good to 1e-13; one Halley step, whose error is the cube of that, does
 * the rest. m - 1 is exact, so log of numbers near 1 keeps its relative precision. */
static struct dd log_dd(double x)
{
    int e;
    double m = frexp(x, &e);
    struct dd m1, em1, y;
    double s, z, sum = 0.0;

    if (m < 0x1.6a09e667f3bcdp-1) { /* sqrt(1/2) */
        m *= 2.0;
        e--;
    }
    s = (m - 1.0) / (m + 1.0);
    z = s * s;
    for (int n = 17; n >= 1; n -= 2)
        sum = sum * z + 1.0 / n;
    y = dd_of(2.0 * s * sum);
    em1 = expm1_small(y);
    m1 = dd_add(dd_of(m - 1.0), dd_neg(em1));
    y = dd_add(y, dd_of(2.0 * m1.hi / (m + 1.0 + em1.hi)));
    return dd_add(dd_mul(DD_LN2, dd_of(e)), y);
}

static bool log_is_special(double x, double *result)
{
    if (isnan(x) || x < 0.0)
        *result = NAN;
    else if (x == 0.0)
        *result = -INFINITY;
    else if (isinf(x))
        *result = x;
    else
        return false;
    return true;
}

double det_log(double x)
{
    double special;

    return log_is_special(x, &special) ? special : log_dd(x).hi;
}

double det_log2(double x)
{
    double special;

    return log_is_special(x, &special) ? special : dd_mul(log_dd(x), DD_1_LN2).hi;
}

double det_log10(double x)
{
    double special;

    return log_is_special(x, &special) ? special : dd_mul(log_dd(x), DD_1_LN10).hi;
}

static bool is_integer(double y)
{
    return floor(y) == y;
}

static bool is_odd(double y)
{
    return fabs(y) < 0x1p53 && is_integer(y) && !is_integer(y * 0.5);
}

/* C11 F.10.4.4; true if that settles it. */
static bool pow_is_special(double x, double y, double *result)
{
    double ax = fabs(x);
    bool is_negative = signbit(x) && is_odd(y);

    if (x == 1.0 || y == 0.0) {
        *result = 1.0;
    } else if (isnan(x) || isnan(y) || (x < 0.0 && !isinf(x) && !is_integer(y))) {
        *result = NAN;
    } else if (isinf(y)) {
        *result = (ax > 1.0) == (y > 0.0) ? INFINITY : 0.0;
        if (ax == 1.0)
            *result = 1.0;
    } else if (ax == 0.0 || isinf(x)) {
        double r = (ax == 0.0) == (y > 0.0) ? 0.0 : INFINITY;

        *result = is_negative ? -r : r;
    } else {
        return false;
    }
    return true;
}

double det_pow(double x, double y)
{
    double special, r;
    struct dd l;

    if (pow_is_special(x, y, &special))
        return special;
    l = log_dd(fabs(x));
    if (l.hi == 0.0) /* x == -1 */
        r = 1.0;
    else if (fabs(y) > 760.0 / fabs(l.hi))
        r = (l.hi > 0.0) == (y > 0.0) ? INFINITY : 0.0;
    else
        r = exp_dd(dd_mul(l, dd_of(y)));
    return signbit(x) && is_odd(y) ? -r : r;
}

/* The binary digits of 2/pi after the point. */
// clang-format off
static const uint32_t two_over_pi[40] = {
    0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041,
    0xfe5163ab, 0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c,
    0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41,
    0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f,
    0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d,
    0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08,
    0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d,
};
// clang-format on

#define WINDOW 8            /* limbs of 2/pi used: 256 bits */
#define LIMBS  (WINDOW + 2) /* of their product with a 53-bit integer */

/* 32 bits of a little-endian number, from bit `low` up; bits below 0 are zero. */
static uint32_t bits_at(const uint32_t *v, int low)
{
    uint32_t word = 0;

    for (int i = 0; i < 32; i++) {
        int bit = low + i;

        if (bit >= 0 && bit < 32 * LIMBS)
            word |= ((v[bit / 32] >> (bit % 32)) & 1u) << i;
    }
    return word;
}

/* x = q pi/2 + r with |r| <= pi/4, for pi/4 < x < infinity; q modulo 4 (Payne and Hanek 1983,
 * doi:10.1145/1057600.1057602). With x = m 2^e only 256 bits of 2/pi matter: those above
 * contribute multiples of 4, those below less than 2^-169. */
static struct dd reduce_large(double x, unsigned *q)
{
    int e;
    uint64_t m = (uint64_t)ldexp(frexp(x, &e), 53);
    uint32_t prod[LIMBS] = {0};
    struct dd f = dd_of(0.0);
    int first, point;
    bool is_above_half;

    e -= 53;
    first = e > 2 ? (e - 2) / 32 : 0;
    for (int half = 0; half < 2; half++) { /* prod = m * window, schoolbook */
        uint64_t factor = half ? m >> 32 : m & 0xffffffffu;
        uint64_t carry = 0;

        for (int i = 0; i < WINDOW; i++) {
            carry += factor * two_over_pi[first + WINDOW - 1 - i] + prod[i + half];
            prod[i + half] = (uint32_t)carry;
            carry >>= 32;
        }
        prod[WINDOW + half] = (uint32_t)carry;
    }
    point = 32 * WINDOW - (e - 32 * first); /* bits of prod after the binary point */
    *q = bits_at(prod, point) & 3u;
    is_above_half = bits_at(prod, point - 1) & 1u;
    for (int i = 0; i < 7; i++) { /* the fraction, or what it lacks to 1 */
        uint32_t limb = bits_at(prod, point - 32 * (i + 1));

        if (is_above_half)
            limb = ~limb;
        f = dd_add(f, dd_of(ldexp((double)limb, -32 * (i + 1))));
    }
    if (is_above_half) {
        *q = (*q + 1) & 3u;
        f = dd_neg(dd_add(f, dd_of(0x1p-224)));
    }
    return dd_mul(f, DD_PI_2);
}

/* sin and cos for |r| < 0.79: 14 terms leave less than 2^-103. */
static void sincos_small(struct dd r, struct dd *s, struct dd *c)
{
    struct dd z = dd_neg(dd_mul(r, r));
    struct dd ps = dd_of(1.0), pc = dd_of(1.0);

    for (int n = 14; n >= 1; n--) {
        ps = dd_add(dd_of(1.0), dd_mul(dd_div(z, dd_of(2.0 * n * (2.0 * n + 1.0))), ps));
        pc = dd_add(dd_of(1.0), dd_mul(dd_div(z, dd_of(2.0 * n * (2.0 * n - 1.0))), pc));
    }
    *s = dd_mul(r, ps);
    *c = pc;
}

/* sin and cos of a finite x. */
static void sin_and_cos(double x, struct dd *s, struct dd *c)
{
    unsigned q = 0;
    struct dd r = dd_of(fabs(x));
    struct dd rs, rc;

    if (r.hi > 0x1.921fb54442d18p-1)
        r = reduce_large(r.hi, &q);
    sincos_small(r, &rs, &rc);
    *s = q & 1u ? rc : rs;
    *c = q & 1u ? rs : rc;
    if (q & 2u)
        *s = dd_neg(*s);
    if (q == 1 || q == 2)
        *c = dd_neg(*c);
    if (x < 0.0)
        *s = dd_neg(*s);
}

double det_sin(double x)
{
    struct dd s, c;

    if (isnan(x) || isinf(x))
        return NAN;
    if (fabs(x) < 0x1p-30) /* x - x^3/6 rounds to x or its neighbour */
        return x - x * x * x * (1.0 / 6.0);
    sin_and_cos(x, &s, &c);
    return s.hi;
}

double det_cos(double x)
{
    struct dd s, c;

    if (isnan(x) || isinf(x))
        return NAN;
    sin_and_cos(x, &s, &c);
    return c.hi;
}

double det_tan(double x)
{
    struct dd s, c;

    if (isnan(x) || isinf(x))
        return NAN;
    if (fabs(x) < 0x1p-30)
        return x + x * x * x * (1.0 / 3.0);
    sin_and_cos(x, &s, &c);
    return dd_div(s, c).hi;
}

/* atan(y/x) for 0 <= y <= x, x in [1/2, 2], y not tiny. The start is within 0.005, and each step
 * t += d - d^3/3, d = tan(wanted - t), leaves a fifth of the fifth power. */
static struct dd atan_octant(struct dd y, struct dd x)
{
    double q = y.hi / x.hi;
    struct dd t = dd_of(q / (1.0 + 0.28 * q * q));
    struct dd s, c, d, d3;

    for (int i = 0; i < 2; i++) {
        sincos_small(t, &s, &c);
        d = dd_div(dd_add(dd_mul(y, c), dd_neg(dd_mul(x, s))),
                   dd_add(dd_mul(x, c), dd_mul(y, s)));
        d3 = dd_div(dd_mul(d, dd_mul(d, d)), dd_of(3.0));
        t = dd_add(t, dd_add(d, dd_neg(d3)));
    }
    return t;
}

/* The angle of (x, y) in [0, pi/2], both positive and finite. */
static struct dd atan_quadrant(struct dd y, struct dd x)
{
    int ex, ey;

    frexp(x.hi, &ex);
    frexp(y.hi, &ey);
    if (ey < ex - 40) { /* atan(t) = t - t^3/3, t < 2^-39: the second term is all it takes */
        double t = ldexp(y.hi, -ey) / ldexp(x.hi, -ex);

        if (ey - ex < -200)
            return dd_of(y.hi / x.hi);
        y = (struct dd){ldexp(y.hi, -ex), ldexp(y.lo, -ex)};
        x = (struct dd){ldexp(x.hi, -ex), ldexp(x.lo, -ex)};
        t = ldexp(t, ey - ex);
        return dd_add(dd_div(y, x), dd_of(-t * t * t / 3.0));
    }
    if (ex < ey - 40)
        return dd_add(DD_PI_2, dd_neg(atan_quadrant(x, y)));
    y = (struct dd){ldexp(y.hi, -ex), ldexp(y.lo, -ex)};
    x = (struct dd){ldexp(x.hi, -ex), ldexp(x.lo, -ex)};
    if (y.hi > x.hi)
        return dd_add(DD_PI_2, dd_neg(atan_octant(x, y)));
    return atan_octant(y, x);
}

/* atan2 where y may carry more precision; special values as C11 F.10.1.4. */
static double atan2_dd(struct dd y, struct dd x)
{
    bool is_left = signbit(x.hi), is_below = signbit(y.hi);
    struct dd t;

    if (isnan(x.hi) || isnan(y.hi))
        return NAN;
    if (isinf(y.hi) && isinf(x.hi))
        t = dd_mul(DD_PI_2, dd_of(is_left ? 1.5 : 0.5));
    else if (y.hi == 0.0 || isinf(x.hi))
        t = is_left ? DD_PI : dd_of(0.0);
    else if (x.hi == 0.0 || isinf(y.hi))
        t = DD_PI_2;
    else {
        t = atan_quadrant(is_below ? dd_neg(y) : y, is_left ? dd_neg(x) : x);
        if (is_left)
            t = dd_add(DD_PI, dd_neg(t));
    }
    return is_below ? -t.hi : t.hi;
}

double det_atan2(double y, double x)
{
    return atan2_dd(dd_of(y), dd_of(x));
}

/* sqrt(1 - x^2) */
static struct dd other_leg(double x)
{
    return dd_sqrt(dd_add(dd_of(1.0), dd_neg(two_prod(x, x))));
}

double det_asin(double x)
{
    if (isnan(x) || fabs(x) > 1.0)
        return NAN;
    if (fabs(x) < 0x1p-30)
        return x + x * x * x * (1.0 / 6.0);
    return atan2_dd(dd_of(x), other_leg(x));
}

double det_acos(double x)
{
    if (isnan(x) || fabs(x) > 1.0)
        return NAN;
    return atan2_dd(other_leg(x), dd_of(x));
}
