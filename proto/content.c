#include "proto/content.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "proto/digest.h"
#include "proto/digest_lanes.h"
#include "proto/merkle.h"

#define SHARDS_AIM 2048u
#define SHARD_MIN  ((uint64_t)64 << 10)
#define SHARD_MAX  ((uint64_t)SHARD_BYTES)

void content_text(char out[CONTENT_TEXT_BYTES], const struct content *c)
{
    if (c->kind == CONTENT_DELTA)
        snprintf(out, CONTENT_TEXT_BYTES, "%" PRId64 " delta of %" PRId64, c->version, c->base);
    else
        snprintf(out, CONTENT_TEXT_BYTES, "%" PRId64 " %s", c->version,
                 c->kind == CONTENT_FULL ? "full" : "state");
}

int content_compare(const struct content *a, const struct content *b)
{
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return (a->base > b->base) - (a->base < b->base);
}

bool content_is_valid(const struct content *c)
{
    if (c->version < 0)
        return false;
    if (c->kind == CONTENT_DELTA)
        return c->base >= 0 && c->base < c->version;
    return (c->kind == CONTENT_FULL || c->kind == CONTENT_STATE) && c->base == -1;
}

struct content content_full(int64_t version)
{
    return (struct content){.version = version, .kind = CONTENT_FULL, .base = -1};
}

uint32_t content_shard_bytes(uint64_t file_bytes)
{
    uint64_t size = SHARD_MIN;

    while (size < SHARD_MAX && size < file_bytes / SHARDS_AIM)
        size *= 2;
    return (uint32_t)size;
}

uint64_t content_n_shards(uint64_t file_bytes, uint32_t shard_bytes)
{
    return file_bytes / shard_bytes + (file_bytes % shard_bytes != 0);
}

void content_leaf(struct digest *leaf, uint32_t index, struct bytes shard)
{
    size_t n = shard.len / (DIGEST_LANES * DIGEST_BLOCK) * DIGEST_BLOCK;
    struct digest lane[DIGEST_LANES];
    struct digest_state s;

    CHECK(shard.len <= UINT32_MAX);
    digest_begin(&s, "muster/leaf");
    digest_add_u32(&s, index);
    digest_add_u32(&s, (uint32_t)shard.len);
    if (n) {
        digest_lanes(lane, shard.data, n);
        digest_add(&s, BYTES_OF(lane));
    }
    digest_add(&s, bytes_slice(shard, DIGEST_LANES * n, shard.len - DIGEST_LANES * n));
    digest_end(&s, leaf);
}

void content_root(struct digest *root, uint32_t shard_bytes, struct bytes file)
{
    struct merkle tree;
    uint32_t index = 0;

    CHECK(shard_bytes > 0);
    merkle_init(&tree);
    for (size_t at = 0; at < file.len; at += shard_bytes) {
        size_t left = file.len - at;
        struct digest leaf;
        content_leaf(&leaf, index++,
                     bytes_slice(file, at, left < shard_bytes ? left : shard_bytes));
        merkle_add(&tree, BYTES_OF(leaf.b));
    }
    merkle_root(&tree, root);
}

enum status content_manifest_check(const struct msg_manifest *m, struct err *e)
{
    bool is_delta = m->kind == CONTENT_DELTA;

    if (!content_is_valid(&m->content))
        return err_set(e, ERR_MALFORMED,
                       "manifest: there is no content of kind %u on base %" PRId64, m->kind,
                       m->base);
    if (m->file_bytes == 0 || content_n_shards(m->file_bytes, m->shard_bytes) != m->n_shards)
        return err_set(e, ERR_MALFORMED,
                       "manifest: %u shards of %u bytes do not make %" PRIu64 " bytes",
                       m->n_shards, m->shard_bytes, m->file_bytes);
    if (digest_is_zero(&m->base_root) == is_delta || digest_is_zero(&m->apply_root) == is_delta)
        return err_set(e, ERR_MALFORMED, "manifest: base and apply root belong to a delta");
    return OK;
}
