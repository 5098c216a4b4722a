/*
 * rollout/evidence over arbitrary bytes: as they are, and with a digest that fits, so that what
 * comes after the digest is reached. What decodes encodes to the same bytes. The replay is
 * given no bundle: it must end before an environment is started, with an error.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "fuzz/sealed.h"
#include "rollout/evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(struct bytes in)
{
    struct evidence v;
    struct evidence_result result;
    struct buf again;

    if (evidence_decode(&v, in, NULL) != OK)
        return;
    buf_init(&again, EVIDENCE_MAX_BYTES);
    CHECK(evidence_encode(&again, &v, NULL) == OK);
    CHECK(bytes_equal(buf_bytes(&again), in));
    buf_clear(&again);
    v.bundle = (struct bytes){NULL, 0};
    CHECK(evidence_replay(&v, NULL, &result, NULL) != OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_sealed(try_file, (struct bytes){data, size});
    return 0;
}
