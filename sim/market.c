#include "sim/market.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "ledger/beacon.h"
#include "ledger/log.h"
#include "proto/canary.h"
#include "proto/digest.h"
#include "proto/states.h"

#define VALIDATORS    4u
#define BEACON_LENGTH 65536u

/* A worker's place in the market; who is barred and returns takes a new key in the same place. */
struct place {
    const struct econ_cheat *cheat; /* NULL: honest */
    struct public_key node, owner;
    uint64_t done; /* units made under this key */
    bool is_there;
    double spent; /* paid in, and cost of work */
    /* this round: */
    uint64_t unit, lease;
    bool is_cheated, is_altered; /* by itself; by order, as a bad canary */
};

/* A validator; the last one cheats, if any does. */
struct judge_place {
    enum market_validator kind;
    struct public_key node, owner;
    double spent;
    /* of the unit at hand: */
    struct ledger_verdict said;
    bool is_asked, is_sealed;
};

struct market {
    const struct market_options *opt;
    struct market_result *out;
    struct ledger_log *log;
    struct effects puts; /* thrown away: nothing is on disk */
    struct beacon *beacon;
    struct rng rng;
    int64_t now_us;
    struct public_key initiator, trainer;
    struct judge_place judge[VALIDATORS];
    struct place *place; /* owned */
    uint64_t *again;     /* owned: units to lease again */
    size_t n_again, cap_again;
    uint64_t next_unit, n_keys;
    struct ledger_batch batch;
    double generation, verification; /* ucr */
    struct err *e;
};

const char *market_validator_name(enum market_validator v)
{
    static const char *const names[MARKET_VALIDATOR_COUNT] = {"none", "lazy", "framing",
                                                              "copying", "colluding"};

    CHECK(v < MARKET_VALIDATOR_COUNT);
    return names[v];
}

static const struct ledger_books *books(const struct market *m)
{
    return ledger_log_books(m->log);
}

static struct ledger_cause now(struct market *m)
{
    effects_reset(&m->puts);
    m->now_us += 1000;
    return (struct ledger_cause){NULL, NULL, m->now_us};
}

static void name(void *out, size_t n, const char *what, uint64_t number)
{
    struct digest_state s;
    struct digest d;

    CHECK(n <= sizeof(d.b));
    digest_begin(&s, what);
    digest_add_u64(&s, number);
    digest_end(&s, &d);
    memcpy(out, d.b, n);
}

static void give_salt(void *ctx, uint64_t unit, uint32_t attempt, struct digest *out)
{
    const struct market *m = ctx;

    name(out->b, DIGEST_BYTES, "salt", (m->opt->seed << 48) ^ (unit << 16) ^ attempt);
}

/* Of the attempt that is under way or was accepted. */
static struct digest salt_of(struct market *m, uint64_t unit)
{
    struct digest salt;

    give_salt(m, unit, ledger_books_unit(books(m), unit)->attempt, &salt);
    return salt;
}

static bool happens(struct market *m, uint32_t ppm)
{
    return rng_below(&m->rng, ECON_PPM) < ppm;
}

/* ---- coming in --------------------------------------------------------------------------- */

static enum status admit(struct market *m, struct public_key *node,
                         const struct public_key *owner, enum role role, int64_t paid_in,
                         int64_t stake)
{
    uint64_t number = m->n_keys++;
    struct ledger_invite invite = {.role = role};
    struct ledger_node_admit x = {.role = role};
    struct ledger_deposit deposit = {.amount = paid_in};
    struct ledger_stake s = {.amount = stake};
    struct ledger_cause why = now(m);
    enum status st;

    name(node->b, KEY_BYTES, "node", number);
    name(x.transport.b, KEY_BYTES, "transport", number);
    name(invite.id, sizeof(invite.id), "invite", number);
    name(deposit.reference, sizeof(deposit.reference), "deposit", number);
    memcpy(x.invite, invite.id, sizeof(x.invite));
    x.node = s.node = *node;
    x.owner = deposit.owner = *owner;
    st = ledger_append_invite(m->log, &invite, &why, &m->puts, NULL, m->e);
    if (!st)
        st = ledger_append_node_admit(m->log, &x, &why, &m->puts, NULL, m->e);
    if (!st && paid_in)
        st = ledger_append_deposit(m->log, &deposit, &why, &m->puts, NULL, m->e);
    if (!st && stake)
        st = ledger_append_stake(m->log, &s, &why, &m->puts, NULL, m->e);
    return st;
}

static enum status take_place(struct market *m, struct place *p)
{
    int64_t stake = m->opt->terms.open.stake_required;

    p->is_there = true;
    p->done = 0;
    p->spent += (double)m->opt->terms.stake;
    return admit(m, &p->node, &p->owner, ROLE_INFERENCE, stake, stake);
}

static enum status take_bench(struct market *m, unsigned i)
{
    struct judge_place *v = &m->judge[i];
    int64_t stake = m->opt->terms.open.bond_required;

    name(v->owner.b, KEY_BYTES, "bench", i);
    v->kind = i + 1 == VALIDATORS ? m->opt->validator : MARKET_VALIDATOR_HONEST;
    v->spent = (double)stake;
    return admit(m, &v->node, &v->owner, ROLE_VERIFIER, stake, stake);
}

static enum status begin(struct market *m)
{
    struct ledger_genesis g = {.mature_window = m->opt->mature_window,
                               .finder_percent = 10,
                               .jackpot_percent = 40,
                               .beacon_length = BEACON_LENGTH};
    struct ledger_task_open open = m->opt->terms.open;
    struct ledger_step first = {0};
    struct ledger_cause why = now(m);
    struct public_key owner;
    struct digest seed;
    enum status st;

    name(owner.b, KEY_BYTES, "house", 0);
    name(seed.b, sizeof(seed.b), "beacon", m->opt->seed);
    beacon_new(&m->beacon, &seed, g.beacon_length);
    g.beacon_head = *beacon_head(m->beacon);
    name(g.node.b, KEY_BYTES, "orchestrator", m->opt->seed);
    st = ledger_append_genesis(m->log, &g, &why, &m->puts, NULL, m->e);
    if (!st)
        st = admit(m, &m->initiator, &owner, ROLE_INITIATOR, open.deposit, 0);
    if (!st)
        st = admit(m, &m->trainer, &owner, ROLE_TRAINER, 0, 0);
    for (unsigned i = 0; !st && i < VALIDATORS; i++)
        st = take_bench(m, i);
    open.initiator = m->initiator;
    open.witnesses = 0; /* nobody here steers a draw */
    name(open.task.b, DIGEST_BYTES, "task", m->opt->seed);
    why = now(m);
    if (!st)
        st = ledger_append_task_open(m->log, &open, &why, &m->puts, NULL, m->e);
    first.trainer = m->trainer;
    name(first.weights.b, DIGEST_BYTES, "weights", m->opt->seed);
    if (!st)
        st = ledger_append_step(m->log, &first, &why, &m->puts, NULL, m->e);
    for (uint32_t i = 0; !st && i < m->opt->workers; i++) {
        name(m->place[i].owner.b, KEY_BYTES, "owner", i);
        m->place[i].cheat = i < m->opt->dishonest ? m->opt->cheat : NULL;
        st = take_place(m, &m->place[i]);
    }
    return st;
}

/* ---- a round ----------------------------------------------------------------------------- */

/* Does this worker cheat on the unit it has just taken? */
static bool decides_to_cheat(struct market *m, const struct place *p)
{
    return p->cheat && p->done >= p->cheat->after && happens(m, p->cheat->share);
}

static enum status work(struct market *m, struct place *p)
{
    const struct ledger_unit *u;
    struct ledger_lease x = {.worker = p->node, .reserve = ledger_unit_reserve(books(m))};
    struct ledger_commit c = {.tokens = m->opt->terms.open.tokens_max};
    struct ledger_cause why = now(m);
    double cost = (double)m->opt->terms.cost;
    struct digest salt;
    enum status st;

    p->unit = m->n_again ? m->again[--m->n_again] : m->next_unit++;
    u = ledger_books_unit(books(m), p->unit);
    x.unit = c.unit = p->unit;
    x.attempt = (u ? u->attempt : 0) + 1;
    x.expires_us = x.hard_us = m->now_us + 1000000;
    give_salt(m, x.unit, x.attempt, &salt);
    canary_seal(&x.seal, &salt, x.unit, x.attempt);
    p->lease = c.lease = ledger_log_length(m->log);
    st = ledger_append_lease(m->log, &x, &why, &m->puts, NULL, m->e);
    if (st)
        return st;
    p->is_cheated = decides_to_cheat(m, p);
    p->is_altered =
        canary_kind_of(&salt, x.attempt, m->opt->terms.open.canary_rate) == CANARY_BAD;
    if (p->is_cheated) {
        cost -= cost * p->cheat->saving / ECON_PPM;
        m->out->cheated++;
    }
    p->done++;
    p->spent += cost;
    m->generation += (double)m->opt->terms.cost;
    name(c.root.b, DIGEST_BYTES, p->is_altered || p->is_cheated ? "other" : "root",
         p->is_altered || p->is_cheated ? p->lease : p->unit);
    name(c.envelope.b, DIGEST_BYTES, "envelope", p->lease);
    return ledger_append_commit(m->log, &c, &why, &m->puts, NULL, m->e);
}

static bool is_sitting(const struct market *m, unsigned i)
{
    return ledger_books_has_bond(books(m), &m->judge[i].node) &&
           !ledger_books_node(books(m), &m->judge[i].node)->is_slashed;
}

static enum status draw(struct market *m)
{
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    const struct ledger_salts salts = {m, give_salt};
    struct ledger_cause why = now(m);
    struct public_key there[VALIDATORS];
    struct digest value;
    uint32_t n = 0;
    enum status st;

    for (unsigned i = 0; i < VALIDATORS; i++)
        if (is_sitting(m, i))
            there[n++] = m->judge[i].node;
    st = beacon_value(&value, m->beacon, ledger_books_next_round(books(m)), m->e);
    if (!st) {
        ledger_draw_build(d, books(m), &value, there, n, &salts);
        st = ledger_append_draw(m->log, d, &why, &m->puts, NULL, m->e);
    }
    free(d);
    return st;
}

/* ---- what validators say ----------------------------------------------------------------- */

/* Does it look at this worker's unit at all? */
static bool looks(const struct judge_place *v, const struct place *p)
{
    return v->kind == MARKET_VALIDATOR_HONEST ||
           (v->kind == MARKET_VALIDATOR_COLLUDING && !p->cheat);
}

/* Numbers that a prefill finds at the places of validator `at`, or that were made up. */
static struct digest found_at(const struct market *m, const struct place *p, unsigned at,
                              unsigned by)
{
    bool is_true = looks(&m->judge[by], p);
    struct digest d;

    name(d.b, DIGEST_BYTES, is_true ? "found" : "invented",
         p->lease * VALIDATORS * VALIDATORS + at * VALIDATORS + (is_true ? 0 : by));
    return d;
}

static unsigned bench_of(const struct market *m, const struct public_key *key)
{
    unsigned i = 0;

    while (i + 1 < VALIDATORS && !key_equal(&m->judge[i].node, key))
        i++;
    return i;
}

/* Does it accuse the worker? `is_found`: who looks finds fraud. */
static bool accuses(const struct market *m, const struct judge_place *v, const struct place *p,
                    bool is_found)
{
    const struct ledger_unit *u = ledger_books_unit(books(m), p->unit);

    if (looks(v, p))
        return is_found;
    if (v->kind == MARKET_VALIDATOR_COPYING && u->n_opinions) /* shown before it has to seal */
        return !u->opinion[0].is_accepted;
    return v->kind == MARKET_VALIDATOR_FRAMING;
}

/* Makes up its mind, and where the check is a full one seals what it will say. */
static enum status seal(struct market *m, const struct place *p, unsigned i, bool is_found,
                        uint32_t depth)
{
    struct judge_place *v = &m->judge[i];
    bool is_fraud = accuses(m, v, p, is_found);
    struct ledger_verdict *x = &v->said;
    struct public_key peer[LEDGER_OPENED_MAX];
    struct digest found = found_at(m, p, i, i);
    struct ledger_cause why = now(m);

    v->is_asked = v->is_sealed = true;
    *x = (struct ledger_verdict){.unit = p->unit,
                                 .lease = p->lease,
                                 .validator = v->node,
                                 .depth = depth,
                                 .is_accepted = !is_fraud,
                                 .code = is_fraud ? REASON_TOKEN : REASON_NONE};
    name(x->envelope.b, DIGEST_BYTES, "verdict", ledger_log_length(m->log));
    if (depth == CHECK_FULL && looks(v, p)) {
        double cost = (double)m->opt->terms.cost * m->opt->verify_ppm / ECON_PPM;
        v->spent += cost;
        m->verification += cost;
    }
    if (depth != CHECK_FULL || !m->opt->terms.open.recheck_rate)
        return OK;
    states_seal(&x->states, &v->node, &found);
    x->n_opened = ledger_books_peers(books(m), p->unit, &v->node, peer);
    for (uint32_t k = 0; k < x->n_opened; k++)
        x->opened[k] =
            (struct ledger_opened){peer[k], found_at(m, p, bench_of(m, &peer[k]), i)};
    struct ledger_verdict_seal to = {
        .unit = p->unit, .lease = p->lease, .validator = v->node, .verdict = x->envelope};
    name(to.envelope.b, DIGEST_BYTES, "seal", ledger_log_length(m->log));
    return ledger_append_verdict_seal(m->log, &to, &why, &m->puts, NULL, m->e);
}

/* Everybody who has sealed shows its verdict. */
static enum status show(struct market *m)
{
    enum status st = OK;

    for (unsigned i = 0; !st && i < VALIDATORS; i++) {
        struct ledger_cause why = now(m);
        if (m->judge[i].is_sealed)
            st = ledger_append_verdict(m->log, &m->judge[i].said, &why, &m->puts, NULL, m->e);
        m->judge[i].is_sealed = false;
    }
    return st;
}

/* One more validator, if there is one; *is_asked says so. */
static enum status ask_another(struct market *m, const struct place *p, bool is_found,
                               bool *is_asked)
{
    struct ledger_assign x = {.unit = p->unit, .lease = p->lease, .depth = CHECK_FULL};
    struct ledger_cause why = now(m);
    unsigned i = 0;
    enum status st;

    while (i < VALIDATORS && (m->judge[i].is_asked || !is_sitting(m, i)))
        i++;
    *is_asked = i < VALIDATORS;
    if (!*is_asked)
        return OK;
    x.to = m->judge[i].node;
    st = ledger_append_assign(m->log, &x, &why, &m->puts, NULL, m->e);
    return st ? st : seal(m, p, i, is_found, CHECK_FULL);
}

static void count_words(const struct market *m, const struct place *p, uint32_t *n_hard,
                        uint32_t *n_accept)
{
    const struct ledger_unit *u = ledger_books_unit(books(m), p->unit);

    *n_hard = *n_accept = 0;
    for (uint32_t i = 0; i < u->n_opinions; i++) {
        *n_accept += u->opinion[i].is_accepted;
        *n_hard += !u->opinion[i].is_accepted;
    }
}

static enum status strike(struct market *m, const struct place *p)
{
    struct ledger_states_judge x;
    enum status st = OK;

    while (!st && ledger_states_judge_build(&x, books(m), p->unit)) {
        struct ledger_cause why = now(m);
        st = ledger_append_states_judge(m->log, &x, &why, &m->puts, NULL, m->e);
        m->out->struck_by_states++;
    }
    return st;
}

/* Those that the draw gave the unit to; then others, as long as it is not decided. */
static enum status judge(struct market *m, struct place *p, bool is_found, uint32_t depth)
{
    struct digest salt = salt_of(m, p->unit);
    bool is_canary = ledger_books_is_canary(books(m), p->unit, &salt), more, any = false;
    uint32_t n_hard, n_accept;
    enum status st = OK;

    for (unsigned i = 0; i < VALIDATORS; i++)
        m->judge[i].is_asked = m->judge[i].is_sealed = false;
    for (unsigned i = 0; !st && i < VALIDATORS; i++) {
        if (!ledger_books_is_assigned(books(m), p->unit, &m->judge[i].node) ||
            !is_sitting(m, i)) /* barred since the draw */
            continue;
        st = seal(m, p, i, is_found, depth);
        any = true;
    }
    if (!st && !any)
        st = ask_another(m, p, is_found, &more);
    if (!st && ledger_books_is_rechecked(books(m), p->unit, &salt))
        st = ask_another(m, p, is_found, &more);
    if (!st)
        st = show(m);
    for (more = !is_canary; !st && more;) {
        count_words(m, p, &n_hard, &n_accept);
        more = ledger_books_states_differ(books(m), p->unit) ||
               (n_hard && n_accept < 2 * n_hard && (n_hard < 2 || n_hard <= n_accept));
        if (more)
            st = ask_another(m, p, is_found, &more);
        if (!st && more)
            st = show(m);
    }
    return st ? st : strike(m, p);
}

static void lease_again(struct market *m, uint64_t unit)
{
    if (m->n_again == m->cap_again) {
        m->cap_again = m->cap_again ? 2 * m->cap_again : 64;
        m->again = xrealloc(m->again, m->cap_again * sizeof(*m->again));
    }
    m->again[m->n_again++] = unit;
}

/* What a barred worker was paid for and nobody trained on is made again by somebody else. */
static enum status take_back(struct market *m, const struct public_key *worker)
{
    uint32_t kept = 0;
    enum status st = OK;

    for (uint32_t i = 0; !st && i < m->batch.n_rows; i++) {
        const struct ledger_unit *u = ledger_books_unit(books(m), m->batch.row[i].unit);
        struct ledger_void x = {.unit = u->unit,
                                .lease = u->lease,
                                .code = REASON_REVOKED,
                                .salt = salt_of(m, u->unit)};
        struct ledger_cause why = now(m);
        if (!key_equal(&u->worker, worker)) {
            m->batch.row[kept++] = m->batch.row[i];
            continue;
        }
        st = ledger_append_void(m->log, &x, &why, &m->puts, NULL, m->e);
        lease_again(m, x.unit);
        m->out->accepted--;
    }
    m->batch.n_rows = kept;
    return st;
}

static enum status refuse(struct market *m, struct place *p)
{
    struct ledger_reject_hard x = {
        .unit = p->unit, .lease = p->lease, .code = REASON_TOKEN, .salt = salt_of(m, p->unit)};
    struct public_key barred = p->node;
    struct ledger_cause why = now(m);
    enum status st = ledger_append_reject_hard(m->log, &x, &why, &m->puts, NULL, m->e);

    m->out->barred++;
    m->out->found += p->is_cheated;
    m->out->honest_refused += !p->cheat;
    lease_again(m, p->unit);
    p->is_there = false;
    if (!st)
        st = take_back(m, &barred);
    if (!st && p->cheat && p->cheat->returns)
        st = take_place(m, p);
    return st;
}

/* The unit was a canary and is made again: who was contradicted pays for it. */
static enum status judge_canary(struct market *m, uint64_t unit)
{
    const struct ledger_unit *u = ledger_books_unit(books(m), unit);
    struct ledger_canary_judge x = {.unit = unit};
    struct ledger_cause why = now(m);

    if (!u->canary || u->canary->is_judged)
        return OK;
    x.lease = u->canary->lease;
    x.outcome =
        digest_equal(&u->root, &u->canary->root) ? LEDGER_CANARY_GOOD : LEDGER_CANARY_BAD;
    if (u->version != u->canary->version)
        x.outcome = LEDGER_CANARY_OPEN;
    return ledger_append_canary_judge(m->log, &x, &why, &m->puts, NULL, m->e);
}

static enum status accept(struct market *m, const struct place *p)
{
    struct ledger_accept x = {.unit = p->unit, .lease = p->lease, .salt = salt_of(m, p->unit)};
    struct ledger_cause why = now(m);
    const struct ledger_unit *u = ledger_books_unit(books(m), p->unit);
    uint32_t n_full = 0;
    enum status st;

    for (uint32_t i = 0; i < u->n_opinions; i++)
        n_full += u->opinion[i].depth == CHECK_FULL;
    x.is_sole = ledger_books_is_rechecked(books(m), p->unit, &x.salt) && n_full < 2;
    st = ledger_append_accept(m->log, &x, &why, &m->puts, NULL, m->e);
    m->out->accepted++;
    m->out->let_in += p->is_cheated;
    m->batch.row[m->batch.n_rows++] = (struct ledger_batch_row){p->unit, LEDGER_TRAINED};
    return st ? st : judge_canary(m, p->unit);
}

/* The attempt was a canary, or nobody could say what it was: it is made again. */
static enum status put_back(struct market *m, const struct place *p, bool is_canary)
{
    struct ledger_canary_reveal reveal = {p->unit, p->lease, salt_of(m, p->unit)};
    struct ledger_void x = {p->unit, p->lease, REASON_NONE, salt_of(m, p->unit)};
    struct ledger_cause why = now(m);

    lease_again(m, p->unit);
    m->out->canaries += is_canary;
    if (is_canary)
        return ledger_append_canary_reveal(m->log, &reveal, &why, &m->puts, NULL, m->e);
    return ledger_append_void(m->log, &x, &why, &m->puts, NULL, m->e);
}

static enum status settle(struct market *m, struct place *p)
{
    const struct ledger_unit *u = ledger_books_unit(books(m), p->unit);
    uint32_t depth = u->depth, n_hard, n_accept;
    struct digest salt = salt_of(m, p->unit);
    bool is_found = p->is_altered && depth == CHECK_FULL;
    enum status st;

    if (p->is_cheated)
        is_found |= happens(m, p->cheat->found_light) ||
                    (depth == CHECK_FULL && happens(m, p->cheat->found_full));
    m->out->checked++;
    m->out->audited += depth == CHECK_FULL;
    st = judge(m, p, is_found, depth);
    if (st)
        return st;
    if (ledger_books_is_canary(books(m), p->unit, &salt))
        return put_back(m, p, true);
    count_words(m, p, &n_hard, &n_accept);
    if (n_hard >= 2 && n_hard > n_accept)
        return refuse(m, p);
    return n_accept && n_accept >= 2 * n_hard ? accept(m, p) : put_back(m, p, false);
}

static enum status close_batch(struct market *m)
{
    struct ledger_cause why = now(m);
    enum status st;

    if (m->batch.n_rows < MARKET_BATCH)
        return OK;
    m->batch.batch = ledger_books_next_batch(books(m));
    st = ledger_batch_root(&m->batch.root, books(m), &m->batch, m->e);
    if (!st)
        st = ledger_append_batch(m->log, &m->batch, &why, &m->puts, NULL, m->e);
    m->batch.n_rows = 0;
    return st;
}

static enum status mature(struct market *m, const struct public_key *node)
{
    struct ledger_cause why = now(m);
    struct ledger_mature x;
    int64_t amount;

    ledger_mature_build(&x, &amount, books(m), node);
    return amount ? ledger_append_mature(m->log, &x, &why, &m->puts, NULL, m->e) : OK;
}

static enum status play_round(struct market *m)
{
    uint32_t n = m->opt->workers;
    enum status st = OK;

    for (uint32_t i = 0; !st && i < n; i++)
        if (m->place[i].is_there)
            st = work(m, &m->place[i]);
    if (!st)
        st = draw(m);
    for (uint32_t i = 0; !st && i < n; i++)
        if (m->place[i].is_there)
            st = settle(m, &m->place[i]);
    if (!st)
        st = close_batch(m);
    for (uint32_t i = 0; !st && i < n; i++)
        if (m->place[i].is_there)
            st = mature(m, &m->place[i].node);
    for (unsigned i = 0; !st && i < VALIDATORS; i++)
        if (is_sitting(m, i))
            st = mature(m, &m->judge[i].node);
    m->out->rounds++;
    return st;
}

/* ---- the sum ----------------------------------------------------------------------------- */

static double owns(const struct market *m, const struct place *p)
{
    struct account avail = account_of_key(ACCOUNT_AVAIL, &p->owner);
    struct account pending = account_of_key(ACCOUNT_PENDING, &p->node);
    struct account stake = account_of_key(ACCOUNT_STAKE, &p->node);
    int64_t staked = ledger_books_balance(books(m), &stake);

    staked -= m->opt->terms.open.stake_granted; /* never the worker's */
    if (staked < 0)
        staked = 0;
    return (double)(ledger_books_balance(books(m), &avail) +
                    ledger_books_balance(books(m), &pending) + staked);
}

/* What a validator's place brought: fees and shares, less what it lost and what looking cost. */
static double bench_brought(const struct market *m, const struct judge_place *v)
{
    struct account avail = account_of_key(ACCOUNT_AVAIL, &v->owner);
    struct account pending = account_of_key(ACCOUNT_PENDING, &v->node);
    struct account stake = account_of_key(ACCOUNT_STAKE, &v->node);

    return (double)(ledger_books_balance(books(m), &avail) +
                    ledger_books_balance(books(m), &pending) +
                    ledger_books_balance(books(m), &stake)) -
           v->spent;
}

static void sum_up(struct market *m)
{
    struct market_result *r = m->out;
    const struct judge_place *last = &m->judge[VALIDATORS - 1];
    unsigned n_honest = m->opt->validator ? VALIDATORS - 1 : VALIDATORS;
    uint32_t honest = m->opt->workers - m->opt->dishonest;

    for (uint32_t i = 0; i < m->opt->workers; i++) {
        const struct place *p = &m->place[i];
        double profit = owns(m, p) - p->spent;
        if (p->cheat) {
            r->cheats += profit / m->opt->dishonest;
            continue;
        }
        r->honest += profit / honest;
        if (!p->is_there)
            r->honest_lost += (double)m->opt->terms.open.stake_required;
    }
    for (unsigned i = 0; i < n_honest; i++) {
        r->validators_honest += bench_brought(m, &m->judge[i]) / n_honest;
        r->honest_contradicted +=
            ledger_books_node(books(m), &m->judge[i].node)->n_contradicted;
    }
    if (m->opt->validator) {
        r->validator_cheats = bench_brought(m, last);
        r->contradicted = ledger_books_node(books(m), &last->node)->n_contradicted;
        r->is_validator_barred = ledger_books_node(books(m), &last->node)->is_slashed;
    }
    r->verification = m->generation > 0.0 ? m->verification / m->generation : 0.0;
}

static enum status check_options(const struct market_options *o, struct err *e)
{
    if (o->workers < 2 || o->workers > MARKET_WORKERS_MAX || o->dishonest >= o->workers)
        return err_set(e, ERR_INVALID,
                       "%u workers of which %u cheat: 2 to %u, one of them honest", o->workers,
                       o->dishonest, MARKET_WORKERS_MAX);
    if (o->dishonest && !o->cheat)
        return err_set(e, ERR_INVALID, "%u workers cheat, but no cheat was named",
                       o->dishonest);
    return OK;
}

enum status market_run(struct market_result *out, const struct market_options *opt,
                       struct err *e)
{
    struct market m = {.opt = opt, .out = out, .e = e};
    enum status st = check_options(opt, e);

    memset(out, 0, sizeof(*out));
    if (st)
        return st;
    m.rng = rng_of(opt->seed, 0);
    m.place = xcalloc(opt->workers, sizeof(*m.place));
    effects_init(&m.puts);
    ledger_log_new(&m.log);
    st = begin(&m);
    while (!st && out->accepted < opt->units)
        st = play_round(&m);
    if (!st)
        sum_up(&m);
    beacon_free(&m.beacon);
    ledger_log_free(&m.log);
    effects_clear(&m.puts);
    free(m.place);
    free(m.again);
    return st;
}
