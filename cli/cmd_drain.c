/*
 * muster drain: a node finishes what it has and gets no more
 */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/usage.h"

static enum status drain(const char *dir, int64_t wait_ms, struct err *e)
{
    const struct msg_drain m = {.text = "by its operator"};
    struct client *c = NULL;
    struct msg_envelope env;
    struct msg_receipt r;
    struct buf body, reply;
    enum status st;

    buf_init(&body, 1024);
    buf_init(&reply, MSG_MAX_BYTES);
    st = client_open(&c, dir, NULL, wait_ms, e);
    if (!st)
        st = msg_drain_encode(&body, &m, e);
    if (!st)
        st = client_ask(c, MSG_DRAIN, buf_bytes(&body), wait_ms, &reply, &env, e);
    if (!st)
        st = msg_receipt_decode(&r, env.body, e);
    if (!st && !r.is_accepted)
        st = err_set(e, ERR_DENIED, "refused: %s", r.text);
    client_close(&c);
    buf_clear(&body);
    buf_clear(&reply);
    return st;
}

int cmd_drain(int argc, char **argv)
{
    char *dir = NULL;
    int64_t wait_ms = 0;
    struct opt table[] = {
        {"dir", OPT_STRING, &dir, NULL, NULL, "directory of the node that is to end", false},
        {"wait-ms", OPT_INT, &wait_ms, "10000", "100..600000",
         "how long to wait for the answer", false},
    };
    struct usage u = {
        .line = "muster drain --dir DIR [options]",
        .about =
            "The worker or validator of DIR finishes and submits what it holds, gets no more\n"
            "work, and its process ends with status 0. Other roles hold no work: end their\n"
            "processes; started again, they go on where they were.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        status = drain(dir, wait_ms, &e) ? usage_fail(e.text) : 0;
        if (!status)
            printf("draining\n");
    }
    opt_clear(table, u.n);
    return status;
}
