/*
 * What a worker, which runs code that nobody trusts, may send its host: the first byte says
 * which of the two decoders gets the rest. What they accept encodes to the same bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "envs/env_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in;
    struct script_result result;
    struct env_hello hello;
    struct buf again;

    if (!size)
        return 0;
    in = (struct bytes){data + 1, size - 1};
    buf_init(&again, ENV_REPLY_MAX_BYTES);
    if (data[0] == 'h') {
        if (env_hello_decode(&hello, in, NULL) == OK)
            env_hello_encode(&again, &hello);
    } else if (env_result_decode(&result, in, NULL) == OK) {
        CHECK(result.n_metrics <= ENV_METRICS_MAX);
        CHECK(memchr(result.why, 0, sizeof(result.why)));
        env_result_encode(&again, &result);
    }
    CHECK(again.len == 0 || bytes_equal(buf_bytes(&again), in));
    buf_clear(&again);
    return 0;
}
