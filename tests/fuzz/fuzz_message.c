/*
 * The body of any message: its name and a newline come first (of a first line that is no name, its
 * first byte picks). What decodes must encode to the same bytes, and a submission must not upset the
 * checks that come next.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/canary.h"
#include "proto/msg_table.h"
#include "proto/submission.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLE_OF(name, type) &msg_table_##name,
static const struct msg_table *const tables[] = {MSG_CODEC_MAP(TABLE_OF)};
#define NAME_OF(name, type) #name,
static const char *const names[] = {MSG_CODEC_MAP(NAME_OF)};
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

/* Takes what says which message it is from the front of *in. */
static const struct msg_table *pick(struct bytes *in)
{
    const uint8_t *end = memchr(in->data, '\n', in->len);
    size_t n = end ? (size_t)(end - in->data) : 0, i = 0;

    while (i < N_TABLES && (strlen(names[i]) != n || memcmp(names[i], in->data, n) != 0))
        i++;
    if (i == N_TABLES) {
        n = 0;
        i = in->data[0] % N_TABLES;
    }
    *in = (struct bytes){in->data + n + 1, in->len - n - 1};
    return tables[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct msg_table *t;
    struct bytes in;
    struct digest root;
    struct buf again;
    void *m;

    if (size == 0)
        return 0;
    in = (struct bytes){data, size};
    t = pick(&in);
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
