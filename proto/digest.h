/*
 * proto/digest.h - BLAKE2b-256, the one hash of the program
 *
 * A digest over several fields is tagged: its input begins with a text of its own, NUL included,
 * so that no digest of one kind is ever one of another ("muster/plan", "muster/submit").
 *
 * Threads: a digest_state belongs to one thread. Everything else is pure.
 */
#ifndef PROTO_DIGEST_H
#define PROTO_DIGEST_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

#define DIGEST_HEX_BYTES 65u /* 64 digits and a NUL */

void digest_of(struct digest *out, struct bytes in);
/* Of tag, NUL, in. */
void digest_tagged(struct digest *out, const char *tag, struct bytes in);
/* Keyed (a MAC): key of 1..64 bytes. */
void digest_keyed(struct digest *out, struct bytes key, struct bytes in);

/* Piece by piece. The bytes given are what is hashed: lengths are the caller's to add wherever
 * two neighbours could be cut differently. */
struct digest_state {
    _Alignas(64) uint8_t opaque[384]; /* libsodium's state */
};
void digest_begin(struct digest_state *s, const char *tag); /* tag may be NULL: none */
void digest_begin_keyed(struct digest_state *s, struct bytes key);
void digest_add(struct digest_state *s, struct bytes in);
void digest_add_u32(struct digest_state *s, uint32_t v); /* little-endian */
void digest_add_u64(struct digest_state *s, uint64_t v);
void digest_add_blob(struct digest_state *s, struct bytes in); /* u32 length, then the bytes */
void digest_end(struct digest_state *s, struct digest *out);

void digest_to_hex(char out[DIGEST_HEX_BYTES], const struct digest *d);
MUST_USE enum status digest_from_hex(struct digest *out, const char *text, struct err *e);

#endif
