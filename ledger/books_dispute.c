/* Disputes over weight versions: their entries and what they move (ledger/steps.h). */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "ledger/books_post.h"
#include "proto/digest.h"
#include "proto/transcript.h"

/* ---- looking ------------------------------------------------------------------------------- */

static struct dispute_book *find(const struct ledger_books *b, const struct digest *id)
{
    for (size_t i = b->n_disputes; i-- > 0;)
        if (digest_equal(&b->dispute[i].pub.id, id))
            return &b->dispute[i];
    return NULL;
}

size_t ledger_books_n_disputes(const struct ledger_books *b)
{
    return b->n_disputes;
}

const struct ledger_dispute *ledger_books_dispute_at(const struct ledger_books *b, size_t i)
{
    CHECK(i < b->n_disputes);
    return &b->dispute[i].pub;
}

const struct ledger_dispute *ledger_books_dispute(const struct ledger_books *b,
                                                  const struct digest *id)
{
    const struct dispute_book *d = find(b, id);

    return d ? &d->pub : NULL;
}

const struct ledger_dispute *ledger_books_open_dispute(const struct ledger_books *b)
{
    const struct ledger_dispute *last =
        b->n_disputes ? &b->dispute[b->n_disputes - 1].pub : NULL;

    return last && !last->is_closed ? last : NULL;
}

const struct digest *ledger_books_move(const struct ledger_books *b, const struct digest *id,
                                       uint32_t i)
{
    const struct dispute_book *d = find(b, id);

    CHECK(d && i < d->pub.n_moves);
    return &d->move[i];
}

const struct public_key *ledger_books_turn(const struct ledger_books *b,
                                           const struct ledger_dispute *d)
{
    (void)b;
    if (d->is_called || d->is_closed)
        return NULL;
    return d->n_moves % 2 ? &d->challenger : &d->trainer;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t ledger_books_dispute_patience_us(const struct ledger_books *b,
                                         const struct ledger_dispute *d)
{
    const int64_t move_us = (int64_t)b->task.open.dispute_ms * 1000;
    int64_t left_us;

    if (!ledger_books_turn(b, d))
        return 0;
    left_us = LEDGER_PATIENCE * move_us - d->used_us[d->n_moves % 2];
    return least(move_us, left_us > move_us / LEDGER_PATIENCE_PART
                              ? left_us
                              : move_us / LEDGER_PATIENCE_PART);
}

int64_t ledger_books_dispute_bond(const struct ledger_books *b,
                                  const struct public_key *challenger)
{
    const struct node_book *n = books_find_node(b, challenger);
    int64_t bond = b->task.open.dispute_bond;

    for (uint64_t i = 0; n && i < n->pub.n_lost && bond < LEDGER_SUPPLY_MAX; i++)
        bond = bond > LEDGER_SUPPLY_MAX / 2 ? LEDGER_SUPPLY_MAX : 2 * bond;
    return bond;
}

const struct public_key *books_turn_of(const struct ledger_books *b,
                                       const struct digest *dispute)
{
    const struct dispute_book *d = find(b, dispute);

    return d ? ledger_books_turn(b, &d->pub) : NULL;
}

bool books_is_party(const struct ledger_books *b, const struct public_key *node)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(b);

    return d && (key_equal(&d->trainer, node) || key_equal(&d->challenger, node));
}

/* ---- what may be --------------------------------------------------------------------------- */

static bool was_challenged_by(const struct ledger_books *b, uint64_t step,
                              const struct public_key *challenger)
{
    for (size_t i = 0; i < b->n_disputes; i++)
        if (b->dispute[i].pub.step == step &&
            key_equal(&b->dispute[i].pub.challenger, challenger))
            return true;
    return false;
}

/* Was the validator given this version, or one that leads through it? */
static bool was_given(const struct ledger_books *b, int64_t version,
                      const struct public_key *validator)
{
    for (size_t i = b->n_steps; i-- > 0;) {
        const struct ledger_step_state *s = &b->step[i].pub;

        for (uint32_t k = 0; s->version >= version && k < s->n_given; k++)
            if (key_equal(&s->given[k], validator))
                return true;
    }
    return false;
}

/* The bond is there, and its own unless it was asked to look: a key that cost nothing keeps nobody busy. */
static enum status check_bond(const struct ledger_books *b, const struct ledger_dispute_open *x,
                              int64_t bond, struct err *e)
{
    struct account stake = account_of_key(ACCOUNT_STAKE, &x->challenger);
    int64_t has = account_balance(&b->accounts, &stake);

    if (has < bond)
        return err_set(e, ERR_INSUFFICIENT,
                       "I8: the challenger's stake is below %" PRId64 " ucr", bond);
    if (has - b->task.open.stake_granted < bond && !was_given(b, x->version, &x->challenger))
        return err_set(e, ERR_INSUFFICIENT,
                       "I8: the challenger was not given version %" PRId64
                       ", and its stake is below %" PRId64 " ucr beside what was granted",
                       x->version, bond);
    return OK;
}

enum status post_dispute_open(const struct ledger_books *b, const struct ledger_dispute_open *x,
                              struct post *p, struct err *e)
{
    const struct node_book *challenger, *trainer;
    int64_t bond;
    const struct step_book *s = books_find_step(b, x->version);
    struct digest id;
    enum status st = post_need_task(b, e);

    if (!st)
        st = post_find_actor(&challenger, b, &x->challenger, ROLE_VERIFIER, e);
    if (st)
        return st;
    if (!s)
        return err_set(e, ERR_NOT_FOUND, "I10: there is no version %" PRId64, x->version);
    if (!s->pub.has_batch && !x->is_direct)
        return err_set(e, ERR_INVALID,
                       "I10: version %" PRId64 " was made from no batch, and has no game",
                       x->version);
    st = post_find_actor(&trainer, b, &s->pub.trainer, ROLE_TRAINER, e);
    if (st)
        return st;
    if (!b->task.open.dispute_ms)
        return err_set(e, ERR_DENIED, "I9: this task has no disputes");
    if (ledger_books_open_dispute(b))
        return err_set(e, ERR_EXISTS, "I4: another dispute is open");
    if (was_challenged_by(b, s->pub.seq, &x->challenger))
        return err_set(e, ERR_EXISTS,
                       "I4: the validator has challenged version %" PRId64 " before",
                       x->version);
    if (s->pub.is_done && key_equal(&s->pub.validator, &x->challenger))
        return err_set(e, ERR_DENIED, "I4: the validator found version %" PRId64 " right",
                       x->version);
    transcript_id(&id, &s->pub.envelope, s->pub.opt_steps, &x->challenger);
    if (x->opt_steps != s->pub.opt_steps || !digest_equal(&id, &x->dispute))
        return err_set(e, ERR_INVALID, "I10: the dispute has another name");
    bond = ledger_books_dispute_bond(b, &x->challenger);
    st = check_bond(b, x, bond, e);
    if (st)
        return st;
    post_move(p, account_of_key(ACCOUNT_STAKE, &x->challenger),
              account_of_key(ACCOUNT_BOND, &x->challenger), bond);
    return OK;
}

enum status post_dispute_move(const struct ledger_books *b, const struct ledger_dispute_move *x,
                              struct post *p, struct err *e)
{
    const struct ledger_dispute *d = ledger_books_dispute(b, &x->dispute);

    (void)p;
    if (!d || !ledger_books_turn(b, d))
        return err_set(e, ERR_DENIED, "I4: no move is due in this dispute");
    if (x->number != d->n_moves)
        return err_set(e, ERR_DENIED, "I4: move %u is not the next, %u", x->number, d->n_moves);
    return OK;
}

/* Who lost has `total` less; it stays with the winner, the jackpot and nobody. */
static void post_split(const struct ledger_books *b, const struct public_key *winner,
                       int64_t total, struct post *p)
{
    struct account to = books_pending(winner), jack = account_of_pool(ACCOUNT_JACKPOT),
                   burn = account_of_pool(ACCOUNT_BURN);
    int64_t finder = total * b->genesis.finder_percent / 100;
    int64_t jackpot = total * b->genesis.jackpot_percent / 100;

    post_add(p, &to, finder);
    post_add(p, &jack, jackpot);
    post_add(p, &burn, total - finder - jackpot);
}

static bool is_pay_of_step(const struct ledger_books *b, uint64_t seq)
{
    for (size_t i = b->n_steps; i-- > 0 && b->step[i].pub.seq >= seq;)
        if (b->step[i].pub.seq == seq)
            return true;
    return false;
}

/* What the trainer was paid for the disputed version and those made from it, and still has pending. */
static int64_t refund_of(const struct ledger_books *b, const struct ledger_dispute *d)
{
    const struct node_book *trainer = books_find_node(b, &d->trainer);
    int64_t sum = 0;

    for (size_t i = trainer->head; i < trainer->n; i++)
        if (trainer->credit[i].seq >= d->step && is_pay_of_step(b, trainer->credit[i].seq))
            sum += trainer->credit[i].amount;
    return sum;
}

/* The validator that found right what a dispute refuted, and has to pay for it; NULL: nobody. */
static const struct public_key *refuted(const struct ledger_books *b,
                                        const struct ledger_dispute *d)
{
    const struct step_book *s = NULL;

    for (size_t i = b->n_steps; i-- > 0 && !s;)
        if (b->step[i].pub.seq == d->step)
            s = &b->step[i];
    return s && s->pub.is_done && b->task.open.bond_strikes &&
                   !books_find_node(b, &s->pub.validator)->pub.is_slashed
               ? &s->pub.validator
               : NULL;
}

static void post_trainer_lost(const struct ledger_books *b, const struct ledger_dispute *d,
                              struct post *p)
{
    struct account stake = account_of_key(ACCOUNT_STAKE, &d->trainer);
    struct account pending = books_pending(&d->trainer);
    const struct public_key *witness = refuted(b, d);
    int64_t staked = account_balance(&b->accounts, &stake),
            earned = account_balance(&b->accounts, &pending), refund = refund_of(b, d);

    post_move(p, pending, post_task_account(b, ACCOUNT_ESCROW), refund);
    post_add(p, &pending, refund - earned);
    post_add(p, &stake, -staked);
    post_split(b, &d->challenger, earned - refund + staked, p);
    post_move(p, account_of_key(ACCOUNT_BOND, &d->challenger),
              account_of_key(ACCOUNT_STAKE, &d->challenger), d->bond);
    if (witness)
        post_strike(b, witness, p);
}

enum status post_dispute_close(const struct ledger_books *b,
                               const struct ledger_dispute_close *x, struct post *p,
                               struct err *e)
{
    const struct ledger_dispute *d = ledger_books_dispute(b, &x->dispute);
    bool is_trainer;

    if (!d || d->is_closed)
        return err_set(e, ERR_NOT_FOUND, "I4: no such dispute is open");
    is_trainer = key_equal(&x->loser, &d->trainer);
    if (!is_trainer && !key_equal(&x->loser, &d->challenger))
        return err_set(e, ERR_INVALID, "I10: the loser is no party of the dispute");
    if (x->n_moves != d->n_moves || !digest_equal(&x->last, &d->last))
        return err_set(e, ERR_INVALID, "I10: the dispute has other moves");
    if (x->is_silent ? d->is_called || !key_equal(&x->loser, ledger_books_turn(b, d))
                     : !d->is_called)
        return err_set(e, ERR_DENIED, "I9: %s",
                       x->is_silent ? "it was not the loser's turn" : "the game is not over");
    if (is_trainer) {
        post_trainer_lost(b, d, p);
        return OK;
    }
    struct account bond = account_of_key(ACCOUNT_BOND, &d->challenger);
    post_add(p, &bond, -d->bond);
    post_split(b, &d->trainer, d->bond, p);
    return OK;
}

enum status books_check_silence(const struct ledger_books *b, const struct ledger_entry *en,
                                struct err *e)
{
    const struct ledger_dispute_close *x = &b->scratch->dispute_close_;
    const struct ledger_dispute *d;

    if (en->type != LEDGER_DISPUTE_CLOSE || !x->is_silent)
        return OK;
    d = ledger_books_dispute(b, &x->dispute);
    if (en->time_us - d->last_us < ledger_books_dispute_patience_us(b, d))
        return err_set(e, ERR_DENIED, "I15: the deadline of move %u has not passed",
                       d->n_moves);
    return OK;
}

/* ---- applying ------------------------------------------------------------------------------ */

void books_open_dispute(struct ledger_books *b, const struct ledger_dispute_open *x,
                        int64_t time_us)
{
    struct step_book *s = books_find_step(b, x->version);
    struct dispute_book d = {.pub = {.id = x->dispute,
                                     .version = x->version,
                                     .opened = b->next_seq,
                                     .step = s->pub.seq,
                                     .opt_steps = s->pub.opt_steps,
                                     .batch = s->pub.batch,
                                     .manifest = s->pub.envelope,
                                     .trainer = s->pub.trainer,
                                     .challenger = x->challenger,
                                     .bond = ledger_books_dispute_bond(b, &x->challenger),
                                     .last_us = time_us,
                                     .is_called = s->pub.is_empty || x->is_direct}};

    if (x->is_direct)
        d.pub.challenge = x->envelope;
    s->pub.is_disputed = true;
    b->dispute = books_grow(b->dispute, b->n_disputes, &b->cap_disputes, sizeof(*b->dispute));
    b->dispute[b->n_disputes++] = d;
}

void books_move_dispute(struct ledger_books *b, const struct ledger_dispute_move *x,
                        int64_t time_us)
{
    struct dispute_book *d = find(b, &x->dispute);

    /* At most what one move may take: the orchestrator may have been away. */
    d->pub.used_us[d->pub.n_moves % 2] +=
        least(time_us - d->pub.last_us, (int64_t)b->task.open.dispute_ms * 1000);
    d->move = books_grow(d->move, d->pub.n_moves, &d->cap, sizeof(*d->move));
    d->move[d->pub.n_moves++] = x->envelope;
    d->pub.last = x->envelope;
    d->pub.last_us = time_us;
    d->pub.is_called = x->kind == LEDGER_MOVE_OPEN || x->kind == LEDGER_MOVE_CALL ||
                       d->pub.n_moves == LEDGER_MOVES_MAX;
}

/* The challenge was wrong, which does not make the version right: somebody else is to look. */
static void give_again(struct ledger_books *b, const struct ledger_dispute *d)
{
    struct step_book *s = books_find_step(b, d->version);

    if (!s || s->pub.seq != d->step)
        return;
    s->pub.is_disputed = false;
    if (key_equal(&s->pub.validator, &d->challenger))
        memset(&s->pub.validator, 0, sizeof(s->pub.validator));
}

void books_close_dispute(struct ledger_books *b, const struct ledger_dispute_close *x,
                         const struct ledger_posting *v, uint32_t n)
{
    struct dispute_book *d = find(b, &x->dispute);
    struct account escrow = post_task_account(b, ACCOUNT_ESCROW);
    const struct public_key *witness = refuted(b, &d->pub);

    d->pub.is_closed = true;
    d->pub.loser = x->loser;
    d->pub.is_silent = x->is_silent;
    for (uint32_t i = 0; i < n; i++) {
        if (account_equal(&v[i].account, &escrow))
            b->task.paid_trainer -= v[i].delta;
        if (account_kind(&v[i].account) == ACCOUNT_JACKPOT ||
            account_kind(&v[i].account) == ACCOUNT_BURN)
            b->task.slashed += v[i].delta;
    }
    if (!key_equal(&x->loser, &d->pub.trainer)) {
        b->node[books_find_node(b, &d->pub.challenger) - b->node].pub.n_lost++;
        give_again(b, &d->pub);
        return;
    }
    struct node_book *trainer = &b->node[books_find_node(b, &d->pub.trainer) - b->node];
    trainer->head = trainer->n = 0;
    trainer->pub.is_slashed = true;
    if (witness)
        books_strike(b, witness);
}
