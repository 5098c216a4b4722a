/* Sealed verdicts, and what two prefills say of a third (proto/states.h). */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_post.h"
#include "proto/digest.h"
#include "proto/states.h"

/* ---- looking ------------------------------------------------------------------------------- */

struct digest ledger_books_drawn(const struct ledger_books *b, uint64_t unit)
{
    const struct unit_book *u = books_find_unit(b, unit);

    return u && u->drawn ? u->r : (struct digest){{0}};
}

bool ledger_books_is_rechecked(const struct ledger_books *b, uint64_t unit,
                               const struct digest *salt)
{
    const struct unit_book *u = books_find_unit(b, unit);
    struct digest value;

    if (!u || u->drawn != CHECK_FULL || !b->task.open.recheck_rate ||
        ledger_books_is_canary(b, unit, salt))
        return false;
    states_recheck_value(&value, &u->r, salt);
    return draw_is_audited(&value, b->task.open.recheck_rate);
}

static const struct seal_book *find_seal(const struct ledger_books *b,
                                         const struct unit_book *u,
                                         const struct public_key *validator)
{
    for (uint32_t i = 0; i < u->n_seals; i++)
        if (key_equal(&b->node[u->seal[i].node].pub.node, validator))
            return &u->seal[i];
    return NULL;
}

const struct digest *ledger_books_seal(const struct ledger_books *b, uint64_t unit,
                                       const struct public_key *validator)
{
    const struct unit_book *u = books_find_unit(b, unit);
    const struct seal_book *seal = u ? find_seal(b, u, validator) : NULL;

    return seal ? &seal->verdict : NULL;
}

uint32_t ledger_books_peers(const struct ledger_books *b, uint64_t unit,
                            const struct public_key *validator,
                            struct public_key peer[LEDGER_OPENED_MAX])
{
    const struct unit_book *u = books_find_unit(b, unit);
    uint32_t n = !u ? 0 : u->n_assigned < ASSIGNED_KEPT ? u->n_assigned : ASSIGNED_KEPT;
    uint32_t n_seals = 0, n_peers = 0;

    for (uint32_t i = 0; i < n; i++)
        if (key_equal(&b->node[u->assigned[i].node].pub.node, validator))
            n_seals = u->assigned[i].n_seals;
    for (uint32_t i = 0; i < n_seals && n_peers < LEDGER_OPENED_MAX; i++) {
        const struct public_key *key = &b->node[u->seal[i].node].pub.node;
        if (!key_equal(key, validator))
            peer[n_peers++] = *key;
    }
    return n_peers;
}

/* What opinion i found at the places of opinion k; NULL: it did not say. */
static const struct digest *opened_by(const struct unit_book *u, uint32_t i, uint32_t k)
{
    for (uint32_t n = 0; n < u->n_opened; n++)
        if (u->opened[n].opinion == i &&
            key_equal(&u->opened[n].is.validator, &u->pub.opinion[k].validator))
            return &u->opened[n].is.found;
    return NULL;
}

static bool is_of(const struct unit_book *u, uint32_t k, const struct digest *found)
{
    struct digest states;

    states_seal(&states, &u->pub.opinion[k].validator, found);
    return digest_equal(&states, &u->pub.opinion[k].states);
}

/* i showed what k had sealed, which it can only know from a prefill of its own. (Zero: who was refused
 * for a token before any prefill.) */
static bool confirms(const struct unit_book *u, uint32_t i, uint32_t k)
{
    const struct digest *found = opened_by(u, i, k);

    return found && !digest_is_zero(found) && is_of(u, k, found);
}

static bool is_pair(const struct unit_book *u, uint32_t i, uint32_t k)
{
    return i != k && (confirms(u, i, k) || confirms(u, k, i));
}

/* k opened i's places, which j confirmed, otherwise. */
static bool misreads(const struct unit_book *u, uint32_t k, uint32_t i, uint32_t j)
{
    const struct digest *found = opened_by(u, k, i);

    return found && confirms(u, j, i) && !is_of(u, i, found);
}

/* i and j are a pair; is k's word another than theirs? */
static bool is_refuted(const struct unit_book *u, uint32_t i, uint32_t j, uint32_t k)
{
    const struct digest *a = opened_by(u, i, k), *c = opened_by(u, j, k);

    if (a && c && digest_equal(a, c) && !digest_is_zero(&u->pub.opinion[k].states) &&
        !is_of(u, k, a))
        return true;
    return misreads(u, k, i, j) || misreads(u, k, j, i);
}

bool ledger_books_states_differ(const struct ledger_books *b, uint64_t unit)
{
    const struct unit_book *u = books_find_unit(b, unit);
    uint32_t n = 0;

    for (uint32_t i = 0; u && i < u->pub.n_opinions; i++) {
        n += !digest_is_zero(&u->pub.opinion[i].states);
        for (uint32_t k = 0; k < i; k++)
            if (is_pair(u, i, k))
                return false;
    }
    return n > 1;
}

bool ledger_states_judge_build(struct ledger_states_judge *x, const struct ledger_books *b,
                               uint64_t unit)
{
    const struct unit_book *u = books_find_unit(b, unit);
    const struct ledger_opinion *o = u ? u->pub.opinion : NULL;
    uint32_t n = u ? u->pub.n_opinions : 0;

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            for (uint32_t k = 0; k < n && is_pair(u, i, j); k++)
                if (k != i && k != j && !o[k].is_struck && is_refuted(u, i, j, k)) {
                    *x = (struct ledger_states_judge){unit, u->pub.lease, o[k].validator,
                                                      o[j].validator, o[i].validator};
                    return true;
                }
    return false;
}

/* ---- what may be --------------------------------------------------------------------------- */

bool books_has_states(uint32_t code)
{
    return code == REASON_NONE || code == REASON_TOKEN || code == REASON_LOGPROB;
}

enum status post_verdict_seal(const struct ledger_books *b, const struct ledger_verdict_seal *x,
                              struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_check_judge(&u, b, x->unit, x->lease, &x->validator, e);
    const struct seal_book *seal;

    (void)p;
    if (st)
        return st;
    if (!b->task.open.recheck_rate)
        return err_set(e, ERR_DENIED, "I9: this task's verdicts are not sealed");
    if (!ledger_books_is_assigned(b, x->unit, &x->validator))
        return err_set(e, ERR_DENIED, "I9: unit %" PRIu64 " was not given to this validator",
                       x->unit);
    seal = find_seal(b, u, &x->validator);
    if (seal && u->pub.n_opinions)
        return err_set(e, ERR_EXISTS,
                       "I9: the verdict on unit %" PRIu64 " was sealed, and others were shown",
                       x->unit);
    if (!seal && u->n_seals == LEDGER_VERDICTS_MAX)
        return err_set(e, ERR_DENIED, "I6: unit %" PRIu64 " has its %u seals", x->unit,
                       LEDGER_VERDICTS_MAX);
    return OK;
}

/* Are those opened the ones that were to be? */
static bool opens_peers(const struct ledger_books *b, const struct ledger_verdict *x)
{
    struct public_key peer[LEDGER_OPENED_MAX];

    if (x->n_opened != ledger_books_peers(b, x->unit, &x->validator, peer))
        return false;
    for (uint32_t i = 0; i < x->n_opened; i++)
        if (!key_equal(&peer[i], &x->opened[i].validator))
            return false;
    return true;
}

enum status post_check_states(const struct ledger_books *b, const struct ledger_verdict *x,
                              struct err *e)
{
    const struct digest *sealed = ledger_books_seal(b, x->unit, &x->validator);
    bool is_full = x->depth == CHECK_FULL && b->task.open.recheck_rate;

    if (is_full && (!sealed || !digest_equal(sealed, &x->envelope)))
        return err_set(e, ERR_DENIED,
                       "I9: this is not the verdict on unit %" PRIu64 " that was sealed",
                       x->unit);
    if (digest_is_zero(&x->states) == (is_full && books_has_states(x->code)))
        return err_set(e, ERR_INVALID, "I9: a verdict on unit %" PRIu64 " %s states", x->unit,
                       digest_is_zero(&x->states) ? "without" : "with");
    if (digest_is_zero(&x->states) ? x->n_opened > 0 : !opens_peers(b, x))
        return err_set(e, ERR_INVALID,
                       "I9: a verdict on unit %" PRIu64 " opens others than it was to",
                       x->unit);
    return OK;
}

enum status post_states_judge(const struct ledger_books *b, const struct ledger_states_judge *x,
                              struct post *p, struct err *e)
{
    const struct unit_book *u;
    enum status st = post_find_committed(&u, b, x->unit, x->lease, e);
    uint32_t at[3] = {LEDGER_VERDICTS_MAX, LEDGER_VERDICTS_MAX, LEDGER_VERDICTS_MAX};

    if (st)
        return st;
    for (uint32_t i = 0; i < u->pub.n_opinions; i++) {
        const struct public_key *key = &u->pub.opinion[i].validator;
        at[0] = key_equal(key, &x->first) ? i : at[0];
        at[1] = key_equal(key, &x->second) ? i : at[1];
        at[2] = key_equal(key, &x->validator) ? i : at[2];
    }
    if (at[0] == LEDGER_VERDICTS_MAX || at[1] == LEDGER_VERDICTS_MAX ||
        at[2] == LEDGER_VERDICTS_MAX || at[2] == at[0] || at[2] == at[1])
        return err_set(e, ERR_NOT_FOUND, "I9: they did not all judge unit %" PRIu64, x->unit);
    if (u->pub.opinion[at[2]].is_struck)
        return err_set(e, ERR_EXISTS,
                       "I9: the validator was struck for unit %" PRIu64 " before", x->unit);
    if (!is_pair(u, at[0], at[1]) || !is_refuted(u, at[0], at[1], at[2]))
        return err_set(e, ERR_INVALID, "I9: the verdicts on unit %" PRIu64 " say otherwise",
                       x->unit);
    post_strike(b, &x->validator, p);
    return OK;
}

/* ---- applying ------------------------------------------------------------------------------ */

void books_seal_verdict(struct ledger_books *b, const struct ledger_verdict_seal *x)
{
    struct unit_book *u = &b->unit[books_find_unit(b, x->unit) - b->unit];
    const struct seal_book *seal = find_seal(b, u, &x->validator);
    uint32_t i = seal ? (uint32_t)(seal - u->seal) : u->n_seals++;

    u->seal[i].node = (uint32_t)(books_find_node(b, &x->validator) - b->node);
    u->seal[i].verdict = x->verdict;
}

/* Before its opinion is counted. */
static void keep_opened(struct unit_book *u, const struct ledger_verdict *x)
{
    if (!x->n_opened)
        return;
    u->opened = xrealloc(u->opened, (u->n_opened + x->n_opened) * sizeof(*u->opened));
    for (uint32_t i = 0; i < x->n_opened; i++)
        u->opened[u->n_opened++] = (struct opened_book){u->pub.n_opinions, x->opened[i]};
}

void books_take_verdict(struct ledger_books *b, const struct ledger_verdict *x)
{
    struct unit_book *u = &b->unit[books_find_unit(b, x->unit) - b->unit];

    CHECK(u->pub.n_opinions < LEDGER_VERDICTS_MAX);
    keep_opened(u, x);
    u->pub.opinion[u->pub.n_opinions++] = (struct ledger_opinion){
        x->validator, x->depth, x->is_accepted, x->code, x->states, false};
    b->node[books_find_node(b, &x->validator) - b->node].pub.n_verdicts++;
}

void books_judge_states(struct ledger_books *b, const struct ledger_states_judge *x,
                        const struct ledger_posting *v, uint32_t n)
{
    struct unit_book *u = &b->unit[books_find_unit(b, x->unit) - b->unit];

    for (uint32_t i = 0; i < u->pub.n_opinions; i++)
        if (key_equal(&u->pub.opinion[i].validator, &x->validator))
            u->pub.opinion[i].is_struck = true;
    books_strike(b, &x->validator);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].delta < 0 && account_kind(&v[i].account) != ACCOUNT_JACKPOT)
            b->task.slashed -= v[i].delta;
}
