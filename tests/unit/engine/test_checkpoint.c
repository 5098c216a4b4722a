/*
 * Checkpoints: what is loaded goes on with the same bits; what was cut or altered is found.
 */
#include "engine/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/kernels.h"
#include "support/close.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "tiny_model.h"

struct fixture {
    char *dir;
    const char *path;
    struct weights *w, *grads;
    struct adamw *opt;
    struct buf meta;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    const struct model_config c = tiny_config(MODEL_ARCH_QWEN2);

    f->dir = tempdir_make();
    f->path = tempdir_path(f->dir, "checkpoint");
    f->w = tiny_weights(&c, 1);
    f->grads = tiny_weights(&c, 2);
    assert_ok(adamw_new(&f->opt, &c, &f->e), &f->e);
    buf_init(&f->meta, CHECKPOINT_META_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    buf_clear(&f->meta);
    adamw_free(&f->opt);
    weights_free(&f->w);
    weights_free(&f->grads);
    tempdir_remove(&f->dir);
    test_free(f);
    return 0;
}

static void step(struct fixture *f, struct weights *w, struct adamw *opt)
{
    const struct adamw_settings s = {.lr = 0.01f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .eps = 1e-8f,
                                     .weight_decay = 0.1f,
                                     .clip_norm = 1.0f};
    struct adamw_report report;

    assert_ok(adamw_step(opt, w, f->grads, &s, kernels_best(), NULL, &report, &f->e), &f->e);
}

static void a_resumed_run_has_the_bits_of_one_that_went_on(void **state)
{
    struct fixture *f = *state;
    struct weights *w;
    struct adamw *opt;
    uint8_t want[WEIGHTS_DIGEST_BYTES], got[WEIGHTS_DIGEST_BYTES];

    for (int i = 0; i < 3; i++)
        step(f, f->w, f->opt);
    assert_ok(checkpoint_save(f->path, f->w, f->opt, BYTES_LIT("note\0s"), &f->e), &f->e);
    assert_ok(checkpoint_load(&w, &opt, &f->meta, f->path, &f->e), &f->e);
    for (int i = 0; i < 2; i++) {
        step(f, f->w, f->opt);
        step(f, w, opt);
    }

    assert_true(bytes_equal(buf_bytes(&f->meta), BYTES_LIT("note\0s")));
    assert_int_equal(opt->step, 5);
    weights_digest(want, f->w);
    weights_digest(got, w);
    assert_memory_equal(got, want, sizeof(want));
    weights_digest(want, f->opt->m);
    weights_digest(got, opt->m);
    assert_memory_equal(got, want, sizeof(want));
    weights_digest(want, f->opt->v);
    weights_digest(got, opt->v);
    assert_memory_equal(got, want, sizeof(want));
    weights_free(&w);
    adamw_free(&opt);
}

static void saving_again_replaces_the_file_whole(void **state)
{
    struct fixture *f = *state;
    struct weights *w;
    struct adamw *opt;

    assert_ok(checkpoint_save(f->path, f->w, f->opt, BYTES_LIT("first, and longer"), &f->e),
              &f->e);
    step(f, f->w, f->opt);
    assert_ok(checkpoint_save(f->path, f->w, f->opt, BYTES_LIT("second"), &f->e), &f->e);
    assert_ok(checkpoint_load(&w, &opt, &f->meta, f->path, &f->e), &f->e);

    assert_true(bytes_equal(buf_bytes(&f->meta), BYTES_LIT("second")));
    assert_int_equal(opt->step, 1);
    assert_false(file_exists(tempdir_path(f->dir, "checkpoint.tmp")));
    weights_free(&w);
    adamw_free(&opt);
}

/* Saves, lets `change` at the bytes, loads: the status. */
static enum status load_changed(struct fixture *f, size_t cut, size_t flip)
{
    struct buf file;
    struct weights *w;
    struct adamw *opt;
    enum status st;

    assert_ok(checkpoint_save(f->path, f->w, f->opt, BYTES_LIT("m"), &f->e), &f->e);
    buf_init(&file, 1u << 24);
    assert_ok(file_read(&file, f->path, &f->e), &f->e);
    assert_true(cut < file.len && flip < file.len);
    if (flip > 0)
        file.data[flip] ^= 1;
    file.len -= cut;
    assert_ok(file_write_atomic(f->path, buf_bytes(&file), 0600, &f->e), &f->e);
    st = checkpoint_load(&w, &opt, &f->meta, f->path, &f->e);
    assert_true(st == OK || (!w && !opt));
    weights_free(&w);
    adamw_free(&opt);
    buf_clear(&file);
    return st;
}

static void a_changed_or_cut_file_is_corrupt(void **state)
{
    struct fixture *f = *state;

    assert_ok(load_changed(f, 0, 0), &f->e);
    assert_status(load_changed(f, 1, 0), ERR_CORRUPT, &f->e);
    assert_status(load_changed(f, 1000, 0), ERR_CORRUPT, &f->e);
    assert_status(load_changed(f, 0, 5), ERR_CORRUPT, &f->e);    /* magic */
    assert_status(load_changed(f, 0, 100), ERR_CORRUPT, &f->e);  /* config */
    assert_status(load_changed(f, 0, 5000), ERR_CORRUPT, &f->e); /* weights */
    assert_contains(f->e.text, f->path);
}

static void a_later_version_is_unsupported(void **state)
{
    struct fixture *f = *state;

    assert_status(load_changed(f, 0, 8), ERR_UNSUPPORTED, &f->e);
}

static void no_file_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct weights *w;
    struct adamw *opt;

    assert_status(checkpoint_load(&w, &opt, &f->meta, f->path, &f->e), ERR_NOT_FOUND, &f->e);
    assert_null(w);
}

static void a_directory_that_is_not_there_is_an_error_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;

    assert_status(
        checkpoint_save(tempdir_path(f->dir, "no/such"), f->w, f->opt, BYTES_LIT(""), &f->e),
        ERR_IO, &f->e);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_resumed_run_has_the_bits_of_one_that_went_on),
        WITH(saving_again_replaces_the_file_whole),
        WITH(a_changed_or_cut_file_is_corrupt),
        WITH(a_later_version_is_unsupported),
        WITH(no_file_is_not_found),
        WITH(a_directory_that_is_not_there_is_an_error_and_leaves_nothing),
    };
    return cmocka_run_group_tests_name("engine/checkpoint", tests, NULL, NULL);
}
