#include "proto/canary.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "proto/submission.h"

#define GOOD_OF_256 64u

static uint64_t first_u64(const struct digest *d, size_t nth)
{
    uint64_t v = 0;

    for (size_t i = 8; i-- > 0;)
        v = v << 8 | d->b[8 * nth + i];
    return v;
}

void canary_seal(struct digest *seal, const struct digest *salt, uint64_t unit,
                 uint32_t attempt)
{
    struct digest_state h;

    digest_begin(&h, "muster/1/seal");
    digest_add(&h, BYTES_OF(salt->b));
    digest_add_u64(&h, unit);
    digest_add_u32(&h, attempt);
    digest_end(&h, seal);
}

enum canary_kind canary_kind_of(const struct digest *salt, uint32_t attempt, uint64_t rate)
{
    struct digest k;

    if (attempt != 1)
        return CANARY_NONE;
    digest_tagged(&k, "muster/1/canary", BYTES_OF(salt->b));
    if (rate <= UINT32_MAX && first_u64(&k, 0) >= rate << 32)
        return CANARY_NONE;
    return k.b[8] < GOOD_OF_256 ? CANARY_GOOD : CANARY_BAD;
}

void canary_draw_value(struct digest *out, const struct digest *r, const struct digest *salt)
{
    struct digest_state h;

    digest_begin(&h, "muster/1/sealed");
    digest_add(&h, BYTES_OF(r->b));
    digest_add(&h, BYTES_OF(salt->b));
    digest_end(&h, out);
}

static uint32_t word_at(struct bytes b, size_t i)
{
    uint32_t v;

    memcpy(&v, b.data + 4 * i, sizeof(v)); /* the wire is not aligned */
    return v;
}

/* A copy whose word i is `to`. */
static struct bytes with_word(uint8_t **copy, struct bytes b, size_t i, uint32_t to)
{
    *copy = xmalloc(b.len);
    memcpy(*copy, b.data, b.len);
    memcpy(*copy + 4 * i, &to, sizeof(to));
    return (struct bytes){*copy, b.len};
}

/* The n-th token of prompt and samples together. */
static uint32_t any_token(const struct msg_submit *m, size_t n)
{
    if (n < m->prompt.len / 4)
        return word_at(m->prompt, n);
    n -= m->prompt.len / 4;
    for (uint32_t i = 0; i < m->n_samples; i++) {
        if (n < m->sample[i].tokens.len / 4)
            return word_at(m->sample[i].tokens, n);
        n -= m->sample[i].tokens.len / 4;
    }
    return 0;
}

/* False: all tokens of the submission are this one. */
static bool other_token(uint32_t *to, const struct msg_submit *m, uint32_t not_this,
                        uint64_t from)
{
    size_t n = m->prompt.len / 4;

    for (uint32_t i = 0; i < m->n_samples; i++)
        n += m->sample[i].tokens.len / 4;
    for (size_t i = 0; i < n; i++) {
        *to = any_token(m, (size_t)((from % n + i) % n));
        if (*to != not_this)
            return true;
    }
    return false;
}

/* Alters *m; what it then lends is in *copy, the caller's. */
static enum status alter(struct msg_submit *m, const struct digest *salt, uint8_t **copy,
                         struct err *e)
{
    struct msg_sample *s;
    struct digest a;
    uint64_t nth, n;
    size_t at = 0;
    uint32_t to;

    digest_tagged(&a, "muster/1/alter", BYTES_OF(salt->b));
    s = &m->sample[first_u64(&a, 0) % m->n_samples];
    n = submission_sample_tokens(s);
    if (!n || s->logprobs.len != s->tokens.len ||
        (s->mask.len && s->tokens.len != 4 * s->mask.len))
        return err_set(e, ERR_MALFORMED, "a sample without sampled tokens cannot be altered");
    for (nth = first_u64(&a, 1) % n; !submission_is_sampled(s, at) || nth; at++)
        nth -= submission_is_sampled(s, at);
    if (first_u64(&a, 2) % 2 && other_token(&to, m, word_at(s->tokens, at), first_u64(&a, 3))) {
        s->tokens = with_word(copy, s->tokens, at, to);
    } else {
        to = word_at(s->logprobs, at);
        s->logprobs = with_word(copy, s->logprobs, at, (to ? to : 1u << 31) ^ 1);
    }
    submission_root(&m->root, m);
    return OK;
}

enum status canary_alter(struct buf *body, const struct digest *salt, struct err *e)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    uint8_t *copy = NULL;
    struct buf out;
    enum status st = msg_submit_decode(m, buf_bytes(body), e);

    buf_init(&out, MSG_MAX_BYTES);
    if (!st)
        st = alter(m, salt, &copy, e);
    if (!st)
        st = msg_submit_encode(&out, m, e);
    if (!st) {
        buf_reset(body);
        buf_append(body, buf_bytes(&out));
        st = buf_status(body, e);
    }
    buf_clear(&out);
    free(copy);
    free(m);
    return st;
}

enum status canary_altered_root(struct digest *root, struct bytes honest,
                                const struct digest *salt, struct err *e)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    uint8_t *copy = NULL;
    enum status st = msg_submit_decode(m, honest, e);

    if (!st)
        st = alter(m, salt, &copy, e);
    if (!st)
        *root = m->root;
    free(copy);
    free(m);
    return st;
}

enum status canary_order_read(struct msg_canary_order *order, struct bytes envelope,
                              const struct digest *run, uint64_t unit, uint64_t lease,
                              struct err *e)
{
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, envelope, e);

    if (!st && (env.kind != MSG_CANARY_ORDER || !digest_equal(&env.run, run)))
        st = err_set(e, ERR_MALFORMED, "this is no order of this run");
    if (!st)
        st = msg_canary_order_decode(order, env.body, e);
    if (!st && (order->unit != unit || order->lease != lease))
        st = err_set(e, ERR_MALFORMED, "the order is for another lease");
    return st ? st : msg_envelope_verify(&env, e);
}
