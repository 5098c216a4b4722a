/* What people see: JSON for STATUS_ASK. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

#define RECENT 16u   /* versions shown */
#define PAGE   1000u /* and of the view of versions */

static void set_int(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void set_text(json_t *o, const char *key, const char *v)
{
    json_t *text = json_string(v);

    json_object_set_new(o, key, text ? text : json_string("(not UTF-8)"));
}

static void set_hex(json_t *o, const char *key, struct bytes v)
{
    char hex[2 * 64 + 1];

    CHECK(v.len <= 64);
    hex_encode(hex, v);
    set_text(o, key, hex);
}

static void set_float(json_t *o, const char *key, double v)
{
    json_t *number = json_real(v); /* NULL when not finite */

    json_object_set_new(o, key, number ? number : json_null());
}

static int64_t balance(const struct orch *s, enum account_kind kind, const struct public_key *k)
{
    struct account a = account_of_key(kind, k);

    return ledger_books_balance(orch_books(s), &a);
}

/* ---- why it waits ---------------------------------------------------------------------- */

static void why_batch(const struct orch *s, int64_t now_ms, struct buf *out)
{
    uint64_t first = s->n_batches * orch_batch_size(s), done = 0, unit = ORCH_NONE_UNIT;
    char who[17];

    for (uint64_t i = first; i < first + orch_batch_size(s); i++) {
        enum ledger_unit_state st = orch_unit_state(s, i);
        bool is_decided = st == UNIT_ACCEPTED || st == UNIT_GIVEN_UP;
        done += is_decided;
        if (!is_decided && unit == ORCH_NONE_UNIT)
            unit = i;
    }
    if (unit == ORCH_NONE_UNIT) {
        buf_printf(out, "batch %zu is complete and waits for the trainer to ask", s->n_batches);
        return;
    }
    buf_printf(out, "batch %zu has %" PRIu64 " of %" PRIu64 " units; unit %" PRIu64 " is %s",
               s->n_batches, done, orch_batch_size(s), unit,
               ledger_unit_state_name(orch_unit_state(s, unit)));
    if (unit >= s->n_units || orch_unit_state(s, unit) == UNIT_FREE)
        return;
    orch_node_short(who, s, s->unit[unit].worker);
    buf_printf(out, " by %s", who);
    if (orch_unit_state(s, unit) == UNIT_COMMITTED) {
        for (uint32_t i = 0; i < s->unit[unit].n_checks; i++) {
            const struct orch_check *c = &s->unit[unit].check[i];
            orch_node_short(who, s, c->node);
            if (!c->is_over)
                buf_printf(out, ", checked by %s", who);
        }
    } else if (s->unit[unit].deadline_ms) {
        buf_printf(out, ", its lease ends in %" PRId64 " ms",
                   s->unit[unit].deadline_ms - now_ms);
    }
}

static bool has_weights(const struct orch *s, int64_t now_ms)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct ledger_node *b = ledger_books_node(orch_books(s), &s->node[i].node);

        if (s->node[i].role == ROLE_INFERENCE && orch_is_alive(s, (uint32_t)i, now_ms) &&
            (s->node[i].newest_version >= 0 || (b && b->n_live)))
            return true;
    }
    return false;
}

/* For long that means that nobody can reach who has them. */
static void why_no_weights(const struct orch *s, struct buf *out)
{
    const char *at = s->node[orch_trainer(s)].endpoint;

    buf_printf(out, "no worker has a weight version yet; the trainer serves them %s%s",
               *at ? "at " : "only over links that it opens itself", at);
}

static const char *explain_state(const struct orch *s, int64_t now_ms, struct buf *why)
{
    if (!s->has_task) {
        buf_printf(why, "no task is open: an initiator publishes one");
        return "waiting";
    }
    if (orch_is_done(s)) {
        buf_printf(why, "the task is closed");
        return "done";
    }
    if (s->is_stopped) {
        buf_printf(why, "%s", s->why_stopped);
        return "stopped";
    }
    if (orch_trainer(s) == ORCH_NONE_NODE)
        buf_printf(why, "no trainer has joined");
    else if (!orch_is_alive(s, orch_trainer(s), now_ms))
        buf_printf(why, "the trainer was not heard from for %" PRId64 " s",
                   (now_ms - s->node[orch_trainer(s)].seen_ms) / 1000);
    else if (!s->n_versions)
        buf_printf(why, "the trainer makes version 0");
    else if (s->n_versions <= s->n_batches)
        buf_printf(why, "the trainer makes version %" PRId64, s->next_version);
    else if (!orch_n_alive(s, ROLE_INFERENCE, now_ms))
        buf_printf(why, "no inference worker is alive");
    else if (!has_weights(s, now_ms))
        why_no_weights(s, why);
    else if (s->newest_commit > s->drawn_commit && !orch_n_alive(s, ROLE_VERIFIER, now_ms))
        buf_printf(why, "submissions wait for a verifier, and none is alive");
    else if (orch_is_arrival(s))
        buf_printf(why, "batch %zu is being filled", s->n_batches);
    else
        why_batch(s, now_ms, why);
    return s->n_versions ? "training" : "warming up";
}

/* ---- the parts ------------------------------------------------------------------------- */

static json_t *units_json(const struct orch *s)
{
    uint64_t n[UNIT_GIVEN_UP + 1] = {0}, batched = 0, undrawn = 0;
    json_t *o = json_object();

    for (uint64_t i = 0; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        n[u ? u->state : UNIT_FREE]++;
        batched += u && u->is_batched;
        undrawn += u && u->state == UNIT_COMMITTED && !u->depth;
    }
    for (int i = UNIT_FREE; i <= UNIT_GIVEN_UP; i++)
        set_int(o, ledger_unit_state_name((enum ledger_unit_state)i), (int64_t)n[i]);
    set_int(o, "undrawn", (int64_t)undrawn);
    set_int(o, "batched", (int64_t)batched);
    set_int(o, "flat", (int64_t)s->n_flat);
    return o;
}

static json_t *reasons_json(const uint32_t n[REASON_COUNT])
{
    json_t *o = json_object();

    for (int i = 0; i < REASON_COUNT; i++)
        if (n[i])
            set_int(o, reason_name((enum reason)i), n[i]);
    return o;
}

static json_t *node_json(const struct orch *s, uint32_t i, int64_t now_ms)
{
    const struct orch_node *n = &s->node[i];
    const struct ledger_node *b = ledger_books_node(orch_books(s), &n->node);
    json_t *o = json_object();

    set_hex(o, "node", BYTES_OF(n->node.b));
    set_hex(o, "owner", BYTES_OF(n->owner.b));
    set_text(o, "role", role_name(n->role));
    json_object_set_new(o, "alive", json_boolean(orch_is_alive(s, i, now_ms)));
    json_object_set_new(o, "draining", json_boolean(n->is_draining));
    json_object_set_new(o, "barred", json_boolean(n->is_revoked));
    if (n->seen_ms)
        set_int(o, "silent_ms", now_ms - n->seen_ms);
    set_text(o, "endpoint", n->endpoint);
    set_text(o, "numerics", n->numerics);
    set_int(o, "version", n->newest_version);
    set_text(o, "waits", n->waits);
    set_int(o, "available", balance(s, ACCOUNT_AVAIL, &n->owner));
    set_int(o, "stake", balance(s, ACCOUNT_STAKE, &n->node));
    set_int(o, "pending", balance(s, ACCOUNT_PENDING, &n->node));
    set_int(o, "earned", b ? b->earned : 0);
    set_int(o, "holds", b ? (int64_t)b->n_live : 0);
    set_int(o, "submitted", b ? (int64_t)b->n_commits : 0);
    set_int(o, "accepted", b ? (int64_t)b->n_accepted : 0);
    set_int(o, "verdicts", b ? (int64_t)b->n_verdicts : 0);
    set_int(o, "contradicted", b ? (int64_t)b->n_contradicted : 0);
    set_int(o, "tokens", (int64_t)n->tokens_paid);
    json_object_set_new(o, "refused", reasons_json(n->refused));
    return o;
}

static json_t *nodes_json(const struct orch *s, int64_t now_ms)
{
    json_t *list = json_array();

    for (size_t i = 1; i < s->n_nodes; i++)
        json_array_append_new(list, node_json(s, (uint32_t)i, now_ms));
    return list;
}

/* Of the batch before the version, all its answers: groups of equal rewards, of which nothing is
 * learnt, would be missing in what the trainer says, and the better the model, the more of them. */
static void set_answers(json_t *o, const struct orch_batch *b)
{
    double n = b ? (double)b->answers.n : 0.0;

    set_float(o, "reward", n > 0 ? b->answers.reward / n : NAN);
    set_int(o, "answers", b ? (int64_t)b->answers.n : 0);
    set_float(o, "answer_tokens", n > 0 ? (double)b->answers.tokens / n : NAN);
    set_float(o, "ended", n > 0 ? (double)b->answers.n_ended / n : NAN);
    set_int(o, "units", b ? b->n_rows : 0);
    set_int(o, "flat", b ? b->n_flat : 0);
}

static json_t *version_json(const struct orch *s, size_t i)
{
    const struct orch_version *v = &s->version[i];
    json_t *o = json_object();

    set_int(o, "version", v->number);
    set_float(o, "time", (double)v->time_us / 1e6);
    set_answers(o, i && i <= s->n_batches ? &s->batch[i - 1] : NULL);
    set_float(o, "loss", (double)v->loss);
    set_float(o, "kl", (double)v->kl);
    set_float(o, "grad_norm", (double)v->grad_norm);
    set_int(o, "tokens", (int64_t)v->tokens_trained);
    set_int(o, "paid", v->paid);
    set_hex(o, "weights", BYTES_OF(v->weights.b));
    return o;
}

/* Versions that stand, from the index on, `most` of them. */
static json_t *versions_json(const struct orch *s, size_t from, size_t most)
{
    json_t *list = json_array();

    for (size_t i = from; i < s->n_versions && i - from < most; i++)
        json_array_append_new(list, version_json(s, i));
    return list;
}

/* Those of number `first` and above. */
static json_t *page_json(const struct orch *s, uint64_t first)
{
    json_t *o = json_object();
    size_t from = 0;

    while (from < s->n_versions && (uint64_t)s->version[from].number < first)
        from++;
    json_object_set_new(o, "versions", versions_json(s, from, PAGE));
    json_object_set_new(o, "more", json_boolean(s->n_versions - from > PAGE));
    return o;
}

/* By all the steps that stand, shown or not. */
static int64_t tokens_trained(const struct orch *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s->n_versions; i++)
        n += s->version[i].tokens_trained;
    return (int64_t)n;
}

static json_t *money_json(const struct orch *s)
{
    const struct ledger_task *task = ledger_books_task(orch_books(s));
    struct account escrow = account_of_task(ACCOUNT_ESCROW, &s->task_id);
    struct account reserved = account_of_task(ACCOUNT_RESERVED, &s->task_id);
    json_t *o = json_object();

    set_int(o, "deposit", task->open.deposit);
    set_int(o, "escrow", ledger_books_balance(orch_books(s), &escrow));
    set_int(o, "reserved", ledger_books_balance(orch_books(s), &reserved));
    set_int(o, "workers", task->paid_workers);
    set_int(o, "validators", task->paid_validators);
    set_int(o, "trainer", task->paid_trainer);
    set_int(o, "refunded", task->refunded);
    set_int(o, "slashed", task->slashed);
    return o;
}

static json_t *canaries_json(const struct orch *s)
{
    json_t *o = json_object();

    set_int(o, "revealed", (int64_t)s->n_canaries);
    set_int(o, "bad", (int64_t)s->canaries[LEDGER_CANARY_BAD]);
    set_int(o, "good", (int64_t)s->canaries[LEDGER_CANARY_GOOD]);
    set_int(o, "open", (int64_t)s->canaries[LEDGER_CANARY_OPEN]);
    return o;
}

static json_t *given_up_json(const struct orch *s)
{
    json_t *list = json_array();

    for (uint64_t i = 0; s->n_given_up && i < s->n_units; i++)
        if (orch_unit_state(s, i) == UNIT_GIVEN_UP)
            json_array_append_new(list, json_integer((json_int_t)i));
    return list;
}

static json_t *task_json(const struct orch *s)
{
    json_t *o = json_object();

    set_hex(o, "id", BYTES_OF(s->task_id.b));
    set_text(o, "name", s->task.name);
    set_text(o, "numerics", s->numerics);
    set_text(o, "order", s->task.algorithm.order);
    set_int(o, "units_per_batch", s->task.algorithm.units_per_batch);
    set_int(o, "group", s->task.sampling.group);
    set_int(o, "lag", s->task.algorithm.lag);
    set_int(o, "steps", s->task.algorithm.steps);
    return o;
}

static json_t *summary_json(const struct orch *s, int64_t now_ms)
{
    json_t *o = json_object(), *stale = json_array();
    struct buf why;

    buf_init(&why, 2048);
    set_hex(o, "run", BYTES_OF(orch_run_id(s)->b));
    set_text(o, "state", explain_state(s, now_ms, &why));
    set_text(o, "why", buf_cstr(&why));
    buf_clear(&why);
    set_int(o, "version", orch_head(s));
    set_int(o, "steps", s->has_task ? (int64_t)orch_n_steps(s) : 0);
    set_int(o, "batches", (int64_t)s->n_batches);
    set_int(o, "accepted", (int64_t)s->n_accepted);
    set_int(o, "tokens_trained", tokens_trained(s));
    json_object_set_new(o, "units", units_json(s));
    json_object_set_new(o, "given_up", given_up_json(s));
    json_object_set_new(o, "refused", reasons_json(s->rejected));
    json_object_set_new(o, "canaries", canaries_json(s));
    json_object_set_new(
        o, "recent",
        versions_json(s, s->n_versions > RECENT ? s->n_versions - RECENT : 0, RECENT));
    for (size_t i = 0; i < ORCH_STALE_BINS; i++)
        json_array_append_new(stale, json_integer((json_int_t)s->staleness[i]));
    json_object_set_new(o, "staleness", stale);
    set_int(o, "abandoned", (int64_t)s->n_abandoned);
    set_int(o, "draws", (int64_t)s->n_rounds);
    set_int(o, "roster", (int64_t)s->roster_seq);
    set_int(o, "entries", (int64_t)ledger_log_length(s->log));
    json_object_set_new(o, "task", s->has_task ? task_json(s) : json_null());
    if (s->has_task)
        json_object_set_new(o, "money", money_json(s));
    json_object_set_new(o, "nodes", nodes_json(s, now_ms));
    return o;
}

/* ---- the life of a unit ---------------------------------------------------------------- */

static void add_postings(json_t *o, const struct ledger_entry *en)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < en->n_postings; i++) {
        char name[ACCOUNT_TEXT_BYTES];
        json_t *p = json_object();
        account_text(name, &en->posting[i].account);
        set_text(p, "account", name);
        set_int(p, "ucr", en->posting[i].delta);
        json_array_append_new(list, p);
    }
    json_object_set_new(o, "postings", list);
}

static void add_lease(json_t *o, const struct ledger_lease *x)
{
    set_int(o, "attempt", x->attempt);
    set_int(o, "version", x->version);
    set_int(o, "reserve", x->reserve);
}

static void add_commit(json_t *o, const struct ledger_commit *x)
{
    set_int(o, "tokens", (int64_t)x->tokens);
    json_object_set_new(o, "flat", json_boolean(x->is_flat));
    set_hex(o, "root", BYTES_OF(x->root.b));
    set_hex(o, "envelope", BYTES_OF(x->envelope.b));
}

/* What the validator wrote into its VERDICT. */
static void add_verdict(struct orch *s, json_t *o, const struct ledger_verdict *x)
{
    struct msg_envelope m;
    struct msg_verdict v;

    set_text(o, "depth", x->depth == CHECK_FULL ? "full" : "light");
    json_object_set_new(o, "accepted", json_boolean(x->is_accepted));
    set_hex(o, "envelope", BYTES_OF(x->envelope.b));
    if (orch_read_blob(s, &x->envelope, NULL) ||
        msg_envelope_decode(&m, buf_bytes(&s->blob), NULL) ||
        msg_verdict_decode(&v, m.body, NULL))
        return;
    set_text(o, "text", v.text);
    if (x->is_accepted)
        return;
    set_int(o, "sample", v.sample);
    set_int(o, "position", v.position);
    set_hex(o, "claimed", BYTES_OF(v.claimed));
    set_hex(o, "found", BYTES_OF(v.found));
}

static void add_draw(struct orch *s, json_t *o, const struct ledger_draw *x, uint64_t unit)
{
    set_int(o, "round", (int64_t)x->round);
    set_hex(o, "beacon", BYTES_OF(x->value.b));
    for (uint32_t i = 0; i < x->n_rows; i++) {
        const struct ledger_draw_row *row = &x->row[i];
        json_t *to = json_array();
        char who[17];
        if (row->unit != unit) {
            json_decref(to);
            continue;
        }
        for (uint32_t k = 0; k < row->n_assigned; k++) {
            orch_node_short(who, s, orch_find_node(s, &x->candidate[row->assigned[k]]));
            json_array_append_new(to, json_string(who));
        }
        set_text(o, "depth", row->depth == CHECK_FULL ? "full" : "light");
        set_float(o, "probability", (double)row->probability / (double)LEDGER_ONE);
        json_object_set_new(o, "validators", to);
    }
}

static void add_body(struct orch *s, json_t *o, const struct ledger_entry *en, uint64_t unit)
{
    union ledger_body *b = s->make;

    if (ledger_body_decode(b, en->type, en->body, NULL))
        return;
    switch (en->type) {
    case LEDGER_LEASE: add_lease(o, &b->lease_); break;
    case LEDGER_COMMIT: add_commit(o, &b->commit_); break;
    case LEDGER_DRAW: add_draw(s, o, &b->draw_, unit); break;
    case LEDGER_VERDICT: add_verdict(s, o, &b->verdict_); break;
    default: break;
    }
}

static json_t *fact_json(struct orch *s, uint64_t seq, uint64_t unit)
{
    const struct orch_fact *f = &s->fact[seq];
    json_t *o = json_object();
    struct ledger_entry en;
    struct buf raw;
    char who[17];

    set_int(o, "seq", (int64_t)seq);
    set_text(o, "type", ledger_type_name((enum ledger_type)f->type));
    set_text(o, "what", ledger_type_text((enum ledger_type)f->type));
    if (f->node != ORCH_NONE_NODE) {
        orch_node_short(who, s, f->node);
        set_text(o, "node", who);
    }
    if (f->code) {
        set_text(o, "reason", reason_name((enum reason)f->code));
        set_text(o, "why", reason_text((enum reason)f->code));
    }
    buf_init(&raw, LEDGER_ENTRY_MAX);
    if (!s->opt.store.entry(s->opt.store.ctx, seq, &raw, NULL) &&
        !ledger_entry_decode(&en, buf_bytes(&raw), NULL)) {
        set_int(o, "time_us", en.time_us);
        add_body(s, o, &en, unit);
        add_postings(o, &en);
    }
    buf_clear(&raw);
    return o;
}

/* The DRAW of a commit: the first that reaches it, if the attempt had not ended before. */
static uint64_t find_draw(const struct orch *s, uint64_t commit, uint64_t before)
{
    for (uint64_t i = commit + 1; i < before && i < s->n_facts; i++)
        if (s->fact[i].type == LEDGER_DRAW && s->fact[i].lease >= commit)
            return i;
    return 0;
}

static void add_life(struct orch *s, json_t *list, uint64_t unit)
{
    uint64_t later = s->n_facts;

    for (uint64_t i = s->unit[unit].last_fact; i; later = i, i = s->fact[i].before) {
        uint64_t draw = s->fact[i].type == LEDGER_COMMIT ? find_draw(s, i, later) : 0;
        if (draw)
            json_array_insert_new(list, 0, fact_json(s, draw, unit));
        json_array_insert_new(list, 0, fact_json(s, i, unit));
    }
}

static void add_batch(const struct orch *s, json_t *o, uint64_t unit)
{
    for (size_t b = 0; b < s->n_batches; b++)
        for (uint32_t i = 0; i < s->batch[b].n_rows; i++) {
            if (s->batch[b].row[i].unit != unit)
                continue;
            set_int(o, "batch", (int64_t)b);
            set_int(o, "batch_seq", (int64_t)s->batch[b].seq);
            set_text(o, "use",
                     s->batch[b].row[i].use == LEDGER_TRAINED ? "trained"
                     : s->batch[b].row[i].use == LEDGER_FLAT  ? "flat"
                                                              : "given up");
        }
}

static json_t *explain_json(struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    json_t *o = json_object(), *life = json_array();
    char who[17];

    set_int(o, "unit", (int64_t)unit);
    if (!u || unit >= s->n_units) {
        set_text(o, "state", "free");
        set_text(o, "why", "it was never leased");
        json_object_set_new(o, "life", life);
        return o;
    }
    set_text(o, "state", ledger_unit_state_name(u->state));
    set_int(o, "attempts", u->attempt);
    if (u->watch.code) {
        set_text(o, "watch", reason_name((enum reason)u->watch.code));
        set_int(o, "watch_other", (int64_t)u->watch.other);
        set_int(o, "watch_at", u->watch.at);
    }
    if (u->state != UNIT_FREE && u->state != UNIT_GIVEN_UP) {
        orch_node_short(who, s, s->unit[unit].worker);
        set_text(o, "worker", who);
        set_int(o, "version", u->version);
        set_int(o, "paid", u->paid);
    }
    add_batch(s, o, unit);
    add_life(s, life, unit);
    json_object_set_new(o, "life", life);
    return o;
}

static json_t *settings_json(const struct orch *s)
{
    json_t *o = json_object();
    struct buf text;

    if (!s->has_task)
        return o;
    buf_init(&text, 1u << 20);
    task_print(&text, &s->task);
    json_object_set_new(o, "task", task_json(s));
    set_text(o, "settings", buf_cstr(&text));
    json_object_set_new(o, "money", money_json(s));
    buf_clear(&text);
    return o;
}

/* ---- the answer ------------------------------------------------------------------------ */

void orch_status(struct orch *s, enum status_view what, uint64_t number, int64_t now_ms,
                 struct buf *json)
{
    json_t *o;
    char *text;

    if (what == STATUS_EXPLAIN) {
        o = explain_json(s, number);
    } else if (what == STATUS_TASK) {
        o = settings_json(s);
    } else if (what == STATUS_NODES) {
        o = json_object();
        json_object_set_new(o, "nodes", nodes_json(s, now_ms));
    } else if (what == STATUS_VERSIONS) {
        o = page_json(s, number);
    } else {
        o = summary_json(s, now_ms);
    }
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    buf_printf(json, "%s", text ? text : "{}");
    free(text);
}

void orch_on_status_ask(struct orch *s, struct turn *t)
{
    struct msg_status_ask ask;
    struct msg_status m;
    struct buf json;

    if (msg_status_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "STATUS_ASK does not decode");
        return;
    }
    if (ask.what == STATUS_SHARDS || ask.what < STATUS_SUMMARY || ask.what > STATUS_VERSIONS) {
        orch_refuse(s, t, REASON_UNSUPPORTED, "the orchestrator has no such view");
        return;
    }
    if (!orch_may_look(s, t))
        return;
    buf_init(&json, MSG_MAX_BYTES / 2);
    orch_status(s, (enum status_view)ask.what, ask.number, t->now_ms, &json);
    m.json = buf_bytes(&json);
    buf_reset(&s->body);
    CHECK(!msg_status_encode(&s->body, &m, NULL));
    orch_show_body(s, t, MSG_STATUS);
    buf_clear(&json);
}
