/*
 * Class open-cuda against class f32-1 on the CPU, whole models with weights that are exactly bf16.
 *
 * What is compared is |got - want| / |want| over an array. A number rounded to bf16 is off by up to
 * 2^-9, by 2^-9 / sqrt(3) in the root of the mean square; an operation rounds its inputs and its
 * output, and its sums, in f32, add nothing that counts: 2e-3 altogether. BOUND is what an operation
 * may have. Through a layer of random weights the errors of its dozen roundings add as squares do.
 *
 * In the emulator the products are plain loops in cuBLASLt's place (tests/support/cuda_emulator).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/device_ops.h"
#include "engine/model.h"
#include "engine/train.h"
#include "support/test.h"
#include "tiny_model.h"

#define MODEL_BOUND 2e-2

static struct device *device;
static const struct kernels *kernels;

static struct model_config small_config(enum model_arch arch)
{
    struct model_config c = tiny_config(arch);

    c.vocab = 72;
    c.dim = 64;
    c.heads = 6;
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

static void assert_near(const float *got, const float *want, size_t n, double bound,
                        const char *what)
{
    double off = 0.0, all = 0.0;

    for (size_t i = 0; i < n; i++) {
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    if (!(sqrt(off) <= bound * sqrt(all)))
        fail_msg("%s: off by %.3g of the whole, more than %.3g", what, sqrt(off / all), bound);
}

/* One of two models, the CPU's and the device's. */
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
    assert_ok(model_cache_new(&s.cache, s.model, 3, 200, 0, &e), &e);
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

/* The runs on both sides; hidden states and logits of all rows must agree. */
static void compare(struct side s[2], const struct model_run *runs, size_t n_runs,
                    const int32_t *tokens, size_t rows, const char *what)
{
    const struct model_config *c = model_config(s[0].model);
    struct err e;

    for (size_t i = 0; i < 2; i++) {
        assert_ok(model_forward(s[i].model, s[i].cache, s[i].hidden, runs, n_runs, tokens, &e),
                  &e);
        assert_ok(model_logits(s[i].model, s[i].logits, s[i].hidden, rows, &e), &e);
    }
    assert_near(s[1].hidden, s[0].hidden, rows * c->dim, MODEL_BOUND, what);
    assert_near(s[1].logits, s[0].logits, rows * c->vocab, MODEL_BOUND, what);
}

/* Prompts of two lengths, then new rows one at a time: the first such step is launched, the second
 * captured, the third and fourth are the graph. Positions 62.. cross from one page into another. */
static void prompts_and_new_rows_are_near(void **state)
{
    const enum model_arch all[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2, MODEL_ARCH_QWEN3};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct model_config c = small_config(all[i]);
        struct weights *w = small_weights(&c);
        struct side s[2] = {side_of(w, NULL, 96), side_of(w, kernels, 96)};
        const struct model_run prompts[] = {{.slot = 0, .n = 62, .n_out = 62},
                                            {.slot = 2, .n = 9, .n_out = 9}};
        int32_t tokens[96];

        tiny_tokens(tokens, 96, &c, 3);
        compare(s, prompts, 2, tokens, 71, "prompts");
        for (size_t step = 0; step < 5; step++) {
            const struct model_run new[] = {{2, 9 + step, 1, 1}, {0, 62 + step, 1, 1}};
            compare(s, new, 2, tokens + 71 + 2 * step, 2, "new rows");
        }
        clear_side(&s[0]);
        clear_side(&s[1]);
        weights_free(&w);
    }
}

/* One training step's gradients, of every tensor. */
static void gradients_are_near(void **state)
{
    const enum model_arch all[] = {MODEL_ARCH_LLAMA, MODEL_ARCH_QWEN2, MODEL_ARCH_QWEN3};
    const size_t lengths[] = {70, 9, 1};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const struct model_config c = small_config(all[i / 2]);
        struct weights *w = small_weights(&c), *grads[2];
        struct train *t[2];
        int32_t tokens[80], targets[80];
        float weight[80], logp[2][80];
        struct train_batch b = {tokens, targets, lengths, 3, 80, 1.0f};
        struct err e;

        tiny_tokens(tokens, 80, &c, 5);
        tiny_tokens(targets, 80, &c, 6);
        for (size_t r = 0; r < 80; r++)
            weight[r] = r % 7 == 0 ? 0.0f : 1.0f / 80.0f;
        for (size_t k = 0; k < 2; k++) {
            struct train_options opt = {
                .kernels = k ? kernels : NULL, .max_rows = 80, .recompute = i % 2 == 1};
            assert_ok(train_new(&t[k], w, &opt, &e), &e);
            train_zero(t[k]);
            assert_ok(train_gradients(t[k], &b, train_weigh_known, weight, logp[k], &e), &e);
            train_finish(t[k]);
            assert_ok(train_grads(&grads[k], t[k], &e), &e);
        }
        assert_near(logp[1], logp[0], 80, MODEL_BOUND, "log-probabilities");
        for (size_t k = 0; k < grads[0]->n_tensors; k++) {
            const struct weights_tensor *want = &grads[0]->tensors[k];
            assert_near(grads[1]->tensors[k].data, want->data, want->rows * want->cols,
                        2 * MODEL_BOUND, want->name);
        }
        train_free(&t[0]);
        train_free(&t[1]);
        weights_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prompts_and_new_rows_are_near),
                                       cmocka_unit_test(gradients_are_near)};
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
