#include "shardcast/cast_cut.h"

#include <string.h>

#include "base/check.h"
#include "proto/digest.h"

void cast_cut_init(struct cast_cut *c, const struct cast_cut_options *opt)
{
    CHECK(opt->shard_bytes > 0 && opt->shard_bytes <= SHARD_BYTES);
    *c = (struct cast_cut){.opt = *opt};
    merkle_init(&c->tree);
    buf_init(&c->shard, opt->shard_bytes);
    buf_init(&c->leaves, (size_t)MSG_MAX_LEAVES * DIGEST_BYTES);
}

void cast_cut_clear(struct cast_cut *c)
{
    buf_clear(&c->shard);
    buf_clear(&c->leaves);
}

static enum status end_segment(struct cast_cut *c, struct err *e)
{
    struct msg_segment m = {.content = c->opt.content,
                            .shard_bytes = c->opt.shard_bytes,
                            .number = (c->n_shards - 1) / MSG_MAX_LEAVES,
                            .previous = c->previous,
                            .leaves = buf_bytes(&c->leaves)};
    struct buf body, envelope;
    struct idem idem;
    enum status st;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    st = msg_segment_encode(&body, &m, e);
    if (st)
        goto out;
    digest_of(&c->previous, buf_bytes(&body));
    buf_reset(&c->leaves);
    if (!c->opt.secret)
        goto out;
    memcpy(idem.b, c->previous.b, sizeof(idem.b)); /* the same segment, the same bytes */
    st = msg_envelope_encode(&envelope, MSG_SEGMENT, &c->opt.run, &idem, buf_bytes(&body),
                             c->opt.secret, e);
    if (!st && c->opt.on_segment)
        st = c->opt.on_segment(c->opt.arg, m.number, buf_bytes(&envelope), e);
out:
    buf_clear(&body);
    buf_clear(&envelope);
    return st;
}

static enum status add_shard(struct cast_cut *c, struct bytes shard, struct err *e)
{
    struct digest leaf;
    enum status st = OK;

    if (c->n_shards == MSG_MAX_SHARDS)
        return err_set(e, ERR_LIMIT, "the content has more than %u shards", MSG_MAX_SHARDS);
    content_leaf(&leaf, c->n_shards, shard);
    merkle_add(&c->tree, BYTES_OF(leaf.b));
    buf_append(&c->leaves, BYTES_OF(leaf.b));
    if (c->opt.on_shard)
        st = c->opt.on_shard(c->opt.arg, c->n_shards, shard, e);
    if (st)
        return st;
    c->n_shards++;
    c->file_bytes += shard.len;
    return c->n_shards % MSG_MAX_LEAVES == 0 ? end_segment(c, e) : OK;
}

enum status cast_cut_add(struct cast_cut *c, struct bytes more, struct err *e)
{
    size_t size = c->opt.shard_bytes;
    enum status st = OK;

    while (more.len > 0 && !st) {
        bool is_whole = c->shard.len == 0 && more.len >= size;
        size_t n = size - c->shard.len < more.len ? size - c->shard.len : more.len;
        if (!is_whole)
            buf_append(&c->shard, bytes_slice(more, 0, n));
        if (is_whole)
            st = add_shard(c, bytes_slice(more, 0, size), e);
        else if (c->shard.len == size)
            st = add_shard(c, buf_bytes(&c->shard), e);
        if (c->shard.len == size)
            buf_reset(&c->shard);
        more = bytes_slice(more, n, more.len - n);
    }
    return st;
}

enum status cast_cut_end(struct cast_cut *c, struct msg_manifest *m, struct err *e)
{
    enum status st = OK;

    if (c->shard.len > 0)
        st = add_shard(c, buf_bytes(&c->shard), e);
    buf_reset(&c->shard);
    if (!st && c->leaves.len > 0)
        st = end_segment(c, e);
    if (st)
        return st;
    if (c->n_shards == 0)
        return err_set(e, ERR_INVALID, "an empty file cannot be published");
    m->content = c->opt.content;
    m->file_bytes = c->file_bytes;
    m->shard_bytes = c->opt.shard_bytes;
    m->n_shards = c->n_shards;
    m->last_segment = c->previous;
    merkle_root(&c->tree, &m->weights);
    return OK;
}
