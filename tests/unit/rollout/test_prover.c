/*
 * rollout/prover: proofs from each row's largest elements are those from whole rows.
 */
#include "rollout/prover.h"

#include <string.h>

#include "engine/kernels.h"
#include "proto/toploc.h"
#include "support/random.h"
#include "support/test.h"

#define DIM  200u
#define ROWS 75u /* two chunks and a part */

struct both {
    struct prover whole, top;
    struct err e;
};

static void begin(struct both *b)
{
    assert_ok(prover_init(&b->whole, DIM, false, &b->e), &b->e);
    assert_ok(prover_init(&b->top, DIM, true, &b->e), &b->e);
}

static void clear(struct both *b)
{
    prover_clear(&b->whole);
    prover_clear(&b->top);
}

static void add(struct both *b, const float *state)
{
    assert_ok(prover_add(&b->whole, kernels_best(), state, &b->e), &b->e);
    assert_ok(prover_add(&b->top, kernels_best(), state, &b->e), &b->e);
}

static void assert_same_proofs(struct both *b)
{
    assert_ok(prover_end(&b->whole, &b->e), &b->e);
    assert_ok(prover_end(&b->top, &b->e), &b->e);
    assert_int_equal(b->top.proofs.len, 3 * TOPLOC_PROOF_BYTES);
    assert_int_equal(b->whole.proofs.len, b->top.proofs.len);
    assert_memory_equal(b->whole.proofs.data, b->top.proofs.data, b->top.proofs.len);
    assert_int_equal(b->top.states.len, 3 * sizeof(struct digest));
}

/* `values`: of how many a state's elements are drawn; few make equal magnitudes, of which the first count. */
static void proofs_are_those_of_whole_rows(size_t values, size_t work_every)
{
    struct rng r = random_seeded(values);
    struct both b = {0};

    begin(&b);
    for (size_t i = 0; i < ROWS; i++) {
        float state[DIM];

        for (size_t c = 0; c < DIM; c++)
            state[c] =
                ((float)rng_below(&r, values) + 1.0f) * (rng_u32(&r) & 1 ? 0.01f : -0.01f);
        add(&b, state);
        if (i % work_every == 0)
            assert_ok(prover_work(&b.top, &b.e), &b.e);
    }
    assert_same_proofs(&b);
    clear(&b);
}

static void of_many_values(void **state)
{
    (void)state;
    proofs_are_those_of_whole_rows(100000, 3);
}

static void of_equal_magnitudes_the_first_count(void **state)
{
    (void)state;
    proofs_are_those_of_whole_rows(3, 5);
}

static void without_time_between_chunks(void **state)
{
    (void)state;
    proofs_are_those_of_whole_rows(1000, 1000);
}

static void one_other_value_is_another_digest(void **state)
{
    struct both b[2] = {0};
    float row[DIM] = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        begin(&b[i]);
        row[7] = (float)(i + 1);
        add(&b[i], row);
        assert_ok(prover_end(&b[i].top, &b[i].e), &b[i].e);
    }
    assert_memory_not_equal(b[0].top.states.data, b[1].top.states.data, sizeof(struct digest));
    clear(&b[0]);
    clear(&b[1]);
}

static void only_open_cuda_takes_them(void **state)
{
    (void)state;
    assert_true(prover_takes_top(NUMERICS_OPEN_CUDA, 128));
    assert_false(prover_takes_top(NUMERICS_OPEN_CUDA, 127));
    assert_false(prover_takes_top(NUMERICS_OPEN_OPENBLAS, 128));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_many_values),
        cmocka_unit_test(of_equal_magnitudes_the_first_count),
        cmocka_unit_test(without_time_between_chunks),
        cmocka_unit_test(one_other_value_is_another_digest),
        cmocka_unit_test(only_open_cuda_takes_them),
    };
    return cmocka_run_group_tests_name("prover", tests, NULL, NULL);
}
