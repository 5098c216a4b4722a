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
    o.node = f->key[1]->node;
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

static const struct node_key *at_end(const struct fixture *f, uint64_t link)
{
    return f->key[link == LINK_A ? 0 : 2];
}

/* A frame as it is. */
static void say_raw(struct fixture *f, uint64_t link, struct bytes frame)
{
    cast_state_message(f->s, link, &at_end(f, link)->transport, frame, f->now_ms, &f->out);
}

static void say(struct fixture *f, uint64_t link, enum msg_kind kind, const struct buf *body)
{
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(&envelope, kind, &f->run, NULL, buf_bytes(body), NULL, NULL),
              NULL);
    say_raw(f, link, buf_bytes(&envelope));
    /* What is lent from a frame ends with it. */
    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_STORE && !f->out.v[i].owned)
            f->out.v[i].value = (struct bytes){0};
    buf_clear(&envelope);
}

#define SAY(f, link, KIND, name, message)                                                      \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        assert_ok(msg_##name##_encode(&body_, &(message), NULL), NULL);                        \
        say(f, link, MSG_##KIND, &body_);                                                      \
        buf_clear(&body_);                                                                     \
    } while (0)

static void say_signed(struct fixture *f, uint64_t link, const struct version_made *v)
{
    for (uint32_t i = 0; i < v->n_segments; i++)
        say_raw(f, link, buf_bytes(&v->segment[i]));
    say_raw(f, link, buf_bytes(&v->envelope));
}

static void say_have_all(struct fixture *f, uint64_t link, const struct version_made *v)
{
    struct msg_have m = {.content = v->content, .is_all = true};

    SAY(f, link, HAVE, have, m);
}

static void say_shard(struct fixture *f, uint64_t link, const struct version_made *v,
                      uint32_t index, struct bytes data)
{
    struct msg_shard m = {.content = v->content, .index = index, .data = data};

    SAY(f, link, SHARD, shard, m);
}

static void say_shard_ask(struct fixture *f, uint64_t link, const struct version_made *v,
                          uint32_t index)
{
    uint8_t le[4] = {(uint8_t)index, (uint8_t)(index >> 8)};
    struct msg_shard_ask m = {.content = v->content, .indices = BYTES_OF(le)};

    SAY(f, link, SHARD_ASK, shard_ask, m);
}

static void say_head(struct fixture *f, uint64_t link, uint64_t made_ms, int64_t version)
{
    struct msg_head m = {.made_ms = made_ms, .until_ms = made_ms + 30000, .version = version};
    struct buf body, envelope;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_head_encode(&body, &m, NULL), NULL);
    version_sign_head(&envelope, f->key[0], &f->run, buf_bytes(&body));
    say_raw(f, link, buf_bytes(&envelope));
    buf_clear(&body);
    buf_clear(&envelope);
}

static size_t count(const struct fixture *f, enum cast_act_kind kind)
{
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++)
        n += f->out.v[i].kind == kind;
    return n;
}

/* The i-th message of a kind that was sent by a link (0: any); false: there are not so many. */
static bool find_sent(const struct fixture *f, uint64_t link, enum msg_kind kind, size_t nth,
                      struct msg_envelope *env)
{
    for (size_t i = 0; i < f->out.n; i++) {
        const struct cast_act *a = &f->out.v[i];
        if (a->kind != CAST_SEND || (link && a->link != link))
            continue;
        assert_ok(msg_envelope_decode(env, a->value, NULL), NULL);
        if (env->kind == kind && nth-- == 0)
            return true;
    }
    return false;
}

static size_t count_sent(const struct fixture *f, uint64_t link, enum msg_kind kind)
{
    struct msg_envelope env;
    size_t n = 0;

    while (find_sent(f, link, kind, n, &env))
        n++;
    return n;
}

/* How many shards were asked of a link. */
static size_t count_asked_of(const struct fixture *f, uint64_t link)
{
    struct msg_envelope env;
    struct msg_shard_ask m;
    size_t n = 0;

    for (size_t i = 0; find_sent(f, link, MSG_SHARD_ASK, i, &env); i++) {
        assert_ok(msg_shard_ask_decode(&m, env.body, NULL), NULL);
        n += m.indices.len / 4;
    }
    return n;
}

/* The i-th shard that was asked of a link. */
static uint32_t nth_asked(const struct fixture *f, uint64_t link, size_t i)
{
    struct msg_envelope env;
    struct msg_shard_ask m;
    size_t n = 0;

    for (size_t k = 0; find_sent(f, link, MSG_SHARD_ASK, k, &env); k++) {
        assert_ok(msg_shard_ask_decode(&m, env.body, NULL), NULL);
        if (i - n < m.indices.len / 4)
            return m.indices.data[4 * (i - n)];
        n += m.indices.len / 4;
    }
    assert_true(!"so many were not asked");
    return 0;
}

/* Shards that a link was told of: by lists, not maps. */
static size_t count_told(const struct fixture *f, uint64_t link)
{
    struct msg_envelope env;
    struct msg_have_news m;
    size_t n = 0;

    for (size_t i = 0; find_sent(f, link, MSG_HAVE_NEWS, i, &env); i++) {
        assert_ok(msg_have_news_decode(&m, env.body, NULL), NULL);
        n += m.indices.len / 4;
    }
    return n;
}

static void tick(struct fixture *f, int64_t now_ms)
{
    f->now_ms = now_ms;
    cast_state_tick(f->s, now_ms, &f->out);
}

static void make(struct fixture *f, struct version_made *v, int64_t number, size_t n_bytes)
{
    version_make(v, f->key[0], &f->run, number, n_bytes, 0);
}

static void feed_whole(struct fixture *f, const struct version_made *v)
{
    say_signed(f, LINK_A, v);
    say_have_all(f, LINK_A, v);
    for (uint32_t i = 0; i < version_n_shards(v); i++)
        say_shard(f, LINK_A, v, i, version_shard(v, i));
}

static bool is_complete(const struct fixture *f, int64_t number)
{
    struct content c = content_full(number);

    return cast_state_is_complete(f->s, &c);
}

/* The machine is the origin's from now on. */
static void become_origin(struct fixture *f)
{
    struct cast_state_options o = {
        .self = f->key[1]->transport, .node = f->key[1]->node, .keep = 3};

    cast_out_clear(&f->out);
    cast_state_free(&f->s);
    cast_state_new(&f->s, &o);
    cast_state_set_run(f->s, &f->run, &f->key[1]->node, 0, &f->out);
    cast_state_set_roster(f->s, f->roster, 0, &f->out);
    cast_state_linked(f->s, &f->key[0]->transport, LINK_A, 0, &f->out);
    cast_state_linked(f->s, &f->key[2]->transport, LINK_B, 0, &f->out);
    cast_out_clear(&f->out);
}

static void publish(struct fixture *f, const struct version_made *v)
{
    for (uint32_t i = 0; i < v->n_segments; i++)
        assert_ok(cast_state_append(f->s, buf_bytes(&v->segment[i]), f->now_ms, &f->out, NULL),
                  NULL);
    assert_ok(cast_state_publish(f->s, buf_bytes(&v->envelope), f->now_ms, &f->out, NULL),
              NULL);
}

/* ---- tests ------------------------------------------------------------------------------- */

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

static void messages_of_strangers_are_ignored(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    make(f, &v, 0, 1000);
    f->roster->entry[0].is_revoked = true;
    cast_state_set_roster(f->s, f->roster, 1, &f->out);

    say_signed(f, LINK_A, &v);

    assert_int_equal(count(f, CAST_KEEP), 0);
    assert_int_equal(count(f, CAST_HANG_UP), 1);
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
    make(f, &v, 0, 90 * 65520);

    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);
    size_t n = count_asked_of(f, LINK_A);
    assert_true(n >= 2 && n <= 32);
    say_have_all(f, LINK_B, &v);

    assert_int_equal(count_asked_of(f, LINK_A), n);
    assert_true(count_asked_of(f, LINK_B) >= 2);
    version_clear(&v);
}

static void the_rarest_are_asked_for_first(void **state)
{
    struct fixture *f = *state;
    uint8_t some[] = {0xff, 0xff, 0xff, 0xdf, 0x7f}; /* all of 40 but 29 and 39 */
    struct msg_envelope env;
    struct msg_shard_ask m;
    struct version_made v;
    make(f, &v, 0, 40 * 65520);
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
        cast_state_served(f->s, LINK_B, &v.content, i, 65520, 1, &f->out);

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
    make(f, &v, 0, 3 * 65520);
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
    version_make_content(&v, f->key[0], &f->run, &c, 1000, 65520, 0);
    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);
    assert_int_equal(count_asked_of(f, LINK_A), 0);

    cast_state_want(f->s, &c, true, 0, &f->out);
    say_have_all(f, LINK_A, &v);

    assert_int_equal(count_asked_of(f, LINK_A), 1);
    version_clear(&v);
}

/* ---- HEAD -------------------------------------------------------------------------------- */

static void a_head_is_passed_on_once_and_only_forwards(void **state)
{
    struct fixture *f = *state;

    say_head(f, LINK_A, 1000, -1);
    say_head(f, LINK_B, 1000, -1);
    say_head(f, LINK_B, 900, -1);

    assert_int_equal(count_sent(f, LINK_B, MSG_HEAD), 1);
    assert_int_equal(count_sent(f, LINK_A, MSG_HEAD), 0);
}

static void silence_for_thirty_seconds_is_a_freeze(void **state)
{
    struct fixture *f = *state;

    assert_false(cast_state_is_fresh(f->s, 0));
    say_head(f, LINK_A, 1000, -1);
    assert_true(cast_state_is_fresh(f->s, 29999));
    assert_false(cast_state_is_fresh(f->s, 30000));
    tick(f, 29999);
    assert_int_equal(count(f, CAST_FRESH), 1);
    tick(f, 30000);
    assert_int_equal(count(f, CAST_FRESH), 2);
    say_head(f, LINK_B, 1000, -1); /* the old one again does not help */
    assert_false(cast_state_is_fresh(f->s, 30000));
    say_head(f, LINK_B, 30500, -1);

    assert_true(cast_state_is_fresh(f->s, 30000));
    assert_int_equal(count(f, CAST_FRESH), 3);
}

static void an_expired_head_is_refused(void **state)
{
    struct fixture *f = *state;

    f->now_ms = 1000 + 30000 + 60000 + 1; /* the wall clock of these tests begins at 0 */
    say_head(f, LINK_A, 1000, -1);

    assert_false(cast_state_is_fresh(f->s, f->now_ms));
    assert_int_equal(cast_state_counters(f->s).refused, 1);
}

static void the_origin_signs_a_head_each_five_seconds(void **state)
{
    struct fixture *f = *state;
    become_origin(f);

    for (int64_t t = 0; t <= 20000; t += 100)
        tick(f, t);

    size_t n = count(f, CAST_SIGN);
    assert_true(n >= 4 && n <= 5);
}

/* ---- the origin -------------------------------------------------------------------------- */

static void the_origin_shows_each_shard_to_one_neighbour_first(void **state)
{
    struct fixture *f = *state;
    bool is_shown[40] = {false};
    struct msg_envelope env;
    struct msg_have_news m;
    struct version_made v;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, 40 * 65520, 0);

    publish(f, &v);

    assert_true(count_told(f, LINK_A) > 0 && count_told(f, LINK_B) > 0);
    for (size_t i = 0; find_sent(f, 0, MSG_HAVE_NEWS, i, &env); i++) {
        assert_ok(msg_have_news_decode(&m, env.body, NULL), NULL);
        for (size_t k = 0; k < m.indices.len; k += 4) {
            assert_false(is_shown[m.indices.data[k]]);
            is_shown[m.indices.data[k]] = true;
        }
    }
    version_clear(&v);
}

static void the_origin_shows_all_once_each_shard_was_given(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    struct msg_envelope env;
    struct msg_have m;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, 10 * 65520, 0);
    publish(f, &v);
    cast_out_clear(&f->out);

    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(count_sent(f, 0, MSG_HAVE), 0);
        say_shard_ask(f, LINK_B, &v, i);
        cast_state_served(f->s, LINK_B, &v.content, i, 65520, 1, &f->out);
    }
    tick(f, 60);

    assert_true(find_sent(f, LINK_A, MSG_HAVE, 0, &env));
    assert_ok(msg_have_decode(&m, env.body, NULL), NULL);
    assert_true(m.is_all);
    version_clear(&v);
}

static void the_origin_never_contradicts_itself(void **state)
{
    struct fixture *f = *state;
    struct version_made v, w;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, 1000, 0);
    version_make(&w, f->key[1], &f->run, 0, 1000, 77);
    publish(f, &v);

    assert_status(cast_state_append(f->s, buf_bytes(&w.segment[0]), 0, &f->out, NULL),
                  ERR_EXISTS, NULL);
    assert_status(cast_state_publish(f->s, buf_bytes(&w.envelope), 0, &f->out, NULL),
                  ERR_EXISTS, NULL);

    assert_false(cast_state_is_stopped(f->s));
    assert_int_equal(count_sent(f, 0, MSG_PROOF), 0);
    version_clear(&v);
    version_clear(&w);
}

/* Segments and shards go out while the rest is not made yet. */
static void shards_are_given_before_there_is_a_manifest(void **state)
{
    struct fixture *f = *state;
    struct content c = content_full(0);
    struct version_made v;
    become_origin(f);
    version_make_content(&v, f->key[1], &f->run, &c, 300, 1, 0);

    assert_ok(cast_state_append(f->s, buf_bytes(&v.segment[0]), 0, &f->out, NULL), NULL);

    assert_int_equal(count_sent(f, LINK_B, MSG_SEGMENT), 1);
    assert_true(count_told(f, LINK_B) > 0);
    assert_int_equal(count_sent(f, LINK_B, MSG_PUBLISH), 0);
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
        TEST(what_others_sign_and_other_runs_are_refused),
        TEST(a_signed_message_changed_in_one_byte_is_ignored),
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
        TEST(a_root_that_is_not_of_the_leaves_is_never_complete),
        TEST(a_peer_has_at_most_a_window_of_questions),
        TEST(the_rarest_are_asked_for_first),
        TEST(an_unanswered_question_goes_to_another_peer),
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
        TEST(a_head_is_passed_on_once_and_only_forwards),
        TEST(silence_for_thirty_seconds_is_a_freeze),
        TEST(an_expired_head_is_refused),
        TEST(the_origin_signs_a_head_each_five_seconds),
        TEST(the_origin_shows_each_shard_to_one_neighbour_first),
        TEST(the_origin_shows_all_once_each_shard_was_given),
        TEST(the_origin_never_contradicts_itself),
        TEST(shards_are_given_before_there_is_a_manifest),
        TEST(rubbish_is_counted_and_changes_nothing),
    };
    return cmocka_run_group_tests_name("shardcast/cast_state", tests, NULL, NULL);
}
