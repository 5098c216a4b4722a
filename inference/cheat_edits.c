#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "inference/cheat_hooks.h"
#include "proto/submission.h"
#include "proto/toploc.h"

#define PADDING 4u /* tokens added */

uint8_t *cheat_edit_own(struct cheat_edit *x, struct bytes *b, size_t len)
{
    uint8_t *p = xcalloc(len ? len : 1, 1);

    CHECK(x->n_kept < sizeof(x->kept) / sizeof(x->kept[0]));
    if (b->len)
        memcpy(p, b->data, b->len < len ? b->len : len);
    x->kept[x->n_kept++] = p;
    *b = (struct bytes){p, len};
    return p;
}

void cheat_edit_clear(struct cheat_edit *x)
{
    for (size_t i = 0; i < x->n_kept; i++)
        free(x->kept[i]);
    x->n_kept = 0;
}

/* The first n tokens of a sample, or more than it has: those are sampled. The mask stays one that may
 * be sent. */
static void resize(struct cheat_edit *x, struct msg_sample *s, size_t n)
{
    size_t was = s->tokens.len / sizeof(int32_t);

    (void)cheat_edit_own(x, &s->tokens, n * sizeof(int32_t));
    (void)cheat_edit_own(x, &s->logprobs, n * sizeof(float));
    if (s->mask.len) {
        uint8_t *mask = cheat_edit_own(x, &s->mask, n);

        if (n > was)
            memset(mask + was, 1, n - was);
        if (!memchr(mask, 0, n))
            s->mask.len = 0;
    }
}

void cheat_edit_truncate(struct cheat_edit *x)
{
    for (uint32_t i = 0; i < x->m->n_samples; i++) {
        struct msg_sample *s = &x->m->sample[i];

        if (s->tokens.len < 2 * sizeof(int32_t))
            continue;
        resize(x, s, s->tokens.len / sizeof(int32_t) / 2);
        s->finish = FINISH_LENGTH;
    }
}

void cheat_edit_pad(struct cheat_edit *x)
{
    for (uint32_t i = 0; i < x->m->n_samples; i++) {
        struct msg_sample *s = &x->m->sample[i];

        resize(x, s, s->tokens.len / sizeof(int32_t) + PADDING);
    }
}

void cheat_edit_reward(struct cheat_edit *x)
{
    for (uint32_t i = 0; i < x->m->n_samples; i++)
        x->m->sample[i].reward = (float)x->w->task->acceptance.reward_max;
}

void cheat_edit_logprob(struct cheat_edit *x)
{
    for (uint32_t i = 0; i < x->m->n_samples; i++) {
        struct msg_sample *s = &x->m->sample[i];
        uint8_t *to = cheat_edit_own(x, &s->logprobs, s->logprobs.len);

        for (size_t at = 0; at < s->logprobs.len / sizeof(float); at++) {
            float logp;

            memcpy(&logp, to + at * sizeof(logp), sizeof(logp));
            if (submission_is_sampled(s, at))
                logp = logp > -0.02f ? logp - 0.01f : logp + 0.01f; /* never above 0 */
            memcpy(to + at * sizeof(logp), &logp, sizeof(logp));
        }
    }
}

void cheat_edit_tokens(struct cheat_edit *x)
{
    for (uint32_t i = 0; i < x->m->n_samples; i++) {
        struct msg_sample *s = &x->m->sample[i];

        cheat_edit_own(x, &s->tokens, s->tokens.len)[0] ^= 1; /* the first one's lowest bit */
    }
}

/* ---- proofs ------------------------------------------------------------------------------ */

static void set_be16(uint8_t *to, uint32_t v)
{
    to[0] = (uint8_t)(v >> 8);
    to[1] = (uint8_t)v;
}

typedef void forge_fn(uint8_t *proof, const struct cheat_edit *x, uint32_t at);

static void forge(struct cheat_edit *x, forge_fn *one)
{
    uint8_t *to = cheat_edit_own(x, &x->opening.proofs, x->opening.proofs.len);

    memset(to, 0, x->opening.proofs.len);
    for (size_t at = 0; at < x->opening.proofs.len; at += TOPLOC_PROOF_BYTES)
        one(to + at, x, (uint32_t)at);
}

static void one_forged(uint8_t *proof, const struct cheat_edit *x, uint32_t at)
{
    struct rng r = rng_of(x->m->unit, at);

    set_be16(proof, TOPLOC_PRIME);
    for (uint32_t i = 0; i < TOPLOC_K; i++)
        set_be16(proof + 2 + 2 * (size_t)i, (uint32_t)rng_below(&r, TOPLOC_PRIME));
}

static void one_constant(uint8_t *proof, const struct cheat_edit *x, uint32_t at)
{
    (void)x;
    (void)at;
    set_be16(proof, TOPLOC_PRIME);
    set_be16(proof + 2, 0x4010); /* 2.25: where the largest of normal numbers are */
}

/* With the width as modulus the polynomial no longer knows the row. */
static void one_channel(uint8_t *proof, const struct cheat_edit *x, uint32_t at)
{
    uint32_t width = model_config(x->w->model)->dim;

    one_forged(proof, x, at);
    set_be16(proof, width);
}

static void one_null(uint8_t *proof, const struct cheat_edit *x, uint32_t at)
{
    (void)proof;
    (void)x;
    (void)at;
}

void cheat_edit_proof_forged(struct cheat_edit *x)
{
    forge(x, one_forged);
}

void cheat_edit_proof_constant(struct cheat_edit *x)
{
    forge(x, one_constant);
}

void cheat_edit_proof_channel(struct cheat_edit *x)
{
    forge(x, one_channel);
}

void cheat_edit_proof_null(struct cheat_edit *x)
{
    forge(x, one_null);
}

void cheat_edit_proof_long(struct cheat_edit *x)
{
    struct bytes *b = &x->opening.proofs;

    (void)cheat_edit_own(x, b, b->len + TOPLOC_PROOF_BYTES);
}

void cheat_edit_unopened(struct cheat_edit *x)
{
    x->is_open = false;
}
