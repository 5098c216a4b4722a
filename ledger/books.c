#include "ledger/books.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_state.h"
#include "proto/digest.h"

void ledger_books_new(struct ledger_books **out)
{
    struct ledger_books *b = xcalloc(1, sizeof(*b));

    account_table_init(&b->accounts);
    merkle_init(&b->tree);
    map_init(&b->node_at);
    map_init(&b->unit_at);
    map_init(&b->invite_at);
    map_init(&b->reference);
    map_init(&b->idem);
    watch_init(&b->watch);
    b->scratch = xcalloc(1, sizeof(*b->scratch));
    *out = b;
}

static void free_unit(struct unit_book *u)
{
    free(u->canary);
    free(u->opened);
}

void ledger_books_free(struct ledger_books **books)
{
    struct ledger_books *b = *books;

    if (!b)
        return;
    for (size_t i = 0; i < b->n_nodes; i++)
        free(b->node[i].credit);
    for (size_t i = 0; i < b->n_units; i++)
        free_unit(&b->unit[i]);
    watch_clear(&b->watch);
    account_table_clear(&b->accounts);
    map_clear(&b->node_at);
    map_clear(&b->unit_at);
    map_clear(&b->invite_at);
    map_clear(&b->reference);
    map_clear(&b->idem);
    free(b->node);
    free(b->unit);
    free(b->invite);
    free(b->undrawn);
    free(b->version);
    books_clear_steps(b);
    free(b->scratch);
    free(b);
    *books = NULL;
}

/* ---- looking --------------------------------------------------------------------------------- */

const char *ledger_unit_state_name(enum ledger_unit_state s)
{
    static const char *const name[] = {"free", "leased", "committed", "accepted", "given up"};

    CHECK((unsigned)s < sizeof(name) / sizeof(name[0]));
    return name[s];
}

struct account books_pending(const struct public_key *node)
{
    return account_of_key(ACCOUNT_PENDING, node);
}

static struct map_key key_of_account(const struct account *a)
{
    struct map_key k;

    memcpy(k.b, a->b, sizeof(k.b));
    return k;
}

const struct node_book *books_find_node(const struct ledger_books *b,
                                        const struct public_key *key)
{
    struct account pending = books_pending(key);
    struct map_key k = key_of_account(&pending);
    uint64_t i;

    if (!map_find(&b->node_at, &k, &i) || !key_equal(&b->node[i].pub.node, key))
        return NULL;
    return &b->node[i];
}

const struct unit_book *books_find_unit(const struct ledger_books *b, uint64_t unit)
{
    struct map_key k = map_key_u64(unit);
    uint64_t i;

    return map_find(&b->unit_at, &k, &i) ? &b->unit[i] : NULL;
}

int64_t books_fee(const struct ledger_books *b, uint32_t depth)
{
    return depth == CHECK_FULL ? b->task.open.fee_full : b->task.open.fee_light;
}

int64_t books_unmatured(const struct ledger_books *b, const struct unit_book *u)
{
    const struct node_book *worker = books_find_node(b, &u->pub.worker);

    for (size_t i = worker->head; i < worker->n; i++)
        if (worker->credit[i].unit == u->pub.unit && worker->credit[i].lease == u->pub.lease)
            return worker->credit[i].amount;
    return 0;
}

bool books_has_version(const struct ledger_books *b, int64_t version)
{
    for (size_t i = b->n_versions; i > 0 && b->version[i - 1].version >= version; i--)
        if (b->version[i - 1].version == version)
            return true;
    return false;
}

const struct ledger_genesis *ledger_books_genesis(const struct ledger_books *b)
{
    return &b->genesis;
}

const struct digest *ledger_books_run(const struct ledger_books *b)
{
    return &b->run;
}

uint64_t ledger_books_next_seq(const struct ledger_books *b)
{
    return b->next_seq;
}

int64_t ledger_books_time_us(const struct ledger_books *b)
{
    return b->time_us;
}

const struct account_table *ledger_books_accounts(const struct ledger_books *b)
{
    return &b->accounts;
}

int64_t ledger_books_balance(const struct ledger_books *b, const struct account *a)
{
    return account_balance(&b->accounts, a);
}

const struct ledger_task *ledger_books_task(const struct ledger_books *b)
{
    return &b->task;
}

const struct ledger_unit *ledger_books_unit(const struct ledger_books *b, uint64_t unit)
{
    const struct unit_book *u = books_find_unit(b, unit);

    return u ? &u->pub : NULL;
}

size_t ledger_books_n_units(const struct ledger_books *b)
{
    return b->n_units;
}

const struct ledger_unit *ledger_books_unit_at(const struct ledger_books *b, size_t i)
{
    CHECK(i < b->n_units);
    return &b->unit[i].pub;
}

const struct ledger_node *ledger_books_node(const struct ledger_books *b,
                                            const struct public_key *node)
{
    const struct node_book *n = books_find_node(b, node);

    return n ? &n->pub : NULL;
}

size_t ledger_books_n_nodes(const struct ledger_books *b)
{
    return b->n_nodes;
}

const struct ledger_node *ledger_books_node_at(const struct ledger_books *b, size_t i)
{
    CHECK(i < b->n_nodes);
    return &b->node[i].pub;
}

int64_t ledger_books_version(const struct ledger_books *b)
{
    return b->n_versions ? b->version[b->n_versions - 1].version : -1;
}

int64_t ledger_books_next_version(const struct ledger_books *b)
{
    return b->next_version;
}

const struct digest *ledger_books_weights(const struct ledger_books *b)
{
    static const struct digest none;

    return b->n_versions ? &b->version[b->n_versions - 1].weights : &none;
}

const struct digest *ledger_books_batch_to_train(const struct ledger_books *b)
{
    return b->n_versions && b->n_trained < b->n_batches ? &b->batch[b->n_trained].root : NULL;
}

uint64_t ledger_books_next_batch(const struct ledger_books *b)
{
    return b->n_batches;
}

uint64_t ledger_books_next_round(const struct ledger_books *b)
{
    return b->round + 1;
}

enum role ledger_books_invite(const struct ledger_books *b, const uint8_t id[16],
                              struct digest *secret)
{
    struct map_key k;
    uint64_t i;

    memcpy(k.b, id, sizeof(k.b));
    if (!map_find(&b->invite_at, &k, &i) || b->invite[i].is_used)
        return ROLE_NONE;
    if (secret)
        *secret = b->invite[i].secret;
    return (enum role)b->invite[i].role;
}

static struct map_key idem_key(const struct public_key *actor, const struct idem *idem)
{
    uint8_t both[KEY_BYTES + sizeof(idem->b)];

    memcpy(both, actor->b, KEY_BYTES);
    memcpy(both + KEY_BYTES, idem->b, sizeof(idem->b));
    return map_key_of(both, sizeof(both));
}

bool ledger_books_find_idem(const struct ledger_books *b, const struct public_key *actor,
                            const struct idem *idem, uint64_t *seq)
{
    struct map_key k = idem_key(actor, idem);

    return !idem_is_zero(idem) && map_find(&b->idem, &k, seq);
}

/* ---- applying -------------------------------------------------------------------------------- */

/* The key that an entry of this kind must come from, or NULL: anyone's. */
static const struct public_key *actor_wanted(enum ledger_type type, const union ledger_body *x)
{
    switch (type) {
    case LEDGER_COMMIT: return NULL; /* the worker: compared with the unit below */
    case LEDGER_NODE_ADMIT: return &x->node_admit_.node;
    case LEDGER_TASK_OPEN: return &x->task_open_.initiator;
    case LEDGER_VERDICT: return &x->verdict_.validator;
    case LEDGER_VERDICT_SEAL: return &x->verdict_seal_.validator;
    case LEDGER_WITNESS: return &x->witness_.validator;
    case LEDGER_STEP_VERDICT: return &x->step_verdict_.validator;
    case LEDGER_DISPUTE_OPEN: return &x->dispute_open_.challenger;
    case LEDGER_STEP: return &x->step_.trainer;
    default: return NULL;
    }
}

static enum status check_actor(const struct ledger_books *b, const struct ledger_entry *en,
                               struct err *e)
{
    const struct public_key *want = actor_wanted(en->type, b->scratch);
    uint64_t seq;

    if (en->type == LEDGER_COMMIT) {
        const struct unit_book *u = books_find_unit(b, b->scratch->commit_.unit);
        want = u ? &u->pub.worker : NULL;
    } else if (en->type == LEDGER_TASK_CLOSE) {
        want = &b->task.open.initiator;
    } else if (en->type == LEDGER_DISPUTE_MOVE) {
        want = books_turn_of(b, &b->scratch->dispute_move_.dispute);
    }
    if (want && !key_is_zero(&en->actor) && !key_equal(want, &en->actor))
        return err_set(e, ERR_DENIED, "I10: the entry comes from another key than it names");
    if (key_is_zero(&en->actor) && !idem_is_zero(&en->idem))
        return err_set(e, ERR_INVALID, "I5: a request of nobody");
    if (ledger_books_find_idem(b, &en->actor, &en->idem, &seq))
        return err_set(e, ERR_EXISTS, "I5: entry %" PRIu64 " answered this request before",
                       seq);
    return OK;
}

static enum status check_place(const struct ledger_books *b, const struct ledger_entry *en,
                               struct err *e)
{
    if (en->seq != b->next_seq)
        return err_set(e, ERR_CORRUPT,
                       "I10: entry %" PRIu64 " stands where %" PRIu64 " belongs", en->seq,
                       b->next_seq);
    if (!digest_equal(&en->run, &b->run))
        return err_set(e, ERR_CORRUPT, "I10: the entry is of another run");
    if (en->time_us < b->time_us)
        return err_set(e, ERR_CORRUPT, "I15: time goes back");
    return OK;
}

static enum status check_balances(const struct ledger_books *b, const struct ledger_posting *v,
                                  uint32_t n, struct err *e)
{
    char name[ACCOUNT_TEXT_BYTES];
    int64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        int64_t after = account_balance(&b->accounts, &v[i].account) + v[i].delta;
        sum += v[i].delta;
        account_text(name, &v[i].account);
        if (after < -LEDGER_SUPPLY_MAX || after > LEDGER_SUPPLY_MAX)
            return err_set(e, ERR_INVALID, "I14: %s would hold %" PRId64 " ucr", name, after);
        if (after < 0 && account_kind(&v[i].account) != ACCOUNT_EXTERNAL)
            return err_set(e, ERR_INSUFFICIENT, "I2: %s would hold %" PRId64 " ucr", name,
                           after);
    }
    CHECK(sum == 0);
    return OK;
}

static enum status check_postings(const struct ledger_entry *en, const struct ledger_posting *v,
                                  uint32_t n, struct err *e)
{
    char name[ACCOUNT_TEXT_BYTES];
    uint64_t sum = 0; /* wraps rather than overflows */

    for (uint32_t i = 0; i < en->n_postings; i++)
        sum += (uint64_t)en->posting[i].delta;
    if (sum)
        return err_set(e, ERR_DENIED, "I1: the postings sum to %" PRId64 " ucr", (int64_t)sum);
    for (uint32_t i = 0; i < n && i < en->n_postings; i++) {
        if (account_equal(&en->posting[i].account, &v[i].account) &&
            en->posting[i].delta == v[i].delta)
            continue;
        account_text(name, &v[i].account);
        return err_set(e, ERR_DENIED, "I1: posting %u should be %+" PRId64 " ucr for %s", i,
                       v[i].delta, name);
    }
    if (n != en->n_postings)
        return err_set(e, ERR_DENIED, "I1: %u postings, not %u", n, en->n_postings);
    return OK;
}

static struct node_book *node_at(struct ledger_books *b, const struct public_key *key)
{
    const struct node_book *n = books_find_node(b, key);

    CHECK(n);
    return &b->node[n - b->node];
}

static struct unit_book *unit_at(struct ledger_books *b, uint64_t unit)
{
    const struct unit_book *u = books_find_unit(b, unit);

    CHECK(u);
    return &b->unit[u - b->unit];
}

void *books_grow(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return array;
    *cap = *cap ? 2 * *cap : 16;
    return xrealloc(array, *cap * size);
}

/* Every amount that arrives in a pending account is remembered until it matures. */
static void remember_credits(struct ledger_books *b, const struct ledger_posting *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct map_key k = key_of_account(&v[i].account);
        struct node_book *node;
        uint64_t at;
        if (v[i].delta < 0 || account_kind(&v[i].account) != ACCOUNT_PENDING)
            continue;
        CHECK(map_find(&b->node_at, &k, &at));
        node = &b->node[at];
        node->credit = books_grow(node->credit, node->n, &node->cap, sizeof(*node->credit));
        node->credit[node->n++] = (struct credit){b->next_seq, NO_UNIT, 0, v[i].delta};
        node->pub.earned += v[i].delta;
    }
}

static void apply_invite(struct ledger_books *b, const struct ledger_invite *x)
{
    struct map_key k;

    memcpy(k.b, x->id, sizeof(k.b));
    map_put(&b->invite_at, &k, b->n_invites);
    b->invite = books_grow(b->invite, b->n_invites, &b->cap_invites, sizeof(*b->invite));
    b->invite[b->n_invites++] = (struct invite_book){x->secret, x->role, false};
}

static void apply_node_admit(struct ledger_books *b, const struct ledger_node_admit *x)
{
    struct account pending = books_pending(&x->node);
    struct map_key k = key_of_account(&pending);
    uint64_t i;

    map_put(&b->node_at, &k, b->n_nodes);
    b->node = books_grow(b->node, b->n_nodes, &b->cap_nodes, sizeof(*b->node));
    b->node[b->n_nodes++] = (struct node_book){.pub = {.node = x->node,
                                                       .transport = x->transport,
                                                       .owner = x->owner,
                                                       .role = x->role,
                                                       .admitted = b->next_seq}};
    memcpy(k.b, x->invite, sizeof(k.b));
    CHECK(map_find(&b->invite_at, &k, &i));
    b->invite[i].is_used = true;
}

static void apply_task_open(struct ledger_books *b, const struct ledger_task_open *x)
{
    memset(&b->task, 0, sizeof(b->task));
    b->task.open = *x;
    b->task.is_open = true;
    b->task.opened = b->next_seq;
    map_clear(&b->unit_at);
    for (size_t i = 0; i < b->n_units; i++)
        free_unit(&b->unit[i]);
    b->n_units = 0;
    b->undrawn_head = b->n_undrawn = 0;
    b->n_versions = 0;
    b->next_version = 0;
    books_clear_steps(b);
}

static void apply_task_close(struct ledger_books *b, const struct ledger_posting *v, uint32_t n)
{
    b->task.is_open = false;
    b->task.is_closed = true;
    for (uint32_t i = 0; i < n; i++)
        if (v[i].delta > 0)
            b->task.refunded += v[i].delta;
}

static void apply_mature(struct ledger_books *b, const struct ledger_mature *x)
{
    struct node_book *node = node_at(b, &x->node);

    while (node->head < node->n && node->credit[node->head].seq <= x->through)
        node->head++;
    memmove(node->credit, node->credit + node->head,
            (node->n - node->head) * sizeof(*node->credit));
    node->n -= node->head;
    node->head = 0;
}

static void apply_lease(struct ledger_books *b, const struct ledger_lease *x)
{
    struct map_key k = map_key_u64(x->unit);
    struct unit_book *u, before;
    uint64_t i;

    if (!map_find(&b->unit_at, &k, &i)) {
        i = b->n_units;
        map_put(&b->unit_at, &k, i);
        b->unit = books_grow(b->unit, b->n_units, &b->cap_units, sizeof(*b->unit));
        memset(&b->unit[b->n_units++], 0, sizeof(*b->unit));
    }
    u = &b->unit[i];
    before = *u;
    free(u->opened);
    memset(u, 0, sizeof(*u));
    u->canary = before.canary;
    u->pub.canary = u->canary;
    u->pub.n_canaries = before.pub.n_canaries;
    u->pub.unit = x->unit;
    u->pub.state = UNIT_LEASED;
    u->pub.attempt = x->attempt;
    u->pub.lease = b->next_seq;
    u->pub.worker = x->worker;
    u->pub.version = x->version;
    u->pub.expires_us = x->expires_us;
    u->pub.hard_us = x->hard_us;
    u->pub.reserve = x->reserve;
    u->pub.seal = x->seal;
    node_at(b, &x->worker)->pub.n_live++;
    b->task.promised += x->reserve;
}

/* Which of two that are alike is the copy, neither tells: both are looked at, while that can be. */
static void watch_other(struct ledger_books *b, const struct unit_book *u)
{
    struct unit_book *other = unit_at(b, u->pub.watch.other);

    if (other != u && other->pub.state == UNIT_COMMITTED && other->pub.depth == 0)
        other->pub.watch = (struct watch_finding){REASON_COPIED, u->pub.unit, 0};
}

static void apply_commit(struct ledger_books *b, const struct ledger_commit *x)
{
    struct unit_book *u = unit_at(b, x->unit);
    struct node_book *worker = node_at(b, &u->pub.worker);

    u->pub.state = UNIT_COMMITTED;
    u->pub.commit = b->next_seq;
    u->pub.root = x->root;
    u->pub.envelope = x->envelope;
    u->pub.tokens = x->tokens;
    u->pub.is_flat = x->is_flat;
    u->nth = ++worker->pub.n_commits;
    watch_commit(&b->watch, (uint32_t)(worker - b->node), x, &u->pub.watch);
    if (u->pub.watch.code == REASON_COPIED)
        watch_other(b, u);
    b->undrawn = books_grow(b->undrawn, b->n_undrawn, &b->cap_undrawn, sizeof(*b->undrawn));
    b->undrawn[b->n_undrawn++] = (struct commit_mark){(size_t)(u - b->unit), b->next_seq};
}

static void assign(struct ledger_books *b, struct unit_book *u, const struct public_key *to)
{
    u->assigned[u->n_assigned++ % ASSIGNED_KEPT] =
        (struct assigned_book){(uint32_t)(node_at(b, to) - b->node), u->n_seals};
}

static void apply_draw(struct ledger_books *b, const struct ledger_draw *x)
{
    b->beacon = x->value;
    b->round = x->round;
    for (uint32_t i = 0; i < x->n_rows; i++) {
        struct unit_book *u = unit_at(b, x->row[i].unit);
        u->pub.depth = u->drawn = x->row[i].depth;
        u->probability = x->row[i].probability;
        draw_value(&u->r, &x->value, &b->mix, u->pub.unit, &u->pub.root);
        for (uint32_t k = 0; k < x->row[i].n_assigned; k++)
            assign(b, u, &x->candidate[x->row[i].assigned[k]]);
    }
    books_draw_steps(b, x);
    while (b->undrawn_head < b->n_undrawn && b->undrawn[b->undrawn_head].seq <= x->through)
        b->undrawn_head++;
    if (b->undrawn_head == b->n_undrawn)
        b->undrawn_head = b->n_undrawn = 0;
    books_close_round(b);
}

static void apply_assign(struct ledger_books *b, const struct ledger_assign *x)
{
    struct unit_book *u = unit_at(b, x->unit);

    assign(b, u, &x->to);
    if (x->depth > u->pub.depth)
        u->pub.depth = x->depth;
}

/* The reserve of a live attempt was paid out, or went back. */
static void settle(struct ledger_books *b, struct unit_book *u, enum ledger_unit_state next)
{
    node_at(b, &u->pub.worker)->pub.n_live--;
    b->task.promised -= u->pub.reserve;
    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        b->task.paid_validators += books_fee(b, u->pub.opinion[i].depth);
    u->pub.state = next;
}

static void apply_accept(struct ledger_books *b, const struct ledger_accept *x)
{
    struct unit_book *u = unit_at(b, x->unit);
    struct node_book *worker = node_at(b, &u->pub.worker);

    settle(b, u, UNIT_ACCEPTED);
    u->pub.paid = (int64_t)u->pub.tokens * b->task.open.price_token;
    b->task.paid_workers += u->pub.paid;
    worker->pub.n_accepted++;
    if (u->pub.paid) {
        CHECK(worker->n && worker->credit[worker->n - 1].seq == b->next_seq);
        worker->credit[worker->n - 1].unit = u->pub.unit;
        worker->credit[worker->n - 1].lease = u->pub.lease;
    }
}

static void apply_void(struct ledger_books *b, const struct ledger_void *x)
{
    struct unit_book *u = unit_at(b, x->unit);
    struct node_book *worker = node_at(b, &u->pub.worker);

    if (u->pub.state != UNIT_ACCEPTED) {
        settle(b, u, UNIT_FREE);
        return;
    }
    for (size_t i = worker->head; i < worker->n; i++) {
        struct credit *c = &worker->credit[i];
        if (c->unit != u->pub.unit || c->lease != u->pub.lease)
            continue;
        b->task.paid_workers -= c->amount;
        c->amount = 0; /* the unit's money is back in the escrow */
        c->unit = NO_UNIT;
    }
    u->pub.state = UNIT_FREE;
}

static void apply_refusal(struct ledger_books *b, uint64_t unit)
{
    struct unit_book *u = unit_at(b, unit);

    settle(b, u, UNIT_FREE);
    node_at(b, &u->pub.worker)->pub.n_refused++;
}

/* A worker whose unit was refused has the standing of one that begins. */
static void apply_reject_soft(struct ledger_books *b, const struct ledger_reject_soft *x)
{
    struct ledger_node *worker = &node_at(b, &unit_at(b, x->unit)->pub.worker)->pub;

    worker->commits_before = worker->n_commits;
    worker->accepted_before = worker->n_accepted;
    apply_refusal(b, x->unit);
}

static void apply_reject_hard(struct ledger_books *b, const struct ledger_reject_hard *x,
                              const struct ledger_posting *v, uint32_t n)
{
    struct unit_book *u = unit_at(b, x->unit);
    struct node_book *worker = node_at(b, &u->pub.worker);
    struct account stake = account_of_key(ACCOUNT_STAKE, &u->pub.worker);
    struct account pending = books_pending(&u->pub.worker);

    apply_refusal(b, x->unit);
    for (size_t i = worker->head; i < worker->n; i++) {
        const struct unit_book *paid = books_find_unit(b, worker->credit[i].unit);
        if (paid && paid->pub.lease == worker->credit[i].lease &&
            paid->pub.state == UNIT_ACCEPTED && !paid->pub.is_batched) {
            b->task.paid_workers -= worker->credit[i].amount;
            b->task.slashed -= worker->credit[i].amount;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        if (account_equal(&v[i].account, &stake) || account_equal(&v[i].account, &pending))
            b->task.slashed -= v[i].delta;
    worker->head = worker->n = 0;
    worker->pub.is_slashed = true;
}

static void apply_canary_reveal(struct ledger_books *b, const struct ledger_canary_reveal *x,
                                const struct ledger_posting *v, uint32_t n)
{
    struct unit_book *u = unit_at(b, x->unit);
    struct account pending = books_pending(&u->pub.worker);

    for (uint32_t i = 0; i < n; i++)
        if (account_equal(&v[i].account, &pending))
            b->task.paid_workers += v[i].delta;
    settle(b, u, UNIT_FREE);
    books_keep_canary(u, &x->salt);
}

static void apply_batch(struct ledger_books *b, const struct ledger_batch *x)
{
    for (uint32_t i = 0; i < x->n_rows; i++)
        unit_at(b, x->row[i].unit)->pub.is_batched = true;
    books_take_batch(b, x);
}

static void apply_body(struct ledger_books *b, const struct ledger_entry *en,
                       const struct digest *hash)
{
    const union ledger_body *x = b->scratch;
    struct map_key k;

    switch (en->type) {
    case LEDGER_GENESIS:
        b->genesis = x->genesis_;
        b->beacon = x->genesis_.beacon_head;
        b->run = *hash;
        break;
    case LEDGER_INVITE: apply_invite(b, &x->invite_); break;
    case LEDGER_NODE_ADMIT: apply_node_admit(b, &x->node_admit_); break;
    case LEDGER_NODE_REVOKE: node_at(b, &x->node_revoke_.node)->pub.is_revoked = true; break;
    case LEDGER_DEPOSIT:
        memcpy(k.b, x->deposit_.reference, sizeof(k.b));
        map_put(&b->reference, &k, b->next_seq);
        break;
    case LEDGER_TASK_OPEN: apply_task_open(b, &x->task_open_); break;
    case LEDGER_TASK_CLOSE: apply_task_close(b, en->posting, en->n_postings); break;
    case LEDGER_LEASE: apply_lease(b, &x->lease_); break;
    case LEDGER_COMMIT: apply_commit(b, &x->commit_); break;
    case LEDGER_DRAW: apply_draw(b, &x->draw_); break;
    case LEDGER_ASSIGN: apply_assign(b, &x->assign_); break;
    case LEDGER_VERDICT: books_take_verdict(b, &x->verdict_); break;
    case LEDGER_ACCEPT: apply_accept(b, &x->accept_); break;
    case LEDGER_VOID: apply_void(b, &x->void_); break;
    case LEDGER_REJECT_SOFT: apply_reject_soft(b, &x->reject_soft_); break;
    case LEDGER_REJECT_HARD:
        apply_reject_hard(b, &x->reject_hard_, en->posting, en->n_postings);
        break;
    case LEDGER_CANARY_REVEAL:
        apply_canary_reveal(b, &x->canary_reveal_, en->posting, en->n_postings);
        break;
    case LEDGER_CANARY_JUDGE:
        books_judge_canary(b, &x->canary_judge_, en->posting, en->n_postings);
        break;
    case LEDGER_VERDICT_SEAL: books_seal_verdict(b, &x->verdict_seal_); break;
    case LEDGER_STATES_JUDGE:
        books_judge_states(b, &x->states_judge_, en->posting, en->n_postings);
        break;
    case LEDGER_OPENING:
        unit_at(b, x->opening_.unit)->pub.opening = x->opening_.envelope;
        break;
    case LEDGER_WITNESS: books_take_witness(b, &x->witness_); break;
    case LEDGER_HEAD: books_open_round(b, &x->head_); break;
    case LEDGER_GIVEUP: unit_at(b, x->giveup_.unit)->pub.state = UNIT_GIVEN_UP; break;
    case LEDGER_MATURE: apply_mature(b, &x->mature_); break;
    case LEDGER_BATCH: apply_batch(b, &x->batch_); break;
    case LEDGER_STEP: books_take_step(b, &x->step_); break;
    case LEDGER_ABANDON: books_abandon(b, &x->abandon_); break;
    case LEDGER_STEP_ASSIGN: books_assign_step(b, &x->step_assign_); break;
    case LEDGER_STEP_VERDICT:
        books_judge_step(b, &x->step_verdict_, en->posting, en->n_postings);
        break;
    case LEDGER_DISPUTE_OPEN: books_open_dispute(b, &x->dispute_open_, en->time_us); break;
    case LEDGER_DISPUTE_MOVE: books_move_dispute(b, &x->dispute_move_, en->time_us); break;
    case LEDGER_DISPUTE_CLOSE:
        books_close_dispute(b, &x->dispute_close_, en->posting, en->n_postings);
        break;
    default: break; /* moves money at most */
    }
}

/* I3: what was paid in is in the escrow, reserved, paid or back. */
static void check_task_total(const struct ledger_books *b)
{
    const struct ledger_task *t = &b->task;
    struct account escrow = account_of_task(ACCOUNT_ESCROW, &t->open.task);
    struct account reserved = account_of_task(ACCOUNT_RESERVED, &t->open.task);

    CHECK(t->open.deposit == account_balance(&b->accounts, &escrow) +
                                 account_balance(&b->accounts, &reserved) + t->paid_workers +
                                 t->paid_validators + t->paid_trainer + t->refunded);
}

enum status ledger_apply(struct ledger_books *b, const struct ledger_entry *en,
                         const struct digest *hash, struct err *e)
{
    struct ledger_posting want[LEDGER_POSTINGS_MAX];
    uint32_t n = 0;
    enum status st = check_place(b, en, e);

    if (!st)
        st = ledger_body_decode(b->scratch, en->type, en->body, e);
    if (!st)
        st = check_actor(b, en, e);
    if (!st)
        st = ledger_books_post(b, en->type, b->scratch, want, &n, e);
    if (!st)
        st = books_check_silence(b, en, e);
    if (!st)
        st = check_postings(en, want, n, e);
    if (!st)
        st = check_balances(b, want, n, e);
    if (st)
        return st;
    for (uint32_t i = 0; i < n; i++)
        account_add(&b->accounts, &want[i].account, want[i].delta);
    remember_credits(b, want, n);
    apply_body(b, en, hash);
    check_task_total(b);
    if (!idem_is_zero(&en->idem)) {
        struct map_key k = idem_key(&en->actor, &en->idem);
        map_put(&b->idem, &k, en->seq);
    }
    merkle_add(&b->tree, BYTES_OF(*hash));
    b->time_us = en->time_us;
    b->next_seq++;
    return OK;
}
