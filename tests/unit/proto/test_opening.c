/*
 * proto/opening: what the root of an opening covers, and which opening opens a submission.
 */
#include "proto/opening.h"

#include <string.h>

#include "proto/merkle.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "support/test.h"

#define TOKENS 40

/* Two samples of 40 tokens: all of the first were sampled (two chunks), of the second three (one). */
struct opened {
    struct msg_submit m;
    struct msg_opening o;
    uint8_t tokens[4 * TOKENS], mask[TOKENS];
    uint8_t proofs[3 * TOPLOC_PROOF_BYTES];
};
static struct opened x;

static int setup(void **state)
{
    (void)state;
    memset(&x, 0, sizeof(x));
    memset(x.mask, 1, 3);
    for (size_t i = 0; i < sizeof(x.proofs); i++)
        x.proofs[i] = (uint8_t)(i * 7 + i / 256);
    x.m.unit = x.o.unit = 12;
    x.m.lease = x.o.lease = 99;
    x.m.n_samples = 2;
    x.m.sample[0].tokens = x.m.sample[1].tokens = BYTES_OF(x.tokens);
    x.m.sample[1].mask = BYTES_OF(x.mask);
    x.o.proofs = BYTES_OF(x.proofs);
    x.o.states.b[4] = 9;
    opening_root(&x.m.opening, &x.m, &x.o);
    return 0;
}

static void open_classes_want_one(void **state)
{
    (void)state;

    assert_true(opening_is_wanted("open-openblas"));
    assert_false(opening_is_wanted("f32-1"));
    assert_false(opening_is_wanted("bf16-1"));
    assert_false(opening_is_wanted("open"));
}

static void the_root_is_built_as_the_protocol_says(void **state)
{
    (void)state;
    static const uint32_t sample[3] = {0, 0, 1}, chunk[3] = {0, 1, 0};
    struct merkle tree;
    struct digest proofs, want;
    struct buf leaf;

    buf_init(&leaf, 1024);
    merkle_init(&tree);
    for (size_t i = 0; i < 3; i++) {
        buf_reset(&leaf);
        buf_put_u32(&leaf, sample[i]);
        buf_put_u32(&leaf, chunk[i]);
        buf_append(&leaf,
                   bytes_slice(BYTES_OF(x.proofs), i * TOPLOC_PROOF_BYTES, TOPLOC_PROOF_BYTES));
        merkle_add(&tree, buf_bytes(&leaf));
    }
    merkle_root(&tree, &proofs);
    merkle_node(&want, &proofs, &x.o.states);
    assert_int_equal(opening_chunks(&x.m), 3);
    assert_true(digest_equal(&x.m.opening, &want));
    buf_clear(&leaf);
}

static void what_was_committed_to_opens(void **state)
{
    (void)state;
    enum reason why = REASON_ROOT;
    struct bytes second;
    struct err e;

    assert_ok(opening_check(&x.o, &x.m, &why, &e), &e);
    assert_int_equal(why, REASON_NONE);
    assert_int_equal(opening_proofs(&x.o, &x.m, 0).len, 2 * TOPLOC_PROOF_BYTES);
    second = opening_proofs(&x.o, &x.m, 1);
    assert_int_equal(second.len, TOPLOC_PROOF_BYTES);
    assert_true(second.data == x.proofs + 2 * TOPLOC_PROOF_BYTES);
}

static void assert_shut(enum status want, enum reason want_why)
{
    enum reason why = REASON_NONE;
    struct err e;

    assert_status(opening_check(&x.o, &x.m, &why, &e), want, &e);
    assert_int_equal(why, want_why);
    (void)setup(NULL);
}

static void anything_else_does_not(void **state)
{
    (void)state;

    x.proofs[0] ^= 1;
    assert_shut(ERR_DIGEST, REASON_ROOT);
    x.proofs[sizeof(x.proofs) - 1] ^= 1;
    assert_shut(ERR_DIGEST, REASON_ROOT);
    x.o.states.b[31] ^= 1;
    assert_shut(ERR_DIGEST, REASON_ROOT);
    x.o.unit++;
    assert_shut(ERR_MALFORMED, REASON_BOUNDS);
    x.o.lease++;
    assert_shut(ERR_MALFORMED, REASON_BOUNDS);
    x.o.proofs.len -= TOPLOC_PROOF_BYTES;
    assert_shut(ERR_MALFORMED, REASON_BOUNDS);
    x.m.sample[1].mask.len = 0; /* two chunks */
    assert_shut(ERR_MALFORMED, REASON_BOUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(open_classes_want_one, setup),
        cmocka_unit_test_setup(the_root_is_built_as_the_protocol_says, setup),
        cmocka_unit_test_setup(what_was_committed_to_opens, setup),
        cmocka_unit_test_setup(anything_else_does_not, setup),
    };

    return cmocka_run_group_tests_name("proto/opening", tests, NULL, NULL);
}
