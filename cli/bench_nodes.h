/*
 * cli/bench_nodes.h - the processes of a measurement: starting them, hearing them, watching them
 *
 * Each is this program as `muster cast-node`, which answers lines on stdin with lines on stdout
 * (cli/cmd_cast_node.c). Its log is in DIR/<i>/log. All die with their parent.
 *
 * Threads: one.
 */
#ifndef CLI_BENCH_NODES_H
#define CLI_BENCH_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/status.h"
#include "cli/bench_net.h"

/* What a node reported of itself, on `stats`. */
struct bench_stats {
    double cpu_s, bytes_in, bytes_out, repeats, garbage, timeouts, banned;
    double written;  /* bytes given to the disk, less those taken back before they got there */
    double tx_bytes; /* of its link, headers included */
    double found;    /* bytes of the version that were on disk when it started */
};

struct bench_node {
    pid_t pid;    /* 0: not running */
    char key[17]; /* as logs name it; "": not said yet */
    int in, out;
    struct buf heard; /* owned: an unfinished line */
    bool is_ready, has_failed;
    int64_t known_us, complete_us;  /* of the version that is watched; 0: not yet */
    int64_t begun_us, published_us; /* when the trainer began to make it, and was done */
    int64_t turned_us;              /* when it said that it does as it was told */
    int64_t frozen_us, stopped_us;  /* when it noticed; 0: it did not */
    double made_cpu_s;              /* what making it took the trainer */
    double in_bytes, out_bytes;     /* verified and stored; served: by its last word */
    double anon_peak;               /* bytes of memory beyond page cache, the most seen */
    bool has_stats;
    struct bench_stats stats;
    char why[256]; /* has_failed */
};

struct bench_nodes {
    struct bench_node v[BENCH_NODES_MAX];
    size_t n;
    int64_t looked_ms;           /* when memory was looked at last */
    int64_t version;             /* what it says of others is not heard */
    const struct bench_net *net; /* borrowed */
    char *dir;                   /* owned */
};

void bench_nodes_init(struct bench_nodes *b, const struct bench_net *net, const char *dir,
                      size_t n);
void bench_nodes_clear(struct bench_nodes *b); /* SIGKILL to those that run */

/* From now on `version` is watched: what was noted of another is forgotten. */
void bench_nodes_watch(struct bench_nodes *b, int64_t version);
/* Starts node i in its namespace with its directory made, and forgets that it was ready or
 * complete in an earlier life. `args` follow "muster cast-node" and are NULL-terminated. */
MUST_USE enum status bench_nodes_start(struct bench_nodes *b, size_t i, const char *const *args,
                                       struct err *e);
void bench_nodes_kill(struct bench_nodes *b, size_t i); /* SIGKILL, and waits */
/* A line to node i. One that died is found out by listening. */
void bench_nodes_tell(struct bench_nodes *b, size_t i, const char *line);
/* Hears what they say for up to `ms`, and looks how much memory they have. ERR_IO naming the node
 * when one has ended that was not killed. */
MUST_USE enum status bench_nodes_listen(struct bench_nodes *b, int64_t ms, struct err *e);

typedef bool bench_node_fn(const struct bench_node *x);
/* Whether it holds of all from node `from` on that run. */
bool bench_nodes_all(const struct bench_nodes *b, size_t from, bench_node_fn *fn);
/* Listens until it does. ERR_TIMEOUT: "not all nodes were `what`". */
MUST_USE enum status bench_nodes_await(struct bench_nodes *b, size_t from, bench_node_fn *fn,
                                       double limit_s, const char *what, struct err *e);

#endif
