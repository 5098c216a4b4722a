/*
 * Training: the forward is inference's bit for bit, and the gradients are those of the same model
 * computed in binary64.
 */
#include "engine/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "engine/adamw.h"
#include "engine/kernels.h"
#include "engine/ops.h"
#include "support/close.h"
#include "support/grads.h"
#include "support/test.h"
#include "tiny_model.h"

#define ROWS 17
static const size_t lengths[] = {5, 1, 11};
#define N_SEQS 3
static const float T = 0.7f;

struct fixture {
    struct model_config c;
    struct weights *w;
    struct train *t;
    int32_t tokens[ROWS], targets[ROWS];
    float weight[ROWS];
    struct train_batch b;
    struct err e;
};

static struct train *make_train_with(struct fixture *f, const char *kernels,
                                     struct train_options opt)
{
    struct train *t;

    assert_ok(kernels_choose(&opt.kernels, NUMERICS_F32_1, kernels, &f->e), &f->e);
    assert_ok(train_new(&t, f->w, &opt, &f->e), &f->e);
    return t;
}

static struct train *make_train(struct fixture *f, const char *kernels, struct pool *pool)
{
    return make_train_with(f, kernels, (struct train_options){.pool = pool, .max_rows = 32});
}

static int setup_arch(void **state, enum model_arch arch)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->c = tiny_config(arch);
    f->w = tiny_weights(&f->c, 5);
    f->t = make_train(f, "scalar", NULL);
    tiny_tokens(f->tokens, ROWS, &f->c, 4);
    tiny_tokens(f->targets, ROWS, &f->c, 6);
    f->targets[0] = f->targets[4] = f->targets[16] = -1;
    for (size_t i = 0; i < ROWS; i++)
        f->weight[i] = f->targets[i] < 0 || i == 9 ? 0.0f : (float)(i % 5) * 0.3f - 0.4f;
    f->b = (struct train_batch){
        .tokens = f->tokens,
        .targets = f->targets,
        .lengths = lengths,
        .n_seqs = N_SEQS,
        .rows = ROWS,
        .temperature = T,
    };
    *state = f;
    return 0;
}

static int setup_llama(void **state)
{
    return setup_arch(state, MODEL_ARCH_LLAMA);
}

static int setup_qwen2(void **state)
{
    return setup_arch(state, MODEL_ARCH_QWEN2);
}

static int setup_qwen3(void **state)
{
    return setup_arch(state, MODEL_ARCH_QWEN3);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    train_free(&f->t);
    weights_free(&f->w);
    test_free(f);
    return 0;
}

/* The sequences [first, last) of the fixture's batch as a batch of their own. */
static struct train_batch part_of(const struct fixture *f, size_t first, size_t last,
                                  size_t *row)
{
    struct train_batch b = f->b;

    *row = 0;
    for (size_t i = 0; i < first; i++)
        *row += lengths[i];
    b.tokens += *row;
    b.targets += *row;
    b.lengths += first;
    b.n_seqs = last - first;
    b.rows = 0;
    for (size_t i = first; i < last; i++)
        b.rows += lengths[i];
    return b;
}

/* Forward and backward of the sequences [first, last). */
static void run(struct fixture *f, struct train *t, size_t first, size_t last)
{
    size_t row;
    struct train_batch b = part_of(f, first, last, &row);
    float logp[ROWS];

    assert_ok(train_gradients(t, &b, train_weigh_known, f->weight + row, logp, &f->e), &f->e);
}

/* L = -sum weight * logp of the whole batch, in binary64. */
static double loss_in_binary64(const struct fixture *f)
{
    double hidden[ROWS * 12], logits[ROWS * 23], loss = 0.0;
    size_t row = 0;

    for (size_t i = 0; i < N_SEQS; i++) {
        tiny_reference(hidden, logits, f->w, f->tokens + row, lengths[i]);
        for (size_t j = 0; j < lengths[i]; j++, row++)
            if (f->weight[row] != 0.0f)
                loss -= (double)f->weight[row] * tiny_logp(logits + j * f->c.vocab, f->c.vocab,
                                                           f->targets[row], (double)T);
    }
    return loss;
}

static void forward_has_the_bits_of_inference(void **state)
{
    struct fixture *f = *state;
    float logp[ROWS], want[ROWS] = {0}, hidden[ROWS * 12], logits[ROWS * 23];
    struct model *m = train_model(f->t);
    struct kv_cache *kv;
    size_t row = 0;

    assert_ok(train_forward(f->t, &f->b, logp, &f->e), &f->e);
    assert_ok(kv_cache_new(&kv, &f->c, NULL, N_SEQS, 16, 0, &f->e), &f->e);
    for (size_t i = 0; i < N_SEQS; i++) {
        for (size_t j = 0; j < lengths[i]; j++, row++) {
            const struct model_run one = {.slot = i, .first = j, .n = 1, .n_out = 1};

            assert_ok(model_forward(m, kv, hidden, &one, 1, f->tokens + row, &f->e), &f->e);
            assert_ok(model_logits(m, logits, hidden, 1, NULL), NULL);
            if (f->targets[row] >= 0)
                logprob_forward(model_kernels(m), NULL, &want[row], logits, &f->targets[row], T,
                                1, f->c.vocab);
        }
    }

    assert_same_bits(logp, want, ROWS);
    kv_cache_free(&kv);
}

/* Every single gradient. The slope is a central difference in binary64: with h = 2^-12, exact for
 * these weights, its own error is h^2 f'''/6, some 1e-7. The gradients are chains of about 40
 * operations on sums of at most 23 terms (12 layers deep, forward and back), so rounding can reach
 * 40 * 23 * 2^-24 = 6e-5 of the largest numbers summed, which are of the order of the largest
 * gradient of the tensor. */
static void gradients_are_the_slopes_of_the_loss_in_binary64(void **state)
{
    struct fixture *f = *state;
    const float h = 0x1p-12f;
    float slope[24 * 12];

    train_zero(f->t);
    run(f, f->t, 0, N_SEQS);
    train_finish(f->t);
    for (size_t i = 0; i < f->w->n_tensors; i++) {
        const struct weights_tensor *t = &f->w->tensors[i];
        size_t n = t->rows * t->cols;
        double largest = 0.0;

        assert_true(n <= sizeof(slope) / sizeof(slope[0]));
        for (size_t j = 0; j < n; j++) {
            float kept = t->data[j];
            volatile float up = kept + h, down = kept - h;

            t->data[j] = up;
            double above = loss_in_binary64(f);
            t->data[j] = down;
            double below = loss_in_binary64(f);
            t->data[j] = kept;
            slope[j] = (float)((above - below) / ((double)up - (double)down));
            largest = fmax(largest, fabs((double)slope[j]));
        }
        assert_true(largest > 0.0);
        assert_close_at(t->name, host_grads(f->t)->tensors[i].data, slope, n, 6e-5 * largest,
                        6e-5, __FILE__, __LINE__);
    }
}

static void micro_batches_give_the_bits_of_one_batch(void **state)
{
    struct fixture *f = *state;
    struct train *t = make_train(f, "scalar", NULL);

    run(f, f->t, 0, N_SEQS);
    train_finish(f->t);
    run(f, t, 0, 1);
    run(f, t, 1, 3);
    train_finish(t);

    assert_same_bits(host_grads(t)->data, host_grads(f->t)->data, f->w->n_data);
    train_free(&t);
}

static void threads_and_backends_do_not_change_a_bit(void **state)
{
    struct fixture *f = *state;
    struct pool *pool;

    run(f, f->t, 0, N_SEQS);
    pool_new(&pool, 3);
    for (size_t i = 0; kernels_name_at(NUMERICS_F32_1, i); i++) {
        if (!kernels_available(NUMERICS_F32_1, kernels_name_at(NUMERICS_F32_1, i)))
            continue;
        struct train *t = make_train(f, kernels_name_at(NUMERICS_F32_1, i), pool);

        run(f, t, 0, N_SEQS);
        assert_same_bits(host_grads(t)->data, host_grads(f->t)->data, f->w->n_data);
        train_free(&t);
    }
    pool_free(&pool);
}

/* Also twice in a row: what a step leaves in the buffers is not what the next one reads. */
static void recomputed_activations_have_the_same_bits(void **state)
{
    struct fixture *f = *state;
    struct train *t = make_train_with(
        f, "scalar", (struct train_options){.max_rows = ROWS, .recompute = true});

    for (int i = 0; i < 2; i++) {
        run(f, f->t, 0, N_SEQS);
        run(f, t, 0, 2);
        run(f, t, 2, 3);
    }
    train_finish(f->t);
    train_finish(t);

    assert_same_bits(host_grads(t)->data, host_grads(f->t)->data, f->w->n_data);
    assert_true(train_bytes(&f->c, NULL, 4096, true) < train_bytes(&f->c, NULL, 4096, false));
    train_free(&t);
}

/* 150 rows of a large vocabulary: the head goes over them in chunks, some of whose rows bear no
 * loss. One row at a time there are no chunks. */
static void chunks_of_logits_do_not_change_a_bit(void **state)
{
    enum { V = 90000, N = 150 };
    struct fixture *f = *state;
    struct model_config c = f->c;
    struct train_options opt = {.kernels = kernels_best(), .max_rows = N};
    int32_t tokens[N], targets[N];
    float weight[N], logp[N], one[N];
    struct train *whole, *single;
    struct weights *w;
    struct train_batch b = {.tokens = tokens, .targets = targets, .temperature = T};

    c.vocab = V;
    assert_ok(weights_new(&w, &c, &f->e), &f->e);
    weights_init_random(w, 3);
    tiny_tokens(tokens, N, &c, 1);
    tiny_tokens(targets, N, &c, 2);
    for (size_t i = 0; i < N; i++) {
        weight[i] = i % 3 == 1 ? 0.0f : (float)(i % 7) * 0.25f - 0.6f;
        targets[i] = i % 5 == 0 ? -1 : targets[i];
    }
    assert_ok(train_new(&whole, w, &opt, &f->e), &f->e);
    opt.max_rows = 1;
    assert_ok(train_new(&single, w, &opt, &f->e), &f->e);

    /* Sequences of one row each: so that they may be cut anywhere. */
    size_t ones[N];
    for (size_t i = 0; i < N; i++)
        ones[i] = 1;
    b.lengths = ones;
    b.n_seqs = b.rows = N;
    assert_ok(train_gradients(whole, &b, train_weigh_known, weight, logp, &f->e), &f->e);
    for (size_t i = 0; i < N; i++) {
        struct train_batch row = {.tokens = tokens + i,
                                  .targets = targets + i,
                                  .lengths = ones,
                                  .n_seqs = 1,
                                  .rows = 1,
                                  .temperature = T};
        assert_ok(train_gradients(single, &row, train_weigh_known, weight + i, one + i, &f->e),
                  &f->e);
    }
    train_finish(whole);
    train_finish(single);

    assert_same_bits(logp, one, N);
    assert_same_bits(host_grads(whole)->data, host_grads(single)->data, w->n_data);
    train_free(&whole);
    train_free(&single);
    weights_free(&w);
}

static void zero_forgets_the_last_step(void **state)
{
    struct fixture *f = *state;
    struct train *t = make_train(f, "scalar", NULL);

    run(f, f->t, 0, N_SEQS);
    run(f, t, 0, 2);
    train_zero(t);
    run(f, t, 0, N_SEQS);

    assert_same_bits(host_grads(t)->data, host_grads(f->t)->data, f->w->n_data);
    train_free(&t);
}

/* Rows after the last weighted one cannot reach the loss: their tokens may be anything. */
static void rows_without_weight_do_not_matter(void **state)
{
    struct fixture *f = *state;
    struct train *t = make_train(f, "scalar", NULL);

    f->weight[14] = f->weight[15] = 0.0f;
    run(f, f->t, 0, N_SEQS);
    f->tokens[14] = (f->tokens[14] + 1) % (int32_t)f->c.vocab;
    f->targets[15] = -1;
    run(f, t, 0, N_SEQS);

    assert_close(host_grads(t)->layers[1].down, host_grads(f->t)->layers[1].down,
                 (size_t)f->c.dim * f->c.ffn, 0.0, 0.0);
    train_free(&t);
}

static void bad_batches_are_refused(void **state)
{
    struct fixture *f = *state;
    struct train_batch b = f->b;
    float logp[ROWS];

    b.rows = 16;
    assert_status(train_forward(f->t, &b, logp, &f->e), ERR_INVALID, &f->e);
    b = f->b;
    b.temperature = 0.0f;
    assert_status(train_forward(f->t, &b, logp, &f->e), ERR_INVALID, &f->e);
    f->targets[3] = 23;
    assert_status(train_forward(f->t, &f->b, logp, &f->e), ERR_INVALID, &f->e);
    f->targets[3] = 1;
    f->tokens[3] = -1;
    assert_status(train_forward(f->t, &f->b, logp, &f->e), ERR_INVALID, &f->e);
    f->tokens[3] = 1;
    assert_ok(train_forward(f->t, &f->b, logp, &f->e), &f->e);
    f->weight[3] = NAN;
    assert_status(train_gradients(f->t, &f->b, train_weigh_known, f->weight, logp, &f->e),
                  ERR_NUMERIC, &f->e);
}

static void weights_that_are_not_finite_are_refused(void **state)
{
    struct fixture *f = *state;
    float logp[ROWS];

    f->w->norm[2] = NAN;
    assert_status(train_forward(f->t, &f->b, logp, &f->e), ERR_NUMERIC, &f->e);
}

/* The fixture's sequences by heart in 60 steps: the mean loss falls from some 3 nats, which is
 * guessing among 23, to less than 0.05. */
static void a_small_task_is_learnt_by_heart(void **state)
{
    struct fixture *f = *state;
    const struct adamw_settings s = {
        .lr = 0.02f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .clip_norm = 1.0f};
    struct adamw_report report;
    struct adamw *opt;
    float logp[ROWS], mean = 0.0f;

    assert_ok(adamw_new(&opt, &f->c, &f->e), &f->e);
    for (size_t i = 0; i < ROWS; i++)
        f->weight[i] = f->targets[i] < 0 ? 0.0f : 1.0f / 14;
    for (int step = 0; step < 61; step++) {
        train_zero(f->t);
        assert_ok(train_gradients(f->t, &f->b, train_weigh_known, f->weight, logp, &f->e),
                  &f->e);
        mean = 0.0f;
        for (size_t i = 0; i < ROWS; i++)
            mean -= logp[i] * f->weight[i];
        if (step == 0)
            assert_true(mean > 2.0f);
        train_finish(f->t);
        assert_ok(
            adamw_step(opt, f->w, host_grads(f->t), &s, kernels_best(), NULL, &report, &f->e),
            &f->e);
        assert_ok(train_reload(f->t, f->w, NULL), NULL);
    }

    assert_true(mean < 0.05f);
    adamw_free(&opt);
}

static void too_much_memory_is_refused_with_its_size(void **state)
{
    struct fixture *f = *state;
    const struct train_options opt = {.max_rows = 64, .max_bytes = 1000};
    struct train *t;

    assert_status(train_new(&t, f->w, &opt, &f->e), ERR_LIMIT, &f->e);
    assert_contains(f->e.text, "1000");
}

#define WITH(test, arch) cmocka_unit_test_setup_teardown(test, setup_##arch, teardown)
#define WITH_ALL(test)   WITH(test, llama), WITH(test, qwen2), WITH(test, qwen3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ALL(forward_has_the_bits_of_inference),
        WITH_ALL(gradients_are_the_slopes_of_the_loss_in_binary64),
        WITH_ALL(micro_batches_give_the_bits_of_one_batch),
        WITH_ALL(threads_and_backends_do_not_change_a_bit),
        WITH_ALL(recomputed_activations_have_the_same_bits),
        WITH(chunks_of_logits_do_not_change_a_bit, qwen2),
        WITH_ALL(zero_forgets_the_last_step),
        WITH(rows_without_weight_do_not_matter, llama),
        WITH(bad_batches_are_refused, llama),
        WITH(weights_that_are_not_finite_are_refused, llama),
        WITH_ALL(a_small_task_is_learnt_by_heart),
        WITH(too_much_memory_is_refused_with_its_size, llama),
    };
    return cmocka_run_group_tests_name("engine/train", tests, NULL, NULL);
}
