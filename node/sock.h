/*
 * node/sock.h - inside node/: CURVE sockets, and who may talk to ours
 *
 * libzmq asks a ZAP handler (RFC 27) about each client that wants to speak CURVE to one of our
 * servers. The handler is a thread of its own, so that a busy loop delays no handshake; the set
 * of admitted keys lies under a lock between the two.
 *
 * A refused client is answered 300, "temporary failure": after a 400 libzmq's client gives up for
 * good, and a node that dialled a moment before its key reached our roster would stay away. After
 * a 300 it hears nothing, lets the handshake time out, and dials again: every two seconds.
 */
#ifndef NODE_SOCK_H
#define NODE_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/types.h"

/* ---- sockets ----------------------------------------------------------------------------- */

/* Is it "tcp://HOST:PORT"? Where others may choose it, libzmq's inner and local transports would
 * lead past CURVE. To bind, HOST may be '*' and PORT '*' or 0. ERR_INVALID. */
MUST_USE enum status sock_check_endpoint(const char *endpoint, bool is_bind, struct err *e);
/* The address by which this machine reaches the host of a tcp endpoint: what that host, and those
 * near it, can reach this machine by, unless a router translates addresses. IPv4 only. Asks the
 * resolver for a name; sends nothing. ERR_IO: no such host, or no way to it. */
#define SOCK_ADDRESS_BYTES 64u
MUST_USE enum status sock_own_address(char out[SOCK_ADDRESS_BYTES], const char *endpoint,
                                      struct err *e);
/* What all sockets share: a short linger, bounded queues, TCP keepalive, a bound on frames. */
void sock_set_common(void *socket, const char *endpoint, size_t max_frame);
void sock_set_int(void *socket, int option, int value);
/* CURVE server of this key, whose clients the ZAP handler judges as strangers or not. */
void sock_set_server(void *socket, const uint8_t secret[32], bool open_to_all);
void sock_set_client(void *socket, const struct public_key *own, const uint8_t secret[32],
                     const struct public_key *server);

/* ---- admission --------------------------------------------------------------------------- */

struct zap;

/* Starts the handler of `ctx`: before any server is bound. */
MUST_USE enum status zap_start(struct zap **out, void *ctx, struct err *e);
/* After zmq_ctx_shutdown. NULL is fine. */
void zap_stop(struct zap **z);
void zap_admit(struct zap *z, const struct public_key *key, size_t n); /* replaces the set */
bool zap_is_admitted(struct zap *z, const struct public_key *key);
/* Counts a refusal, and logs it unless this key was logged within the last second. */
void zap_refused(struct zap *z, const struct public_key *key, const char *why);
uint64_t zap_n_refused(struct zap *z);

#endif
