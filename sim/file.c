#include "sim/file.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/merkle.h"

void sim_file_token(uint8_t out[FILE_TOKEN_BYTES], uint32_t index, bool is_good)
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = (uint8_t)(index >> (8 * i));
    memset(out + 4, is_good ? 0x67 : 0xbd, FILE_TOKEN_BYTES - 4);
}

bool sim_file_check(uint32_t index, const struct digest *leaf, struct bytes token)
{
    struct digest d;

    content_leaf(&d, index, token);
    return digest_equal(&d, leaf);
}

void sim_file_sign(const struct sim_file *f, const struct node_key *trainer, enum msg_kind kind,
                   struct bytes body, struct buf *envelope)
{
    struct idem idem = {{1}};

    buf_init(envelope, MSG_MAX_BYTES);
    CHECK(
        !msg_envelope_encode(envelope, kind, &f->run, &idem, body, trainer->node_secret, NULL));
}

static void make_segment(struct sim_file *f, const struct node_key *trainer, uint32_t number,
                         struct merkle *tree, struct digest *previous)
{
    struct buf body, leaves;
    struct msg_segment m = {.content = f->content,
                            .shard_bytes = f->shard_bytes,
                            .number = number,
                            .previous = *previous};

    buf_init(&leaves, MSG_MAX_LEAVES * DIGEST_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    for (uint32_t i = number * MSG_MAX_LEAVES;
         i < f->n_shards && i < (number + 1) * MSG_MAX_LEAVES; i++) {
        uint8_t token[FILE_TOKEN_BYTES];
        struct digest leaf;
        sim_file_token(token, i, true);
        content_leaf(&leaf, i, BYTES_OF(token));
        merkle_add(tree, BYTES_OF(leaf.b));
        buf_append(&leaves, BYTES_OF(leaf.b));
    }
    m.leaves = buf_bytes(&leaves);
    CHECK(!msg_segment_encode(&body, &m, NULL));
    digest_of(previous, buf_bytes(&body));
    sim_file_sign(f, trainer, MSG_SEGMENT, buf_bytes(&body), &f->segment[number]);
    buf_clear(&leaves);
    buf_clear(&body);
}

void sim_file_make(struct sim_file *f, const struct node_key *trainer, const struct digest *run,
                   uint32_t n_shards, uint32_t shard_bytes)
{
    struct msg_manifest m = {.content = content_full(0), .numerics = "f32-1"};
    struct digest previous = {{0}};
    struct merkle tree;
    struct buf body;

    CHECK(n_shards > 0 && n_shards <= MSG_MAX_SHARDS);
    *f = (struct sim_file){.content = content_full(0),
                           .run = *run,
                           .n_shards = n_shards,
                           .shard_bytes = shard_bytes,
                           .n_segments = (n_shards + MSG_MAX_LEAVES - 1) / MSG_MAX_LEAVES,
                           .bytes = (uint64_t)n_shards * shard_bytes};
    f->segment = xcalloc(f->n_segments, sizeof(*f->segment));
    merkle_init(&tree);
    for (uint32_t i = 0; i < f->n_segments; i++)
        make_segment(f, trainer, i, &tree, &previous);
    merkle_root(&tree, &m.weights);
    m.file_bytes = f->bytes;
    m.shard_bytes = f->shard_bytes;
    m.n_shards = f->n_shards;
    m.last_segment = previous;
    buf_init(&body, MSG_MAX_BYTES);
    CHECK(!msg_manifest_encode(&body, &m, NULL));
    sim_file_sign(f, trainer, MSG_PUBLISH, buf_bytes(&body), &f->manifest);
    buf_clear(&body);
}

void sim_file_clear(struct sim_file *f)
{
    for (uint32_t i = 0; i < f->n_segments; i++)
        buf_clear(&f->segment[i]);
    free(f->segment);
    buf_clear(&f->manifest);
    *f = (struct sim_file){0};
}
