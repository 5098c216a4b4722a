/*
 * base/rng, against the known answers published with Random123 (kat_vectors, philox4x32 10) and
 * against a second implementation that follows the paper's text, with the S-box written as a
 * 64-bit product of halves.
 */
#include "base/rng.h"

#include <string.h>

#include "support/test.h"

struct known_answer {
    uint32_t ctr[4];
    uint32_t key[2];
    uint32_t out[4];
};

/* clang-format off */
static const struct known_answer known[] = {
    {{0, 0, 0, 0}, {0, 0},
     {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};
/* clang-format on */

/* One round on (L, R) pairs: (L0,R0,L1,R1) -> (mulhi(R1') ^ k ^ ..., ...), schoolbook products. */
static void mul_32(uint32_t a, uint32_t b, uint32_t *hi, uint32_t *lo)
{
    uint32_t al = a & 0xffff, ah = a >> 16, bl = b & 0xffff, bh = b >> 16;
    uint32_t low = al * bl, mid1 = ah * bl, mid2 = al * bh, high = ah * bh;
    uint32_t carry = ((low >> 16) + (mid1 & 0xffff) + (mid2 & 0xffff)) >> 16;

    *lo = low + (mid1 << 16) + (mid2 << 16);
    *hi = high + (mid1 >> 16) + (mid2 >> 16) + carry;
}

static void philox_of_the_paper(uint32_t x[4], const uint32_t key[2])
{
    uint32_t k[2] = {key[0], key[1]};

    for (int round = 0; round < 10; round++) {
        uint32_t hi0, lo0, hi1, lo1;

        mul_32(0xD2511F53u, x[0], &hi0, &lo0);
        mul_32(0xCD9E8D57u, x[2], &hi1, &lo1);
        x[0] = hi1 ^ x[1] ^ k[0];
        x[1] = lo1;
        x[2] = hi0 ^ x[3] ^ k[1];
        x[3] = lo0;
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
}

static void philox_gives_the_known_answers(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t out[4];

        philox4x32(out, known[i].key[0] | (uint64_t)known[i].key[1] << 32, known[i].ctr);

        assert_memory_equal(out, known[i].out, sizeof(out));
    }
}

static void philox_equals_a_second_implementation(void **state)
{
    (void)state;
    uint32_t ctr[4] = {1, 2, 3, 4}, key[2] = {5, 6};

    for (int i = 0; i < 1000; i++) {
        uint32_t got[4], want[4];

        memcpy(want, ctr, sizeof(want));
        philox_of_the_paper(want, key);
        philox4x32(got, key[0] | (uint64_t)key[1] << 32, ctr);

        assert_memory_equal(got, want, sizeof(got));
        memcpy(ctr, want, sizeof(ctr)); /* the next inputs */
        key[0] ^= want[1];
        key[1] += want[3];
    }
}

static void stream_reads_the_words_of_consecutive_counters(void **state)
{
    (void)state;
    const uint64_t key = 0x0123456789abcdef, stream = 0xfedcba9876543210;
    struct rng r = rng_of(key, stream);

    for (uint32_t block = 0; block < 3; block++) {
        uint32_t want[4];

        philox4x32(want, key, (const uint32_t[4]){block, 0, 0x76543210, 0xfedcba98});
        for (int i = 0; i < 4; i++)
            assert_int_equal(rng_u32(&r), want[i]);
    }
    assert_int_equal(r.n, 12);
}

static void stream_goes_on_past_2_to_the_32_blocks(void **state)
{
    (void)state;
    struct rng r = {.key = 1, .stream = 2, .n = UINT64_C(5) << 34};
    uint32_t want[4];

    philox4x32(want, 1, (const uint32_t[4]){0, 5, 2, 0});

    assert_int_equal(rng_u32(&r), want[0]);
}

static void u64_is_two_draws_low_word_first(void **state)
{
    (void)state;
    struct rng a = rng_of(7, 0), b = rng_of(7, 0);
    uint64_t lo = rng_u32(&a), hi = rng_u32(&a);

    assert_true(rng_u64(&b) == (lo | hi << 32));
}

static void below_stays_below_and_reaches_every_value(void **state)
{
    (void)state;
    struct rng r = rng_of(1, 2);
    unsigned seen[7] = {0};

    for (int i = 0; i < 7000; i++) {
        uint64_t x = rng_below(&r, 7);

        assert_true(x < 7);
        seen[x]++;
    }
    /* Each count is binomial(7000, 1/7): mean 1000, standard deviation 29.3. Six of them. */
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 1000 - 176, 1000 + 176);
}

/* With n = 3 * 2^62 a quarter of all draws is refused; were it folded in by a plain modulo, the
 * lowest third of the range would come up half of the time. */
static void below_is_unbiased_where_a_modulo_is_not(void **state)
{
    (void)state;
    const uint64_t n = UINT64_C(3) << 62;
    struct rng r = rng_of(3, 0);
    unsigned low = 0;

    for (int i = 0; i < 3000; i++)
        low += rng_below(&r, n) < UINT64_C(1) << 62;

    /* binomial(3000, 1/3): mean 1000, standard deviation 25.8. Six of them. */
    assert_in_range(low, 1000 - 155, 1000 + 155);
}

static void below_one_is_zero(void **state)
{
    (void)state;
    struct rng r = rng_of(3, 0);

    assert_int_equal(rng_below(&r, 1), 0);
}

static void f32_is_the_top_24_bits(void **state)
{
    (void)state;
    struct rng a = rng_of(9, 9), b = rng_of(9, 9);

    for (int i = 0; i < 1000; i++) {
        float x = rng_f32(&a);

        assert_true(x >= 0.0f && x < 1.0f);
        assert_true((double)x == (rng_u32(&b) >> 8) / 16777216.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(philox_equals_a_second_implementation),
        cmocka_unit_test(stream_reads_the_words_of_consecutive_counters),
        cmocka_unit_test(stream_goes_on_past_2_to_the_32_blocks),
        cmocka_unit_test(u64_is_two_draws_low_word_first),
        cmocka_unit_test(below_stays_below_and_reaches_every_value),
        cmocka_unit_test(below_is_unbiased_where_a_modulo_is_not),
        cmocka_unit_test(below_one_is_zero),
        cmocka_unit_test(f32_is_the_top_24_bits),
    };
    return cmocka_run_group_tests_name("base/rng", tests, NULL, NULL);
}
