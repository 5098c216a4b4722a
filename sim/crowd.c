#include "sim/crowd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "node/key.h"
#include "proto/msg.h"
#include "shardcast/overlay.h"
#include "sim/fabric.h"
#include "sim/verified.h"

#define PUSHES    100u /* nodes that an attacker dials without being assigned to them */
#define REPAIR_S  40.0 /* watched after the crash */
#define LINKS_MAX 64u
#define RATE      1e9

enum { TAG_MACHINE, TAG_JOIN, TAG_COUNT, TAG_LOOK, TAG_END };

struct member {
    struct overlay *o; /* owned; NULL: not here (yet, or any more), or an attacker */
    struct public_key key;
    struct buf cert;
    uint32_t peer[OVERLAY_ASSIGNED + OVERLAY_SEEDS];
    uint32_t n_peers, n_wanted;
    bool is_attacker, is_hidden, is_crashed, is_hurt;
    int64_t due_ms, repaired_ms;
};

struct crowd {
    struct crowd_options opt;
    struct crowd_result *result;
    struct fabric *net;    /* owned */
    struct member *member; /* owned */
    struct node_key *orchestrator;
    struct digest run;
    struct verified *verified; /* owned */
    struct msg_roster *roster; /* owned; NULL: certificates */
    struct overlay_out out;
    struct rng rng;
    uint32_t n_attackers;
    int64_t crash_ms;
    uint64_t bytes_before;
    bool is_over;
};

static uint32_t number_of(const struct public_key *k)
{
    uint32_t i;

    memcpy(&i, k->b + KEY_BYTES - 4, 4);
    return i;
}

/* ---- certificates ------------------------------------------------------------------------ */

static bool is_dialable(const struct crowd *w, uint32_t i)
{
    return !w->member[i].is_hidden;
}

static void draw_peers(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    uint32_t n = w->opt.nodes;

    for (uint32_t want = 0; want < OVERLAY_ASSIGNED + OVERLAY_SEEDS; want++) {
        bool is_seed = want >= OVERLAY_ASSIGNED;
        for (uint32_t tries = 0; tries < 100; tries++) {
            uint32_t x = is_seed && w->opt.seeds ? (uint32_t)rng_below(&w->rng, w->opt.seeds)
                                                 : (uint32_t)rng_below(&w->rng, n);
            bool is_known = x == i || !is_dialable(w, x);
            for (uint32_t k = 0; k < m->n_peers; k++)
                is_known |= m->peer[k] == x;
            if (is_known)
                continue;
            m->peer[m->n_peers++] = x;
            break;
        }
    }
}

static void fill_cert(const struct crowd *w, uint32_t i, struct msg_cert *c)
{
    const struct member *m = &w->member[i];

    *c = (struct msg_cert){.seq = 1,
                           .node = m->key,
                           .transport = m->key,
                           .owner = m->key,
                           .role = i < w->opt.seeds ? ROLE_RELAY : ROLE_INFERENCE};
    if (!m->is_hidden)
        snprintf(c->endpoint, sizeof(c->endpoint), "tcp://10.%u.%u.1:1", i >> 8, i & 255u);
}

static void make_cert(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    struct idem idem = {{1}};
    struct msg_cert c;
    struct buf body, peers;

    fill_cert(w, i, &c);
    buf_init(&peers, MSG_MAX_PEERS * KEY_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&m->cert, MSG_MAX_BYTES);
    for (uint32_t k = 0; k < m->n_peers; k++)
        buf_append(&peers, BYTES_OF(w->member[m->peer[k]].key.b));
    c.peers = buf_bytes(&peers);
    CHECK(!msg_cert_encode(&body, &c, NULL));
    CHECK(!msg_envelope_encode(&m->cert, MSG_CERT, &w->run, &idem, buf_bytes(&body),
                               w->orchestrator->node_secret, NULL));
    buf_clear(&body);
    buf_clear(&peers);
}

static void make_roster(struct crowd *w)
{
    CHECK(w->opt.nodes <= MSG_MAX_ROSTER);
    w->roster = xcalloc(1, sizeof(*w->roster));
    w->roster->n = w->opt.nodes;
    w->roster->seq = 1;
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        struct roster_entry *e = &w->roster->entry[i];
        struct msg_cert c;
        fill_cert(w, i, &c);
        e->node = c.node;
        e->transport = c.transport;
        e->owner = c.owner;
        e->role = c.role;
        memcpy(e->endpoint, c.endpoint, sizeof(e->endpoint));
    }
}

/* ---- honest members ---------------------------------------------------------------------- */

static void wake(struct crowd *w, uint32_t i, int64_t at_ms)
{
    if (at_ms >= w->member[i].due_ms)
        return;
    w->member[i].due_ms = at_ms;
    fabric_wake(w->net, i, at_ms, TAG_MACHINE);
}

static void send(struct crowd *w, uint32_t i, struct overlay_act *a)
{
    fabric_send(w->net, i, a->link, &a->owned, a->value.len);
}

static void note_part(struct crowd *w, const struct public_key *key)
{
    const struct member *x = &w->member[number_of(key)];
    double after_s = (double)(fabric_now_ms(w->net) - w->crash_ms) / 1000;

    if (x->is_crashed && after_s > w->result->detect_max_s)
        w->result->detect_max_s = after_s;
}

static void carry_out(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];

    for (size_t k = 0; k < w->out.n; k++) {
        struct overlay_act *a = &w->out.v[k];
        switch (a->kind) {
        case OVERLAY_DIAL: {
            struct public_key key = a->key; /* the list may move */
            overlay_linked(m->o, &key, fabric_dial(w->net, i, number_of(&key)),
                           fabric_now_ms(w->net), &w->out);
            break;
        }
        case OVERLAY_HANG_UP: fabric_hang_up(w->net, i, a->link); break;
        case OVERLAY_SEND: send(w, i, a); break;
        case OVERLAY_PART: note_part(w, &a->key); break;
        case OVERLAY_WAKE: wake(w, i, a->at_ms); break;
        case OVERLAY_MEET: break;
        }
    }
    overlay_out_reset(&w->out);
}

static bool is_signed(void *arg, const struct msg_envelope *env)
{
    return verified_check(arg, env);
}

static void join(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    struct overlay_options o = {
        .self = m->key, .salt = w->opt.seed, .verify = is_signed, .arg = w->verified};

    overlay_new(&m->o, &o);
    m->due_ms = INT64_MAX;
    overlay_set_run(m->o, &w->run, &w->orchestrator->node, fabric_now_ms(w->net));
    if (w->roster)
        overlay_set_roster(m->o, w->roster, fabric_now_ms(w->net), &w->out);
    else
        CHECK(
            !overlay_certify(m->o, buf_bytes(&m->cert), fabric_now_ms(w->net), &w->out, NULL));
    for (uint32_t k = 0; !w->roster && k < m->n_peers; k++)
        CHECK(!overlay_certify(m->o, buf_bytes(&w->member[m->peer[k]].cert),
                               fabric_now_ms(w->net), &w->out, NULL));
    carry_out(w, i);
}

/* ---- attackers --------------------------------------------------------------------------- */

#define SAY(w, i, link, KIND, name, message)                                                   \
    do {                                                                                       \
        struct idem idem_ = {{2}};                                                             \
        struct buf body_, envelope_;                                                           \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        buf_init(&envelope_, MSG_MAX_BYTES);                                                   \
        CHECK(!msg_##name##_encode(&body_, &(message), NULL));                                 \
        CHECK(!msg_envelope_encode(&envelope_, MSG_##KIND, &(w)->run, &idem_,                  \
                                   buf_bytes(&body_), NULL, NULL));                            \
        buf_clear(&body_);                                                                     \
        fabric_send((w)->net, i, link, &envelope_.data, envelope_.len);                        \
    } while (0)

static void attack(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    struct msg_neighbour n = {.cert = buf_bytes(&m->cert)};

    for (uint32_t k = 0; k < m->n_peers + PUSHES; k++) {
        uint32_t to = k < m->n_peers ? m->peer[k] : (uint32_t)rng_below(&w->rng, w->opt.nodes);
        if (to == i || w->member[to].is_attacker || w->member[to].is_hidden)
            continue;
        SAY(w, i, fabric_dial(w->net, i, to), NEIGHBOUR, neighbour, n);
    }
}

static uint32_t other_attackers(struct crowd *w, struct bytes cert[MSG_MAX_CERTS])
{
    uint32_t n = 0;

    for (uint32_t tries = 0; tries < 200 && n < MSG_MAX_CERTS; tries++) {
        const struct member *x = &w->member[rng_below(&w->rng, w->opt.nodes)];
        if (x->is_attacker)
            cert[n++] = buf_bytes(&x->cert);
    }
    return n;
}

static void deceive(struct crowd *w, uint32_t i, uint64_t link, struct bytes frame)
{
    struct msg_envelope env;

    CHECK(!msg_envelope_decode(&env, frame, NULL));
    if (env.kind == MSG_NEIGHBOUR) {
        struct msg_neighbour_reply r = {.is_accepted = true};
        SAY(w, i, link, NEIGHBOUR_REPLY, neighbour_reply, r);
    } else if (env.kind == MSG_PING) {
        struct msg_ping p;
        CHECK(!msg_ping_decode(&p, env.body, NULL));
        struct msg_pong r = {.nonce = p.nonce};
        SAY(w, i, link, PONG, pong, r);
    } else if (env.kind == MSG_SHUFFLE) {
        struct msg_shuffle_reply r = {0};
        r.n = other_attackers(w, r.cert);
        SAY(w, i, link, SHUFFLE_REPLY, shuffle_reply, r);
    }
}

/* ---- looking ----------------------------------------------------------------------------- */

/* How many honest nodes that are up honest links do not connect with node 0. */
static uint32_t count_apart(const struct crowd *w)
{
    uint32_t n = w->opt.nodes, n_queue = 1, n_up = 0;
    uint32_t *queue = xcalloc(n, sizeof(*queue));
    bool *is_seen = xcalloc(n, 1);

    is_seen[0] = true;
    for (uint32_t at = 0; at < n_queue; at++) {
        const struct overlay *o = w->member[queue[at]].o;
        for (size_t k = 0; k < overlay_n_neighbours(o); k++) {
            struct overlay_neighbour x = overlay_neighbour(o, k);
            uint32_t to = number_of(&x.key);
            if (!w->member[to].o || is_seen[to])
                continue;
            is_seen[to] = true;
            queue[n_queue++] = to;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        n_up += w->member[i].o != NULL;
    free(queue);
    free(is_seen);
    return n_up - n_queue;
}

static uint32_t count_chosen(const struct overlay *o)
{
    uint32_t n = 0;

    for (size_t k = 0; k < overlay_n_neighbours(o); k++)
        n += overlay_neighbour(o, k).is_chosen;
    return n;
}

static void count_links(struct crowd *w)
{
    struct crowd_result *r = w->result;

    r->min_honest = UINT32_MAX;
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        const struct overlay *o = w->member[i].o;
        uint32_t n_honest = 0;
        if (!o)
            continue;
        for (size_t k = 0; k < overlay_n_neighbours(o); k++) {
            struct overlay_neighbour x = overlay_neighbour(o, k);
            n_honest += !w->member[number_of(&x.key)].is_attacker;
        }
        r->n_honest++;
        r->n_below += n_honest < 2;
        r->links += (double)overlay_n_neighbours(o);
        r->chosen += count_chosen(o);
        r->honest_links += n_honest;
        if (n_honest < r->min_honest)
            r->min_honest = n_honest;
        w->member[i].n_wanted = count_chosen(o);
        r->n_wrong += (uint32_t)overlay_counters(o).lost;
    }
    r->links /= r->n_honest;
    r->chosen /= r->n_honest;
    r->honest_links /= r->n_honest;
    r->n_apart = count_apart(w);
}

static void crash_some(struct crowd *w)
{
    w->crash_ms = fabric_now_ms(w->net);
    for (uint32_t i = w->opt.seeds; i < w->opt.nodes; i++) {
        struct member *m = &w->member[i];
        if (!m->o || (double)rng_f32(&w->rng) >= w->opt.crash)
            continue;
        m->is_crashed = true;
        overlay_free(&m->o);
        fabric_set_up(w->net, i, false);
    }
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        struct member *m = &w->member[i];
        for (size_t k = 0; m->o && k < overlay_n_neighbours(m->o); k++) {
            struct overlay_neighbour x = overlay_neighbour(m->o, k);
            m->is_hurt |= x.is_chosen && w->member[number_of(&x.key)].is_crashed;
        }
    }
}

/* Ten times a second: who has again what it had, of nodes that live? */
static void look(struct crowd *w)
{
    int64_t now_ms = fabric_now_ms(w->net);

    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        struct member *m = &w->member[i];
        bool is_whole =
            m->o && m->is_hurt && m->repaired_ms == 0 && count_chosen(m->o) >= m->n_wanted;
        for (size_t k = 0; is_whole && k < overlay_n_neighbours(m->o); k++) {
            struct overlay_neighbour x = overlay_neighbour(m->o, k);
            is_whole = !w->member[number_of(&x.key)].is_crashed;
        }
        if (is_whole)
            m->repaired_ms = now_ms;
    }
    if ((double)(now_ms - w->crash_ms) < REPAIR_S * 1000)
        fabric_schedule(w->net, fabric_now_ns(w->net) + 100000000, 0, TAG_LOOK);
    else
        w->is_over = true;
}

static int compare_ms(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void sum_up(struct crowd *w)
{
    struct crowd_result *r = w->result;
    int64_t *v = xcalloc(w->opt.nodes, sizeof(*v));
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        const struct member *m = &w->member[i];
        if (!m->o || !m->is_hurt)
            continue;
        r->n_unrepaired += m->repaired_ms == 0;
        if (m->repaired_ms)
            v[n++] = m->repaired_ms - w->crash_ms;
    }
    qsort(v, n, sizeof(*v), compare_ms);
    if (n) {
        r->repair_p99_s = (double)v[(size_t)(0.99 * n)] / 1000;
        r->repair_max_s = (double)v[n - 1] / 1000;
    }
    r->n_apart_after = count_apart(w);
    free(v);
}

/* ---- the course -------------------------------------------------------------------------- */

static void on_message(void *ctx, uint32_t node, uint64_t link, uint32_t peer,
                       struct bytes data)
{
    struct crowd *w = ctx;
    struct member *m = &w->member[node];

    if (m->is_attacker) {
        deceive(w, node, link, data);
    } else if (m->o) {
        overlay_message(m->o, link, &w->member[peer].key, data, fabric_now_ms(w->net), &w->out);
        carry_out(w, node);
    }
}

static void on_timer(void *ctx, uint32_t node, uint32_t tag)
{
    struct crowd *w = ctx;
    struct member *m = &w->member[node];

    switch (tag) {
    case TAG_MACHINE:
        if (!m->o || m->due_ms > fabric_now_ms(w->net))
            break;
        m->due_ms = INT64_MAX;
        overlay_tick(m->o, fabric_now_ms(w->net), &w->out);
        carry_out(w, node);
        break;
    case TAG_JOIN:
        if (m->is_attacker)
            attack(w, node);
        else
            join(w, node);
        break;
    case TAG_COUNT: {
        struct fabric_counters c = fabric_counters(w->net);
        count_links(w);
        w->result->bytes_s = (double)(c.small_bytes - w->bytes_before) / w->opt.nodes /
                             (w->opt.settle_s > 0 ? w->opt.settle_s : 1);
        crash_some(w);
        look(w);
        break;
    }
    case TAG_END: w->bytes_before = fabric_counters(w->net).small_bytes; break;
    default: look(w); break;
    }
}

static void crowd_make(struct crowd *w)
{
    const uint8_t seed[32] = {'o', 'r', 'c', 'h'};
    const struct crowd_options *o = &w->opt;
    struct fabric_options net = {.seed = o->seed,
                                 .n_nodes = o->nodes,
                                 .latency_ms = o->latency_ms,
                                 .coarse = 1,
                                 .chunk_bytes = 65536,
                                 .ctx = w,
                                 .message = on_message,
                                 .timer = on_timer};

    fabric_new(&w->net, &net);
    verified_new(&w->verified);
    key_derive(&w->orchestrator, seed);
    memset(w->run.b, 9, sizeof(w->run.b));
    w->member = xcalloc(o->nodes, sizeof(*w->member));
    w->n_attackers = (uint32_t)(o->attackers * o->nodes + 0.5);
    for (uint32_t i = 0; i < o->nodes; i++) {
        struct member *m = &w->member[i];
        for (size_t b = 0; b + 4 <= KEY_BYTES; b += 4) {
            uint32_t x = b + 4 == KEY_BYTES ? i : rng_u32(&w->rng);
            memcpy(m->key.b + b, &x, 4);
        }
        m->is_attacker = i >= o->nodes - w->n_attackers;
        m->is_hidden = !m->is_attacker && i >= o->seeds && (double)rng_f32(&w->rng) < o->hidden;
        fabric_set_rates(w->net, i, RATE, RATE);
    }
    for (uint32_t i = 0; i < o->nodes; i++)
        draw_peers(w, i);
    for (uint32_t i = 0; i < o->nodes; i++)
        make_cert(w, i);
    if (o->has_roster)
        make_roster(w);
    for (uint32_t i = 0; i < o->nodes; i++) {
        bool is_early = i < o->seeds || w->member[i].is_attacker;
        double at_s = is_early ? 0 : o->join_s * (0.1 + 0.9 * (double)rng_f32(&w->rng));
        /* Attackers knock as soon as each of their victims is there, the last time at the end. */
        fabric_schedule(w->net, (int64_t)(at_s * 1e9), i, TAG_JOIN);
        for (int k = 1; w->member[i].is_attacker && k <= 10; k++)
            fabric_schedule(w->net, (int64_t)(o->join_s * 1e8 * k), i, TAG_JOIN);
    }
    fabric_schedule(w->net, (int64_t)(o->join_s * 1e9), 0, TAG_END);
    fabric_schedule(w->net, (int64_t)((o->join_s + o->settle_s) * 1e9), 0, TAG_COUNT);
}

static void crowd_clear(struct crowd *w)
{
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        overlay_free(&w->member[i].o);
        buf_clear(&w->member[i].cert);
    }
    free(w->member);
    free(w->roster);
    fabric_free(&w->net);
    verified_free(&w->verified);
    overlay_out_clear(&w->out);
    key_free(&w->orchestrator);
}

void crowd_run(struct crowd_result *out, const struct crowd_options *opt)
{
    struct crowd w = {.opt = *opt, .result = out, .rng = rng_of(opt->seed, 0x63726f)};

    *out = (struct crowd_result){0};
    overlay_out_init(&w.out);
    crowd_make(&w);
    while (!w.is_over && fabric_step(w.net))
        ;
    sum_up(&w);
    out->messages = fabric_counters(w.net).messages;
    out->bytes = fabric_counters(w.net).small_bytes;
    crowd_clear(&w);
}
