/*
 * cast_graph: whoever dials whom, everybody hears of everything
 */
#include "shardcast/cast_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "support/test.h"

#define DEGREE 8u

static struct msg_roster *make_roster(uint32_t n, uint64_t seed)
{
    struct msg_roster *r = xcalloc(1, sizeof(*r));
    struct rng g = rng_of(seed, 3);

    r->n = n;
    for (uint32_t i = 0; i < n; i++) {
        for (size_t k = 0; k < KEY_BYTES; k++)
            r->entry[i].transport.b[k] = (uint8_t)rng_u32(&g);
        r->entry[i].role = i == 0 ? ROLE_TRAINER : ROLE_INFERENCE;
        snprintf(r->entry[i].endpoint, sizeof(r->entry[i].endpoint), "tcp://10.0.0.%u:1", i);
    }
    return r;
}

/* How many hops from the trainer until all nodes are reached, links being used both ways; 0 if
 * they never are. */
static uint32_t hops_to_all(const struct msg_roster *r)
{
    bool(*edge)[MSG_MAX_ROSTER] = xcalloc(MSG_MAX_ROSTER, sizeof(*edge));
    bool *seen = xcalloc(MSG_MAX_ROSTER, 1), *next = xcalloc(MSG_MAX_ROSTER, 1);
    size_t pick[MSG_MAX_ROSTER];
    uint32_t n_seen = 1, hops = 0, before = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        size_t n = cast_graph_choose(pick, MSG_MAX_ROSTER, r, &r->entry[i].transport, DEGREE);
        for (size_t k = 0; k < n; k++)
            edge[i][pick[k]] = edge[pick[k]][i] = true;
    }
    seen[0] = true;
    while (n_seen < r->n && n_seen != before) {
        before = n_seen;
        hops++;
        memcpy(next, seen, MSG_MAX_ROSTER);
        for (uint32_t i = 0; i < r->n; i++)
            for (uint32_t k = 0; k < r->n; k++)
                next[k] |= seen[i] && edge[i][k];
        memcpy(seen, next, MSG_MAX_ROSTER);
        n_seen = 0;
        for (uint32_t i = 0; i < r->n; i++)
            n_seen += seen[i];
    }
    if (n_seen < r->n)
        hops = 0;
    free(edge);
    free(seen);
    free(next);
    return hops;
}

static void all_nodes_are_connected_within_log_n_hops(void **state)
{
    (void)state;

    for (uint32_t n = 2; n <= MSG_MAX_ROSTER; n = n < 20 ? n + 1 : n + 59) {
        struct msg_roster *r = make_roster(n, n);
        uint32_t hops = hops_to_all(r);
        assert_true(hops >= 1);
        /* A distance below 256 is a sum of at most four powers of two with signs (non-adjacent
         * form), and links are used both ways; one more where the ring is no power of two. */
        assert_true(hops <= 5);
        free(r);
    }
}

static void nodes_that_cannot_be_dialled_are_not_chosen(void **state)
{
    (void)state;
    struct msg_roster *r = make_roster(6, 9);
    size_t pick[MSG_MAX_ROSTER];

    r->entry[2].endpoint[0] = '\0';
    r->entry[3].is_revoked = true;
    size_t n = cast_graph_choose(pick, MSG_MAX_ROSTER, r, &r->entry[4].transport, DEGREE);

    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_true(pick[i] == 0 || pick[i] == 1 || pick[i] == 5);
    free(r);
}

static void each_is_chosen_once_and_never_oneself(void **state)
{
    (void)state;
    struct msg_roster *r = make_roster(200, 4);

    for (uint32_t i = 0; i < r->n; i++) {
        size_t pick[MSG_MAX_ROSTER];
        size_t n = cast_graph_choose(pick, MSG_MAX_ROSTER, r, &r->entry[i].transport, DEGREE);
        assert_int_equal(n, DEGREE);
        for (size_t a = 0; a < n; a++) {
            assert_int_not_equal(pick[a], i);
            for (size_t b = 0; b < a; b++)
                assert_int_not_equal(pick[a], pick[b]);
        }
    }
    free(r);
}

static void everybody_dials_the_trainer_of_a_small_network(void **state)
{
    (void)state;
    struct msg_roster *r = make_roster(CAST_GRAPH_SMALL, 5);

    for (uint32_t i = 1; i < r->n; i++) {
        size_t pick[MSG_MAX_ROSTER];
        size_t n = cast_graph_choose(pick, MSG_MAX_ROSTER, r, &r->entry[i].transport, DEGREE);
        bool found = false;
        for (size_t a = 0; a < n; a++)
            found |= pick[a] == 0;
        assert_true(found);
    }
    free(r);
}

static void the_order_of_the_roster_does_not_matter(void **state)
{
    (void)state;
    struct msg_roster *r = make_roster(40, 6), *turned = make_roster(40, 6);
    size_t a[MSG_MAX_ROSTER], b[MSG_MAX_ROSTER];

    for (uint32_t i = 0; i < r->n; i++)
        turned->entry[i] = r->entry[r->n - 1 - i];
    size_t n = cast_graph_choose(a, MSG_MAX_ROSTER, r, &r->entry[7].transport, DEGREE);
    assert_int_equal(
        cast_graph_choose(b, MSG_MAX_ROSTER, turned, &r->entry[7].transport, DEGREE), n);

    for (size_t i = 0; i < n; i++)
        assert_int_equal(b[i], r->n - 1 - a[i]);
    free(r);
    free(turned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_nodes_are_connected_within_log_n_hops),
        cmocka_unit_test(nodes_that_cannot_be_dialled_are_not_chosen),
        cmocka_unit_test(each_is_chosen_once_and_never_oneself),
        cmocka_unit_test(everybody_dials_the_trainer_of_a_small_network),
        cmocka_unit_test(the_order_of_the_roster_does_not_matter),
    };
    return cmocka_run_group_tests_name("shardcast/cast_graph", tests, NULL, NULL);
}
