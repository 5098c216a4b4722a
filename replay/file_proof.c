#include "replay/file_proof.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "learn/tiles.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/merkle_many.h"

enum kind { KIND_SIZE = 1, KIND_HEADER, KIND_TILE };

/* What the file of such a model is, but for its numbers. */
struct layout {
    struct weights_tensor *table; /* owned */
    size_t n_tensors;
    struct buf header;
    size_t number_bytes;
    uint64_t file_bytes;
    uint32_t shard_bytes;
};

static void layout_clear(struct layout *l)
{
    free(l->table);
    buf_clear(&l->header);
}

static enum status layout_of(struct layout *l, const struct model_config *c, struct err *e)
{
    uint64_t n = 0;
    enum status st;

    memset(l, 0, sizeof(*l));
    buf_init(&l->header, weights_encode_bytes(c));
    st = weights_table(&l->table, &l->n_tensors, c, e);
    if (!st)
        st = weights_encode_header(&l->header, l->table, l->n_tensors, c->dtype, e);
    for (size_t i = 0; i < l->n_tensors && !st; i++)
        n += (uint64_t)l->table[i].rows * l->table[i].cols;
    l->number_bytes = dtype_bytes(c->dtype);
    l->file_bytes = l->header.len + n * l->number_bytes;
    l->shard_bytes = content_shard_bytes(l->file_bytes);
    return st;
}

static bool has_other_size(const struct layout *l, const struct msg_manifest *m)
{
    return m->file_bytes != l->file_bytes || m->shard_bytes != l->shard_bytes;
}

/* Which number lies at a place of the file behind the header. */
struct place {
    uint32_t parameter;
    uint64_t tile;
};

static struct place place_of(const struct layout *l, uint64_t at)
{
    uint64_t i = (at - l->header.len) / l->number_bytes;
    struct place p = {0};

    for (; i >= (uint64_t)l->table[p.parameter].rows * l->table[p.parameter].cols;
         p.parameter++)
        i -= (uint64_t)l->table[p.parameter].rows * l->table[p.parameter].cols;
    const struct weights_tensor *t = &l->table[p.parameter];
    uint64_t across = (t->cols + TILE_SIDE - 1) / TILE_SIDE;
    p.tile = i / t->cols / TILE_SIDE * across + i % t->cols / TILE_SIDE;
    return p;
}

/* ---- making ------------------------------------------------------------------------------ */

static struct bytes shard_of(struct bytes file, uint64_t index, uint32_t shard_bytes)
{
    uint64_t at = index * shard_bytes, left = file.len - at;

    return bytes_slice(file, (size_t)at, (size_t)(left < shard_bytes ? left : shard_bytes));
}

static enum status put_shard(struct buf *out, struct bytes file, uint64_t index,
                             uint32_t shard_bytes, struct err *e)
{
    size_t n = (size_t)content_n_shards(file.len, shard_bytes);
    struct digest *hash;
    struct buf proof;
    enum status st = alloc_array(&hash, n, sizeof(*hash), "hashes of shards", e);

    if (st)
        return st;
    for (size_t i = 0; i < n; i++) {
        struct digest leaf;

        content_leaf(&leaf, (uint32_t)i, shard_of(file, i, shard_bytes));
        merkle_leaf(&hash[i], BYTES_OF(leaf.b));
    }
    buf_init(&proof, MERKLE_PATH_MAX * DIGEST_BYTES);
    merkle_many_prove(&proof, hash, n, &index, 1);
    buf_put_u32(out, (uint32_t)index);
    buf_put_blob(out, shard_of(file, index, shard_bytes));
    buf_put_blob(out, buf_bytes(&proof));
    buf_clear(&proof);
    free(hash);
    return buf_status(out, e);
}

static enum status put_parameter(struct buf *out, const struct weights *masters, uint64_t index,
                                 struct pool *pool, struct err *e)
{
    struct digest *root, *hash = NULL;
    struct buf proof;
    enum status st = alloc_array(&root, masters->n_tensors, sizeof(*root), "roots", e);

    if (!st)
        st = alloc_array(&hash, masters->n_tensors, sizeof(*hash), "roots", e);
    if (!st)
        st = tiles_weights_roots(root, masters, pool, e);
    if (!st) {
        for (size_t i = 0; i < masters->n_tensors; i++)
            merkle_leaf(&hash[i], BYTES_OF(root[i].b));
        buf_init(&proof, MERKLE_PATH_MAX * DIGEST_BYTES);
        merkle_many_prove(&proof, hash, masters->n_tensors, &index, 1);
        buf_put_u32(out, (uint32_t)index);
        buf_append(out, BYTES_OF(root[index].b));
        buf_put_blob(out, buf_bytes(&proof));
        buf_clear(&proof);
    }
    free(hash);
    free(root);
    return st;
}

static enum status put_tile(struct buf *out, const struct weights_tensor *t, uint64_t index,
                            struct pool *pool, struct err *e)
{
    const struct tiling tiling = tiling_of(t->rows, t->cols);
    const struct tile at = tiling_at(&tiling, index);
    size_t n = (size_t)tiling_count(&tiling);
    float numbers[TILE_MAX];
    struct digest *hash;
    struct buf proof;
    enum status st = alloc_array(&hash, n, sizeof(*hash), "hashes of tiles", e);

    if (st)
        return st;
    tiles_leaves(hash, &tiling, t->data, pool);
    tile_copy(numbers, &tiling, t->data, index);
    buf_init(&proof, MERKLE_PATH_MAX * DIGEST_BYTES);
    merkle_many_prove(&proof, hash, n, &index, 1);
    buf_put_u64(out, index);
    buf_put_blob(
        out, (struct bytes){(const uint8_t *)numbers, at.rows * at.cols * sizeof(numbers[0])});
    buf_put_blob(out, buf_bytes(&proof));
    buf_clear(&proof);
    free(hash);
    return buf_status(out, e);
}

static enum status put_difference(struct buf *out, const struct layout *l, struct bytes file,
                                  const struct weights *masters, struct pool *pool,
                                  struct err *e)
{
    struct place p;
    struct buf right;
    size_t at = 0;
    enum status st;

    buf_init(&right, weights_encode_bytes(&masters->config));
    st = weights_encode(&right, masters, masters->config.dtype, e);
    while (!st && at < file.len && right.data[at] == file.data[at])
        at++;
    buf_clear(&right);
    if (!st && at == file.len)
        st = err_set(e, ERR_NOT_FOUND, "the masters give this file");
    if (st)
        return st;
    buf_put_u8(out, at < l->header.len ? KIND_HEADER : KIND_TILE);
    st = put_shard(out, file, at / l->shard_bytes, l->shard_bytes, e);
    if (st || at < l->header.len)
        return st;
    p = place_of(l, at);
    st = put_parameter(out, masters, p.parameter, pool, e);
    return st ? st : put_tile(out, &masters->tensors[p.parameter], p.tile, pool, e);
}

enum status file_proof_make(struct buf *out, const struct msg_manifest *m, struct bytes file,
                            const struct weights *masters, struct pool *pool, struct err *e)
{
    struct layout l;
    enum status st = layout_of(&l, &masters->config, e);

    if (!st && has_other_size(&l, m))
        buf_put_u8(out, KIND_SIZE);
    else if (!st && file.len != l.file_bytes)
        st = err_set(e, ERR_INVALID, "this is not the file that was published");
    else if (!st)
        st = put_difference(out, &l, file, masters, pool, e);
    layout_clear(&l);
    return st ? st : buf_status(out, e);
}

/* ---- judging ----------------------------------------------------------------------------- */

/* A proof of one leaf, which is the next blob of `r`. */
static enum status lead(struct reader *r, const struct digest *root, uint64_t n, uint64_t index,
                        const struct digest *leaf, const char *what, struct err *e)
{
    struct reader proof = reader_of(reader_blob(r));
    struct digest is;
    enum status st;

    if (r->bad || index >= n)
        return err_set(e, ERR_MALFORMED, "the proof's %s is cut short, or there is none", what);
    st = merkle_many_join(&is, n, &index, leaf, 1, &proof, e);
    if (!st)
        st = reader_done(&proof, what, e);
    if (!st && !digest_equal(&is, root))
        st = err_set(e, ERR_DIGEST, "the proof's %s is not under the root that was signed",
                     what);
    return st;
}

struct shown {
    struct bytes shard; /* lent */
    uint64_t at;        /* of its first byte in the file */
};

static enum status read_shard(struct shown *s, struct reader *r, const struct layout *l,
                              const struct msg_manifest *m, struct err *e)
{
    uint32_t index = reader_u32(r);
    struct digest leaf, hash;

    s->shard = reader_blob(r);
    s->at = (uint64_t)index * l->shard_bytes;
    if (r->bad || s->at >= l->file_bytes ||
        s->shard.len !=
            (l->file_bytes - s->at < l->shard_bytes ? l->file_bytes - s->at : l->shard_bytes))
        return err_set(e, ERR_MALFORMED, "the proof's shard has another length");
    content_leaf(&leaf, index, s->shard);
    merkle_leaf(&hash, BYTES_OF(leaf.b));
    return lead(r, &m->weights, content_n_shards(l->file_bytes, l->shard_bytes), index, &hash,
                "shard", e);
}

static enum status judge_header(char why[200], struct reader *r, const struct layout *l,
                                const struct msg_manifest *m, struct err *e)
{
    struct shown s;
    enum status st = read_shard(&s, r, l, m, e);

    if (!st)
        st = reader_done(r, "a proof", e);
    if (st)
        return st;
    for (size_t i = 0; i < s.shard.len && s.at + i < l->header.len; i++)
        if (s.shard.data[i] != l->header.data[s.at + i]) {
            snprintf(why, 200,
                     "its file of weights has another header, from byte %" PRIu64 " on",
                     s.at + i);
            return OK;
        }
    return err_set(e, ERR_NOT_FOUND, "the header is that of the model");
}

/* Does the shard have, as far as it reaches, these numbers of a tile? */
static enum status compare(char why[200], const struct shown *s, const struct layout *l,
                           enum dtype dtype, uint32_t parameter, const struct tile *t,
                           const float *numbers, struct err *e)
{
    uint64_t from = l->header.len;

    for (uint32_t i = 0; i < parameter; i++)
        from += (uint64_t)l->table[i].rows * l->table[i].cols * l->number_bytes;
    for (size_t i = 0; i < t->rows * t->cols; i++) {
        uint64_t row = t->row + i / t->cols, col = t->col + i % t->cols;
        uint64_t at = from + (row * l->table[parameter].cols + col) * l->number_bytes;
        uint8_t right[sizeof(float)];

        dtype_narrow(right, &numbers[i], dtype, 1);
        for (size_t k = 0; k < l->number_bytes; k++)
            if (at + k >= s->at && at + k - s->at < s->shard.len &&
                s->shard.data[at + k - s->at] != right[k]) {
                snprintf(why, 200,
                         "its file of weights has another number than its masters: %.60s, row "
                         "%" PRIu64 ", column %" PRIu64,
                         l->table[parameter].name, row, col);
                return OK;
            }
    }
    return err_set(e, ERR_NOT_FOUND, "the numbers shown are those of the masters");
}

static enum status judge_tile(char why[200], struct reader *r, const struct layout *l,
                              const struct msg_manifest *m, enum dtype dtype, struct err *e)
{
    struct shown s;
    float numbers[TILE_MAX];
    struct digest root, hash;
    struct tiling tiling;
    struct bytes shown;
    struct tile at;
    uint32_t parameter;
    uint64_t tile;
    enum status st = read_shard(&s, r, l, m, e);

    if (st)
        return st;
    parameter = reader_u32(r);
    reader_copy(r, root.b, sizeof(root.b));
    merkle_leaf(&hash, BYTES_OF(root.b));
    st = lead(r, &m->masters_after, l->n_tensors, parameter, &hash, "parameter", e);
    if (st)
        return st;
    tiling = tiling_of(l->table[parameter].rows, l->table[parameter].cols);
    tile = reader_u64(r);
    shown = reader_blob(r);
    if (r->bad || tile >= tiling_count(&tiling))
        return err_set(e, ERR_MALFORMED, "the proof's tile is cut short, or there is none");
    at = tiling_at(&tiling, tile);
    if (shown.len != at.rows * at.cols * sizeof(numbers[0]))
        return err_set(e, ERR_MALFORMED, "the proof's tile has another length");
    memcpy(numbers, shown.data, shown.len);
    tile_leaf(&hash, numbers, at.rows * at.cols);
    st = lead(r, &root, tiling_count(&tiling), tile, &hash, "tile", e);
    if (!st)
        st = reader_done(r, "a proof", e);
    return st ? st : compare(why, &s, l, dtype, parameter, &at, numbers, e);
}

enum status file_proof_judge(char why[200], struct bytes proof, const struct msg_manifest *m,
                             const struct model_config *c, struct err *e)
{
    struct reader r = reader_of(proof);
    uint8_t kind = reader_u8(&r);
    struct layout l;
    enum status st = layout_of(&l, c, e);

    if (st) {
        layout_clear(&l);
        return st;
    }
    if (has_other_size(&l, m)) { /* whatever the proof says */
        snprintf(why, 200,
                 "its file of weights has %" PRIu64 " bytes in shards of %" PRIu32
                 ", the model's %" PRIu64 " in shards of %" PRIu32,
                 m->file_bytes, m->shard_bytes, l.file_bytes, l.shard_bytes);
        st = OK;
    } else if (kind == KIND_HEADER) {
        st = judge_header(why, &r, &l, m, e);
    } else if (kind == KIND_TILE) {
        st = judge_tile(why, &r, &l, m, c->dtype, e);
    } else {
        st = err_set(e, ERR_MALFORMED, "a proof of unknown kind %u", kind);
    }
    layout_clear(&l);
    return st;
}
