/*
 * engine/checkpoint.h - masters, moments and whatever the caller must remember with them
 *
 * One file, replaced atomically: after a crash there is the old checkpoint or the new one.
 * Training resumed from it goes on with the same bits.
 *
 * On disk, little-endian:
 *   "MUSTERCK" | u32 version 1 | u32 length, config.json | u32 length, metadata | u64 step |
 *   f32 masters | f32 m | f32 v (each: all tensors in name order) | BLAKE2b-256 of all before it
 *
 * Threads: none of its own; two that write to one path spoil each other's file.
 */
#ifndef ENGINE_CHECKPOINT_H
#define ENGINE_CHECKPOINT_H

#include "base/bytes.h"
#include "base/status.h"
#include "engine/adamw.h"
#include "engine/weights.h"

#define CHECKPOINT_META_MAX (16u << 20) /* bytes */

/* Weights and moments of the host; on OK the file is on the disk (fsync), whole. */
/* ERR_IO, ERR_FULL (the old file is intact); ERR_INVALID: metadata above CHECKPOINT_META_MAX. */
MUST_USE enum status checkpoint_save(const char *path, const struct weights *masters,
                                     const struct adamw *opt, struct bytes meta, struct err *e);

/* All three are the caller's on OK. `meta` is appended to. ERR_NOT_FOUND; ERR_CORRUPT: cut short or
 * altered, or of another shape than it says; ERR_UNSUPPORTED: a later version; ERR_IO; ERR_LIMIT: the
 * ceiling of `meta`; ERR_NO_MEMORY. Nothing is allocated before length and digest were checked. */
MUST_USE enum status checkpoint_load(struct weights **masters, struct adamw **opt,
                                     struct buf *meta, const char *path, struct err *e);

#endif
