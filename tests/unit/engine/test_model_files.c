/*
 * A model packed from the mapped files of a directory: the bits of the loaded weights, in the
 * memory of the files' numbers.
 */
#include "engine/model.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/file.h"
#include "support/close.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "tiny_model.h"

#define LEN 70 /* crosses a page of the cache */

/* The weights of an architecture, and a directory of them. */
struct fixture {
    struct model_config c;
    struct weights *w;
    char *dir;
    int32_t tokens[LEN];
    struct err e;
};

static void begin(struct fixture *f, enum model_arch arch, enum dtype dtype)
{
    f->c = tiny_config(arch);
    f->w = tiny_weights(&f->c, 7);
    f->dir = tempdir_make();
    tiny_tokens(f->tokens, LEN, &f->c, 3);
    assert_ok(weights_save(f->w, f->dir, dtype, &f->e), &f->e);
}

static void end(struct fixture *f)
{
    tempdir_remove(&f->dir);
    weights_free(&f->w);
}

/* The hidden states of the fixture's sequence; frees the model. The caller frees them. */
static float *states_of(struct fixture *f, struct model **m)
{
    const struct model_run run = {.n = LEN, .n_out = LEN};
    float *hidden = xcalloc((size_t)LEN * f->c.dim, sizeof(float));
    struct kv_cache *kv;

    assert_ok(kv_cache_new(&kv, &f->c, NULL, 1, LEN, 0, &f->e), &f->e);
    assert_ok(model_forward(*m, kv, hidden, &run, 1, f->tokens, &f->e), &f->e);
    kv_cache_free(&kv);
    model_free(m);
    return hidden;
}

static void check(enum model_arch arch, enum dtype dtype)
{
    const struct model_options opt = {.max_rows = 64};
    struct fixture f;
    struct weights *loaded;
    struct weights_map *map;
    struct model *m;
    float *want, *got;
    begin(&f, arch, dtype);
    assert_ok(weights_load(&loaded, f.dir, &f.e), &f.e);
    assert_ok(weights_map_open(&map, f.dir, &f.e), &f.e);
    assert_ok(model_new(&m, loaded, &opt, &f.e), &f.e);
    want = states_of(&f, &m);

    assert_ok(model_open(&m, map, &opt, &f.e), &f.e);
    got = states_of(&f, &m);

    assert_same_bits(got, want, (size_t)LEN * f.c.dim);
    free(want);
    free(got);
    weights_map_close(&map);
    weights_free(&loaded);
    end(&f);
}

static void a_model_of_files_is_that_of_the_loaded_weights(void **state)
{
    (void)state;

    for (int arch = 0; arch < MODEL_ARCH_COUNT; arch++)
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++)
            check((enum model_arch)arch, (enum dtype)dtype);
}

/* Spaces behind the header, as the format allows them: the numbers begin at an odd byte. */
static void shift_numbers(struct fixture *f, size_t n_spaces)
{
    const char *path = tempdir_path(f->dir, "model.safetensors");
    struct buf file, shifted;
    struct reader r;
    uint64_t n;

    buf_init(&file, (size_t)1 << 30);
    buf_init(&shifted, (size_t)1 << 30);
    assert_ok(file_read(&file, path, &f->e), &f->e);
    r = reader_of(buf_bytes(&file));
    n = reader_u64(&r);
    buf_put_u64(&shifted, n + n_spaces);
    buf_append(&shifted, reader_bytes(&r, n));
    for (size_t i = 0; i < n_spaces; i++)
        buf_put_u8(&shifted, ' ');
    buf_append(&shifted, reader_bytes(&r, reader_left(&r)));
    assert_ok(file_write_atomic(path, buf_bytes(&shifted), 0600, &f->e), &f->e);
    buf_clear(&file);
    buf_clear(&shifted);
}

static void numbers_may_begin_at_any_byte(void **state)
{
    (void)state;
    const struct model_options opt = {.max_rows = 64};

    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        float *want = NULL, *got;

        for (size_t n_spaces = 0; n_spaces < 4; n_spaces++) {
            struct fixture f;
            struct weights_map *map;
            struct model *m;

            begin(&f, MODEL_ARCH_LLAMA, (enum dtype)dtype);
            shift_numbers(&f, n_spaces);
            assert_ok(weights_map_open(&map, f.dir, &f.e), &f.e);
            assert_ok(model_open(&m, map, &opt, &f.e), &f.e);
            got = states_of(&f, &m);
            if (want)
                assert_same_bits(got, want, (size_t)LEN * f.c.dim);
            free(want);
            want = got;
            weights_map_close(&map);
            end(&f);
        }
        free(want);
    }
}

static void bf16_files_take_half_the_memory(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t bytes[2];

    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct weights_map *map;

        begin(&f, MODEL_ARCH_LLAMA, (enum dtype)dtype);
        assert_ok(weights_map_open(&map, f.dir, &f.e), &f.e);
        bytes[dtype] = model_map_bytes(map, NULL, 64);
        weights_map_close(&map);
        end(&f);
    }

    assert_int_equal(bytes[0], model_bytes(&f.c, NULL, 64));
    /* Of 2 * (32 + 2 * 16 + 16 + 2 * 32 + 16) + 32 packed rows of 12 to 24 numbers. */
    assert_true(bytes[0] - bytes[1] > 2 * 12 * (2 * 144 + 32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_of_files_is_that_of_the_loaded_weights),
        cmocka_unit_test(numbers_may_begin_at_any_byte),
        cmocka_unit_test(bf16_files_take_half_the_memory),
    };
    return cmocka_run_group_tests_name("engine/model_files", tests, NULL, NULL);
}
