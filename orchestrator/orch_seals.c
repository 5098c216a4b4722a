/* Verdicts that are sealed before any is shown, and what their states say (proto/states.h). */
#include <inttypes.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

#define SEALS_MAX 16u /* of one check: a validator that was restarted seals anew */

static bool is_sealed(const struct orch *s, uint64_t unit, const struct orch_check *c)
{
    return ledger_books_seal(orch_books(s), unit, &s->node[c->node].node) != NULL;
}

bool orch_is_held(const struct orch *s, const struct turn *t, uint64_t unit,
                  const struct orch_check *c)
{
    return !c->is_told && c->heard_ms && t->now_ms - c->heard_ms < ORCH_HELD_MS &&
           is_sealed(s, unit, c);
}

bool orch_has_held(const struct orch *s, const struct turn *t, uint64_t unit)
{
    const struct orch_unit *u = &s->unit[unit];

    for (uint32_t i = 0; i < u->n_checks; i++)
        if (!u->check[i].is_over && orch_is_held(s, t, unit, &u->check[i]))
            return true;
    return false;
}

bool orch_is_rechecked(const struct orch *s, uint64_t unit)
{
    struct digest salt = orch_salt_shown(s, unit);

    return ledger_books_is_rechecked(orch_books(s), unit, &salt);
}

uint32_t orch_count_full(const struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->n_opinions; i++)
        n += u->opinion[i].depth == CHECK_FULL;
    return n;
}

/* The draw may want a second full check, which whoever sealed first hears of by waiting only. */
static void ask_second(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct orch_unit *u = &s->unit[unit];
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->n_checks; i++)
        n += u->check[i].depth == CHECK_FULL && (!u->check[i].is_over || u->check[i].is_judged);
    if (n < 2 && orch_is_rechecked(s, unit))
        (void)orch_ask_another(s, t, unit);
}

/* Has everybody sealed who is at it and there? */
static bool may_show(const struct orch *s, const struct turn *t, uint64_t unit)
{
    const struct orch_unit *u = &s->unit[unit];

    for (uint32_t i = 0; i < u->n_checks; i++) {
        const struct orch_check *c = &u->check[i];
        if (!c->is_over && !c->is_skipped && c->depth == CHECK_FULL &&
            orch_is_alive(s, c->node, t->now_ms) && !is_sealed(s, unit, c))
            return false;
    }
    return true;
}

void orch_show(struct orch *s, struct turn *t, uint64_t unit)
{
    struct orch_unit *u = &s->unit[unit];

    if (!may_show(s, t, unit))
        return;
    for (uint32_t i = 0; i < u->n_checks; i++) {
        struct orch_check *c = &u->check[i];
        const struct msg_envelope asked = {.kind = MSG_VERDICT_SEAL, .idem = c->idem};
        struct turn to = *t;
        uint64_t seq;
        if (!c->is_waiting ||
            !ledger_books_find_idem(orch_books(s), &s->node[c->node].node, &c->idem, &seq))
            continue;
        c->is_waiting = false;
        c->is_told = true;
        c->sent_ms = t->now_ms;
        to.m = &asked;
        to.peer = c->peer;
        to.from = c->node;
        orch_receipt(s, &to, seq);
    }
}

/* Appends the entry. REASON_NONE, or why not. */
static enum reason take_seal(struct orch *s, struct turn *t, const struct msg_verdict_seal *m)
{
    struct orch_check *c = orch_find_check(s, m->unit, t->from);
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), m->unit);
    struct ledger_verdict_seal x = {.unit = m->unit,
                                    .lease = m->lease,
                                    .validator = s->node[t->from].node,
                                    .verdict = m->verdict};

    if (!u || u->state != UNIT_COMMITTED || u->lease != m->lease)
        return REASON_DUPLICATE;
    if (!c)
        return REASON_NO_LEASE;
    if ((u->n_opinions && is_sealed(s, m->unit, c)) || c->n_seals == SEALS_MAX) {
        c->is_lost = true;
        return REASON_DUPLICATE;
    }
    digest_of(&x.envelope, t->m->raw);
    if (orch_append_verdict_seal(s, t, &x, AS_ANSWER, NULL, NULL))
        return REASON_DUPLICATE;
    c->n_seals++;
    ledger_put_blob(t->out, t->m->raw, NULL);
    ask_second(s, t, m->unit);
    return REASON_NONE;
}

void orch_on_verdict_seal(struct orch *s, struct turn *t)
{
    const struct public_key *node = &s->node[t->from].node;
    struct msg_verdict_seal m;
    struct orch_check *c;
    enum reason why;
    uint64_t seq;

    if (msg_verdict_seal_decode(&m, t->m->body, NULL)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "VERDICT_SEAL does not decode");
        return;
    }
    if (!ledger_books_find_idem(orch_books(s), node, &t->m->idem, &seq)) {
        why = take_seal(s, t, &m);
        if (why != REASON_NONE) {
            orch_receipt_refused(s, t, 0, why, "unit %" PRIu64 " lease %" PRIu64 ": %s", m.unit,
                                 m.lease, reason_text(why));
            return;
        }
        CHECK(ledger_books_find_idem(orch_books(s), node, &t->m->idem, &seq));
    }
    c = orch_find_check(s, m.unit, t->from);
    if (!c || c->is_over) { /* it is decided, or another's: what comes now is told so */
        orch_receipt(s, t, seq);
        return;
    }
    c->peer = t->peer;
    c->idem = t->m->idem;
    c->heard_ms = t->now_ms;
    c->is_waiting = true;
    orch_show(s, t, m.unit);
}

void orch_judge_states(struct orch *s, struct turn *t, uint64_t unit)
{
    struct ledger_states_judge x;

    while (ledger_states_judge_build(&x, orch_books(s), unit)) {
        char who[17];
        orch_node_short(who, s, orch_find_node(s, &x.validator));
        if (orch_append_states_judge(s, t, &x, BY_ITSELF, NULL, NULL))
            return;
        orch_note(s, 'W', "states contradicted unit=%" PRIu64 " validator=%s", unit, who);
        orch_bar_struck(s, t);
    }
}
