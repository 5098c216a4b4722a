#include "cli/tree_node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/node_figures.h"
#include "proto/digest.h"
#include "shardcast/tree_state.h"

#define LINE_BYTES 128
#define PIECE      ((size_t)1 << 18)
#define SILENCE_S  30
#define NOT_THERE  UINT64_MAX
#define PATH_BYTES 512
#define LISTED_MAX TREE_VERSIONS_MAX

/* How a fetch or a look at a list went, for the loop. */
struct outcome {
    struct outcome *next;
    bool is_list, is_ok;
    uint32_t slot;
    int64_t took_ms;
    struct tree_version v[LISTED_MAX];
    size_t n;
};

struct tree_node {
    const struct tree_node_options *opt;
    struct tree_state *state; /* NULL: the origin */
    int listener, wake[2];
    pthread_mutex_t lock;
    struct outcome *done;                   /* owned */
    struct tree_version listed[LISTED_MAX]; /* what this node's list says */
    size_t n_listed;
    atomic_uint_least64_t in, out;
    uint64_t said;
    int64_t wake_ms;
};

/* A thread's errand. */
struct errand {
    struct tree_node *node;
    struct tree_act act;
    int fd; /* of a client that was accepted */
};

/* ---- sockets ----------------------------------------------------------------------------- */

static bool address_of(const struct tree_node *t, size_t i, struct sockaddr_in *out)
{
    char endpoint[BENCH_ENDPOINT_BYTES], host[BENCH_ENDPOINT_BYTES];
    unsigned port;

    bench_net_endpoint(t->opt->net, i, t->opt->port, endpoint);
    *out = (struct sockaddr_in){.sin_family = AF_INET};
    if (sscanf(endpoint, "tcp://%63[^:]:%u", host, &port) != 2)
        return false;
    out->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

static void limit_silence(int fd)
{
    struct timeval limit = {.tv_sec = SILENCE_S};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* Connects to the server that the machine calls `server`, and asks. -1: it cannot be reached. */
static int ask(const struct tree_node *t, uint32_t server, const char *line)
{
    size_t at = t->opt->index <= t->opt->relays ? 0 : 1 + server;
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    limit_silence(fd);
    if (address_of(t, at, &address) &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line))
        return fd;
    close(fd);
    return -1;
}

static bool read_all(int fd, void *to, size_t len)
{
    while (len) {
        ssize_t n = recv(fd, to, len, 0);
        if (n <= 0)
            return false;
        to = (char *)to + n;
        len -= (size_t)n;
    }
    return true;
}

static void shard_path(const struct tree_node *t, char out[PATH_BYTES], int64_t version,
                       uint32_t index, const char *suffix)
{
    snprintf(out, PATH_BYTES, "%s/%" PRId64 ".%u%s", t->opt->dir, version, index, suffix);
}

/* ---- serving ----------------------------------------------------------------------------- */

static void serve_list(struct tree_node *t, int fd)
{
    struct tree_version v[LISTED_MAX];
    uint64_t n;

    pthread_mutex_lock(&t->lock);
    n = t->n_listed;
    memcpy(v, t->listed, sizeof(v));
    pthread_mutex_unlock(&t->lock);
    if (send(fd, &n, sizeof(n), MSG_NOSIGNAL | MSG_MORE) == sizeof(n))
        (void)!send(fd, v, n * sizeof(v[0]), MSG_NOSIGNAL);
}

static void serve_dummy(int fd)
{
    static const uint8_t zeros[PIECE];
    uint64_t left = TREE_DUMMY_BYTES;

    (void)!send(fd, &left, sizeof(left), MSG_NOSIGNAL | MSG_MORE);
    while (left) {
        ssize_t n = send(fd, zeros, left < PIECE ? left : PIECE, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        left -= (uint64_t)n;
    }
}

static void serve_shard(struct tree_node *t, int fd, int64_t version, uint32_t index)
{
    char path[PATH_BYTES];
    struct stat sb;
    uint64_t left = NOT_THERE;
    int file;

    shard_path(t, path, version, index, "");
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && fstat(file, &sb) == 0)
        left = (uint64_t)sb.st_size;
    (void)!send(fd, &left, sizeof(left), MSG_NOSIGNAL);
    while (file >= 0 && left && left != NOT_THERE) {
        ssize_t n = sendfile(fd, file, NULL, left < PIECE ? left : PIECE);
        if (n <= 0)
            break;
        left -= (uint64_t)n;
        t->out += (uint64_t)n;
    }
    if (file >= 0)
        close(file);
}

static void *serve(void *arg)
{
    struct errand *x = arg;
    char line[LINE_BYTES];
    int64_t version;
    uint32_t index;
    ssize_t n;

    limit_silence(x->fd);
    n = recv(x->fd, line, sizeof(line) - 1, 0);
    line[n > 0 ? n : 0] = '\0';
    if (!strncmp(line, "LIST", 4))
        serve_list(x->node, x->fd);
    else if (sscanf(line, "GET %" SCNd64 " %u", &version, &index) == 2 && version == TREE_DUMMY)
        serve_dummy(x->fd);
    else if (sscanf(line, "GET %" SCNd64 " %u", &version, &index) == 2)
        serve_shard(x->node, x->fd, version, index);
    close(x->fd);
    free(x);
    return NULL;
}

static void start(struct tree_node *t, void *(*fn)(void *), const struct tree_act *act, int fd)
{
    struct errand *x = xcalloc(1, sizeof(*x));
    pthread_t thread;

    x->node = t;
    x->fd = fd;
    if (act)
        x->act = *act;
    CHECK(pthread_create(&thread, NULL, fn, x) == 0);
    pthread_detach(thread);
}

static void *accept_all(void *arg)
{
    struct tree_node *t = arg;

    for (;;) {
        int fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            start(t, serve, NULL, fd);
    }
    return NULL;
}

/* ---- fetching ---------------------------------------------------------------------------- */

static void tell(struct tree_node *t, const struct outcome *o)
{
    struct outcome *copy = xmalloc(sizeof(*copy));

    *copy = *o;
    pthread_mutex_lock(&t->lock);
    copy->next = t->done;
    t->done = copy;
    pthread_mutex_unlock(&t->lock);
    (void)!write(t->wake[1], "", 1);
}

static void *list(void *arg)
{
    struct errand *x = arg;
    struct outcome o = {.is_list = true};
    uint64_t n = 0;
    int fd = ask(x->node, x->act.server, "LIST\n");

    if (fd >= 0 && read_all(fd, &n, sizeof(n)) && n <= LISTED_MAX &&
        read_all(fd, o.v, n * sizeof(o.v[0])))
        o.n = n;
    if (fd >= 0)
        close(fd);
    tell(x->node, &o);
    free(x);
    return NULL;
}

static bool receive(struct tree_node *t, int fd, int file, uint64_t left)
{
    uint8_t *piece = xmalloc(PIECE);
    bool is_ok = true;

    while (is_ok && left) {
        ssize_t n = recv(fd, piece, left < PIECE ? left : PIECE, 0);
        is_ok = n > 0 && (file < 0 || write(file, piece, (size_t)n) == n);
        if (!is_ok)
            break;
        left -= (uint64_t)n;
        t->in += file < 0 ? 0 : (uint64_t)n;
    }
    free(piece);
    return is_ok;
}

static void *fetch(void *arg)
{
    struct errand *x = arg;
    const struct tree_act *a = &x->act;
    struct outcome o = {.slot = a->slot};
    int64_t from_ms = clock_mono_ms();
    char line[LINE_BYTES], path[PATH_BYTES], part[PATH_BYTES];
    uint64_t len = 0;
    int fd, file = -1;

    snprintf(line, sizeof(line), "GET %" PRId64 " %u\n", a->version, a->index);
    shard_path(x->node, path, a->version, a->index, "");
    shard_path(x->node, part, a->version, a->index, ".part");
    fd = ask(x->node, a->server, line);
    if (a->version != TREE_DUMMY)
        file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0 && read_all(fd, &len, sizeof(len)) && len == a->bytes)
        o.is_ok = receive(x->node, fd, file, len);
    if (fd >= 0)
        close(fd);
    if (file >= 0)
        close(file);
    if (o.is_ok && file >= 0)
        o.is_ok = rename(part, path) == 0;
    o.took_ms = clock_mono_ms() - from_ms;
    tell(x->node, &o);
    free(x);
    return NULL;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void put_on_list(struct tree_node *t, int64_t version, uint64_t bytes)
{
    pthread_mutex_lock(&t->lock);
    if (t->n_listed < LISTED_MAX)
        t->listed[t->n_listed++] = (struct tree_version){version, bytes};
    pthread_mutex_unlock(&t->lock);
}

/* The shards become the file, which is hashed, at the place where the swarm has it. */
static void put_together(struct tree_node *t, int64_t version)
{
    char path[PATH_BYTES];
    struct digest_state h;
    struct digest d;
    struct buf shard;
    FILE *out;

    snprintf(path, sizeof(path), "%s/contents", t->opt->dir);
    CHECK(!file_mkdirs(path, 0700, NULL));
    snprintf(path, sizeof(path), "%s/contents/%" PRId64 "-1--1", t->opt->dir, version);
    out = fopen(path, "w");
    CHECK(out);
    digest_begin(&h, NULL);
    buf_init(&shard, TREE_SHARD_BYTES);
    for (uint32_t i = 0;; i++) {
        buf_reset(&shard);
        shard_path(t, path, version, i, "");
        if (!file_exists(path) || file_read(&shard, path, NULL))
            break;
        digest_add(&h, buf_bytes(&shard));
        CHECK(fwrite(shard.data, 1, shard.len, out) == shard.len);
    }
    digest_end(&h, &d);
    CHECK(fclose(out) == 0);
    buf_clear(&shard);
}

static void carry_out(struct tree_node *t, struct tree_out *acts)
{
    for (size_t i = 0; i < acts->n; i++) {
        const struct tree_act *a = &acts->v[i];
        switch (a->kind) {
        case TREE_LIST: start(t, list, a, -1); break;
        case TREE_FETCH: start(t, fetch, a, -1); break;
        case TREE_KNOWN:
            printf("known %" PRId64 " %" PRId64 "\n", a->version, clock_mono_us());
            put_on_list(t, a->version, a->bytes);
            break;
        case TREE_COMPLETE:
            put_together(t, a->version);
            printf("complete %" PRId64 " %" PRId64 "\n", a->version, clock_mono_us());
            break;
        case TREE_WAKE: t->wake_ms = a->at_ms; break;
        }
    }
    tree_out_clear(acts);
}

static void publish(struct tree_node *t, int64_t version, uint64_t bytes)
{
    uint64_t random = (uint64_t)t->opt->seed * 2654435761u + (uint64_t)version + 1;
    int64_t from_us = clock_mono_us();
    double from_s = figures_cpu_s();
    uint8_t *piece = xmalloc(TREE_SHARD_BYTES);

    for (uint32_t i = 0; i < tree_n_shards(bytes, TREE_SHARD_BYTES); i++) {
        uint64_t left = bytes - (uint64_t)i * TREE_SHARD_BYTES;
        size_t len = left < TREE_SHARD_BYTES ? (size_t)left : TREE_SHARD_BYTES;
        char path[PATH_BYTES];
        FILE *f;
        shard_path(t, path, version, i, "");
        f = fopen(path, "w");
        CHECK(f);
        figures_generate(piece, len, &random);
        CHECK(fwrite(piece, 1, len, f) == len && fclose(f) == 0);
    }
    free(piece);
    put_together(t, version);
    put_on_list(t, version, bytes);
    printf("published %" PRId64 " %" PRId64 " %" PRId64 " %.6f\n", version, clock_mono_us(),
           clock_mono_us(), figures_cpu_s() - from_s);
    (void)from_us;
}

static void hear(struct tree_node *t, const char *line)
{
    int64_t version;
    uint64_t bytes;

    if (!strncmp(line, "stats", 5)) {
        printf("stats bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " shards_in=%" PRIu64 " ", t->in,
               t->out, t->in / TREE_SHARD_BYTES + 1);
        figures_print(t->opt->net->n != 0);
    } else if (sscanf(line, "publish %" SCNd64 " %" SCNu64, &version, &bytes) == 2) {
        publish(t, version, bytes);
    }
}

static void take_outcomes(struct tree_node *t, struct tree_out *acts)
{
    struct outcome *o;

    pthread_mutex_lock(&t->lock);
    o = t->done;
    t->done = NULL;
    pthread_mutex_unlock(&t->lock);
    while (o) {
        struct outcome *next = o->next;
        if (o->is_list)
            tree_state_listed(t->state, o->v, o->n, clock_mono_ms(), acts);
        else
            tree_state_fetched(t->state, o->slot, o->is_ok, o->took_ms, clock_mono_ms(), acts);
        free(o);
        o = next;
    }
}

/* One line may be cut in two by the pipe: they are short, and it is told one at a time. */
static bool hear_stdin(struct tree_node *t)
{
    char text[1024], *at = text, *end;
    ssize_t n = read(0, text, sizeof(text) - 1);

    if (n <= 0)
        return false;
    text[n] = '\0';
    while ((end = strchr(at, '\n'))) {
        *end = '\0';
        hear(t, at);
        at = end + 1;
    }
    return true;
}

static void loop(struct tree_node *t)
{
    struct pollfd fd[2] = {{0, POLLIN, 0}, {t->wake[0], POLLIN, 0}};
    struct tree_out acts = {0};
    char rubbish[64];

    for (;;) {
        int64_t now_ms = clock_mono_ms();
        int64_t wait_ms = t->state && t->wake_ms < now_ms + 50 ? t->wake_ms - now_ms : 50;
        (void)poll(fd, 2, wait_ms > 0 ? (int)wait_ms : 0);
        if ((fd[0].revents & (POLLIN | POLLHUP)) && !hear_stdin(t))
            return;
        if (fd[1].revents & POLLIN)
            (void)!read(t->wake[0], rubbish, sizeof(rubbish));
        if (t->state) {
            take_outcomes(t, &acts);
            if (t->wake_ms <= clock_mono_ms())
                tree_state_tick(t->state, clock_mono_ms(), &acts);
            carry_out(t, &acts);
        }
        if (t->in + t->out != t->said)
            printf("moved %" PRIu64 " %" PRIu64 "\n", t->in, t->out);
        t->said = t->in + t->out;
    }
}

static enum status listen_at(struct tree_node *t, struct err *e)
{
    struct sockaddr_in address;
    pthread_t thread;
    int one = 1;

    t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (t->listener < 0 || !address_of(t, t->opt->index, &address))
        return err_set(e, ERR_IO, "cannot open a socket: %s", strerror(errno));
    setsockopt(t->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(t->listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(t->listener, 256) != 0)
        return err_set(e, ERR_IO, "cannot listen: %s", strerror(errno));
    CHECK(pthread_create(&thread, NULL, accept_all, t) == 0);
    pthread_detach(thread);
    return OK;
}

enum status tree_node_run(const struct tree_node_options *opt, struct err *e)
{
    static struct tree_node t; /* its threads end with the process, not with this call */
    const struct tree_options to = {
        .role = opt->index <= opt->relays ? TREE_RELAY : TREE_CLIENT,
        .n_servers = opt->index <= opt->relays ? 1 : (uint32_t)opt->relays,
        .seed = (uint64_t)opt->seed * 1000 + opt->index,
    };
    enum status st;

    t.opt = opt;
    CHECK(pthread_mutex_init(&t.lock, NULL) == 0 && pipe2(t.wake, O_CLOEXEC | O_NONBLOCK) == 0);
    st = listen_at(&t, e);
    if (st)
        return st;
    if (opt->index > 0)
        tree_state_new(&t.state, &to);
    printf("ready %" PRId64 "\n", clock_mono_us());
    loop(&t);
    fflush(stdout);
    _exit(0); /* threads may be in the middle of a transfer */
}
