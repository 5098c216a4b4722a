/*
 * cli/bench_net.h - a network of namespaces with links of a given rate, for measurements
 *
 * Each node has a network namespace of its own and one veth link to a bridge in another, shaped
 * each way by a token bucket (tc-tbf: 128 KiB of burst, 50 ms of queue). There is no delay beside
 * the queues: this kernel need not have netem. Needs root, ip and tc (iproute2).
 *
 *     bench_net_open(&net, 17, 100.0, e);      or leave it zero: everything on 127.0.0.1
 *     bench_net_endpoint(&net, i, port, text); where node i listens
 *     fork(); bench_net_enter(&net, i);        in the child, before exec
 *     bench_net_close(&net);                   the namespaces go when their processes have
 */
#ifndef CLI_BENCH_NET_H
#define CLI_BENCH_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define BENCH_NODES_MAX      64u
#define BENCH_ENDPOINT_BYTES 64u

struct bench_net {
    size_t n; /* 0: no namespaces */
    int fd[BENCH_NODES_MAX];
};

/* ERR_DENIED: not root, or the kernel has no namespaces. ERR_IO: a command of iproute2 failed. */
MUST_USE enum status bench_net_open(struct bench_net *net, size_t n, double mbit_s,
                                    struct err *e);
void bench_net_close(struct bench_net *net);
void bench_net_endpoint(const struct bench_net *net, size_t i, uint16_t port,
                        char out[BENCH_ENDPOINT_BYTES]);
/* Moves this process into the namespace of node i. Safe between fork and exec. */
bool bench_net_enter(const struct bench_net *net, size_t i);

#endif
