/*
 * learn/graph, learn/trace: the operations of a step, one by one, come to the learner's bits.
 */
#include "learn/trace.h"

#include <string.h>

#include "support/test.h"

#include "tiny_step.h"
#include "unit/engine/tiny_model.h"

struct roots {
    struct digest all, masters, optimizer;
};

static struct roots roots_of(const struct tiny_step *s, const char *kernels, size_t threads)
{
    struct trace_options o = {0};
    struct graph *g = tiny_step_graph(s);
    struct pool *pool;
    struct trace *t;
    struct roots r;
    struct err e;

    assert_ok(kernels_choose(&o.kernels, NUMERICS_F32_1, kernels, &e), &e);
    pool_new(&pool, threads);
    o.pool = pool;
    assert_ok(trace_new(&t, g, s->masters, s->opt, &o, &e), &e);
    assert_ok(trace_commit(t, &e), &e);
    r = (struct roots){t->all, t->masters_after, t->optimizer_after};
    trace_free(&t);
    pool_free(&pool);
    graph_free(&g);
    return r;
}

/* The step of a model, by the learner and as a trace; with the digest of where it came to. */
static struct digest compare_lanes(const struct model_config *c, size_t n_samples,
                                   size_t longest, uint32_t n_lanes)
{
    struct digest masters, optimizer;
    struct tiny_step s;
    struct roots r;

    tiny_step_init(&s, c, n_samples, longest);
    s.settings.grad_lanes = n_lanes;
    tiny_step_roots(&s, &masters, &optimizer);
    r = roots_of(&s, "auto", 1);
    assert_memory_equal(r.masters.b, masters.b, DIGEST_BYTES);
    assert_memory_equal(r.optimizer.b, optimizer.b, DIGEST_BYTES);
    tiny_step_clear(&s);
    return masters;
}

static void compare(const struct model_config *c, size_t n_samples, size_t longest)
{
    (void)compare_lanes(c, n_samples, longest, 1);
}

static void a_trace_ends_where_the_learner_does(void **state)
{
    static const enum model_arch archs[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2,
                                            MODEL_ARCH_QWEN3};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct model_config c = tiny_config(archs[i]);

        compare(&c, 6, 12);
    }
}

static void so_it_does_with_weights_published_in_bf16(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);

    (void)state;
    c.dtype = DTYPE_BF16;
    compare(&c, 4, 9);
}

static void so_it_does_over_several_micro_batches(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);

    (void)state;
    c.max_len = 1300;
    compare(&c, 5, 1200); /* longer than a micro-batch, and others beside it */
}

/* Also with lanes that have no sequence, or only one without loss. */
static void so_it_does_in_lanes(void **state)
{
    static const enum model_arch archs[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2,
                                            MODEL_ARCH_QWEN3};
    static const uint32_t lanes[] = {2, 4, 8};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct model_config c = tiny_config(archs[i]);
        struct digest one = compare_lanes(&c, 6, 12, 1);

        for (size_t j = 0; j < 3; j++) {
            struct digest several = compare_lanes(&c, 6, 12, lanes[j]);

            assert_false(digest_equal(&one, &several));
        }
        (void)compare_lanes(&c, 2, 12, 8);
    }
}

static void backends_and_threads_change_nothing(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN2);
    struct roots a, b;
    struct tiny_step s;

    (void)state;
    tiny_step_init(&s, &c, 6, 12);
    a = roots_of(&s, "scalar", 1);
    b = roots_of(&s, "auto", 3);
    assert_memory_equal(&a, &b, sizeof(a));
    tiny_step_clear(&s);
}

/* The root of every input and output, as the second pass has them, is that of the first. */
static void a_sought_operation_has_the_tensors_that_were_committed(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);
    struct trace_options o = {.kernels = kernels_best()};
    struct tiny_step s;
    struct graph *g;
    struct trace *t;
    struct err e;

    (void)state;
    tiny_step_init(&s, &c, 4, 9);
    g = tiny_step_graph(&s);
    assert_ok(trace_new(&t, g, s.masters, s.opt, &o, &e), &e);
    assert_ok(trace_commit(t, &e), &e);
    for (uint32_t i = 0; i + 1 < g->n_ops; i += 3) {
        const struct graph_op *op = &g->op[i];
        uint32_t tensor[GRAPH_INS + GRAPH_OUTS];

        memcpy(tensor, op->in, sizeof(op->in));
        memcpy(tensor + GRAPH_INS, op->out, sizeof(op->out));
        assert_ok(trace_seek(t, i, &e), &e);
        for (size_t j = 0; j < GRAPH_INS + GRAPH_OUTS; j++) {
            struct digest root;

            if (tensor[j] == GRAPH_NONE)
                continue;
            assert_ok(tiles_root(&root, &g->tensor[tensor[j]].shape, trace_tensor(t, tensor[j]),
                                 NULL, &e),
                      &e);
            assert_memory_equal(root.b, t->root[tensor[j]].b, DIGEST_BYTES);
        }
    }
    trace_free(&t);
    graph_free(&g);
    tiny_step_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_ends_where_the_learner_does),
        cmocka_unit_test(so_it_does_with_weights_published_in_bf16),
        cmocka_unit_test(so_it_does_over_several_micro_batches),
        cmocka_unit_test(so_it_does_in_lanes),
        cmocka_unit_test(backends_and_threads_change_nothing),
        cmocka_unit_test(a_sought_operation_has_the_tensors_that_were_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
