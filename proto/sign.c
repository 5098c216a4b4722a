#include "proto/sign.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

static void sodium_start(void)
{
    CHECK(sodium_init() >= 0);
}

void sign_ready(void)
{
    CHECK(pthread_once(&sodium_once, sodium_start) == 0);
}

void sign_keys_of_seed(struct public_key *pub, struct secret_key *secret,
                       const uint8_t seed[32])
{
    sign_ready();
    CHECK(crypto_sign_ed25519_seed_keypair(pub->b, secret->b, seed) == 0);
}

void sign_public_of(struct public_key *pub, const struct secret_key *secret)
{
    memcpy(pub->b, secret->b + 32, sizeof(pub->b));
}

/* Ed25519 reads its message twice, so the pieces have to lie together. */
static enum status join(uint8_t **out, size_t *len, const char *tag, const struct bytes *part,
                        size_t n, struct err *e)
{
    size_t at = strlen(tag) + 1;
    size_t total = at;
    enum status st;

    for (size_t i = 0; i < n; i++)
        total += part[i].len;
    st = alloc_array(out, total, 1, "message to sign", e);
    if (st)
        return st;
    memcpy(*out, tag, at);
    for (size_t i = 0; i < n; i++) {
        if (part[i].len > 0)
            memcpy(*out + at, part[i].data, part[i].len);
        at += part[i].len;
    }
    *len = total;
    return OK;
}

enum status sign_make_parts(struct signature *out, const char *tag, const struct bytes *part,
                            size_t n, const struct secret_key *secret, struct err *e)
{
    uint8_t *message = NULL;
    enum status st;
    size_t len;

    sign_ready();
    st = join(&message, &len, tag, part, n, e);
    if (st)
        return st;
    CHECK(crypto_sign_ed25519_detached(out->b, NULL, message, len, secret->b) == 0);
    free(message);
    return OK;
}

enum status sign_check_parts(const struct signature *sig, const char *tag,
                             const struct bytes *part, size_t n, const struct public_key *pub,
                             struct err *e)
{
    uint8_t *message = NULL;
    enum status st;
    size_t len;

    sign_ready();
    st = join(&message, &len, tag, part, n, e);
    if (st)
        return st;
    if (crypto_sign_ed25519_verify_detached(sig->b, message, len, pub->b) != 0)
        st = err_set(e, ERR_DIGEST, "signature '%s' does not verify", tag);
    free(message);
    return st;
}

enum status sign_make(struct signature *out, const char *tag, struct bytes message,
                      const struct secret_key *secret, struct err *e)
{
    return sign_make_parts(out, tag, &message, 1, secret, e);
}

enum status sign_check(const struct signature *sig, const char *tag, struct bytes message,
                       const struct public_key *pub, struct err *e)
{
    return sign_check_parts(sig, tag, &message, 1, pub, e);
}

void sign_transport_public(struct public_key *pub, const uint8_t secret[32])
{
    sign_ready();
    CHECK(crypto_scalarmult_curve25519_base(pub->b, secret) == 0);
}
