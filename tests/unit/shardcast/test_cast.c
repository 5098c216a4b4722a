/*
 * cast: whole nodes in one process, over real sockets, each with a shell on a thread of its own
 */
#include "shardcast/cast.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "node/shell.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"
#include "versions.h"

#define NODES       4u
#define KEEPS_STATE 2u

struct node;
typedef void node_fn(struct node *n, void *arg);

struct node {
    char *dir;
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    struct cast *cast;
    pthread_t thread;
    bool is_running;
    uint64_t max_bytes;    /* quota; 0: the default */
    _Atomic(node_fn *) fn; /* to be called on the node's thread */
    void *arg;
    atomic_bool is_called;
    atomic_llong newest; /* of on_version */
    atomic_int n_versions;
    enum status st;
};

struct fixture {
    struct node node[NODES];
    struct digest run;
    struct msg_roster *roster;
};

static void on_version(void *ctx, int64_t version)
{
    struct node *n = ctx;

    if (version > atomic_load(&n->newest))
        atomic_store(&n->newest, version);
    atomic_fetch_add(&n->n_versions, 1);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct node *n = ctx;

    (void)now_ms;
    (void)out;
    node_fn *fn = atomic_exchange(&n->fn, NULL);
    if (!fn)
        return;
    fn(n, n->arg);
    atomic_store(&n->is_called, true);
}

static void *run_node(void *arg)
{
    struct node *n = arg;
    struct err e;

    n->st = shell_run(n->shell, &e);
    return NULL;
}

/* Runs fn on the node's thread. */
static void call(struct node *n, node_fn *fn, void *arg)
{
    n->arg = arg;
    atomic_store(&n->is_called, false);
    atomic_store(&n->fn, fn);
    shell_wake(n->part);
    assert_within(5000, atomic_load(&n->is_called));
}

static void open_node(struct fixture *f, uint32_t i)
{
    struct node *n = &f->node[i];
    const struct shell_part_ops ops = {.ctx = n, .on_timer = on_timer};
    const struct cast_options co = {.ctx = n,
                                    .on_version = on_version,
                                    .wants_state = i == KEEPS_STATE,
                                    .max_bytes = n->max_bytes};
    struct err e;

    atomic_store(&n->newest, -1);
    atomic_store(&n->n_versions, 0);
    assert_ok(shell_new(&n->shell, n->key, &e), &e);
    n->part = shell_add_part(n->shell, &ops, NULL, 0);
    assert_ok(cast_new(&n->cast, n->shell, n->key, n->dir, &co, &e), &e);
    snprintf(f->roster->entry[i].endpoint, sizeof(f->roster->entry[i].endpoint), "%s",
             cast_endpoint(n->cast));
}

static void tell_roster(struct node *n, void *arg)
{
    const struct fixture *f = arg;
    struct public_key keys[NODES];

    for (uint32_t i = 0; i < NODES; i++)
        keys[i] = f->roster->entry[i].transport;
    shell_admit(n->shell, keys, NODES);
    cast_set_run(n->cast, &f->run, &f->roster->entry[0].node);
    cast_set_roster(n->cast, f->roster);
}

static void start_node(struct fixture *f, uint32_t i)
{
    struct node *n = &f->node[i];

    tell_roster(n, f);
    assert_int_equal(pthread_create(&n->thread, NULL, run_node, n), 0);
    n->is_running = true;
}

static void stop_node(struct node *n)
{
    if (!n->shell)
        return;
    if (n->is_running) {
        shell_stop(n->shell);
        assert_int_equal(pthread_join(n->thread, NULL), 0);
        assert_int_equal(n->st, OK);
        n->is_running = false;
    }
    cast_free(&n->cast);
    shell_free(&n->shell);
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    log_set_level(LOG_E);
    memset(f->run.b, 9, sizeof(f->run.b));
    f->roster = xcalloc(1, sizeof(*f->roster));
    f->roster->n = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *n = &f->node[i];
        n->dir = tempdir_make();
        n->key = versions_key(i);
        f->roster->entry[i].node = n->key->node;
        f->roster->entry[i].transport = n->key->transport;
        f->roster->entry[i].role = i ? ROLE_INFERENCE : ROLE_TRAINER;
        open_node(f, i);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < NODES; i++) {
        stop_node(&f->node[i]);
        key_free(&f->node[i].key);
        tempdir_remove(&f->node[i].dir);
    }
    free(f->roster);
    free(f);
    return 0;
}

/* What is called on a node's thread only notes results: cmocka fails tests on its own thread. */
struct publication {
    struct bytes envelope, file;
    enum status st;
    struct err e;
};

static void publish_there(struct node *n, void *arg)
{
    struct publication *p = arg;

    p->st = cast_publish(n->cast, p->envelope, p->file, &p->e);
}

static enum status try_publish(struct node *n, const struct version_made *v, struct bytes file)
{
    struct publication p = {.envelope = buf_bytes(&v->envelope), .file = file};

    call(n, publish_there, &p);
    return p.st;
}

static void publish(struct node *n, const struct version_made *v)
{
    assert_ok(try_publish(n, v, buf_bytes(&v->file)), NULL);
}

static void assert_has(struct node *n, const struct version_made *v)
{
    struct file_map file;
    struct err e;

    assert_ok(cast_map(n->cast, v->number, &file, &e), &e);
    assert_true(bytes_equal(file.bytes, buf_bytes(&v->file)));
    file_map_close(&file);
}

static bool all_have(const struct fixture *f, int64_t version)
{
    for (uint32_t i = 0; i < NODES; i++)
        if (f->node[i].shell && atomic_load(&f->node[i].newest) < version)
            return false;
    return true;
}

static void a_published_version_reaches_everybody_bit_for_bit(void **state)
{
    struct fixture *f = *state;
    struct version_made v[3];
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);

    for (uint32_t k = 0; k < 3; k++) {
        version_make(&v[k], f->node[0].key, &f->run, k, k == 2 ? 5 * SHARD_BYTES + 7 : 400000,
                     0);
        int64_t from_us = clock_mono_us();
        publish(&f->node[0], &v[k]);
        assert_within(20000, all_have(f, k));
        print_message("version %u of %zu bytes: %lld us\n", k, v[k].file.len,
                      (long long)(clock_mono_us() - from_us));
    }

    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < 3; k++)
            assert_has(&f->node[i], &v[k]);
    for (uint32_t k = 0; k < 3; k++)
        version_clear(&v[k]);
}

struct standing {
    struct buf json;
    int64_t newest, oldest;
};

static void look_there(struct node *n, void *arg)
{
    struct standing *s = arg;

    buf_init(&s->json, 1u << 20);
    cast_status_json(n->cast, &s->json);
    s->newest = cast_newest(n->cast);
    s->oldest = cast_oldest(n->cast);
}

static void a_restart_reports_what_is_on_disk_and_fetches_nothing(void **state)
{
    struct fixture *f = *state;
    struct version_made v[2];
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);
    for (uint32_t k = 0; k < 2; k++) {
        version_make(&v[k], f->node[0].key, &f->run, k, 3000000, 0);
        publish(&f->node[0], &v[k]);
    }
    assert_within(20000, all_have(f, 1) && atomic_load(&f->node[2].n_versions) == 2);

    stop_node(&f->node[2]);
    open_node(f, 2);
    start_node(f, 2);
    assert_within(5000, atomic_load(&f->node[2].n_versions) == 2);

    struct standing s;
    call(&f->node[2], look_there, &s);
    assert_contains(buf_cstr(&s.json), "\"shards_in\": 0,");
    assert_int_equal(s.newest, 1);
    assert_int_equal(s.oldest, 0);
    buf_clear(&s.json);
    assert_has(&f->node[2], &v[0]);
    for (uint32_t k = 0; k < 2; k++)
        version_clear(&v[k]);
}

static void one_who_comes_late_gets_the_versions_kept(void **state)
{
    struct fixture *f = *state;
    struct version_made v[3];
    for (uint32_t i = 0; i < NODES - 1; i++)
        start_node(f, i);
    for (uint32_t k = 0; k < 3; k++) {
        version_make(&v[k], f->node[0].key, &f->run, k, 100000, 0);
        publish(&f->node[0], &v[k]);
    }

    start_node(f, NODES - 1);
    assert_within(10000, atomic_load(&f->node[NODES - 1].n_versions) == 3);

    for (uint32_t k = 0; k < 3; k++) {
        assert_has(&f->node[NODES - 1], &v[k]);
        version_clear(&v[k]);
    }
}

/* ---- the disk ---------------------------------------------------------------------------- */

#define QUOTA_FILE 2000000u
#define LARGE_FILE 1000000u /* so few shards that the origin shows them to all */

struct disk {
    struct cast_counters counters;
    bool has[8];
};

static void look_at_disk(struct node *n, void *arg)
{
    struct disk *d = arg;

    d->counters = cast_counters(n->cast);
    for (int64_t v = 0; v < 8; v++)
        d->has[v] = cast_has(n->cast, v);
}

static bool has_there(struct node *n, int64_t version, struct disk *d)
{
    call(n, look_at_disk, d);
    return d->has[version];
}

static uint64_t n_shards_of(const struct version_made *v)
{
    return (v->file.len + v->shard_bytes - 1) / v->shard_bytes;
}

/* Node 3, which begins when the versions before `late` are there, may store two versions and a half. */
static void check_quota(struct fixture *f, uint32_t late)
{
    struct node *small = &f->node[NODES - 1];
    struct version_made v[5];
    struct disk d;

    stop_node(small);
    small->max_bytes = QUOTA_FILE * 5 / 2;
    open_node(f, NODES - 1);
    for (uint32_t i = 0; i + 1 < NODES; i++)
        start_node(f, i);
    for (uint32_t k = 0; k < 5; k++) {
        if (k == late)
            start_node(f, NODES - 1);
        version_make(&v[k], f->node[0].key, &f->run, k, QUOTA_FILE, 0);
        publish(&f->node[0], &v[k]);
        if (k >= late)
            assert_within(20000, all_have(f, k));
    }
    assert_within(20000, has_there(small, 3, &d));
    for (uint32_t k = 0; k < 5; k++)
        assert_int_equal(d.has[k], k >= 3);
    /* None twice: of those before it came at most the two that there was room for. */
    uint64_t n = n_shards_of(&v[0]);
    assert_in_range(d.counters.shards_in, n * 2, n * (5 - late + 2));
    assert_has(small, &v[3]);
    assert_has(small, &v[4]);
    for (uint32_t k = 0; k < 5; k++)
        version_clear(&v[k]);
}

static void a_quota_keeps_the_newest_that_fit_and_fetches_none_twice(void **state)
{
    check_quota(*state, 0);
}

static void who_comes_late_with_a_quota_fetches_what_fits(void **state)
{
    check_quota(*state, 4);
}

static void what_is_larger_than_the_quota_is_not_fetched(void **state)
{
    struct fixture *f = *state;
    struct node *small = &f->node[NODES - 1];
    struct version_made v[2];
    struct disk d;

    stop_node(small);
    small->max_bytes = LARGE_FILE - 1;
    open_node(f, NODES - 1);
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);
    version_make(&v[0], f->node[0].key, &f->run, 0, LARGE_FILE, 0);
    version_make(&v[1], f->node[0].key, &f->run, 1, LARGE_FILE / 2, 0);
    publish(&f->node[0], &v[0]);
    for (uint32_t i = 1; i + 1 < NODES; i++)
        assert_within(20000, atomic_load(&f->node[i].newest) == 0);
    publish(&f->node[0], &v[1]);

    assert_within(20000, all_have(f, 1));
    call(small, look_at_disk, &d);
    assert_false(d.has[0]);
    /* What came before its manifest was all that it cost. */
    assert_true(d.counters.shards_in < n_shards_of(&v[0]) + n_shards_of(&v[1]));
    for (uint32_t k = 0; k < 2; k++)
        version_clear(&v[k]);
}

/* Changes one byte of a version's file on a node's disk. */
static void spoil(const struct node *n, int64_t version, off_t at)
{
    char name[64];
    uint8_t byte;
    int fd;

    snprintf(name, sizeof(name), "contents/%d-1--1", (int)version);
    fd = open(tempdir_path(n->dir, name), O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

struct mapping {
    struct version_made *v;
    enum status st;
    bool is_equal;
};

static void map_there(struct node *n, void *arg)
{
    struct mapping *m = arg;
    struct file_map file;

    m->st = cast_map(n->cast, m->v->number, &file, NULL);
    m->is_equal = !m->st && bytes_equal(file.bytes, buf_bytes(&m->v->file));
    if (!m->st)
        file_map_close(&file);
}

static bool is_mapped(struct node *n, struct mapping *m)
{
    call(n, map_there, m);
    return m->is_equal;
}

static void what_the_disk_spoilt_while_a_node_was_down_is_not_used_but_fetched(void **state)
{
    struct fixture *f = *state;
    struct node *n = &f->node[2];
    struct version_made v;
    struct mapping m = {.v = &v};
    struct disk d;
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);
    version_make(&v, f->node[0].key, &f->run, 0, QUOTA_FILE, 0);
    publish(&f->node[0], &v);
    assert_within(20000, all_have(f, 0));
    stop_node(n);
    spoil(n, 0, QUOTA_FILE / 2);
    open_node(f, 2);
    start_node(f, 2);
    assert_within(5000, atomic_load(&n->newest) == 0);
    for (uint32_t i = 0; i < NODES; i++)
        call(&f->node[i], tell_roster, f);

    call(n, map_there, &m);
    assert_int_equal(m.st, ERR_DIGEST);

    assert_within(20000, is_mapped(n, &m));
    call(n, look_at_disk, &d);
    assert_int_equal(d.counters.shards_in, 1);
    version_clear(&v);
}

static void publishing_refuses_another_content_another_file_and_another_signer(void **state)
{
    struct fixture *f = *state;
    struct version_made v[4];
    version_make(&v[3], f->node[0].key, &f->run, 2, 5000, 1);
    version_make(&v[0], f->node[0].key, &f->run, 0, 5000, 1);
    version_make(&v[1], f->node[0].key, &f->run, 0, 5000, 2);
    version_make(&v[2], f->node[1].key, &f->run, 1, 5000, 1);
    start_node(f, 0);

    publish(&f->node[0], &v[0]);
    publish(&f->node[0], &v[0]);
    assert_int_equal(try_publish(&f->node[0], &v[1], buf_bytes(&v[1].file)), ERR_EXISTS);
    assert_int_equal(try_publish(&f->node[0], &v[0], BYTES_LIT("short")), ERR_INVALID);
    assert_int_equal(try_publish(&f->node[0], &v[2], buf_bytes(&v[2].file)), ERR_DENIED);
    assert_int_equal(try_publish(&f->node[0], &v[3], buf_bytes(&v[0].file)), ERR_DIGEST);

    struct buf envelope;
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(cast_manifest(f->node[0].cast, 0, &envelope, NULL), NULL);
    assert_true(bytes_equal(buf_bytes(&envelope), buf_bytes(&v[0].envelope)));
    buf_clear(&envelope);
    for (uint32_t k = 0; k < 4; k++)
        version_clear(&v[k]);
}

static void pin_there(struct node *n, void *arg)
{
    const int64_t version = 0;
    struct publication *p = arg;

    p->st = cast_set_pins(n->cast, &version, p->file.len, &p->e);
}

static void set_pins(struct node *n, size_t n_pins)
{
    struct publication p = {.file.len = n_pins};

    call(n, pin_there, &p);
    assert_ok(p.st, &p.e);
}

/* Version and optimizer's state, as a trainer does. */
static void publish_all_there(struct node *n, void *arg)
{
    struct publication *p = arg;
    struct msg_envelope env;
    struct msg_manifest m;

    p->st = cast_publish(n->cast, p->envelope, p->file, &p->e);
    if (!p->st && !(p->st = msg_envelope_decode(&env, p->envelope, &p->e)) &&
        !(p->st = msg_manifest_decode(&m, env.body, &p->e)))
        p->st = cast_publish_other(n->cast, &m, CONTENT_STATE, p->file, &p->e);
}

static void publish_all(struct node *n, const struct version_made *v)
{
    struct publication p = {.envelope = buf_bytes(&v->envelope), .file = buf_bytes(&v->file)};

    call(n, publish_all_there, &p);
    assert_ok(p.st, &p.e);
}

static void publishing_what_is_older_than_those_kept_changes_nothing(void **state)
{
    enum { LAST = 7 }; /* six are kept */
    struct fixture *f = *state;
    struct version_made v[LAST + 1];
    start_node(f, 0);
    set_pins(&f->node[0], 1);
    for (uint32_t k = 0; k <= LAST; k++) {
        version_make(&v[k], f->node[0].key, &f->run, k, 5000, k);
        publish_all(&f->node[0], &v[k]);
    }

    for (uint32_t k = 0; k <= LAST; k++) /* as a trainer does that resumed from version 0 */
        publish_all(&f->node[0], &v[k]);

    struct standing s;
    call(&f->node[0], look_there, &s);
    assert_int_equal(s.newest, LAST);
    assert_int_equal(s.oldest, 2);
    assert_has(&f->node[0], &v[0]);
    buf_clear(&s.json);
    for (uint32_t k = 0; k <= LAST; k++)
        version_clear(&v[k]);
}

static bool is_gone(struct node *n, int64_t version)
{
    struct file_map file;

    if (cast_map(n->cast, version, &file, NULL))
        return true;
    file_map_close(&file);
    return false;
}

static void what_is_pinned_is_kept_whatever_its_age_until_it_is_not(void **state)
{
    enum { LAST = 7 }; /* six are kept */
    struct fixture *f = *state;
    struct version_made v[LAST + 1];
    start_node(f, 0);
    start_node(f, 1);
    set_pins(&f->node[1], 1);
    for (uint32_t k = 0; k <= LAST; k++) {
        version_make(&v[k], f->node[0].key, &f->run, k, 5000, k);
        publish(&f->node[0], &v[k]);
        assert_within(20000, atomic_load(&f->node[1].newest) == k);
    }

    assert_has(&f->node[1], &v[0]);
    assert_true(is_gone(&f->node[0], 0));
    set_pins(&f->node[1], 0);

    assert_within(5000, is_gone(&f->node[1], 0));
    for (uint32_t k = 0; k <= LAST; k++)
        version_clear(&v[k]);
}

/* ---- patches ----------------------------------------------------------------------------- */

#define NUMBERS 1500000u

/* Version `number`: weights in bf16, of which every hundredth differs from those of the version
 * before. */
static void make_weights(struct version_made *v, const struct fixture *f, int64_t number)
{
    struct version_made model = {0};
    struct rng r = rng_of(3, 3), change = rng_of(4, 4);
    char header[128];
    int n = snprintf(header, sizeof(header),
                     "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%u],\"data_offsets\":[0,%u]}}",
                     NUMBERS, 2 * NUMBERS);

    buf_init(&model.file, 2 * NUMBERS + 256);
    buf_put_u64(&model.file, (uint64_t)n);
    buf_append(&model.file, (struct bytes){(const uint8_t *)header, (size_t)n});
    for (uint32_t i = 0; i < NUMBERS; i++) {
        uint16_t w = (uint16_t)(0x3c00 + rng_below(&r, 256));

        for (int64_t k = 0; k < number; k++)
            w = (uint16_t)(w + (rng_below(&change, 100) == 0));
        buf_put_u16(&model.file, w);
    }
    model.shard_bytes = content_shard_bytes(model.file.len);
    version_make_like(v, f->node[0].key, &f->run, number, &model);
    buf_clear(&model.file);
}

struct patch_publication {
    const struct version_made *v;
    int64_t base;
    struct bytes forged; /* a patch of these bytes instead; empty: the right one */
    bool pays;
    enum status st;
    struct err e;
};

/* Signs what it is given, as a trainer gone wrong would. */
static enum status publish_forged(struct node *n, struct patch_publication *p,
                                  struct msg_manifest *m)
{
    const struct content c = {p->v->number, CONTENT_DELTA, p->base};
    struct digest apply_root = m->weights;
    struct buf body, envelope, base;
    struct msg_manifest base_manifest;
    struct idem idem = {{3}};
    struct cast_writer *w;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    buf_init(&base, MSG_MAX_BYTES);
    if ((p->st = cast_write_open(&w, n->cast, &c, 65536, &p->e)))
        return p->st;
    p->st = cast_write_add(w, p->forged, &p->e);
    if (!p->st)
        p->st = cast_write_end(w, m, &p->e);
    if (!p->st)
        p->st = cast_manifest_decoded(n->cast, p->base, &base, &base_manifest, &p->e);
    m->base_root = base_manifest.weights;
    m->apply_root = apply_root;
    if (!p->st)
        p->st = msg_manifest_encode(&body, m, &p->e);
    if (!p->st)
        p->st = msg_envelope_encode(&envelope, MSG_PUBLISH, &m->task, &idem, buf_bytes(&body),
                                    n->key->node_secret, &p->e);
    if (!p->st)
        p->st = cast_announce(n->cast, buf_bytes(&envelope), &p->e);
    cast_write_free(&w);
    buf_clear(&body);
    buf_clear(&envelope);
    buf_clear(&base);
    return p->st;
}

static void publish_patch_there(struct node *n, void *arg)
{
    struct patch_publication *p = arg;
    struct msg_envelope env;
    struct msg_manifest m;

    p->st = msg_envelope_decode(&env, buf_bytes(&p->v->envelope), &p->e);
    if (!p->st)
        p->st = msg_manifest_decode(&m, env.body, &p->e);
    if (p->st)
        return;
    if (p->forged.len) {
        m.task = env.run;
        (void)publish_forged(n, p, &m);
        return;
    }
    p->st = cast_publish_delta(n->cast, &m, p->base, buf_bytes(&p->v->file), &p->pays, &p->e);
}

/* The patch from `base`, then the version itself. */
static void publish_with_patch(struct node *n, const struct version_made *v, int64_t base,
                               struct bytes forged)
{
    struct patch_publication p = {.v = v, .base = base, .forged = forged};

    call(n, publish_patch_there, &p);
    assert_ok(p.st, &p.e);
    assert_true(p.pays || forged.len);
    publish(n, v);
}

static void count_there(struct node *n, void *arg)
{
    *(uint64_t *)arg = cast_counters(n->cast).bytes_in;
}

static void a_version_goes_as_a_patch_and_comes_out_bit_for_bit(void **state)
{
    struct fixture *f = *state;
    struct version_made v[3];
    uint64_t bytes;
    for (uint32_t i = 0; i + 1 < NODES; i++)
        start_node(f, i);
    stop_node(&f->node[NODES - 1]);

    for (uint32_t k = 0; k < 3; k++) {
        make_weights(&v[k], f, k);
        if (k == 0)
            publish(&f->node[0], &v[k]);
        else
            publish_with_patch(&f->node[0], &v[k], k - 1, (struct bytes){0});
        assert_within(20000, all_have(f, k));
    }

    for (uint32_t i = 1; i + 1 < NODES; i++) {
        for (uint32_t k = 0; k < 3; k++)
            assert_has(&f->node[i], &v[k]);
        call(&f->node[i], count_there, &bytes);
        assert_in_range(bytes, v[0].file.len, v[0].file.len + v[0].file.len / 10);
    }
    open_node(f, NODES - 1); /* who comes late fetches the oldest, and patches */
    start_node(f, NODES - 1);
    for (uint32_t i = 0; i + 1 < NODES; i++)
        call(&f->node[i], tell_roster, f);
    assert_within(20000, all_have(f, 2) && atomic_load(&f->node[NODES - 1].n_versions) == 3);
    call(&f->node[NODES - 1], count_there, &bytes);
    assert_in_range(bytes, v[0].file.len, v[0].file.len + v[0].file.len / 10);
    for (uint32_t k = 0; k < 3; k++) {
        assert_has(&f->node[NODES - 1], &v[k]);
        version_clear(&v[k]);
    }
}

static void
a_patch_that_does_not_give_the_version_is_refused_and_the_whole_is_fetched(void **state)
{
    struct fixture *f = *state;
    struct version_made v[2];
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);
    for (uint32_t k = 0; k < 2; k++)
        make_weights(&v[k], f, k);
    publish(&f->node[0], &v[0]);
    assert_within(20000, all_have(f, 0));

    publish_with_patch(&f->node[0], &v[1], 0, BYTES_LIT("this is no patch of any version"));

    assert_within(20000, all_have(f, 1));
    for (uint32_t i = 0; i < NODES; i++)
        assert_has(&f->node[i], &v[1]);
    for (uint32_t k = 0; k < 2; k++)
        version_clear(&v[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_published_version_reaches_everybody_bit_for_bit,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_reports_what_is_on_disk_and_fetches_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(one_who_comes_late_gets_the_versions_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_quota_keeps_the_newest_that_fit_and_fetches_none_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(who_comes_late_with_a_quota_fetches_what_fits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_larger_than_the_quota_is_not_fetched, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            what_the_disk_spoilt_while_a_node_was_down_is_not_used_but_fetched, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            publishing_refuses_another_content_another_file_and_another_signer, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            publishing_what_is_older_than_those_kept_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_pinned_is_kept_whatever_its_age_until_it_is_not,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_version_goes_as_a_patch_and_comes_out_bit_for_bit,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_patch_that_does_not_give_the_version_is_refused_and_the_whole_is_fetched, setup,
            teardown),
    };
    return cmocka_run_group_tests_name("shardcast/cast", tests, NULL, NULL);
}
