/*
 * overlay: one machine, and a test that plays the other nodes of its roster
 */
#include "shardcast/overlay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support/test.h"

#define NODES_MAX 64u
#define SELF      0u

struct fixture {
    struct overlay *o;
    struct overlay_out out;
    struct overlay_roster *roster;
    struct msg_roster *entries;
    struct digest run;
    int64_t now_ms;
    bool accepts[NODES_MAX]; /* what nodes answer who are dialled */
    bool answers[NODES_MAX]; /* and whether they answer probes */
    bool is_linked[NODES_MAX];
    bool is_suspect[NODES_MAX];
    uint64_t link[NODES_MAX]; /* that the machine dialled */
    uint32_t n_dialled[NODES_MAX], n_pinged[NODES_MAX];
    int64_t parted_ms[NODES_MAX];
};

static struct public_key key_of(uint32_t i)
{
    struct public_key k = {{0}};

    k.b[0] = (uint8_t)(i * 37); /* keys do not stand in the order of numbers */
    k.b[31] = (uint8_t)i;
    k.b[30] = 1;
    return k;
}

static uint32_t number_of(const struct public_key *k)
{
    return k->b[31];
}

/* ---- playing the others ------------------------------------------------------------------ */

static void say(struct fixture *f, uint32_t from, uint64_t link, enum msg_kind kind,
                struct buf *body)
{
    const struct public_key key = key_of(from);
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(&envelope, kind, &f->run, NULL, buf_bytes(body), NULL, NULL),
              NULL);
    assert_true(overlay_is_message(buf_bytes(&envelope)));
    overlay_message(f->o, link, &key, buf_bytes(&envelope), f->now_ms, &f->out);
    buf_clear(&envelope);
    buf_clear(body);
}

static void say_neighbour(struct fixture *f, uint32_t from, uint64_t link)
{
    struct buf nothing;

    buf_init(&nothing, 0);
    say(f, from, link, MSG_NEIGHBOUR, &nothing);
}

#define SAY(f, from, link, KIND, name, message)                                                \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        assert_ok(msg_##name##_encode(&body_, &(message), NULL), NULL);                        \
        say(f, from, link, MSG_##KIND, &body_);                                                \
    } while (0)

/* Link 1000 j + i leads to node i; j counts those that the machine dialled. */
static uint32_t at_end(uint64_t link)
{
    return (uint32_t)(link % 1000);
}

static void answer(struct fixture *f, uint64_t link, struct bytes frame)
{
    uint32_t i = at_end(link);
    struct msg_envelope env;
    struct msg_ping ping;

    assert_ok(msg_envelope_decode(&env, frame, NULL), NULL);
    f->n_pinged[i] += env.kind == MSG_PING;
    if (env.kind == MSG_NEIGHBOUR && f->answers[i]) {
        struct msg_neighbour_reply r = {.is_accepted = f->accepts[i]};
        SAY(f, i, link, NEIGHBOUR_REPLY, neighbour_reply, r);
    } else if (env.kind == MSG_PING && f->answers[i]) {
        assert_ok(msg_ping_decode(&ping, env.body, NULL), NULL);
        struct msg_pong r = {.nonce = ping.nonce};
        SAY(f, i, link, PONG, pong, r);
    }
}

static void dial(struct fixture *f, const struct public_key *key)
{
    uint32_t i = number_of(key);
    const struct public_key k = *key; /* the list may move */

    f->link[i] = 1000u * ++f->n_dialled[i] + i;
    overlay_linked(f->o, &k, f->link[i], f->now_ms, &f->out);
}

static void carry_out(struct fixture *f)
{
    for (size_t k = 0; k < f->out.n; k++) {
        struct overlay_act a = f->out.v[k];
        uint32_t i = number_of(&a.key);
        switch (a.kind) {
        case OVERLAY_DIAL: dial(f, &a.key); break;
        case OVERLAY_SEND: answer(f, a.link, a.value); break;
        case OVERLAY_MEET:
            f->is_linked[i] = true;
            f->is_suspect[i] = false;
            break;
        case OVERLAY_PART:
            f->is_linked[i] = false;
            f->parted_ms[i] = f->now_ms;
            assert_non_null(a.why);
            break;
        case OVERLAY_SUSPECT: f->is_suspect[i] = true; break;
        case OVERLAY_HANG_UP:
        case OVERLAY_WAKE: break;
        }
    }
    overlay_out_reset(&f->out);
}

static void run_until(struct fixture *f, int64_t ms)
{
    for (; f->now_ms <= ms; f->now_ms += 100) {
        overlay_tick(f->o, f->now_ms, &f->out);
        carry_out(f);
    }
}

/* ---- fixture ----------------------------------------------------------------------------- */

static void tell_roster(struct fixture *f)
{
    struct overlay_roster *before = f->roster;

    overlay_roster_new(&f->roster, f->entries);
    overlay_set_roster(f->o, f->roster, f->now_ms, &f->out);
    overlay_roster_free(&before);
    carry_out(f);
}

/* Nodes of an owner and a subnet each, all of which accept and answer. */
static void make_roster(struct fixture *f, uint32_t n)
{
    f->entries->n = n;
    for (uint32_t i = 0; i < n; i++) {
        struct roster_entry *e = &f->entries->entry[i];
        *e = (struct roster_entry){.transport = key_of(i), .role = ROLE_INFERENCE};
        e->owner.b[0] = (uint8_t)(i + 1);
        snprintf(e->endpoint, sizeof(e->endpoint), "tcp://10.0.%u.1:1", i);
        f->accepts[i] = f->answers[i] = true;
    }
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    const struct overlay_options o = {.self = key_of(SELF), .salt = 5};

    memset(f->run.b, 3, sizeof(f->run.b));
    f->entries = xcalloc(1, sizeof(*f->entries));
    overlay_out_init(&f->out);
    overlay_new(&f->o, &o);
    overlay_set_run(f->o, &f->run, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    overlay_out_clear(&f->out);
    overlay_free(&f->o);
    overlay_roster_free(&f->roster);
    free(f->entries);
    free(f);
    return 0;
}

static uint32_t count_linked(const struct fixture *f)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < NODES_MAX; i++)
        n += f->is_linked[i];
    assert_int_equal(n, overlay_n_neighbours(f->o));
    return n;
}

static uint32_t first_linked(const struct fixture *f)
{
    uint32_t i = 0;

    while (!f->is_linked[i])
        i++;
    return i;
}

/* ---- choosing ---------------------------------------------------------------------------- */

static void a_node_chooses_as_many_as_it_wants_and_never_itself(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 40);

    tell_roster(f);

    assert_int_equal(count_linked(f), OVERLAY_OUT);
    assert_int_equal(f->n_dialled[SELF], 0);
}

static void a_handful_are_all_linked(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 4);

    tell_roster(f);
    run_until(f, 30000);

    assert_int_equal(count_linked(f), 3);
    assert_int_equal(overlay_counters(f->o).dialled, 3); /* nothing is exchanged */
}

static void one_link_is_to_a_seed(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 60);
    f->entries->entry[50].role = ROLE_RELAY;

    tell_roster(f);
    run_until(f, 120000);

    assert_true(f->is_linked[50]);
    assert_int_equal(f->parted_ms[50], 0);
    assert_true(overlay_counters(f->o).dialled > OVERLAY_OUT + 5); /* others were exchanged */
}

static void who_cannot_be_dialled_is_not_and_chooses_more(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 40);
    f->entries->entry[SELF].endpoint[0] = '\0';
    for (uint32_t i = 20; i < 40; i++)
        f->entries->entry[i].endpoint[0] = '\0';

    tell_roster(f);

    assert_int_equal(count_linked(f), OVERLAY_OUT_HIDDEN);
    for (uint32_t i = 20; i < 40; i++)
        assert_int_equal(f->n_dialled[i], 0);
}

static uint32_t count_linked_from(const struct fixture *f, uint32_t first)
{
    uint32_t n = 0;

    for (uint32_t i = first; i < NODES_MAX; i++)
        n += f->is_linked[i];
    return n;
}

static void at_most_two_of_an_owner_are_chosen_where_there_are_others(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 17); /* everybody is assigned */
    for (uint32_t i = 9; i < 17; i++)
        f->entries->entry[i].owner = f->entries->entry[9].owner;

    tell_roster(f);

    assert_int_equal(count_linked(f), OVERLAY_OUT);
    assert_true(count_linked_from(f, 9) <= OVERLAY_SAME);
}

static void at_most_two_of_a_subnet_are_chosen_where_there_are_others(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 17);
    for (uint32_t i = 9; i < 17; i++)
        snprintf(f->entries->entry[i].endpoint, 128, "tcp://10.9.9.%u:1", i);

    tell_roster(f);

    assert_int_equal(count_linked(f), OVERLAY_OUT);
    assert_true(count_linked_from(f, 9) <= OVERLAY_SAME);
}

static void caps_do_not_count_where_there_are_no_others(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 17);
    for (uint32_t i = 6; i < 17; i++)
        f->entries->entry[i].owner = f->entries->entry[6].owner;

    tell_roster(f);

    assert_int_equal(count_linked(f), OVERLAY_OUT);
}

/* ---- accepting --------------------------------------------------------------------------- */

/* Of diallers of one owner there is room for two more, and where the places are not taken for half
 * of them; the other half is for others. */
static void one_owner_gets_at_most_half_of_the_places(void **state)
{
    struct fixture *f = *state;
    uint32_t n_same;
    make_roster(f, 64);
    for (uint32_t i = 0; i < 64; i++) {
        f->entries->entry[i].endpoint[0] = '\0'; /* so that the machine dials nobody */
        if (i >= 20)
            f->entries->entry[i].owner = f->entries->entry[20].owner;
    }
    snprintf(f->entries->entry[SELF].endpoint, 128, "tcp://10.0.0.1:1");
    tell_roster(f);

    for (uint32_t i = 20; i < 64; i++)
        say_neighbour(f, i, i);
    carry_out(f);
    n_same = count_linked(f);
    for (uint32_t i = 1; i < 20; i++)
        say_neighbour(f, i, i);
    carry_out(f);

    assert_int_equal(n_same, OVERLAY_IN / 2);
    assert_int_equal(count_linked(f), OVERLAY_IN);
}

static void strangers_to_the_roster_are_not_accepted(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 4);
    f->entries->n = 3;
    tell_roster(f);

    say_neighbour(f, 3, 3);
    carry_out(f);

    assert_false(f->is_linked[3]);
}

static void who_is_revoked_loses_its_link_at_once(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 20);
    tell_roster(f);
    uint32_t one = first_linked(f);

    f->entries->entry[one].is_revoked = true;
    tell_roster(f);

    assert_false(f->is_linked[one]);
    say_neighbour(f, one, one);
    carry_out(f);
    assert_false(f->is_linked[one]);
    assert_int_equal(count_linked(f), OVERLAY_OUT);
}

/* ---- probing ----------------------------------------------------------------------------- */

static void
a_silent_neighbour_is_replaced_when_suspected_and_dead_after_nine_seconds(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 20);
    tell_roster(f);
    uint32_t one = first_linked(f);

    f->answers[one] = false;
    run_until(f, 4100);
    assert_true(f->is_suspect[one]);
    assert_int_equal(count_linked(f), OVERLAY_OUT + 1);
    run_until(f, 9100);

    assert_false(f->is_linked[one]);
    assert_in_range(f->parted_ms[one], 8900, 9100);
    assert_int_equal(overlay_counters(f->o).lost, 1);
}

static void any_frame_shows_that_a_neighbour_lives(void **state)
{
    struct fixture *f = *state;
    make_roster(f, 20);
    tell_roster(f);
    uint32_t one = first_linked(f);
    const struct public_key key = key_of(one);

    f->answers[one] = false;
    for (int64_t ms = 1000; ms <= 30000; ms += 1000) {
        run_until(f, ms);
        assert_true(overlay_heard(f->o, f->link[one], &key, f->now_ms, &f->out));
        carry_out(f);
    }

    assert_true(f->is_linked[one] || f->parted_ms[one] > 0); /* unless it was exchanged */
    assert_int_equal(f->n_pinged[one], 0);                   /* nor is it asked */
    assert_int_equal(overlay_counters(f->o).lost, 0);
}

static void a_frame_of_no_neighbour_is_answered_by_leave(void **state)
{
    struct fixture *f = *state;
    const struct public_key key = key_of(3);
    struct msg_envelope env;
    make_roster(f, 4);
    f->entries->entry[3].endpoint[0] = '\0'; /* it is not dialled */
    tell_roster(f);

    assert_false(overlay_heard(f->o, 3, &key, f->now_ms, &f->out));

    size_t i = 0;
    while (i < f->out.n && (f->out.v[i].kind != OVERLAY_SEND || f->out.v[i].link != 3))
        i++;
    assert_true(i < f->out.n);
    assert_ok(msg_envelope_decode(&env, f->out.v[i].value, NULL), NULL);
    assert_int_equal(env.kind, MSG_LEAVE);
}

static void a_dialler_that_connected_anew_is_reached_by_its_new_link(void **state)
{
    struct fixture *f = *state;
    const struct public_key key = key_of(2);
    make_roster(f, 3);
    f->entries->entry[2].endpoint[0] = '\0';
    tell_roster(f);
    say_neighbour(f, 2, 2);
    carry_out(f);
    assert_true(f->is_linked[2]);

    assert_true(overlay_heard(f->o, 5002, &key, f->now_ms, &f->out));

    assert_int_equal(f->out.n, 1);
    assert_int_equal(f->out.v[0].kind, OVERLAY_MEET);
    assert_int_equal(f->out.v[0].link, 5002);
}

/* What comes too soon changes nothing and is not answered; what comes later begins anew. */
static void one_key_does_not_knock_without_end(void **state)
{
    struct fixture *f = *state;
    uint32_t met = 0, sent = 0;

    make_roster(f, 4);
    f->entries->entry[2].endpoint[0] = '\0';
    tell_roster(f);
    carry_out(f);
    for (uint32_t k = 0; k < 100; k++) {
        say_neighbour(f, 2, 2);
        for (size_t i = 0; i < f->out.n; i++) {
            met += f->out.v[i].kind == OVERLAY_MEET;
            sent += f->out.v[i].kind == OVERLAY_SEND;
        }
        carry_out(f);
    }
    assert_int_equal(met, 1);
    assert_int_equal(sent, 1);
    assert_int_equal(overlay_counters(f->o).hasty, 99);

    f->now_ms += OVERLAY_KNOCK_MS;
    say_neighbour(f, 2, 5002);
    assert_int_equal(overlay_counters(f->o).hasty, 99);
    carry_out(f);
    assert_true(f->is_linked[2]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_chooses_as_many_as_it_wants_and_never_itself),
        TEST(a_handful_are_all_linked),
        TEST(one_link_is_to_a_seed),
        TEST(who_cannot_be_dialled_is_not_and_chooses_more),
        TEST(at_most_two_of_an_owner_are_chosen_where_there_are_others),
        TEST(at_most_two_of_a_subnet_are_chosen_where_there_are_others),
        TEST(caps_do_not_count_where_there_are_no_others),
        TEST(one_owner_gets_at_most_half_of_the_places),
        TEST(strangers_to_the_roster_are_not_accepted),
        TEST(who_is_revoked_loses_its_link_at_once),
        TEST(a_silent_neighbour_is_replaced_when_suspected_and_dead_after_nine_seconds),
        TEST(any_frame_shows_that_a_neighbour_lives),
        TEST(a_frame_of_no_neighbour_is_answered_by_leave),
        TEST(a_dialler_that_connected_anew_is_reached_by_its_new_link),
        TEST(one_key_does_not_knock_without_end),
    };
    return cmocka_run_group_tests_name("shardcast/overlay", tests, NULL, NULL);
}
