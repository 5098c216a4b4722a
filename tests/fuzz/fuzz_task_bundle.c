/*
 * bundle_decode over arbitrary bytes: what it accepts is the canonical encoding.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "envs/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = {data, size};
    struct bundle b;
    struct buf again;

    if (bundle_decode(&b, in, NULL) != OK) {
        CHECK(!b.file[BUNDLE_TASK].data);
        return 0;
    }
    buf_init(&again, BUNDLE_MAX_BYTES);
    CHECK(bundle_encode(&again, &b, NULL) == OK);
    CHECK(bytes_equal(buf_bytes(&again), in));
    buf_clear(&again);
    return 0;
}
