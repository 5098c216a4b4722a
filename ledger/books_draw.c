/* What follows from the books for entries that choose or collect: DRAW, BATCH, MATURE. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ledger/beacon.h"
#include "ledger/books_state.h"
#include "proto/digest.h"
#include "proto/submission.h"

/* Committed in this attempt and not drawn yet? */
static bool is_undrawn(const struct ledger_books *b, const struct commit_mark *m)
{
    const struct ledger_unit *u = &b->unit[m->unit].pub;

    return u->state == UNIT_COMMITTED && u->commit == m->seq && u->depth == 0;
}

static uint64_t unit_probability(const struct ledger_books *b, const struct unit_book *u)
{
    const struct ledger_task_open *open = &b->task.open;
    struct account stake = account_of_key(ACCOUNT_STAKE, &u->pub.worker);
    struct account pending = books_pending(&u->pub.worker);
    int64_t staked = account_balance(&b->accounts, &stake);
    struct audit_policy policy = {
        .reward = (int64_t)u->pub.tokens * open->price_token,
        .stake = staked > open->stake_granted ? staked - open->stake_granted : 0,
        .pending = account_balance(&b->accounts, &pending),
        .saving_ppm = open->saving_ppm,
        .detection_ppm = open->detection_ppm,
        .floor = open->audit_floor,
    };

    if (open->witnesses && !books_is_witnessed(b))
        return LEDGER_ONE;
    if (u->nth <= books_find_node(b, &u->pub.worker)->pub.commits_before + open->audit_first ||
        (u->canary && !u->canary->is_judged))
        return LEDGER_ONE;
    return watch_probability(audit_probability(&policy), u->pub.watch.code);
}

static void fill_row(struct ledger_draw_row *row, const struct ledger_books *b,
                     const struct unit_book *u, const struct digest *value,
                     const struct draw_candidate *candidate, size_t n_candidates,
                     const struct ledger_salts *salts)
{
    const struct node_book *worker = books_find_node(b, &u->pub.worker);
    uint8_t order[LEDGER_CANDIDATES_MAX];
    struct digest r, salt;
    size_t n;

    memset(row, 0, sizeof(*row));
    draw_value(&r, value, &b->mix, u->pub.unit, &u->pub.root);
    row->unit = u->pub.unit;
    row->lease = u->pub.lease;
    row->probability = unit_probability(b, u);
    if (salts) {
        salts->salt(salts->ctx, u->pub.unit, u->pub.attempt, &salt);
        row->depth = books_sealed_depth(b, u, &r, row->probability, &salt);
    }
    n = draw_validators(order, &r, candidate, n_candidates, &u->pub.worker, &worker->pub.owner);
    row->n_assigned = n < b->task.open.validators ? (uint32_t)n : b->task.open.validators;
    memcpy(row->assigned, order, row->n_assigned);
}

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = ((const struct ledger_draw_row *)a)->unit;
    uint64_t y = ((const struct ledger_draw_row *)b)->unit;

    return (x > y) - (x < y);
}

bool books_draw_rows(struct ledger_draw *d, const struct ledger_books *b,
                     const struct ledger_salts *salts)
{
    struct draw_candidate candidate[LEDGER_CANDIDATES_MAX];

    for (uint32_t i = 0; i < d->n_candidates; i++) {
        const struct node_book *node = books_find_node(b, &d->candidate[i]);
        CHECK(node);
        candidate[i] = (struct draw_candidate){node->pub.node, node->pub.owner};
    }
    d->n_rows = 0;
    for (size_t i = b->undrawn_head; i < b->n_undrawn && b->undrawn[i].seq <= d->through; i++) {
        if (!is_undrawn(b, &b->undrawn[i]))
            continue;
        if (d->n_rows == LEDGER_DRAW_ROWS_MAX)
            return false;
        fill_row(&d->row[d->n_rows++], b, &b->unit[b->undrawn[i].unit], &d->value, candidate,
                 d->n_candidates, salts);
    }
    if (d->n_rows)
        qsort(d->row, d->n_rows, sizeof(d->row[0]), compare_rows);
    return true;
}

void ledger_draw_build(struct ledger_draw *d, const struct ledger_books *b,
                       const struct digest *value, const struct public_key *candidate,
                       uint32_t n_candidates, const struct ledger_salts *salts)
{
    uint32_t n = 0;

    memset(d, 0, sizeof(*d));
    d->round = b->round + 1;
    d->value = *value;
    CHECK(n_candidates <= LEDGER_CANDIDATES_MAX);
    d->n_candidates = n_candidates;
    if (n_candidates)
        memcpy(d->candidate, candidate, n_candidates * sizeof(*candidate));
    for (size_t i = b->undrawn_head; i < b->n_undrawn && n < LEDGER_DRAW_ROWS_MAX; i++) {
        if (!is_undrawn(b, &b->undrawn[i]))
            continue;
        if (b->task.open.witnesses && b->undrawn[i].seq > b->head.covers)
            break;
        d->through = b->undrawn[i].seq;
        n++;
    }
    if (b->task.open.witnesses && n < LEDGER_DRAW_ROWS_MAX)
        d->through = b->head.covers;
    CHECK(books_draw_rows(d, b, salts) && d->n_rows == n);
}

static struct ledger_sample sample_of(const struct msg_sample *s)
{
    struct reader r = reader_of(s->logprobs);
    double surprise = 0.0, reward = (double)s->reward * 1000.0;
    struct ledger_sample out = {.tokens = (uint32_t)submission_sample_tokens(s),
                                .has_ended = s->finish == FINISH_END};
    struct digest d;
    struct reader print;

    for (size_t i = 0; i < s->tokens.len / 4; i++)
        surprise -=
            1000.0 * (double)reader_f32(&r); /* each sum correctly rounded, in this order */
    out.surprise = surprise < (double)UINT32_MAX ? (uint32_t)surprise : UINT32_MAX;
    out.reward = reward > 0x1p30 ? 1 << 30 : reward < -0x1p30 ? -(1 << 30) : (int32_t)reward;
    digest_tagged(&d, "muster/1/print", s->tokens);
    print = reader_of(BYTES_OF(d.b));
    out.print = reader_u64(&print);
    return out;
}

void ledger_commit_of(struct ledger_commit *c, const struct msg_submit *m)
{
    CHECK(m->n_samples <= LEDGER_SAMPLES_MAX);
    c->tokens = submission_tokens(m);
    c->is_flat = true;
    for (uint32_t i = 1; i < m->n_samples; i++)
        c->is_flat = c->is_flat && m->sample[i].reward == m->sample[0].reward;
    c->n_samples = m->n_samples;
    for (uint32_t i = 0; i < m->n_samples; i++)
        c->sample[i] = sample_of(&m->sample[i]);
}

enum status ledger_batch_root(struct digest *root, const struct ledger_books *b,
                              const struct ledger_batch *batch, struct err *e)
{
    struct merkle m;

    merkle_init(&m);
    CHECK(batch->n_rows <= LEDGER_BATCH_ROWS_MAX);
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        const struct unit_book *u;
        if (batch->row[i].use != LEDGER_TRAINED)
            continue;
        u = books_find_unit(b, batch->row[i].unit);
        if (!u || u->pub.state != UNIT_ACCEPTED)
            return err_set(e, ERR_INVALID, "I4: unit %llu of batch %llu is not accepted",
                           (unsigned long long)batch->row[i].unit,
                           (unsigned long long)batch->batch);
        merkle_add(&m, BYTES_OF(u->pub.envelope));
    }
    merkle_root(&m, root);
    return OK;
}

void ledger_mature_build(struct ledger_mature *m, int64_t *amount, const struct ledger_books *b,
                         const struct public_key *node)
{
    const struct node_book *nb = books_find_node(b, node);
    uint64_t window = b->genesis.mature_window, frozen = books_frozen_from(b, node);

    memset(m, 0, sizeof(*m));
    m->node = *node;
    *amount = 0;
    if (!nb)
        return;
    for (size_t i = nb->head; i < nb->n; i++) {
        const struct credit *c = &nb->credit[i];
        if (!b->task.is_closed && (b->next_seq < window || c->seq > b->next_seq - window))
            break;
        if (c->seq >= frozen)
            break;
        m->through = c->seq;
        *amount += c->amount;
    }
}

void ledger_books_roots(const struct ledger_books *b, struct digest *entries,
                        struct digest *balances)
{
    merkle_root(&b->tree, entries);
    account_table_root(balances, &b->accounts);
}
