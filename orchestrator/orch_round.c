/* Witnesses of draws: heads they are called for, nonces they give (proto/witness.h). */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

/* Answers this node's WITNESS_ASK with the head of the round. */
static void call(struct orch *s, struct turn *t, struct orch_node *n)
{
    struct msg_witness_call c = {.seq = s->round,
                                 .entry = *ledger_log_hash(s->log, s->round),
                                 .next = ledger_books_commitment(orch_books(s), &n->node)};
    const struct msg_envelope asked = {.idem = n->idem};
    struct turn to = *t;

    to.m = &asked;
    to.peer = n->peer;
    n->is_waiting = false;
    buf_reset(&s->body);
    CHECK(!msg_witness_call_encode(&s->body, &c, NULL));
    orch_answer(s, &to, MSG_WITNESS_CALL);
}

static void open_round(struct orch *s, struct turn *t)
{
    struct ledger_head h;
    uint64_t seq;

    ledger_head_build(&h, s->log);
    if (orch_append_head(s, t, &h, BY_ITSELF, NULL, &seq))
        return;
    s->round = seq;
    s->round_ms = t->now_ms;
    for (size_t i = 1; i < s->n_nodes; i++)
        if (s->node[i].is_waiting)
            call(s, t, &s->node[i]);
}

bool orch_round_is_ready(struct orch *s, struct turn *t)
{
    struct ledger_round r = ledger_books_round(orch_books(s));

    if (!s->task.acceptance.witnesses)
        return true;
    if (!s->round && r.n_given && !r.is_drawn) { /* begun in an earlier life */
        s->round = r.seq;
        s->round_ms = t->now_ms;
    }
    if (!s->round || s->round != r.seq || r.is_drawn) {
        open_round(s, t);
        return false;
    }
    /* Nobody may hear the beacon's value before the head is on disk. */
    if (s->durable_commit < s->round)
        return false;
    return !r.n_missing || t->now_ms - s->round_ms >= ORCH_WITNESS_MS;
}

void orch_on_witness_ask(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    struct ledger_round r = ledger_books_round(orch_books(s));
    struct msg_witness_ask ask;

    if (msg_witness_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "WITNESS_ASK does not decode");
        return;
    }
    n->peer = t->peer;
    n->idem = t->m->idem;
    n->is_waiting = true;
    if (s->round && s->round == r.seq && !r.is_drawn && ask.have < s->round)
        call(s, t, n);
}

void orch_on_witness(struct orch *s, struct turn *t)
{
    struct ledger_witness x = {.validator = s->node[t->from].node};
    struct ledger_round r = ledger_books_round(orch_books(s));
    struct msg_witness m;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), &x.validator, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_witness_decode(&m, t->m->body, NULL)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "WITNESS does not decode");
        return;
    }
    if (m.seq != r.seq || !digest_equal(&m.entry, ledger_log_hash(s->log, r.seq))) {
        orch_receipt_refused(s, t, 0, REASON_DUPLICATE,
                             "entry %" PRIu64 " is not the last head", m.seq);
        return;
    }
    x.seq = m.seq;
    x.nonce = m.nonce;
    x.next = m.next;
    digest_of(&x.envelope, t->m->raw);
    if (orch_append_witness(s, t, &x, AS_ANSWER, NULL, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_DUPLICATE, "the ledger refused the entry");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    orch_receipt(s, t, seq);
    orch_draw(s, t);
}
