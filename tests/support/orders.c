#include "support/orders.h"

#include <stdio.h>
#include <string.h>

#include "support/test.h"

void orders_init(struct orders *o, uint8_t who)
{
    const uint8_t worker[32] = {who}, server[32] = {who, 1};

    memset(o, 0, sizeof(*o));
    key_derive(&o->key, worker);
    key_derive(&o->server, server);
    o->run.b[0] = 9;
    effects_init(&o->out);
    buf_init(&o->answer, MSG_MAX_BYTES);
    buf_init(&o->body, MSG_MAX_BYTES);
}

void orders_clear(struct orders *o)
{
    effects_clear(&o->out);
    buf_clear(&o->answer);
    buf_clear(&o->body);
    key_free(&o->key);
    key_free(&o->server);
}

void orders_forget(struct orders *o)
{
    effects_reset(&o->out);
}

/* The i-th SEND of `kind` (0: of any kind); false: there are fewer. */
static bool find(const struct orders *o, unsigned kind, size_t i, struct msg_envelope *env)
{
    for (size_t k = 0; k < o->out.n; k++) {
        const struct effect *f = &o->out.v[k];
        struct err e = {0};

        if (f->kind != EFFECT_SEND)
            continue;
        assert_int_equal(f->peer, ORDERS_PEER);
        assert_ok(msg_envelope_decode(env, f->value, &e), &e);
        assert_true(digest_equal(&env->run, &o->run));
        if (msg_kind_is_signed(env->kind))
            assert_ok(msg_envelope_verify(env, &e), &e);
        if ((!kind || (unsigned)env->kind == kind) && i-- == 0)
            return true;
    }
    return false;
}

static size_t count(const struct orders *o, unsigned kind)
{
    struct msg_envelope env;
    size_t n = 0;

    while (find(o, kind, n, &env))
        n++;
    return n;
}

size_t orders_sent(const struct orders *o, enum msg_kind kind)
{
    return count(o, (unsigned)kind);
}

size_t orders_sends(const struct orders *o)
{
    return count(o, 0);
}

struct msg_envelope orders_get(const struct orders *o, enum msg_kind kind, size_t i)
{
    struct msg_envelope env;

    assert_true(find(o, (unsigned)kind, i, &env));
    return env;
}

const struct effect *orders_job(const struct orders *o)
{
    const struct effect *job = NULL;

    for (size_t k = 0; k < o->out.n; k++)
        if (o->out.v[k].kind == EFFECT_START) {
            assert_null(job);
            job = &o->out.v[k];
        }
    return job;
}

int64_t orders_timer(const struct orders *o)
{
    int64_t first = INT64_MAX;

    for (size_t k = 0; k < o->out.n; k++)
        if (o->out.v[k].kind == EFFECT_TIMER && o->out.v[k].at_ms < first)
            first = o->out.v[k].at_ms;
    return first;
}

struct bytes orders_answer(struct orders *o, const struct msg_envelope *asked,
                           enum msg_kind kind, struct bytes body)
{
    struct err e = {0};

    buf_reset(&o->answer);
    assert_ok(msg_envelope_encode(&o->answer, kind, &o->run, &asked->idem, body,
                                  o->server->node_secret, &e),
              &e);
    return buf_bytes(&o->answer);
}

struct bytes orders_wait(struct orders *o, const struct msg_envelope *asked,
                         const struct msg_wait *m)
{
    buf_reset(&o->body);
    assert_ok(msg_wait_encode(&o->body, m, NULL), NULL);
    return orders_answer(o, asked, MSG_WAIT, buf_bytes(&o->body));
}

struct bytes orders_receipt(struct orders *o, const struct msg_envelope *asked, bool accepted,
                            enum reason code)
{
    const struct msg_receipt m = {.is_accepted = accepted, .code = (uint32_t)code, .seq = 5};

    buf_reset(&o->body);
    assert_ok(msg_receipt_encode(&o->body, &m, NULL), NULL);
    return orders_answer(o, asked, MSG_RECEIPT, buf_bytes(&o->body));
}

struct bytes orders_refused(struct orders *o, const struct msg_envelope *asked,
                            enum reason code)
{
    struct msg_refused m = {.code = (uint32_t)code};

    snprintf(m.text, sizeof(m.text), "%s", reason_text(code));
    buf_reset(&o->body);
    assert_ok(msg_refused_encode(&o->body, &m, NULL), NULL);
    return orders_answer(o, asked, MSG_REFUSED, buf_bytes(&o->body));
}

struct bytes orders_lease(struct orders *o, const struct msg_envelope *asked, uint64_t first,
                          uint32_t n, int64_t version, uint32_t deadline_ms)
{
    struct msg_lease m = {.n = n};

    for (uint32_t i = 0; i < n; i++)
        m.item[i] = (struct lease_item){.unit = first + i,
                                        .version = version,
                                        .lease = 1000 + first + i,
                                        .deadline_ms = deadline_ms,
                                        .hard_ms = 10 * deadline_ms};
    buf_reset(&o->body);
    assert_ok(msg_lease_encode(&o->body, &m, NULL), NULL);
    return orders_answer(o, asked, MSG_LEASE, buf_bytes(&o->body));
}
