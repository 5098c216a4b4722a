/*
 * muster invite: a link by which one node may join
 */
#include <stdio.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/usage.h"

static enum status ask(const char *dir, const char *role, int64_t wait_ms, char link[512],
                       struct err *e)
{
    const struct msg_invite_ask m = {.role = (uint32_t)role_parse(role)};
    struct client *c = NULL;
    struct msg_envelope env;
    struct msg_invite answer;
    struct buf body, reply;
    enum status st;

    buf_init(&body, 64);
    buf_init(&reply, 4096);
    st = msg_invite_ask_encode(&body, &m, e);
    if (!st)
        st = client_open(&c, dir, NULL, wait_ms, e);
    if (!st)
        st = client_ask(c, MSG_INVITE_ASK, buf_bytes(&body), wait_ms, &reply, &env, e);
    if (!st && env.kind != MSG_INVITE)
        st = err_set(e, ERR_MALFORMED, "the orchestrator answered with %s",
                     msg_kind_name(env.kind));
    if (!st)
        st = msg_invite_decode(&answer, env.body, e);
    if (!st)
        snprintf(link, 512, "%s", answer.link);
    client_close(&c);
    buf_clear(&body);
    buf_clear(&reply);
    return st;
}

int cmd_invite(int argc, char **argv)
{
    char *dir = NULL, *role = NULL;
    int64_t wait_ms = 0;
    bool is_json = false;
    struct opt table[] = {
        {"dir", OPT_STRING, &dir, ".", NULL, "directory of the orchestrator or an initiator",
         false},
        {"role", OPT_CHOICE, &role, NULL, "trainer|inference|verifier|relay|initiator",
         "what the invited node will be", false},
        {"wait-ms", OPT_INT, &wait_ms, "10000", "100..600000",
         "how long to wait for the answer", false},
        {"json", OPT_FLAG, &is_json, "false", NULL, "one JSON object", false},
    };
    struct usage u = {
        .line = "muster invite --role ROLE [--dir DIR]",
        .about =
            "Makes a link that admits one node in this role; 'muster join LINK' uses it up.\n"
            "Whoever has the link can join: pass it on like a password.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    char link[512];
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        status = 0;
        if (ask(dir, role, wait_ms, link, &e))
            status = usage_fail(e.text);
        else if (is_json)
            printf("{\"role\":\"%s\",\"link\":\"%s\"}\n", role, link);
        else
            printf("%s\n", link);
    }
    opt_clear(table, u.n);
    return status;
}
