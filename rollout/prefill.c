#include "rollout/prefill.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/kv_cache.h"
#include "engine/ops.h"

#define PACK_ROWS    2048u /* of the samples of a pack, unless one alone has more */
#define PACK_SAMPLES 256u

/* Samples [first, first + n) and what they take. */
struct pack {
    size_t first, n;
    size_t n_prompts, rows, pages; /* rows without those of prompts */
};

struct prefill {
    struct model *model;
    const struct prefill_sample *samples;
    size_t n, dim;
    struct kv_cache *kv; /* owned: PACK_SAMPLES slots for prompts, then as many for samples */
    struct model_run *runs; /* owned, (PACK_SAMPLES) */
    size_t *prompt;         /* owned, (PACK_SAMPLES): which prompt of the pack a sample has */
    int32_t *tokens;        /* owned */
    float *first, *rest;    /* owned: states of the prompts' ends, of the samples' rows */
};

static size_t tokens_of(const struct prefill_sample *s)
{
    return s->tokens.len / sizeof(int32_t);
}

static bool shares_prompt(const struct prefill *p, size_t sample)
{
    return sample > 0 && p->samples[sample].prompt == p->samples[sample - 1].prompt;
}

/* The pack that begins with sample `first`. */
static struct pack plan_pack(const struct prefill *p, size_t first)
{
    struct pack k = {.first = first};

    for (size_t i = first; i < p->n && k.n < PACK_SAMPLES; i++) {
        const struct prefill_sample *s = &p->samples[i];
        size_t rows = tokens_of(s) - 1;

        if (k.n > 0 && k.rows + rows > PACK_ROWS)
            break;
        if (i == first || !shares_prompt(p, i)) {
            k.n_prompts++;
            k.pages += kv_cache_pages(s->n_prompt);
        }
        k.n++;
        k.rows += rows;
        k.pages += kv_cache_pages(s->n_prompt + rows) - s->n_prompt / ATTENTION_PAGE;
    }
    return k;
}

/* A pack's samples hold PACK_ROWS rows or are one; each may begin and end within a page. */
size_t prefill_pages_most(size_t max_len, size_t n, size_t *rows)
{
    *rows = max_len > PACK_ROWS ? max_len : PACK_ROWS;
    n = n < PACK_SAMPLES ? n : PACK_SAMPLES;
    if (*rows > n * max_len)
        *rows = n * max_len;
    return kv_cache_pages(max_len) + kv_cache_pages(*rows) + 2 * n;
}

static enum status prefill_new(struct prefill *p, size_t max_len, struct err *e)
{
    const struct model_config *c = model_config(p->model);
    size_t rows = 1, prompt_rows = 1, pages = 1;
    enum status st;

    p->dim = c->dim;
    for (size_t i = 0; i < p->n;) {
        struct pack k = plan_pack(p, i);
        size_t of_prompts = 0;

        for (size_t s = k.first; s < k.first + k.n; s++)
            of_prompts += s == k.first || !shares_prompt(p, s) ? p->samples[s].n_prompt : 0;
        rows = k.rows > rows ? k.rows : rows;
        prompt_rows = of_prompts > prompt_rows ? of_prompts : prompt_rows;
        pages = k.pages > pages ? k.pages : pages;
        i += k.n;
    }
    st = model_cache_new_pages(&p->kv, p->model, 2 * (size_t)PACK_SAMPLES, max_len, pages, e);
    if (!st)
        st = alloc_array(&p->runs, PACK_SAMPLES, sizeof(*p->runs), "runs", e);
    if (!st)
        st = alloc_array(&p->prompt, PACK_SAMPLES, sizeof(*p->prompt), "prompts", e);
    if (!st)
        st = alloc_array(&p->tokens, rows > prompt_rows ? rows : prompt_rows,
                         sizeof(*p->tokens), "tokens", e);
    if (!st)
        st = alloc_array(&p->first, PACK_SAMPLES * p->dim, sizeof(float), "hidden states", e);
    if (!st)
        st = alloc_array(&p->rest, rows * p->dim, sizeof(float), "hidden states", e);
    return st;
}

static void prefill_free(struct prefill *p)
{
    kv_cache_free(&p->kv);
    free(p->runs);
    free(p->prompt);
    free(p->tokens);
    free(p->first);
    free(p->rest);
}

/* Each prompt of the pack into its slot. */
static enum status run_prompts(struct prefill *p, const struct pack *k, struct err *e)
{
    size_t n = 0, at = 0;

    for (size_t slot = 0; slot < 2 * (size_t)PACK_SAMPLES; slot++)
        kv_cache_truncate(p->kv, slot, 0);
    for (size_t i = 0; i < k->n; i++) {
        const struct prefill_sample *s = &p->samples[k->first + i];

        if (i == 0 || !shares_prompt(p, k->first + i)) {
            memcpy(p->tokens + at, s->prompt, s->n_prompt * sizeof(*s->prompt));
            at += s->n_prompt;
            p->runs[n] = (struct model_run){.slot = n, .n = s->n_prompt, .n_out = 1};
            n++;
        }
        p->prompt[i] = n - 1;
    }
    return model_forward(p->model, p->kv, p->first, p->runs, n, p->tokens, e);
}

/* All but the last token of each sample, after its prompt. */
static enum status run_samples(struct prefill *p, const struct pack *k, struct err *e)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < k->n; i++) {
        const struct prefill_sample *s = &p->samples[k->first + i];
        size_t slot = PACK_SAMPLES + i, rows = tokens_of(s) - 1;

        if (rows == 0)
            continue;
        kv_cache_copy(p->kv, slot, p->prompt[i], s->n_prompt);
        memcpy(p->tokens + at, s->tokens.data, rows * sizeof(int32_t));
        at += rows;
        p->runs[n++] =
            (struct model_run){.slot = slot, .first = s->n_prompt, .n = rows, .n_out = rows};
    }
    return n ? model_forward(p->model, p->kv, p->rest, p->runs, n, p->tokens, e) : OK;
}

enum status prefill_run(struct model *m, size_t max_len, const struct prefill_sample *samples,
                        size_t n, prefill_fn *each, void *ctx, struct err *e)
{
    struct prefill p = {.model = m, .samples = samples, .n = n};
    enum status st = prefill_new(&p, max_len, e);
    struct pack k = {0};

    for (size_t i = 0; !st && i < n; i += k.n) {
        size_t at = 0;

        k = plan_pack(&p, i);
        st = run_prompts(&p, &k, e);
        if (!st)
            st = run_samples(&p, &k, e);
        for (size_t s = 0; !st && s < k.n; s++) {
            const struct prefill_rows rows = {
                .first = p.first + p.prompt[s] * p.dim,
                .rest = p.rest + at * p.dim,
                .n = tokens_of(&samples[i + s]),
                .dim = p.dim,
                .kv = p.kv,
                .slot = tokens_of(&samples[i + s]) > 1 ? PACK_SAMPLES + s : p.prompt[s]};
            at += rows.n - 1;
            st = each(ctx, i + s, &rows, e);
        }
    }
    prefill_free(&p);
    return st;
}
