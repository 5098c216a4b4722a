/* The order in which a call's sequences are handed to attention. */
#include "engine/attend.h"

#include "engine/kernels.h"
#include "engine/ops.h"
#include "support/test.h"

#define PAGES 4u

/* As rows of a call: how many queries, from which position, and which pages (0: none). */
struct given {
    size_t n, first;
    size_t page[PAGES];
};

static float room[16];

/* Rows in the order of their runs must be `want`. */
static void assert_order(const struct given *given, size_t n, const size_t *want)
{
    float *tables[8][PAGES];
    struct attend a = {0};
    struct stage s = {0};
    size_t row[8], at = 0;
    struct err e;

    assert_ok(attend_init(&a, n, &e), &e);
    attend_reset(&a);
    for (size_t i = 0; i < n; i++) {
        for (size_t p = 0; p < PAGES; p++)
            tables[i][p] = room + given[i].page[p];
        attend_add(&a, given[i].n, given[i].first, given[i].page[0] ? tables[i] : NULL);
        row[i] = at;
        at += given[i].n;
    }

    attend_stage(&a, kernels_best(), &s);

    assert_int_equal(a.n, n);
    for (size_t i = 0; i < n; i++) {
        const struct given *g = &given[want[i]];
        assert_int_equal(a.run[i].at.row, row[want[i]]);
        assert_int_equal(a.run[i].at.n, g->n);
        assert_int_equal(a.run[i].at.first, g->first);
        if (g->page[0])
            assert_ptr_equal(a.run[i].table, tables[want[i]]);
        else
            assert_null(a.run[i].table);
    }
    attend_clear(&a);
    stage_clear(&s);
}

static void sequences_that_share_pages_come_together(void **state)
{
    const struct given given[] = {
        {1, 200, {1, 2, 3, 4}}, {1, 150, {5, 6, 7}},      {1, 200, {1, 2, 3, 8}},
        {1, 150, {5, 6, 9}},    {1, 200, {1, 2, 10, 11}}, {1, 80, {12, 13}},
    };
    const size_t want[] = {0, 2, 4, 1, 3, 5};
    (void)state;

    assert_order(given, 6, want);
}

/* Pages past its last position are not a sequence's. */
static void one_that_ends_where_others_go_on_comes_first(void **state)
{
    const struct given given[] = {
        {1, 127, {1, 2, 9}}, {1, 128, {1, 2, 4}}, {1, 63, {1, 8}}, {1, 128, {1, 2, 3}}};
    const size_t want[] = {2, 0, 3, 1};
    (void)state;

    assert_order(given, 4, want);
}

static void runs_of_several_queries_stay_as_they_came_before_all_others(void **state)
{
    const struct given given[] = {{1, 70, {9, 10}}, {3, 64, {8, 7}}, {1, 70, {2, 3}},
                                  {2, 0, {1}},      {5, 0, {0}},     {1, 0, {0}}};
    const size_t want[] = {1, 3, 4, 5, 2, 0};
    (void)state;

    assert_order(given, 6, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_that_share_pages_come_together),
        cmocka_unit_test(one_that_ends_where_others_go_on_comes_first),
        cmocka_unit_test(runs_of_several_queries_stay_as_they_came_before_all_others),
    };
    return cmocka_run_group_tests_name("engine/attend", tests, NULL, NULL);
}
