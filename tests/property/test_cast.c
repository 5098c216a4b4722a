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
#define DISK_MAX         64u
#define STEP_MS          1
#define END_MS           120000
#define PUBLISH_EVERY_MS 1500

struct disk {
    struct digest shard[DISK_MAX];
    struct buf bytes[DISK_MAX];
    size_t n_shards;
    struct buf manifest[VERSIONS]; /* by version; empty: none */
};

struct node {
    struct node_key *key;
    struct cast_state *state;
    struct disk disk;
    struct cast_out out;
    int64_t due_ms;
    uint32_t life; /* grows at each restart */
    bool is_bad, is_hidden;
};

struct link {
    bool is_open;
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
    struct msg_roster *roster;
    int64_t now_ms;
    uint32_t loss, repeat; /* per mille */
    int64_t delay_ms;
    bool may_restart;
    uint32_t n_restarts, n_bans; /* so that a test can see that it was one */
};

/* ---- disk -------------------------------------------------------------------------------- */

static size_t disk_find(const struct disk *d, const struct digest *shard)
{
    size_t i = 0;

    while (i < d->n_shards && !digest_equal(&d->shard[i], shard))
        i++;
    return i;
}

static bool disk_has(void *arg, const struct digest *shard)
{
    const struct node *n = arg;

    return disk_find(&n->disk, shard) < n->disk.n_shards;
}

static void disk_put(struct disk *d, const struct digest *shard, struct bytes data)
{
    struct digest found;

    digest_of(&found, data);
    assert_true(digest_equal(&found, shard));           /* no garbage is stored */
    assert_int_equal(disk_find(d, shard), d->n_shards); /* nothing is fetched twice */
    assert_true(d->n_shards < DISK_MAX);
    d->shard[d->n_shards] = *shard;
    buf_init(&d->bytes[d->n_shards], data.len);
    buf_append(&d->bytes[d->n_shards], data);
    d->n_shards++;
}

static void disk_drop(struct disk *d, const struct digest *shard)
{
    size_t i = disk_find(d, shard);

    if (i == d->n_shards)
        return;
    buf_clear(&d->bytes[i]);
    d->n_shards--;
    d->shard[i] = d->shard[d->n_shards];
    d->bytes[i] = d->bytes[d->n_shards];
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
        bool is_dialler = l->is_open && l->dialler == from && l->dialler_id == id;
        bool is_server = l->is_open && l->server == from && l->server_id == id;
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

/* What a liar makes of its own answers: it has everything, and everything is garbage. */
static void send_lie(struct world *w, uint32_t from, uint64_t id, struct bytes data)
{
    struct msg_envelope env;
    struct msg_shard shard;
    struct msg_have have;
    struct buf body, envelope;
    uint8_t all[8], junk[100] = {0xbd};

    memset(all, 0xff, sizeof(all));
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
        assert_ok(msg_shard_encode(&body, &shard, NULL), NULL);
    } else {
        assert_ok(msg_have_decode(&have, env.body, NULL), NULL);
        have.bitmap = BYTES_OF(all);
        assert_ok(msg_have_encode(&body, &have, NULL), NULL);
    }
    assert_ok(msg_envelope_encode(&envelope, env.kind, &env.run, &env.idem, buf_bytes(&body),
                                  NULL, NULL),
              NULL);
    deliver_later(w, from, id, buf_bytes(&envelope));
    buf_clear(&body);
    buf_clear(&envelope);
}

static void send_from(struct world *w, uint32_t from, uint64_t id, struct bytes data)
{
    if (w->node[from].is_bad)
        send_lie(w, from, id, data);
    else
        deliver_later(w, from, id, data);
}

static void dial(struct world *w, uint32_t from, const struct cast_act *a)
{
    uint32_t to = 0;

    while (!key_equal(&w->node[to].key->transport, &a->key))
        to++;
    assert_true(w->n_links < LINKS_MAX);
    assert_false(w->node[to].is_hidden);
    struct link *l = &w->link[w->n_links++];
    *l = (struct link){true, from, to, ++w->next_id, 0};
    l->server_id = ++w->next_id;
    cast_state_linked(w->node[from].state, &a->key, l->dialler_id, w->now_ms,
                      &w->node[from].out);
}

static void hang_up(struct world *w, uint32_t from, uint64_t id)
{
    for (uint32_t i = 0; i < w->n_links; i++)
        if (w->link[i].dialler == from && w->link[i].dialler_id == id)
            w->link[i].is_open = false;
}

/* ---- nodes ------------------------------------------------------------------------------- */

static void serve(struct world *w, uint32_t i, const struct cast_act *a)
{
    struct disk *d = &w->node[i].disk;
    size_t at = disk_find(d, &a->digest);
    struct buf envelope;

    assert_true(at < d->n_shards); /* what it offers it has */
    buf_init(&envelope, MSG_MAX_BYTES);
    cast_state_shard(w->node[i].state, &envelope, &a->digest, &a->idem,
                     buf_bytes(&d->bytes[at]));
    send_from(w, i, a->link, buf_bytes(&envelope));
    buf_clear(&envelope);
}

static void forget(struct disk *d, const struct cast_act *a)
{
    buf_clear(&d->manifest[a->version]);
    for (size_t k = 0; k < a->value.len / DIGEST_BYTES; k++)
        disk_drop(d, (const struct digest *)(a->value.data + k * DIGEST_BYTES));
}

static void keep(struct disk *d, const struct cast_act *a)
{
    buf_clear(&d->manifest[a->version]);
    buf_init(&d->manifest[a->version], a->value.len);
    buf_append(&d->manifest[a->version], a->value);
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
        case CAST_DIAL: dial(w, i, &a); break;
        case CAST_HANG_UP: hang_up(w, i, a.link); break;
        case CAST_SEND: send_from(w, i, a.link, a.value); break;
        case CAST_SERVE: serve(w, i, &a); break;
        case CAST_STORE: disk_put(&n->disk, &a.digest, a.value); break;
        case CAST_KEEP: keep(&n->disk, &a); break;
        case CAST_FORGET: forget(&n->disk, &a); break;
        case CAST_BANNED: check_ban(w, &a); break;
        case CAST_EQUIVOCATED: assert_true(!"an honest trainer was accused"); break;
        case CAST_COMPLETE: assert_true(cast_state_is_complete(n->state, a.version)); break;
        case CAST_WAKE:
            if (a.at_ms < n->due_ms)
                n->due_ms = a.at_ms;
            break;
        }
    }
    cast_out_clear(&n->out);
}

static void start(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];
    struct cast_state_options o = {
        .self = n->key->transport, .keep = KEEP, .has = disk_has, .arg = n};

    cast_state_new(&n->state, &o);
    for (size_t v = 0; v < VERSIONS; v++)
        if (n->disk.manifest[v].len)
            assert_ok(
                cast_state_restore(n->state, buf_bytes(&n->disk.manifest[v]), &n->out, NULL),
                NULL);
    n->due_ms = w->now_ms;
    cast_state_set_run(n->state, &w->run, &w->node[0].key->node, w->now_ms, &n->out);
    cast_state_set_roster(n->state, w->roster, w->now_ms, &n->out);
    carry_out(w, i);
}

static void restart(struct world *w, uint32_t i)
{
    struct node *n = &w->node[i];

    cast_state_free(&n->state);
    n->life++;
    w->n_restarts++;
    for (uint32_t k = 0; k < w->n_links; k++) {
        if (w->link[k].dialler == i)
            w->link[k].is_open = false;
        if (w->link[k].server == i)
            w->link[k].server_id = ++w->next_id; /* the dialler connects again */
    }
    start(w, i);
}

static void publish(struct world *w)
{
    struct node *n = &w->node[0];
    struct version_made *v = &w->version[w->n_published];

    for (size_t i = 0; i < version_n_shards(v); i++) {
        struct digest d = version_digest(v, i);
        if (!disk_has(n, &d))
            disk_put(&n->disk, &d, version_shard(v, i));
    }
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

    if (l->is_open && f->life == n->life) {
        cast_state_message(n->state, f->to_server ? l->server_id : l->dialler_id,
                           &w->node[from].key->transport, (struct bytes){f->data, f->len},
                           w->now_ms, &n->out);
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
        if (n->due_ms > w->now_ms)
            continue;
        n->due_ms = INT64_MAX;
        cast_state_tick(n->state, w->now_ms, &n->out);
        carry_out(w, i);
    }
    if (w->may_restart && rng_below(&w->rng, 2000) == 0)
        restart(w, (uint32_t)rng_below(&w->rng, w->n));
}

static bool is_finished(const struct world *w)
{
    if (w->n_published < VERSIONS)
        return false;
    for (uint32_t i = 0; i < w->n; i++)
        for (int64_t v = VERSIONS - KEEP; v < (int64_t)VERSIONS && !w->node[i].is_bad; v++)
            if (!cast_state_is_complete(w->node[i].state, v))
                return false;
    return true;
}

static void make_world(struct world *w, uint64_t seed, uint32_t n)
{
    w->rng = rng_of(seed, 1);
    w->n = n;
    w->flight = xcalloc(FLIGHT_MAX, sizeof(*w->flight));
    w->roster = xcalloc(1, sizeof(*w->roster));
    memset(w->run.b, 7, sizeof(w->run.b));
    w->roster->seq = 1;
    w->roster->n = n;
    for (uint32_t i = 0; i < n; i++) {
        w->node[i].key = versions_key(i);
        struct roster_entry *e = &w->roster->entry[i];
        e->node = w->node[i].key->node;
        e->transport = w->node[i].key->transport;
        e->role = i == 0 ? ROLE_TRAINER : ROLE_INFERENCE;
        if (!w->node[i].is_hidden)
            snprintf(e->endpoint, sizeof(e->endpoint), "tcp://10.0.0.%u:1", i);
    }
    for (uint32_t v = 0; v < VERSIONS; v++) {
        size_t n_bytes =
            (size_t)rng_below(&w->rng, 4) * SHARD_BYTES + 1 + rng_u32(&w->rng) % 50000;
        version_make(&w->version[v], w->node[0].key, &w->run, v, n_bytes, (uint32_t)seed);
    }
    for (uint32_t i = 0; i < n; i++)
        start(w, i);
}

static void check_files(const struct world *w, const struct node *n)
{
    for (size_t v = VERSIONS - KEEP; v < VERSIONS; v++)
        for (size_t i = 0; i < version_n_shards(&w->version[v]); i++) {
            struct digest d = version_digest(&w->version[v], i);
            size_t at = disk_find(&n->disk, &d);
            assert_true(at < n->disk.n_shards);
            assert_true(
                bytes_equal(buf_bytes(&n->disk.bytes[at]), version_shard(&w->version[v], i)));
        }
}

static void clear_world(struct world *w)
{
    for (size_t i = 0; i < w->n_flight; i++)
        free(w->flight[i].data);
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        cast_state_free(&n->state);
        while (n->disk.n_shards)
            disk_drop(&n->disk, &n->disk.shard[0]);
        for (size_t v = 0; v < VERSIONS; v++)
            buf_clear(&n->disk.manifest[v]);
        key_free(&n->key);
    }
    for (size_t v = 0; v < VERSIONS; v++)
        version_clear(&w->version[v]);
    free(w->flight);
    free(w->roster);
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
        if (!w->node[i].is_bad)
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

    for (int i = 0; i < 3; i++) {
        struct world *w = new_world();
        w->loss = 50;
        w->may_restart = true;
        make_world(w, rng_u64(&seeds), 6);
        run(w);
        assert_true(w->n_restarts > 0);
        clear_world(w);
    }
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
        cmocka_unit_test(without_faults_a_version_takes_a_few_messages_time),
    };
    return cmocka_run_group_tests_name("shardcast/cast_property", tests, NULL, NULL);
}
