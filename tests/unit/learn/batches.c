#include "batches.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "learn/batch.h"
#include "proto/sign.h"
#include "proto/submission.h"
#include "support/test.h"

#define TOKENS_MAX 40u

struct batch_made *batch_new(uint64_t number)
{
    struct batch_made *b = xcalloc(1, sizeof(*b));

    b->m.batch = number;
    learn_batch_root(&b->m.root, &b->m);
    return b;
}

void batch_free(struct batch_made **b)
{
    if (!*b)
        return;
    for (uint32_t i = 0; i < (*b)->m.n; i++)
        buf_clear(&(*b)->envelope[i]);
    free(*b);
    *b = NULL;
}

void batch_add(struct batch_made *b, enum msg_kind kind, const struct digest *run, uint8_t who,
               struct bytes body)
{
    struct public_key pub;
    struct secret_key secret;
    uint8_t seed[32];
    struct idem idem = {{who, (uint8_t)b->m.n}};
    struct buf *out = &b->envelope[b->m.n];
    struct err e = {0};

    assert_true(b->m.n < BATCH_MADE_MAX);
    memset(seed, who, sizeof(seed));
    sign_keys_of_seed(&pub, &secret, seed);
    buf_init(out, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(out, kind, run, &idem, body, &secret, &e), &e);
    b->m.envelope[b->m.n++] = buf_bytes(out);
    learn_batch_root(&b->m.root, &b->m);
}

struct sample_memory {
    int32_t tokens[TOKENS_MAX];
    float logprobs[TOKENS_MAX];
    uint8_t mask[TOKENS_MAX];
};

static void fill_sample(struct msg_sample *x, struct sample_memory *mem,
                        const struct submission_spec *spec, uint32_t i)
{
    for (uint32_t t = 0; t < spec->n_tokens; t++) {
        bool sampled = t == 0 || t % 3;

        mem->tokens[t] = (spec->token + (int32_t)((t * t + i) % 5)) % spec->vocab;
        mem->logprobs[t] = sampled ? -0.25f * (float)(1 + (t + i) % 4) : 0.0f;
        mem->mask[t] = sampled;
    }
    x->tokens = (struct bytes){(const uint8_t *)mem->tokens, spec->n_tokens * 4};
    x->logprobs = (struct bytes){(const uint8_t *)mem->logprobs, spec->n_tokens * 4};
    x->mask = (struct bytes){mem->mask, spec->n_tokens > 3 ? spec->n_tokens : 0};
    x->reward = spec->reward[i];
    x->finish = FINISH_LENGTH;
}

void submission_encode(struct buf *out, const struct submission_spec *spec)
{
    static const int32_t prompt[3] = {1, 2, 3};
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct sample_memory *mem = xcalloc(spec->n_samples, sizeof(*mem));
    struct err e = {0};

    assert_true(spec->n_tokens >= 1 && spec->n_tokens <= TOKENS_MAX && spec->n_samples <= 8);
    m->unit = spec->unit;
    m->lease = 100 + spec->unit;
    m->version = spec->version;
    m->task = spec->task;
    memcpy(m->numerics, spec->numerics, strlen(spec->numerics));
    m->prompt = BYTES_OF(prompt);
    m->n_samples = spec->n_samples;
    for (uint32_t i = 0; i < spec->n_samples; i++)
        fill_sample(&m->sample[i], &mem[i], spec, i);
    submission_root(&m->root, m);
    assert_ok(msg_submit_encode(out, m, &e), &e);
    free(mem);
    free(m);
}

void batch_add_units(struct batch_made *b, const struct digest *run,
                     const struct submission_spec *spec, uint32_t n)
{
    struct submission_spec one = *spec;
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    for (uint32_t i = 0; i < n; i++) {
        one.unit = spec->unit + i;
        buf_reset(&body);
        submission_encode(&body, &one);
        batch_add(b, MSG_SUBMIT, run, (uint8_t)(1 + i), buf_bytes(&body));
    }
    buf_clear(&body);
}
