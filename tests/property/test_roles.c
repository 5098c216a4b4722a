/*
 * The three workers' machines against a small orchestrator of the test's own, in virtual time.
 * Messages are lost, repeated and overtake each other, processes restart, versions arrive late,
 * jobs fail. Whatever happens: the run ends, every unit was accepted once and before its batch
 * left, versions were published in order and with one content each, and in the end nobody
 * waits for an answer. A machine is ticked only when it asked for it: a timer it forgets is a
 * run that hangs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "inference/infer_state.h"
#include "node/key.h"
#include "support/random.h"
#include "support/test.h"
#include "trainer/train_state.h"
#include "verifier/verify_state.h"

#define WORKERS    2u /* nodes 0, 1 */
#define VALIDATORS 2u /* nodes 2, 3 */
#define TRAINER    4u
#define NODES      5u
#define STEPS      6
#define PER_BATCH  4u
#define UNITS      (STEPS * PER_BATCH)
#define LAG        1
#define KEPT       512u /* answers that are repeated */
#define FLIGHT_MAX 4096u
#define END_MS     3600000
#define LEASE_MS   4000
#define CHECK_MS   3000
#define CHECKPOINT 2 /* versions between two checkpoints of the trainer */

enum unit_state { WAITING, LEASED, CHECKING, ACCEPTED };

struct unit {
    enum unit_state state;
    uint64_t lease;
    int64_t until_ms; /* of the lease, or of the check */
    bool is_assigned; /* to a validator, once CHECKING */
    uint32_t n_accepts;
};

struct node {
    struct node_key *key;
    struct infer *infer;
    struct verify *verify;
    struct train_state *train;
    uint32_t life;
    int64_t due_ms;
    int64_t newest; /* weights that are here */
    bool has_job;
    struct {
        uint32_t kind, life;
        uint64_t number;
        int64_t at_ms;
        struct buf args;
    } job;
    int64_t checkpoint, version; /* the trainer's */
};

struct flight {
    int64_t at_ms;
    uint32_t node, life;
    bool is_up; /* to the orchestrator */
    struct buf data;
};

struct answer {
    struct idem idem;
    struct buf data;
};

struct world {
    struct rng rng;
    int64_t now_ms;
    struct node node[NODES];
    struct flight flight[FLIGHT_MAX];
    size_t n_flight;
    struct node_key *server;
    struct digest run;
    struct unit unit[UNITS];
    struct answer answer[KEPT]; /* a ring */
    size_t n_answers;
    uint64_t n_leases;
    int64_t head;                         /* published; -1: none */
    int64_t here_ms[STEPS + 1][NODES];    /* when a version arrives at a node */
    uint32_t loss, repeat, fail, restart; /* per mille */
    bool is_alone; /* the second worker asks for nothing: the first must not hang */
    struct effects out;
    uint32_t n_lost, n_repeated, n_failed, n_restarts, n_expired;
};

static bool chance(struct world *w, uint32_t per_mille)
{
    return rng_below(&w->rng, 1000) < per_mille;
}

/* ---- network ------------------------------------------------------------------------- */

static void put_flight(struct world *w, uint32_t node, bool is_up, struct bytes data)
{
    struct flight *f = &w->flight[w->n_flight++];

    CHECK(w->n_flight <= FLIGHT_MAX);
    f->at_ms = w->now_ms + 1 + (int64_t)rng_below(&w->rng, chance(w, 50) ? 3000 : 40);
    f->node = node;
    f->life = w->node[node].life;
    f->is_up = is_up;
    buf_init(&f->data, MSG_MAX_BYTES);
    buf_append(&f->data, data);
}

static void carry(struct world *w, uint32_t node, bool is_up, struct bytes data)
{
    if (chance(w, w->loss)) {
        w->n_lost++;
        return;
    }
    put_flight(w, node, is_up, data);
    if (chance(w, w->repeat)) {
        w->n_repeated++;
        put_flight(w, node, is_up, data);
    }
}

/* ---- the orchestrator ---------------------------------------------------------------- */

static void reply(struct world *w, uint32_t node, const struct idem *idem, enum msg_kind kind,
                  struct bytes body)
{
    struct answer *a = &w->answer[w->n_answers++ % KEPT];

    a->idem = *idem;
    buf_clear(&a->data);
    buf_init(&a->data, MSG_MAX_BYTES);
    CHECK(!msg_envelope_encode(&a->data, kind, &w->run, idem, body, w->server->node_secret,
                               NULL));
    carry(w, node, false, buf_bytes(&a->data));
}

static const struct answer *answer_to(const struct world *w, const struct idem *idem)
{
    for (size_t i = 0; i < KEPT; i++)
        if (w->answer[i].data.len && idem_equal(&w->answer[i].idem, idem))
            return &w->answer[i];
    return NULL;
}

static bool is_over(const struct world *w)
{
    return w->head == STEPS;
}

static void say_wait(struct world *w, uint32_t node, const struct idem *idem, enum reason why)
{
    const struct msg_wait m = {.code = (uint32_t)why,
                               .retry_ms = 50 + (uint32_t)rng_below(&w->rng, 400),
                               .head_version = w->head,
                               .is_done = is_over(w)};
    struct buf body;

    buf_init(&body, 1024);
    CHECK(!msg_wait_encode(&body, &m, NULL));
    reply(w, node, idem, MSG_WAIT, buf_bytes(&body));
    buf_clear(&body);
}

static void say_receipt(struct world *w, uint32_t node, const struct idem *idem, bool accepted,
                        enum reason why)
{
    const struct msg_receipt m = {.is_accepted = accepted, .code = (uint32_t)why, .seq = 1};
    struct buf body;

    buf_init(&body, 1024);
    CHECK(!msg_receipt_encode(&body, &m, NULL));
    reply(w, node, idem, MSG_RECEIPT, buf_bytes(&body));
    buf_clear(&body);
}

static int64_t version_of_unit(uint64_t unit)
{
    int64_t batch = (int64_t)(unit / PER_BATCH);

    return batch > LAG ? batch - LAG : 0;
}

static void expire(struct world *w)
{
    for (uint32_t u = 0; u < UNITS; u++) {
        struct unit *x = &w->unit[u];

        if (x->state == LEASED && w->now_ms >= x->until_ms) {
            x->state = WAITING;
            w->n_expired++;
        }
        if (x->state == CHECKING && w->now_ms >= x->until_ms)
            x->is_assigned = false;
    }
}

static void on_lease_ask(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    struct msg_lease_ask ask;
    struct msg_lease m = {0};
    struct buf body;

    CHECK(!msg_lease_ask_decode(&ask, env->body, NULL));
    for (uint32_t u = 0; u < UNITS && m.n < ask.max; u++) {
        struct unit *x = &w->unit[u];
        int64_t version = version_of_unit(u);

        if (x->state != WAITING || version > w->head || version > ask.newest_version ||
            (m.n && m.item[0].version != version))
            continue;
        x->state = LEASED;
        x->lease = ++w->n_leases;
        x->until_ms = w->now_ms + LEASE_MS;
        m.item[m.n++] = (struct lease_item){.unit = u,
                                            .version = version,
                                            .lease = x->lease,
                                            .deadline_ms = LEASE_MS,
                                            .hard_ms = 10 * LEASE_MS};
    }
    if (m.n == 0) {
        say_wait(w, node, &env->idem, REASON_NO_WORK);
        return;
    }
    buf_init(&body, 1u << 16);
    CHECK(!msg_lease_encode(&body, &m, NULL));
    reply(w, node, &env->idem, MSG_LEASE, buf_bytes(&body));
    buf_clear(&body);
}

static void on_heartbeat(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    struct msg_heartbeat m;
    struct msg_beat beat = {.head_version = w->head, .is_done = is_over(w)};
    struct buf body;

    CHECK(!msg_heartbeat_decode(&m, env->body, NULL));
    for (uint32_t i = 0; i < m.n; i++) {
        struct unit *x = &w->unit[m.item[i].unit];

        if (x->state == LEASED && x->lease == m.item[i].lease)
            x->until_ms = w->now_ms + LEASE_MS;
        else
            beat.dropped[beat.n_dropped++] = m.item[i].lease;
    }
    buf_init(&body, 1u << 16);
    CHECK(!msg_beat_encode(&body, &beat, NULL));
    reply(w, node, &env->idem, MSG_BEAT, buf_bytes(&body));
    buf_clear(&body);
}

/* A submission here is: u64 unit, u64 lease, i64 version. */
static void on_submit(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    struct reader r = reader_of(env->body);
    uint64_t unit = reader_u64(&r), lease = reader_u64(&r);
    int64_t version = (int64_t)reader_u64(&r);
    struct unit *x;

    assert_ok(msg_envelope_verify(env, NULL), NULL);
    assert_true(!r.bad && unit < UNITS);
    assert_int_equal(version, version_of_unit(unit));
    x = &w->unit[unit];
    if (x->state != LEASED || x->lease != lease) {
        say_receipt(w, node, &env->idem, false, REASON_NO_LEASE);
        return;
    }
    x->state = CHECKING;
    x->is_assigned = false;
    say_receipt(w, node, &env->idem, true, REASON_NONE);
}

static void on_check_ask(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    uint8_t submission[8] = {1};

    for (uint32_t u = 0; u < UNITS; u++) {
        struct unit *x = &w->unit[u];
        const struct msg_check m = {.unit = u,
                                    .lease = x->lease,
                                    .depth = CHECK_LIGHT,
                                    .deadline_ms = CHECK_MS,
                                    .submission = BYTES_OF(submission)};
        struct buf body;

        if (x->state != CHECKING || x->is_assigned)
            continue;
        x->is_assigned = true;
        x->until_ms = w->now_ms + CHECK_MS;
        buf_init(&body, 4096);
        CHECK(!msg_check_encode(&body, &m, NULL));
        reply(w, node, &env->idem, MSG_CHECK, buf_bytes(&body));
        buf_clear(&body);
        return;
    }
    say_wait(w, node, &env->idem, REASON_NO_WORK);
}

static void on_verdict(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    struct msg_verdict v;
    struct unit *x;

    assert_ok(msg_envelope_verify(env, NULL), NULL);
    assert_ok(msg_verdict_decode(&v, env->body, NULL), NULL);
    x = &w->unit[v.unit];
    if (x->state == CHECKING && x->lease == v.lease) {
        x->state = ACCEPTED;
        x->n_accepts++;
    }
    say_receipt(w, node, &env->idem, true, REASON_NONE);
}

static void on_batch_ask(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    struct msg_batch_ask ask;
    struct msg_batch *m;
    struct buf body;

    CHECK(!msg_batch_ask_decode(&ask, env->body, NULL));
    assert_true(ask.batch < STEPS);
    for (uint64_t u = ask.batch * PER_BATCH; u < (ask.batch + 1) * PER_BATCH; u++)
        if (w->unit[u].state != ACCEPTED) {
            say_wait(w, node, &env->idem, REASON_BATCH_PENDING);
            return;
        }
    m = xcalloc(1, sizeof(*m));
    m->batch = ask.batch;
    m->root.b[0] = 1;
    buf_init(&body, 4096);
    CHECK(!msg_batch_encode(&body, m, NULL));
    reply(w, node, &env->idem, MSG_BATCH, buf_bytes(&body));
    buf_clear(&body);
    free(m);
}

/* A manifest here is "version N". */
static void on_publish(struct world *w, uint32_t node, const struct msg_envelope *env)
{
    char text[32] = {0}, want[32];
    int version = -1;

    assert_ok(msg_envelope_verify(env, NULL), NULL);
    assert_true(env->body.len < sizeof(text));
    memcpy(text, env->body.data, env->body.len);
    assert_int_equal(sscanf(text, "version %d", &version), 1);
    snprintf(want, sizeof(want), "version %d", version);
    assert_string_equal(text, want);
    assert_true(version <= w->head + 1); /* none is left out */
    if (version == w->head + 1) {
        w->head = version;
        for (uint32_t i = 0; i < NODES; i++)
            w->here_ms[version][i] = w->now_ms + 1 + (int64_t)rng_below(&w->rng, 2500);
    }
    say_receipt(w, node, &env->idem, true, REASON_NONE);
}

static void serve(struct world *w, uint32_t node, struct bytes data)
{
    struct msg_envelope env;
    const struct answer *first;

    assert_ok(msg_envelope_decode(&env, data, NULL), NULL);
    expire(w);
    first = answer_to(w, &env.idem);
    if (first) { /* a repeat gets the first answer */
        carry(w, node, false, buf_bytes(&first->data));
        return;
    }
    switch (env.kind) {
    case MSG_LEASE_ASK: on_lease_ask(w, node, &env); break;
    case MSG_HEARTBEAT: on_heartbeat(w, node, &env); break;
    case MSG_SUBMIT: on_submit(w, node, &env); break;
    case MSG_CHECK_ASK: on_check_ask(w, node, &env); break;
    case MSG_VERDICT: on_verdict(w, node, &env); break;
    case MSG_BATCH_ASK: on_batch_ask(w, node, &env); break;
    case MSG_PUBLISH: on_publish(w, node, &env); break;
    default: assert_true(false);
    }
}

/* ---- nodes --------------------------------------------------------------------------- */

static void carry_out(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];
    struct bytes manifest;

    if (n->train)
        (void)train_state_take_announcement(n->train, &manifest);
    for (size_t k = 0; k < w->out.n; k++) {
        const struct effect *f = &w->out.v[k];

        if (f->kind == EFFECT_SEND) {
            carry(w, i, true, f->value);
        } else if (f->kind == EFFECT_TIMER) {
            assert_true(f->at_ms > w->now_ms); /* or it would not sleep while nobody answers */
            n->due_ms = f->at_ms < n->due_ms ? f->at_ms : n->due_ms;
        } else {
            assert_int_equal(f->kind, EFFECT_START);
            assert_false(n->has_job); /* one at a time */
            n->has_job = true;
            n->job.kind = f->job;
            n->job.life = n->life;
            n->job.number = f->peer;
            n->job.at_ms = w->now_ms + 1 + (int64_t)rng_below(&w->rng, 1500);
            buf_init(&n->job.args, MSG_MAX_BYTES);
            buf_append(&n->job.args, f->value);
        }
    }
    effects_reset(&w->out);
}

static void start_node(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];

    n->due_ms = w->now_ms;
    n->newest = -1;
    if (i < WORKERS) {
        const struct infer_options opt = {.key = n->key, .boot = n->life, .units = 3};

        infer_new(&n->infer, &opt);
        infer_welcome(n->infer, i + 1, &w->run);
        infer_ready(n->infer);
        if (i > 0 && w->is_alone)
            infer_stop(n->infer);
    } else if (i < TRAINER) {
        const struct verify_options opt = {.key = n->key, .boot = n->life};

        verify_new(&n->verify, &opt);
        verify_welcome(n->verify, i + 1, &w->run);
        verify_ready(n->verify);
    } else {
        const struct train_state_options opt = {.key = n->key, .boot = n->life};

        train_state_new(&n->train, &opt);
        train_state_welcome(n->train, i + 1, &w->run);
        n->version = n->checkpoint;
        train_state_ready(n->train, STEPS, w->now_ms, &w->out);
        carry_out(w, i);
    }
}

static void stop_node(struct node *n)
{
    infer_free(&n->infer);
    verify_free(&n->verify);
    train_state_free(&n->train);
    if (n->has_job)
        buf_clear(&n->job.args);
    n->has_job = false;
}

static void end_infer_job(struct world *w, struct node *n, enum status st)
{
    struct reader r = reader_of(buf_bytes(&n->job.args));
    int64_t version = (int64_t)reader_u64(&r);
    uint32_t count = reader_u32(&r);
    struct buf result, body;

    buf_init(&result, 1u << 16);
    buf_init(&body, 64);
    buf_put_u32(&result, count);
    for (uint32_t k = 0; k < count; k++) {
        uint64_t unit = reader_u64(&r), lease = reader_u64(&r);

        (void)reader_blob(&r); /* no orders here */
        buf_reset(&body);
        buf_put_u64(&body, unit);
        buf_put_u64(&body, lease);
        buf_put_u64(&body, (uint64_t)version);
        buf_put_u64(&result, unit);
        buf_put_u64(&result, lease);
        buf_put_u64(&result, 10);
        buf_put_blob(&result, buf_bytes(&body));
    }
    infer_job(n->infer, n->job.number, version > n->newest ? ERR_NOT_FOUND : st,
              buf_bytes(&result), NULL, w->now_ms, &w->out);
    buf_clear(&body);
    buf_clear(&result);
}

static void end_verify_job(struct world *w, struct node *n, enum status st)
{
    struct msg_verdict v = {.submission = {{1}}, .depth = CHECK_LIGHT, .is_accepted = true};
    struct msg_check c;
    struct buf body;

    CHECK(!msg_check_decode(&c, buf_bytes(&n->job.args), NULL));
    v.unit = c.unit;
    v.lease = c.lease;
    buf_init(&body, 4096);
    CHECK(!msg_verdict_encode(&body, &v, NULL));
    if (version_of_unit(c.unit) > n->newest)
        st = ERR_NOT_FOUND;
    verify_job(n->verify, n->job.number, st, buf_bytes(&body), NULL, w->now_ms, &w->out);
    buf_clear(&body);
}

static void end_train_job(struct world *w, struct node *n, enum status st)
{
    struct buf result;
    char text[32];

    if (n->job.kind != TRAIN_JOB_STEP)
        st = OK;
    if (!st && n->job.kind == TRAIN_JOB_STEP)
        n->version++;
    if (!st && n->version % CHECKPOINT == 0)
        n->checkpoint = n->version;
    snprintf(text, sizeof(text), "version %d", (int)n->version);
    buf_init(&result, 256);
    buf_put_u64(&result, (uint64_t)n->version);
    buf_put_blob(&result, bytes_str(text));
    train_state_job(n->train, n->job.kind, st ? ERR_DIGEST : OK, buf_bytes(&result), NULL,
                    w->now_ms, &w->out);
    buf_clear(&result);
}

static void end_job(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];
    enum status st = chance(w, w->fail) ? ERR_TIMEOUT : OK;

    w->n_failed += st != OK;
    n->has_job = false;
    if (n->infer)
        end_infer_job(w, n, st);
    else if (n->verify)
        end_verify_job(w, n, st);
    else
        end_train_job(w, n, st);
    buf_clear(&n->job.args); /* a START in `out` has its own copy */
}

/* Versions that arrived, as the shell's on_timer tells them. */
static void look_at_versions(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];
    int64_t newest = n->newest;

    while (newest < w->head && w->here_ms[newest + 1][i] <= w->now_ms)
        newest++;
    if (newest == n->newest)
        return;
    n->newest = newest;
    n->due_ms = w->now_ms; /* shell_wake */
}

static void tick(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];

    n->due_ms = INT64_MAX;
    if (n->infer) {
        infer_versions(n->infer, n->newest < 0 ? -1 : 0, n->newest);
        infer_tick(n->infer, w->now_ms, &w->out);
    } else if (n->verify) {
        verify_versions(n->verify, n->newest < 0 ? -1 : 0, n->newest, w->now_ms, &w->out);
    } else {
        train_state_tick(n->train, w->now_ms, &w->out);
    }
    carry_out(w, i);
}

static void hear(struct world *w, uint32_t i, struct bytes data)
{
    struct node *n = &w->node[i];
    struct run_news in = {0};
    struct run_news vn = {0};
    struct run_news tn = {0};

    if (n->infer)
        infer_message(n->infer, data, w->now_ms, &in, &w->out);
    else if (n->verify)
        verify_message(n->verify, data, w->now_ms, &vn, &w->out);
    else
        train_state_message(n->train, data, w->now_ms, &tn, &w->out);
    if (n->infer && in.is_done)
        infer_stop(n->infer);
    if (n->verify && vn.is_done)
        verify_stop(n->verify);
    carry_out(w, i);
}

/* ---- time ---------------------------------------------------------------------------- */

/* The next moment at which something happens; INT64_MAX: never again. */
static int64_t next_moment(const struct world *w)
{
    int64_t next = INT64_MAX;

    for (size_t k = 0; k < w->n_flight; k++)
        next = w->flight[k].at_ms < next ? w->flight[k].at_ms : next;
    for (uint32_t i = 0; i < NODES; i++) {
        const struct node *n = &w->node[i];

        next = n->due_ms < next ? n->due_ms : next;
        if (n->has_job)
            next = n->job.at_ms < next ? n->job.at_ms : next;
        for (int64_t v = n->newest + 1; v <= w->head; v++)
            next = w->here_ms[v][i] < next ? w->here_ms[v][i] : next;
    }
    return next;
}

static void deliver(struct world *w)
{
    for (size_t k = 0; k < w->n_flight;) {
        struct flight f = w->flight[k];

        if (f.at_ms > w->now_ms) {
            k++;
            continue;
        }
        w->flight[k] = w->flight[--w->n_flight];
        if (f.is_up)
            serve(w, f.node, buf_bytes(&f.data));
        else if (f.life == w->node[f.node].life)
            hear(w, f.node, buf_bytes(&f.data));
        buf_clear(&f.data);
    }
}

static void live(struct world *w)
{
    deliver(w);
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *n = &w->node[i];

        if (!is_over(w) && chance(w, w->restart)) {
            stop_node(n);
            n->life++;
            w->n_restarts++;
            start_node(w, i);
        }
        look_at_versions(w, i);
        if (n->has_job && n->job.at_ms <= w->now_ms) {
            end_job(w, i);
            carry_out(w, i);
        }
        if (n->due_ms <= w->now_ms)
            tick(w, i);
    }
}

static bool all_at_rest(const struct world *w)
{
    if (!train_state_is_done(w->node[TRAINER].train))
        return false;
    for (uint32_t i = 0; i < WORKERS; i++)
        if (!infer_is_idle(w->node[i].infer))
            return false;
    for (uint32_t i = WORKERS; i < TRAINER; i++)
        if (!verify_is_idle(w->node[i].verify))
            return false;
    return true;
}

static struct world *world_new(uint64_t seed, bool is_alone)
{
    struct world *w = xcalloc(1, sizeof(*w));
    uint8_t key[32] = {0};

    w->rng = rng_of(seed, 77);
    w->run.b[0] = 9;
    w->head = -1;
    w->is_alone = is_alone;
    key[0] = 200;
    key_derive(&w->server, key);
    effects_init(&w->out);
    for (uint32_t i = 0; i < NODES; i++) {
        key[0] = (uint8_t)(i + 1);
        key_derive(&w->node[i].key, key);
        start_node(w, i);
    }
    return w;
}

static void world_free(struct world *w)
{
    for (uint32_t i = 0; i < NODES; i++) {
        stop_node(&w->node[i]);
        key_free(&w->node[i].key);
    }
    for (size_t k = 0; k < w->n_flight; k++)
        buf_clear(&w->flight[k].data);
    for (size_t k = 0; k < KEPT; k++)
        buf_clear(&w->answer[k].data);
    key_free(&w->server);
    effects_clear(&w->out);
    free(w);
}

static void run_to_the_end(struct world *w)
{
    while (!is_over(w) || !all_at_rest(w)) {
        int64_t next = next_moment(w);

        if (next == INT64_MAX || next > END_MS) {
            print_error("at %lld ms, version %lld: \"%s\", \"%s\", \"%s\"\n",
                        (long long)w->now_ms, (long long)w->head, infer_why(w->node[0].infer),
                        verify_why(w->node[WORKERS].verify),
                        train_state_why(w->node[TRAINER].train));
            assert_true(false);
        }
        w->now_ms = next > w->now_ms ? next : w->now_ms + 1;
        live(w);
        assert_ok(train_state_failure(w->node[TRAINER].train, NULL), NULL);
    }
    assert_int_equal(w->head, STEPS);
    for (uint32_t u = 0; u < UNITS; u++) {
        assert_int_equal(w->unit[u].state, ACCEPTED);
        assert_int_equal(w->unit[u].n_accepts, 1);
    }
}

static void a_quiet_network_reaches_the_end(void **state)
{
    (void)state;
    struct world *w = world_new(1, false);

    run_to_the_end(w);
    assert_int_equal(w->n_expired, 0); /* nobody was so slow as to lose a lease */
    assert_true(w->now_ms < 120000);
    world_free(w);
}

static void every_question_is_answered_in_the_end(void **state)
{
    (void)state;
    struct rng r = random_seeded(20);
    uint32_t lost = 0, repeated = 0, failed = 0, restarts = 0, expired = 0;

    for (int round = 0; round < 40; round++) {
        struct world *w = world_new(rng_u64(&r), round % 2);

        w->loss = 50 * (uint32_t)(round % 7); /* to 30 % */
        w->repeat = 60 * (uint32_t)(round % 5);
        w->fail = 40 * (uint32_t)(round % 4);
        w->restart = round % 3 == 2 ? 2 : 0; /* of each node, each moment */
        run_to_the_end(w);
        lost += w->n_lost;
        repeated += w->n_repeated;
        failed += w->n_failed;
        restarts += w->n_restarts;
        expired += w->n_expired;
        world_free(w);
    }
    /* It was the rough sea it was meant to be. */
    assert_true(lost > 500 && repeated > 500 && failed > 50 && restarts > 20 && expired > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_network_reaches_the_end),
        cmocka_unit_test(every_question_is_answered_in_the_end),
    };
    return cmocka_run_group_tests_name("roles", tests, NULL, NULL);
}
