/*
 * cli/cmd_sim.c - muster sim: whole networks of the node's state machines, in virtual time
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench_line.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "sim/crowd.h"
#include "sim/swarm.h"
#include "sim/tree.h"

#define SIM_LINE        "muster sim broadcast|membership [options]"
#define BROADCAST_LINE  "muster sim broadcast [options]"
#define MEMBERSHIP_LINE "muster sim membership [options]"
#define GIGA            1e9
#define N(table)        (sizeof(table) / sizeof((table)[0]))

struct broadcast {
    struct swarm_options o;
    int64_t nodes, shards, links, seed;
    double up, down, origin_up, write;
    double target;
    char *relay;
    struct tree_sim_options tree;
    bool is_quiet, json;
};

static void progress(void *ctx, double now_s, double share)
{
    const struct broadcast *b = ctx;

    if (!b->is_quiet)
        fprintf(stderr, "sim at_s=%.1f done=%.4f\n", now_s, share);
}

static void print_text(const struct swarm_result *r)
{
    printf("bound        %10.2f s\n", r->bound_s);
    printf("p50          %10.2f s    %.3f of the bound\n", r->p50_s, r->bound_s / r->p50_s);
    printf("p99          %10.2f s    %.3f\n", r->p99_s, r->bound_s / r->p99_s);
    printf("max          %10.2f s    %.3f\n", r->max_s, r->bound_s / r->max_s);
    printf("finished     %10" PRIu32 " of %" PRIu32 "\n", r->n_finished, r->n_receivers);
    printf("announced    %10.3f s    p99\n", r->announce_p99_s);
    printf("origin sent  %10.3f of the file\n", r->origin_copies);
    printf("wasted       %10.5f of the shards, of which %.5f rubbish\n", r->wasted, r->garbage);
    printf("overhead     %10.5f of the bytes are no shards\n", r->small_share);
    printf("timeouts     %10" PRIu64 "\n", r->timeouts);
    printf("refetched    %10" PRIu64 " shards\n", r->refetched);
    printf("banned       %10" PRIu32 " attackers, %" PRIu32 " others\n", r->n_named,
           r->n_honest_named);
    printf("events       %10" PRIu64 "\n", r->events);
    printf("messages     %10" PRIu64 "\n", r->messages);
}

static void print_json(const struct broadcast *b, const struct swarm_result *r)
{
    const struct bench_line lines[] = {
        {.name = "broadcast_p99",
         .value = r->bound_s / r->p99_s,
         .unit = "bound/time",
         .target = b->target},
        {.name = "broadcast_p50", .value = r->bound_s / r->p50_s, .unit = "bound/time"},
        {.name = "broadcast_max", .value = r->bound_s / r->max_s, .unit = "bound/time"},
        {.name = "broadcast_time_p99", .value = r->p99_s, .unit = "s"},
        {.name = "broadcast_bound", .value = r->bound_s, .unit = "s"},
        {.name = "broadcast_finished",
         .value = r->n_finished,
         .unit = "nodes",
         .target = r->n_receivers},
        {.name = "broadcast_announce_p99", .value = r->announce_p99_s, .unit = "s"},
        {.name = "broadcast_origin", .value = r->origin_copies, .unit = "files"},
        {.name = "broadcast_wasted", .value = r->wasted, .unit = "of the shards"},
        {.name = "broadcast_garbage", .value = r->garbage, .unit = "of the shards"},
        {.name = "broadcast_overhead", .value = r->small_share, .unit = "of the bytes"},
    };

    for (size_t i = 0; i < N(lines); i++)
        bench_line_print(&lines[i]);
}

static int broadcast_run(struct broadcast *b)
{
    struct swarm_result r;

    b->o.seed = (uint64_t)b->seed;
    b->o.nodes = (uint32_t)b->nodes;
    b->o.shards = (uint32_t)b->shards;
    b->o.links = (uint32_t)b->links;
    b->o.up = b->up * GIGA;
    b->o.down = b->down * GIGA;
    b->o.origin_up = (b->origin_up > 0 ? b->origin_up : b->up) * GIGA;
    b->o.write = b->write * GIGA;
    b->o.progress = progress;
    b->o.ctx = b;
    if (b->tree.relays)
        tree_sim_run(&r, &b->o, &b->tree);
    else
        swarm_run(&r, &b->o);
    if (b->json)
        print_json(b, &r);
    else
        print_text(&r);
    return r.n_finished == r.n_receivers ? 0 : 1;
}

/* "8:10": so many relays of so many Gb/s. */
static bool parse_relay(struct broadcast *b)
{
    unsigned n;
    int end = 0;

    if (!b->relay[0])
        return true;
    if (sscanf(b->relay, "%u:%lf%n", &n, &b->tree.relay_rate, &end) != 2 || b->relay[end] ||
        n < 1 || n > 64 || !(b->tree.relay_rate > 0) || b->tree.relay_rate > 1e6)
        return false;
    b->tree.relays = n;
    b->tree.relay_rate *= GIGA;
    return true;
}

static int cmd_broadcast(int argc, char **argv)
{
    struct broadcast b = {0};
    struct opt table[] = {
        {"nodes", OPT_INT, &b.nodes, "1000", "2..100000", "nodes, the origin being one", false},
        {"shards", OPT_INT, &b.shards, "1000", "1..262144", "pieces that the file is cut into",
         false},
        {"bytes", OPT_REAL, &b.o.bytes, "62e9", "1..1e15", "length of the file", false},
        {"up", OPT_REAL, &b.up, "1", "1e-6..1e6", "Gb/s that a node can send", false},
        {"down", OPT_REAL, &b.down, "1", "1e-6..1e6", "Gb/s that it can receive", false},
        {"origin-up", OPT_REAL, &b.origin_up, "0", "0..1e6",
         "Gb/s that the origin can send; 0: as a node", false},
        {"write", OPT_REAL, &b.write, "0", "0..1e6",
         "Gb/s at which the origin writes the file; 0: it is written", false},
        {"latency-ms", OPT_REAL, &b.o.latency_ms, "40", "0..10000",
         "one way, mean of all pairs, which have half to one and a half of it", false},
        {"k", OPT_INT, &b.links, "8", "1..63", "neighbours of a node", false},
        {"churn", OPT_REAL, &b.o.churn, "0", "0..1", "share of nodes that crash once", false},
        {"down-s", OPT_REAL, &b.o.down_s, "10", "0..1e6", "seconds until one is back", false},
        {"churn-empty", OPT_FLAG, &b.o.is_churn_empty, "false", NULL,
         "they come back with an empty disk", false},
        {"origin-quits", OPT_REAL, &b.o.origin_quits, "0", "0..1e6",
         "the origin dies when it has sent the file so many times; 0: it does not", false},
        {"garbage", OPT_REAL, &b.o.garbage, "0", "0..1",
         "share of nodes that claim everything and serve garbage", false},
        {"silent", OPT_REAL, &b.o.silent, "0", "0..1",
         "share that claims so and serves nothing", false},
        {"liars", OPT_REAL, &b.o.liars, "0", "0..1",
         "share that claims so and serves only what it has", false},
        {"unevenness", OPT_REAL, &b.o.unevenness, "0.5", "0..1",
         "of the parts that TCP streams have of a link", false},
        {"headers", OPT_FLAG, &b.o.has_headers, "false", NULL,
         "rates are of the wire: count Ethernet, IP, TCP and acknowledgements", false},
        {"relay", OPT_STRING, &b.relay, "", NULL,
         "R:RATE: through R relays of RATE Gb/s instead, as SHARDCAST does", false},
        {"seed", OPT_INT, &b.seed, "1", NULL, "another number, another network", false},
        {"target", OPT_REAL, &b.target, "0", "0..1", "bound/time to reach; for --json", false},
        {"quiet", OPT_FLAG, &b.is_quiet, "false", NULL, "no progress on stderr", false},
        {"json", OPT_FLAG, &b.json, "false", NULL, "one JSON object a figure", false},
    };
    struct usage u = {
        .line = BROADCAST_LINE,
        .about = "Simulates how one file reaches all nodes, by the state machines that nodes "
                 "run, and\n"
                 "compares with the lower bound. The result is a function of the options.",
        .table = table,
        .n = N(table),
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        return status;
    if (b.o.garbage + b.o.silent + b.o.liars + b.o.churn > 1)
        return usage_complain(BROADCAST_LINE, "the shares of nodes add up to more than 1");
    if (!parse_relay(&b))
        status =
            usage_complain(BROADCAST_LINE, "--relay '%s' is not R:RATE, such as 8:10", b.relay);
    else
        status = broadcast_run(&b);
    opt_clear(table, N(table));
    return status;
}

/* ---- membership -------------------------------------------------------------------------- */

struct membership {
    struct crowd_options o;
    int64_t nodes, seeds, seed, runs;
    bool json;
};

static void print_membership(const struct membership *m, const struct crowd_result *r)
{
    double below = (double)r->n_below / r->n_honest;
    const struct bench_line lines[] = {
        {.name = "membership_below_two", .value = below, .unit = "of honest nodes"},
        {.name = "membership_links", .value = r->links, .unit = "links"},
        {.name = "membership_detect_max", .value = r->detect_max_s, .unit = "s"},
        {.name = "membership_repair_p99", .value = r->repair_p99_s, .unit = "s"},
    };

    for (size_t i = 0; m->json && i < N(lines); i++)
        bench_line_print(&lines[i]);
    if (m->json)
        return;
    printf("honest         %8" PRIu32 " nodes\n", r->n_honest);
    printf("links          %8.2f of a node, %.2f chosen by itself, %.2f to honest ones\n",
           r->links, r->chosen, r->honest_links);
    printf(
        "below two      %8.6f of honest nodes have fewer than two honest neighbours; the least "
        "has %" PRIu32 "\n",
        below, r->min_honest);
    printf("apart          %8" PRIu32 " nodes, %" PRIu32 " after the crash\n", r->n_apart,
           r->n_apart_after);
    printf("detected       %8.2f s    the longest\n", r->detect_max_s);
    printf("repaired       %8.2f s    p99; the longest %.2f s, never %" PRIu32 " nodes\n",
           r->repair_p99_s, r->repair_max_s, r->n_unrepaired);
    printf("given up       %8" PRIu32 " links of nodes that lived\n", r->n_wrong);
    printf("traffic        %8.0f bytes a second of a node\n", r->bytes_s);
}

/* Shares and means over all runs, the worst of times. */
static void add_up(struct crowd_result *sum, const struct crowd_result *r, double n)
{
    sum->n_honest += r->n_honest;
    sum->n_below += r->n_below;
    sum->n_apart += r->n_apart;
    sum->n_apart_after += r->n_apart_after;
    sum->n_unrepaired += r->n_unrepaired;
    sum->n_wrong += r->n_wrong;
    sum->links += r->links / n;
    sum->chosen += r->chosen / n;
    sum->honest_links += r->honest_links / n;
    sum->bytes_s += r->bytes_s / n;
    if (r->min_honest < sum->min_honest)
        sum->min_honest = r->min_honest;
    if (r->detect_max_s > sum->detect_max_s)
        sum->detect_max_s = r->detect_max_s;
    if (r->repair_p99_s > sum->repair_p99_s)
        sum->repair_p99_s = r->repair_p99_s;
    if (r->repair_max_s > sum->repair_max_s)
        sum->repair_max_s = r->repair_max_s;
}

static int cmd_membership(int argc, char **argv)
{
    struct membership m = {0};
    struct crowd_result sum = {.min_honest = UINT32_MAX};
    struct opt table[] = {
        {"nodes", OPT_INT, &m.nodes, "4096", "2..4096", "nodes, attackers included", false},
        {"seeds", OPT_INT, &m.seeds, "96", "1..1024", "of them relays, which are honest",
         false},
        {"attackers", OPT_REAL, &m.o.attackers, "0.3", "0..0.9", "share of the nodes", false},
        {"hidden", OPT_REAL, &m.o.hidden, "0", "0..0.9",
         "share of the honest ones that cannot be dialled", false},
        {"crash", OPT_REAL, &m.o.crash, "0.2", "0..0.9",
         "share of the honest ones that crash at once", false},
        {"join-s", OPT_REAL, &m.o.join_s, "60", "0.1..1e5", "seconds in which all join", false},
        {"settle-s", OPT_REAL, &m.o.settle_s, "60", "0..1e5", "seconds until links are counted",
         false},
        {"latency-ms", OPT_REAL, &m.o.latency_ms, "40", "0..10000",
         "one way, mean of all pairs", false},
        {"runs", OPT_INT, &m.runs, "1", "1..1000", "how many, each with the next seed", false},
        {"seed", OPT_INT, &m.seed, "1", NULL, "another number, another network", false},
        {"json", OPT_FLAG, &m.json, "false", NULL, "one JSON object a figure", false},
    };
    struct usage u = {
        .line = MEMBERSHIP_LINE,
        .about = "Simulates who becomes whose neighbour, among attackers in the roster, "
                 "and how\n"
                 "long it takes to replace neighbours that crash.",
        .table = table,
        .n = N(table),
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        return status;
    if (m.seeds >= m.nodes)
        return usage_complain(MEMBERSHIP_LINE, "there are no nodes besides the seeds");
    m.o.nodes = (uint32_t)m.nodes;
    m.o.seeds = (uint32_t)m.seeds;
    for (int64_t i = 0; i < m.runs; i++) {
        struct crowd_result r;
        m.o.seed = (uint64_t)(m.seed + i);
        crowd_run(&r, &m.o);
        add_up(&sum, &r, (double)m.runs);
    }
    print_membership(&m, &sum);
    return 0;
}

int cmd_sim(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf("usage: " SIM_LINE "\n\n"
               "  broadcast   one file to all nodes\n"
               "  membership  who is whose neighbour, under attack and after crashes\n\n"
               "'muster sim WORD --help' tells more.\n");
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "broadcast"))
        return cmd_broadcast(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "membership"))
        return cmd_membership(argc - 1, argv + 1);
    return argc > 1 ? usage_complain(SIM_LINE, "'sim %s' is not a command", argv[1])
                    : usage_complain(SIM_LINE, "sim what?");
}
