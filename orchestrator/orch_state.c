#include "orchestrator/orch_state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"
#include "proto/submission.h"

void orch_new(struct orch **out, const struct orch_options *opt)
{
    struct orch *s = xcalloc(1, sizeof(*s));

    s->opt = *opt;
    ledger_log_new(&s->log);
    task_init(&s->task);
    s->numerics = "f32-1";
    s->submit = xcalloc(1, sizeof(*s->submit));
    s->out_batch = xcalloc(1, sizeof(*s->out_batch));
    s->roster = xcalloc(1, sizeof(*s->roster));
    s->entry = xcalloc(1, sizeof(*s->entry));
    s->make = xcalloc(1, sizeof(*s->make));
    buf_init(&s->body, MSG_MAX_BYTES);
    buf_init(&s->frame, MSG_MAX_BYTES);
    buf_init(&s->blob, MSG_MAX_BYTES);
    buf_init(&s->orders, (size_t)MSG_MAX_LEASES * MSG_MAX_ORDER);
    buf_init(&s->notes, ORCH_NOTES_BYTES);
    s->roster_seq = 1;
    s->node = orch_grow(NULL, &s->cap_nodes, 1, sizeof(*s->node));
    s->n_nodes = 1;
    s->node[0].node = opt->key->node;
    s->node[0].transport = opt->key->transport;
    s->node[0].owner = opt->key->owner;
    s->node[0].role = ROLE_ORCHESTRATOR;
    s->node[0].newest_version = -1;
    *out = s;
}

void orch_free(struct orch **sp)
{
    struct orch *s = *sp;

    if (!s)
        return;
    for (size_t i = 0; i < s->n_batches; i++)
        free(s->batch[i].row);
    free(s->batch);
    free(s->node);
    free(s->unit);
    free(s->fact);
    free(s->step_since);
    free(s->version);
    free(s->invite);
    free(s->submit);
    free(s->out_batch);
    free(s->roster);
    free(s->entry);
    free(s->make);
    buf_clear(&s->body);
    buf_clear(&s->frame);
    buf_clear(&s->blob);
    buf_clear(&s->orders);
    buf_clear(&s->notes);
    task_clear(&s->task);
    beacon_free(&s->beacon);
    ledger_log_free(&s->log);
    free(s);
    *sp = NULL;
}

struct ledger_log *orch_log(struct orch *s)
{
    return s->log;
}

const struct ledger_books *orch_books(const struct orch *s)
{
    return ledger_log_books(s->log);
}

int64_t orch_head(const struct orch *s)
{
    return s->n_versions ? s->version[s->n_versions - 1].number : -1;
}

const struct digest *orch_run_id(const struct orch *s)
{
    return ledger_books_run(orch_books(s));
}

bool orch_is_done(const struct orch *s)
{
    const struct ledger_task *task = ledger_books_task(orch_books(s));

    return s->has_task && task && task->is_closed;
}

uint64_t orch_roster_seq(const struct orch *s)
{
    return s->roster_seq;
}

uint64_t orch_admission_seq(const struct orch *s)
{
    return s->roster_seq + s->n_told;
}

size_t orch_admitted(const struct orch *s, struct public_key *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_nodes && n < cap; i++)
        if (!s->node[i].is_revoked || !s->node[i].is_told)
            out[n++] = s->node[i].transport;
    return n;
}

void orch_set_endpoints(struct orch *s, const char *control, const char *enrol)
{
    snprintf(s->opt.control, sizeof(s->opt.control), "%s", control);
    snprintf(s->opt.enrol, sizeof(s->opt.enrol), "%s", enrol);
}

/* ---- notes ----------------------------------------------------------------------------- */

void orch_note(struct orch *s, char level, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (s->notes.len + strlen(text) + 4 <= ORCH_NOTES_BYTES)
        buf_printf(&s->notes, "%c %s\n", level, text);
}

/* May another refusal be noted in this second? What was not is told in a later one. */
static bool may_note(struct orch *s, const struct turn *t)
{
    const int64_t second = t->now_ms / 1000;

    if (second != s->told_second) {
        s->told_second = second;
        s->n_told_in = 0;
        if (s->n_untold)
            orch_note(s, 'W', "refused messages=%" PRIu64 " more", s->n_untold);
        s->n_untold = 0;
    }
    if (s->n_told_in < ORCH_REFUSALS) {
        s->n_told_in++;
        return true;
    }
    s->n_untold++;
    return false;
}

static void note_refusal(struct orch *s, const struct turn *t, enum reason code,
                         const char *text)
{
    char who[17];

    if (!may_note(s, t))
        return;
    orch_node_short(who, s, t->from);
    orch_note(s, 'W', "refused kind=%s node=%s why=%s text=\"%s\"", msg_kind_name(t->m->kind),
              who, reason_name(code), text);
}

void orch_take_notes(struct orch *s, struct buf *out)
{
    buf_append(out, buf_bytes(&s->notes));
    buf_reset(&s->notes);
}

/* ---- answers --------------------------------------------------------------------------- */

void orch_answer(struct orch *s, struct turn *t, enum msg_kind kind)
{
    const struct secret_key *secret = msg_kind_is_signed(kind) ? s->opt.key->node_secret : NULL;
    struct err e;

    buf_reset(&s->frame);
    if (!buf_status(&s->body, &e) &&
        !msg_envelope_encode(&s->frame, kind, orch_run_id(s), &t->m->idem, buf_bytes(&s->body),
                             secret, &e)) {
        effects_send(t->out, t->peer, buf_bytes(&s->frame));
        return;
    }
    orch_note(s, 'W', "answer kind=%s lost why=\"%s\"", msg_kind_name(kind), e.text);
}

static void cut_text(char out[MSG_TEXT_BYTES], const char *fmt, va_list ap)
{
    vsnprintf(out, MSG_TEXT_BYTES, fmt, ap);
}

void orch_refuse(struct orch *s, struct turn *t, enum reason code, const char *fmt, ...)
{
    struct msg_refused r = {.code = (uint32_t)code};
    va_list ap;

    va_start(ap, fmt);
    cut_text(r.text, fmt, ap);
    va_end(ap);
    note_refusal(s, t, code, r.text);
    buf_reset(&s->body);
    CHECK(!msg_refused_encode(&s->body, &r, NULL));
    orch_answer(s, t, MSG_REFUSED);
}

void orch_wait(struct orch *s, struct turn *t, enum reason code, uint32_t retry_ms,
               const char *fmt, ...)
{
    struct msg_wait w = {.code = (uint32_t)code,
                         .retry_ms = retry_ms,
                         .head_version = orch_head(s),
                         .roster_seq = s->roster_seq,
                         .is_done = orch_is_done(s)};
    va_list ap;

    va_start(ap, fmt);
    cut_text(w.text, fmt, ap);
    va_end(ap);
    memcpy(s->node[t->from].waits, w.text, sizeof(w.text));
    buf_reset(&s->body);
    CHECK(!msg_wait_encode(&s->body, &w, NULL));
    orch_answer(s, t, MSG_WAIT);
}

void orch_receipt(struct orch *s, struct turn *t, uint64_t seq)
{
    struct msg_receipt r = {
        .seq = seq, .entry = *ledger_log_hash(s->log, seq), .is_accepted = true};

    buf_reset(&s->body);
    CHECK(!msg_receipt_encode(&s->body, &r, NULL));
    orch_answer(s, t, MSG_RECEIPT);
}

void orch_receipt_refused(struct orch *s, struct turn *t, uint64_t seq, enum reason code,
                          const char *fmt, ...)
{
    struct msg_receipt r = {.seq = seq, .code = (uint32_t)code};
    va_list ap;

    if (seq)
        r.entry = *ledger_log_hash(s->log, seq);
    va_start(ap, fmt);
    cut_text(r.text, fmt, ap);
    va_end(ap);
    note_refusal(s, t, code, r.text);
    buf_reset(&s->body);
    CHECK(!msg_receipt_encode(&s->body, &r, NULL));
    orch_answer(s, t, MSG_RECEIPT);
}

/* ---- entries --------------------------------------------------------------------------- */

static struct ledger_cause make_cause(const struct orch *s, const struct turn *t,
                                      enum orch_cause cause)
{
    CHECK(cause == BY_ITSELF || t->m);
    return (struct ledger_cause){
        .actor = cause == BY_ITSELF ? NULL : &s->node[t->from].node,
        .idem = cause == AS_ANSWER ? &t->m->idem : NULL,
        .wall_us = t->wall_us,
    };
}

void orch_applied(struct orch *s, const struct ledger_entry *en, const struct bytes *blob)
{
    struct err e;
    enum status st = orch_apply(s, en, blob, &e);

    if (st)
        orch_note(s, 'E', "entry seq=%" PRIu64 " does not apply: %s", en->seq, e.text);
    CHECK(!st); /* it was built here, from a blob that was decoded before */
}

static enum status appended(struct orch *s, enum status st, const struct ledger_entry *en,
                            const char *name, const struct bytes *blob, uint64_t *seq,
                            const struct err *e)
{
    if (st) {
        orch_note(s, 'W', "ledger refused %s: %s", name, e->text);
        return st;
    }
    if (seq)
        *seq = en->seq;
    orch_applied(s, en, blob);
    return OK;
}

#define ORCH_APPEND_DEFINE(NAME, number, body, moves_money, about)                             \
    enum status orch_append_##body(struct orch *s, const struct turn *t,                       \
                                   const struct ledger_##body *b, enum orch_cause cause,       \
                                   const struct bytes *blob, uint64_t *seq)                    \
    {                                                                                          \
        struct ledger_cause why = make_cause(s, t, cause);                                     \
        struct ledger_entry en;                                                                \
        struct err e;                                                                          \
        enum status st = ledger_append_##body(s->log, b, &why, t->out, &en, &e);               \
                                                                                               \
        return appended(s, st, &en, #NAME, blob, seq, &e);                                     \
    }
LEDGER_TYPE_MAP(ORCH_APPEND_DEFINE)
#undef ORCH_APPEND_DEFINE

enum status orch_read_blob(struct orch *s, const struct digest *d, struct err *e)
{
    buf_reset(&s->blob);
    return s->opt.store.blob(s->opt.store.ctx, d, &s->blob, e);
}

/* ---- start ----------------------------------------------------------------------------- */

static enum status begin_run(struct orch *s, const struct turn *t)
{
    struct ledger_genesis g = {
        .node = s->opt.key->node,
        .transport = s->opt.key->transport,
        .owner = s->opt.key->owner,
        .beacon_length = s->opt.beacon_length,
        .mature_window = s->opt.mature_window,
        .finder_percent = 10,
        .jackpot_percent = 40,
    };

    g.beacon_head = *beacon_head(s->beacon);
    return orch_append_genesis(s, t, &g, BY_ITSELF, NULL, NULL);
}

enum status orch_begin(struct orch *s, int64_t now_ms, int64_t wall_us, struct effects *out,
                       struct err *e)
{
    const int64_t last_us = ledger_books_time_us(orch_books(s));
    struct turn t;
    const struct ledger_genesis *g = ledger_books_genesis(orch_books(s));
    bool is_new = ledger_log_length(s->log) == 0;

    CHECK(!s->has_begun);
    s->began_us = (wall_us > last_us ? wall_us : last_us) - now_ms * 1000;
    t = orch_turn(s, now_ms, out);
    if (!is_new && !key_equal(&g->node, &s->opt.key->node))
        return err_set(e, ERR_DENIED, "this ledger belongs to another orchestrator's key");
    beacon_new(&s->beacon, &s->opt.beacon_seed,
               is_new ? s->opt.beacon_length : g->beacon_length);
    if (is_new && begin_run(s, &t))
        return err_set(e, ERR_INVALID, "cannot begin a run");
    g = ledger_books_genesis(orch_books(s));
    if (!digest_equal(beacon_head(s->beacon), &g->beacon_head))
        return err_set(e, ERR_CORRUPT, "the beacon's seed is not the one of this ledger");
    s->has_begun = true;
    s->durable_commit = ledger_log_length(s->log) - 1; /* what was read back is on disk */
    s->roster_seq++;
    s->is_roster_new = true;
    for (size_t i = 0; i < s->n_nodes; i++)
        s->node[i].seen_ms = now_ms; /* a chance to be heard before it counts as gone */
    orch_tick(s, now_ms, out);
    s->is_draw_started = s->is_judging =
        false; /* of a beginning only the PUTs are carried out */
    return OK;
}

struct turn orch_turn(const struct orch *s, int64_t now_ms, struct effects *out)
{
    return (struct turn){.out = out, .now_ms = now_ms, .wall_us = s->began_us + now_ms * 1000};
}

/* ---- one move -------------------------------------------------------------------------- */

static void handle(struct orch *s, struct turn *t)
{
    switch (t->m->kind) {
    case MSG_HELLO: orch_on_hello(s, t); break;
    case MSG_BUNDLE_ASK: orch_on_bundle_ask(s, t); break;
    case MSG_ROSTER_ASK: orch_on_roster_ask(s, t); break;
    case MSG_LEASE_ASK: orch_on_lease_ask(s, t); break;
    case MSG_HEARTBEAT: orch_on_heartbeat(s, t); break;
    case MSG_SUBMIT: orch_on_submit(s, t); break;
    case MSG_DRAWN_ASK: orch_on_drawn_ask(s, t); break;
    case MSG_OPENING: orch_on_opening(s, t); break;
    case MSG_CHECK_ASK: orch_on_check_ask(s, t); break;
    case MSG_VERDICT_SEAL: orch_on_verdict_seal(s, t); break;
    case MSG_VERDICT: orch_on_verdict(s, t); break;
    case MSG_VERDICTS: orch_on_verdicts(s, t); break;
    case MSG_WITNESS_ASK: orch_on_witness_ask(s, t); break;
    case MSG_WITNESS: orch_on_witness(s, t); break;
    case MSG_BATCH_ASK: orch_on_batch_ask(s, t); break;
    case MSG_AUDIT_ASK: orch_on_audit_ask(s, t); break;
    case MSG_STEP_VERDICT: orch_on_step_verdict(s, t); break;
    case MSG_DISPUTE_ASK: orch_on_dispute_ask(s, t); break;
    case MSG_DISPUTE: orch_on_dispute(s, t); break;
    case MSG_PUBLISH: orch_on_publish(s, t); break;
    case MSG_ABANDON: orch_on_abandon(s, t); break;
    case MSG_STATUS_ASK: orch_on_status_ask(s, t); break;
    case MSG_DRAIN: orch_on_drain(s, t); break;
    case MSG_TASK_PUBLISH: orch_on_task_publish(s, t); break;
    case MSG_TASK_CLOSE: orch_on_task_close(s, t); break;
    case MSG_LEDGER_ASK: orch_on_ledger_ask(s, t); break;
    case MSG_INVITE_ASK: orch_on_invite_ask(s, t); break;
    default: orch_refuse(s, t, REASON_UNSUPPORTED, "the orchestrator takes no such message");
    }
}

/* Who may do what: one row a kind; kinds that are not here are open to every admitted node. */
static bool role_may(enum role role, enum msg_kind kind)
{
    switch (kind) {
    case MSG_LEASE_ASK:
    case MSG_HEARTBEAT:
    case MSG_DRAWN_ASK:
    case MSG_OPENING:
    case MSG_SUBMIT: return role == ROLE_INFERENCE;
    case MSG_CHECK_ASK:
    case MSG_WITNESS_ASK:
    case MSG_WITNESS:
    case MSG_VERDICT_SEAL:
    case MSG_VERDICTS:
    case MSG_AUDIT_ASK:
    case MSG_STEP_VERDICT:
    case MSG_VERDICT: return role == ROLE_VERIFIER;
    case MSG_BATCH_ASK:
    case MSG_DISPUTE_ASK:
    case MSG_DISPUTE: return role == ROLE_TRAINER || role == ROLE_VERIFIER;
    case MSG_PUBLISH:
    case MSG_ABANDON: return role == ROLE_TRAINER;
    case MSG_TASK_PUBLISH:
    case MSG_TASK_CLOSE: return role == ROLE_INITIATOR;
    case MSG_INVITE_ASK: return role == ROLE_INITIATOR || role == ROLE_ORCHESTRATOR;
    default: return true;
    }
}

#define ORCH_TOLD 64u
#define ORCH_TOLD_MS                                                                           \
    1000 /* that an answer may take to leave: to who is not admitted nothing is sent */

/* Tells a node that it was barred, and what for, if it was for a unit. A HELLO's answer is what ends
 * its process; one that asks for other things is heard only so often. */
static void refuse_barred(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    const struct orch_fact *f = NULL;

    for (size_t i = s->n_facts; i-- > 0 && !f;)
        if (s->fact[i].type == LEDGER_REJECT_HARD && s->fact[i].node == t->from)
            f = &s->fact[i];
    if (f)
        orch_refuse(s, t, REASON_REVOKED,
                    "this node was barred: unit %" PRIu64
                    ", %s; 'muster explain' tells it, to a node that is not barred",
                    f->unit, reason_text((enum reason)f->code));
    else
        orch_refuse(s, t, REASON_REVOKED, "this node was barred");
    n->n_refused += t->m->kind == MSG_HELLO ? ORCH_TOLD : 1;
    if (n->n_refused >= ORCH_TOLD && !n->told_ms)
        n->told_ms = t->now_ms;
}

/* False: the message was answered with a refusal. */
static bool admit(struct orch *s, struct turn *t)
{
    const struct msg_envelope *m = t->m;
    const struct orch_node *n = &s->node[t->from];
    bool is_fresh = m->kind == MSG_HELLO && digest_is_zero(&m->run);

    if (!is_fresh && !digest_equal(&m->run, orch_run_id(s)))
        orch_refuse(s, t, REASON_WRONG_RUN, "this orchestrator serves another run");
    else if (idem_is_zero(&m->idem))
        orch_refuse(s, t, REASON_MALFORMED, "a question has an idempotency key");
    else if (n->is_revoked)
        refuse_barred(s, t);
    else if (!role_may(n->role, m->kind))
        orch_refuse(s, t, REASON_WRONG_ROLE, "a node of role %s may not send this",
                    role_name(n->role));
    else if (msg_kind_is_signed(m->kind) &&
             (!key_equal(&m->signer, &n->node) || msg_envelope_verify(m, NULL)))
        orch_refuse(s, t, REASON_SIGNATURE, "not signed by the key of this connection's node");
    else
        return true;
    return false;
}

/* Of another protocol version: said to whoever we know, if it can be told what is answered. */
static void refuse_version(struct orch *s, struct turn *t, const struct err *e)
{
    static const struct idem nothing;
    struct msg_refused r = {.code = REASON_UNSUPPORTED};

    if (t->from == ORCH_NONE_NODE || idem_equal(&t->m->idem, &nothing))
        return;
    snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, e->text);
    buf_reset(&s->body);
    CHECK(!msg_refused_encode(&s->body, &r, NULL));
    orch_answer(s, t, MSG_REFUSED);
}

void orch_message(struct orch *s, const struct orch_input *in, int64_t now_ms,
                  struct effects *out)
{
    struct msg_envelope m;
    struct turn t = orch_turn(s, now_ms, out);
    struct err e;
    enum status st;

    CHECK(s->has_begun);
    t.m = &m;
    t.peer = in->peer;
    t.from = orch_find_transport(s, in->transport);
    st = msg_envelope_decode(&m, in->data, &e);
    if (st) {
        if (may_note(s, &t))
            orch_note(s, 'W', "refused bytes=%zu why=\"%s\"", in->data.len, e.text);
        if (st == ERR_UNSUPPORTED)
            refuse_version(s, &t, &e);
        return; /* of anything else there is no idempotency key to answer to */
    }
    if (m.kind == MSG_JOIN && in->is_enrolment) {
        orch_on_join(s, &t, in->transport);
    } else if (t.from == ORCH_NONE_NODE || in->is_enrolment) {
        if (may_note(s, &t))
            orch_note(s, 'W', "refused kind=%s why=UNKNOWN_NODE", msg_kind_name(m.kind));
        return;
    } else {
        bool was_silent = !orch_is_alive(s, t.from, now_ms);
        if (admit(s, &t)) {
            if (was_silent && s->node[t.from].seen_ms)
                s->node[t.from].is_back = true;
            s->node[t.from].seen_ms = now_ms;
            handle(s, &t);
        }
    }
    orch_put_roster(s, &t);
}

void orch_job(struct orch *s, uint32_t job, uint64_t number, int64_t now_ms,
              struct effects *out)
{
    struct turn t = orch_turn(s, now_ms, out);

    if (job != ORCH_JOB_DRAW)
        return;
    s->is_draw_started = false;
    if (number > s->durable_commit)
        s->durable_commit = number;
    orch_draw(s, &t);
    orch_start_draw(s, &t);
}

/* Who was told that it was barred is not heard any more. */
static void shut_out(struct orch *s, int64_t now_ms)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        struct orch_node *n = &s->node[i];

        if (n->told_ms && !n->is_told && now_ms - n->told_ms >= ORCH_TOLD_MS) {
            n->is_told = true;
            s->n_told++;
        }
    }
}

void orch_tick(struct orch *s, int64_t now_ms, struct effects *out)
{
    struct turn t = orch_turn(s, now_ms, out);

    CHECK(s->has_begun);
    shut_out(s, now_ms);
    if (s->has_task && !orch_is_done(s)) {
        orch_expire(s, &t);
        orch_sweep_barred(s, &t);
        orch_draw(s, &t);
        orch_start_draw(s, &t);
        orch_look_after_checks(s, &t);
        orch_look_after_steps(s, &t);
        orch_call_openers(s, &t);
        orch_finish(s, &t);
    }
    orch_put_roster(s, &t);
    effects_timer(out, now_ms + ORCH_TICK_MS);
}
