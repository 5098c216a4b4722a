/*
 * replay/file_proof.h - that a published file is not what its version's masters give
 *
 * A manifest signs two things about the same numbers: the root of the file that everybody loads, and
 * the root of the masters that the next step begins with. The file is the canonical safetensors file
 * of the masters, rounded to the model's dtype (engine/weights.h), cut into shards of
 * content_shard_bytes(). Whoever has the masters and finds the file another can show it in one place,
 * without a game, since both roots can be led to:
 *
 *   u8 1                                       the manifest's length, or that of its shards, is another
 *   u8 2, shard                                its header is
 *   u8 3, shard, tile                          a number of the tile is
 *
 *   shard: u32 index, blob bytes, blob proof                                   to the file's root
 *   tile:  u32 parameter, 32 bytes its root, blob proof                        to the masters' root,
 *          u64 tile, blob its numbers, blob proof                              to the parameter's
 *
 * Little-endian; proofs are proto/merkle_many.h's, tiles learn/tiles.h's; blob: u32 length, bytes.
 *
 * Threads: any.
 */
#ifndef REPLAY_FILE_PROOF_H
#define REPLAY_FILE_PROOF_H

#include "base/bytes.h"
#include "base/pool.h"
#include "base/status.h"
#include "engine/weights.h"
#include "proto/msg.h"

/* Appends the proof. `file` is what was published under `m`, `masters` have the root in it. ERR_NOT_FOUND:
 * they give this file. ERR_NO_MEMORY. */
MUST_USE enum status file_proof_make(struct buf *out, const struct msg_manifest *m,
                                     struct bytes file, const struct weights *masters,
                                     struct pool *pool, struct err *e);

/* OK: the file is another; `why` says where. ERR_MALFORMED, ERR_DIGEST, ERR_NOT_FOUND (no number shown is
 * another): it is no proof. ERR_NO_MEMORY: nobody is to blame. `c` is the shape that the task has. */
MUST_USE enum status file_proof_judge(char why[200], struct bytes proof,
                                      const struct msg_manifest *m,
                                      const struct model_config *c, struct err *e);

#endif
