/*
 * proto/merkle_many: fans and proofs of many lead to the root of proto/merkle, and nothing else does.
 */
#include "proto/merkle_many.h"

#include <string.h>

#include "base/rng.h"
#include "proto/merkle.h"
#include "support/test.h"

#define N_MAX 70u

static void make_leaves(struct digest leaf[N_MAX])
{
    for (uint32_t i = 0; i < N_MAX; i++)
        merkle_leaf(&leaf[i], BYTES_OF(i));
}

static void root_of(struct digest *root, const struct digest *leaf, uint64_t n)
{
    struct merkle m;

    merkle_init(&m);
    for (uint64_t i = 0; i < n; i++)
        merkle_add_hash(&m, &leaf[i]);
    merkle_root(&m, root);
}

/* Going down by fans, any leaf is reached in log16 rounds, and every fan joins to its node. */
static void fans_lead_from_the_root_to_every_leaf(void **state)
{
    struct digest leaf[N_MAX], shown[MERKLE_FAN], hash;
    struct merkle_range child[MERKLE_FAN];

    (void)state;
    make_leaves(leaf);
    for (uint64_t n = 1; n <= N_MAX; n++)
        for (uint64_t want = 0; want < n; want++) {
            struct merkle_range at = {0, n};
            struct digest node;
            unsigned rounds = 0;

            for (root_of(&node, leaf, n); at.n > 1; rounds++) {
                size_t k = merkle_fan(child, at), i = 0;

                assert_in_range(k, 2, MERKLE_FAN);
                for (size_t j = 0; j < k; j++)
                    merkle_range_root(&shown[j], leaf, child[j]);
                merkle_fan_join(&hash, at, shown);
                assert_memory_equal(hash.b, node.b, DIGEST_BYTES);
                while (want >= child[i].first + child[i].n)
                    i++;
                assert_true(want >= child[i].first);
                at = child[i];
                node = shown[i];
            }
            assert_int_equal(at.first, want);
            assert_memory_equal(node.b, leaf[want].b, DIGEST_BYTES);
            assert_true(rounds <= 2);
        }
}

/* A random set of the leaves, ascending. */
static size_t choose(uint64_t *index, uint64_t n, struct rng *r)
{
    uint64_t odds = 1 + rng_below(r, 8);
    size_t k = 0;

    for (uint64_t i = 0; i < n; i++)
        if (rng_below(r, odds) == 0)
            index[k++] = i;
    return k;
}

static void proofs_of_many_lead_to_the_root(void **state)
{
    struct digest leaf[N_MAX], some[N_MAX], root, found;
    struct rng r = rng_of(2, 2);
    uint64_t index[N_MAX];
    struct buf proof;

    (void)state;
    make_leaves(leaf);
    buf_init(&proof, (size_t)N_MAX * DIGEST_BYTES);
    for (uint64_t n = 1; n <= N_MAX; n++)
        for (unsigned turn = 0; turn < 20; turn++) {
            size_t k = choose(index, n, &r);
            struct reader in;

            for (size_t i = 0; i < k; i++)
                some[i] = leaf[index[i]];
            buf_reset(&proof);
            merkle_many_prove(&proof, leaf, n, index, k);
            in = reader_of(buf_bytes(&proof));
            assert_ok(merkle_many_join(&found, n, index, some, k, &in, NULL), NULL);
            assert_int_equal(reader_left(&in), 0);
            root_of(&root, leaf, n);
            assert_memory_equal(found.b, root.b, DIGEST_BYTES);
            if (k == n)
                assert_int_equal(proof.len, 0);
            if (k == 0)
                continue;
            some[rng_below(&r, k)].b[0] ^= 1;
            in = reader_of(buf_bytes(&proof));
            assert_ok(merkle_many_join(&found, n, index, some, k, &in, NULL), NULL);
            assert_memory_not_equal(found.b, root.b, DIGEST_BYTES);
        }
    buf_clear(&proof);
}

/* One leaf's proof is the path of proto/merkle, in another order. */
static void one_leaf_costs_a_path(void **state)
{
    struct digest leaf[N_MAX], path[MERKLE_PATH_MAX];
    struct buf proof;

    (void)state;
    make_leaves(leaf);
    buf_init(&proof, (size_t)N_MAX * DIGEST_BYTES);
    for (uint64_t i = 0; i < N_MAX; i++) {
        size_t n;

        buf_reset(&proof);
        merkle_many_prove(&proof, leaf, N_MAX, &i, 1);
        merkle_path(path, &n, leaf, N_MAX, i);
        assert_int_equal(proof.len, n * DIGEST_BYTES);
    }
    buf_clear(&proof);
}

static void what_is_out_of_order_or_short_is_refused(void **state)
{
    const uint64_t twice[2] = {3, 3}, back[2] = {3, 2}, past[1] = {5}, fine[2] = {1, 3};
    struct digest leaf[N_MAX], found;
    struct reader in;
    struct buf proof;
    struct err e;

    (void)state;
    make_leaves(leaf);
    buf_init(&proof, 1024);
    merkle_many_prove(&proof, leaf, 5, fine, 2);
    in = reader_of(buf_bytes(&proof));
    assert_status(merkle_many_join(&found, 5, twice, leaf, 2, &in, &e), ERR_MALFORMED, NULL);
    assert_status(merkle_many_join(&found, 5, back, leaf, 2, &in, &e), ERR_MALFORMED, NULL);
    assert_status(merkle_many_join(&found, 5, past, leaf, 1, &in, &e), ERR_MALFORMED, NULL);
    in = reader_of((struct bytes){proof.data, proof.len - 1});
    assert_status(merkle_many_join(&found, 5, fine, leaf, 2, &in, &e), ERR_MALFORMED, NULL);
    assert_contains(e.text, "too short");
    buf_clear(&proof);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fans_lead_from_the_root_to_every_leaf),
        cmocka_unit_test(proofs_of_many_lead_to_the_root),
        cmocka_unit_test(one_leaf_costs_a_path),
        cmocka_unit_test(what_is_out_of_order_or_short_is_refused),
    };

    return cmocka_run_group_tests_name("proto/merkle_many", tests, NULL, NULL);
}
