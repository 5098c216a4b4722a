#include "sim/tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/tree_state.h"
#include "sim/fabric.h"

#define START_MS      35000                                 /* every relay has looked once */
#define LINES         (TREE_SERVERS_MAX + TREE_AT_ONCE_MAX) /* of slots; one more is for lists */
#define PARTS_A_SHARD 4u
#define ORIGIN        0u
#define VERSION       0
#define SMALL_BYTES   200u /* a request of HTTP, or the head of an answer */

enum { TAG_MACHINE, TAG_PUBLISH, TAG_REPORT };
enum kind { ASK_LIST, LIST, ASK_SHARD, SHARD, NO_SHARD };

/* What travels; it never leaves this process. */
struct letter {
    enum kind kind;
    uint32_t slot, index;
    int64_t version;
};

struct tree_node {
    struct tree_state *state; /* owned; NULL: the origin */
    bool *has;                /* owned: shards of a relay */
    bool is_listed;           /* the version is on its list */
    uint64_t *link;           /* owned: by server and slot (LINES: for lists); 0: not dialled */
    int64_t asked_ms[LINES];
    int64_t due_ms, known_ms, done_ms;
};

struct tree_world {
    struct swarm_options opt;
    struct tree_sim_options tree;
    struct fabric *fabric;  /* owned */
    struct tree_node *node; /* owned */
    struct tree_out out;
    uint32_t n, n_shards, n_finished;
    double bound_s;
    uint64_t n_fetched;
    bool is_over;
};

static bool is_client(const struct tree_world *w, uint32_t i)
{
    return i > w->tree.relays;
}

/* Servers of a client are the relays; that of a relay is the origin. */
static uint32_t server_of(const struct tree_world *w, uint32_t i, uint32_t server)
{
    return is_client(w, i) ? 1 + server : ORIGIN;
}

/* ---- letters ----------------------------------------------------------------------------- */

static void post(struct tree_world *w, uint32_t from, uint64_t link, const struct letter *l,
                 uint64_t bulk_bytes)
{
    uint8_t *data = xmalloc(SMALL_BYTES);

    memset(data, 0, SMALL_BYTES);
    memcpy(data, l, sizeof(*l));
    if (bulk_bytes)
        (void)fabric_send_bulk(w->fabric, from, link, &data, SMALL_BYTES,
                               bulk_bytes + SMALL_BYTES, 0);
    else
        fabric_send(w->fabric, from, link, &data, SMALL_BYTES);
}

static void ask(struct tree_world *w, uint32_t i, uint32_t server, uint32_t line,
                const struct letter *l)
{
    uint64_t *link = &w->node[i].link[server * (LINES + 1) + line];

    if (!*link)
        *link = fabric_dial(w->fabric, i, server_of(w, i, server));
    post(w, i, *link, l, 0);
}

static uint64_t shard_bytes(const struct tree_world *w, uint32_t index)
{
    uint64_t bytes = (uint64_t)w->opt.bytes, at = (uint64_t)index * TREE_SHARD_BYTES;

    return bytes - at < TREE_SHARD_BYTES ? bytes - at : TREE_SHARD_BYTES;
}

/* ---- acts -------------------------------------------------------------------------------- */

static void note_complete(struct tree_world *w, uint32_t i)
{
    if (!is_client(w, i) || w->node[i].done_ms >= 0)
        return;
    w->node[i].done_ms = fabric_now_ms(w->fabric);
    w->is_over = ++w->n_finished == w->opt.nodes - 1;
}

static void carry_out(struct tree_world *w, uint32_t i)
{
    struct tree_node *n = &w->node[i];

    for (size_t k = 0; k < w->out.n; k++) {
        struct tree_act a = w->out.v[k];
        struct letter l = {.slot = a.slot, .index = a.index, .version = a.version};
        switch (a.kind) {
        case TREE_LIST:
            l.kind = ASK_LIST;
            ask(w, i, a.server, LINES, &l);
            break;
        case TREE_FETCH:
            CHECK(a.slot < LINES);
            l.kind = ASK_SHARD;
            n->asked_ms[a.slot] = fabric_now_ms(w->fabric);
            ask(w, i, a.server, a.slot, &l);
            break;
        case TREE_KNOWN:
            n->is_listed = true;
            n->known_ms = fabric_now_ms(w->fabric);
            break;
        case TREE_COMPLETE: note_complete(w, i); break;
        case TREE_WAKE:
            if (a.at_ms < n->due_ms) {
                n->due_ms = a.at_ms;
                fabric_wake(w->fabric, i, a.at_ms, TAG_MACHINE);
            }
            break;
        }
    }
    w->out.n = 0;
}

/* ---- what comes -------------------------------------------------------------------------- */

static void answer(struct tree_world *w, uint32_t i, uint64_t link, const struct letter *l)
{
    const struct tree_node *n = &w->node[i];
    struct letter out = *l;

    if (l->kind == ASK_LIST) {
        out.kind = LIST;
        out.version = n->is_listed ? VERSION : -1;
        post(w, i, link, &out, 0);
        return;
    }
    bool is_here = l->version == TREE_DUMMY || (i == ORIGIN ? n->is_listed : n->has[l->index]);
    out.kind = is_here ? SHARD : NO_SHARD;
    post(w, i, link, &out,
         !is_here                   ? 0
         : l->version == TREE_DUMMY ? TREE_DUMMY_BYTES
                                    : shard_bytes(w, l->index));
}

static void take(struct tree_world *w, uint32_t i, const struct letter *l)
{
    struct tree_node *n = &w->node[i];
    int64_t now_ms = fabric_now_ms(w->fabric);
    struct tree_version v = {.version = VERSION, .bytes = (uint64_t)w->opt.bytes};

    if (l->kind == LIST) {
        tree_state_listed(n->state, &v, l->version == VERSION, now_ms, &w->out);
    } else {
        if (l->kind == SHARD && l->version == VERSION) {
            if (!is_client(w, i))
                n->has[l->index] = true;
            else
                w->n_fetched++;
        }
        tree_state_fetched(n->state, l->slot, l->kind == SHARD, now_ms - n->asked_ms[l->slot],
                           now_ms, &w->out);
    }
    carry_out(w, i);
}

static void on_message(void *ctx, uint32_t node, uint64_t link, uint32_t peer,
                       struct bytes data)
{
    struct tree_world *w = ctx;
    struct letter l;

    (void)peer;
    memcpy(&l, data.data, sizeof(l));
    if (l.kind == ASK_LIST || l.kind == ASK_SHARD)
        answer(w, node, link, &l);
    else
        take(w, node, &l);
}

static void on_timer(void *ctx, uint32_t node, uint32_t tag)
{
    struct tree_world *w = ctx;
    struct tree_node *n = &w->node[node];
    double all = (double)(w->opt.nodes - 1) * w->n_shards;

    switch (tag) {
    case TAG_PUBLISH: w->node[ORIGIN].is_listed = true; break;
    case TAG_REPORT:
        if (w->opt.progress)
            w->opt.progress(w->opt.ctx, (double)(fabric_now_ms(w->fabric) - START_MS) / 1000,
                            (double)w->n_fetched / all);
        fabric_schedule(w->fabric, fabric_now_ns(w->fabric) + (int64_t)(w->bound_s * 1e9),
                        ORIGIN, TAG_REPORT);
        break;
    default:
        if (n->due_ms > fabric_now_ms(w->fabric))
            break;
        n->due_ms = INT64_MAX;
        tree_state_tick(n->state, fabric_now_ms(w->fabric), &w->out);
        carry_out(w, node);
        break;
    }
}

/* ---- the course -------------------------------------------------------------------------- */

static void tree_make(struct tree_world *w)
{
    struct fabric_options o = {.seed = w->opt.seed,
                               .n_nodes = w->n,
                               .latency_ms = w->opt.latency_ms,
                               .coarse = 1,
                               .chunk_bytes = TREE_SHARD_BYTES / PARTS_A_SHARD + SMALL_BYTES,
                               .unevenness = w->opt.unevenness,
                               .has_headers = w->opt.has_headers,
                               .ctx = w,
                               .message = on_message,
                               .timer = on_timer};

    fabric_new(&w->fabric, &o);
    w->node = xcalloc(w->n, sizeof(*w->node));
    for (uint32_t i = 0; i < w->n; i++) {
        struct tree_node *n = &w->node[i];
        bool is_relay = i > ORIGIN && !is_client(w, i);
        double rate = w->tree.relay_rate;
        struct tree_options t = {.role = is_relay ? TREE_RELAY : TREE_CLIENT,
                                 .n_servers = is_relay ? 1 : w->tree.relays,
                                 .seed = w->opt.seed * w->n + i};
        fabric_set_rates(w->fabric, i,
                         i == ORIGIN ? w->opt.origin_up
                         : is_relay  ? rate
                                     : w->opt.up,
                         is_relay ? rate : w->opt.down);
        n->known_ms = n->done_ms = -1;
        n->due_ms = INT64_MAX;
        if (i == ORIGIN)
            continue;
        n->has = xcalloc(w->n_shards, sizeof(*n->has));
        n->link = xcalloc((size_t)t.n_servers * (LINES + 1), sizeof(*n->link));
        tree_state_new(&n->state, &t);
        tree_state_tick(n->state, 0, &w->out);
        carry_out(w, i);
    }
    fabric_schedule(w->fabric, START_MS * 1000000LL, ORIGIN, TAG_PUBLISH);
    fabric_schedule(w->fabric, START_MS * 1000000LL, ORIGIN, TAG_REPORT);
}

static int compare_ms(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double quantile_s(const int64_t *sorted, uint32_t n, double q)
{
    uint32_t i = (uint32_t)(q * n);

    return n ? (double)(sorted[i < n ? i : n - 1] - START_MS) / 1000 : 0;
}

static void figures(const struct tree_world *w, struct swarm_result *out)
{
    int64_t *done = xcalloc(w->n, sizeof(*done)), *known = xcalloc(w->n, sizeof(*known));
    uint32_t n_done = 0, n_known = 0;

    for (uint32_t i = 1 + w->tree.relays; i < w->n; i++) {
        if (w->node[i].done_ms >= 0)
            done[n_done++] = w->node[i].done_ms;
        if (w->node[i].known_ms >= 0)
            known[n_known++] = w->node[i].known_ms;
    }
    qsort(done, n_done, sizeof(*done), compare_ms);
    qsort(known, n_known, sizeof(*known), compare_ms);
    out->p50_s = quantile_s(done, n_done, 0.5);
    out->p99_s = quantile_s(done, n_done, 0.99);
    out->max_s = quantile_s(done, n_done, 1.0);
    out->announce_p99_s = quantile_s(known, n_known, 0.99);
    free(done);
    free(known);
}

void tree_sim_run(struct swarm_result *out, const struct swarm_options *opt,
                  const struct tree_sim_options *tree)
{
    struct tree_world w = {.opt = *opt, .tree = *tree, .bound_s = swarm_bound_s(opt)};

    CHECK(tree->relays > 0 && tree->relays <= TREE_SERVERS_MAX);
    w.n = opt->nodes + tree->relays;
    w.n_shards = tree_n_shards((uint64_t)opt->bytes, TREE_SHARD_BYTES);
    tree_make(&w);
    while (!w.is_over && fabric_step(w.fabric))
        ;
    struct fabric_counters c = fabric_counters(w.fabric);
    *out = (struct swarm_result){.bound_s = w.bound_s,
                                 .n_receivers = opt->nodes - 1,
                                 .n_finished = w.n_finished,
                                 .events = c.events,
                                 .messages = c.messages,
                                 .small_share = (double)c.small_bytes / (double)c.bulk_bytes,
                                 .origin_copies =
                                     (double)fabric_bytes_out(w.fabric, ORIGIN) / opt->bytes};
    figures(&w, out);
    for (uint32_t i = 0; i < w.n; i++) {
        tree_state_free(&w.node[i].state);
        free(w.node[i].has);
        free(w.node[i].link);
    }
    free(w.node);
    fabric_free(&w.fabric);
    tree_out_clear(&w.out);
}
