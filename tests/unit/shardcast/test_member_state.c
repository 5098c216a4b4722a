/*
 * member_state: one node, and a test that plays the orchestrator
 */
#include "shardcast/member_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "support/test.h"
#include "versions.h"

#define ENROL   5u
#define CONTROL 6u

struct fixture {
    struct node_key *key, *server, *stranger;
    struct digest run;
    struct invite invite;
    struct member_state *s;
    struct effects out;
    struct idem idem;    /* of the question found last */
    struct buf question; /* its body */
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    f->key = versions_key(1);
    f->server = versions_key(2);
    f->stranger = versions_key(3);
    memset(f->run.b, 8, sizeof(f->run.b));
    f->invite.run = f->run;
    f->invite.role = ROLE_INFERENCE;
    memset(f->invite.secret, 4, sizeof(f->invite.secret));
    memset(f->invite.id, 6, sizeof(f->invite.id));
    struct member_state_options o = {
        .key = f->key, .role = ROLE_INFERENCE, .wants_bundle = true, .boot = 1};
    member_state_new(&f->s, &o);
    effects_init(&f->out);
    buf_init(&f->question, MSG_MAX_BYTES);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    member_state_free(&f->s);
    effects_clear(&f->out);
    buf_clear(&f->question);
    key_free(&f->key);
    key_free(&f->server);
    key_free(&f->stranger);
    free(f);
    return 0;
}

/* The last question of a kind sent to `peer`, remembered for the answer; how many there were. */
static size_t find_question(struct fixture *f, uint64_t peer, enum msg_kind kind)
{
    struct msg_envelope env;
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++) {
        if (f->out.v[i].kind != EFFECT_SEND || f->out.v[i].peer != peer)
            continue;
        assert_ok(msg_envelope_decode(&env, f->out.v[i].value, NULL), NULL);
        if (env.kind != kind)
            continue;
        n++;
        f->idem = env.idem;
        buf_reset(&f->question);
        buf_append(&f->question, env.body);
    }
    effects_clear(&f->out);
    return n;
}

static unsigned answer_as(struct fixture *f, const struct node_key *who, uint64_t peer,
                          enum msg_kind kind, const struct buf *body, int64_t now_ms)
{
    struct buf envelope;
    unsigned events;

    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(&envelope, kind, &f->run, &f->idem, buf_bytes(body),
                                  who->node_secret, NULL),
              NULL);
    assert_true(
        member_state_message(f->s, peer, buf_bytes(&envelope), now_ms, &f->out, &events));
    buf_clear(&envelope);
    return events;
}

#define ANSWER(f, who, peer, KIND, name, message, now_ms, events)                              \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        assert_ok(msg_##name##_encode(&body_, &(message), NULL), NULL);                        \
        events = answer_as(f, who, peer, MSG_##KIND, &body_, now_ms);                          \
        buf_clear(&body_);                                                                     \
    } while (0)

static unsigned say_welcome(struct fixture *f, const struct msg_welcome *w, int64_t now_ms)
{
    unsigned events;

    assert_true(find_question(f, CONTROL, MSG_HELLO) >= 1);
    ANSWER(f, f->server, CONTROL, WELCOME, welcome, *w, now_ms, events);
    return events;
}

static struct msg_welcome make_welcome(const struct fixture *f)
{
    return (struct msg_welcome){.run = f->run, .head_version = -1};
}

static void greet(struct fixture *f)
{
    member_state_greet(f->s, &f->run, &f->server->node, CONTROL);
    member_state_tick(f->s, 0, &f->out);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void joining_asks_with_proof_of_the_invite_and_learns_the_server(void **state)
{
    struct fixture *f = *state;
    struct msg_join j;
    unsigned events;

    assert_ok(member_state_join(f->s, &f->invite, ENROL, NULL), NULL);
    member_state_tick(f->s, 0, &f->out);
    assert_int_equal(find_question(f, ENROL, MSG_JOIN), 1);
    assert_ok(msg_join_decode(&j, buf_bytes(&f->question), NULL), NULL);
    assert_ok(invite_check_mac(&j, f->invite.secret, NULL), NULL);
    assert_ok(key_verify_cert(&j.owner, &j.node, &j.transport, j.role, &j.owner_sig, NULL),
              NULL);
    assert_true(f->question.len + 200 < MSG_JOIN_MAX);
    struct msg_joined m = {
        .node = j.node, .transport = j.transport, .owner = j.owner, .role = j.role};
    ANSWER(f, f->server, ENROL, JOINED, joined, m, 5, events);

    assert_int_equal(events, MEMBER_EVENT_JOINED);
    assert_true(key_equal(member_state_server(f->s), &f->server->node));
}

static void joined_for_another_node_is_no_answer(void **state)
{
    struct fixture *f = *state;
    struct msg_joined m = {.node = f->stranger->node,
                           .transport = f->stranger->transport,
                           .owner = f->stranger->owner,
                           .role = ROLE_INFERENCE};
    unsigned events;

    assert_ok(member_state_join(f->s, &f->invite, ENROL, NULL), NULL);
    member_state_tick(f->s, 0, &f->out);
    find_question(f, ENROL, MSG_JOIN);
    ANSWER(f, f->server, ENROL, JOINED, joined, m, 5, events);
    assert_int_equal(events, 0);

    member_state_tick(f->s, 1005, &f->out);
    assert_int_equal(find_question(f, ENROL, MSG_JOIN), 1);
}

static void a_spent_invite_is_a_failure_that_says_why(void **state)
{
    struct fixture *f = *state;
    struct msg_refused m = {.code = REASON_INVITE, .text = "the invite was used before"};
    struct err e;
    unsigned events;

    assert_ok(member_state_join(f->s, &f->invite, ENROL, NULL), NULL);
    member_state_tick(f->s, 0, &f->out);
    find_question(f, ENROL, MSG_JOIN);
    ANSWER(f, f->server, ENROL, REFUSED, refused, m, 5, events);

    assert_int_equal(events, MEMBER_EVENT_REFUSED);
    assert_status(member_state_failure(f->s, &e), ERR_DENIED, NULL);
    assert_contains(e.text, "used before");
}

static void a_busy_orchestrator_is_asked_again(void **state)
{
    struct fixture *f = *state;
    struct msg_refused m = {.code = REASON_BUSY};
    unsigned events;

    assert_ok(member_state_join(f->s, &f->invite, ENROL, NULL), NULL);
    member_state_tick(f->s, 0, &f->out);
    find_question(f, ENROL, MSG_JOIN);
    ANSWER(f, f->server, ENROL, REFUSED, refused, m, 5, events);
    assert_int_equal(events, 0);
    assert_int_equal(find_question(f, ENROL, MSG_JOIN), 0);
    member_state_tick(f->s, 1005, &f->out);

    assert_int_equal(find_question(f, ENROL, MSG_JOIN), 1);
    assert_ok(member_state_failure(f->s, NULL), NULL);
}

static void hello_comes_every_second_and_at_once_when_something_changed(void **state)
{
    struct fixture *f = *state;
    struct msg_welcome w = make_welcome(f);
    struct msg_hello h;

    greet(f);
    assert_true(say_welcome(f, &w, 1) & MEMBER_EVENT_WELCOME);
    member_state_tick(f->s, 500, &f->out);
    assert_int_equal(find_question(f, CONTROL, MSG_HELLO), 0);
    member_state_report(f->s, "tcp://127.0.0.1:99", 4);
    member_state_tick(f->s, 501, &f->out);
    assert_int_equal(find_question(f, CONTROL, MSG_HELLO), 1);
    assert_ok(msg_hello_decode(&h, buf_bytes(&f->question), NULL), NULL);
    assert_string_equal(h.endpoint, "tcp://127.0.0.1:99");
    assert_int_equal(h.newest_version, 4);
    member_state_report(f->s, "tcp://127.0.0.1:99", 4);
    member_state_tick(f->s, 502, &f->out);
    assert_int_equal(find_question(f, CONTROL, MSG_HELLO), 0);
    member_state_tick(f->s, 1501, &f->out);

    assert_int_equal(find_question(f, CONTROL, MSG_HELLO), 1);
}

static unsigned say_roster(struct fixture *f, const struct node_key *who, uint64_t seq,
                           int64_t now_ms)
{
    struct msg_roster *r = xcalloc(1, sizeof(*r));
    unsigned events;

    r->seq = seq;
    r->n = 1;
    r->entry[0].node = f->key->node;
    r->entry[0].transport = f->key->transport;
    r->entry[0].role = ROLE_INFERENCE;
    ANSWER(f, who, CONTROL, ROSTER, roster, *r, now_ms, events);
    free(r);
    return events;
}

static void a_grown_roster_is_fetched_and_must_be_the_servers(void **state)
{
    struct fixture *f = *state;
    struct msg_welcome w = make_welcome(f);
    w.roster_seq = 3;

    greet(f);
    say_welcome(f, &w, 1);
    assert_int_equal(find_question(f, CONTROL, MSG_ROSTER_ASK), 1);
    assert_int_equal(say_roster(f, f->stranger, 3, 2), 0);
    assert_null(member_state_roster(f->s));
    member_state_tick(f->s, 1002, &f->out);
    assert_int_equal(find_question(f, CONTROL, MSG_ROSTER_ASK), 1);
    assert_int_equal(say_roster(f, f->server, 3, 1003), MEMBER_EVENT_ROSTER);
    assert_int_equal(member_state_roster(f->s)->seq, 3);
    effects_clear(&f->out);

    unsigned events;
    member_state_note(f->s, 3, false, 1100, &f->out, &events);
    assert_int_equal(find_question(f, CONTROL, MSG_ROSTER_ASK), 0);
    member_state_note(f->s, 4, false, 1101, &f->out, &events);
    assert_int_equal(find_question(f, CONTROL, MSG_ROSTER_ASK), 1);
}

static void the_bundle_counts_only_if_it_hashes_to_the_task(void **state)
{
    struct fixture *f = *state;
    struct msg_welcome w = make_welcome(f);
    struct msg_bundle wrong = {.data = BYTES_LIT("wrong")},
                      right = {.data = BYTES_LIT("right")};
    unsigned events;
    digest_of(&w.task, right.data);

    greet(f);
    say_welcome(f, &w, 1);
    assert_int_equal(find_question(f, CONTROL, MSG_BUNDLE_ASK), 1);
    ANSWER(f, f->server, CONTROL, BUNDLE, bundle, wrong, 2, events);
    assert_int_equal(events, 0);
    member_state_tick(f->s, 1002, &f->out);
    assert_int_equal(find_question(f, CONTROL, MSG_BUNDLE_ASK), 1);
    ANSWER(f, f->server, CONTROL, BUNDLE, bundle, right, 1003, events);

    assert_int_equal(events, MEMBER_EVENT_BUNDLE);
    assert_true(bytes_equal(member_state_bundle(f->s), right.data));
    assert_true(digest_equal(member_state_task(f->s), &w.task));
}

static void a_bundle_from_disk_is_used_and_not_fetched(void **state)
{
    struct fixture *f = *state;
    struct msg_welcome w = make_welcome(f);
    digest_of(&w.task, BYTES_LIT("right"));
    member_state_restore_bundle(f->s, BYTES_LIT("right"));

    greet(f);
    unsigned first = say_welcome(f, &w, 1);
    assert_int_equal(find_question(f, CONTROL, MSG_BUNDLE_ASK), 0);
    member_state_tick(f->s, 1001, &f->out);
    unsigned second = say_welcome(f, &w, 1002);

    assert_true(first & MEMBER_EVENT_BUNDLE);
    assert_false(second & MEMBER_EVENT_BUNDLE);
}

static void the_end_of_the_run_is_told_once(void **state)
{
    struct fixture *f = *state;
    struct msg_welcome w = make_welcome(f);
    unsigned events;
    w.is_done = true;

    greet(f);
    assert_true(say_welcome(f, &w, 1) & MEMBER_EVENT_DONE);
    member_state_note(f->s, 0, true, 5, &f->out, &events);

    assert_int_equal(events, 0);
    assert_true(member_state_is_done(f->s));
}

static void a_revoked_node_stops(void **state)
{
    struct fixture *f = *state;
    struct msg_refused m = {.code = REASON_REVOKED};
    unsigned events;

    greet(f);
    find_question(f, CONTROL, MSG_HELLO);
    ANSWER(f, f->server, CONTROL, REFUSED, refused, m, 5, events);
    assert_int_equal(events, MEMBER_EVENT_REFUSED);
    member_state_tick(f->s, 5000, &f->out);

    assert_int_equal(find_question(f, CONTROL, MSG_HELLO), 0);
}

static void a_second_process_of_a_key_stops(void **state)
{
    struct fixture *f = *state;
    struct msg_refused m = {.code = REASON_DUPLICATE, .text = "another process"};
    unsigned events;
    struct err e;

    greet(f);
    find_question(f, CONTROL, MSG_HELLO);
    ANSWER(f, f->server, CONTROL, REFUSED, refused, m, 5, events);

    assert_int_equal(events, MEMBER_EVENT_REFUSED);
    assert_status(member_state_failure(f->s, &e), ERR_DENIED, NULL);
    assert_string_equal(e.text, "the orchestrator refused this node: another process");
}

static void what_answers_no_question_of_ours_is_left_to_the_role(void **state)
{
    struct fixture *f = *state;
    struct msg_wait m = {.head_version = -1};
    struct buf body, envelope;
    unsigned events;

    greet(f);
    buf_init(&body, 1000);
    buf_init(&envelope, 1000);
    assert_ok(msg_wait_encode(&body, &m, NULL), NULL);
    memset(f->idem.b, 0x55, sizeof(f->idem.b));
    assert_ok(msg_envelope_encode(&envelope, MSG_WAIT, &f->run, &f->idem, buf_bytes(&body),
                                  NULL, NULL),
              NULL);

    assert_false(
        member_state_message(f->s, CONTROL, buf_bytes(&envelope), 1, &f->out, &events));
    assert_false(member_state_message(f->s, CONTROL, BYTES_LIT("junk"), 1, &f->out, &events));
    buf_clear(&body);
    buf_clear(&envelope);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(joining_asks_with_proof_of_the_invite_and_learns_the_server),
        TEST(joined_for_another_node_is_no_answer),
        TEST(a_spent_invite_is_a_failure_that_says_why),
        TEST(a_busy_orchestrator_is_asked_again),
        TEST(hello_comes_every_second_and_at_once_when_something_changed),
        TEST(a_grown_roster_is_fetched_and_must_be_the_servers),
        TEST(the_bundle_counts_only_if_it_hashes_to_the_task),
        TEST(a_bundle_from_disk_is_used_and_not_fetched),
        TEST(the_end_of_the_run_is_told_once),
        TEST(a_revoked_node_stops),
        TEST(a_second_process_of_a_key_stops),
        TEST(what_answers_no_question_of_ours_is_left_to_the_role),
    };
    return cmocka_run_group_tests_name("shardcast/member_state", tests, NULL, NULL);
}
