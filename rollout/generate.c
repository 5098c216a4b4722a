#include "rollout/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/sampler.h"

#define SLOTS_MAX 256u /* sequences decoded together */
#define TAG_GROUP 255u /* low byte of a tag: the group's first turn, sampled together */

struct generation {
    const struct rollout_world *w;
    struct group *groups;
    size_t n_groups;
    struct sampler *sampler;
    float temperature;
    rollout_progress *progress;
    void *progress_arg;
    enum status st; /* the first failure inside a callback */
    struct err *e;
};

enum status group_init(struct group *g, const struct rollout_world *w, uint64_t unit,
                       const struct env_problem *problem, const uint64_t *seed,
                       size_t n_samples, struct err *e)
{
    enum status st;

    CHECK(n_samples >= 1 && n_samples <= MSG_MAX_SAMPLES);
    memset(g, 0, sizeof(*g));
    g->unit = unit;
    memcpy(g->seed, seed, n_samples * sizeof(*seed));
    st = episode_prompt_make(&g->prompt, w, problem, e);
    if (st)
        return st;
    g->episode = xcalloc(n_samples, sizeof(*g->episode));
    g->reward = xcalloc(n_samples, sizeof(*g->reward));
    for (; !st && g->n_samples < n_samples; g->n_samples++)
        st = episode_init(&g->episode[g->n_samples], w, &g->prompt, e);
    if (st)
        group_clear(g);
    return st;
}

void group_clear(struct group *g)
{
    for (size_t i = 0; i < g->n_samples; i++) {
        episode_clear(&g->episode[i]);
        if (g->prover)
            prover_clear(&g->prover[i]);
    }
    free(g->episode);
    free(g->prover);
    free(g->reward);
    episode_prompt_clear(&g->prompt);
    memset(g, 0, sizeof(*g));
}

static struct episode *episode_of(struct generation *gen, uint64_t tag, size_t sample,
                                  struct group **g, struct prover **p)
{
    size_t i = (size_t)(tag >> 8);
    size_t s = (tag & 255u) == TAG_GROUP ? sample : (size_t)(tag & 255u);

    CHECK(i < gen->n_groups && s < gen->groups[i].n_samples);
    *g = &gen->groups[i];
    *p = gen->groups[i].prover ? &gen->groups[i].prover[s] : NULL;
    return &gen->groups[i].episode[s];
}

static void on_token(void *ctx, const struct sampler_token *t)
{
    struct generation *gen = ctx;
    struct group *g;
    struct prover *p;
    struct episode *ep = episode_of(gen, t->tag, t->sample, &g, &p);

    if (gen->st)
        return;
    (void)episode_push(ep, gen->w, &g->prompt, t->token, t->logp);
    g->tokens++;
    if (p && t->hidden)
        gen->st = prover_add(p, model_kernels(gen->w->model), t->hidden, gen->e);
}

static void on_top(void *ctx, const struct sampler_top *t)
{
    struct generation *gen = ctx;
    struct group *g;
    struct prover *p;

    (void)episode_of(gen, t->tag, t->sample, &g, &p);
    if (!gen->st)
        gen->st = prover_add_top(p, t->index, t->value, gen->e);
}

/* The next turn of one episode: all that was said so far is its prompt. */
static enum status ask_again(struct generation *gen, const struct group *g, struct episode *ep,
                             uint64_t tag, uint64_t seed)
{
    size_t n = g->prompt.n + ep->n;
    int32_t stop = tokenizer_eos(gen->w->tokenizer);
    int32_t *ids;
    enum status st = alloc_array(&ids, n, sizeof(*ids), "an episode", gen->e);

    if (st)
        return st;
    memcpy(ids, g->prompt.ids, g->prompt.n * sizeof(*ids));
    memcpy(ids + g->prompt.n, ep->tokens, ep->n * sizeof(*ids));
    struct sampler_request r = {
        .tag = tag,
        .prompt = ids,
        .n_prompt = n,
        .seeds = &seed,
        .n_samples = 1,
        .temperature = gen->temperature,
        .max_new = episode_room(ep, gen->w, &g->prompt),
        .stops = &stop,
        .n_stops = 1,
    };
    st = sampler_add(gen->sampler, &r, gen->e);
    free(ids);
    return st;
}

static void on_done(void *ctx, uint64_t tag, size_t sample, size_t n, enum sampler_finish why)
{
    struct generation *gen = ctx;
    struct group *g;
    struct prover *p;
    struct episode *ep = episode_of(gen, tag, sample, &g, &p);
    size_t s = (size_t)(ep - g->episode);

    (void)n;
    (void)why; /* episode_push came to the same conclusion */
    if (gen->st)
        return;
    if (gen->progress)
        gen->progress(gen->progress_arg, g->unit, g->tokens);
    gen->st = episode_turn_over(ep, gen->w, &g->prompt, gen->e);
    if (gen->st)
        return;
    if (!ep->is_over) {
        gen->st = ask_again(gen, g, ep, (tag & ~(uint64_t)255) | s, g->seed[s]);
        return;
    }
    if (p)
        gen->st = prover_close(p, gen->e);
}

static enum status provers_new(struct group *g, size_t dim, struct prover_crew *crew,
                               bool takes_top, struct err *e)
{
    enum status st = OK;

    g->prover = xcalloc(g->n_samples, sizeof(*g->prover));
    for (size_t s = 0; !st && s < g->n_samples; s++)
        st = prover_init(&g->prover[s], dim, takes_top, e);
    for (size_t s = 0; !st && s < g->n_samples; s++)
        g->prover[s].crew = crew;
    return st;
}

/* All proofs are made, or, where something has failed, none is being made. */
static enum status provers_end(struct group *groups, size_t n, enum status st, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; groups[i].prover && s < groups[i].n_samples; s++) {
            if (!st)
                st = prover_end(&groups[i].prover[s], e);
            prover_leave(&groups[i].prover[s]);
        }
    return st;
}

static enum status ask_first(struct generation *gen)
{
    int32_t stop = tokenizer_eos(gen->w->tokenizer);

    for (size_t i = 0; i < gen->n_groups; i++) {
        struct group *g = &gen->groups[i];
        struct sampler_request r = {
            .tag = (uint64_t)i << 8 | TAG_GROUP,
            .prompt = g->prompt.ids,
            .n_prompt = g->prompt.n,
            .seeds = g->seed,
            .n_samples = g->n_samples,
            .temperature = gen->temperature,
            .max_new = episode_room(&g->episode[0], gen->w, &g->prompt),
            .stops = &stop,
            .n_stops = 1,
        };
        enum status st = sampler_add(gen->sampler, &r, gen->e);
        if (st)
            return st;
    }
    return OK;
}

static size_t slots_of(size_t total, size_t largest)
{
    total = total < SLOTS_MAX ? total : SLOTS_MAX;
    return total > largest ? total : largest;
}

size_t groups_slots(size_t n, size_t n_samples)
{
    return slots_of(n * n_samples, n_samples);
}

static size_t slots_for(const struct group *groups, size_t n)
{
    size_t total = 0, largest = 1;

    for (size_t i = 0; i < n; i++) {
        total += groups[i].n_samples;
        largest = groups[i].n_samples > largest ? groups[i].n_samples : largest;
    }
    return slots_of(total, largest);
}

static enum status score_all(const struct rollout_world *w, struct group *groups, size_t n,
                             struct err *e)
{
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < groups[i].n_samples; s++) {
            enum status st = episode_score(&groups[i].episode[s], w, &groups[i].prompt,
                                           &groups[i].reward[s], e);
            if (st)
                return st;
        }
    return OK;
}

enum status groups_generate(const struct rollout_world *w, struct group *groups, size_t n,
                            float temperature, bool with_provers, rollout_progress *progress,
                            void *progress_arg, struct err *e)
{
    struct generation gen = {
        .w = w,
        .groups = groups,
        .n_groups = n,
        .temperature = temperature,
        .progress = progress,
        .progress_arg = progress_arg,
        .e = e,
    };
    const size_t dim = model_config(w->model)->dim;
    const bool takes_top = with_provers && prover_takes_top(w->numerics, dim);
    struct sampler_options opt = {
        .n_slots = slots_for(groups, n),
        .max_len = (size_t)w->task->model.max_len,
        .on_token = on_token,
        .on_top = takes_top ? on_top : NULL,
        .wants_hidden = with_provers && !takes_top,
        .on_done = on_done,
        .choose = w->choose,
        .choose_ctx = w->choose_ctx,
        .ctx = &gen,
    };
    struct prover_crew *crew = NULL;
    enum status st = sampler_new(&gen.sampler, w->model, &opt, e);

    if (takes_top)
        prover_crew_new(&crew);
    for (size_t i = 0; !st && with_provers && i < n; i++)
        st = provers_new(&groups[i], dim, crew, takes_top, e);
    if (!st)
        st = ask_first(&gen);
    while (!st && sampler_active(gen.sampler)) {
        st = sampler_step(gen.sampler, e);
        if (!st)
            st = gen.st;
    }
    st = provers_end(groups, n, st, e);
    prover_crew_free(&crew);
    if (!st)
        st = score_all(w, groups, n, e);
    sampler_free(&gen.sampler);
    return st;
}
