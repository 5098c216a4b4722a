/*
 * The arithmetic of proofs, modulo P = 65497, a vector of 16-bit lanes at a time.
 *
 * A product of two residues is reduced by Montgomery's method with R = 2^16 (Math. Comp. 44, 1985):
 * times(a, b) = a b / R mod P takes two halves of two 16-bit products and no division, and compilers
 * turn loops of it into multiplications of whole vectors. One factor of each product is held times
 * R, so that the R cancels and results are plain residues.
 */
#include <pthread.h>

#include "base/check.h"
#include "proto/toploc.h"

#define P         TOPLOC_PRIME
#define P_INVERSE 0x9069u /* P * P_INVERSE = 1 modulo 2^16 */
#define LANES     32u     /* points evaluated together: they stay in registers */

_Static_assert((uint16_t)(P *P_INVERSE) == 1, "the inverse of P modulo 2^16");

static inline uint16_t sub(uint16_t a, uint16_t b)
{
    return (uint16_t)(a - b + (a < b ? P : 0));
}

/* a + b: of two residues, as a sum may not fit 16 bits, a - (P - b). */
static inline uint16_t add(uint16_t a, uint16_t b)
{
    uint16_t down = (uint16_t)(P - b);

    return (uint16_t)(a < down ? a + b : a - down);
}

/* a b / 2^16, for a < P. */
static inline uint16_t times(uint16_t a, uint16_t b)
{
    uint32_t product = (uint32_t)a * b;
    uint16_t q = (uint16_t)((uint16_t)product * P_INVERSE);

    return sub((uint16_t)(product >> 16), (uint16_t)((uint32_t)q * P >> 16));
}

/* x 2^16 mod P, of any x. */
static uint16_t scaled(uint32_t x)
{
    return (uint16_t)(((uint64_t)x << 16) % P);
}

static uint16_t inverse[P]; /* 2^32 / i: the R^2 makes times(a, inverse[b]) = a / b times R */
static pthread_once_t inverse_once = PTHREAD_ONCE_INIT;

/* P = (P / i) i + P mod i, so 1 / i = -(P / i) / (P mod i); then all of them times R^2. */
static void make_inverses(void)
{
    inverse[1] = 1;
    for (uint32_t i = 2; i < P; i++)
        inverse[i] = (uint16_t)(P - (uint32_t)((uint64_t)(P / i) * inverse[P % i] % P));
    for (uint32_t i = 1; i < P; i++)
        inverse[i] = scaled(scaled(inverse[i]));
}

/* With point j's own factor found, what it adds to the polynomial at the later points, and the
 * product of (x_i - x_0) .. (x_i - x_j) there. */
static void pass_on(uint16_t *restrict value, uint16_t *restrict product,
                    const uint16_t *restrict x, uint16_t factor, uint16_t x_j, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        value[i] = add(value[i], times(product[i], factor));
        product[i] = times(product[i], sub(x[i], x_j));
    }
}

/* to = from * (x - x_i); from has n coefficients, and zeros before and after them. */
static void widen(uint16_t *restrict to, const uint16_t *restrict from, uint16_t x_i,
                  uint32_t n)
{
    for (uint32_t j = 0; j <= n; j++)
        to[j] = sub(from[(ptrdiff_t)j - 1], times(from[j], x_i));
}

/* Newton's form, a point at a time: f = a_0 + a_1 (x - x_0) + a_2 (x - x_0)(x - x_1) + ..., where
 * a_j is what f still lacks at x_j, divided by the product there; then Horner's rule on the factors.
 * All in all k^2 products for the first and k^2 / 2 for the second. */
enum status toploc_interpolate(uint16_t *coef, const uint32_t *x, const uint16_t *y, uint32_t n,
                               struct err *e)
{
    uint16_t point[TOPLOC_K_MAX], factor[TOPLOC_K_MAX];  /* both times R */
    uint16_t value[TOPLOC_K_MAX], product[TOPLOC_K_MAX]; /* at the points */
    uint16_t half[2][TOPLOC_K_MAX + 2] = {{0}};          /* the polynomial, old and new */
    uint16_t *from = half[0] + 1, *to = half[1] + 1;

    if (n == 0 || n > TOPLOC_K_MAX)
        return err_set(e, ERR_INVALID, "toploc: %u points", n);
    CHECK(pthread_once(&inverse_once, make_inverses) == 0);
    for (uint32_t i = 0; i < n; i++) {
        point[i] = scaled(x[i]);
        value[i] = 0;
        product[i] = 1;
    }
    for (uint32_t j = 0; j < n; j++) {
        if (product[j] == 0)
            return err_set(e, ERR_INVALID, "toploc: two points at x = %u", x[j] % P);
        factor[j] = times(sub((uint16_t)(y[j] % P), value[j]), inverse[product[j]]);
        pass_on(value + j + 1, product + j + 1, point + j + 1, factor[j], point[j], n - j - 1);
    }
    from[0] = times(factor[n - 1], 1);
    for (uint32_t i = n - 1; i-- > 0;) {
        uint16_t *was = from;

        widen(to, from, point[i], n - 1 - i);
        to[0] = add(to[0], times(factor[i], 1));
        from = to;
        to = was;
    }
    for (uint32_t i = 0; i < n; i++)
        coef[i] = from[i];
    return OK;
}

/* Horner's rule at LANES points. */
static void evaluate_lanes(uint16_t *restrict y, const uint16_t *restrict coef, uint32_t n,
                           const uint16_t *restrict x)
{
    for (uint32_t j = n; j-- > 0;) {
        uint16_t c = coef[j];

        for (uint32_t i = 0; i < LANES; i++)
            y[i] = add(times(y[i], x[i]), c);
    }
}

void toploc_evaluate(uint16_t *y, const uint32_t *x, uint32_t n_x, const uint16_t *coef,
                     uint32_t n)
{
    uint16_t residue[TOPLOC_K_MAX];

    CHECK(n <= TOPLOC_K_MAX);
    for (uint32_t j = 0; j < n; j++)
        residue[j] = (uint16_t)(coef[j] % P);
    for (uint32_t at = 0; at < n_x; at += LANES) {
        uint32_t n_lanes = n_x - at < LANES ? n_x - at : LANES;
        uint16_t point[LANES] = {0}, value[LANES] = {0};

        for (uint32_t i = 0; i < n_lanes; i++)
            point[i] = scaled(x[at + i]);
        evaluate_lanes(value, residue, n, point);
        for (uint32_t i = 0; i < n_lanes; i++)
            y[at + i] = value[i];
    }
}
