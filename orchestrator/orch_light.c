/* Light checks, which every unit has: gathered, so that one message and one signature serve many. */
#include <inttypes.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

#define LIGHT_BYTES_MAX ((size_t)16 << 20) /* of submissions in one CHECKS */

/* Is the unit all that the next batch may still wait for: made, or settled? */
static bool is_made(const struct orch *s, uint64_t unit)
{
    return orch_unit_state(s, unit) != UNIT_FREE && orch_unit_state(s, unit) != UNIT_LEASED;
}

/* Does the next batch wait for nothing but checks? */
static bool is_urgent(const struct orch *s)
{
    uint64_t size = orch_batch_size(s), n = 0;

    if (!orch_is_arrival(s)) {
        for (uint64_t i = s->n_batches * size; i < (s->n_batches + 1) * size; i++)
            if (!is_made(s, i))
                return false;
        return true;
    }
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        n += u && !u->is_batched &&
             (u->state == UNIT_COMMITTED || (u->state == UNIT_ACCEPTED && !u->is_flat));
    }
    return n >= size;
}

/* The validator's light check of this unit, if it is open; NULL. */
static struct orch_check *open_light(struct orch *s, uint64_t unit, uint32_t node)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct orch_check *c =
        u && u->state == UNIT_COMMITTED ? orch_find_check(s, unit, node) : NULL;

    return c && !c->is_over && c->depth == CHECK_LIGHT ? c : NULL;
}

bool orch_light_is_ripe(struct orch *s, const struct turn *t)
{
    uint32_t n = 0;

    if (is_urgent(s))
        return true;
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct orch_check *c = open_light(s, i, t->from);

        if (!c)
            continue;
        if (c->sent_ms || ++n >= ORCH_GATHER ||
            (c->since_ms && t->now_ms - c->since_ms >= s->task.leases.check_ms / 2))
            return true;
    }
    return false;
}

/* Appends the submission to s->blob. False: it cannot be read, or is too much for this message. */
static bool add_blob(struct orch *s, uint64_t unit, bool is_first)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    size_t before = s->blob.len;
    struct err e;

    if (s->opt.store.blob(s->opt.store.ctx, &u->envelope, &s->blob, &e)) {
        orch_note(s, 'E', "submission of unit=%" PRIu64 " cannot be read: %s", unit, e.text);
        s->blob.len = before;
        return false;
    }
    if (!is_first && s->blob.len > LIGHT_BYTES_MAX) {
        s->blob.len = before;
        return false;
    }
    return true;
}

void orch_send_light(struct orch *s, struct turn *t, const struct msg_check_ask *ask,
                     uint64_t unit)
{
    struct msg_checks m = {.deadline_ms = (uint32_t)s->task.leases.check_ms};
    size_t end[MSG_MAX_CHECKS], at = 0;
    bool is_repeat = orch_find_check(s, unit, t->from)->sent_ms != 0;

    buf_reset(&s->blob);
    for (uint64_t i = unit; i < s->n_units && m.n < MSG_MAX_CHECKS; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        struct orch_check *c = open_light(s, i, t->from);

        if (!c || (c->sent_ms != 0) != is_repeat || u->version < ask->oldest_version ||
            u->version > ask->newest_version || !add_blob(s, i, m.n == 0))
            continue;
        c->sent_ms = t->now_ms;
        end[m.n] = s->blob.len;
        m.item[m.n++] = (struct check_item){.unit = i, .lease = u->lease};
    }
    if (!m.n) {
        orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "the submission cannot be read");
        return;
    }
    for (uint32_t i = 0; i < m.n; at = end[i++])
        m.item[i].submission = bytes_slice(buf_bytes(&s->blob), at, end[i] - at);
    s->node[t->from].waits[0] = 0;
    buf_reset(&s->body);
    CHECK(!msg_checks_encode(&s->body, &m, NULL));
    orch_answer(s, t, MSG_CHECKS);
}

/* All are live light checks of this validator, of the submissions that it names. */
static enum reason check_verdicts(struct orch *s, const struct turn *t,
                                  const struct msg_verdicts *m)
{
    struct digest_state d;
    struct digest all;

    digest_begin(&d, "muster/1/submissions");
    for (uint32_t i = 0; i < m->n; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), m->item[i].unit);
        struct msg_verdict v = {.unit = m->item[i].unit,
                                .lease = m->item[i].lease,
                                .depth = CHECK_LIGHT,
                                .is_accepted = true};
        enum reason why;

        if (u)
            v.submission = u->envelope;
        why = orch_check_verdict(s, t, &v);
        for (uint32_t k = 0; k < i && why == REASON_NONE; k++)
            if (m->item[k].unit == v.unit)
                why = REASON_DUPLICATE;
        if (why != REASON_NONE)
            return why;
        digest_add(&d, BYTES_OF(v.submission.b));
    }
    digest_end(&d, &all);
    return digest_equal(&all, &m->submissions) ? REASON_NONE : REASON_NO_LEASE;
}

void orch_on_verdicts(struct orch *s, struct turn *t)
{
    struct ledger_verdict v = {
        .validator = s->node[t->from].node, .depth = CHECK_LIGHT, .is_accepted = true};
    struct msg_verdicts m;
    enum reason why;
    uint64_t seq;
    struct err e;

    if (ledger_books_find_idem(orch_books(s), &v.validator, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_verdicts_decode(&m, t->m->body, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        return;
    }
    why = check_verdicts(s, t, &m);
    if (why != REASON_NONE) { /* none counts; what is still open is handed out again */
        orch_receipt_refused(s, t, 0, why, "%u light checks: %s", m.n, reason_text(why));
        return;
    }
    digest_of(&v.envelope, t->m->raw);
    ledger_put_blob(t->out, t->m->raw, NULL);
    for (uint32_t i = 0; i < m.n; i++) { /* all, before any of them ends an attempt */
        v.unit = m.item[i].unit;
        v.lease = m.item[i].lease;
        if (orch_append_verdict(s, t, &v, i ? BY_SENDER : AS_ANSWER, NULL, i ? NULL : &seq)) {
            orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
            return;
        }
    }
    for (uint32_t i = 0; i < m.n; i++)
        if (orch_unit_state(s, m.item[i].unit) == UNIT_COMMITTED)
            orch_judge(s, t, m.item[i].unit);
    orch_receipt(s, t, seq);
}
