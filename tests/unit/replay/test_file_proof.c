/* replay/file_proof: a file that is not what its masters give is shown in one place, and no other is. */
#include "replay/file_proof.h"

#include <string.h>

#include "learn/tiles.h"
#include "proto/content.h"
#include "support/test.h"
#include "unit/engine/tiny_model.h"

#define PROOF_MAX ((size_t)2 << 20)

struct fixture {
    struct weights *masters;
    struct buf file; /* what they give; then what is published */
    struct msg_manifest m;
    struct buf proof;
    char why[200];
    struct err e;
};

/* As a trainer would sign it. */
static void sign(struct fixture *f)
{
    f->m.file_bytes = f->file.len;
    f->m.shard_bytes = content_shard_bytes(f->file.len);
    f->m.n_shards = (uint32_t)content_n_shards(f->file.len, f->m.shard_bytes);
    content_root(&f->m.weights, f->m.shard_bytes, buf_bytes(&f->file));
}

static void *fixture_of(enum dtype dtype)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    struct digest root[64];

    c.dtype = dtype;
    c.vocab = 150;
    c.dim = 70; /* whole tiles and cut ones */
    f->masters = tiny_weights(&c, 3);
    assert_true(f->masters->n_tensors <= 64);
    buf_init(&f->file, weights_encode_bytes(&c));
    buf_init(&f->proof, PROOF_MAX);
    assert_ok(weights_encode(&f->file, f->masters, dtype, &f->e), &f->e);
    assert_ok(tiles_weights_roots(root, f->masters, NULL, &f->e), &f->e);
    state_masters_root(&f->m.masters_after, root, f->masters->n_tensors);
    sign(f);
    assert_true(f->m.n_shards > 1);
    return f;
}

static int setup(void **state)
{
    *state = fixture_of(DTYPE_F32);
    return 0;
}

static int setup_rounded(void **state)
{
    *state = fixture_of(DTYPE_BF16);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    weights_free(&f->masters);
    buf_clear(&f->file);
    buf_clear(&f->proof);
    test_free(f);
    return 0;
}

static enum status make(struct fixture *f)
{
    buf_reset(&f->proof);
    return file_proof_make(&f->proof, &f->m, buf_bytes(&f->file), f->masters, NULL, &f->e);
}

static enum status judge(struct fixture *f)
{
    memset(f->why, 0, sizeof(f->why));
    return file_proof_judge(f->why, buf_bytes(&f->proof), &f->m, &f->masters->config, &f->e);
}

static void a_right_file_has_no_proof(void **state)
{
    struct fixture *f = *state;

    assert_status(make(f), ERR_NOT_FOUND, NULL);
}

/* One bit anywhere: in the header, in any shard, in any tensor. */
static void one_bit_of_a_file_is_shown(void **state)
{
    struct fixture *f = *state;
    size_t numbers = 8 + f->file.data[0] + ((size_t)f->file.data[1] << 8);

    for (size_t at = 0; at < f->file.len; at += 1 + f->file.len / 13) {
        f->file.data[at] ^= 4;
        sign(f);
        assert_ok(make(f), &f->e);
        assert_true(f->proof.len <= MSG_MAX_PROOF);
        assert_ok(judge(f), &f->e);
        assert_contains(f->why, at < numbers ? "another header" : "another number");
        f->file.data[at] ^= 4;
    }
    /* The first number of a tile that is not its row's first. */
    f->file.data[f->file.len - 38 * dtype_bytes(f->masters->config.dtype)] ^= 1;
    sign(f);
    assert_ok(make(f), &f->e);
    assert_ok(judge(f), &f->e);
    assert_contains(f->why, "model.norm.weight, row 0, column 32");
}

static void another_length_is_seen_in_the_manifest(void **state)
{
    struct fixture *f = *state;

    f->m.shard_bytes *= 2;
    assert_ok(make(f), &f->e);
    assert_int_equal(f->proof.len, 1);
    assert_ok(judge(f), &f->e);
    assert_contains(f->why, "bytes in shards of");
}

/* Of a right file there is a true shard and a true tile to show, and nothing is another in them. */
static void what_is_shown_of_a_right_file_proves_nothing(void **state)
{
    struct fixture *f = *state;
    size_t at = f->file.len - 1;
    struct buf wrong;

    f->file.data[at] ^= 4;
    sign(f);
    assert_ok(make(f), &f->e);
    f->file.data[at] ^= 4;
    sign(f);
    assert_status(judge(f), ERR_DIGEST, &f->e); /* the wrong shard is not the right file's */

    /* The right shard in its place. */
    buf_init(&wrong, PROOF_MAX);
    buf_append(&wrong, buf_bytes(&f->proof));
    wrong.data[1 + 4 + 4 + at % f->m.shard_bytes] ^= 4;
    buf_reset(&f->proof);
    buf_append(&f->proof, buf_bytes(&wrong));
    buf_clear(&wrong);
    assert_status(judge(f), ERR_NOT_FOUND, &f->e);
    assert_contains(f->e.text, "are those of the masters");
}

static void other_masters_prove_nothing(void **state)
{
    struct fixture *f = *state;

    f->masters->data[0] += 1.0f;
    assert_ok(make(f), &f->e);
    assert_status(judge(f), ERR_DIGEST, &f->e);
}

static void every_changed_byte_of_a_proof_is_found(void **state)
{
    struct fixture *f = *state;

    f->file.data[f->file.len - 1] ^= 4;
    sign(f);
    assert_ok(make(f), &f->e);
    for (size_t i = 0; i < f->proof.len; i += 1 + i / 3) {
        f->proof.data[i] ^= 1;
        assert_int_not_equal(judge(f), OK);
        f->proof.data[i] ^= 1;
    }
    buf_put_u8(&f->proof, 0);
    assert_status(judge(f), ERR_MALFORMED, NULL);
    f->proof.len--;
    for (size_t n = f->proof.len; n-- > f->proof.len - 6;) {
        f->proof.len = n;
        assert_int_not_equal(judge(f), OK);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_right_file_has_no_proof),
        TEST(one_bit_of_a_file_is_shown),
        TEST(another_length_is_seen_in_the_manifest),
        TEST(what_is_shown_of_a_right_file_proves_nothing),
        TEST(other_masters_prove_nothing),
        TEST(every_changed_byte_of_a_proof_is_found),
        cmocka_unit_test_setup_teardown(a_right_file_has_no_proof, setup_rounded, teardown),
        cmocka_unit_test_setup_teardown(one_bit_of_a_file_is_shown, setup_rounded, teardown),
    };

    return cmocka_run_group_tests_name("replay/file_proof", tests, NULL, NULL);
}
