/*
 * ledger/watch: copies and drift are seen, and honest work that coincides or varies is not.
 */
#include "ledger/watch.h"

#include <string.h>

#include "base/rng.h"
#include "support/test.h"

#define GROUP 4u

struct fixture {
    struct watch w;
    struct rng r;
    uint64_t unit;
};

static int setup(void **state)
{
    static struct fixture f;

    watch_init(&f.w);
    f.r = rng_of(5, 5);
    f.unit = 0;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    watch_clear(&f->w);
    return 0;
}

/* A unit as this task has them: 20 to 39 tokens a sample, about one nat each, half of them ending. */
static struct ledger_commit ordinary(struct fixture *f)
{
    struct ledger_commit c = {.unit = f->unit++, .n_samples = GROUP};

    for (uint32_t i = 0; i < GROUP; i++) {
        uint32_t n = 20 + (uint32_t)rng_below(&f->r, 20);

        c.sample[i] =
            (struct ledger_sample){.print = rng_u64(&f->r),
                                   .tokens = n,
                                   .surprise = n * (800 + (uint32_t)rng_below(&f->r, 400)),
                                   .has_ended = rng_below(&f->r, 2) != 0,
                                   .reward = (int32_t)rng_below(&f->r, 2) * 1000};
        c.tokens += n;
    }
    return c;
}

static struct watch_finding see(struct fixture *f, uint32_t worker,
                                const struct ledger_commit *c)
{
    struct watch_finding found;

    watch_commit(&f->w, worker, c, &found);
    return found;
}

/* ---- copies ------------------------------------------------------------------------------ */

static void another_workers_tokens_are_known_again(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit first = ordinary(f), copy = ordinary(f);
    struct watch_finding found;

    copy.sample[2] = first.sample[1]; /* in another place of the group */
    assert_int_equal(see(f, 0, &first).code, REASON_NONE);
    found = see(f, 1, &copy);
    assert_int_equal(found.code, REASON_COPIED);
    assert_int_equal(found.other, first.unit);
    assert_int_equal(found.at, 2);
}

static void the_groups_own_are_known_again(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit c = ordinary(f);
    struct watch_finding found;

    c.sample[3].print = c.sample[0].print;
    found = see(f, 0, &c);
    assert_int_equal(found.code, REASON_COPIED);
    assert_int_equal(found.other, c.unit);
    assert_int_equal(found.at, 3);
}

/* The same unit has the same seeds: whoever makes it again says the same. */
static void a_unit_made_again_is_no_copy(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit c = ordinary(f);

    assert_int_equal(see(f, 0, &c).code, REASON_NONE);
    assert_int_equal(see(f, 1, &c).code, REASON_NONE);
}

/* Of four samples and four known before, which are three bits, and then of four and seven. */
static void what_may_well_coincide_is_let_be(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit first = ordinary(f), again = ordinary(f), later = ordinary(f);

    again.sample[0].print = later.sample[0].print = first.sample[0].print;
    again.sample[0].surprise = WATCH_CERTAIN + (4 + 3) * WATCH_LN2 - 1;
    later.sample[0].surprise = WATCH_CERTAIN + (4 + 4) * WATCH_LN2;
    assert_int_equal(see(f, 0, &first).code, REASON_NONE);
    assert_int_equal(see(f, 0, &again).code, REASON_NONE);
    assert_int_equal(see(f, 0, &later).code, REASON_COPIED);
}

/* What no sample of a unit shows alone the unit shows. */
static void the_samples_of_a_unit_add_up(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit first = ordinary(f), again = ordinary(f);
    struct watch_finding found;

    for (uint32_t i = 0; i < GROUP; i++) {
        again.sample[i] = first.sample[i];
        again.sample[i].surprise = 9000;
    }
    assert_int_equal(see(f, 0, &first).code, REASON_NONE);
    found = see(f, 1, &again);
    assert_int_equal(found.code, REASON_COPIED);
    assert_int_equal(found.at, 0);
}

/* A task with 64 answers: honest samples coincide all the time, and none is taken for a copy. */
static void short_answers_that_coincide_are_honest(void **state)
{
    struct fixture *f = *state;

    for (int unit = 0; unit < 2000; unit++) {
        struct ledger_commit c = ordinary(f);

        for (uint32_t i = 0; i < GROUP; i++) {
            c.sample[i].print = rng_below(&f->r, 64);
            c.sample[i].tokens = 2;
            c.sample[i].surprise = 4158; /* ln 64 */
        }
        assert_int_not_equal(see(f, (uint32_t)unit % 3, &c).code, REASON_COPIED);
    }
}

/* ---- statistics -------------------------------------------------------------------------- */

static void honest_workers_do_not_drift(void **state)
{
    struct fixture *f = *state;
    uint32_t n_drift = 0, n_outlier = 0;

    for (int unit = 0; unit < 4000; unit++) {
        struct ledger_commit c = ordinary(f);
        /* Uneven: worker 0 makes half of all. */
        uint32_t worker = unit % 2 ? 0 : 1 + (uint32_t)rng_below(&f->r, 5);
        uint32_t code = see(f, worker, &c).code;

        n_drift += code == REASON_DRIFT;
        n_outlier += code == REASON_OUTLIER;
    }
    /* 4 features, 5 standard errors: 2e-6 a commit if means are normal; and no feature of one unit
     * reaches 6 deviations here. */
    assert_int_equal(n_drift, 0);
    assert_int_equal(n_outlier, 0);
}

/* How many of 400 commits by five workers are found to drift or stand out, if worker 4 alters its own. */
static uint32_t drift_of(struct fixture *f, void (*alter)(struct ledger_commit *c),
                         uint32_t code, uint32_t at)
{
    uint32_t n = 0;

    for (int unit = 0; unit < 400; unit++) {
        struct ledger_commit c = ordinary(f);
        uint32_t worker = (uint32_t)unit % 5;
        struct watch_finding found;

        if (worker == 4)
            alter(&c);
        found = see(f, worker, &c);
        if (worker == 4)
            n += found.code == code && found.at == at;
        else
            assert_int_equal(found.code, REASON_NONE);
    }
    return n;
}

static void cut(struct ledger_commit *c)
{
    for (uint32_t i = 0; i < GROUP; i++) {
        c->sample[i].surprise -= c->sample[i].surprise / c->sample[i].tokens * 8;
        c->sample[i].tokens -= 8;
    }
}

static void flatter(struct ledger_commit *c)
{
    for (uint32_t i = 0; i < GROUP; i++)
        c->sample[i].surprise -= c->sample[i].surprise / 5;
}

static void never_end(struct ledger_commit *c)
{
    for (uint32_t i = 0; i < GROUP; i++)
        c->sample[i].has_ended = 0;
}

static void boast(struct ledger_commit *c)
{
    for (uint32_t i = 0; i < GROUP; i++)
        c->sample[i].reward = 1000;
}

static void shorter_answers_drift(void **state)
{
    assert_true(drift_of(*state, cut, REASON_DRIFT, WATCH_LENGTH) > 40);
}

static void likelier_answers_drift(void **state)
{
    assert_true(drift_of(*state, flatter, REASON_DRIFT, WATCH_SURPRISE) > 40);
}

static void answers_that_never_end_drift(void **state)
{
    assert_true(drift_of(*state, never_end, REASON_DRIFT, WATCH_ENDED) > 40);
}

static void better_rewards_than_others_drift(void **state)
{
    assert_true(drift_of(*state, boast, REASON_DRIFT, WATCH_REWARD) > 40);
}

static void one_unit_far_off_stands_out(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit c;
    struct watch_finding found;

    for (uint32_t i = 0; i < 100; i++) {
        c = ordinary(f);
        assert_int_equal(see(f, i % 3, &c).code, REASON_NONE);
    }
    c = ordinary(f);
    c.sample[1].reward = 8000;
    found = see(f, 0, &c);
    assert_int_equal(found.code, REASON_OUTLIER);
    assert_int_equal(found.at, WATCH_REWARD);
    c = ordinary(f);
    assert_int_equal(see(f, 0, &c).code, REASON_NONE); /* its worker is not marked */
}

static void what_left_the_window_is_forgotten(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit c;

    (void)drift_of(f, cut, REASON_DRIFT, WATCH_LENGTH);
    for (uint32_t i = 0; i < WATCH_WINDOW; i++) {
        c = ordinary(f);
        (void)see(f, i % 4, &c);
    }
    assert_int_equal(f->w.own[4].n, 0);
    assert_int_equal(f->w.own[4].sum[WATCH_LENGTH], 0);
    assert_int_equal(f->w.all.n, WATCH_WINDOW);
    c = ordinary(f);
    assert_int_equal(see(f, 4, &c).code, REASON_NONE);
}

/* The largest and the smallest of everything: no sum overflows, which UBSan would not tell of unsigned
 * numbers, so the verdict is looked at. */
static void the_ends_of_the_range_are_judged_rightly(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 2 * WATCH_WINDOW; i++) {
        struct ledger_commit c = {.unit = f->unit++, .n_samples = 1};
        uint32_t worker = i % 2;

        c.sample[0] = (struct ledger_sample){.print = rng_u64(&f->r),
                                             .tokens = worker ? 65536 : 1,
                                             .surprise = worker ? UINT32_MAX : 0,
                                             .has_ended = worker,
                                             .reward = worker ? 1 << 30 : -(1 << 30)};
        if (i > 100)
            assert_int_equal(see(f, worker, &c).code, REASON_DRIFT);
        else
            (void)see(f, worker, &c);
    }
}

/* ---- what comes of it -------------------------------------------------------------------- */

static void copies_are_checked_and_drift_is_checked_more(void **state)
{
    (void)state;

    assert_true(watch_probability(1000, REASON_NONE) == 1000);
    assert_true(watch_probability(1000, REASON_COPIED) == LEDGER_ONE);
    assert_true(watch_probability(1000, REASON_DRIFT) == 1000 * WATCH_TIMES);
    assert_true(watch_probability(LEDGER_ONE / 4, REASON_OUTLIER) == LEDGER_ONE);
    assert_true(watch_probability(LEDGER_ONE, REASON_NONE) == LEDGER_ONE);
}

static void a_commit_without_samples_says_nothing(void **state)
{
    struct fixture *f = *state;
    struct ledger_commit c = {.unit = 3};

    assert_int_equal(see(f, 7, &c).code, REASON_NONE);
    assert_int_equal(f->w.n, 0);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(another_workers_tokens_are_known_again),
        CASE(the_groups_own_are_known_again),
        CASE(a_unit_made_again_is_no_copy),
        CASE(what_may_well_coincide_is_let_be),
        CASE(the_samples_of_a_unit_add_up),
        CASE(short_answers_that_coincide_are_honest),
        CASE(honest_workers_do_not_drift),
        CASE(shorter_answers_drift),
        CASE(likelier_answers_drift),
        CASE(answers_that_never_end_drift),
        CASE(better_rewards_than_others_drift),
        CASE(one_unit_far_off_stands_out),
        CASE(what_left_the_window_is_forgotten),
        CASE(the_ends_of_the_range_are_judged_rightly),
        CASE(copies_are_checked_and_drift_is_checked_more),
        CASE(a_commit_without_samples_says_nothing),
    };
    return cmocka_run_group_tests_name("ledger/watch", tests, NULL, NULL);
}
