/*
 * The elementary functions against 50-digit arithmetic (tests/reference/elementary_values.py),
 * over their whole range. test_math.c looks at many more arguments, with libm for a judge.
 */
#include <math.h>

#include "elementary_values.h"
#include "numerics.h"

#define N_OF(table) (sizeof(table) / sizeof((table)[0]))

/* Distance in units of the last place of the true value, which for subnormals is 2^-149. A value
 * of the tables is within 2^-53 of the truth, 2^-29 of such a unit. */
static double error_ulp(float got, double want)
{
    int e;

    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

static void check(const char *name, const struct elementary_value *v, size_t n,
                  const float *got, double most)
{
    for (size_t i = 0; i < n; i++) {
        double error = error_ulp(got[i], v[i].y);
        if (!(error <= most))
            fail_msg("%s(%a) is off by %.3f ulp", name, (double)v[i].x, error);
    }
}

static void arguments(float *x, const struct elementary_value *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = v[i].x;
}

#define CHECK_ROW(name, row, most)                                                             \
    do {                                                                                       \
        float x[N_OF(values_##name)], y[N_OF(values_##name)];                                  \
        arguments(x, values_##name, N_OF(values_##name));                                      \
        row(y, x, N_OF(values_##name));                                                        \
        check(#name, values_##name, N_OF(values_##name), y, most);                             \
    } while (0)

static void exp_log_and_log1p_are_within_two_ulp(void **state)
{
    const struct kernels *k = *state;

    CHECK_ROW(exp, k->exp, 2.0);
    CHECK_ROW(log, k->log, 2.0);
    CHECK_ROW(log1p, k->log1p, 2.0);
}

/* silu(g) = g / (1 + exp(-g)), which is how the sigmoid occurs. The division rounds once (1/2 ulp),
 * the addition once, and the exponential is off by less than 1 ulp of what is added: together less
 * than 2 of the denominator's units, which are up to twice as large as the result's, relative to
 * it. Below -88.72 the exponential overflows, and silu is -0 where it should be above -2.8e-37: the
 * tables end there. */
static void silu_is_within_three_ulp(void **state)
{
    const struct kernels *k = *state;
    float one[N_OF(values_silu)], x[N_OF(values_silu)], y[N_OF(values_silu)];

    for (size_t i = 0; i < N_OF(one); i++)
        one[i] = 1.0f;
    arguments(x, values_silu, N_OF(x));
    swiglu_forward(k, NULL, y, x, one, N_OF(x));

    check("silu", values_silu, N_OF(x), y, 3.0);
}

/* Angles of up to 2^18 positions. */
static void sin_and_cos_are_rounded_correctly_but_for_a_hair(void **state)
{
    (void)state;
    float s[N_OF(values_sin)], c[N_OF(values_cos)];

    for (size_t i = 0; i < N_OF(s); i++)
        s[i] = (float)sin_f64((double)values_sin[i].x);
    for (size_t i = 0; i < N_OF(c); i++)
        c[i] = (float)cos_f64((double)values_cos[i].x);

    check("sin", values_sin, N_OF(s), s, 0.51);
    check("cos", values_cos, N_OF(c), c, 0.51);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(exp_log_and_log1p_are_within_two_ulp),
        BACKEND_TEST(silu_is_within_three_ulp),
        BACKEND_TEST(sin_and_cos_are_rounded_correctly_but_for_a_hair),
    };
    return cmocka_run_group_tests_name("engine/elementary", tests, NULL, NULL);
}
