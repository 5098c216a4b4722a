/*
 * proto/toploc, against vectors of the reference implementation (its README and its tests) and
 * against properties of the format.
 */
#include "proto/toploc.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "support/random.h"
#include "support/test.h"

/* clang-format off */
/* The README's example: torch seed 42, 5 prompt rows and then 10 rows of 16, bf16 patterns. */
static const uint16_t g1[14 * 16] = {
    0xbf4f, 0xbfc4, 0x3ed0, 0x3e30, 0xbe7d, 0x3e51, 0xbf61, 0xbec6, 0x3f1a, 0x3e89, 0xbf5a, 0xbe94,
    0x3f80, 0xbf48, 0x3fb0, 0x3df3, 0x3f5d, 0xbf44, 0x3f53, 0xbf98, 0xbd07, 0xbda4, 0x3da0, 0xbf26,
    0xbef3, 0xbf2b, 0x3f87, 0xbd13, 0xbfa9, 0xbf2c, 0x3d2a, 0xbf25, 0x3e87, 0x3f35, 0xbe60, 0x4039,
    0x3faf, 0xbdde, 0x3e76, 0x3feb, 0x3fe0, 0xbd3c, 0xbeb4, 0xbdc5, 0xbfe2, 0xbf69, 0xbf19, 0x3f29,
    0x3d21, 0x3fce, 0xbfc1, 0x3fa2, 0x3e64, 0xbf84, 0x3f1b, 0xbef1, 0x3fd2, 0xbe9e, 0xbd8e, 0xbf86,
    0x3f1f, 0xbe15, 0x3ea6, 0x4019, 0x3fb5, 0xbe5c, 0x3eb3, 0xbf6b, 0xbea5, 0xbe4c, 0xc00b, 0xbea3,
    0x3e91, 0x3e9b, 0x3f92, 0xbce4, 0x3f25, 0x3e82, 0x3f82, 0xc02b, 0xbf90, 0x3f09, 0xc018, 0xbe70,
    0x3fc1, 0x3f08, 0xbfe4, 0x3e6a, 0xbfa7, 0x3fb1, 0x3fd4, 0xbc95, 0x3d18, 0xbd0d, 0xbe63, 0x3f56,
    0xbf34, 0x3d0c, 0xbd75, 0x3fbe, 0x3fc8, 0xbf60, 0x3f48, 0x3f12, 0xbf3e, 0xbe19, 0xbf2e, 0xbfa7,
    0x3f04, 0x3f75, 0x3fe3, 0x3e51, 0x3f26, 0x3fc9, 0xbf44, 0xc023, 0x3f46, 0x3fb1, 0xbef1, 0x3f88,
    0xbfce, 0xbf5d, 0x3fde, 0x3f99, 0x4022, 0x3f61, 0xbea8, 0xbfc6, 0x3ab3, 0xbf64, 0xbe2d, 0x400d,
    0xbea1, 0xbfb0, 0x3e96, 0xbf1b, 0x4034, 0x3fac, 0x3f91, 0x3ee1, 0x3efb, 0x3aaf, 0xbe25, 0xbdd5,
    0x3fad, 0xbf3d, 0x3f9e, 0x4002, 0x3f34, 0x3f9b, 0x3f49, 0x3f8f, 0x3fad, 0x3dd8, 0x3dfa, 0xbfa5,
    0xbf02, 0xbe45, 0x3f97, 0x3f5f, 0xbf85, 0x3dfd, 0x3ede, 0x3e42, 0xbf86, 0xbe84, 0xbf06, 0x3f9e,
    0xbf22, 0x3fde, 0xbf2e, 0x3e6b, 0x3f72, 0xbee5, 0x3ebb, 0xc00f, 0x3ffa, 0x3f08, 0x3f71, 0x4000,
    0x3f7e, 0xbfb8, 0xbfb8, 0x3f75, 0x0000, 0x3d57, 0xbfb0, 0xbf03, 0xbd83, 0xbeed, 0x3f89, 0x3f34,
    0x3d6f, 0xbf9f, 0x3e8b, 0x3f5a, 0x3e3e, 0x3f92, 0xbf9d, 0xbfc4, 0x3f9e, 0x3fa8, 0xbe4a, 0xbebc,
    0x3f0f, 0xbde1, 0x3fa6, 0xbdf3, 0x3fa6, 0x4001, 0xbf76, 0xbea2, 0xbeac, 0x3f99, 0xbf3d, 0x3ec2,
    0x3fc1, 0x3f1d, 0xbf6b, 0x4007, 0xc00e, 0xbedc, 0x3fa4, 0x3e98,
};
static const uint16_t g1_last[16] = {
    0x3f1b, 0xbfa4, 0x3e9b, 0xbea8, 0x3f9b, 0xbe5d, 0xbe94, 0xbef2, 0x3ef2, 0x3f3a, 0x3f09, 0x3f29,
    0x3f85, 0xc01d, 0x3f97, 0x3c7a,
};
/* clang-format on */

static void assert_hex(const uint8_t *got, const char *want)
{
    char hex[600];

    assert_true(strlen(want) < sizeof(hex));
    hex_encode(hex, (struct bytes){got, strlen(want) / 2});
    assert_string_equal(hex, want);
}

static void polynomials_evaluate_over_the_field(void **state)
{
    (void)state;
    const uint16_t coef[4] = {1, 2, 3, 4};
    const uint32_t x[4] = {42, 0, 1, 65496};
    uint16_t y[4];

    toploc_evaluate(y, x, 4, coef, 4);
    assert_int_equal(y[0], (1 + 2 * 42 + 3 * 42 * 42 + 4 * 42 * 42 * 42) % TOPLOC_PRIME);
    assert_int_equal(y[0], 39741);
    assert_int_equal(y[1], 1);
    assert_int_equal(y[2], 10);
    assert_int_equal(y[3], 65495); /* f(-1) = -2 */
}

static void interpolation_gives_the_reference_coefficients(void **state)
{
    (void)state;
    const uint32_t x1[4] = {1, 3, 5, 2}, x2[3] = {1, 2, 3};
    const uint16_t y1[4] = {1, 5, 4, 1}, y2[3] = {4, 5, 6};
    uint16_t c[4];

    assert_ok(toploc_interpolate(c, x1, y1, 4, NULL), NULL);
    assert_int_equal(c[0], 49133);
    assert_int_equal(c[1], 40920);
    assert_int_equal(c[2], 49130);
    assert_int_equal(c[3], 57309);
    assert_ok(toploc_interpolate(c, x2, y2, 3, NULL), NULL);
    assert_int_equal(c[0], 3);
    assert_int_equal(c[1], 1);
    assert_int_equal(c[2], 0);
}

static void interpolation_refuses_two_points_at_one_place(void **state)
{
    (void)state;
    const uint32_t x[2] = {5, 5 + TOPLOC_PRIME};
    const uint16_t y[2] = {1, 2};
    uint16_t c[2];

    assert_status(toploc_interpolate(c, x, y, 2, NULL), ERR_INVALID, NULL);
}

static void the_modulus_is_the_largest_that_keeps_indices_apart(void **state)
{
    (void)state;
    const uint32_t a[2] = {0, 65497}, b[3] = {0, 65497, 65496};
    const uint32_t c[4] = {3, 65500, 65499, 131}, same[2] = {7, 7};

    assert_int_equal(toploc_modulus(a, 2), 65496);
    assert_int_equal(toploc_modulus(b, 3), 65495);
    assert_int_equal(toploc_modulus(c, 4), 65495);
    assert_int_equal(toploc_modulus(same, 2), 0);
}

/* Rows of zeros with the given values at the given places. */
struct sparse {
    uint16_t v[70001];
};
static struct sparse sparse;

static void set_sparse(const uint32_t *index, const uint16_t *value, size_t n)
{
    memset(&sparse, 0, sizeof(sparse));
    for (size_t i = 0; i < n; i++)
        sparse.v[index[i]] = value[i];
}

static void a_modulus_below_the_prime_proves_and_verifies(void **state)
{
    (void)state;
    const uint32_t index[4] = {0, 65497, 5, 70000};
    const uint16_t value[4] = {0x4000, 0x4080, 0xc0a0, 0x4100};
    struct toploc_result r;
    uint8_t proof[10];
    set_sparse(index, value, 4);

    assert_ok(toploc_prove(proof, sparse.v, 1, 70001, 4, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_hex(proof, "ffd840007dffa565dcce");
    assert_ok(toploc_verify(&r, BYTES_OF(proof), &(struct toploc_rows){sparse.v, 1, 70001}, 4,
                            TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
              NULL);

    assert_int_equal(r.exp_mismatches, 0);
    assert_true(r.mant_err_mean == 0 && r.mant_err_median == 0);
}

static void a_value_past_the_prime_wraps(void **state)
{
    (void)state;
    const uint32_t x[1] = {9};
    const uint16_t y[3] = {0xffd9, 0xffff, 0xff80};
    const uint16_t want[3] = {0, 0x26, 0xff80};
    uint16_t c[1];

    for (int i = 0; i < 3; i++) {
        assert_ok(toploc_interpolate(c, x, &y[i], 1, NULL), NULL);
        assert_int_equal(c[0], want[i]);
    }
}

static void infinities_and_zeros_are_values_like_others(void **state)
{
    (void)state;
    const uint32_t index[5] = {10, 20, 30, 40, 50};
    const uint16_t value[5] = {0x3f80, 0xbf80, 0x4049, 0x7f80, 0x0000};
    uint16_t coef[5];
    uint8_t bytes[10];

    assert_ok(toploc_interpolate(coef, index, value, 5, NULL), NULL);

    for (int i = 0; i < 5; i++) {
        bytes[2 * i] = (uint8_t)(coef[i] >> 8);
        bytes[2 * i + 1] = (uint8_t)coef[i];
    }
    assert_hex(bytes, "c6c98abbd58a3c8b4569");
}

static const uint8_t constant_two[10] = {0xff, 0xd9, 0x40}; /* f = 0x4000 everywhere, k = 4 */

static struct toploc_result compare_constant(const uint16_t values[4])
{
    struct toploc_result r;

    assert_ok(toploc_verify(&r, BYTES_OF(constant_two), &(struct toploc_rows){values, 1, 4}, 4,
                            TOPLOC_TIE_LOWEST, TOPLOC_COMPAT, NULL),
              NULL);
    return r;
}

static void compat_mode_ignores_signs_as_the_reference_does(void **state)
{
    (void)state;
    const uint16_t up[4] = {0x4000, 0x4001, 0x4002, 0x4003};
    const uint16_t down[4] = {0xc000, 0xc001, 0xc002, 0xc003};
    struct toploc_result a = compare_constant(up), b = compare_constant(down);

    assert_int_equal(a.exp_mismatches, 0);
    assert_true(a.mant_err_mean == 1.5 && a.mant_err_median == 2.0);
    assert_int_equal(b.exp_mismatches, 0);
    assert_true(b.mant_err_mean == 1.5 && b.mant_err_median == 2.0);
}

static void without_any_match_the_errors_are_two_to_the_64(void **state)
{
    (void)state;
    const uint16_t values[4] = {0x4100, 0x4100, 0x4100, 0x4100};
    struct toploc_result r = compare_constant(values);

    assert_int_equal(r.exp_mismatches, 4);
    assert_true(r.mant_err_mean == 1.8446744073709552e19);
    assert_true(r.mant_err_median == 1.8446744073709552e19);
    assert_false(toploc_passes(&r, &toploc_bf16_thresholds));
}

static void the_null_proof_is_no_proof(void **state)
{
    (void)state;
    const uint8_t null[10] = {0};
    const uint16_t values[4] = {0x4000, 0x4001, 0x4002, 0x4003};
    struct toploc_result r;

    for (int mode = TOPLOC_STRICT; mode <= TOPLOC_COMPAT; mode++) {
        assert_ok(toploc_verify(&r, BYTES_OF(null), &(struct toploc_rows){values, 1, 4}, 4,
                                TOPLOC_TIE_LOWEST, (enum toploc_mode)mode, NULL),
                  NULL);
        assert_true(r.is_null);
        assert_false(toploc_passes(&r, &toploc_f32_thresholds));
    }
}

static void readme_proofs_come_out_to_the_byte(void **state)
{
    (void)state;
    static const struct {
        size_t row, rows;
        const char *proof;
    } chunk[] = {
        {0, 5, "ffd91b422b67ba4b756d"},
        {5, 3, "ffd9cbb89af1862554a0"},
        {8, 3, "ffd9b468dae6e4ab41b6"},
        {11, 3, "ffd98064d65830e2af73"},
    };
    uint8_t proof[10];

    for (int tie = TOPLOC_TIE_LOWEST; tie <= TOPLOC_TIE_HEAP; tie++) {
        for (size_t i = 0; i < 4; i++) {
            assert_ok(toploc_prove(proof, g1 + 16 * chunk[i].row, chunk[i].rows, 16, 4,
                                   (enum toploc_tie)tie, NULL),
                      NULL);
            assert_hex(proof, chunk[i].proof);
        }
        assert_ok(toploc_prove(proof, g1_last, 1, 16, 4, (enum toploc_tie)tie, NULL), NULL);
        assert_hex(proof, "ffd9d20464ea9191f6d7");
    }
}

static void readme_errors_come_out_for_values_one_percent_off(void **state)
{
    (void)state;
    static const struct {
        size_t row, rows;
        double mean, median;
    } want[] = {{0, 5, 1.75, 2}, {5, 3, 2, 2}, {8, 3, 1.25, 1}, {11, 3, 1, 1}};
    uint16_t off[14 * 16];
    struct toploc_result r;
    uint8_t proof[10];
    for (size_t i = 0; i < 14 * 16; i++) {
        uint32_t bits = (uint32_t)g1[i] << 16;
        float x;
        memcpy(&x, &bits, sizeof(x));
        off[i] = toploc_bf16(x * 1.01f);
    }

    for (size_t i = 0; i < 4; i++) {
        assert_ok(toploc_prove(proof, g1 + 16 * want[i].row, want[i].rows, 16, 4,
                               TOPLOC_TIE_HEAP, NULL),
                  NULL);
        assert_ok(toploc_verify(&r, BYTES_OF(proof),
                                &(struct toploc_rows){off + 16 * want[i].row, want[i].rows, 16},
                                4, TOPLOC_TIE_HEAP, TOPLOC_STRICT, NULL),
                  NULL);
        assert_int_equal(r.exp_mismatches, 0);
        assert_true(r.mant_err_mean == want[i].mean);
        assert_true(r.mant_err_median == want[i].median);
    }
}

/* bf16 rows with many ties: few magnitudes, both signs. */
static void fill(struct rng *r, uint16_t *v, size_t n, uint32_t n_magnitudes)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (uint16_t)(0x3f00 + rng_below(r, n_magnitudes) + (rng_u32(r) & 0x8000));
}

/* A naive model: the taken ones, in index order, are the greatest k by (magnitude down, index
 * up). */
static void assert_top(const uint16_t *v, size_t n, const uint32_t *index, uint32_t k)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        size_t before = 0;
        for (size_t j = 0; j < n; j++)
            before += (v[j] & 0x7fff) > (v[i] & 0x7fff) ||
                      ((v[j] & 0x7fff) == (v[i] & 0x7fff) && j < i);
        if (before < k)
            assert_int_equal(index[at++], i);
    }
    assert_int_equal(at, k);
}

/* With k = 100 every value is looked at, with fewer those in blocks that have a large one. */
static void among_equals_the_lowest_index_is_taken(void **state)
{
    (void)state;
    const uint32_t wanted[] = {100, 10, 4, 1};
    struct rng rng = random_seeded(5);
    uint16_t v[2001];
    uint32_t index[100], n;

    for (uint32_t round = 0; round < 60; round++) {
        uint32_t k = wanted[round % 4];
        size_t size = 2001 - round % 3;
        fill(&rng, v, size, round % 2 ? 40 : 16000);
        assert_ok(toploc_top(index, &n, v, size, k, TOPLOC_TIE_LOWEST, NULL), NULL);
        assert_int_equal(n, k);
        assert_top(v, size, index, k);
    }
}

/* So many are as large as the k-th that it is no use to set them apart. */
static void values_that_are_all_alike_are_taken_from_the_front(void **state)
{
    (void)state;
    static uint16_t v[70000];
    uint32_t index[128], n;

    for (size_t i = 0; i < 70000; i++)
        v[i] = i % 2 ? 0x3f80 : 0xbf80;
    v[69999] = 0x4000;
    assert_ok(toploc_top(index, &n, v, 70000, 128, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_int_equal(index[127], 69999);
    for (uint32_t i = 0; i < 127; i++)
        assert_int_equal(index[i], i);
}

static uint32_t magnitude_at(const uint16_t *v, uint32_t i)
{
    return v[i] & 0x7fffu;
}

static void both_rules_take_the_same_magnitudes(void **state)
{
    (void)state;
    struct rng rng = random_seeded(6);
    static uint16_t v[9000];
    uint32_t a[128], b[128], n;
    /* partition (64 k > n), heap (64 k <= n), nearly all, and three, which is only sorted */
    static const size_t size[] = {300, 8192, 9000, 129, 3};

    for (size_t s = 0; s < sizeof(size) / sizeof(size[0]); s++) {
        uint32_t k = size[s] > 128 ? 128 : 2;
        uint64_t sum_a = 0, sum_b = 0;
        fill(&rng, v, size[s], 1000);
        assert_ok(toploc_top(a, &n, v, size[s], k, TOPLOC_TIE_LOWEST, NULL), NULL);
        assert_ok(toploc_top(b, &n, v, size[s], k, TOPLOC_TIE_HEAP, NULL), NULL);
        for (uint32_t i = 0; i < k; i++) {
            sum_a += magnitude_at(v, a[i]);
            sum_b += magnitude_at(v, b[i]);
        }
        assert_int_equal(sum_a, sum_b);
        assert_true(toploc_modulus(b, k) > 0); /* no index twice */
    }
}

/* What std::nth_element and std::partial_sort of libstdc++ 12 leave among the first k, for
 * magnitudes 7919 i^2 + 13 i modulo something small: tests/reference/toploc_ties.cc. */
static void the_heap_rule_is_that_of_libstdcpp(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        uint32_t k, magnitudes;
        uint64_t digest; /* sum of (index + 1)^3 over those taken */
    } want[] = {
        {5, 2, 11, 189},
        {80, 4, 11, 486836},
        {100, 50, 11, 14078683},
        {256, 4, 97, 8349174},
        {1000, 100, 11, 24589487014},
        {2048, 128, 97, 279871034464},
        {8191, 128, 997, 17535741544164},
        {8192, 128, 97, 7702568252288},
        {8192, 128, 997, 17240120281139},
        {20000, 128, 97, 7702568252288},
        {20000, 300, 499, 587037680521289},
    };
    static uint16_t v[20000];
    uint32_t index[300], n;

    for (size_t w = 0; w < sizeof(want) / sizeof(want[0]); w++) {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < want[w].n; i++)
            v[i] = (uint16_t)((7919 * i * i + 13 * i) % want[w].magnitudes);
        assert_ok(toploc_top(index, &n, v, want[w].n, want[w].k, TOPLOC_TIE_HEAP, NULL), NULL);
        for (uint32_t i = 0; i < n; i++)
            sum += ((uint64_t)index[i] + 1) * (index[i] + 1) * (index[i] + 1);
        assert_int_equal(sum, want[w].digest);
    }
}

static void an_honest_proof_verifies_without_error(void **state)
{
    (void)state;
    struct rng rng = random_seeded(7);
    static uint16_t v[32 * 2048];
    uint8_t proof[TOPLOC_PROOF_BYTES];
    struct toploc_result r;
    fill(&rng, v, 32 * 2048, 16000);

    for (int tie = TOPLOC_TIE_LOWEST; tie <= TOPLOC_TIE_HEAP; tie++) {
        assert_ok(toploc_prove(proof, v, 32, 2048, 128, (enum toploc_tie)tie, NULL), NULL);
        assert_ok(toploc_verify(&r, BYTES_OF(proof), &(struct toploc_rows){v, 32, 2048}, 128,
                                (enum toploc_tie)tie, TOPLOC_STRICT, NULL),
                  NULL);
        assert_int_equal(r.exp_mismatches, 0);
        assert_true(r.mant_err_mean == 0 && r.mant_err_median == 0);
        assert_true(toploc_passes(&r, &toploc_bf16_thresholds));
    }
}

static void fewer_values_than_k_are_all_taken(void **state)
{
    (void)state;
    const uint16_t v[6] = {0x3f80, 0x4000, 0xbf00, 0x4100, 0x3e80, 0xc080};
    uint8_t proof[TOPLOC_PROOF_BYTES];
    struct toploc_result r;

    assert_ok(toploc_prove(proof, v, 2, 3, TOPLOC_K, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_ok(toploc_verify(&r, BYTES_OF(proof), &(struct toploc_rows){v, 2, 3}, TOPLOC_K,
                            TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
              NULL);

    assert_int_equal(r.exp_mismatches, 0);
    for (size_t i = 2 + 2 * 6; i < sizeof(proof); i++)
        assert_int_equal(proof[i], 0);
}

static void strict_mode_counts_a_flipped_sign(void **state)
{
    (void)state;
    struct rng rng = random_seeded(8);
    uint16_t v[512];
    uint8_t proof[TOPLOC_PROOF_BYTES];
    struct toploc_result strict, compat;
    fill(&rng, v, 512, 16000);
    assert_ok(toploc_prove(proof, v, 1, 512, 128, TOPLOC_TIE_LOWEST, NULL), NULL);
    for (size_t i = 0; i < 512; i++)
        v[i] ^= 0x8000;

    assert_ok(toploc_verify(&strict, BYTES_OF(proof), &(struct toploc_rows){v, 1, 512}, 128,
                            TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
              NULL);
    assert_ok(toploc_verify(&compat, BYTES_OF(proof), &(struct toploc_rows){v, 1, 512}, 128,
                            TOPLOC_TIE_LOWEST, TOPLOC_COMPAT, NULL),
              NULL);

    assert_int_equal(strict.exp_mismatches, 128);
    assert_int_equal(compat.exp_mismatches, 0);
}

static enum status verify_512(const uint8_t *proof, size_t len, const uint16_t *v,
                              enum toploc_mode mode, struct err *e)
{
    struct toploc_result r;

    return toploc_verify(&r, (struct bytes){proof, len}, &(struct toploc_rows){v, 1, 512}, 128,
                         TOPLOC_TIE_LOWEST, mode, e);
}

static void strict_mode_refuses_what_a_forger_would_send(void **state)
{
    (void)state;
    struct rng rng = random_seeded(9);
    uint16_t v[512];
    uint8_t good[TOPLOC_PROOF_BYTES], bad[TOPLOC_PROOF_BYTES + 2];
    struct err e;
    fill(&rng, v, 512, 16000);
    assert_ok(toploc_prove(good, v, 1, 512, 128, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_ok(verify_512(good, sizeof(good), v, TOPLOC_STRICT, &e), &e);

    /* too short, too long, of odd length */
    memcpy(bad, good, sizeof(good));
    assert_status(verify_512(bad, 4, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_status(verify_512(bad, 257, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_status(verify_512(bad, 260, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    /* modulus = the dimension, or above the prime, or zero */
    bad[0] = 512 >> 8, bad[1] = 0;
    assert_status(verify_512(bad, 258, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "modulus");
    bad[0] = 0xff, bad[1] = 0xda;
    assert_status(verify_512(bad, 258, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    bad[0] = bad[1] = 0;
    assert_status(verify_512(bad, 258, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_status(verify_512(bad, 258, v, TOPLOC_COMPAT, &e), ERR_MALFORMED, &e);
    /* a coefficient that is no residue */
    memcpy(bad, good, sizeof(good));
    bad[10] = 0xff, bad[11] = 0xd9;
    assert_status(verify_512(bad, 258, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "coefficient 4");
    /* three zero coefficients */
    memcpy(bad, good, sizeof(good));
    memset(bad + 20, 0, 6);
    assert_status(verify_512(bad, 258, v, TOPLOC_STRICT, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "zero");
    /* coefficients that exceed 2 + 2k bytes: one for every index would encode everything */
    assert_status(verify_512(bad, 260, v, TOPLOC_COMPAT, &e), ERR_MALFORMED, &e);
}

static void not_a_number_is_refused(void **state)
{
    (void)state;
    uint16_t v[4] = {0x3f80, 0x7fc0, 0x4000, 0xff81};
    uint8_t proof[10];

    assert_status(toploc_prove(proof, v, 1, 4, 4, TOPLOC_TIE_LOWEST, NULL), ERR_NUMERIC, NULL);
    v[1] = 0x7f80; /* infinity is not NaN, but the last one is */
    assert_status(toploc_prove(proof, v, 1, 4, 4, TOPLOC_TIE_LOWEST, NULL), ERR_NUMERIC, NULL);
    v[3] = 0xff80;
    assert_ok(toploc_prove(proof, v, 1, 4, 4, TOPLOC_TIE_LOWEST, NULL), NULL);
}

static void f32_is_rounded_to_nearest_even(void **state)
{
    (void)state;
    const uint32_t bits[6] = {0x3f808000, 0x3f818000, 0x3f808001,
                              0x7f7fffff, 0x7f800001, 0x80000000};
    const uint16_t want[6] = {0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7fc0, 0x8000};

    for (int i = 0; i < 6; i++) {
        float x;
        memcpy(&x, &bits[i], sizeof(x));
        assert_int_equal(toploc_bf16(x), want[i]);
    }
}

/* f at x by its definition, in 64 bits. */
static uint32_t evaluate_slowly(const uint16_t *coef, uint32_t n, uint32_t x)
{
    uint64_t v = 0;

    for (uint32_t i = n; i-- > 0;)
        v = (v * (x % TOPLOC_PRIME) + coef[i]) % TOPLOC_PRIME;
    return (uint32_t)v;
}

static void evaluation_is_that_of_the_definition(void **state)
{
    (void)state;
    struct rng rng = random_seeded(11);
    uint16_t coef[200], y[77];
    uint32_t x[77];

    for (int round = 0; round < 50; round++) {
        uint32_t n = 1 + rng_u32(&rng) % 200, n_x = 1 + rng_u32(&rng) % 77;

        for (uint32_t i = 0; i < n; i++) /* what is no residue counts as one */
            coef[i] = (uint16_t)(round % 2 ? rng_u32(&rng) : 65400 + rng_u32(&rng) % 136);
        for (uint32_t i = 0; i < n_x; i++)
            x[i] = round % 3 ? rng_u32(&rng) : 65480 + rng_u32(&rng) % 40;
        toploc_evaluate(y, x, n_x, coef, n);
        for (uint32_t i = 0; i < n_x; i++)
            assert_int_equal(y[i], evaluate_slowly(coef, n, x[i]));
    }
}

static void interpolation_passes_through_its_points(void **state)
{
    (void)state;
    struct rng rng = random_seeded(12);
    const uint32_t sizes[] = {1, 2, 7, 128, 129, 1000};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint32_t n = sizes[s], x[1000];
        uint16_t y[1000], coef[1000], got[1000];

        for (uint32_t i = 0; i < n; i++) {
            x[i] = (65496 - i * 64) % TOPLOC_PRIME; /* 64 and the prime share no factor */
            y[i] = (uint16_t)rng_u32(&rng);
        }
        y[0] = 65535;
        assert_ok(toploc_interpolate(coef, x, y, n, NULL), NULL);
        toploc_evaluate(got, x, n, coef, n);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(got[i], y[i] % TOPLOC_PRIME);
    }
}

static void sizes_out_of_range_are_refused(void **state)
{
    (void)state;
    const uint16_t v[4] = {1, 2, 3, 4};
    uint8_t proof[10];

    assert_status(toploc_prove(proof, v, 0, 4, 4, TOPLOC_TIE_LOWEST, NULL), ERR_INVALID, NULL);
    assert_status(toploc_prove(proof, v, 1, 4, 0, TOPLOC_TIE_LOWEST, NULL), ERR_INVALID, NULL);
    assert_status(toploc_prove(proof, v, 1, 4, TOPLOC_K_MAX + 1, TOPLOC_TIE_LOWEST, NULL),
                  ERR_INVALID, NULL);
    assert_status(
        toploc_prove(proof, v, (size_t)1 << 40, (size_t)1 << 40, 4, TOPLOC_TIE_LOWEST, NULL),
        ERR_INVALID, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(polynomials_evaluate_over_the_field),
        cmocka_unit_test(interpolation_gives_the_reference_coefficients),
        cmocka_unit_test(interpolation_refuses_two_points_at_one_place),
        cmocka_unit_test(the_modulus_is_the_largest_that_keeps_indices_apart),
        cmocka_unit_test(a_modulus_below_the_prime_proves_and_verifies),
        cmocka_unit_test(a_value_past_the_prime_wraps),
        cmocka_unit_test(infinities_and_zeros_are_values_like_others),
        cmocka_unit_test(compat_mode_ignores_signs_as_the_reference_does),
        cmocka_unit_test(without_any_match_the_errors_are_two_to_the_64),
        cmocka_unit_test(the_null_proof_is_no_proof),
        cmocka_unit_test(readme_proofs_come_out_to_the_byte),
        cmocka_unit_test(readme_errors_come_out_for_values_one_percent_off),
        cmocka_unit_test(among_equals_the_lowest_index_is_taken),
        cmocka_unit_test(values_that_are_all_alike_are_taken_from_the_front),
        cmocka_unit_test(both_rules_take_the_same_magnitudes),
        cmocka_unit_test(the_heap_rule_is_that_of_libstdcpp),
        cmocka_unit_test(an_honest_proof_verifies_without_error),
        cmocka_unit_test(fewer_values_than_k_are_all_taken),
        cmocka_unit_test(strict_mode_counts_a_flipped_sign),
        cmocka_unit_test(strict_mode_refuses_what_a_forger_would_send),
        cmocka_unit_test(not_a_number_is_refused),
        cmocka_unit_test(f32_is_rounded_to_nearest_even),
        cmocka_unit_test(evaluation_is_that_of_the_definition),
        cmocka_unit_test(interpolation_passes_through_its_points),
        cmocka_unit_test(sizes_out_of_range_are_refused),
    };

    return cmocka_run_group_tests_name("proto/toploc", tests, NULL, NULL);
}
