/*
 * cast: versions that go as patches among whole nodes (unit/shardcast/nodes.h)
 */
#include "shardcast/cast.h"

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "support/test.h"
#include "support/wait.h"
#include "unit/shardcast/nodes.h"

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
    clear_versions(v, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_version_goes_as_a_patch_and_comes_out_bit_for_bit,
                                        nodes_setup, nodes_teardown),
        cmocka_unit_test_setup_teardown(
            a_patch_that_does_not_give_the_version_is_refused_and_the_whole_is_fetched,
            nodes_setup, nodes_teardown),
    };
    return cmocka_run_group_tests_name("shardcast/cast_patch", tests, NULL, NULL);
}
