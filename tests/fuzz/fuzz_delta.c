/*
 * Patches of arbitrary bytes, applied to a base whose numbers are of all sizes: every kind of loops
 * comes to the same end, and nothing but the output is written.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "shardcast/delta.h"

#define FILE_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status apply(uint8_t *out, struct bytes base, const struct delta *d,
                         const char *loops)
{
    const struct delta_options opt = {.loops = delta_loops_find(loops)};
    return delta_apply(out, base, d, &opt, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct delta d;
    uint8_t *base, *a, *b;
    enum status st;

    if (delta_open(&d, (struct bytes){data, size}, NULL) || d.file_bytes > FILE_MAX)
        return 0;
    base = malloc((size_t)d.file_bytes + 1);
    a = calloc((size_t)d.file_bytes + 1,
               1); /* exact, so that a sanitizer sees a byte too far */
    b = calloc((size_t)d.file_bytes + 1, 1);
    CHECK(base && a && b);
    for (size_t i = 0; i < d.file_bytes; i++)
        base[i] = (uint8_t)(i * 167 >> i % 5);
    st = apply(a, (struct bytes){base, (size_t)d.file_bytes}, &d, NULL);
    CHECK(st == apply(b, (struct bytes){base, (size_t)d.file_bytes}, &d, "scalar"));
    CHECK(st || !memcmp(a, b, (size_t)d.file_bytes));
    CHECK(a[d.file_bytes] == 0 && b[d.file_bytes] == 0);
    free(base);
    free(a);
    free(b);
    return 0;
}
