#include "rollout/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/check_inside.h"
#include "rollout/check_open.h"

bool check_refuse(struct check *c, enum reason code, size_t sample, size_t position,
                  uint64_t claimed, uint64_t found)
{
    struct rollout_finding *f = c->f;

    f->is_accepted = false;
    f->code = code;
    f->sample = (uint32_t)sample;
    f->position = (uint32_t)position;
    f->claimed = claimed;
    f->found = found;
    snprintf(f->text, sizeof(f->text), "%s: sample %zu, position %zu, claimed %llx, found %llx",
             reason_text(code), sample, position, (unsigned long long)claimed,
             (unsigned long long)found);
    return false;
}

/* What needs neither weights nor environment. */
static bool header_is_right(struct check *c)
{
    const struct msg_submit *s = c->s;
    enum reason why = REASON_BOUNDS;
    struct digest root;

    if (submission_check_bounds(s, &why, NULL))
        return check_refuse(c, why, 0, 0, 0, 0);
    if (s->n_samples != (uint64_t)c->w->task->sampling.group)
        return check_refuse(c, REASON_BOUNDS, 0, 0, s->n_samples,
                            (uint64_t)c->w->task->sampling.group);
    if (!digest_equal(&s->task, &c->w->task_id))
        return check_refuse(c, REASON_NO_TASK, 0, 0, 0, 0);
    if (strcmp(s->numerics, numerics_name(c->w->numerics)) != 0)
        return check_refuse(c, REASON_NUMERICS, 0, 0, 0, 0);
    if (s->version != c->w->version)
        return check_refuse(c, REASON_STALE, 0, 0, (uint64_t)s->version,
                            (uint64_t)c->w->version);
    if (!digest_equal(&s->weights, &c->w->weights))
        return check_refuse(c, REASON_WEIGHTS, 0, 0, 0, 0);
    submission_root(&root, s);
    if (!digest_equal(&root, &s->root))
        return check_refuse(c, REASON_ROOT, 0, 0, 0, 0);
    return true;
}

static bool prompt_is_right(struct check *c)
{
    const struct episode_prompt *p = &c->prompt;
    size_t n = c->s->prompt.len / sizeof(int32_t);

    if (n != p->n)
        return check_refuse(c, REASON_PROMPT, 0, 0, n, p->n);
    for (size_t i = 0; i < n; i++)
        if (check_token(c->s->prompt, i) != p->ids[i])
            return check_refuse(c, REASON_PROMPT, 0, i, (uint32_t)check_token(c->s->prompt, i),
                                (uint32_t)p->ids[i]);
    return true;
}

/* Plays the model's part of `ep` from the claimed tokens until its turn ends. */
static bool replay_turn(struct check *c, size_t i, struct episode *ep)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    uint32_t vocab = tokenizer_vocab(c->w->tokenizer);
    bool over = false;

    while (!over) {
        size_t at = ep->n;
        if (at >= n)
            return check_refuse(c, REASON_FINISH, i, at, n, at + 1);
        if (!submission_is_sampled(m, at))
            return check_refuse(c, REASON_FINISH, i, at, 0, 1);
        int32_t token = check_token(m->tokens, at);
        if (token < 0 || (uint32_t)token >= vocab)
            return check_refuse(c, REASON_BOUNDS, i, at, (uint32_t)token, vocab);
        over = episode_push(ep, c->w, &c->prompt, token, check_float(m->logprobs, at));
    }
    return true;
}

/* What the environment added from `from` on must be what the worker says it did. */
static bool reply_is_right(struct check *c, size_t i, const struct episode *ep, size_t from)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);

    for (size_t at = from; at < ep->n; at++) {
        if (at >= n || submission_is_sampled(m, at))
            return check_refuse(c, REASON_FINISH, i, at, n, ep->n);
        if (check_token(m->tokens, at) != ep->tokens[at])
            return check_refuse(c, REASON_TOKEN, i, at, (uint32_t)check_token(m->tokens, at),
                                (uint32_t)ep->tokens[at]);
    }
    return true;
}

/* The whole episode of sample i, and its reward. *good: nothing differs so far. */
static enum status check_episode(struct check *c, size_t i, bool *good)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    struct episode ep;
    float reward;
    enum status st = episode_init(&ep, c->w, &c->prompt, c->e);

    if (st)
        return st;
    *good = true;
    while (*good && !st && !ep.is_over) {
        *good = replay_turn(c, i, &ep);
        if (!*good)
            break;
        size_t from = ep.n;
        st = episode_turn_over(&ep, c->w, &c->prompt, c->e);
        if (!st)
            *good = reply_is_right(c, i, &ep, from);
    }
    if (!st && *good && n != ep.n)
        *good = check_refuse(c, REASON_FINISH, i, ep.n, n, ep.n);
    if (!st && *good && m->finish != (uint32_t)ep.finish)
        *good = check_refuse(c, REASON_FINISH, i, n, m->finish, (uint64_t)ep.finish);
    if (!st && *good) {
        st = episode_score(&ep, c->w, &c->prompt, &reward, c->e);
        if (!st && check_bits(reward) != check_bits(m->reward))
            *good =
                check_refuse(c, REASON_REWARD, i, 0, check_bits(m->reward), check_bits(reward));
    }
    episode_clear(&ep);
    return st;
}

static enum status check_light(struct check *c, bool *good)
{
    enum status st = OK;

    *good = prompt_is_right(c);
    for (size_t i = 0; *good && !st && i < c->s->n_samples; i++)
        st = check_episode(c, i, good);
    return st;
}

/* What does not need the weights. *good: nothing differs so far. */
static enum status check_first(struct check *c, bool *good)
{
    const struct env_problem problem = {
        .index = plan_task_index(&c->w->plan, c->s->unit),
        .seed = plan_env_seed(&c->w->plan, c->s->unit),
        .split = ENV_TRAIN,
    };
    enum status st;

    memset(c->f, 0, sizeof(*c->f));
    c->f->is_accepted = true;
    *good = header_is_right(c);
    if (!*good)
        return OK;
    st = episode_prompt_make(&c->prompt, c->w, &problem, c->e);
    return st ? st : check_light(c, good);
}

static void begin_tests(struct check *c)
{
    const struct rollout_heights *h = c->w->heights;

    c->margin = h ? h->margin : 0.0;
    c->logp = h ? h->logprob : 0.0;
}

/* Those that only a tolerance refuses are asked of the other kernels, whose word stands. */
static enum status check_twice(struct check *checks, size_t n, struct err *e)
{
    struct rollout_world w = *checks[0].w;
    size_t n_again = 0;

    for (size_t i = 0; i < n; i++) {
        if (checks[i].f->is_accepted || !reason_is_opinion(checks[i].f->code))
            continue;
        struct check c = checks[i];
        checks[i] = checks[n_again];
        begin_tests(&c);
        memset(c.f, 0, sizeof(*c.f));
        c.f->is_accepted = true;
        c.f->is_second = true;
        c.w = &w;
        checks[n_again++] = c;
    }
    w.model = w.second;
    return n_again ? check_full(checks, n_again, e) : OK;
}

/* In an open class and for a full check: is the worker's opening there, and the one committed to? */
static bool opening_is_right(struct check *c)
{
    enum reason why;

    if (!check_open_applies(c->w->numerics))
        return true;
    if (!c->opening)
        return check_refuse(c, REASON_UNOPENED, 0, 0, 0, opening_chunks(c->s));
    if (opening_check(c->opening, c->s, &why, NULL))
        return check_refuse(c, why, 0, 0, c->opening->proofs.len / TOPLOC_PROOF_BYTES,
                            opening_chunks(c->s));
    return true;
}

enum status rollout_check_all(const struct rollout_world *w, const struct msg_submit *const *s,
                              const struct msg_opening *const *opening, size_t n,
                              enum check_depth depth, struct rollout_probe *probe,
                              struct rollout_finding *f, struct err *e)
{
    struct check *checks = xcalloc(n, sizeof(*checks));
    size_t n_made = 0, n_good = 0;
    enum status st = OK;

    for (; !st && n_made < n; n_made++) {
        struct check *c = &checks[n_good];
        bool good;

        *c = (struct check){.w = w,
                            .s = s[n_made],
                            .opening = opening ? opening[n_made] : NULL,
                            .f = &f[n_made],
                            .probe = probe ? &probe[n_made] : NULL,
                            .e = e};
        begin_tests(c);
        if (c->probe)
            memset(c->probe->found, 0, sizeof(c->probe->found));
        st = check_first(c, &good);
        if (!st && good && depth == CHECK_FULL)
            good = opening_is_right(c);
        if (!st && good)
            n_good++; /* stays for the full check */
        else
            episode_prompt_clear(&c->prompt);
    }
    if (!st && depth == CHECK_FULL && n_good > 0) {
        CHECK(w->model);
        st = check_full(checks, n_good, e);
        if (!st && w->second)
            st = check_twice(checks, n_good, e);
    }
    if (!st && w->heights && depth == CHECK_FULL && n_good == 1)
        *w->heights = (struct rollout_heights){checks[0].margin, checks[0].logp};
    for (size_t i = 0; i < n_good; i++)
        episode_prompt_clear(&checks[i].prompt);
    free(checks);
    return st;
}

enum status rollout_check(const struct rollout_world *w, const struct msg_submit *s,
                          const struct msg_opening *opening, enum check_depth depth,
                          struct rollout_probe *probe, struct rollout_finding *f, struct err *e)
{
    return rollout_check_all(w, &s, &opening, 1, depth, probe, f, e);
}
