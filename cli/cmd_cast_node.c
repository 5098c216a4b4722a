/*
 * muster cast-node: one node of a shardcast measurement
 *
 * A whole shardcast node (shardcast/cast.h: store, machine, CURVE, admission) without a role and
 * without an orchestrator: the keys and addresses of all nodes are functions of the run's seed
 * and their numbers, so each knows the roster by itself. Node 0 is the trainer, 1 and 2 are relays,
 * and the last ones are given no address in the roster where --hidden says so: nobody dials them.
 *
 * It answers lines on stdin with lines on stdout (cli/bench_nodes.h):
 *   publish VERSION BYTES   node 0: makes and publishes it   published VERSION US US CPU_S
 *   weights VERSION BYTES   node 0: the same, of weights in bf16 (cli/bench_weights.h)
 *   step VERSION            node 0: after 'weights', a step of training at a rate of 1e-6, with
 *                           the patch from the version before
 *   cheat KIND I            it lies from now on, where there is a victim to node I, or not any
 *                           more: "none" (shardcast/cast.h)  turned US
 *   stats                   what it has done so far          stats KEY=VALUE ...
 * and says by itself: fresh 0|1 US, stopped VERSION US (the trainer equivocates), ready US KEY, known VERSION US, moved BYTES_IN BYTES_OUT, complete VERSION US,
 * failed WHY. US is the monotonic clock, which all namespaces of a machine share; published has
 * when it was begun and done, and the time of the processor it took. It ends with stdin.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/bench_net.h"
#include "cli/bench_weights.h"
#include "cli/commands.h"
#include "cli/node_figures.h"
#include "cli/tree_node.h"
#include "cli/usage.h"
#include "node/shell.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "shardcast/cast.h"
#include "shardcast/cast_cut.h"

#define SEEDS       2u /* relays: nodes 1 and 2 */
#define MOVED_MS    50 /* between two lines `moved` */
#define LINES_MAX   16
#define WORD_BYTES  64
#define PIECE_BYTES ((size_t)1 << 20)
#define WRITE_MS    1 /* between two pieces */
#define STEP_RATE   1e-6

struct cast_node {
    int64_t index, nodes, seed, port, relays, hidden;
    char *dir, *network;
    int lock_fd;
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    struct cast *cast;
    struct digest run;
    uint64_t said;
    struct cast_writer *writer; /* of the version that is being made; NULL: none */
    int64_t version, begun_us;
    uint64_t left, total, random;
    double making_s;
    struct bench_weights weights; /* of node 0, once told */
    double up_mbps;
    double write_rate; /* Mb/s; 0: as fast as it goes */
    uint8_t piece[PIECE_BYTES];
    pthread_t listener;
    pthread_mutex_t lock;
    char line[LINES_MAX][WORD_BYTES]; /* heard, not done yet */
    int n_lines;
    bool is_over;
};

/* ---- keys and addresses ------------------------------------------------------------------ */

static struct node_key *derive_key(int64_t seed, size_t i)
{
    struct digest_state h;
    struct digest d;
    struct node_key *k;

    digest_begin(&h, "muster/bench-node");
    digest_add_u64(&h, (uint64_t)seed);
    digest_add_u64(&h, i);
    digest_end(&h, &d);
    key_derive(&k, d.b);
    return k;
}

static void endpoint_of(const struct cast_node *n, size_t i, char out[BENCH_ENDPOINT_BYTES])
{
    const struct bench_net net = {.n = strcmp(n->network, "netns") ? 0 : (size_t)n->nodes};

    bench_net_endpoint(&net, i, (uint16_t)n->port, out);
}

static void introduce_all(struct cast_node *n)
{
    struct msg_roster *r = xcalloc(1, sizeof(*r));
    struct public_key *admit = xcalloc((size_t)n->nodes, sizeof(*admit)), trainer;

    r->seq = 1;
    r->n = (uint32_t)n->nodes;
    for (size_t i = 0; i < (size_t)n->nodes; i++) {
        struct node_key *k = derive_key(n->seed, i);
        r->entry[i].node = k->node;
        r->entry[i].transport = admit[i] = k->transport;
        r->entry[i].role = i == 0 ? ROLE_TRAINER : i <= SEEDS ? ROLE_RELAY : ROLE_INFERENCE;
        if (i + (size_t)n->hidden < (size_t)n->nodes)
            endpoint_of(n, i, r->entry[i].endpoint);
        if (i == 0)
            trainer = k->node;
        key_free(&k);
    }
    shell_admit(n->shell, admit, (size_t)n->nodes);
    cast_set_run(n->cast, &n->run, &trainer);
    cast_set_roster(n->cast, r);
    free(admit);
    free(r);
}

/* ---- what it says ------------------------------------------------------------------------ */

static void say_stats(const struct cast_node *n)
{
    struct cast_counters c = cast_counters(n->cast);

    printf("stats bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " shards_in=%" PRIu64
           " repeats=%" PRIu64 " garbage=%" PRIu64 " timeouts=%" PRIu64 " found=%" PRIu64 " ",
           c.bytes_in, c.bytes_out, c.shards_in, c.repeats, c.garbage, c.timeouts,
           cast_found_bytes(n->cast));
    figures_print(!strcmp(n->network, "netns"));
}

static void say_moved(struct cast_node *n)
{
    struct cast_counters c = cast_counters(n->cast);

    if (c.bytes_in + c.bytes_out != n->said)
        printf("moved %" PRIu64 " %" PRIu64 "\n", c.bytes_in, c.bytes_out);
    n->said = c.bytes_in + c.bytes_out;
}

static void on_known(void *ctx, int64_t version)
{
    (void)ctx;
    printf("known %" PRId64 " %" PRId64 "\n", version, clock_mono_us());
}

static void on_version(void *ctx, int64_t version)
{
    say_moved(ctx);
    printf("complete %" PRId64 " %" PRId64 "\n", version, clock_mono_us());
}

static void on_fresh(void *ctx, bool is_fresh)
{
    (void)ctx;
    printf("fresh %d %" PRId64 "\n", is_fresh, clock_mono_us());
}

static void on_equivocation(void *ctx, int64_t version)
{
    (void)ctx;
    printf("stopped %" PRId64 " %" PRId64 "\n", version, clock_mono_us());
}

/* ---- lying ------------------------------------------------------------------------------- */

static enum status cheat(struct cast_node *n, const char *name, size_t victim, struct err *e)
{
    static const char *const names[] = {
        [CAST_CHEAT_NONE] = "none",     [CAST_CHEAT_GARBAGE] = "garbage",
        [CAST_CHEAT_FORGE] = "forge",   [CAST_CHEAT_STALE] = "stale",
        [CAST_CHEAT_EMPTY] = "empty",   [CAST_CHEAT_EQUIVOCATE] = "equivocate",
        [CAST_CHEAT_SILENT] = "silent", [CAST_CHEAT_FREEZE] = "freeze"};
    size_t kind = 0;

    while (kind < sizeof(names) / sizeof(names[0]) && strcmp(names[kind], name) != 0)
        kind++;
    if (kind == sizeof(names) / sizeof(names[0]))
        return err_set(e, ERR_INVALID, "there is no way to cheat called '%s'", name);
    struct node_key *k = derive_key(n->seed, victim);
    cast_cheat(n->cast, (enum cast_cheat)kind, &k->transport);
    key_free(&k);
    printf("turned %" PRId64 "\n", clock_mono_us());
    return OK;
}

/* ---- publishing -------------------------------------------------------------------------- */

/* Begins to make a version: it is written in the rounds of the loop, a piece in each. */
static enum status begin(struct cast_node *n, int64_t version, uint64_t bytes, struct err *e)
{
    const struct content c = content_full(version);

    n->version = version;
    n->left = n->total = bytes;
    n->begun_us = clock_mono_us();
    n->random = (uint64_t)n->seed * 2654435761u + (uint64_t)version + 1;
    n->making_s = 0.0;
    return cast_write_open(&n->writer, n->cast, &c, content_shard_bytes(bytes), e);
}

static enum status announce(struct cast_node *n, struct err *e)
{
    struct msg_manifest m = {.numerics = "f32-1"};
    struct idem idem = {{1}};
    struct buf body, envelope;
    enum status st = cast_write_end(n->writer, &m, e);

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    if (!st)
        st = msg_manifest_encode(&body, &m, e);
    if (!st)
        st = msg_envelope_encode(&envelope, MSG_PUBLISH, &n->run, &idem, buf_bytes(&body),
                                 n->key->node_secret, e);
    if (!st)
        st = cast_announce(n->cast, buf_bytes(&envelope), e);
    cast_write_free(&n->writer);
    buf_clear(&body);
    buf_clear(&envelope);
    return st;
}

/* What the manifest of a file at hand says, and around it the envelope. */
static enum status sign(struct cast_node *n, int64_t version, struct bytes file,
                        struct msg_manifest *m, struct buf *envelope, struct err *e)
{
    const struct cast_cut_options o = {.run = n->run,
                                       .content = content_full(version),
                                       .shard_bytes = content_shard_bytes(file.len),
                                       .secret = n->key->node_secret};
    struct idem idem = {{1}};
    struct cast_cut cut;
    struct buf body;
    enum status st;

    *m = (struct msg_manifest){.numerics = "f32-1"};
    buf_init(&body, MSG_MAX_BYTES);
    cast_cut_init(&cut, &o);
    st = cast_cut_add(&cut, file, e);
    if (!st)
        st = cast_cut_end(&cut, m, e);
    if (!st)
        st = msg_manifest_encode(&body, m, e);
    if (!st)
        st = msg_envelope_encode(envelope, MSG_PUBLISH, &n->run, &idem, buf_bytes(&body),
                                 n->key->node_secret, e);
    cast_cut_clear(&cut);
    buf_clear(&body);
    return st;
}

/* As a trainer does: the patch if there is a version to begin at, then the whole. The clock starts
 * when the weights are there. */
static enum status publish_weights(struct cast_node *n, int64_t version, struct err *e)
{
    struct msg_manifest m;
    struct buf file, envelope;
    bool pays = false;
    double from_s;
    enum status st;

    buf_init(&file, 2 * n->weights.n + 4096);
    buf_init(&envelope, MSG_MAX_BYTES);
    st = bench_weights_file(&file, &n->weights, false, e);
    n->begun_us = clock_mono_us();
    from_s = figures_cpu_s();
    if (!st)
        st = sign(n, version, buf_bytes(&file), &m, &envelope, e);
    if (!st && cast_has(n->cast, version - 1))
        st = cast_publish_delta(n->cast, &m, version - 1, buf_bytes(&file), &pays, e);
    if (!st)
        st = cast_publish(n->cast, buf_bytes(&envelope), buf_bytes(&file), e);
    printf("published %" PRId64 " %" PRId64 " %" PRId64 " %.6f\n", version, n->begun_us,
           clock_mono_us(), figures_cpu_s() - from_s);
    buf_clear(&file);
    buf_clear(&envelope);
    return st;
}

static enum status make_weights(struct cast_node *n, int64_t version, uint64_t bytes,
                                struct err *e)
{
    enum status st;

    bench_weights_clear(&n->weights);
    st = bench_weights_new(&n->weights, (size_t)bytes / 2, e);
    return st ? st : publish_weights(n, version, e);
}

static enum status make_step(struct cast_node *n, int64_t version, struct err *e)
{
    if (!n->weights.n)
        return err_set(e, ERR_INVALID, "there are no weights to take a step with");
    bench_weights_step(&n->weights, STEP_RATE);
    return publish_weights(n, version, e);
}

/* How many bytes may have been written by now. */
static uint64_t allowed(const struct cast_node *n)
{
    double since_s = 1e-6 * (double)(clock_mono_us() - n->begun_us);
    double most = n->write_rate > 0.0 ? since_s * n->write_rate * 1e6 / 8 : (double)n->total;

    return most < (double)n->total ? (uint64_t)most : n->total;
}

static enum status write_some(struct cast_node *n, struct err *e)
{
    uint64_t done = n->total - n->left, most = allowed(n);
    size_t len =
        most > done ? most - done < PIECE_BYTES ? (size_t)(most - done) : PIECE_BYTES : 0;
    double from_s = figures_cpu_s();
    enum status st;

    if (most < n->total)
        len -= len % 8;
    figures_generate(n->piece, len, &n->random);
    st = cast_write_add(n->writer, (struct bytes){n->piece, len}, e);
    n->left -= len;
    if (!st && n->left == 0)
        st = announce(n, e);
    n->making_s += figures_cpu_s() - from_s;
    if (st || n->left == 0)
        printf("published %" PRId64 " %" PRId64 " %" PRId64 " %.6f\n", n->version, n->begun_us,
               clock_mono_us(), n->making_s);
    return st;
}

/* ---- what it is told --------------------------------------------------------------------- */

static void *listen_main(void *arg)
{
    struct cast_node *n = arg;
    char line[WORD_BYTES];

    while (fgets(line, sizeof(line), stdin)) {
        pthread_mutex_lock(&n->lock);
        if (n->n_lines < LINES_MAX)
            memcpy(n->line[n->n_lines++], line, sizeof(line));
        pthread_mutex_unlock(&n->lock);
        shell_wake(n->part);
    }
    pthread_mutex_lock(&n->lock);
    n->is_over = true;
    pthread_mutex_unlock(&n->lock);
    shell_stop(n->shell);
    return NULL;
}

static bool take_line(struct cast_node *n, char out[WORD_BYTES])
{
    bool has;

    pthread_mutex_lock(&n->lock);
    has = n->n_lines > 0;
    if (has) {
        memcpy(out, n->line[0], WORD_BYTES);
        memmove(n->line[0], n->line[1], (size_t)--n->n_lines * WORD_BYTES);
    }
    pthread_mutex_unlock(&n->lock);
    return has;
}

static enum status obey(struct cast_node *n, const char *line, struct err *e)
{
    char word[16];
    int64_t version;
    uint64_t bytes;

    if (sscanf(line, "cheat %15s %" SCNu64, word, &bytes) == 2)
        return cheat(n, word, (size_t)bytes, e);
    if (!strncmp(line, "stats", 5))
        say_stats(n);
    else if (sscanf(line, "publish %" SCNd64 " %" SCNu64, &version, &bytes) == 2)
        return begin(n, version, bytes, e);
    else if (sscanf(line, "weights %" SCNd64 " %" SCNu64, &version, &bytes) == 2)
        return make_weights(n, version, bytes, e);
    else if (sscanf(line, "step %" SCNd64, &version) == 1)
        return make_step(n, version, e);
    return OK;
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct cast_node *n = ctx;
    char line[WORD_BYTES];
    struct err e;

    while (take_line(n, line))
        if (obey(n, line, &e))
            printf("failed %s\n", e.text);
    if (n->writer && write_some(n, &e)) {
        printf("failed %s\n", e.text);
        cast_write_free(&n->writer);
    }
    say_moved(n);
    effects_timer(out, now_ms + (n->writer ? WRITE_MS : MOVED_MS));
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    (void)ctx;
    (void)m;
    (void)now_ms;
    (void)out;
}

/* ---- running ----------------------------------------------------------------------------- */

/* As the roles do, so that 'muster shardcast status' knows that somebody works in it. */
static enum status take_dir(struct cast_node *n, struct err *e)
{
    char *path = file_join(n->dir, "lock");
    enum status st = file_lock(&n->lock_fd, path, n->dir, e);

    free(path);
    return st;
}

static enum status open_node(struct cast_node *n, struct err *e)
{
    const struct shell_part_ops ops = {
        .ctx = n, .on_message = on_message, .on_timer = on_timer};
    char endpoint[BENCH_ENDPOINT_BYTES];
    const struct cast_options co = {.listen = endpoint,
                                    .ctx = n,
                                    .on_version = on_version,
                                    .on_known = on_known,
                                    .up_bytes_s = (uint64_t)(n->up_mbps * 1e6 / 8),
                                    .on_fresh = on_fresh,
                                    .on_equivocation = on_equivocation};
    enum status st = shell_new(&n->shell, n->key, e);

    endpoint_of(n, (size_t)n->index, endpoint);
    if (st)
        return st;
    n->part = shell_add_part(n->shell, &ops, NULL, 0);
    st = cast_new(&n->cast, n->shell, n->key, n->dir, &co, e);
    if (st)
        return st;
    introduce_all(n);
    return OK;
}

static enum status run(struct cast_node *n, struct err *e)
{
    enum status st;

    CHECK(pthread_mutex_init(&n->lock, NULL) == 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    digest_tagged(&n->run, "muster/bench-run",
                  (struct bytes){(const uint8_t *)&n->seed, sizeof(n->seed)});
    n->key = derive_key(n->seed, (size_t)n->index);
    n->lock_fd = -1;
    st = take_dir(n, e);
    if (!st)
        st = open_node(n, e);
    if (!st && pthread_create(&n->listener, NULL, listen_main, n) != 0)
        st = err_set(e, ERR_NO_MEMORY, "cannot start a thread");
    if (!st) {
        char hex[2 * KEY_BYTES + 1];
        hex_encode(hex, BYTES_OF(n->key->transport.b));
        printf("ready %" PRId64 " %.16s\n", clock_mono_us(), hex);
        st = shell_run(n->shell, e);
        if (!st)
            st = cast_failure(n->cast, e);
    }
    if (st)
        printf("failed %s\n", e->text);
    cast_write_free(&n->writer);
    bench_weights_clear(&n->weights);
    cast_free(&n->cast);
    shell_free(&n->shell);
    key_free(&n->key);
    file_unlock(&n->lock_fd);
    return st;
}

static enum status run_tree(const struct cast_node *n, struct err *e)
{
    const struct bench_net net = {.n = strcmp(n->network, "netns") ? 0 : (size_t)n->nodes};
    const struct tree_node_options o = {.dir = n->dir,
                                        .net = &net,
                                        .index = (size_t)n->index,
                                        .nodes = (size_t)n->nodes,
                                        .relays = (size_t)n->relays,
                                        .port = (uint16_t)n->port,
                                        .seed = n->seed};

    setvbuf(stdout, NULL, _IOLBF, 0);
    return tree_node_run(&o, e);
}

int cmd_cast_node(int argc, char **argv)
{
    static struct cast_node n;
    struct opt table[] = {
        {"dir", OPT_STRING, &n.dir, NULL, NULL, "directory of this node", false},
        {"index", OPT_INT, &n.index, NULL, "0..63", "its number; 0 is the trainer", false},
        {"nodes", OPT_INT, &n.nodes, NULL, "1..64", "how many there are", false},
        {"seed", OPT_INT, &n.seed, "1", "0..1000000000", "of the run, its keys and files",
         false},
        {"port", OPT_INT, &n.port, "47000", "1024..65000",
         "where nodes listen; on loopback "
         "node I at port + I",
         false},
        {"network", OPT_CHOICE, &n.network, "loopback", "loopback|netns", "where they are",
         false},
        {"write-rate", OPT_REAL, &n.write_rate, "0", "0..100000",
         "how fast a version is made, in Mb/s; 0: as fast as it goes", false},
        {"up-mbps", OPT_REAL, &n.up_mbps, "0", "0..100000",
         "ceiling of what it serves, in Mb/s; 0: none", false},
        {"hidden", OPT_INT, &n.hidden, "0", "0..63",
         "nodes that cannot be dialled: the last ones", false},
        {"relays", OPT_INT, &n.relays, "0", "0..63",
         "a node of a relay tree with so many relays; 0: of the swarm", false},
    };
    struct usage u = {
        .line = "muster cast-node --dir DIR --index I --nodes N [options]",
        .about = "One node of 'muster bench shardcast', which starts it.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e;
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN)
        status = (n.relays ? run_tree(&n, &e) : run(&n, &e)) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}
