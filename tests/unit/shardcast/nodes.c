#include "unit/shardcast/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"

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

    n->st = shell_run(n->shell, &n->err);
    if (!n->st)
        n->st = cast_failure(n->cast, &n->err);
    atomic_store(&n->has_ended, true);
    return NULL;
}

void call(struct node *n, node_fn *fn, void *arg)
{
    n->arg = arg;
    atomic_store(&n->is_called, false);
    atomic_store(&n->fn, fn);
    shell_wake(n->part);
    assert_within(5000, atomic_load(&n->is_called));
}

void open_node(struct fixture *f, uint32_t i)
{
    struct node *n = &f->node[i];
    const struct shell_part_ops ops = {.ctx = n, .on_timer = on_timer};
    const struct cast_options co = {.ctx = n,
                                    .on_version = on_version,
                                    .wants_state = i == KEEPS_STATE,
                                    .max_bytes = n->max_bytes,
                                    .up_bytes_s = n->up_bytes_s};
    struct err e;

    atomic_store(&n->newest, -1);
    atomic_store(&n->n_versions, 0);
    assert_ok(shell_new(&n->shell, n->key, &e), &e);
    n->part = shell_add_part(n->shell, &ops, NULL, 0);
    assert_ok(cast_new(&n->cast, n->shell, n->key, n->dir, &co, &e), &e);
    snprintf(f->roster->entry[i].endpoint, sizeof(f->roster->entry[i].endpoint), "%s",
             cast_endpoint(n->cast));
}

void tell_roster(struct node *n, void *arg)
{
    const struct fixture *f = arg;
    struct public_key keys[NODES];

    for (uint32_t i = 0; i < NODES; i++)
        keys[i] = f->roster->entry[i].transport;
    shell_admit(n->shell, keys, NODES);
    cast_set_run(n->cast, &f->run, &f->roster->entry[0].node);
    cast_set_roster(n->cast, f->roster);
}

void start_node(struct fixture *f, uint32_t i)
{
    struct node *n = &f->node[i];

    tell_roster(n, f);
    atomic_store(&n->has_ended, false);
    assert_int_equal(pthread_create(&n->thread, NULL, run_node, n), 0);
    n->is_running = true;
}

void stop_node(struct node *n)
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

enum status await_end(struct node *n)
{
    enum status st;

    assert_within(20000, atomic_load(&n->has_ended));
    assert_int_equal(pthread_join(n->thread, NULL), 0);
    n->is_running = false;
    st = n->st;
    stop_node(n);
    return st;
}

int nodes_setup(void **state)
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

int nodes_teardown(void **state)
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

void clear_versions(struct version_made *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        version_clear(&v[i]);
}

static void publish_there(struct node *n, void *arg)
{
    struct publication *p = arg;

    p->st = cast_publish(n->cast, p->envelope, p->file, &p->e);
}

enum status try_publish(struct node *n, const struct version_made *v, struct bytes file)
{
    struct publication p = {.envelope = buf_bytes(&v->envelope), .file = file};

    call(n, publish_there, &p);
    return p.st;
}

void publish(struct node *n, const struct version_made *v)
{
    assert_ok(try_publish(n, v, buf_bytes(&v->file)), NULL);
}

void publish_new(struct fixture *f, struct version_made *v, uint32_t k, size_t n_bytes,
                 uint32_t seed)
{
    version_make(v, f->node[0].key, &f->run, k, n_bytes, seed);
    publish(&f->node[0], v);
}

void assert_has(struct node *n, const struct version_made *v)
{
    struct file_map file;
    struct err e;

    assert_ok(cast_map(n->cast, v->number, &file, &e), &e);
    assert_true(bytes_equal(file.bytes, buf_bytes(&v->file)));
    file_map_close(&file);
}

bool all_have(const struct fixture *f, int64_t version)
{
    for (uint32_t i = 0; i < NODES; i++)
        if (f->node[i].shell && atomic_load(&f->node[i].newest) < version)
            return false;
    return true;
}
