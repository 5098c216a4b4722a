/*
 * Class open-cuda against class f32-1 on the CPU. What is compared is |got - want| / |want| over an
 * array.
 *
 * An operation by itself: a number rounded to bf16 is off by up to 2^-9; what an operation reads and
 * what it writes are so rounded, and its sums, in f32, add nothing that counts. BOUND leaves room for
 * three such roundings one on top of the other and a half more.
 *
 * A whole model makes more of an error than it got: softmax and norms may multiply it, by how much
 * depends on the weights. So the CPU is asked: MODEL_TIMES is how often more the device may be off than
 * f32-1 is when each weight is off by a random part of up to 2^-9. A product whose weights are so
 * disturbed is as far off as one whose x was rounded; open-cuda rounds x, y, and in attention also
 * probabilities, and what stands between products: some four to six roundings a product, which add up
 * as their squares do. 4 leaves room for a product whose share is larger than others'.
 *
 * In the emulator the products are plain loops in cuBLASLt's place (tests/support/cuda_emulator).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/device_speed.h"
#include "engine/layer.h"
#include "engine/model.h"
#include "engine/train.h"
#include "support/test.h"
#include "tiny_model.h"

#define BOUND       1e-2
#define MODEL_TIMES 4.0

static struct device *device;
static const struct kernels *kernels;

static struct model_config small_config(enum model_arch arch)
{
    struct model_config c = tiny_config(arch);

    c.vocab = 72;
    c.dim = 64;
    c.heads = 4;
    c.kv_heads = 2;
    c.head_dim = arch == MODEL_ARCH_QWEN2 ? 64 : arch == MODEL_ARCH_LLAMA ? 128 : 32;
    c.ffn = 96;
    return c;
}

/* Rounded to bf16, so that both classes start from the same numbers. */
static struct weights *small_weights(const struct model_config *c)
{
    struct weights *w = tiny_weights(c, 11);

    for (size_t i = 0; i < w->n_tensors; i++) {
        struct weights_tensor *t = &w->tensors[i];
        const size_t n = t->rows * t->cols;
        uint8_t *narrow = xcalloc(n, 2);

        dtype_narrow(narrow, t->data, DTYPE_BF16, n);
        dtype_widen(t->data, narrow, DTYPE_BF16, n);
        free(narrow);
    }
    return w;
}

/* The same, each number off by a random part of up to 2^-9. */
static struct weights *disturbed_weights(const struct model_config *c)
{
    struct weights *w = small_weights(c);
    struct rng r = rng_of(12, 12);

    for (size_t i = 0; i < w->n_tensors; i++)
        for (size_t j = 0; j < w->tensors[i].rows * w->tensors[i].cols; j++)
            w->tensors[i].data[j] *= 1.0f + 0x1p-8f * (rng_f32(&r) - 0.5f);
    return w;
}

static double off_by(const float *got, const float *want, size_t n)
{
    double off = 0.0, all = 0.0;

    for (size_t i = 0; i < n; i++) {
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    return all > 0.0 ? sqrt(off / all) : sqrt(off);
}

static void assert_near(const float *got, const float *want, size_t n, const char *what)
{
    const double off = off_by(got, want, n);

    if (!(off <= BOUND))
        fail_msg("%s: off by %.3g of the whole, more than %.3g", what, off, BOUND);
}

/* x: of the CPU, of the CPU with disturbed weights, of the device. */
static void assert_as_near(float *const x[3], size_t n, const char *what)
{
    const double off = off_by(x[2], x[0], n), disturbed = off_by(x[1], x[0], n);

    if (!(off <= MODEL_TIMES * disturbed))
        fail_msg("%s: off by %.3g of the whole, disturbed weights make %.3g", what, off,
                 disturbed);
}

#define SLOTS 6u

/* One of three models: the CPU's, the CPU's with disturbed weights, and the device's. */
struct side {
    struct model *model;
    struct kv_cache *cache;
    float *hidden, *logits;
};

static struct side side_of(const struct weights *w, const struct kernels *k, size_t rows)
{
    const struct model_options opt = {.kernels = k};
    struct side s = {0};
    struct err e;

    assert_ok(model_new(&s.model, w, &opt, &e), &e);
    assert_ok(model_cache_new(&s.cache, s.model, SLOTS, 200, 0, &e), &e);
    s.hidden = xcalloc(rows * w->config.dim, sizeof(float));
    s.logits = xcalloc(rows * w->config.vocab, sizeof(float));
    return s;
}

static void clear_side(struct side *s)
{
    kv_cache_free(&s->cache);
    model_free(&s->model);
    free(s->hidden);
    free(s->logits);
}

/* The runs on all sides; hidden states and logits of all rows must agree. */
static void compare(struct side s[3], const struct model_run *runs, size_t n_runs,
                    const int32_t *tokens, size_t rows, const char *what)
{
    const struct model_config *c = model_config(s[0].model);
    struct err e;

    for (size_t i = 0; i < 3; i++) {
        assert_ok(model_forward(s[i].model, s[i].cache, s[i].hidden, runs, n_runs, tokens, &e),
                  &e);
        assert_ok(model_logits(s[i].model, s[i].logits, s[i].hidden, rows, &e), &e);
    }
    assert_as_near((float *[]){s[0].hidden, s[1].hidden, s[2].hidden}, rows * c->dim, what);
    assert_as_near((float *[]){s[0].logits, s[1].logits, s[2].logits}, rows * c->vocab, what);
}

/* One whose matrices are large enough for the kernel of few rows, and of so many layers that each product of new rows
 * is tuned before it is captured: the emulator's clock takes that kernel, and norms come in halves. */
static struct model_config wide_config(void)
{
    struct model_config c = small_config(MODEL_ARCH_QWEN2);

    c.dim = c.ffn = 256;
    c.layers = 4;
    return c;
}

/* Prompts of two lengths, then new rows one at a time: the first such step is launched, the second
 * captured, the third and fourth are the graph. Positions 62.. cross from one page into another. */
static void prompts_and_new_rows_are_near(void **state)
{
    const struct model_config all[] = {small_config(MODEL_ARCH_LLAMA),
                                       small_config(MODEL_ARCH_QWEN2),
                                       small_config(MODEL_ARCH_QWEN3), wide_config()};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const struct model_config c = all[i];
        struct weights *w = small_weights(&c), *disturbed = disturbed_weights(&c);
        struct side s[3] = {side_of(w, NULL, 96), side_of(disturbed, NULL, 96),
                            side_of(w, kernels, 96)};
        const struct model_run prompts[] = {{.slot = 0, .n = 62, .n_out = 62},
                                            {.slot = 2, .n = 9, .n_out = 9}};
        int32_t tokens[96];

        tiny_tokens(tokens, 96, &c, 3);
        compare(s, prompts, 2, tokens, 71, "prompts");
        for (size_t step = 0; step < 4; step++) {
            const struct model_run new[] = {{2, 9 + step, 1, 1}, {0, 62 + step, 1, 1}};
            compare(s, new, 2, tokens + 71 + 2 * step, 2, "new rows");
        }
        for (size_t k = 0; k < 3; k++)
            clear_side(&s[k]);
        weights_free(&w);
        weights_free(&disturbed);
    }
}

/* Tokens are drawn, and their log-probabilities are those that the logits of the rows give. */
static void assert_drawn(struct side *s, size_t rows)
{
    const size_t V = model_config(s->model)->vocab;
    struct model_draw draws[SLOTS];
    struct err e;

    for (size_t i = 0; i < rows; i++)
        draws[i] =
            (struct model_draw){.row = i, .seed = i, .position = 70, .temperature = 1.0f};
    assert_ok(model_draw(s->model, draws, rows, NULL, NULL, &e), &e);
    for (size_t i = 0; i < rows; i++) {
        float logp;

        assert_true(draws[i].is_finite && draws[i].token >= 0 && (size_t)draws[i].token < V);
        logprob_forward(kernels_best(), NULL, &logp, s->logits + i * V, &draws[i].token, 1.0f,
                        1, V);
        assert_true(fabsf(logp - draws[i].logp) < (float)BOUND);
    }
}

/* A batch that shrinks: 6 and 5 sequences are decoded as 8 rows, 3 as 4; one graph stands for each of these. The
 * rows that are added read and write nobody's pages, and draw nothing. */
static void batches_that_shrink_are_near_with_few_graphs(void **state)
{
    static const size_t batches[] = {6, 6, 5, 6, 3, 3, 3};
    const struct model_config c = small_config(MODEL_ARCH_QWEN2);
    const size_t before = kernels->ops->graphs_made(device);
    struct weights *w = small_weights(&c), *disturbed = disturbed_weights(&c);
    struct side s[3] = {side_of(w, NULL, 96), side_of(disturbed, NULL, 96),
                        side_of(w, kernels, 96)};
    struct model_run runs[SLOTS];
    size_t len[SLOTS];
    int32_t tokens[96];
    struct err e;

    (void)state;
    tiny_tokens(tokens, 96, &c, 4);
    for (size_t i = 0; i < SLOTS; i++) {
        len[i] = 5 + i;
        runs[i] = (struct model_run){.slot = i, .n = len[i], .n_out = 1};
    }
    compare(s, runs, SLOTS, tokens, SLOTS, "prompts");
    for (size_t step = 0; step < sizeof(batches) / sizeof(batches[0]); step++) {
        const size_t n = batches[step], gone = n == 3 ? 2 : 0; /* not the last ones alone */

        for (size_t i = 0; i < n; i++)
            runs[i] = (struct model_run){i + gone, len[i + gone]++, 1, 1};
        compare(s, runs, n, tokens + 7 * step, n, "new rows");
        /* Once more, for the draws. */
        assert_ok(model_forward(s[2].model, s[2].cache, NULL, runs, n, tokens + 7 * step, &e),
                  &e);
        assert_drawn(&s[2], n);
    }
    assert_int_equal(kernels->ops->graphs_made(device) - before, 2);
    for (size_t k = 0; k < 3; k++)
        clear_side(&s[k]);
    weights_free(&w);
    weights_free(&disturbed);
}

/* Never fewer, at most an eighth more from 65 on, and few of them. */
static void rows_are_padded_to_few_sizes(void **state)
{
    size_t n_sizes = 0, last = 0;

    (void)state;
    assert_int_equal(kernels->ops->padded_rows(0), 0);
    for (size_t rows = 1; rows <= 20000; rows++) {
        const size_t padded = kernels->ops->padded_rows(rows);

        assert_true(padded >= rows && padded >= last);
        assert_true(rows <= 64 || 8 * (padded - rows) <= rows);
        assert_int_equal(kernels->ops->padded_rows(padded), padded);
        n_sizes += padded > last && rows <= 512;
        last = padded;
    }
    assert_int_equal(n_sizes, 33);
    for (size_t rows = 1; rows <= 1024; rows *= 2)
        assert_int_equal(kernels->ops->padded_rows(rows), rows);
    assert_int_equal(device_padded_rows(kernels->ops, 61, 62), 62);
    assert_int_equal(device_padded_rows(NULL, 61, 62), 61);
}

/* Where every array lies where another model's was, only the number that it was given tells its graphs from the
 * other's. */
static void a_model_in_anothers_place_has_its_own_graphs(void **state)
{
    struct model_config c = small_config(MODEL_ARCH_QWEN2);
    struct weights *w;
    struct side s;
    float *first;
    int32_t tokens[4];
    struct err e;

    (void)state;
    c.layers = 2;
    w = small_weights(&c);
    s = side_of(w, kernels, 1);
    first = xcalloc(c.dim, sizeof(first[0]));
    tiny_tokens(tokens, 4, &c, 4);
    for (uint32_t layers = 2; layers > 0; layers--) {
        s.model->config.layers = layers;
        s.cache->layers = layers;
        if (layers == 1) /* as model_new would */
            s.model->weights_id = device_next_id();
        for (size_t i = 0; i < 3; i++) {
            const struct model_run run = {0, 0, 1, 1};

            assert_ok(model_forward(s.model, s.cache, s.hidden, &run, 1, tokens, &e), &e);
            if (layers == 1)
                assert_memory_not_equal(s.hidden, first, c.dim * sizeof(first[0]));
        }
        memcpy(first, s.hidden, c.dim * sizeof(first[0]));
    }
    s.model->config.layers = 2;
    clear_side(&s);
    weights_free(&w);
    free(first);
}

/* One training step's gradients, of every tensor. */
static void gradients_are_near(void **state)
{
    const enum model_arch all[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2, MODEL_ARCH_QWEN3};
    const size_t lengths[] = {18, 5, 1};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct model_config c = small_config(all[i]);

        c.layers = i == 1 ? 2 : 1;
        struct weights *w[2] = {small_weights(&c), disturbed_weights(&c)}, *grads[3];
        struct train *t[3];
        int32_t tokens[24], targets[24];
        float weight[24], logp[3][24];
        struct train_batch b = {tokens, targets, lengths, 3, 24, 1.0f};
        struct err e;

        tiny_tokens(tokens, 24, &c, 5);
        tiny_tokens(targets, 24, &c, 6);
        for (size_t r = 0; r < 24; r++)
            weight[r] = r % 7 == 0 ? 0.0f : 1.0f / 24.0f;
        for (size_t k = 0; k < 3; k++) {
            struct train_options opt = {
                .kernels = k == 2 ? kernels : NULL, .max_rows = 24, .recompute = i == 1};
            assert_ok(train_new(&t[k], w[k % 2], &opt, &e), &e);
            train_zero(t[k]);
            assert_ok(train_gradients(t[k], &b, train_weigh_known, weight, logp[k], &e), &e);
            train_finish(t[k]);
            assert_ok(train_grads(&grads[k], t[k], &e), &e);
        }
        assert_as_near((float *[]){logp[0], logp[1], logp[2]}, 24, "log-probabilities");
        for (size_t k = 0; k < grads[0]->n_tensors; k++) {
            const struct weights_tensor *want = &grads[0]->tensors[k];
            assert_as_near(
                (float *[]){want->data, grads[1]->tensors[k].data, grads[2]->tensors[k].data},
                want->rows * want->cols, want->name);
        }
        for (size_t k = 0; k < 3; k++)
            train_free(&t[k]);
        weights_free(&w[0]);
        weights_free(&w[1]);
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static float *random_numbers(size_t n, uint64_t seed)
{
    float *x = xcalloc(n, sizeof(*x));
    struct rng r = rng_of(seed, 5);

    for (size_t i = 0; i < n; i++)
        x[i] = 2.0f * rng_f32(&r) - 1.0f;
    return x;
}

static void *there(const void *x, size_t bytes)
{
    void *at;
    struct err e;

    assert_ok(device_alloc(device, &at, bytes, "a test", &e), &e);
    device_put(device, at, x, bytes);
    return at;
}

/* What is at `on`, which is released, must be near `want`, which is freed. */
static void take_and_compare(float *on, float *want, size_t n, const char *what)
{
    float *got = xcalloc(n, sizeof(*got));
    struct err e;

    device_get(device, got, on, n * sizeof(*got));
    assert_ok(device_wait(device, &e), &e);
    assert_near(got, want, n, what);
    device_release(device, on);
    free(got);
    free(want);
}

enum { M = 40, N = 72, K = 56 };

/* Rounded to bf16 first, W must be what comes back of it: then the reference reads the same. */
static void products_are_near(void **state)
{
    const struct device_ops *ops = kernels->ops;
    float *x = random_numbers(M * K, 1), *W = random_numbers(N * K, 2),
          *dy = random_numbers(M * N, 3);
    float *y = random_numbers(M * N, 4), *dx = random_numbers(M * K, 5),
          *dW = random_numbers(N * K, 6), *bias = random_numbers(N, 7);
    float *on_x = there(x, M * K * 4), *on_W = there(W, N * K * 4),
          *on_dy = there(dy, M * N * 4), *on_y = there(y, M * N * 4),
          *on_dx = there(dx, M * K * 4), *on_dW = there(dW, N * K * 4),
          *on_bias = there(bias, N * 4), *on_dx2 = there(dx, M * K * 4);
    const struct kernels *cpu = kernels_best();
    struct packed packed = {0}, on = {0};
    uint16_t *room = there(W, N * K * 2);
    float *dx2 = xcalloc(M * K, sizeof(*dx2)), *sum = xcalloc(M * N, sizeof(*sum));
    struct err e;

    (void)state;
    assert_ok(packed_init(&packed, cpu, N, K, &e), &e);
    packed_set(cpu, NULL, &packed, W, DTYPE_F32);
    packed_place(&on, N, K, DTYPE_BF16, room);
    ops->set(device, &on, W, DTYPE_F32, true);

    matmul_forward(cpu, NULL, sum, x, &packed, bias, M);
    for (size_t i = 0; i < M * N; i++)
        y[i] += sum[i];
    ops->forward(device, &(struct product){on_y, &on, on_bias, on_y}, on_x, M);
    matmul_dx_add(cpu, NULL, dx, dy, W, M, N, K);
    ops->dx(device, on_dx, on_dy, on_W, M, N, K, true);
    matmul_dx(cpu, NULL, dx2, dy, W, M, N, K);
    ops->dx_packed(device, on_dx2, on_dy, &on, M);
    matmul_dw(cpu, NULL, dW, dy, x, M, N, K);
    ops->dw(device, on_dW, on_dy, on_x, M, N, K);
    take_and_compare(on_y, y, M * N, "x W'");
    take_and_compare(on_dx, dx, M * K, "dx");
    take_and_compare(on_dx2, dx2, M * K, "dx of packed weights");
    take_and_compare(on_dW, dW, N * K, "dW");
    packed_clear(&packed);
    device_release(device, room);
    device_release(device, on_x);
    device_release(device, on_W);
    device_release(device, on_dy);
    device_release(device, on_bias);
    free(x);
    free(W);
    free(dy);
    free(bias);
    free(sum);
}

static void rows_are_near(void **state)
{
    const struct device_ops *ops = kernels->ops;
    const struct kernels *cpu = kernels_best();
    float *x = random_numbers(M * N, 1), *w = random_numbers(N, 2),
          *dy = random_numbers(M * N, 3);
    float *dx = random_numbers(M * N, 4), *dw = random_numbers(N, 5),
          *db = random_numbers(N, 6);
    float *logp = xcalloc(M, 4), *dlogits = xcalloc(M * N, 4), *weight = random_numbers(M, 7);
    float *on_x = there(x, M * N * 4), *on_w = there(w, N * 4), *on_dy = there(dy, M * N * 4),
          *on_dx = there(dx, M * N * 4), *on_dw = there(dw, N * 4), *on_db = there(db, N * 4),
          *on_logp = there(logp, M * 4), *on_dlogits = there(dlogits, M * N * 4), *on_weight;
    int32_t token[M], *on_token;

    (void)state;
    for (size_t i = 0; i < M; i++)
        token[i] = (int32_t)(i * 7 % N);
    weight[3] = 0.0f;
    on_weight = there(weight, M * 4);
    on_token = there(token, sizeof(token));
    rmsnorm_backward(cpu, dx, dw, dy, x, w, M, N, 1e-6f);
    ops->rmsnorm_backward(device, on_dx, on_dw, on_dy, on_x, on_w, M, N, 1e-6f);
    bias_backward(cpu, db, dy, M, N);
    ops->bias_backward(device, on_db, on_dy, M, N);
    logprob_forward(cpu, NULL, logp, x, token, 0.7f, M, N);
    ops->logprob(device, on_logp, on_x, on_token, 0.7f, M, N);
    logprob_backward(cpu, NULL, dlogits, weight, x, token, 0.7f, M, N);
    ops->logprob_backward(device, on_dlogits, on_weight, on_x, on_token, 0.7f, M, N);
    take_and_compare(on_dx, dx, M * N, "dx of the norm");
    take_and_compare(on_dw, dw, N, "dw of the norm");
    take_and_compare(on_db, db, N, "gradient of a bias");
    take_and_compare(on_logp, logp, M, "log-probabilities");
    take_and_compare(on_dlogits, dlogits, M * N, "gradient of the logits");
    device_release(device, on_x);
    device_release(device, on_w);
    device_release(device, on_dy);
    device_release(device, on_weight);
    device_release(device, on_token);
    free(x);
    free(w);
    free(dy);
    free(weight);
}

/* The bench's own steps: that they end, and the device is well. */
static void speed_is_measured(void **state)
{
    struct model_config c = small_config(MODEL_ARCH_QWEN2);
    struct device_speed *s;
    double seconds[4] = {0.0, 0.0, 0.0, 0.0};
    size_t n_graphs;
    struct err e;

    (void)state;
    c.layers = 1;
    c.dim = MODEL_TOP;
    c.head_dim = 32;
    c.heads = 2;
    assert_ok(device_speed_new(&s, kernels, &c, true, &e), &e);
    assert_ok(device_speed_decode(&seconds[0], s, 2, 9, true, 1, &e), &e);
    assert_ok(device_speed_shrinking(&seconds[3], &n_graphs, s, 5, 9, &e), &e);
    assert_int_equal(n_graphs, 4); /* of 8, 4, 2 and 1 rows */
    assert_ok(device_speed_prefill(&seconds[1], s, 1, 8, 1, &e), &e);
    assert_ok(device_speed_train(&seconds[2], s, 1, 8, true, 1, &e), &e);
    for (size_t i = 0; i < 4; i++)
        assert_true(seconds[i] > 0.0);
    device_speed_free(&s);
}

static void what_it_does_not_compute_is_refused(void **state)
{
    const struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    const struct model_options opt = {.kernels = kernels};
    struct weights *w = tiny_weights(&c, 1);
    struct model *m;
    struct err e;

    (void)state;
    assert_int_equal(model_new(&m, w, &opt, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "32, 64 or 128"));
    weights_free(&w);
}

/* ---- drawing --------------------------------------------------------------------------------- */

/* Rows of logits: almost alike, as of a model that is sure, ties, and far apart. */
static float *rows_to_draw_from(struct rng *r, size_t V)
{
    float *x = xcalloc(4 * V, sizeof(*x));

    for (size_t v = 0; v < V; v++) {
        x[v] = 0.01f * rng_f32(r);
        x[V + v] = 30.0f * rng_f32(r) * rng_f32(r) * rng_f32(r);
        x[2 * V + v] = (float)rng_below(r, 3);
        x[3 * V + v] = 1e4f * (rng_f32(r) - 0.5f);
    }
    return x;
}

/* Tokens are those of f32-1. Of log-probabilities: each x / T * log2(e) is off by three roundings, 2^-22
 * of it at most, in the exponent; each power by 2 units, and so is the sum's logarithm; f32-1 is as far
 * off again. */
static void draws_are_f32_1_s(void **state)
{
    enum { DRAWS = 28 };
    static const float temperatures[] = {1.0f, 0.0f, 0.7f, 1e-3f, 100.0f, 1e-39f, 3e38f};
    const size_t sizes[] = {1, 6, 1000, 9001, 8192};
    struct rng r = rng_of(21, 21);

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t V = sizes[i], n = V > 1000 ? 7 : DRAWS;
        float *x = rows_to_draw_from(&r, V), *on_x = there(x, 4 * V * sizeof(*x));
        struct device_draw draws[DRAWS], *on_draws;
        struct device_drawn got[DRAWS] = {{0}}, *on = there(got, sizeof(got));

        for (size_t j = 0; j < n; j++)
            draws[j] = (struct device_draw){.seed = rng_u64(&r),
                                            .position = rng_u32(&r),
                                            .row = (uint32_t)(j % 4),
                                            .temperature = temperatures[j % 7]};
        on_draws = there(draws, n * sizeof(draws[0]));
        kernels->ops->sample(device, on, on_draws, on_x, n, V);
        device_get(device, got, on, n * sizeof(got[0]));
        for (size_t j = 0; j < n; j++) {
            const float *row = x + draws[j].row * V,
                        T = draws[j].temperature == 0.0f ? 1.0f : draws[j].temperature;
            float logp, most = 0.0f;

            assert_int_equal(got[j].token,
                             sample_token(kernels_best(), &logp, row, V, draws[j].temperature,
                                          draws[j].seed, draws[j].position));
            assert_int_equal(got[j].is_finite, 1);
            for (size_t v = 0; v < V; v++)
                most = fabsf(row[v] / T) > most ? fabsf(row[v] / T) : most;
            if (T > 1e-30f)
                assert_true(fabsf(got[j].logp - logp) <= 0x1p-20f * (1.0f + most));
        }
        device_release(device, on_x);
        device_release(device, on_draws);
        device_release(device, on);
        free(x);
    }
}

/* In whichever slice it is. */
static void odd_rows_are_told(void **state)
{
    enum { V = 8192, ROWS = 4 };
    const float odd[ROWS] = {NAN, INFINITY, -INFINITY, NAN};
    float *x = xcalloc(ROWS * V, sizeof(*x)), *on_x;
    struct device_draw draws[ROWS], *on_draws;
    struct device_drawn got[ROWS] = {{0}}, *on = there(got, sizeof(got));

    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        x[i * V + 2047 * i] = odd[i];
        draws[i] = (struct device_draw){.row = i, .temperature = i == 3 ? 0.0f : 1.0f};
    }
    on_x = there(x, ROWS * V * sizeof(*x));
    on_draws = there(draws, sizeof(draws));
    kernels->ops->sample(device, on, on_draws, on_x, ROWS, V);
    device_get(device, got, on, sizeof(got));
    for (size_t i = 0; i < ROWS; i++)
        assert_int_equal(got[i].is_finite, 0);
    assert_int_not_equal(got[0].token, 0);
    assert_int_equal(got[1].token, 2047);
    assert_int_not_equal(got[2].token, 2 * 2047);
    assert_int_equal(got[3].token, 0);
    device_release(device, on_x);
    device_release(device, on_draws);
    device_release(device, on);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_f32_1_s),
        cmocka_unit_test(odd_rows_are_told),
        cmocka_unit_test(prompts_and_new_rows_are_near),
        cmocka_unit_test(rows_are_padded_to_few_sizes),
        cmocka_unit_test(batches_that_shrink_are_near_with_few_graphs),
        cmocka_unit_test(a_model_in_anothers_place_has_its_own_graphs),
        cmocka_unit_test(gradients_are_near),
        cmocka_unit_test(products_are_near),
        cmocka_unit_test(rows_are_near),
        cmocka_unit_test(speed_is_measured),
        cmocka_unit_test(what_it_does_not_compute_is_refused)};
    struct err e;
    int failed;

    if (device_count() == 0) {
        printf("skipped: no GPU\n");
        return 77;
    }
    if (device_open(&device, "cuda", &e) ||
        device_kernels(&kernels, device, NUMERICS_OPEN_CUDA, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return e.code == ERR_UNSUPPORTED ? 77 : 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close(&device);
    return failed;
}
