#include "shardcast/tree_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define RELAY_POLL_MS  30000
#define CLIENT_POLL_MS 5000
#define AT_ONCE        10u
#define ALPHA          0.3
#define HEAL           0.01
#define RATE_OF_FAILED 30.0 /* the package feeds its time-out, in seconds, as MB/s */
#define RETRY_MS       2000
#define RETRY_LONG_MS  15000
#define QUICK_RETRIES  3u
#define NEVER_MS       INT64_MAX

struct server {
    double rate, success; /* MB/s; 0..1 */
};

/* One of the threads that fetch. */
struct slot {
    bool is_busy;   /* it has a shard, */
    bool is_out;    /* and a TREE_FETCH is out for it */
    int64_t try_ms; /* otherwise: when it is tried again */
    uint32_t server, index, failures;
    int64_t version;
};

struct tree_state {
    struct tree_options opt;
    struct rng rng;
    struct server server[TREE_SERVERS_MAX];
    struct slot slot[TREE_AT_ONCE_MAX + TREE_SERVERS_MAX]; /* the dummies have their own */
    uint32_t n_slots;
    struct tree_version todo[TREE_VERSIONS_MAX]; /* in the order they will be fetched */
    size_t n_todo;
    uint32_t next, n_here; /* of todo[0]: shards begun, and here */
    int64_t newest;        /* known; -1: none */
    int64_t poll_ms;       /* when to look at a list next */
    bool has_begun;
};

static struct tree_act *add(struct tree_out *out, enum tree_act_kind kind)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->v = xrealloc(out->v, out->cap * sizeof(*out->v));
    }
    struct tree_act *a = &out->v[out->n++];
    *a = (struct tree_act){.kind = kind};
    return a;
}

void tree_out_clear(struct tree_out *l)
{
    free(l->v);
    *l = (struct tree_out){0};
}

uint32_t tree_n_shards(uint64_t bytes, uint64_t shard_bytes)
{
    return (uint32_t)((bytes + shard_bytes - 1) / shard_bytes);
}

void tree_state_new(struct tree_state **out, const struct tree_options *opt)
{
    struct tree_state *s = xcalloc(1, sizeof(*s));

    CHECK(opt->n_servers >= 1 && opt->n_servers <= TREE_SERVERS_MAX);
    CHECK(opt->at_once <= TREE_AT_ONCE_MAX);
    s->opt = *opt;
    if (!s->opt.shard_bytes)
        s->opt.shard_bytes = TREE_SHARD_BYTES;
    if (!s->opt.at_once)
        s->opt.at_once = AT_ONCE;
    if (!s->opt.poll_ms)
        s->opt.poll_ms = opt->role == TREE_RELAY ? RELAY_POLL_MS : CLIENT_POLL_MS;
    s->rng = rng_of(opt->seed, 0x7265);
    s->n_slots = s->opt.at_once;
    s->newest = -1;
    for (uint32_t i = 0; i < opt->n_servers; i++)
        s->server[i] = (struct server){1.0, 1.0};
    *out = s;
}

void tree_state_free(struct tree_state **s)
{
    free(*s);
    *s = NULL;
}

/* ---- servers ----------------------------------------------------------------------------- */

static double weight(const struct server *x)
{
    return x->rate * x->success;
}

static uint32_t draw_server(struct tree_state *s)
{
    double sum = 0.0, at;

    for (uint32_t i = 0; i < s->opt.n_servers; i++)
        sum += weight(&s->server[i]);
    at = sum * (double)rng_u32(&s->rng) / 4294967296.0;
    for (uint32_t i = 0; i + 1 < s->opt.n_servers; i++) {
        at -= weight(&s->server[i]);
        if (at < 0.0)
            return i;
    }
    return s->opt.n_servers - 1;
}

static void learn(struct tree_state *s, uint32_t server, bool is_ok, double rate)
{
    struct server *x = &s->server[server];

    x->rate += ALPHA * ((is_ok ? rate : RATE_OF_FAILED) - x->rate);
    x->success += ALPHA * ((is_ok ? 1.0 : 0.0) - x->success);
    for (uint32_t i = 0; i < s->opt.n_servers; i++) {
        s->server[i].success += HEAL;
        if (s->server[i].success > 1.0)
            s->server[i].success = 1.0;
    }
}

/* ---- fetching ---------------------------------------------------------------------------- */

static uint64_t length_of(const struct tree_state *s, const struct tree_version *v,
                          uint32_t index)
{
    uint64_t left = v->bytes - (uint64_t)index * s->opt.shard_bytes;

    return left < s->opt.shard_bytes ? left : s->opt.shard_bytes;
}

static void send_out(struct tree_state *s, uint32_t i, uint64_t bytes, struct tree_out *out)
{
    struct slot *x = &s->slot[i];
    struct tree_act *a = add(out, TREE_FETCH);

    x->is_out = true;
    a->slot = i;
    a->server = x->server;
    a->version = x->version;
    a->index = x->index;
    a->bytes = bytes;
}

/* Hands shards to the threads that are free, in order. */
static void fetch(struct tree_state *s, int64_t now_ms, struct tree_out *out)
{
    const struct tree_version *v = s->todo;
    uint32_t n = s->n_todo ? tree_n_shards(v->bytes, s->opt.shard_bytes) : 0;

    for (uint32_t i = 0; i < s->opt.at_once; i++) {
        struct slot *x = &s->slot[i];
        if (x->is_busy && !x->is_out && x->try_ms <= now_ms) {
            x->server = draw_server(s);
            send_out(s, i, length_of(s, v, x->index), out);
        } else if (!x->is_busy && s->next < n) {
            *x = (struct slot){.is_busy = true,
                               .server = draw_server(s),
                               .index = s->next++,
                               .version = v->version};
            send_out(s, i, length_of(s, v, x->index), out);
        }
    }
}

static void finish(struct tree_state *s, struct tree_out *out)
{
    if (!s->n_todo || s->n_here < tree_n_shards(s->todo->bytes, s->opt.shard_bytes))
        return;
    add(out, TREE_COMPLETE)->version = s->todo->version;
    s->n_todo--;
    memmove(s->todo, s->todo + 1, s->n_todo * sizeof(*s->todo));
    s->next = s->n_here = 0;
}

static void settle(struct tree_state *s, int64_t now_ms, struct tree_out *out)
{
    int64_t due_ms = s->poll_ms;

    finish(s, out);
    fetch(s, now_ms, out);
    for (uint32_t i = 0; i < s->opt.at_once; i++)
        if (s->slot[i].is_busy && !s->slot[i].is_out && s->slot[i].try_ms < due_ms)
            due_ms = s->slot[i].try_ms;
    add(out, TREE_WAKE)->at_ms = due_ms;
}

/* ---- inputs ------------------------------------------------------------------------------ */

static void begin(struct tree_state *s, int64_t now_ms, struct tree_out *out)
{
    s->has_begun = true;
    s->poll_ms = now_ms + rng_u32(&s->rng) % s->opt.poll_ms;
    for (uint32_t i = 0; i < s->opt.n_servers; i++) {
        s->slot[s->n_slots + i] =
            (struct slot){.is_busy = true, .server = i, .version = TREE_DUMMY};
        send_out(s, s->n_slots + i, TREE_DUMMY_BYTES, out);
    }
}

void tree_state_tick(struct tree_state *s, int64_t now_ms, struct tree_out *out)
{
    if (!s->has_begun)
        begin(s, now_ms, out);
    /* A node that is busy with a version looks at no list: its loop is that of one thread. */
    if (s->poll_ms <= now_ms && !s->n_todo) {
        add(out, TREE_LIST)->server = draw_server(s);
        s->poll_ms = now_ms + s->opt.poll_ms;
    } else if (s->poll_ms <= now_ms) {
        s->poll_ms = now_ms + 1000;
    }
    settle(s, now_ms, out);
}

void tree_state_listed(struct tree_state *s, const struct tree_version *v, size_t n,
                       int64_t now_ms, struct tree_out *out)
{
    size_t from = s->opt.role == TREE_CLIENT && n ? n - 1 : 0;

    for (size_t i = from; i < n && s->n_todo < TREE_VERSIONS_MAX; i++) {
        if (v[i].version <= s->newest || v[i].bytes == 0)
            continue;
        s->newest = v[i].version;
        s->todo[s->n_todo++] = v[i];
        struct tree_act *a = add(out, TREE_KNOWN);
        a->version = v[i].version;
        a->bytes = v[i].bytes;
    }
    settle(s, now_ms, out);
}

void tree_state_fetched(struct tree_state *s, uint32_t slot, bool is_ok, int64_t took_ms,
                        int64_t now_ms, struct tree_out *out)
{
    struct slot *x = &s->slot[slot];
    bool is_dummy = slot >= s->n_slots;

    CHECK(slot < s->n_slots + s->opt.n_servers && x->is_out);
    x->is_out = false;
    uint64_t bytes = is_dummy ? TREE_DUMMY_BYTES : length_of(s, s->todo, x->index);
    double rate = (double)bytes / 1e3 / (double)(took_ms > 0 ? took_ms : 1);
    if (is_dummy) {
        x->is_busy = false;
        s->server[x->server] =
            (struct server){is_ok ? rate : RATE_OF_FAILED, is_ok ? 1.0 : 0.0};
        settle(s, now_ms, out);
        return;
    }
    learn(s, x->server, is_ok, rate);
    if (is_ok) {
        x->is_busy = false;
        s->n_here++;
    } else {
        x->failures++;
        x->try_ms =
            now_ms +
            (x->failures % 5 <= QUICK_RETRIES && x->failures % 5 ? RETRY_MS : RETRY_LONG_MS);
    }
    settle(s, now_ms, out);
}
