/*
 * What the processes of a trainer say to each other: the first byte says which decoder gets the rest.
 * What they accept encodes to the same bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "replay/lane_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lane_answer answer;
    struct lane_setup setup;
    struct lane_work work;
    struct bytes in;
    struct buf again;

    if (!size)
        return 0;
    in = (struct bytes){data + 1, size - 1};
    buf_init(&again, LANE_FRAME_MAX);
    if (data[0] == 's') {
        if (lane_setup_decode(&setup, in, NULL) == OK)
            CHECK(lanes_is_count(setup.lanes)); /* a config has many spellings */
    } else if (data[0] == 'a') {
        if (lane_answer_decode(&answer, in, NULL) == OK)
            CHECK(answer.n <= LANES_MAX && answer.st < STATUS_COUNT);
    } else if (lane_work_decode(&work, in, NULL) == OK) {
        lane_work_encode(&again, &work.work, work.first, work.n);
        CHECK(bytes_equal(buf_bytes(&again), in));
        lane_work_clear(&work);
    }
    buf_clear(&again);
    return 0;
}
