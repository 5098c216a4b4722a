#include "inference/infer_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/canary.h"

#define RETRY_MS       2000 /* a question unanswered for so long is asked again */
#define AFTER_ERROR_MS 1000
#define HELD_MS        3000 /* a question that is answered when there is something */
#define BEATS_A_LEASE  3    /* heartbeats while a lease lasts */

struct held {
    uint64_t unit, lease, tokens;
    bool is_dropped;
    uint8_t order[MSG_MAX_ORDER]; /* a checked CANARY_ORDER envelope */
    size_t order_bytes;           /* 0: none */
};

struct infer {
    struct rpc *rpc; /* owned */
    struct digest run;
    uint32_t units;
    bool is_welcome, is_ready, is_stopped, is_drained;
    int64_t oldest, newest;
    int64_t ask_at_ms; /* not before */
    bool is_asking;
    bool is_working;
    uint64_t job; /* number of the job that runs, or of the last */
    struct held held[MSG_MAX_LEASES];
    uint32_t n_held;
    int64_t beat_at_ms;
    uint32_t beat_every_ms;
    bool is_opener;         /* submissions have openings */
    uint64_t last;          /* the newest lease whose opening may be wanted */
    uint64_t settled;       /* those below are over */
    struct msg_drawn drawn; /* asked for; [n_taken, n) were not taken yet */
    uint32_t n_taken;
    int64_t open_at_ms; /* DRAWN_ASK not before */
    struct infer_counts counts;
    char why[MSG_TEXT_BYTES];
};

void infer_new(struct infer **out, const struct infer_options *opt)
{
    struct infer *s = xcalloc(1, sizeof(*s));

    CHECK(opt->units >= 1 && opt->units <= MSG_MAX_LEASES);
    rpc_new(&s->rpc, opt->key, opt->boot);
    s->units = opt->units;
    s->oldest = s->newest = -1;
    snprintf(s->why, sizeof(s->why), "not admitted yet");
    *out = s;
}

void infer_free(struct infer **s)
{
    if (!*s)
        return;
    rpc_free(&(*s)->rpc);
    free(*s);
    *s = NULL;
}

void infer_welcome(struct infer *s, uint64_t peer, const struct digest *run)
{
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, run);
    s->run = *run;
    s->is_welcome = true;
}

void infer_ready(struct infer *s)
{
    s->is_ready = true;
}

void infer_versions(struct infer *s, int64_t oldest, int64_t newest)
{
    if (newest > s->newest)
        s->ask_at_ms = 0;
    s->oldest = oldest;
    s->newest = newest;
}

void infer_progress(struct infer *s, uint64_t unit, uint64_t tokens)
{
    for (uint32_t i = 0; i < s->n_held; i++)
        if (s->held[i].unit == unit)
            s->held[i].tokens = tokens;
}

void infer_stop(struct infer *s)
{
    s->is_stopped = true;
}

bool infer_is_idle(const struct infer *s)
{
    return !s->is_working && rpc_open(s->rpc, MSG_SUBMIT) == 0 &&
           rpc_open(s->rpc, MSG_OPENING) == 0;
}

bool infer_has_closed(const struct infer *s)
{
    return s->is_opener && s->last >= s->settled;
}

bool infer_is_drained(const struct infer *s)
{
    return s->is_drained;
}

const struct infer_counts *infer_counts(const struct infer *s)
{
    return &s->counts;
}

const char *infer_why(const struct infer *s)
{
    return s->is_working ? "" : s->why;
}

static void ask_for_units(struct infer *s, int64_t now_ms, struct effects *out)
{
    const struct msg_lease_ask ask = {
        .newest_version = s->newest,
        .oldest_version = s->oldest,
        .max = s->units,
    };
    struct buf body;

    if (!s->is_welcome || !s->is_ready || s->is_stopped || s->is_asking || s->is_working)
        return;
    if (s->newest < 0) {
        snprintf(s->why, sizeof(s->why), "no weights are here yet");
        return;
    }
    if (now_ms < s->ask_at_ms) {
        effects_timer(out, s->ask_at_ms);
        return;
    }
    buf_init(&body, 256);
    CHECK(!msg_lease_ask_encode(&body, &ask, NULL));
    if (!rpc_ask(s->rpc, MSG_LEASE_ASK, buf_bytes(&body), 0, RETRY_MS, now_ms, out, NULL))
        s->is_asking = true;
    buf_clear(&body);
}

static void start_job(struct infer *s, int64_t version, int64_t now_ms, struct effects *out)
{
    struct buf args;

    buf_init(&args, 16 + (20 + MSG_MAX_ORDER) * MSG_MAX_LEASES);
    buf_put_u64(&args, (uint64_t)version);
    buf_put_u32(&args, s->n_held);
    for (uint32_t i = 0; i < s->n_held; i++) {
        buf_put_u64(&args, s->held[i].unit);
        buf_put_u64(&args, s->held[i].lease);
        buf_put_blob(&args, (struct bytes){s->held[i].order, s->held[i].order_bytes});
    }
    CHECK(!args.bad);
    s->is_working = true;
    s->job++;
    s->beat_at_ms = now_ms + s->beat_every_ms;
    effects_start(out, INFER_JOB_GENERATE, s->job, buf_bytes(&args));
    buf_clear(&args);
}

/* An order that is not for this lease, or not signed, is no order: the unit is made honestly. */
static void hold(struct infer *s, const struct lease_item *it)
{
    struct held *h = &s->held[s->n_held++];
    struct msg_canary_order order;

    *h = (struct held){.unit = it->unit, .lease = it->lease};
    if (!it->order.len || it->order.len > sizeof(h->order) ||
        canary_order_read(&order, it->order, &s->run, it->unit, it->lease, NULL))
        return;
    memcpy(h->order, it->order.data, it->order.len);
    h->order_bytes = it->order.len;
}

/* Takes the leases of the first one's version; others, if a server mixed them, will expire. */
static void on_lease(struct infer *s, struct bytes body, int64_t now_ms, struct effects *out)
{
    struct msg_lease m;

    if (s->is_working || msg_lease_decode(&m, body, NULL) || m.n == 0) {
        s->ask_at_ms = now_ms + AFTER_ERROR_MS;
        return;
    }
    s->n_held = 0;
    s->beat_every_ms = m.item[0].deadline_ms / BEATS_A_LEASE + 1;
    for (uint32_t i = 0; i < m.n; i++)
        if (m.item[i].version == m.item[0].version)
            hold(s, &m.item[i]);
    start_job(s, m.item[0].version, now_ms, out);
}

static void on_wait(struct infer *s, struct bytes body, int64_t now_ms, struct run_news *news)
{
    struct msg_wait m;

    s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    if (msg_wait_decode(&m, body, NULL))
        return;
    s->ask_at_ms = now_ms + m.retry_ms;
    s->is_drained = m.code == REASON_DRAINING;
    snprintf(s->why, sizeof(s->why), "%s", m.text[0] ? m.text : reason_text(m.code));
    *news = (struct run_news){true, m.head_version, m.roster_seq, m.is_done};
}

static void on_beat(struct infer *s, struct bytes body, struct run_news *news)
{
    struct msg_beat m;

    if (msg_beat_decode(&m, body, NULL))
        return;
    for (uint32_t d = 0; d < m.n_dropped; d++)
        for (uint32_t i = 0; i < s->n_held; i++)
            if (s->held[i].lease == m.dropped[d])
                s->held[i].is_dropped = true;
    *news = (struct run_news){true, m.head_version, m.roster_seq, m.is_done};
}

/* ---- openings ---------------------------------------------------------------------------- */

void infer_opens(struct infer *s, uint64_t last)
{
    s->is_opener = true;
    s->last = last;
}

static void ask_drawn(struct infer *s, int64_t now_ms, struct effects *out)
{
    const struct msg_drawn_ask m = {.settled = s->settled};
    struct buf body;

    if (!s->is_welcome || !infer_has_closed(s) || s->n_taken < s->drawn.n ||
        rpc_open(s->rpc, MSG_DRAWN_ASK) || rpc_open(s->rpc, MSG_OPENING))
        return;
    if (now_ms < s->open_at_ms) {
        effects_timer(out, s->open_at_ms);
        return;
    }
    buf_init(&body, 64);
    CHECK(!msg_drawn_ask_encode(&body, &m, NULL));
    (void)!rpc_ask(s->rpc, MSG_DRAWN_ASK, buf_bytes(&body), 0, HELD_MS, now_ms, out, NULL);
    buf_clear(&body);
}

static void on_drawn(struct infer *s, struct bytes body, int64_t now_ms)
{
    struct msg_drawn m;

    if (msg_drawn_decode(&m, body, NULL)) {
        s->open_at_ms = now_ms + AFTER_ERROR_MS;
        return;
    }
    s->drawn = m;
    s->n_taken = 0;
    if (m.settled > s->settled)
        s->settled = m.settled;
}

bool infer_to_open(struct infer *s, struct attempt *item)
{
    if (s->n_taken >= s->drawn.n)
        return false;
    *item = s->drawn.item[s->n_taken++];
    return true;
}

void infer_open(struct infer *s, const struct attempt *item, struct bytes opening,
                int64_t now_ms, struct effects *out)
{
    if (!opening.len ||
        rpc_ask(s->rpc, MSG_OPENING, opening, item->unit, RETRY_MS, now_ms, out, NULL))
        s->open_at_ms = now_ms + AFTER_ERROR_MS; /* asked for again until it is too late */
}

uint64_t infer_settled(const struct infer *s)
{
    return s->settled;
}

static void on_opened(struct infer *s, const struct msg_envelope *env, int64_t now_ms)
{
    struct msg_receipt m;

    if (env->kind == MSG_RECEIPT && !msg_receipt_decode(&m, env->body, NULL) && m.is_accepted)
        s->counts.opened++;
    else
        s->open_at_ms = now_ms + AFTER_ERROR_MS;
}

static void on_receipt(struct infer *s, struct bytes body)
{
    struct msg_receipt m;

    if (msg_receipt_decode(&m, body, NULL) || !m.is_accepted) {
        s->counts.refused++;
        snprintf(s->why, sizeof(s->why), "a submission was refused: %s", m.text);
        return;
    }
    s->counts.accepted++;
}

void infer_message(struct infer *s, struct bytes data, int64_t now_ms, struct run_news *news,
                   struct effects *out)
{
    struct msg_envelope env;
    enum msg_kind asked;
    uint64_t tag;

    memset(news, 0, sizeof(*news));
    if (msg_envelope_decode(&env, data, NULL) || !rpc_answered(s->rpc, &env, &asked, &tag))
        return;
    if (asked == MSG_LEASE_ASK)
        s->is_asking = false;
    if (asked == MSG_LEASE_ASK && env.kind == MSG_LEASE)
        on_lease(s, env.body, now_ms, out);
    else if (asked == MSG_LEASE_ASK && env.kind == MSG_WAIT)
        on_wait(s, env.body, now_ms, news);
    else if (asked == MSG_LEASE_ASK)
        s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    else if (asked == MSG_HEARTBEAT && env.kind == MSG_BEAT)
        on_beat(s, env.body, news);
    else if (asked == MSG_DRAWN_ASK && env.kind == MSG_DRAWN)
        on_drawn(s, env.body, now_ms);
    else if (asked == MSG_DRAWN_ASK)
        s->open_at_ms = now_ms + AFTER_ERROR_MS;
    else if (asked == MSG_OPENING)
        on_opened(s, &env, now_ms);
    else if (asked == MSG_SUBMIT && env.kind == MSG_RECEIPT)
        on_receipt(s, env.body);
    else if (asked == MSG_SUBMIT)
        s->counts.refused++;
    infer_tick(s, now_ms, out);
}

static bool is_dropped(const struct infer *s, uint64_t lease)
{
    for (uint32_t i = 0; i < s->n_held; i++)
        if (s->held[i].lease == lease)
            return s->held[i].is_dropped;
    return true;
}

static void submit_all(struct infer *s, struct bytes result, int64_t now_ms,
                       struct effects *out)
{
    struct reader r = reader_of(result);
    uint32_t n = reader_u32(&r);

    for (uint32_t i = 0; i < n && !r.bad; i++) {
        uint64_t unit = reader_u64(&r);
        uint64_t lease = reader_u64(&r);
        uint64_t tokens = reader_u64(&r);
        struct bytes body = reader_blob(&r);

        s->counts.units_made++;
        s->counts.tokens += tokens;
        if (r.bad || is_dropped(s, lease) ||
            rpc_ask(s->rpc, MSG_SUBMIT, body, unit, RETRY_MS, now_ms, out, NULL))
            s->counts.dropped++;
        else
            s->counts.submitted++;
        if (!r.bad && lease > s->last)
            s->last = lease;
    }
}

void infer_job(struct infer *s, uint64_t number, enum status st, struct bytes result,
               const struct err *e, int64_t now_ms, struct effects *out)
{
    if (!s->is_working || number != s->job)
        return;
    s->is_working = false;
    if (st) {
        snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1,
                 e ? e->text : status_text(st));
        s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    } else {
        submit_all(s, result, now_ms, out);
        s->ask_at_ms = now_ms;
    }
    s->n_held = 0;
    infer_tick(s, now_ms, out);
}

static void beat(struct infer *s, int64_t now_ms, struct effects *out)
{
    struct msg_heartbeat m = {.n = s->n_held};
    struct buf body;

    if (!s->is_working || rpc_open(s->rpc, MSG_HEARTBEAT))
        return; /* the answer is what it waits for, and rpc_tick says until when */
    if (now_ms >= s->beat_at_ms) {
        for (uint32_t i = 0; i < s->n_held; i++)
            m.item[i] =
                (struct progress_item){s->held[i].unit, s->held[i].lease, s->held[i].tokens};
        buf_init(&body, 4096);
        CHECK(!msg_heartbeat_encode(&body, &m, NULL));
        (void)!rpc_ask(s->rpc, MSG_HEARTBEAT, buf_bytes(&body), 0, RETRY_MS, now_ms, out, NULL);
        buf_clear(&body);
        s->beat_at_ms = now_ms + s->beat_every_ms;
    }
    effects_timer(out, s->beat_at_ms);
}

void infer_tick(struct infer *s, int64_t now_ms, struct effects *out)
{
    ask_for_units(s, now_ms, out);
    beat(s, now_ms, out);
    ask_drawn(s, now_ms, out);
    rpc_tick(s->rpc, now_ms, out);
}
