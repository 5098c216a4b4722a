/*
 * proto/invite.h - the link by which a node joins
 *
 *   muster://HOST:PORT/?run=HEX&key=HEX&enrol=PORT&invite=HEX&secret=HEX&role=NAME
 *
 * HOST:PORT is the orchestrator's control socket, `key` its transport key, `enrol` the port of
 * its enrolment socket on the same host. The secret proves that the joiner was invited; it is
 * used once and never sent, only a MAC keyed by it.
 */
#ifndef PROTO_INVITE_H
#define PROTO_INVITE_H

#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define INVITE_LINK_BYTES 512u

struct invite {
    char control[MSG_TEXT_BYTES]; /* "tcp://127.0.0.1:4000" */
    char enrol[MSG_TEXT_BYTES];   /* "tcp://127.0.0.1:4001" */
    struct digest run;
    struct public_key server; /* Curve25519 */
    uint8_t id[16];
    uint8_t secret[32];
    enum role role;
};

/* ERR_INVALID: the endpoints are no tcp endpoints of one host, or the link does not fit. */
MUST_USE enum status invite_encode(char out[INVITE_LINK_BYTES], const struct invite *v,
                                   struct err *e);
/* Of a text that anybody may have typed: ERR_MALFORMED names what is wrong. Each key exactly
 * once, in any order, and no other. */
MUST_USE enum status invite_decode(struct invite *v, const char *link, struct err *e);

/* JOIN's mac: BLAKE2b-256 keyed by the secret, over node || transport || owner || owner_sig ||
 * role (u8) || invite. */
void invite_mac(struct digest *out, const uint8_t secret[32], const struct msg_join *m);
/* Compares in constant time. ERR_DENIED. */
MUST_USE enum status invite_check_mac(const struct msg_join *m, const uint8_t secret[32],
                                      struct err *e);

#endif
