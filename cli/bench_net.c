#include "cli/bench_net.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

#define BRIDGE    BENCH_NODES_MAX /* its namespace comes after those of the nodes */
#define NS_BYTES  32u
#define LINE_MAX_ 512u
#define WORDS_MAX 40u

static void ns_name(char out[NS_BYTES], size_t i)
{
    snprintf(out, NS_BYTES, "muster%d-%zu", (int)getpid(), i);
}

/* Runs a command given as words between single blanks, without a shell. */
static enum status run(struct err *e, const char *line)
{
    char copy[LINE_MAX_], *word[WORDS_MAX + 1], *at = copy, *save = NULL;
    size_t n = 0;
    int status = 0;
    pid_t pid;

    snprintf(copy, sizeof(copy), "%s", line);
    while (n < WORDS_MAX && (word[n] = strtok_r(at, " ", &save))) {
        at = NULL;
        n++;
    }
    word[n] = NULL;
    pid = fork();
    if (pid == 0) {
        execvp(word[0], word);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return err_set(e, ERR_IO, "cannot run '%s': %s", line, strerror(errno));
    if (status)
        return err_set(e, ERR_IO, "'%s' failed", line);
    return OK;
}

#define RUN(st, e, ...)                                                                        \
    do {                                                                                       \
        char line_[LINE_MAX_];                                                                 \
        snprintf(line_, sizeof(line_), __VA_ARGS__);                                           \
        if (!(st))                                                                             \
            (st) = run(e, line_);                                                              \
    } while (0)

static enum status shape(const char *ns, const char *device, double mbit_s, struct err *e)
{
    enum status st = OK;

    RUN(st, e, "tc -n %s qdisc add dev %s root tbf rate %.0fkbit burst 128kb latency 50ms", ns,
        device, mbit_s * 1000);
    return st;
}

static void address(char out[BENCH_ENDPOINT_BYTES], size_t i)
{
    snprintf(out, BENCH_ENDPOINT_BYTES, "10.77.%zu.%zu", i / 200, i % 200 + 10);
}

static enum status add_node(struct bench_net *net, size_t i, const char *bridge, double mbit_s,
                            struct err *e)
{
    char ns[NS_BYTES], port[NS_BYTES], ip[BENCH_ENDPOINT_BYTES], path[LINE_MAX_];
    enum status st = OK;

    ns_name(ns, i);
    address(ip, i);
    snprintf(port, sizeof(port), "p%zu", i);
    RUN(st, e, "ip netns add %s", ns);
    RUN(st, e, "ip -n %s link add %s type veth peer name eth0 netns %s", bridge, port, ns);
    RUN(st, e, "ip -n %s link set %s master br0 up", bridge, port);
    RUN(st, e, "ip -n %s addr add %s/16 dev eth0", ns, ip);
    RUN(st, e, "ip -n %s link set eth0 up", ns);
    RUN(st, e, "ip -n %s link set lo up", ns);
    RUN(st, e, "ip -n %s route change 10.77.0.0/16 dev eth0 src %s congctl cubic", ns, ip);
    if (!st)
        st = shape(ns, "eth0", mbit_s, e);
    if (!st)
        st = shape(bridge, port, mbit_s, e);
    if (st)
        return st;
    snprintf(path, sizeof(path), "/run/netns/%s", ns);
    net->fd[i] = open(path, O_RDONLY | O_CLOEXEC);
    net->n = i + 1;
    return net->fd[i] < 0 ? err_set(e, ERR_IO, "cannot open '%s': %s", path, strerror(errno))
                          : OK;
}

enum status bench_net_open(struct bench_net *net, size_t n, double mbit_s, struct err *e)
{
    char bridge[NS_BYTES];
    enum status st = OK;

    CHECK(n >= 1 && n <= BENCH_NODES_MAX);
    *net = (struct bench_net){0};
    if (geteuid() != 0)
        return err_set(e, ERR_DENIED, "network namespaces need root");
    ns_name(bridge, BRIDGE);
    RUN(st, e, "ip netns add %s", bridge);
    RUN(st, e, "ip -n %s link add br0 type bridge", bridge);
    RUN(st, e, "ip -n %s link set br0 up", bridge);
    for (size_t i = 0; !st && i < n; i++)
        st = add_node(net, i, bridge, mbit_s, e);
    if (st) {
        struct bench_net partial = {.n = n};
        for (size_t i = 0; i < n; i++)
            partial.fd[i] = i < net->n ? net->fd[i] : -1;
        bench_net_close(&partial);
        *net = (struct bench_net){0};
    }
    return st;
}

void bench_net_close(struct bench_net *net)
{
    char ns[NS_BYTES];
    size_t n = net->n;

    for (size_t i = 0; i <= n && n; i++) {
        enum status st = OK;
        struct err e;
        if (i < n && net->fd[i] >= 0)
            close(net->fd[i]);
        ns_name(ns, i < n ? i : BRIDGE);
        RUN(st, &e, "ip netns delete %s", ns);
        (void)st; /* one that is not there cannot be deleted */
    }
    *net = (struct bench_net){0};
}

void bench_net_endpoint(const struct bench_net *net, size_t i, uint16_t port,
                        char out[BENCH_ENDPOINT_BYTES])
{
    char ip[BENCH_ENDPOINT_BYTES];

    address(ip, i);
    if (net->n)
        snprintf(out, BENCH_ENDPOINT_BYTES, "tcp://%s:%u", ip, port);
    else
        snprintf(out, BENCH_ENDPOINT_BYTES, "tcp://127.0.0.1:%zu", port + i);
}

bool bench_net_enter(const struct bench_net *net, size_t i)
{
    return !net->n || setns(net->fd[i], CLONE_NEWNET) == 0;
}
