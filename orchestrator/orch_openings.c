/* What workers of open classes committed to, asked for once a unit is to be checked in full. */
#include <inttypes.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"

/* Committed, to be checked in full, and not opened. */
static bool is_closed(const struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);

    return u && u->state == UNIT_COMMITTED && u->depth == CHECK_FULL &&
           digest_is_zero(&u->opening);
}

bool orch_awaits_opening(struct orch *s, const struct turn *t, uint64_t unit)
{
    struct orch_unit *u = orch_unit_at(s, unit);

    if (!opening_is_wanted(s->numerics) || !is_closed(s, unit))
        return false;
    if (!u->opening_ms)
        u->opening_ms = t->now_ms;
    return t->now_ms - u->opening_ms < s->task.leases.opening_ms;
}

/* What this worker is to open; its attempts under leases below `settled` are over. */
static void list_drawn(struct orch *s, const struct turn *t, uint32_t node, struct msg_drawn *d)
{
    *d = (struct msg_drawn){.settled = s->n_facts};
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);

        if (!u || (u->state != UNIT_LEASED && u->state != UNIT_COMMITTED) ||
            s->unit[i].worker != node)
            continue;
        if (u->lease < d->settled)
            d->settled = u->lease;
        if (d->n < MSG_MAX_LEASES && orch_awaits_opening(s, t, i))
            d->item[d->n++] = (struct attempt){i, u->lease};
    }
}

static void answer_opener(struct orch *s, struct turn *t, uint32_t node,
                          const struct msg_drawn *d)
{
    struct orch_node *n = &s->node[node];
    const struct msg_envelope asked = {.idem = n->opener.idem};
    struct turn to = *t;

    to.m = &asked;
    to.peer = n->opener.peer;
    n->opener.is_set = false;
    buf_reset(&s->body);
    CHECK(!msg_drawn_encode(&s->body, d, NULL));
    orch_answer(s, &to, MSG_DRAWN);
}

void orch_call_openers(struct orch *s, struct turn *t)
{
    struct msg_drawn d;

    if (!s->has_task || !opening_is_wanted(s->numerics))
        return;
    for (uint32_t i = 1; i < s->n_nodes; i++) {
        if (!s->node[i].opener.is_set)
            continue;
        list_drawn(s, t, i, &d);
        if (d.n)
            answer_opener(s, t, i, &d);
    }
}

void orch_on_drawn_ask(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    struct msg_drawn_ask ask;
    struct msg_drawn d;
    bool is_repeat;

    if (msg_drawn_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "DRAWN_ASK does not decode");
        return;
    }
    is_repeat = n->opener.is_set && idem_equal(&n->opener.idem, &t->m->idem);
    n->opener.is_set = true;
    n->opener.peer = t->peer;
    n->opener.idem = t->m->idem;
    list_drawn(s, t, t->from, &d);
    /* That something is settled is not worth an answer of its own each time: it comes with a repeat. */
    if (d.n || (is_repeat && d.settled > ask.settled))
        answer_opener(s, t, t->from, &d);
}

/* The OPENING entry this worker made for the attempt before. */
static bool find_opening(const struct orch *s, const struct turn *t,
                         const struct msg_opening *m, uint64_t *seq)
{
    uint64_t i = m->unit < s->n_units ? s->unit[m->unit].last_fact : 0;

    for (; i; i = s->fact[i].before)
        if (s->fact[i].type == LEDGER_OPENING && s->fact[i].lease == m->lease &&
            s->fact[i].node == t->from) {
            *seq = i;
            return true;
        }
    return false;
}

/* REASON_NONE: it may be filed. Whether it is the one committed to, validators say. */
static enum reason judge_opening(struct orch *s, const struct turn *t,
                                 const struct msg_opening *m)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), m->unit);
    uint64_t most; /* chunks: each sample has one that is not full */

    if (!u || u->state != UNIT_COMMITTED || u->lease != m->lease ||
        s->unit[m->unit].worker != t->from)
        return REASON_NO_LEASE;
    if (!opening_is_wanted(s->numerics) || !is_closed(s, m->unit))
        return REASON_NO_WORK;
    if (!orch_awaits_opening(s, t, m->unit))
        return REASON_UNOPENED;
    most = submission_proofs(u->tokens) + (uint64_t)s->task.sampling.group;
    return m->proofs.len > most * TOPLOC_PROOF_BYTES ? REASON_BOUNDS : REASON_NONE;
}

void orch_on_opening(struct orch *s, struct turn *t)
{
    struct ledger_opening x;
    struct msg_opening m;
    enum reason why;
    uint64_t seq;
    struct err e;

    if (msg_opening_decode(&m, t->m->body, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (find_opening(s, t, &m, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    why = judge_opening(s, t, &m);
    if (why != REASON_NONE) {
        orch_receipt_refused(
            s, t, 0, why, "unit %" PRIu64 " lease %" PRIu64 ": %s", m.unit, m.lease,
            why == REASON_NO_WORK ? "it is not to be opened" : reason_text(why));
        return;
    }
    x = (struct ledger_opening){.unit = m.unit, .lease = m.lease};
    digest_of(&x.envelope, t->m->raw);
    if (orch_append_opening(s, t, &x, AS_ANSWER, NULL, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    orch_receipt(s, t, seq);
}
