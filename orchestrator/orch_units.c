/* Leases and submissions. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/canary.h"
#include "proto/digest.h"
#include "proto/submission.h"

#define AGAIN_AFTER_MS 5000 /* a worker that failed a unit gets it again only after so long */
/* Two workers that send each other's refused units back at once would have used up a batch's attempts in a second. */
#define FAILURES_FREE 2u       /* in a row; then */
#define FAILED_MS     5000     /* it waits so long, and twice that after each more, */
#define FAILED_MAX    (1 << 5) /* at most this often that */

uint64_t orch_batch_size(const struct orch *s)
{
    return (uint64_t)s->task.algorithm.units_per_batch;
}

uint64_t orch_n_steps(const struct orch *s)
{
    return (uint64_t)s->task.algorithm.steps;
}

bool orch_is_arrival(const struct orch *s)
{
    return !strcmp(s->task.algorithm.order, "arrival");
}

enum ledger_unit_state orch_unit_state(const struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);

    return u ? u->state : UNIT_FREE;
}

/* Would the batch trained next, or a later one, still take a unit of this version? */
static bool is_fresh(const struct orch *s, int64_t version)
{
    return orch_head(s) - version <= s->task.algorithm.max_staleness;
}

/* Order arrival: units to be made or under way, and accepted ones that wait for a batch. */
static uint64_t count_useful(const struct orch *s)
{
    uint64_t n = 0;

    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), i);
        n += !u || u->state == UNIT_FREE || u->state == UNIT_LEASED ||
             u->state == UNIT_COMMITTED ||
             (u->state == UNIT_ACCEPTED && !u->is_batched && !u->is_flat &&
              is_fresh(s, u->version));
    }
    return n;
}

static uint64_t limit_by_number(const struct orch *s)
{
    uint64_t batches = s->n_versions + (uint64_t)s->task.algorithm.lag;

    if (batches > orch_n_steps(s))
        batches = orch_n_steps(s);
    return batches * orch_batch_size(s);
}

static uint64_t limit_by_arrival(const struct orch *s)
{
    uint64_t ahead = s->n_versions + (uint64_t)s->task.algorithm.lag, useful, wanted;

    if (ahead > orch_n_steps(s))
        ahead = orch_n_steps(s);
    if (ahead <= s->n_batches)
        return s->first_open;
    wanted = (ahead - s->n_batches) * orch_batch_size(s);
    useful = count_useful(s);
    wanted = wanted > useful ? s->n_units + wanted - useful : s->n_units;
    return wanted < ORCH_UNITS_MAX ? wanted : ORCH_UNITS_MAX;
}

uint64_t orch_unit_limit(const struct orch *s)
{
    if (!s->n_versions)
        return 0;
    return orch_is_arrival(s) ? limit_by_arrival(s) : limit_by_number(s);
}

int64_t orch_unit_version(const struct orch *s, uint64_t unit)
{
    uint64_t batch = unit / orch_batch_size(s), lag = (uint64_t)s->task.algorithm.lag;
    uint64_t nth = batch > lag ? batch - lag : 0;

    if (orch_is_arrival(s)) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
        bool again = orch_has_canary(s, unit) && is_fresh(s, u->canary->version);
        return again ? u->canary->version : orch_head(s);
    }
    return nth < s->n_versions ? s->version[nth].number : -1;
}

/* Moves first_open over units that nothing will happen to any more. */
static void advance(struct orch *s)
{
    for (; s->first_open < s->n_units; s->first_open++) {
        const struct ledger_unit *u = ledger_books_unit(orch_books(s), s->first_open);
        bool is_late =
            u && u->state == UNIT_ACCEPTED && orch_is_arrival(s) &&
            (u->is_flat ? s->n_batches >= orch_n_steps(s) : !is_fresh(s, u->version));
        if (!u || !(u->is_batched || u->state == UNIT_GIVEN_UP || is_late))
            break;
        if (u->state == UNIT_GIVEN_UP && !orch_is_arrival(s) &&
            s->first_open / orch_batch_size(s) >= s->n_batches)
            break;
    }
}

/* ---- ends of attempts ------------------------------------------------------------------ */

void orch_maybe_give_up(struct orch *s, struct turn *t, uint64_t unit, enum reason code)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_giveup g = {.unit = unit, .code = (uint32_t)code};

    orch_unit_at(s, unit)->failed_ms = t->now_ms;
    if (!u || u->state != UNIT_FREE ||
        (int64_t)(u->attempt - u->n_canaries) < s->task.leases.tries || orch_is_done(s))
        return;
    if (!orch_append_giveup(s, t, &g, BY_ITSELF, NULL, NULL))
        orch_note(s, 'W', "gave up unit=%" PRIu64 " attempts=%u why=%s", unit, u->attempt,
                  reason_name(code));
}

void orch_failed(struct orch *s, struct turn *t, uint32_t worker, enum reason code)
{
    struct orch_node *n = &s->node[worker];

    n->n_failed += code != REASON_EXPIRED || n->failed_ms != t->now_ms; /* together: once */
    n->failed_ms = t->now_ms;
}

/* For how long a worker whose attempts come to nothing gets no more. */
static int64_t time_to_rest_ms(const struct orch *s, const struct turn *t)
{
    const struct orch_node *n = &s->node[t->from];
    uint32_t more = n->n_failed > FAILURES_FREE ? n->n_failed - FAILURES_FREE - 1 : 0;
    int64_t times = more < 31 && 1 << more < FAILED_MAX ? 1 << more : FAILED_MAX;

    if (n->n_failed <= FAILURES_FREE || orch_n_alive(s, ROLE_INFERENCE, t->now_ms) < 2)
        return 0; /* nobody else is there to do better */
    return n->failed_ms + FAILED_MS * times - t->now_ms;
}

/* Is it the worker's doing that the attempt ends so? */
static bool is_failure(enum reason code)
{
    return code != REASON_NONE && code != REASON_DONE && code != REASON_STALE &&
           code != REASON_REVOKED && code != REASON_INTERNAL;
}

void orch_void(struct orch *s, struct turn *t, uint64_t unit, enum reason code)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_void v = {.unit = unit,
                            .lease = u->lease,
                            .code = (uint32_t)code,
                            .salt = orch_salt_shown(s, unit)};
    char who[17];

    if (u->state == UNIT_COMMITTED && u->n_opinions && orch_is_canary(s, unit)) {
        orch_reveal(s, t, unit); /* what was said of it stays on record */
        return;
    }
    orch_node_short(who, s, orch_unit_at(s, unit)->worker);
    if (orch_append_void(s, t, &v, BY_ITSELF, NULL, NULL))
        return;
    orch_note(s, code == REASON_DONE ? 'I' : 'W', "void unit=%" PRIu64 " worker=%s why=%s",
              unit, who, reason_name(code));
    if (is_failure(code))
        orch_failed(s, t, s->unit[unit].worker, code);
    if (code != REASON_DONE)
        orch_maybe_give_up(s, t, unit, code);
}

/* Order arrival: a submission that the run has left behind before its verdict. It could go into
 * no batch, and nobody may have its weights any more to check it with. */
static bool is_left_behind(const struct orch *s, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);

    return orch_is_arrival(s) && u && u->state == UNIT_COMMITTED && !is_fresh(s, u->version);
}

void orch_expire(struct orch *s, struct turn *t)
{
    advance(s);
    for (uint64_t i = s->first_open; i < s->n_units; i++) {
        struct orch_unit *u = &s->unit[i];
        if (!s->is_stopped && is_left_behind(s, i))
            orch_void(s, t, i, REASON_STALE);
        if (orch_unit_state(s, i) != UNIT_LEASED)
            continue;
        if (!u->deadline_ms) {
            u->deadline_ms = t->now_ms + s->task.leases.lease_ms;
            u->hard_ms = t->now_ms + s->task.leases.hard_deadline_ms;
            u->listed_ms = t->now_ms;
        }
        if (s->is_stopped)
            continue;
        if (t->now_ms >= u->deadline_ms)
            orch_void(s, t, i, REASON_EXPIRED);
    }
}

/* ---- leases ---------------------------------------------------------------------------- */

static void answer_lease(struct orch *s, struct turn *t, struct msg_lease *l)
{
    s->node[t->from].waits[0] = 0;
    orch_put_orders(s, t, l);
    buf_reset(&s->body);
    CHECK(!msg_lease_encode(&s->body, l, NULL));
    orch_answer(s, t, MSG_LEASE);
}

static uint32_t left_ms(int64_t deadline_ms, int64_t now_ms)
{
    int64_t left = deadline_ms - now_ms;

    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (uint32_t)left;
}

static void add_item(struct orch *s, struct turn *t, struct msg_lease *l, uint64_t unit)
{
    const struct ledger_unit *lu = ledger_books_unit(orch_books(s), unit);
    struct orch_unit *u = orch_unit_at(s, unit);

    if (!u->deadline_ms) {
        u->deadline_ms = t->now_ms + s->task.leases.lease_ms;
        u->hard_ms = t->now_ms + s->task.leases.hard_deadline_ms;
    }
    u->listed_ms = t->now_ms;
    l->item[l->n++] = (struct lease_item){.unit = unit,
                                          .version = lu->version,
                                          .lease = lu->lease,
                                          .deadline_ms = left_ms(u->deadline_ms, t->now_ms),
                                          .hard_ms = left_ms(u->hard_ms, t->now_ms)};
}

/* The LEASE entries a request made: the one with its idem, and those right behind it. Only what
 * is still to be done is given out again. */
static void repeat_leases(struct orch *s, struct turn *t, uint64_t seq, struct msg_lease *l)
{
    for (uint64_t i = seq; i < s->n_facts && l->n < MSG_MAX_LEASES; i++) {
        const struct orch_fact *f = &s->fact[i];
        const struct ledger_unit *u;
        if (f->type != LEDGER_LEASE || f->node != t->from || (i > seq && f->has_idem))
            break;
        u = ledger_books_unit(orch_books(s), f->unit);
        if (u->state == UNIT_LEASED && u->lease == i)
            add_item(s, t, l, f->unit);
    }
}

/* All leases of one answer are for one version: a worker generates them together. */
static bool fits_answer(const struct msg_lease *l, int64_t version)
{
    return l->n == 0 || l->item[0].version == version;
}

/* Leases that this worker holds and no longer speaks of in its heartbeats, which come three
 * times a lease: it was restarted. */
static void remind(struct orch *s, struct turn *t, struct msg_lease *l, uint32_t max)
{
    int64_t quiet_ms = s->task.leases.lease_ms / 3 + 1000;

    for (uint64_t i = s->first_open; i < s->n_units && l->n < max; i++) {
        const struct orch_unit *u = &s->unit[i];
        if (orch_unit_state(s, i) == UNIT_LEASED && u->worker == t->from && u->listed_ms &&
            t->now_ms - u->listed_ms > quiet_ms &&
            fits_answer(l, ledger_books_unit(orch_books(s), i)->version))
            add_item(s, t, l, i);
    }
}

/* May this worker have the unit now? *version is what it would be leased for. */
static bool may_lease(const struct orch *s, const struct turn *t, uint64_t unit,
                      bool has_others, int64_t *version)
{
    const struct orch_unit *u = unit < s->n_units ? &s->unit[unit] : NULL;

    if (orch_unit_state(s, unit) != UNIT_FREE)
        return false;
    *version = orch_unit_version(s, unit);
    if (*version < 0)
        return false;
    return !(has_others && u && u->failed_ms && u->worker == t->from &&
             t->now_ms - u->failed_ms < AGAIN_AFTER_MS);
}

/* Order arrival: a worker without the newest weights works on what it has, within lag. What was
 * a canary is made again as it was. */
static int64_t arrival_version(const struct orch *s, const struct msg_lease_ask *ask,
                               uint64_t unit, int64_t version)
{
    int64_t least = version - s->task.algorithm.lag;

    if (!orch_is_arrival(s) || orch_has_canary(s, unit) || ask->newest_version >= version ||
        ask->newest_version < least || !is_fresh(s, ask->newest_version))
        return version;
    for (size_t i = 0; i < s->n_versions; i++)
        if (s->version[i].number == ask->newest_version)
            return ask->newest_version;
    return version;
}

static enum status lease_one(struct orch *s, struct turn *t, uint64_t unit, int64_t version,
                             bool is_first)
{
    const struct ledger_unit *u = ledger_books_unit(orch_books(s), unit);
    struct ledger_lease x = {
        .unit = unit,
        .attempt = (u ? u->attempt : 0) + 1,
        .worker = s->node[t->from].node,
        .version = version,
        .expires_us = t->wall_us + s->task.leases.lease_ms * 1000,
        .hard_us = t->wall_us + s->task.leases.hard_deadline_ms * 1000,
        .reserve = ledger_unit_reserve(orch_books(s)),
    };
    struct digest salt;

    orch_salt(s, unit, x.attempt, &salt);
    canary_seal(&x.seal, &salt, unit, x.attempt);
    return orch_append_lease(s, t, &x, is_first ? AS_ANSWER : BY_SENDER, NULL, NULL);
}

/* What a scan for work found besides work. */
struct scan {
    uint64_t n_free;      /* units this worker could have */
    uint64_t n_elsewhere; /* free, but for a version it does not have */
    uint64_t n_kept;      /* free, but for those that have proven themselves */
    int64_t wanted;       /* such a version */
    bool is_broke;        /* the escrow does not cover another unit */
};

static void scan_units(struct orch *s, const struct turn *t, const struct msg_lease_ask *ask,
                       uint64_t limit, bool has_others, struct scan *sc)
{
    struct orch_quota quota;

    memset(sc, 0, sizeof(*sc));
    orch_quota_open(&quota, s, t);
    for (uint64_t i = s->first_open; i < limit; i++) {
        int64_t version;
        if (!may_lease(s, t, i, has_others, &version))
            continue;
        version = arrival_version(s, ask, i, version);
        if (!orch_quota_allows(&quota, s, i)) {
            sc->n_kept++;
        } else if (version >= ask->oldest_version && version <= ask->newest_version) {
            orch_quota_take(&quota);
            sc->n_free++;
        } else {
            sc->n_elsewhere++;
            sc->wanted = version;
        }
    }
}

static void give_units(struct orch *s, struct turn *t, const struct msg_lease_ask *ask,
                       struct msg_lease *l, struct scan *sc)
{
    uint32_t workers = orch_n_alive(s, ROLE_INFERENCE, t->now_ms);
    uint64_t limit = orch_unit_limit(s), share;
    bool has_others = workers > 1;
    struct orch_quota quota;

    orch_quota_open(&quota, s, t);
    scan_units(s, t, ask, limit, has_others, sc);
    /* A fair part of what there is: the last units of a batch then end at about one time. */
    share = (sc->n_free + workers - 1) / (workers ? workers : 1);
    if (share > ask->max)
        share = ask->max;
    for (uint64_t i = s->first_open; i < limit && l->n < share; i++) {
        int64_t version;
        enum status st;
        if (!may_lease(s, t, i, has_others, &version))
            continue;
        version = arrival_version(s, ask, i, version);
        if (version < ask->oldest_version || version > ask->newest_version ||
            !fits_answer(l, version) || !orch_quota_allows(&quota, s, i))
            continue;
        orch_quota_take(&quota);
        st = lease_one(s, t, i, version, l->n == 0);
        sc->is_broke |= st == ERR_INSUFFICIENT;
        if (st)
            break;
        add_item(s, t, l, i);
    }
}

static void explain_wait(struct orch *s, struct turn *t, const struct scan *sc)
{
    if (sc->is_broke)
        orch_wait(s, t, REASON_NO_ESCROW, ORCH_RETRY_FAR,
                  "the task's escrow does not cover another unit");
    else if (sc->n_elsewhere)
        orch_wait(s, t, REASON_WANT_VERSION, ORCH_RETRY_MS,
                  "%" PRIu64 " units wait for weights of version %" PRId64, sc->n_elsewhere,
                  sc->wanted);
    else if (sc->n_kept)
        orch_wait(s, t, REASON_NO_WORK, ORCH_RETRY_MS,
                  "%" PRIu64 " units are kept for workers with %" PRId64
                  " accepted units, which this one has not yet",
                  sc->n_kept, s->task.acceptance.audit_first);
    else
        orch_wait(s, t, REASON_NO_WORK, ORCH_RETRY_MS,
                  "all units that version %" PRId64 " allows are leased or done", orch_head(s));
}

/* Why a worker gets nothing, whatever units there are. True: it was answered. */
static bool turn_away(struct orch *s, struct turn *t)
{
    const struct orch_node *n = &s->node[t->from];
    const struct ledger_task *task = ledger_books_task(orch_books(s));
    struct account stake = account_of_key(ACCOUNT_STAKE, &n->node);
    int64_t rest_ms = time_to_rest_ms(s, t);

    if (!s->has_task)
        orch_wait(s, t, REASON_NO_TASK, ORCH_RETRY_FAR, "no task is open yet");
    else if (orch_is_done(s))
        orch_wait(s, t, REASON_DONE, ORCH_RETRY_FAR, "the run is over");
    else if (s->is_stopped)
        orch_wait(s, t, REASON_EQUIVOCATION, ORCH_RETRY_FAR, "%s", s->why_stopped);
    else if (n->is_draining)
        orch_wait(s, t, REASON_DRAINING, ORCH_RETRY_FAR, "this node is draining");
    else if (!s->n_versions)
        orch_wait(s, t, REASON_NO_VERSION, ORCH_RETRY_MS,
                  "the trainer has not published version 0 yet");
    else if (ledger_books_balance(orch_books(s), &stake) < task->open.stake_required)
        orch_wait(s, t, REASON_NO_STAKE, ORCH_RETRY_FAR,
                  "stake is below the task's %" PRId64 " ucr", task->open.stake_required);
    else if (rest_ms > 0)
        orch_wait(s, t, REASON_BUSY, (uint32_t)(rest_ms < FAILED_MS ? rest_ms : FAILED_MS),
                  "its last %u attempts came to nothing: it may have units again in %" PRId64
                  " s",
                  n->n_failed, rest_ms / 1000 + 1);
    else
        return false;
    return true;
}

void orch_on_lease_ask(struct orch *s, struct turn *t)
{
    struct msg_lease l = {0};
    struct msg_lease_ask ask;
    struct scan sc;
    struct err e;
    uint64_t seq;

    if (msg_lease_ask_decode(&ask, t->m->body, &e) || ask.max == 0 ||
        ask.max > MSG_MAX_LEASES) {
        orch_refuse(s, t, REASON_MALFORMED, "LEASE_ASK does not decode");
        return;
    }
    s->node[t->from].asked_ms = t->now_ms;
    if (ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq)) {
        repeat_leases(s, t, seq, &l);
        if (l.n)
            answer_lease(s, t, &l);
        else
            orch_wait(s, t, REASON_EXPIRED, ORCH_RETRY_MS, "these leases are over: ask anew");
        return;
    }
    if (turn_away(s, t))
        return;
    advance(s);
    remind(s, t, &l, ask.max);
    if (!l.n)
        give_units(s, t, &ask, &l, &sc);
    if (l.n)
        answer_lease(s, t, &l);
    else
        explain_wait(s, t, &sc);
}

void orch_on_heartbeat(struct orch *s, struct turn *t)
{
    struct msg_beat b = {
        .head_version = orch_head(s), .roster_seq = s->roster_seq, .is_done = orch_is_done(s)};
    struct msg_heartbeat h;

    if (msg_heartbeat_decode(&h, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "HEARTBEAT does not decode");
        return;
    }
    for (uint32_t i = 0; i < h.n; i++) {
        const struct progress_item *p = &h.item[i];
        const struct ledger_unit *lu = ledger_books_unit(orch_books(s), p->unit);
        struct orch_unit *u;
        if (!lu || lu->lease != p->lease || lu->state == UNIT_FREE ||
            lu->state == UNIT_GIVEN_UP || !key_equal(&lu->worker, &s->node[t->from].node)) {
            b.dropped[b.n_dropped++] = p->lease;
            continue;
        }
        u = orch_unit_at(s, p->unit);
        if (!u->deadline_ms)
            continue; /* the next tick sets it, later than we could */
        u->listed_ms = t->now_ms;
        if (p->tokens > u->progress) {
            u->progress = p->tokens;
            u->deadline_ms = t->now_ms + s->task.leases.lease_ms;
            if (u->deadline_ms > u->hard_ms)
                u->deadline_ms = u->hard_ms;
        }
    }
    buf_reset(&s->body);
    CHECK(!msg_beat_encode(&s->body, &b, NULL));
    orch_answer(s, t, MSG_BEAT);
}

/* ---- submissions ----------------------------------------------------------------------- */

static const struct orch_version *find_version(const struct orch *s, int64_t number)
{
    for (size_t i = s->n_versions; i-- > 0;)
        if (s->version[i].number == number)
            return &s->version[i];
    return NULL;
}

static bool is_too_long(const struct orch *s, const struct msg_submit *m)
{
    const struct ledger_task *task = ledger_books_task(orch_books(s));

    for (uint32_t i = 0; i < m->n_samples; i++)
        if ((m->prompt.len + m->sample[i].tokens.len) / 4 > (size_t)s->task.model.max_len)
            return true;
    return submission_tokens(m) > task->open.tokens_max;
}

/* All that needs neither weights nor the environment. REASON_NONE: it may be committed. */
static enum reason judge_form(const struct orch *s, const struct msg_submit *m, int64_t version,
                              struct err *e)
{
    const struct orch_version *v = find_version(s, version);
    enum reason why = REASON_BOUNDS;
    struct digest root;

    *e = (struct err){.code = OK};
    if (m->version != version)
        return REASON_STALE;
    if (!digest_equal(&m->task, &s->task_id))
        return REASON_NO_TASK;
    if (strcmp(m->numerics, s->numerics) != 0)
        return REASON_NUMERICS;
    if (!v || !digest_equal(&m->weights, &v->weights))
        return REASON_WEIGHTS;
    if (m->n_samples != (uint32_t)s->task.sampling.group)
        return REASON_BOUNDS;
    if (submission_check_bounds(m, &why, e))
        return why;
    if (is_too_long(s, m))
        return REASON_BOUNDS;
    submission_root(&root, m);
    if (!digest_equal(&root, &m->root))
        return REASON_ROOT;
    if (orch_is_arrival(s) && !is_fresh(s, m->version))
        return REASON_STALE;
    return REASON_NONE;
}

/* What was answered to this submission before: its COMMIT, however the unit went on. */
static bool find_commit(const struct orch *s, const struct turn *t, const struct msg_submit *m,
                        uint64_t *seq)
{
    uint64_t i = m->unit < s->n_units ? s->unit[m->unit].last_fact : 0;

    for (; i; i = s->fact[i].before)
        if (s->fact[i].type == LEDGER_COMMIT && s->fact[i].lease == m->lease &&
            s->fact[i].node == t->from) {
            *seq = i;
            return true;
        }
    return false;
}

static void commit_unit(struct orch *s, struct turn *t, const struct msg_submit *m)
{
    struct ledger_commit c = {
        .unit = m->unit, .lease = m->lease, .version = m->version, .root = m->root};
    const struct ledger_unit *u;
    uint64_t seq;

    ledger_commit_of(&c, m);
    digest_of(&c.envelope, t->m->raw);
    if (orch_append_commit(s, t, &c, AS_ANSWER, NULL, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    u = ledger_books_unit(orch_books(s), m->unit);
    if (u->watch.code)
        orch_note(s, 'I', "watch unit=%" PRIu64 " why=%s other=%" PRIu64 " at=%u", m->unit,
                  reason_name((enum reason)u->watch.code), u->watch.other, u->watch.at);
    orch_start_draw(s, t);
    orch_receipt(s, t, seq);
}

void orch_on_submit(struct orch *s, struct turn *t)
{
    struct msg_submit *m = s->submit;
    const struct ledger_unit *u;
    enum reason why;
    uint64_t seq;
    struct err e;

    if (msg_submit_decode(m, t->m->body, &e)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (find_commit(s, t, m, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    u = ledger_books_unit(orch_books(s), m->unit);
    if (!u || u->state != UNIT_LEASED || u->lease != m->lease ||
        !key_equal(&u->worker, &s->node[t->from].node)) {
        orch_receipt_refused(s, t, 0, REASON_NO_LEASE,
                             "unit %" PRIu64 " is not leased to this node under %" PRIu64,
                             m->unit, m->lease);
        return;
    }
    why = judge_form(s, m, u->version, &e);
    if (why == REASON_NONE) {
        commit_unit(s, t, m);
        return;
    }
    /* Nothing is on record yet that a third party could replay: whatever the reason, this costs
     * the unit and no stake. */
    orch_void(s, t, m->unit, reason_is_hard(why) ? REASON_MALFORMED : why);
    orch_receipt_refused(s, t, 0, why, "%s", e.code ? e.text : reason_text(why));
}
