/*
 * replay/transcript over arbitrary bytes: as they are, and with a digest that fits, so that what
 * comes after the digest is reached. What decodes encodes to the same bytes; its replay ends.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "fuzz/sealed.h"
#include "replay/transcript_play.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(struct bytes in)
{
    struct transcript t;
    struct transcript_result result;
    struct buf again;

    if (transcript_decode(&t, in, NULL) != OK)
        return;
    buf_init(&again, TRANSCRIPT_MAX_BYTES);
    CHECK(transcript_encode(&again, &t, NULL) == OK);
    CHECK(bytes_equal(buf_bytes(&again), in));
    buf_clear(&again);
    if (transcript_replay(&result, &t, NULL, NULL) == OK)
        CHECK(result.loser == DISPUTE_NOBODY || result.turn == DISPUTE_NOBODY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_sealed(try_file, (struct bytes){data, size});
    return 0;
}
