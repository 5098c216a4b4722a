#include "proto/digest.h"

#include <string.h>

#include <sodium.h>

#include "base/check.h"
#include "proto/sign.h"

_Static_assert(sizeof(crypto_generichash_blake2b_state) <= sizeof(struct digest_state) &&
                   _Alignof(struct digest_state) >= 64,
               "libsodium's state fits");

static crypto_generichash_blake2b_state *state_of(struct digest_state *s)
{
    return (crypto_generichash_blake2b_state *)(void *)s->opaque;
}

void digest_begin_keyed(struct digest_state *s, struct bytes key)
{
    sign_ready();
    CHECK(key.len <= crypto_generichash_blake2b_KEYBYTES_MAX);
    CHECK(crypto_generichash_blake2b_init(state_of(s), key.data, key.len, DIGEST_BYTES) == 0);
}

void digest_begin(struct digest_state *s, const char *tag)
{
    digest_begin_keyed(s, (struct bytes){NULL, 0});
    if (tag)
        digest_add(s, (struct bytes){(const uint8_t *)tag, strlen(tag) + 1});
}

void digest_add(struct digest_state *s, struct bytes in)
{
    CHECK(crypto_generichash_blake2b_update(state_of(s), in.data, in.len) == 0);
}

void digest_add_u32(struct digest_state *s, uint32_t v)
{
    uint8_t b[4];

    for (size_t i = 0; i < sizeof(b); i++)
        b[i] = (uint8_t)(v >> 8 * i);
    digest_add(s, BYTES_OF(b));
}

void digest_add_u64(struct digest_state *s, uint64_t v)
{
    uint8_t b[8];

    for (size_t i = 0; i < sizeof(b); i++)
        b[i] = (uint8_t)(v >> 8 * i);
    digest_add(s, BYTES_OF(b));
}

void digest_add_blob(struct digest_state *s, struct bytes in)
{
    CHECK(in.len <= UINT32_MAX);
    digest_add_u32(s, (uint32_t)in.len);
    digest_add(s, in);
}

void digest_end(struct digest_state *s, struct digest *out)
{
    CHECK(crypto_generichash_blake2b_final(state_of(s), out->b, sizeof(out->b)) == 0);
}

void digest_of(struct digest *out, struct bytes in)
{
    sign_ready();
    CHECK(crypto_generichash_blake2b(out->b, sizeof(out->b), in.data, in.len, NULL, 0) == 0);
}

void digest_tagged(struct digest *out, const char *tag, struct bytes in)
{
    struct digest_state s;

    digest_begin(&s, tag);
    digest_add(&s, in);
    digest_end(&s, out);
}

void digest_keyed(struct digest *out, struct bytes key, struct bytes in)
{
    struct digest_state s;

    CHECK(key.len > 0);
    digest_begin_keyed(&s, key);
    digest_add(&s, in);
    digest_end(&s, out);
    sodium_memzero(&s, sizeof(s));
}

void digest_to_hex(char out[DIGEST_HEX_BYTES], const struct digest *d)
{
    hex_encode(out, BYTES_OF(d->b));
}

enum status digest_from_hex(struct digest *out, const char *text, struct err *e)
{
    return hex_decode(out->b, sizeof(out->b), text, e);
}
