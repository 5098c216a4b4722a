/*
 * msg_envelope_decode and msg_envelope_verify over any bytes. What decodes must be the one way to
 * write it.
 */
#include <string.h>

#include "base/check.h"
#include "proto/msg.h"
#include "proto/msg_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_envelope m;
    struct msg_wire w;
    struct buf again;

    if (msg_envelope_decode(&m, (struct bytes){data, size}, NULL) != OK)
        return 0;
    CHECK(m.body.len <= size && m.raw.len == size);
    (void)(msg_envelope_verify(&m, NULL) == OK);
    w = (struct msg_wire){.protocol = MSG_PROTOCOL,
                          .kind = (uint32_t)m.kind,
                          .run = m.run,
                          .signer = m.signer,
                          .idem = m.idem,
                          .body = m.body,
                          .sig = m.sig};
    buf_init(&again, MSG_MAX_BYTES);
    CHECK(msg_table_encode(&msg_table_wire, &again, &w, NULL) == OK);
    CHECK(bytes_equal(buf_bytes(&again), m.raw));
    buf_clear(&again);
    return 0;
}
