#include "node/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"

struct request {
    bool is_open;
    bool is_held; /* not to be sent yet */
    enum msg_kind kind;
    struct idem idem;
    uint64_t tag;
    uint32_t retry_ms;
    int64_t due_ms;      /* when it is sent again */
    struct buf envelope; /* owned */
};

struct rpc {
    const struct node_key *key; /* borrowed */
    uint64_t boot;
    uint64_t counter;
    uint64_t peer;
    struct digest run;
    struct request open[RPC_MAX_OPEN];
};

void rpc_new(struct rpc **out, const struct node_key *key, uint64_t boot)
{
    struct rpc *r = xcalloc(1, sizeof(*r));

    r->key = key;
    r->boot = boot;
    for (size_t i = 0; i < RPC_MAX_OPEN; i++)
        buf_init(&r->open[i].envelope, MSG_MAX_BYTES);
    *out = r;
}

static void close_request(struct request *q)
{
    q->is_open = false;
    buf_clear(&q->envelope);
}

void rpc_free(struct rpc **r)
{
    if (!*r)
        return;
    for (size_t i = 0; i < RPC_MAX_OPEN; i++)
        close_request(&(*r)->open[i]);
    free(*r);
    *r = NULL;
}

void rpc_set_peer(struct rpc *r, uint64_t peer)
{
    r->peer = peer;
}

void rpc_set_run(struct rpc *r, const struct digest *run)
{
    r->run = *run;
}

static void next_idem(struct rpc *r, struct idem *out)
{
    struct digest_state s;
    struct digest d;

    digest_begin(&s, "muster/idem");
    digest_add(&s, BYTES_OF(r->key->node.b));
    digest_add_u64(&s, r->boot);
    digest_add_u64(&s, r->counter++);
    digest_end(&s, &d);
    memcpy(out->b, d.b, sizeof(out->b));
}

static void send_request(struct rpc *r, struct request *q, int64_t now_ms, struct effects *out)
{
    if (r->peer)
        effects_send(out, r->peer, buf_bytes(&q->envelope));
    q->due_ms = now_ms + q->retry_ms;
}

/* An open request around `body`, which was not sent yet. */
static enum status open_request(struct request **out, struct rpc *r, enum msg_kind kind,
                                struct bytes body, uint64_t tag, uint32_t retry_ms,
                                struct err *e)
{
    struct request *q = NULL;
    enum status st;

    CHECK(retry_ms > 0);
    for (size_t i = 0; i < RPC_MAX_OPEN && !q; i++) {
        if (!r->open[i].is_open)
            q = &r->open[i];
    }
    if (!q)
        return err_set(e, ERR_FULL, "%u requests are open already", RPC_MAX_OPEN);
    q->kind = kind;
    q->tag = tag;
    q->retry_ms = retry_ms;
    next_idem(r, &q->idem);
    st = msg_envelope_encode(&q->envelope, kind, &r->run, &q->idem, body, r->key->node_secret,
                             e);
    if (st) {
        buf_clear(&q->envelope);
        return st;
    }
    q->is_open = true;
    q->is_held = false;
    *out = q;
    return OK;
}

enum status rpc_ask(struct rpc *r, enum msg_kind kind, struct bytes body, uint64_t tag,
                    uint32_t retry_ms, int64_t now_ms, struct effects *out, struct err *e)
{
    struct request *q = NULL;
    enum status st = open_request(&q, r, kind, body, tag, retry_ms, e);

    if (st)
        return st;
    send_request(r, q, now_ms, out);
    effects_timer(out, q->due_ms);
    return OK;
}

enum status rpc_hold(struct rpc *r, enum msg_kind kind, struct bytes body, uint64_t tag,
                     uint32_t retry_ms, struct digest *envelope, struct err *e)
{
    struct request *q = NULL;
    enum status st = open_request(&q, r, kind, body, tag, retry_ms, e);

    if (st)
        return st;
    q->is_held = true;
    digest_of(envelope, buf_bytes(&q->envelope));
    return OK;
}

void rpc_release(struct rpc *r, enum msg_kind kind, uint64_t tag, int64_t now_ms,
                 struct effects *out)
{
    for (size_t i = 0; i < RPC_MAX_OPEN; i++) {
        struct request *q = &r->open[i];

        if (!q->is_open || !q->is_held || q->kind != kind || q->tag != tag)
            continue;
        q->is_held = false;
        send_request(r, q, now_ms, out);
        effects_timer(out, q->due_ms);
    }
}

bool rpc_answered(struct rpc *r, const struct msg_envelope *m, enum msg_kind *kind,
                  uint64_t *tag)
{
    for (size_t i = 0; i < RPC_MAX_OPEN; i++) {
        struct request *q = &r->open[i];

        if (q->is_open && !q->is_held && idem_equal(&q->idem, &m->idem)) {
            *kind = q->kind;
            *tag = q->tag;
            close_request(q);
            return true;
        }
    }
    return false;
}

void rpc_cancel(struct rpc *r, uint64_t tag)
{
    for (size_t i = 0; i < RPC_MAX_OPEN; i++) {
        if (r->open[i].is_open && r->open[i].tag == tag)
            close_request(&r->open[i]);
    }
}

uint32_t rpc_open(const struct rpc *r, enum msg_kind kind)
{
    uint32_t n = 0;

    for (size_t i = 0; i < RPC_MAX_OPEN; i++)
        n += r->open[i].is_open && r->open[i].kind == kind;
    return n;
}

void rpc_tick(struct rpc *r, int64_t now_ms, struct effects *out)
{
    int64_t next = INT64_MAX;

    for (size_t i = 0; i < RPC_MAX_OPEN; i++) {
        struct request *q = &r->open[i];

        if (!q->is_open || q->is_held)
            continue;
        if (q->due_ms <= now_ms)
            send_request(r, q, now_ms, out);
        if (q->due_ms < next)
            next = q->due_ms;
    }
    if (next != INT64_MAX)
        effects_timer(out, next);
}
