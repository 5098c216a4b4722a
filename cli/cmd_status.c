/*
 * muster status / explain: what a run does and why it waits; why a unit was paid or refused
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/json_view.h"
#include "cli/look.h"
#include "cli/up_result.h"
#include "cli/usage.h"
#include "proto/digest.h"
#include "shardcast/content_store.h"
#include "shardcast/member.h"

struct settings {
    char *dir;
    int64_t wait_ms, every_ms;
    bool is_json, is_watching;
};

/* ---- status ---------------------------------------------------------------------------- */

/* "STALE 3, EXPIRED 1" */
static void print_counts(const char *title, json_t *o)
{
    const char *key, *comma = "";
    json_t *value;
    void *at = json_object_iter(o);

    if (!at)
        return;
    printf("%-10s", title);
    for (; at; at = json_object_iter_next(o, at)) {
        key = json_object_iter_key(at);
        value = json_object_iter_value(at);
        printf("%s %s %lld", comma, key, (long long)json_integer_value(value));
        comma = ",";
    }
    printf("\n");
}

static void print_recent(const json_t *list)
{
    size_t n = json_array_size(list), from = n > 8 ? n - 8 : 0;

    if (!n)
        return;
    printf("%-10s", "reward");
    for (size_t i = from; i < n; i++) {
        const json_t *v = json_array_get(list, i), *reward = json_object_get(v, "reward");

        if (json_is_number(reward))
            printf(" v%lld %.3f", json_view_int(v, "version"), json_number_value(reward));
    }
    printf("\n");
}

static const char *node_state(const json_t *n)
{
    if (json_is_true(json_object_get(n, "barred")))
        return "barred";
    if (!json_is_true(json_object_get(n, "alive")))
        return "silent";
    return json_is_true(json_object_get(n, "draining")) ? "draining" : "alive";
}

/* `own` is marked: the node in whose directory this is asked. */
static void print_nodes(const json_t *list, const char *own)
{
    printf("\n%-18s%-11s%-9s%8s%10s%10s%10s%12s%12s%12s  %s\n", "node", "role", "state",
           "version", "accepted", "verdicts", "tokens", "pending", "earned", "stake", "waits");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *n = json_array_get(list, i);
        printf("%.16s%c %-11s%-9s%8lld%10lld%10lld%10lld%12lld%12lld%12lld  %s\n",
               json_view_text(n, "node"), strcmp(json_view_text(n, "node"), own) ? ' ' : '*',
               json_view_text(n, "role"), node_state(n), json_view_int(n, "version"),
               json_view_int(n, "accepted"), json_view_int(n, "verdicts"),
               json_view_int(n, "tokens"), json_view_int(n, "pending"),
               json_view_int(n, "earned"), json_view_int(n, "stake"),
               json_view_text(n, "waits"));
        print_counts("  refused", json_object_get(n, "refused"));
    }
}

static void print_summary(const json_t *o, const char *own)
{
    const json_t *task = json_object_get(o, "task");
    json_t *money = json_object_get(o, "money");

    printf("%-10s %.16s  %s", "run", json_view_text(o, "run"), json_view_text(o, "state"));
    if (json_is_object(task))
        printf(": %s, version %lld of %lld", json_view_text(task, "name"),
               json_view_int(o, "version"), json_view_int(o, "steps"));
    printf("\n%-10s %s\n", "why", json_view_text(o, "why"));
    print_counts("units", json_object_get(o, "units"));
    print_counts("refused", json_object_get(o, "refused"));
    print_recent(json_object_get(o, "recent"));
    if (json_is_object(money))
        print_counts("ucr", money);
    print_nodes(json_object_get(o, "nodes"), own);
}

static void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

    while (nanosleep(&t, &t) && errno == EINTR)
        continue;
}

static enum status watch(const struct settings *o, struct err *e)
{
    char own[2 * KEY_BYTES + 1] = "";
    struct look *l = NULL;
    enum status st = look_open(&l, o->dir, o->wait_ms, e);
    bool is_over = false;

    (void)up_node_name(o->dir, ".", own);

    while (!st && !is_over) {
        json_t *all;
        st = look_fetch(&all, l, STATUS_SUMMARY, 0, o->wait_ms, e);
        if (st)
            break;
        if (o->is_json) {
            json_view_print(all);
        } else {
            if (o->is_watching && isatty(STDOUT_FILENO))
                printf("\033[H\033[2J"); /* home, clear */
            print_summary(all, own);
        }
        fflush(stdout);
        is_over = !o->is_watching || !look_is_live(l) ||
                  !strcmp(json_view_text(all, "state"), "done");
        json_decref(all);
        if (!is_over)
            pause_ms(o->every_ms);
    }
    look_close(&l);
    return st;
}

static enum status note_newest(void *arg, const struct content_info *info, struct err *e)
{
    int64_t *newest = arg;

    (void)e;
    if (info->content.kind == CONTENT_FULL && info->is_complete &&
        info->content.version > *newest)
        *newest = info->content.version;
    return OK;
}

/* The newest version whose weights are whole in a node's directory; -1: none. */
static int64_t newest_in(const char *dir)
{
    const struct content_store_options o = {.read_only = true};
    struct content_store *s = NULL;
    int64_t newest = -1;

    if (!content_store_open(&s, dir, &o, NULL))
        (void)!content_store_each(s, note_newest, &newest, NULL);
    content_store_close(&s);
    return newest;
}

/* What a node's directory says of a run whose orchestrator does not answer, and where more is to be
 * found. */
static void tell_what_is_here(const char *dir)
{
    char *whole = file_join(dir, ".."), *model = file_join(dir, "model");
    char *config = file_join(model, "config.json"), *ledger = look_find_ledger(whole);
    char run[DIGEST_HEX_BYTES];
    struct member_home home;
    int64_t newest = newest_in(dir);

    if (!member_home_load(&home, dir, NULL)) {
        digest_to_hex(run, &home.run);
        fprintf(stderr, "known here: '%s' is a node of role %s in run %.16s", dir,
                role_name(home.role), run);
        if (newest >= 0)
            fprintf(stderr, ", with the weights of version %" PRId64, newest);
        fputc('\n', stderr);
    }
    if (file_exists(config))
        fprintf(stderr, "its model is in '%s' (muster model generate)\n", model);
    if (ledger)
        fprintf(stderr, "the run's ledger is beside it: muster status --dir '%s'\n", whole);
    free(ledger);
    free(config);
    free(model);
    free(whole);
}

/* The exit status. */
static int fail(const struct settings *o, enum status st, struct err *e)
{
    if (st == ERR_TIMEOUT) {
        struct err why = *e;

        (void)err_set(e, st, "%s: the run is over, or its orchestrator is away", why.text);
    }
    usage_fail(e->text);
    if (st == ERR_TIMEOUT)
        tell_what_is_here(o->dir);
    return 1;
}

int cmd_status(int argc, char **argv)
{
    struct settings o = {0};
    struct opt table[] = {
        {"dir", OPT_STRING, &o.dir, ".", NULL,
         "directory of any node of the run, or of the whole run", false},
        {"watch", OPT_FLAG, &o.is_watching, "false", NULL, "go on until the run is done",
         false},
        {"every-ms", OPT_INT, &o.every_ms, "1000", "100..600000", "pause between two looks",
         false},
        {"wait-ms", OPT_INT, &o.wait_ms, "10000", "100..600000",
         "how long to wait for the answer", false},
        {"json", OPT_FLAG, &o.is_json, "false", NULL, "one JSON object a look", false},
    };
    struct usage u = {
        .line = "muster status [--dir DIR] [--watch]",
        .about =
            "What the run does, why it waits, and what each node has earned, in ucr: of that,\n"
            "pending is what fraud would still cost it. The node in whose directory this is\n"
            "asked is marked by an asterisk.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        enum status st = watch(&o, &e);

        status = st ? fail(&o, st, &e) : 0;
    }
    opt_clear(table, u.n);
    return status;
}

/* ---- explain --------------------------------------------------------------------------- */

static void print_time(long long time_us)
{
    time_t t = (time_t)(time_us / 1000000);
    struct tm tm;
    char text[32];

    if (!gmtime_r(&t, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
        return;
    printf("%s.%03lldZ ", text, time_us / 1000 % 1000);
}

/* What a fact has beyond its type: one line each. */
static void print_details(const json_t *f)
{
    const json_t *p = json_object_get(f, "postings");
    const char *type = json_view_text(f, "type");

    if (!strcmp(type, "LEASE"))
        printf("      attempt %lld, for version %lld, %lld ucr set aside\n",
               json_view_int(f, "attempt"), json_view_int(f, "version"),
               json_view_int(f, "reserve"));
    if (!strcmp(type, "COMMIT"))
        printf("      %lld tokens, root %.16s, submission %.16s\n", json_view_int(f, "tokens"),
               json_view_text(f, "root"), json_view_text(f, "envelope"));
    if (!strcmp(type, "DRAW"))
        printf("      round %lld, %s check (probability %.4f)\n", json_view_int(f, "round"),
               json_view_text(f, "depth"),
               json_number_value(json_object_get(f, "probability")));
    if (!strcmp(type, "VERDICT"))
        printf("      %s check: %s\n", json_view_text(f, "depth"),
               json_is_true(json_object_get(f, "accepted")) ? "accepted" : "rejected");
    if (json_object_get(f, "claimed"))
        printf("      sample %lld, position %lld: claimed %s, found %s\n",
               json_view_int(f, "sample"), json_view_int(f, "position"),
               json_view_text(f, "claimed"), json_view_text(f, "found"));
    if (json_view_text(f, "text")[0])
        printf("      %s\n", json_view_text(f, "text"));
    for (size_t i = 0; i < json_array_size(p); i++)
        printf("      %+13lld ucr  %s\n", json_view_int(json_array_get(p, i), "ucr"),
               json_view_text(json_array_get(p, i), "account"));
}

static void print_life(const json_t *o)
{
    const json_t *life = json_object_get(o, "life");

    printf("unit %lld is %s", json_view_int(o, "unit"), json_view_text(o, "state"));
    if (json_object_get(o, "paid"))
        printf(", made by %s with version %lld, paid %lld ucr", json_view_text(o, "worker"),
               json_view_int(o, "version"), json_view_int(o, "paid"));
    if (json_object_get(o, "batch"))
        printf(", in batch %lld (%s)", json_view_int(o, "batch"), json_view_text(o, "use"));
    printf("\n");
    for (size_t i = 0; i < json_array_size(life); i++) {
        const json_t *f = json_array_get(life, i);
        printf("%6lld ", json_view_int(f, "seq"));
        print_time(json_view_int(f, "time_us"));
        printf("%-12s %s", json_view_text(f, "type"), json_view_text(f, "what"));
        if (json_view_text(f, "node")[0])
            printf(" [%s]", json_view_text(f, "node"));
        if (json_view_text(f, "why")[0])
            printf(": %s", json_view_text(f, "why"));
        printf("\n");
        print_details(f);
    }
}

static enum status explain(const struct settings *o, uint64_t unit, struct err *e)
{
    struct look *l = NULL;
    json_t *all = NULL;
    enum status st = look_open(&l, o->dir, o->wait_ms, e);

    if (!st)
        st = look_fetch(&all, l, STATUS_EXPLAIN, unit, o->wait_ms, e);
    if (!st && o->is_json)
        json_view_print(all);
    else if (!st)
        print_life(all);
    json_decref(all);
    look_close(&l);
    return st;
}

int cmd_explain(int argc, char **argv)
{
    struct settings o = {0};
    const char *word = NULL;
    struct opt table[] = {
        {"dir", OPT_STRING, &o.dir, ".", NULL,
         "directory of any node of the run, or of the whole run", false},
        {"wait-ms", OPT_INT, &o.wait_ms, "10000", "100..600000",
         "how long to wait for the answer", false},
        {"json", OPT_FLAG, &o.is_json, "false", NULL, "one JSON object", false},
    };
    struct usage u = {
        .line = "muster explain UNIT [--dir DIR]",
        .about =
            "The life of a unit from the ledger: who made it, what was checked, what every\n"
            "validator found, what was paid and why.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &word,
        .max_operands = 1,
    };
    struct err e = {0};
    char *end = NULL;
    unsigned long long unit;
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        errno = 0;
        unit = word ? strtoull(word, &end, 10) : 0;
        if (!word || !*word || *word == '-' || *end || errno) {
            fprintf(stderr, "muster explain: %s\nusage: %s\n",
                    word ? "a unit is a number" : "which unit?", u.line);
            status = 2;
        } else {
            status = explain(&o, unit, &e) ? usage_fail(e.text) : 0;
        }
    }
    opt_clear(table, u.n);
    return status;
}
