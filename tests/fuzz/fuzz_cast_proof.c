/*
 * shardcast/cast_proof over arbitrary bytes: as they are, and with a digest that fits, so that what
 * comes after the digest is reached. What decodes encodes to the same bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "fuzz/sealed.h"
#include "shardcast/cast_proof.h"

#define FILE_MAX ((size_t)1 << 24)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(struct bytes in)
{
    struct cast_proof_result result;
    struct cast_proof p;
    struct buf again;
    enum status st;

    if (cast_proof_decode(&p, in, NULL) != OK)
        return;
    buf_init(&again, FILE_MAX);
    CHECK(cast_proof_encode(&again, &p, NULL) == OK);
    CHECK(bytes_equal(buf_bytes(&again), in));
    buf_clear(&again);
    st = cast_proof_judge(&p, &result, NULL);
    (void)st; /* either way */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FILE_MAX / 2)
        return 0;
    try_sealed(try_file, (struct bytes){data, size});
    return 0;
}
