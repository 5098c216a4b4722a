/* Canaries: what is sealed, ordered, revealed and proven (proto/canary.h). */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "orchestrator/orch_internal.h"
#include "proto/canary.h"
#include "proto/digest.h"

void orch_salt(const struct orch *s, uint64_t unit, uint32_t attempt, struct digest *salt)
{
    struct digest_state d;

    digest_begin_keyed(&d, BYTES_OF(s->opt.beacon_seed.b));
    digest_add(&d, BYTES_LIT("muster/salt"));
    digest_add(&d, BYTES_OF(orch_run_id(s)->b));
    digest_add_u64(&d, unit);
    digest_add_u32(&d, attempt);
    digest_end(&d, salt);
}

struct digest orch_salt_shown(const struct orch *s, uint64_t unit)
{
    struct digest salt;

    orch_salt(s, unit, ledger_books_unit(orch_books(s), unit)->attempt, &salt);
    return salt;
}

static void give_salt(void *ctx, uint64_t unit, uint32_t attempt, struct digest *out)
{
    orch_salt(ctx, unit, attempt, out);
}

struct ledger_salts orch_salts(struct orch *s)
{
    return (struct ledger_salts){s, give_salt};
}

bool orch_is_canary(const struct orch *s, uint64_t unit)
{
    struct digest salt = orch_salt_shown(s, unit);

    return ledger_books_is_canary(orch_books(s), unit, &salt);
}

bool orch_has_canary(const struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);

    return u && u->canary && !u->canary->is_judged;
}

/* ---- orders ---------------------------------------------------------------------------- */

/* Appends the order for this lease to s->orders, if it has one; its length. */
static size_t append_order(struct orch *s, const struct turn *t, const struct lease_item *it)
{
    uint32_t attempt = ledger_books_unit(orch_books(s), it->unit)->attempt;
    struct msg_canary_order order = {.unit = it->unit, .lease = it->lease, .attempt = attempt};
    uint64_t rate = ledger_books_task(orch_books(s))->open.canary_rate;
    size_t from = s->orders.len;

    orch_salt(s, it->unit, attempt, &order.salt);
    if (canary_kind_of(&order.salt, attempt, rate) != CANARY_BAD)
        return 0;
    buf_reset(&s->body);
    CHECK(!msg_canary_order_encode(&s->body, &order, NULL));
    CHECK(!msg_envelope_encode(&s->orders, MSG_CANARY_ORDER, orch_run_id(s), &t->m->idem,
                               buf_bytes(&s->body), s->opt.key->node_secret, NULL));
    return s->orders.len - from;
}

void orch_put_orders(struct orch *s, const struct turn *t, struct msg_lease *l)
{
    size_t len[MSG_MAX_LEASES], at = 0;

    buf_reset(&s->orders);
    for (uint32_t i = 0; i < l->n; i++)
        len[i] = append_order(s, t, &l->item[i]);
    for (uint32_t i = 0; i < l->n; i++) {
        l->item[i].order = (struct bytes){s->orders.data + at, len[i]};
        at += len[i];
    }
}

/* ---- reveals --------------------------------------------------------------------------- */

void orch_reveal(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_canary_reveal x = {
        .unit = unit, .lease = u->lease, .salt = orch_salt_shown(s, unit)};

    if (!orch_append_canary_reveal(s, t, &x, BY_ITSELF, NULL, NULL))
        orch_note(s, 'I', "canary revealed unit=%" PRIu64, unit);
}

static uint32_t outcome_of(struct orch *s, const struct ledger_unit *u)
{
    struct msg_envelope env;
    struct digest root;
    struct err e;

    if (u->version != u->canary->version)
        return LEDGER_CANARY_OPEN;
    if (digest_equal(&u->root, &u->canary->root))
        return LEDGER_CANARY_GOOD;
    if (orch_read_blob(s, &u->envelope, &e) ||
        msg_envelope_decode(&env, buf_bytes(&s->blob), &e) ||
        canary_altered_root(&root, env.body, &u->canary->salt, &e)) {
        orch_note(s, 'E', "submission of unit=%" PRIu64 " cannot be compared: %s", u->unit,
                  e.text);
        return LEDGER_CANARY_OPEN;
    }
    return digest_equal(&root, &u->canary->root) ? LEDGER_CANARY_BAD : LEDGER_CANARY_OPEN;
}

void orch_bar_struck(struct orch *s, struct turn *t)
{
    for (size_t i = 1; i < s->n_nodes; i++) {
        const struct ledger_node *n = ledger_books_node(orch_books(s), &s->node[i].node);
        struct ledger_node_revoke bar = {.node = n->node, .code = REASON_FALSE_VERDICT};
        char who[17];
        if (n->role != ROLE_VERIFIER || !n->is_slashed || n->is_revoked)
            continue;
        orch_node_short(who, s, (uint32_t)i);
        orch_note(s, 'W', "barred validator=%s contradicted=%" PRIu64, who, n->n_contradicted);
        if (orch_append_node_revoke(s, t, &bar, BY_ITSELF, NULL, NULL))
            return;
    }
}

void orch_judge_canary(struct orch *s, struct turn *t, uint64_t unit)
{
    static const char *const names[] = {"", "bad", "good", "open"};
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_canary_judge x = {.unit = unit};

    if (!orch_has_canary(s, unit) || u->state != UNIT_ACCEPTED)
        return;
    x.lease = u->canary->lease;
    x.outcome = outcome_of(s, u);
    if (orch_append_canary_judge(s, t, &x, BY_ITSELF, NULL, NULL))
        return;
    orch_note(s, 'I', "canary judged unit=%" PRIu64 " outcome=%s", unit, names[x.outcome]);
    orch_bar_struck(s, t);
}
