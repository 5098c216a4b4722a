/* Canaries: whether an attempt is one, its end, and what it proves (proto/canary.h). */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/beacon.h"
#include "ledger/books_post.h"
#include "proto/canary.h"

bool ledger_books_is_canary(const struct ledger_books *b, uint64_t unit,
                            const struct digest *salt)
{
    const struct unit_book *u = books_find_unit(b, unit);

    return u && canary_kind_of(salt, u->pub.attempt, b->task.open.canary_rate) != CANARY_NONE;
}

uint32_t books_sealed_depth(const struct ledger_books *b, const struct unit_book *u,
                            const struct digest *r, uint64_t p, const struct digest *salt)
{
    struct digest sealed;

    canary_draw_value(&sealed, r, salt);
    return ledger_books_is_canary(b, u->pub.unit, salt) || draw_is_audited(&sealed, p)
               ? CHECK_FULL
               : CHECK_LIGHT;
}

bool ledger_books_has_bond(const struct ledger_books *b, const struct public_key *validator)
{
    struct account stake = account_of_key(ACCOUNT_STAKE, validator);

    return account_balance(&b->accounts, &stake) >= b->task.open.bond_required;
}

enum status post_canary_reveal(const struct ledger_books *b,
                               const struct ledger_canary_reveal *x, struct post *p,
                               struct err *e)
{
    const struct node_book *worker;
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);
    int64_t pay;

    if (!st)
        st = post_check_salt(b, u, &x->salt, e);
    if (st)
        return st;
    if (!ledger_books_is_canary(b, x->unit, &x->salt))
        return err_set(e, ERR_DENIED, "I9: this attempt at unit %" PRIu64 " was no canary",
                       x->unit);
    if (!u->pub.n_opinions)
        return err_set(e, ERR_DENIED, "I9: nobody has judged unit %" PRIu64 " yet", x->unit);
    worker = books_find_node(b, &u->pub.worker);
    pay = worker->pub.is_slashed || worker->pub.is_revoked
              ? 0
              : (int64_t)u->pub.tokens * b->task.open.price_token;
    post_settle(b, u, pay, p);
    return OK;
}

static bool found_fraud(const struct ledger_opinion *o)
{
    return !o->is_accepted && reason_is_hard((enum reason)o->code);
}

bool books_is_contradicted(const struct ledger_opinion *o, uint32_t outcome)
{
    if (outcome == LEDGER_CANARY_BAD)
        return o->is_accepted && o->depth == CHECK_FULL;
    return outcome == LEDGER_CANARY_GOOD && found_fraud(o);
}

/* ppm of an amount, rounded down, without leaving 64 bits. */
static int64_t part_of(int64_t amount, uint32_t ppm)
{
    return amount / 1000000 * ppm + amount % 1000000 * ppm / 1000000;
}

/* What a contradicted verdict costs: the fee and a slice of stake, or all. */
void post_strike(const struct ledger_books *b, const struct public_key *validator,
                 struct post *p)
{
    const struct node_book *node = books_find_node(b, validator);
    struct account stake = account_of_key(ACCOUNT_STAKE, validator);
    struct account pending = books_pending(validator);
    int64_t has = account_balance(&b->accounts, &stake), cost;

    cost = part_of(has, b->task.open.bond_slice_ppm) + books_fee(b, CHECK_FULL);
    if (node->pub.n_contradicted + 1 >= b->task.open.bond_strikes) {
        cost = has;
        post_move(p, pending, account_of_pool(ACCOUNT_JACKPOT),
                  account_balance(&b->accounts, &pending));
    }
    post_move(p, stake, account_of_pool(ACCOUNT_JACKPOT), cost < has ? cost : has);
}

static void post_bonus(const struct ledger_books *b, const struct ledger_canary *c,
                       struct post *p)
{
    struct account pool = account_of_pool(ACCOUNT_JACKPOT);
    int64_t bonus = account_balance(&b->accounts, &pool) / 3;
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->n_opinions; i++)
        n += found_fraud(&c->opinion[i]);
    if (n)
        bonus /= n;
    if (bonus > b->task.open.canary_bonus)
        bonus = b->task.open.canary_bonus;
    for (uint32_t i = 0; i < c->n_opinions; i++)
        if (found_fraud(&c->opinion[i]) &&
            !books_find_node(b, &c->opinion[i].validator)->pub.is_slashed)
            post_move(p, pool, books_pending(&c->opinion[i].validator), bonus);
}

enum status post_canary_judge(const struct ledger_books *b, const struct ledger_canary_judge *x,
                              struct post *p, struct err *e)
{
    const struct unit_book *u = books_find_unit(b, x->unit);
    const struct ledger_canary *c = u ? u->canary : NULL;
    enum status st = post_need_task(b, e);

    if (st)
        return st;
    if (!c || c->lease != x->lease || c->is_judged)
        return err_set(e, ERR_NOT_FOUND, "I9: unit %" PRIu64 " has no canary to be judged",
                       x->unit);
    if (x->outcome < LEDGER_CANARY_BAD || x->outcome > LEDGER_CANARY_OPEN)
        return err_set(e, ERR_INVALID, "I9: a canary is bad, good or left open");
    if (u->pub.state != UNIT_ACCEPTED || !post_count_accepts(u, CHECK_FULL))
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " was not made again and checked",
                       x->unit);
    if ((x->outcome == LEDGER_CANARY_GOOD) !=
            (u->pub.version == c->version && digest_equal(&u->pub.root, &c->root)) ||
        (x->outcome == LEDGER_CANARY_BAD && u->pub.version != c->version))
        return err_set(e, ERR_INVALID,
                       "I9: the two submissions of unit %" PRIu64 " say otherwise", x->unit);
    for (uint32_t i = 0; i < c->n_opinions; i++)
        if (books_is_contradicted(&c->opinion[i], x->outcome))
            post_strike(b, &c->opinion[i].validator, p);
    if (x->outcome == LEDGER_CANARY_BAD)
        post_bonus(b, c, p);
    return OK;
}

/* ---- applying ------------------------------------------------------------------------------ */

void books_keep_canary(struct unit_book *u, const struct digest *salt)
{
    struct ledger_canary *c = u->canary ? u->canary : xcalloc(1, sizeof(*c));

    *c = (struct ledger_canary){.lease = u->pub.lease,
                                .version = u->pub.version,
                                .root = u->pub.root,
                                .envelope = u->pub.envelope,
                                .salt = *salt,
                                .n_opinions = u->pub.n_opinions};
    memcpy(c->opinion, u->pub.opinion, sizeof(c->opinion));
    u->canary = c;
    u->pub.canary = c;
    u->pub.n_canaries++;
}

void books_strike(struct ledger_books *b, const struct public_key *validator)
{
    struct node_book *node = &b->node[books_find_node(b, validator) - b->node];

    if (++node->pub.n_contradicted < b->task.open.bond_strikes)
        return;
    node->head = node->n = 0;
    node->pub.is_slashed = true;
}

void books_judge_canary(struct ledger_books *b, const struct ledger_canary_judge *x,
                        const struct ledger_posting *v, uint32_t n)
{
    struct ledger_canary *c = books_find_unit(b, x->unit)->canary;

    c->is_judged = true;
    for (uint32_t i = 0; i < c->n_opinions; i++)
        if (books_is_contradicted(&c->opinion[i], x->outcome))
            books_strike(b, &c->opinion[i].validator);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].delta < 0 && account_kind(&v[i].account) != ACCOUNT_JACKPOT)
            b->task.slashed -= v[i].delta;
}
