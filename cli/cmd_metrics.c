/*
 * muster metrics: rewards, losses and cost of each weight version, for people and for plots
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/json_view.h"
#include "cli/look.h"
#include "cli/usage.h"

struct settings {
    char *dir;
    int64_t from, wait_ms;
    bool is_csv, is_json;
};

/* In the order of the columns. Floats are printed with `digits`, integers have none. */
static const struct column {
    const char *key, *head;
    int width, digits;
} columns[] = {
    {"version", "version", 7, 0},
    {"reward", "reward", 8, 4},
    {"loss", "loss", 9, 4},
    {"kl", "kl", 9, 5},
    {"grad_norm", "grad", 9, 4},
    {"answers", "answers", 8, 0},
    {"answer_tokens", "length", 8, 1},
    {"ended", "ended", 7, 3},
    {"units", "units", 6, 0},
    {"flat", "flat", 5, 0},
    {"tokens", "trained on", 11, 0},
    {"paid", "paid ucr", 13, 0},
};
#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void print_head(const struct settings *o)
{
    if (o->is_csv) {
        printf("time");
        for (size_t i = 0; i < N_COLUMNS; i++)
            printf(",%s", columns[i].key);
        printf(",weights\n");
    } else if (!o->is_json) {
        for (size_t i = 0; i < N_COLUMNS; i++)
            printf("%*s", columns[i].width, columns[i].head);
        printf("\n");
    }
}

/* What is not known, like the reward before version 0, is nothing in CSV. */
static void print_row(const struct settings *o, const json_t *v)
{
    if (o->is_json) {
        json_view_print(v);
        return;
    }
    if (o->is_csv)
        printf("%.3f", json_number_value(json_object_get(v, "time")));
    for (size_t i = 0; i < N_COLUMNS; i++) {
        const struct column *c = &columns[i];
        const json_t *x = json_object_get(v, c->key);
        char text[32] = "";

        if (json_is_integer(x))
            snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(x));
        else if (json_is_real(x))
            snprintf(text, sizeof(text), "%.*f", o->is_csv ? 7 : c->digits, json_real_value(x));
        if (o->is_csv)
            printf(",%s", text);
        else
            printf("%*s", c->width, *text ? text : "-");
    }
    if (o->is_csv)
        printf(",%s", json_view_text(v, "weights"));
    printf("\n");
}

static enum status print_all(const struct settings *o, struct err *e)
{
    struct look *l = NULL;
    uint64_t first = (uint64_t)o->from;
    enum status st = look_open(&l, o->dir, o->wait_ms, e);
    bool is_more = true;

    if (!st)
        print_head(o);
    while (!st && is_more) {
        json_t *page, *v;
        size_t i;

        st = look_fetch(&page, l, STATUS_VERSIONS, first, o->wait_ms, e);
        if (st)
            break;
        json_array_foreach(json_object_get(page, "versions"), i, v)
        {
            print_row(o, v);
            first = (uint64_t)json_view_int(v, "version") + 1;
        }
        is_more = json_is_true(json_object_get(page, "more"));
        json_decref(page);
    }
    look_close(&l);
    return st;
}

int cmd_metrics(int argc, char **argv)
{
    struct settings o = {0};
    struct opt table[] = {
        {"dir", OPT_STRING, &o.dir, ".", NULL,
         "directory of any node of the run, or of the whole run", false},
        {"from", OPT_INT, &o.from, "0", "0..", "first version", false},
        {"csv", OPT_FLAG, &o.is_csv, "false", NULL, "comma-separated values, names first",
         false},
        {"json", OPT_FLAG, &o.is_json, "false", NULL, "one JSON object a version", false},
        {"wait-ms", OPT_INT, &o.wait_ms, "10000", "100..600000",
         "how long to wait for the answer", false},
    };
    struct usage u = {
        .line = "muster metrics [--dir DIR] [--csv|--json] [options]",
        .about = "A line for each weight version: mean reward of all answers of the batch that "
                 "it was\n"
                 "made of; the step's loss, KL from the weights that sampled, norm of the "
                 "gradient;\n"
                 "number of answers, their mean length in tokens, the share that ended by "
                 "themselves;\n"
                 "units, and how many of them had equal rewards, so that nothing was learnt of "
                 "them;\n"
                 "tokens trained on; ucr paid to everybody since the beginning. CSV and JSON "
                 "have the\n"
                 "time (Unix, in seconds) and the hash of the weights as well.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && o.is_csv && o.is_json)
        status = usage_complain(u.line, "either --csv or --json");
    if (status == USAGE_RUN)
        status = print_all(&o, &e) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}
