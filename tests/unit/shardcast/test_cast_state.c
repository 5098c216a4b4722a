/*
 * cast_state: one machine, and a test that plays its neighbours
 */
#include "shardcast/cast_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "support/test.h"
#include "versions.h"

#define LINK_A 11u /* to the trainer, node 0 */
#define LINK_B 12u /* to node 2 */

struct fixture {
    struct node_key *key[3]; /* trainer, this node, another */
    struct digest run;
    struct msg_roster *roster;
    struct cast_state *s;
    struct cast_out out;
    int64_t now_ms;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct cast_state_options o = {.keep = 3};

    memset(f->run.b, 5, sizeof(f->run.b));
    f->roster = xcalloc(1, sizeof(*f->roster));
    f->roster->n = 3;
    for (uint32_t i = 0; i < 3; i++) {
        f->key[i] = versions_key(i);
        f->roster->entry[i].node = f->key[i]->node;
        f->roster->entry[i].transport = f->key[i]->transport;
        f->roster->entry[i].role = i ? ROLE_INFERENCE : ROLE_TRAINER;
        snprintf(f->roster->entry[i].endpoint, 128, "tcp://10.0.0.%u:1", i);
    }
    o.self = f->key[1]->transport;
    cast_state_new(&f->s, &o);
    cast_state_set_run(f->s, &f->run, &f->key[0]->node, 0, &f->out);
    cast_state_set_roster(f->s, f->roster, 0, &f->out);
    cast_state_linked(f->s, &f->key[0]->transport, LINK_A, 0, &f->out);
    cast_state_linked(f->s, &f->key[2]->transport, LINK_B, 0, &f->out);
    cast_out_clear(&f->out);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    cast_out_clear(&f->out);
    cast_state_free(&f->s);
    for (uint32_t i = 0; i < 3; i++)
        key_free(&f->key[i]);
    free(f->roster);
    free(f);
    return 0;
}

/* ---- playing the neighbours -------------------------------------------------------------- */

static void say(struct fixture *f, uint64_t link, enum msg_kind kind, const struct buf *body)
{
    const struct node_key *from = f->key[link == LINK_A ? 0 : 2];
    struct idem idem = {{3}};
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(&envelope, kind, &f->run, &idem, buf_bytes(body), NULL, NULL),
              NULL);
    cast_state_message(f->s, link, &from->transport, buf_bytes(&envelope), f->now_ms, &f->out);
    buf_clear(&envelope);
}

static void say_head(struct fixture *f, uint64_t link, const struct version_made *v)
{
    struct msg_head m = {.manifest = buf_bytes(&v->envelope)};
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_head_encode(&body, &m, NULL), NULL);
    say(f, link, MSG_HEAD, &body);
    buf_clear(&body);
}

static void say_have_all(struct fixture *f, uint64_t link, const struct version_made *v)
{
    uint8_t all[16];
    struct msg_have m = {.weights = v->weights, .bitmap = {all, (version_n_shards(v) + 7) / 8}};
    struct buf body;

    memset(all, 0xff, sizeof(all));
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_have_encode(&body, &m, NULL), NULL);
    say(f, link, MSG_HAVE, &body);
    buf_clear(&body);
}

static void say_shard(struct fixture *f, uint64_t link, const struct digest *d,
                      struct bytes data)
{
    struct msg_shard m = {.shard = *d, .data = data};
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_shard_encode(&body, &m, NULL), NULL);
    say(f, link, MSG_SHARD, &body);
    buf_clear(&body);
}

static void say_shard_ask(struct fixture *f, uint64_t link, const struct digest *d)
{
    struct msg_shard_ask m = {.shard = *d};
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_shard_ask_encode(&body, &m, NULL), NULL);
    say(f, link, MSG_SHARD_ASK, &body);
    buf_clear(&body);
}

static size_t count(const struct fixture *f, enum cast_act_kind kind)
{
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++)
        n += f->out.v[i].kind == kind;
    return n;
}

/* How many messages of a kind were sent by a link (0: any). */
static size_t count_sent(const struct fixture *f, uint64_t link, enum msg_kind kind)
{
    struct msg_envelope env;
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++) {
        const struct cast_act *a = &f->out.v[i];
        if (a->kind != CAST_SEND || (link && a->link != link))
            continue;
        assert_ok(msg_envelope_decode(&env, a->value, NULL), NULL);
        n += env.kind == kind;
    }
    return n;
}

static void make(struct fixture *f, struct version_made *v, int64_t number, size_t n_bytes)
{
    version_make(v, f->key[0], &f->run, number, n_bytes, 0);
}

static void feed_whole(struct fixture *f, const struct version_made *v)
{
    say_head(f, LINK_A, v);
    say_have_all(f, LINK_A, v);
    for (size_t i = 0; i < version_n_shards(v); i++) {
        struct digest d = version_digest(v, i);
        say_shard(f, LINK_A, &d, version_shard(v, i));
    }
}

/* ---- tests ------------------------------------------------------------------------------- */

static void a_new_version_is_kept_passed_on_and_pulled(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);

    say_head(f, LINK_A, &v);
    assert_int_equal(count(f, CAST_KEEP), 1);
    assert_int_equal(count_sent(f, LINK_B, MSG_HEAD), 1);
    assert_int_equal(count_sent(f, LINK_A, MSG_HEAD), 0);
    assert_int_equal(count_sent(f, LINK_A, MSG_HAVE_ASK), 1);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), 1);
    struct digest d = version_digest(&v, 0);
    say_shard(f, LINK_A, &d, version_shard(&v, 0));

    assert_int_equal(count(f, CAST_STORE), 1);
    assert_int_equal(count(f, CAST_COMPLETE), 1);
    assert_int_equal(cast_state_newest(f->s), 0);
    version_clear(&v);
}

static void manifests_of_other_signers_and_runs_are_ignored(void **state)
{
    struct fixture *f = *state;
    struct digest other_run = {{99}};
    struct version_made v, w;
    version_make(&v, f->key[2], &f->run, 0, 1000, 0);
    version_make(&w, f->key[0], &other_run, 0, 1000, 0);

    say_head(f, LINK_A, &v);
    say_head(f, LINK_A, &w);

    assert_int_equal(count(f, CAST_KEEP), 0);
    assert_int_equal(cast_state_counters(f->s).refused_manifests, 2);
    version_clear(&v);
    version_clear(&w);
}

static void a_manifest_changed_in_one_byte_is_ignored(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);

    for (size_t i = 0; i < v.envelope.len; i += 7) {
        v.envelope.data[i] ^= 1;
        say_head(f, LINK_A, &v);
        v.envelope.data[i] ^= 1;
    }

    assert_int_equal(count(f, CAST_KEEP), 0);
    version_clear(&v);
}

static void messages_of_strangers_are_ignored(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    f->roster->entry[0].is_revoked = true;
    cast_state_set_roster(f->s, f->roster, 1, &f->out);

    say_head(f, LINK_A, &v);

    assert_int_equal(count(f, CAST_KEEP), 0);
    assert_int_equal(count(f, CAST_HANG_UP), 1);
    version_clear(&v);
}

static void a_wrong_shard_bans_its_sender_and_is_asked_of_another(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    struct digest d = version_digest(&v, 0);
    say_head(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);

    say_shard(f, LINK_B, &d, BYTES_LIT("garbage"));
    say_have_all(f, LINK_B, &v);
    assert_int_equal(count(f, CAST_BANNED), 1);
    assert_int_equal(count(f, CAST_STORE), 0);
    assert_int_equal(count_sent(f, LINK_B, MSG_SHARD_ASK), 1); /* the one before the ban */
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), 1);
    say_shard(f, LINK_A, &d, version_shard(&v, 0));

    assert_true(cast_state_is_complete(f->s, 0));
    version_clear(&v);
}

static void two_contents_of_a_version_become_a_proof(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);

    say_head(f, LINK_A, &v);
    say_head(f, LINK_B, &w);
    say_head(f, LINK_B, &w);

    assert_int_equal(count(f, CAST_EQUIVOCATED), 1);
    assert_int_equal(count(f, CAST_KEEP), 1);
    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_EQUIVOCATED) {
            struct reader r = reader_of(f->out.v[i].value);
            struct msg_envelope env;
            struct msg_manifest m;
            for (int k = 0; k < 2; k++)
                assert_ok(cast_manifest_check(reader_blob(&r), &f->run, &f->key[0]->node, &env,
                                              &m, NULL),
                          NULL);
            assert_int_equal(reader_left(&r), 0);
        }
    version_clear(&v);
    version_clear(&w);
}

static void a_peer_has_at_most_a_window_of_questions(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 9 * SHARD_BYTES);

    say_head(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), CAST_WINDOW);
    say_have_all(f, LINK_B, &v);

    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), CAST_WINDOW);
    assert_int_equal(count_sent(f, LINK_B, MSG_SHARD_ASK), CAST_WINDOW);
    version_clear(&v);
}

static void an_unanswered_question_goes_to_another_peer(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    say_head(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), 0);

    f->now_ms = 1100;
    cast_state_tick(f->s, f->now_ms, &f->out);

    assert_int_equal(count_sent(f, LINK_B, MSG_SHARD_ASK), 1);
    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), 1);
    version_clear(&v);
}

static void only_what_is_here_is_served(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    struct digest d = version_digest(&v, 0);

    say_head(f, LINK_A, &v);
    say_shard_ask(f, LINK_B, &d);
    assert_int_equal(count(f, CAST_SERVE), 0);
    assert_int_equal(count_sent(f, LINK_B, MSG_SHARD), 1);
    feed_whole(f, &v);
    say_shard_ask(f, LINK_B, &d);

    assert_int_equal(count(f, CAST_SERVE), 1);
    version_clear(&v);
}

static void a_hint_asks_for_the_manifest_at_once_and_again(void **state)
{
    struct fixture *f = *state;
    size_t before = count_sent(f, 0, MSG_MANIFEST_ASK);

    cast_state_hint(f->s, 7, 10, &f->out);
    assert_int_equal(count_sent(f, 0, MSG_MANIFEST_ASK), before + 1);
    size_t at_a = count_sent(f, LINK_A, MSG_MANIFEST_ASK);
    cast_state_tick(f->s, 61, &f->out);

    assert_true(count_sent(f, 0, MSG_MANIFEST_ASK) > before + 1);
    assert_true(at_a >= 1); /* the trainer was the first to be asked */
}

static void old_versions_are_forgotten_except_pinned_ones(void **state)
{
    struct fixture *f = *state;
    struct version_made v[6];

    cast_state_pin(f->s, 1, 0, &f->out);
    for (int64_t i = 0; i < 6; i++) {
        make(f, &v[i], i, 1000);
        feed_whole(f, &v[i]);
    }

    for (int64_t i = 0; i < 6; i++)
        assert_int_equal(cast_state_is_complete(f->s, i), i == 1 || i >= 3);
    assert_int_equal(cast_state_newest(f->s), 5);
    assert_int_equal(cast_state_oldest(f->s), 3);
    cast_state_unpin(f->s, 1, 0, &f->out);
    assert_false(cast_state_is_complete(f->s, 1));
    for (int64_t i = 0; i < 6; i++)
        version_clear(&v[i]);
}

/* How often the manifest of one version was asked for. */
static size_t count_asked(const struct fixture *f, int64_t version)
{
    struct msg_envelope env;
    struct msg_manifest_ask m;
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++) {
        if (f->out.v[i].kind != CAST_SEND)
            continue;
        assert_ok(msg_envelope_decode(&env, f->out.v[i].value, NULL), NULL);
        if (env.kind != MSG_MANIFEST_ASK)
            continue;
        assert_ok(msg_manifest_ask_decode(&m, env.body, NULL), NULL);
        n += m.version == version;
    }
    return n;
}

static void keeping_more_asks_for_the_older_ones(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 9, 1000);
    feed_whole(f, &v);
    cast_state_tick(f->s, 200, &f->out);
    for (int64_t i = 0; i < 10; i++) /* keep is 3 */
        assert_int_equal(count_asked(f, i) > 0, i == 8 || i == 7);

    cast_state_set_keep(f->s, 6, 300, &f->out);
    cast_state_tick(f->s, 400, &f->out);

    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(count_asked(f, i) > 0, i >= 4 && i <= 8);
    version_clear(&v);
}

static void forgetting_spares_shards_that_others_need(void **state)
{
    struct fixture *f = *state;
    struct version_made v[5]; /* one content under five numbers, as empty batches make it */
    size_t n_forgotten = 0;

    make(f, &v[0], 0, 1000);
    for (int64_t i = 1; i < 5; i++)
        version_make_like(&v[i], f->key[0], &f->run, i, &v[0]);
    feed_whole(f, &v[0]);
    for (int64_t i = 1; i < 5; i++)
        say_head(f, LINK_A, &v[i]);

    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_FORGET) {
            n_forgotten++;
            assert_int_equal(f->out.v[i].value.len, 0);
        }
    assert_int_equal(n_forgotten, 2);
    assert_int_equal(cast_state_newest(f->s), 4); /* and nothing had to be fetched for it */
    assert_int_equal(count(f, CAST_STORE), 1);
    for (int64_t i = 0; i < 5; i++)
        version_clear(&v[i]);
}

static void forgetting_lists_shards_that_nobody_needs(void **state)
{
    struct fixture *f = *state;
    struct version_made v[4];

    for (int64_t i = 0; i < 4; i++) {
        make(f, &v[i], i, SHARD_BYTES + 1000);
        feed_whole(f, &v[i]);
    }

    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_FORGET) {
            assert_int_equal(f->out.v[i].version, 0);
            assert_int_equal(f->out.v[i].value.len, 2 * DIGEST_BYTES);
        }
    assert_int_equal(count(f, CAST_FORGET), 1);
    for (int64_t i = 0; i < 4; i++)
        version_clear(&v[i]);
}

static void a_lost_shard_is_missing_again(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    struct digest d = version_digest(&v, 0);
    feed_whole(f, &v);
    assert_true(cast_state_is_complete(f->s, 0));

    cast_state_lost(f->s, &d, 0);
    assert_false(cast_state_is_complete(f->s, 0));
    cast_out_clear(&f->out);
    say_have_all(f, LINK_A, &v);

    assert_int_equal(count_sent(f, LINK_A, MSG_SHARD_ASK), 1);
    version_clear(&v);
}

static void rubbish_is_counted_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    static const uint8_t rubbish[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3};

    for (size_t n = 0; n <= sizeof(rubbish); n++)
        cast_state_message(f->s, LINK_A, &f->key[0]->transport, (struct bytes){rubbish, n}, 1,
                           &f->out);

    assert_int_equal(cast_state_counters(f->s).malformed, sizeof(rubbish) + 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_version_is_kept_passed_on_and_pulled),
        TEST(manifests_of_other_signers_and_runs_are_ignored),
        TEST(a_manifest_changed_in_one_byte_is_ignored),
        TEST(messages_of_strangers_are_ignored),
        TEST(a_wrong_shard_bans_its_sender_and_is_asked_of_another),
        TEST(two_contents_of_a_version_become_a_proof),
        TEST(a_peer_has_at_most_a_window_of_questions),
        TEST(an_unanswered_question_goes_to_another_peer),
        TEST(only_what_is_here_is_served),
        TEST(a_hint_asks_for_the_manifest_at_once_and_again),
        TEST(old_versions_are_forgotten_except_pinned_ones),
        TEST(keeping_more_asks_for_the_older_ones),
        TEST(forgetting_spares_shards_that_others_need),
        TEST(forgetting_lists_shards_that_nobody_needs),
        TEST(a_lost_shard_is_missing_again),
        TEST(rubbish_is_counted_and_changes_nothing),
    };
    return cmocka_run_group_tests_name("shardcast/cast_state", tests, NULL, NULL);
}
