/*
 * cast_lane: shards go by the second connection, and the machine sees one link a neighbour
 */
#include "shardcast/cast_lane.h"

#include <string.h>

#include "support/test.h"

static const struct public_key A = {{1}}, B = {{2}};

static uint64_t hear(struct lanes *l, const struct public_key *key, uint64_t peer,
                     const char *text)
{
    const struct shell_message m = {.peer = peer, .transport = *key, .data = bytes_str(text)};

    return lanes_heard(l, &m, 1);
}

static void who_dials_knows_both(void **state)
{
    struct lanes l = {0};
    (void)state;

    lanes_opened(&l, &A, 10, 11);

    assert_int_equal(hear(&l, &A, 11, "a shard"), 10);
    assert_int_equal(hear(&l, &A, 10, "a question"), 10);
    assert_int_equal(lanes_data(&l, 10), 11);
    assert_int_equal(lanes_closed(&l, 10), 11);
    assert_int_equal(lanes_data(&l, 10), 10);
}

static void who_is_dialled_learns_the_second_by_its_hello(void **state)
{
    struct lanes l = {0};
    (void)state;

    assert_int_equal(hear(&l, &A, 5, "a question"), 5);
    assert_int_equal(lanes_data(&l, 5), 5);
    assert_int_equal(hear(&l, &A, 6, LANE_HELLO), 0);
    assert_int_equal(hear(&l, &B, 7, "a question"), 7);

    assert_int_equal(lanes_data(&l, 5), 6);
    assert_int_equal(lanes_data(&l, 7), 7);
    assert_int_equal(hear(&l, &A, 6, "a shard"), 5);
    assert_int_equal(hear(&l, &A, 8, LANE_HELLO), 0); /* it was dialled anew */
    assert_int_equal(lanes_data(&l, 5), 8);
}

static void two_that_dial_each_other_have_two_links(void **state)
{
    struct lanes l = {0};
    (void)state;

    lanes_opened(&l, &A, 10, 11);
    assert_int_equal(hear(&l, &A, 6, LANE_HELLO), 0);
    assert_int_equal(hear(&l, &A, 5, "a question"), 5);

    assert_int_equal(lanes_data(&l, 10), 11);
    assert_int_equal(lanes_data(&l, 5), 6);
}

static void the_one_heard_longest_ago_makes_room(void **state)
{
    struct lanes l = {0};
    struct public_key key = {{0}};
    (void)state;

    lanes_opened(&l, &A, 1, 2);
    for (uint32_t i = 0; i < LANES_MAX + 10; i++) {
        struct shell_message m = {.peer = 100 + i, .data = bytes_str("a question")};
        memcpy(key.b + 8, &i, sizeof(i));
        m.transport = key;
        assert_int_equal(lanes_heard(&l, &m, i), 100 + i);
    }

    assert_int_equal(l.n, LANES_MAX);
    assert_int_equal(lanes_data(&l, 1), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_dials_knows_both),
        cmocka_unit_test(who_is_dialled_learns_the_second_by_its_hello),
        cmocka_unit_test(two_that_dial_each_other_have_two_links),
        cmocka_unit_test(the_one_heard_longest_ago_makes_room),
    };
    return cmocka_run_group_tests_name("shardcast/cast_lane", tests, NULL, NULL);
}
