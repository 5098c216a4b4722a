#include "node/guard.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/bytes.h"

#define LOG_MODULE "node"
#include "base/log.h"

#define LOOK_MS          1000
#define LOOK_STRANGER_MS 100
#define LOG_EVERY_MS     1000

#define STRANGERS_MAX 128u
#define STRANGER_MS   30000
#define STRANGER_BYTES                                                                         \
    (64u << 10) /* a JOIN has at most 1 KiB, and is repeated every few seconds */
#define SILENT_MAX      256u
#define SILENT_MS       15000
#define KEY_CONNECTIONS 8u
#define KERNEL_BYTES                                                                           \
    (16u << 20) /* what may lie in the kernel, and in libzmq as whole messages */

struct connection {
    bool is_open;
    bool is_heard; /* a whole message came since the last look */
    int fd;
    uint64_t nth;                 /* they came in this order */
    struct sockaddr_storage from; /* a descriptor's number is soon another's */
    int64_t since_ms;
    int64_t heard_ms; /* of its last whole message; 0: none came */
    int64_t moved_ms; /* when `received` was last seen to have grown */
    uint64_t received;
    uint64_t counted; /* what `received` was at the look after the last whole message */
    struct public_key key;
};

struct guard {
    struct guard_limits limits;
    struct connection *v;     /* owned; by descriptor */
    struct connection **open; /* owned; of a look */
    size_t cap, n_open;
    int64_t look_ms, log_ms;
    uint64_t n_came, n_cut, n_logged;
};

struct guard_limits guard_limits_for(size_t max_frame, bool is_for_strangers, bool is_server)
{
    if (is_for_strangers)
        return (struct guard_limits){.is_for_strangers = true,
                                     .silent_max = STRANGERS_MAX,
                                     .per_key = STRANGERS_MAX,
                                     .silent_ms = STRANGER_MS,
                                     .unfinished_bytes = STRANGER_BYTES};
    return (struct guard_limits){.silent_max = SILENT_MAX,
                                 .per_key = KEY_CONNECTIONS,
                                 .silent_ms = is_server ? SILENT_MS : INT64_MAX,
                                 .unfinished_bytes = 2 * (uint64_t)max_frame + KERNEL_BYTES};
}

void guard_new(struct guard **out, const struct guard_limits *limits)
{
    struct guard *g = xcalloc(1, sizeof(*g));

    g->limits = *limits;
    *out = g;
}

void guard_free(struct guard **g)
{
    if (!*g)
        return;
    free((*g)->v);
    free((*g)->open);
    free(*g);
    *g = NULL;
}

size_t guard_n_open(const struct guard *g)
{
    return g->n_open;
}

uint64_t guard_n_cut(const struct guard *g)
{
    return g->n_cut;
}

/* ---- what it is told --------------------------------------------------------------------- */

/* NULL: it is not known, or was cut. */
static struct connection *find(struct guard *g, int fd)
{
    return fd >= 0 && (size_t)fd < g->cap && g->v[fd].is_open ? &g->v[fd] : NULL;
}

static bool get_peer(int fd, struct sockaddr_storage *from)
{
    socklen_t len = sizeof(*from);

    memset(from, 0, sizeof(*from));
    return getpeername(fd, (struct sockaddr *)from, &len) == 0;
}

static void make_room(struct guard *g, size_t n)
{
    size_t cap = g->cap ? g->cap : 64;

    if (n <= g->cap)
        return;
    while (cap < n)
        cap *= 2;
    g->v = xrealloc(g->v, cap * sizeof(*g->v));
    g->open = xrealloc(g->open, cap * sizeof(struct connection *));
    memset(g->v + g->cap, 0, (cap - g->cap) * sizeof(*g->v));
    g->cap = cap;
}

void guard_came(struct guard *g, int fd, int64_t now_ms)
{
    struct sockaddr_storage from;

    guard_gone(g, fd); /* the one before it */
    if (!get_peer(fd, &from))
        return; /* over already */
    make_room(g, (size_t)fd + 1);
    g->v[fd] = (struct connection){.is_open = true,
                                   .fd = fd,
                                   .nth = g->n_came++,
                                   .from = from,
                                   .since_ms = now_ms,
                                   .moved_ms = now_ms};
    g->n_open++;
    if (g->limits.is_for_strangers && g->look_ms > now_ms + LOOK_STRANGER_MS)
        g->look_ms = now_ms + LOOK_STRANGER_MS;
    if (g->n_open > g->limits.silent_max && g->n_came % g->limits.silent_max == 0)
        g->look_ms = now_ms; /* many come at once */
}

void guard_gone(struct guard *g, int fd)
{
    struct connection *c = find(g, fd);

    if (!c)
        return;
    c->is_open = false;
    g->n_open--;
}

void guard_heard(struct guard *g, int fd, const struct public_key *key, int64_t now_ms)
{
    struct connection *c = find(g, fd);

    if (!c || g->limits.is_for_strangers)
        return; /* whatever a stranger says, it is heard once */
    c->key = *key;
    c->heard_ms = now_ms;
    c->is_heard = true;
}

/* ---- cutting ----------------------------------------------------------------------------- */

static void log_cut(struct guard *g, const struct connection *c, const char *why,
                    int64_t now_ms)
{
    char text[INET6_ADDRSTRLEN] = "?";
    const void *address =
        c->from.ss_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)&c->from)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)&c->from)->sin_addr;

    if (g->log_ms && now_ms - g->log_ms < LOG_EVERY_MS)
        return;
    (void)inet_ntop(c->from.ss_family, address, text, sizeof(text));
    LOG_WARN("cut connection from=%s why=%s bytes=%" PRIu64 " n=%" PRIu64, text, why,
             c->received, g->n_cut - g->n_logged);
    g->log_ms = now_ms;
    g->n_logged = g->n_cut;
}

static void cut(struct guard *g, struct connection *c, const char *why, int64_t now_ms)
{
    (void)shutdown(c->fd, SHUT_RDWR);
    guard_gone(g, c->fd);
    g->n_cut++;
    log_cut(g, c, why, now_ms);
}

/* How much came by the connection. False: it is gone. */
static bool measure(struct connection *c, int64_t now_ms)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    struct sockaddr_storage from;

    if (!get_peer(c->fd, &from) || memcmp(&from, &c->from, sizeof(from)) != 0 ||
        getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return false;
    if (info.tcpi_bytes_received > c->received)
        c->moved_ms = now_ms;
    c->received = info.tcpi_bytes_received;
    if (c->is_heard)
        c->counted = c->received;
    c->is_heard = false;
    return true;
}

static uint64_t unfinished(const struct connection *c)
{
    return c->received - c->counted;
}

/* Those count together by which no message came, or that are of one key. */
static int compare_kind(const struct connection *x, const struct connection *y)
{
    if (!x->heard_ms != !y->heard_ms)
        return x->heard_ms ? 1 : -1;
    return x->heard_ms ? memcmp(x->key.b, y->key.b, KEY_BYTES) : 0;
}

/* Whom to miss least first: the oldest of those that said nothing, or who was heard least lately. */
static int compare(const void *a, const void *b)
{
    const struct connection *x = *(struct connection *const *)a;
    const struct connection *y = *(struct connection *const *)b;
    int kind = compare_kind(x, y);

    if (kind)
        return kind;
    if (x->heard_ms != y->heard_ms)
        return x->heard_ms < y->heard_ms ? -1 : 1;
    return x->nth < y->nth ? -1 : 1;
}

/* In g->open, sorted. How many. */
static size_t measure_all(struct guard *g, int64_t now_ms)
{
    size_t n = 0;

    for (size_t i = 0; i < g->cap; i++) {
        if (!g->v[i].is_open)
            continue;
        if (measure(&g->v[i], now_ms))
            g->open[n++] = &g->v[i];
        else
            guard_gone(g, (int)i);
    }
    if (n)
        qsort(g->open, n, sizeof(struct connection *), compare);
    return n;
}

/* Cuts what is too much of `n` that count together. */
static void trim(struct guard *g, struct connection **v, size_t n, int64_t now_ms)
{
    const bool is_key = v[0]->heard_ms != 0;
    const size_t most = is_key ? g->limits.per_key : g->limits.silent_max;
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        if (n - i > most)
            cut(g, v[i], is_key ? "key" : "many", now_ms);
        else if (!is_key && now_ms - v[i]->moved_ms >= g->limits.silent_ms)
            cut(g, v[i], "silent", now_ms);
        else
            bytes += unfinished(v[i]);
    }
    while (bytes > g->limits.unfinished_bytes) {
        struct connection *largest = NULL;

        for (size_t i = 0; i < n; i++)
            if (v[i]->is_open && (!largest || unfinished(v[i]) > unfinished(largest)))
                largest = v[i];
        bytes -= unfinished(largest);
        cut(g, largest, "unfinished", now_ms);
    }
}

/* Whatever they said. */
static void trim_strangers(struct guard *g, struct connection **v, size_t n, int64_t now_ms)
{
    for (size_t i = 0; i < n; i++) {
        if (n - i > g->limits.silent_max)
            cut(g, v[i], "many", now_ms);
        else if (v[i]->received > g->limits.unfinished_bytes)
            cut(g, v[i], "bytes", now_ms);
        else if (now_ms - v[i]->since_ms >= g->limits.silent_ms)
            cut(g, v[i], "old", now_ms);
    }
}

int64_t guard_look(struct guard *g, int64_t now_ms)
{
    int64_t every_ms = g->limits.is_for_strangers && g->n_open ? LOOK_STRANGER_MS : LOOK_MS;
    size_t n, end;

    if (now_ms < g->look_ms)
        return g->look_ms - now_ms;
    n = measure_all(g, now_ms);
    if (g->limits.is_for_strangers)
        trim_strangers(g, g->open, n, now_ms);
    for (size_t i = 0; i < n && !g->limits.is_for_strangers; i = end) {
        for (end = i + 1; end < n && !compare_kind(g->open[i], g->open[end]); end++)
            continue;
        trim(g, g->open + i, end - i, now_ms);
    }
    g->look_ms = now_ms + every_ms;
    return every_ms;
}
