#include "shardcast/relay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "shardcast/station.h"

#define LOG_MODULE "relay"
#include "base/log.h"

/* The run may be over for the orchestrator while a neighbour still fetches the last version. */
#define LINGER_MS 5000

struct relay {
    struct station at;
    int64_t stop_ms; /* 0: not yet */
};

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct relay *r = ctx;

    if (!member_message(r->at.member, m, now_ms, out))
        LOG_DEBUG("ignored bytes=%zu", m->data.len);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct relay *r = ctx;

    member_tick(r->at.member, now_ms, out);
    if (r->stop_ms && r->stop_ms <= now_ms)
        shell_stop(r->at.shell);
}

static void on_version(void *ctx, int64_t version)
{
    struct relay *r = ctx;

    (void)version;
    shell_wake(r->at.part); /* HELLO reports it */
}

static void on_done(void *ctx, int64_t now_ms, struct effects *out)
{
    struct relay *r = ctx;

    LOG_INFO("done newest=%" PRId64, cast_newest(r->at.cast));
    r->stop_ms = now_ms + LINGER_MS;
    effects_timer(out, r->stop_ms);
}

enum status relay_parse_pins(int64_t version[CAST_PINS_MAX], size_t *n, const char *list,
                             struct err *e)
{
    const char *at = list;

    for (*n = 0; *at; (*n)++) {
        char *end;
        errno = 0;
        long long x = strtoll(at, &end, 10);
        if (*at < '0' || *at > '9' || errno || (*end && *end != ',') || (*end && !end[1]))
            return err_set(e, ERR_INVALID, "'%s' is no list of versions (like 0,64,128)", list);
        if (*n == CAST_PINS_MAX)
            return err_set(e, ERR_INVALID, "more than %u versions in '%s'", CAST_PINS_MAX,
                           list);
        version[*n] = x;
        at = *end ? end + 1 : end;
    }
    return OK;
}

enum status relay_run(const struct relay_options *opt, struct err *e)
{
    struct relay r = {0};
    const struct station_options so = {
        .node = &opt->node,
        .ops = {.ctx = &r, .on_message = on_message, .on_timer = on_timer},
        .cast = {.keep = opt->keep,
                 .wants_state = true,
                 .max_bytes = opt->max_bytes,
                 .ctx = &r,
                 .on_version = on_version},
        .member = {.role = ROLE_RELAY, .ctx = &r, .on_done = on_done},
    };
    enum status st = station_open(&r.at, &so, e);

    if (st)
        return st;
    st = cast_set_pins(r.at.cast, opt->pin, opt->n_pins, e);
    if (st) {
        station_close(&r.at);
        return st;
    }
    LOG_INFO("start dir=%s endpoint=%s", opt->node.dir, cast_endpoint(r.at.cast));
    st = station_run(&r.at, e);
    station_close(&r.at);
    return st;
}
