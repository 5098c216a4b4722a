#include "unit/ledger/world.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/tables.h"
#include "proto/canary.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "proto/sign.h"
#include "proto/states.h"
#include "proto/submission.h"
#include "proto/witness.h"
#include "support/test.h"

#define ENVELOPE_MAX ((size_t)1 << 20)
#define TOKENS_MAX   64u

struct ledger_cause world_cause(struct world *w)
{
    w->now_us += 1000;
    return (struct ledger_cause){NULL, NULL, w->now_us};
}

static void fill(void *out, size_t n, const char *what, uint64_t number)
{
    struct digest_state s;
    struct digest d;

    CHECK(n <= sizeof(d.b));
    digest_begin(&s, what);
    digest_add_u64(&s, number);
    digest_end(&s, &d);
    memcpy(out, d.b, n);
}

struct idem world_idem(struct world *w)
{
    struct idem i;

    fill(i.b, sizeof(i.b), "idem", ++w->n_idem);
    return i;
}

const struct world_node *world_worker(const struct world *w, unsigned i)
{
    CHECK(i < WORLD_WORKERS);
    return &w->node[WORLD_WORKER + i];
}

const struct world_node *world_validator(const struct world *w, unsigned i)
{
    CHECK(i < WORLD_VALIDATORS);
    return &w->node[WORLD_VALIDATOR + i];
}

const struct ledger_books *world_books(const struct world *w)
{
    return ledger_log_books(w->log);
}

const struct ledger_unit *world_unit(const struct world *w, uint64_t unit)
{
    return ledger_books_unit(world_books(w), unit);
}

int64_t world_balance(const struct world *w, enum account_kind kind,
                      const struct public_key *key)
{
    struct account a = key ? account_of_key(kind, key) : account_of_pool(kind);

    return ledger_books_balance(world_books(w), &a);
}

int64_t world_escrow(const struct world *w)
{
    struct account a = account_of_task(ACCOUNT_ESCROW, &w->task);

    return ledger_books_balance(world_books(w), &a);
}

int64_t world_reserved(const struct world *w)
{
    struct account a = account_of_task(ACCOUNT_RESERVED, &w->task);

    return ledger_books_balance(world_books(w), &a);
}

void world_flush(struct world *w)
{
    struct db_txn *t = NULL;

    if (w->db) {
        assert_ok(db_begin(&t, w->db, true, &w->e), &w->e);
        for (size_t i = 0; i < w->out.n; i++)
            assert_ok(db_put(t, w->out.v[i].table, w->out.v[i].key, w->out.v[i].value, &w->e),
                      &w->e);
        assert_ok(db_commit(&t, &w->e), &w->e);
    }
    effects_reset(&w->out);
}

static void make_keys(struct world *w)
{
    for (unsigned i = 0; i < WORLD_NODES; i++) {
        struct world_node *n = &w->node[i];
        unsigned owner = i == WORLD_VALIDATOR ? WORLD_WORKER : i;
        uint8_t seed[32];
        fill(seed, sizeof(seed), "node", i);
        sign_keys_of_seed(&n->node, &n->secret, seed);
        fill(seed, sizeof(seed), "owner", owner);
        sign_keys_of_seed(&n->owner, &n->owner_secret, seed);
        fill(n->transport.b, KEY_BYTES, "transport", i);
        n->role = i == WORLD_INITIATOR  ? ROLE_INITIATOR
                  : i == WORLD_TRAINER  ? ROLE_TRAINER
                  : i < WORLD_VALIDATOR ? ROLE_INFERENCE
                                        : ROLE_VERIFIER;
    }
}

static void add_genesis(struct world *w)
{
    struct ledger_genesis g = {.mature_window = WORLD_WINDOW,
                               .finder_percent = 10,
                               .jackpot_percent = 40,
                               .beacon_length = 4096};
    struct ledger_cause why = world_cause(w);
    struct digest seed;

    fill(seed.b, sizeof(seed.b), "beacon", 0);
    beacon_new(&w->beacon, &seed, g.beacon_length);
    g.beacon_head = *beacon_head(w->beacon);
    fill(seed.b, sizeof(seed.b), "orchestrator", 0);
    sign_keys_of_seed(&g.node, &w->orchestrator, seed.b);
    assert_ok(ledger_append_genesis(w->log, &g, &why, &w->out, NULL, &w->e), &w->e);
}

static void add_node(struct world *w, unsigned i)
{
    const struct world_node *n = &w->node[i];
    struct ledger_cause why = world_cause(w);
    struct ledger_invite invite = {.role = n->role};
    struct ledger_node_admit admit = {
        .node = n->node, .transport = n->transport, .owner = n->owner, .role = n->role};
    struct ledger_deposit deposit = {.owner = n->owner};
    struct ledger_stake stake = {.node = n->node, .amount = WORLD_STAKE};
    struct idem idem = world_idem(w);
    uint8_t message[2 * KEY_BYTES + 1];

    fill(invite.id, sizeof(invite.id), "invite", i);
    memcpy(admit.invite, invite.id, sizeof(admit.invite));
    assert_ok(ledger_append_invite(w->log, &invite, &why, &w->out, NULL, &w->e), &w->e);
    memcpy(message, n->node.b, KEY_BYTES);
    memcpy(message + KEY_BYTES, n->transport.b, KEY_BYTES);
    message[sizeof(message) - 1] = (uint8_t)n->role;
    assert_ok(sign_make(&admit.owner_sig, "muster/1/cert", BYTES_OF(message), &n->owner_secret,
                        &w->e),
              &w->e);
    why = (struct ledger_cause){&n->node, &idem, w->now_us};
    assert_ok(ledger_append_node_admit(w->log, &admit, &why, &w->out, NULL, &w->e), &w->e);
    fill(deposit.reference, sizeof(deposit.reference), "deposit", i);
    deposit.amount = i == WORLD_INITIATOR ? WORLD_DEPOSIT : WORLD_STAKE;
    why = world_cause(w);
    assert_ok(ledger_append_deposit(w->log, &deposit, &why, &w->out, NULL, &w->e), &w->e);
    if (n->role == ROLE_INFERENCE ||
        (n->role == ROLE_VERIFIER && (w->canary_rate || w->recheck_rate || w->dispute_bond)) ||
        (n->role == ROLE_TRAINER && w->dispute_bond))
        assert_ok(ledger_append_stake(w->log, &stake, &why, &w->out, NULL, &w->e), &w->e);
}

static void add_task(struct world *w)
{
    const struct world_node *initiator = &w->node[WORLD_INITIATOR];
    struct ledger_task_open t = {.initiator = initiator->node,
                                 .deposit = WORLD_DEPOSIT,
                                 .price_token = 3,
                                 .fee_light = 5,
                                 .fee_full = 20,
                                 .price_step = 50,
                                 .stake_required = WORLD_STAKE,
                                 .stake_granted = w->stake_granted,
                                 .steps = 100,
                                 .tokens_max = TOKENS_MAX,
                                 .verdicts_max = 3,
                                 .validators = 1,
                                 .audit_first = 2,
                                 .audit_floor = LEDGER_ONE / 50,
                                 .saving_ppm = 550000,
                                 .detection_ppm = 980000,
                                 .canary_rate = w->canary_rate,
                                 .canary_bonus = 500,
                                 .bond_required = w->canary_rate ? 1000 : 0,
                                 .bond_slice_ppm = 250000,
                                 .bond_strikes = 3,
                                 .recheck_rate = w->recheck_rate,
                                 .witnesses = w->witnesses,
                                 .step_rate = w->dispute_bond ? 1 : 0,
                                 .step_first = 2,
                                 .fee_step = w->fee_step,
                                 .dispute_bond = w->dispute_bond,
                                 .dispute_ms = WORLD_DISPUTE_MS};
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&initiator->node, &idem, w->now_us};

    ledger_put_blob(&w->out, BYTES_LIT("a bundle"), &t.task);
    w->task = t.task;
    assert_ok(ledger_append_task_open(w->log, &t, &why, &w->out, NULL, &w->e), &w->e);
    assert_ok(world_try_step(w), &w->e);
}

void world_begin(struct world *w, const char *dir)
{
    const struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                                   .version = LEDGER_DB_VERSION,
                                   .tables = ledger_tables,
                                   .map_bytes = 64u << 20,
                                   .no_sync = true};

    w->now_us = 1700000000000000;
    effects_init(&w->out);
    ledger_log_new(&w->log);
    if (dir)
        assert_ok(db_open(&w->db, dir, &opt, &w->e), &w->e);
    make_keys(w);
    add_genesis(w);
    for (unsigned i = 0; i < WORLD_NODES; i++)
        add_node(w, i);
    add_task(w);
    world_flush(w);
}

void world_init(struct world *w, const char *dir)
{
    world_init_canaries(w, dir, 0);
}

void world_init_witnesses(struct world *w, const char *dir, uint32_t witnesses)
{
    memset(w, 0, sizeof(*w));
    w->witnesses = witnesses;
    world_begin(w, dir);
}

void world_init_rechecks(struct world *w, const char *dir, uint64_t rate)
{
    memset(w, 0, sizeof(*w));
    w->recheck_rate = rate;
    world_begin(w, dir);
}

void world_init_canaries(struct world *w, const char *dir, uint64_t rate)
{
    memset(w, 0, sizeof(*w));
    w->canary_rate = rate;
    world_begin(w, dir);
}

void world_clear(struct world *w)
{
    effects_clear(&w->out);
    ledger_log_free(&w->log);
    beacon_free(&w->beacon);
    db_close(&w->db);
}

/* ---- moves ----------------------------------------------------------------------------------- */

/* Turns one bit of the signature in an encoded envelope. */
static void bend_signature(struct buf *out)
{
    struct msg_envelope m;
    struct err e;

    assert_ok(msg_envelope_decode(&m, buf_bytes(out), &e), &e);
    for (size_t i = 0; i + SIGNATURE_BYTES <= out->len; i++)
        if (!memcmp(out->data + i, m.sig.b, SIGNATURE_BYTES))
            out->data[i + 7] ^= 1;
}

/* Signs `body` as `n`'s message, files it, and names it. */
void world_file(struct world *w, enum msg_kind kind, const struct world_node *n,
                const struct idem *idem, const struct buf *body, struct digest *name)
{
    struct idem id = w->bend == BEND_IDEM ? world_idem(w) : *idem;
    struct buf out;

    if (w->bend == BEND_SIGNER)
        n = &w->node[WORLD_INITIATOR];
    buf_init(&out, ENVELOPE_MAX);
    assert_ok(msg_envelope_encode(&out, kind, ledger_books_run(world_books(w)), &id,
                                  buf_bytes(body), &n->secret, &w->e),
              &w->e);
    if (w->bend == BEND_SIGNATURE)
        bend_signature(&out);
    ledger_put_blob(&w->out, buf_bytes(&out), name);
    buf_clear(&out);
}

static void give_salt(void *ctx, uint64_t unit, uint32_t attempt, struct digest *out)
{
    const struct world *w = ctx;

    fill(out->b, sizeof(out->b), "salt", w->salts + unit * 1000 + attempt);
}

struct ledger_salts world_salts(struct world *w)
{
    return (struct ledger_salts){w, give_salt};
}

/* Of the unit's attempt as it is. */
static struct digest salt_of(struct world *w, uint64_t unit)
{
    const struct ledger_unit *u = world_unit(w, unit);
    struct digest salt;

    give_salt(w, unit, u ? u->attempt : 1, &salt);
    return salt;
}

static uint64_t lease_of(const struct world *w, uint64_t unit)
{
    const struct ledger_unit *u = world_unit(w, unit);

    return u ? u->lease : 0;
}

enum status world_try_lease(struct world *w, uint64_t unit, unsigned worker)
{
    const struct ledger_unit *u = world_unit(w, unit);
    struct ledger_cause why = world_cause(w);
    struct ledger_lease x = {.unit = unit,
                             .attempt = (u ? u->attempt : 0) + 1,
                             .worker = world_worker(w, worker)->node,
                             .version = ledger_books_version(world_books(w)),
                             .expires_us = w->now_us + 1000000,
                             .hard_us = w->now_us + 5000000,
                             .reserve = ledger_unit_reserve(world_books(w))};
    struct digest salt;

    give_salt(w, unit, x.attempt, &salt);
    canary_seal(&x.seal, &salt, unit, x.attempt);
    return ledger_append_lease(w->log, &x, &why, &w->out, NULL, &w->e);
}

static const struct world_node *node_of(const struct world *w, const struct public_key *key)
{
    for (unsigned i = 0; i < WORLD_NODES; i++)
        if (key_equal(&w->node[i].node, key))
            return &w->node[i];
    return world_worker(w, 0);
}

enum status world_try_commit(struct world *w, uint64_t unit, uint32_t tokens, bool is_flat)
{
    const struct ledger_unit *u = world_unit(w, unit);
    const struct world_node *n = node_of(w, u ? &u->worker : &w->node[WORLD_WORKER].node);
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    uint8_t zeros[4 * 4096] = {0};
    float logprobs[4096];
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&n->node, &idem, world_cause(w).wall_us};
    struct ledger_commit x = {.unit = unit};
    struct buf body, altered;
    enum status st;

    CHECK(tokens >= 2 && tokens <= sizeof(zeros) / 4);
    for (size_t i = 0; i < sizeof(logprobs) / sizeof(logprobs[0]); i++)
        logprobs[i] = w->surprises ? -5.0f : 0.0f;
    m->unit = unit;
    m->lease = x.lease = u ? u->lease : 0;
    m->version = x.version = u ? u->version : 0;
    m->task = w->task;
    m->weights = *ledger_books_weights(world_books(w));
    memcpy(m->numerics, "f32-1", 6);
    m->prompt = (struct bytes){zeros, 8};
    m->n_samples = 2;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t n_tokens = i ? tokens - 1 : 1;
        m->sample[i] =
            (struct msg_sample){.tokens = {zeros, 4 * (size_t)n_tokens},
                                .logprobs = {(const uint8_t *)logprobs, 4 * (size_t)n_tokens},
                                .reward = is_flat || i ? 1.0f : 0.5f,
                                .finish = FINISH_LENGTH};
    }
    submission_root(&m->root, m);
    if (w->alters) {
        struct digest salt = salt_of(w, unit);
        buf_init(&body, ENVELOPE_MAX);
        assert_ok(msg_submit_encode(&body, m, &w->e), &w->e);
        assert_ok(canary_alter(&body, &salt, &w->e), &w->e);
        assert_ok(msg_submit_decode(m, buf_bytes(&body), &w->e), &w->e);
    } else {
        buf_init(&body, 1);
    }
    altered = body; /* which *m lends from */
    m->root.b[5] ^= w->bend == BEND_ROOT;
    x.root = m->root;
    ledger_commit_of(&x, m);
    x.sample[1].tokens -= w->bend == BEND_TOKENS;
    x.sample[0].print ^= w->bend == BEND_SAMPLE;
    x.tokens -= w->bend == BEND_TOKENS;
    x.is_flat ^= w->bend == BEND_FLAT;
    buf_init(&body, ENVELOPE_MAX);
    assert_ok(msg_submit_encode(&body, m, &w->e), &w->e);
    world_file(w, MSG_SUBMIT, n, &idem, &body, &x.envelope);
    st = ledger_append_commit(w->log, &x, &why, &w->out, NULL, &w->e);
    buf_clear(&altered);
    buf_clear(&body);
    free(m);
    return st;
}

enum status world_try_draw(struct world *w)
{
    struct public_key candidate[WORLD_VALIDATORS];
    struct ledger_cause why = world_cause(w);
    struct ledger_draw *d = xcalloc(1, sizeof(*d));
    struct ledger_salts salts = world_salts(w);
    struct digest value;
    enum status st;

    for (unsigned i = 0; i < WORLD_VALIDATORS; i++)
        candidate[i] = world_validator(w, i)->node;
    assert_ok(beacon_value(&value, w->beacon, ledger_books_next_round(world_books(w)), &w->e),
              &w->e);
    ledger_draw_build(d, world_books(w), &value, candidate, WORLD_VALIDATORS, &salts);
    st = ledger_append_draw(w->log, d, &why, &w->out, NULL, &w->e);
    free(d);
    return st;
}

enum status world_try_assign(struct world *w, uint64_t unit, unsigned validator, uint32_t depth)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_assign x = {.unit = unit,
                              .lease = lease_of(w, unit),
                              .to = world_validator(w, validator)->node,
                              .depth = depth};

    return ledger_append_assign(w->log, &x, &why, &w->out, NULL, &w->e);
}

/* What a prefill finds at the validator's places, or what one says that made none. */
static struct digest found_at(const struct world *w, uint64_t unit, unsigned validator,
                              unsigned by)
{
    struct digest d;

    fill(d.b, sizeof(d.b), w->lies[by] ? "invented" : "found",
         unit * 1000 + validator * 10 + (w->lies[by] ? by : 0));
    return d;
}

static unsigned index_of(const struct world *w, const struct public_key *validator)
{
    for (unsigned i = 0; i < WORLD_VALIDATORS; i++)
        if (key_equal(&world_validator(w, i)->node, validator))
            return i;
    CHECK(!"a validator of this world");
    return 0;
}

/* The states of a full check's verdict, and those it is to open. */
static void add_states(struct world *w, struct ledger_verdict *x, unsigned validator)
{
    struct public_key peer[LEDGER_OPENED_MAX];
    struct digest found = found_at(w, x->unit, validator, validator);

    if (!w->recheck_rate || x->depth != CHECK_FULL ||
        (x->code != REASON_NONE && x->code != REASON_TOKEN && x->code != REASON_LOGPROB))
        return;
    states_seal(&x->states, &x->validator, &found);
    x->n_opened = ledger_books_peers(world_books(w), x->unit, &x->validator, peer);
    for (uint32_t i = 0; i < x->n_opened; i++)
        x->opened[i] = (struct ledger_opened){
            peer[i], found_at(w, x->unit, index_of(w, &peer[i]), validator)};
}

static void make_verdict(struct world *w, struct world_verdict *out, uint64_t unit,
                         unsigned validator, enum reason code)
{
    const struct ledger_unit *u = world_unit(w, unit);
    const struct world_node *n = world_validator(w, validator);
    struct ledger_verdict *x = &out->entry;
    struct msg_verdict m = {0};
    struct buf body;

    *out = (struct world_verdict){.idem = world_idem(w)};
    *x = (struct ledger_verdict){.unit = unit,
                                 .lease = lease_of(w, unit),
                                 .validator = n->node,
                                 .depth = u && u->depth ? u->depth : CHECK_LIGHT,
                                 .is_accepted = code == REASON_NONE,
                                 .code = code};
    add_states(w, x, validator);
    m = (struct msg_verdict){
        .unit = x->unit,
        .lease = x->lease,
        .depth = x->depth,
        .is_accepted = x->is_accepted,
        .code = x->code,
        .states = x->states,
        .opened = {(const uint8_t *)x->opened, x->n_opened * sizeof(x->opened[0])}};
    m.submission = u && u->commit ? u->envelope : w->task; /* the codec wants some digest */
    m.submission.b[5] ^= w->bend == BEND_SUBMISSION;
    m.states.b[5] ^= w->bend == BEND_STATES;
    if (w->bend == BEND_CODE)
        m.code = REASON_LOGPROB;
    buf_init(&body, ENVELOPE_MAX);
    assert_ok(msg_verdict_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_VERDICT, n, &out->idem, &body, &x->envelope);
    buf_clear(&body);
}

enum status world_try_seal(struct world *w, uint64_t unit, unsigned validator, enum reason code)
{
    const struct world_node *n = world_validator(w, validator);
    struct world_verdict *v = &w->sealed[validator];
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&n->node, &idem, world_cause(w).wall_us};
    struct ledger_verdict_seal x = {
        .unit = unit, .lease = lease_of(w, unit), .validator = n->node};
    struct msg_verdict_seal m = {.unit = x.unit, .lease = x.lease};
    struct buf body;

    make_verdict(w, v, unit, validator, code);
    x.verdict = m.verdict = v->entry.envelope;
    m.verdict.b[5] ^= w->bend == BEND_SEAL;
    buf_init(&body, ENVELOPE_MAX);
    assert_ok(msg_verdict_seal_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_VERDICT_SEAL, n, &idem, &body, &x.envelope);
    buf_clear(&body);
    return ledger_append_verdict_seal(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_show(struct world *w, unsigned validator)
{
    const struct world_verdict *v = &w->sealed[validator];
    struct ledger_cause why = {&v->entry.validator, &v->idem, world_cause(w).wall_us};

    return ledger_append_verdict(w->log, &v->entry, &why, &w->out, NULL, &w->e);
}

enum status world_try_verdict(struct world *w, uint64_t unit, unsigned validator,
                              enum reason code)
{
    enum status st = OK;

    if (w->recheck_rate)
        st = world_try_seal(w, unit, validator, code);
    else
        make_verdict(w, &w->sealed[validator], unit, validator, code);
    return st ? st : world_try_show(w, validator);
}

enum status world_try_judge_states(struct world *w, uint64_t unit, unsigned validator,
                                   unsigned first, unsigned second)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_states_judge x = {.unit = unit,
                                    .lease = lease_of(w, unit),
                                    .validator = world_validator(w, validator)->node,
                                    .first = world_validator(w, first)->node,
                                    .second = world_validator(w, second)->node};

    return ledger_append_states_judge(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_accept(struct world *w, uint64_t unit)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_accept x = {.unit = unit,
                              .lease = lease_of(w, unit),
                              .is_sole = w->is_sole,
                              .salt = salt_of(w, unit)};

    return ledger_append_accept(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_void(struct world *w, uint64_t unit, enum reason code)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_void x = {unit, lease_of(w, unit), code, salt_of(w, unit)};

    return ledger_append_void(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_reject_soft(struct world *w, uint64_t unit, enum reason code)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_reject_soft x = {unit, lease_of(w, unit), code, salt_of(w, unit)};

    return ledger_append_reject_soft(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_reject_hard(struct world *w, uint64_t unit, enum reason code,
                                  bool is_sole)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_reject_hard x = {unit, lease_of(w, unit), code, is_sole, salt_of(w, unit)};

    return ledger_append_reject_hard(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_reveal(struct world *w, uint64_t unit)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_canary_reveal x = {unit, lease_of(w, unit), salt_of(w, unit)};

    return ledger_append_canary_reveal(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_judge_canary(struct world *w, uint64_t unit, uint32_t outcome)
{
    const struct ledger_unit *u = world_unit(w, unit);
    struct ledger_cause why = world_cause(w);
    struct ledger_canary_judge x = {unit, u && u->canary ? u->canary->lease : 0, outcome};

    return ledger_append_canary_judge(w->log, &x, &why, &w->out, NULL, &w->e);
}

static struct digest nonce_of(const struct world *w, unsigned validator)
{
    struct digest nonce;

    fill(nonce.b, sizeof(nonce.b), "nonce", 1000 * validator + w->n_nonces[validator]);
    return nonce;
}

enum status world_try_witness(struct world *w, unsigned validator, bool anew)
{
    const struct world_node *n = world_validator(w, validator);
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&n->node, &idem, world_cause(w).wall_us};
    struct ledger_witness x = {.seq = ledger_books_round(world_books(w)).seq,
                               .validator = n->node};
    struct msg_witness m = {.seq = x.seq, .entry = *ledger_log_hash(w->log, x.seq)};
    struct digest nonce = nonce_of(w, validator);
    struct buf body;
    enum status st;

    if (!anew)
        x.nonce = nonce;
    w->n_nonces[validator]++;
    nonce = nonce_of(w, validator);
    witness_commitment(&x.next, &n->node, &nonce);
    m.nonce = x.nonce;
    m.next = x.next;
    buf_init(&body, ENVELOPE_MAX);
    assert_ok(msg_witness_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_WITNESS, n, &idem, &body, &x.envelope);
    st = ledger_append_witness(w->log, &x, &why, &w->out, NULL, &w->e);
    buf_clear(&body);
    return st;
}

void world_show_head(struct world *w, struct buf *file, uint64_t seq)
{
    const struct msg_witness_call c = {.seq = seq, .entry = *ledger_log_hash(w->log, seq)};
    const struct idem idem = world_idem(w);
    struct buf body, env;

    buf_init(&body, 512);
    buf_init(&env, 1024);
    assert_ok(msg_witness_call_encode(&body, &c, NULL), NULL);
    assert_ok(msg_envelope_encode(&env, MSG_WITNESS_CALL, ledger_books_run(world_books(w)),
                                  &idem, buf_bytes(&body), &w->orchestrator, NULL),
              NULL);
    if (!file->len)
        witness_file_begin(file);
    buf_put_blob(file, buf_bytes(&env));
    buf_clear(&env);
    buf_clear(&body);
}

enum status world_try_giveup(struct world *w, uint64_t unit)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_giveup x = {unit, REASON_EXPIRED};

    return ledger_append_giveup(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_mature(struct world *w, const struct public_key *node)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_mature x;
    int64_t amount;

    ledger_mature_build(&x, &amount, world_books(w), node);
    return ledger_append_mature(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_batch(struct world *w, const uint64_t *unit, uint32_t n)
{
    struct ledger_batch *x = xcalloc(1, sizeof(*x));
    struct ledger_cause why = world_cause(w);
    enum status st;

    x->batch = ledger_books_next_batch(world_books(w));
    x->n_rows = n;
    for (uint32_t i = 0; i < n; i++) {
        const struct ledger_unit *u = world_unit(w, unit[i]);
        x->row[i].unit = unit[i];
        x->row[i].use = u && u->state == UNIT_GIVEN_UP ? LEDGER_GIVEN_UP
                        : u && u->is_flat              ? LEDGER_FLAT
                                                       : LEDGER_TRAINED;
    }
    st = ledger_batch_root(&x->root, world_books(w), x, &w->e);
    if (!st)
        st = ledger_append_batch(w->log, x, &why, &w->out, NULL, &w->e);
    free(x);
    return st;
}

enum status world_try_step(struct world *w)
{
    const struct world_node *n = &w->node[WORLD_TRAINER];
    const struct digest *batch = ledger_books_batch_to_train(world_books(w));
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&n->node, &idem, world_cause(w).wall_us};
    struct msg_manifest m = {.shard_bytes = 1, .n_shards = 1, .file_bytes = 1};
    struct ledger_step x = {.version = ledger_books_next_version(world_books(w)),
                            .parent = *ledger_books_weights(world_books(w)),
                            .trainer = n->node};
    struct buf body;
    enum status st;

    if (batch)
        x.batch = *batch;
    fill(x.weights.b, sizeof(x.weights.b), "weights", (uint64_t)x.version);
    m.content = content_full(x.version);
    m.parent = x.parent;
    m.task = w->task;
    m.batch = x.batch;
    m.weights = x.weights;
    m.weights.b[5] ^= w->bend == BEND_WEIGHTS;
    m.masters_before = m.parent;
    m.masters_before.b[5] ^= w->bend == BEND_STATE;
    m.masters_after = x.weights;
    memcpy(m.numerics, "f32-1", 6);
    buf_init(&body, ENVELOPE_MAX);
    assert_ok(msg_manifest_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_PUBLISH, n, &idem, &body, &x.envelope);
    st = ledger_append_step(w->log, &x, &why, &w->out, NULL, &w->e);
    buf_clear(&body);
    return st;
}

/* ---- whole lives ----------------------------------------------------------------------------- */

unsigned world_judge(struct world *w, uint64_t unit)
{
    for (unsigned i = 0; i < WORLD_VALIDATORS; i++)
        if (ledger_books_is_assigned(world_books(w), unit, &world_validator(w, i)->node))
            return i;
    CHECK(!"the unit was drawn");
    return 0;
}

void world_commit_unit(struct world *w, uint64_t unit, unsigned worker)
{
    assert_ok(world_try_lease(w, unit, worker), &w->e);
    assert_ok(world_try_commit(w, unit, 10, false), &w->e);
    assert_ok(world_try_draw(w), &w->e);
}

void world_two_judges(struct world *w, uint64_t unit, unsigned judge[2])
{
    judge[0] = world_judge(w, unit);
    judge[1] = (judge[0] + 1) % WORLD_VALIDATORS;
    assert_ok(world_try_assign(w, unit, judge[1], CHECK_FULL), &w->e);
}

void world_accept_unit(struct world *w, uint64_t unit, unsigned worker, bool is_flat)
{
    assert_ok(world_try_lease(w, unit, worker), &w->e);
    assert_ok(world_try_commit(w, unit, 10, is_flat), &w->e);
    assert_ok(world_try_draw(w), &w->e);
    assert_ok(world_try_verdict(w, unit, world_judge(w, unit), REASON_NONE), &w->e);
    assert_ok(world_try_accept(w, unit), &w->e);
}

void world_refused(const struct world *w, enum status got, enum status want, const char *why)
{
    assert_status(got, want, NULL);
    assert_contains(w->e.text, why);
}
