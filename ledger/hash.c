#include "ledger/hash.h"

#include <string.h>

void hash_init(struct hash *h, const char *name)
{
    crypto_generichash_init(&h->s, NULL, 0, DIGEST_BYTES);
    if (name)
        hash_add(h, name, strlen(name) + 1);
}

void hash_add(struct hash *h, const void *data, size_t n)
{
    crypto_generichash_update(&h->s, data, n);
}

void hash_add_u64(struct hash *h, uint64_t v)
{
    uint8_t b[8];

    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    hash_add(h, b, sizeof(b));
}

void hash_done(struct digest *out, struct hash *h)
{
    crypto_generichash_final(&h->s, out->b, DIGEST_BYTES);
}
