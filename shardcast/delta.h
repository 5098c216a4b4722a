/*
 * shardcast/delta.h - a weight version as what changed since another
 *
 * A step of training at a small rate moves few bf16 weights, most of them to the neighbouring
 * number, and moves f32 weights by a small part of themselves. A patch says what changed between
 * two files of the same tensors, without loss: it works on bit patterns, so NaNs, zeros of either
 * sign and whatever else a file holds come out as they went in.
 *
 * What makes it small is that the base tells much about the change. A step adds about the same to
 * every weight, so how many units in the last place (ulp) that comes to is known up to a factor
 * from the weight's exponent alone. Differences are of "ordered" integers (the bit pattern with
 * sign-magnitude mapped to two's complement, so that neighbours in value differ by one), and:
 *
 *   16 bits, few changed ("classes"): weights are put into five classes by the base's exponent.
 *       The smallest, which change often, are sent one by one; of the four others each has a list
 *       of gaps between those of its class that changed, and a list of their differences.
 *   most changed ("dense"): of every difference the lowest bits, as many as the exponent says are
 *       noise, go as they are; what is left has a narrow distribution and fits a byte.
 *
 * Lists are entropy-coded by zstd each for itself. A block of DELTA_BLOCK_BYTES of the file is
 * coded with nothing but itself and the same bytes of the base, so blocks are encoded and applied
 * in any order and in parallel.
 *
 * The patch, little-endian:
 *   "MUSTERD1" | file bytes u64 | blocks u32 | blocks * (mode u8 | kind u8 | parameter u16 |
 *   bytes of the file u32 | bytes of the payload u32) | payloads
 * Blocks stand in file order and tile it. A payload is, by mode (shardcast/delta_block.h), a fixed
 * number of (length u32, stored length u32) and the lists they speak of: zstd frames, or the
 * bytes themselves where both lengths are equal.
 *
 * Trust:   the patch is hostile until the result has the root that its manifest promises
 *          (apply_root); a wrong base, too, gives another root. Applying checks every length before
 *          it is used, writes nothing but the output, and takes at most
 *          DELTA_APPLY_MEMORY bytes for a block.
 * Threads: pure; blocks of one patch may be applied on several.
 */
#ifndef SHARDCAST_DELTA_H
#define SHARDCAST_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/pool.h"
#include "base/status.h"

#define DELTA_BLOCK_BYTES  (8u << 20) /* of the file; also the largest a decoder takes */
#define DELTA_APPLY_MEMORY (32u << 20)
#define DELTA_PAYS_PERCENT 40u /* of the file: a longer patch is not worth its making */

struct
    delta_loops; /* which instructions do it (shardcast/delta_loops.h): same bytes from all */

/* NULL: the best this machine has. "scalar" and "avx2" otherwise; NULL is returned if the machine
 * lacks them. */
const struct delta_loops *delta_loops_find(const char *name);

struct delta_options {
    const struct delta_loops *loops; /* NULL: the best */
    struct pool *pool;               /* borrowed; NULL: none */
};

/* Appends the patch from `base` to `full`, or nothing: *pays tells. It does not when the files
 * differ in length or in their tensors, or when the patch is longer than DELTA_PAYS_PERCENT of
 * the file. Files that are not safetensors are taken as bytes. `opt` may be NULL. ERR_NO_MEMORY;
 * ERR_LIMIT: the ceiling of `out`. */
MUST_USE enum status delta_encode(struct buf *out, bool *pays, struct bytes base,
                                  struct bytes full, const struct delta_options *opt,
                                  struct err *e);

struct delta_block {
    uint8_t mode, kind;
    uint16_t parameter;
    uint32_t n_bytes; /* of the file */
    uint64_t from;    /* in the file */
    struct bytes payload;
};

/* A patch whose table has been read. */
struct delta {
    struct bytes table; /* borrowed, as all payloads, from the patch */
    struct bytes payloads;
    uint64_t file_bytes;
    uint32_t n_blocks;
};

/* Reads the table: the blocks tile `file_bytes`, the payloads the rest of the patch. `patch` must
 * outlive *out. ERR_MALFORMED; ERR_UNSUPPORTED: another format, or a mode not known here. */
MUST_USE enum status delta_open(struct delta *out, struct bytes patch, struct err *e);

/* Goes through the blocks in file order: begin with a zeroed *at and *b. */
struct delta_at {
    uint32_t index;
    uint64_t from;
    size_t payload;
};
bool delta_next(const struct delta *d, struct delta_at *at, struct delta_block *b);

/* Makes block `b` from the same bytes of the base, both of b->n_bytes. ERR_MALFORMED: the payload is
 * no such block; ERR_NO_MEMORY. `out` holds anything then. */
MUST_USE enum status delta_apply_block(uint8_t *out, const uint8_t *base,
                                       const struct delta_block *b,
                                       const struct delta_loops *loops, struct err *e);

/* The whole file, into `out` of d->file_bytes; base must be as long (ERR_INVALID). */
MUST_USE enum status delta_apply(uint8_t *out, struct bytes base, const struct delta *d,
                                 const struct delta_options *opt, struct err *e);

#endif
