/*
 * The books against a naive model of them, under random moves, many of them not allowed: both
 * must agree on what is refused and on every balance. Then a log whose bytes are changed one by
 * one: each change must be found.
 *
 * TEST_SEED=n repeats a run.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/audit.h"
#include "ledger/tables.h"
#include "support/random.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"

#define RUNS  40u
#define MOVES 300u
#define UNITS 60u

#define PRICE      3
#define TOKENS_MAX 64
#define VERDICTS   3
#define FEE_LIGHT  5
#define FEE_FULL   20
#define STEP_PRICE INT64_C(50)
#define RESERVE    (TOKENS_MAX * PRICE + VERDICTS * FEE_FULL)

/* ---- the model ------------------------------------------------------------------------------- */

struct opinion {
    bool is_given, is_full;
    enum reason code;
};
struct model_unit {
    enum { FREE, LEASED, COMMITTED, ACCEPTED, GIVEN_UP } state;
    unsigned worker;
    int64_t tokens;
    bool is_flat, is_batched, was_leased;
    bool is_drawn, is_full;
    bool assigned[WORLD_VALIDATORS];
    struct opinion opinion[WORLD_VALIDATORS];
};
struct model_credit {
    unsigned node; /* index in world.node */
    uint64_t seq;
    int64_t amount;
    int unit; /* paid to its worker; -1: something else */
};
struct model {
    struct model_unit unit[UNITS];
    struct model_credit *credit; /* owned */
    size_t n_credits;
    int64_t escrow, reserved, jackpot, burn;
    int64_t stake[WORLD_NODES], avail[WORLD_NODES]; /* avail by the node that names the owner */
    bool is_slashed[WORLD_WORKERS];
    uint64_t n_batches, n_trained;
    bool is_closed;
    uint64_t now; /* sequence number of the entry in question */
};

static unsigned owner_of(unsigned node)
{
    return node == WORLD_VALIDATOR ? WORLD_WORKER : node;
}

static void model_init(struct model *m, const struct world *w)
{
    memset(m, 0, sizeof(*m));
    m->credit = xcalloc((size_t)MOVES * 8, sizeof(*m->credit));
    m->reserved = 100 * STEP_PRICE;
    m->escrow = WORLD_DEPOSIT - m->reserved;
    for (unsigned i = 0; i < WORLD_NODES; i++) {
        bool is_worker = i >= WORLD_WORKER && i < WORLD_VALIDATOR;
        m->stake[i] = is_worker ? WORLD_STAKE : 0;
        if (i != WORLD_INITIATOR && !is_worker)
            m->avail[owner_of(i)] += WORLD_STAKE;
    }
    m->now = ledger_log_length(w->log);
}

static void model_credit(struct model *m, unsigned node, int64_t amount, int unit)
{
    if (amount)
        m->credit[m->n_credits++] = (struct model_credit){node, m->now, amount, unit};
}

static int64_t model_pending(const struct model *m, unsigned node)
{
    int64_t sum = 0;

    for (size_t i = 0; i < m->n_credits; i++)
        if (m->credit[i].node == node)
            sum += m->credit[i].amount;
    return sum;
}

static int count(const struct model_unit *u, bool hard)
{
    int n = 0;

    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        n += u->opinion[v].is_given &&
             (hard ? reason_is_hard(u->opinion[v].code) : u->opinion[v].code == REASON_NONE);
    return n;
}

static bool said(const struct model_unit *u, enum reason code)
{
    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        if (u->opinion[v].is_given && u->opinion[v].code == code)
            return true;
    return false;
}

/* The reserve of a live unit is over: fees, pay, rest. */
static void model_settle(struct model *m, struct model_unit *u, int64_t pay)
{
    m->reserved -= RESERVE;
    m->escrow += RESERVE - pay;
    for (unsigned v = 0; v < WORLD_VALIDATORS; v++) {
        int64_t fee = u->opinion[v].is_full ? FEE_FULL : FEE_LIGHT;
        if (!u->opinion[v].is_given)
            continue;
        m->escrow -= fee;
        model_credit(m, WORLD_VALIDATOR + v, fee, -1);
    }
    model_credit(m, WORLD_WORKER + u->worker, pay, (int)(u - m->unit));
}

static void model_free(struct model_unit *u)
{
    *u = (struct model_unit){.state = FREE, .was_leased = true};
}

static bool model_lease(struct model *m, unsigned unit, unsigned worker)
{
    struct model_unit *u = &m->unit[unit];

    if (m->is_closed || u->state != FREE || m->is_slashed[worker] || m->escrow < RESERVE)
        return false;
    *u = (struct model_unit){.state = LEASED, .worker = worker, .was_leased = true};
    m->escrow -= RESERVE;
    m->reserved += RESERVE;
    return true;
}

static bool model_commit(struct model *m, unsigned unit, int64_t tokens, bool is_flat)
{
    struct model_unit *u = &m->unit[unit];

    if (u->state != LEASED || tokens > TOKENS_MAX)
        return false;
    u->state = COMMITTED;
    u->tokens = tokens;
    u->is_flat = is_flat;
    return true;
}

/* The outcome of a draw is the beacon's; the unit tests check it. */
static bool model_draw(struct model *m, const struct world *w)
{
    bool any = false;

    for (unsigned i = 0; i < UNITS; i++) {
        struct model_unit *u = &m->unit[i];
        if (u->state != COMMITTED || u->is_drawn)
            continue;
        any = u->is_drawn = true;
        u->is_full = world_unit(w, i)->depth == CHECK_FULL;
        for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
            u->assigned[v] =
                ledger_books_is_assigned(world_books(w), i, &world_validator(w, v)->node);
    }
    return any && !m->is_closed;
}

static bool can_judge(const struct model *m, const struct model_unit *u, unsigned v)
{
    return !m->is_closed && u->state == COMMITTED && u->is_drawn && !u->opinion[v].is_given;
}

static bool model_assign(struct model *m, unsigned unit, unsigned v, bool is_full)
{
    struct model_unit *u = &m->unit[unit];

    if (!can_judge(m, u, v))
        return false;
    u->assigned[v] = true;
    u->is_full |= is_full;
    return true;
}

static bool model_verdict(struct model *m, unsigned unit, unsigned v, enum reason code)
{
    struct model_unit *u = &m->unit[unit];

    if (!can_judge(m, u, v) || !u->assigned[v])
        return false;
    u->opinion[v] = (struct opinion){true, u->is_full, code};
    return true;
}

static bool model_accept(struct model *m, unsigned unit)
{
    struct model_unit *u = &m->unit[unit];
    bool is_deep = false;

    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        is_deep |= u->opinion[v].is_given && u->opinion[v].code == REASON_NONE &&
                   u->opinion[v].is_full >= u->is_full;
    if (u->state != COMMITTED || !is_deep || count(u, false) <= count(u, true) ||
        m->is_slashed[u->worker])
        return false;
    u->state = ACCEPTED;
    model_settle(m, u, u->tokens * PRICE);
    return true;
}

static bool model_void(struct model *m, unsigned unit, enum reason code)
{
    struct model_unit *u = &m->unit[unit];

    if (m->is_closed || reason_is_hard(code))
        return false;
    if (u->state == LEASED || u->state == COMMITTED)
        model_settle(m, u, 0);
    else if (u->state != ACCEPTED || u->is_batched || !m->is_slashed[u->worker])
        return false;
    model_free(u);
    return true;
}

static bool model_soft(struct model *m, unsigned unit, enum reason code)
{
    struct model_unit *u = &m->unit[unit];

    if (u->state != COMMITTED || reason_is_hard(code) || code == REASON_NONE || !said(u, code))
        return false;
    model_settle(m, u, 0);
    model_free(u);
    return true;
}

/* What the worker got for units that nobody trained on. */
static int64_t unused_pay(const struct model *m, unsigned worker)
{
    int64_t sum = 0;

    for (size_t i = 0; i < m->n_credits; i++) {
        const struct model_credit *c = &m->credit[i];
        if (c->node == WORLD_WORKER + worker && c->unit >= 0 && !m->unit[c->unit].is_batched)
            sum += c->amount;
    }
    return sum;
}

static bool model_hard(struct model *m, unsigned unit, enum reason code, bool is_sole)
{
    struct model_unit *u = &m->unit[unit];
    unsigned node = WORLD_WORKER + u->worker, worker = u->worker;
    int n_hard = count(u, true);
    int64_t refund, slash, each;
    bool finder[WORLD_VALIDATORS];

    if (u->state != COMMITTED || !reason_is_hard(code) || !said(u, code) ||
        n_hard <= count(u, false) || n_hard < (is_sole ? 1 : 2))
        return false;
    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        finder[v] = u->opinion[v].is_given && reason_is_hard(u->opinion[v].code);
    refund = unused_pay(m, worker);
    slash = m->stake[node] + model_pending(m, node) - refund;
    each = slash * 10 / 100 / n_hard;
    /* one credit a validator and entry: the fee and the bounty together */
    model_settle(m, u, 0);
    model_free(u);
    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        if (finder[v])
            model_credit(m, WORLD_VALIDATOR + v, each, -1);
    m->escrow += refund;
    m->jackpot += slash * 40 / 100;
    m->burn += slash - slash * 40 / 100 - each * n_hard;
    m->stake[node] = 0;
    for (size_t i = 0; i < m->n_credits; i++)
        if (m->credit[i].node == node)
            m->credit[i] = (struct model_credit){WORLD_NODES, 0, 0, -1};
    m->is_slashed[worker] = true;
    return true;
}

static bool model_giveup(struct model *m, unsigned unit)
{
    struct model_unit *u = &m->unit[unit];

    if (m->is_closed || u->state != FREE || !u->was_leased)
        return false;
    u->state = GIVEN_UP;
    return true;
}

static bool model_mature(struct model *m, unsigned node)
{
    int64_t sum = 0;

    for (size_t i = 0; i < m->n_credits; i++) {
        struct model_credit *c = &m->credit[i];
        if (c->node != node || (!m->is_closed && c->seq + WORLD_WINDOW > m->now))
            continue;
        sum += c->amount;
        *c = (struct model_credit){WORLD_NODES, 0, 0, -1};
    }
    m->avail[owner_of(node)] += sum;
    return sum > 0;
}

static bool model_batch(struct model *m, const uint64_t *unit, uint32_t n)
{
    if (m->is_closed)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct model_unit *u = &m->unit[unit[i]];
        if (u->is_batched || (u->state != GIVEN_UP && u->state != ACCEPTED) ||
            (u->state == ACCEPTED && m->is_slashed[u->worker]))
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (unit[k] == unit[i])
                return false;
    }
    for (uint32_t i = 0; i < n; i++)
        m->unit[unit[i]].is_batched = true;
    m->n_batches++;
    return true;
}

static bool model_step(struct model *m)
{
    if (m->is_closed || m->n_trained >= m->n_batches)
        return false;
    m->n_trained++;
    if (m->n_trained <= 100) {
        m->reserved -= STEP_PRICE;
        model_credit(m, WORLD_TRAINER, STEP_PRICE, -1);
    }
    return true;
}

static bool model_close(struct model *m)
{
    if (m->is_closed)
        return false;
    for (unsigned i = 0; i < UNITS; i++)
        if (m->unit[i].state == LEASED || m->unit[i].state == COMMITTED)
            return false;
    m->avail[WORLD_INITIATOR] += m->escrow + m->reserved;
    m->escrow = m->reserved = 0;
    m->is_closed = true;
    return true;
}

/* ---- moves ----------------------------------------------------------------------------------- */

struct game {
    struct world w;
    struct model m;
    struct rng rng;
    unsigned n_done, n_refused;
};

/* Fraud is rare: each costs one of three workers. */
static const enum reason reasons[] = {REASON_NONE, REASON_NONE,  REASON_NONE,   REASON_NONE,
                                      REASON_NONE, REASON_NONE,  REASON_NONE,   REASON_NONE,
                                      REASON_NONE, REASON_TOKEN, REASON_REWARD, REASON_BOUNDS,
                                      REASON_STALE};

static enum reason any_reason(struct game *g)
{
    return reasons[rng_below(&g->rng, sizeof(reasons) / sizeof(reasons[0]))];
}

static unsigned below(struct game *g, unsigned n)
{
    return (unsigned)rng_below(&g->rng, n);
}

/* Mostly one of the first few that are not done yet, so that lives come to their end. */
static unsigned any_unit(struct game *g)
{
    unsigned left = below(g, 4);

    if (below(g, 8) == 0)
        return below(g, UNITS);
    for (unsigned i = 0; i < UNITS; i++)
        if (g->m.unit[i].state < ACCEPTED && left-- == 0)
            return i;
    return below(g, UNITS);
}

static bool batch(struct game *g, enum status *st)
{
    uint64_t unit[UNITS];
    uint32_t n = 0;
    bool is_sane = below(g, 4) > 0;

    for (uint64_t i = 0; i < UNITS; i++) {
        const struct model_unit *u = &g->m.unit[i];
        if (u->state == ACCEPTED &&
            (is_sane ? !u->is_batched && !g->m.is_slashed[u->worker] : below(g, 2)))
            unit[n++] = i;
    }
    *st = world_try_batch(&g->w, unit, n);
    return model_batch(&g->m, unit, n);
}

enum kind {
    LEASE,
    COMMIT,
    DRAW,
    ASSIGN,
    VERDICT,
    ACCEPT,
    VOID,
    SOFT,
    HARD,
    GIVEUP,
    MATURE,
    BATCH,
    STEP,
    N_KINDS
};

/* For a committed unit. */
static enum kind judging(const struct model_unit *u, unsigned chance)
{
    if (!u->is_drawn)
        return DRAW;
    if (!count(u, false) && !count(u, true) && !said(u, REASON_BOUNDS) &&
        !said(u, REASON_STALE))
        return chance == 2 ? ASSIGN : VERDICT;
    if (count(u, true))
        return chance < 6 ? ASSIGN : chance < 10 ? VERDICT : chance < 14 ? HARD : VOID;
    return count(u, false) ? ACCEPT : SOFT;
}

/* A kind that the unit's state asks for; now and then any. */
static enum kind any_kind(struct game *g, const struct model_unit *u)
{
    unsigned chance = below(g, 16);

    if (chance == 0)
        return (enum kind)below(g, N_KINDS);
    if (chance == 1)
        return below(g, 2) ? MATURE : below(g, 2) ? BATCH : STEP;
    if (u->state == COMMITTED)
        return judging(u, chance);
    if (u->state == FREE)
        return u->was_leased && chance == 2 ? GIVEUP : LEASE;
    if (u->state == LEASED)
        return chance == 2 ? VOID : COMMIT;
    return BATCH;
}

/* The reason to end this attempt with: mostly one that a validator gave. */
static enum reason ending(struct game *g, const struct model_unit *u, enum kind kind)
{
    enum reason code = any_reason(g);

    for (unsigned v = 0; v < WORLD_VALIDATORS; v++)
        if (u->opinion[v].is_given && below(g, 8) &&
            (kind == HARD) == reason_is_hard(u->opinion[v].code))
            code = u->opinion[v].code;
    return code;
}

/* One random move on both; whether the model allows it. */
static bool move(struct game *g, enum status *st)
{
    struct world *w = &g->w;
    struct model *m = &g->m;
    unsigned unit = any_unit(g), v = below(g, WORLD_VALIDATORS), node;
    const struct model_unit *u = &m->unit[unit];
    enum kind kind = any_kind(g, u);
    bool flag = below(g, 2);
    uint32_t tokens = 2 + below(g, TOKENS_MAX);
    enum reason code = any_reason(g), end = ending(g, u, kind);

    switch (kind) {
    case LEASE: *st = world_try_lease(w, unit, v); return model_lease(m, unit, v);
    case COMMIT:
        *st = world_try_commit(w, unit, tokens, flag);
        return model_commit(m, unit, tokens, flag);
    case DRAW: *st = world_try_draw(w); return model_draw(m, w);
    case ASSIGN:
        *st = world_try_assign(w, unit, v, flag ? CHECK_FULL : CHECK_LIGHT);
        return model_assign(m, unit, v, flag);
    case VERDICT:
        *st = world_try_verdict(w, unit, v, code);
        return model_verdict(m, unit, v, code);
    case ACCEPT: *st = world_try_accept(w, unit); return model_accept(m, unit);
    case VOID: *st = world_try_void(w, unit, code); return model_void(m, unit, code);
    case SOFT: *st = world_try_reject_soft(w, unit, end); return model_soft(m, unit, end);
    case HARD:
        *st = world_try_reject_hard(w, unit, end, flag);
        return model_hard(m, unit, end, flag);
    case GIVEUP: *st = world_try_giveup(w, unit); return model_giveup(m, unit);
    case BATCH: return batch(g, st);
    case STEP: *st = world_try_step(w); return model_step(m);
    case MATURE:
    case N_KINDS: break;
    }
    node = below(g, WORLD_NODES);
    *st = world_try_mature(w, &w->node[node].node);
    return model_mature(m, node);
}

static void assert_same_balances(const struct game *g)
{
    const struct world *w = &g->w;
    const struct account_table *t = ledger_books_accounts(world_books(w));
    int64_t sum = 0;

    for (size_t i = 0; i < t->n; i++)
        sum += t->v[i].balance;
    assert_int_equal(sum, 0); /* I1 */
    assert_int_equal(world_escrow(w), g->m.escrow);
    assert_int_equal(world_reserved(w), g->m.reserved);
    assert_int_equal(world_balance(w, ACCOUNT_JACKPOT, NULL), g->m.jackpot);
    assert_int_equal(world_balance(w, ACCOUNT_BURN, NULL), g->m.burn);
    for (unsigned i = 0; i < WORLD_NODES; i++) {
        const struct world_node *n = &w->node[i];
        assert_int_equal(world_balance(w, ACCOUNT_STAKE, &n->node), g->m.stake[i]);
        assert_int_equal(world_balance(w, ACCOUNT_PENDING, &n->node), model_pending(&g->m, i));
        if (owner_of(i) == i)
            assert_int_equal(world_balance(w, ACCOUNT_AVAIL, &n->owner), g->m.avail[i]);
    }
}

static void play(struct game *g, unsigned moves)
{
    for (unsigned i = 0; i < moves; i++) {
        enum status st = OK;
        bool is_fine;
        g->m.now = ledger_log_length(g->w.log);
        is_fine = move(g, &st);
        if (is_fine != (st == OK))
            fail_msg("move %u: the model says %s, the books say %s: %s", i,
                     is_fine ? "fine" : "refused", status_name(st), g->w.e.text);
        g->n_done += is_fine;
        g->n_refused += !is_fine;
        if (g->w.db || i % 64 == 0)
            world_flush(&g->w);
        assert_same_balances(g);
    }
}

/* Ends the run as an orchestrator would: all live units void, the task closed, all pay out. */
static void finish(struct game *g)
{
    for (unsigned i = 0; i < UNITS; i++)
        if (g->m.unit[i].state == LEASED || g->m.unit[i].state == COMMITTED) {
            g->m.now = ledger_log_length(g->w.log);
            assert_ok(world_try_void(&g->w, i, REASON_DONE), &g->w.e);
            assert_true(model_void(&g->m, i, REASON_DONE));
        }
    assert_ok(world_try_close(&g->w), &g->w.e);
    assert_true(model_close(&g->m));
    for (unsigned i = 0; i < WORLD_NODES; i++)
        assert_int_equal(world_try_mature(&g->w, &g->w.node[i].node) == OK,
                         model_mature(&g->m, i));
    assert_same_balances(g);
    for (unsigned i = 0; i < WORLD_NODES; i++)
        assert_int_equal(world_balance(&g->w, ACCOUNT_PENDING, &g->w.node[i].node), 0);
}

static void the_books_agree_with_a_naive_model(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(20260822);
    unsigned done = 0, refused = 0;

    for (unsigned run = 0; run < RUNS; run++) {
        struct game *g = xcalloc(1, sizeof(*g));
        world_init(&g->w, NULL);
        model_init(&g->m, &g->w);
        g->rng = rng_of(rng_u64(&seeds), run);
        play(g, MOVES);
        finish(g);
        done += g->n_done;
        refused += g->n_refused;
        free(g->m.credit);
        world_clear(&g->w);
        free(g);
    }
    print_message("%u moves were made, %u refused\n", done, refused);
    assert_true(done > RUNS * MOVES / 10 && refused > RUNS * MOVES / 10);
}

static void what_was_written_audits_clean(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(5);
    const enum ledger_type wanted[] = {LEDGER_ACCEPT, LEDGER_VOID,   LEDGER_REJECT_SOFT,
                                       LEDGER_GIVEUP, LEDGER_MATURE, LEDGER_REJECT_HARD,
                                       LEDGER_BATCH,  LEDGER_STEP,   LEDGER_ASSIGN};
    uint64_t n_of_type[LEDGER_TYPE_COUNT] = {0};

    for (unsigned run = 0; run < 5; run++) {
        struct game *g = xcalloc(1, sizeof(*g));
        struct audit_report r;
        char *dir = tempdir_make();
        world_init(&g->w, dir);
        model_init(&g->m, &g->w);
        g->rng = rng_of(rng_u64(&seeds), run);
        play(g, MOVES);
        if (audit_run(&r, dir) != AUDIT_CLEAN) /* as if killed here */
            fail_msg("entry %llu: %s", (unsigned long long)r.bad_seq, r.why);
        finish(g);
        world_flush(&g->w);
        if (audit_run(&r, dir) != AUDIT_CLEAN)
            fail_msg("entry %llu: %s", (unsigned long long)r.bad_seq, r.why);
        for (int t = 0; t < LEDGER_TYPE_COUNT; t++)
            n_of_type[t] += r.n_of_type[t];
        free(g->m.credit);
        world_clear(&g->w);
        tempdir_remove(&dir);
        free(g);
    }
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        print_message("%s %llu\n", ledger_type_name(wanted[i]),
                      (unsigned long long)n_of_type[wanted[i]]);
    if (!getenv("TEST_SEED")) /* a run that never does a thing says nothing about it */
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
            assert_true(n_of_type[wanted[i]] > 0);
}

/* ---- mutations ------------------------------------------------------------------------------- */

struct recording {
    struct buf entry[512];
    size_t n;
};

static enum status record(void *arg, const struct ledger_entry *en, struct bytes encoded,
                          struct err *e)
{
    struct recording *r = arg;

    (void)e;
    CHECK(en->seq == r->n && r->n < sizeof(r->entry) / sizeof(r->entry[0]));
    buf_init(&r->entry[r->n], LEDGER_ENTRY_MAX);
    buf_append(&r->entry[r->n++], encoded);
    return OK;
}

static void replay_first(struct ledger_log **l, const struct recording *r, size_t n)
{
    struct err e;

    ledger_log_free(l);
    ledger_log_new(l);
    for (size_t i = 0; i < n; i++)
        assert_ok(ledger_replay(*l, buf_bytes(&r->entry[i]), NULL, &e), &e);
}

/* Is the changed entry `at` refused, or else the one after it? For the last entry, whose change a
 * successor cannot tell, the head that table meta keeps must differ. Leaves the log with `at`
 * entries. */
static bool is_found(struct ledger_log **l, const struct recording *r, size_t at,
                     const struct digest *head)
{
    bool found;

    if (ledger_replay(*l, buf_bytes(&r->entry[at]), NULL, NULL))
        return true;
    if (at + 1 < r->n)
        found = ledger_replay(*l, buf_bytes(&r->entry[at + 1]), NULL, NULL) != OK;
    else
        found = !digest_equal(ledger_log_hash(*l, at), head);
    replay_first(l, r, at);
    return found;
}

/* A run of a hundred entries or so; every byte of every entry, one bit of it turned. */
static void every_changed_byte_of_a_log_is_found(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(77);
    struct game *g = xcalloc(1, sizeof(*g));
    struct recording *r = xcalloc(1, sizeof(*r));
    struct ledger_log *l = NULL;
    struct db_txn *t;
    struct digest head;
    char *dir = tempdir_make();
    size_t n_bytes = 0;

    world_init(&g->w, dir);
    model_init(&g->m, &g->w);
    g->rng = rng_of(rng_u64(&seeds), 0);
    play(g, 150);
    ledger_log_new(&l);
    assert_ok(db_begin(&t, g->w.db, false, &g->w.e), &g->w.e);
    assert_ok(ledger_log_load(l, t, record, r, &g->w.e), &g->w.e);
    db_abort(&t);
    head = *ledger_log_hash(l, r->n - 1);

    replay_first(&l, r, 0);
    for (size_t at = 0; at < r->n; at++) {
        struct buf *b = &r->entry[at];
        for (size_t i = 0; i < b->len; i++, n_bytes++) {
            uint8_t bit = (uint8_t)(1u << rng_below(&g->rng, 8));
            b->data[i] ^= bit;
            bool found = false;
            /* replay_first inside reads entries before `at` only */
            found = is_found(&l, r, at, &head);
            b->data[i] ^= bit;
            if (!found)
                fail_msg("entry %zu: byte %zu may be changed", at, i);
        }
        assert_ok(ledger_replay(l, buf_bytes(b), NULL, &g->w.e), &g->w.e);
    }
    print_message("%zu bytes of %zu entries\n", n_bytes, r->n);
    for (size_t i = 0; i < r->n; i++)
        buf_clear(&r->entry[i]);
    free(r);
    ledger_log_free(&l);
    free(g->m.credit);
    world_clear(&g->w);
    tempdir_remove(&dir);
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_books_agree_with_a_naive_model),
        cmocka_unit_test(what_was_written_audits_clean),
        cmocka_unit_test(every_changed_byte_of_a_log_is_found),
    };
    return cmocka_run_group_tests_name("property/ledger", tests, NULL, NULL);
}
