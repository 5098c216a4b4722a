/*
 * shardcast/delta_block.h - one block of a patch (private to shardcast/)
 *
 * Lists ("streams") of a payload, in their order, by mode:
 *
 *   SAME     none: the block is that of the base
 *   BYTES    the block itself
 *   CLASSES  parameter: the exponent T. A weight with base exponent x is of class 0 if x < T, of class
 *            1, 2, 3 if x = T, T + 1, T + 2, and of class 4 above.
 *              0       zig-zag of each difference of class 0, in order; 255: see list 9
 *              1..4    of classes 1..4: how many of the class are passed over until the next that
 *                      changed, as so many bytes 255 (each worth 255) and one below
 *              5..8    the differences of those, zig-zag less 1, four bits each, low ones first; 15: see
 *                      lists 10..13
 *              9..13   of classes 0..4: differences too large for the above, 16 bits
 *   DENSE    parameter: the exponent c. A weight with base exponent x has s = c - x noisy bits (at
 *            least 0, at most 24; 8 for 16-bit numbers).
 *              0       zig-zag of (difference >> s), a byte each; 255: see list 1
 *              1       those too large, 32 bits
 *              2       the lowest s bits of each difference, end to end, low bits first, then zeros up
 *                      to a byte
 *
 * Differences are of ordered integers, modulo 2^16 or 2^32.
 */
#ifndef SHARDCAST_DELTA_BLOCK_H
#define SHARDCAST_DELTA_BLOCK_H

#include "shardcast/delta.h"
#include "shardcast/delta_loops.h"

enum delta_mode { DELTA_SAME, DELTA_BYTES, DELTA_CLASSES, DELTA_DENSE, DELTA_MODES };

/* Numbers of the formats in which they are stored. */
enum delta_kind { DELTA_RAW, DELTA_BF16, DELTA_F16, DELTA_F32, DELTA_KINDS };

size_t delta_kind_bytes(enum delta_kind k); /* of one number */

/* Appends the payload for `now` given `base`, both of b->n_bytes and of kind b->kind, and fills in
 * mode and parameter. ERR_NO_MEMORY. */
MUST_USE enum status delta_block_encode(struct delta_block *b, struct buf *payload,
                                        const uint8_t *base, const uint8_t *now,
                                        const struct delta_loops *loops, struct err *e);

/* A run of numbers of one kind in a file. */
struct delta_range {
    uint64_t n_bytes;
    enum delta_kind kind;
};
/* What a file is made of, neighbours of one kind joined: *out is the caller's to free. Numbers of a
 * safetensors file are named, its header and other types are DELTA_RAW; so is a file that is none.
 * ERR_NO_MEMORY. */
MUST_USE enum status delta_ranges(struct delta_range **out, size_t *n, struct bytes file,
                                  struct err *e);

#endif
