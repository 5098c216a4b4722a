/*
 * rollout/plan: against values computed by Python from the formula in the header:
 *
 *   struct.unpack("<Q", hashlib.blake2b(b"muster/plan\0" + task +
 *       struct.pack("<QQII", seed, unit, purpose, n), digest_size=32).digest()[:8])
 */
#include "rollout/plan.h"

#include <stdlib.h>

#include "support/test.h"

static struct plan a_plan(void)
{
    struct plan p = {.seed = 7, .n_tasks = 1000};

    for (size_t i = 0; i < DIGEST_BYTES; i++)
        p.task.b[i] = (uint8_t)i;
    return p;
}

static void units_are_planned_as_recorded(void **state)
{
    (void)state;
    static const struct {
        uint64_t unit, index, env_seed, first, last;
    } want[] = {
        {0, 117, 0xddb8867aff828e16, 0x32bb416d163c3eb8, 0xd72a745834929bb2},
        {1, 222, 0x8c1c0bf8be9b95bd, 0xf2cc5fa9b0735c39, 0xf35410b379d09bb7},
        {(uint64_t)1 << 40, 193, 0x4eda74a101995a54, 0x6a80e37417310a33, 0xa0c69028fd64a4d0},
    };
    const struct plan p = a_plan();

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(plan_task_index(&p, want[i].unit), want[i].index);
        assert_true(plan_env_seed(&p, want[i].unit) == want[i].env_seed);
        assert_true(plan_sample_seed(&p, want[i].unit, 0) == want[i].first);
        assert_true(plan_sample_seed(&p, want[i].unit, 63) == want[i].last);
    }
}

static void the_rest_is_planned_as_recorded(void **state)
{
    (void)state;
    const struct plan p = a_plan();

    assert_int_equal(plan_demo_index(&p, 5), 467);
    assert_true(plan_demo_seed(&p, 5) == 0xdfaade390f0e56a6);
    assert_true(plan_init_seed(&p) == 0x7f7b4ce4c851fda1);
    assert_int_equal(plan_heldout_index(&p, 5), 868);
    assert_true(plan_heldout_seed(&p, 5) == 0xdec75fbb4169b178);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void no_two_draws_share_a_seed(void **state)
{
    (void)state;
    enum { UNITS = 64, SAMPLES = 16, EACH = SAMPLES + 3 };
    static uint64_t seed[UNITS * EACH + 1];
    const struct plan p = a_plan();
    size_t n = 0;

    for (uint64_t u = 0; u < UNITS; u++) {
        for (uint32_t s = 0; s < SAMPLES; s++)
            seed[n++] = plan_sample_seed(&p, u, s);
        seed[n++] = plan_env_seed(&p, u);
        seed[n++] = plan_demo_seed(&p, u);
        seed[n++] = plan_heldout_seed(&p, u);
    }
    seed[n++] = plan_init_seed(&p);
    qsort(seed, n, sizeof(seed[0]), compare);

    /* 1217 of 2^64 values meet by chance with probability 4e-14. */
    for (size_t i = 1; i < n; i++)
        assert_true(seed[i] != seed[i - 1]);
}

static void every_part_of_the_plan_counts(void **state)
{
    (void)state;
    const struct plan p = a_plan();
    struct plan q = p;
    uint64_t seed = plan_sample_seed(&p, 4, 2);

    q.task.b[31] ^= 1;
    assert_true(plan_sample_seed(&q, 4, 2) != seed);
    q = p;
    q.seed ^= (uint64_t)1 << 63;
    assert_true(plan_sample_seed(&q, 4, 2) != seed);
    q = p;
    q.n_tasks = 1; /* the number of tasks bounds the index and nothing else */
    assert_true(plan_sample_seed(&q, 4, 2) == seed);
    assert_int_equal(plan_task_index(&q, 4), 0);
}

static void indices_cover_the_tasks(void **state)
{
    (void)state;
    struct plan p = a_plan();
    unsigned train[8] = {0}, demo[8] = {0}, heldout[8] = {0};

    p.n_tasks = 8;
    for (uint64_t u = 0; u < 800; u++) {
        assert_true(plan_task_index(&p, u) < 8);
        train[plan_task_index(&p, u)]++;
        demo[plan_demo_index(&p, u)]++;
        heldout[plan_heldout_index(&p, u)]++;
    }

    /* 100 expected, deviation 9.4: 50 is more than five deviations away. */
    for (size_t i = 0; i < 8; i++) {
        assert_in_range(train[i], 50, 150);
        assert_in_range(demo[i], 50, 150);
        assert_in_range(heldout[i], 50, 150);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_planned_as_recorded),
        cmocka_unit_test(the_rest_is_planned_as_recorded),
        cmocka_unit_test(no_two_draws_share_a_seed),
        cmocka_unit_test(every_part_of_the_plan_counts),
        cmocka_unit_test(indices_cover_the_tasks),
    };
    return cmocka_run_group_tests_name("rollout/plan", tests, NULL, NULL);
}
