/*
 * cli/bench_bytes: what verification adds to the wire stays below what the project promises.
 */
#include "cli/bench_bytes.h"

#include <string.h>

#include "support/test.h"

static struct bench_bytes bytes_of(const char *numerics, uint32_t samples, uint32_t tokens)
{
    struct bench_bytes b;
    struct err e;

    assert_ok(bench_bytes_of(&b, numerics, samples, tokens, &e), &e);
    return b;
}

static void where_bits_are_defined_it_is_the_commitment_and_audits(void **state)
{
    (void)state;
    struct bench_bytes b = bytes_of("f32-1", 8, 512);

    assert_int_equal(b.tokens, 4096);
    assert_int_equal(b.payload, 8 * 4096);
    assert_int_equal(b.opening, 0);
    /* Signer, signature, root, task and weights, at two bytes of tag and length each; the class. */
    assert_int_equal(b.commit, 4 * (32 + 2) + 64 + 2 + 5 + 2);
    /* A verdict names the submission, the states and its signer, and is signed; so is the receipt. */
    assert_true(b.full > 32 + 32 + 32 + 64 + 64);
    /* Of sixteen light checks each has its unit and lease twice, and a part of two signatures. */
    assert_true(b.light > 16 + 2 * 64.0 / 16 && b.light < 80);
    assert_true(bench_bytes_expected(&b) <= 0.15);
}

static void openings_are_what_open_classes_add(void **state)
{
    (void)state;
    struct bench_bytes open = bytes_of("open-openblas", 8, 512);
    struct bench_bytes exact = bytes_of("f32-1", 8, 512);

    assert_true(open.opening > 128 * 258 && open.opening < 128 * 258 + 600);
    assert_int_equal(open.commit,
                     exact.commit + 34 + strlen("open-openblas") - strlen("f32-1"));
    assert_true(bench_bytes_expected(&open) <= 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_bits_are_defined_it_is_the_commitment_and_audits),
        cmocka_unit_test(openings_are_what_open_classes_add),
    };

    return cmocka_run_group_tests_name("cli/bench_bytes", tests, NULL, NULL);
}
