/*
 * safetensors_decode over arbitrary bytes: never reads outside, and what it accepts tiles the data.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors view;
    uint64_t total = 0;
    unsigned sum = 0;

    if (safetensors_decode(&view, (struct bytes){data, size}, "fuzz", NULL) != OK)
        return 0;
    for (size_t i = 0; i < view.n; i++) {
        const struct safetensors_tensor *t = &view.tensors[i];

        CHECK(t->data.len == t->n * dtype_bytes(t->dtype));
        CHECK(safetensors_find(&view, t->name) == t);
        total += t->data.len;
        for (size_t j = 0; j < t->data.len; j++)
            sum ^= t->data.data[j];
    }
    CHECK(total <= size && sum < 256);
    safetensors_clear(&view);
    return 0;
}
