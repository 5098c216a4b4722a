/*
 * tree_state: the relay tree does what the published package does, its mistakes included
 */
#include "shardcast/tree_state.h"

#include <string.h>

#include "support/test.h"

#define SHARD 1000u

struct fixture {
    struct tree_state *s;
    struct tree_out out;
};

static void open_tree(struct fixture *f, enum tree_role role, uint32_t n_servers,
                      uint32_t at_once)
{
    const struct tree_options o = {.role = role,
                                   .n_servers = n_servers,
                                   .seed = 7,
                                   .shard_bytes = SHARD,
                                   .at_once = at_once,
                                   .poll_ms = 100};

    memset(f, 0, sizeof(*f));
    tree_state_new(&f->s, &o);
}

static void close_tree(struct fixture *f)
{
    tree_out_clear(&f->out);
    tree_state_free(&f->s);
}

/* How many acts of a kind are out; *last is the last of them. */
static size_t count(const struct fixture *f, enum tree_act_kind kind, struct tree_act *last)
{
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == kind) {
            *last = f->out.v[i];
            n++;
        }
    return n;
}

/* Past the dummies, with a list of `n` versions of `bytes` known. */
static void list(struct fixture *f, size_t n, uint64_t bytes)
{
    struct tree_version v[4];
    struct tree_out begun = {0};

    for (size_t i = 0; i < n; i++)
        v[i] = (struct tree_version){(int64_t)i, bytes};
    tree_state_tick(f->s, 0, &begun);
    for (size_t i = 0; i < begun.n; i++)
        if (begun.v[i].kind == TREE_FETCH)
            tree_state_fetched(f->s, begun.v[i].slot, true, 100, 0, &f->out);
    tree_out_clear(&begun);
    tree_out_clear(&f->out);
    tree_state_listed(f->s, v, n, 1000, &f->out);
}

static void every_server_is_asked_for_a_dummy_first(void **state)
{
    struct fixture f;
    struct tree_act a;
    (void)state;
    open_tree(&f, TREE_CLIENT, 3, 2);

    tree_state_tick(f.s, 0, &f.out);

    assert_int_equal(count(&f, TREE_FETCH, &a), 3);
    assert_int_equal(a.version, TREE_DUMMY);
    assert_int_equal(a.bytes, TREE_DUMMY_BYTES);
    close_tree(&f);
}

static void a_relay_begins_with_the_oldest_a_client_with_the_newest(void **state)
{
    struct fixture f;
    struct tree_act a;
    (void)state;

    open_tree(&f, TREE_RELAY, 1, 1);
    list(&f, 3, 5 * SHARD);
    assert_int_equal(count(&f, TREE_FETCH, &a), 1);
    assert_int_equal(a.version, 0);
    assert_int_equal(count(&f, TREE_KNOWN, &a), 3);
    close_tree(&f);

    open_tree(&f, TREE_CLIENT, 1, 1);
    list(&f, 3, 5 * SHARD);
    assert_int_equal(count(&f, TREE_FETCH, &a), 1);
    assert_int_equal(a.version, 2);
    close_tree(&f);
}

static void so_many_shards_at_once_in_order_and_then_it_is_complete(void **state)
{
    struct fixture f;
    struct tree_act a;
    (void)state;
    open_tree(&f, TREE_CLIENT, 2, 3);
    list(&f, 1, 3 * SHARD + 1);

    assert_int_equal(count(&f, TREE_FETCH, &a), 3);
    assert_int_equal(a.index, 2);
    tree_out_clear(&f.out);
    tree_state_fetched(f.s, 1, true, 10, 2000, &f.out);
    assert_int_equal(count(&f, TREE_FETCH, &a), 1);
    assert_int_equal(a.index, 3);
    assert_int_equal(a.bytes, 1);
    for (uint32_t slot = 0; slot < 3; slot++)
        tree_state_fetched(f.s, slot, true, 10, 2000, &f.out);

    assert_int_equal(count(&f, TREE_COMPLETE, &a), 1);
    assert_int_equal(a.version, 0);
    close_tree(&f);
}

static void
a_failure_is_tried_again_after_two_seconds_and_the_fourth_after_fifteen(void **state)
{
    static const int64_t waits_ms[] = {2000, 2000, 2000, 15000};
    struct fixture f;
    struct tree_act a;
    int64_t now_ms = 1000;
    (void)state;
    open_tree(&f, TREE_CLIENT, 1, 1);
    list(&f, 1, SHARD);

    for (size_t i = 0; i < 4; i++) {
        tree_out_clear(&f.out);
        tree_state_fetched(f.s, 0, false, 10, now_ms, &f.out);
        tree_state_tick(f.s, now_ms + waits_ms[i] - 1, &f.out);
        assert_int_equal(count(&f, TREE_FETCH, &a), 0);
        now_ms += waits_ms[i];
        tree_state_tick(f.s, now_ms, &f.out);
        assert_int_equal(count(&f, TREE_FETCH, &a), 1);
    }
    close_tree(&f);
}

/* Of two servers, one ten times as fast, most fetches go to the fast one, and not all. */
static void fast_servers_are_drawn_more_often(void **state)
{
    struct fixture f;
    struct tree_act a = {0};
    unsigned n_fast = 0;
    (void)state;
    open_tree(&f, TREE_CLIENT, 2, 1);
    list(&f, 1, 400 * SHARD);

    for (uint32_t i = 0; i < 399; i++) {
        assert_int_equal(count(&f, TREE_FETCH, &a), 1);
        n_fast += a.server == 0;
        tree_out_clear(&f.out);
        tree_state_fetched(f.s, 0, true, a.server == 0 ? 10 : 100, 1000, &f.out);
    }
    /* Weights 10 : 1 give 363 of 399, with a deviation of 6. */
    assert_in_range(n_fast, 330, 390);
    close_tree(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_server_is_asked_for_a_dummy_first),
        cmocka_unit_test(a_relay_begins_with_the_oldest_a_client_with_the_newest),
        cmocka_unit_test(so_many_shards_at_once_in_order_and_then_it_is_complete),
        cmocka_unit_test(
            a_failure_is_tried_again_after_two_seconds_and_the_fourth_after_fifteen),
        cmocka_unit_test(fast_servers_are_drawn_more_often),
    };
    return cmocka_run_group_tests_name("shardcast/tree_state", tests, NULL, NULL);
}
