/* Joining, greeting, draining. */
#include "orchestrator/orch_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "unit/orchestrator/moves.h"

static const struct world_options few = {.n_workers = 2,
                                         .n_verifiers = 2,
                                         .steps = 2,
                                         .units_per_batch = 3,
                                         .lag = 1,
                                         .order = "unit"};

static int setup(void **state)
{
    struct world *w;

    world_new(&w, &few, 1);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_free(&w);
    return 0;
}

static void join(struct world *w, uint32_t node, struct msg_envelope *m)
{
    struct buf body;

    buf_init(&body, 4096);
    world_join_body(&w->node[node], &body);
    world_ask(w, node, MSG_JOIN, buf_bytes(&body), m);
    buf_clear(&body);
}

static void a_node_joins_and_a_repeat_gets_the_same_answer(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct buf first;

    join(w, 0, &m);
    assert_int_equal(m.kind, MSG_JOINED);
    buf_init(&first, 4096);
    buf_append(&first, m.raw);
    world_repeat(w, 0, &m);

    assert_true(bytes_equal(
        m.body, (struct bytes){first.data + (m.body.data - m.raw.data), m.body.len}));
    assert_int_equal(move_count(w, LEDGER_NODE_ADMIT), 1);
    buf_clear(&first);
}

static void a_node_that_joined_may_ask_again_after_a_restart(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;

    join(w, 0, &m);
    world_restart(w);
    join(w, 0, &m);

    assert_int_equal(m.kind, MSG_JOINED);
    assert_int_equal(move_count(w, LEDGER_NODE_ADMIT), 1);
}

/* How many of the questions are answered before the sender is told to wait, at most 5000. */
static uint32_t count_answers(struct world *w, uint32_t node, enum msg_kind ask,
                              struct bytes body, enum msg_kind answer)
{
    struct msg_envelope m;
    struct msg_wait wait;
    uint32_t n = 0;

    do
        world_ask(w, node, ask, body, &m);
    while (m.kind == answer && ++n < 5000);
    if (m.kind == MSG_WAIT) {
        assert_ok(msg_wait_decode(&wait, m.body, NULL), NULL);
        assert_int_equal(wait.code, REASON_BUSY);
    }
    return n;
}

/* A round of the loop takes 256 questions, and holds the answers to all. */
static void who_looks_at_everything_again_and_again_waits(void **state)
{
    const struct msg_status_ask status = {.what = STATUS_SUMMARY};
    const struct msg_ledger_ask ledger = {.from = 0, .max = UINT32_MAX};
    const uint32_t most = 1024; /* 32 MiB of answers that count with 32 KiB each */
    struct world *w = *state;
    struct buf body;
    uint32_t one, other;

    world_settle(w);
    one = world_node_of(w, ROLE_INFERENCE, 0);
    other = world_node_of(w, ROLE_INFERENCE, 1);
    buf_init(&body, 256);
    assert_ok(msg_ledger_ask_encode(&body, &ledger, NULL), NULL);
    assert_int_equal(count_answers(w, one, MSG_LEDGER_ASK, buf_bytes(&body), MSG_LEDGER), most);
    buf_reset(&body);
    assert_ok(msg_status_ask_encode(&body, &status, NULL), NULL);
    assert_int_equal(count_answers(w, one, MSG_STATUS_ASK, buf_bytes(&body), MSG_STATUS), 0);
    assert_int_equal(count_answers(w, one, MSG_ROSTER_ASK, (struct bytes){0}, MSG_ROSTER), 0);

    assert_int_equal(count_answers(w, other, MSG_STATUS_ASK, buf_bytes(&body), MSG_STATUS),
                     most);
    world_pass(w, 1000);
    assert_int_equal(count_answers(w, one, MSG_STATUS_ASK, buf_bytes(&body), MSG_STATUS),
                     most / 2); /* 16 MiB a second */
    buf_clear(&body);
}

static void a_used_invite_admits_nobody_else(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_refused r;

    join(w, 2, &m);
    memcpy(w->node[3].invite_link, w->node[2].invite_link, sizeof(w->node[3].invite_link));
    join(w, 3, &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_INVITE);
    assert_contains(r.text, "used before");
}

/* Two runs of one orchestrator's key, and the same nodes. */
static void what_was_made_for_one_run_does_nothing_in_another(void **state)
{
    struct world *w = *state, *other;
    struct world_options o = few;
    const struct msg_drain d = {.text = ""};
    struct msg_envelope m;
    struct msg_refused r;
    struct buf body;
    uint8_t link[INVITE_LINK_BYTES];
    uint32_t i;

    o.ahead_ms = 3600000;
    world_new(&other, &o, 1);
    memcpy(link, other->node[0].invite_link, sizeof(link));
    memcpy(other->node[0].invite_link, w->node[0].invite_link, sizeof(link));
    join(other, 0, &m);
    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_INVITE);
    memcpy(other->node[0].invite_link, link, sizeof(link));

    world_settle(w);
    world_settle(other);
    i = world_node_of(w, ROLE_INFERENCE, 0);
    buf_init(&body, 1024);
    assert_ok(msg_drain_encode(&body, &d, NULL), NULL);
    world_ask(w, i, MSG_DRAIN, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_RECEIPT);
    world_ask(other, i, MSG_DRAIN, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_RECEIPT);
    buf_reset(&other->node[i].request);
    buf_append(&other->node[i].request, buf_bytes(&w->node[i].request));
    world_repeat(other, i, &m);
    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_WRONG_RUN);
    assert_int_equal(move_count(other, LEDGER_PARAM), 1);
    buf_clear(&body);
    world_free(&other);
}

static void an_invite_for_another_role_is_refused(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;

    w->node[2].role = ROLE_TRAINER; /* its invite is for an inference worker */
    join(w, 2, &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_int_equal(move_count(w, LEDGER_NODE_ADMIT), 0);
}

static void a_join_without_the_secret_is_refused(void **state)
{
    struct world *w = *state;
    char *secret = strstr((char *)w->node[2].invite_link, "secret=");
    struct msg_envelope m;

    secret[7] = secret[7] == '0' ? '1' : '0';
    join(w, 2, &m);

    assert_int_equal(m.kind, MSG_REFUSED);
}

static void an_unknown_key_gets_no_answer_on_the_control_socket(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;

    world_ask(w, 2, MSG_STATUS_ASK, BYTES_LIT(""), &m);

    assert_false(w->node[2].has_answer);
}

static void roles_are_kept_apart(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_refused r;

    world_settle(w);
    world_ask(w, world_node_of(w, ROLE_VERIFIER, 0), MSG_LEASE_ASK, BYTES_LIT(""), &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_WRONG_ROLE);
}

static void endpoints_survive_a_restart_and_the_roster_number_grows(void **state)
{
    struct world *w = *state;
    struct msg_roster *r = xcalloc(1, sizeof(*r));
    struct msg_envelope m;
    uint64_t before;

    world_settle(w);
    move_hello(w);
    before = orch_roster_seq(w->orch);
    world_restart(w);
    world_ask(w, 0, MSG_ROSTER_ASK, BYTES_LIT(""), &m);

    assert_int_equal(m.kind, MSG_ROSTER);
    assert_ok(msg_roster_decode(r, m.body, NULL), NULL);
    assert_ok(msg_envelope_verify(&m, NULL), NULL);
    assert_true(r->seq > before);
    assert_int_equal(r->n, w->n_nodes);
    assert_string_equal(r->entry[1].endpoint, "tcp://127.0.0.1:5001");
    free(r);
}

static void the_links_of_invites_are_the_same_after_a_restart(void **state)
{
    struct world *w = *state;
    char before[INVITE_LINK_BYTES], after[INVITE_LINK_BYTES];
    enum role role;

    assert_ok(orch_invite_at(w->orch, 3, &role, before, NULL), NULL);
    world_restart(w);
    assert_ok(orch_invite_at(w->orch, 3, &role, after, NULL), NULL);

    assert_string_equal(before, after);
}

static void only_initiators_and_the_orchestrator_invite(void **state)
{
    struct world *w = *state;
    const struct msg_invite_ask ask = {.role = ROLE_RELAY};
    struct msg_envelope m;
    struct msg_invite first, again;
    struct invite v;
    struct buf body;

    world_settle(w);
    buf_init(&body, 64);
    assert_ok(msg_invite_ask_encode(&body, &ask, NULL), NULL);
    world_ask(w, 0, MSG_INVITE_ASK, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_REFUSED);

    world_ask(w, world_node_of(w, ROLE_INITIATOR, 0), MSG_INVITE_ASK, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_INVITE);
    assert_ok(msg_invite_decode(&first, m.body, NULL), NULL);
    world_repeat(w, world_node_of(w, ROLE_INITIATOR, 0), &m);
    assert_ok(msg_invite_decode(&again, m.body, NULL), NULL);

    assert_string_equal(first.link, again.link);
    assert_ok(invite_decode(&v, first.link, NULL), NULL);
    assert_int_equal(v.role, ROLE_RELAY);
    buf_clear(&body);
}

static void a_draining_node_gets_no_work_until_it_comes_back(void **state)
{
    struct world *w = *state;
    const struct msg_drain d = {.text = "maintenance"};
    uint32_t worker = world_node_of(w, ROLE_INFERENCE, 0);
    struct msg_envelope m;
    struct msg_lease l;
    struct msg_wait wait;
    struct msg_receipt r;
    struct buf body;

    world_settle(w);
    move_hello(w);
    move_publish(w, 0, NULL, 0, &r);
    buf_init(&body, 1024);
    assert_ok(msg_drain_encode(&body, &d, NULL), NULL);
    world_ask(w, worker, MSG_DRAIN, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_RECEIPT);

    move_hello(w); /* it is still there, and still draining */
    assert_false(move_lease(w, 0, 1, &l, &wait));
    assert_int_equal(wait.code, REASON_DRAINING);
    world_restart(w);
    assert_false(move_lease(w, 0, 1, &l, &wait));
    assert_int_equal(wait.code, REASON_DRAINING);

    world_pass(w, ORCH_ALIVE_MS + 1);
    move_hello(w);
    assert_true(move_lease(w, 0, 1, &l, &wait));
}

/* A HELLO of worker 0 over a connection of this number: REASON_NONE if it was welcome. */
static enum reason hello_by(struct world *w, uint64_t peer)
{
    const struct msg_hello h = {.role = ROLE_INFERENCE, .newest_version = -1};
    struct world_node *n = &w->node[world_node_of(w, ROLE_INFERENCE, 0)];
    struct orch_input in = {.peer = peer, .transport = &n->key->transport};
    enum reason why = REASON_NO_WORK; /* it was not answered */
    struct msg_envelope m;
    struct msg_refused r;
    struct buf body;

    buf_init(&body, 4096);
    assert_ok(msg_hello_encode(&body, &h, NULL), NULL);
    world_encode(w, n, MSG_HELLO, buf_bytes(&body), &n->request);
    in.data = buf_bytes(&n->request);
    orch_message(w->orch, &in, w->now_ms, &w->out);
    for (size_t i = 0; i < w->out.n; i++) {
        if (w->out.v[i].kind != EFFECT_SEND || w->out.v[i].peer != peer)
            continue;
        assert_ok(msg_envelope_decode(&m, w->out.v[i].value, NULL), NULL);
        why = REASON_NONE;
        if (m.kind == MSG_REFUSED) {
            assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
            why = (enum reason)r.code;
        }
    }
    effects_reset(&w->out);
    buf_clear(&body);
    return why;
}

static void of_two_processes_with_one_key_the_later_stays(void **state)
{
    struct world *w = *state;
    const struct ledger_node *n;
    uint32_t i;

    world_settle(w);
    i = world_node_of(w, ROLE_INFERENCE, 0);
    assert_int_equal(hello_by(w, 101), REASON_NONE);
    world_pass(w, 10000);
    assert_int_equal(hello_by(w, 102), REASON_NONE);
    assert_int_equal(hello_by(w, 101), REASON_NONE); /* it may have been on its way */
    world_pass(w, 2000);
    assert_int_equal(hello_by(w, 102), REASON_NONE);
    world_pass(w, 1000);
    assert_int_equal(hello_by(w, 101), REASON_DUPLICATE);
    assert_int_equal(hello_by(w, 102), REASON_NONE);
    assert_int_equal(hello_by(w, 101), REASON_DUPLICATE);

    n = ledger_books_node(move_books(w), &w->node[i].key->node);
    assert_false(n->is_revoked || n->is_slashed);
}

/* A sum of money is at most 2^53 (I14). */
static void a_deposit_beyond_all_money_is_refused_and_leaves_nothing(void **state)
{
    static const int64_t too_much[] = {INT64_MAX, (1ll << 53) + 1};
    struct world *w = *state;
    struct msg_task_publish p = {.bundle = buf_bytes(&w->bundle)};
    uint32_t node = world_node_of(w, ROLE_INITIATOR, 0);
    struct msg_envelope m;
    uint64_t before;
    struct buf body;

    join(w, node, &m);
    before = ledger_log_length(orch_log(w->orch));
    buf_init(&body, MSG_MAX_BYTES);
    for (size_t i = 0; i < 2; i++) {
        p.deposit = too_much[i];
        buf_reset(&body);
        assert_ok(msg_task_publish_encode(&body, &p, NULL), NULL);
        world_ask(w, node, MSG_TASK_PUBLISH, buf_bytes(&body), &m);
        assert_int_equal(m.kind, MSG_REFUSED);
    }
    assert_int_equal(ledger_log_length(orch_log(w->orch)), before);
    p.deposit = 1ll << 50;
    buf_reset(&body);
    assert_ok(msg_task_publish_encode(&body, &p, NULL), NULL);
    world_ask(w, node, MSG_TASK_PUBLISH, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_int_equal(move_count(w, LEDGER_TASK_OPEN), 1);
    buf_clear(&body);
}

static uint32_t count_lines(struct world *w)
{
    struct buf notes;
    uint32_t n = 0;

    buf_init(&notes, 1u << 20);
    orch_take_notes(w->orch, &notes);
    for (size_t i = 0; i < notes.len; i++)
        n += notes.data[i] == '\n';
    buf_clear(&notes);
    return n;
}

static void refusals_do_not_fill_the_log(void **state)
{
    struct world *w = *state;
    uint32_t node = world_node_of(w, ROLE_INFERENCE, 0), n = 0;
    struct orch_input in = {.peer = 100, .transport = &w->node[node].key->transport};

    world_settle(w);
    w->now_ms += 1000 - w->now_ms % 1000;
    for (int i = 0; i < 1000; i++) {
        in.data = i % 2 ? BYTES_LIT("xx") : (struct bytes){NULL, 0};
        orch_message(w->orch, &in, w->now_ms, &w->out);
        n += count_lines(w);
    }
    assert_int_equal(n, 20);
    w->now_ms += 1000;
    orch_message(w->orch, &in, w->now_ms, &w->out);
    assert_int_equal(count_lines(w), 2); /* how many more there were, and the new one */
}

/* Everybody fetches the roster after each change. */
static void an_endpoint_changes_so_often(void **state)
{
    struct msg_hello h = {.role = ROLE_INFERENCE, .newest_version = -1};
    struct world *w = *state;
    struct msg_envelope m;
    struct buf body;
    uint64_t before = 0;
    uint32_t i;

    world_settle(w);
    i = world_node_of(w, ROLE_INFERENCE, 0);
    buf_init(&body, 4096);
    for (uint32_t k = 0; k <= 400; k++) {
        if (k == 100)
            before = orch_roster_seq(w->orch);
        world_pass(w, 250);
        snprintf(h.endpoint, sizeof(h.endpoint), "tcp://127.0.0.1:%u", 5000 + k % 2);
        buf_reset(&body);
        assert_ok(msg_hello_encode(&body, &h, NULL), NULL);
        world_ask(w, i, MSG_HELLO, buf_bytes(&body), &m);
        assert_int_equal(m.kind, MSG_WELCOME);
    }
    assert_in_range(orch_roster_seq(w->orch) - before, 6, 8); /* in 75 s */
    buf_clear(&body);
}

static void a_connection_that_is_made_again_is_no_second_process(void **state)
{
    struct world *w = *state;

    world_settle(w);
    for (uint64_t peer = 101; peer < 110; peer++)
        for (int i = 0; i < 5; i++) {
            assert_int_equal(hello_by(w, peer), REASON_NONE);
            world_pass(w, 1000);
        }
    world_restart(w);
    assert_int_equal(hello_by(w, 50), REASON_NONE);
}

static void a_drain_that_is_said_again_makes_no_entry(void **state)
{
    struct world *w = *state;
    const struct msg_drain d = {.text = ""};
    uint32_t worker = world_node_of(w, ROLE_INFERENCE, 0);
    struct msg_receipt first, r;
    struct msg_envelope m;
    struct buf body;

    world_settle(w);
    buf_init(&body, 1024);
    assert_ok(msg_drain_encode(&body, &d, NULL), NULL);
    world_ask(w, worker, MSG_DRAIN, buf_bytes(&body), &m);
    assert_ok(msg_receipt_decode(&first, m.body, NULL), NULL);
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            world_restart(w);
        world_ask(w, worker, MSG_DRAIN, buf_bytes(&body), &m);
        assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
        assert_true(r.is_accepted);
        assert_int_equal(r.seq, first.seq);
    }

    assert_int_equal(move_count(w, LEDGER_PARAM), 1);
    buf_clear(&body);
}

static void only_who_takes_work_is_drained(void **state)
{
    static const enum role others[] = {ROLE_TRAINER, ROLE_INITIATOR};
    struct world *w = *state;
    const struct msg_drain d = {.text = ""};
    struct msg_envelope m;
    struct msg_refused r;
    struct buf body;

    world_settle(w);
    buf_init(&body, 1024);
    assert_ok(msg_drain_encode(&body, &d, NULL), NULL);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        world_ask(w, world_node_of(w, others[i], 0), MSG_DRAIN, buf_bytes(&body), &m);
        assert_int_equal(m.kind, MSG_REFUSED);
        assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
        assert_int_equal(r.code, REASON_WRONG_ROLE);
        assert_contains(r.text, "end its process");
    }
    buf_clear(&body);
}

static void a_message_signed_by_another_key_is_refused(void **state)
{
    struct world *w = *state;
    struct node_key *mine = w->node[2].key;
    const struct msg_drain d = {.text = ""};
    struct msg_envelope m;
    struct msg_refused r;
    struct secret_key *own = mine->node_secret;
    struct buf body;

    world_settle(w);
    buf_init(&body, 1024);
    assert_ok(msg_drain_encode(&body, &d, NULL), NULL);
    mine->node_secret = w->node[3].key->node_secret;
    world_ask(w, 2, MSG_DRAIN, buf_bytes(&body), &m);
    mine->node_secret = own;
    buf_clear(&body);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_SIGNATURE);
}

static void workers_get_the_stake_the_task_grants(void **state)
{
    struct world *w = *state;
    struct account stake, other;

    world_settle(w);

    stake =
        account_of_key(ACCOUNT_STAKE, &w->node[world_node_of(w, ROLE_INFERENCE, 1)].key->node);
    other =
        account_of_key(ACCOUNT_STAKE, &w->node[world_node_of(w, ROLE_INITIATOR, 0)].key->node);
    assert_int_equal(ledger_books_balance(move_books(w), &stake), 1000000);
    assert_int_equal(ledger_books_balance(move_books(w), &other), 0);
}

static void another_protocol_version_is_refused_with_a_reason(void **state)
{
    struct world *w;
    uint32_t worker;
    const struct msg_lease_ask ask = {.max = 1};
    struct msg_envelope m;
    struct msg_refused r;
    struct buf body;

    (void)state;
    move_world(&w, &(struct world_options){.n_workers = 1,
                                           .n_verifiers = 1,
                                           .steps = 1,
                                           .units_per_batch = 1,
                                           .lag = 1,
                                           .order = "unit"});
    worker = world_node_of(w, ROLE_INFERENCE, 0);
    buf_init(&body, 256);
    assert_ok(msg_lease_ask_encode(&body, &ask, NULL), NULL);
    world_ask(w, worker, MSG_LEASE_ASK, buf_bytes(&body), &m);
    assert_int_not_equal(m.kind, MSG_REFUSED);
    assert_int_equal(w->node[worker].request.data[0], 0x08); /* field 1: the protocol */
    w->node[worker].request.data[1] = MSG_PROTOCOL + 1;

    world_repeat(w, worker, &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&r, m.body, NULL), NULL);
    assert_int_equal(r.code, REASON_UNSUPPORTED);
    assert_contains(r.text, "2");
    buf_clear(&body);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_protocol_version_is_refused_with_a_reason),
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_node_joins_and_a_repeat_gets_the_same_answer),
        TEST(a_node_that_joined_may_ask_again_after_a_restart),
        TEST(who_looks_at_everything_again_and_again_waits),
        TEST(a_used_invite_admits_nobody_else),
        TEST(what_was_made_for_one_run_does_nothing_in_another),
        TEST(an_invite_for_another_role_is_refused),
        TEST(a_join_without_the_secret_is_refused),
        TEST(an_unknown_key_gets_no_answer_on_the_control_socket),
        TEST(roles_are_kept_apart),
        TEST(endpoints_survive_a_restart_and_the_roster_number_grows),
        TEST(the_links_of_invites_are_the_same_after_a_restart),
        TEST(only_initiators_and_the_orchestrator_invite),
        TEST(a_draining_node_gets_no_work_until_it_comes_back),
        TEST(of_two_processes_with_one_key_the_later_stays),
        TEST(a_connection_that_is_made_again_is_no_second_process),
        TEST(an_endpoint_changes_so_often),
        TEST(a_deposit_beyond_all_money_is_refused_and_leaves_nothing),
        TEST(refusals_do_not_fill_the_log),
        TEST(a_drain_that_is_said_again_makes_no_entry),
        TEST(only_who_takes_work_is_drained),
        TEST(a_message_signed_by_another_key_is_refused),
        TEST(workers_get_the_stake_the_task_grants),
    };
    return cmocka_run_group_tests_name("orchestrator/orch_nodes", tests, NULL, NULL);
}
