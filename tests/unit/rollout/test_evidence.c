/*
 * rollout/evidence: what was filed is replayed; what was tampered with accuses nobody.
 */
#include "rollout/evidence.h"

#include <math.h>
#include <string.h>

#include "support/test.h"

#include "unit/rollout/evidences.h"

struct fixture {
    struct small_world s;
    struct claim c;
    struct evidence_made m;
    struct buf file;
    struct evidence_result result;
    struct err e;
};

/* An honest claim of unit 2. */
static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    small_world_open(&f->s, SMALL_TASK_SMALL, 0);
    claim_make(&f->c, &f->s.world, 2);
    buf_init(&f->file, 1u << 24);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    buf_clear(&f->file);
    evidence_made_clear(&f->m);
    claim_clear(&f->c);
    small_world_close(&f->s);
    test_free(f);
    return 0;
}

static void sign(struct fixture *f)
{
    evidence_made_clear(&f->m);
    evidence_made_init(&f->m, &f->s, &f->c);
}

static enum status replay(struct fixture *f)
{
    return evidence_replay(&f->m.v, NULL, &f->result, &f->e);
}

static void a_file_gives_back_its_pieces(void **state)
{
    struct fixture *f = *state;
    struct evidence v;

    sign(f);
    assert_ok(evidence_encode(&f->file, &f->m.v, &f->e), &f->e);
    assert_ok(evidence_decode(&v, buf_bytes(&f->file), &f->e), &f->e);

    assert_true(bytes_equal(v.bundle, f->m.v.bundle));
    assert_true(bytes_equal(v.submission, f->m.v.submission));
    assert_true(bytes_equal(v.manifest, f->m.v.manifest));
    assert_true(bytes_equal(v.weights, f->m.v.weights));
}

static void evidence_is_appended_to_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct evidence v;

    sign(f);
    buf_append(&f->file, BYTES_LIT("before"));
    assert_ok(evidence_encode(&f->file, &f->m.v, &f->e), &f->e);
    assert_ok(evidence_decode(&v, bytes_slice(buf_bytes(&f->file), 6, f->file.len - 6), &f->e),
              &f->e);
}

/* A damaged byte anywhere, each byte of the head and one in 997 of the rest. */
static void a_damaged_byte_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct evidence v;

    sign(f);
    assert_ok(evidence_encode(&f->file, &f->m.v, &f->e), &f->e);
    for (size_t i = 12; i < f->file.len; i += i < 40 ? 1 : 997) {
        f->file.data[i] ^= 0x20;
        assert_status(evidence_decode(&v, buf_bytes(&f->file), &f->e), ERR_DIGEST, NULL);
        f->file.data[i] ^= 0x20;
    }
    f->file.data[f->file.len - 1] ^= 1;
    assert_status(evidence_decode(&v, buf_bytes(&f->file), &f->e), ERR_DIGEST, NULL);
}

static void what_is_no_evidence_is_refused(void **state)
{
    struct fixture *f = *state;
    struct evidence v;

    sign(f);
    assert_ok(evidence_encode(&f->file, &f->m.v, &f->e), &f->e);
    assert_status(evidence_decode(&v, BYTES_LIT("MUSTEREV"), &f->e), ERR_MALFORMED, NULL);
    f->file.data[0] ^= 1;
    assert_status(evidence_decode(&v, buf_bytes(&f->file), &f->e), ERR_MALFORMED, NULL);
    f->file.data[0] ^= 1;
    f->file.data[8] = 2;
    assert_status(evidence_decode(&v, buf_bytes(&f->file), &f->e), ERR_UNSUPPORTED, NULL);
    f->file.data[8] = 1;
    f->file.len--;
    assert_status(evidence_decode(&v, buf_bytes(&f->file), &f->e), ERR_DIGEST, NULL);
}

static void a_true_accusation_is_confirmed_by_anyone(void **state)
{
    struct fixture *f = *state;
    struct evidence v;

    f->c.s->sample[1].reward = nextafterf(f->c.s->sample[1].reward, 2.0f);
    claim_seal(&f->c);
    sign(f);
    assert_ok(evidence_encode(&f->file, &f->m.v, &f->e), &f->e);
    assert_ok(evidence_decode(&v, buf_bytes(&f->file), &f->e), &f->e);
    assert_ok(evidence_replay(&v, NULL, &f->result, &f->e), &f->e);

    assert_false(f->result.finding.is_accepted);
    assert_int_equal(f->result.finding.code, REASON_REWARD);
    assert_int_equal(f->result.finding.sample, 1);
    assert_true(key_equal(&f->result.worker, &f->m.worker));
    assert_true(key_equal(&f->result.trainer, &f->m.trainer));
    assert_true(digest_equal(&f->result.run, &f->m.run));
    assert_int_equal(f->result.unit, 2);
    assert_int_equal(f->result.lease, 1002);
    assert_int_equal(f->result.version, 3);
}

static void a_forged_logprob_needs_the_weights_and_is_confirmed(void **state)
{
    struct fixture *f = *state;

    *claim_byte(f->c.s->sample[0].logprobs, 0) ^= 1;
    claim_seal(&f->c);
    sign(f);
    assert_ok(replay(f), &f->e);
    assert_false(f->result.finding.is_accepted);
    assert_int_equal(f->result.finding.code, REASON_LOGPROB);
}

static void a_false_accusation_is_not_confirmed(void **state)
{
    struct fixture *f = *state;

    sign(f);
    assert_ok(replay(f), &f->e);
    assert_true(f->result.finding.is_accepted);
}

static void swapped_weights_accuse_nobody(void **state)
{
    struct fixture *f = *state;

    sign(f);
    /* The last number of the file: still a file of weights, not those of the manifest. */
    f->m.weights.data[f->m.weights.len - 4] ^= 1;
    assert_status(replay(f), ERR_DIGEST, NULL);
    assert_contains(f->e.text, "not those of the manifest");
}

static void an_altered_submission_accuses_nobody(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope env;

    sign(f);
    assert_ok(msg_envelope_decode(&env, f->m.v.submission, &f->e), &f->e);
    *claim_byte(env.body, env.body.len - 1) ^= 1;
    assert_status(replay(f), ERR_DIGEST, NULL);
}

static void an_altered_manifest_accuses_nobody(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope env;

    sign(f);
    assert_ok(msg_envelope_decode(&env, f->m.v.manifest, &f->e), &f->e);
    *claim_byte(env.body, env.body.len - 1) ^= 1;
    assert_status(replay(f), ERR_DIGEST, NULL);
}

static void pieces_in_each_others_place_accuse_nobody(void **state)
{
    struct fixture *f = *state;
    struct bytes submission;

    sign(f);
    submission = f->m.v.submission;
    f->m.v.submission = f->m.v.manifest;
    assert_status(replay(f), ERR_MALFORMED, NULL);
    assert_contains(f->e.text, "holds no submission");
    f->m.v.manifest = submission;
    f->m.v.submission = submission;
    assert_status(replay(f), ERR_MALFORMED, NULL);
}

static void a_manifest_of_another_run_accuses_nobody(void **state)
{
    struct fixture *f = *state;

    sign(f);
    for (size_t i = 0; i < f->m.manifest.len; i++) /* the run's one byte that is not zero */
        if (f->m.manifest.data[i] == 77)
            f->m.manifest.data[i] = 78;
    assert_status(replay(f), ERR_MALFORMED, NULL);
    assert_contains(f->e.text, "no manifest of the same run");
}

/* The worker was right for version 3; nobody may hold version 4 against it. */
static void a_manifest_of_another_version_accuses_nobody(void **state)
{
    struct fixture *f = *state;

    f->s.world.version = 4;
    sign(f);
    assert_status(replay(f), ERR_MALFORMED, NULL);
    assert_contains(f->e.text, "the manifest is of version 4, the submission of version 3");
}

/* A trainer's manifest for a task that is not the bundle's. */
static void another_tasks_bundle_accuses_nobody(void **state)
{
    struct fixture *f = *state;
    struct buf bundle;

    sign(f);
    buf_init(&bundle, BUNDLE_MAX_BYTES);
    small_bundle(&bundle, SMALL_TASK_TALK, 0);
    f->m.v.bundle = buf_bytes(&bundle);
    assert_status(replay(f), ERR_DIGEST, NULL);
    assert_contains(f->e.text, "another task");
    buf_clear(&bundle);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(a_file_gives_back_its_pieces),
        CASE(evidence_is_appended_to_what_is_there),
        CASE(a_damaged_byte_is_noticed),
        CASE(what_is_no_evidence_is_refused),
        CASE(a_true_accusation_is_confirmed_by_anyone),
        CASE(a_forged_logprob_needs_the_weights_and_is_confirmed),
        CASE(a_false_accusation_is_not_confirmed),
        CASE(swapped_weights_accuse_nobody),
        CASE(an_altered_submission_accuses_nobody),
        CASE(an_altered_manifest_accuses_nobody),
        CASE(pieces_in_each_others_place_accuse_nobody),
        CASE(a_manifest_of_another_run_accuses_nobody),
        CASE(a_manifest_of_another_version_accuses_nobody),
        CASE(another_tasks_bundle_accuses_nobody),
    };
    return cmocka_run_group_tests_name("rollout/evidence", tests, NULL, NULL);
}
