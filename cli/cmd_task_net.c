/*
 * muster task publish / list / show / close: an initiator's talk with the orchestrator
 *
 * 'task check' needs no network and is in cli/cmd_task.c; cmd_task below finds the word.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/json_view.h"
#include "cli/look.h"
#include "cli/usage.h"
#include "envs/task.h"
#include "proto/digest.h"

int cmd_task_check(int argc, char **argv); /* cli/cmd_task.c */

struct settings {
    char *dir, *join;
    int64_t wait_ms, deposit;
    bool is_json;
};

#define BASE_ROWS 3u

/* To look, any node will do; to publish or close, the initiator must sign. */
static void base_rows(struct opt *table, struct settings *o, bool is_look)
{
    const char *dir = is_look ? "directory of any node of the run, or of the whole run"
                              : "directory of the initiator, or of the whole run";

    table[0] = (struct opt){"dir", OPT_STRING, &o->dir, ".", NULL, dir, false};
    table[1] = (struct opt){"wait-ms", OPT_INT,       &o->wait_ms,
                            "10000",   "100..600000", "how long to wait for the answer",
                            false};
    table[2] =
        (struct opt){"json", OPT_FLAG, &o->is_json, "false", NULL, "one JSON object", false};
}

/* Asks and takes the receipt: ERR_DENIED with the reason when it is a refusal for good. */
static enum status ask_receipt(struct client *c, enum msg_kind kind, struct bytes body,
                               int64_t wait_ms, struct msg_receipt *r, struct err *e)
{
    struct msg_envelope env;
    struct buf reply;
    enum status st;

    buf_init(&reply, 1u << 16);
    st = client_ask(c, kind, body, wait_ms, &reply, &env, e);
    if (!st && env.kind != MSG_RECEIPT)
        st = err_set(e, ERR_MALFORMED, "the orchestrator answered with %s",
                     msg_kind_name(env.kind));
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_receipt_decode(r, env.body, e);
    if (!st && !r->is_accepted)
        st = err_set(e, ERR_DENIED, "refused: %s",
                     r->text[0] ? r->text : reason_text((enum reason)r->code));
    buf_clear(&reply);
    return st;
}

/* ---- publish --------------------------------------------------------------------------- */

static enum status publish(const struct settings *o, const char *path, struct err *e)
{
    struct msg_task_publish m = {.deposit = o->deposit};
    struct client *c = NULL;
    struct buf bundle, body;
    struct msg_receipt r;
    struct digest id;
    char hex[DIGEST_HEX_BYTES];
    enum status st;

    buf_init(&bundle, BUNDLE_MAX_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    st = bundle_load(&bundle, path, e);
    if (st)
        goto out;
    m.bundle = buf_bytes(&bundle);
    st = msg_task_publish_encode(&body, &m, e);
    if (!st)
        st = client_open(&c, o->dir, o->join, o->wait_ms, e);
    if (!st)
        st = ask_receipt(c, MSG_TASK_PUBLISH, buf_bytes(&body), o->wait_ms, &r, e);
    if (st)
        goto out;
    bundle_id(id.b, buf_bytes(&bundle));
    digest_to_hex(hex, &id);
    if (o->is_json)
        printf("{\"task\":\"%s\",\"seq\":%" PRIu64 "}\n", hex, r.seq);
    else
        printf("published task %s (ledger entry %" PRIu64 ")\n", hex, r.seq);
out:
    client_close(&c);
    buf_clear(&bundle);
    buf_clear(&body);
    return st;
}

static int cmd_publish(int argc, char **argv)
{
    struct settings o = {0};
    const char *path = NULL;
    struct opt table[BASE_ROWS + 2] = {
        [BASE_ROWS] = {"join", OPT_STRING, &o.join, "", NULL,
                       "an initiator's invite link, by which DIR joins first", false},
        {"deposit", OPT_INT, &o.deposit, "0", "0..1000000000000000",
         "ucr put in escrow; 0: what the task file says", false},
    };
    struct usage u = {
        .line = "muster task publish TASK [--dir DIR] [--join LINK]",
        .about = "Opens the task in TASK (a task.yaml, or a directory with one) in a run.\n"
                 "Published twice, it is opened once.",
        .table = table,
        .n = BASE_ROWS + 2,
        .operand = &path,
        .max_operands = 1,
    };
    struct err e = {0};
    int status;

    base_rows(table, &o, false);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && !path) {
        fprintf(stderr, "muster task publish: which task?\nusage: %s\n", u.line);
        status = 2;
    } else if (status == USAGE_RUN) {
        status = publish(&o, path, &e) ? usage_fail(e.text) : 0;
    }
    opt_clear(table, u.n);
    return status;
}

/* ---- list, show ------------------------------------------------------------------------ */

static enum status fetch(const struct settings *o, enum status_view what, json_t **out,
                         struct err *e)
{
    struct look *l = NULL;
    enum status st = look_open(&l, o->dir, o->wait_ms, e);

    *out = NULL;
    if (!st)
        st = look_fetch(out, l, what, 0, o->wait_ms, e);
    look_close(&l);
    return st;
}

static enum status list(const struct settings *o, struct err *e)
{
    json_t *all, *task;
    enum status st = fetch(o, STATUS_SUMMARY, &all, e);

    if (st)
        return st;
    task = json_object_get(all, "task");
    if (json_is_object(task) && o->is_json) {
        json_object_set(task, "state", json_object_get(all, "state"));
        json_object_set(task, "version", json_object_get(all, "version"));
        json_view_print(task);
    } else if (json_is_object(task)) {
        printf("%.16s  %-20s %s, version %lld of %lld\n", json_view_text(task, "id"),
               json_view_text(task, "name"), json_view_text(all, "state"),
               json_view_int(all, "version"), json_view_int(task, "steps"));
    }
    json_decref(all);
    return OK;
}

static enum status show(const struct settings *o, struct err *e)
{
    json_t *all, *money, *task;
    enum status st = fetch(o, STATUS_TASK, &all, e);

    if (st)
        return st;
    task = json_object_get(all, "task");
    money = json_object_get(all, "money");
    if (o->is_json) {
        json_view_print(all);
    } else if (json_is_object(task)) {
        printf("task %s\n\n%s\n", json_view_text(task, "id"), json_view_text(all, "settings"));
        printf("deposit %lld ucr: escrow %lld, reserved %lld, workers %lld, validators %lld, "
               "trainer %lld, refunded %lld\n",
               json_view_int(money, "deposit"), json_view_int(money, "escrow"),
               json_view_int(money, "reserved"), json_view_int(money, "workers"),
               json_view_int(money, "validators"), json_view_int(money, "trainer"),
               json_view_int(money, "refunded"));
    } else {
        st = err_set(e, ERR_NOT_FOUND, "no task is open in this run");
    }
    json_decref(all);
    return st;
}

/* ---- close ----------------------------------------------------------------------------- */

static enum status close_task(const struct settings *o, struct err *e)
{
    struct msg_task_close m;
    struct msg_receipt r;
    struct client *c = NULL;
    struct buf body;
    json_t *all;
    enum status st = fetch(o, STATUS_SUMMARY, &all, e);

    if (st)
        return st;
    buf_init(&body, 256);
    st = digest_from_hex(&m.task, json_view_text(json_object_get(all, "task"), "id"), NULL);
    json_decref(all);
    if (st)
        st = err_set(e, ERR_NOT_FOUND, "no task is open in this run");
    if (!st)
        st = msg_task_close_encode(&body, &m, e);
    if (!st)
        st = client_open(&c, o->dir, NULL, o->wait_ms, e);
    if (!st)
        st = ask_receipt(c, MSG_TASK_CLOSE, buf_bytes(&body), o->wait_ms, &r, e);
    if (!st && o->is_json)
        printf("{\"closed\":true,\"seq\":%" PRIu64 "}\n", r.seq);
    else if (!st)
        printf("closed (ledger entry %" PRIu64 "); what was left went back to the initiator\n",
               r.seq);
    client_close(&c);
    buf_clear(&body);
    return st;
}

/* ---- the words ------------------------------------------------------------------------- */

typedef enum status task_fn(const struct settings *o, struct err *e);

static int run_word(task_fn *fn, const char *line, const char *about, int argc, char **argv)
{
    struct settings o = {0};
    struct opt table[BASE_ROWS];
    struct usage u = {.line = line, .about = about, .table = table, .n = BASE_ROWS};
    struct err e = {0};
    int status;

    base_rows(table, &o, fn != close_task);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN)
        status = fn(&o, &e) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}

static int print_words(FILE *out)
{
    fprintf(out, "usage: muster task check FILE\n"
                 "       muster task publish TASK [--dir DIR] [--join LINK]\n"
                 "       muster task list|show|close [--dir DIR]\n\n"
                 "'muster task WORD --help' tells the rest.\n");
    return out == stdout ? 0 : 2;
}

int cmd_task(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    argc--, argv++;
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        return print_words(stdout);
    if (!strcmp(word, "check"))
        return cmd_task_check(argc, argv);
    if (!strcmp(word, "publish"))
        return cmd_publish(argc, argv);
    if (!strcmp(word, "list"))
        return run_word(list, "muster task list [--dir DIR]",
                        "The tasks of a run: its one task, and how far it is.", argc, argv);
    if (!strcmp(word, "show"))
        return run_word(show, "muster task show [--dir DIR]",
                        "Every setting of the open task, and where its money is.", argc, argv);
    if (!strcmp(word, "close"))
        return run_word(
            close_task, "muster task close [--dir DIR]",
            "Ends the task now: units under way are taken back, what is left of the\n"
            "deposit goes back to the initiator.",
            argc, argv);
    if (*word)
        fprintf(stderr, "muster: 'task %s' is not a command\n", word);
    return print_words(stderr);
}
