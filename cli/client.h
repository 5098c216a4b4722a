/*
 * cli/client.h - one question to an orchestrator, from the command line
 *
 * DIR is the directory of any node of the run: one that joined (DIR/membership), or the
 * orchestrator's own (DIR/ready.json). That of `muster up` stands for its initiator's. The client
 * speaks with that node's key and says nothing else in its name: a node at work in the same
 * directory is not disturbed.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "node/key.h"
#include "proto/msg.h"

struct client;

/* `link` (may be NULL or ""): an initiator's invite, by which DIR joins if it has not yet; that
 * takes up to `wait_ms`. ERR_NOT_FOUND: neither link, membership nor ready.json. ERR_TIMEOUT. */
MUST_USE enum status client_open(struct client **out, const char *dir, const char *link,
                                 int64_t wait_ms, struct err *e);
void client_close(struct client **c);
const struct node_key *client_key(const struct client *c);
const struct digest *client_run(const struct client *c);

/* Asks until answered, for `wait_ms` at most (ERR_TIMEOUT). The answer's envelope goes to
 * `reply`, and *m is decoded from it. A REFUSED answer is ERR_DENIED with its text. */
MUST_USE enum status client_ask(struct client *c, enum msg_kind kind, struct bytes body,
                                int64_t wait_ms, struct buf *reply, struct msg_envelope *m,
                                struct err *e);

/* STATUS_ASK: the JSON text, appended to `json`. */
MUST_USE enum status client_status(struct client *c, enum status_view what, uint64_t number,
                                   int64_t wait_ms, struct buf *json, struct err *e);

#endif
