/* Draws, checks, verdicts, and what becomes of a unit. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

/* ---- draws ----------------------------------------------------------------------------- */

void orch_start_draw(struct orch *s, struct turn *t)
{
    uint64_t wanted = s->round > s->newest_commit ? s->round : s->newest_commit;

    if (s->is_draw_started || wanted <= s->durable_commit)
        return;
    s->is_draw_started = true;
    effects_start(t->out, ORCH_JOB_DRAW, wanted, (struct bytes){NULL, 0});
}

/* Validators that are there now. */
static uint32_t list_candidates(const struct orch *s, const struct turn *t,
                                struct public_key out[LEDGER_CANDIDATES_MAX])
{
    uint32_t n = 0;

    for (size_t i = 1; i < s->n_nodes && n < LEDGER_CANDIDATES_MAX; i++)
        if (s->node[i].role == ROLE_VERIFIER && !s->node[i].is_draining &&
            orch_is_alive(s, (uint32_t)i, t->now_ms) &&
            ledger_books_has_bond(orch_books(s), &s->node[i].node))
            out[n++] = s->node[i].node;
    return n;
}

/* Leaves out commits that are not known to be on disk: were they lost with the reveal made, a
 * worker could commit to the unit again and know the draw. */
static void keep_durable(struct ledger_draw *d, const struct orch *s)
{
    uint32_t n = 0;

    if (d->through <= s->durable_commit || s->task.acceptance.witnesses)
        return; /* what a round's HEAD covers was written with it */
    for (uint32_t i = 0; i < d->n_rows; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), d->row[i].unit);
        if (u->commit <= s->durable_commit)
            d->row[n++] = d->row[i];
    }
    d->n_rows = n;
    d->through = s->durable_commit;
}

void orch_draw(struct orch *s, struct turn *t)
{
    struct public_key candidate[LEDGER_CANDIDATES_MAX];
    struct ledger_draw *d = &s->make->draw_;
    struct ledger_salts salts = orch_salts(s);
    struct digest value;
    struct err e;
    uint32_t n;

    if (!orch_is_open(s) || s->newest_commit <= s->drawn_commit ||
        s->durable_commit <= s->drawn_commit)
        return;
    n = list_candidates(s, t, candidate);
    if (n && !orch_round_is_ready(s, t))
        return;
    if (!n)
        return; /* a unit without a verdict is neither paid nor trained on: it waits */
    if (beacon_value(&value, s->beacon, s->n_rounds + 1, &e)) {
        s->is_stopped = true;
        snprintf(s->why_stopped, sizeof(s->why_stopped),
                 "the beacon is used up after %" PRIu64 " rounds", s->n_rounds);
        return;
    }
    ledger_draw_build(d, orch_books(s), &value, candidate, n, &salts);
    keep_durable(d, s);
    if (!d->n_rows && !s->task.acceptance.witnesses) {
        s->drawn_commit = s->durable_commit; /* what was committed is void by now */
        return;
    }
    if (orch_append_draw(s, t, d, BY_ITSELF, NULL, NULL))
        s->drawn_commit = s->durable_commit;
    else
        orch_call_openers(s, t);
}

/* ---- handing out checks ---------------------------------------------------------------- */

struct orch_check *orch_find_check(struct orch *s, uint64_t unit, uint32_t node)
{
    struct orch_unit *u =
        unit < s->n_units ? &s->unit[unit] : NULL; /* a message may name any */

    for (uint32_t i = 0; u && i < u->n_checks; i++)
        if (u->check[i].node == node)
            return &u->check[i];
    return NULL;
}

static void send_check(struct orch *s, struct turn *t, uint64_t unit, struct orch_check *c)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct msg_check m = {.unit = unit,
                          .lease = u->lease,
                          .depth = c->depth,
                          .deadline_ms = (uint32_t)s->task.leases.check_ms};
    struct public_key peer[LEDGER_OPENED_MAX];
    size_t n_submission;
    struct err e;

    if (orch_read_blob(s, &u->envelope, &e)) {
        orch_note(s, 'E', "submission of unit=%" PRIu64 " cannot be read: %s", unit, e.text);
        orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "the submission cannot be read");
        return;
    }
    n_submission = s->blob.len;
    if (c->depth == CHECK_FULL && !digest_is_zero(&u->opening) &&
        s->opt.store.blob(s->opt.store.ctx, &u->opening, &s->blob, &e)) {
        orch_wait(s, t, REASON_NO_WORK, ORCH_RETRY_MS, "the opening came just now");
        return;
    }
    c->sent_ms = t->now_ms;
    m.submission = bytes_slice(buf_bytes(&s->blob), 0, n_submission);
    m.opening = bytes_slice(buf_bytes(&s->blob), n_submission, s->blob.len - n_submission);
    if (c->depth == CHECK_FULL && ledger_books_task(orch_books(s))->open.recheck_rate) {
        m.draw = ledger_books_drawn(orch_books(s), unit);
        m.peers.data = (const uint8_t *)peer;
        m.peers.len =
            KEY_BYTES * ledger_books_peers(orch_books(s), unit, &s->node[c->node].node, peer);
    }
    s->node[t->from].waits[0] = 0;
    buf_reset(&s->body);
    CHECK(!msg_check_encode(&s->body, &m, NULL));
    orch_answer(s, t, MSG_CHECK);
}

/* The next check for this validator: one it was not sent yet, else the one sent longest ago. */
static struct orch_check *next_check(struct orch *s, struct turn *t,
                                     const struct msg_check_ask *ask, uint64_t *unit,
                                     int64_t *wanted, uint32_t *n_sent)
{
    struct orch_check *best = NULL;
    bool is_ripe = orch_light_is_ripe(s, t);
    int64_t light_ms = 0;

    *wanted = -1;
    *n_sent = 0;
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        struct orch_check *c =
            u && u->state == UNIT_COMMITTED ? orch_find_check(s, i, t->from) : NULL;
        if (!c || c->is_over || c->is_lost || orch_is_held(s, t, i, c) ||
            (c->depth == CHECK_FULL ? orch_awaits_opening(s, t, i) : !is_ripe))
            continue;
        if (u->version < ask->oldest_version || u->version > ask->newest_version) {
            *wanted = u->version;
            continue;
        }
        if (c->sent_ms && (c->depth == CHECK_FULL || c->sent_ms != light_ms)) {
            (*n_sent)++; /* light ones went out together */
            light_ms = c->depth == CHECK_LIGHT ? c->sent_ms : light_ms;
        }
        if (best && best->sent_ms <= c->sent_ms)
            continue;
        best = c;
        *unit = i;
        if (!c->sent_ms)
            break;
    }
    return best;
}

void orch_on_check_ask(struct orch *s, struct turn *t)
{
    struct msg_check_ask ask;
    struct orch_check *c;
    uint64_t unit = 0;
    int64_t wanted, again_ms;
    uint32_t n_sent;

    if (msg_check_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "CHECK_ASK does not decode");
        return;
    }
    s->node[t->from].asked_ms = t->now_ms;
    if (!s->has_task) {
        orch_wait(s, t, REASON_NO_TASK, ORCH_RETRY_FAR, "no task is open yet");
        return;
    }
    if (orch_is_done(s)) {
        orch_wait(s, t, REASON_DONE, ORCH_RETRY_FAR, "the run is over");
        return;
    }
    if (!ledger_books_has_bond(orch_books(s), &s->node[t->from].node)) {
        orch_wait(s, t, REASON_NO_STAKE, ORCH_RETRY_FAR,
                  "stake is below the %" PRId64 " ucr that a validator must have",
                  ledger_books_task(orch_books(s))->open.bond_required);
        return;
    }
    c = next_check(s, t, &ask, &unit, &wanted, &n_sent);
    /* A validator asks for one more while it is at one: with two out, it has lost one. */
    again_ms = n_sent > 1 ? ORCH_RESEND_MS : ORCH_RESEND_LONE;
    if (c && c->depth == CHECK_LIGHT && again_ms < s->task.leases.check_ms / 2)
        again_ms = s->task.leases.check_ms / 2; /* many at once take longer */
    if (c && (!c->sent_ms || t->now_ms - c->sent_ms >= again_ms)) {
        if (c->depth == CHECK_LIGHT)
            orch_send_light(s, t, &ask, unit);
        else
            send_check(s, t, unit, c);
    } else if (c)
        orch_wait(s, t, REASON_NO_WORK, ORCH_RETRY_MS,
                  "this validator's checks were sent to it");
    else if (wanted >= 0)
        orch_wait(s, t, REASON_WANT_VERSION, ORCH_RETRY_MS,
                  "a check needs weights of version %" PRId64, wanted);
    else if (s->node[t->from].is_draining)
        orch_wait(s, t, REASON_DRAINING, ORCH_RETRY_FAR, "this node is draining");
    else
        orch_wait(s, t, REASON_NO_WORK, ORCH_RETRY_MS, "nothing is drawn for this validator");
}

/* ---- verdicts -------------------------------------------------------------------------- */

static bool has_opinion(const struct ledger_unit *u, const struct public_key *node)
{
    for (uint32_t i = 0; i < u->n_opinions; i++)
        if (key_equal(&u->opinion[i].validator, node))
            return true;
    return false;
}

/* A validator for another opinion on the unit: alive, not asked before; of another owner than
 * the worker's and than those who judged, where there is one. ORCH_NONE_NODE: nobody. */
static uint32_t pick_validator(struct orch *s, const struct turn *t, uint64_t unit,
                               uint32_t not_this)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    const struct public_key *owner = &s->node[s->unit[unit].worker].owner;
    uint32_t best = ORCH_NONE_NODE;
    size_t n = s->n_nodes - 1;

    for (size_t k = 0; k < n; k++) {
        uint32_t i = 1 + (uint32_t)((unit + k) % n); /* spread over the validators */
        const struct orch_node *v = &s->node[i];
        const struct orch_check *c = orch_find_check(s, unit, i);
        if (v->role != ROLE_VERIFIER || v->is_draining || i == not_this || (c && !c->is_over) ||
            !orch_is_alive(s, i, t->now_ms) || has_opinion(u, &v->node) ||
            !ledger_books_has_bond(orch_books(s), &v->node))
            continue;
        if (u->n_opinions && ledger_books_seal(orch_books(s), unit, &v->node))
            continue; /* it sealed and did not show: it cannot seal anew */
        if (best == ORCH_NONE_NODE)
            best = i;
        if (key_equal(&v->owner, owner))
            continue;
        return i;
    }
    return best;
}

static bool assign(struct orch *s, struct turn *t, uint64_t unit, uint32_t from, uint32_t to,
                   uint32_t depth)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_assign a = {
        .unit = unit, .lease = u->lease, .to = s->node[to].node, .depth = depth};
    char who[17];

    if (from != ORCH_NONE_NODE)
        a.from = s->node[from].node;
    orch_node_short(who, s, to);
    orch_note(s, 'I', "assign unit=%" PRIu64 " validator=%s why=%s", unit, who,
              from == ORCH_NONE_NODE ? "opinion" : "late");
    return !orch_append_assign(s, t, &a, BY_ITSELF, NULL, NULL);
}

bool orch_ask_another(struct orch *s, struct turn *t, uint64_t unit)
{
    uint32_t to = pick_validator(s, t, unit, ORCH_NONE_NODE);

    return to != ORCH_NONE_NODE && assign(s, t, unit, ORCH_NONE_NODE, to, CHECK_FULL);
}

/* Is another opinion coming, or could it be asked for just now? */
static bool another_opinion(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct orch_unit *u = orch_unit_at(s, unit);

    for (uint32_t i = 0; i < u->n_checks; i++)
        if (!u->check[i].is_over && !u->check[i].is_skipped &&
            orch_is_alive(s, u->check[i].node, t->now_ms))
            return true;
    return orch_ask_another(s, t, unit);
}

static void accept_unit(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_accept a = {.unit = unit,
                              .lease = u->lease,
                              .is_sole =
                                  orch_is_rechecked(s, unit) && orch_count_full(s, unit) < 2,
                              .salt = orch_salt_shown(s, unit)};

    if (orch_append_accept(s, t, &a, BY_ITSELF, NULL, NULL)) {
        orch_void(s, t, unit, REASON_INTERNAL);
        return;
    }
    s->node[s->unit[unit].worker].n_failed = 0;
    orch_judge_canary(s, t, unit);
}

static void reject_soft(struct orch *s, struct turn *t, uint64_t unit, uint32_t code)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    uint32_t worker = s->unit[unit].worker;
    struct ledger_reject_soft r = {
        .unit = unit, .lease = u->lease, .code = code, .salt = orch_salt_shown(s, unit)};
    struct ledger_node_revoke bar = {.node = s->node[worker].node, .code = code};
    char who[17];

    orch_node_short(who, s, worker);
    orch_note(s, 'W', "rejected unit=%" PRIu64 " worker=%s why=%s", unit, who,
              reason_name((enum reason)code));
    if (orch_append_reject_soft(s, t, &r, BY_ITSELF, NULL, NULL))
        return;
    orch_failed(s, t, worker, (enum reason)code);
    orch_maybe_give_up(s, t, unit, (enum reason)code);
    if (s->node[worker].n_opinions < ORCH_OPINIONS || s->node[worker].is_revoked)
        return;
    orch_note(s, 'W', "barred worker=%s why=%s", who, reason_name((enum reason)code));
    if (!orch_append_node_revoke(s, t, &bar, BY_ITSELF, NULL, NULL))
        orch_sweep_barred(s, t); /* its stake stays its own: opinions cost no money */
}

static void reject_hard(struct orch *s, struct turn *t, uint64_t unit, uint32_t code,
                        bool is_sole)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    uint32_t worker = s->unit[unit].worker;
    struct ledger_reject_hard r = {.unit = unit,
                                   .lease = u->lease,
                                   .code = code,
                                   .is_sole = is_sole,
                                   .salt = orch_salt_shown(s, unit)};
    struct ledger_node_revoke bar = {.node = s->node[worker].node, .code = code};
    char who[17];

    orch_node_short(who, s, worker);
    orch_note(s, 'W', "slashed worker=%s unit=%" PRIu64 " why=%s", who, unit,
              reason_name((enum reason)code));
    if (orch_append_reject_hard(s, t, &r, BY_ITSELF, NULL, NULL) ||
        orch_append_node_revoke(s, t, &bar, BY_ITSELF, NULL, NULL))
        return;
    orch_maybe_give_up(s, t, unit, (enum reason)code);
    orch_sweep_barred(s, t);
}

/* Was the unit drawn for two full checks, or do those made disagree about what they found? */
static bool wants_more(struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);

    return u->n_opinions && ((orch_is_rechecked(s, unit) && orch_count_full(s, unit) < 2) ||
                             ledger_books_states_differ(orch_books(s), unit));
}

void orch_judge(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    uint32_t n_accept = 0, n_hard = 0, n_soft = 0, n_deep = 0, soft = 0, hard = 0;

    if (u->n_opinions && orch_is_canary(s, unit)) {
        orch_reveal(s, t, unit);
        return;
    }
    orch_judge_states(s, t, unit);
    if (wants_more(s, unit) && another_opinion(s, t, unit))
        return;
    for (uint32_t i = 0; i < u->n_opinions; i++) {
        const struct ledger_opinion *o = &u->opinion[i];
        if (o->is_accepted) {
            n_accept++;
            n_deep += o->depth >= u->depth;
        } else if (reason_is_hard((enum reason)o->code)) {
            hard = n_hard++ ? hard : o->code;
        } else {
            soft = n_soft++ ? soft : o->code;
        }
    }
    if (n_hard >= 2 && n_hard > n_accept)
        reject_hard(s, t, unit, hard, false);
    else if (n_deep && n_accept >= 2 * n_hard && n_accept > n_soft)
        accept_unit(s, t, unit);
    else if (n_soft)
        reject_soft(s, t, unit, soft);
    else if (!n_hard || another_opinion(s, t, unit))
        return; /* no verdict yet, or one more is wanted and coming */
    else if (!n_accept)
        reject_hard(s, t, unit, hard, true);
    else
        orch_void(s, t, unit, REASON_NONE); /* one word against one: nobody is slashed */
}

/* Is this a verdict on a live check of this validator? REASON_NONE, or why not. */
enum reason orch_check_verdict(struct orch *s, const struct turn *t,
                               const struct msg_verdict *m)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), m->unit);
    const struct orch_check *c;

    if (!u || u->state != UNIT_COMMITTED || u->lease != m->lease)
        return REASON_DUPLICATE;
    c = orch_find_check(s, m->unit, t->from);
    if (!c || !digest_equal(&m->submission, &u->envelope))
        return REASON_NO_LEASE;
    if (has_opinion(u, &s->node[t->from].node))
        return REASON_DUPLICATE;
    if (m->depth < c->depth || m->depth > CHECK_FULL || m->code >= REASON_COUNT ||
        m->is_accepted != (m->code == REASON_NONE) ||
        (m->code == REASON_UNOPENED && !digest_is_zero(&u->opening)) ||
        m->opened.len > LEDGER_OPENED_MAX * sizeof(struct ledger_opened))
        return REASON_BOUNDS;
    return REASON_NONE;
}

/* The VERDICT entry this validator made for the attempt before. */
static bool find_verdict(const struct orch *s, const struct turn *t,
                         const struct msg_verdict *m, uint64_t *seq)
{
    uint64_t i = m->unit < s->n_units ? s->unit[m->unit].last_fact : 0;

    for (; i; i = s->fact[i].before)
        if (s->fact[i].type == LEDGER_VERDICT && s->fact[i].lease == m->lease &&
            s->fact[i].node == t->from) {
            *seq = i;
            return true;
        }
    return false;
}

void orch_on_verdict(struct orch *s, struct turn *t)
{
    struct msg_verdict m;
    struct ledger_verdict v;
    enum reason why;
    uint64_t seq;
    struct err e;

    if (msg_verdict_decode(&m, t->m->body, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (find_verdict(s, t, &m, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    why = orch_check_verdict(s, t, &m);
    if (why != REASON_NONE) {
        orch_receipt_refused(s, t, 0, why, "unit %" PRIu64 " lease %" PRIu64 ": %s", m.unit,
                             m.lease,
                             why == REASON_DUPLICATE ? "it is decided" : reason_text(why));
        return;
    }
    v = (struct ledger_verdict){.unit = m.unit,
                                .lease = m.lease,
                                .validator = s->node[t->from].node,
                                .depth = m.depth,
                                .is_accepted = m.is_accepted,
                                .code = m.code,
                                .states = m.states};
    v.n_opened = (uint32_t)(m.opened.len / sizeof(v.opened[0]));
    if (v.n_opened)
        memcpy(v.opened, m.opened.data, m.opened.len);
    digest_of(&v.envelope, t->m->raw);
    if (orch_append_verdict(s, t, &v, AS_ANSWER, NULL, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    if (!m.is_accepted)
        orch_note(s, 'W', "verdict unit=%" PRIu64 " why=%s sample=%u position=%u text=\"%s\"",
                  m.unit, reason_name((enum reason)m.code), m.sample, m.position, m.text);
    orch_judge(s, t, m.unit);
    orch_receipt(s, t, seq);
}

/* ---- at each tick ---------------------------------------------------------------------- */

void orch_sweep_barred(struct orch *s, struct turn *t)
{
    bool any = false;

    for (size_t i = 1; i < s->n_nodes; i++)
        any |= s->node[i].is_revoked;
    if (!any)
        return;
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        if (u && !u->is_batched && s->node[s->unit[i].worker].is_revoked &&
            (u->state == UNIT_LEASED || u->state == UNIT_COMMITTED ||
             u->state == UNIT_ACCEPTED))
            orch_void(s, t, i, REASON_REVOKED);
    }
}

static bool is_late(const struct orch *s, const struct turn *t, uint64_t unit,
                    const struct orch_check *c)
{
    const struct orch_node *v = &s->node[c->node];
    int64_t most = s->task.leases.check_ms;

    if (v->is_revoked || c->is_lost || !orch_is_alive(s, c->node, t->now_ms))
        return true;
    if (orch_is_held(s, t, unit, c))
        return false; /* it waits for the others */
    if (c->sent_ms)
        return t->now_ms - c->sent_ms >= most;
    return t->now_ms - c->since_ms >= most && t->now_ms - v->asked_ms >= most;
}

static void look_after_unit(struct orch *s, struct turn *t, uint64_t unit)
{
    const struct ledger_unit *lu = ledger_books_unit(orch_books(s), unit);
    struct orch_unit *u = &s->unit[unit];
    bool is_watched = false;
    uint32_t to;

    for (uint32_t i = 0; i < u->n_checks; i++) {
        struct orch_check *c = &u->check[i];
        if (c->is_over)
            continue;
        if (!c->since_ms)
            c->since_ms = t->now_ms;
        if (c->depth == CHECK_FULL && orch_awaits_opening(s, t, unit)) {
            c->since_ms = t->now_ms; /* nobody is asked for it yet */
        } else if (is_late(s, t, unit, c)) {
            bool is_enough = u->n_checks > 2 && orch_has_held(s, t, unit); /* others wait */

            to = is_enough ? ORCH_NONE_NODE : pick_validator(s, t, unit, c->node);
            if (to != ORCH_NONE_NODE) {
                assign(s, t, unit, c->node, to, c->depth);
                return;
            }
            c->since_ms = t->now_ms; /* nobody else is there: it stays with this one */
            c->sent_ms = 0;
            c->is_skipped = lu->n_opinions || orch_has_held(s, t, unit);
        }
        is_watched = true;
    }
    orch_show(s, t, unit);
    if (lu->n_opinions) {
        orch_judge(s, t, unit);
    } else if (!is_watched) {
        to = pick_validator(s, t, unit, ORCH_NONE_NODE);
        if (to != ORCH_NONE_NODE)
            assign(s, t, unit, ORCH_NONE_NODE, to, lu->depth);
    }
}

void orch_look_after_checks(struct orch *s, struct turn *t)
{
    if (s->is_stopped)
        return;
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        if (u && u->state == UNIT_COMMITTED && u->depth)
            look_after_unit(s, t, i);
        else
            orch_judge_canary(s, t, i);
    }
}
