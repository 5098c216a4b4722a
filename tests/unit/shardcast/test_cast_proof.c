/*
 * cast_proof: what a node filed convinces anybody, and what was changed nobody
 */
#include "shardcast/cast_proof.h"

#include "shardcast/cast_state.h"
#include "support/test.h"
#include "unit/shardcast/versions.h"

struct fixture {
    struct node_key *trainer;
    struct digest run;
    struct version_made v, w; /* two versions 4 */
    struct buf file;
};

static int setup(void **state)
{
    static struct fixture f;
    const struct cast_proof p = {{0}, {0}};
    struct cast_proof proof = p;
    struct err e;

    f = (struct fixture){.trainer = versions_key(0), .run = {{7}}};
    version_make(&f.v, f.trainer, &f.run, 4, 1000, 0);
    version_make(&f.w, f.trainer, &f.run, 4, 1000, 77);
    buf_init(&f.file, MSG_MAX_BYTES);
    proof.first = buf_bytes(&f.v.envelope);
    proof.second = buf_bytes(&f.w.envelope);
    assert_ok(cast_proof_encode(&f.file, &proof, &e), &e);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    version_clear(&f->v);
    version_clear(&f->w);
    buf_clear(&f->file);
    key_free(&f->trainer);
    return 0;
}

static void what_was_filed_says_who_equivocated_about_what(void **state)
{
    struct fixture *f = *state;
    struct cast_proof_result r;
    struct cast_proof p;
    struct err e;

    assert_ok(cast_proof_decode(&p, buf_bytes(&f->file), &e), &e);
    assert_ok(cast_proof_judge(&p, &r, &e), &e);

    assert_true(key_equal(&r.trainer, &f->trainer->node));
    assert_true(digest_equal(&r.run, &f->run));
    assert_int_equal(r.about.version, 4);
}

static void a_file_that_was_changed_or_cut_is_refused(void **state)
{
    struct fixture *f = *state;
    struct bytes in = buf_bytes(&f->file);
    struct cast_proof p;

    for (size_t n = 0; n < in.len; n += 13)
        assert_true(cast_proof_decode(&p, bytes_slice(in, 0, n), NULL) != OK);
    for (size_t i = 0; i < in.len; i += 7) {
        f->file.data[i] ^= 1;
        assert_true(cast_proof_decode(&p, in, NULL) != OK);
        f->file.data[i] ^= 1;
    }
}

static void what_agrees_or_is_of_two_signers_accuses_nobody(void **state)
{
    struct fixture *f = *state;
    struct node_key *other = versions_key(2);
    struct cast_proof_result r;
    struct version_made theirs;
    version_make(&theirs, other, &f->run, 4, 1000, 77);
    const struct cast_proof same = {buf_bytes(&f->v.envelope), buf_bytes(&f->v.envelope)};
    const struct cast_proof two = {buf_bytes(&f->v.envelope), buf_bytes(&theirs.envelope)};

    assert_status(cast_proof_judge(&same, &r, NULL), ERR_DIGEST, NULL);
    assert_status(cast_proof_judge(&two, &r, NULL), ERR_DENIED, NULL);
    version_clear(&theirs);
    key_free(&other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_filed_says_who_equivocated_about_what),
        TEST(a_file_that_was_changed_or_cut_is_refused),
        TEST(what_agrees_or_is_of_two_signers_accuses_nobody),
    };
    return cmocka_run_group_tests_name("shardcast/cast_proof", tests, NULL, NULL);
}
