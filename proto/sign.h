/*
 * proto/sign.h - Ed25519 signatures over tagged bytes
 *
 * What is signed is always tag, NUL, message: a signature made for one purpose verifies for no
 * other. The tags in use are listed in docs/protocol.md.
 */
#ifndef PROTO_SIGN_H
#define PROTO_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

/* The key pair of a 32-byte seed. */
void sign_keys_of_seed(struct public_key *pub, struct secret_key *secret,
                       const uint8_t seed[32]);
void sign_public_of(struct public_key *pub, const struct secret_key *secret);
/* ERR_NO_MEMORY only: the message is joined to its tag in memory. */
MUST_USE enum status sign_make(struct signature *out, const char *tag, struct bytes message,
                               const struct secret_key *secret, struct err *e);
/* ERR_DIGEST: the signature is not `pub`'s. Keys of small order are refused. */
MUST_USE enum status sign_check(const struct signature *sig, const char *tag,
                                struct bytes message, const struct public_key *pub,
                                struct err *e);

/* The same for a message in pieces, which are joined. */
MUST_USE enum status sign_make_parts(struct signature *out, const char *tag,
                                     const struct bytes *part, size_t n,
                                     const struct secret_key *secret, struct err *e);
MUST_USE enum status sign_check_parts(const struct signature *sig, const char *tag,
                                      const struct bytes *part, size_t n,
                                      const struct public_key *pub, struct err *e);

/* The Curve25519 pair of a 32-byte secret: the public half. */
void sign_transport_public(struct public_key *pub, const uint8_t secret[32]);

/* Prepares libsodium; called by everything here and in digest.h, cheap after the first time. */
void sign_ready(void);

#endif
