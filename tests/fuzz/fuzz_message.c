/*
 * The body of any message: the first byte picks which. What decodes must encode to the same
 * bytes, and a submission must not upset the checks that come next.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/canary.h"
#include "proto/msg_table.h"
#include "proto/submission.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLE_OF(name, type) &msg_table_##name,
static const struct msg_table *const tables[] = {MSG_CODEC_MAP(TABLE_OF)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct msg_table *t;
    struct bytes in;
    struct digest root;
    struct buf again;
    void *m;

    if (size == 0)
        return 0;
    t = tables[data[0] % (sizeof(tables) / sizeof(tables[0]))];
    in = (struct bytes){data + 1, size - 1};
    m = xcalloc(1, t->bytes);
    if (msg_table_decode(t, m, in, NULL) == OK) {
        buf_init(&again, MSG_MAX_BYTES);
        CHECK(msg_table_encode(t, &again, m, NULL) == OK);
        CHECK(bytes_equal(buf_bytes(&again), in));
        buf_clear(&again);
        if (t == &msg_table_submit) {
            submission_root(&root, m);
            (void)(submission_check_bounds(m, NULL, NULL) == OK);
            (void)submission_tokens(m);
            (void)!canary_altered_root(&root, in, &root, NULL);
        }
    }
    free(m);
    return 0;
}
