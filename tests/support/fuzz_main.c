/*
 * support/fuzz_main.c - runs a fuzz target without libFuzzer
 *
 *   fuzz_<name> CORPUS...     each a file or a directory of files
 *
 * Every file is given as it is, cut short at up to 256 places, and with up to 256 single changes
 * drawn from the seed. So a decoder meets hostile bytes in each ordinary run of the tests.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/file.h"
#include "support/random.h"

#define FILE_MAX_BYTES (16u << 20)
#define CUTS           256u
#define CHANGES        256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly n bytes, so that a sanitizer sees a read past the end. */
static void run_one(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);

    if (!copy)
        abort();
    if (n)
        memcpy(copy, data, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_cuts(const uint8_t *data, size_t n)
{
    size_t step = n / CUTS + 1;

    for (size_t len = 0; len < n; len += step)
        run_one(data, len);
}

static void run_changes(struct rng *r, uint8_t *data, size_t n)
{
    for (size_t i = 0; n && i < CHANGES; i++) {
        size_t at = (size_t)rng_below(r, n);
        uint8_t old = data[at];

        data[at] = (uint8_t)(rng_below(r, 2) ? rng_u32(r) : old ^ 1u << rng_below(r, 8));
        run_one(data, n);
        data[at] = old;
    }
}

static int run_file(struct rng *r, const char *path)
{
    struct buf b;
    struct err e;

    buf_init(&b, FILE_MAX_BYTES);
    if (file_read(&b, path, &e)) {
        (void)fprintf(stderr, "%s\n", e.text);
        return 0;
    }
    run_one(b.data, b.len);
    run_cuts(b.data, b.len);
    run_changes(r, b.data, b.len);
    buf_clear(&b);
    return 1;
}

static int run_path(struct rng *r, const char *path)
{
    struct dirent **names;
    struct stat sb;
    int n, files = 0;

    if (stat(path, &sb) || !S_ISDIR(sb.st_mode))
        return run_file(r, path);
    n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            char *file = file_join(path, names[i]->d_name);

            files += run_file(r, file);
            free(file);
        }
        free(names[i]);
    }
    if (n >= 0)
        free((void *)names);
    return files;
}

int main(int argc, char **argv)
{
    struct rng r = random_seeded(1);
    int files = 0;

    for (int i = 1; i < argc; i++)
        files += run_path(&r, argv[i]);
    (void)fprintf(stderr, "%d corpus files\n", files);
    return files ? 0 : 1; /* a corpus that is not there tests nothing */
}
