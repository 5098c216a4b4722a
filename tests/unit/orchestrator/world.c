#include "unit/orchestrator/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "envs/task.h"
#include "ledger/tables.h"
#include "proto/digest.h"
#include "proto/sign.h"
#include "proto/transcript.h"
#include "support/tempdir.h"

/* ---- disk ------------------------------------------------------------------------------ */

static enum status get_value(struct db *db, unsigned table, struct bytes key, struct buf *out,
                             struct err *e)
{
    struct db_txn *txn;
    struct bytes value;
    enum status st;

    CHECK(!db_begin(&txn, db, false, NULL));
    st = db_get(txn, table, key, &value, e);
    if (!st)
        buf_append(out, value);
    db_abort(&txn);
    return st;
}

static enum status get_blob(void *ctx, const struct digest *d, struct buf *out, struct err *e)
{
    struct world *w = ctx;

    return get_value(w->db, LEDGER_TABLE_BLOBS, BYTES_OF(d->b), out, e);
}

static enum status get_entry(void *ctx, uint64_t seq, struct buf *out, struct err *e)
{
    struct world *w = ctx;
    struct db_key8 key = db_key_u64(seq);

    return get_value(w->db, LEDGER_TABLE_ENTRIES, BYTES_OF(key.b), out, e);
}

static void commit(struct world *w)
{
    struct db_txn *txn;

    CHECK(!db_begin(&txn, w->db, true, NULL));
    for (size_t i = 0; i < w->out.n; i++) {
        const struct effect *f = &w->out.v[i];
        if (f->kind == EFFECT_PUT)
            CHECK(!db_put(txn, f->table, f->key, f->value, NULL));
    }
    CHECK(!db_commit(&txn, NULL));
}

static enum status visit_entry(void *arg, const struct ledger_entry *en, struct bytes encoded,
                               struct err *e)
{
    (void)encoded;
    return orch_apply(arg, en, NULL, e);
}

static enum status visit_meta(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    (void)e;
    orch_set_meta(arg, key, value);
    return OK;
}

static void start_orch(struct world *w)
{
    struct orch_options opt = {.key = w->key,
                               .first_bytes = w->opt.first_bytes,
                               .store = {w, get_blob, get_entry},
                               .beacon_length = 4096,
                               .mature_window = 40,
                               .control = "tcp://127.0.0.1:4000",
                               .enrol = "tcp://127.0.0.1:4001"};
    struct db_txn *txn;
    struct err e = {0};
    enum status st;

    digest_of(&opt.beacon_seed, BYTES_LIT("a seed"));
    orch_new(&w->orch, &opt);
    CHECK(!db_begin(&txn, w->db, false, NULL));
    st = ledger_log_load(orch_log(w->orch), txn, visit_entry, w->orch, &e);
    if (!st)
        st = db_each(txn, LEDGER_TABLE_META, (struct bytes){NULL, 0}, visit_meta, w->orch, &e);
    db_abort(&txn);
    if (!st)
        st = orch_begin(w->orch, w->now_ms, (w->now_ms + w->ahead_ms) * 1000, &w->out, &e);
    if (st)
        fprintf(stderr, "the orchestrator does not start: %s\n", e.text);
    CHECK(!st);
    w->job = 0;
    w->timer_ms = w->now_ms;
}

void world_restart(struct world *w)
{
    effects_reset(&w->out);
    orch_free(&w->orch);
    start_orch(w);
    commit(w);
    effects_reset(&w->out);
    w->n_crashes++;
}

/* ---- rounds ---------------------------------------------------------------------------- */

static void deliver_up(struct world *w, const struct world_packet *p)
{
    struct orch_input in = {.peer = p->node + 1,
                            .transport = &w->node[p->node].key->transport,
                            .is_enrolment = p->is_enrolment,
                            .data = buf_bytes(&p->data)};

    orch_message(w->orch, &in, w->now_ms, &w->out);
}

static void deliver(struct world *w)
{
    size_t n = w->n_packets;

    for (size_t i = 0; i < n;) {
        struct world_packet p = w->packet[i];
        if (p.at_ms > w->now_ms) {
            i++;
            continue;
        }
        w->packet[i] = w->packet[--n];
        w->packet[n] = w->packet[--w->n_packets];
        if (p.is_up)
            deliver_up(w, &p);
        else
            world_hear(w, p.node, buf_bytes(&p.data));
        buf_clear(&p.data);
    }
}

/* A draw is made at once; what a dispute comes to the test says (orch_judged). */
static void note_job(struct world *w, const struct effect *f, uint64_t *draw)
{
    if (f->job == ORCH_JOB_DRAW) {
        *draw = f->peer;
        return;
    }
    w->n_judged++;
    buf_reset(&w->transcript);
    buf_append(&w->transcript, f->value);
}

static void carry_out(struct world *w)
{
    for (size_t i = 0; i < w->out.n; i++) {
        const struct effect *f = &w->out.v[i];
        if (f->kind == EFFECT_SEND && f->peer > w->n_nodes)
            continue; /* of a test's own */
        if (f->kind == EFFECT_SEND)
            world_post(w, (uint32_t)f->peer - 1, false, false, f->value);
        else if (f->kind == EFFECT_START)
            note_job(w, f, &w->job);
        else if (f->kind == EFFECT_TIMER)
            w->timer_ms = f->at_ms;
    }
    effects_reset(&w->out);
}

static void drop_notes(struct world *w)
{
    struct buf b;

    buf_init(&b, 1u << 20);
    orch_take_notes(w->orch, &b);
    if (getenv("TEST_NOTES"))
        fprintf(stderr, "%s", buf_cstr(&b));
    buf_clear(&b);
}

void world_round(struct world *w)
{
    uint64_t job = w->job;
    bool crashes = rng_below(&w->rng, 1000) < w->opt.crash;

    w->now_ms += 1 + (int64_t)rng_below(&w->rng, 20);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (rng_below(&w->rng, 10000) < w->opt.node_crash)
            world_crash_node(w, i);
        world_act(w, i);
    }
    deliver(w);
    if (job) {
        w->job = 0;
        orch_job(w->orch, ORCH_JOB_DRAW, job, w->now_ms, &w->out);
    }
    if (w->now_ms >= w->timer_ms)
        orch_tick(w->orch, w->now_ms, &w->out);
    drop_notes(w);
    if (crashes && rng_below(&w->rng, 2)) {
        world_restart(w);
        return;
    }
    commit(w);
    if (crashes)
        world_restart(w);
    else
        carry_out(w);
}

bool world_run(struct world *w, int64_t most_ms)
{
    int64_t end = w->now_ms + most_ms;
    bool is_over = false;

    while (!is_over && w->now_ms < end) {
        world_round(w);
        is_over = orch_is_done(w->orch);
        for (uint32_t i = 0; i < w->n_nodes && is_over; i++)
            is_over = w->node[i].knows_done || w->node[i].is_dead ||
                      (w->opt.has_cheat && i == world_node_of(w, ROLE_INFERENCE, 0)) ||
                      ((w->opt.has_lazy || w->opt.has_framer) &&
                       i == world_node_of(w, ROLE_VERIFIER, 0)); /* it may be barred */
    }
    return is_over;
}

/* ---- by hand --------------------------------------------------------------------------- */

/* The orchestrator's effects until it rests; the last message to `node` is kept. */
static void rest(struct world *w, uint32_t node)
{
    for (bool again = true; again;) {
        uint64_t job = 0;
        commit(w);
        for (size_t i = 0; i < w->out.n; i++) {
            const struct effect *f = &w->out.v[i];
            if (f->kind == EFFECT_START)
                note_job(w, f, &job);
            if (f->kind == EFFECT_TIMER)
                w->timer_ms = f->at_ms;
            if (f->kind != EFFECT_SEND || f->peer != node + 1)
                continue;
            buf_reset(&w->node[node].answer);
            buf_append(&w->node[node].answer, f->value);
            w->node[node].has_answer = true;
        }
        effects_reset(&w->out);
        drop_notes(w);
        again = job != 0;
        if (job)
            orch_job(w->orch, ORCH_JOB_DRAW, job, w->now_ms, &w->out);
    }
}

void world_repeat(struct world *w, uint32_t node, struct msg_envelope *m)
{
    struct world_node *n = &w->node[node];
    struct orch_input in = {.peer = node + 1,
                            .transport = &n->key->transport,
                            .is_enrolment = n->kind == MSG_JOIN,
                            .data = buf_bytes(&n->request)};

    n->has_answer = false;
    orch_message(w->orch, &in, w->now_ms, &w->out);
    rest(w, node);
    memset(m, 0, sizeof(*m));
    if (n->has_answer)
        CHECK(!msg_envelope_decode(m, buf_bytes(&n->answer), NULL));
}

void world_ask(struct world *w, uint32_t node, enum msg_kind kind, struct bytes body,
               struct msg_envelope *m)
{
    struct world_node *n = &w->node[node];

    world_encode(w, n, kind, body, &n->request);
    n->kind = kind;
    world_repeat(w, node, m);
}

void world_deliver_submission(struct world *w, uint32_t node, const struct lease_item *l)
{
    struct world_node *n = &w->node[node];
    struct orch_input in = {.peer = node + 1, .transport = &n->key->transport};
    struct buf body, frame;

    buf_init(&body, 1u << 20);
    buf_init(&frame, 1u << 20);
    world_submission(w, &body, l, false);
    world_encode(w, n, MSG_SUBMIT, buf_bytes(&body), &frame);
    in.data = buf_bytes(&frame);
    orch_message(w->orch, &in, w->now_ms, &w->out);
    buf_clear(&body);
    buf_clear(&frame);
}

void world_pass(struct world *w, int64_t ms)
{
    int64_t end = w->now_ms + ms;

    while (w->now_ms < end) {
        w->now_ms = w->timer_ms > w->now_ms && w->timer_ms < end ? w->timer_ms : end;
        orch_tick(w->orch, w->now_ms, &w->out);
        rest(w, 0);
    }
}

void world_settle(struct world *w)
{
    struct msg_task_publish p = {.bundle = buf_bytes(&w->bundle)};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        world_join_body(&w->node[i], &body);
        world_ask(w, i, MSG_JOIN, buf_bytes(&body), &m);
        CHECK(m.kind == MSG_JOINED);
    }
    buf_reset(&body);
    CHECK(!msg_task_publish_encode(&body, &p, NULL));
    world_ask(w, world_node_of(w, ROLE_INITIATOR, 0), MSG_TASK_PUBLISH, buf_bytes(&body), &m);
    CHECK(m.kind == MSG_RECEIPT);
    buf_clear(&body);
}

/* ---- life ------------------------------------------------------------------------------ */

static void add_node(struct world *w, enum role role)
{
    struct world_node *n = &w->node[w->n_nodes];
    uint8_t seed[32] = {1, (uint8_t)w->n_nodes};
    char link[INVITE_LINK_BYTES];

    CHECK(w->n_nodes < WORLD_NODES_MAX);
    key_derive(&n->key, seed);
    n->role = role;
    buf_init(&n->request, MSG_MAX_BYTES);
    buf_init(&n->sealed, MSG_MAX_BYTES);
    buf_init(&n->answer, MSG_MAX_BYTES);
    CHECK(!orch_invite(w->orch, role, w->now_ms, &w->out, link, NULL));
    memcpy(n->invite_link, link, sizeof(link));
    w->n_nodes++;
}

uint32_t world_node_of(const struct world *w, enum role role, uint32_t i)
{
    for (uint32_t k = 0; k < w->n_nodes; k++)
        if (w->node[k].role == role && i-- == 0)
            return k;
    CHECK(!"a node of this role");
    return 0;
}

void world_new(struct world **out, const struct world_options *opt, uint64_t seed)
{
    struct db_options dbo = {.magic = LEDGER_DB_MAGIC,
                             .version = LEDGER_DB_VERSION,
                             .tables = ledger_tables,
                             .map_bytes = 256u << 20,
                             .no_sync = true};
    static const uint8_t orch_seed[32] = {7};
    struct world *w = xcalloc(1, sizeof(*w));

    sign_ready();
    w->opt = *opt;
    w->ahead_ms = opt->ahead_ms;
    w->rng = rng_of(seed, 1);
    w->dir = tempdir_make();
    w->now_ms = 1000000;
    effects_init(&w->out);
    buf_init(&w->bundle, BUNDLE_MAX_BYTES);
    buf_init(&w->transcript, TRANSCRIPT_MAX_BYTES);
    world_make_bundle(w);
    CHECK(!db_open(&w->db, w->dir, &dbo, NULL));
    key_derive(&w->key, orch_seed);
    start_orch(w);
    add_node(w, ROLE_TRAINER);
    add_node(w, ROLE_INITIATOR);
    for (uint32_t i = 0; i < opt->n_workers; i++)
        add_node(w, ROLE_INFERENCE);
    for (uint32_t i = 0; i < opt->n_verifiers; i++)
        add_node(w, ROLE_VERIFIER);
    if (opt->has_two_initiators)
        add_node(w, ROLE_INITIATOR);
    if (opt->has_two_trainers)
        add_node(w, ROLE_TRAINER);
    commit(w);
    carry_out(w);
    *out = w;
}

void world_free(struct world **wp)
{
    struct world *w = *wp;

    if (!w)
        return;
    orch_free(&w->orch);
    db_close(&w->db);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        key_free(&w->node[i].key);
        buf_clear(&w->node[i].request);
        buf_clear(&w->node[i].sealed);
        buf_clear(&w->node[i].answer);
    }
    for (size_t i = 0; i < w->n_packets; i++)
        buf_clear(&w->packet[i].data);
    free(w->packet);
    free(w->receipt);
    buf_clear(&w->bundle);
    buf_clear(&w->transcript);
    effects_clear(&w->out);
    key_free(&w->key);
    tempdir_remove(&w->dir);
    free(w);
    *wp = NULL;
}
