/*
 * cast_state: HEADs and the freeze, and the machine of an origin
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "support/test.h"
#include "unit/shardcast/neighbours.h"

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

static void who_never_hears_a_head_is_frozen_too(void **state)
{
    struct fixture *f = *state;

    tick(f, 29999);
    assert_int_equal(count(f, CAST_FRESH), 0);
    tick(f, 30000);
    assert_int_equal(count(f, CAST_FRESH), 1);
    tick(f, 90000);

    assert_int_equal(count(f, CAST_FRESH), 1);
    assert_false(cast_state_is_fresh(f->s, 90000));
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

static uint64_t last_made_ms(const struct fixture *f)
{
    uint64_t made_ms = 0;
    struct msg_head m;

    for (size_t i = 0; i < f->out.n; i++) {
        if (f->out.v[i].kind != CAST_SIGN)
            continue;
        assert_ok(msg_head_decode(&m, f->out.v[i].value, NULL), NULL);
        made_ms = m.made_ms;
    }
    return made_ms;
}

/* What others have of its earlier life tells it what time it was. */
static void an_origin_whose_clock_was_set_back_goes_on_from_its_last_head(void **state)
{
    const uint64_t hour_ms = 3600000;
    struct fixture *f = *state;
    struct msg_head m = {.made_ms = hour_ms, .until_ms = hour_ms + 30000, .version = -1};
    struct buf body, envelope;
    uint64_t first_ms;
    become_origin(f);
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_head_encode(&body, &m, NULL), NULL);
    version_sign_head(&envelope, f->key[1], &f->run, buf_bytes(&body));

    say_raw(f, LINK_A, buf_bytes(&envelope));
    tick(f, 10000);
    first_ms = last_made_ms(f);
    assert_true(first_ms > hour_ms);
    tick(f, 110000);

    assert_int_equal(last_made_ms(f) - first_ms, 100000);
    buf_clear(&body);
    buf_clear(&envelope);
}

/* ---- the origin -------------------------------------------------------------------------- */

#define N_SHARDS 20u /* of more than ENDGAME */

static void the_origin_shows_each_shard_to_one_neighbour_first(void **state)
{
    struct fixture *f = *state;
    bool is_shown[40] = {false};
    struct msg_envelope env;
    struct msg_have_news m;
    struct version_made v;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, 40 * 65536, 0);

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

static void say_news(struct fixture *f, uint64_t link, const struct version_made *v,
                     uint32_t index)
{
    uint8_t at[4] = {(uint8_t)index, 0, 0, 0};
    struct msg_have_news m = {.content = v->content, .indices = BYTES_OF(at)};

    SAY(f, link, HAVE_NEWS, have_news, m);
}

/* What was given may lie in a socket that dies with the process: another must have shown it. */
static void the_origin_shows_all_once_each_shard_was_seen_at_two(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    struct msg_envelope env;
    struct msg_have m;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, N_SHARDS * 65536, 0);
    publish(f, &v);
    cast_out_clear(&f->out);

    for (uint32_t i = 0; i < N_SHARDS; i++) {
        say_shard_ask(f, LINK_B, &v, i);
        cast_state_served(f->s, LINK_B, &v.content, i, 65536, 1, &f->out);
    }
    for (uint32_t i = 0; i < N_SHARDS; i++) {
        tick(f, 60);
        assert_int_equal(count_sent(f, 0, MSG_HAVE), 0);
        say_news(f, LINK_A, &v, i);
    }

    assert_true(find_sent(f, LINK_A, MSG_HAVE, 0, &env));
    assert_ok(msg_have_decode(&m, env.body, NULL), NULL);
    assert_true(m.is_all);
    version_clear(&v);
}

static void what_goes_no_further_is_lent_to_another(void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    become_origin(f);
    version_make(&v, f->key[1], &f->run, 0, N_SHARDS * 65536, 0);
    publish(f, &v);
    for (uint32_t i = 0; i < N_SHARDS; i++) {
        say_shard_ask(f, LINK_B, &v, i);
        cast_state_served(f->s, LINK_B, &v.content, i, 65536, 10 * i, &f->out);
    }
    for (uint32_t i = 1; i < N_SHARDS; i++)
        say_news(f, LINK_A, &v, i);
    cast_out_clear(&f->out);

    tick(f, 10000);

    assert_int_equal(count_told(f, LINK_B), 0);
    assert_int_equal(count_told(f, LINK_A), 1);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, neighbours_setup, neighbours_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_head_is_passed_on_once_and_only_forwards),
        TEST(silence_for_thirty_seconds_is_a_freeze),
        TEST(who_never_hears_a_head_is_frozen_too),
        TEST(an_expired_head_is_refused),
        TEST(the_origin_signs_a_head_each_five_seconds),
        TEST(an_origin_whose_clock_was_set_back_goes_on_from_its_last_head),
        TEST(the_origin_shows_each_shard_to_one_neighbour_first),
        TEST(the_origin_shows_all_once_each_shard_was_seen_at_two),
        TEST(what_goes_no_further_is_lent_to_another),
        TEST(the_origin_never_contradicts_itself),
        TEST(shards_are_given_before_there_is_a_manifest),
    };
    return cmocka_run_group_tests_name("shardcast/cast_origin", tests, NULL, NULL);
}
