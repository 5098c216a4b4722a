/*
 * Whole nodes in one process, over real sockets, each with a shell on a thread of its own
 *
 * A fixture of four, of which node 0 is the trainer. What a test does with a node's machine it does by
 * `call`, on that node's thread: there it only notes results, since cmocka fails tests on its own.
 */
#ifndef UNIT_SHARDCAST_NODES_H
#define UNIT_SHARDCAST_NODES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/shell.h"
#include "shardcast/cast.h"
#include "unit/shardcast/versions.h"

#define NODES       4u
#define KEEPS_STATE 2u

struct node;
typedef void node_fn(struct node *n, void *arg);

struct node {
    char *dir;
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    struct cast *cast;
    pthread_t thread;
    bool is_running;
    uint64_t max_bytes;    /* quota; 0: the default */
    uint64_t up_bytes_s;   /* ceiling of what it serves; 0: none */
    _Atomic(node_fn *) fn; /* to be called on the node's thread */
    void *arg;
    atomic_bool is_called;
    atomic_llong newest; /* of on_version */
    atomic_int n_versions;
    atomic_bool has_ended; /* by itself, or stopped */
    enum status st;
    struct err err;
};

struct fixture {
    struct node node[NODES];
    struct digest run;
    struct msg_roster *roster;
};

int nodes_setup(void **state);
int nodes_teardown(void **state);

void open_node(struct fixture *f, uint32_t i);
void start_node(struct fixture *f, uint32_t i);
void stop_node(struct node *n);
/* Waits for a node that ends by itself: what it ended with, n->err too. */
enum status await_end(struct node *n);
/* On its own thread: run, admitted keys, roster. `arg`: the fixture. */
void tell_roster(struct node *n, void *arg);
/* Runs fn on the node's thread, and waits for it. */
void call(struct node *n, node_fn *fn, void *arg);

/* What is published, or looked at, on a node's thread. */
struct publication {
    struct bytes envelope, file;
    enum status st;
    struct err e;
};

/* Publishes there. */
enum status try_publish(struct node *n, const struct version_made *v, struct bytes file);
void publish(struct node *n, const struct version_made *v);
/* Makes version k of that many bytes, and publishes it at the trainer. */
void publish_new(struct fixture *f, struct version_made *v, uint32_t k, size_t n_bytes,
                 uint32_t seed);
void clear_versions(struct version_made *v, size_t n);

void assert_has(struct node *n, const struct version_made *v);
/* All nodes that are open. */
bool all_have(const struct fixture *f, int64_t version);

#endif
