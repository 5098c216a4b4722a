#include "shardcast/content_check.h"

#include "proto/content.h"
#include "proto/msg.h"

bool content_check_by_segment(struct content_store *s, const struct content *c, uint32_t index,
                              struct bytes data)
{
    struct buf envelope;
    struct msg_envelope env;
    struct msg_segment m;
    struct digest leaf;
    size_t at = (size_t)(index % MSG_MAX_LEAVES) * DIGEST_BYTES;
    bool is_right = false;

    buf_init(&envelope, MSG_MAX_BYTES);
    if (!content_store_segment_get(s, c, index / MSG_MAX_LEAVES, &envelope, NULL) &&
        !msg_envelope_decode(&env, buf_bytes(&envelope), NULL) &&
        !msg_segment_decode(&m, env.body, NULL) && at < m.leaves.len) {
        content_leaf(&leaf, index, data);
        is_right = bytes_equal(BYTES_OF(leaf.b), bytes_slice(m.leaves, at, DIGEST_BYTES));
    }
    buf_clear(&envelope);
    return is_right;
}
