/*
 * cli/bench_shardcast.c - muster bench shardcast: weights to many nodes, beside the bound
 *
 * Starts real nodes of this program, publishes a version at the first, and waits until all have
 * it. With F bytes, N receivers, links of d down and u up, and the trainer's of U:
 *
 *   T_LB = max( F / U, F / d, N F / (U + sum of u) )        (Kumar & Ross 2006)
 *
 * Rates are of the link, headers included, so a perfect transfer reaches some 0.95 of it.
 */
#include "cli/bench_shardcast.h"

#include <ftw.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/bench_attack.h"
#include "cli/bench_line.h"
#include "cli/bench_nodes.h"
#include "cli/usage.h"
#include "proto/content.h"
#include "proto/types.h"
#include "shardcast/cast_state.h"

#define WARM_UP_BYTES 65536
#define RUNS_MAX      32
#define LISTEN_MS     20
#define SLOW_MBPS     0.1
#define PATIENCE      20 /* times the bound, and then it failed */

struct bench {
    int64_t nodes, mib, runs, seed, port, relays;
    double rate, cap, origin_cap, kill_origin_at;
    bool is_netns, is_kept, shall_kill_half, shall_kill_apply, is_writing, is_delta;
    char *dir, *mode, *attack_text;
    struct bench_attack attack;
    double bytes, bound_s; /* of this measurement */
    size_t n_bad;
    double killed_at; /* bytes that node 1 had verified; 0: it was not killed */
    struct bench_nodes at;
    struct bench_net net;
};

struct result {
    double p50_s, p99_s, max_s, known_s;
    double whole_s;      /* until the last had the weights without a patch */
    double origin_share; /* bytes it sent of shards, over the file */
    double origin_link_share;
    double cpu_per_gb_sent, cpu_per_gb_received;
    double anon_peak, written_share, garbage_share, repeats_share, refetched_share;
    double bad_max_s; /* until the last liar had the file */
    double n_named, n_wrongly_named;
    struct bench_attack_result attack;
};

static void progress(const char *what)
{
    fprintf(stderr, "%s\n", what);
}

/* ---- starting ---------------------------------------------------------------------------- */

static bool is_tree(const struct bench *b)
{
    return !strcmp(b->mode, "relay");
}

static bool is_bad(const struct bench *b, size_t i)
{
    return bench_attack_is_bad(&b->attack, (size_t)b->nodes, i);
}

static enum status start_node(struct bench *b, size_t i, struct err *e)
{
    char index[24], nodes[24], seed[24], port[24], rate[24], relays[24], cap[24], *dir;
    enum status st;

    snprintf(index, sizeof(index), "%zu", i);
    snprintf(nodes, sizeof(nodes), "%d", (int)b->nodes);
    snprintf(seed, sizeof(seed), "%d", (int)b->seed);
    snprintf(port, sizeof(port), "%d", (int)b->port);
    snprintf(rate, sizeof(rate), "%.6f", b->is_writing ? b->rate : 0.0);
    snprintf(relays, sizeof(relays), "%d", is_tree(b) ? (int)b->relays : 0);
    snprintf(cap, sizeof(cap), "%.6f",
             is_bad(b, i) && b->attack.is_slow ? SLOW_MBPS
             : i == 0 && b->origin_cap > 0.0   ? b->origin_cap
                                               : b->cap);
    dir = file_join(b->at.dir, index);
    const char *args[] = {
        "--dir",        dir,    "--index",   index,
        "--nodes",      nodes,  "--seed",    seed,
        "--port",       port,   "--network", b->is_netns ? "netns" : "loopback",
        "--write-rate", rate,   "--up-mbps", cap,
        "--relays",     relays, NULL};
    st = bench_nodes_start(&b->at, i, args, e);
    free(dir);
    return st;
}

static bool is_ready(const struct bench_node *x)
{
    return x->is_ready;
}

static bool is_complete(const struct bench_node *x)
{
    return x->complete_us != 0;
}

static bool has_stats(const struct bench_node *x)
{
    return x->has_stats;
}

static enum status ask_stats(struct bench *b, struct bench_stats *out, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < b->at.n; i++) {
        b->at.v[i].has_stats = false;
        bench_nodes_tell(&b->at, i, "stats\n");
    }
    st = bench_nodes_await(&b->at, 0, has_stats, 30, "ready to tell what they did", e);
    for (size_t i = 0; i < b->at.n; i++)
        out[i] = b->at.v[i].stats;
    return st;
}

/* Everybody is linked when a small version has reached everybody. */
static enum status start_all(struct bench *b, struct err *e)
{
    char line[64];
    enum status st = OK;

    for (size_t i = 0; !st && i < (size_t)b->nodes; i++)
        st = start_node(b, i, e);
    if (!st)
        st = bench_nodes_await(&b->at, 0, is_ready, 30, "ready", e);
    if (st)
        return st;
    bench_nodes_watch(&b->at, 0);
    snprintf(line, sizeof(line), "publish 0 %d\n", WARM_UP_BYTES);
    bench_nodes_tell(&b->at, 0, line);
    st = bench_nodes_await(&b->at, 1, is_complete, 120, "linked", e);
    return st ? st : bench_attack_begin(&b->attack, &b->at, e);
}

/* ---- one run ----------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The smallest value that a share q of them do not exceed. Sorts. */
static double quantile(double *v, size_t n, double q)
{
    size_t k = (size_t)ceil(q * (double)n);

    qsort(v, n, sizeof(*v), compare_doubles);
    return v[k ? k - 1 : 0];
}

static void fill_times(const struct bench *b, struct result *r)
{
    double took[BENCH_NODES_MAX], known = 0.0;
    int64_t from_us = b->at.v[0].begun_us;
    size_t n = 0;

    for (size_t i = 1; i < b->at.n; i++) {
        const struct bench_node *x = &b->at.v[i];
        double s = 1e-6 * (double)(x->complete_us - from_us);
        if (is_bad(b, i))
            r->bad_max_s = fmax(r->bad_max_s, s);
        else
            took[n++] = s;
        known = fmax(known, 1e-6 * (double)(x->known_us - from_us));
    }
    r->p50_s = quantile(took, n, 0.5);
    r->p99_s = quantile(took, n, 0.99);
    r->max_s = quantile(took, n, 1.0);
    r->known_s = known;
}

static void fill_costs(const struct bench *b, const struct bench_stats *before,
                       const struct bench_stats *after, struct result *r)
{
    double cpu = 0.0, in = 0.0, out = 0.0, garbage = 0.0, repeats = 0.0;
    const double shard = content_shard_bytes((uint64_t)b->bytes);

    for (size_t i = 0; i < b->at.n; i++) {
        r->anon_peak = fmax(r->anon_peak, b->at.v[i].anon_peak);
        garbage += (after[i].garbage - before[i].garbage) * shard;
        repeats += (after[i].repeats - before[i].repeats) * shard;
        if (i == 0)
            continue;
        cpu += after[i].cpu_s - before[i].cpu_s;
        in += after[i].bytes_in - before[i].bytes_in;
        out += after[i].bytes_out - before[i].bytes_out;
        r->written_share =
            fmax(r->written_share, (after[i].written - before[i].written) / b->bytes);
    }
    double sent = after[0].bytes_out - before[0].bytes_out;
    r->garbage_share = garbage / (b->bytes * (double)(b->at.n - 1));
    r->repeats_share = repeats / (b->bytes * (double)(b->at.n - 1));
    if (sent <= 0.0)
        return; /* the origin was killed, and can tell nothing any more */
    r->origin_share = sent / b->bytes;
    r->origin_link_share = (after[0].tx_bytes - before[0].tx_bytes) / b->bytes;
    r->cpu_per_gb_sent =
        (after[0].cpu_s - before[0].cpu_s - b->at.v[0].made_cpu_s) / (sent / 1e9);
    r->cpu_per_gb_received = (cpu - r->cpu_per_gb_sent * out / 1e9) / (in / 1e9);
}

/* Node 1 makes version 2 from the patch now. */
static bool is_applying(const struct bench *b)
{
    char name[64], *path;
    bool is;

    snprintf(name, sizeof(name), "1/contents/2-%d--1.made", CONTENT_FULL);
    path = file_join(b->at.dir, name);
    is = file_exists(path);
    free(path);
    return is;
}

static bool shall_kill_now(const struct bench *b, const struct bench_stats *before)
{
    if (b->killed_at > 0.0)
        return false;
    return (b->shall_kill_half && b->at.v[1].in_bytes - before[1].bytes_in >= b->bytes / 2) ||
           (b->shall_kill_apply && is_applying(b));
}

static enum status do_faults(struct bench *b, struct bench_stats *before, struct err *e)
{
    struct bench_node *origin = &b->at.v[0], *victim = &b->at.v[1];

    if (b->kill_origin_at > 0.0 && origin->pid > 0 &&
        origin->out_bytes - before[0].bytes_out >= b->kill_origin_at * b->bytes) {
        progress("the origin is killed");
        bench_nodes_kill(&b->at, 0);
    }
    if (!shall_kill_now(b, before))
        return OK;
    progress("node 1 is killed, and started again");
    bench_nodes_kill(&b->at, 1);
    b->killed_at = victim->in_bytes;
    before[1] = (struct bench_stats){0};
    return start_node(b, 1, e);
}

static enum status await_all(struct bench *b, struct bench_stats *before, struct err *e)
{
    double limit_s = 30 + PATIENCE * b->bound_s;
    int64_t end_ms = clock_mono_ms() + (int64_t)(limit_s * 1000);
    enum status st = OK;

    while (!st && !bench_nodes_all(&b->at, 1, is_complete) && clock_mono_ms() < end_ms) {
        st = bench_nodes_listen(&b->at, LISTEN_MS, e);
        if (!st)
            st = do_faults(b, before, e);
    }
    if (!st && !bench_nodes_all(&b->at, 1, is_complete))
        st = err_set(e, ERR_TIMEOUT, "not all nodes had the file within %.0f s", limit_s);
    return st;
}

/* Of what it had verified when it was killed: what it did not find, and what it fetched again. */
static double refetched(const struct bench *b, const struct bench_stats *after)
{
    return (fmax(0.0, b->killed_at - after->found) +
            fmax(0.0, after->found + after->bytes_in - b->bytes - WARM_UP_BYTES)) /
           b->killed_at;
}

/* Byte by byte, the liars' too. */
static enum status compare_files(const struct bench *b, int version, struct err *e)
{
    struct file_map first = {0}, other;
    enum status st = OK;

    for (size_t i = 0; !st && i < b->at.n; i++) {
        char name[64], *path;
        snprintf(name, sizeof(name), "%zu/contents/%d-%d--1", i, version, CONTENT_FULL);
        path = file_join(b->at.dir, name);
        st = file_map_open(i ? &other : &first, path, e);
        if (!st && i && !bytes_equal(first.bytes, other.bytes))
            st = err_set(e, ERR_CORRUPT, "'%s' is not what was published", path);
        if (!st && i)
            file_map_close(&other);
        free(path);
    }
    file_map_close(&first);
    return st;
}

/* Tells the origin to publish a version, and waits until all have it. */
static enum status measure(struct bench *b, int version, const char *line, struct result *r,
                           struct err *e)
{
    struct bench_stats before[BENCH_NODES_MAX], after[BENCH_NODES_MAX];
    struct bench_attack_named named;
    enum status st = ask_stats(b, before, e);

    if (st)
        return st;
    bench_nodes_watch(&b->at, version);
    bench_nodes_tell(&b->at, 0, line);
    st = await_all(b, before, e);
    if (!st)
        st = ask_stats(b, after, e);
    if (st)
        return st;
    fill_times(b, r);
    fill_costs(b, before, after, r);
    bench_attack_named(&b->attack, &b->at, &named);
    r->n_named = (double)named.liars;
    r->n_wrongly_named = (double)named.others;
    if (b->kill_origin_at > 0.0 && b->at.v[0].pid > 0)
        progress("all had the file before the origin had sent so much: it was not killed");
    if (b->shall_kill_half && b->killed_at <= 0.0)
        return err_set(e, ERR_INVALID, "all was over before anybody could be killed");
    if (b->shall_kill_half)
        r->refetched_share = refetched(b, &after[1]);
    return compare_files(b, version, e);
}

/* Weights as a whole, then what a step made of them, as a patch: from the moment the trainer has them
 * to that at which everybody can use them. */
static enum status measure_delta(struct bench *b, struct result *r, struct err *e)
{
    struct result whole = {0};
    char line[64];
    enum status st;

    snprintf(line, sizeof(line), "weights 1 %.0f\n", b->bytes);
    st = measure(b, 1, line, &whole, e);
    if (!st)
        st = measure(b, 2, "step 2\n", r, e);
    r->whole_s = whole.max_s;
    return st;
}

static enum status measure_whole(struct bench *b, struct result *r, struct err *e)
{
    char line[64];

    snprintf(line, sizeof(line), "publish 1 %.0f\n", b->bytes);
    return measure(b, 1, line, r, e);
}

static enum status restart(void *arg, size_t i, struct err *e)
{
    return start_node(arg, i, e);
}

static enum status measure_one(struct bench *b, struct result *r, struct err *e)
{
    switch (b->attack.course) {
    case BENCH_ATTACK_EQUIVOCATE:
        return bench_attack_equivocate(&b->at, b->bytes, restart, b, &r->attack, e);
    case BENCH_ATTACK_FREEZE:
        return bench_attack_freeze(&b->at, b->bytes, 30 + PATIENCE * b->bound_s, &r->attack, e);
    case BENCH_ATTACK_NONE:
    case BENCH_ATTACK_SHARE: break;
    }
    return b->is_delta ? measure_delta(b, r, e) : measure_whole(b, r, e);
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

static enum status run_once(struct bench *b, int64_t number, struct result *r, struct err *e)
{
    char name[32], *dir;
    enum status st;

    snprintf(name, sizeof(name), "run%d-%d", (int)getpid(), (int)number);
    dir = file_join(b->dir, name);
    memset(r, 0, sizeof(*r));
    b->killed_at = 0.0;
    bench_nodes_init(&b->at, &b->net, dir, (size_t)b->nodes);
    st = start_all(b, e);
    if (!st)
        st = measure_one(b, r, e);
    bench_nodes_clear(&b->at);
    if (!b->is_kept && !st)
        (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* what stays is seen in --dir */
    free(dir);
    return st;
}

/* ---- the figures ------------------------------------------------------------------------- */

static double bound_of(const struct bench *b)
{
    double rate = b->rate * 1e6 / 8, n = (double)b->nodes - 1;
    double all_up = rate * (double)((size_t)b->nodes - b->n_bad);

    return fmax(b->bytes / rate, n * b->bytes / all_up);
}

static void print_run(const struct bench *b, int64_t number, const struct result *r)
{
    fprintf(
        stderr,
        "run %d: bound %.2f s; p50 %.2f, p99 %.2f, max %.2f s; known %.3f s; origin %.2f of "
        "the file (link %.2f)\n"
        "       cpu s/GB sent %.2f, received %.2f; memory %.1f MiB; written %.3f; garbage "
        "%.4f, repeats %.4f, refetched %.4f\n"
        "       named: %.0f of %zu liars, who had the file after %.2f s, and %.0f others\n",
        (int)number, b->bound_s, r->p50_s, r->p99_s, r->max_s, r->known_s, r->origin_share,
        r->origin_link_share, r->cpu_per_gb_sent, r->cpu_per_gb_received,
        r->anon_peak / (1 << 20), r->written_share, r->garbage_share, r->repeats_share,
        r->refetched_share, r->n_named, b->n_bad, r->bad_max_s, r->n_wrongly_named);
}

/* One figure over all runs: `q` 0.5 for what a run usually is, 1 for the worst. */
static double over(const struct result *r, size_t n, size_t offset, double q)
{
    double v[RUNS_MAX];

    for (size_t i = 0; i < n; i++)
        memcpy(&v[i], (const char *)&r[i] + offset, sizeof(v[i]));
    return quantile(v, n, q);
}

#define OVER(field, q) over(r, n, offsetof(struct result, field), q)

static void print_line(const char *name, double value, const char *unit, double target,
                       bool at_most)
{
    const struct bench_line line = {
        .name = name, .value = value, .unit = unit, .target = target, .at_most = at_most};

    bench_line_print(&line);
}

static void print_delta(const struct bench *b, const struct result *r, size_t n)
{
    const struct bench_line patch = {.name = "shardcast_switched_by_patch",
                                     .value = OVER(max_s, 0.5),
                                     .unit = "s",
                                     .peer = "whole",
                                     .peer_value = OVER(whole_s, 0.5)};

    print_line("shardcast_bound", b->bound_s, "s", 0, false);
    print_line("shardcast_switched_by_whole", OVER(whole_s, 0.5), "s", 0, false);
    bench_line_print(&patch);
    print_line("shardcast_switched_by_patch_worst", OVER(max_s, 1), "s", 0, false);
    print_line("shardcast_patch_origin_sent_worst", OVER(origin_share, 1), "files", 0, true);
}

/* Of the tree only how long it takes: it is there for comparison. */
static void print_tree(const struct bench *b, const struct result *r, size_t n)
{
    print_line("relay_tree_bound", b->bound_s, "s", 0, false);
    print_line("relay_tree_p50_over_bound", OVER(p50_s, 0.5) / b->bound_s, "", 0, true);
    print_line("relay_tree_p99_over_bound", OVER(p99_s, 0.5) / b->bound_s, "", 0, true);
    print_line("relay_tree_known_worst", OVER(known_s, 1), "s", 0, true);
}

static void print_figures(const struct bench *b, const struct result *r, size_t n)
{
    double honest = b->n_bad ? 1.25 : 0.0;

    print_line("shardcast_bound", b->bound_s, "s", 0, false);
    print_line("shardcast_p50_over_bound", OVER(p50_s, 0.5) / b->bound_s, "", 0, true);
    print_line("shardcast_p99_over_bound", OVER(p99_s, 0.5) / b->bound_s, "", honest, true);
    print_line("shardcast_max_over_bound_worst", OVER(max_s, 1) / b->bound_s, "", 0, true);
    print_line("shardcast_bound_over_p99", b->bound_s / OVER(p99_s, 0.5), "",
               b->n_bad ? 0 : 0.85, false);
    print_line("shardcast_known_worst", OVER(known_s, 1), "s", 1.0, true);
    print_line("shardcast_origin_sent_worst", OVER(origin_share, 1), "files", 1.3, true);
    print_line("shardcast_cpu_sent", OVER(cpu_per_gb_sent, 0.5), "core-s/GB", 1.3, true);
    print_line("shardcast_cpu_received", OVER(cpu_per_gb_received, 0.5), "core-s/GB", 3, true);
    print_line("shardcast_memory_worst", OVER(anon_peak, 1) / (1 << 20), "MiB", 64, true);
    print_line("shardcast_written_worst", OVER(written_share, 1), "files", 1.1, true);
    print_line("shardcast_wrongly_named_worst", OVER(n_wrongly_named, 1), "nodes", 0, true);
    if (b->n_bad) {
        print_line("shardcast_honest_finished", (double)b->nodes - 1 - (double)b->n_bad,
                   "nodes", 0, false); /* or the bench had failed */
        print_line("shardcast_garbage_worst", OVER(garbage_share, 1), "", 0.005, true);
        print_line("shardcast_repeats_worst", OVER(repeats_share, 1), "", 0, true);
        print_line("shardcast_attackers_named_least", OVER(n_named, 0), "nodes",
                   b->attack.is_named ? (double)b->n_bad : 0, false);
    }
    if (b->shall_kill_half)
        print_line("shardcast_refetched_worst", OVER(refetched_share, 1), "", 0.01, true);
}

static void print_attack(const struct bench *b, const struct result *r, size_t n)
{
    if (b->attack.course == BENCH_ATTACK_FREEZE) {
        print_line("shardcast_freeze_noticed_worst", OVER(attack.noticed_s, 1), "s",
                   1e-3 * CAST_FRESH_MS, true);
        print_line("shardcast_freeze_over_worst", OVER(attack.fresh_again_s, 1), "s", 0, true);
        return;
    }
    print_line("shardcast_stopped_least", OVER(attack.n_stopped, 0), "nodes", (double)b->nodes,
               false);
    print_line("shardcast_stopped_worst", OVER(attack.stopped_s, 1), "s", 1.0, true);
    print_line("shardcast_proofs_least", OVER(attack.n_proofs, 0), "nodes", (double)b->nodes,
               false);
    print_line("shardcast_stopped_after_restart", OVER(attack.restarted, 0), "nodes", 1, false);
}

static enum status run_all(struct bench *b, struct err *e)
{
    static struct result r[RUNS_MAX];
    enum status st = OK;

    b->bytes = (double)(b->mib << 20);
    b->n_bad = bench_attack_n_bad(&b->attack, (size_t)b->nodes);
    b->bound_s = bound_of(b);
    if (b->is_netns)
        st = bench_net_open(&b->net, (size_t)b->nodes, b->rate, e);
    for (int64_t i = 0; !st && i < b->runs; i++) {
        st = run_once(b, i, &r[i], e);
        if (!st && b->attack.course <= BENCH_ATTACK_SHARE)
            print_run(b, i, &r[i]);
    }
    bench_net_close(&b->net);
    if (!st && b->attack.course > BENCH_ATTACK_SHARE)
        print_attack(b, r, (size_t)b->runs);
    else if (!st && b->is_delta)
        print_delta(b, r, (size_t)b->runs);
    else if (!st && is_tree(b))
        print_tree(b, r, (size_t)b->runs);
    else if (!st)
        print_figures(b, r, (size_t)b->runs);
    return st;
}

int bench_shardcast(int argc, char **argv)
{
    struct bench b = {0};
    struct opt table[] = {
        {"nodes", OPT_INT, &b.nodes, "16", "2..64", "nodes, the origin among them", false},
        {"mib", OPT_INT, &b.mib, "256", "1..65536", "length of the version, in MiB", false},
        {"runs", OPT_INT, &b.runs, "1", "1..32", "how often", false},
        {"rate", OPT_REAL, &b.rate, "100", "0.1..100000",
         "of each link, each way, in Mb/s; without --netns it only makes the bound", false},
        {"mode", OPT_CHOICE, &b.mode, "swarm", "swarm|relay",
         "shardcast, or the relay tree of SHARDCAST for comparison", false},
        {"relays", OPT_INT, &b.relays, "2", "1..62", "of the relay tree", false},
        {"netns", OPT_FLAG, &b.is_netns, "false", NULL,
         "each node in a network namespace behind a link of that rate; needs root", false},
        {"cap", OPT_REAL, &b.cap, "0", "0..100000",
         "ceiling of what a node serves, in Mb/s, kept by itself; 0: none", false},
        {"origin-cap", OPT_REAL, &b.origin_cap, "0", "0..100000",
         "the same of the origin; 0: as the others", false},
        {"attack", OPT_STRING, &b.attack_text, "", NULL,
         "KIND or KIND:SHARE of the receivers (0.2): garbage, forge, stale, empty, silent, "
         "slow; or equivocate (the origin), freeze (all but node 1)",
         false},
        {"writing", OPT_FLAG, &b.is_writing, "false", NULL,
         "the origin makes the version at the rate of its link", false},
        {"delta", OPT_FLAG, &b.is_delta, "false", NULL,
         "weights in bf16 as a whole, then a step of training at a rate of 1e-6 as a patch",
         false},
        {"kill-half", OPT_FLAG, &b.shall_kill_half, "false", NULL,
         "kill -9 a receiver when it has half, and start it again", false},
        {"kill-apply", OPT_FLAG, &b.shall_kill_apply, "false", NULL,
         "with --delta: the same while it applies the patch", false},
        {"kill-origin-at", OPT_REAL, &b.kill_origin_at, "0", "0..100",
         "kill -9 the origin when it has sent so many files; 0: never", false},
        {"seed", OPT_INT, &b.seed, "1", "0..1000000000", "of keys and files", false},
        {"port", OPT_INT, &b.port, "21000", "1024..65000",
         "where nodes listen: below the ports that the system gives out by itself", false},
        {"dir", OPT_STRING, &b.dir, "/tmp", NULL, "where their directories are made", false},
        {"keep", OPT_FLAG, &b.is_kept, "false", NULL, "leave those directories", false},
    };
    struct usage u = {
        .line = "muster bench shardcast [options]",
        .about = "Starts real nodes, publishes a version at one, waits until all have it, and "
                 "compares with what their links allow.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e;
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && is_tree(&b) && b.relays > b.nodes - 2)
        status = usage_complain(u.line, "%d nodes are too few for %d relays", (int)b.nodes,
                                (int)b.relays);
    if (status == USAGE_RUN && bench_attack_parse(&b.attack, b.attack_text, &e))
        status = usage_complain(u.line, "%s", e.text);
    if (status == USAGE_RUN && b.attack.name &&
        (is_tree(&b) || bench_attack_n_bad(&b.attack, (size_t)b.nodes) == 0))
        status = usage_complain(u.line, "nobody of %d nodes would do that", (int)b.nodes);
    if (status == USAGE_RUN)
        status = run_all(&b, &e) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}
