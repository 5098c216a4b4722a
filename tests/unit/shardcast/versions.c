#include "versions.h"

#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "proto/digest.h"
#include "shardcast/cast_cut.h"

struct node_key *versions_key(uint32_t i)
{
    uint8_t seed[32] = {'n', 'o', 'd', 'e', (uint8_t)i, (uint8_t)(i >> 8)};
    struct node_key *k;

    key_derive(&k, seed);
    return k;
}

size_t version_n_shards(const struct version_made *v)
{
    return (size_t)content_n_shards(v->file.len, v->shard_bytes);
}

struct bytes version_shard(const struct version_made *v, size_t i)
{
    size_t at = i * v->shard_bytes, left = v->file.len - at;

    return bytes_slice(buf_bytes(&v->file), at, left < v->shard_bytes ? left : v->shard_bytes);
}

struct digest version_leaf(const struct version_made *v, size_t i)
{
    struct digest d;

    memcpy(d.b, v->leaves.data + i * DIGEST_BYTES, DIGEST_BYTES);
    return d;
}

static enum status keep_segment(void *arg, uint32_t number, struct bytes envelope,
                                struct err *e)
{
    struct version_made *v = arg;

    (void)e;
    CHECK(number < VERSION_SEGMENTS);
    buf_init(&v->segment[number], MSG_MAX_BYTES);
    buf_append(&v->segment[number], envelope);
    v->n_segments = number + 1;
    return OK;
}

/* The envelopes around what is in v->file. */
static void sign_file(struct version_made *v, const struct node_key *trainer,
                      const struct digest *run)
{
    struct msg_manifest m = {.numerics = "f32-1", .loss = 0.5f};
    struct cast_cut_options o = {.run = *run,
                                 .content = v->content,
                                 .shard_bytes = v->shard_bytes,
                                 .secret = trainer->node_secret,
                                 .on_segment = keep_segment,
                                 .arg = v};
    struct idem idem = {{1}};
    struct cast_cut cut;
    struct buf body;

    v->n_segments = 0;
    buf_init(&v->leaves, (size_t)MSG_MAX_SHARDS * DIGEST_BYTES);
    buf_init(&v->envelope, MSG_MAX_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    for (size_t i = 0; i < version_n_shards(v); i++) {
        struct digest d;
        content_leaf(&d, (uint32_t)i, version_shard(v, i));
        buf_append(&v->leaves, BYTES_OF(d.b));
    }
    cast_cut_init(&cut, &o);
    CHECK(!cast_cut_add(&cut, buf_bytes(&v->file), NULL));
    CHECK(!cast_cut_end(&cut, &m, NULL));
    cast_cut_clear(&cut);
    v->weights = m.weights;
    if (v->content.kind == CONTENT_DELTA) {
        memset(m.base_root.b, 1, sizeof(m.base_root.b));
        memset(m.apply_root.b, 2, sizeof(m.apply_root.b));
    }
    CHECK(!msg_manifest_encode(&body, &m, NULL));
    CHECK(!msg_envelope_encode(&v->envelope, MSG_PUBLISH, run, &idem, buf_bytes(&body),
                               trainer->node_secret, NULL));
    buf_clear(&body);
}

void version_make_content(struct version_made *v, const struct node_key *trainer,
                          const struct digest *run, const struct content *c, size_t n_bytes,
                          uint32_t shard_bytes, uint32_t salt)
{
    struct rng r = rng_of((uint64_t)c->version << 32 | salt, 77 + c->kind);

    v->number = c->version;
    v->content = *c;
    v->shard_bytes = shard_bytes;
    buf_init(&v->file, n_bytes);
    CHECK(buf_extend(&v->file, n_bytes));
    memset(v->file.data, 0, n_bytes);
    for (size_t i = 0; i < n_bytes; i += 4096) /* sparse, so that tests spend no time here */
        v->file.data[i] = (uint8_t)rng_u32(&r);
    sign_file(v, trainer, run);
}

void version_make(struct version_made *v, const struct node_key *trainer,
                  const struct digest *run, int64_t number, size_t n_bytes, uint32_t salt)
{
    struct content c = content_full(number);

    version_make_content(v, trainer, run, &c, n_bytes, content_shard_bytes(n_bytes), salt);
}

void version_make_like(struct version_made *v, const struct node_key *trainer,
                       const struct digest *run, int64_t number,
                       const struct version_made *other)
{
    v->number = number;
    v->content = content_full(number);
    v->shard_bytes = other->shard_bytes;
    buf_init(&v->file, other->file.len);
    buf_append(&v->file, buf_bytes(&other->file));
    sign_file(v, trainer, run);
}

void version_clear(struct version_made *v)
{
    buf_clear(&v->file);
    buf_clear(&v->leaves);
    for (uint32_t i = 0; i < v->n_segments; i++)
        buf_clear(&v->segment[i]);
    buf_clear(&v->envelope);
}

void version_sign_head(struct buf *envelope, const struct node_key *trainer,
                       const struct digest *run, struct bytes body)
{
    struct digest d;
    struct idem idem;

    digest_of(&d, body);
    memcpy(idem.b, d.b, sizeof(idem.b));
    CHECK(
        !msg_envelope_encode(envelope, MSG_HEAD, run, &idem, body, trainer->node_secret, NULL));
}
