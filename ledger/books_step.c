/* Batches, versions, and who recomputes them (ledger/steps.h). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_post.h"
#include "proto/digest.h"

#define NO_ENTRY UINT64_MAX

/* ---- looking ------------------------------------------------------------------------------- */

struct step_book *books_find_step(const struct ledger_books *b, int64_t version)
{
    for (size_t i = b->n_steps; i-- > 0;)
        if (b->step[i].pub.version == version && !b->step[i].pub.is_abandoned)
            return &b->step[i];
    return NULL;
}

const struct ledger_step_state *ledger_books_step(const struct ledger_books *b, int64_t version)
{
    const struct step_book *s = books_find_step(b, version);

    return s ? &s->pub : NULL;
}

size_t ledger_books_n_steps(const struct ledger_books *b)
{
    return b->n_steps;
}

const struct ledger_step_state *ledger_books_step_at(const struct ledger_books *b, size_t i)
{
    CHECK(i < b->n_steps);
    return &b->step[i].pub;
}

uint64_t ledger_books_batch_seq(const struct ledger_books *b, uint64_t batch)
{
    CHECK(batch < b->n_batches);
    return b->batch[batch].seq;
}

/* A party's pay waits for its dispute, a trainer's for whoever recomputes its versions. */
uint64_t books_frozen_from(const struct ledger_books *b, const struct public_key *node)
{
    if (books_is_party(b, node))
        return 0;
    for (size_t i = 0; i < b->n_steps && b->task.is_open; i++) {
        const struct ledger_step_state *s = &b->step[i].pub;
        if (s->is_wanted && !s->is_done && !s->is_disputed && !s->is_abandoned &&
            key_equal(&s->trainer, node))
            return s->seq;
    }
    return NO_ENTRY;
}

/* ---- drawing ------------------------------------------------------------------------------- */

void step_draw_value(struct digest *out, const struct digest *beacon_value,
                     const struct digest *mix, int64_t version, const struct digest *envelope)
{
    struct digest_state s;

    digest_begin(&s, "muster/1/draw-step");
    digest_add(&s, BYTES_OF(beacon_value->b));
    digest_add(&s, BYTES_OF(mix->b));
    digest_add_u64(&s, (uint64_t)version);
    digest_add(&s, BYTES_OF(envelope->b));
    digest_end(&s, out);
}

static uint64_t step_probability(const struct ledger_books *b, const struct step_book *s)
{
    const struct ledger_task_open *open = &b->task.open;
    struct account stake = account_of_key(ACCOUNT_STAKE, &s->pub.trainer);
    struct account pending = books_pending(&s->pub.trainer);
    int64_t staked = account_balance(&b->accounts, &stake);
    const struct audit_policy policy = {
        .reward = open->price_step,
        .stake = staked > open->stake_granted ? staked - open->stake_granted : 0,
        .pending = account_balance(&b->accounts, &pending),
        .saving_ppm = 1000000, /* who skips a batch computes nothing */
        .detection_ppm = 1000000,
        .floor = open->step_rate,
    };

    if (!open->step_rate)
        return 0;
    if (s->nth <= open->step_first || (open->witnesses && !books_is_witnessed(b)))
        return LEDGER_ONE;
    return audit_probability(&policy);
}

static void give(struct step_book *s, const struct public_key *validator)
{
    s->pub.is_wanted = true;
    s->pub.validator = *validator;
    if (s->pub.n_given < LEDGER_GIVEN_MAX)
        s->pub.given[s->pub.n_given++] = *validator;
}

static void draw_step(struct ledger_books *b, struct step_book *s, const struct ledger_draw *x)
{
    const struct node_book *trainer = books_find_node(b, &s->pub.trainer);
    struct draw_candidate candidate[LEDGER_CANDIDATES_MAX];
    uint8_t order[LEDGER_CANDIDATES_MAX];
    struct digest r;

    s->pub.is_drawn = true;
    s->pub.probability = step_probability(b, s);
    step_draw_value(&r, &x->value, &b->mix, s->pub.version, &s->pub.envelope);
    if (s->pub.is_wanted || !draw_is_audited(&r, s->pub.probability))
        return;
    s->pub.is_wanted = true;
    for (uint32_t i = 0; i < x->n_candidates; i++) {
        const struct node_book *node = books_find_node(b, &x->candidate[i]);
        candidate[i] = (struct draw_candidate){node->pub.node, node->pub.owner};
    }
    if (draw_validators(order, &r, candidate, x->n_candidates, &s->pub.trainer,
                        &trainer->pub.owner))
        give(s, &x->candidate[order[0]]);
}

/* Before the round is closed: its nonces are in the draw. */
void books_draw_steps(struct ledger_books *b, const struct ledger_draw *x)
{
    for (size_t i = b->n_steps; i-- > 0 && !b->step[i].pub.is_drawn;)
        if (b->step[i].pub.seq <= x->through)
            draw_step(b, &b->step[i], x);
}

/* ---- what may be --------------------------------------------------------------------------- */

static enum status find_wanted(struct step_book **out, const struct ledger_books *b,
                               int64_t version, struct err *e)
{
    struct step_book *s = books_find_step(b, version);

    *out = s;
    if (!s)
        return err_set(e, ERR_NOT_FOUND, "I10: there is no version %" PRId64, version);
    if (s->pub.is_done)
        return err_set(e, ERR_EXISTS, "I4: version %" PRId64 " was recomputed before", version);
    return OK;
}

enum status post_step_assign(const struct ledger_books *b, const struct ledger_step_assign *x,
                             struct post *p, struct err *e)
{
    const struct node_book *node;
    struct step_book *s;
    enum status st = post_need_task(b, e);

    (void)p;
    if (!st)
        st = find_wanted(&s, b, x->version, e);
    if (!st)
        st = post_find_actor(&node, b, &x->to, ROLE_VERIFIER, e);
    if (st)
        return st;
    if (!b->task.open.step_rate || (s->pub.is_drawn && !s->pub.is_wanted))
        return err_set(e, ERR_DENIED, "I9: version %" PRId64 " was drawn, and is not wanted",
                       x->version);
    if (!key_equal(&x->from, &s->pub.validator))
        return err_set(e, ERR_INVALID, "I9: version %" PRId64 " was given to somebody else",
                       x->version);
    if (!ledger_books_has_bond(b, &x->to))
        return err_set(e, ERR_DENIED, "I9: the validator has not the stake of one");
    return OK;
}

enum status post_step_verdict(const struct ledger_books *b, const struct ledger_step_verdict *x,
                              struct post *p, struct err *e)
{
    struct account escrow = post_task_account(b, ACCOUNT_ESCROW);
    int64_t left = account_balance(&b->accounts, &escrow), fee = b->task.open.fee_step;
    const struct node_book *node;
    struct step_book *s;
    enum status st = post_need_task(b, e);

    if (!st)
        st = find_wanted(&s, b, x->version, e);
    if (!st)
        st = post_find_actor(&node, b, &x->validator, ROLE_VERIFIER, e);
    if (st)
        return st;
    if (!s->pub.is_wanted || !key_equal(&x->validator, &s->pub.validator))
        return err_set(e, ERR_DENIED, "I9: version %" PRId64 " was not given to this validator",
                       x->version);
    post_move(p, escrow, books_pending(&x->validator), fee < left ? fee : left);
    return OK;
}

/* ---- applying ------------------------------------------------------------------------------ */

void books_take_batch(struct ledger_books *b, const struct ledger_batch *x)
{
    struct batch_mark mark = {x->root, b->next_seq, 0};

    for (uint32_t i = 0; i < x->n_rows; i++)
        mark.n_trained += x->row[i].use == LEDGER_TRAINED;
    b->batch = books_grow(b->batch, b->n_batches, &b->cap_batches, sizeof(*b->batch));
    b->batch[b->n_batches++] = mark;
}

static void note_step(struct ledger_books *b, const struct ledger_step *x)
{
    struct step_book s = {.pub = {.version = x->version,
                                  .seq = b->next_seq,
                                  .envelope = x->envelope,
                                  .weights = x->weights,
                                  .trainer = x->trainer,
                                  .has_batch = b->n_versions > 0,
                                  .batch = b->n_trained},
                          .nth = 1};

    if (s.pub.has_batch)
        s.pub.is_empty = !b->batch[s.pub.batch].n_trained;
    for (uint64_t i = 0; s.pub.has_batch && i < s.pub.batch; i++)
        s.pub.opt_steps += b->batch[i].n_trained > 0;
    for (size_t i = 0; i < b->n_steps; i++)
        s.nth += b->step[i].pub.has_batch && key_equal(&b->step[i].pub.trainer, &x->trainer);
    b->step = books_grow(b->step, b->n_steps, &b->cap_steps, sizeof(*b->step));
    b->step[b->n_steps++] = s;
}

/* Once for each batch: of an abandoned version the pay is kept, and the one in its place has none. */
bool books_pays_step(const struct ledger_books *b)
{
    return b->n_versions && b->task.steps_done < b->task.open.steps &&
           b->task.steps_done <= b->n_trained;
}

void books_take_step(struct ledger_books *b, const struct ledger_step *x)
{
    note_step(b, x);
    if (books_pays_step(b)) {
        b->task.steps_done++;
        b->task.paid_trainer += b->task.open.price_step;
    }
    b->n_trained += b->n_versions > 0;
    b->version = books_grow(b->version, b->n_versions, &b->cap_versions, sizeof(*b->version));
    b->version[b->n_versions++] = (struct version_mark){x->version, x->weights};
    b->next_version = x->version + 1;
}

void books_abandon(struct ledger_books *b, const struct ledger_abandon *x)
{
    if (x->version == b->next_version) {
        b->next_version++;
        return;
    }
    books_find_step(b, x->version)->pub.is_abandoned = true;
    b->n_versions--;
    b->n_trained--; /* the first version stays */
}

void books_assign_step(struct ledger_books *b, const struct ledger_step_assign *x)
{
    give(books_find_step(b, x->version), &x->to);
}

void books_judge_step(struct ledger_books *b, const struct ledger_step_verdict *x,
                      const struct ledger_posting *v, uint32_t n)
{
    struct account pending = books_pending(&x->validator);

    books_find_step(b, x->version)->pub.is_done = true;
    for (uint32_t i = 0; i < n; i++)
        if (account_equal(&v[i].account, &pending))
            b->task.paid_validators += v[i].delta;
}

void books_clear_steps(struct ledger_books *b)
{
    for (size_t i = 0; i < b->n_disputes; i++)
        free(b->dispute[i].move);
    free(b->dispute);
    free(b->step);
    free(b->batch);
    b->dispute = NULL;
    b->step = NULL;
    b->batch = NULL;
    b->n_disputes = b->cap_disputes = b->n_steps = b->cap_steps = 0;
    b->n_batches = b->cap_batches = 0;
    b->n_trained = 0;
}
