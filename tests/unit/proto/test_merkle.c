/*
 * proto/merkle, against its definition written recursively.
 */
#include "proto/merkle.h"

#include <string.h>

#include "proto/digest.h"
#include "support/test.h"

#define LEAVES 70

/* RFC 6962, section 2.1, as it is written there. */
static void naive_root(struct digest *out, const struct digest *leaf, uint64_t n)
{
    struct digest pair[2];
    uint8_t node[65] = {1};
    uint64_t k = 1;

    if (n == 0) {
        digest_of(out, (struct bytes){NULL, 0});
        return;
    }
    if (n == 1) {
        *out = leaf[0];
        return;
    }
    while (2 * k < n)
        k *= 2;
    naive_root(&pair[0], leaf, k);
    naive_root(&pair[1], leaf + k, n - k);
    memcpy(node + 1, pair, 64);
    digest_of(out, BYTES_OF(node));
}

static void make_leaves(struct digest leaf[LEAVES])
{
    for (uint8_t i = 0; i < LEAVES; i++)
        merkle_leaf(&leaf[i], (struct bytes){&i, 1});
}

static void roots_are_those_of_the_definition(void **state)
{
    (void)state;
    struct digest leaf[LEAVES], got, want;
    struct merkle m;
    make_leaves(leaf);

    merkle_init(&m);
    for (uint64_t n = 0; n < LEAVES; n++) {
        merkle_root(&m, &got);
        naive_root(&want, leaf, n);
        assert_true(digest_equal(&got, &want));
        uint8_t byte = (uint8_t)n;
        merkle_add(&m, (struct bytes){&byte, 1});
    }
}

static void a_leaf_is_hashed_with_a_zero_before_it(void **state)
{
    (void)state;
    struct digest a, b;

    merkle_leaf(&a, BYTES_LIT("x"));
    digest_of(&b, BYTES_LIT("\0x"));

    assert_true(digest_equal(&a, &b));
}

static void digests_as_leaves_are_hashed_like_any_leaf(void **state)
{
    (void)state;
    struct digest two[2], leaf[2], got, want;
    digest_of(&two[0], BYTES_LIT("a"));
    digest_of(&two[1], BYTES_LIT("b"));
    merkle_leaf(&leaf[0], BYTES_OF(two[0].b));
    merkle_leaf(&leaf[1], BYTES_OF(two[1].b));

    merkle_root_of_digests(&got, BYTES_OF(two));

    naive_root(&want, leaf, 2);
    assert_true(digest_equal(&got, &want));
}

static void every_path_leads_to_the_root(void **state)
{
    (void)state;
    struct digest leaf[LEAVES], root, path[MERKLE_PATH_MAX];
    size_t n_path;
    make_leaves(leaf);

    for (uint64_t n = 1; n < LEAVES; n++) {
        naive_root(&root, leaf, n);
        for (uint64_t i = 0; i < n; i++) {
            merkle_path(path, &n_path, leaf, n, i);
            assert_ok(merkle_verify(&root, &leaf[i], i, n, path, n_path, NULL), NULL);
        }
    }
}

static void a_path_verifies_for_its_leaf_place_and_size_only(void **state)
{
    (void)state;
    struct digest leaf[LEAVES], root, path[MERKLE_PATH_MAX];
    size_t n_path;
    make_leaves(leaf);

    for (uint64_t n = 2; n < 20; n++) {
        naive_root(&root, leaf, n);
        for (uint64_t i = 0; i < n; i++) {
            merkle_path(path, &n_path, leaf, n, i);
            assert_status(merkle_verify(&root, &leaf[(i + 1) % n], i, n, path, n_path, NULL),
                          ERR_DIGEST, NULL);
            assert_status(merkle_verify(&root, &leaf[i], (i + 1) % n, n, path, n_path, NULL),
                          ERR_DIGEST, NULL);
            assert_status(merkle_verify(&root, &leaf[i], i, n, path, n_path - 1, NULL),
                          ERR_DIGEST, NULL);
            path[n_path] = leaf[0];
            assert_status(merkle_verify(&root, &leaf[i], i, n, path, n_path + 1, NULL),
                          ERR_DIGEST, NULL);
            path[0].b[3] ^= 1;
            assert_status(merkle_verify(&root, &leaf[i], i, n, path, n_path, NULL), ERR_DIGEST,
                          NULL);
        }
    }
}

/* The hashes work out, but the path ends above the leaves. */
static void a_node_does_not_pass_for_a_leaf(void **state)
{
    (void)state;
    struct digest leaf[LEAVES], root, left, right;
    make_leaves(leaf);
    naive_root(&root, leaf, 4);
    naive_root(&left, leaf, 2);
    naive_root(&right, leaf + 2, 2);

    assert_status(merkle_verify(&root, &left, 0, 4, &right, 1, NULL), ERR_DIGEST, NULL);
    assert_ok(merkle_verify(&root, &left, 0, 2, &right, 1, NULL), NULL);
}

static void an_index_past_the_end_is_refused(void **state)
{
    (void)state;
    struct digest leaf;
    merkle_leaf(&leaf, BYTES_LIT("x"));

    assert_status(merkle_verify(&leaf, &leaf, 1, 1, NULL, 0, NULL), ERR_DIGEST, NULL);
    assert_status(merkle_verify(&leaf, &leaf, 0, 0, NULL, 0, NULL), ERR_DIGEST, NULL);
    assert_ok(merkle_verify(&leaf, &leaf, 0, 1, NULL, 0, NULL), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_those_of_the_definition),
        cmocka_unit_test(a_leaf_is_hashed_with_a_zero_before_it),
        cmocka_unit_test(digests_as_leaves_are_hashed_like_any_leaf),
        cmocka_unit_test(every_path_leads_to_the_root),
        cmocka_unit_test(a_path_verifies_for_its_leaf_place_and_size_only),
        cmocka_unit_test(a_node_does_not_pass_for_a_leaf),
        cmocka_unit_test(an_index_past_the_end_is_refused),
    };

    return cmocka_run_group_tests_name("proto/merkle", tests, NULL, NULL);
}
