#include "cli/bench_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"

#define LINE_BYTES 4096u
#define LOOK_MS    100
#define LISTEN_MS  20

void bench_nodes_init(struct bench_nodes *b, const struct bench_net *net, const char *dir,
                      size_t n)
{
    CHECK(n <= BENCH_NODES_MAX);
    memset(b, 0, sizeof(*b));
    b->net = net;
    b->dir = file_join(dir, "");
    b->n = n;
    for (size_t i = 0; i < n; i++) {
        b->v[i].in = b->v[i].out = -1;
        buf_init(&b->v[i].heard, LINE_BYTES);
    }
}

void bench_nodes_clear(struct bench_nodes *b)
{
    for (size_t i = 0; i < b->n; i++) {
        bench_nodes_kill(b, i);
        buf_clear(&b->v[i].heard);
    }
    free(b->dir);
    memset(b, 0, sizeof(*b));
}

static char *node_dir(const struct bench_nodes *b, size_t i)
{
    char name[24];

    snprintf(name, sizeof(name), "%zu", i);
    return file_join(b->dir, name);
}

struct pipes {
    int in[2], out[2], log;
};

/* In the child, between fork and exec. */
static void become(const struct bench_nodes *b, size_t i, const struct pipes *p, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!bench_net_enter(b->net, i))
        _exit(126);
    dup2(p->in[0], 0);
    dup2(p->out[1], 1);
    dup2(p->log, 2);
    execv("/proc/self/exe", argv);
    _exit(127);
}

static enum status open_pipes(struct pipes *p, const char *dir, struct err *e)
{
    char *log = file_join(dir, "log");

    *p = (struct pipes){{-1, -1}, {-1, -1}, -1};
    p->log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    free(log);
    if (p->log < 0 || pipe2(p->in, O_CLOEXEC) != 0 || pipe2(p->out, O_CLOEXEC) != 0)
        return err_set(e, ERR_IO, "cannot open what a node needs below '%s': %s", dir,
                       strerror(errno));
    fcntl(p->out[0], F_SETFL, O_NONBLOCK);
    return OK;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

enum status bench_nodes_start(struct bench_nodes *b, size_t i, const char *const *args,
                              struct err *e)
{
    struct bench_node *x = &b->v[i];
    char *dir = node_dir(b, i), *argv[48];
    static char program[] = "muster", command[] = "cast-node";
    size_t n = 2;
    struct pipes p;
    enum status st = file_mkdirs(dir, 0700, e);

    argv[0] = program;
    argv[1] = command;
    while (*args && n < 47)
        argv[n++] = (char *)(uintptr_t)*args++;
    argv[n] = NULL;
    if (!st)
        st = open_pipes(&p, dir, e);
    free(dir);
    if (st)
        return st;
    x->pid = fork();
    if (x->pid == 0)
        become(b, i, &p, argv);
    close_if(p.in[0]);
    close_if(p.out[1]);
    close_if(p.log);
    x->in = p.in[1];
    x->out = p.out[0];
    x->is_ready = x->has_stats = false;
    x->complete_us = 0;
    buf_reset(&x->heard);
    return x->pid < 0 ? err_set(e, ERR_IO, "cannot fork: %s", strerror(errno)) : OK;
}

static void forget(struct bench_node *x)
{
    close_if(x->in);
    close_if(x->out);
    x->in = x->out = -1;
    x->pid = 0;
}

void bench_nodes_kill(struct bench_nodes *b, size_t i)
{
    struct bench_node *x = &b->v[i];

    if (x->pid <= 0)
        return;
    kill(x->pid, SIGKILL);
    (void)waitpid(x->pid, NULL, 0);
    forget(x);
}

void bench_nodes_watch(struct bench_nodes *b, int64_t version)
{
    b->version = version;
    for (size_t i = 0; i < b->n; i++) {
        struct bench_node *x = &b->v[i];
        x->known_us = x->complete_us = x->begun_us = x->published_us = 0;
        x->anon_peak = 0.0;
    }
}

void bench_nodes_tell(struct bench_nodes *b, size_t i, const char *line)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    ssize_t n;

    if (b->v[i].in < 0)
        return;
    sigaction(SIGPIPE, &ignore, &old);
    n = write(b->v[i].in, line, strlen(line));
    (void)n; /* a node that is gone is found by its end of the other pipe */
    sigaction(SIGPIPE, &old, NULL);
}

/* ---- hearing ----------------------------------------------------------------------------- */

static void read_stats(struct bench_stats *s, const char *text)
{
    const struct {
        const char *name;
        double *at;
    } rows[] = {
        {"cpu_s=", &s->cpu_s},     {"bytes_in=", &s->bytes_in}, {"bytes_out=", &s->bytes_out},
        {"repeats=", &s->repeats}, {"garbage=", &s->garbage},   {"timeouts=", &s->timeouts},
        {"banned=", &s->banned},   {"written=", &s->written},   {"tx_bytes=", &s->tx_bytes},
        {"found=", &s->found},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *at = strstr(text, rows[i].name);
        *rows[i].at = at ? strtod(at + strlen(rows[i].name), NULL) : 0.0;
    }
}

static void hear_line(const struct bench_nodes *b, struct bench_node *x, const char *line)
{
    int64_t version = -1, us = 0, end_us = 0;
    double one = 0.0, two = 0.0;

    if (!strncmp(line, "ready ", 6)) {
        x->is_ready = true;
        (void)sscanf(line, "ready %*d %16s", x->key);
    } else if (sscanf(line, "known %" SCNd64 " %" SCNd64, &version, &us) == 2) {
        if (version == b->version && !x->known_us)
            x->known_us = us;
    } else if (sscanf(line, "complete %" SCNd64 " %" SCNd64, &version, &us) == 2) {
        if (version == b->version)
            x->complete_us = us;
    } else if (sscanf(line, "published %" SCNd64 " %" SCNd64 " %" SCNd64 " %lf", &version, &us,
                      &end_us, &one) == 4) {
        if (version != b->version)
            return;
        x->begun_us = us;
        x->published_us = end_us;
        x->made_cpu_s = one;
    } else if (sscanf(line, "moved %lf %lf", &one, &two) == 2) {
        x->in_bytes = one;
        x->out_bytes = two;
    } else if (sscanf(line, "turned %" SCNd64, &us) == 1) {
        x->turned_us = us;
    } else if (sscanf(line, "fresh %" SCNd64 " %" SCNd64, &version, &us) == 2) {
        x->frozen_us = version ? 0 : us;
    } else if (sscanf(line, "stopped %" SCNd64 " %" SCNd64, &version, &us) == 2) {
        x->stopped_us = us;
    } else if (!strncmp(line, "stats ", 6)) {
        read_stats(&x->stats, line + 6);
        x->has_stats = true;
    } else if (!strncmp(line, "failed ", 7)) {
        snprintf(x->why, sizeof(x->why), "%s", line + 7);
        x->has_failed = true;
    }
}

static void hear_bytes(const struct bench_nodes *b, struct bench_node *x, struct bytes in)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.data[i] != '\n') {
            buf_put_u8(&x->heard, in.data[i]);
            continue;
        }
        hear_line(b, x, buf_cstr(&x->heard));
        buf_reset(&x->heard);
    }
}

/* False at its end. */
static bool hear(const struct bench_nodes *b, struct bench_node *x)
{
    uint8_t chunk[LINE_BYTES];
    ssize_t n;

    while ((n = read(x->out, chunk, sizeof(chunk))) > 0)
        hear_bytes(b, x, (struct bytes){chunk, (size_t)n});
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Memory that is no page of a file: RssAnon of proc(5). */
static void look_at_memory(struct bench_node *x)
{
    char path[64], line[256];
    FILE *f;
    double kib;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)x->pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "RssAnon: %lf", &kib) == 1 && kib * 1024 > x->anon_peak)
            x->anon_peak = kib * 1024;
    if (f)
        fclose(f);
}

static enum status ended(struct bench_nodes *b, size_t i, struct err *e)
{
    struct bench_node *x = &b->v[i];
    int status = 0;

    (void)waitpid(x->pid, &status, 0);
    forget(x);
    return err_set(e, ERR_IO, "node %zu ended with status %d: %s (its log: %s%zu/log)", i,
                   WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                   x->has_failed ? x->why : "it did not say why", b->dir, i);
}

enum status bench_nodes_listen(struct bench_nodes *b, int64_t ms, struct err *e)
{
    struct pollfd fd[BENCH_NODES_MAX];
    bool shall_look = b->looked_ms + LOOK_MS <= clock_mono_ms();

    if (shall_look)
        b->looked_ms = clock_mono_ms();
    for (size_t i = 0; i < b->n; i++)
        fd[i] = (struct pollfd){b->v[i].out, POLLIN, 0};
    (void)poll(fd, b->n, (int)ms);
    for (size_t i = 0; i < b->n; i++) {
        if (b->v[i].pid <= 0)
            continue;
        if (shall_look)
            look_at_memory(&b->v[i]);
        if (!hear(b, &b->v[i]))
            return ended(b, i, e);
    }
    return OK;
}

bool bench_nodes_all(const struct bench_nodes *b, size_t from, bench_node_fn *fn)
{
    for (size_t i = from; i < b->n; i++)
        if (b->v[i].pid > 0 && !fn(&b->v[i]))
            return false;
    return true;
}

enum status bench_nodes_await(struct bench_nodes *b, size_t from, bench_node_fn *fn,
                              double limit_s, const char *what, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + (int64_t)(limit_s * 1000);
    enum status st = OK;

    while (!st && !bench_nodes_all(b, from, fn) && clock_mono_ms() < end_ms)
        st = bench_nodes_listen(b, LISTEN_MS, e);
    if (!st && !bench_nodes_all(b, from, fn))
        st = err_set(e, ERR_TIMEOUT, "not all nodes were %s within %.0f s", what, limit_s);
    return st;
}
