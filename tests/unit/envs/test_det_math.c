/*
 * det_math against the C library, and against values that are exact.
 *
 * glibc documents errors of at most 1 ulp for these functions (2 for log10 and tan); ours are
 * within 0.51. So the two may be at most 2 representable numbers apart, 3 for log10 and tan.
 */
#include "envs/det_math.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "support/random.h"
#include "support/test.h"

/* `^` inside programs that link envs is det_pow (envs/CMakeLists.txt); this is the C library's. */
double __real_pow(double x, double y);

/* Doubles in order as integers. */
static int64_t place(double x)
{
    int64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits < 0 ? INT64_MIN - bits : bits;
}

static void assert_near(const char *name, double x, double y, double got, double want, int ulps)
{
    if (isnan(got) && isnan(want))
        return;
    if (isnan(got) || isnan(want) || llabs(place(got) - place(want)) > ulps)
        fail_msg("%s(%a, %a) = %a, want %a within %d ulp", name, x, y, got, want, ulps);
}

/* Any bits, around 1, within exp's range, moderately large. */
static double draw(struct rng *r)
{
    uint64_t bits = rng_u64(r);
    double unit = (double)(rng_u64(r) >> 11) * 0x1p-53 - 0.5;
    double x;

    switch (bits & 3u) {
    case 0:
        bits = rng_u64(r);
        memcpy(&x, &bits, sizeof(x));
        return isfinite(x) ? x : 1.0;
    case 1: return 2.0 * unit;
    case 2: return 1500.0 * unit;
    default: return 2e6 * unit;
    }
}

static void functions_of_one_number_agree_with_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double (*ours)(double), (*theirs)(double);
        int ulps;
    } f[] = {{"exp", det_exp, exp, 2},    {"log", det_log, log, 2},
             {"log2", det_log2, log2, 2}, {"log10", det_log10, log10, 3},
             {"sin", det_sin, sin, 2},    {"cos", det_cos, cos, 2},
             {"tan", det_tan, tan, 3},    {"asin", det_asin, asin, 2},
             {"acos", det_acos, acos, 2}};
    struct rng r = random_seeded(1);

    for (int i = 0; i < 20000; i++) {
        double x = draw(&r);

        for (size_t k = 0; k < sizeof(f) / sizeof(f[0]); k++)
            assert_near(f[k].name, x, 0, f[k].ours(x), f[k].theirs(x), f[k].ulps);
    }
}

static void functions_of_two_numbers_agree_with_the_library(void **state)
{
    (void)state;
    struct rng r = random_seeded(2);

    for (int i = 0; i < 40000; i++) {
        double x = draw(&r), y = draw(&r);

        assert_near("pow", x, y, det_pow(x, y), __real_pow(x, y), 2);
        assert_near("pow", fabs(x), y / 1e5, det_pow(fabs(x), y / 1e5),
                    __real_pow(fabs(x), y / 1e5), 2);
        assert_near("atan2", x, y, det_atan2(x, y), atan2(x, y), 2);
    }
}

static void special_values_follow_annex_f(void **state)
{
    (void)state;
    static const double v[] = {0.0,  -0.0,    1.0,      -1.0,      0.5,    -0.5,   2.0,
                               -2.0, 3.0,     -3.0,     1e300,     -1e300, 0x1p53, 0x1p-1074,
                               NAN,  -5e-324, INFINITY, -INFINITY, 2.5,    -2.5};
    size_t n = sizeof(v) / sizeof(v[0]);

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            double p = det_pow(v[i], v[k]), a = det_atan2(v[i], v[k]);
            double want_p = __real_pow(v[i], v[k]), want_a = atan2(v[i], v[k]);

            assert_near("pow", v[i], v[k], p, want_p, 1);
            assert_near("atan2", v[i], v[k], a, want_a, 1);
            assert_true(isnan(want_p) || !signbit(p) == !signbit(want_p));
            assert_true(isnan(want_a) || !signbit(a) == !signbit(want_a));
        }
        assert_near("exp", v[i], 0, det_exp(v[i]), exp(v[i]), 1);
        assert_near("log", v[i], 0, det_log(v[i]), log(v[i]), 1);
        assert_near("sin", v[i], 0, det_sin(v[i]), sin(v[i]), 1);
    }
}

static void exact_results_are_exact(void **state)
{
    (void)state;

    for (int i = -300; i <= 300; i++)
        assert_true(det_pow(2.0, i) == ldexp(1.0, i) && det_log2(ldexp(1.0, i)) == i);
    for (double p = 1, i = 0; i <= 22; p *= 10, i++)
        assert_true(det_pow(10.0, i) == p && det_log10(p) == i);
    assert_true(det_pow(7.0, 3.0) == 343.0 && det_pow(-2.0, 3.0) == -8.0);
    assert_true(det_exp(0.0) == 1.0 && det_log(1.0) == 0.0 && det_cos(0.0) == 1.0);
}

/* The hardest reduction in binary64: 6381956970095103 * 2^797 is within 2^-61 of a multiple of
 * pi/2 (Muller et al., Handbook of Floating-Point Arithmetic, section 11.3). Values by mpmath. */
static void large_angles_are_reduced_exactly(void **state)
{
    (void)state;
    double x = ldexp(6381956970095103.0, 797);

    assert_near("cos", x, 0, det_cos(x), -4.6871659242546276e-19, 1);
    assert_near("sin", x, 0, det_sin(x), 1.0, 0);
    assert_near("sin", 1e22, 0, det_sin(1e22), -0.8522008497671888, 1);
    assert_near("cos", 1e300, 0, det_cos(1e300), -0.5753861119575491, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_of_one_number_agree_with_the_library),
        cmocka_unit_test(functions_of_two_numbers_agree_with_the_library),
        cmocka_unit_test(special_values_follow_annex_f),
        cmocka_unit_test(exact_results_are_exact),
        cmocka_unit_test(large_angles_are_reduced_exactly),
    };

    return cmocka_run_group_tests_name("envs/det_math", tests, NULL, NULL);
}
