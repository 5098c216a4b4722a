/*
 * muster econ: does a cheat pay under a task's terms?
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/usage.h"
#include "ledger/econ.h"
#include "orchestrator/orch_terms.h"
#include "sim/market.h"

struct settings {
    int64_t cost_ppm, verify_ppm, workers, dishonest, units, seed, mature;
    bool simulate, as_json;
    char *cheat;
};

/* ---- expected values --------------------------------------------------------------------- */

static void print_row_json(const struct econ_row *r)
{
    json_t *o =
        json_pack("{s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:b}", "cheat", r->cheat->name,
                  "audited", r->audited, "pending", (json_int_t)r->pending, "found", r->found,
                  "gain", r->gain, "loss", r->loss, "honest_per_unit", r->honest,
                  "cheat_per_unit", r->cheats, "pays", r->pays);
    char *line = json_dumps(o, JSON_COMPACT);

    puts(line);
    free(line);
    json_decref(o);
}

static void print_terms(const struct econ_terms *t)
{
    const struct ledger_task_open *o = &t->open;

    printf(
        "a unit pays at most %" PRId64 " ucr and costs %" PRId64 "; stake %" PRId64
        " ucr of its own%s; the first %u units are checked in full, later ones with at least "
        "%.2f %%\n\n",
        t->pay, t->cost, t->stake,
        o->stake_granted ? " (budget.stake_grant is a gift, and deters nobody)" : "",
        o->audit_first, 100.0 * (double)o->audit_floor / (double)LEDGER_ONE);
    printf("%-15s %9s %9s %12s %14s %14s %14s  %s\n", "cheat", "audited", "found", "gain",
           "loss", "honest/unit", "cheat/unit", "");
}

static void print_row(const struct econ_row *r, const struct settings *o)
{
    if (o->as_json) {
        print_row_json(r);
        return;
    }
    printf("%-15s %8.2f%% %8.2f%% %12.1f %14.1f %14.1f %14.1f  %s\n", r->cheat->name,
           100.0 * r->audited, 100.0 * r->found, r->gain, r->loss, r->honest, r->cheats,
           r->pays ? "PAYS" : "does not pay");
}

/* How many pay that ought not to. */
static unsigned print_rows(const struct econ_terms *t, const struct settings *o)
{
    unsigned n_pay = 0;
    size_t n;
    const struct econ_cheat *c = econ_cheats(&n);

    if (!o->as_json)
        print_terms(t);
    for (size_t i = 0; i < n; i++) {
        struct econ_row r;
        if (*o->cheat && strcmp(o->cheat, c[i].name) != 0)
            continue;
        econ_judge(&r, t, &c[i]);
        n_pay += r.pays;
        print_row(&r, o);
    }
    struct econ_row trainer; /* of a version, not of a unit */
    if (!*o->cheat && econ_judge_trainer(&trainer, t)) {
        n_pay += trainer.pays;
        print_row(&trainer, o);
    }
    return n_pay;
}

/* ---- a market of them -------------------------------------------------------------------- */

static void print_market_json(const struct econ_cheat *c, const struct market_result *r,
                              bool is_below)
{
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:b}",
                          "cheat", c ? c->name : "none", "accepted", (json_int_t)r->accepted,
                          "cheated", (json_int_t)r->cheated, "found", (json_int_t)r->found,
                          "let_in", (json_int_t)r->let_in, "barred", (json_int_t)r->barred,
                          "honest_refused", (json_int_t)r->honest_refused, "honest", r->honest,
                          "cheats", r->cheats, "honest_lost", r->honest_lost, "audited",
                          (double)r->audited / (double)(r->checked ? r->checked : 1),
                          "verification", r->verification, "ok", is_below);
    char *line = json_dumps(o, JSON_COMPACT);

    puts(line);
    free(line);
    json_decref(o);
}

/* *n_bad grows where cheating ended above honesty, or an honest worker lost anything. */
static enum status simulate_one(const struct econ_terms *t, const struct econ_cheat *c,
                                const struct settings *o, unsigned *n_bad, struct err *e)
{
    struct market_options m = {.terms = *t,
                               .mature_window = (uint64_t)o->mature,
                               .workers = (uint32_t)o->workers,
                               .dishonest = c ? (uint32_t)o->dishonest : 0,
                               .verify_ppm = (uint32_t)o->verify_ppm,
                               .units = (uint64_t)o->units,
                               .seed = (uint64_t)o->seed,
                               .cheat = c};
    struct market_result r;
    enum status st = market_run(&r, &m, e);
    bool is_fine;

    if (st)
        return st;
    is_fine = r.honest_refused == 0 && r.honest_lost == 0.0 && (!c || r.cheats < r.honest);
    *n_bad += !is_fine;
    if (o->as_json) {
        print_market_json(c, &r, is_fine);
        return OK;
    }
    printf("%-15s %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %7" PRIu64
           " %14.0f %14.0f %8.2f%% %8.3f%%  %s\n",
           c ? c->name : "(nobody)", r.cheated, r.found, r.let_in, r.barred, r.honest, r.cheats,
           100.0 * (double)r.audited / (double)(r.checked ? r.checked : 1),
           100.0 * r.verification,
           !c        ? "honest workers only"
           : is_fine ? "ends below honesty"
                     : "CHEATING PAID");
    fflush(stdout);
    return OK;
}

/* A market whose last validator cheats; its accomplices are a swarm. */
static enum status simulate_validator(const struct econ_terms *t, enum market_validator v,
                                      const char *label, const struct settings *o,
                                      unsigned *n_bad, struct err *e)
{
    const struct econ_cheat *c =
        v == MARKET_VALIDATOR_COLLUDING ? econ_cheat_find("swarm") : NULL;
    struct market_options m = {.terms = *t,
                               .mature_window = (uint64_t)o->mature,
                               .workers = (uint32_t)o->workers,
                               .dishonest = c ? (uint32_t)o->dishonest : 0,
                               .verify_ppm = (uint32_t)o->verify_ppm,
                               .units = (uint64_t)o->units,
                               .seed = (uint64_t)o->seed,
                               .cheat = c,
                               .validator = v};
    struct market_result r;
    enum status st = market_run(&r, &m, e);
    bool is_fine;

    if (st)
        return st;
    is_fine = r.honest_refused == 0 && r.honest_contradicted == 0 &&
              r.validator_cheats < r.validators_honest && (!c || r.cheats < r.honest);
    *n_bad += !is_fine;
    printf(o->as_json ? "{\"validator\": \"%s\", \"canaries\": %" PRIu64
                        ", \"contradicted\": %" PRIu64 ", \"by_states\": %" PRIu64
                        ", \"barred\": %s, \"honest\": %.0f, \"cheats\": %.0f"
                        ", \"audited\": %.6f, \"verification\": %.6f, \"ok\": %s}\n"
                      : "%-15s %8" PRIu64 " %12" PRIu64 " %9" PRIu64
                        " %7s %14.0f %14.0f %8.4f %8.5f  %s\n",
           label, r.canaries, r.contradicted, r.struck_by_states,
           o->as_json              ? r.is_validator_barred ? "true" : "false"
           : r.is_validator_barred ? "yes"
                                   : "no",
           r.validators_honest, r.validator_cheats,
           (double)r.audited / (double)(r.checked ? r.checked : 1), r.verification,
           o->as_json ? is_fine ? "true" : "false"
           : is_fine  ? "ends below honesty"
                      : "CHEATING PAID");
    fflush(stdout);
    return OK;
}

static enum status simulate_validators(const struct econ_terms *t, const struct settings *o,
                                       unsigned *n_bad, struct err *e)
{
    struct econ_terms alone = *t; /* no full check is made twice */
    enum status st = OK;

    if (!o->as_json)
        printf("\none of four validators cheats; ucr that a validator's place brought\n\n"
               "%-15s %8s %12s %9s %7s %14s %14s %8s %8s\n",
               "validator", "canaries", "contradicted", "by states", "barred", "honest",
               "cheats", "audited", "checking");
    for (int v = MARKET_VALIDATOR_LAZY; !st && v < MARKET_VALIDATOR_COUNT; v++)
        st = simulate_validator(t, (enum market_validator)v,
                                market_validator_name((enum market_validator)v), o, n_bad, e);
    alone.open.recheck_rate = 0;
    if (!st)
        st = simulate_validator(&alone, MARKET_VALIDATOR_LAZY, "lazy, canaries", o, n_bad, e);
    return st;
}

static enum status simulate(const struct econ_terms *t, const struct settings *o,
                            unsigned *n_bad, struct err *e)
{
    size_t n;
    const struct econ_cheat *c = econ_cheats(&n);
    enum status st = OK;

    if (!o->as_json)
        printf("\n%" PRId64 " workers, %" PRId64 " of them cheat, %" PRId64
               " units; ucr that a worker's place brought, less what it cost\n\n"
               "%-15s %8s %8s %8s %7s %14s %14s %9s %9s\n",
               o->workers, o->dishonest, o->units, "cheat", "tried", "found", "let in",
               "barred", "honest", "cheats", "audited", "checking");
    if (!*o->cheat)
        st = simulate_one(t, NULL, o, n_bad, e);
    for (size_t i = 0; !st && i < n; i++)
        if (!*o->cheat || !strcmp(o->cheat, c[i].name))
            st = simulate_one(t, &c[i], o, n_bad, e);
    if (!st && !*o->cheat)
        st = simulate_validators(t, o, n_bad, e);
    return st;
}

/* ---- the command ------------------------------------------------------------------------- */

static enum status read_terms(struct econ_terms *t, const char *path, int64_t cost_ppm,
                              struct err *e)
{
    struct ledger_task_open open = {0};
    struct bundle b;
    struct task task = {0};
    struct buf bundle;
    enum status st;

    buf_init(&bundle, BUNDLE_MAX_BYTES);
    st = bundle_load(&bundle, path, e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&bundle), e);
    if (!st)
        st = task_parse(&task, b.file[BUNDLE_TASK], path, e);
    if (!st) {
        orch_task_terms(&open, &task, task.budget.deposit);
        econ_terms_of(t, &open, (uint32_t)cost_ppm);
    }
    task_clear(&task);
    buf_clear(&bundle);
    return st;
}

static int judge_task(const char *path, const struct settings *o)
{
    struct err e = {0};
    struct econ_terms t;
    unsigned n_pay, n_bad = 0;

    if (*o->cheat && !econ_cheat_find(o->cheat)) {
        (void)err_set(&e, ERR_NOT_FOUND,
                      "no cheat is called '%s': without --cheat all are shown", o->cheat);
        return usage_fail(e.text);
    }
    if (read_terms(&t, path, o->cost_ppm, &e))
        return usage_fail(e.text);
    n_pay = print_rows(&t, o);
    if (o->simulate && simulate(&t, o, &n_bad, &e))
        return usage_fail(e.text);
    if (n_pay || n_bad) {
        (void)err_set(
            &e, ERR_DENIED,
            "under these terms %u kinds of cheating pay: raise "
            "acceptance.audit_floor_ppm, acceptance.audit_saving_ppm, acceptance.step_ppm or "
            "budget.stake_required",
            n_pay > n_bad ? n_pay : n_bad);
        return usage_fail(e.text);
    }
    return 0;
}

int cmd_econ(int argc, char **argv)
{
    struct settings o = {0};
    struct opt table[] = {
        {"cost-ppm", OPT_INT, &o.cost_ppm, "600000", "1..1000000",
         "what honest work costs, per million of its pay", false},
        {"cheat", OPT_STRING, &o.cheat, "", NULL, "this one only", false},
        {"simulate", OPT_FLAG, &o.simulate, "false", NULL,
         "also let each cheat play in a market of workers, on a real ledger", false},
        {"workers", OPT_INT, &o.workers, "50", "2..256", "of --simulate, cheats included",
         false},
        {"dishonest", OPT_INT, &o.dishonest, "5", "1..255", "how many of them cheat", false},
        {"units", OPT_INT, &o.units, "20000", "1..1000000", "until so many are accepted",
         false},
        {"verify-ppm", OPT_INT, &o.verify_ppm, "40000", "0..1000000",
         "what a full check costs, per million of what making the unit does", false},
        {"mature", OPT_INT, &o.mature, "4096", "0..1000000",
         "ledger entries after which pay matures", false},
        {"seed", OPT_INT, &o.seed, "1", "0..9007199254740991", "of the simulation", false},
        {"json", OPT_FLAG, &o.as_json, "false", NULL, "one JSON object a line", false},
    };
    const char *operand[1] = {"."};
    struct usage u = {
        .line = "muster econ [TASK.yaml] [options]",
        .about =
            "What honest work and each known cheat bring under a task's terms, at the pending\n"
            "pay that suits the cheat best. Status 1 if a cheat pays: do not publish such a\n"
            "task. The formulas are in docs/verification.md.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1};
    int rc = usage_parse(&u, argc, argv);

    if (rc == USAGE_RUN && o.dishonest >= o.workers)
        rc = usage_complain(u.line, "--dishonest %" PRId64 " leaves no honest one of %" PRId64,
                            o.dishonest, o.workers);
    if (rc == USAGE_RUN)
        rc = judge_task(operand[0], &o);
    opt_clear(table, u.n);
    return rc;
}
