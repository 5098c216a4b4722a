/* The fold: what each entry means to the machine beyond what the books keep. */
#include "orchestrator/orch_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"

void *orch_grow(void *v, size_t *cap, size_t need, size_t size)
{
    size_t old = *cap;

    if (need <= old)
        return v;
    *cap = old ? 2 * old : 64;
    if (*cap < need)
        *cap = need;
    v = xrealloc(v, *cap * size);
    memset((uint8_t *)v + old * size, 0, (*cap - old) * size);
    return v;
}

struct orch_unit *orch_unit_at(struct orch *s, uint64_t unit)
{
    CHECK(unit < ORCH_UNITS_MAX);
    if (unit >= s->n_units) {
        s->unit = orch_grow(s->unit, &s->cap_units, (size_t)unit + 1, sizeof(*s->unit));
        s->n_units = (size_t)unit + 1;
    }
    return &s->unit[unit];
}

/* The fact of the entry being applied, filed under its unit if it has one. */
static void set_fact(struct orch *s, const struct ledger_entry *en, uint32_t node,
                     uint64_t unit, uint64_t lease, uint32_t code)
{
    struct orch_fact *f = &s->fact[en->seq];

    f->node = node;
    f->unit = unit;
    f->lease = lease;
    f->code = code < REASON_COUNT ? (uint8_t)code : (uint8_t)REASON_INTERNAL;
    if (unit != ORCH_NONE_UNIT) {
        struct orch_unit *u = orch_unit_at(s, unit);
        f->before = u->last_fact;
        u->last_fact = en->seq;
    }
}

static void apply_invite(struct orch *s, const struct ledger_entry *en,
                         const struct ledger_invite *x)
{
    struct orch_invite_row *row;

    s->invite = orch_grow(s->invite, &s->cap_invites, s->n_invites + 1, sizeof(*s->invite));
    row = &s->invite[s->n_invites++];
    row->seq = en->seq;
    memcpy(row->id, x->id, sizeof(row->id));
    row->role = (enum role)x->role;
}

static void apply_node_admit(struct orch *s, const struct ledger_entry *en,
                             const struct ledger_node_admit *x)
{
    struct orch_node *n;

    s->node = orch_grow(s->node, &s->cap_nodes, s->n_nodes + 1, sizeof(*s->node));
    n = &s->node[s->n_nodes++];
    memset(n, 0, sizeof(*n));
    n->node = x->node;
    n->transport = x->transport;
    n->owner = x->owner;
    n->role = (enum role)x->role;
    memcpy(n->invite, x->invite, sizeof(n->invite));
    n->newest_version = -1;
    set_fact(s, en, (uint32_t)(s->n_nodes - 1), ORCH_NONE_UNIT, 0, 0);
    orch_roster_changed(s);
}

static void bar_node(struct orch *s, const struct public_key *node)
{
    uint32_t i = orch_find_node(s, node);

    if (i == ORCH_NONE_NODE)
        return;
    s->node[i].is_revoked = true;
    orch_roster_changed(s);
}

/* "drain" and "undrain" with a node key in hexadecimal; other settings are for people. */
static void apply_param(struct orch *s, uint64_t seq, const struct ledger_param *x)
{
    struct public_key key;
    uint32_t i;

    if (strcmp(x->name, "drain") != 0 && strcmp(x->name, "undrain") != 0)
        return;
    if (hex_decode(key.b, sizeof(key.b), x->value, NULL))
        return;
    i = orch_find_node(s, &key);
    if (i == ORCH_NONE_NODE)
        return;
    s->node[i].is_draining = !strcmp(x->name, "drain");
    s->node[i].drain = seq;
}

static void apply_lease(struct orch *s, const struct ledger_entry *en,
                        const struct ledger_lease *x)
{
    uint32_t node = orch_find_node(s, &x->worker);
    struct orch_unit *u = orch_unit_at(s, x->unit);

    u->worker = node;
    u->deadline_ms = u->hard_ms = 0;
    u->progress = 0;
    u->draw = 0;
    u->opening_ms = 0;
    u->n_checks = 0;
    set_fact(s, en, node, x->unit, en->seq, 0);
}

static void apply_commit(struct orch *s, const struct ledger_entry *en,
                         const struct ledger_commit *x)
{
    struct orch_unit *u = orch_unit_at(s, x->unit);

    set_fact(s, en, u->worker, x->unit, x->lease, 0);
    s->newest_commit = en->seq;
    u->answers = (struct orch_answers){.n = x->n_samples};
    for (uint32_t i = 0; i < x->n_samples; i++) {
        u->answers.n_ended += x->sample[i].has_ended;
        u->answers.tokens += x->sample[i].tokens;
        u->answers.reward += x->sample[i].reward / 1000.0;
    }
}

static void add_check(struct orch *s, uint64_t unit, const struct public_key *to,
                      uint32_t depth)
{
    struct orch_unit *u = orch_unit_at(s, unit);
    uint32_t node = orch_find_node(s, to), i;

    for (i = 0; i < u->n_checks; i++)
        if (u->check[i].node == node)
            break;
    if (i == LEDGER_VERDICTS_MAX)
        memmove(&u->check[0], &u->check[1], --i * sizeof(u->check[0]));
    u->check[i] = (struct orch_check){.node = node, .depth = depth};
    if (i >= u->n_checks)
        u->n_checks = i + 1;
}

static void apply_draw(struct orch *s, const struct ledger_entry *en,
                       const struct ledger_draw *x)
{
    for (uint32_t i = 0; i < x->n_rows; i++) {
        const struct ledger_draw_row *row = &x->row[i];
        orch_unit_at(s, row->unit)->draw = en->seq;
        for (uint32_t k = 0; k < row->n_assigned; k++)
            add_check(s, row->unit, &x->candidate[row->assigned[k]], row->depth);
    }
    set_fact(s, en, ORCH_NONE_NODE, ORCH_NONE_UNIT, x->through, 0);
    s->n_rounds = x->round;
    s->drawn_commit = x->through;
    s->round = 0;
}

static void apply_assign(struct orch *s, const struct ledger_entry *en,
                         const struct ledger_assign *x)
{
    struct orch_unit *u = orch_unit_at(s, x->unit);
    uint32_t from = orch_find_node(s, &x->from);

    for (uint32_t i = 0; i < u->n_checks; i++)
        if (u->check[i].node == from)
            u->check[i].is_over = true;
    add_check(s, x->unit, &x->to, x->depth);
    set_fact(s, en, orch_find_node(s, &x->to), x->unit, x->lease, 0);
}

static void apply_verdict(struct orch *s, const struct ledger_entry *en,
                          const struct ledger_verdict *x)
{
    struct orch_unit *u = orch_unit_at(s, x->unit);
    uint32_t node = orch_find_node(s, &x->validator);

    for (uint32_t i = 0; i < u->n_checks; i++)
        if (u->check[i].node == node)
            u->check[i].is_over = u->check[i].is_judged = true;
    set_fact(s, en, node, x->unit, x->lease, x->code);
    s->fact[en->seq].is_accepted = x->is_accepted;
}

/* An attempt ended: by pay, or without. */
static void apply_end(struct orch *s, const struct ledger_entry *en, uint64_t unit,
                      uint64_t lease, uint32_t code)
{
    struct orch_unit *u = orch_unit_at(s, unit);
    const struct ledger_unit *lu = ledger_books_unit(orch_books(s), unit);
    bool was_accepted = s->fact[u->last_fact].type == LEDGER_ACCEPT;

    set_fact(s, en, u->worker, unit, lease, code);
    u->n_checks = 0;
    if (en->type == LEDGER_ACCEPT) {
        s->n_accepted++;
        s->node[u->worker].tokens_paid += lu->tokens;
        if (orch_is_proven(s, u->worker))
            s->node[u->worker].n_opinions = 0;
        return;
    }
    s->n_accepted -= was_accepted;
    if (code < REASON_COUNT) {
        s->rejected[code]++;
        s->node[u->worker].refused[code]++;
        s->node[u->worker].n_opinions +=
            en->type == LEDGER_REJECT_SOFT && reason_is_opinion((enum reason)code);
    }
}

/* The worker is paid, and the unit is to be made again. */
static void apply_canary_reveal(struct orch *s, const struct ledger_entry *en,
                                const struct ledger_canary_reveal *x)
{
    struct orch_unit *u = orch_unit_at(s, x->unit);

    set_fact(s, en, u->worker, x->unit, x->lease, 0);
    u->n_checks = 0;
    s->n_canaries++;
}

static void add_answers(struct orch_answers *sum, const struct orch_answers *a)
{
    sum->n += a->n;
    sum->n_ended += a->n_ended;
    sum->tokens += a->tokens;
    sum->reward += a->reward;
}

static void apply_batch(struct orch *s, const struct ledger_entry *en,
                        const struct ledger_batch *x)
{
    struct orch_batch *b;

    s->batch = orch_grow(s->batch, &s->cap_batches, s->n_batches + 1, sizeof(*s->batch));
    b = &s->batch[s->n_batches++];
    memset(b, 0, sizeof(*b));
    b->root = x->root;
    b->seq = en->seq;
    b->n_rows = x->n_rows;
    b->row = xcalloc(x->n_rows ? x->n_rows : 1, sizeof(*b->row));
    memcpy(b->row, x->row, x->n_rows * sizeof(*b->row));
    for (uint32_t i = 0; i < x->n_rows; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), x->row[i].unit);
        uint64_t behind, fact = orch_unit_at(s, x->row[i].unit)->last_fact;
        if (fact >= s->arrival_from)
            s->arrival_from = fact + 1;
        b->n_flat += x->row[i].use == LEDGER_FLAT;
        s->n_flat += x->row[i].use == LEDGER_FLAT;
        if (x->row[i].use != LEDGER_GIVEN_UP)
            add_answers(&b->answers, &orch_unit_at(s, x->row[i].unit)->answers);
        if (x->row[i].use != LEDGER_TRAINED)
            continue;
        b->n_trained++;
        behind = u->version >= 0 && (uint64_t)u->version < x->batch
                     ? x->batch - (uint64_t)u->version
                     : 0;
        s->staleness[behind < ORCH_STALE_BINS ? behind : ORCH_STALE_BINS - 1]++;
    }
}

static int64_t paid_so_far(const struct orch *s)
{
    const struct ledger_task *t = ledger_books_task(orch_books(s));

    return t->paid_workers + t->paid_validators + t->paid_trainer;
}

static enum status apply_step(struct orch *s, const struct ledger_entry *en,
                              const struct ledger_step *x, const struct bytes *blob,
                              struct err *e)
{
    struct msg_envelope m;
    struct msg_manifest manifest;
    struct orch_version *v;
    enum status st = OK;
    struct bytes raw;

    if (!blob)
        st = orch_read_blob(s, &x->envelope, e);
    raw = blob ? *blob : buf_bytes(&s->blob);
    if (!st)
        st = msg_envelope_decode(&m, raw, e);
    if (!st)
        st = msg_manifest_decode(&manifest, m.body, e);
    if (st)
        return err_prefix(e, ERR_CORRUPT, "publication of version %" PRId64, x->version);
    s->version =
        orch_grow(s->version, &s->cap_versions, s->n_versions + 1, sizeof(*s->version));
    v = &s->version[s->n_versions++];
    memset(v, 0, sizeof(*v));
    v->number = x->version;
    v->weights = x->weights;
    v->batch = x->batch;
    v->settings = manifest.settings;
    v->masters = manifest.masters_after;
    v->optimizer = manifest.optimizer_after;
    digest_of(&v->body, m.body);
    v->envelope = x->envelope;
    v->seq = en->seq;
    v->trainer = x->trainer;
    v->loss = manifest.loss;
    v->reward_mean = manifest.reward_mean;
    v->kl = manifest.kl;
    v->grad_norm = manifest.grad_norm;
    v->time_us = en->time_us;
    v->paid = paid_so_far(s);
    v->tokens_trained = manifest.tokens_trained;
    s->next_version = x->version + 1;
    return OK;
}

static void apply_abandon(struct orch *s, const struct ledger_abandon *x)
{
    s->n_abandoned++;
    if (s->n_versions && s->version[s->n_versions - 1].number == x->version)
        s->n_versions--;
    if (x->version >= s->next_version)
        s->next_version = x->version + 1;
}

static void apply_equivocation(struct orch *s, const struct ledger_equivocation *x)
{
    struct buf b;

    s->is_stopped = true;
    buf_init(&b, sizeof(s->why_stopped));
    buf_printf(&b, "the trainer signed two contents for version %" PRId64, x->version);
    memcpy(s->why_stopped, buf_cstr(&b), b.len + 1);
    buf_clear(&b);
}

static void apply_dispute_close(struct orch *s, const struct ledger_entry *en,
                                const struct ledger_dispute_close *x)
{
    const struct ledger_dispute *d = ledger_books_dispute(orch_books(s), &x->dispute);
    struct buf b;

    set_fact(s, en, orch_find_node(s, &x->loser), ORCH_NONE_UNIT, 0, 0);
    s->dispute_since_ms = 0;
    if (!key_equal(&x->loser, &d->trainer))
        return;
    bar_node(s, &x->loser);
    s->is_stopped = true;
    buf_init(&b, sizeof(s->why_stopped));
    buf_printf(&b, "the trainer lost the dispute over version %" PRId64, d->version);
    memcpy(s->why_stopped, buf_cstr(&b), b.len + 1);
    buf_clear(&b);
}

static enum status apply_task_open(struct orch *s, const struct ledger_entry *en,
                                   const struct ledger_task_open *x, const struct bytes *blob,
                                   struct err *e)
{
    enum status st = OK;

    if (!blob)
        st = orch_read_blob(s, &x->task, e);
    if (!st)
        st = orch_load_task(s, blob ? *blob : buf_bytes(&s->blob), e);
    if (st)
        return err_prefix(e, ERR_CORRUPT, "bundle of the task");
    s->task_id = x->task;
    s->task_seq = en->seq;
    set_fact(s, en, orch_find_node(s, &x->initiator), ORCH_NONE_UNIT, 0, 0);
    return OK;
}

static enum status apply_body(struct orch *s, const struct ledger_entry *en,
                              const struct bytes *blob, struct err *e)
{
    const union ledger_body *b = s->entry;

    switch (en->type) {
    case LEDGER_PARAM: apply_param(s, en->seq, &b->param_); break;
    case LEDGER_INVITE: apply_invite(s, en, &b->invite_); break;
    case LEDGER_NODE_ADMIT: apply_node_admit(s, en, &b->node_admit_); break;
    case LEDGER_NODE_REVOKE: bar_node(s, &b->node_revoke_.node); break;
    case LEDGER_TASK_OPEN: return apply_task_open(s, en, &b->task_open_, blob, e);
    case LEDGER_LEASE: apply_lease(s, en, &b->lease_); break;
    case LEDGER_COMMIT: apply_commit(s, en, &b->commit_); break;
    case LEDGER_DRAW: apply_draw(s, en, &b->draw_); break;
    case LEDGER_ASSIGN: apply_assign(s, en, &b->assign_); break;
    case LEDGER_VERDICT: apply_verdict(s, en, &b->verdict_); break;
    case LEDGER_ACCEPT: apply_end(s, en, b->accept_.unit, b->accept_.lease, 0); break;
    case LEDGER_VOID: apply_end(s, en, b->void_.unit, b->void_.lease, b->void_.code); break;
    case LEDGER_REJECT_SOFT:
        apply_end(s, en, b->reject_soft_.unit, b->reject_soft_.lease, b->reject_soft_.code);
        break;
    case LEDGER_REJECT_HARD:
        apply_end(s, en, b->reject_hard_.unit, b->reject_hard_.lease, b->reject_hard_.code);
        bar_node(s, &s->node[orch_unit_at(s, b->reject_hard_.unit)->worker].node);
        break;
    case LEDGER_VERDICT_SEAL:
        set_fact(s, en, orch_find_node(s, &b->verdict_seal_.validator), b->verdict_seal_.unit,
                 b->verdict_seal_.lease, 0);
        break;
    case LEDGER_STATES_JUDGE:
        set_fact(s, en, orch_find_node(s, &b->states_judge_.validator), b->states_judge_.unit,
                 b->states_judge_.lease, REASON_FALSE_VERDICT);
        break;
    case LEDGER_STEP_ASSIGN:
        set_fact(s, en, orch_find_node(s, &b->step_assign_.to), ORCH_NONE_UNIT, 0, 0);
        break;
    case LEDGER_STEP_VERDICT:
        set_fact(s, en, orch_find_node(s, &b->step_verdict_.validator), ORCH_NONE_UNIT, 0, 0);
        break;
    case LEDGER_DISPUTE_OPEN:
        set_fact(s, en, orch_find_node(s, &b->dispute_open_.challenger), ORCH_NONE_UNIT, 0, 0);
        s->dispute_since_ms = 0;
        break;
    case LEDGER_DISPUTE_CLOSE: apply_dispute_close(s, en, &b->dispute_close_); break;
    case LEDGER_OPENING:
        set_fact(s, en, orch_unit_at(s, b->opening_.unit)->worker, b->opening_.unit,
                 b->opening_.lease, 0);
        break;
    case LEDGER_CANARY_REVEAL: apply_canary_reveal(s, en, &b->canary_reveal_); break;
    case LEDGER_CANARY_JUDGE: s->canaries[b->canary_judge_.outcome]++; break;
    case LEDGER_GIVEUP:
        set_fact(s, en, ORCH_NONE_NODE, b->giveup_.unit, 0, b->giveup_.code);
        s->n_given_up++;
        break;
    case LEDGER_BATCH: apply_batch(s, en, &b->batch_); break;
    case LEDGER_STEP: return apply_step(s, en, &b->step_, blob, e);
    case LEDGER_ABANDON: apply_abandon(s, &b->abandon_); break;
    case LEDGER_EQUIVOCATION: apply_equivocation(s, &b->equivocation_); break;
    case LEDGER_GENESIS:
    case LEDGER_DEPOSIT:
    case LEDGER_STAKE:
    case LEDGER_UNSTAKE:
    case LEDGER_TASK_CLOSE:
    case LEDGER_MATURE:
    case LEDGER_HEAD:
    case LEDGER_WITNESS:
    case LEDGER_DISPUTE_MOVE:
    case LEDGER_NONE:
    case LEDGER_TYPE_COUNT: break;
    }
    return OK;
}

enum status orch_apply(struct orch *s, const struct ledger_entry *en, const struct bytes *blob,
                       struct err *e)
{
    enum status st = ledger_body_decode(s->entry, en->type, en->body, e);
    struct orch_fact *f;

    if (st)
        return st;
    CHECK(en->seq == s->n_facts);
    s->fact = orch_grow(s->fact, &s->cap_facts, s->n_facts + 1, sizeof(*s->fact));
    f = &s->fact[s->n_facts++];
    *f = (struct orch_fact){.type = (uint8_t)en->type,
                            .has_idem = !idem_is_zero(&en->idem),
                            .node = ORCH_NONE_NODE,
                            .unit = ORCH_NONE_UNIT};
    return apply_body(s, en, blob, e);
}

enum status orch_replay(struct orch *s, struct bytes encoded, struct err *e)
{
    struct ledger_entry en;
    enum status st = ledger_replay(s->log, encoded, &en, e);

    return st ? st : orch_apply(s, &en, NULL, e);
}
