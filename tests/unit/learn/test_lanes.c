/*
 * learn/lanes: what lanes are, and that who computes them changes nothing.
 */
#include "learn/lanes.h"

#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "engine/kernels.h"
#include "support/close.h"
#include "support/grads.h"
#include "support/test.h"

#include "tiny_step.h"
#include "unit/engine/tiny_model.h"

#define SEQS 9u
#define LEN  13u

struct fixture {
    struct tiny_step s;
    struct learn_seq seq[SEQS];
    struct learn_work w;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3); /* tied: two gradients to join */

    tiny_step_init(&f->s, &c, SEQS, LEN);
    for (size_t i = 0; i < SEQS; i++) {
        const struct learn_sample *x = &f->s.batch.sample[i];

        f->seq[i] = (struct learn_seq){.tokens = x->tokens,
                                       .is_target = x->mask,
                                       .n = x->n,
                                       .logprobs = x->logprobs,
                                       .advantage = x->advantage};
    }
    f->w = (struct learn_work){.seq = f->seq,
                               .n_seqs = SEQS,
                               .n_tokens = f->s.batch.n_tokens,
                               .temperature = f->s.settings.temperature,
                               .loss = f->s.settings.loss};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tiny_step_clear(&f->s);
    test_free(f);
    return 0;
}

/* One process of several, and how it runs. */
struct process {
    struct pool *pool;
    struct train *train;
    struct lanes *lanes;
};

static struct process process_of(struct fixture *f, const char *kernels, size_t threads,
                                 size_t max_rows, uint32_t n_levels)
{
    struct train_options o = {.max_rows = max_rows};
    struct process p = {0};

    pool_new(&p.pool, threads);
    o.pool = p.pool;
    assert_ok(kernels_choose(&o.kernels, NUMERICS_F32_1, kernels, &f->e), &f->e);
    assert_ok(train_new(&p.train, f->s.masters, &o, &f->e), &f->e);
    assert_ok(lanes_new(&p.lanes, p.train, o.kernels, max_rows, n_levels, &f->e), &f->e);
    return p;
}

static void process_end(struct process *p)
{
    lanes_free(&p->lanes);
    train_free(&p->train);
    pool_free(&p->pool);
}

static struct weights *copy(const struct weights *w)
{
    struct weights *to;
    struct err e;

    assert_ok(weights_new(&to, &w->config, &e), &e);
    weights_copy(to, w);
    return to;
}

/* The gradient of n_lanes lanes by one process. */
static struct weights *alone(struct fixture *f, uint32_t n_lanes, const char *kernels,
                             size_t threads, size_t max_rows, struct learn_tally *tally)
{
    struct process p = process_of(f, kernels, threads, max_rows, lanes_levels(n_lanes, 1));
    struct weights *g;

    f->w.n_lanes = n_lanes;
    assert_ok(lanes_gradient(p.lanes, &f->w, 0, n_lanes, tally, &f->e), &f->e);
    g = copy(host_grads(p.train));
    process_end(&p);
    return g;
}

static void rows_are_cut_evenly_between_sequences(void **state)
{
    (void)state;
    assert_int_equal(lanes_of(0, 10, 4), 0);
    assert_int_equal(lanes_of(2, 10, 4), 0); /* 8 / 10 */
    assert_int_equal(lanes_of(3, 10, 4), 1);
    assert_int_equal(lanes_of(4, 10, 4), 1);
    assert_int_equal(lanes_of(5, 10, 4), 2);
    assert_int_equal(lanes_of(9, 10, 4), 3);
    assert_int_equal(lanes_of(0, 1, 8), 0);
    assert_int_equal(lanes_of(UINT64_C(1) << 40, (UINT64_C(1) << 40) + 1, 8), 7);
}

/* Each lane as a step of its own, whose gradients this test adds in pairs. */
static void a_step_is_its_lanes_added_in_pairs(void **state)
{
    struct fixture *f = *state;
    struct weights *lane[4], *got;
    struct learn_tally t[4], part;
    size_t first = 0, row = 0, n_rows = 0, n_in[4] = {0};

    for (size_t i = 0; i < SEQS; i++)
        n_rows += f->seq[i].n - 1;
    for (size_t i = 0; i < SEQS; i++) {
        n_in[row * 4 / n_rows]++;
        row += f->seq[i].n - 1;
    }
    got = alone(f, 4, "scalar", 1, 64, t);
    for (size_t l = 0; l < 4; l++) {
        const struct learn_work whole = f->w;

        assert_in_range(n_in[l], 1, SEQS - 3); /* each has some, and none has all */
        f->w.seq = f->seq + first;
        f->w.n_seqs = n_in[l];
        lane[l] = alone(f, 1, "scalar", 1, 64, &part);
        assert_true(part.objective == t[l].objective && part.kl == t[l].kl &&
                    part.ratio_max == t[l].ratio_max && part.n_clipped == t[l].n_clipped);
        f->w = whole;
        first += n_in[l];
    }
    for (size_t i = 0; i < got->n_data; i++)
        lane[0]->data[i] =
            (lane[0]->data[i] + lane[1]->data[i]) + (lane[2]->data[i] + lane[3]->data[i]);

    assert_same_bits(got->data, lane[0]->data, got->n_data);
    for (size_t l = 0; l < 4; l++)
        weights_free(&lane[l]);
    weights_free(&got);
}

static void another_number_of_lanes_is_another_sum(void **state)
{
    struct fixture *f = *state;
    struct learn_tally t[LANES_MAX];
    struct weights *one = alone(f, 1, "scalar", 1, 64, t), *other;

    for (uint32_t n = 2; n <= LANES_MAX; n *= 2) {
        other = alone(f, n, "scalar", 1, 64, t);
        assert_true(memcmp(one->data, other->data, one->n_data * sizeof(float)) != 0);
        weights_free(&other);
    }
    weights_free(&one);
}

static void micro_batches_threads_and_kernels_change_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *kernels;
        size_t threads, max_rows;
    } how[] = {
        {"scalar", 1, LEN - 1}, {"scalar", 3, 20}, {"auto", 1, LEN - 1}, {"auto", 2, 33}};
    struct learn_tally t[LANES_MAX], want[LANES_MAX];

    for (uint32_t n = 1; n <= LANES_MAX; n *= 2) {
        struct weights *g = alone(f, n, "scalar", 1, 64, want);

        for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
            struct weights *got =
                alone(f, n, how[i].kernels, how[i].threads, how[i].max_rows, t);

            assert_same_bits(got->data, g->data, g->n_data);
            for (uint32_t l = 0; l < n; l++)
                assert_true(t[l].objective == want[l].objective && t[l].kl == want[l].kl);
            weights_free(&got);
        }
        weights_free(&g);
    }
}

/* What N processes do: each its own lanes, the first adds what the others hand it. */
static struct weights *shared(struct fixture *f, uint32_t n_lanes, uint32_t n_processes)
{
    uint32_t n = n_lanes / n_processes;
    struct process p[LANES_MAX];
    struct learn_tally t[LANES_MAX];
    struct weights *g;

    f->w.n_lanes = n_lanes;
    for (uint32_t i = 0; i < n_processes; i++) {
        p[i] = process_of(f, i % 2 ? "auto" : "scalar", 1 + i % 2, LEN - 1 + 7 * i,
                          i ? lanes_levels(n, 1) : lanes_levels(n_lanes, n_processes));
        assert_ok(lanes_gradient(p[i].lanes, &f->w, i * n, n, t + i * n, &f->e), &f->e);
        if (i)
            weights_copy(train_grads_there(p[0].train), host_grads(p[i].train));
        lanes_settle(p[0].lanes, i, n_processes);
    }
    g = copy(host_grads(p[0].train));
    for (uint32_t i = 0; i < n_processes; i++)
        process_end(&p[i]);
    return g;
}

static void any_number_of_processes_that_divides_makes_the_same_sum(void **state)
{
    struct fixture *f = *state;
    struct learn_tally t[LANES_MAX];

    for (uint32_t n = 1; n <= LANES_MAX; n *= 2) {
        struct weights *g = alone(f, n, "scalar", 1, 64, t);

        for (uint32_t processes = 1; processes <= n; processes *= 2) {
            struct weights *got = shared(f, n, processes);

            assert_same_bits(got->data, g->data, g->n_data);
            weights_free(&got);
        }
        weights_free(&g);
    }
}

static void a_lane_may_have_no_sequence(void **state)
{
    struct fixture *f = *state;
    struct learn_tally t[LANES_MAX];
    struct weights *g, *got;

    f->w.n_seqs = 1;
    g = alone(f, 1, "scalar", 1, 64, t);
    got = alone(f, 8, "scalar", 1, 64, t);

    assert_close(got->data, g->data, g->n_data, 0, 0); /* but -0 + +0 is +0 */
    assert_true(t[0].objective != 0.0 && t[1].objective == 0.0 && t[7].objective == 0.0);
    weights_free(&g);
    weights_free(&got);
}

static void a_sequence_without_a_row_is_refused(void **state)
{
    struct fixture *f = *state;
    struct process p = process_of(f, "scalar", 1, 64, 1);
    struct learn_tally t[2];

    f->w.n_lanes = 2;
    f->seq[3].n = 1;
    assert_status(lanes_gradient(p.lanes, &f->w, 0, 2, t, &f->e), ERR_LIMIT, NULL);
    assert_contains(f->e.text, "sequence 3");
    process_end(&p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rows_are_cut_evenly_between_sequences),
        CASE(a_step_is_its_lanes_added_in_pairs),
        CASE(another_number_of_lanes_is_another_sum),
        CASE(micro_batches_threads_and_kernels_change_nothing),
        CASE(any_number_of_processes_that_divides_makes_the_same_sum),
        CASE(a_lane_may_have_no_sequence),
        CASE(a_sequence_without_a_row_is_refused),
    };

    return cmocka_run_group_tests_name("learn/lanes", tests, NULL, NULL);
}
