/*
 * cast: versions among whole nodes (unit/shardcast/nodes.h), restarts, quota, pins
 */
#include "shardcast/cast.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"
#include "unit/shardcast/nodes.h"

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
    clear_versions(v, 3);
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
    for (uint32_t k = 0; k < 2; k++)
        publish_new(f, &v[k], k, 3000000, 0);
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
    clear_versions(v, 2);
}

static void one_who_comes_late_gets_the_versions_kept(void **state)
{
    struct fixture *f = *state;
    struct version_made v[3];
    for (uint32_t i = 0; i < NODES - 1; i++)
        start_node(f, i);
    for (uint32_t k = 0; k < 3; k++)
        publish_new(f, &v[k], k, 100000, 0);

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
        publish_new(f, &v[k], k, QUOTA_FILE, 0);
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
    clear_versions(v, 5);
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
    clear_versions(v, 2);
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

/* From now on there is no room on the node's disk for the shards of this version. */
static void fill_disk(const struct node *n, int64_t version)
{
    char path[4200];

    snprintf(path, sizeof(path), "%s/contents/%lld-1--1.part", n->dir, (long long)version);
    assert_int_equal(symlink("/dev/full", path), 0);
}

static void assert_bans_nobody(struct node *n)
{
    struct standing s;

    call(n, look_there, &s);
    assert_null(strstr(buf_cstr(&s.json), "\"banned\": true"));
    assert_contains(buf_cstr(&s.json), "\"lies\": 0,");
    buf_clear(&s.json);
}

/* What it could not store it has shown to nobody: who asked for it in vain would take it for a liar. */
static void whose_disk_is_full_ends_and_nobody_bans_it(void **state)
{
    struct fixture *f = *state;
    struct node *full = &f->node[1];
    struct version_made v[2];

    stop_node(&f->node[0]);
    f->node[0].up_bytes_s = QUOTA_FILE / 2; /* so slow that the others turn to each other */
    open_node(f, 0);
    for (uint32_t i = 0; i < NODES; i++)
        start_node(f, i);
    publish_new(f, &v[0], 0, 1000, 0);
    assert_within(20000, all_have(f, 0));
    fill_disk(full, 1);
    publish_new(f, &v[1], 1, QUOTA_FILE, 0);

    assert_int_equal(await_end(full), ERR_FULL);
    assert_contains(full->err.text, "No space left on device");
    assert_contains(full->err.text, full->dir);
    assert_within(20000, all_have(f, 1));
    assert_bans_nobody(&f->node[0]);
    assert_bans_nobody(&f->node[2]);
    assert_bans_nobody(&f->node[3]);
    clear_versions(v, 2);
}

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
    clear_versions(v, 4);
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
    clear_versions(v, LAST + 1);
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
        publish_new(f, &v[k], k, 5000, k);
        assert_within(20000, atomic_load(&f->node[1].newest) == k);
    }

    assert_has(&f->node[1], &v[0]);
    assert_true(is_gone(&f->node[0], 0));
    set_pins(&f->node[1], 0);

    assert_within(5000, is_gone(&f->node[1], 0));
    clear_versions(v, LAST + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_published_version_reaches_everybody_bit_for_bit,
                                        nodes_setup, nodes_teardown),
        cmocka_unit_test_setup_teardown(a_restart_reports_what_is_on_disk_and_fetches_nothing,
                                        nodes_setup, nodes_teardown),
        cmocka_unit_test_setup_teardown(one_who_comes_late_gets_the_versions_kept, nodes_setup,
                                        nodes_teardown),
        cmocka_unit_test_setup_teardown(
            a_quota_keeps_the_newest_that_fit_and_fetches_none_twice, nodes_setup,
            nodes_teardown),
        cmocka_unit_test_setup_teardown(who_comes_late_with_a_quota_fetches_what_fits,
                                        nodes_setup, nodes_teardown),
        cmocka_unit_test_setup_teardown(what_is_larger_than_the_quota_is_not_fetched,
                                        nodes_setup, nodes_teardown),
        cmocka_unit_test_setup_teardown(whose_disk_is_full_ends_and_nobody_bans_it, nodes_setup,
                                        nodes_teardown),
        cmocka_unit_test_setup_teardown(
            what_the_disk_spoilt_while_a_node_was_down_is_not_used_but_fetched, nodes_setup,
            nodes_teardown),
        cmocka_unit_test_setup_teardown(
            publishing_refuses_another_content_another_file_and_another_signer, nodes_setup,
            nodes_teardown),
        cmocka_unit_test_setup_teardown(
            publishing_what_is_older_than_those_kept_changes_nothing, nodes_setup,
            nodes_teardown),
        cmocka_unit_test_setup_teardown(what_is_pinned_is_kept_whatever_its_age_until_it_is_not,
                                        nodes_setup, nodes_teardown),
    };
    return cmocka_run_group_tests_name("shardcast/cast", tests, NULL, NULL);
}
