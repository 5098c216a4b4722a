#include "unit/orchestrator/moves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/tables.h"
#include "proto/digest.h"

const struct ledger_books *move_books(const struct world *w)
{
    return ledger_log_books(orch_log(w->orch));
}

const struct ledger_unit *move_unit(const struct world *w, uint64_t unit)
{
    return ledger_books_unit(move_books(w), unit);
}

void move_hello(struct world *w)
{
    struct msg_hello h = {.newest_version = -1};
    struct msg_envelope m;
    struct buf body;

    for (uint32_t i = 0; i < w->n_nodes; i++) {
        buf_init(&body, 4096);
        h.role = (uint32_t)w->node[i].role;
        snprintf(h.endpoint, sizeof(h.endpoint), "tcp://127.0.0.1:%u", 5000 + i);
        CHECK(!msg_hello_encode(&body, &h, NULL));
        world_ask(w, i, MSG_HELLO, buf_bytes(&body), &m);
        buf_clear(&body);
    }
}

void move_publish(struct world *w, int64_t version, const struct digest *batch,
                  uint32_t variant, struct msg_receipt *r)
{
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 1u << 20);
    world_manifest(w, &body, version, batch, variant);
    world_ask(w, world_node_of(w, ROLE_TRAINER, 0), MSG_PUBLISH, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

/* Light checks that came with one that was taken: they are next. */
static struct {
    struct buf body;
    struct msg_checks m;
    uint32_t next, verifier;
} light;

void move_world(struct world **w, const struct world_options *o)
{
    struct msg_receipt r;

    light.m.n = 0;
    world_new(w, o, 1);
    world_settle(*w);
    move_hello(*w);
    move_publish(*w, 0, NULL, 0, &r);
    assert_true(r.is_accepted);
}

static void decode_wait(const struct msg_envelope *m, struct msg_wait *wait)
{
    struct msg_wait unused;

    assert_int_equal(m->kind, MSG_WAIT);
    assert_ok(msg_wait_decode(wait ? wait : &unused, m->body, NULL), NULL);
}

bool move_lease(struct world *w, uint32_t worker, uint32_t max, struct msg_lease *l,
                struct msg_wait *wait)
{
    const struct msg_lease_ask ask = {.newest_version = WORLD_SERVES, .max = max};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 256);
    CHECK(!msg_lease_ask_encode(&body, &ask, NULL));
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_LEASE_ASK, buf_bytes(&body), &m);
    buf_clear(&body);
    if (m.kind != MSG_LEASE) {
        decode_wait(&m, wait);
        return false;
    }
    assert_ok(msg_lease_decode(l, m.body, NULL), NULL);
    return true;
}

void move_beat(struct world *w, uint32_t worker, const struct lease_item *l, uint64_t tokens,
               struct msg_beat *b)
{
    const struct msg_heartbeat h = {.n = 1, .item = {{l->unit, l->lease, tokens}}};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 4096);
    CHECK(!msg_heartbeat_encode(&body, &h, NULL));
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_HEARTBEAT, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_BEAT);
    assert_ok(msg_beat_decode(b, m.body, NULL), NULL);
}

void move_submit(struct world *w, uint32_t worker, const struct lease_item *l, bool is_cheating,
                 struct msg_receipt *r)
{
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 1u << 20);
    world_submission(w, &body, l, is_cheating);
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_SUBMIT, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

static bool next_light(uint32_t verifier, struct msg_check *c)
{
    const struct check_item *it = &light.m.item[light.next];

    if (light.next >= light.m.n || light.verifier != verifier)
        return false;
    light.next++;
    *c = (struct msg_check){.unit = it->unit,
                            .lease = it->lease,
                            .depth = CHECK_LIGHT,
                            .deadline_ms = light.m.deadline_ms,
                            .submission = it->submission};
    return true;
}

bool move_check(struct world *w, uint32_t verifier, struct msg_check *c)
{
    const struct msg_check_ask ask = {.newest_version = WORLD_SERVES};
    struct msg_envelope m;
    struct buf body;

    if (next_light(verifier, c))
        return true;
    buf_init(&body, 256);
    CHECK(!msg_check_ask_encode(&body, &ask, NULL));
    world_ask(w, world_node_of(w, ROLE_VERIFIER, verifier), MSG_CHECK_ASK, buf_bytes(&body),
              &m);
    buf_clear(&body);
    if (m.kind == MSG_CHECKS) {
        buf_clear(&light.body);
        buf_init(&light.body, MSG_MAX_BYTES);
        buf_append(&light.body, m.body);
        assert_ok(msg_checks_decode(&light.m, buf_bytes(&light.body), NULL), NULL);
        light.next = 0;
        light.verifier = verifier;
        return next_light(verifier, c);
    }
    if (m.kind != MSG_CHECK) {
        decode_wait(&m, NULL);
        return false;
    }
    assert_ok(msg_check_decode(c, m.body, NULL), NULL);
    return true;
}

void move_verdict(struct world *w, uint32_t verifier, const struct msg_check *c,
                  enum reason code, struct msg_receipt *r)
{
    struct msg_verdict v = {.unit = c->unit,
                            .lease = c->lease,
                            .depth = c->depth,
                            .is_accepted = code == REASON_NONE,
                            .code = (uint32_t)code};
    struct msg_envelope m;
    struct buf body;

    digest_of(&v.submission, c->submission);
    buf_init(&body, 4096);
    CHECK(!msg_verdict_encode(&body, &v, NULL));
    world_ask(w, world_node_of(w, ROLE_VERIFIER, verifier), MSG_VERDICT, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

uint32_t move_judge_all(struct world *w, uint32_t verifier, enum reason code)
{
    struct msg_receipt r;
    struct msg_check c;
    uint32_t n = 0;

    while (move_check(w, verifier, &c)) {
        move_verdict(w, verifier, &c, code, &r);
        assert_true(r.is_accepted);
        n++;
    }
    return n;
}

void move_all_units(struct world *w)
{
    struct msg_receipt r;
    struct msg_lease l;
    bool again = true;

    while (again) {
        again = false;
        for (uint32_t i = 0; i < w->opt.n_workers; i++) {
            if (!move_lease(w, i, MSG_MAX_LEASES, &l, NULL))
                continue;
            again = true;
            for (uint32_t k = 0; k < l.n; k++) {
                move_submit(w, i, &l.item[k], false, &r);
                assert_true(r.is_accepted);
            }
        }
        for (uint32_t i = 0; i < w->opt.n_verifiers; i++)
            move_judge_all(w, i, REASON_NONE);
    }
}

bool move_batch_of(struct world *w, enum role role, uint64_t batch, const struct msg_batch **b,
                   struct msg_wait *wait)
{
    static struct msg_batch answer;
    const struct msg_batch_ask ask = {.batch = batch};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 256);
    CHECK(!msg_batch_ask_encode(&body, &ask, NULL));
    world_ask(w, world_node_of(w, role, 0), MSG_BATCH_ASK, buf_bytes(&body), &m);
    buf_clear(&body);
    if (m.kind != MSG_BATCH) {
        decode_wait(&m, wait);
        return false;
    }
    assert_ok(msg_batch_decode(&answer, m.body, NULL), NULL);
    *b = &answer;
    return true;
}

bool move_batch(struct world *w, uint64_t batch, const struct msg_batch **b,
                struct msg_wait *wait)
{
    return move_batch_of(w, ROLE_TRAINER, batch, b, wait);
}

struct counter {
    enum ledger_type type;
    uint64_t n;
};

static enum status count_entry(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct counter *c = arg;
    struct ledger_entry en;
    enum status st = ledger_entry_decode(&en, value, e);

    (void)key;
    c->n += !st && en.type == c->type;
    return st;
}

uint64_t move_count(struct world *w, enum ledger_type type)
{
    struct counter c = {type, 0};
    struct db_txn *txn;

    CHECK(!db_begin(&txn, w->db, false, NULL));
    CHECK(!db_each(txn, LEDGER_TABLE_ENTRIES, (struct bytes){NULL, 0}, count_entry, &c, NULL));
    db_abort(&txn);
    return c.n;
}
