/* base/pool */
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "support/test.h"

#define N_MAX 1000

struct loop {
    unsigned times[N_MAX]; /* how often each index was visited */
    atomic_size_t calls;
    size_t grain;
    atomic_bool has_short_part;
    atomic_bool has_empty_part;
};

static void visit(void *arg, size_t lo, size_t hi)
{
    struct loop *l = arg;

    atomic_fetch_add(&l->calls, 1);
    if (hi <= lo)
        l->has_empty_part = true;
    if (hi - lo < l->grain)
        l->has_short_part = true;
    for (size_t i = lo; i < hi; i++)
        l->times[i]++;
}

static void run_and_check(struct pool *p, size_t n, size_t grain)
{
    struct loop l;

    memset(&l, 0, sizeof(l));
    l.grain = grain;

    pool_run(p, n, grain, visit, &l);

    for (size_t i = 0; i < N_MAX; i++)
        assert_int_equal(l.times[i], i < n);
    assert_false(l.has_empty_part);
    if (n >= grain)
        assert_false(l.has_short_part);
}

static void every_index_is_visited_once_whatever_the_split(void **state)
{
    (void)state;

    for (size_t threads = 1; threads <= 5; threads++) {
        struct pool *p;

        pool_new(&p, threads);
        assert_int_equal(pool_threads(p), threads);
        for (size_t n = 0; n <= 70; n++)
            for (size_t grain = 1; grain <= 17; grain += 4)
                run_and_check(p, n, grain);
        run_and_check(p, N_MAX, 1);
        pool_free(&p);
        assert_null(p);
    }
}

static void without_a_pool_it_runs_inline(void **state)
{
    (void)state;

    run_and_check(NULL, 100, 1);
    assert_int_equal(pool_threads(NULL), 1);
}

static void a_loop_shorter_than_two_grains_is_one_call(void **state)
{
    (void)state;
    struct loop l;
    struct pool *p;

    memset(&l, 0, sizeof(l));
    pool_new(&p, 4);
    pool_run(p, 19, 10, visit, &l);

    assert_int_equal(l.calls, 1);
    pool_free(&p);
}

struct meeting {
    pthread_barrier_t all;
};

static void meet(void *arg, size_t lo, size_t hi)
{
    struct meeting *m = arg;

    (void)lo;
    (void)hi;
    pthread_barrier_wait(&m->all);
}

/* Two parts that wait for each other end only if two threads run them at the same time. */
static void parts_run_side_by_side(void **state)
{
    (void)state;
    struct meeting m;
    struct pool *p;

    assert_int_equal(pthread_barrier_init(&m.all, NULL, 2), 0);
    pool_new(&p, 2);
    for (int i = 0; i < 100; i++)
        pool_run(p, 2, 1, meet, &m);
    pool_free(&p);
    pthread_barrier_destroy(&m.all);
}

static int64_t process_cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Four idle threads over 50 ms: spinning ones would use at least one core's 50 ms. */
static void waiting_threads_use_no_processor(void **state)
{
    (void)state;
    struct timespec nap = {0, 50000000};
    struct loop l;
    struct pool *p;
    int64_t used;

    memset(&l, 0, sizeof(l));
    pool_new(&p, 5);
    pool_run(p, N_MAX, 1, visit, &l); /* they have been awake */
    used = process_cpu_us();
    nanosleep(&nap, NULL);
    used = process_cpu_us() - used;

    assert_true(used < 25000);
    pool_free(&p);
}

/* Short loops one after the other, where a thread that comes late finds the next loop already:
 * no part is lost, and none runs twice. */
static void loops_that_follow_at_once_do_not_mix(void **state)
{
    (void)state;

    for (unsigned spin = 0; spin <= 200; spin += 100) {
        const struct pool_options opt = {.n_threads = 4, .spin = spin, .is_pinned = spin > 0};
        struct pool *p;

        pool_new_with(&p, &opt);
        for (size_t i = 0; i < 3000; i++)
            run_and_check(p, 2 + i % 30, 1);
        pool_free(&p);
    }
}

static void free_of_nothing_is_fine(void **state)
{
    (void)state;
    struct pool *p = NULL;

    pool_free(&p);

    assert_null(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_visited_once_whatever_the_split),
        cmocka_unit_test(without_a_pool_it_runs_inline),
        cmocka_unit_test(a_loop_shorter_than_two_grains_is_one_call),
        cmocka_unit_test(parts_run_side_by_side),
        cmocka_unit_test(waiting_threads_use_no_processor),
        cmocka_unit_test(loops_that_follow_at_once_do_not_mix),
        cmocka_unit_test(free_of_nothing_is_fine),
    };
    return cmocka_run_group_tests_name("base/pool", tests, NULL, NULL);
}
