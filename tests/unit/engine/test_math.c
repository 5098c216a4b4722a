/*
 * The elementary functions: accuracy against libm in binary64, whose own error (below 1 ulp of
 * binary64, 2^-29 ulp of binary32) is nothing here; their bits against a fingerprint; and the
 * vector versions against the scalar ones.
 *
 * NUMERICS_FULL=1 in the environment takes the fingerprints over all 2^32 arguments (a minute);
 * otherwise every 977th is looked at.
 */
#include "engine/cpu/math.h"

#include <math.h>

#include "numerics.h"

#define STRIDE 977u
#define BATCH  4096u

static bool is_full(void)
{
    const char *full = getenv("NUMERICS_FULL");
    return full && strcmp(full, "1") == 0;
}

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

struct function {
    const char *name;
    float (*f)(float);
    double (*truth)(double);
    uint64_t fingerprint; /* of every 977th argument */
    uint64_t full;        /* of all */
};

static const struct function functions[] = {
    {"exp", exp_f32, exp, UINT64_C(0x602a7eac3119de4f), UINT64_C(0x3d8c020d784501b0)},
    {"log", log_f32, log, UINT64_C(0xc104796ed12ffdb8), UINT64_C(0x45b187beb4e3e92f)},
    {"log1p", log1p_f32, log1p, UINT64_C(0x88c3490d6abe7b2d), UINT64_C(0xff8bb106d15ef602)},
};

/* Distance in units of the last place of the true value, which for subnormals is 2^-149. */
static double error_ulp(float got, double want)
{
    float rounded = (float)want;
    int e;

    if (isinf(rounded) || isinf(got))
        return rounded == got ? 0.0 : INFINITY;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, e - 24 < -149 ? -149 : e - 24);
}

static void functions_are_within_two_ulp(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        const struct function *fn = &functions[i];
        double worst = 0.0;
        float worst_at = 0.0f;
        for (uint64_t u = 0; u < UINT64_C(1) << 32; u += STRIDE) {
            float x = from_bits((uint32_t)u), got = fn->f(x);
            double want = fn->truth(x), error;
            if (isnan(want)) {
                assert_int_equal(to_bits(got), 0x7fc00000u);
                continue;
            }
            error = error_ulp(got, want);
            if (!(error <= worst)) {
                worst = error;
                worst_at = x;
            }
        }
        if (!(worst <= 2.0))
            fail_msg("%s(%a) is off by %.3f ulp", fn->name, worst_at, worst);
    }
}

static void functions_have_the_bits_they_always_had(void **state)
{
    const struct kernels *k = *state;
    void (*const rows[])(float *, const float *, size_t) = {k->exp, k->log, k->log1p};
    const uint32_t step = is_full() ? 1 : STRIDE;
    static float x[BATCH], y[BATCH];

    for (size_t i = 0; i < 3; i++) {
        const struct function *fn = &functions[i];
        uint64_t want = is_full() ? fn->full : fn->fingerprint;
        uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a over 32-bit words */
        for (uint64_t u = 0; u < UINT64_C(1) << 32; u += (uint64_t)BATCH * step) {
            size_t n = 0;
            for (; n < BATCH && u + n * step < UINT64_C(1) << 32; n++)
                x[n] = from_bits((uint32_t)(u + n * step));
            rows[i](y, x, n);
            for (size_t j = 0; j < n; j++)
                h = (h ^ to_bits(y[j])) * UINT64_C(0x100000001b3);
        }
        if (h != want)
            fail_msg("%s has fingerprint 0x%016llx, not 0x%016llx", fn->name,
                     (unsigned long long)h, (unsigned long long)want);
    }
}

static void arrays_have_the_bits_of_the_functions(void **state)
{
    const struct kernels *k = *state;
    void (*const rows[])(float *, const float *, size_t) = {k->exp, k->log, k->log1p};
    static float x[BATCH], got[BATCH], want[BATCH];

    for (size_t i = 0; i < 3; i++)
        for (uint64_t u = 0; u < UINT64_C(1) << 32; u += (uint64_t)BATCH * STRIDE) {
            for (size_t j = 0; j < BATCH; j++) {
                x[j] = from_bits((uint32_t)(u + j * STRIDE));
                want[j] = functions[i].f(x[j]);
            }
            rows[i](got, x, BATCH);
            assert_same_bits(got, want, BATCH);
        }
}

static void arrays_of_any_length_stay_within_themselves(void **state)
{
    const struct kernels *k = *state;

    for (size_t n = 0; n <= 40; n++) {
        float x[48], want[48];
        for (size_t i = 0; i < 48; i++) {
            x[i] = 0.25f * (float)i;
            want[i] = i < n ? exp_f32(x[i]) : x[i];
        }
        k->exp(x, x, n);
        assert_same_bits(x, want, 48);
    }
}

static void gumbel_noise_of_arrays_is_that_of_single_words(void **state)
{
    const struct kernels *k = *state;
    static uint32_t word[BATCH];
    static float zero[BATCH], got[BATCH], want[BATCH];

    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += (uint64_t)BATCH * STRIDE) {
        for (size_t j = 0; j < BATCH; j++) {
            word[j] = (uint32_t)(u + j * STRIDE);
            want[j] = 0.0f + gumbel_f32(word[j]);
        }
        k->gumbel(got, zero, word, 1.0f, BATCH);
        assert_same_bits(got, want, BATCH);
    }
}

/* -log(-log1p(-w)) at the two ends. Word 0 has w = 2^-33, hence 33 log 2: 2 ulp of the outer
 * logarithm are 1.7e-7 of it, 2 ulp of the inner one 1e-8. The largest word has w = 1. */
static void gumbel_noise_reaches_both_ends(void **state)
{
    (void)state;
    float high = gumbel_f32(0), want = 22.8738570f, low = gumbel_f32(0xffffffffu);

    assert_close(&high, &want, 1, 0.0, 2e-7);
    assert_true(isinf(low) && low < 0);
}

static void host_functions_are_accurate(void **state)
{
    (void)state;

    for (int i = -7000; i <= 7000; i++) {
        double x = i * 0.1 + i * 1e-7, y = exp(x);
        assert_true(fabs(exp_f64(x) - y) <= 0x1p-49 * y);
        assert_true(fabs(log_f64(y) - log(y)) <= 0x1p-49 * fabs(log(y)));
        double z = 0.5 + i * 5e-5 + 1e-9;
        assert_true(z <= 0 || fabs(log_f64(z) - log(z)) <= 0x1p-49 * fabs(log(z)));
        assert_true(fabs(sin_f64(x * 1e4) - sin(x * 1e4)) <= 0x1p-48);
        assert_true(fabs(cos_f64(x * 1e4) - cos(x * 1e4)) <= 0x1p-48);
    }
    for (int i = 1; i < 20000; i += 7) {
        double want = pow(0.999, i);
        assert_true(fabs(pow_f64(0.999, i) - want) <= 0x1p-49 * (1 + i * 0.0011) * want);
    }
    assert_true(exp_f64(800.0) > 0x1.fffffffffffffp1023);
    assert_true(exp_f64(-800.0) == 0.0);
    assert_true(isnan(exp_f64((double)NAN)) && isnan(log_f64(-1.0)));
    assert_true(log_f64(0.0) == -(double)INFINITY);
    assert_true(fabs(log_f64(0x1p-1074) + 1074 * log(2.0)) <= 0x1p-42);
}

static void bf16_rounds_to_nearest_even_and_keeps_nan(void **state)
{
    (void)state;
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81},
        {0x3f818000, 0x3f82}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
        {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, {0x00008000, 0x0000}, {0x00018000, 0x0002},
        {0x80000000, 0x8000},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(bf16_from_f32(from_bits(cases[i].in)), cases[i].out);
    for (uint32_t u = 0; u < 65536; u++)
        assert_int_equal(to_bits(f32_from_bf16((uint16_t)u)), u << 16);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_of(argc, argv);
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(functions_are_within_two_ulp),
        BACKEND_TEST(functions_have_the_bits_they_always_had),
        BACKEND_TEST(arrays_have_the_bits_of_the_functions),
        BACKEND_TEST(arrays_of_any_length_stay_within_themselves),
        BACKEND_TEST(gumbel_noise_of_arrays_is_that_of_single_words),
        BACKEND_TEST(gumbel_noise_reaches_both_ends),
        BACKEND_TEST(host_functions_are_accurate),
        BACKEND_TEST(bf16_rounds_to_nearest_even_and_keeps_nan),
    };
    return cmocka_run_group_tests_name("engine/math", tests, NULL, NULL);
}
