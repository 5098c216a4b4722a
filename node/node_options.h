/*
 * node/node_options.h - what every role is told on its command line
 */
#ifndef NODE_NODE_OPTIONS_H
#define NODE_NODE_OPTIONS_H

#include <stdint.h>

struct node_options {
    const char *dir;  /* keys, membership, shards, checkpoints: all that must survive */
    const char *link; /* invite link; "" once DIR is a member */
    const char
        *listen; /* where shards are served: "tcp://127.0.0.1:*"; "": on all interfaces if
                            * the orchestrator is another machine, else on the loopback */
    const char *advertise; /* host by which peers reach us; "": as bound, or if that is all
                            * interfaces the address that leads to the orchestrator; "none": nobody
                            * can */
    const char *kernels;   /* "auto", "scalar", "neon", "avx2", "avx512", "amx" */
    const char *device;    /* "cpu", "cuda", "cuda:N", "auto" */
    int64_t threads;       /* of the kernels' pool */
    double up_mbps;        /* ceilings of what shards may take of the link, in Mb/s; 0: none */
    double down_mbps;
};

#endif
