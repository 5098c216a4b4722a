/*
 * rollout/model_set: which versions are kept.
 */
#include "rollout/model_set.h"

#include <math.h>

#include "engine/kernels.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

struct fixture {
    struct model_config config;
    struct model_set *set;
    struct weights *w;
    struct buf file;
    struct err e;
};

static unsigned n_tampered;

static void count_tamper(void *ctx, struct weights *w)
{
    (void)ctx;
    (void)w;
    n_tampered++;
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    const struct model_set_options opt = {
        .kernels = kernels_best(), .cap = 2, .tamper = count_tamper};

    f->config = (struct model_config){.arch = MODEL_ARCH_LLAMA,
                                      .vocab = 5,
                                      .dim = 8,
                                      .layers = 1,
                                      .heads = 2,
                                      .kv_heads = 2,
                                      .head_dim = 4,
                                      .ffn = 8,
                                      .max_len = 8,
                                      .norm_eps = 1e-5f,
                                      .rope_theta = 10000.0,
                                      .tie = true,
                                      .bos = 1,
                                      .pad = 0,
                                      .stops = {2},
                                      .n_stops = 1};
    model_set_new(&f->set, &f->config, &opt);
    assert_ok(weights_new(&f->w, &f->config, &f->e), &f->e);
    small_weights(f->w, 1);
    small_file(&f->file, f->w);
    n_tampered = 0;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    model_set_free(&f->set);
    weights_free(&f->w);
    buf_clear(&f->file);
    test_free(f);
    return 0;
}

static void add(struct fixture *f, int64_t version)
{
    assert_ok(model_set_add(f->set, version, buf_bytes(&f->file), &f->e), &f->e);
}

static void a_version_that_was_added_is_found(void **state)
{
    struct fixture *f = *state;

    assert_null(model_set_find(f->set, 0));
    add(f, 0);
    assert_non_null(model_set_find(f->set, 0));
    assert_null(model_set_find(f->set, 1));
    assert_int_equal(n_tampered, 1);
}

static void the_lowest_version_gives_way(void **state)
{
    struct fixture *f = *state;

    add(f, 5);
    add(f, 4);
    add(f, 6);
    assert_null(model_set_find(f->set, 4));
    assert_non_null(model_set_find(f->set, 5));
    assert_non_null(model_set_find(f->set, 6));
    add(f, 3); /* an old one that is needed pushes out the lowest, not itself */
    assert_non_null(model_set_find(f->set, 3));
    assert_null(model_set_find(f->set, 5));
    assert_non_null(model_set_find(f->set, 6));
}

static void adding_again_replaces(void **state)
{
    struct fixture *f = *state;

    add(f, 5);
    add(f, 6);
    add(f, 6);
    assert_non_null(model_set_find(f->set, 5));
    assert_non_null(model_set_find(f->set, 6));
}

static void a_file_that_is_no_weights_leaves_the_others(void **state)
{
    struct fixture *f = *state;

    add(f, 5);
    f->file.len /= 2;
    assert_status(model_set_add(f->set, 6, buf_bytes(&f->file), &f->e), ERR_MALFORMED, NULL);
    assert_null(model_set_find(f->set, 6));
    assert_non_null(model_set_find(f->set, 5));
}

static void weights_that_are_not_finite_are_refused(void **state)
{
    struct fixture *f = *state;

    f->w->norm[3] = NAN;
    buf_clear(&f->file);
    small_file(&f->file, f->w);
    assert_status(model_set_add(f->set, 6, buf_bytes(&f->file), &f->e), ERR_NUMERIC, NULL);
    assert_null(model_set_find(f->set, 6));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(a_version_that_was_added_is_found),
        CASE(the_lowest_version_gives_way),
        CASE(adding_again_replaces),
        CASE(a_file_that_is_no_weights_leaves_the_others),
        CASE(weights_that_are_not_finite_are_refused),
    };
    return cmocka_run_group_tests_name("rollout/model_set", tests, NULL, NULL);
}
