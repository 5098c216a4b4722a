/* Batches and weight versions. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/content.h"
#include "proto/digest.h"

/* ---- batches --------------------------------------------------------------------------- */

/* Order unit: all of the batch's units are decided. False: *missing is not. */
static bool collect_by_number(const struct orch *s, struct ledger_batch *b, uint64_t *missing)
{
    uint64_t n = orch_batch_size(s), first = b->batch * n;

    for (uint64_t i = first; i < first + n; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        uint32_t use = LEDGER_GIVEN_UP;
        if (!u || (u->state != UNIT_ACCEPTED && u->state != UNIT_GIVEN_UP) ||
            (u->state == UNIT_ACCEPTED && orch_has_canary(s, i))) {
            *missing = i;
            return false;
        }
        if (u->state == UNIT_ACCEPTED)
            use = u->is_flat ? LEDGER_FLAT : LEDGER_TRAINED;
        b->row[b->n_rows++] = (struct ledger_batch_row){.unit = i, .use = use};
    }
    return true;
}

/* Order arrival: the first groups accepted that carry a gradient and are fresh enough; flat
 * ones found on the way are recorded with them. By the seq of their acceptance. */
static bool collect_by_arrival(struct orch *s, struct ledger_batch *b, uint64_t *missing)
{
    uint64_t wanted = orch_batch_size(s), n = 0;

    /* The newest fact of an accepted unit is its ACCEPT. */
    for (uint64_t seq = s->arrival_from;
         seq < s->n_facts && n < wanted && b->n_rows < LEDGER_BATCH_ROWS_MAX; seq++) {
        const struct orch_fact *f = &s->fact[seq];
        const struct ledger_unit *u;
        if (f->type != LEDGER_ACCEPT || s->unit[f->unit].last_fact != seq)
            continue;
        u = ledger_books_unit(orch_books(s), f->unit);
        if (u->is_batched || orch_has_canary(s, f->unit) ||
            (!u->is_flat && orch_head(s) - u->version > s->task.algorithm.max_staleness))
            continue;
        n += !u->is_flat;
        b->row[b->n_rows++] = (struct ledger_batch_row){
            .unit = f->unit, .use = u->is_flat ? LEDGER_FLAT : LEDGER_TRAINED};
    }
    *missing = wanted - n;
    return n == wanted || b->n_rows == LEDGER_BATCH_ROWS_MAX;
}

static bool form_batch(struct orch *s, struct turn *t, uint64_t number, uint64_t *missing)
{
    struct ledger_batch *b = &s->make->batch_;
    struct err e;

    memset(b, 0, sizeof(*b));
    b->batch = number;
    if (!(orch_is_arrival(s) ? collect_by_arrival(s, b, missing)
                             : collect_by_number(s, b, missing)))
        return false;
    *missing = ORCH_NONE_UNIT;
    if (ledger_batch_root(&b->root, orch_books(s), b, &e)) {
        orch_note(s, 'E', "batch=%" PRIu64 " has no root: %s", number, e.text);
        return false;
    }
    if (orch_append_batch(s, t, b, BY_SENDER, NULL, NULL))
        return false;
    orch_note(s, 'I', "batch n=%" PRIu64 " units=%u trained=%u flat=%u", number, b->n_rows,
              s->batch[number].n_trained, s->batch[number].n_flat);
    return true;
}

/* Reads the submissions of the batch's trained rows, one after the other, into s->blob. */
static enum status read_batch(struct orch *s, const struct orch_batch *b, struct msg_batch *m,
                              struct err *e)
{
    size_t at[MSG_MAX_UNITS + 1];
    enum status st = OK;

    buf_reset(&s->blob);
    m->n = 0;
    at[0] = 0;
    for (uint32_t i = 0; i < b->n_rows && !st; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), b->row[i].unit);
        if (b->row[i].use != LEDGER_TRAINED)
            continue;
        st = s->opt.store.blob(s->opt.store.ctx, &u->envelope, &s->blob, e);
        if (!st)
            st = buf_status(&s->blob, e);
        at[++m->n] = s->blob.len;
    }
    for (uint32_t i = 0; i < m->n && !st; i++)
        m->envelope[i] = (struct bytes){s->blob.data + at[i], at[i + 1] - at[i]};
    return st;
}

static void answer_batch(struct orch *s, struct turn *t, uint64_t number)
{
    struct msg_batch *m = s->out_batch;
    enum status st;
    struct err e;

    if (!orch_may_read(s, t))
        return;
    m->batch = number;
    m->root = s->batch[number].root;
    st = read_batch(s, &s->batch[number], m, &e);
    orch_has_read(s, t, s->blob.len);
    if (st) {
        orch_note(s, 'E', "batch n=%" PRIu64 " cannot be read: %s", number, e.text);
        orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "the batch cannot be read: %.100s",
                  e.text);
        return;
    }
    s->node[t->from].waits[0] = 0;
    buf_reset(&s->body);
    if (msg_batch_encode(&s->body, m, &e)) {
        orch_note(s, 'E', "batch n=%" PRIu64 " cannot be sent: %s", number, e.text);
        orch_wait(s, t, REASON_BOUNDS, ORCH_RETRY_FAR,
                  "the batch is larger than a message may be");
        return;
    }
    orch_answer(s, t, MSG_BATCH);
}

static void explain_missing(struct orch *s, struct turn *t, uint64_t batch, uint64_t missing)
{
    char who[17];

    if (orch_is_arrival(s)) {
        orch_wait(s, t, REASON_BATCH_PENDING, ORCH_RETRY_MS,
                  "batch %" PRIu64 " wants %" PRIu64 " more groups", batch, missing);
        return;
    }
    orch_node_short(who, s,
                    missing < s->n_units && s->unit[missing].last_fact ? s->unit[missing].worker
                                                                       : ORCH_NONE_NODE);
    orch_wait(s, t, REASON_BATCH_PENDING, ORCH_RETRY_MS,
              "batch %" PRIu64 " waits for unit %" PRIu64 ", %s, worker %s", batch, missing,
              ledger_unit_state_name(orch_unit_state(s, missing)), who);
}

void orch_on_batch_ask(struct orch *s, struct turn *t)
{
    struct msg_batch_ask ask;
    uint64_t missing = ORCH_NONE_UNIT;

    if (msg_batch_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "BATCH_ASK does not decode");
        return;
    }
    if (orch_is_open(s) && s->node[t->from].role == ROLE_TRAINER && ask.batch == s->n_batches &&
        ask.batch < orch_n_steps(s) && !form_batch(s, t, ask.batch, &missing)) {
        if (missing == ORCH_NONE_UNIT)
            orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "the ledger refused the batch");
        else
            explain_missing(s, t, ask.batch, missing);
        return;
    }
    if (ask.batch < s->n_batches)
        answer_batch(s, t, ask.batch);
    else if (!s->has_task)
        orch_wait(s, t, REASON_NO_TASK, ORCH_RETRY_FAR, "no task is open yet");
    else if (s->is_stopped)
        orch_wait(s, t, REASON_EQUIVOCATION, ORCH_RETRY_FAR, "%s", s->why_stopped);
    else if (orch_is_done(s) || ask.batch >= orch_n_steps(s))
        orch_wait(s, t, REASON_DONE, ORCH_RETRY_FAR, "there is no batch %" PRIu64, ask.batch);
    else
        orch_wait(s, t, REASON_BATCH_PENDING, ORCH_RETRY_MS, "batch %zu comes before",
                  s->n_batches);
}

/* ---- versions -------------------------------------------------------------------------- */

static const struct orch_version *find_number(const struct orch *s, int64_t number)
{
    for (size_t i = s->n_versions; i-- > 0;)
        if (s->version[i].number == number)
            return &s->version[i];
    return NULL;
}

static enum reason check_shards(const struct msg_manifest *m, struct err *e)
{
    if (m->kind != CONTENT_FULL) {
        err_set(e, ERR_INVALID, "only whole versions are published to the ledger");
        return REASON_BOUNDS;
    }
    return content_manifest_check(m, e) ? REASON_BOUNDS : REASON_NONE;
}

/* What the manifest names must be what the ledger has; NULL, or what is another. */
static const char *differs(const struct orch *s, const struct msg_manifest *m)
{
    static const struct digest none;
    const struct orch_version *top = s->n_versions ? &s->version[s->n_versions - 1] : NULL;

    if (!digest_equal(&m->task, &s->task_id))
        return "task";
    if (!digest_equal(&m->batch, top ? &s->batch[s->n_versions - 1].root : &none))
        return "batch root";
    if (!digest_equal(&m->parent, top ? &top->weights : &none))
        return "parent";
    if (top && !digest_equal(&m->settings, &top->settings))
        return "set of settings";
    if (top && (!digest_equal(&m->masters_before, &top->masters) ||
                !digest_equal(&m->optimizer_before, &top->optimizer)))
        return "state to begin with"; /* a dispute takes the state before for granted */
    return NULL;
}

/* Does this manifest make the next version of the run? */
static enum reason check_manifest(const struct orch *s, const struct msg_manifest *m,
                                  struct err *e)
{
    const char *other;

    if (m->version != s->next_version) {
        err_set(e, ERR_INVALID, "version %" PRId64 " is not the next, %" PRId64, m->version,
                s->next_version);
        return REASON_OUT_OF_ORDER;
    }
    if (s->n_versions > s->n_batches) {
        err_set(e, ERR_INVALID, "batch %zu was not given out yet", s->n_versions - 1);
        return REASON_BATCH_PENDING;
    }
    other = differs(s, m);
    if (other) {
        err_set(e, ERR_DIGEST, "another %s than version %" PRId64 " must have", other,
                m->version);
        return REASON_ROOT;
    }
    if (strcmp(m->numerics, task_train_numerics(&s->task)) != 0) {
        err_set(e, ERR_INVALID, "a step in class '%s' where the task wants '%s'", m->numerics,
                task_train_numerics(&s->task));
        return REASON_NUMERICS;
    }
    return check_shards(m, e);
}

/* A second publication of a version: the same content, or fraud for all to see. */
static void publish_again(struct orch *s, struct turn *t, const struct msg_manifest *m,
                          const struct orch_version *v)
{
    struct ledger_equivocation x = {
        .version = m->version, .trainer = s->node[t->from].node, .first = v->envelope};
    struct digest body;
    uint64_t seq = 0;

    digest_of(&body, t->m->body);
    if (digest_equal(&body, &v->body)) {
        orch_receipt(s, t, v->seq);
        return;
    }
    if (!key_equal(&v->trainer, &x.trainer)) {
        orch_receipt_refused(s, t, 0, REASON_WRONG_ROLE,
                             "another trainer made version %" PRId64, m->version);
        return;
    }
    digest_of(&x.second, t->m->raw);
    if (!s->is_stopped && !orch_append_equivocation(s, t, &x, AS_ANSWER, NULL, &seq)) {
        ledger_put_blob(t->out, t->m->raw, NULL);
        orch_note(s, 'E', "stopped why=\"%s\"", s->why_stopped);
    }
    orch_receipt_refused(s, t, seq, REASON_EQUIVOCATION,
                         "version %" PRId64 " was published with another content", m->version);
}

static void publish_next(struct orch *s, struct turn *t, const struct msg_manifest *m)
{
    struct ledger_step x = {.version = m->version,
                            .parent = m->parent,
                            .weights = m->weights,
                            .batch = m->batch,
                            .trainer = s->node[t->from].node};
    struct bytes raw = t->m->raw;
    uint64_t seq;

    digest_of(&x.envelope, raw);
    if (orch_append_step(s, t, &x, AS_ANSWER, &raw, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
        return;
    }
    ledger_put_blob(t->out, raw, NULL);
    orch_note(s, 'I', "version n=%" PRId64 " loss=%.4f reward=%.4f kl=%.6f tokens=%" PRIu64,
              m->version, (double)m->loss, (double)m->reward_mean, (double)m->kl,
              m->tokens_trained);
    orch_mature(s, t);
    orch_append_summary(s, t);
    orch_finish(s, t);
    orch_receipt(s, t, seq);
}

void orch_on_publish(struct orch *s, struct turn *t)
{
    struct msg_manifest m;
    const struct orch_version *v;
    enum reason why;
    struct err e;

    if (msg_manifest_decode(&m, t->m->body, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (!s->has_task) {
        orch_receipt_refused(s, t, 0, REASON_NO_TASK, "no task is open");
        return;
    }
    v = find_number(s, m.version);
    if (v) {
        publish_again(s, t, &m, v);
        return;
    }
    if (orch_is_done(s) || s->is_stopped) {
        orch_receipt_refused(s, t, 0, s->is_stopped ? REASON_EQUIVOCATION : REASON_DONE, "%s",
                             s->is_stopped ? s->why_stopped : "the run is over");
        return;
    }
    if (t->from != orch_trainer(s)) {
        orch_receipt_refused(s, t, 0, REASON_WRONG_ROLE, "this run has another trainer");
        return;
    }
    why = check_manifest(s, &m, &e);
    if (why == REASON_NONE)
        publish_next(s, t, &m);
    else
        orch_receipt_refused(s, t, 0, why, "%s", e.text);
}

/* Units made with weights that are no more: those under way are taken back. */
static void void_version(struct orch *s, struct turn *t, int64_t number)
{
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        if (u && u->version == number &&
            (u->state == UNIT_LEASED || u->state == UNIT_COMMITTED))
            orch_void(s, t, i, REASON_STALE);
    }
}

void orch_on_abandon(struct orch *s, struct turn *t)
{
    struct ledger_abandon x;
    struct msg_abandon m;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_abandon_decode(&m, t->m->body, NULL)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "ABANDON does not decode");
        return;
    }
    if (t->from != orch_trainer(s)) {
        orch_receipt_refused(s, t, 0, REASON_WRONG_ROLE, "this run has another trainer");
        return;
    }
    x = (struct ledger_abandon){.version = m.version, .weights = m.weights};
    if (!orch_is_open(s) || orch_append_abandon(s, t, &x, AS_ANSWER, NULL, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_OUT_OF_ORDER,
                             "version %" PRId64 " cannot be abandoned now", m.version);
        return;
    }
    orch_note(s, 'W', "abandoned version=%" PRId64 " text=\"%s\"", m.version, m.text);
    void_version(s, t, m.version);
    orch_receipt(s, t, seq);
}
