/*
 * proto/digest_lanes.h - BLAKE2b of four strings of one length at a time
 *
 * One BLAKE2b is a chain of operations that wait for each other, and fills a core to a third. Four
 * that are independent go side by side in vector registers (AVX2), as in BLAKE2bp (blake2.net). The
 * lanes of a shard (proto/content.h) are such:
 *
 *   lane = BLAKE2b-256 with the personalization "muster/leaf-lane"
 *
 * The results do not depend on the instructions. Threads: any.
 */
#ifndef PROTO_DIGEST_LANES_H
#define PROTO_DIGEST_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

#define DIGEST_LANES      4u
#define DIGEST_BLOCK      128u
#define DIGEST_LANE_SCOPE "muster/leaf-lane" /* 16 bytes */

/* out[i] is of the n bytes at in + i * n; n is a multiple of DIGEST_BLOCK and not 0. */
typedef void digest_lanes_fn(struct digest out[DIGEST_LANES], const uint8_t *in, size_t n);

digest_lanes_fn digest_lanes;        /* the fastest here */
digest_lanes_fn digest_lanes_scalar; /* one after the other */
digest_lanes_fn digest_lanes_avx2;   /* only where __x86_64__ and CPU_HAS("avx2") */

#endif
