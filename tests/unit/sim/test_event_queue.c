/*
 * event_queue: everything comes out, in the order of time and, at one time, of putting
 */
#include "sim/event_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "support/random.h"
#include "support/test.h"

#define MOVES 200000u

/* Moves are near, far beyond the ring, and at once, as in a simulation. */
static int64_t some_delay(struct rng *r)
{
    switch (rng_below(r, 8)) {
    case 0: return 0;
    case 1: return (int64_t)rng_below(r, 60000000000);
    case 2: return (int64_t)rng_below(r, 8700000000);
    default: return (int64_t)rng_below(r, 40000000);
    }
}

static void events_come_in_order_of_time_and_of_putting(void **state)
{
    struct rng r = random_seeded(1);
    struct event_queue *q;
    struct event e, before = {0};
    uint64_t n_put = 0, n_taken = 0, sum = 0;

    (void)state;
    event_queue_new(&q);
    for (uint32_t i = 0; i < MOVES || event_queue_length(q) > 0; i++) {
        if (i < MOVES)
            for (uint64_t k = rng_below(&r, 3); k > 0; k--) {
                int64_t at = before.at_ns + some_delay(&r);
                event_queue_put(q, (struct event){.at_ns = at, .c = n_put});
                sum += n_put++;
            }
        if (!event_queue_take(q, &e))
            continue;
        assert_true(e.at_ns > before.at_ns || (e.at_ns == before.at_ns && e.c >= before.c));
        before = e;
        sum -= e.c;
        n_taken++;
    }

    assert_int_equal(n_taken, n_put);
    assert_int_equal(sum, 0);
    assert_false(event_queue_take(q, &e));
    event_queue_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_order_of_time_and_of_putting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
