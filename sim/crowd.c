#include "sim/crowd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "proto/msg.h"
#include "shardcast/overlay.h"
#include "sim/fabric.h"

#define PUSHES     100u /* nodes that an attacker dials without being assigned to them */
#define REPAIR_S   40.0 /* watched after the crash */
#define VICTIMS_MS 60000
#define RATE       1e9

enum { TAG_MACHINE, TAG_JOIN, TAG_COUNT, TAG_LOOK, TAG_END };

struct member {
    struct overlay *o; /* owned; NULL: not here (yet, or any more), or an attacker */
    struct public_key key;
    uint32_t peer[OVERLAY_ASSIGNED + OVERLAY_SEEDS]; /* of an attacker: whom it may dial */
    uint32_t n_peers, n_wanted;
    bool is_attacker, is_hidden, is_crashed, is_hurt;
    int64_t due_ms, repaired_ms;
};

struct crowd {
    struct crowd_options opt;
    struct crowd_result *result;
    struct fabric *net;    /* owned */
    struct member *member; /* owned */
    struct digest run;
    struct overlay_roster *roster; /* owned */
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

/* ---- the roster -------------------------------------------------------------------------- */

/* In the order in which they come here, so that attackers stand together: for ranks that is all
 * the same. */
static void make_roster(struct crowd *w)
{
    struct msg_roster *r = xcalloc(1, sizeof(*r));

    CHECK(w->opt.nodes <= MSG_MAX_ROSTER);
    r->n = w->opt.nodes;
    r->seq = 1;
    for (uint32_t i = 0; i < w->opt.nodes; i++) {
        const struct member *m = &w->member[i];
        struct roster_entry *e = &r->entry[i];
        e->node = e->transport = e->owner = m->key;
        e->role = i < w->opt.seeds ? ROLE_RELAY : ROLE_INFERENCE;
        if (!m->is_hidden)
            snprintf(e->endpoint, sizeof(e->endpoint), "tcp://10.%u.%u.1:1", i >> 8, i & 255u);
    }
    overlay_roster_new(&w->roster, r);
    free(r);
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
        case OVERLAY_MEET:
        case OVERLAY_SUSPECT: break;
        }
    }
    overlay_out_reset(&w->out);
}

static void join(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    const struct overlay_options o = {.self = m->key, .salt = w->opt.seed};

    overlay_new(&m->o, &o);
    m->due_ms = INT64_MAX;
    overlay_set_run(m->o, &w->run, fabric_now_ms(w->net));
    overlay_set_roster(m->o, w->roster, fabric_now_ms(w->net), &w->out);
    carry_out(w, i);
}

/* ---- attackers --------------------------------------------------------------------------- */

static void say(struct crowd *w, uint32_t i, uint64_t link, enum msg_kind kind,
                struct buf *body)
{
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    CHECK(!buf_status(body, NULL));
    CHECK(!msg_envelope_encode(&envelope, kind, &w->run, NULL, buf_bytes(body), NULL, NULL));
    buf_clear(body);
    fabric_send(w->net, i, link, &envelope.data, envelope.len);
}

/* Whom the rules let an attacker dial: what an honest machine in its place would. */
static void find_victims(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];
    const struct overlay_options o = {.self = m->key, .salt = w->opt.seed};
    struct overlay_out out;
    struct overlay *x;
    int64_t now_ms = 0;

    overlay_out_init(&out);
    overlay_new(&x, &o);
    overlay_set_run(x, &w->run, now_ms);
    overlay_set_roster(x, w->roster, now_ms, &out);
    /* Nobody answers, so it tries all that are assigned to it. */
    while (now_ms < VICTIMS_MS && m->n_peers < OVERLAY_ASSIGNED + OVERLAY_SEEDS) {
        for (size_t k = 0; k < out.n; k++) {
            uint32_t to = number_of(&out.v[k].key);
            bool is_new = out.v[k].kind == OVERLAY_DIAL;
            for (uint32_t j = 0; j < m->n_peers; j++)
                is_new &= m->peer[j] != to;
            if (is_new && m->n_peers < OVERLAY_ASSIGNED + OVERLAY_SEEDS)
                m->peer[m->n_peers++] = to;
        }
        overlay_out_reset(&out);
        now_ms += 500;
        overlay_tick(x, now_ms, &out);
    }
    overlay_out_clear(&out);
    overlay_free(&x);
}

static void attack(struct crowd *w, uint32_t i)
{
    struct member *m = &w->member[i];

    if (m->n_peers == 0)
        find_victims(w, i);
    for (uint32_t k = 0; k < m->n_peers + PUSHES; k++) {
        uint32_t to = k < m->n_peers ? m->peer[k] : (uint32_t)rng_below(&w->rng, w->opt.nodes);
        struct buf nothing;
        if (to == i || w->member[to].is_attacker || w->member[to].is_hidden)
            continue;
        buf_init(&nothing, 0);
        say(w, i, fabric_dial(w->net, i, to), MSG_NEIGHBOUR, &nothing);
    }
}

static void deceive(struct crowd *w, uint32_t i, uint64_t link, struct bytes frame)
{
    struct msg_envelope env;
    struct buf body;

    CHECK(!msg_envelope_decode(&env, frame, NULL));
    buf_init(&body, MSG_MAX_BYTES);
    if (env.kind == MSG_NEIGHBOUR) {
        struct msg_neighbour_reply r = {.is_accepted = true};
        CHECK(!msg_neighbour_reply_encode(&body, &r, NULL));
        say(w, i, link, MSG_NEIGHBOUR_REPLY, &body);
    } else if (env.kind == MSG_PING) {
        struct msg_ping p;
        CHECK(!msg_ping_decode(&p, env.body, NULL));
        struct msg_pong r = {.nonce = p.nonce};
        CHECK(!msg_pong_encode(&body, &r, NULL));
        say(w, i, link, MSG_PONG, &body);
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
    for (uint32_t i = 0; i < w->opt.nodes; i++)
        overlay_free(&w->member[i].o);
    free(w->member);
    overlay_roster_free(&w->roster);
    fabric_free(&w->net);
    overlay_out_clear(&w->out);
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
