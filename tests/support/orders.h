/*
 * support/orders.h - the orchestrator's side of a worker's machine, by hand
 *
 * A test feeds a role's machine and looks at the effects of each call. Answers are envelopes
 * with the idempotency key of a request; signed kinds are signed by a server of the test's own.
 *
 * Knows base, proto and node: compiled into the tests that need it (SOURCES).
 */
#ifndef SUPPORT_ORDERS_H
#define SUPPORT_ORDERS_H

#include <stdint.h>

#include "base/effect.h"
#include "node/key.h"
#include "proto/msg.h"

#define ORDERS_PEER 77u

struct orders {
    struct node_key *key;    /* owned: the worker's */
    struct node_key *server; /* owned */
    struct digest run;
    struct effects out; /* of the machine's last calls, until orders_forget */
    struct buf answer;  /* the last answer made */
    struct buf body;
};

void orders_init(struct orders *o, uint8_t who);
void orders_clear(struct orders *o);
/* Forgets the effects seen so far. */
void orders_forget(struct orders *o);

/* How many SENDs of a kind there are, and the i-th of them. */
size_t orders_sent(const struct orders *o, enum msg_kind kind);
struct msg_envelope orders_get(const struct orders *o, enum msg_kind kind, size_t i);
size_t orders_sends(const struct orders *o); /* of any kind */
/* The one START there is, or NULL. Fails when there are two. */
const struct effect *orders_job(const struct orders *o);
/* The earliest TIMER; INT64_MAX: none. */
int64_t orders_timer(const struct orders *o);

/* An answer to `asked`: lent until the next one. */
struct bytes orders_answer(struct orders *o, const struct msg_envelope *asked,
                           enum msg_kind kind, struct bytes body);
struct bytes orders_wait(struct orders *o, const struct msg_envelope *asked,
                         const struct msg_wait *m);
struct bytes orders_receipt(struct orders *o, const struct msg_envelope *asked, bool accepted,
                            enum reason code);
struct bytes orders_refused(struct orders *o, const struct msg_envelope *asked,
                            enum reason code);
/* A lease of units [first, first + n) for one version. */
struct bytes orders_lease(struct orders *o, const struct msg_envelope *asked, uint64_t first,
                          uint32_t n, int64_t version, uint32_t deadline_ms);

#endif
