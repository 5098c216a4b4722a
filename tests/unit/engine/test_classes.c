/*
 * The classes beside one another: logits and gradients of one model, as OpenBLAS's products and
 * those of f32-1 give them.
 *
 * The tolerance. A product of K terms, in whatever order, is off by at most K u sum |x w| (u =
 * 2^-24, Higham 2002, section 3.1); errors of random sign add up like sqrt(K) u times the norm of
 * the terms, and two orders differ by twice that. Through d products in a row, between which the
 * norms bring rows back to length 1, differences add up to 2 d sqrt(K) u of the result. Here K is
 * 96 at most and d 15 (two layers of seven and the head, taken as if they stood all in a row), and
 * three times that for gradients: 1.8e-5 and 5.3e-5. What is seen is 1e-7 and 8e-7. Anything but
 * another order of the sums is farther off: operands rounded to bf16, for one, by 2^-9.
 */
#include <math.h>

#include "engine/model.h"
#include "engine/train.h"

#include "numerics.h"
#include "support/grads.h"

#define LEN    ((size_t)20)
#define N_SEQS ((size_t)2)
#define ROWS   (LEN * N_SEQS)

struct fixture {
    struct weights *w;
    int32_t tokens[ROWS], targets[ROWS];
    float weight[ROWS];
    struct err e;
};

static int setup(void **state)
{
    const struct model_config c = {
        .arch = MODEL_ARCH_LLAMA,
        .vocab = 90,
        .dim = 64,
        .layers = 2,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 16,
        .ffn = 96,
        .max_len = 64,
        .norm_eps = 1e-5f,
        .rope_theta = 10000.0,
        .bos = -1,
        .pad = -1,
    };
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct rng r = rng_of(1, 1);

    assert_ok(weights_new(&f->w, &c, &f->e), &f->e);
    weights_init_random(f->w, 5);
    for (size_t i = 0; i < ROWS; i++) {
        f->tokens[i] = (int32_t)rng_below(&r, c.vocab);
        f->targets[i] = (int32_t)rng_below(&r, c.vocab);
        f->weight[i] = 1.0f / ROWS;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    weights_free(&f->w);
    test_free(f);
    return 0;
}

/* Log-probabilities of all targets, and the gradients of a class. */
static struct train *train_in(struct fixture *f, enum numerics numerics, struct pool *pool,
                              float *logp)
{
    static const size_t lengths[N_SEQS] = {LEN, LEN};
    struct train_options opt = {.pool = pool, .max_rows = ROWS};
    struct train_batch b = {f->tokens, f->targets, lengths, N_SEQS, ROWS, 1.0f};
    struct train *t;

    assert_ok(kernels_choose(&opt.kernels, numerics, NULL, &f->e), &f->e);
    assert_ok(train_new(&t, f->w, &opt, &f->e), &f->e);
    assert_ok(train_gradients(t, &b, train_weigh_known, f->weight, logp, &f->e), &f->e);
    train_finish(t);
    return t;
}

/* |a - b| / |b| */
static double distance(const float *a, const float *b, size_t n)
{
    double off = 0.0, all = 0.0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        off += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(off / all);
}

static void assert_near(struct fixture *f, enum numerics numerics, double forward, double back)
{
    float want_logp[ROWS], logp[ROWS];
    struct pool *pool;
    pool_new(&pool, 2);
    struct train *want = train_in(f, NUMERICS_F32_1, NULL, want_logp);
    struct train *got = train_in(f, numerics, pool, logp);
    const struct weights *a = host_grads(got), *b = host_grads(want);

    double d = distance(logp, want_logp, ROWS);
    if (!(d <= forward))
        fail_msg("log-probabilities are %.3g off", d);
    for (size_t i = 0; i < a->n_tensors; i++) {
        d = distance(a->tensors[i].data, b->tensors[i].data,
                     a->tensors[i].rows * a->tensors[i].cols);
        if (!(d <= back))
            fail_msg("the gradient of %s is %.3g off", a->tensors[i].name, d);
    }
    train_free(&want);
    train_free(&got);
    pool_free(&pool);
}

static void openblas_gives_what_f32_1_gives_but_for_rounding(void **state)
{
    assert_near(*state, NUMERICS_OPEN_OPENBLAS, 1.8e-5, 5.3e-5);
}

/* The same reckoning with operands rounded to 8 bits: 2^-9 for each of the two, of random sign
 * over a sum, hence sqrt(2) 2^-9 of the result's norm a product, and sqrt(15) of that for 15 that
 * are independent: 1.1 %, and three times that for gradients. Doubled for keys and values, which
 * are rounded once more. What is seen is 0.1 % and 1.3 %. */
static void bf16_1_gives_what_f32_1_gives_but_for_eight_bits(void **state)
{
    assert_near(*state, NUMERICS_BF16_1, 0.022, 0.066);
}

#define WIDTH_MAX 64

static size_t wide_floats(struct fixture *f)
{
    struct kv_cache *kv;
    size_t n;

    assert_ok(kv_cache_new(&kv, &f->w->config, NULL, 1, LEN, 0, &f->e), &f->e);
    n = kv->layer_floats;
    kv_cache_free(&kv);
    return n;
}

static void keys_and_values_of_bf16_1_are_bf16_and_take_half_the_room(void **state)
{
    struct fixture *f = *state;
    struct model_options opt = {.max_rows = 32};
    struct model *m;
    struct kv_cache *kv;
    float hidden[64];
    const struct model_run run = {.n = LEN, .n_out = 1};

    assert_ok(kernels_choose(&opt.kernels, NUMERICS_BF16_1, NULL, &f->e), &f->e);
    assert_ok(model_new(&m, f->w, &opt, &f->e), &f->e);
    assert_ok(kv_cache_new(&kv, &f->w->config, opt.kernels, 1, LEN, 0, &f->e), &f->e);
    assert_ok(model_forward(m, kv, hidden, &run, 1, f->tokens, &f->e), &f->e);

    assert_int_equal(2 * kv->layer_floats, wide_floats(f));
    for (size_t layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < LEN; i++) {
            float pair[2 * WIDTH_MAX];

            assert_true(kv->width <= WIDTH_MAX);
            kv_cache_read(kv, pair, pair + kv->width, 0, layer, i);
            for (size_t j = 0; j < 2 * kv->width; j++) {
                assert_true(pair[j] != 0.0f);
                assert_true(f32_from_bf16(bf16_from_f32(pair[j])) == pair[j]);
            }
        }
    kv_cache_free(&kv);
    model_free(&m);
}

int main(int argc, char **argv)
{
    const struct kernels *k;
    struct err e;
    const struct CMUnitTest openblas[] = {
        cmocka_unit_test_setup_teardown(openblas_gives_what_f32_1_gives_but_for_rounding, setup,
                                        teardown),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bf16_1_gives_what_f32_1_gives_but_for_eight_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            keys_and_values_of_bf16_1_are_bf16_and_take_half_the_room, setup, teardown),
    };

    if (argc < 2 || strcmp(argv[1], "openblas") != 0)
        return cmocka_run_group_tests_name("engine/classes", tests, NULL, NULL);
    if (kernels_choose(&k, NUMERICS_OPEN_OPENBLAS, NULL, &e) == ERR_UNSUPPORTED) {
        printf("skipped: %s\n", e.text);
        return 77;
    }
    return cmocka_run_group_tests_name("engine/classes openblas", openblas, NULL, NULL);
}
