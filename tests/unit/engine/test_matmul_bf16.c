/*
 * The products of class bf16-1 against their definition (docs/numerics.md, section 11), bit for
 * bit. It is written down here by other means than in engine/cpu/bf16_exact.h: each operation
 * exactly, as a sum of two binary64 numbers, then rounded once to 24 bits.
 */
#include "engine/matmul.h"

#include <math.h>

#include "matmul_any.h"

#define BLOCK 32u

/* Around the edges of blocks (32), panels (16), tiles (3, 6, 16, 32), pieces of a sum (256) and
 * tasks (96 rows, 64 columns). */
static const size_t shapes[][3] = {
    {1, 1, 1},    {1, 16, 32},  {2, 17, 33},   {3, 33, 40},   {4, 64, 64},    {5, 15, 257},
    {6, 16, 256}, {7, 50, 31},  {11, 100, 70}, {16, 32, 96},  {17, 48, 20},   {33, 31, 300},
    {97, 48, 33}, {193, 70, 5}, {1, 300, 64},  {2, 128, 520}, {31, 129, 131},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* ---- the definition, a second time ----------------------------------------------------------- */

/* x as it counts: a subnormal is a zero. */
static float daz(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* p + c, rounded to 24 bits with unbounded exponent; what then lies below 2^-126 is a zero of its
 * sign. p and c are exact, and p + c = s + rest exactly (Knuth's sum of two). With its last bit
 * set if there is a rest, s rounds to 24 bits as the exact sum would. */
static float round_sum(double p, double c)
{
    double s = p + c, back = s - p, rest = (p - (s - back)) + (c - back);
    uint64_t u;
    int e;

    if (!isfinite(s) || s == 0.0)
        return (float)s;
    memcpy(&u, &s, sizeof(u));
    if (rest != 0.0 && !(u & 1)) {
        u += (rest > 0.0) == (s > 0.0) ? 1 : -1;
        memcpy(&s, &u, sizeof(s));
    }
    double m = frexp(s, &e); /* s = m 2^e, 1/2 <= |m| < 1 */
    double rounded = ldexp(rint(ldexp(m, 24)), e - 24);
    return fabs(rounded) < 0x1p-126 ? copysignf(0.0f, (float)s) : (float)rounded;
}

static float fma24(float a, float b, float c)
{
    return round_sum((double)daz(a) * (double)daz(b), daz(c));
}

static float add24(float a, float b)
{
    return round_sum(daz(a), daz(b));
}

/* Round to nearest even on the upper half, written with a division of the number line. */
static float to_bf16(float x)
{
    uint32_t u;
    float low, high;

    memcpy(&u, &x, sizeof(u));
    if (isnan(x))
        return NAN;
    u &= 0xffff0000u;
    memcpy(&low, &u, sizeof(low));
    u += 0x10000u;
    memcpy(&high, &u, sizeof(high));
    if (isinf(x))
        return x;
    double middle =
        isinf(high) ? copysign(0x1.ffp127, (double)x) : ((double)low + (double)high) / 2;
    if (fabs((double)x) != fabs(middle))
        return fabs((double)x) < fabs(middle) ? low : high;
    return (u >> 16) & 1 ? low : high; /* high is odd, so low is even */
}

/* acc and the blocks of steps 0 .. n-1 of a and b, `a_step` and `b_step` apart. */
static float blocks(float acc, const float *a, size_t a_step, const float *b, size_t b_step,
                    size_t n)
{
    acc = daz(acc);
    for (size_t s = 0; s < n; s += BLOCK) {
        float sum[2] = {0.0f, 0.0f};
        for (size_t i = s; i < s + BLOCK; i++) {
            float x = i < n ? to_bf16(a[i * a_step]) : 0.0f;
            float w = i < n ? to_bf16(b[i * b_step]) : 0.0f;
            sum[i % 2] = fma24(x, w, sum[i % 2]);
        }
        acc = add24(acc, add24(sum[0], sum[1]));
    }
    return acc;
}

static float *want_forward(const struct fixture *f)
{
    float *want = zeros(f->M * f->N);

    for (size_t m = 0; m < f->M; m++)
        for (size_t n = 0; n < f->N; n++)
            want[m * f->N + n] = blocks(0.0f, f->x + m * f->K, 1, f->W + n * f->K, 1, f->K);
    return want;
}

/* The sign and payload of a NaN are not part of the class. */
static void one_nan(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]))
            x[i] = NAN;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void forward_is_the_definition_and_one_add_of_the_bias(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(1);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = want_forward(&f);
        for (size_t j = 0; j < f.M * f.N; j++)
            want[j] += f.bias[j % f.N];

        float *y = product(k, NULL, &f, f.bias, f.M, f.x);

        assert_same_bits(y, want, f.M * f.N);
        free(y);
        free(want);
        fixture_clear(&f);
    }
}

/* Bits of every kind: subnormal, tiny, huge, infinite and NaN. Exponents are drawn around those
 * whose products, and sums of products, come out near 2^-126 and near 2^128. */
static float wild(struct rng *r, uint32_t centre)
{
    uint32_t kind = (uint32_t)rng_below(r, 40), u = rng_u32(r), exponent;
    float x;

    exponent = kind == 0 ? 0 : kind == 1 ? 255 : centre + (uint32_t)rng_below(r, 9) - 4;
    if (kind == 2)
        u &= 0x80000000u; /* a power of two */
    u = (u & 0x807fffffu) | exponent << 23;
    if (kind == 3)
        u &= 0x80000000u;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static void forward_of_wild_numbers_is_the_definition(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(2);
    /* Biased exponents; 127 is that of 1. Products lie around 2^-126 and 2^-151, twice, 2^127. */
    static const uint32_t centres[][2] = {{64, 64}, {51, 52}, {30, 98}, {190, 191}};

    for (size_t i = 0; i < 24; i++) {
        struct fixture f = fixture_of(&r, (size_t[3]){19, 35, 40 + 32 * (i / 8)});
        const uint32_t *centre = centres[i % 4];
        for (size_t j = 0; j < f.M * f.K; j++)
            f.x[j] = wild(&r, centre[0]);
        for (size_t j = 0; j < f.N * f.K; j++)
            f.W[j] = wild(&r, centre[1]);
        /* Most rows are finite, for one infinity hides all else. */
        for (size_t j = 0; j < f.M * f.K; j++)
            f.x[j] = j / f.K % 4 && !isfinite(f.x[j]) ? 1.0f : f.x[j];
        for (size_t j = 0; j < f.N * f.K; j++)
            f.W[j] = j / f.K % 4 && !isfinite(f.W[j]) ? 0x1p-60f : f.W[j];
        float *want = want_forward(&f), *y = product(k, NULL, &f, NULL, f.M, f.x);
        one_nan(want, f.M * f.N);
        one_nan(y, f.M * f.N);

        assert_same_bits(y, want, f.M * f.N);
        free(y);
        free(want);
        fixture_clear(&f);
    }
}

/* One output from the pairs of one block: x holds steps 0, 1, ..., w likewise. */
static float of_steps(const struct kernels *k, const float *x, const float *w, size_t n)
{
    struct fixture f = {1, 1, n, NULL, (float *)w, NULL, NULL};
    float *y = product(k, NULL, &f, NULL, 1, x), value = y[0];

    free(y);
    return value;
}

/* 2^-126 less a little: rounded to 24 bits with unbounded exponent it is 2^-126 down to the tie at
 * 2^-126 - 2^-151, and below that it is flushed. Where subnormals are kept instead, it is rounded
 * to a multiple of 2^-149 first, and comes out as 2^-126 either way. */
static void what_lies_just_below_the_least_number_is_flushed_after_rounding(void **state)
{
    const struct kernels *k = *state;
    const float x[3] = {0x1p-63f, 0.0f, -0x1p-75f}, tie[3] = {0x1p-63f, 0.0f, 0x1p-76f};
    const float below[3] = {0x1p-63f, 0.0f, 0x1.02p-76f};
    const float least = 0x1p-126f, zero = 0.0f;
    float y = of_steps(k, x, tie, 3);

    assert_same_bits(&y, &least, 1);
    y = of_steps(k, x, below, 3);
    assert_same_bits(&y, &zero, 1);
}

static void subnormals_count_as_zeros_and_overflow_is_infinite(void **state)
{
    const struct kernels *k = *state;
    const struct {
        float x[4], w[4], want;
    } cases[] = {
        /* an operand that is subnormal; one that rounds up to the least normal number */
        {{0x1p-127f}, {0x1p10f}, 0.0f},
        {{0x1.fffffcp-127f}, {0x1p10f}, 0x1p-116f},
        /* a product that is; the sum would not be */
        {{0x1p-64f, 0, 0x1p-64f}, {0x1p-63f, 0, 0x1p-63f}, 0.0f},
        /* a flushed negative product is -0, but what follows is a fma of +0 */
        {{-0x1p-100f}, {0x1p-100f}, 0.0f},
        /* zeros that cancel are +0 */
        {{-1.0f, 1.0f}, {0.0f, -0.0f}, 0.0f},
        /* the even sum overflows, then the sum of both does */
        {{0x1p127f, 0, 0x1p127f}, {1.0f, 0, 1.0f}, INFINITY},
        {{0x1p127f, 0x1p127f}, {1.0f, 1.0f}, INFINITY},
        {{-0x1p127f, -0x1p127f}, {1.0f, 1.0f}, -INFINITY},
        /* and rounding an operand does */
        {{0x1.ffp127f}, {0x1p-10f}, INFINITY},
        /* the difference of both is below 2^-126 */
        {{0x1.8p-63f, -0x1p-63f}, {0x1p-63f, 0x1p-63f}, 0.0f},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        float y = of_steps(k, cases[i].x, cases[i].w, 4);
        assert_same_bits(&y, &cases[i].want, 1);
    }
}

static void dx_is_the_definition_over_outputs(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(4);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.M * f.K), *sum = zeros(f.M * f.K);
        float *dx = garbage(f.M * f.K);
        for (size_t m = 0; m < f.M; m++)
            for (size_t j = 0; j < f.K; j++) {
                float acc = blocks(0.0f, f.dy + m * f.N, 1, f.W + j, f.K, f.N);
                want[m * f.K + j] = acc;
                sum[m * f.K + j] = f.x[m * f.K + j] + acc;
            }

        matmul_dx(k, NULL, dx, f.dy, f.W, f.M, f.N, f.K);
        assert_same_bits(dx, want, f.M * f.K);

        matmul_dx_add(k, NULL, f.x, f.dy, f.W, f.M, f.N, f.K);
        assert_same_bits(f.x, sum, f.M * f.K);

        free(want);
        free(sum);
        free(dx);
        fixture_clear(&f);
    }
}

static void dw_goes_on_from_what_is_there_in_blocks_of_tokens(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(5);

    for (size_t i = 0; i < N_SHAPES; i++) {
        struct fixture f = fixture_of(&r, shapes[i]);
        float *want = zeros(f.N * f.K);
        for (size_t n = 0; n < f.N; n++)
            for (size_t j = 0; j < f.K; j++)
                want[n * f.K + j] = blocks(f.W[n * f.K + j], f.dy + n, f.N, f.x + j, f.K, f.M);

        matmul_dw(k, NULL, f.W, f.dy, f.x, f.M, f.N, f.K);

        assert_same_bits(f.W, want, f.N * f.K);
        free(want);
        fixture_clear(&f);
    }
}

static void dw_starts_a_block_with_every_sequence(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(6);
    const size_t lengths[] = {1, 40, 32, 300, 7, 64, 33}, n_seqs = 7;
    struct fixture f = fixture_of(&r, (size_t[3]){477, 37, 29});
    float *want = zeros(f.N * f.K), *whole = zeros(f.N * f.K), *parts = zeros(f.N * f.K);
    size_t t = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        for (size_t n = 0; n < f.N; n++)
            for (size_t j = 0; j < f.K; j++)
                want[n * f.K + j] = blocks(want[n * f.K + j], f.dy + t * f.N + n, f.N,
                                           f.x + t * f.K + j, f.K, lengths[i]);
        t += lengths[i];
    }
    assert_int_equal(t, f.M);

    matmul_dw_seqs(k, NULL, whole, f.dy, f.x, lengths, n_seqs, f.N, f.K);
    t = 0;
    for (size_t i = 0, n = 1; i < n_seqs; i += n, n++) { /* micro-batches of 1, 2, 3 and 1 */
        size_t now = n_seqs - i < n ? n_seqs - i : n;
        matmul_dw_seqs(k, NULL, parts, f.dy + t * f.N, f.x + t * f.K, lengths + i, now, f.N,
                       f.K);
        for (size_t j = i; j < i + now; j++)
            t += lengths[j];
    }

    assert_same_bits(whole, want, f.N * f.K);
    assert_same_bits(parts, want, f.N * f.K);
    free(want);
    free(whole);
    free(parts);
    fixture_clear(&f);
}

/* What dW holds is an input of the first addition. */
static void dw_takes_a_subnormal_that_is_there_as_zero(void **state)
{
    const struct kernels *k = *state;
    const float dy[2] = {0.0f, -0.0f}, x[2] = {1.0f, 1.0f}, want[2] = {0.0f, 0.0f};
    float dW[2] = {0x1p-130f, -0x1p-130f};

    matmul_dw(k, NULL, dW, dy, x, 1, 2, 1);

    assert_same_bits(dW, want, 2);
}

static void packed_bytes_are_those_of_whole_blocks(void **state)
{
    const struct kernels *k = *state;

    assert_int_equal(packed_bytes(k, 45, 303), sizeof(uint16_t[48][320]));
}

/* Flushing must end with the product: the rest of the class keeps subnormals. */
static void subnormals_are_kept_after_a_product(void **state)
{
    const struct kernels *k = *state;
    volatile float tiny = 0x1p-130f;

    of_steps(k, (const float[1]){1.0f}, (const float[1]){1.0f}, 1);

    float half = tiny * 0.5f, want = 0x1p-131f;
    assert_same_bits(&half, &want, 1);
}

static void keys_and_values_are_rounded_to_bf16(void **state)
{
    const struct kernels *k = *state;
    struct rng r = random_seeded(9);
    float *x = some_floats(&r, 700, 3.0f), *want = zeros(700);
    for (size_t i = 0; i < 700; i++)
        want[i] = to_bf16(x[i]);

    cache_round(k, x, 700);

    assert_same_bits(x, want, 700);
    free(x);
    free(want);
}

int main(int argc, char **argv)
{
    const struct kernels *k = backend_in(NUMERICS_BF16_1, argc, argv);
    const struct CMUnitTest tests[] = {
        MATMUL_ANY_TESTS,
        BACKEND_TEST(forward_is_the_definition_and_one_add_of_the_bias),
        BACKEND_TEST(forward_of_wild_numbers_is_the_definition),
        BACKEND_TEST(what_lies_just_below_the_least_number_is_flushed_after_rounding),
        BACKEND_TEST(subnormals_count_as_zeros_and_overflow_is_infinite),
        BACKEND_TEST(dx_is_the_definition_over_outputs),
        BACKEND_TEST(dw_goes_on_from_what_is_there_in_blocks_of_tokens),
        BACKEND_TEST(dw_starts_a_block_with_every_sequence),
        BACKEND_TEST(dw_takes_a_subnormal_that_is_there_as_zero),
        BACKEND_TEST(packed_bytes_are_those_of_whole_blocks),
        BACKEND_TEST(subnormals_are_kept_after_a_product),
        BACKEND_TEST(keys_and_values_are_rounded_to_bf16),
    };
    return cmocka_run_group_tests_name("engine/matmul_bf16", tests, NULL, NULL);
}
