/*
 * shardcast/cast_patch.c - the origin publishes patches, and what else belongs to a version
 */
#include <string.h>

#include "proto/digest.h"
#include "shardcast/cast_shell.h"
#include "shardcast/delta.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

/* Signed as the whole version is: the same patch, the same bytes, in every life. */
static enum status announce(struct cast *c, const struct msg_manifest *m, struct err *e)
{
    struct buf body, envelope;
    struct digest d;
    struct idem idem;
    enum status st;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    st = msg_manifest_encode(&body, m, e);
    digest_of(&d, buf_bytes(&body));
    memcpy(idem.b, d.b, sizeof(idem.b));
    if (!st)
        st = msg_envelope_encode(&envelope, MSG_PUBLISH, &c->run, &idem, buf_bytes(&body),
                                 c->key->node_secret, e);
    if (!st)
        st = cast_announce(c, buf_bytes(&envelope), e);
    buf_clear(&body);
    buf_clear(&envelope);
    return st;
}

/* `base_root` NULL: it is no patch. */
static enum status publish(struct cast *c, const struct content *content,
                           const struct msg_manifest *full, const struct digest *base_root,
                           struct bytes file, struct err *e)
{
    struct msg_manifest m = *full;
    struct cast_writer *w;
    enum status st = cast_write_open(&w, c, content, content_shard_bytes(file.len), e);

    if (!st)
        st = cast_write_add(w, file, e);
    if (!st)
        st = cast_write_end(w, &m, e);
    if (base_root) {
        m.base_root = *base_root;
        m.apply_root = full->weights;
    }
    if (!st)
        st = announce(c, &m, e);
    cast_write_free(&w);
    return st;
}

enum status cast_publish_delta(struct cast *c, const struct msg_manifest *full, int64_t base,
                               struct bytes file, bool *pays, struct err *e)
{
    const struct content content = {full->version, CONTENT_DELTA, base};
    struct file_map from = {0};
    struct msg_manifest base_manifest;
    struct buf envelope, patch;
    enum status st = OK;

    *pays = false;
    if (!cast_has(c, base) || cast_state_is_past(c->state, &content))
        return OK;
    *pays = cast_state_is_complete(c->state, &content);
    if (*pays)
        return OK; /* of an earlier life */
    buf_init(&envelope, MSG_MAX_BYTES);
    buf_init(&patch, file.len);
    st = cast_manifest_decoded(c, base, &envelope, &base_manifest, e);
    if (!st)
        st = cast_map(c, base, &from, e);
    if (!st)
        st = delta_encode(&patch, pays, from.bytes, file, NULL, e);
    if (!st && *pays)
        st = publish(c, &content, full, &base_manifest.weights, buf_bytes(&patch), e);
    if (st == ERR_EXISTS) { /* another program made it another way: the whole version does */
        *pays = false;
        st = OK;
    }
    file_map_close(&from);
    buf_clear(&envelope);
    buf_clear(&patch);
    return st;
}

enum status cast_publish_other(struct cast *c, const struct msg_manifest *full, uint32_t kind,
                               struct bytes file, struct err *e)
{
    const struct content content = {full->version, kind, -1};

    if (cast_state_is_past(c->state, &content) || cast_state_is_complete(c->state, &content))
        return OK;
    return publish(c, &content, full, NULL, file, e);
}
