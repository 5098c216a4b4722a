/* Recomputed versions and disputes in the ledger's small world. */
#include "unit/ledger/world_steps.h"

#include <string.h>

#include "ledger/log.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "proto/transcript.h"
#include "support/test.h"

void world_init_steps(struct world *w, const char *dir, int64_t bond, int64_t fee)
{
    memset(w, 0, sizeof(*w));
    w->dispute_bond = bond;
    w->fee_step = fee;
    world_begin(w, dir);
}

void world_init_granted(struct world *w, const char *dir, int64_t bond, int64_t fee)
{
    memset(w, 0, sizeof(*w));
    w->dispute_bond = bond;
    w->fee_step = fee;
    w->stake_granted = WORLD_STAKE;
    world_begin(w, dir);
}

enum status world_try_head(struct world *w)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_head x;

    ledger_head_build(&x, w->log);
    return ledger_append_head(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_close(struct world *w)
{
    struct ledger_cause why = world_cause(w);
    struct ledger_task_close x = {w->task};

    return ledger_append_task_close(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_step_verdict(struct world *w, int64_t version, unsigned validator,
                                   bool is_accepted)
{
    const struct world_node *n = world_validator(w, validator);
    const struct ledger_step_state *s = ledger_books_step(world_books(w), version);
    struct idem idem = world_idem(w);
    struct ledger_cause why = {&n->node, &idem, world_cause(w).wall_us};
    struct msg_step_verdict m = {.version = version,
                                 .manifest = s->envelope,
                                 .is_accepted = is_accepted,
                                 .weights = s->weights};
    struct ledger_step_verdict right = {.version = version, .validator = n->node};
    struct ledger_dispute_open wrong = {.version = version,
                                        .challenger = n->node,
                                        .opt_steps = s->opt_steps,
                                        .is_direct = !version != (w->bend == BEND_GAME)};
    struct digest envelope;
    struct buf body;

    m.weights.b[0] ^= !is_accepted;
    wrong.weights = m.weights;
    transcript_id(&wrong.dispute, &s->envelope, s->opt_steps, &n->node);
    buf_init(&body, 1024);
    assert_ok(msg_step_verdict_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_STEP_VERDICT, n, &idem, &body, &envelope);
    buf_clear(&body);
    right.envelope = wrong.envelope = envelope;
    return is_accepted ? ledger_append_step_verdict(w->log, &right, &why, &w->out, NULL, &w->e)
                       : ledger_append_dispute_open(w->log, &wrong, &why, &w->out, NULL, &w->e);
}

enum status world_try_dispute_move(struct world *w, enum ledger_move kind)
{
    const struct ledger_books *b = world_books(w);
    const struct ledger_dispute *d = ledger_books_open_dispute(b);
    const struct world_node *n = &w->node[WORLD_TRAINER];
    const uint8_t move = (uint8_t)kind;
    struct idem idem = world_idem(w);
    struct ledger_cause why = {NULL, &idem, world_cause(w).wall_us};
    struct ledger_dispute_move x = {.dispute = d->id, .number = d->n_moves, .kind = kind};
    struct msg_dispute m = {
        .dispute = d->id, .number = d->n_moves, .previous = d->last, .move = {&move, 1}};
    struct buf body;

    for (unsigned i = 0; d->n_moves % 2 && i < WORLD_VALIDATORS; i++)
        if (key_equal(&world_validator(w, i)->node, &d->challenger))
            n = world_validator(w, i);
    why.actor = &n->node;
    m.previous.b[0] ^= w->bend == BEND_PREVIOUS;
    buf_init(&body, 1024);
    assert_ok(msg_dispute_encode(&body, &m, &w->e), &w->e);
    world_file(w, MSG_DISPUTE, n, &idem, &body, &x.envelope);
    buf_clear(&body);
    return ledger_append_dispute_move(w->log, &x, &why, &w->out, NULL, &w->e);
}

enum status world_try_dispute_close(struct world *w, const struct public_key *loser,
                                    bool is_silent, uint32_t op)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(world_books(w));
    struct ledger_cause why = world_cause(w);
    const struct ledger_dispute_close x = {.dispute = d->id,
                                           .loser = *loser,
                                           .is_silent = is_silent,
                                           .n_moves = d->n_moves,
                                           .last = d->last,
                                           .op = op};

    return ledger_append_dispute_close(w->log, &x, &why, &w->out, NULL, &w->e);
}
