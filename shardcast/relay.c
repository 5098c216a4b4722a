#include "shardcast/relay.h"

#include <inttypes.h>

#include "node/key.h"
#include "node/shell.h"
#include "shardcast/cast.h"
#include "shardcast/member.h"

#define LOG_MODULE "relay"
#include "base/log.h"

/* The run may be over for the orchestrator while a neighbour still fetches the last version. */
#define LINGER_MS 5000

struct relay {
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    struct cast *cast;
    struct member *member;
    int64_t stop_ms; /* 0: not yet */
};

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct relay *r = ctx;

    if (!member_message(r->member, m, now_ms, out))
        LOG_DEBUG("ignored bytes=%zu", m->data.len);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct relay *r = ctx;

    member_tick(r->member, now_ms, out);
    if (r->stop_ms && r->stop_ms <= now_ms)
        shell_stop(r->shell);
}

static void on_version(void *ctx, int64_t version)
{
    struct relay *r = ctx;

    (void)version;
    shell_wake(r->part); /* HELLO reports it */
}

static void on_done(void *ctx, int64_t now_ms, struct effects *out)
{
    struct relay *r = ctx;

    LOG_INFO("done newest=%" PRId64, cast_newest(r->cast));
    r->stop_ms = now_ms + LINGER_MS;
    effects_timer(out, r->stop_ms);
}

static enum status start(struct relay *r, const struct relay_options *opt, struct err *e)
{
    const struct shell_part_ops ops = {
        .ctx = r, .on_message = on_message, .on_timer = on_timer};
    const struct cast_options co = {.listen = opt->listen,
                                    .advertise = opt->advertise,
                                    .keep = opt->keep,
                                    .max_bytes = opt->max_bytes,
                                    .ctx = r,
                                    .on_version = on_version};
    const struct member_options mo = {
        .role = ROLE_RELAY, .link = opt->link, .ctx = r, .on_done = on_done};
    enum status st = member_keys(&r->key, opt->dir, e);

    if (!st)
        st = shell_new(&r->shell, r->key, e);
    if (st)
        return st;
    r->part = shell_add_part(r->shell, &ops, NULL, 0);
    st = cast_new(&r->cast, r->shell, r->key, opt->dir, &co, e);
    if (!st)
        st = member_new(&r->member, r->shell, r->part, r->cast, r->key, opt->dir, &mo, e);
    return st;
}

enum status relay_run(const struct relay_options *opt, struct err *e)
{
    struct relay r = {0};
    enum status st = start(&r, opt, e);

    if (!st) {
        LOG_INFO("start dir=%s endpoint=%s", opt->dir, cast_endpoint(r.cast));
        st = shell_run(r.shell, e);
    }
    if (!st)
        st = member_failure(r.member, e);
    member_free(&r.member);
    cast_free(&r.cast);
    shell_free(&r.shell);
    key_free(&r.key);
    return st;
}
