/* replay/dispute_state: what a validator says of a version that it has recomputed. */
#include "replay/dispute_state.h"

#include <string.h>

#include "proto/content.h"
#include "proto/digest.h"
#include "replay/dispute_jobs.h"
#include "support/orders.h"
#include "support/test.h"

enum what { WEIGHTS, MASTERS, OPTIMIZER, MASTERS_BEFORE, OPTIMIZER_BEFORE, N_ROOTS };

struct fixture {
    struct orders o;
    struct dispute_state *s;
    struct buf manifest; /* the PUBLISH envelope of version 1: root i is all i + 1 */
    struct buf first;    /* of version 0, likewise */
};

static struct digest root_of(enum what i)
{
    struct digest d;

    memset(d.b, (int)i + 1, sizeof(d.b));
    return d;
}

static void publish(struct fixture *f, struct buf *out, int64_t version)
{
    const struct idem idem = {{1}};
    struct msg_manifest m = {.content = content_full(version),
                             .file_bytes = 1,
                             .shard_bytes = 1,
                             .n_shards = 1,
                             .weights = root_of(WEIGHTS),
                             .masters_after = root_of(MASTERS),
                             .optimizer_after = root_of(OPTIMIZER),
                             .masters_before = root_of(MASTERS_BEFORE),
                             .optimizer_before = root_of(OPTIMIZER_BEFORE),
                             .numerics = "f32-1"};
    struct buf body;
    struct err e;

    buf_init(out, 1u << 16);
    buf_init(&body, 1u << 16);
    assert_ok(msg_manifest_encode(&body, &m, &e), &e);
    assert_ok(msg_envelope_encode(out, MSG_PUBLISH, &f->o.run, &idem, buf_bytes(&body),
                                  f->o.server->node_secret, &e),
              &e);
    buf_clear(&body);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct dispute_state_options opt = {.boot = 1, .is_validator = true};

    orders_init(&f->o, 3);
    opt.key = f->o.key;
    dispute_state_new(&f->s, &opt);
    publish(f, &f->manifest, 1);
    publish(f, &f->first, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dispute_state_free(&f->s);
    buf_clear(&f->manifest);
    buf_clear(&f->first);
    orders_clear(&f->o);
    test_free(f);
    return 0;
}

static void answer(struct fixture *f, const struct msg_envelope *asked, enum msg_kind kind)
{
    struct bytes data = orders_answer(&f->o, asked, kind, buf_bytes(&f->o.body));

    orders_forget(&f->o);
    assert_true(dispute_state_message(f->s, data, 0, &f->o.out));
}

static void give_audit_of(struct fixture *f, int64_t version, bool is_wanted)
{
    const struct msg_audit m = {.version = version,
                                .manifest = buf_bytes(version ? &f->manifest : &f->first),
                                .is_wanted = is_wanted};
    struct msg_envelope asked = orders_get(&f->o, MSG_AUDIT_ASK, 0);

    buf_reset(&f->o.body);
    assert_ok(msg_audit_encode(&f->o.body, &m, NULL), NULL);
    answer(f, &asked, MSG_AUDIT);
}

static void give_audit(struct fixture *f, bool is_wanted)
{
    give_audit_of(f, 1, is_wanted);
}

/* What a version came to: the roots of the manifest, but for one bit of each of `others`. */
static void put_roots(struct buf *result, int64_t version, unsigned others)
{
    buf_put_u64(result, (uint64_t)version);
    for (unsigned i = 0; i < N_ROOTS; i++) {
        struct digest d = root_of((enum what)i);

        d.b[9] ^= (uint8_t)(others >> i & 1);
        buf_append(result, BYTES_OF(d.b));
    }
}

static void end_job(struct fixture *f, uint32_t job, uint64_t number, const struct buf *result)
{
    orders_forget(&f->o);
    dispute_state_job(f->s, job, number, OK, buf_bytes(result), NULL, 0, &f->o.out);
}

/* The job that makes version 0, `parts` times; the last gives it. */
static void make_first(struct fixture *f, uint64_t number, unsigned parts, unsigned others)
{
    struct buf result;

    buf_init(&result, 1024);
    for (unsigned i = 0; i < parts; i++) {
        const struct effect *job = orders_job(&f->o);

        assert_non_null(job);
        assert_int_equal(job->job, DISPUTE_JOB_FIRST);
        buf_reset(&result);
        buf_put_u8(&result, i + 1 == parts);
        if (i + 1 == parts)
            put_roots(&result, 0, others);
        end_job(f, DISPUTE_JOB_FIRST, number + i, &result);
    }
    buf_clear(&result);
}

/* Version 1 is its to recompute, from version 0; the step gives the roots of the manifest, but
 * for one bit of each of `others`. */
static void recompute(struct fixture *f, unsigned others)
{
    const struct msg_batch batch = {.batch = 0, .root = {{1}}};
    const struct effect *job;
    struct msg_envelope asked;
    struct buf result;

    buf_init(&result, 1024);
    orders_forget(&f->o);
    dispute_state_ready(f->s, ORDERS_PEER, &f->o.run, true, 0, &f->o.out);
    give_audit(f, true);
    job = orders_job(&f->o);
    assert_non_null(job);
    buf_put_u64(&result, 0);
    end_job(f, DISPUTE_JOB_SEEK, 1, &result);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    give_audit(f, false);
    buf_reset(&f->o.body);
    assert_ok(msg_batch_encode(&f->o.body, &batch, NULL), NULL);
    answer(f, &asked, MSG_BATCH);
    assert_non_null(orders_job(&f->o));
    buf_reset(&result);
    put_roots(&result, 1, others);
    end_job(f, DISPUTE_JOB_STEP, 2, &result);
    buf_clear(&result);
}

static struct msg_step_verdict verdict_on(struct fixture *f, int64_t version)
{
    struct msg_envelope said = orders_get(&f->o, MSG_STEP_VERDICT, 0);
    struct msg_step_verdict m;

    assert_ok(msg_step_verdict_decode(&m, said.body, NULL), NULL);
    assert_int_equal(m.version, version);
    return m;
}

static struct msg_step_verdict verdict(struct fixture *f)
{
    return verdict_on(f, 1);
}

static void what_is_the_same_is_right(void **state)
{
    struct fixture *f = *state;

    recompute(f, 0);
    assert_true(verdict(f).is_accepted);
}

static void other_masters_are_challenged(void **state)
{
    struct fixture *f = *state;

    recompute(f, 1u << WEIGHTS | 1u << MASTERS);
    assert_false(verdict(f).is_accepted);
}

static void other_moments_are_challenged(void **state)
{
    struct fixture *f = *state;

    recompute(f, 1u << OPTIMIZER);
    assert_false(verdict(f).is_accepted);
}

/* The verdict was not taken; the version is asked for again. */
static void refuse_verdict(struct fixture *f)
{
    struct msg_envelope said;
    struct bytes data;

    said = orders_get(&f->o, MSG_STEP_VERDICT, 0);
    data = orders_receipt(&f->o, &said, false, REASON_DUPLICATE);
    orders_forget(&f->o);
    assert_true(dispute_state_message(f->s, data, 0, &f->o.out));
    assert_int_equal(orders_sent(&f->o, MSG_AUDIT_ASK), 0);
    orders_forget(&f->o);
    dispute_state_tick(f->s, 6000, &f->o.out);
    give_audit(f, true);
    assert_null(orders_job(&f->o));
}

/* While another dispute is open: it is said again, and not computed again. */
static void a_challenge_that_is_not_taken_waits_and_is_said_again(void **state)
{
    struct fixture *f = *state;

    recompute(f, 1u << WEIGHTS | 1u << MASTERS);
    refuse_verdict(f);
    assert_false(verdict(f).is_accepted);
}

/* A challenge would cost the bond: the trainer's trace follows from what it signed. */
static void nothing_is_challenged_that_no_game_is_about(struct fixture *f, unsigned others,
                                                        const char *why)
{
    recompute(f, others);
    assert_int_equal(orders_sent(&f->o, MSG_STEP_VERDICT), 0);
    assert_contains(dispute_state_why(f->s), why);
}

/* Masters and moments are right, and the file is not: that is shown, not played for. */
static void a_file_alone_is_challenged_with_a_proof(void **state)
{
    struct fixture *f = *state;
    const struct effect *job;
    struct msg_step_verdict m;
    struct buf proof;

    recompute(f, 1u << WEIGHTS);
    assert_int_equal(orders_sent(&f->o, MSG_STEP_VERDICT), 0);
    assert_int_equal(dispute_state_needs(f->s), 1);
    job = orders_job(&f->o);
    assert_non_null(job);
    assert_int_equal(job->job, DISPUTE_JOB_PROVE);
    assert_true(bytes_equal(job->value, buf_bytes(&f->manifest)));
    buf_init(&proof, 64);
    buf_append(&proof, BYTES_LIT("a shard and a tile"));
    end_job(f, DISPUTE_JOB_PROVE, 3, &proof);
    m = verdict(f);
    assert_false(m.is_accepted);
    assert_true(bytes_equal(m.proof, buf_bytes(&proof)));
    refuse_verdict(f);
    assert_true(
        bytes_equal(verdict(f).proof, buf_bytes(&proof))); /* said again, not made again */
    buf_clear(&proof);
}

/* The file is gone: it can say nothing, and does not say that the version is right. */
static void a_file_that_is_not_here_is_not_challenged(void **state)
{
    struct fixture *f = *state;

    recompute(f, 1u << WEIGHTS);
    orders_forget(&f->o);
    dispute_state_job(f->s, DISPUTE_JOB_PROVE, 3, ERR_NOT_FOUND, (struct bytes){NULL, 0}, NULL,
                      0, &f->o.out);
    assert_int_equal(orders_sent(&f->o, MSG_STEP_VERDICT), 0);
    assert_null(orders_job(&f->o));
    assert_int_equal(dispute_state_needs(f->s), -1);
}

static void what_follows_from_another_state_is_not_challenged(void **state)
{
    nothing_is_challenged_that_no_game_is_about(
        *state, 1u << WEIGHTS | 1u << MASTERS | 1u << MASTERS_BEFORE, "another state");
}

static void what_follows_from_other_moments_is_not_challenged(void **state)
{
    nothing_is_challenged_that_no_game_is_about(
        *state, 1u << OPTIMIZER | 1u << OPTIMIZER_BEFORE, "another state");
}

static void recompute_first(struct fixture *f, unsigned others)
{
    orders_forget(&f->o);
    dispute_state_ready(f->s, ORDERS_PEER, &f->o.run, true, 0, &f->o.out);
    give_audit_of(f, 0, true);
    make_first(f, 1, 3, others);
}

/* What the states before and after it are is not in the verdict's way: nothing is before it. */
static void version_0_is_made_from_the_task(void **state)
{
    struct fixture *f = *state;

    recompute_first(f, 1u << MASTERS_BEFORE);
    assert_true(verdict_on(f, 0).is_accepted);
}

static void roots_of_version_0_are_challenged(void **state)
{
    struct fixture *f = *state;

    recompute_first(f, 1u << OPTIMIZER);
    assert_false(verdict_on(f, 0).is_accepted);
}

static void a_file_of_version_0_is_challenged(void **state)
{
    struct fixture *f = *state;

    recompute_first(f, 1u << WEIGHTS);
    assert_false(verdict_on(f, 0).is_accepted);
}

/* Nobody has asked it to: what version 1 begins with is not what was published as version 0. */
static void who_finds_another_state_before_version_1_makes_version_0(void **state)
{
    struct fixture *f = *state;

    recompute(f, 1u << MASTERS | 1u << MASTERS_BEFORE);
    orders_forget(&f->o);
    dispute_state_tick(f->s, 1000, &f->o.out);
    give_audit_of(f, 0, false);
    make_first(f, 3, 1, 1u << MASTERS);
    assert_false(verdict_on(f, 0).is_accepted);
}

/* Version 0 cannot be had: other versions are looked at, and not that for ever. */
static void who_is_not_given_version_0_asks_for_others(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait none = {.code = REASON_NO_WORK, .retry_ms = 300};
    struct msg_audit_ask ask;
    struct msg_envelope asked;
    struct bytes data;

    recompute(f, 1u << MASTERS | 1u << MASTERS_BEFORE);
    orders_forget(&f->o);
    dispute_state_tick(f->s, 1000, &f->o.out);
    asked = orders_get(&f->o, MSG_AUDIT_ASK, 0);
    assert_ok(msg_audit_ask_decode(&ask, asked.body, NULL), NULL);
    assert_int_equal(ask.version, 0);
    data = orders_wait(&f->o, &asked, &none);
    orders_forget(&f->o);
    assert_true(dispute_state_message(f->s, data, 1000, &f->o.out));
    orders_forget(&f->o);
    dispute_state_tick(f->s, 100000, &f->o.out);
    asked = orders_get(&f->o, MSG_AUDIT_ASK, 0);
    assert_ok(msg_audit_ask_decode(&ask, asked.body, NULL), NULL);
    assert_int_equal(ask.version, -1);
}

/* An orchestrator may be away for long: whoever waits for it sleeps. */
static void while_nobody_answers_it_sleeps(void **state)
{
    struct fixture *f = *state;
    int64_t now = 0;

    dispute_state_ready(f->s, ORDERS_PEER, &f->o.run, true, now, &f->o.out);
    for (int i = 0; i < 50; i++) {
        assert_true(orders_timer(&f->o) > now && orders_timer(&f->o) != INT64_MAX);
        now = orders_timer(&f->o);
        orders_forget(&f->o);
        dispute_state_tick(f->s, now, &f->o.out);
    }
}

/* A dispute without moves is nothing to play. */
static void who_is_told_of_a_dispute_that_is_over_does_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_dispute_state m = {.dispute = {{1}},
                                  .challenger = f->o.key->node,
                                  .manifest = buf_bytes(&f->first),
                                  .is_over = true};

    dispute_state_ready(f->s, ORDERS_PEER, &f->o.run, false, 0, &f->o.out);
    asked = orders_get(&f->o, MSG_DISPUTE_ASK, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_dispute_state_encode(&f->o.body, &m, NULL), NULL);
    answer(f, &asked, MSG_DISPUTE_STATE);
    assert_null(orders_job(&f->o));
}

/* That the orchestrator has no time for the question does not end the dispute; that there is none does. */
static void a_party_that_is_to_wait_stays_in_its_dispute(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait busy = {.code = REASON_BUSY, .retry_ms = 300},
                          closed = {.code = REASON_NO_WORK, .retry_ms = 300};
    struct msg_envelope asked;
    struct msg_dispute_state m = {.dispute = {{1}},
                                  .version = 1,
                                  .challenger = f->o.key->node,
                                  .manifest = buf_bytes(&f->manifest)};
    struct msg_dispute_ask ask;
    struct bytes data;

    dispute_state_ready(f->s, ORDERS_PEER, &f->o.run, false, 0, &f->o.out);
    asked = orders_get(&f->o, MSG_DISPUTE_ASK, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_dispute_state_encode(&f->o.body, &m, NULL), NULL);
    answer(f, &asked, MSG_DISPUTE_STATE); /* it begins to go to version 0 */
    orders_forget(&f->o);
    dispute_state_job(f->s, DISPUTE_JOB_SEEK, 1, ERR_IO, (struct bytes){NULL, 0}, NULL, 0,
                      &f->o.out); /* and is idle for a while */
    for (int i = 0; i < 2; i++) {
        orders_forget(&f->o);
        dispute_state_tick(f->s, 1000 + 400 * i, &f->o.out);
        asked = orders_get(&f->o, MSG_DISPUTE_ASK, 0);
        assert_ok(msg_dispute_ask_decode(&ask, asked.body, NULL), NULL);
        assert_true(digest_equal(&ask.dispute, &m.dispute)); /* also after it was to wait */
        data = orders_wait(&f->o, &asked, i ? &closed : &busy);
        assert_true(dispute_state_message(f->s, data, 1000 + 400 * i, &f->o.out));
    }
    orders_forget(&f->o);
    dispute_state_tick(f->s, 9000, &f->o.out);
    asked = orders_get(&f->o, MSG_DISPUTE_ASK, 0);
    assert_ok(msg_dispute_ask_decode(&ask, asked.body, NULL), NULL);
    assert_true(digest_is_zero(&ask.dispute));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_the_same_is_right),
        TEST(other_masters_are_challenged),
        TEST(other_moments_are_challenged),
        TEST(a_challenge_that_is_not_taken_waits_and_is_said_again),
        TEST(a_file_alone_is_challenged_with_a_proof),
        TEST(a_file_that_is_not_here_is_not_challenged),
        TEST(what_follows_from_another_state_is_not_challenged),
        TEST(what_follows_from_other_moments_is_not_challenged),
        TEST(version_0_is_made_from_the_task),
        TEST(roots_of_version_0_are_challenged),
        TEST(a_file_of_version_0_is_challenged),
        TEST(who_finds_another_state_before_version_1_makes_version_0),
        TEST(who_is_not_given_version_0_asks_for_others),
        TEST(while_nobody_answers_it_sleeps),
        TEST(who_is_told_of_a_dispute_that_is_over_does_nothing),
        TEST(a_party_that_is_to_wait_stays_in_its_dispute),
    };

    return cmocka_run_group_tests_name("replay/dispute_state", tests, NULL, NULL);
}
