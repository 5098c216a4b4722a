/*
 * sealed.h - files that end with the digest of what comes before it
 */
#ifndef TEST_FUZZ_SEALED_H
#define TEST_FUZZ_SEALED_H

#include "base/bytes.h"
#include "proto/digest.h"

/* Tries the bytes as they are, and with a digest that fits, so that what is behind its check is
 * reached. */
static inline void try_sealed(void (*try_file)(struct bytes), struct bytes in)
{
    struct digest d;
    struct buf sealed;

    try_file(in);
    if (in.len < DIGEST_BYTES)
        return;
    buf_init(&sealed, in.len);
    in.len -= DIGEST_BYTES;
    digest_of(&d, in);
    buf_append(&sealed, in);
    buf_append(&sealed, BYTES_OF(d.b));
    try_file(buf_bytes(&sealed));
    buf_clear(&sealed);
}

#endif
