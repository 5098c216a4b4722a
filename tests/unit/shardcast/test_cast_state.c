/*
 * cast_state: contents, what is asked and served, and who is not believed
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "support/test.h"
#include "unit/shardcast/neighbours.h"

static void a_new_version_is_kept_passed_on_and_pulled(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);

    say_signed(f, LINK_A, &v);
    assert_int_equal(count(f, CAST_KEEP), 2);
    assert_int_equal(count_sent(f, LINK_B, MSG_SEGMENT), 1);
    assert_int_equal(count_sent(f, LINK_B, MSG_PUBLISH), 1);
    assert_int_equal(count_sent(f, LINK_A, MSG_PUBLISH), 0);
    assert_int_equal(count_sent(f, LINK_A, MSG_HAVE_ASK), 1);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 1);
    say_shard(f, LINK_A, &v, 0, version_shard(&v, 0));

    assert_int_equal(count(f, CAST_STORE), 1);
    assert_int_equal(count(f, CAST_COMPLETE), 1);
    assert_int_equal(cast_state_newest(f->s), 0);
    version_clear(&v);
}

static void what_others_sign_and_other_runs_are_refused(void **state)
{
    struct fixture *f = *state;
    struct digest other_run = {{99}};
    struct version_made v, w;
    version_make(&v, f->key[2], &f->run, 0, 1000, 0);
    version_make(&w, f->key[0], &other_run, 0, 1000, 0);

    say_signed(f, LINK_A, &v);
    say_signed(f, LINK_A, &w);

    assert_int_equal(count(f, CAST_KEEP), 0);
    assert_int_equal(cast_state_counters(f->s).refused, 2);
    assert_int_equal(cast_state_counters(f->s).malformed, 2); /* their envelopes name the run */
    version_clear(&v);
    version_clear(&w);
}

static void a_signed_message_changed_in_one_byte_is_ignored(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    struct buf *signed_too[] = {&v.envelope, &v.segment[0]};

    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < signed_too[k]->len; i += 7) {
            signed_too[k]->data[i] ^= 1;
            say_raw(f, LINK_A, buf_bytes(signed_too[k]));
            signed_too[k]->data[i] ^= 1;
        }

    assert_int_equal(count(f, CAST_KEEP), 0);
    version_clear(&v);
}

/* What was signed, with another signature than its own: that of `other`. */
static void forge(struct buf *out, const struct buf *envelope, const struct buf *other)
{
    struct msg_envelope a, b;

    assert_ok(msg_envelope_decode(&a, buf_bytes(envelope), NULL), NULL);
    assert_ok(msg_envelope_decode(&b, buf_bytes(other), NULL), NULL);
    buf_reset(out);
    buf_append(out, buf_bytes(envelope));
    for (size_t i = 0; i + sizeof(a.sig) <= out->len; i++)
        if (!memcmp(out->data + i, &a.sig, sizeof(a.sig)))
            memcpy(out->data + i, &b.sig, sizeof(b.sig));
}

static void who_passes_on_a_forged_signature_is_named_and_banned(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    struct buf forged;
    make(f, &v, 0, 1000);
    make(f, &w, 1, 1000);
    buf_init(&forged, MSG_MAX_BYTES);

    forge(&forged, &v.envelope, &w.envelope);
    say_raw(f, LINK_B, buf_bytes(&forged));
    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_B, &v);

    assert_int_equal(count(f, CAST_BANNED), 1);
    assert_int_equal(count(f, CAST_REFUSED), 1);
    assert_int_equal(count(f, CAST_KEEP), 2); /* the real one, of the other neighbour */
    assert_int_equal(count_asked_of(f, LINK_B), 0);
    buf_clear(&forged);
    version_clear(&v);
    version_clear(&w);
}

static void who_passes_on_what_another_signed_is_named_now_and_then(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    version_make(&v, f->key[2], &f->run, 0, 1000, 0);

    for (int i = 0; i < 9; i++)
        say_raw(f, LINK_B, buf_bytes(&v.envelope));

    assert_int_equal(cast_state_counters(f->s).refused, 9);
    assert_int_equal(count(f, CAST_REFUSED), 4); /* 1, 2, 4, 8 */
    assert_int_equal(count(f, CAST_BANNED), 0);
    version_clear(&v);
}

static void messages_of_strangers_are_ignored(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    cast_state_part(f->s, &f->key[0]->transport, 1, &f->out);

    say_signed(f, LINK_A, &v);

    assert_int_equal(count(f, CAST_KEEP), 0);
    version_clear(&v);
}

static void a_wrong_shard_bans_its_sender_and_is_asked_of_another(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    say_signed(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);

    say_shard(f, LINK_B, &v, 0, BYTES_LIT("garbage"));
    say_have_all(f, LINK_B, &v);
    assert_int_equal(count(f, CAST_BANNED), 1);
    assert_int_equal(count(f, CAST_STORE), 0);
    assert_int_equal(count_asked_of(f, LINK_B), 1); /* the one before the ban */
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 1);
    say_shard(f, LINK_A, &v, 0, version_shard(&v, 0));

    assert_true(is_complete(f, 0));
    version_clear(&v);
}

static void a_shard_of_another_place_is_wrong_too(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 200000);
    say_signed(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);

    say_shard(f, LINK_B, &v, 0, version_shard(&v, 1));

    assert_int_equal(count(f, CAST_BANNED), 1);
    version_clear(&v);
}

static void a_shard_before_its_leaf_is_neither_stored_nor_blamed(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);

    say_raw(f, LINK_A, buf_bytes(&v.envelope)); /* but not the segment */
    say_shard(f, LINK_A, &v, 0, version_shard(&v, 0));

    assert_int_equal(count(f, CAST_STORE), 0);
    assert_int_equal(count(f, CAST_BANNED), 0);
    version_clear(&v);
}

static void who_has_not_what_it_claims_is_banned_after_three(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 400000);
    say_signed(f, LINK_B, &v);

    say_have_all(f, LINK_B, &v);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(count(f, CAST_BANNED), 0);
        say_shard(f, LINK_B, &v, nth_asked(f, LINK_B, i), (struct bytes){0});
    }

    assert_int_equal(count(f, CAST_BANNED), 1);
    assert_int_equal(cast_state_counters(f->s).lies, 3);
    version_clear(&v);
}

/* Both envelopes prove it to anybody who knows run and trainer, in either order. */
static void check_proof(struct fixture *f, struct bytes both)
{
    struct reader r = reader_of(both);
    struct bytes first = reader_blob(&r), second = reader_blob(&r);
    struct content about;

    assert_int_equal(reader_left(&r), 0);
    assert_ok(cast_proof_check(first, second, &f->run, &f->key[0]->node, &about, NULL), NULL);
    assert_ok(cast_proof_check(second, first, &f->run, &f->key[0]->node, &about, NULL), NULL);
    assert_int_equal(about.version, 4);
    assert_status(cast_proof_check(first, first, &f->run, &f->key[0]->node, &about, NULL),
                  ERR_DIGEST, NULL);
    assert_status(cast_proof_check(first, second, &f->run, &f->key[2]->node, &about, NULL),
                  ERR_DENIED, NULL);
}

static void check_stopped(struct fixture *f, bool is_passed_on)
{
    assert_int_equal(count(f, CAST_EQUIVOCATED), 1);
    assert_true(cast_state_is_stopped(f->s));
    assert_false(cast_state_is_fresh(f->s, f->now_ms));
    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_EQUIVOCATED)
            check_proof(f, f->out.v[i].value);
    if (is_passed_on) {
        assert_int_equal(count_sent(f, LINK_A, MSG_PROOF), 1);
        assert_int_equal(count_sent(f, LINK_B, MSG_PROOF), 1);
    }
}

static void two_manifests_of_a_version_stop_everything(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);

    say_raw(f, LINK_A, buf_bytes(&v.envelope));
    say_raw(f, LINK_B, buf_bytes(&w.envelope));
    say_raw(f, LINK_B, buf_bytes(&w.envelope));

    check_stopped(f, true);
    assert_int_equal(count(f, CAST_KEEP), 1);
    version_clear(&v);
    version_clear(&w);
}

static void two_segments_of_one_number_stop_everything(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);

    say_raw(f, LINK_A, buf_bytes(&v.segment[0]));
    say_raw(f, LINK_B, buf_bytes(&w.segment[0]));

    check_stopped(f, true);
    version_clear(&v);
    version_clear(&w);
}

static void a_manifest_on_other_segments_stops_everything(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);

    say_raw(f, LINK_A, buf_bytes(&v.segment[0]));
    say_raw(f, LINK_B, buf_bytes(&w.envelope));

    check_stopped(f, true);
    version_clear(&v);
    version_clear(&w);
}

static void a_segment_that_follows_another_one_stops_everything(void **state)
{
    struct fixture *f = *state;
    struct content c = content_full(4);
    struct version_made v, w;
    version_make_content(&v, f->key[0], &f->run, &c, 300, 1, 0); /* 300 shards: two segments */
    version_make_content(&w, f->key[0], &f->run, &c, 300, 1, 77);

    say_raw(f, LINK_A, buf_bytes(&v.segment[1]));
    say_raw(f, LINK_B, buf_bytes(&w.segment[0]));

    check_stopped(f, true);
    version_clear(&v);
    version_clear(&w);
}

static void a_proof_of_others_is_checked_and_passed_on(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);
    struct msg_proof same = {buf_bytes(&v.envelope), buf_bytes(&v.envelope)};
    struct msg_proof real = {buf_bytes(&v.envelope), buf_bytes(&w.envelope)};

    SAY(f, LINK_B, PROOF, proof, same);
    assert_false(cast_state_is_stopped(f->s));
    SAY(f, LINK_B, PROOF, proof, real);

    check_stopped(f, false);
    assert_int_equal(count_sent(f, LINK_A, MSG_PROOF), 1);
    version_clear(&v);
    version_clear(&w);
}

static void a_proof_that_is_none_bans_its_sender(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 4, 1000);
    struct msg_proof same = {buf_bytes(&v.envelope), buf_bytes(&v.envelope)};

    SAY(f, LINK_B, PROOF, proof, same);

    assert_int_equal(count(f, CAST_BANNED), 1);
    assert_int_equal(count(f, CAST_EQUIVOCATED), 0);
    version_clear(&v);
}

static void a_proof_found_on_disk_stops_it_again(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w, strange;
    make(f, &v, 4, 1000);
    version_make(&w, f->key[0], &f->run, 4, 1000, 77);
    version_make(&strange, f->key[2], &f->run, 4, 1000, 77);

    cast_state_accuse(f->s, buf_bytes(&v.envelope), buf_bytes(&strange.envelope), &f->out);
    assert_false(cast_state_is_stopped(f->s));
    cast_state_accuse(f->s, buf_bytes(&v.envelope), buf_bytes(&w.envelope), &f->out);

    check_stopped(f, true);
    assert_int_equal(count(f, CAST_FRESH), 1);
    version_clear(&v);
    version_clear(&w);
    version_clear(&strange);
}

static void a_root_that_is_not_of_the_leaves_is_never_complete(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    struct msg_envelope env;
    struct msg_manifest m;
    struct buf body, envelope;
    make(f, &v, 0, 1000);
    make(f, &w, 0, 1000);
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_decode(&env, buf_bytes(&v.envelope), NULL), NULL);
    assert_ok(msg_manifest_decode(&m, env.body, NULL), NULL);
    m.weights.b[0] ^= 1;
    assert_ok(msg_manifest_encode(&body, &m, NULL), NULL);
    assert_ok(msg_envelope_encode(&envelope, MSG_PUBLISH, &f->run, NULL, buf_bytes(&body),
                                  f->key[0]->node_secret, NULL),
              NULL);

    say_raw(f, LINK_A, buf_bytes(&envelope));
    say_raw(f, LINK_A, buf_bytes(&v.segment[0]));
    say_have_all(f, LINK_A, &v);
    say_shard(f, LINK_A, &v, 0, version_shard(&v, 0));

    assert_false(is_complete(f, 0));
    assert_int_equal(count_asked_of(f, LINK_A), 0);
    buf_clear(&body);
    buf_clear(&envelope);
    version_clear(&v);
    version_clear(&w);
}

static void a_peer_has_at_most_a_window_of_questions(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 90 * 65536);

    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 1); /* until one was right */
    say_shard(f, LINK_A, &v, nth_asked(f, LINK_A, 0),
              version_shard(&v, nth_asked(f, LINK_A, 0)));
    size_t n = count_asked_of(f, LINK_A);
    assert_true(n >= 3 && n <= 33);
    say_have_all(f, LINK_B, &v);

    assert_int_equal(count_asked_of(f, LINK_A), n);
    assert_int_equal(count_asked_of(f, LINK_B), 1);
    version_clear(&v);
}

static void the_rarest_are_asked_for_first(void **state)
{
    struct fixture *f = *state;
    uint8_t some[] = {0xff, 0xff, 0xff, 0xdf, 0x7f}; /* all of 40 but 29 and 39 */
    struct msg_envelope env;
    struct msg_shard_ask m;
    struct version_made v;
    make(f, &v, 0, 40 * 65536);
    say_signed(f, LINK_A, &v);
    for (uint32_t i = 0; i < 4; i++) /* the first are drawn: not these */
        say_shard(f, LINK_A, &v, i, version_shard(&v, i));
    struct msg_have have = {.content = v.content, .bitmap = BYTES_OF(some)};
    struct msg_choke choke = {.is_choked = true};
    SAY(f, LINK_B, CHOKE, choke, choke); /* so that nothing is asked of it */
    SAY(f, LINK_B, HAVE, have, have);
    cast_out_clear(&f->out);

    say_have_all(f, LINK_A, &v);

    assert_true(find_sent(f, LINK_A, MSG_SHARD_ASK, 0, &env));
    assert_ok(msg_shard_ask_decode(&m, env.body, NULL), NULL);
    assert_true(m.indices.len >= 8);
    assert_int_equal(m.indices.data[0] + m.indices.data[4], 29 + 39);
    version_clear(&v);
}

static void an_unanswered_question_goes_to_another_peer(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    say_signed(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 0);

    tick(f, 3000);

    assert_int_equal(count_asked_of(f, LINK_B), 1);
    assert_int_equal(count_sent(f, LINK_B, MSG_CANCEL), 1);
    assert_int_equal(count_asked_of(f, LINK_A), 1);
    version_clear(&v);
}

/* What was asked of it may be on its way although it was cancelled, and be garbage. */
static void who_gave_nothing_yet_is_asked_once_at_a_time_whatever_was_cancelled(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    uint32_t index;
    make(f, &v, 0, 1000000);
    say_signed(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);
    say_have_all(f, LINK_A, &v);
    index = nth_asked(f, LINK_B, 0);

    say_shard(f, LINK_A, &v, index, version_shard(&v, index));

    assert_int_equal(count_sent(f, LINK_B, MSG_CANCEL), 1);
    assert_int_equal(count_asked_of(f, LINK_B), 1);
    assert_true(count_asked_of(f, LINK_A) < version_n_shards(&v) - 1);
    tick(f, 3000);
    assert_int_equal(count_asked_of(f, LINK_B), 2);
    version_clear(&v);
}

static void a_choked_question_goes_to_another_peer_at_once(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    struct msg_choke choke = {.is_choked = true};
    make(f, &v, 0, 1000);
    say_signed(f, LINK_B, &v);
    say_have_all(f, LINK_B, &v);
    say_have_all(f, LINK_A, &v);

    SAY(f, LINK_B, CHOKE, choke, choke);

    assert_int_equal(count_asked_of(f, LINK_A), 1);
    version_clear(&v);
}

static void only_what_is_here_is_served(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);

    say_shard_ask(f, LINK_B, &v, 0); /* nobody has heard of it */
    assert_int_equal(count_sent(f, LINK_B, MSG_HAVE), 1);
    say_signed(f, LINK_A, &v);
    say_shard_ask(f, LINK_B, &v, 0);
    assert_int_equal(count(f, CAST_SERVE), 0);
    assert_int_equal(count_sent(f, LINK_B, MSG_SHARD), 1);
    feed_whole(f, &v);
    say_shard_ask(f, LINK_B, &v, 0);

    assert_int_equal(count(f, CAST_SERVE), 1);
    version_clear(&v);
}

static void what_is_cancelled_is_not_served(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 400000);
    feed_whole(f, &v);
    for (uint32_t i = 0; i < 4; i++)
        say_shard_ask(f, LINK_B, &v, i);
    size_t begun = count(f, CAST_SERVE);
    struct msg_cancel m = {.content = v.content}; /* all of it */

    SAY(f, LINK_B, CANCEL, cancel, m);
    for (uint32_t i = 0; i < begun; i++)
        cast_state_served(f->s, LINK_B, &v.content, i, 65536, 1, &f->out);

    assert_true(begun > 0 && begun < 4);
    assert_int_equal(count(f, CAST_SERVE), begun);
    version_clear(&v);
}

static void a_hint_asks_for_the_manifest_at_once_and_again(void **state)
{
    struct fixture *f = *state;
    size_t before = count_sent(f, 0, MSG_MANIFEST_ASK);

    cast_state_hint(f->s, 7, 10, &f->out);
    assert_int_equal(count_sent(f, LINK_A, MSG_MANIFEST_ASK), before + 1); /* the trainer */
    cast_state_tick(f->s, 61, &f->out);

    assert_true(count_sent(f, 0, MSG_MANIFEST_ASK) > before + 1);
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
        assert_int_equal(is_complete(f, i), i == 1 || i >= 3);
    assert_int_equal(count(f, CAST_FORGET), 2);
    assert_int_equal(cast_state_newest(f->s), 5);
    assert_int_equal(cast_state_oldest(f->s), 3);
    cast_state_unpin(f->s, 1, 0, &f->out);
    assert_false(is_complete(f, 1));
    for (int64_t i = 0; i < 6; i++)
        version_clear(&v[i]);
}

static void what_is_superseded_is_no_longer_asked_for(void **state)
{
    struct fixture *f = *state;
    struct version_made old, new;
    make(f, &old, 0, 400000);
    make(f, &new, 5, 1000); /* keep is 3 */
    say_signed(f, LINK_A, &old);
    say_have_all(f, LINK_A, &old);
    assert_true(count_asked_of(f, LINK_A) > 0);

    say_signed(f, LINK_B, &new);

    assert_int_equal(count_sent(f, LINK_A, MSG_CANCEL), 1);
    assert_int_equal(count(f, CAST_FORGET), 1);
    say_shard(f, LINK_A, &old, 0, version_shard(&old, 0));
    assert_int_equal(count(f, CAST_STORE), 0);
    version_clear(&old);
    version_clear(&new);
}

/* How often the manifest of one version was asked for. */
static size_t count_asked(const struct fixture *f, int64_t version)
{
    struct msg_envelope env;
    struct msg_manifest_ask m;
    size_t n = 0;

    for (size_t i = 0; find_sent(f, 0, MSG_MANIFEST_ASK, i, &env); i++) {
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
    tick(f, 200);
    for (int64_t i = 0; i < 10; i++) /* keep is 3 */
        assert_int_equal(count_asked(f, i) > 0, i == 8 || i == 7);

    cast_state_set_keep(f->s, 6, 300, &f->out);
    tick(f, 400);

    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(count_asked(f, i) > 0, i >= 4 && i <= 8);
    version_clear(&v);
}

static void a_lost_shard_is_missing_again(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    feed_whole(f, &v);
    assert_true(is_complete(f, 0));

    cast_state_lost(f->s, &v.content, 0, 0);
    assert_false(is_complete(f, 0));
    cast_out_clear(&f->out);
    tick(f, 1);
    say_have_all(f, LINK_A, &v);

    assert_int_equal(count_asked_of(f, LINK_A), 1);
    version_clear(&v);
}

static void what_was_found_is_not_asked_for(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    uint8_t map[] = {0x05}; /* 0 and 2 of three */
    make(f, &v, 0, 3 * 65536);
    say_signed(f, LINK_A, &v);

    cast_state_found(f->s, &v.content, BYTES_OF(map), 0, &f->out);
    say_have_all(f, LINK_A, &v);

    assert_int_equal(count_asked_of(f, LINK_A), 1);
    say_shard(f, LINK_A, &v, 1, version_shard(&v, 1));
    assert_true(is_complete(f, 0));
    version_clear(&v);
}

static void other_contents_are_fetched_when_they_are_wanted(void **state)
{
    struct fixture *f = *state;
    struct content c = {3, CONTENT_DELTA, 2};
    struct version_made v;
    version_make_content(&v, f->key[0], &f->run, &c, 1000, 65536, 0);
    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 0);

    cast_state_want(f->s, &c, true, 0, &f->out);
    say_have_all(f, LINK_A, &v);

    assert_int_equal(count_asked_of(f, LINK_A), 1);
    version_clear(&v);
}

static void rubbish_is_counted_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    static const uint8_t rubbish[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3};

    for (size_t n = 0; n <= sizeof(rubbish); n++)
        cast_state_message(f->s, &f->key[0]->transport, (struct bytes){rubbish, n}, 1, &f->out);

    assert_int_equal(cast_state_counters(f->s).malformed, sizeof(rubbish) + 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, neighbours_setup, neighbours_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_version_is_kept_passed_on_and_pulled),
        TEST(what_others_sign_and_other_runs_are_refused),
        TEST(a_signed_message_changed_in_one_byte_is_ignored),
        TEST(who_passes_on_a_forged_signature_is_named_and_banned),
        TEST(who_passes_on_what_another_signed_is_named_now_and_then),
        TEST(messages_of_strangers_are_ignored),
        TEST(a_wrong_shard_bans_its_sender_and_is_asked_of_another),
        TEST(a_shard_of_another_place_is_wrong_too),
        TEST(a_shard_before_its_leaf_is_neither_stored_nor_blamed),
        TEST(who_has_not_what_it_claims_is_banned_after_three),
        TEST(two_manifests_of_a_version_stop_everything),
        TEST(two_segments_of_one_number_stop_everything),
        TEST(a_manifest_on_other_segments_stops_everything),
        TEST(a_segment_that_follows_another_one_stops_everything),
        TEST(a_proof_of_others_is_checked_and_passed_on),
        TEST(a_proof_that_is_none_bans_its_sender),
        TEST(a_proof_found_on_disk_stops_it_again),
        TEST(a_root_that_is_not_of_the_leaves_is_never_complete),
        TEST(a_peer_has_at_most_a_window_of_questions),
        TEST(the_rarest_are_asked_for_first),
        TEST(an_unanswered_question_goes_to_another_peer),
        TEST(who_gave_nothing_yet_is_asked_once_at_a_time_whatever_was_cancelled),
        TEST(a_choked_question_goes_to_another_peer_at_once),
        TEST(only_what_is_here_is_served),
        TEST(what_is_cancelled_is_not_served),
        TEST(a_hint_asks_for_the_manifest_at_once_and_again),
        TEST(old_versions_are_forgotten_except_pinned_ones),
        TEST(what_is_superseded_is_no_longer_asked_for),
        TEST(keeping_more_asks_for_the_older_ones),
        TEST(a_lost_shard_is_missing_again),
        TEST(what_was_found_is_not_asked_for),
        TEST(other_contents_are_fetched_when_they_are_wanted),
        TEST(rubbish_is_counted_and_changes_nothing),
    };
    return cmocka_run_group_tests_name("shardcast/cast_state", tests, NULL, NULL);
}
