#include "engine/sampler.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"

#define SLOTS_MAX     65536u
#define CHUNK_DEFAULT 512u
#define CHUNK_LEAST   32u /* rows of prompts in a step, however many sequences decode */
#define NO_SLOT       SIZE_MAX

/* A request that waits, is being filled, or whose samples run. Freed with its last sample. */
struct request {
    struct request *next; /* of the queue, or of those being filled */
    uint64_t tag;
    int32_t *prompt; /* owned */
    size_t n_prompt;
    size_t n_filled; /* positions of the prompt that slot `head` holds */
    size_t head;     /* the slot of its first sample, which computes the prompt */
    uint64_t *seeds; /* owned */
    size_t n_samples;
    size_t n_left; /* samples not finished */
    float temperature;
    size_t max_new;
    int32_t stops[SAMPLER_STOPS_MAX];
    size_t n_stops;
    size_t pages_shared, pages_own; /* promised: to all samples together, and to each */
};

struct queue {
    struct request *first, **last; /* owned */
};

/* The sequence in one slot of the cache. */
struct sequence {
    struct request *request; /* NULL: the slot is free */
    size_t sample;
    size_t n_new; /* tokens sampled; the last of them is not yet in the cache */
};

/*
 * Slots of the cache: n_slots for sequences, then as many for sequences that are over. `tokens`
 * has what every slot's positions were computed from.
 */
struct sampler {
    struct model *model; /* borrowed */
    struct sampler_options opt;
    struct kv_cache *kv;        /* owned */
    struct sequence *sequences; /* owned, (n_slots) */
    int32_t *tokens;            /* owned, (2 * n_slots, max_len) */
    uint64_t *kept_at; /* owned, (n_slots): when a sequence that is over was last of use */
    uint64_t now;      /* counts what happens to them */
    struct queue waiting, filling;
    size_t n_running, n_waiting; /* samples */
    size_t promised;             /* pages */
    struct sampler_stats stats;
    bool ends_here; /* on_token said so */

    /* Of the step at hand, owned; capacities n_slots but for step_tokens: n_slots + chunk. */
    struct model_run *runs;
    size_t *heads; /* the slot that a run computes */
    int32_t *step_tokens;
    struct model_draw *draws;
    size_t *draw_slots; /* for which slot a token is drawn */
    float *hidden;      /* NULL: nobody wants to see it */
    /* Draws of the last step whose largest states on_top was not given, but for those of NO_SLOT. */
    size_t n_tops;
};

/* ---- making ---------------------------------------------------------------------------------- */

static void request_free(struct request *r)
{
    free(r->prompt);
    free(r->seeds);
    free(r);
}

static void queue_put(struct queue *q, struct request *r)
{
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}

static struct request *queue_take(struct queue *q)
{
    struct request *r = q->first;

    q->first = r->next;
    if (!q->first)
        q->last = &q->first;
    r->next = NULL;
    return r;
}

/* Pages for all slots at full length, or what max_bytes allows. */
static enum status init_cache(struct sampler *s, struct err *e)
{
    const struct model_config *c = model_config(s->model);
    const struct sampler_options *o = &s->opt;
    size_t one = kv_cache_pages(o->max_len);
    const uint64_t page = model_cache_page_bytes(s->model);
    uint64_t most;

    if (o->n_slots > SLOTS_MAX || o->max_len > c->max_len)
        return err_set(e, ERR_INVALID, "%zu slots of %zu positions, wants 1..%u and 1..%u",
                       o->n_slots, o->max_len, SLOTS_MAX, c->max_len);
    most = o->n_slots * one;
    if (o->max_bytes > 0 && most > o->max_bytes / page)
        most = o->max_bytes / page;
    if (most < one)
        return err_set(e, ERR_LIMIT,
                       "a sequence of %zu positions takes %" PRIu64
                       " bytes of cache, more than the %" PRIu64 " allowed",
                       o->max_len, one * page, o->max_bytes);
    return model_cache_new_pages(&s->kv, s->model, 2 * o->n_slots, o->max_len, (size_t)most, e);
}

enum status sampler_new(struct sampler **out, struct model *m,
                        const struct sampler_options *opt, struct err *e)
{
    const struct model_config *c = model_config(m);
    struct sampler *s = xcalloc(1, sizeof(*s));
    const size_t n = opt->n_slots;
    enum status st;

    *out = NULL;
    s->model = m;
    s->opt = *opt;
    if (s->opt.chunk == 0)
        s->opt.chunk = CHUNK_DEFAULT;
    s->waiting.last = &s->waiting.first;
    s->filling.last = &s->filling.first;
    st = init_cache(s, e);
    if (!st)
        st = alloc_array(&s->sequences, n, sizeof(s->sequences[0]), "sequences", e);
    if (!st)
        st = alloc_array(&s->tokens, 2 * n, opt->max_len * sizeof(s->tokens[0]), "tokens", e);
    if (!st)
        st = alloc_array(&s->kept_at, n, sizeof(s->kept_at[0]), "sequences", e);
    if (!st)
        st = alloc_array(&s->step_tokens, n + s->opt.chunk, sizeof(s->tokens[0]), "tokens", e);
    if (!st)
        st = alloc_array(&s->runs, n, sizeof(s->runs[0]), "runs", e);
    if (!st)
        st = alloc_array(&s->heads, n, sizeof(s->heads[0]), "runs", e);
    if (!st)
        st = alloc_array(&s->draws, n, sizeof(s->draws[0]), "draws", e);
    if (!st)
        st = alloc_array(&s->draw_slots, n, sizeof(s->draw_slots[0]), "draws", e);
    if (!st && opt->wants_hidden)
        st = alloc_array(&s->hidden, n, c->dim * sizeof(float), "hidden states", e);
    if (!st)
        st = model_draw_room(m, n, e);
    if (!st) {
        *out = s;
        s = NULL; /* it is the caller's now */
    }
    sampler_free(&s);
    return st;
}

void sampler_reset(struct sampler *s)
{
    for (size_t i = 0; s->sequences && i < s->opt.n_slots; i++) {
        struct request *r = s->sequences[i].request;

        s->sequences[i].request = NULL;
        if (r && --r->n_left == 0)
            request_free(r);
    }
    for (size_t i = 0; s->kv && i < 2 * s->opt.n_slots; i++)
        kv_cache_truncate(s->kv, i, 0);
    while (s->waiting.first)
        request_free(queue_take(&s->waiting));
    s->filling.first = NULL; /* they went with their sequences */
    s->filling.last = &s->filling.first;
    s->n_running = s->n_waiting = s->promised = s->n_tops = 0;
}

void sampler_free(struct sampler **p)
{
    struct sampler *s = *p;

    if (!s)
        return;
    sampler_reset(s);
    kv_cache_free(&s->kv);
    free(s->sequences);
    free(s->tokens);
    free(s->kept_at);
    free(s->step_tokens);
    free(s->runs);
    free(s->heads);
    free(s->draws);
    free(s->hidden);
    free(s->draw_slots);
    free(s);
    *p = NULL;
}

struct sampler_stats sampler_stats(const struct sampler *s)
{
    return s->stats;
}

/* ---- queue ----------------------------------------------------------------------------------- */

static enum status check_request(const struct sampler *s, const struct sampler_request *r,
                                 struct err *e)
{
    const struct model_config *c = model_config(s->model);

    if (r->n_prompt == 0 || r->n_prompt >= s->opt.max_len)
        return err_set(e, ERR_INVALID, "a prompt of %zu tokens, wants 1..%zu", r->n_prompt,
                       s->opt.max_len - 1);
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= c->vocab)
            return err_set(e, ERR_INVALID,
                           "token %d of the prompt is outside the vocabulary of %u",
                           r->prompt[i], c->vocab);
    if (r->n_samples == 0 || r->n_samples > s->opt.n_slots)
        return err_set(e, ERR_INVALID, "%zu samples of a prompt, wants 1..%zu", r->n_samples,
                       s->opt.n_slots);
    if (r->temperature != 0.0f &&
        (!(r->temperature >= SAMPLER_TEMPERATURE_MIN) || !isfinite(r->temperature)))
        return err_set(e, ERR_INVALID, "temperature is %g, wants 0, or %g or more",
                       (double)r->temperature, (double)SAMPLER_TEMPERATURE_MIN);
    if (r->max_new == 0 || r->n_stops > SAMPLER_STOPS_MAX)
        return err_set(e, ERR_INVALID, "%zu new tokens and %zu stop ids, wants 1.. and 0..%u",
                       r->max_new, r->n_stops, SAMPLER_STOPS_MAX);
    return OK;
}

/* What the samples of a request can come to need: whole pages of the prompt once, and the rest of
 * its longest sequence for each. */
static void promise(const struct sampler *s, struct request *r)
{
    size_t len = s->opt.max_len;

    if (r->max_new < len - r->n_prompt)
        len = r->n_prompt + r->max_new;
    r->pages_shared = r->n_prompt / ATTENTION_PAGE;
    r->pages_own = kv_cache_pages(len) - r->pages_shared;
}

static size_t promised_to(const struct request *r)
{
    return r->pages_shared + r->n_samples * r->pages_own;
}

enum status sampler_add(struct sampler *s, const struct sampler_request *in, struct err *e)
{
    struct request *r;
    enum status st = check_request(s, in, e);

    if (st)
        return st;
    r = xcalloc(1, sizeof(*r));
    r->tag = in->tag;
    r->n_prompt = in->n_prompt;
    r->prompt = xmalloc(in->n_prompt * sizeof(r->prompt[0]));
    memcpy(r->prompt, in->prompt, in->n_prompt * sizeof(r->prompt[0]));
    r->n_samples = r->n_left = in->n_samples;
    r->seeds = xmalloc(in->n_samples * sizeof(r->seeds[0]));
    memcpy(r->seeds, in->seeds, in->n_samples * sizeof(r->seeds[0]));
    r->temperature = in->temperature;
    r->max_new = in->max_new;
    r->n_stops = in->n_stops;
    if (in->n_stops > 0)
        memcpy(r->stops, in->stops, in->n_stops * sizeof(r->stops[0]));
    promise(s, r);
    if (promised_to(r) > s->kv->n_pages) {
        st = err_set(e, ERR_LIMIT, "a request can need %zu pages of cache, there are %zu",
                     promised_to(r), s->kv->n_pages);
        request_free(r);
        return st;
    }
    queue_put(&s->waiting, r);
    s->n_waiting += r->n_samples;
    return OK;
}

size_t sampler_active(const struct sampler *s)
{
    return s->n_running + s->n_waiting;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static int32_t *tokens_of(const struct sampler *s, size_t slot)
{
    return s->tokens + slot * s->opt.max_len;
}

/* Goes on from the slot that holds most of the beginning of r's prompt; of the last position the
 * hidden state is wanted, so it is computed in any case. Less than a page is not worth its copy. */
static void reuse(struct sampler *s, struct request *r)
{
    size_t best = 0, from = 0;

    for (size_t slot = 0; slot < 2 * s->opt.n_slots; slot++) {
        const int32_t *have = tokens_of(s, slot);
        size_t n = s->kv->len[slot], same = 0;

        if (n > r->n_prompt - 1)
            n = r->n_prompt - 1;
        while (same < n && have[same] == r->prompt[same])
            same++;
        if (same > best) {
            best = same;
            from = slot;
        }
    }
    s->stats.computed += r->n_prompt;
    if (best < ATTENTION_PAGE)
        return;
    kv_cache_copy(s->kv, r->head, from, best);
    r->n_filled = best;
    s->stats.computed -= best;
    s->stats.reused += best;
    if (from >= s->opt.n_slots)
        s->kept_at[from - s->opt.n_slots] = ++s->now;
}

/* Gives the samples of r the lowest free slots, the first of which computes the prompt. */
static void seat(struct sampler *s, struct request *r)
{
    size_t sample = 0;

    for (size_t slot = 0; sample < r->n_samples; slot++) {
        CHECK(slot < s->opt.n_slots);
        if (s->sequences[slot].request)
            continue;
        if (sample == 0)
            r->head = slot;
        s->sequences[slot] = (struct sequence){.request = r, .sample = sample++};
    }
    s->n_running += r->n_samples;
    s->n_waiting -= r->n_samples;
    s->promised += promised_to(r);
    reuse(s, r);
    memcpy(tokens_of(s, r->head), r->prompt, r->n_prompt * sizeof(r->prompt[0]));
    queue_put(&s->filling, r);
}

static void add_run(struct sampler *s, size_t *n, size_t *rows, const struct model_run *run)
{
    memcpy(s->step_tokens + *rows, tokens_of(s, run->slot) + run->first,
           run->n * sizeof(s->tokens[0]));
    s->heads[*n] = run->slot;
    s->runs[(*n)++] = *run;
    *rows += run->n;
}

/* One run of one token for every sequence that decodes, then rows of prompts, in the order in which
 * they were seated. Returns the number of runs. */
static size_t plan_runs(struct sampler *s)
{
    size_t n = 0, rows = 0, room;

    while (s->waiting.first && s->waiting.first->n_samples <= s->opt.n_slots - s->n_running &&
           promised_to(s->waiting.first) <= s->kv->n_pages - s->promised)
        seat(s, queue_take(&s->waiting));
    for (size_t slot = 0; slot < s->opt.n_slots; slot++) {
        const struct sequence *q = &s->sequences[slot];

        if (q->request && q->n_new > 0)
            add_run(s, &n, &rows,
                    &(struct model_run){.slot = slot,
                                        .first = q->request->n_prompt + q->n_new - 1,
                                        .n = 1,
                                        .n_out = 1});
    }
    room = s->opt.chunk > rows + CHUNK_LEAST ? s->opt.chunk - rows : CHUNK_LEAST;
    if (room > s->opt.chunk)
        room = s->opt.chunk;
    for (struct request *r = s->filling.first; r && room > 0; r = r->next) {
        size_t left = r->n_prompt - r->n_filled, some = left < room ? left : room;

        add_run(s, &n, &rows,
                &(struct model_run){
                    .slot = r->head, .first = r->n_filled, .n = some, .n_out = some == left});
        r->n_filled += some;
        room -= some;
    }
    return n;
}

/* Gives up sequences that are over, the oldest first, until the runs find the pages they write. */
static void make_room(struct sampler *s, size_t n_runs)
{
    const size_t n_slots = s->opt.n_slots;

    for (;;) {
        size_t need = 0, oldest = n_slots;

        kv_cache_claims_reset(s->kv);
        for (size_t i = 0; i < n_runs; i++)
            need += kv_cache_claim(s->kv, s->runs[i].slot, s->runs[i].first, s->runs[i].n);
        if (need <= s->kv->n_free)
            return;
        for (size_t i = 0; i < n_slots; i++)
            if (s->kv->len[n_slots + i] > 0 &&
                (oldest == n_slots || s->kept_at[i] < s->kept_at[oldest]))
                oldest = i;
        CHECK(oldest < n_slots); /* what was promised is there once nothing is kept */
        kv_cache_truncate(s->kv, n_slots + oldest, 0);
    }
}

static bool is_stop(const struct request *r, int32_t token)
{
    for (size_t i = 0; i < r->n_stops; i++)
        if (r->stops[i] == token)
            return true;
    return false;
}

/* Keeps what the slot holds in the place of the oldest that is kept, and frees the slot. */
static void keep(struct sampler *s, size_t slot)
{
    const size_t n_slots = s->opt.n_slots, n = s->kv->len[slot];
    size_t to = 0;

    for (size_t i = 1; i < n_slots; i++)
        if (s->kept_at[i] < s->kept_at[to])
            to = i;
    if (n >= ATTENTION_PAGE) {
        kv_cache_copy(s->kv, n_slots + to, slot, n);
        memcpy(tokens_of(s, n_slots + to), tokens_of(s, slot), n * sizeof(s->tokens[0]));
        s->kept_at[to] = ++s->now;
    }
    kv_cache_truncate(s->kv, slot, 0);
}

static void finish(struct sampler *s, size_t slot, enum sampler_finish why)
{
    struct sequence *q = &s->sequences[slot];
    struct request *r = q->request;

    q->request = NULL;
    s->n_running--;
    s->promised -= r->pages_own;
    keep(s, slot);
    if (--r->n_left == 0)
        s->promised -= r->pages_shared;
    if (s->opt.on_done)
        s->opt.on_done(s->opt.ctx, r->tag, q->sample, q->n_new, why);
    if (r->n_left == 0)
        request_free(r);
}

static size_t position_of(const struct sequence *q)
{
    return q->request->n_prompt + q->n_new;
}

static void add_draw(struct sampler *s, size_t *n, size_t slot, size_t row)
{
    const struct sequence *q = &s->sequences[slot];

    s->draw_slots[*n] = slot;
    s->draws[(*n)++] = (struct model_draw){.row = row,
                                           .temperature = q->request->temperature,
                                           .seed = q->request->seeds[q->sample],
                                           .position = (uint32_t)position_of(q)};
}

/* Lists the sequences that get a token: one a decode run, all samples of a prompt that is filled. */
static size_t plan_draws(struct sampler *s, size_t n_runs)
{
    size_t n = 0, row = 0;

    for (size_t i = 0; i < n_runs; i++) {
        size_t head = s->heads[i];
        const struct request *r = s->sequences[head].request;

        if (s->runs[i].n_out == 0)
            continue;
        add_draw(s, &n, head, row);
        /* The other samples of a prompt start from what the first computed. */
        for (size_t slot = head + 1; r == s->filling.first && slot < s->opt.n_slots; slot++) {
            if (s->sequences[slot].request != r)
                continue;
            kv_cache_copy(s->kv, slot, head, r->n_prompt);
            memcpy(tokens_of(s, slot), r->prompt, r->n_prompt * sizeof(r->prompt[0]));
            add_draw(s, &n, slot, row);
        }
        if (r == s->filling.first)
            (void)queue_take(&s->filling); /* filled in order: no other ends before the first */
        row++;
    }
    return n;
}

/* To on_top, where draw i's was not given yet. */
static enum status give_top(struct sampler *s, size_t i, struct err *e)
{
    const size_t at = s->draws[i].row * MODEL_TOP;
    const struct sequence *q;
    const uint32_t *index;
    const uint16_t *value;
    enum status st;

    if (i >= s->n_tops || s->draw_slots[i] == NO_SLOT)
        return OK;
    st = model_top_end(s->model, &index, &value, e);
    if (st)
        return st;
    q = &s->sequences[s->draw_slots[i]];
    s->draw_slots[i] = NO_SLOT;
    s->opt.on_top(s->opt.ctx, &(struct sampler_top){.tag = q->request->tag,
                                                    .sample = q->sample,
                                                    .index = index + at,
                                                    .value = value + at});
    return OK;
}

static enum status give_tops(struct sampler *s, struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; !st && i < s->n_tops; i++)
        st = give_top(s, i, e);
    s->n_tops = 0;
    return st;
}

/* The token of draw i. */
static enum status take(struct sampler *s, size_t i, struct err *e)
{
    const struct model_draw *d = &s->draws[i];
    const size_t slot = s->draw_slots[i];
    struct sequence *q = &s->sequences[slot];
    const struct request *r = q->request;
    enum sampler_finish why;
    enum status st;
    struct sampler_token t = {
        .tag = r->tag,
        .sample = q->sample,
        .index = q->n_new,
        .token = d->token,
        .logp = d->logp,
        .hidden = s->hidden ? s->hidden + d->row * model_config(s->model)->dim : NULL,
    };

    if (position_of(q) < s->opt.max_len)
        tokens_of(s, slot)[position_of(q)] = d->token;
    q->n_new++;
    s->ends_here = false;
    if (s->opt.on_token)
        s->opt.on_token(s->opt.ctx, &t);
    if (s->ends_here || is_stop(r, d->token))
        why = SAMPLER_STOP;
    else if (q->n_new == r->max_new)
        why = SAMPLER_MAX_NEW;
    else if (position_of(q) == s->opt.max_len)
        why = SAMPLER_MAX_LEN;
    else
        return OK;
    st = give_top(s, i, e);
    if (!st)
        finish(s, slot, why);
    return st;
}

enum status sampler_step(struct sampler *s, struct err *e)
{
    size_t n = plan_runs(s), n_draws;
    enum status st;

    if (n == 0)
        return OK;
    make_room(s, n);
    st = model_forward(s->model, s->kv, s->hidden, s->runs, n, s->step_tokens, e);
    if (!st)
        st = give_tops(s, e); /* of the step before, while a device computes this one */
    if (st)
        return st;
    n_draws = plan_draws(s, n);
    if (s->opt.on_top)
        st = model_top_begin(s->model, e);
    if (!st)
        st = model_draw(s->model, s->draws, n_draws, s->opt.choose, s->opt.choose_ctx, e);
    if (st)
        return st;
    for (size_t i = 0; i < n_draws; i++)
        if (!s->draws[i].is_finite)
            return err_set(e, ERR_NUMERIC, "the model's logits are not finite");
    s->n_tops = s->opt.on_top ? n_draws : 0;
    for (size_t i = 0; !st && i < n_draws; i++)
        st = take(s, i, e);
    return st;
}

void sampler_end_sample(struct sampler *s)
{
    s->ends_here = true;
}

enum status sampler_run(struct sampler *s, struct err *e)
{
    enum status st = OK;

    while (!st && sampler_active(s) > 0)
        st = sampler_step(s, e);
    return st;
}
