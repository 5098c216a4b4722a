#include "unit/shardcast/neighbours.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "support/test.h"

int neighbours_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct cast_state_options o = {.keep = 3};

    memset(f->run.b, 5, sizeof(f->run.b));
    for (uint32_t i = 0; i < 3; i++)
        f->key[i] = versions_key(i);
    o.self = f->key[1]->transport;
    o.node = f->key[1]->node;
    cast_state_new(&f->s, &o);
    cast_state_set_run(f->s, &f->run, &f->key[0]->node, 0, &f->out);
    cast_state_meet(f->s, &f->key[0]->transport, LINK_A, true, 0, &f->out);
    cast_state_meet(f->s, &f->key[2]->transport, LINK_B, false, 0, &f->out);
    cast_out_clear(&f->out);
    *state = f;
    return 0;
}

int neighbours_teardown(void **state)
{
    struct fixture *f = *state;

    cast_out_clear(&f->out);
    cast_state_free(&f->s);
    for (uint32_t i = 0; i < 3; i++)
        key_free(&f->key[i]);
    free(f);
    return 0;
}

/* ---- playing the neighbours -------------------------------------------------------------- */

const struct node_key *at_end(const struct fixture *f, uint64_t link)
{
    return f->key[link == LINK_A ? 0 : 2];
}

void say_raw(struct fixture *f, uint64_t link, struct bytes frame)
{
    cast_state_message(f->s, &at_end(f, link)->transport, frame, f->now_ms, &f->out);
}

void say(struct fixture *f, uint64_t link, enum msg_kind kind, const struct buf *body)
{
    struct buf envelope;

    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(&envelope, kind, &f->run, NULL, buf_bytes(body), NULL, NULL),
              NULL);
    say_raw(f, link, buf_bytes(&envelope));
    /* What is lent from a frame ends with it. */
    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.v[i].kind == CAST_STORE && !f->out.v[i].owned)
            f->out.v[i].value = (struct bytes){0};
    buf_clear(&envelope);
}

void say_signed(struct fixture *f, uint64_t link, const struct version_made *v)
{
    for (uint32_t i = 0; i < v->n_segments; i++)
        say_raw(f, link, buf_bytes(&v->segment[i]));
    say_raw(f, link, buf_bytes(&v->envelope));
}

void say_have_all(struct fixture *f, uint64_t link, const struct version_made *v)
{
    struct msg_have m = {.content = v->content, .is_all = true};

    SAY(f, link, HAVE, have, m);
}

void say_shard(struct fixture *f, uint64_t link, const struct version_made *v, uint32_t index,
               struct bytes data)
{
    struct msg_shard m = {.content = v->content, .index = index, .data = data};

    SAY(f, link, SHARD, shard, m);
}

void say_shard_ask(struct fixture *f, uint64_t link, const struct version_made *v,
                   uint32_t index)
{
    uint8_t le[4] = {(uint8_t)index, (uint8_t)(index >> 8)};
    struct msg_shard_ask m = {.content = v->content, .indices = BYTES_OF(le)};

    SAY(f, link, SHARD_ASK, shard_ask, m);
}

void say_head(struct fixture *f, uint64_t link, uint64_t made_ms, int64_t version)
{
    struct msg_head m = {.made_ms = made_ms, .until_ms = made_ms + 30000, .version = version};
    struct buf body, envelope;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(msg_head_encode(&body, &m, NULL), NULL);
    version_sign_head(&envelope, f->key[0], &f->run, buf_bytes(&body));
    say_raw(f, link, buf_bytes(&envelope));
    buf_clear(&body);
    buf_clear(&envelope);
}

size_t count(const struct fixture *f, enum cast_act_kind kind)
{
    size_t n = 0;

    for (size_t i = 0; i < f->out.n; i++)
        n += f->out.v[i].kind == kind;
    return n;
}

bool find_sent(const struct fixture *f, uint64_t link, enum msg_kind kind, size_t nth,
               struct msg_envelope *env)
{
    for (size_t i = 0; i < f->out.n; i++) {
        const struct cast_act *a = &f->out.v[i];
        if (a->kind != CAST_SEND || (link && a->link != link))
            continue;
        assert_ok(msg_envelope_decode(env, a->value, NULL), NULL);
        if (env->kind == kind && nth-- == 0)
            return true;
    }
    return false;
}

size_t count_sent(const struct fixture *f, uint64_t link, enum msg_kind kind)
{
    struct msg_envelope env;
    size_t n = 0;

    while (find_sent(f, link, kind, n, &env))
        n++;
    return n;
}

size_t count_asked_of(const struct fixture *f, uint64_t link)
{
    struct msg_envelope env;
    struct msg_shard_ask m;
    size_t n = 0;

    for (size_t i = 0; find_sent(f, link, MSG_SHARD_ASK, i, &env); i++) {
        assert_ok(msg_shard_ask_decode(&m, env.body, NULL), NULL);
        n += m.indices.len / 4;
    }
    return n;
}

uint32_t nth_asked(const struct fixture *f, uint64_t link, size_t i)
{
    struct msg_envelope env;
    struct msg_shard_ask m;
    size_t n = 0;

    for (size_t k = 0; find_sent(f, link, MSG_SHARD_ASK, k, &env); k++) {
        assert_ok(msg_shard_ask_decode(&m, env.body, NULL), NULL);
        if (i - n < m.indices.len / 4)
            return m.indices.data[4 * (i - n)];
        n += m.indices.len / 4;
    }
    assert_true(!"so many were not asked");
    return 0;
}

size_t count_told(const struct fixture *f, uint64_t link)
{
    struct msg_envelope env;
    struct msg_have_news m;
    size_t n = 0;

    for (size_t i = 0; find_sent(f, link, MSG_HAVE_NEWS, i, &env); i++) {
        assert_ok(msg_have_news_decode(&m, env.body, NULL), NULL);
        n += m.indices.len / 4;
    }
    return n;
}

void tick(struct fixture *f, int64_t now_ms)
{
    f->now_ms = now_ms;
    cast_state_tick(f->s, now_ms, &f->out);
}

void make(struct fixture *f, struct version_made *v, int64_t number, size_t n_bytes)
{
    version_make(v, f->key[0], &f->run, number, n_bytes, 0);
}

void feed_whole(struct fixture *f, const struct version_made *v)
{
    say_signed(f, LINK_A, v);
    say_have_all(f, LINK_A, v);
    for (uint32_t i = 0; i < version_n_shards(v); i++)
        say_shard(f, LINK_A, v, i, version_shard(v, i));
}

bool is_complete(const struct fixture *f, int64_t number)
{
    struct content c = content_full(number);

    return cast_state_is_complete(f->s, &c);
}

void become_origin(struct fixture *f)
{
    struct cast_state_options o = {
        .self = f->key[1]->transport, .node = f->key[1]->node, .keep = 3};

    cast_out_clear(&f->out);
    cast_state_free(&f->s);
    cast_state_new(&f->s, &o);
    cast_state_set_run(f->s, &f->run, &f->key[1]->node, 0, &f->out);
    cast_state_meet(f->s, &f->key[0]->transport, LINK_A, true, 0, &f->out);
    cast_state_meet(f->s, &f->key[2]->transport, LINK_B, false, 0, &f->out);
    cast_out_clear(&f->out);
}

void publish(struct fixture *f, const struct version_made *v)
{
    for (uint32_t i = 0; i < v->n_segments; i++)
        assert_ok(cast_state_append(f->s, buf_bytes(&v->segment[i]), f->now_ms, &f->out, NULL),
                  NULL);
    assert_ok(cast_state_publish(f->s, buf_bytes(&v->envelope), f->now_ms, &f->out, NULL),
              NULL);
}
