/*
 * replay/file_proof over arbitrary bytes, for a small model and its right file: whatever the proof says,
 * the file is not found to be another. Then for the same file with its last number altered, where the
 * corpus has the proof: a verdict comes to an end.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "learn/tiles.h"
#include "proto/content.h"
#include "replay/file_proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct model_config config = {.arch = MODEL_ARCH_LLAMA,
                                           .dtype = DTYPE_F32,
                                           .vocab = 5,
                                           .dim = 8,
                                           .layers = 1,
                                           .heads = 2,
                                           .kv_heads = 1,
                                           .head_dim = 4,
                                           .ffn = 8,
                                           .max_len = 8,
                                           .norm_eps = 1e-5f,
                                           .rope_theta = 10000.0,
                                           .tie = true,
                                           .bos = -1,
                                           .pad = -1};

static void publish(struct msg_manifest *m, const struct buf *file)
{
    m->file_bytes = file->len;
    m->shard_bytes = content_shard_bytes(file->len);
    m->n_shards = (uint32_t)content_n_shards(file->len, m->shard_bytes);
    content_root(&m->weights, m->shard_bytes, buf_bytes(file));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes proof = {data, size};
    struct msg_manifest m = {.shard_bytes = 1};
    struct weights *w = NULL;
    struct digest root[64];
    struct buf file;
    char why[200];

    CHECK(!weights_new(&w, &config, NULL) && w->n_tensors <= 64);
    weights_init_random(w, 1);
    buf_init(&file, weights_encode_bytes(&config));
    CHECK(!weights_encode(&file, w, config.dtype, NULL));
    CHECK(!tiles_weights_roots(root, w, NULL, NULL));
    state_masters_root(&m.masters_after, root, w->n_tensors);
    publish(&m, &file);
    CHECK(file_proof_judge(why, proof, &m, &config, NULL) != OK);
    file.data[file.len - 1] ^= 1;
    publish(&m, &file);
    (void)!file_proof_judge(why, proof, &m, &config, NULL);
    buf_clear(&file);
    weights_free(&w);
    return 0;
}
