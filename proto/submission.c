#include "proto/submission.h"

#include <math.h>
#include <string.h>

#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/opening.h"

/* ---- the root ---------------------------------------------------------------------------- */

static void add_f32(struct digest_state *s, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    digest_add_u32(s, bits);
}

/* A leaf's hash is digest(0x00 || its bytes): written as it goes, the bytes are never joined. */
static void leaf_begin(struct digest_state *s)
{
    static const uint8_t prefix[1] = {0x00};

    digest_begin(s, NULL);
    digest_add(s, BYTES_OF(prefix));
}

static void add_header(struct merkle *tree, const struct msg_submit *m)
{
    struct digest_state s;
    struct digest h;

    leaf_begin(&s);
    digest_add(&s, BYTES_LIT("muster/submit\0"));
    digest_add_u64(&s, m->unit);
    digest_add_u64(&s, (uint64_t)m->version);
    digest_add(&s, BYTES_OF(m->task.b));
    digest_add(&s, BYTES_OF(m->weights.b));
    digest_add_blob(&s, (struct bytes){(const uint8_t *)m->numerics,
                                       strnlen(m->numerics, sizeof(m->numerics))});
    digest_add_blob(&s, m->prompt);
    digest_add(&s, BYTES_OF(m->opening.b));
    digest_add_u32(&s, m->n_samples);
    for (uint32_t i = 0; i < m->n_samples; i++) {
        add_f32(&s, m->sample[i].reward);
        digest_add_u32(&s, m->sample[i].finish);
    }
    digest_end(&s, &h);
    merkle_add_hash(tree, &h);
}

/* Bytes [at, at + n) of b, as much of them as there is. */
static struct bytes cut(struct bytes b, size_t at, size_t n)
{
    if (at >= b.len)
        return (struct bytes){NULL, 0};
    return bytes_slice(b, at, n < b.len - at ? n : b.len - at);
}

static void add_sample(struct merkle *tree, const struct msg_sample *x, uint32_t sample)
{
    size_t n = x->tokens.len / 4;
    struct digest_state s;
    struct digest h;

    for (size_t at = 0, chunk = 0; at < n; at += SUBMISSION_CHUNK, chunk++) {
        leaf_begin(&s);
        digest_add_u32(&s, sample);
        digest_add_u32(&s, (uint32_t)chunk);
        digest_add_blob(&s, cut(x->tokens, at * 4, (size_t)SUBMISSION_CHUNK * 4));
        digest_add_blob(&s, cut(x->logprobs, at * 4, (size_t)SUBMISSION_CHUNK * 4));
        digest_add_blob(&s, cut(x->mask, at, SUBMISSION_CHUNK));
        digest_end(&s, &h);
        merkle_add_hash(tree, &h);
    }
}

void submission_root(struct digest *root, const struct msg_submit *m)
{
    struct merkle tree;

    merkle_init(&tree);
    add_header(&tree, m);
    for (uint32_t i = 0; i < m->n_samples; i++)
        add_sample(&tree, &m->sample[i], i);
    merkle_root(&tree, root);
}

/* ---- bounds ------------------------------------------------------------------------------ */

uint64_t submission_sample_tokens(const struct msg_sample *s)
{
    uint64_t n = 0;

    if (s->mask.len == 0)
        return s->tokens.len / 4;
    for (size_t i = 0; i < s->mask.len; i++)
        n += s->mask.data[i] == 1;
    return n;
}

uint64_t submission_tokens(const struct msg_submit *m)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < m->n_samples; i++)
        n += submission_sample_tokens(&m->sample[i]);
    return n;
}

uint64_t submission_proofs(uint64_t sampled_tokens)
{
    return sampled_tokens / SUBMISSION_CHUNK + (sampled_tokens % SUBMISSION_CHUNK != 0);
}

static bool has_negative_id(struct bytes ids)
{
    for (size_t i = 3; i < ids.len; i += 4) {
        if (ids.data[i] & 0x80)
            return true;
    }
    return false;
}

static enum status check_logprobs(const struct msg_sample *x, uint32_t sample, struct err *e)
{
    struct reader r = reader_of(x->logprobs);

    for (size_t i = 0; i < x->tokens.len / 4; i++) {
        float v = reader_f32(&r);
        uint32_t bits;

        memcpy(&bits, &v, sizeof(bits));
        if (!isfinite(v))
            return err_set(e, ERR_NUMERIC, "sample %u: log-prob of token %zu is not finite",
                           sample, i);
        if (v > 0 || (!submission_is_sampled(x, i) && bits != 0))
            return err_set(e, ERR_MALFORMED, "sample %u: log-prob of token %zu is %g", sample,
                           i, (double)v);
    }
    return OK;
}

/* One mask, one way to write it. */
static enum status check_mask(const struct msg_sample *x, uint32_t sample, struct err *e)
{
    bool has_zero = x->mask.len == 0;

    for (size_t i = 0; i < x->mask.len; i++) {
        if (x->mask.data[i] > 1)
            return err_set(e, ERR_MALFORMED, "sample %u: mask of token %zu is neither 0 nor 1",
                           sample, i);
        has_zero = has_zero || x->mask.data[i] == 0;
    }
    return has_zero
               ? OK
               : err_set(e, ERR_MALFORMED, "sample %u: a mask of ones is left out", sample);
}

static enum status check_sample(const struct msg_sample *x, uint32_t sample, struct err *e)
{
    enum status st;
    size_t n = x->tokens.len / 4;

    if (n == 0)
        return err_set(e, ERR_MALFORMED, "sample %u has no tokens", sample);
    if (n > MSG_MAX_TOKENS || x->tokens.len % 4 != 0 || x->logprobs.len != n * 4 ||
        (x->mask.len != 0 && x->mask.len != n))
        return err_set(e, ERR_MALFORMED,
                       "sample %u: %zu bytes of tokens, %zu of log-probs, %zu of mask", sample,
                       x->tokens.len, x->logprobs.len, x->mask.len);
    if (has_negative_id(x->tokens))
        return err_set(e, ERR_MALFORMED, "sample %u has a negative token id", sample);
    if (x->finish < FINISH_END || x->finish > FINISH_ENV)
        return err_set(e, ERR_MALFORMED, "sample %u ends in unknown manner %u", sample,
                       x->finish);
    if (!isfinite(x->reward))
        return err_set(e, ERR_NUMERIC, "sample %u: reward is not finite", sample);
    st = check_mask(x, sample, e);
    return st ? st : check_logprobs(x, sample, e);
}

static enum status check_all(const struct msg_submit *m, struct err *e)
{
    if (m->n_samples == 0 || m->n_samples > MSG_MAX_SAMPLES)
        return err_set(e, ERR_MALFORMED, "%u samples, not 1..%u", m->n_samples,
                       MSG_MAX_SAMPLES);
    if (m->prompt.len == 0 || m->prompt.len % 4 != 0 || m->prompt.len / 4 > MSG_MAX_TOKENS ||
        has_negative_id(m->prompt))
        return err_set(e, ERR_MALFORMED, "a prompt of %zu bytes is no list of token ids",
                       m->prompt.len);
    if (opening_is_wanted(m->numerics) == digest_is_zero(&m->opening))
        return err_set(e, ERR_MALFORMED, "class '%s' %s an opening", m->numerics,
                       digest_is_zero(&m->opening) ? "needs" : "has no use for");
    for (uint32_t i = 0; i < m->n_samples; i++) {
        enum status st = check_sample(&m->sample[i], i, e);
        if (st)
            return st;
    }
    return OK;
}

enum status submission_check_bounds(const struct msg_submit *m, enum reason *why, struct err *e)
{
    enum status st = check_all(m, e);

    if (why)
        *why = st == OK ? REASON_NONE : st == ERR_NUMERIC ? REASON_NOT_FINITE : REASON_BOUNDS;
    return st;
}
