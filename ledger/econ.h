/*
 * ledger/econ.h - does a cheat pay under these terms?
 *
 * A worker's choice at one unit, in expectation. R is the unit's pay, c what honest work costs it,
 * S its stake, P its pending pay. A cheat of the gallery saves g of c, is found by a light check
 * with chance d_l and by a full one with chance d_f, and a unit is checked fully with the
 * probability p that the ledger's own policy gives (audit_probability, ledger/beacon.h):
 *
 *     found = d_l + (1 - d_l) p d_f
 *     gain  = g
 *     loss  = found (R + S + P)
 *
 * The cheat pays where gain > loss. p falls as P grows, and P is what the worker chooses (it may
 * wait until all its pay has matured), so the least favourable P is taken: every P from 0 to
 * ECON_PENDING_MAX units' pay. The worker's first `audit_first` units have p = 1.
 *
 * S is the worker's own: stake that the run itself gave (budget.stake_grant, for networks of one
 * owner) is no loss to who never paid it.
 *
 * Threads: any.
 */
#ifndef LEDGER_ECON_H
#define LEDGER_ECON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/body.h"

#define ECON_PENDING_MAX 200u /* units */
#define ECON_PPM         1000000u

/* A way to cheat, as the economy sees it. Parts are per million. */
struct econ_cheat {
    const char *name, *text;
    uint32_t saving;      /* of the honest cost, on a unit where it cheats */
    uint32_t share;       /* of its units on which it cheats */
    uint32_t after;       /* honest units before the first */
    uint32_t found_light; /* chance that a light check finds it */
    uint32_t found_full;  /* the same of a full check, in a class of exact numbers */
    bool returns;         /* barred, it comes back under another key */
};
const struct econ_cheat *econ_cheats(size_t *n);
const struct econ_cheat *econ_cheat_find(const char *name); /* NULL: unknown */

struct econ_terms {
    struct ledger_task_open open;
    int64_t pay;   /* R, ucr: of a unit of most tokens */
    int64_t cost;  /* c, ucr */
    int64_t stake; /* S, ucr: what a worker must pay in itself */
};
/* `cost_ppm`: what honest work costs, per million of its pay. */
void econ_terms_of(struct econ_terms *t, const struct ledger_task_open *open,
                   uint32_t cost_ppm);

struct econ_row {
    const struct econ_cheat *cheat;
    int64_t pending;       /* P at which it fares best, ucr */
    double audited;        /* p there */
    double found;          /* chance that a unit on which it cheats is found */
    double gain, loss;     /* of one such unit, ucr */
    double honest, cheats; /* what a unit of its work brings on average, ucr */
    bool pays;
};
/* The same for a trainer and a version, which pays price_step: it claims a batch and saves training on it.
 * A version is recomputed with the ledger's probability (ledger/steps.h), which finds it for certain, and
 * costs pay, stake and pending pay. The trainer's own stake is taken as nothing: no rule asks for any.
 * False: there are no disputes in the class of the task, and nothing is said. */
bool econ_judge_trainer(struct econ_row *row, const struct econ_terms *t);

void econ_judge(struct econ_row *row, const struct econ_terms *t, const struct econ_cheat *c);

#endif
