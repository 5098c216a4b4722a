/*
 * shardcast/cast_write.c - the origin: a content is announced while it is being written
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "shardcast/cast_cut.h"
#include "shardcast/cast_shell.h"

#define HELD_MAX ((size_t)16 << 20) /* MSG_MAX_SHARDS / MSG_MAX_LEAVES segments */

struct cast_writer {
    struct cast *cast; /* borrowed */
    struct cast_cut cut;
    bool is_held;    /* nothing is signed away before the whole file was seen to be right */
    struct buf held; /* owned: the segments, as blobs */
};

static enum status put_shard(void *arg, uint32_t index, struct bytes shard, struct err *e)
{
    struct cast_writer *w = arg;

    return cast_disk_put(w->cast, &w->cut.opt.content, index, shard, e);
}

/* Its shards are stored, and what was signed is durable before its first byte leaves. */
static enum status append_segment(struct cast_writer *w, uint32_t number, struct bytes envelope,
                                  struct err *e)
{
    struct cast *c = w->cast;
    enum status st = content_store_segment(c->store, &w->cut.opt.content, number, envelope, e);

    if (!st)
        st = cast_state_append(c->state, envelope, clock_mono_ms(), &c->acts, e);
    shell_wake(c->part);
    return st;
}

static enum status put_segment(void *arg, uint32_t number, struct bytes envelope, struct err *e)
{
    struct cast_writer *w = arg;

    if (!w->is_held)
        return append_segment(w, number, envelope, e);
    buf_put_blob(&w->held, envelope);
    return buf_status(&w->held, e);
}

static enum status append_held(struct cast_writer *w, struct err *e)
{
    struct reader r = reader_of(buf_bytes(&w->held));
    enum status st = OK;

    for (uint32_t i = 0; !st && reader_left(&r) > 0; i++)
        st = append_segment(w, i, reader_blob(&r), e);
    return st;
}

enum status cast_write_open(struct cast_writer **out, struct cast *c,
                            const struct content *content, uint32_t shard_bytes, struct err *e)
{
    struct cast_writer *w;
    enum status st;

    *out = NULL;
    if (!c->has_run)
        return err_set(e, ERR_INVALID, "cannot publish before the run is known");
    st = content_store_begin(c->store, content, shard_bytes, e);
    if (st)
        return st;
    w = xcalloc(1, sizeof(*w));
    w->cast = c;
    const struct cast_cut_options o = {.run = c->run,
                                       .content = *content,
                                       .shard_bytes = shard_bytes,
                                       .secret = c->key->node_secret,
                                       .on_shard = put_shard,
                                       .on_segment = put_segment,
                                       .arg = w};
    cast_cut_init(&w->cut, &o);
    buf_init(&w->held, HELD_MAX);
    *out = w;
    return OK;
}

enum status cast_write_add(struct cast_writer *w, struct bytes more, struct err *e)
{
    return cast_cut_add(&w->cut, more, e);
}

enum status cast_write_end(struct cast_writer *w, struct msg_manifest *m, struct err *e)
{
    return cast_cut_end(&w->cut, m, e);
}

void cast_write_free(struct cast_writer **w)
{
    if (!*w)
        return;
    cast_cut_clear(&(*w)->cut);
    buf_clear(&(*w)->held);
    free(*w);
    *w = NULL;
}

/* The manifest of what was written: durable, then announced. */
static enum status announce(struct cast *c, struct bytes envelope, const struct msg_manifest *m,
                            struct err *e)
{
    enum status st = content_store_size(c->store, &m->content, m->file_bytes, e);

    if (!st)
        st = content_store_publish(c->store, &m->content, envelope, true, e);
    if (!st)
        st = cast_state_publish(c->state, envelope, clock_mono_ms(), &c->acts, e);
    shell_wake(c->part);
    return st;
}

enum status cast_announce(struct cast *c, struct bytes envelope, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    enum status st = cast_manifest_check(envelope, &c->run, &c->key->node, &env, &m, e);

    if (!st && cast_state_contradicts(c->state, &env, &m))
        st = err_set(e, ERR_EXISTS, "version %" PRId64 " was published with another content",
                     m.version);
    return st ? st : announce(c, envelope, &m, e);
}

static enum status write_file(struct cast *c, const struct msg_manifest *m, struct bytes file,
                              struct err *e)
{
    struct msg_manifest found = {0};
    struct cast_writer *w;
    enum status st = cast_write_open(&w, c, &m->content, m->shard_bytes, e);

    if (!st) {
        w->is_held = true;
        st = cast_write_add(w, file, e);
    }
    if (!st)
        st = cast_write_end(w, &found, e);
    if (!st && (!digest_equal(&found.weights, &m->weights) ||
                !digest_equal(&found.last_segment, &m->last_segment)))
        st = err_set(e, ERR_DIGEST, "the file is not the one its manifest describes");
    if (!st)
        st = append_held(w, e);
    cast_write_free(&w);
    return st;
}

enum status cast_publish(struct cast *c, struct bytes envelope, struct bytes file,
                         struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    enum status st;

    if (!c->has_run)
        return err_set(e, ERR_INVALID, "cannot publish before the run is known");
    st = cast_manifest_check(envelope, &c->run, &c->key->node, &env, &m, e);
    if (st)
        return st;
    if (file.len != m.file_bytes)
        return err_set(e, ERR_INVALID, "the file has %zu bytes, its manifest says %" PRIu64,
                       file.len, m.file_bytes);
    if (cast_state_contradicts(c->state, &env, &m))
        return err_set(e, ERR_EXISTS, "version %" PRId64 " was published with another content",
                       m.version);
    if (cast_state_is_past(c->state, &m.content))
        return OK;
    st = write_file(c, &m, file, e);
    return st ? st : announce(c, envelope, &m, e);
}
