#include "sim/swarm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "node/key.h"
#include "proto/msg.h"
#include "shardcast/cast_state.h"
#include "sim/fabric.h"
#include "sim/file.h"
#include "sim/graph.h"
#include "sim/verified.h"

#define START_MS      5000 /* the links are up and greeted before anything is published */
#define WALL_MS       1750000000000
#define PART_MS       7000    /* until its neighbours give a silent node up (SWIM: 2 s + 5 s) */
#define GIVE_UP       40.0    /* bounds, after which those who have not finished never will */
#define AHEAD_SHARDS  2u      /* as node/shell.h SHELL_AHEAD: messages in a socket, */
#define AHEAD_BYTES   262144u /* and bytes in the kernel's buffer */
#define CHUNK_MIN     16384u
#define PARTS_A_SHARD 4u
#define ORIGIN        0u

enum { TAG_MACHINE, TAG_PUBLISH, TAG_WRITE, TAG_CRASH, TAG_RETURN, TAG_PART, TAG_REPORT };
enum manner { HONEST, GARBAGE, SILENT, LIAR };

struct neighbour {
    uint32_t node;
    bool is_dialled; /* by this node */
    uint64_t link;   /* 0: none since it is up */
};

struct sim_node {
    struct cast_state *state;    /* owned; NULL: down */
    struct public_key key;       /* its last four bytes are its number */
    struct neighbour *neighbour; /* owned */
    uint32_t n_neighbours;
    enum manner manner;
    int64_t due_ms, aware_ms, done_ms; /* -1: not yet */
    uint8_t *disk;                     /* owned: bitmap of the shards that are stored */
    uint8_t *segments;                 /* owned: likewise */
    bool has_manifest, is_named;
    struct cast_counters before; /* of the machines that it was before it crashed */
    uint64_t refetched;
};

struct swarm {
    struct swarm_options opt;
    struct fabric *net;    /* owned */
    struct sim_node *node; /* owned */
    struct node_key *trainer;
    struct digest run;
    struct sim_file file;
    struct verified *verified; /* owned */
    struct cast_out out;
    struct rng rng;
    double coarse, bound_s;
    uint32_t n_receivers, n_finished, n_written;
    uint64_t n_stored;
    bool is_over, has_origin_quit;
};

/* ---- keys -------------------------------------------------------------------------------- */

static struct public_key key_of(uint64_t seed, uint32_t i)
{
    struct public_key k;
    struct rng r = rng_of(seed, 0x6b657900000000u + i);

    for (size_t b = 0; b + 4 <= KEY_BYTES; b += 4) {
        uint32_t x = b + 4 == KEY_BYTES ? i : rng_u32(&r);
        memcpy(k.b + b, &x, 4);
    }
    return k;
}

static uint32_t number_of(const struct public_key *k)
{
    uint32_t i;

    memcpy(&i, k->b + KEY_BYTES - 4, 4);
    return i;
}

/* ---- what leaves a node ------------------------------------------------------------------ */

static void send(struct swarm *w, uint32_t i, const struct cast_act *a)
{
    uint8_t *data = xmalloc(a->value.len + 1);

    memcpy(data, a->value.data, a->value.len);
    fabric_send(w->net, i, a->link, &data, a->value.len);
}

/* Rubbish instead of a shard of which the machine says that it is not here. */
static bool send_rubbish(struct swarm *w, uint32_t i, uint64_t link, struct bytes body)
{
    uint8_t token[FILE_TOKEN_BYTES];
    struct buf envelope;
    struct msg_shard m;

    CHECK(!msg_shard_decode(&m, body, NULL));
    if (w->node[i].manner != GARBAGE || m.index >= w->file.n_shards)
        return false;
    sim_file_token(token, m.index, false);
    buf_init(&envelope, MSG_MAX_BYTES);
    cast_state_shard(w->node[i].state, &envelope, &m.content, m.index, sizeof(token));
    buf_append(&envelope, BYTES_OF(token));
    (void)fabric_send_bulk(w->net, i, link, &envelope.data, envelope.len,
                           (uint64_t)(w->file.shard_bytes * w->coarse), m.index);
    return true;
}

/* Attackers claim to have everything. */
static void send_lie(struct swarm *w, uint32_t i, const struct cast_act *a)
{
    struct msg_envelope env;
    struct msg_have have;
    struct buf body, envelope;
    bool is_read = !msg_envelope_decode(&env, a->value, NULL);

    if (is_read && env.kind == MSG_SHARD && send_rubbish(w, i, a->link, env.body))
        return;
    if (!is_read || env.kind != MSG_HAVE) {
        send(w, i, a);
        return;
    }
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    CHECK(!msg_have_decode(&have, env.body, NULL));
    have.is_all = true;
    have.bitmap = (struct bytes){NULL, 0};
    CHECK(!msg_have_encode(&body, &have, NULL));
    CHECK(!msg_envelope_encode(&envelope, env.kind, &env.run, &env.idem, buf_bytes(&body), NULL,
                               NULL));
    buf_clear(&body);
    fabric_send(w->net, i, a->link, &envelope.data, envelope.len);
}

static void serve(struct swarm *w, uint32_t i, const struct cast_act *a)
{
    struct sim_node *n = &w->node[i];
    uint8_t token[FILE_TOKEN_BYTES];
    struct buf envelope;
    uint64_t wire = (uint64_t)((double)a->bytes * w->coarse);

    if (n->manner == SILENT) {
        cast_state_served(n->state, a->link, &a->content, a->index, a->bytes,
                          fabric_now_ms(w->net), &w->out);
        return;
    }
    sim_file_token(token, a->index, n->manner != GARBAGE);
    buf_init(&envelope, MSG_MAX_BYTES);
    cast_state_shard(n->state, &envelope, &a->content, a->index, sizeof(token));
    buf_append(&envelope, BYTES_OF(token));
    if (!fabric_send_bulk(w->net, i, a->link, &envelope.data, envelope.len, wire, a->index))
        cast_state_served(n->state, a->link, &a->content, a->index, a->bytes,
                          fabric_now_ms(w->net), &w->out);
}

/* ---- what a machine wants done ----------------------------------------------------------- */

static void wake(struct swarm *w, uint32_t i, int64_t at_ms)
{
    struct sim_node *n = &w->node[i];

    if (at_ms >= n->due_ms)
        return;
    n->due_ms = at_ms;
    fabric_wake(w->net, i, at_ms, TAG_MACHINE);
}

static void store(struct swarm *w, uint32_t i, const struct cast_act *a)
{
    struct sim_node *n = &w->node[i];
    uint8_t bit = (uint8_t)(1u << (a->index % 8));

    CHECK(a->index < w->file.n_shards);
    if (n->disk[a->index / 8] & bit) {
        n->refetched++;
        return;
    }
    n->disk[a->index / 8] |= bit;
    w->n_stored += n->manner == HONEST;
}

static void keep(struct sim_node *n, const struct cast_act *a)
{
    if (a->index == CAST_MANIFEST)
        n->has_manifest = true;
    else
        n->segments[a->index / 8] |= (uint8_t)(1u << (a->index % 8));
}

static void complete(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];

    if (n->done_ms >= 0 || i == ORIGIN || n->manner != HONEST)
        return;
    n->done_ms = fabric_now_ms(w->net);
    w->is_over = ++w->n_finished == w->n_receivers;
}

static void sign_head(struct swarm *w, const struct cast_act *a)
{
    struct buf envelope;

    sim_file_sign(&w->file, w->trainer, MSG_HEAD, a->value, &envelope);
    CHECK(!cast_state_head(w->node[ORIGIN].state, buf_bytes(&envelope), fabric_now_ms(w->net),
                           &w->out, NULL));
    buf_clear(&envelope);
}

static void carry_out(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];

    for (size_t k = 0; k < w->out.n; k++) {
        struct cast_act a = w->out.v[k];
        switch (a.kind) {
        case CAST_SEND:
            if (n->manner == HONEST)
                send(w, i, &a);
            else
                send_lie(w, i, &a);
            break;
        case CAST_SERVE: serve(w, i, &a); break;
        case CAST_STORE: store(w, i, &a); break;
        case CAST_KEEP: keep(n, &a); break;
        case CAST_COMPLETE: complete(w, i); break;
        case CAST_SIGN: sign_head(w, &a); break;
        case CAST_BANNED: w->node[number_of(&a.key)].is_named = true; break;
        case CAST_WAKE: wake(w, i, a.at_ms); break;
        case CAST_EQUIVOCATED: CHECK(!"an honest trainer was accused"); break;
        case CAST_FORGET:
        case CAST_FRESH:
        case CAST_REFUSED: break;
        }
    }
    cast_out_reset(&w->out);
    if (n->aware_ms < 0 && cast_state_n_contents(n->state) > 0)
        n->aware_ms = fabric_now_ms(w->net);
}

/* ---- what happens to a node -------------------------------------------------------------- */

static bool is_signed(void *arg, const struct msg_envelope *env)
{
    return verified_check(((struct swarm *)arg)->verified, env);
}

static bool is_shard(void *arg, const struct content *c, uint32_t index,
                     const struct digest *leaf, struct bytes data)
{
    (void)arg;
    (void)c;
    return sim_file_check(index, leaf, data);
}

/* Plays the overlay: who is dialled is met at once, who dialled when it is heard. */
static void meet(struct swarm *w, uint32_t i, struct neighbour *x, uint64_t link)
{
    x->link = link;
    cast_state_meet(w->node[i].state, &w->node[x->node].key, link, x->node == ORIGIN,
                    fabric_now_ms(w->net), &w->out);
}

static void dial(struct swarm *w, uint32_t i, struct neighbour *x)
{
    if (x->is_dialled)
        meet(w, i, x, x->link ? x->link : fabric_dial(w->net, i, x->node));
}

static void restore(struct swarm *w, struct sim_node *n)
{
    for (uint32_t k = 0; k < w->file.n_segments; k++)
        if (n->segments[k / 8] & (1u << (k % 8)))
            CHECK(!cast_state_restore(n->state, buf_bytes(&w->file.segment[k]), &w->out, NULL));
    if (n->has_manifest)
        CHECK(!cast_state_restore(n->state, buf_bytes(&w->file.manifest), &w->out, NULL));
}

static void start(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];
    int64_t now_ms = fabric_now_ms(w->net);
    struct cast_state_options o = {.self = n->key,
                                   .node = n->key,
                                   .wall_ms = WALL_MS,
                                   .verify = is_signed,
                                   .check = is_shard,
                                   .arg = w};

    if (i == ORIGIN)
        o.node = w->trainer->node;
    cast_state_new(&n->state, &o);
    n->due_ms = INT64_MAX;
    restore(w, n);
    cast_state_set_run(n->state, &w->run, &w->trainer->node, now_ms, &w->out);
    cast_state_found(n->state, &w->file.content,
                     (struct bytes){n->disk, w->file.n_shards / 8 + 1}, now_ms, &w->out);
    for (uint32_t k = 0; k < n->n_neighbours; k++) {
        n->neighbour[k].link = 0;
        dial(w, i, &n->neighbour[k]);
    }
    cast_state_tick(n->state, now_ms, &w->out);
    carry_out(w, i);
}

static void add_counters(struct cast_counters *sum, const struct cast_counters *c)
{
    sum->shards_in += c->shards_in;
    sum->repeats += c->repeats;
    sum->garbage += c->garbage;
    sum->timeouts += c->timeouts;
}

static void crash(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];
    struct cast_counters c = cast_state_counters(n->state);

    add_counters(&n->before, &c);
    cast_state_free(&n->state);
    fabric_set_up(w->net, i, false);
    fabric_schedule(w->net, fabric_now_ns(w->net) + (int64_t)PART_MS * 1000000, i, TAG_PART);
}

/* Its neighbours have noticed. */
static void part(struct swarm *w, uint32_t i)
{
    for (uint32_t k = 0; k < w->node[i].n_neighbours; k++) {
        uint32_t at = w->node[i].neighbour[k].node;
        if (!w->node[at].state || fabric_is_up(w->net, i))
            continue;
        cast_state_part(w->node[at].state, &w->node[i].key, fabric_now_ms(w->net), &w->out);
        carry_out(w, at);
    }
}

static void empty_disk(struct swarm *w, struct sim_node *n)
{
    for (uint32_t k = 0; k < w->file.n_shards; k++)
        w->n_stored -= (n->disk[k / 8] >> (k % 8)) & 1u;
    memset(n->disk, 0, w->file.n_shards / 8 + 1);
    memset(n->segments, 0, w->file.n_segments / 8 + 1);
    n->has_manifest = false;
}

static void come_back(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];

    if (w->opt.is_churn_empty)
        empty_disk(w, n);
    fabric_set_up(w->net, i, true);
    start(w, i);
    for (uint32_t k = 0; k < n->n_neighbours; k++) {
        uint32_t at = n->neighbour[k].node;
        for (uint32_t j = 0; w->node[at].state && j < w->node[at].n_neighbours; j++)
            if (w->node[at].neighbour[j].node == i) {
                dial(w, at, &w->node[at].neighbour[j]);
                carry_out(w, at);
            }
    }
}

/* ---- the origin -------------------------------------------------------------------------- */

static void publish_segment(struct swarm *w)
{
    struct sim_node *n = &w->node[ORIGIN];
    uint32_t first = w->n_written * MSG_MAX_LEAVES;

    for (uint32_t k = first; k < first + MSG_MAX_LEAVES && k < w->file.n_shards; k++)
        n->disk[k / 8] |= (uint8_t)(1u << (k % 8));
    CHECK(!cast_state_append(n->state, buf_bytes(&w->file.segment[w->n_written++]),
                             fabric_now_ms(w->net), &w->out, NULL));
    if (w->n_written == w->file.n_segments)
        CHECK(!cast_state_publish(n->state, buf_bytes(&w->file.manifest), fabric_now_ms(w->net),
                                  &w->out, NULL));
    carry_out(w, ORIGIN);
}

static void publish(struct swarm *w)
{
    double segment_s = w->opt.bytes * 8 / w->opt.write / w->file.n_segments;

    for (uint32_t k = 0; k < w->file.n_segments; k++)
        if (w->opt.write > 0)
            fabric_schedule(w->net, START_MS * 1000000LL + (int64_t)((k + 1) * segment_s * 1e9),
                            ORIGIN, TAG_WRITE);
        else
            publish_segment(w);
}

/* ---- the course -------------------------------------------------------------------------- */

static void on_message(void *ctx, uint32_t node, uint64_t link, uint32_t peer,
                       struct bytes data)
{
    struct swarm *w = ctx;
    struct sim_node *n = &w->node[node];

    for (uint32_t k = 0; k < n->n_neighbours; k++) {
        struct neighbour *x = &n->neighbour[k];
        if (x->node == peer && !x->is_dialled && x->link != link)
            meet(w, node, x, link);
    }
    cast_state_message(n->state, &w->node[peer].key, data, fabric_now_ms(w->net), &w->out);
    carry_out(w, node);
}

static void on_sent(void *ctx, uint32_t node, uint64_t link, uint32_t tag, uint64_t wire)
{
    struct swarm *w = ctx;
    bool quits = node == ORIGIN && w->opt.origin_quits > 0 &&
                 (double)fabric_bytes_out(w->net, ORIGIN) > w->opt.origin_quits * w->opt.bytes;

    cast_state_served(w->node[node].state, link, &w->file.content, tag,
                      (uint64_t)((double)wire / w->coarse), fabric_now_ms(w->net), &w->out);
    carry_out(w, node);
    if (quits)
        crash(w, ORIGIN);
}

static void on_machine(struct swarm *w, uint32_t i)
{
    struct sim_node *n = &w->node[i];

    if (n->due_ms > fabric_now_ms(w->net))
        return; /* it was for an earlier purpose */
    n->due_ms = INT64_MAX;
    cast_state_tick(n->state, fabric_now_ms(w->net), &w->out);
    carry_out(w, i);
}

static void report(struct swarm *w)
{
    double now_s = ((double)fabric_now_ms(w->net) - START_MS) / 1000;
    double all = (double)w->n_receivers * w->file.n_shards;

    if (w->opt.progress)
        w->opt.progress(w->opt.ctx, now_s, (double)w->n_stored / all);
    if (now_s > GIVE_UP * w->bound_s)
        w->is_over = true;
    fabric_schedule(w->net, fabric_now_ns(w->net) + (int64_t)(w->bound_s / 20 * 1e9), ORIGIN,
                    TAG_REPORT);
}

static void on_timer(void *ctx, uint32_t node, uint32_t tag)
{
    struct swarm *w = ctx;

    switch (tag) {
    case TAG_MACHINE: on_machine(w, node); break;
    case TAG_PUBLISH: publish(w); break;
    case TAG_WRITE: publish_segment(w); break;
    case TAG_CRASH: crash(w, node); break;
    case TAG_RETURN: come_back(w, node); break;
    case TAG_PART: part(w, node); break;
    default: report(w); break;
    }
}

/* ---- making ------------------------------------------------------------------------------ */

static enum manner manner_of(const struct swarm_options *o, double x)
{
    if (x < o->garbage)
        return GARBAGE;
    if (x < o->garbage + o->silent)
        return SILENT;
    return x < o->garbage + o->silent + o->liars ? LIAR : HONEST;
}

/* Shares are met exactly: node i has place p(i) of a random order. */
static void choose_manners(struct swarm *w)
{
    uint32_t n = w->opt.nodes - 1, *order = xcalloc(n + 1, sizeof(*order));

    for (uint32_t i = 0; i < n; i++)
        order[i] = i + 1;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(&w->rng, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < n; i++) {
        w->node[order[i]].manner = manner_of(&w->opt, (i + 0.5) / n);
        w->n_receivers += w->node[order[i]].manner == HONEST;
    }
    /* Those at the other end of the order crash: honest ones, as long as there are any. */
    for (uint32_t i = 0; i < (uint32_t)(w->opt.churn * n + 0.5); i++) {
        double at = START_MS / 1e3 + w->bound_s * (0.05 + 0.9 * (double)rng_f32(&w->rng));
        uint32_t who = order[n - 1 - i];
        fabric_schedule(w->net, (int64_t)(at * 1e9), who, TAG_CRASH);
        fabric_schedule(w->net, (int64_t)((at + w->opt.down_s) * 1e9), who, TAG_RETURN);
    }
    free(order);
}

static void add_neighbour(struct sim_node *n, uint32_t other, bool is_dialled)
{
    n->neighbour = xrealloc(n->neighbour, (n->n_neighbours + 1) * sizeof(*n->neighbour));
    n->neighbour[n->n_neighbours++] = (struct neighbour){other, is_dialled, 0};
}

static void make_graph(struct swarm *w)
{
    struct graph_edge *edge = xcalloc((size_t)w->opt.nodes * w->opt.links + 1, sizeof(*edge));
    uint32_t n = graph_regular(edge, w->opt.nodes, w->opt.links, &w->rng);

    for (uint32_t i = 0; i < n; i++) {
        add_neighbour(&w->node[edge[i].from], edge[i].to, true);
        add_neighbour(&w->node[edge[i].to], edge[i].from, false);
    }
    free(edge);
}

double swarm_bound_s(const struct swarm_options *o)
{
    uint32_t n = o->nodes - 1;
    double honest = n - (uint32_t)((o->garbage + o->silent + o->liars) * n + 0.5);
    double bits = o->bytes * 8, s = bits / o->origin_up;

    if (bits / o->down > s)
        s = bits / o->down;
    if (honest * bits / (o->origin_up + honest * o->up) > s)
        s = honest * bits / (o->origin_up + honest * o->up);
    return s;
}

static void swarm_make(struct swarm *w, const struct swarm_options *opt)
{
    const uint8_t seed[32] = {'o', 'r', 'i', 'g', 'i', 'n'};
    double shard = opt->bytes / opt->shards;

    *w = (struct swarm){
        .opt = *opt, .rng = rng_of(opt->seed, 0x7377), .bound_s = swarm_bound_s(opt)};
    uint32_t shard_bytes = shard > SHARD_BYTES ? SHARD_BYTES : (uint32_t)(shard + 0.5);
    w->coarse = shard / shard_bytes;
    key_derive(&w->trainer, seed);
    memset(w->run.b, 7, sizeof(w->run.b));
    sim_file_make(&w->file, w->trainer, &w->run, opt->shards, shard_bytes);
    verified_new(&w->verified);
    cast_out_init(&w->out);
    uint64_t chunk = (uint64_t)(shard / PARTS_A_SHARD) + FABRIC_MESSAGE_BYTES;
    struct fabric_options o = {.seed = opt->seed,
                               .n_nodes = opt->nodes,
                               .latency_ms = opt->latency_ms,
                               .coarse = w->coarse > 1 ? w->coarse : 1,
                               .chunk_bytes = chunk < CHUNK_MIN ? CHUNK_MIN : chunk,
                               .buffer_bytes =
                                   (uint64_t)(AHEAD_SHARDS * shard + AHEAD_BYTES * w->coarse),
                               .unevenness = opt->unevenness,
                               .has_headers = opt->has_headers,
                               .ctx = w,
                               .message = on_message,
                               .timer = on_timer,
                               .sent = on_sent};
    fabric_new(&w->net, &o);
    w->node = xcalloc(opt->nodes, sizeof(*w->node));
    for (uint32_t i = 0; i < opt->nodes; i++) {
        struct sim_node *n = &w->node[i];
        n->key = key_of(opt->seed, i);
        n->aware_ms = n->done_ms = -1;
        n->disk = xcalloc(opt->shards / 8 + 1, 1);
        n->segments = xcalloc(w->file.n_segments / 8 + 1, 1);
        fabric_set_rates(w->net, i, i == ORIGIN ? opt->origin_up : opt->up, opt->down);
    }
    choose_manners(w);
    make_graph(w);
    fabric_schedule(w->net, START_MS * 1000000LL, ORIGIN, TAG_PUBLISH);
    fabric_schedule(w->net, START_MS * 1000000LL, ORIGIN, TAG_REPORT);
    for (uint32_t i = 0; i < opt->nodes; i++)
        start(w, i);
}

static void swarm_clear(struct swarm *w)
{
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        cast_state_free(&w->node[i].state);
        free(w->node[i].neighbour);
        free(w->node[i].disk);
        free(w->node[i].segments);
    }
    free(w->node);
    fabric_free(&w->net);
    sim_file_clear(&w->file);
    verified_free(&w->verified);
    cast_out_clear(&w->out);
    key_free(&w->trainer);
}

/* ---- figures ----------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The value that a share q of all n are at most. */
static double quantile(const double *sorted, uint32_t n, double q)
{
    uint32_t i = (uint32_t)(q * n);

    return n ? sorted[i < n ? i : n - 1] : 0;
}

static uint32_t collect(const struct swarm *w, double *v, bool wants_done)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i < w->opt.nodes; i++) {
        int64_t at = wants_done ? w->node[i].done_ms : w->node[i].aware_ms;
        if (w->node[i].manner == HONEST && at >= 0)
            v[n++] = (double)(at - START_MS) / 1000;
    }
    qsort(v, n, sizeof(*v), compare_doubles);
    return n;
}

static void count_up(const struct swarm *w, struct swarm_result *out)
{
    struct cast_counters sum = {0};

    out->n_honest_named = w->node[ORIGIN].is_named;
    for (uint32_t i = 1; i < w->opt.nodes; i++) {
        const struct sim_node *n = &w->node[i];
        out->n_named += n->is_named && n->manner != HONEST;
        out->n_honest_named += n->is_named && n->manner == HONEST;
        out->refetched += n->refetched;
        if (n->manner != HONEST)
            continue;
        add_counters(&sum, &n->before);
        if (n->state) {
            struct cast_counters c = cast_state_counters(n->state);
            add_counters(&sum, &c);
        }
    }
    double bad = (double)(sum.garbage + sum.repeats);
    out->wasted = bad / ((double)sum.shards_in + bad);
    out->garbage = (double)sum.garbage / ((double)sum.shards_in + bad);
    out->timeouts = sum.timeouts;
}

void swarm_run(struct swarm_result *out, const struct swarm_options *opt)
{
    struct swarm w;
    double *v = xcalloc(opt->nodes, sizeof(*v));

    swarm_make(&w, opt);
    while (!w.is_over && fabric_step(w.net))
        ;
    struct fabric_counters c = fabric_counters(w.net);
    *out = (struct swarm_result){.bound_s = w.bound_s,
                                 .n_receivers = w.n_receivers,
                                 .n_finished = w.n_finished,
                                 .events = c.events,
                                 .messages = c.messages,
                                 .small_share = (double)c.small_bytes / (double)c.bulk_bytes,
                                 .origin_copies =
                                     (double)fabric_bytes_out(w.net, ORIGIN) / opt->bytes};
    out->announce_p99_s = quantile(v, collect(&w, v, false), 0.99);
    uint32_t n = collect(&w, v, true);
    out->p50_s = quantile(v, n, 0.5);
    out->p99_s = quantile(v, n, 0.99);
    out->max_s = quantile(v, n, 1.0);
    count_up(&w, out);
    swarm_clear(&w);
    free(v);
}
