/* May this entry be the next one, and what does it move? Reads the books, changes nothing. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_post.h"

void post_add(struct post *p, const struct account *a, int64_t delta)
{
    uint32_t i = 0;

    while (i < p->n && !account_equal(&p->v[i].account, a))
        i++;
    if (i == p->n) {
        CHECK(p->n < LEDGER_POSTINGS_MAX);
        p->v[p->n++] = (struct ledger_posting){*a, 0};
    }
    p->v[i].delta += delta;
}

void post_move(struct post *p, struct account from, struct account to, int64_t amount)
{
    CHECK(amount >= 0);
    if (amount == 0)
        return;
    post_add(p, &from, -amount);
    post_add(p, &to, amount);
}

/* A node that may act in this role. */
enum status post_find_actor(const struct node_book **out, const struct ledger_books *b,
                            const struct public_key *key, enum role role, struct err *e)
{
    const struct node_book *node = books_find_node(b, key);

    *out = node;
    if (!node)
        return err_set(e, ERR_NOT_FOUND, "I10: no such node was admitted");
    if (node->pub.is_revoked || node->pub.is_slashed)
        return err_set(e, ERR_DENIED, "I10: the node was barred");
    if (role != ROLE_NONE && node->pub.role != role)
        return err_set(e, ERR_DENIED, "I10: only a node of role %s may do this, not of role %s",
                       role_name(role), role_name((enum role)node->pub.role));
    return OK;
}

enum status post_need_task(const struct ledger_books *b, struct err *e)
{
    return b->task.is_open ? OK : err_set(e, ERR_DENIED, "I3: no task is open");
}

struct account post_task_account(const struct ledger_books *b, enum account_kind kind)
{
    return account_of_task(kind, &b->task.open.task);
}

static struct account of_owner(const struct node_book *node)
{
    return account_of_key(ACCOUNT_AVAIL, &node->pub.owner);
}

/* a * b of money, or false past the supply (I14). */
static bool mul_money(int64_t *out, uint64_t a, uint64_t b)
{
    if (b && a > (uint64_t)LEDGER_SUPPLY_MAX / b)
        return false;
    *out = (int64_t)(a * b);
    return true;
}

/* ---- people and money ---------------------------------------------------------------------- */

enum status post_genesis(const struct ledger_books *b, const struct ledger_genesis *x,
                         struct post *p, struct err *e)
{
    (void)p;
    if (b->next_seq != 0)
        return err_set(e, ERR_EXISTS, "I10: a ledger has one GENESIS");
    if (x->finder_percent > 100 || x->jackpot_percent > 100 - x->finder_percent)
        return err_set(e, ERR_INVALID, "I8: a slash is split into %u%% and %u%%",
                       x->finder_percent, x->jackpot_percent);
    if (x->beacon_length == 0 || x->beacon_length > BEACON_LENGTH_MAX)
        return err_set(e, ERR_INVALID, "I9: a beacon of %" PRIu64 " rounds", x->beacon_length);
    return OK;
}

enum status post_param(const struct ledger_books *b, const struct ledger_param *x,
                       struct post *p, struct err *e)
{
    (void)b, (void)x, (void)p, (void)e;
    return OK;
}

enum status post_invite(const struct ledger_books *b, const struct ledger_invite *x,
                        struct post *p, struct err *e)
{
    struct map_key key;

    (void)p;
    memcpy(key.b, x->id, sizeof(key.b));
    if (map_find(&b->invite_at, &key, NULL))
        return err_set(e, ERR_EXISTS, "I5: an invite with this id was made before");
    return OK;
}

enum status post_node_admit(const struct ledger_books *b, const struct ledger_node_admit *x,
                            struct post *p, struct err *e)
{
    struct map_key key;
    struct account pending = books_pending(&x->node);
    uint64_t i;

    (void)p;
    memcpy(key.b, pending.b, sizeof(key.b));
    if (map_find(&b->node_at, &key, NULL))
        return err_set(e, ERR_EXISTS, "I10: the node was admitted before");
    memcpy(key.b, x->invite, sizeof(key.b));
    if (!map_find(&b->invite_at, &key, &i))
        return err_set(e, ERR_NOT_FOUND, "I10: no such invite");
    if (b->invite[i].is_used)
        return err_set(e, ERR_DENIED, "I10: the invite was used before");
    if (b->invite[i].role != x->role)
        return err_set(e, ERR_DENIED, "I10: the invite is for role %s, not %s",
                       role_name((enum role)b->invite[i].role), role_name((enum role)x->role));
    return OK;
}

enum status post_node_revoke(const struct ledger_books *b, const struct ledger_node_revoke *x,
                             struct post *p, struct err *e)
{
    const struct node_book *node = books_find_node(b, &x->node);

    (void)p;
    if (!node)
        return err_set(e, ERR_NOT_FOUND, "I10: no such node was admitted");
    if (node->pub.is_revoked)
        return err_set(e, ERR_EXISTS, "I10: the node was revoked before");
    return OK;
}

enum status post_deposit(const struct ledger_books *b, const struct ledger_deposit *x,
                         struct post *p, struct err *e)
{
    struct map_key key;

    memcpy(key.b, x->reference, sizeof(key.b));
    if (map_find(&b->reference, &key, NULL))
        return err_set(e, ERR_EXISTS, "I5: this payment was deposited before");
    if (x->amount == 0)
        return err_set(e, ERR_INVALID, "I1: a deposit of nothing");
    post_move(p, account_of_pool(ACCOUNT_EXTERNAL), account_of_key(ACCOUNT_AVAIL, &x->owner),
              x->amount);
    return OK;
}

enum status post_stake(const struct ledger_books *b, const struct ledger_stake *x,
                       struct post *p, struct err *e)
{
    const struct node_book *node;
    enum status st = post_find_actor(&node, b, &x->node, ROLE_NONE, e);

    if (st)
        return st;
    if (x->amount == 0)
        return err_set(e, ERR_INVALID, "I1: a stake of nothing");
    post_move(p, of_owner(node), account_of_key(ACCOUNT_STAKE, &x->node), x->amount);
    return OK;
}

enum status post_unstake(const struct ledger_books *b, const struct ledger_unstake *x,
                         struct post *p, struct err *e)
{
    const struct node_book *node = books_find_node(b, &x->node);
    struct account pending = books_pending(&x->node);

    if (!node)
        return err_set(e, ERR_NOT_FOUND, "I10: no such node was admitted");
    if (x->amount == 0)
        return err_set(e, ERR_INVALID, "I1: nothing is unstaked");
    if (node->pub.n_live)
        return err_set(e, ERR_DENIED, "I8: the node still holds %" PRIu64 " units",
                       node->pub.n_live);
    if (account_balance(&b->accounts, &pending))
        return err_set(e, ERR_DENIED, "I8: the node still has pending pay");
    if (books_is_party(b, &x->node))
        return err_set(e, ERR_DENIED, "I8: the node is party to a dispute");
    post_move(p, account_of_key(ACCOUNT_STAKE, &x->node), of_owner(node), x->amount);
    return OK;
}

enum status post_mature(const struct ledger_books *b, const struct ledger_mature *x,
                        struct post *p, struct err *e)
{
    const struct node_book *node = books_find_node(b, &x->node);
    int64_t amount = 0;

    if (!node)
        return err_set(e, ERR_NOT_FOUND, "I10: no such node was admitted");
    if (x->through >= b->next_seq ||
        (!b->task.is_closed && b->next_seq - x->through < b->genesis.mature_window))
        return err_set(e, ERR_DENIED, "I7: pay of entry %" PRIu64 " has not matured yet",
                       x->through);
    if (x->through >= books_frozen_from(b, &x->node))
        return err_set(e, ERR_DENIED,
                       "I7: a version of the node's is not recomputed, or "
                       "disputed");
    for (size_t i = node->head; i < node->n && node->credit[i].seq <= x->through; i++)
        amount += node->credit[i].amount;
    if (amount == 0)
        return err_set(e, ERR_INVALID, "I7: nothing matures");
    post_move(p, books_pending(&x->node), of_owner(node), amount);
    return OK;
}

/* ---- the task -------------------------------------------------------------------------------- */

static enum status check_terms(const struct ledger_task_open *x, int64_t *steps, struct err *e)
{
    int64_t most, fee = x->fee_full > x->fee_light ? x->fee_full : x->fee_light;

    if (!mul_money(steps, x->steps, (uint64_t)x->price_step) || *steps > x->deposit)
        return err_set(e, ERR_INSUFFICIENT,
                       "I3: the deposit of %" PRId64 " ucr is less than %" PRIu64
                       " steps at %" PRId64 " ucr",
                       x->deposit, x->steps, x->price_step);
    if (!mul_money(&most, x->tokens_max, (uint64_t)x->price_token) ||
        !mul_money(&most, LEDGER_VERDICTS_MAX, (uint64_t)fee))
        return err_set(e, ERR_INVALID, "I14: a unit may cost more than there is money");
    if (x->verdicts_max < 1 || x->verdicts_max > LEDGER_VERDICTS_MAX || x->validators < 1 ||
        x->validators > LEDGER_ASSIGNED_MAX || x->validators > x->verdicts_max)
        return err_set(e, ERR_INVALID, "I9: %u validators of at most %u verdicts",
                       x->validators, x->verdicts_max);
    if (x->audit_floor > LEDGER_ONE || x->saving_ppm > 1000000 || x->detection_ppm < 1 ||
        x->detection_ppm > 1000000 || x->canary_rate > LEDGER_ONE ||
        x->recheck_rate > LEDGER_ONE || x->bond_slice_ppm > 1000000 ||
        x->step_rate > LEDGER_ONE || (x->step_rate && !x->dispute_ms) ||
        ((x->canary_rate || x->recheck_rate) && !x->bond_strikes))
        return err_set(e, ERR_INVALID, "I9: the audit policy is out of range");
    return OK;
}

enum status post_task_open(const struct ledger_books *b, const struct ledger_task_open *x,
                           struct post *p, struct err *e)
{
    const struct node_book *node;
    enum status st = post_find_actor(&node, b, &x->initiator, ROLE_INITIATOR, e);
    int64_t steps = 0;

    if (st)
        return st;
    if (b->task.is_open)
        return err_set(e, ERR_EXISTS, "I3: a task is open already");
    st = check_terms(x, &steps, e);
    if (st)
        return st;
    post_move(p, of_owner(node), account_of_task(ACCOUNT_ESCROW, &x->task), x->deposit - steps);
    post_move(p, of_owner(node), account_of_task(ACCOUNT_RESERVED, &x->task), steps);
    return OK;
}

enum status post_task_close(const struct ledger_books *b, const struct ledger_task_close *x,
                            struct post *p, struct err *e)
{
    struct account escrow = post_task_account(b, ACCOUNT_ESCROW),
                   reserved = post_task_account(b, ACCOUNT_RESERVED);
    const struct node_book *initiator = books_find_node(b, &b->task.open.initiator);

    if (!b->task.is_open || !digest_equal(&x->task, &b->task.open.task))
        return err_set(e, ERR_DENIED, "I3: this task is not open");
    if (b->task.promised)
        return err_set(e, ERR_DENIED, "I3: %" PRId64 " ucr are still reserved for live units",
                       b->task.promised);
    if (ledger_books_open_dispute(b))
        return err_set(e, ERR_DENIED, "I3: a dispute is open");
    post_move(p, escrow, of_owner(initiator), account_balance(&b->accounts, &escrow));
    post_move(p, reserved, of_owner(initiator), account_balance(&b->accounts, &reserved));
    return OK;
}

/* ---- training -------------------------------------------------------------------------------- */

static int compare_units(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static bool has_twice(const struct ledger_batch *x)
{
    uint64_t *unit = xcalloc(x->n_rows ? x->n_rows : 1, sizeof(*unit));
    bool twice = false;

    for (uint32_t i = 0; i < x->n_rows; i++)
        unit[i] = x->row[i].unit;
    qsort(unit, x->n_rows, sizeof(*unit), compare_units);
    for (uint32_t i = 1; i < x->n_rows; i++)
        twice |= unit[i] == unit[i - 1];
    free(unit);
    return twice;
}

static bool row_fits(const struct ledger_books *b, const struct ledger_batch_row *row)
{
    const struct unit_book *u = books_find_unit(b, row->unit);

    if (!u || u->pub.is_batched)
        return false;
    if (u->pub.state == UNIT_ACCEPTED && u->canary && !u->canary->is_judged)
        return false;
    if (row->use == LEDGER_GIVEN_UP)
        return u->pub.state == UNIT_GIVEN_UP;
    return u->pub.state == UNIT_ACCEPTED && u->pub.is_flat == (row->use == LEDGER_FLAT) &&
           !books_find_node(b, &u->pub.worker)->pub.is_slashed;
}

enum status post_batch(const struct ledger_books *b, const struct ledger_batch *x,
                       struct post *p, struct err *e)
{
    struct digest root;
    enum status st = post_need_task(b, e);

    (void)p;
    if (st)
        return st;
    if (x->batch != b->n_batches)
        return err_set(e, ERR_DENIED, "I4: batch %" PRIu64 " is not the next, %zu", x->batch,
                       b->n_batches);
    for (uint32_t i = 0; i < x->n_rows; i++)
        if (!row_fits(b, &x->row[i]))
            return err_set(e, ERR_DENIED, "I4: unit %" PRIu64 " cannot be in batch %" PRIu64,
                           x->row[i].unit, x->batch);
    if (has_twice(x))
        return err_set(e, ERR_DENIED, "I4: a unit is in batch %" PRIu64 " twice", x->batch);
    st = ledger_batch_root(&root, b, x, e);
    if (!st && !digest_equal(&root, &x->root))
        st = err_set(e, ERR_DIGEST, "I10: the root of batch %" PRIu64 " is another", x->batch);
    return st;
}

enum status post_step(const struct ledger_books *b, const struct ledger_step *x, struct post *p,
                      struct err *e)
{
    static const struct digest none;
    const struct digest *batch = &none, *parent = &none;
    const struct node_book *trainer;
    enum status st = post_need_task(b, e);

    if (!st)
        st = post_find_actor(&trainer, b, &x->trainer, ROLE_TRAINER, e);
    if (st)
        return st;
    if (x->version != b->next_version)
        return err_set(e, ERR_DENIED, "I4: version %" PRId64 " is not the next, %" PRId64,
                       x->version, b->next_version);
    if (b->n_versions) {
        parent = &b->version[b->n_versions - 1].weights;
        batch = ledger_books_batch_to_train(b);
        if (!batch)
            return err_set(e, ERR_DENIED, "I4: no batch is there for version %" PRId64,
                           x->version);
    }
    if (!digest_equal(&x->parent, parent) || !digest_equal(&x->batch, batch))
        return err_set(e, ERR_DIGEST, "I10: version %" PRId64 " has another %s", x->version,
                       digest_equal(&x->parent, parent) ? "batch" : "parent");
    if (books_pays_step(b))
        post_move(p, post_task_account(b, ACCOUNT_RESERVED), books_pending(&x->trainer),
                  b->task.open.price_step);
    return OK;
}

enum status post_abandon(const struct ledger_books *b, const struct ledger_abandon *x,
                         struct post *p, struct err *e)
{
    const struct version_mark *top = b->n_versions ? &b->version[b->n_versions - 1] : NULL;
    const struct ledger_step_state *s;

    (void)p;
    if (x->version != b->next_version &&
        (!top || top->version != x->version || !digest_equal(&top->weights, &x->weights)))
        return err_set(e, ERR_DENIED, "I4: version %" PRId64 " is neither the newest nor next",
                       x->version);
    if (!top || (b->n_versions == 1 && x->version == top->version))
        return err_set(e, ERR_DENIED,
                       "I4: the first version is what the task makes, and is not abandoned");
    s = x->version != b->next_version ? ledger_books_step(b, x->version) : NULL;
    if (s && (s->is_disputed || (s->is_wanted && !s->is_done)))
        return err_set(e, ERR_DENIED,
                       "I9: version %" PRId64 " is to be recomputed, or disputed", x->version);
    return post_need_task(b, e);
}

enum status post_equivocation(const struct ledger_books *b, const struct ledger_equivocation *x,
                              struct post *p, struct err *e)
{
    const struct node_book *trainer = books_find_node(b, &x->trainer);

    (void)p;
    if (!trainer || trainer->pub.role != ROLE_TRAINER)
        return err_set(e, ERR_NOT_FOUND, "I10: no such trainer was admitted");
    if (x->version < 0 || x->version >= b->next_version || digest_equal(&x->first, &x->second))
        return err_set(e, ERR_INVALID, "I10: that is no equivocation");
    return OK;
}

enum status ledger_books_post(const struct ledger_books *b, enum ledger_type type,
                              const union ledger_body *body,
                              struct ledger_posting posting[LEDGER_POSTINGS_MAX], uint32_t *n,
                              struct err *e)
{
    struct post p = {posting, 0};
    enum status st = OK;

    *n = 0;
    if ((b->next_seq == 0) != (type == LEDGER_GENESIS))
        return err_set(e, ERR_INVALID, "I10: a ledger begins with its one GENESIS");
#define POST_CASE(NAME, number, name, moves_money, text)                                       \
    case LEDGER_##NAME: st = post_##name(b, &body->name##_, &p, e); break;
    switch (type) {
        LEDGER_TYPE_MAP(POST_CASE)
    case LEDGER_NONE:
    case LEDGER_TYPE_COUNT: CHECK(!"a known type");
    }
#undef POST_CASE
    if (st)
        return st;
    for (uint32_t i = 0; i < p.n; i++)
        if (posting[i].delta)
            posting[(*n)++] = posting[i];
    return OK;
}
