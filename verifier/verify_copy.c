#include "verifier/verify_copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/body.h"
#include "node/rpc.h"

#define ASK_MS    100
#define RETRY_MS  2000
#define AT_ONCE   256u /* entries of an answer */
#define SEEN_KEPT 1024u

struct verify_copy {
    struct rpc *rpc; /* owned */
    bool is_welcome;
    uint64_t next; /* the first entry not seen yet */
    int64_t ask_at_ms;
    union ledger_body *body; /* owned */
    struct ledger_verdict seen[SEEN_KEPT];
    uint64_t n_seen; /* ever */
};

void verify_copy_new(struct verify_copy **out, const struct node_key *key, uint64_t boot)
{
    struct verify_copy *c = xcalloc(1, sizeof(*c));

    rpc_new(&c->rpc, key, boot);
    c->body = xcalloc(1, sizeof(*c->body));
    *out = c;
}

void verify_copy_free(struct verify_copy **c)
{
    if (!*c)
        return;
    rpc_free(&(*c)->rpc);
    free((*c)->body);
    free(*c);
    *c = NULL;
}

void verify_copy_welcome(struct verify_copy *c, uint64_t peer, const struct digest *run,
                         int64_t now_ms, struct effects *out)
{
    rpc_set_peer(c->rpc, peer);
    rpc_set_run(c->rpc, run);
    c->is_welcome = true;
    verify_copy_tick(c, now_ms, out);
}

static void take_entries(struct verify_copy *c, const struct msg_ledger *l)
{
    struct reader r = reader_of(l->entries);

    if (l->from != c->next)
        return;
    while (reader_left(&r) > 0) {
        struct ledger_entry en;
        struct bytes raw = reader_blob(&r);

        if (r.bad || ledger_entry_decode(&en, raw, NULL))
            return;
        c->next++;
        if (en.type == LEDGER_VERDICT && !ledger_body_decode(c->body, en.type, en.body, NULL))
            c->seen[c->n_seen++ % SEEN_KEPT] = c->body->verdict_;
    }
}

bool verify_copy_message(struct verify_copy *c, struct bytes data, int64_t now_ms,
                         struct effects *out)
{
    struct msg_envelope env;
    struct msg_ledger l;
    enum msg_kind asked;
    uint64_t tag;

    if (msg_envelope_decode(&env, data, NULL) || !rpc_answered(c->rpc, &env, &asked, &tag))
        return false;
    if (env.kind == MSG_LEDGER && !msg_ledger_decode(&l, env.body, NULL))
        take_entries(c, &l);
    c->ask_at_ms = now_ms + ASK_MS;
    verify_copy_tick(c, now_ms, out);
    return true;
}

void verify_copy_tick(struct verify_copy *c, int64_t now_ms, struct effects *out)
{
    const struct msg_ledger_ask ask = {.from = c->next, .max = AT_ONCE};
    struct buf body;

    if (c->is_welcome && !rpc_open(c->rpc, MSG_LEDGER_ASK)) {
        if (now_ms >= c->ask_at_ms) {
            buf_init(&body, 256);
            if (!msg_ledger_ask_encode(&body, &ask, NULL))
                (void)!rpc_ask(c->rpc, MSG_LEDGER_ASK, buf_bytes(&body), 0, RETRY_MS, now_ms,
                               out, NULL);
            buf_clear(&body);
        } else {
            effects_timer(out, c->ask_at_ms);
        }
    }
    rpc_tick(c->rpc, now_ms, out);
}

static const struct ledger_verdict *find_seen(const struct verify_copy *c,
                                              const struct msg_verdict *v)
{
    for (uint64_t i = 0; i < c->n_seen && i < SEEN_KEPT; i++)
        if (c->seen[i].unit == v->unit && c->seen[i].lease == v->lease)
            return &c->seen[i];
    return NULL;
}

void verify_copy_verdict(const struct verify_copy *c, struct buf *out, struct bytes verdict)
{
    uint8_t opened[MSG_MAX_OPENED * sizeof(struct ledger_opened)];
    const struct ledger_verdict *seen;
    struct msg_verdict v;

    if (msg_verdict_decode(&v, verdict, NULL))
        return;
    seen = find_seen(c, &v);
    if (seen && seen->depth == v.depth) {
        v.is_accepted = seen->is_accepted;
        v.code = seen->code;
        v.states = seen->states;
        if (v.opened.len)
            memcpy(opened, v.opened.data, v.opened.len);
        for (size_t at = 0; at < v.opened.len; at += sizeof(struct ledger_opened))
            for (uint32_t i = 0; i < seen->n_opened; i++)
                if (!memcmp(opened + at, seen->opened[i].validator.b, KEY_BYTES))
                    memcpy(opened + at, &seen->opened[i], sizeof(seen->opened[i]));
        if (v.opened.len)
            v.opened.data = opened;
    }
    if (msg_verdict_encode(out, &v, NULL))
        buf_reset(out);
}
