/*
 * Whatever two admitted nodes say, a worker and a validator: the orchestrator lives, the run of the others ends, none
 * of them loses anything, and the ledger audits clean. And whatever all say, it lives, and the ledger does.
 *
 * Messages are of the kinds that the orchestrator takes, with numbers and digests that are at hand, at the ends of
 * their ranges, or nobody's; with keys of idempotency that are new, used before, or missing.
 */
#include "orchestrator/orch_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/audit.h"
#include "ledger/books.h"
#include "ledger/log.h"
#include "proto/digest.h"
#include "proto/submission.h"
#include "support/random.h"
#include "support/test.h"
#include "unit/orchestrator/world.h"

#define HOUR_MS      3600000
#define RUNS         6
#define A_ROUND      3    /* of their messages */
#define KEYS         8u   /* of idempotency that are remembered */
#define PEER         1000 /* of connections that the world answers nothing over */
#define KINDS_NUMBER (sizeof(kinds) / sizeof(kinds[0]))

static const enum msg_kind kinds[] = {
    MSG_HELLO,      MSG_BUNDLE_ASK,   MSG_ROSTER_ASK,  MSG_LEASE_ASK,  MSG_HEARTBEAT,
    MSG_SUBMIT,     MSG_DRAWN_ASK,    MSG_OPENING,     MSG_CHECK_ASK,  MSG_VERDICT_SEAL,
    MSG_VERDICT,    MSG_VERDICTS,     MSG_WITNESS_ASK, MSG_WITNESS,    MSG_BATCH_ASK,
    MSG_AUDIT_ASK,  MSG_STEP_VERDICT, MSG_DISPUTE_ASK, MSG_DISPUTE,    MSG_PUBLISH,
    MSG_ABANDON,    MSG_STATUS_ASK,   MSG_DRAIN,       MSG_TASK_CLOSE, MSG_LEDGER_ASK,
    MSG_INVITE_ASK, MSG_WELCOME,      MSG_RECEIPT,     MSG_HEAD,
};

struct foe {
    struct world *w;
    struct rng rng;
    struct idem used[KEYS];
    struct msg_submit *submit; /* owned */
    struct buf body, frame, submission;
    uint64_t n_said;
};

static const struct ledger_books *books_of(const struct foe *f)
{
    return ledger_log_books(orch_log(f->w->orch));
}

static uint64_t below(struct foe *f, uint64_t n)
{
    return rng_below(&f->rng, n);
}

static uint64_t some_number(struct foe *f)
{
    static const uint64_t ends[] = {0,
                                    1,
                                    UINT64_MAX,
                                    INT64_MAX,
                                    UINT32_MAX,
                                    INT32_MAX,
                                    (uint64_t)INT64_MAX + 1,
                                    1u << 24,
                                    (1u << 24) - 1};

    if (below(f, 3) == 0)
        return ends[below(f, sizeof(ends) / sizeof(ends[0]))];
    return below(f, ledger_log_length(orch_log(f->w->orch)) + 2);
}

static int64_t some_version(struct foe *f)
{
    static const int64_t ends[] = {-1, 0, INT64_MAX, INT32_MAX, INT64_MAX - 1};

    if (below(f, 4) == 0)
        return ends[below(f, sizeof(ends) / sizeof(ends[0]))];
    return (int64_t)below(f, (uint64_t)f->w->opt.steps + 2);
}

/* A unit that was leased, and its lease; or any. */
static const struct ledger_unit *some_unit(struct foe *f, uint64_t *unit, uint64_t *lease)
{
    size_t n = ledger_books_n_units(books_of(f));
    const struct ledger_unit *u =
        n && below(f, 4) ? ledger_books_unit_at(books_of(f), below(f, n)) : NULL;

    *unit = u ? u->unit : some_number(f);
    *lease = u && below(f, 8) ? u->lease : some_number(f);
    return u;
}

static struct digest some_digest(struct foe *f)
{
    size_t n = ledger_books_n_units(books_of(f));
    struct digest d = {{0}};

    switch (below(f, 6)) {
    case 0: break;
    case 1: d = f->w->task; break;
    case 2: d = *ledger_books_weights(books_of(f)); break;
    case 3:
        if (n)
            d = ledger_books_unit_at(books_of(f), below(f, n))->envelope;
        break;
    case 4:
        d = *ledger_log_hash(orch_log(f->w->orch),
                             below(f, ledger_log_length(orch_log(f->w->orch))));
        break;
    default: random_bytes(&f->rng, d.b, sizeof(d.b));
    }
    return d;
}

static struct bytes some_bytes(struct foe *f)
{
    static uint8_t data[4096];

    random_bytes(&f->rng, data, sizeof(data));
    return (struct bytes){data, below(f, 2) ? 64 * below(f, 8) : below(f, sizeof(data))};
}

/* ---- bodies -------------------------------------------------------------------------------- */

#define PUT(field, name, ...)                                                                  \
    do {                                                                                       \
        struct msg_##name m = {__VA_ARGS__};                                                   \
        (void)!msg_##field##_encode(&f->body, &m, NULL);                                       \
    } while (0)

static void put_submit(struct foe *f)
{
    struct lease_item l = {.version = (int64_t)below(f, 4)};
    struct msg_submit *m = f->submit;

    (void)some_unit(f, &l.unit, &l.lease);
    if (l.unit > 1000)
        l.unit = below(f, 40);
    buf_reset(&f->submission);
    world_submission(f->w, &f->submission, &l, below(f, 2));
    assert_ok(msg_submit_decode(m, buf_bytes(&f->submission), NULL), NULL);
    switch (below(f, 8)) {
    case 4: m->version = some_version(f); break;
    case 5: m->lease = some_number(f); break;
    case 0: m->root = some_digest(f); break;
    case 1: m->sample[0].reward = -1e30f; break;
    case 2: m->n_samples = (uint32_t)below(f, m->n_samples + 1); break;
    case 3: m->unit = some_number(f); break;
    case 6: m->task = some_digest(f); break;
    default: break;
    }
    (void)!msg_submit_encode(&f->body, m, NULL);
}

static void put_verdict(struct foe *f)
{
    struct msg_verdict m = {.submission = some_digest(f),
                            .depth = (uint32_t)below(f, 4),
                            .code = (uint32_t)below(f, REASON_COUNT + 2),
                            .sample = (uint32_t)some_number(f),
                            .position = (uint32_t)some_number(f),
                            .states = some_digest(f)};
    const struct ledger_unit *u = some_unit(f, &m.unit, &m.lease);

    if (u && below(f, 3))
        m.submission = u->envelope;
    m.is_accepted = below(f, 2);
    if (m.is_accepted && below(f, 3))
        m.code = REASON_NONE;
    if (below(f, 4) == 0)
        m.opened = some_bytes(f);
    (void)!msg_verdict_encode(&f->body, &m, NULL);
}

static void put_verdicts(struct foe *f)
{
    struct msg_verdicts m = {.n = 1 + (uint32_t)below(f, 4), .submissions = some_digest(f)};
    struct digest_state d;

    digest_begin(&d, "muster/1/submissions");
    for (uint32_t i = 0; i < m.n; i++) {
        const struct ledger_unit *u = some_unit(f, &m.item[i].unit, &m.item[i].lease);
        if (u)
            digest_add(&d, BYTES_OF(u->envelope.b));
    }
    if (below(f, 3))
        digest_end(&d, &m.submissions);
    (void)!msg_verdicts_encode(&f->body, &m, NULL);
}

static void put_heartbeat(struct foe *f)
{
    struct msg_heartbeat m = {.n = (uint32_t)below(f, 5)};

    for (uint32_t i = 0; i < m.n; i++) {
        (void)some_unit(f, &m.item[i].unit, &m.item[i].lease);
        m.item[i].tokens = some_number(f);
    }
    (void)!msg_heartbeat_encode(&f->body, &m, NULL);
}

static void put_work(struct foe *f, enum msg_kind kind)
{
    uint64_t unit, lease;

    (void)some_unit(f, &unit, &lease);
    switch (kind) {
    case MSG_LEASE_ASK:
        PUT(lease_ask, lease_ask, .newest_version = some_version(f),
            .oldest_version = some_version(f), .max = (uint32_t)below(f, 40));
        break;
    case MSG_HEARTBEAT: put_heartbeat(f); break;
    case MSG_SUBMIT: put_submit(f); break;
    case MSG_DRAWN_ASK: PUT(drawn_ask, drawn_ask, .settled = some_number(f)); break;
    case MSG_OPENING:
        PUT(opening, opening, .unit = unit, .lease = lease, .proofs = some_bytes(f),
            .states = some_digest(f));
        break;
    case MSG_CHECK_ASK:
        PUT(check_ask, check_ask, .newest_version = some_version(f),
            .oldest_version = some_version(f));
        break;
    case MSG_VERDICT_SEAL:
        PUT(verdict_seal, verdict_seal, .unit = unit, .lease = lease,
            .verdict = some_digest(f));
        break;
    case MSG_VERDICT: put_verdict(f); break;
    case MSG_VERDICTS: put_verdicts(f); break;
    case MSG_WITNESS_ASK: PUT(witness_ask, witness_ask, .have = some_number(f)); break;
    case MSG_WITNESS:
        PUT(witness, witness, .seq = some_number(f), .entry = some_digest(f),
            .nonce = some_digest(f), .next = some_digest(f));
        break;
    default: break;
    }
}

static void put_training(struct foe *f, enum msg_kind kind)
{
    const struct digest batch = some_digest(f);

    switch (kind) {
    case MSG_BATCH_ASK: PUT(batch_ask, batch_ask, .batch = some_number(f)); break;
    case MSG_AUDIT_ASK: PUT(audit_ask, audit_ask, .version = some_version(f)); break;
    case MSG_STEP_VERDICT:
        PUT(step_verdict, step_verdict, .version = some_version(f), .manifest = some_digest(f),
            .is_accepted = below(f, 2), .weights = some_digest(f), .masters = some_digest(f),
            .proof = some_bytes(f));
        break;
    case MSG_DISPUTE_ASK:
        PUT(dispute_ask, dispute_ask, .dispute = some_digest(f),
            .have = (uint32_t)some_number(f));
        break;
    case MSG_DISPUTE:
        PUT(dispute, dispute, .dispute = some_digest(f), .number = (uint32_t)below(f, 3),
            .previous = some_digest(f), .move = some_bytes(f));
        break;
    case MSG_PUBLISH:
        world_manifest(f->w, &f->body, (int64_t)below(f, 4), &batch, (uint32_t)below(f, 2));
        break;
    case MSG_ABANDON:
        PUT(abandon, abandon, .version = some_version(f), .weights = some_digest(f));
        break;
    default: break;
    }
}

static void put_rest(struct foe *f, enum msg_kind kind)
{
    switch (kind) {
    case MSG_HELLO:
        PUT(hello, hello, .role = (uint32_t)below(f, 8), .endpoint = "tcp://127.0.0.1:1",
            .newest_version = some_version(f));
        break;
    case MSG_BUNDLE_ASK: PUT(bundle_ask, bundle_ask, .task = some_digest(f)); break;
    case MSG_ROSTER_ASK: PUT(roster_ask, roster_ask, .since = some_number(f)); break;
    case MSG_STATUS_ASK:
        PUT(status_ask, status_ask, .what = 1 + (uint32_t)below(f, 6),
            .number = some_number(f));
        break;
    case MSG_DRAIN: PUT(drain, drain, .text = "no more"); break;
    case MSG_TASK_CLOSE: PUT(task_close, task_close, .task = some_digest(f)); break;
    case MSG_LEDGER_ASK:
        PUT(ledger_ask, ledger_ask, .from = some_number(f), .max = (uint32_t)some_number(f));
        break;
    case MSG_INVITE_ASK: PUT(invite_ask, invite_ask, .role = (uint32_t)below(f, 8)); break;
    default: buf_append(&f->body, some_bytes(f)); break;
    }
}

/* ---- what is said -------------------------------------------------------------------------- */

static struct idem some_idem(struct foe *f)
{
    struct idem idem = {{0}};

    if (below(f, 20) == 0)
        return idem;
    if (below(f, 5) == 0)
        return f->used[below(f, KEYS)];
    random_bytes(&f->rng, idem.b, sizeof(idem.b));
    f->used[below(f, KEYS)] = idem;
    return idem;
}

static void say(struct foe *f, uint32_t node)
{
    const struct world_node *n = &f->w->node[node];
    const struct world_node *signer = below(f, 20) ? n : &f->w->node[below(f, f->w->n_nodes)];
    const struct digest run = below(f, 50) ? *orch_run_id(f->w->orch) : some_digest(f);
    struct orch_input in = {.peer = PEER + node, .transport = &n->key->transport};
    enum msg_kind kind = kinds[below(f, KINDS_NUMBER)];
    const struct idem idem = some_idem(f);
    struct effects out;

    buf_reset(&f->body);
    buf_reset(&f->frame);
    put_work(f, kind);
    put_training(f, kind);
    if (!f->body.len)
        put_rest(f, kind);
    if (msg_envelope_encode(&f->frame, kind, &run, &idem, buf_bytes(&f->body),
                            msg_kind_is_signed(kind) ? signer->key->node_secret : NULL, NULL))
        return;
    in.data = buf_bytes(&f->frame);
    in.is_enrolment = below(f, 100) == 0;
    effects_init(&out);
    orch_message(f->w->orch, &in, f->w->now_ms, &out);
    for (size_t i = 0; i < out.n; i++) { /* what is sent to them nobody reads */
        const struct effect *x = &out.v[i];
        if (x->kind == EFFECT_SEND && x->peer < PEER)
            effects_send(&f->w->out, x->peer, x->value);
        else if (x->kind == EFFECT_PUT)
            effects_put(&f->w->out, x->table, x->key, x->value);
        else if (x->kind == EFFECT_START)
            effects_start(&f->w->out, x->job, x->peer, x->value);
    }
    effects_clear(&out);
    f->n_said++;
}

static bool is_over(const struct world *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        if (!w->node[i].is_dead && !w->node[i].knows_done)
            return false;
    return true;
}

static void the_run_of_the_others_ends(struct foe *f)
{
    struct world *w = f->w;
    const uint32_t foes[] = {world_node_of(w, ROLE_INFERENCE, 0),
                             world_node_of(w, ROLE_VERIFIER, 0)};
    int64_t end_ms = w->now_ms + HOUR_MS;

    while (!is_over(w) && w->now_ms < end_ms) {
        world_round(w);
        for (uint32_t i = 0; i < 2; i++) {
            w->node[foes[i]].is_dead |= w->node[foes[i]].is_joined;
            for (uint32_t k = 0; k < A_ROUND && w->node[foes[i]].is_dead; k++)
                say(f, foes[i]);
        }
    }
    if (!is_over(w))
        fail_msg("the run goes on after an hour and %llu messages",
                 (unsigned long long)f->n_said);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const struct ledger_node *n = ledger_books_node(books_of(f), &w->node[i].key->node);
        if (i != foes[0] && i != foes[1])
            assert_false(n->is_slashed || n->is_revoked);
    }
}

static void audit_is_clean(struct world *w)
{
    struct audit_report *r = xcalloc(1, sizeof(*r));

    db_close(&w->db); /* one process opens a directory once */
    if (audit_run(r, w->dir) != AUDIT_CLEAN)
        fail_msg("entry %llu: %s", (unsigned long long)r->bad_seq, r->why);
    free(r);
}

static void open_foe(struct foe *f, struct rng *r, int i, bool with_steps)
{
    const struct world_options o = {.n_workers = 3,
                                    .n_verifiers = 4,
                                    .steps = 3,
                                    .units_per_batch = 4,
                                    .lag = 1,
                                    .order = i % 2 ? "arrival" : "unit",
                                    .crash = i % 3 == 1 ? 5 : 0,
                                    .recheck_ppm = i % 3 ? 500000 : 0,
                                    .step_ppm = with_steps ? 1000000 : 0,
                                    .canary_ppm = i % 3 == 2 ? 200000 : 0,
                                    .witnesses = i % 3 == 2,
                                    .is_open = i == 3,
                                    .delay_ms = 20};

    memset(f, 0, sizeof(*f));
    f->rng = rng_of(rng_u64(r), 2);
    world_new(&f->w, &o, rng_u64(r));
    f->submit = xcalloc(1, sizeof(*f->submit));
    buf_init(&f->body, MSG_MAX_BYTES);
    buf_init(&f->frame, MSG_MAX_BYTES);
    buf_init(&f->submission, MSG_MAX_BYTES);
}

static void close_foe(struct foe *f)
{
    buf_clear(&f->body);
    buf_clear(&f->frame);
    buf_clear(&f->submission);
    free(f->submit);
    world_free(&f->w);
}

static void whatever_two_say_the_run_of_the_others_ends(void **state)
{
    struct rng r = random_seeded(41);
    struct foe f;

    (void)state;
    for (int i = 0; i < RUNS; i++) {
        open_foe(&f, &r, i, false); /* nobody in this world recomputes a version */
        the_run_of_the_others_ends(&f);
        audit_is_clean(f.w);
        close_foe(&f);
    }
}

/* The trainer and the initiator among them, so a run may end in any way. */
static void whatever_all_say_the_ledger_audits_clean(void **state)
{
    struct rng r = random_seeded(43);
    struct foe f;

    (void)state;
    for (int i = 0; i < RUNS; i++) {
        open_foe(&f, &r, i, i % 2);
        for (int k = 0; k < 1000; k++) {
            uint32_t node = (uint32_t)below(&f, f.w->n_nodes);
            world_round(f.w);
            if (f.w->node[node].is_joined)
                say(&f, node);
        }
        world_restart(f.w);
        audit_is_clean(f.w);
        close_foe(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_two_say_the_run_of_the_others_ends),
        cmocka_unit_test(whatever_all_say_the_ledger_audits_clean),
    };

    return cmocka_run_group_tests_name("orchestrator/hostile", tests, NULL, NULL);
}
