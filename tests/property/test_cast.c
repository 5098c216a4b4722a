/*
 * Networks of cast_state machines in virtual time: messages are lost, repeated and reordered,
 * nodes restart with what they had on disk, and one peer serves garbage while claiming to have
 * everything. Whatever happens, every honest node ends up with every version kept, bit for bit,
 * and no byte that is not the trainer's is stored or served.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "node/key.h"
#include "proto/digest.h"
#include "shardcast/cast_state.h"
#include "support/random.h"
#include "support/test.h"

#include "../unit/shardcast/versions.h"

#define NODES_MAX        8u
#define VERSIONS         6u
#define KEEP             4u
#define LINKS_MAX        4096u
#define FLIGHT_MAX       65536u
#define SHARD            65536u /* what files of this size are cut into */
#define STEP_MS          1
#define END_MS           240000
#define PUBLISH_EVERY_MS 1500

struct part { /* of a content on a disk */
    struct content content;
    uint32_t index; /* of a shard; of envelopes, a segment's, or CAST_MANIFEST */
    bool is_envelope;
    struct buf bytes;
};

struct disk {
    struct part *part; /* owned */
    size_t n, cap;
};

struct node {
    struct node_key *key;
    struct cast_state *state;
    struct disk disk;
    struct cast_out out;
    int64_t due_ms;
    uint32_t life; /* grows at each restart */
    bool is_bad, is_hidden;
    bool is_empty; /* a bad one that answers with nothing instead of garbage */
    bool is_idle;  /* fetches nothing */
    bool is_dead;
    bool is_stopped;
    uint32_t n_frozen;
};

struct link {
    uint32_t dialler, server;
    uint64_t dialler_id, server_id;
};

struct flight {
    int64_t at_ms;
    uint32_t link, to, life;
    bool to_server;
    uint8_t *data; /* owned */
    size_t len;
};

struct world {
    struct rng rng;
    struct node node[NODES_MAX];
    uint32_t n;
    struct link link[LINKS_MAX];
    uint32_t n_links;
    uint64_t next_id;
    struct flight *flight; /* owned */
    size_t n_flight;
    struct digest run;
    struct version_made version[VERSIONS];
    uint32_t n_published;
    int64_t now_ms;
    uint32_t loss, repeat; /* per mille */
    int64_t delay_ms;
    bool may_restart;
    bool may_die;       /* the trainer, once it has given each shard of the last version */
    uint8_t given[128]; /* which of them it has */
    uint32_t n_given;
    uint32_t n_restarts, n_bans; /* so that a test can see that it was one */
    uint32_t
        least; /* shards of a version: few are shown to everybody, and nobody needs the others */
};

/* ---- disk -------------------------------------------------------------------------------- */

static struct part *disk_find(const struct disk *d, const struct content *c, uint32_t index,
                              bool is_envelope)
{
    for (size_t i = 0; i < d->n; i++) {
        struct part *p = &d->part[i];
        if (p->index == index && p->is_envelope == is_envelope && content_equal(&p->content, c))
            return p;
    }
    return NULL;
}

static void disk_put(struct disk *d, const struct content *c, uint32_t index, bool is_envelope,
                     struct bytes data)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 16;
        d->part = xrealloc(d->part, d->cap * sizeof(*d->part));
    }
    struct part *p = &d->part[d->n++];
    *p = (struct part){.content = *c, .index = index, .is_envelope = is_envelope};
    buf_init(&p->bytes, data.len + 1);
    buf_append(&p->bytes, data);
}

static void disk_forget(struct disk *d, const struct content *c)
{
    size_t n = 0;

    for (size_t i = 0; i < d->n; i++) {
        struct part p = d->part[i];
        if (content_equal(&p.content, c))
            buf_clear(&d->part[i].bytes);
        else
            d->part[n++] = p;
    }
    d->n = n;
}

/* A shard that the machine says is right. */
static void store(struct world *w, struct node *n, const struct cast_act *a)
{
    const struct version_made *v = &w->version[a->content.version];

    assert_true(bytes_equal(a->value, version_shard(v, a->index))); /* no garbage is stored */
    assert_null(disk_find(&n->disk, &a->content, a->index, false)); /* nor anything twice */
    assert_non_null(disk_find(&n->disk, &a->content, a->index / MSG_MAX_LEAVES, true));
    assert_int_equal(a->shard_bytes, v->shard_bytes);
    disk_put(&n->disk, &a->content, a->index, false, a->value);
}

/* ---- network ----------------------------------------------------------------------------- */

static void put_flight(struct world *w, struct flight f, struct bytes data)
{
    assert_true(w->n_flight < FLIGHT_MAX);
    f.data = xmalloc(data.len + 1);
    memcpy(f.data, data.data, data.len);
    f.len = data.len;
    f.at_ms = w->now_ms + 1 + (int64_t)rng_below(&w->rng, (uint64_t)w->delay_ms);
    w->flight[w->n_flight++] = f;
}

static void deliver_later(struct world *w, uint32_t from, uint64_t id, struct bytes data)
{
    for (uint32_t i = 0; i < w->n_links; i++) {
        struct link *l = &w->link[i];
        bool is_dialler = l->dialler == from && l->dialler_id == id;
        bool is_server = l->server == from && l->server_id == id;
        if (!is_dialler && !is_server)
            continue;
        struct flight f = {
            .link = i, .to = is_dialler ? l->server : l->dialler, .to_server = is_dialler};
        f.life = w->node[f.to].life;
        if (rng_below(&w->rng, 1000) >= w->loss)
            put_flight(w, f, data);
        if (rng_below(&w->rng, 1000) < w->repeat)
            put_flight(w, f, data);
        return;
    }
}

/* What a liar makes of its own words: it has everything, and everything is garbage. */
static void send_lie(struct world *w, uint32_t from, uint64_t id, struct bytes data)
{
    struct msg_envelope env;
    struct msg_shard shard;
    struct msg_have have;
    struct buf body, envelope;
    uint8_t junk[100] = {0xbd};

    assert_ok(msg_envelope_decode(&env, data, NULL), NULL);
    if (env.kind != MSG_SHARD && env.kind != MSG_HAVE) {
        deliver_later(w, from, id, data);
        return;
    }
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    if (env.kind == MSG_SHARD) {
        assert_ok(msg_shard_decode(&shard, env.body, NULL), NULL);
        shard.data = BYTES_OF(junk);
        if (w->node[from].is_empty)
            shard.data = (struct bytes){0};
        assert_ok(msg_shard_encode(&body, &shard, NULL), NULL);
    } else {
        assert_ok(msg_have_decode(&have, env.body, NULL), NULL);
        have.is_all = true;
        have.bitmap = (struct bytes){0};
        assert_ok(msg_have_encode(&body, &have, NULL), NULL);
    }
    assert_ok(
        msg_envelope_encode(&envelope, env.kind, &env.run, NULL, buf_bytes(&body), NULL, NULL),
        NULL);
    deliver_later(w, from, id, buf_bytes(&envelope));
    buf_clear(&body);
    buf_clear(&envelope);
}

static bool is_question(struct bytes data)
{
    struct msg_envelope env;

    assert_ok(msg_envelope_decode(&env, data, NULL), NULL);
    return env.kind == MSG_SHARD_ASK;
}

static void send_from(struct world *w, uint32_t from, uint64_t id, struct bytes data)
{
    if (w->node[from].is_idle && is_question(data))
        return;
    if (w->node[from].is_bad)
        send_lie(w, from, id, data);
    else
        deliver_later(w, from, id, data);
}

/* Plays the overlay: of two nodes the one with the higher number dials, unless only the other can
 * be. Both are neighbours then, and again when the connection was made anew. */
static void introduce(struct world *w, uint32_t i, uint32_t link)
{
    const struct link *l = &w->link[link];
    uint32_t other = l->dialler == i ? l->server : l->dialler;

    cast_state_meet(w->node[i].state, &w->node[other].key->transport,
                    l->dialler == i ? l->dialler_id : l->server_id, other == 0, w->now_ms,
                    &w->node[i].out);
}

static void connect_all(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        for (uint32_t k = 0; k < i; k++) {
            bool is_turned = w->node[k].is_hidden;
            if (is_turned && w->node[i].is_hidden)
                continue;
            struct link *l = &w->link[w->n_links++];
            *l = (struct link){is_turned ? k : i, is_turned ? i : k, ++w->next_id, 0};
            l->server_id = ++w->next_id;
        }
}

/* ---- nodes ------------------------------------------------------------------------------- */

static void serve(struct world *w, uint32_t i, const struct cast_act *a)
{
    const struct part *p = disk_find(&w->node[i].disk, &a->content, a->index, false);
    struct buf envelope;

    if (i == 0 && a->content.version == VERSIONS - 1 &&
        !(w->given[a->index / 8] >> a->index % 8 & 1)) {
        w->given[a->index / 8] |= (uint8_t)(1u << a->index % 8);
        w->n_given++;
    }
    buf_init(&envelope, MSG_MAX_BYTES);
    if (w->node[i].is_bad && !p) {
        cast_state_shard(w->node[i].state, &envelope, &a->content, a->index, 0);
    } else {
        assert_non_null(p); /* what it offers it has */
        assert_int_equal(a->bytes, p->bytes.len);
        cast_state_shard(w->node[i].state, &envelope, &a->content, a->index, p->bytes.len);
        buf_append(&envelope, buf_bytes(&p->bytes));
    }
    send_from(w, i, a->link, buf_bytes(&envelope));
    buf_clear(&envelope);
    cast_state_served(w->node[i].state, a->link, &a->content, a->index, a->bytes, w->now_ms,
                      &w->node[i].out);
}

static void keep(struct disk *d, const struct cast_act *a)
{
    assert_null(disk_find(d, &a->content, a->index, true));
    disk_put(d, &a->content, a->index, true, a->value);
}

static void sign(struct world *w, uint32_t i, const struct cast_act *a)
{
    struct node *n = &w->node[i];
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    version_sign_head(&envelope, n->key, &w->run, a->value);
    assert_ok(cast_state_head(n->state, buf_bytes(&envelope), w->now_ms, &n->out, NULL), NULL);
    buf_clear(&envelope);
}

/* Honest peers are never banned. */
static void check_ban(struct world *w, const struct cast_act *a)
{
    w->n_bans++;
    for (uint32_t i = 0; i < w->n; i++)
        assert_false(!w->node[i].is_bad && key_equal(&w->node[i].key->transport, &a->key));
}

static void carry_out(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];

    for (size_t k = 0; k < n->out.n; k++) {
        struct cast_act a = n->out.v[k];
        switch (a.kind) {
        case CAST_SEND: send_from(w, i, a.link, a.value); break;
        case CAST_SERVE: serve(w, i, &a); break;
        case CAST_STORE: store(w, n, &a); break;
        case CAST_KEEP: keep(&n->disk, &a); break;
        case CAST_FORGET: disk_forget(&n->disk, &a.content); break;
        case CAST_BANNED: check_ban(w, &a); break;
        case CAST_SIGN: sign(w, i, &a); break;
        case CAST_FRESH: n->n_frozen += !a.is_fresh; break;
        case CAST_REFUSED: break;
        case CAST_EQUIVOCATED: n->is_stopped = true; break;
        case CAST_COMPLETE: assert_true(cast_state_is_complete(n->state, &a.content)); break;
        case CAST_WAKE:
            if (a.at_ms < n->due_ms)
                n->due_ms = a.at_ms;
            break;
        }
    }
    cast_out_clear(&n->out);
}

static void restore(struct node *n, int64_t now_ms)
{
    uint8_t map[128];

    for (size_t i = 0; i < n->disk.n; i++)
        if (n->disk.part[i].is_envelope)
            assert_ok(
                cast_state_restore(n->state, buf_bytes(&n->disk.part[i].bytes), &n->out, NULL),
                NULL);
    for (size_t i = 0; i < n->disk.n; i++) {
        const struct part *p = &n->disk.part[i];
        if (p->is_envelope)
            continue;
        memset(map, 0, sizeof(map));
        map[p->index / 8] = (uint8_t)(1u << p->index % 8);
        cast_state_found(n->state, &p->content, BYTES_OF(map), now_ms, &n->out);
    }
    /* Keeping what was kept is no news. */
    for (size_t i = 0; i < n->out.n; i++)
        assert_true(n->out.v[i].kind == CAST_KEEP || n->out.v[i].kind == CAST_COMPLETE ||
                    n->out.v[i].kind == CAST_FORGET);
    cast_out_clear(&n->out);
}

static void start(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];
    struct cast_state_options o = {
        .self = n->key->transport, .node = n->key->node, .keep = KEEP};

    cast_state_new(&n->state, &o);
    restore(n, w->now_ms);
    n->due_ms = w->now_ms;
    cast_state_set_run(n->state, &w->run, &w->node[0].key->node, w->now_ms, &n->out);
    for (uint32_t k = 0; k < w->n_links; k++)
        if (w->link[k].dialler == i || w->link[k].server == i)
            introduce(w, i, k);
    carry_out(w, i);
}

static void restart(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];

    cast_state_free(&n->state);
    n->life++;
    w->n_restarts++;
    for (uint32_t k = 0; k < w->n_links; k++) {
        struct link *l = &w->link[k];
        uint32_t other = l->dialler == i ? l->server : l->dialler;
        if (l->dialler != i && l->server != i)
            continue;
        l->dialler_id = l->dialler == i ? ++w->next_id : l->dialler_id;
        l->server_id = ++w->next_id;
        if (w->node[other].state) {
            introduce(w, other, k);
            carry_out(w, other);
        }
    }
    start(w, i);
}

static void publish(struct world *w)
{
    struct node *n = &w->node[0];
    struct version_made *v = &w->version[w->n_published];

    for (uint32_t i = 0; i < version_n_shards(v); i++)
        disk_put(&n->disk, &v->content, i, false, version_shard(v, i));
    for (uint32_t i = 0; i < v->n_segments; i++)
        assert_ok(
            cast_state_append(n->state, buf_bytes(&v->segment[i]), w->now_ms, &n->out, NULL),
            NULL);
    assert_ok(cast_state_publish(n->state, buf_bytes(&v->envelope), w->now_ms, &n->out, NULL),
              NULL);
    w->n_published++;
    carry_out(w, 0);
}

/* ---- the course of a run ----------------------------------------------------------------- */

static void deliver(struct world *w, struct flight *f)
{
    struct link *l = &w->link[f->link];
    struct node *n = &w->node[f->to];
    uint32_t from = f->to_server ? l->dialler : l->server;

    if (f->life == n->life && !n->is_dead) {
        cast_state_message(n->state, &w->node[from].key->transport,
                           (struct bytes){f->data, f->len}, w->now_ms, &n->out);
        carry_out(w, f->to);
    }
}

static void step(struct world *w)
{
    for (size_t i = 0; i < w->n_flight;) {
        if (w->flight[i].at_ms > w->now_ms) {
            i++;
            continue;
        }
        struct flight f = w->flight[i];
        w->flight[i] = w->flight[--w->n_flight];
        deliver(w, &f);
        free(f.data);
    }
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        if (n->due_ms > w->now_ms || n->is_dead)
            continue;
        n->due_ms = INT64_MAX;
        cast_state_tick(n->state, w->now_ms, &n->out);
        carry_out(w, i);
    }
    if (w->may_die && w->n_published == VERSIONS &&
        w->n_given == version_n_shards(&w->version[VERSIONS - 1]))
        w->node[0].is_dead = true;
    if (w->may_restart && rng_below(&w->rng, 2000) == 0)
        restart(w, (uint32_t)rng_below(&w->rng, w->n));
}

static bool is_counted(const struct node *n)
{
    return !n->is_bad && !n->is_dead && !n->is_idle;
}

static bool is_finished(const struct world *w)
{
    if (w->n_published < VERSIONS)
        return false;
    for (uint32_t i = 0; i < w->n; i++)
        for (size_t v = VERSIONS - KEEP; v < VERSIONS && is_counted(&w->node[i]); v++)
            if (!cast_state_is_complete(w->node[i].state, &w->version[v].content))
                return false;
    return true;
}

static void make_world(struct world *w, uint64_t seed, uint32_t n)
{
    w->rng = rng_of(seed, 1);
    w->n = n;
    w->flight = xcalloc(FLIGHT_MAX, sizeof(*w->flight));
    memset(w->run.b, 7, sizeof(w->run.b));
    for (uint32_t i = 0; i < n; i++)
        w->node[i].key = versions_key(i);
    connect_all(w);
    for (uint32_t v = 0; v < VERSIONS; v++) {
        size_t n_bytes =
            (w->least + rng_below(&w->rng, 12)) * SHARD + 1 + rng_u32(&w->rng) % 50000;
        version_make(&w->version[v], w->node[0].key, &w->run, v, n_bytes, (uint32_t)seed);
    }
    for (uint32_t i = 0; i < n; i++)
        if (!w->node[i].is_dead)
            start(w, i);
}

static void check_files(const struct world *w, const struct node *n)
{
    for (size_t v = VERSIONS - KEEP; v < VERSIONS; v++)
        for (uint32_t i = 0; i < version_n_shards(&w->version[v]); i++)
            assert_non_null(disk_find(&n->disk, &w->version[v].content, i, false));
}

static void clear_world(struct world *w)
{
    for (size_t i = 0; i < w->n_flight; i++)
        free(w->flight[i].data);
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        cast_state_free(&n->state);
        for (size_t k = 0; k < n->disk.n; k++)
            buf_clear(&n->disk.part[k].bytes);
        free(n->disk.part);
        key_free(&n->key);
    }
    for (size_t v = 0; v < VERSIONS; v++)
        version_clear(&w->version[v]);
    free(w->flight);
    free(w);
}

/* Runs until all is spread, and says how long that took after the last publication. */
static int64_t run(struct world *w)
{
    int64_t last_ms = 0;

    while (!is_finished(w)) {
        w->now_ms += STEP_MS;
        assert_true(w->now_ms < END_MS);
        if (w->n_published < VERSIONS &&
            w->now_ms >= (int64_t)(w->n_published + 1) * PUBLISH_EVERY_MS) {
            publish(w);
            last_ms = w->now_ms;
        }
        step(w);
    }
    for (uint32_t i = 0; i < w->n; i++)
        if (is_counted(&w->node[i]))
            check_files(w, &w->node[i]);
    return w->now_ms - last_ms;
}

static struct world *new_world(void)
{
    struct world *w = xcalloc(1, sizeof(*w));

    w->delay_ms = 20;
    return w;
}

/* ---- tests ------------------------------------------------------------------------------- */

static void every_version_arrives_through_loss_repeats_and_reordering(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(1);

    for (int i = 0; i < 3; i++) {
        struct world *w = new_world();
        w->loss = 100;
        w->repeat = 50;
        w->delay_ms = 60;
        make_world(w, rng_u64(&seeds), 6);
        run(w);
        clear_world(w);
    }
}

static void restarts_lose_nothing_and_fetch_nothing_twice(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(2);
    uint32_t n_restarts = 0;

    for (int i = 0; i < 3; i++) {
        struct world *w = new_world();
        w->loss = 50;
        w->may_restart = true;
        make_world(w, rng_u64(&seeds), 6);
        run(w);
        n_restarts += w->n_restarts;
        clear_world(w);
    }
    assert_true(n_restarts > 0);
}

static void garbage_is_neither_stored_nor_passed_on(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(3);

    for (int i = 0; i < 3; i++) {
        struct world *w = new_world();
        w->loss = 50;
        w->may_restart = true;
        w->node[1].is_bad = true;
        w->least = 20;
        make_world(w, rng_u64(&seeds), 5);
        run(w);
        assert_true(w->n_bans > 0);
        clear_world(w);
    }
}

static void a_node_that_cannot_be_dialled_takes_part(void **state)
{
    (void)state;
    struct world *w = new_world();
    w->node[2].is_hidden = true;
    w->node[0].is_hidden = true; /* the trainer itself */
    make_world(w, random_seeded(4).key, 5);

    run(w);

    clear_world(w);
}

/* It claims everything and answers with nothing. */
static void lying_maps_do_not_keep_anybody_from_finishing(void **state)
{
    (void)state;
    struct world *w = new_world();
    w->node[1].is_bad = w->node[1].is_empty = true;
    w->least = 20;
    make_world(w, random_seeded(6).key, 5);

    run(w);

    assert_true(w->n_bans > 0);
    clear_world(w);
}

/* It takes the patch, or its quota is too small. What the trainer shows it lies there until nobody fetches
 * anything, for LEND_IDLE_MS and as long as a version took (less than 1 s), and is lent anew, twice at most. */
static void who_fetches_nothing_keeps_nobody_waiting(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(8);

    for (int i = 0; i < 5; i++) {
        struct world *w = new_world();
        w->node[1].is_idle = true;
        w->least = 100;
        make_world(w, rng_u64(&seeds), 4);
        assert_true(run(w) < 4000);
        clear_world(w);
    }
}

/* What each shard needs is to be given once. */
static void all_finish_without_the_trainer_once_it_gave_each_shard(void **state)
{
    (void)state;
    struct rng seeds = random_seeded(7);

    for (int i = 0; i < 3; i++) {
        struct world *w = new_world();
        w->may_die = true;
        make_world(w, rng_u64(&seeds), 8);
        run(w);
        assert_true(w->node[0].is_dead);
        for (int64_t until = w->now_ms + 40000; w->now_ms < until;) {
            w->now_ms += STEP_MS;
            step(w);
        }
        for (uint32_t k = 1; k < w->n; k++)
            assert_int_equal(w->node[k].n_frozen, 1); /* and everybody notices */
        clear_world(w);
    }
}

static void who_comes_late_gets_all_without_the_trainer(void **state)
{
    (void)state;
    struct world *w = new_world();
    w->node[5].is_dead = true;
    make_world(w, random_seeded(8).key, 6);
    run(w);

    w->node[0].is_dead = true;
    w->node[5].is_dead = false;
    cast_state_free(&w->node[5].state);
    start(w, 5);
    cast_state_hint(w->node[5].state, VERSIONS - 1, w->now_ms, &w->node[5].out);
    carry_out(w, 5);
    run(w);

    check_files(w, &w->node[5]);
    clear_world(w);
}

static bool have_all_stopped(const struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (!w->node[i].is_stopped)
            return false;
    return true;
}

/* A second manifest of a version, told to one node alone. */
static void an_equivocation_stops_every_node(void **state)
{
    (void)state;
    struct world *w = new_world();
    struct version_made other;
    w->loss = 50;
    make_world(w, random_seeded(9).key, 6);
    run(w);
    version_make(&other, w->node[0].key, &w->run, VERSIONS - 1, 100000, 0x77777777u);

    cast_state_message(w->node[3].state, &w->node[0].key->transport, buf_bytes(&other.envelope),
                       w->now_ms, &w->node[3].out);
    carry_out(w, 3);
    for (int64_t until = w->now_ms + 30000; !have_all_stopped(w) && w->now_ms < until;) {
        w->now_ms += STEP_MS;
        step(w);
    }

    assert_true(have_all_stopped(w));
    version_clear(&other);
    clear_world(w);
}

/* Messages take up to 20 ms. HEAD, SHARD_ASK and SHARD are three: a version of a shard or a few
 * must not need more than those and a little, let alone a timer. */
static void without_faults_a_version_takes_a_few_messages_time(void **state)
{
    (void)state;
    struct world *w = new_world();
    make_world(w, random_seeded(5).key, 6);

    int64_t took_ms = run(w);

    assert_true(took_ms <= 6 * w->delay_ms);
    clear_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_arrives_through_loss_repeats_and_reordering),
        cmocka_unit_test(restarts_lose_nothing_and_fetch_nothing_twice),
        cmocka_unit_test(garbage_is_neither_stored_nor_passed_on),
        cmocka_unit_test(a_node_that_cannot_be_dialled_takes_part),
        cmocka_unit_test(lying_maps_do_not_keep_anybody_from_finishing),
        cmocka_unit_test(all_finish_without_the_trainer_once_it_gave_each_shard),
        cmocka_unit_test(who_fetches_nothing_keeps_nobody_waiting),
        cmocka_unit_test(who_comes_late_gets_all_without_the_trainer),
        cmocka_unit_test(an_equivocation_stops_every_node),
        cmocka_unit_test(without_faults_a_version_takes_a_few_messages_time),
    };
    return cmocka_run_group_tests_name("shardcast/cast_property", tests, NULL, NULL);
}
