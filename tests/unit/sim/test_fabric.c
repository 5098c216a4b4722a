/*
 * fabric: what a transfer takes, how full links are shared, and what becomes of broken ones
 */
#include "sim/fabric.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support/test.h"

#define NODES   8u
#define MEGABIT 1e6
#define SHARD   125000u /* a megabit */

struct world {
    struct fabric *fabric;
    uint32_t n_received[NODES], n_sent[NODES];
    int64_t last_ns[NODES];
    uint64_t last_link[NODES];
    uint32_t n_timers;
};

static void on_message(void *ctx, uint32_t node, uint64_t link, uint32_t peer,
                       struct bytes data)
{
    struct world *w = ctx;

    (void)peer;
    (void)data;
    w->n_received[node]++;
    w->last_ns[node] = fabric_now_ns(w->fabric);
    w->last_link[node] = link;
}

static void on_timer(void *ctx, uint32_t node, uint32_t tag)
{
    struct world *w = ctx;

    (void)node;
    w->n_timers += tag;
}

static void on_sent(void *ctx, uint32_t node, uint64_t link, uint32_t tag, uint64_t wire_bytes)
{
    struct world *w = ctx;

    (void)link;
    (void)tag;
    (void)wire_bytes;
    w->n_sent[node]++;
}

static void make(struct world *w, double latency_ms, uint64_t buffer_bytes)
{
    struct fabric_options o = {.seed = 1,
                               .n_nodes = NODES,
                               .latency_ms = latency_ms,
                               .coarse = 1,
                               .chunk_bytes = SHARD / 10,
                               .buffer_bytes = buffer_bytes,
                               .ctx = w,
                               .message = on_message,
                               .timer = on_timer,
                               .sent = on_sent};

    memset(w, 0, sizeof(*w));
    fabric_new(&w->fabric, &o);
    for (uint32_t i = 0; i < NODES; i++)
        fabric_set_rates(w->fabric, i, MEGABIT, MEGABIT);
}

static void send_shards(struct world *w, uint32_t from, uint64_t link, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *data = xmalloc(1);
        data[0] = 7;
        assert_true(
            fabric_send_bulk(w->fabric, from, link, &data, 1, SHARD - FABRIC_MESSAGE_BYTES, i));
        assert_null(data);
    }
}

static void send_small(struct world *w, uint32_t from, uint64_t link)
{
    uint8_t *data = xcalloc(100, 1);

    fabric_send(w->fabric, from, link, &data, 100);
}

static void run(struct world *w)
{
    while (fabric_step(w->fabric))
        ;
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* A chunk is a tenth of a second: no figure below can be further off than a few of them. */
static void assert_seconds(int64_t ns, double want, double slack)
{
    if (seconds(ns) < want - slack || seconds(ns) > want + slack)
        fail_msg("%.3f s, not %.3f", seconds(ns), want);
}

static void a_shard_takes_its_time_on_the_slower_link(void **state)
{
    struct world w;

    (void)state;
    make(&w, 0, 0);
    fabric_set_rates(w.fabric, 1, MEGABIT, MEGABIT / 4);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 1);
    run(&w);

    assert_int_equal(w.n_received[1], 1);
    assert_seconds(w.last_ns[1], 4.0, 0.001);
    fabric_free(&w.fabric);
}

static void both_links_at_once_take_no_longer_than_one(void **state)
{
    struct world w;

    (void)state;
    make(&w, 100, 0);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 1);
    run(&w);

    /* Cut through: one second and one latency of 50 to 150 ms, not two seconds. */
    assert_seconds(w.last_ns[1], 1.1, 0.0501);
    fabric_free(&w.fabric);
}

static void an_uplink_is_shared_evenly(void **state)
{
    struct world w;

    (void)state;
    make(&w, 0, 0);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 2);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 2), 2);
    run(&w);

    assert_seconds(w.last_ns[1], 4.0, 0.21);
    assert_seconds(w.last_ns[2], 4.0, 0.21);
    assert_int_equal(w.n_sent[0], 4);
    fabric_free(&w.fabric);
}

static void a_downlink_is_shared_evenly(void **state)
{
    struct world w;

    (void)state;
    make(&w, 10, 0);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 2), 4);
    send_shards(&w, 1, fabric_dial(w.fabric, 1, 2), 4);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 3), 1);
    run(&w);

    assert_int_equal(w.n_received[2], 8);
    assert_seconds(w.last_ns[2], 8.0, 0.3);
    /* Half of node 0's uplink is enough for what node 2 can take of it. */
    assert_seconds(w.last_ns[3], 2.0, 0.4);
    fabric_free(&w.fabric);
}

static void a_full_receiver_does_not_hold_up_the_others(void **state)
{
    struct world w;

    (void)state;
    make(&w, 10, 0);
    fabric_set_rates(w.fabric, 1, MEGABIT, MEGABIT / 10);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 3);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 2), 9);
    run(&w);

    /* A tenth of the uplink goes to node 1, which needs thirty seconds. */
    assert_seconds(w.last_ns[1], 30.0, 0.3);
    assert_seconds(w.last_ns[2], 10.0, 0.5);
    fabric_free(&w.fabric);
}

static void small_messages_wait_in_the_queues_of_the_links(void **state)
{
    struct world w;

    (void)state;
    make(&w, 0, 0);
    uint64_t full = fabric_dial(w.fabric, 0, 1), idle = fabric_dial(w.fabric, 0, 2);
    fabric_set_rates(w.fabric, 1, MEGABIT, MEGABIT / 10);
    send_shards(&w, 0, full, 3);
    while (fabric_now_ns(w.fabric) < 500000000)
        assert_true(fabric_step(w.fabric)); /* two chunks, of a second each there, have come */
    int64_t now_ns = fabric_now_ns(w.fabric);
    send_small(&w, 0, full);
    send_small(&w, 0, idle);
    while (w.n_received[1] == 0 || w.n_received[2] == 0)
        assert_true(fabric_step(w.fabric));

    assert_true(seconds(w.last_ns[1]) > 1.9 && seconds(w.last_ns[1]) < 2.3);
    assert_seconds(w.last_ns[2] - now_ns, 0.05, 0.02); /* the queue of the uplink */
    fabric_free(&w.fabric);
}

static void what_a_socket_takes_in_advance_counts_as_sent(void **state)
{
    struct world w;

    (void)state;
    make(&w, 0, 2 * SHARD);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 4);
    while (w.n_sent[0] < 2)
        assert_true(fabric_step(w.fabric));
    assert_true(fabric_now_ns(w.fabric) == 0);
    while (w.n_sent[0] < 4)
        assert_true(fabric_step(w.fabric));

    assert_seconds(fabric_now_ns(w.fabric), 2.0, 0.11);
    assert_int_equal(w.n_received[1], 1);
    fabric_free(&w.fabric);
}

static void what_is_on_a_broken_connection_is_lost(void **state)
{
    struct world w;

    (void)state;
    make(&w, 10, 0);
    uint64_t out = fabric_dial(w.fabric, 0, 1);
    send_small(&w, 0, out);
    run(&w);
    uint64_t back = w.last_link[1];
    send_shards(&w, 0, out, 2);
    fabric_set_up(w.fabric, 1, false);
    fabric_wake(w.fabric, 1, 0, 1);
    run(&w);
    fabric_set_up(w.fabric, 1, true);
    send_small(&w, 1, back); /* of the connection before */
    send_small(&w, 0, out);
    run(&w);

    assert_int_equal(w.n_received[1], 2);
    assert_int_equal(w.n_received[0], 0);
    assert_int_equal(w.n_timers, 0);
    assert_int_not_equal(w.last_link[1], back);
    send_small(&w, 1, w.last_link[1]);
    run(&w);
    assert_int_equal(w.n_received[0], 1);
    assert_int_equal(w.last_link[0], out);
    fabric_free(&w.fabric);
}

static void an_uplink_works_again_after_it_was_down(void **state)
{
    struct world w;

    (void)state;
    make(&w, 10, 0);
    uint64_t in = fabric_dial(w.fabric, 0, 1);
    send_small(&w, 0, in);
    run(&w);
    send_shards(&w, 1, w.last_link[1], 5);
    send_shards(&w, 0, in, 5);
    for (int i = 0; i < 6; i++)
        assert_true(fabric_step(w.fabric));
    fabric_set_up(w.fabric, 1, false);
    fabric_set_up(w.fabric, 1, true);
    int64_t start_ns = fabric_now_ns(w.fabric);
    send_small(&w, 0, in);
    run(&w);
    send_shards(&w, 1, w.last_link[1], 2);
    send_shards(&w, 0, in, 2);
    run(&w);

    assert_int_equal(w.n_received[0], 2);
    assert_int_equal(w.n_received[1], 4);
    assert_true(seconds(w.last_ns[0] - start_ns) < 2.3);
    fabric_free(&w.fabric);
}

static void headers_and_acknowledgements_are_paid_when_asked(void **state)
{
    struct world w;
    struct fabric_options o = {.n_nodes = 2,
                               .coarse = 1,
                               .chunk_bytes = SHARD / 10,
                               .has_headers = true,
                               .ctx = &w,
                               .message = on_message,
                               .timer = on_timer};

    (void)state;
    memset(&w, 0, sizeof(w));
    fabric_new(&w.fabric, &o);
    fabric_set_rates(w.fabric, 0, MEGABIT, MEGABIT);
    fabric_set_rates(w.fabric, 1, MEGABIT, MEGABIT);
    send_shards(&w, 0, fabric_dial(w.fabric, 0, 1), 10);
    run(&w);

    assert_seconds(w.last_ns[1], 10.0 * (1514.0 / 1448 + 0.016), 0.001);
    fabric_free(&w.fabric);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_takes_its_time_on_the_slower_link),
        cmocka_unit_test(both_links_at_once_take_no_longer_than_one),
        cmocka_unit_test(an_uplink_is_shared_evenly),
        cmocka_unit_test(a_downlink_is_shared_evenly),
        cmocka_unit_test(a_full_receiver_does_not_hold_up_the_others),
        cmocka_unit_test(small_messages_wait_in_the_queues_of_the_links),
        cmocka_unit_test(what_a_socket_takes_in_advance_counts_as_sent),
        cmocka_unit_test(what_is_on_a_broken_connection_is_lost),
        cmocka_unit_test(an_uplink_works_again_after_it_was_down),
        cmocka_unit_test(headers_and_acknowledgements_are_paid_when_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
