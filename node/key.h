/*
 * node/key.h - who a node is
 *
 * Three key pairs. The owner's Ed25519 key is cold: it certifies nodes and receives the pay. The
 * node's Ed25519 key is hot: it signs what may become evidence. The transport key (Curve25519)
 * only encrypts connections. Secret halves live in sodium_malloc memory and are wiped on free.
 *
 * On disk:  a directory with owner.key, node.key, transport.key: text, one line "muster-key-1
 *           <kind> <hex secret seed>", mode 0600; others readable by group or world are refused
 *           with ERR_DENIED. Where owner.cert is there, "muster-cert-1 <hex owner> <role>
 *           <hex signature>", which is no secret, its owner is paid, and owner.key is not read
 *           and may be absent.
 */
#ifndef NODE_KEY_H
#define NODE_KEY_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

struct node_key {
    struct public_key node, transport, owner;
    struct secret_key *node_secret;  /* owned, locked memory */
    uint8_t *transport_secret;       /* owned, locked memory, 32 bytes */
    struct secret_key *owner_secret; /* owned, locked memory; NULL when cold elsewhere */
    struct signature cert;           /* from owner.cert, when there is one */
    enum role cert_role;             /* its role; ROLE_NONE: no owner.cert */
};

/* Makes and writes the three keys into `dir` (created, 0700), node.key last. ERR_EXISTS if that is
 * there; others that are, as when an earlier call was killed, are kept. */
MUST_USE enum status key_create(const char *dir, struct err *e);
MUST_USE enum status key_load(struct node_key **out, const char *dir, struct err *e);
/* Keys that are a function of a 32-byte seed, on no disk: for tests and simulation. */
void key_derive(struct node_key **out, const uint8_t seed[32]);
void key_free(struct node_key **k);

/* The owner's certificate of a node: signature over "muster/1/cert\0" || node || transport ||
 * role (u8). Without the owner's secret, the one of owner.cert; ERR_INVALID when that is missing
 * or for another role. */
MUST_USE enum status key_certify(struct signature *out, const struct node_key *k, uint32_t role,
                                 struct err *e);
/* Writes owner.cert into `dir`, the directory of a node whose owner.key is `owner`'s. */
MUST_USE enum status key_write_cert(const char *dir, const struct node_key *owner,
                                    enum role role, struct err *e);
MUST_USE enum status key_verify_cert(const struct public_key *owner,
                                     const struct public_key *node,
                                     const struct public_key *transport, uint32_t role,
                                     const struct signature *sig, struct err *e);

#endif
