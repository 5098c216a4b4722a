#include "learn/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "learn/loss.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/submission.h"

/* Everything a batch owns, in one chain of blocks. */
struct block {
    struct block *next;
};

static void *block_add(struct learn_batch *b, size_t bytes)
{
    struct block *k = malloc(sizeof(*k) + bytes);

    if (!k)
        return NULL;
    k->next = b->memory;
    b->memory = k;
    return k + 1;
}

void learn_batch_clear(struct learn_batch *b)
{
    struct block *k = b->memory;

    while (k) {
        struct block *next = k->next;
        free(k);
        k = next;
    }
    free(b->sample);
    memset(b, 0, sizeof(*b));
}

void learn_batch_root(struct digest *root, const struct msg_batch *m)
{
    struct merkle tree;

    merkle_init(&tree);
    for (uint32_t i = 0; i < m->n; i++) {
        struct digest d;

        digest_of(&d, m->envelope[i]);
        merkle_add(&tree, BYTES_OF(d.b));
    }
    merkle_root(&tree, root);
}

static enum status check_envelope(const struct msg_envelope *env, const struct msg_submit *s,
                                  const struct learn_rules *r, struct err *e)
{
    unsigned long long unit = s->unit;
    enum status st;

    if (!digest_is_zero(&r->run) && !digest_equal(&env->run, &r->run))
        return err_set(e, ERR_DENIED, "unit %llu belongs to another run", unit);
    st = msg_envelope_verify(env, e);
    if (st)
        return err_prefix(e, st, "unit %llu", unit);
    if (!digest_equal(&s->task, &r->task))
        return err_set(e, ERR_DENIED, "unit %llu belongs to another task", unit);
    if (strcmp(s->numerics, r->numerics) != 0)
        return err_set(e, ERR_DENIED, "unit %llu is of class '%s', the trainer of '%s'", unit,
                       s->numerics, r->numerics);
    if (s->version > r->head || r->head - s->version > r->max_staleness)
        return err_set(e, ERR_DENIED,
                       "unit %llu was made with version %lld, and at version %lld at most %lld "
                       "steps of staleness are allowed",
                       unit, (long long)s->version, (long long)r->head,
                       (long long)r->max_staleness);
    st = submission_check_bounds(s, NULL, e);
    return st ? err_prefix(e, st, "unit %llu", unit) : OK;
}

/* Copies one sample behind the prompt into aligned arrays of the batch. */
static enum status add_sample(struct learn_batch *b, const struct msg_submit *s, uint32_t i,
                              float advantage, const struct learn_rules *r, struct err *e)
{
    const struct msg_sample *m = &s->sample[i];
    size_t p = s->prompt.len / sizeof(int32_t);
    size_t n = p + m->tokens.len / sizeof(int32_t);
    uint8_t *at;

    if (n > r->max_len)
        return err_set(e, ERR_MALFORMED, "unit %llu has a sample of %zu tokens, more than %u",
                       (unsigned long long)s->unit, n, r->max_len);
    at = block_add(b, n * 9);
    if (!at)
        return err_set(e, ERR_NO_MEMORY, "no memory for the tokens of unit %llu",
                       (unsigned long long)s->unit);
    int32_t *tokens = (int32_t *)(void *)at;
    float *logprobs = (float *)(void *)(at + 4 * n);
    uint8_t *mask = at + 8 * n;

    memset(at, 0, n * 9);
    memcpy(tokens, s->prompt.data, s->prompt.len);
    memcpy(tokens + p, m->tokens.data, m->tokens.len);
    memcpy(logprobs + p, m->logprobs.data, m->logprobs.len);
    if (m->mask.len)
        memcpy(mask + p, m->mask.data, m->mask.len);
    else
        memset(mask + p, 1, n - p);
    for (size_t t = 0; t < n; t++)
        if (tokens[t] < 0 || (uint32_t)tokens[t] >= r->vocab)
            return err_set(e, ERR_MALFORMED, "unit %llu has token %d, outside the vocabulary",
                           (unsigned long long)s->unit, tokens[t]);
    b->sample[b->n_samples++] = (struct learn_sample){
        .tokens = tokens,
        .logprobs = logprobs,
        .mask = mask,
        .n = n,
        .advantage = advantage,
        .unit = s->unit,
    };
    b->n_tokens += submission_sample_tokens(m);
    b->n_longest = n > b->n_longest ? n : b->n_longest;
    return OK;
}

static enum status add_unit(struct learn_batch *b, const struct msg_submit *s,
                            const struct learn_rules *r, double *reward_sum, struct err *e)
{
    float reward[MSG_MAX_SAMPLES], advantage[MSG_MAX_SAMPLES];
    struct learn_sample *grown;
    enum status st = OK;

    for (size_t i = 0; i < b->n_samples; i++)
        if (b->sample[i].unit == s->unit)
            return err_set(e, ERR_MALFORMED, "unit %llu comes twice in the batch",
                           (unsigned long long)s->unit);
    if (s->n_samples < 2)
        return err_set(e, ERR_MALFORMED, "unit %llu is a group of one, which has no advantage",
                       (unsigned long long)s->unit);
    for (uint32_t i = 0; i < s->n_samples; i++) {
        reward[i] = s->sample[i].reward;
        *reward_sum += (double)reward[i];
    }
    if (!loss_group_has_signal(reward, s->n_samples))
        return err_set(e, ERR_DENIED, "unit %llu has equal rewards and no place in a batch",
                       (unsigned long long)s->unit);
    loss_advantages(advantage, reward, s->n_samples);
    grown = realloc(b->sample, (b->n_samples + s->n_samples) * sizeof(*grown));
    if (!grown)
        return err_set(e, ERR_NO_MEMORY, "no memory for %zu samples",
                       b->n_samples + s->n_samples);
    b->sample = grown;
    for (uint32_t i = 0; !st && i < s->n_samples; i++)
        st = add_sample(b, s, i, advantage[i], r, e);
    b->n_units++;
    b->version_oldest = s->version < b->version_oldest ? s->version : b->version_oldest;
    return st;
}

enum status learn_batch_build(struct learn_batch *out, const struct msg_batch *m,
                              const struct learn_rules *rules, struct err *e)
{
    struct msg_submit *s = xcalloc(1, sizeof(*s));
    struct digest root;
    double reward_sum = 0.0;
    enum status st = OK;

    memset(out, 0, sizeof(*out));
    out->version_oldest = rules->head;
    learn_batch_root(&root, m);
    if (!digest_equal(&root, &m->root))
        st = err_set(e, ERR_DIGEST, "batch %llu does not match its root",
                     (unsigned long long)m->batch);
    for (uint32_t i = 0; !st && i < m->n; i++) {
        struct msg_envelope env;

        st = msg_envelope_decode(&env, m->envelope[i], e);
        if (!st && env.kind != MSG_SUBMIT)
            st = err_set(e, ERR_MALFORMED, "entry %u of batch %llu is no submission", i,
                         (unsigned long long)m->batch);
        if (!st)
            st = msg_submit_decode(s, env.body, e);
        if (!st)
            st = check_envelope(&env, s, rules, e);
        if (!st)
            st = add_unit(out, s, rules, &reward_sum, e);
    }
    free(s);
    if (st) {
        learn_batch_clear(out);
        return st;
    }
    out->root = root;
    out->reward_mean = out->n_samples ? (float)(reward_sum / (double)out->n_samples) : 0.0f;
    return OK;
}
