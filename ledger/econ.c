#include "ledger/econ.h"

#include <string.h>

#include "ledger/beacon.h"

/* What each saves is an estimate on the side of the cheat: a draft of a model a twentieth the size
 * still needs the true prefill (1/25 of the cost of generating, docs/verification.md). */
static const struct econ_cheat cheats[] = {
    /* name, text, saving, share, after, light, full, returns */
    {"other-model", "another, smaller model", 950000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"int8", "weights rounded to 8 bits", 450000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"int4", "weights rounded to 4 bits", 700000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"fp8-kv", "keys and values kept in 8 bits", 200000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"stale", "the version before under the new one's name", 50000, ECON_PPM, 0, 0, ECON_PPM,
     false},
    {"draft", "a small model's tokens under a true prefill", 900000, ECON_PPM, 0, 0, ECON_PPM,
     false},
    {"seed", "another seed, one batch for many units", 500000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"prompt", "a shorter prompt", 300000, ECON_PPM, 0, ECON_PPM, ECON_PPM, false},
    {"truncate", "answers cut short", 700000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"pad", "answers padded to be paid for", 800000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"copy", "another's rollout", ECON_PPM, ECON_PPM, 0, 0, ECON_PPM, false},
    {"reward", "better rewards than were earned", 0, ECON_PPM, 0, ECON_PPM, ECON_PPM, false},
    {"nothing", "random tokens, no work at all", ECON_PPM, ECON_PPM, 0, 0, ECON_PPM, false},
    {"tokens-1", "1 token in 100 not computed", 10000, ECON_PPM, 0, 0, ECON_PPM, false},
    {"units-5", "no work on 1 unit in 20", ECON_PPM, 50000, 0, 0, ECON_PPM, false},
    {"sleeper", "honest for 200 units, then no work", ECON_PPM, ECON_PPM, 200, 0, ECON_PPM,
     false},
    {"sleeping-swarm", "honest for 20 units, then no work, then a new key", ECON_PPM, ECON_PPM,
     20, 0, ECON_PPM, true},
    {"swarm", "no work, and a new key after each bar", ECON_PPM, ECON_PPM, 0, 0, ECON_PPM,
     true},
};

const struct econ_cheat *econ_cheats(size_t *n)
{
    *n = sizeof(cheats) / sizeof(cheats[0]);
    return cheats;
}

const struct econ_cheat *econ_cheat_find(const char *name)
{
    for (size_t i = 0; i < sizeof(cheats) / sizeof(cheats[0]); i++)
        if (!strcmp(cheats[i].name, name))
            return &cheats[i];
    return NULL;
}

void econ_terms_of(struct econ_terms *t, const struct ledger_task_open *open, uint32_t cost_ppm)
{
    t->open = *open;
    t->pay = (int64_t)open->tokens_max * open->price_token;
    t->cost = (int64_t)((double)t->pay * cost_ppm / ECON_PPM);
    t->stake = open->stake_required > open->stake_granted
                   ? open->stake_required - open->stake_granted
                   : 0;
}

static double probability(const struct econ_terms *t, int64_t pending)
{
    struct audit_policy policy = {
        .reward = t->pay,
        .stake = t->stake,
        .pending = pending,
        .saving_ppm = t->open.saving_ppm,
        .detection_ppm = t->open.detection_ppm,
        .floor = t->open.audit_floor,
    };

    return (double)audit_probability(&policy) / (double)LEDGER_ONE;
}

/* One unit on which it cheats, with so much pending. */
static void judge_at(struct econ_row *row, const struct econ_terms *t,
                     const struct econ_cheat *c, int64_t pending)
{
    double light = (double)c->found_light / ECON_PPM, full = (double)c->found_full / ECON_PPM;

    row->cheat = c;
    row->pending = pending;
    row->audited = probability(t, pending);
    row->found = light + (1.0 - light) * row->audited * full;
    row->gain = (double)t->cost * c->saving / ECON_PPM;
    row->loss = row->found * (double)(t->pay + t->stake + pending);
    row->honest = (double)(t->pay - t->cost);
    row->cheats = row->honest + (row->gain - row->loss) * c->share / ECON_PPM;
    row->pays = row->gain > row->loss;
}

void econ_judge(struct econ_row *row, const struct econ_terms *t, const struct econ_cheat *c)
{
    struct econ_row at;

    judge_at(row, t, c, 0);
    for (int64_t k = 1; k <= (int64_t)ECON_PENDING_MAX; k++) {
        judge_at(&at, t, c, k * t->pay);
        if (at.gain - at.loss > row->gain - row->loss)
            *row = at;
    }
}

/* ---- a trainer --------------------------------------------------------------------------- */

static const struct econ_cheat skip_batch = {"trainer-skip",
                                             "a trainer that does not train on the batch",
                                             ECON_PPM,
                                             ECON_PPM,
                                             0,
                                             0,
                                             ECON_PPM,
                                             false};

static void judge_version(struct econ_row *row, const struct econ_terms *t, int64_t pending)
{
    const struct audit_policy policy = {
        .reward = t->open.price_step,
        .pending = pending,
        .saving_ppm = ECON_PPM,
        .detection_ppm = ECON_PPM,
        .floor = t->open.step_rate,
    };
    double price = (double)t->open.price_step;
    double cost = price * (double)t->cost / (double)(t->pay ? t->pay : 1);

    row->cheat = &skip_batch;
    row->pending = pending;
    row->audited =
        t->open.step_rate ? (double)audit_probability(&policy) / (double)LEDGER_ONE : 0.0;
    row->found = row->audited;
    row->gain = cost;
    row->loss = row->found * (price + (double)pending);
    row->honest = price - cost;
    row->cheats = row->honest + row->gain - row->loss;
    row->pays = row->gain > row->loss;
}

bool econ_judge_trainer(struct econ_row *row, const struct econ_terms *t)
{
    struct econ_row at;

    if (!t->open.dispute_ms)
        return false;
    judge_version(row, t, 0);
    for (int64_t k = 1; k <= (int64_t)ECON_PENDING_MAX; k++) {
        judge_version(&at, t, k * t->open.price_step);
        if (at.gain - at.loss > row->gain - row->loss)
            *row = at;
    }
    return true;
}
