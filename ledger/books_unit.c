/* The entries of one unit's life: when each may be, and what it moves. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_post.h"
#include "proto/canary.h"

int64_t ledger_unit_reserve(const struct ledger_books *b)
{
    const struct ledger_task_open *x = &b->task.open;
    int64_t fee = x->fee_full > x->fee_light ? x->fee_full : x->fee_light;

    if (!b->task.is_open)
        return 0;
    return (int64_t)x->tokens_max * x->price_token + (int64_t)x->verdicts_max * fee;
}

bool ledger_books_is_assigned(const struct ledger_books *b, uint64_t unit,
                              const struct public_key *validator)
{
    const struct unit_book *u = books_find_unit(b, unit);
    uint32_t n = !u ? 0 : u->n_assigned < ASSIGNED_KEPT ? u->n_assigned : ASSIGNED_KEPT;

    for (uint32_t i = 0; i < n; i++)
        if (key_equal(&b->node[u->assigned[i].node].pub.node, validator))
            return true;
    return false;
}

/* The unit in its live or accepted attempt. */
static enum status find_attempt(const struct unit_book **out, const struct ledger_books *b,
                                uint64_t unit, uint64_t lease, struct err *e)
{
    const struct unit_book *u = books_find_unit(b, unit);
    enum status st = post_need_task(b, e);

    *out = u;
    if (st)
        return st;
    if (!u)
        return err_set(e, ERR_NOT_FOUND, "I4: unit %" PRIu64 " was never leased", unit);
    if (u->pub.state == UNIT_FREE || u->pub.state == UNIT_GIVEN_UP || u->pub.lease != lease)
        return err_set(e, ERR_DENIED,
                       "I4: unit %" PRIu64 " is %s, and lease %" PRIu64 " of it is over", unit,
                       ledger_unit_state_name(u->pub.state), lease);
    return OK;
}

enum status post_find_committed(const struct unit_book **out, const struct ledger_books *b,
                                uint64_t unit, uint64_t lease, struct err *e)
{
    enum status st = find_attempt(out, b, unit, lease, e);

    if (!st && (*out)->pub.state != UNIT_COMMITTED)
        st = err_set(e, ERR_DENIED, "I4: unit %" PRIu64 " is %s, not committed", unit,
                     ledger_unit_state_name((*out)->pub.state));
    return st;
}

enum status post_check_salt(const struct ledger_books *b, const struct unit_book *u,
                            const struct digest *salt, struct err *e)
{
    struct digest seal;

    canary_seal(&seal, salt, u->pub.unit, u->pub.attempt);
    if (!digest_equal(&seal, &u->pub.seal))
        return err_set(e, ERR_DIGEST, "I9: the salt of unit %" PRIu64 " is not the sealed one",
                       u->pub.unit);
    if (u->drawn && u->drawn != books_sealed_depth(b, u, &u->r, u->probability, salt))
        return err_set(e, ERR_INVALID,
                       "I9: by its salt unit %" PRIu64 " was to be drawn otherwise",
                       u->pub.unit);
    return OK;
}

/* The same for the ends that only an attempt which was no canary may have. */
static enum status check_no_canary(const struct ledger_books *b, const struct unit_book *u,
                                   const struct digest *salt, struct err *e)
{
    enum status st = post_check_salt(b, u, salt, e);

    if (!st && ledger_books_is_canary(b, u->pub.unit, salt))
        st = err_set(e, ERR_DENIED, "I9: this attempt at unit %" PRIu64 " was a canary",
                     u->pub.unit);
    return st;
}

enum status post_lease(const struct ledger_books *b, const struct ledger_lease *x,
                       struct post *p, struct err *e)
{
    const struct unit_book *u = books_find_unit(b, x->unit);
    struct account stake = account_of_key(ACCOUNT_STAKE, &x->worker);
    const struct node_book *worker;
    enum status st = post_need_task(b, e);

    if (!st)
        st = post_find_actor(&worker, b, &x->worker, ROLE_INFERENCE, e);
    if (st)
        return st;
    if (x->unit == NO_UNIT || (u && u->pub.state != UNIT_FREE))
        return err_set(e, ERR_EXISTS, "I4: unit %" PRIu64 " is %s", x->unit,
                       u ? ledger_unit_state_name(u->pub.state) : "no unit");
    if (x->attempt != (u ? u->pub.attempt : 0) + 1)
        return err_set(e, ERR_INVALID, "I4: attempt %u of unit %" PRIu64 " is not the next",
                       x->attempt, x->unit);
    if (!books_has_version(b, x->version))
        return err_set(e, ERR_DENIED, "I10: weight version %" PRId64 " does not stand",
                       x->version);
    if (account_balance(&b->accounts, &stake) < b->task.open.stake_required)
        return err_set(e, ERR_DENIED, "I8: the worker's stake is below %" PRId64 " ucr",
                       b->task.open.stake_required);
    if (x->expires_us > x->hard_us)
        return err_set(e, ERR_INVALID, "I15: the lease expires after its hard deadline");
    if (x->reserve != ledger_unit_reserve(b))
        return err_set(e, ERR_INVALID, "I6: the reserve is %" PRId64 " ucr, not %" PRId64,
                       ledger_unit_reserve(b), x->reserve);
    post_move(p, post_task_account(b, ACCOUNT_ESCROW), post_task_account(b, ACCOUNT_RESERVED),
              x->reserve);
    return OK;
}

enum status post_commit(const struct ledger_books *b, const struct ledger_commit *x,
                        struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = find_attempt(&u, b, x->unit, x->lease, e);
    uint64_t tokens = 0;

    (void)p;
    if (st)
        return st;
    if (u->pub.state != UNIT_LEASED)
        return err_set(e, ERR_EXISTS, "I4: unit %" PRIu64 " is %s already", x->unit,
                       ledger_unit_state_name(u->pub.state));
    if (x->version != u->pub.version)
        return err_set(e, ERR_DENIED,
                       "I10: unit %" PRIu64 " was leased for version %" PRId64 ", not %" PRId64,
                       x->unit, u->pub.version, x->version);
    if (x->tokens > b->task.open.tokens_max)
        return err_set(e, ERR_DENIED, "I6: %" PRIu64 " tokens, at most %" PRIu64, x->tokens,
                       b->task.open.tokens_max);
    for (uint32_t i = 0; i < x->n_samples; i++)
        tokens += x->sample[i].tokens;
    if (x->n_samples && tokens != x->tokens)
        return err_set(e, ERR_INVALID, "I6: the samples have %" PRIu64 " tokens, not %" PRIu64,
                       tokens, x->tokens);
    return OK;
}

static enum status check_candidates(const struct ledger_books *b, const struct ledger_draw *x,
                                    struct err *e)
{
    for (uint32_t i = 0; i < x->n_candidates; i++) {
        const struct node_book *node;
        enum status st = post_find_actor(&node, b, &x->candidate[i], ROLE_VERIFIER, e);
        if (!st && !ledger_books_has_bond(b, &x->candidate[i]))
            st = err_set(e, ERR_DENIED, "I9: candidate %u has not the stake of a validator", i);
        if (st)
            return st;
        for (uint32_t k = 0; k < i; k++)
            if (key_equal(&x->candidate[i], &x->candidate[k]))
                return err_set(e, ERR_INVALID, "I9: candidate %u stands there twice", i);
    }
    return OK;
}

static bool same_row(const struct ledger_draw_row *a, const struct ledger_draw_row *b)
{
    return a->unit == b->unit && a->lease == b->lease && a->depth == b->depth &&
           a->probability == b->probability && a->n_assigned == b->n_assigned &&
           !memcmp(a->assigned, b->assigned, a->n_assigned);
}

enum status post_draw(const struct ledger_books *b, const struct ledger_draw *x, struct post *p,
                      struct err *e)
{
    struct ledger_draw want;
    struct digest above;
    enum status st = post_need_task(b, e);

    (void)p;
    if (!st)
        st = check_candidates(b, x, e);
    if (st)
        return st;
    beacon_next(&above, &x->value);
    if (x->round != b->round + 1 || x->round > b->genesis.beacon_length ||
        !digest_equal(&above, &b->beacon))
        return err_set(e, ERR_DIGEST, "I9: this is not the beacon's value of round %" PRIu64,
                       b->round + 1);
    memset(&want, 0, sizeof(want));
    want.value = x->value;
    want.through = x->through;
    want.n_candidates = x->n_candidates;
    memcpy(want.candidate, x->candidate, sizeof(want.candidate));
    if (b->task.open.witnesses &&
        (!b->head.seq || b->head.is_drawn || x->through > b->head.covers ||
         (x->through < b->head.covers && x->n_rows < LEDGER_DRAW_ROWS_MAX)))
        return err_set(e, ERR_DENIED, "I9: a draw is of all that the head before it covers");
    if (x->through >= b->next_seq || !books_draw_rows(&want, b, NULL) ||
        (want.n_rows == 0 && !b->task.open.witnesses) || want.n_rows != x->n_rows)
        return err_set(e, ERR_INVALID,
                       "I9: %u units are drawn, %u were committed and undrawn through %" PRIu64,
                       x->n_rows, want.n_rows, x->through);
    for (uint32_t i = 0; i < want.n_rows; i++) {
        want.row[i].depth = x->row[i].depth; /* told by the salt, which comes later */
        if (!same_row(&want.row[i], &x->row[i]))
            return err_set(e, ERR_INVALID, "I9: unit %" PRIu64 " was drawn otherwise",
                           want.row[i].unit);
    }
    return OK;
}

static bool has_opinion(const struct unit_book *u, const struct public_key *validator)
{
    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        if (key_equal(&u->pub.opinion[i].validator, validator))
            return true;
    return false;
}

/* What ASSIGN, VERDICT_SEAL and VERDICT share: a drawn unit, and a validator that has not judged it. */
enum status post_check_judge(const struct unit_book **out, const struct ledger_books *b,
                             uint64_t unit, uint64_t lease, const struct public_key *validator,
                             struct err *e)
{
    const struct node_book *node;
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, unit, lease, e);

    *out = u;
    if (!st)
        st = post_find_actor(&node, b, validator, ROLE_VERIFIER, e);
    if (st)
        return st;
    if (!u->pub.depth)
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " was not drawn yet", unit);
    if (has_opinion(u, validator))
        return err_set(e, ERR_EXISTS, "I4: the validator has judged unit %" PRIu64 " before",
                       unit);
    if (u->pub.n_opinions >= b->task.open.verdicts_max)
        return err_set(e, ERR_DENIED, "I6: unit %" PRIu64 " has its %u verdicts", unit,
                       b->task.open.verdicts_max);
    return OK;
}

enum status post_opening(const struct ledger_books *b, const struct ledger_opening *x,
                         struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);

    (void)p;
    if (st)
        return st;
    if (u->pub.depth != CHECK_FULL)
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " is not to be opened", x->unit);
    if (!digest_is_zero(&u->pub.opening))
        return err_set(e, ERR_EXISTS, "I4: unit %" PRIu64 " was opened before", x->unit);
    return OK;
}

enum status post_assign(const struct ledger_books *b, const struct ledger_assign *x,
                        struct post *p, struct err *e)
{
    const struct unit_book *u;

    (void)p;
    return post_check_judge(&u, b, x->unit, x->lease, &x->to, e);
}

enum status post_verdict(const struct ledger_books *b, const struct ledger_verdict *x,
                         struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_check_judge(&u, b, x->unit, x->lease, &x->validator, e);

    (void)p;
    if (st)
        return st;
    if (!ledger_books_is_assigned(b, x->unit, &x->validator))
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " was not given to this validator",
                       x->unit);
    if (x->is_accepted != (x->code == REASON_NONE))
        return err_set(e, ERR_INVALID, "I4: an acceptance has no reason, a rejection one");
    if (x->code == REASON_UNOPENED && !digest_is_zero(&u->pub.opening))
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " was opened", x->unit);
    return post_check_states(b, x, e);
}

void post_settle(const struct ledger_books *b, const struct unit_book *u, int64_t pay,
                 struct post *p)
{
    struct account reserved = post_task_account(b, ACCOUNT_RESERVED);
    int64_t rest = u->pub.reserve;

    for (uint32_t i = 0; i < u->pub.n_opinions; i++) {
        int64_t fee = books_fee(b, u->pub.opinion[i].depth);
        post_move(p, reserved, books_pending(&u->pub.opinion[i].validator), fee);
        rest -= fee;
    }
    post_move(p, reserved, books_pending(&u->pub.worker), pay);
    post_move(p, reserved, post_task_account(b, ACCOUNT_ESCROW), rest - pay);
}

uint32_t post_count_accepts(const struct unit_book *u, uint32_t depth)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        n += u->pub.opinion[i].is_accepted && u->pub.opinion[i].depth >= depth;
    return n;
}

static uint32_t count_hard(const struct unit_book *u)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        n += !u->pub.opinion[i].is_accepted &&
             reason_is_hard((enum reason)u->pub.opinion[i].code);
    return n;
}

static uint32_t count_full(const struct unit_book *u)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        n += u->pub.opinion[i].depth == CHECK_FULL;
    return n;
}

static bool has_code(const struct unit_book *u, uint32_t code)
{
    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        if (!u->pub.opinion[i].is_accepted && u->pub.opinion[i].code == code)
            return true;
    return false;
}

enum status post_accept(const struct ledger_books *b, const struct ledger_accept *x,
                        struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);

    if (st)
        return st;
    st = check_no_canary(b, u, &x->salt, e);
    if (st)
        return st;
    if (books_find_node(b, &u->pub.worker)->pub.is_slashed)
        return err_set(e, ERR_DENIED, "I8: the worker of unit %" PRIu64 " was slashed",
                       x->unit);
    if (!u->pub.depth || !post_count_accepts(u, u->pub.depth) ||
        post_count_accepts(u, CHECK_LIGHT) <= count_hard(u))
        return err_set(e, ERR_DENIED,
                       "I9: unit %" PRIu64 " has no verdict that would accept it", x->unit);
    if (x->is_sole != (ledger_books_is_rechecked(b, x->unit, &x->salt) && count_full(u) < 2))
        return err_set(e, ERR_DENIED,
                       x->is_sole ? "I9: unit %" PRIu64 " needs no second check"
                                  : "I9: unit %" PRIu64 " was drawn for two checks",
                       x->unit);
    post_settle(b, u, (int64_t)u->pub.tokens * b->task.open.price_token, p);
    return OK;
}

enum status post_void(const struct ledger_books *b, const struct ledger_void *x, struct post *p,
                      struct err *e)
{
    const struct unit_book *u;
    const struct node_book *worker;
    enum status st = find_attempt(&u, b, x->unit, x->lease, e);

    if (st)
        return st;
    st = post_check_salt(b, u, &x->salt, e);
    if (st)
        return st;
    if (u->pub.n_opinions && ledger_books_is_canary(b, x->unit, &x->salt))
        return err_set(e, ERR_DENIED, "I9: a canary that was judged ends by CANARY_REVEAL");
    if (reason_is_hard((enum reason)x->code))
        return err_set(e, ERR_INVALID, "I4: fraud is no reason to void a unit");
    if (u->pub.state != UNIT_ACCEPTED) {
        post_settle(b, u, 0, p);
        return OK;
    }
    worker = books_find_node(b, &u->pub.worker);
    if (u->pub.is_batched || (!worker->pub.is_revoked && !worker->pub.is_slashed))
        return err_set(e, ERR_DENIED, "I4: unit %" PRIu64 " is accepted already", x->unit);
    post_move(p, books_pending(&u->pub.worker), post_task_account(b, ACCOUNT_ESCROW),
              books_unmatured(b, u));
    return OK;
}

enum status post_reject_soft(const struct ledger_books *b, const struct ledger_reject_soft *x,
                             struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);

    if (!st)
        st = check_no_canary(b, u, &x->salt, e);
    if (st)
        return st;
    if (reason_is_hard((enum reason)x->code) || !has_code(u, x->code))
        return err_set(e, ERR_DENIED,
                       "I9: no verdict on unit %" PRIu64 " gives this reason without fraud",
                       x->unit);
    post_settle(b, u, 0, p);
    return OK;
}

/* All of stake and pending leaves the worker: first what it was paid for units that nobody
 * trained on goes back to the task, then finders, jackpot and burn share. Shares round down; the
 * crumbs are burnt (I13). */
static void post_slash(const struct ledger_books *b, const struct unit_book *u, struct post *p)
{
    struct account stake = account_of_key(ACCOUNT_STAKE, &u->pub.worker);
    struct account pending = books_pending(&u->pub.worker);
    int64_t left[2] = {account_balance(&b->accounts, &pending),
                       account_balance(&b->accounts, &stake)};
    const struct node_book *worker = books_find_node(b, &u->pub.worker);
    int64_t total, each, finders = 0, jackpot, refund = 0;
    uint32_t n_hard = count_hard(u);

    for (size_t i = worker->head; i < worker->n; i++) {
        const struct credit *c = &worker->credit[i];
        const struct unit_book *paid = books_find_unit(b, c->unit);
        if (paid && paid->pub.lease == c->lease && paid->pub.state == UNIT_ACCEPTED &&
            !paid->pub.is_batched)
            refund += c->amount;
    }
    post_move(p, pending, post_task_account(b, ACCOUNT_ESCROW), refund);
    left[0] -= refund;
    total = left[0] + left[1];
    each = total * b->genesis.finder_percent / 100 / n_hard;
    jackpot = total * b->genesis.jackpot_percent / 100;
    for (uint32_t i = 0; i < u->pub.n_opinions; i++) {
        const struct ledger_opinion *o = &u->pub.opinion[i];
        struct account finder = books_pending(&o->validator);
        if (o->is_accepted || !reason_is_hard((enum reason)o->code) || !each)
            continue;
        post_add(p, &finder, each);
        finders += each;
    }
    struct account jack = account_of_pool(ACCOUNT_JACKPOT),
                   burn = account_of_pool(ACCOUNT_BURN);
    post_add(p, &jack, jackpot);
    post_add(p, &burn, total - finders - jackpot);
    post_add(p, &pending, -left[0]);
    post_add(p, &stake, -left[1]);
}

enum status post_reject_hard(const struct ledger_books *b, const struct ledger_reject_hard *x,
                             struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);
    uint32_t n_hard;

    if (!st)
        st = check_no_canary(b, u, &x->salt, e);
    if (st)
        return st;
    n_hard = count_hard(u);
    if (!reason_is_hard((enum reason)x->code) || !has_code(u, x->code))
        return err_set(e, ERR_DENIED, "I9: no verdict on unit %" PRIu64 " gives this reason",
                       x->unit);
    if (n_hard <= post_count_accepts(u, CHECK_LIGHT) || n_hard < (x->is_sole ? 1u : 2u))
        return err_set(e, ERR_DENIED,
                       "I9: %u validators found fraud in unit %" PRIu64
                       ", %u did not: no ground to slash",
                       n_hard, x->unit, post_count_accepts(u, CHECK_LIGHT));
    post_settle(b, u, 0, p);
    post_slash(b, u, p);
    return OK;
}

enum status post_giveup(const struct ledger_books *b, const struct ledger_giveup *x,
                        struct post *p, struct err *e)
{
    const struct unit_book *u = books_find_unit(b, x->unit);

    (void)p;
    if (post_need_task(b, e))
        return ERR_DENIED;
    if (!u || u->pub.state != UNIT_FREE)
        return err_set(e, ERR_DENIED, "I4: unit %" PRIu64 " is %s, not free", x->unit,
                       u ? ledger_unit_state_name(u->pub.state) : "unknown");
    return OK;
}
