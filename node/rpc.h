/*
 * node/rpc.h - questions that are asked until they are answered
 *
 * Pure: part of a role's state, driven by its inputs. A request is one encoded envelope with its
 * own idempotency key; rpc_tick sends it again whenever `retry_ms` passed without an answer, so
 * a lost message or a restarted server costs time and nothing else.
 */
#ifndef NODE_RPC_H
#define NODE_RPC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "proto/msg.h"

#define RPC_MAX_OPEN 64u

struct rpc;

/* `key` signs and is borrowed. Idempotency keys are BLAKE2b(node key, boot, counter): `boot` must
 * differ between runs of the process (a start counter kept on disk, or random bytes). */
void rpc_new(struct rpc **out, const struct node_key *key, uint64_t boot);
void rpc_free(struct rpc **r);
/* The server to ask, and the run all later envelopes name. */
void rpc_set_peer(struct rpc *r, uint64_t peer);
void rpc_set_run(struct rpc *r, const struct digest *run);

/* Sends an envelope of `kind` around `body` and keeps it until answered. `tag` is the caller's
 * and comes back with the answer. ERR_FULL: RPC_MAX_OPEN requests are open. */
MUST_USE enum status rpc_ask(struct rpc *r, enum msg_kind kind, struct bytes body, uint64_t tag,
                             uint32_t retry_ms, int64_t now_ms, struct effects *out,
                             struct err *e);
/* The same, but it is not sent before rpc_release: *envelope is the digest of what will be. */
MUST_USE enum status rpc_hold(struct rpc *r, enum msg_kind kind, struct bytes body,
                              uint64_t tag, uint32_t retry_ms, struct digest *envelope,
                              struct err *e);
/* Sends what is held of this kind and tag. */
void rpc_release(struct rpc *r, enum msg_kind kind, uint64_t tag, int64_t now_ms,
                 struct effects *out);
/* If `m` answers an open request, closes it, sets *kind and *tag to the question's, and returns
 * true. A second copy of an answer returns false. */
bool rpc_answered(struct rpc *r, const struct msg_envelope *m, enum msg_kind *kind,
                  uint64_t *tag);
/* What an answer said about the run as a whole, besides answering: for member_note
 * (shardcast/member.h). */
struct run_news {
    bool is_set;
    int64_t head_version;
    uint64_t roster_seq;
    bool is_done;
};

/* Forgets requests with this tag. */
void rpc_cancel(struct rpc *r, uint64_t tag);
uint32_t rpc_open(const struct rpc *r, enum msg_kind kind); /* how many of a kind are open */
/* Sends again what is due and asks for the next timer. */
void rpc_tick(struct rpc *r, int64_t now_ms, struct effects *out);

#endif
