/*
 * toploc_verify of any proof against any rows: the first bytes are the number of coefficients, the
 * width and the mode, then the proof's length, the proof, and the rows.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "proto/toploc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of((struct bytes){data, size});
    uint32_t k = reader_u8(&r) + 1u;
    size_t dim = reader_u8(&r) + 1u;
    uint8_t flags = reader_u8(&r);
    struct bytes proof = reader_bytes(&r, reader_u16(&r));
    size_t n = reader_left(&r) / 2;
    uint16_t values[VALUES_MAX];
    struct toploc_result result;

    if (r.bad)
        return 0;
    n = n < VALUES_MAX ? n : VALUES_MAX;
    for (size_t i = 0; i < n; i++)
        values[i] = reader_u16(&r);
    if (toploc_verify(&result, proof, &(struct toploc_rows){values, n / dim, dim}, k,
                      flags & 1 ? TOPLOC_TIE_HEAP : TOPLOC_TIE_LOWEST,
                      flags & 2 ? TOPLOC_COMPAT : TOPLOC_STRICT, NULL) == OK)
        CHECK(result.exp_mismatches <= k);
    return 0;
}
