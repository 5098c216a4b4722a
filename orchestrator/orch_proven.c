/* The share of a batch that workers may have who have not proven themselves yet: a swarm of new keys
 * must not fill a batch, even though each unit of a beginner is checked. */
#include "orchestrator/orch_internal.h"

bool orch_is_proven(const struct orch *s, uint32_t node)
{
    const struct ledger_node *n = ledger_books_node(orch_books(s), &s->node[node].node);

    return n && (int64_t)(n->n_accepted - n->accepted_before) >= s->task.acceptance.audit_first;
}

/* Is there somebody proven who takes units: who asked not long ago, or has some? The rule is for where
 * others exist. */
static bool has_proven(const struct orch *s, int64_t now_ms)
{
    for (uint32_t i = 1; i < s->n_nodes; i++) {
        const struct orch_node *n = &s->node[i];
        const struct ledger_node *l;

        if (n->role != ROLE_INFERENCE || n->is_draining || !orch_is_alive(s, i, now_ms) ||
            !orch_is_proven(s, i))
            continue;
        l = ledger_books_node(orch_books(s), &n->node);
        if (l->n_live || (n->asked_ms && now_ms - n->asked_ms < ORCH_ALIVE_MS))
            return true;
    }
    return false;
}

void orch_quota_open(struct orch_quota *q, const struct orch *s, const struct turn *t)
{
    *q = (struct orch_quota){.is_capped =
                                 !orch_is_proven(s, t->from) && has_proven(s, t->now_ms)};
}

/* The units among which the share counts: a batch's, or in order arrival all that are open. */
static void enter(struct orch_quota *q, const struct orch *s, uint64_t unit)
{
    uint64_t n = orch_batch_size(s), end;

    q->first = orch_is_arrival(s) ? s->first_open : unit / n * n;
    end = orch_is_arrival(s) ? orch_unit_limit(s) : q->first + n;
    q->n = end > q->first ? end - q->first : 1;
    q->taken = 0;
    for (uint64_t i = q->first; i < end && i < s->n_units; i++) {
        enum ledger_unit_state is = orch_unit_state(s, i);

        q->taken += (is == UNIT_LEASED || is == UNIT_COMMITTED || is == UNIT_ACCEPTED) &&
                    !orch_is_proven(s, s->unit[i].worker);
    }
}

bool orch_quota_allows(struct orch_quota *q, const struct orch *s, uint64_t unit)
{
    uint64_t most;

    if (!q->is_capped)
        return true;
    if (q->n == 0 || unit < q->first || unit - q->first >= q->n)
        enter(q, s, unit);
    most = q->n * (uint64_t)s->task.acceptance.unproven_ppm / 1000000;
    return q->taken < (most ? most : 1);
}

void orch_quota_take(struct orch_quota *q)
{
    q->taken++;
}
