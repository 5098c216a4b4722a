/*
 * checkpoint_load of a file of arbitrary bytes: as they are, and with a digest that fits, so that
 * what comes after the digest is reached. What it accepts is in the file: masters and moments are
 * its last bytes, the metadata and the step come before them.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <sodium.h>

#include "base/check.h"
#include "engine/checkpoint.h"
#include "support/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The last n values of what is left of `file`, which loses them. */
static void take_values(struct bytes *file, const float *values, size_t n)
{
    CHECK(file->len >= n * sizeof(float));
    file->len -= n * sizeof(float);
    CHECK(memcmp(file->data + file->len, values, n * sizeof(float)) == 0);
}

static void check_accepted(struct bytes file, const struct weights *w, const struct adamw *opt,
                           struct bytes meta)
{
    struct reader r;

    file.len -= WEIGHTS_DIGEST_BYTES;
    take_values(&file, opt->v->data, opt->v->n_data);
    take_values(&file, opt->m->data, opt->m->n_data);
    take_values(&file, w->data, w->n_data);
    r = reader_of(file);
    (void)reader_bytes(&r, sizeof("MUSTERCK") - 1 + 4);
    (void)reader_blob(&r);
    CHECK(bytes_equal(reader_blob(&r), meta));
    CHECK(reader_u64(&r) == opt->step);
    CHECK(reader_done(&r, "head", NULL) == OK);
    CHECK(model_config_check(&w->config, NULL) == OK);
}

static void try_file(struct bytes file)
{
    const char *path = scratch_write("checkpoint", file);
    struct weights *w;
    struct adamw *opt;
    struct buf meta;

    buf_init(&meta, CHECKPOINT_META_MAX);
    if (checkpoint_load(&w, &opt, &meta, path, NULL) == OK)
        check_accepted(file, w, opt, buf_bytes(&meta));
    else
        CHECK(!w && !opt && meta.len == 0);
    weights_free(&w);
    adamw_free(&opt);
    buf_clear(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t digest[WEIGHTS_DIGEST_BYTES];
    struct buf fitting;

    try_file((struct bytes){data, size});
    crypto_generichash(digest, sizeof(digest), data, size, NULL, 0);
    buf_init(&fitting, size + sizeof(digest));
    buf_append(&fitting, (struct bytes){data, size});
    buf_append(&fitting, BYTES_OF(digest));
    try_file(buf_bytes(&fitting));
    buf_clear(&fitting);
    return 0;
}
