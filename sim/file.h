/*
 * sim/file.h - a file that weighs gigabytes on simulated links and eight bytes a shard in memory
 *
 * Its segments and its manifest are real and signed; the leaf of a shard is that of its token.
 */
#ifndef SIM_FILE_H
#define SIM_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "node/key.h"
#include "proto/content.h"
#include "proto/msg.h"

#define FILE_TOKEN_BYTES 8u

struct sim_file {
    struct content content;
    struct digest run;
    uint32_t n_shards, shard_bytes, n_segments;
    uint64_t bytes;
    struct buf *segment; /* owned: envelopes */
    struct buf manifest; /* its envelope */
};

void sim_file_make(struct sim_file *f, const struct node_key *trainer, const struct digest *run,
                   uint32_t n_shards, uint32_t shard_bytes);
void sim_file_clear(struct sim_file *f);

void sim_file_token(uint8_t out[FILE_TOKEN_BYTES], uint32_t index, bool is_good);
/* Is it the token of a good shard with this leaf? */
bool sim_file_check(uint32_t index, const struct digest *leaf, struct bytes token);
/* The HEAD that says what `body` says, made by the trainer. */
void sim_file_sign(const struct sim_file *f, const struct node_key *trainer, enum msg_kind kind,
                   struct bytes body, struct buf *envelope);

#endif
