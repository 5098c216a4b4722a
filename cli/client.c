#include "cli/client.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/json_view.h"
#include "node/rpc.h"
#include "node/shell.h"
#include "shardcast/member.h"

#define RETRY_MS 1000

struct client {
    struct node_key *key; /* owned */
    struct shell *shell;  /* owned */
    struct shell_part *part;
    struct member *member; /* owned; only while joining */
    struct rpc *rpc;       /* owned */
    struct member_home home;
    uint64_t peer;
    /* the question at hand */
    enum msg_kind kind;
    struct bytes body;
    struct buf *reply;
    bool is_asked, is_answered;
    int64_t until_ms;
};

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct client *c = ctx;
    struct msg_envelope env;
    enum msg_kind asked;
    uint64_t tag;

    if (c->member) {
        (void)member_message(c->member, m, now_ms, out);
        if (member_is_admitted(c->member) && member_welcome(c->member))
            shell_stop(c->shell);
        return;
    }
    if (msg_envelope_decode(&env, m->data, NULL) || !rpc_answered(c->rpc, &env, &asked, &tag))
        return;
    buf_append(c->reply, m->data);
    c->is_answered = true;
    shell_stop(c->shell);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct client *c = ctx;

    if (now_ms >= c->until_ms) {
        shell_stop(c->shell);
        return;
    }
    effects_timer(out, c->until_ms);
    if (c->member) {
        member_tick(c->member, now_ms, out);
        return;
    }
    if (!c->is_asked && c->reply)
        c->is_asked = !rpc_ask(c->rpc, c->kind, c->body, 0, RETRY_MS, now_ms, out, NULL);
    rpc_tick(c->rpc, now_ms, out);
}

/* The orchestrator's own directory. */
static enum status home_of_server(struct member_home *h, const char *dir, struct err *e)
{
    char *path = file_join(dir, "ready.json");
    json_t *o;
    enum status st = json_view_load(&o, path, e);
    const char *control = json_view_text(o, "control");

    if (st == ERR_NOT_FOUND)
        err_set(e, st,
                "'%s' is the directory of no node: it has neither 'membership' nor "
                "'ready.json' (join first, with --join LINK)",
                dir);
    if (!st &&
        (!control[0] || strlen(control) >= sizeof(h->control) ||
         hex_decode(h->run.b, sizeof(h->run.b), json_view_text(o, "run"), NULL) ||
         hex_decode(h->transport.b, sizeof(h->transport.b), json_view_text(o, "key"), NULL)))
        st = err_set(e, ERR_CORRUPT, "'%s' does not say where the orchestrator is", path);
    if (!st)
        memcpy(h->control, control, strlen(control) + 1);
    json_decref(o);
    free(path);
    return st;
}

static enum status join(struct client *c, const char *dir, const char *link, int64_t wait_ms,
                        struct err *e)
{
    const struct member_options mo = {.role = ROLE_INITIATOR, .link = link};
    bool is_in;
    enum status st = member_new(&c->member, c->shell, c->part, NULL, c->key, dir, &mo, e);

    if (st)
        return st;
    c->until_ms = clock_mono_ms() + wait_ms;
    st = shell_run(c->shell, e);
    if (!st)
        st = member_failure(c->member, e);
    is_in = member_is_admitted(c->member);
    member_free(&c->member);
    if (!st && !is_in)
        st = err_set(e, ERR_TIMEOUT, "the orchestrator of this link did not answer");
    return st;
}

static bool has_file(const char *dir, const char *name)
{
    char *path = file_join(dir, name);
    bool found = file_exists(path);

    free(path);
    return found;
}

/* The node's directory: `dir`, or where `dir` is that of `muster up`, its initiator's. */
static char *node_dir(const char *dir)
{
    char *initiator = file_join(dir, "initiator");

    if (!has_file(dir, "membership") && !has_file(dir, "ready.json") &&
        has_file(initiator, "membership"))
        return initiator;
    free(initiator);
    return xstrdup(dir);
}

static enum status open_in(struct client **out, const char *dir, const char *link,
                           int64_t wait_ms, struct err *e)
{
    struct client *c = xcalloc(1, sizeof(*c));
    const struct shell_part_ops ops = {
        .ctx = c, .on_message = on_message, .on_timer = on_timer};
    bool has_link = link && link[0];
    uint64_t boot;
    enum status st = member_home_load(&c->home, dir, e);
    bool must_join = st && has_link;

    *out = NULL;
    if (must_join)
        st = OK;
    else if (st == ERR_NOT_FOUND)
        st = home_of_server(&c->home, dir, e);
    if (!st)
        st = member_keys(&c->key, dir, e);
    if (!st)
        st = shell_new(&c->shell, c->key, e);
    if (!st) {
        c->part = shell_add_part(c->shell, &ops, NULL, 0);
        randombytes_buf(&boot, sizeof(boot));
        rpc_new(&c->rpc, c->key, boot);
        if (must_join)
            st = join(c, dir, link, wait_ms, e);
    }
    if (!st && must_join)
        st = member_home_load(&c->home, dir, e);
    if (!st)
        st = shell_connect(c->shell, c->part, c->home.control, &c->home.transport,
                           MSG_MAX_BYTES, &c->peer, e);
    if (st) {
        client_close(&c);
        return st;
    }
    rpc_set_peer(c->rpc, c->peer);
    rpc_set_run(c->rpc, &c->home.run);
    *out = c;
    return OK;
}

enum status client_open(struct client **out, const char *dir, const char *link, int64_t wait_ms,
                        struct err *e)
{
    char *home = node_dir(dir);
    enum status st = open_in(out, home, link, wait_ms, e);

    free(home);
    return st;
}

void client_close(struct client **c)
{
    if (!*c)
        return;
    member_free(&(*c)->member);
    shell_free(&(*c)->shell);
    rpc_free(&(*c)->rpc);
    key_free(&(*c)->key);
    free(*c);
    *c = NULL;
}

const struct node_key *client_key(const struct client *c)
{
    return c->key;
}

const struct digest *client_run(const struct client *c)
{
    return &c->home.run;
}

enum status client_ask(struct client *c, enum msg_kind kind, struct bytes body, int64_t wait_ms,
                       struct buf *reply, struct msg_envelope *m, struct err *e)
{
    enum status st;

    c->kind = kind;
    c->body = body;
    c->reply = reply;
    c->is_asked = c->is_answered = false;
    c->until_ms = clock_mono_ms() + wait_ms;
    shell_wake(c->part);
    st = shell_run(c->shell, e);
    rpc_cancel(c->rpc, 0);
    c->reply = NULL;
    if (st)
        return st;
    if (!c->is_answered)
        return err_set(e, ERR_TIMEOUT, "the orchestrator at %s did not answer within %lld ms",
                       c->home.control, (long long)wait_ms);
    st = buf_status(reply, e);
    if (!st)
        st = msg_envelope_decode(m, buf_bytes(reply), e);
    if (!st && m->kind == MSG_WAIT) {
        struct msg_wait w;

        st = msg_wait_decode(&w, m->body, e);
        if (!st)
            st = err_set(e, ERR_LIMIT, "not now: %s", w.text);
    }
    if (!st && m->kind == MSG_REFUSED) {
        struct msg_refused r;

        st = msg_refused_decode(&r, m->body, e);
        if (!st)
            st = err_set(e, ERR_DENIED, "refused: %s",
                         r.text[0] ? r.text : reason_text((enum reason)r.code));
    }
    return st;
}

enum status client_status(struct client *c, enum status_view what, uint64_t number,
                          int64_t wait_ms, struct buf *json, struct err *e)
{
    const struct msg_status_ask ask = {.what = (uint32_t)what, .number = number};
    struct buf body, reply;
    struct msg_envelope m;
    struct msg_status s;
    enum status st;

    buf_init(&body, 64);
    buf_init(&reply, MSG_MAX_BYTES);
    st = msg_status_ask_encode(&body, &ask, e);
    if (!st)
        st = client_ask(c, MSG_STATUS_ASK, buf_bytes(&body), wait_ms, &reply, &m, e);
    if (!st && m.kind != MSG_STATUS)
        st = err_set(e, ERR_MALFORMED, "the orchestrator answered with %s",
                     msg_kind_name(m.kind));
    if (!st)
        st = msg_status_decode(&s, m.body, e);
    if (!st)
        buf_append(json, s.json);
    buf_clear(&body);
    buf_clear(&reply);
    return st;
}
