/*
 * learn/referee: every tile of every output of every operation is the trace's, whole or segment by
 * segment, and nothing can be decided without the tiles that it depends on.
 */
#include "learn/referee.h"

#include <string.h>

#include "learn/trace.h"
#include "support/test.h"

#include "tiny_step.h"
#include "unit/engine/tiny_model.h"

struct fixture {
    struct tiny_step s;
    struct graph *g;
    struct trace *t;
    float tile[TILE_MAX];
    size_t n_asked,
        missing; /* the missing'th tile that is asked for is not to be had; 0: all are */
    bool seen[GRAPH_KIND_COUNT];
    size_t n_resumed;
    struct err e;
};

static const float *source(void *arg, uint32_t tensor, uint64_t tile)
{
    struct fixture *f = arg;

    if (++f->n_asked == f->missing)
        return NULL;
    tile_copy(f->tile, &f->g->tensor[tensor].shape, trace_tensor(f->t, tensor), tile);
    return f->tile;
}

static void begin(struct fixture *f, const struct model_config *c, size_t n_samples,
                  size_t longest, uint32_t n_lanes)
{
    struct trace_options o = {.kernels = kernels_best()};

    memset(f, 0, sizeof(*f));
    tiny_step_init(&f->s, c, n_samples, longest);
    f->s.settings.grad_lanes = n_lanes;
    f->g = tiny_step_graph(&f->s);
    assert_ok(trace_new(&f->t, f->g, f->s.masters, f->s.opt, &o, &f->e), &f->e);
}

static void end(struct fixture *f)
{
    trace_free(&f->t);
    graph_free(&f->g);
    tiny_step_clear(&f->s);
}

static struct referee referee_of(struct fixture *f)
{
    struct err e;
    struct referee r = {.g = f->g, .source = source, .arg = f};

    assert_ok(kernels_choose(&r.kernels, NUMERICS_F32_1, "scalar", &e), &e);
    return r;
}

/* One tile: computed in one go, and taken up again at each segment. */
static void check_tile(struct fixture *f, uint32_t op, uint32_t out, uint64_t tile)
{
    const struct tiling *shape = &f->g->tensor[f->g->op[op].out[out]].shape;
    struct tile at = tiling_at(shape, tile);
    struct referee_question q = {op, out, tile, 0, graph_segments(f->g, &f->g->op[op], out)};
    float want[TILE_MAX], whole[TILE_MAX], sum[TILE_MAX];
    struct referee r = referee_of(f);
    size_t n = q.n, bytes = at.rows * at.cols * sizeof(float);

    tile_copy(want, shape, trace_tensor(f->t, f->g->op[op].out[out]), tile);
    assert_ok(referee_compute(whole, &r, &q, NULL, &f->e), &f->e);
    if (memcmp(whole, want, bytes) != 0)
        fail_msg("operation %u (%s) output %u tile %llu differs", op,
                 graph_kind_name(f->g->op[op].kind), out, (unsigned long long)tile);
    for (q.n = 1, q.first = 0; n > 1 && q.first < n; q.first++) {
        float next[TILE_MAX];

        assert_ok(referee_compute(next, &r, &q, q.first ? sum : NULL, &f->e), &f->e);
        memcpy(sum, next, bytes);
        f->n_resumed += q.first > 0;
    }
    if (n > 1)
        assert_memory_equal(sum, want, bytes);
}

static void check_op(struct fixture *f, uint32_t i)
{
    const struct graph_op *op = &f->g->op[i];

    assert_ok(trace_seek(f->t, i, &f->e), &f->e);
    for (uint32_t o = 0; o < op->n_outs; o++) {
        uint64_t n = tiling_count(&f->g->tensor[op->out[o]].shape);

        for (uint64_t tile = 0; tile<n; tile += n> 40 ? n / 17 : 1)
            check_tile(f, i, o, tile);
    }
    f->seen[op->kind] = true;
}

static void every_tile_is_what_the_trace_has(void **state)
{
    static const enum model_arch archs[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2,
                                            MODEL_ARCH_QWEN3};
    bool seen[GRAPH_KIND_COUNT] = {false};
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct model_config c = tiny_config(archs[i]);

        c.dtype = i == 1 ? DTYPE_BF16 : DTYPE_F32;
        c.dim = i == 2 ? 40 : 12; /* more than a tile */
        begin(&f, &c, 7, 21, 1u << i);
        for (uint32_t op = 0; op + 1 < f.g->n_ops; op++)
            check_op(&f, op);
        for (size_t k = 0; k < GRAPH_KIND_COUNT; k++)
            seen[k] = seen[k] || f.seen[k];
        end(&f);
    }
    for (size_t k = 0; k < GRAPH_CONCLUDE; k++)
        if (!seen[k])
            fail_msg("no %s was looked at", graph_kind_name((enum graph_kind)k));
}

static void long_sums_go_on_from_any_segment(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);
    struct fixture f;
    size_t n_long = 0;

    (void)state;
    c.max_len = 1300;
    c.ffn = 1100;
    begin(&f, &c, 2, 1100, 1);
    for (uint32_t i = 0; i < f.g->n_ops; i++) {
        const struct graph_op *op = &f.g->op[i];
        bool is_long = false;

        for (uint32_t o = 0; o < op->n_outs; o++)
            is_long = is_long || graph_segments(f.g, op, o) > 1;
        if (is_long && !f.seen[op->kind])
            check_op(&f, i);
        n_long += is_long && graph_segments(f.g, op, 0) > 1;
    }
    assert_true(f.seen[GRAPH_LINEAR] && f.seen[GRAPH_DX] && f.seen[GRAPH_DW]);
    assert_true(f.seen[GRAPH_BIAS_BACK] && f.seen[GRAPH_EMBED_BACK] && f.seen[GRAPH_NORM_BACK]);
    assert_true(n_long > 20 && f.n_resumed > 20);
    end(&f);
}

static void nothing_is_decided_without_what_it_depends_on(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);
    struct fixture f;

    (void)state;
    begin(&f, &c, 4, 9, 8);
    for (uint32_t i = 0; i + 1 < f.g->n_ops; i += 5) {
        struct referee_question q = {i, 0, 0, 0, 1};
        struct referee r = referee_of(&f);
        float tile[TILE_MAX];
        size_t n;

        assert_ok(trace_seek(f.t, i, &f.e), &f.e);
        f.n_asked = f.missing = 0;
        assert_ok(referee_compute(tile, &r, &q, NULL, &f.e), &f.e);
        n = f.n_asked;
        assert_true(n > 0);
        for (f.missing = 1; f.missing <= n; f.missing++) {
            f.n_asked = 0;
            assert_status(referee_compute(tile, &r, &q, NULL, &f.e), ERR_NOT_FOUND, NULL);
        }
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_is_what_the_trace_has),
        cmocka_unit_test(long_sums_go_on_from_any_segment),
        cmocka_unit_test(nothing_is_decided_without_what_it_depends_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
