#include "versions.h"

#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "proto/digest.h"
#include "proto/merkle.h"

struct node_key *versions_key(uint32_t i)
{
    uint8_t seed[32] = {'n', 'o', 'd', 'e', (uint8_t)i, (uint8_t)(i >> 8)};
    struct node_key *k;

    key_derive(&k, seed);
    return k;
}

size_t version_n_shards(const struct version_made *v)
{
    return (v->file.len + SHARD_BYTES - 1) / SHARD_BYTES;
}

struct bytes version_shard(const struct version_made *v, size_t i)
{
    size_t left = v->file.len - i * SHARD_BYTES;

    return bytes_slice(buf_bytes(&v->file), i * SHARD_BYTES,
                       left < SHARD_BYTES ? left : SHARD_BYTES);
}

struct digest version_digest(const struct version_made *v, size_t i)
{
    struct digest d;

    memcpy(d.b, v->digests.data + i * DIGEST_BYTES, DIGEST_BYTES);
    return d;
}

/* The envelope around what is in v->file. */
static void sign_file(struct version_made *v, const struct node_key *trainer,
                      const struct digest *run)
{
    struct msg_manifest m = {.version = v->number,
                             .file_bytes = v->file.len,
                             .shard_bytes = SHARD_BYTES,
                             .numerics = "f32-1",
                             .loss = 0.5f};
    struct idem idem = {{1}};
    struct buf body;

    buf_init(&v->digests, (size_t)MSG_MAX_SHARDS * DIGEST_BYTES);
    buf_init(&v->envelope, MSG_MAX_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    for (size_t i = 0; i < version_n_shards(v); i++) {
        struct digest d;
        digest_of(&d, version_shard(v, i));
        buf_append(&v->digests, BYTES_OF(d.b));
    }
    merkle_root_of_digests(&v->weights, buf_bytes(&v->digests));
    m.weights = v->weights;
    m.shards = buf_bytes(&v->digests);
    CHECK(!msg_manifest_encode(&body, &m, NULL));
    CHECK(!msg_envelope_encode(&v->envelope, MSG_PUBLISH, run, &idem, buf_bytes(&body),
                               trainer->node_secret, NULL));
    buf_clear(&body);
}

void version_make(struct version_made *v, const struct node_key *trainer,
                  const struct digest *run, int64_t number, size_t n_bytes, uint32_t salt)
{
    struct rng r = rng_of((uint64_t)number << 32 | salt, 77);

    v->number = number;
    buf_init(&v->file, n_bytes);
    CHECK(buf_extend(&v->file, n_bytes));
    memset(v->file.data, 0, n_bytes);
    for (size_t i = 0; i < n_bytes; i += 4096) /* sparse, so that tests spend no time here */
        v->file.data[i] = (uint8_t)rng_u32(&r);
    sign_file(v, trainer, run);
}

void version_make_like(struct version_made *v, const struct node_key *trainer,
                       const struct digest *run, int64_t number,
                       const struct version_made *other)
{
    v->number = number;
    buf_init(&v->file, other->file.len);
    buf_append(&v->file, buf_bytes(&other->file));
    sign_file(v, trainer, run);
}

void version_clear(struct version_made *v)
{
    buf_clear(&v->file);
    buf_clear(&v->digests);
    buf_clear(&v->envelope);
}
