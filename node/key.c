#include "node/key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "proto/digest.h"
#include "proto/sign.h"

#define CERT_TAG     "muster/1/cert"
#define KEY_MAGIC    "muster-key-1"
#define CERT_MAGIC   "muster-cert-1"
#define SEED_BYTES   ((size_t)32)
#define KEY_FILE_MAX 512u

/* As they are written: with node.key the set is complete. */
static const char *const kinds[] = {"owner", "transport", "node"};

/* ---- files ------------------------------------------------------------------------------- */

static char *key_path(const char *dir, const char *kind, const char *suffix)
{
    char name[32];
    int n = snprintf(name, sizeof(name), "%s.%s", kind, suffix);

    CHECK(n > 0 && (size_t)n < sizeof(name));
    return file_join(dir, name);
}

/* A buf that held a secret: emptied and wiped. */
static void wipe(struct buf *b)
{
    if (b->data)
        sodium_memzero(b->data, b->cap);
    buf_clear(b);
}

static enum status write_seed(const char *dir, const char *kind, const uint8_t seed[SEED_BYTES],
                              struct err *e)
{
    char hex[2 * SEED_BYTES + 1];
    char *path = key_path(dir, kind, "key");
    struct buf text;
    enum status st;

    hex_encode(hex, (struct bytes){seed, SEED_BYTES});
    buf_init(&text, KEY_FILE_MAX);
    buf_printf(&text, KEY_MAGIC " %s %s\n", kind, hex);
    CHECK(!text.bad);
    st = file_write_atomic(path, buf_bytes(&text), 0600, e);
    wipe(&text);
    sodium_memzero(hex, sizeof(hex));
    free(path);
    return st;
}

enum status key_create(const char *dir, struct err *e)
{
    char *node = key_path(dir, "node", "key");
    uint8_t seed[SEED_BYTES];
    enum status st;

    sign_ready();
    st = file_mkdirs(dir, 0700, e);
    if (!st && file_exists(node))
        st = err_set(e, ERR_EXISTS, "'%s' exists already", node);
    for (size_t i = 0; !st && i < 3; i++) {
        char *path = key_path(dir, kinds[i], "key");

        randombytes_buf(seed, sizeof(seed));
        if (!file_exists(path))
            st = write_seed(dir, kinds[i], seed, e);
        free(path);
    }
    sodium_memzero(seed, sizeof(seed));
    free(node);
    return st;
}

static enum status check_mode(const char *path, struct err *e)
{
    struct stat sb;

    if (stat(path, &sb) != 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read '%s': %s",
                       path, strerror(errno));
    if (sb.st_mode & 077)
        return err_set(e, ERR_DENIED,
                       "'%s' is open to others (mode %03o): chmod 600 it, and consider the key "
                       "as known to them",
                       path, (unsigned)sb.st_mode & 0777);
    return OK;
}

/* The line "magic kind hex" of a key file. */
static enum status parse_seed(uint8_t seed[SEED_BYTES], struct buf *text, const char *path,
                              const char *kind, struct err *e)
{
    char want[64];
    const char *line = buf_cstr(text);
    char hex[2 * SEED_BYTES + 1];
    int n = snprintf(want, sizeof(want), KEY_MAGIC " %s ", kind);
    enum status st;

    CHECK(n > 0 && (size_t)n < sizeof(want));
    if (text->len != (size_t)n + 2 * SEED_BYTES + 1 || strncmp(line, want, (size_t)n) != 0 ||
        line[text->len - 1] != '\n')
        return err_set(e, ERR_MALFORMED, "'%s' is no %s key of ours", path, kind);
    memcpy(hex, line + n, 2 * SEED_BYTES);
    hex[2 * SEED_BYTES] = '\0';
    st = hex_decode(seed, SEED_BYTES, hex, NULL);
    sodium_memzero(hex, sizeof(hex));
    return st ? err_set(e, ERR_MALFORMED, "'%s' holds no hexadecimal key", path) : OK;
}

static enum status read_seed(uint8_t seed[SEED_BYTES], const char *dir, const char *kind,
                             struct err *e)
{
    char *path = key_path(dir, kind, "key");
    struct buf text;
    enum status st;

    buf_init(&text, KEY_FILE_MAX);
    st = check_mode(path, e);
    if (!st)
        st = file_read(&text, path, e);
    if (!st)
        st = parse_seed(seed, &text, path, kind, e);
    wipe(&text);
    free(path);
    return st;
}

static enum status read_cert(struct node_key *k, const char *dir, struct err *e)
{
    char owner[65] = "", role[17] = "", sig[129] = "";
    char *path = file_join(dir, "owner.cert");
    struct buf text;
    enum status st;

    buf_init(&text, KEY_FILE_MAX);
    st = file_read(&text, path, e);
    if (st)
        goto out;
    if (sscanf(buf_cstr(&text), CERT_MAGIC " %64[0-9a-f] %16[a-z] %128[0-9a-f]", owner, role,
               sig) != 3 ||
        hex_decode(k->owner.b, sizeof(k->owner.b), owner, NULL) != OK ||
        hex_decode(k->cert.b, sizeof(k->cert.b), sig, NULL) != OK ||
        role_parse(role) == ROLE_NONE) {
        st = err_set(e, ERR_MALFORMED, "'%s' is no certificate of ours", path);
        goto out;
    }
    k->cert_role = role_parse(role);
    st = key_verify_cert(&k->owner, &k->node, &k->transport, (uint32_t)k->cert_role, &k->cert,
                         e);
    if (st)
        st = err_prefix(e, st, "'%s' does not certify the keys beside it", path);
out:
    buf_clear(&text);
    free(path);
    return st;
}

/* ---- keys in memory ---------------------------------------------------------------------- */

static void *locked(size_t n)
{
    void *p = sodium_malloc(n);

    CHECK(p);
    return p;
}

static struct node_key *new_key(void)
{
    struct node_key *k = xcalloc(1, sizeof(*k));

    sign_ready();
    k->node_secret = locked(sizeof(*k->node_secret));
    k->transport_secret = locked(SEED_BYTES);
    return k;
}

static void set_owner(struct node_key *k, const uint8_t seed[SEED_BYTES])
{
    k->owner_secret = locked(sizeof(*k->owner_secret));
    sign_keys_of_seed(&k->owner, k->owner_secret, seed);
}

static void set_transport(struct node_key *k, const uint8_t seed[SEED_BYTES])
{
    memcpy(k->transport_secret, seed, SEED_BYTES);
    sign_transport_public(&k->transport, k->transport_secret);
}

enum status key_load(struct node_key **out, const char *dir, struct err *e)
{
    struct node_key *k = new_key();
    uint8_t seed[SEED_BYTES];
    enum status st;

    *out = NULL;
    st = read_seed(seed, dir, "node", e);
    if (st)
        goto out;
    sign_keys_of_seed(&k->node, k->node_secret, seed);
    st = read_seed(seed, dir, "transport", e);
    if (st)
        goto out;
    set_transport(k, seed);
    st = read_cert(k, dir, e); /* somebody put it there on purpose: it goes before owner.key */
    if (st == ERR_NOT_FOUND) {
        st = read_seed(seed, dir, "owner", e);
        if (!st)
            set_owner(k, seed);
    }
    if (st == ERR_NOT_FOUND)
        st = err_set(e, st, "neither owner.key nor owner.cert is in '%s'", dir);
    if (st)
        goto out;
    *out = k;
    k = NULL;
out:
    sodium_memzero(seed, sizeof(seed));
    key_free(&k);
    return st;
}

void key_derive(struct node_key **out, const uint8_t seed[32])
{
    struct node_key *k = new_key();
    struct digest d;

    digest_tagged(&d, "muster/key/node", (struct bytes){seed, SEED_BYTES});
    sign_keys_of_seed(&k->node, k->node_secret, d.b);
    digest_tagged(&d, "muster/key/transport", (struct bytes){seed, SEED_BYTES});
    set_transport(k, d.b);
    digest_tagged(&d, "muster/key/owner", (struct bytes){seed, SEED_BYTES});
    set_owner(k, d.b);
    sodium_memzero(&d, sizeof(d));
    *out = k;
}

void key_free(struct node_key **k)
{
    if (!*k)
        return;
    sodium_free((*k)->node_secret); /* wipes */
    sodium_free((*k)->transport_secret);
    sodium_free((*k)->owner_secret);
    free(*k);
    *k = NULL;
}

/* ---- certificates ------------------------------------------------------------------------ */

static void cert_parts(struct bytes part[3], const struct public_key *node,
                       const struct public_key *transport, const uint8_t role[1])
{
    part[0] = BYTES_OF(node->b);
    part[1] = BYTES_OF(transport->b);
    part[2] = (struct bytes){role, 1};
}

static enum status certify(struct signature *out, const struct secret_key *owner,
                           const struct node_key *k, uint32_t role, struct err *e)
{
    const uint8_t role_byte[1] = {(uint8_t)role};
    struct bytes part[3];

    cert_parts(part, &k->node, &k->transport, role_byte);
    return sign_make_parts(out, CERT_TAG, part, 3, owner, e);
}

enum status key_certify(struct signature *out, const struct node_key *k, uint32_t role,
                        struct err *e)
{
    CHECK(role > ROLE_NONE && role < ROLE_COUNT);
    if (k->owner_secret)
        return certify(out, k->owner_secret, k, role, e);
    if (k->cert_role == ROLE_NONE)
        return err_set(e, ERR_INVALID, "neither the owner's key nor owner.cert is here");
    if ((uint32_t)k->cert_role != role)
        return err_set(e, ERR_INVALID, "owner.cert is for role '%s', not '%s'",
                       role_name(k->cert_role), role_name((enum role)role));
    *out = k->cert;
    return OK;
}

enum status key_write_cert(const char *dir, const struct node_key *owner, enum role role,
                           struct err *e)
{
    struct node_key *k = new_key();
    char owner_hex[65], sig_hex[129];
    uint8_t seed[SEED_BYTES];
    struct signature sig;
    struct buf text;
    char *path = file_join(dir, "owner.cert");
    enum status st;

    buf_init(&text, KEY_FILE_MAX);
    if (!owner->owner_secret) {
        st = err_set(e, ERR_INVALID, "the owner's key is not here");
        goto out;
    }
    st = read_seed(seed, dir, "node", e);
    if (st)
        goto out;
    sign_keys_of_seed(&k->node, k->node_secret, seed);
    st = read_seed(seed, dir, "transport", e);
    if (st)
        goto out;
    set_transport(k, seed);
    st = certify(&sig, owner->owner_secret, k, (uint32_t)role, e);
    if (st)
        goto out;
    hex_encode(owner_hex, BYTES_OF(owner->owner.b));
    hex_encode(sig_hex, BYTES_OF(sig.b));
    buf_printf(&text, CERT_MAGIC " %s %s %s\n", owner_hex, role_name(role), sig_hex);
    CHECK(!text.bad);
    st = file_write_atomic(path, buf_bytes(&text), 0644, e);
out:
    sodium_memzero(seed, sizeof(seed));
    buf_clear(&text);
    free(path);
    key_free(&k);
    return st;
}

enum status key_verify_cert(const struct public_key *owner, const struct public_key *node,
                            const struct public_key *transport, uint32_t role,
                            const struct signature *sig, struct err *e)
{
    const uint8_t role_byte[1] = {(uint8_t)role};
    struct bytes part[3];

    if (role <= ROLE_NONE || role >= ROLE_COUNT)
        return err_set(e, ERR_DIGEST, "certificate for unknown role %u", role);
    cert_parts(part, node, transport, role_byte);
    return sign_check_parts(sig, CERT_TAG, part, 3, owner, e);
}
