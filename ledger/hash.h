/*
 * ledger/hash.h - BLAKE2b-256 under a name, over several pieces
 *
 * A name ("muster/1/entry") and its final NUL go in first, so that no hash of one kind of thing
 * is a hash of another.
 */
#ifndef LEDGER_HASH_H
#define LEDGER_HASH_H

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "proto/types.h"

struct hash {
    crypto_generichash_state s;
};

void hash_init(struct hash *h, const char *name); /* NULL: a bare BLAKE2b-256 */
void hash_add(struct hash *h, const void *data, size_t n);
void hash_add_u64(struct hash *h, uint64_t v); /* little-endian */
void hash_done(struct digest *out, struct hash *h);

#endif
