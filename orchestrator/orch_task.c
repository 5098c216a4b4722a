/* Opening and closing the task, stakes of a closed economy, maturing. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "orchestrator/orch_terms.h"
#include "proto/digest.h"
#include "proto/opening.h"

#define VERDICTS_MAX                                                                           \
    4u /* reserved for: one, a second opinion, a third, and one that came late */
#define VALIDATORS     1u /* drawn for each unit */
#define BOND_SLICE_PPM 250000u
#define BOND_STRIKES   3u

bool orch_is_open(const struct orch *s)
{
    const struct ledger_task *task = ledger_books_task(orch_books(s));

    return s->has_task && task && task->is_open && !s->is_stopped;
}

enum status orch_load_task(struct orch *s, struct bytes bundle, struct err *e)
{
    struct bundle b;
    struct task task;
    enum status st = bundle_decode(&b, bundle, e);

    if (st)
        return st;
    st = task_parse(&task, b.file[BUNDLE_TASK], "task.yaml", e);
    if (st) {
        task_clear(&task);
        return st;
    }
    task_clear(&s->task);
    s->task = task;
    s->numerics = task_numerics(&s->task);
    s->has_task = true;
    return OK;
}

void orch_task_terms(struct ledger_task_open *x, const struct task *t, int64_t deposit)
{
    const char *numerics = task_numerics(t);
    /* where checks tolerate, what a bad canary alters would pass honest ones, and states differ */
    bool is_exact = !opening_is_wanted(numerics);

    x->deposit = deposit;
    x->price_token = task_price(t, numerics);
    x->fee_light = t->budget.fee_light;
    x->fee_full = t->budget.fee_full;
    x->price_step = t->budget.price_step;
    x->stake_required = t->budget.stake_required;
    x->stake_granted = t->budget.stake_grant;
    x->steps = (uint64_t)t->algorithm.steps;
    x->tokens_max = (uint64_t)t->sampling.group * (uint64_t)t->sampling.max_new_tokens *
                    (uint64_t)(t->environment.turns > 0 ? t->environment.turns : 1);
    x->verdicts_max = VERDICTS_MAX;
    x->validators = VALIDATORS;
    x->audit_first = (uint32_t)t->acceptance.audit_first;
    x->audit_floor = (uint64_t)t->acceptance.audit_floor_ppm * LEDGER_ONE / 1000000;
    x->saving_ppm = (uint32_t)t->acceptance.audit_saving_ppm;
    x->detection_ppm = (uint32_t)t->acceptance.audit_detect_ppm;
    x->canary_rate = is_exact ? (uint64_t)t->acceptance.canary_ppm * LEDGER_ONE / 1000000 : 0;
    x->canary_bonus = t->budget.canary_bonus;
    x->bond_required = t->budget.bond_required;
    x->bond_slice_ppm = BOND_SLICE_PPM;
    x->bond_strikes = BOND_STRIKES;
    x->recheck_rate = is_exact ? (uint64_t)t->acceptance.recheck_ppm * LEDGER_ONE / 1000000 : 0;
    x->witnesses = (uint32_t)t->acceptance.witnesses;
    if (strcmp(task_train_numerics(t), "f32-1") != 0)
        return; /* no game is written for other classes (learn/graph.h): nothing could follow */
    x->step_rate = (uint64_t)t->acceptance.step_ppm * LEDGER_ONE / 1000000;
    x->step_first = (uint32_t)t->acceptance.step_first;
    x->fee_step = t->budget.fee_step;
    x->dispute_bond = t->budget.dispute_bond;
    x->dispute_ms = (uint32_t)t->leases.dispute_ms;
}

/* What the machine itself cannot handle of a well-formed task. */
static enum status check_task(const struct task *t, int64_t deposit, struct err *e)
{
    if (t->algorithm.units_per_batch > (int64_t)LEDGER_BATCH_ROWS_MAX)
        return err_set(e, ERR_LIMIT, "algorithm.units_per_batch is above %u",
                       LEDGER_BATCH_ROWS_MAX);
    if (t->algorithm.units_per_batch > (int64_t)ORCH_UNITS_MAX / t->algorithm.steps)
        return err_set(e, ERR_LIMIT, "the task has more than %u units", ORCH_UNITS_MAX);
    if (t->sampling.group > (int64_t)MSG_MAX_SAMPLES)
        return err_set(e, ERR_LIMIT, "sampling.group is above %u", MSG_MAX_SAMPLES);
    if (deposit <= 0)
        return err_set(e, ERR_INSUFFICIENT, "the deposit is nothing");
    return OK;
}

/* In a closed economy money comes in by the orchestrator's word, on record for all: `amount` to
 * `owner`, once for each `reference`. */
static enum status deposit(struct orch *s, struct turn *t, const struct public_key *owner,
                           int64_t amount, const char *purpose, struct bytes what)
{
    struct ledger_deposit d = {.owner = *owner, .amount = amount};
    struct digest reference;

    if (amount <= 0)
        return OK;
    digest_tagged(&reference, purpose, what);
    memcpy(d.reference, reference.b, sizeof(d.reference));
    return orch_append_deposit(s, t, &d, BY_ITSELF, NULL, NULL);
}

void orch_grant_stakes(struct orch *s, struct turn *t)
{
    int64_t grant = s->task.budget.stake_grant;

    if (!orch_is_open(s) || grant <= 0)
        return;
    for (size_t i = 1; i < s->n_nodes; i++) {
        const struct orch_node *n = &s->node[i];
        struct account stake = account_of_key(ACCOUNT_STAKE, &n->node);
        struct ledger_stake body = {.node = n->node, .amount = grant};
        if ((n->role != ROLE_INFERENCE && n->role != ROLE_VERIFIER &&
             n->role != ROLE_TRAINER) ||
            n->is_revoked || ledger_books_balance(orch_books(s), &stake) > 0)
            continue;
        if (deposit(s, t, &n->owner, grant, "muster/grant", BYTES_OF(n->node.b)) ||
            orch_append_stake(s, t, &body, BY_ITSELF, NULL, NULL))
            return;
    }
}

/* Files bundle and entry; the books have the last word. */
static void open_task(struct orch *s, struct turn *t, struct bytes bundle,
                      const struct task *task, int64_t amount)
{
    const struct orch_node *from = &s->node[t->from];
    struct account avail = account_of_key(ACCOUNT_AVAIL, &from->owner);
    struct ledger_task_open x = {.initiator = from->node};
    struct bytes raw = t->m->raw;
    uint64_t seq;
    char hex[DIGEST_HEX_BYTES];

    orch_task_terms(&x, task, amount);
    bundle_id(x.task.b, bundle);
    if (deposit(s, t, &from->owner, amount - ledger_books_balance(orch_books(s), &avail),
                "muster/deposit", raw)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the deposit");
        return;
    }
    if (orch_append_task_open(s, t, &x, AS_ANSWER, &bundle, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_NO_ESCROW, "the ledger refused the task's terms");
        return;
    }
    ledger_put_blob(t->out, bundle, NULL);
    orch_grant_stakes(s, t);
    digest_to_hex(hex, &s->task_id);
    orch_note(s, 'I', "task opened id=%s name=%s steps=%" PRIu64, hex, s->task.name, x.steps);
    orch_receipt(s, t, seq);
}

void orch_on_task_publish(struct orch *s, struct turn *t)
{
    struct msg_task_publish m;
    struct bundle b;
    struct task task;
    struct digest id;
    struct err e;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    memset(&task, 0, sizeof(task)); /* nothing to clear yet */
    if (msg_task_publish_decode(&m, t->m->body, &e) || bundle_decode(&b, m.bundle, &e) ||
        task_parse(&task, b.file[BUNDLE_TASK], "task.yaml", &e) ||
        check_task(&task, m.deposit > 0 ? m.deposit : task.budget.deposit, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        task_clear(&task);
        return;
    }
    bundle_id(id.b, m.bundle);
    if (s->has_task && digest_equal(&id, &s->task_id))
        orch_receipt(s, t, s->task_seq);
    else if (s->has_task)
        orch_receipt_refused(s, t, 0, REASON_DUPLICATE, "this run has its task already");
    else
        open_task(s, t, m.bundle, &task, m.deposit > 0 ? m.deposit : task.budget.deposit);
    task_clear(&task);
}

void orch_mature(struct orch *s, struct turn *t)
{
    for (size_t i = 1; i < s->n_nodes; i++) {
        struct ledger_mature m;
        int64_t amount;
        ledger_mature_build(&m, &amount, orch_books(s), &s->node[i].node);
        if (amount > 0 && orch_append_mature(s, t, &m, BY_ITSELF, NULL, NULL))
            return;
    }
}

enum status orch_close(struct orch *s, struct turn *t, enum orch_cause cause, uint64_t *seq)
{
    struct ledger_task_close c = {.task = s->task_id};
    enum status st;

    for (uint64_t u = 0; u < s->n_units; u++) {
        enum ledger_unit_state state = orch_unit_state(s, u);
        if (state == UNIT_LEASED || state == UNIT_COMMITTED)
            orch_void(s, t, u, REASON_DONE);
    }
    st = orch_append_task_close(s, t, &c, cause, NULL, seq);
    if (st)
        return st;
    orch_mature(s, t);
    orch_append_summary(s, t);
    orch_note(s, 'I', "task closed version=%" PRId64, orch_head(s));
    return OK;
}

void orch_append_summary(struct orch *s, struct turn *t)
{
    struct ledger_head h;

    if (s->round && orch_is_open(s))
        return; /* the open round's HEAD is summary enough */
    ledger_head_build(&h, s->log);
    if (orch_append_head(s, t, &h, BY_ITSELF, NULL, NULL))
        orch_note(s, 'E', "the ledger refused its own summary");
}

void orch_finish(struct orch *s, struct turn *t)
{
    if (!orch_is_open(s) || s->n_versions <= orch_n_steps(s) || orch_has_open_steps(s, t))
        return;
    if (orch_close(s, t, BY_ITSELF, NULL))
        orch_note(s, 'E', "the finished task cannot be closed");
}

void orch_on_task_close(struct orch *s, struct turn *t)
{
    struct msg_task_close m;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_task_close_decode(&m, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "TASK_CLOSE does not decode");
    } else if (!s->has_task || !digest_equal(&m.task, &s->task_id)) {
        orch_receipt_refused(s, t, 0, REASON_NO_TASK, "this task is not in this run");
    } else if (orch_is_done(s)) {
        orch_receipt_refused(s, t, 0, REASON_DONE, "the task is closed");
    } else if (!key_equal(&s->node[t->from].node,
                          &ledger_books_task(orch_books(s))->open.initiator)) {
        orch_receipt_refused(s, t, 0, REASON_WRONG_ROLE, "this task is another initiator's");
    } else if (orch_close(s, t, AS_ANSWER, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
    } else {
        orch_receipt(s, t, seq);
    }
}
