/*
 * cast_state: the ceilings of what is served and of what is asked for
 */
#include "shardcast/cast_state.h"

#include <string.h>

#include "support/test.h"
#include "unit/shardcast/neighbours.h"

#define SHARDS  100u
#define SHARD   65520u
#define CAP     (10 * SHARD) /* a second: ten shards */
#define FOR_MS  5000
#define STEP_MS 10
/* What may pass in that time: ten shards a second, what the machine saves up while idle (a fifth of
 * a second), and the one with which it goes into debt. */
#define MOST 53u
/* All but what the rounding up of waits to milliseconds costs: less than one in a hundred. */
#define LEAST 49u

static void cap(struct fixture *f, uint64_t up_bytes_s, uint64_t down_bytes_s)
{
    const struct cast_state_options o = {.self = f->key[1]->transport,
                                         .node = f->key[1]->node,
                                         .keep = 3,
                                         .up_bytes_s = up_bytes_s,
                                         .down_bytes_s = down_bytes_s};

    cast_out_clear(&f->out);
    cast_state_free(&f->s);
    cast_state_new(&f->s, &o);
    cast_state_set_run(f->s, &f->run, &f->key[0]->node, 0, &f->out);
    cast_state_meet(f->s, &f->key[0]->transport, LINK_A, true, 0, &f->out);
    cast_state_meet(f->s, &f->key[2]->transport, LINK_B, false, 0, &f->out);
    cast_out_clear(&f->out);
}

/* Whatever is asked of the trainer is there at once. */
static uint32_t answer_all(struct fixture *f, const struct version_made *v)
{
    uint32_t asked[SHARDS];
    size_t n = count_asked_of(f, LINK_A);

    assert_true(n <= SHARDS);
    for (size_t i = 0; i < n; i++)
        asked[i] = nth_asked(f, LINK_A, i);
    cast_out_clear(&f->out);
    for (size_t i = 0; i < n; i++)
        say_shard(f, LINK_A, v, asked[i], version_shard(v, asked[i]));
    return (uint32_t)n;
}

static uint32_t fetched(uint64_t down_bytes_s, void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    uint32_t n = 0;
    cap(f, 0, down_bytes_s);
    make(f, &v, 0, SHARDS * SHARD);
    say_signed(f, LINK_A, &v);
    say_have_all(f, LINK_A, &v);

    for (int64_t ms = 0; ms < FOR_MS; ms += STEP_MS) {
        tick(f, ms);
        n += answer_all(f, &v);
    }
    version_clear(&v);
    return n;
}

static void no_more_is_fetched_than_the_ceiling_allows(void **state)
{
    assert_in_range(fetched(CAP, state), LEAST, MOST);
}

static void without_a_ceiling_everything_is_fetched(void **state)
{
    assert_int_equal(fetched(0, state), SHARDS);
}

/* Everything leaves at once. */
static uint32_t let_go(struct fixture *f)
{
    uint32_t n = 0;

    for (size_t i = 0; i < f->out.n; i++) {
        struct cast_act a = f->out.v[i]; /* the list may move */
        if (a.kind != CAST_SERVE)
            continue;
        n++;
        cast_state_served(f->s, a.link, &a.content, a.index, a.bytes, f->now_ms, &f->out);
    }
    cast_out_clear(&f->out);
    return n;
}

static uint32_t served(uint64_t up_bytes_s, void **state)
{
    struct fixture *f = *state;
    struct version_made v;
    uint32_t n = 0, n_asked = 0;
    cap(f, up_bytes_s, 0);
    make(f, &v, 0, SHARDS * SHARD);
    feed_whole(f, &v);
    assert_true(is_complete(f, 0));
    cast_out_clear(&f->out);

    for (int64_t ms = 0; ms < FOR_MS; ms += STEP_MS) {
        f->now_ms = ms;
        while (n_asked < SHARDS && n_asked < n + 16)
            say_shard_ask(f, LINK_B, &v, n_asked++);
        tick(f, ms);
        n += let_go(f);
    }
    version_clear(&v);
    return n;
}

static void no_more_is_served_than_the_ceiling_allows(void **state)
{
    assert_in_range(served(CAP, state), LEAST, MOST);
}

static void without_a_ceiling_everything_is_served(void **state)
{
    assert_int_equal(served(0, state), SHARDS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, neighbours_setup, neighbours_teardown)
    const struct CMUnitTest tests[] = {
        TEST(no_more_is_fetched_than_the_ceiling_allows),
        TEST(without_a_ceiling_everything_is_fetched),
        TEST(no_more_is_served_than_the_ceiling_allows),
        TEST(without_a_ceiling_everything_is_served),
    };
    return cmocka_run_group_tests_name("shardcast/cast_caps", tests, NULL, NULL);
}
