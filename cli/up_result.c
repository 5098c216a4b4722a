#include "cli/up_result.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/json_view.h"
#include "cli/judge.h"
#include "cli/up_eval.h"
#include "node/key.h"

#define NAME_BYTES 32u

/* ---- counting ---------------------------------------------------------------------------- */

bool up_node_name(const char *dir, const char *child, char hex[2 * KEY_BYTES + 1])
{
    char *home = file_join(dir, child), *keys = file_join(home, "keys");
    struct node_key *k = NULL;
    bool good = !key_load(&k, keys, NULL);

    if (good)
        hex_encode(hex, BYTES_OF(k->node.b));
    key_free(&k);
    free(keys);
    free(home);
    return good;
}

static bool is_cheat(const struct up_run *run, const char *hex)
{
    char name[NAME_BYTES], found[2 * KEY_BYTES + 1];

    for (int64_t i = run->inference - run->cheats; i < run->inference; i++) {
        snprintf(name, sizeof(name), "inference-%" PRId64, i + 1);
        if (up_node_name(run->dir, name, found) && !strcmp(found, hex))
            return true;
    }
    return false;
}

static bool is_barred(const json_t *status, const char *hex)
{
    size_t i;
    json_t *node;

    json_array_foreach(json_object_get(status, "nodes"), i, node)
    {
        if (!strcmp(json_view_text(node, "node"), hex))
            return json_is_true(json_object_get(node, "barred"));
    }
    return false;
}

static bool is_cheat_verifier(const struct up_run *run, const char *hex)
{
    char name[NAME_BYTES], found[2 * KEY_BYTES + 1];

    snprintf(name, sizeof(name), "verifier-%" PRId64, run->validators);
    return strcmp(run->cheat_verifier, "none") != 0 && up_node_name(run->dir, name, found) &&
           !strcmp(found, hex);
}

static void count_validator(struct up_result *r, const struct up_run *run, const json_t *node)
{
    int64_t n = json_view_int(node, "contradicted");

    r->contradicted += n;
    r->honest_contradicted += is_cheat_verifier(run, json_view_text(node, "node")) ? 0 : n;
    r->validators_barred += json_is_true(json_object_get(node, "barred"));
}

static void count_nodes(struct up_result *r, const struct up_run *run)
{
    size_t i;
    json_t *node;

    json_array_foreach(json_object_get(run->status, "nodes"), i, node)
    {
        bool cheats = is_cheat(run, json_view_text(node, "node"));
        int64_t wrong = 0;

        if (!strcmp(json_view_text(node, "role"), "verifier"))
            count_validator(r, run, node);
        json_view_refused(json_object_get(node, "refused"), &wrong, &r->units_late);
        r->units_refused += wrong;
        r->honest_refused += cheats ? 0 : wrong;
        r->cheats_slashed += cheats && json_is_true(json_object_get(node, "barred")) &&
                             json_view_int(node, "stake") == 0;
    }
}

static void count_status(struct up_result *r, const json_t *status)
{
    const json_t *bins = json_object_get(status, "staleness");
    const json_t *recent = json_object_get(status, "recent");
    size_t n = json_array_size(recent);

    r->units_accepted = json_view_int(status, "accepted");
    r->canaries = json_view_int(json_object_get(status, "canaries"), "revealed");
    r->tokens_trained = json_view_int(status, "tokens_trained");
    r->version = json_view_int(status, "version");
    for (size_t i = 0; i < json_array_size(bins); i++)
        if (json_integer_value(json_array_get(bins, i)) > 0)
            r->staleness_max = (int64_t)i;
    if (n)
        snprintf(r->weights, sizeof(r->weights), "%s",
                 json_view_text(json_array_get(recent, n - 1), "weights"));
}

/* The evidence of the lowest unit in this directory, if it is lower than what was found so far:
 * files are named "unit-4-lease-27.evidence". */
static void look_for_evidence(struct up_result *r, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        char *end;
        long long unit;

        if (strncmp(entry->d_name, "unit-", 5) != 0)
            continue;
        unit = strtoll(entry->d_name + 5, &end, 10);
        if (strncmp(end, "-lease-", 7) != 0 || unit < 0 ||
            (r->unit_refused >= 0 && unit >= r->unit_refused))
            continue;
        r->unit_refused = unit;
        free(r->evidence);
        r->evidence = file_join(dir, entry->d_name);
    }
    if (d)
        closedir(d);
}

static void find_evidence(struct up_result *r, const char *dir)
{
    char name[NAME_BYTES];

    r->unit_refused = -1;
    for (int i = 1; i <= 16; i++) {
        char *home, *evidence;

        snprintf(name, sizeof(name), "verifier-%d", i);
        home = file_join(dir, name);
        evidence = file_join(home, "evidence");
        look_for_evidence(r, evidence);
        free(evidence);
        free(home);
    }
}

static bool has_model(const char *dir)
{
    char *path = file_join(dir, "config.json");
    bool has = file_exists(path);

    free(path);
    return has;
}

enum status up_result_make(struct up_result *r, const struct up_run *run, struct err *e)
{
    size_t n = (size_t)run->task->eval.prompts;
    float temperature = (float)run->task->eval.temperature;
    char *first = file_join(run->dir, "trainer/model-v0");
    char *ledger = file_join(run->dir, "orchestrator/ledger");
    enum status st = OK;

    memset(r, 0, sizeof(*r));
    r->model_dir = file_join(run->dir, "trainer/model");
    if (!has_model(r->model_dir)) { /* the trainer was barred before it was through */
        free(r->model_dir);
        r->model_dir = xstrdup(first);
    }
    count_status(r, run->status);
    count_nodes(r, run);
    find_evidence(r, run->dir);
    const struct audit_options audit = {.judge = judge_dispute};
    audit_run_with(&r->audit, ledger, &audit);
    if (n) {
        struct up_eval v = {run->bundle, first, n, temperature, NULL, NULL};

        st = up_evaluate(&v, &r->before, r->was, UP_SAMPLES, e);
        v.dir = r->model_dir;
        if (!st)
            st = up_evaluate(&v, &r->after, r->is, UP_SAMPLES, e);
    }
    free(first);
    free(ledger);
    return st;
}

void up_result_clear(struct up_result *r)
{
    for (size_t i = 0; i < UP_SAMPLES; i++) {
        rollout_sample_clear(&r->was[i]);
        rollout_sample_clear(&r->is[i]);
    }
    free(r->model_dir);
    free(r->evidence);
    memset(r, 0, sizeof(*r));
}

/* ---- telling ----------------------------------------------------------------------------- */

static void set_int(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static int64_t paid(const json_t *status)
{
    const json_t *money = json_object_get(status, "money");

    return json_view_int(money, "workers") + json_view_int(money, "validators") +
           json_view_int(money, "trainer");
}

void up_result_json(FILE *to, const struct up_result *r, const struct up_run *run)
{
    int64_t group = run->task->sampling.group;
    json_t *o = json_object();

    json_object_set_new(o, "reward_before", json_real((double)r->before));
    json_object_set_new(o, "reward_after", json_real((double)r->after));
    set_int(o, "steps", r->version);
    json_object_set_new(o, "seconds", json_real((double)run->seconds_ms / 1000.0));
    set_int(o, "tokens_trained", r->tokens_trained);
    set_int(o, "paid", paid(run->status));
    set_int(o, "rollouts_accepted", r->units_accepted * group);
    set_int(o, "rollouts_refused", r->units_refused * group);
    set_int(o, "honest_refused", r->honest_refused);
    set_int(o, "units_late", r->units_late);
    set_int(o, "cheats", run->cheats);
    set_int(o, "cheats_slashed", r->cheats_slashed);
    set_int(o, "canaries", r->canaries);
    set_int(o, "verdicts_contradicted", r->contradicted);
    set_int(o, "honest_contradicted", r->honest_contradicted);
    set_int(o, "validators_barred", r->validators_barred);
    set_int(o, "staleness_max", r->staleness_max);
    json_object_set_new(o, "ledger_ok", json_boolean(r->audit.result == AUDIT_CLEAN));
    json_object_set_new(o, "model_dir", json_string(r->model_dir));
    json_object_set_new(o, "weights", json_string(r->weights));
    json_dumpf(o, to, JSON_REAL_PRECISION(5));
    fputc('\n', to);
    json_decref(o);
}

/* A text that somebody, or a model, wrote: without what would move the cursor. */
static void put_clean(FILE *to, const struct buf *text)
{
    for (size_t i = 0; i < text->len; i++)
        fputc(text->data[i] < 0x20 || text->data[i] == 0x7f ? '?' : text->data[i], to);
}

static void print_sample(FILE *to, const char *when, const struct rollout_sample *x)
{
    fprintf(to, "  %-6s %.2f  ", when, (double)x->reward);
    put_clean(to, &x->prompt);
    put_clean(to, &x->completion);
    fputc('\n', to);
}

/* As one word of a shell's command line. */
static void put_word(FILE *to, const char *text, size_t n)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "/._-+=:,@%";
    bool is_plain = n > 0;

    for (size_t i = 0; i < n; i++)
        is_plain = is_plain && text[i] && strchr(safe, text[i]);
    if (is_plain) {
        fwrite(text, 1, n, to);
        return;
    }
    fputc('\'', to);
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\'')
            fputs("'\\''", to);
        else
            fputc(text[i], to);
    fputc('\'', to);
}

static void put_command(FILE *to, const char *words, const char *operand)
{
    fprintf(to, "  %s %s ", program_invocation_name, words);
    put_word(to, operand, strlen(operand));
}

static void print_next(FILE *to, const struct up_result *r, const struct up_run *run)
{
    const char *dir = run->dir, *template = run->task->model.template;
    char *ledger = file_join(dir, "orchestrator/ledger");

    fprintf(to, "\nlook further\n");
    put_command(to, "metrics --dir", dir);
    fputc('\n', to);
    put_command(to, "model generate", r->model_dir);
    if (template[0])
        fprintf(to, " --chat --template %s", template);
    fputs(" --prompt ", to);
    put_word(to, (const char *)r->is[0].prompt.data, r->is[0].prompt.len);
    fputc('\n', to);
    put_command(to, "ledger show", ledger);
    fprintf(to, " --unit %" PRId64 "   # %s\n", r->unit_refused >= 0 ? r->unit_refused : 0,
            r->unit_refused >= 0 ? "why this unit was refused" : "the life of a unit");
    if (r->evidence) {
        put_command(to, "verify", r->evidence);
        fputc('\n', to);
    }
    put_command(to, "ledger audit", ledger);
    fputc('\n', to);
    put_command(to, "replay", dir);
    fprintf(to, "   # every version, computed again\n");
    free(ledger);
}

static void print_cost(FILE *to, const json_t *status)
{
    const json_t *money = json_object_get(status, "money");

    fprintf(to,
            "cost     %" PRId64
            " ucr: workers %lld, validators %lld, trainer %lld; of the deposit %lld "
            "came back\n",
            paid(status), json_view_int(money, "workers"), json_view_int(money, "validators"),
            json_view_int(money, "trainer"), json_view_int(money, "refunded"));
}

/* "barred   inference-4, verifier-2: not started again" */
static void print_barred(FILE *to, const struct up_run *run)
{
    const char *const role[] = {"inference", "verifier"};
    const int64_t n[] = {run->inference, run->validators};
    char name[NAME_BYTES], hex[2 * KEY_BYTES + 1];
    bool has_any = false;

    for (size_t k = 0; k < 2; k++)
        for (int64_t i = 1; i <= n[k]; i++) {
            snprintf(name, sizeof(name), "%s-%" PRId64, role[k], i);
            if (!up_node_name(run->dir, name, hex) || !is_barred(run->status, hex))
                continue;
            fprintf(to, "%s%s", has_any ? ", " : "barred   ", name);
            has_any = true;
        }
    if (has_any)
        fprintf(to, ": not started again\n");
}

void up_result_print(FILE *to, const struct up_result *r, const struct up_run *run)
{
    bool has_eval = run->task->eval.prompts > 0;

    fputc('\n', to);
    for (size_t i = 0; i < UP_SAMPLES; i++)
        if (r->was[i].prompt.len) {
            print_sample(to, "before", &r->was[i]);
            print_sample(to, "after", &r->is[i]);
        }
    if (has_eval)
        fprintf(to, "\nreward   %.3f before, %.3f after, over %" PRId64 " held-out problems\n",
                (double)r->before, (double)r->after, run->task->eval.prompts);
    fprintf(to,
            "trained  %" PRId64 " versions on %" PRId64
            " tokens; %.1f s since 'muster up' began\n",
            r->version, r->tokens_trained, (double)run->seconds_ms / 1000.0);
    print_cost(to, run->status);
    fprintf(to, "model    %s\n", r->model_dir);
    if (run->cheats)
        fprintf(to, "cheats   %" PRId64 " of %" PRId64 " found and slashed\n",
                r->cheats_slashed, run->cheats);
    print_barred(to, run);
    if (strcmp(run->cheat_verifier, "none") != 0)
        fprintf(to,
                "canaries %" PRId64 " contradicted %" PRId64 " verdicts; %" PRId64
                " validators barred\n",
                r->canaries, r->contradicted, r->validators_barred);
    if (r->audit.result == AUDIT_CLEAN)
        fprintf(to, "ledger   audited and clean: %" PRIu64 " entries, %" PRIu64 " signatures\n",
                r->audit.n_entries, r->audit.n_signatures);
    else
        fprintf(to, "ledger   the audit FAILS: %s\n", r->audit.why);
    print_next(to, r, run);
    fputc('\n', to);
}
