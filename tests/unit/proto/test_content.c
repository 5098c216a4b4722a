/*
 * proto/content: leaves against what python3's hashlib.blake2b(digest_size=32, person=...) makes of the
 * rule in docs/protocol.md, section 10; the lanes of every instruction set against each other.
 */
#include "proto/content.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/attr.h"
#include "base/rng.h"
#include "proto/digest.h"
#include "proto/digest_lanes.h"
#include "support/test.h"

#define LONGEST 100003u

static uint8_t *make_shard(void)
{
    uint8_t *b = xmalloc(LONGEST);

    for (size_t k = 0; k < LONGEST; k++)
        b[k] = (uint8_t)((k * k + 3 * k) % 251);
    return b;
}

/* Lengths about the first lanes, a whole shard, and one that ends anywhere. */
static void a_leaf_is_that_of_the_rule(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        const char *leaf;
    } cases[] = {
        {1, "bcce2aa7f292c09a0b3cfd098bb4eac35b2094c0c66f680c706fd0124d378ef9"},
        {511, "2f37a0502d1d125a1f6d92e61653c6aa0d01b86523148478e668fa5a5670bcbe"},
        {512, "537e72d60131b6150cbd78d602a0f5c3bcca33ebb2d97e20116902ed67b1783a"},
        {513, "af4c0345274470a529f8972db2bc874b6a7f7265ebe59edc6b3cc8cad6e3599b"},
        {1024, "1e5eea8598d4c09b58917f04b361fe77357c6d20cf441b5fa05b703d8b55e18b"},
        {65536, "55486a68f8d20458e061b642b33c02ad152290aa361594ce7fc87fc6c61b4988"},
        {LONGEST, "4ef77bb02b33b86811a9a161a694d26b8c95d0818b6139bc39dc87d483c99cc1"},
    };
    uint8_t *shard = make_shard();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct digest leaf;
        char hex[DIGEST_HEX_BYTES];
        content_leaf(&leaf, 7, (struct bytes){shard, cases[i].n});
        digest_to_hex(hex, &leaf);
        assert_string_equal(hex, cases[i].leaf);
    }
    free(shard);
}

static void lanes_are_the_same_by_all_instructions(void **state)
{
    (void)state;
#if defined(__x86_64__)
    enum { BLOCKS = 9 };
    uint8_t in[DIGEST_LANES * BLOCKS * DIGEST_BLOCK + 1];
    struct rng r;

    if (!CPU_HAS("avx2"))
        return; /* then digest_lanes is the scalar one, which the leaves above hold */
    r = rng_of(1, 1);
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)rng_u32(&r);
    for (size_t n = DIGEST_BLOCK; n <= BLOCKS * DIGEST_BLOCK; n += DIGEST_BLOCK) {
        struct digest a[DIGEST_LANES], b[DIGEST_LANES];
        digest_lanes_scalar(a, in + 1, n);
        digest_lanes_avx2(b, in + 1, n);
        assert_memory_equal(a, b, sizeof(a));
    }
#endif
}

/* Whatever bit changes, the leaf does; and no two shards share one because of their lengths. */
static void every_byte_counts(void **state)
{
    (void)state;
    static const size_t places[] = {0, 127, 128, 4000, 8191, 16384, 32767, 32768, 32800};
    struct digest leaf, other;
    uint8_t *shard = make_shard();
    struct bytes all = {shard, 32801};

    content_leaf(&leaf, 0, all);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        shard[places[i]] ^= 4;
        content_leaf(&other, 0, all);
        assert_false(digest_equal(&leaf, &other));
        shard[places[i]] ^= 4;
    }
    content_leaf(&other, 0, (struct bytes){shard, 32800});
    assert_false(digest_equal(&leaf, &other));
    content_leaf(&other, 1, all);
    assert_false(digest_equal(&leaf, &other));
    free(shard);
}

static void shards_are_a_power_of_two(void **state)
{
    (void)state;

    assert_int_equal(content_shard_bytes(1), 65536);
    assert_int_equal(content_shard_bytes(256u << 20), 131072);
    assert_int_equal(content_n_shards(256u << 20, 131072), 2048);
    assert_int_equal(content_shard_bytes(UINT64_C(62000000000)), SHARD_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leaf_is_that_of_the_rule),
        cmocka_unit_test(lanes_are_the_same_by_all_instructions),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(shards_are_a_power_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
