#include "rollout/episode.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* More ids than any template takes before and around two messages of one letter. */
#define CHAT_HEAD_MAX 4096u

/* The prompt's ids, from the sequence's beginning to where the model's answer begins. */
static enum status encode_prompt(const struct rollout_world *w, struct bytes text, int32_t *ids,
                                 size_t cap, size_t *n, struct err *e)
{
    const struct chat_message m = {CHAT_USER, text};
    int32_t bos = tokenizer_bos(w->tokenizer);
    enum status st;

    if (w->chat)
        return chat_render(w->chat, &m, 1, true, ids, NULL, cap, n, e);
    if (bos >= 0)
        *ids = bos;
    st = tokenizer_encode(w->tokenizer, text, ids + (bos >= 0), cap - (bos >= 0), n, e);
    *n = st ? 0 : *n + (bos >= 0);
    return st;
}

enum status episode_prompt_make(struct episode_prompt *p, const struct rollout_world *w,
                                const struct env_problem *problem, struct err *e)
{
    size_t max_len = (size_t)w->task->model.max_len;
    enum status st;

    memset(p, 0, sizeof(*p));
    p->problem = *problem;
    buf_init(&p->text, ENV_TEXT_MAX_BYTES);
    st = alloc_array(&p->ids, max_len + 1, sizeof(*p->ids), "a prompt", e);
    if (st)
        goto out;
    st = env_prompt(w->env, problem, &p->text, e);
    if (st)
        goto out;
    st = encode_prompt(w, buf_bytes(&p->text), p->ids, max_len, &p->n, e);
    if (st) {
        st = err_prefix(e, st, "prompt of task %llu", (unsigned long long)problem->index);
        goto out;
    }
    if (p->n == 0 || p->n >= max_len)
        st = err_set(e, p->n ? ERR_LIMIT : ERR_INVALID,
                     "prompt of task %llu has %zu tokens, and model.max_len is %zu",
                     (unsigned long long)problem->index, p->n, max_len);
out:
    if (st)
        episode_prompt_clear(p);
    return st;
}

void episode_prompt_clear(struct episode_prompt *p)
{
    buf_clear(&p->text);
    free(p->ids);
    memset(p, 0, sizeof(*p));
}

enum status episode_init(struct episode *ep, const struct rollout_world *w,
                         const struct episode_prompt *p, struct err *e)
{
    size_t cap = (size_t)w->task->model.max_len - p->n;
    enum status st;

    memset(ep, 0, sizeof(*ep));
    for (size_t i = 0; i < ENV_MESSAGES_MAX; i++)
        buf_init(&ep->texts[i], ENV_TEXT_MAX_BYTES);
    ep->cap = cap;
    st = alloc_array(&ep->tokens, cap, sizeof(*ep->tokens), "a sample's tokens", e);
    if (!st)
        st = alloc_array(&ep->logprobs, cap, sizeof(*ep->logprobs), "log-probabilities", e);
    if (!st)
        st = alloc_array(&ep->mask, cap, sizeof(*ep->mask), "a sample's mask", e);
    if (st)
        episode_clear(ep);
    return st;
}

void episode_clear(struct episode *ep)
{
    free(ep->tokens);
    free(ep->logprobs);
    free(ep->mask);
    for (size_t i = 0; i < ENV_MESSAGES_MAX; i++)
        buf_clear(&ep->texts[i]);
    memset(ep, 0, sizeof(*ep));
}

bool episode_is_stop(const struct rollout_world *w, int32_t token)
{
    return token == tokenizer_eos(w->tokenizer);
}

size_t episode_room(const struct episode *ep, const struct rollout_world *w,
                    const struct episode_prompt *p)
{
    size_t of_turn = (size_t)w->task->sampling.max_new_tokens - (ep->n - ep->turn_start);
    size_t of_model = (size_t)w->task->model.max_len - p->n - ep->n;

    return of_turn < of_model ? of_turn : of_model;
}

bool episode_push(struct episode *ep, const struct rollout_world *w,
                  const struct episode_prompt *p, int32_t token, float logprob)
{
    CHECK(ep->n < ep->cap && !ep->is_over);
    ep->tokens[ep->n] = token;
    ep->logprobs[ep->n] = logprob;
    ep->mask[ep->n] = 1;
    ep->n++;
    ep->n_sampled++;
    return episode_is_stop(w, token) || episode_room(ep, w, p) == 0;
}

static void end_with(struct episode *ep, enum finish finish)
{
    ep->is_over = true;
    ep->finish = finish;
}

/* Files the tokens of the turn that just ended as a message of the model. */
static enum status add_answer(struct episode *ep, const struct rollout_world *w, bool *stopped,
                              struct err *e)
{
    size_t n = ep->n - ep->turn_start;
    struct buf *text = &ep->texts[ep->n_messages];
    enum status st;

    *stopped = n > 0 && episode_is_stop(w, ep->tokens[ep->n - 1]);
    st = tokenizer_decode(text, w->tokenizer, ep->tokens + ep->turn_start, n - *stopped, e);
    if (st)
        return st;
    ep->message[ep->n_messages].author = ENV_MODEL;
    ep->message[ep->n_messages].text = buf_bytes(text);
    ep->n_messages++;
    ep->n_turns++;
    return OK;
}

/* What stands between an answer, its stop token included, and the next: with a chat template the
 * text as a user's message, and what comes around it in a conversation. */
static enum status encode_reply(const struct rollout_world *w, struct bytes text, int32_t *ids,
                                size_t cap, size_t *n, struct err *e)
{
    const struct chat_message said[] = {
        {CHAT_USER, BYTES_LIT("x")}, {CHAT_ASSISTANT, BYTES_LIT("x")}, {CHAT_USER, text}};
    size_t all_cap = cap + CHAT_HEAD_MAX, n_all = 0, from = 0;
    int32_t *all = NULL;
    uint8_t *is_answer = NULL;
    enum status st;

    if (!w->chat)
        return tokenizer_encode(w->tokenizer, text, ids, cap, n, e);
    st = alloc_array(&all, all_cap, sizeof(*all), "a conversation", e);
    if (!st)
        st = alloc_array(&is_answer, all_cap, sizeof(*is_answer), "a conversation", e);
    if (!st)
        st = chat_render(w->chat, said, 3, true, all, is_answer, all_cap, &n_all, e);
    for (size_t i = 0; i < n_all && !st; i++)
        if (is_answer[i] && all[i] == chat_end(w->chat))
            from = i + 1;
    *n = n_all - from;
    if (!st && *n > cap)
        st = err_set(e, ERR_LIMIT, "a message has %zu tokens, and there is room for %zu", *n,
                     cap);
    if (!st)
        memcpy(ids, all + from, *n * sizeof(*ids));
    free(is_answer);
    free(all);
    return st;
}

/* Appends the environment's words as tokens of mask 0. What does not fit ends the episode. */
static enum status add_reply(struct episode *ep, const struct rollout_world *w,
                             const struct episode_prompt *p, struct err *e)
{
    struct buf *text = &ep->texts[ep->n_messages];
    size_t room = (size_t)w->task->model.max_len - p->n - ep->n;
    size_t n = 0;
    enum status st;

    ep->message[ep->n_messages].author = ENV_WORLD;
    ep->message[ep->n_messages].text = buf_bytes(text);
    ep->n_messages++;
    st = encode_reply(w, buf_bytes(text), ep->tokens + ep->n, room, &n, e);
    if (st == ERR_LIMIT || (!st && n >= room)) {
        end_with(ep, FINISH_LENGTH); /* no room for another answer */
        return OK;
    }
    if (st)
        return st;
    for (size_t i = 0; i < n; i++) {
        ep->logprobs[ep->n + i] = 0.0f;
        ep->mask[ep->n + i] = 0;
    }
    ep->n += n;
    ep->turn_start = ep->n;
    return OK;
}

enum status episode_turn_over(struct episode *ep, const struct rollout_world *w,
                              const struct episode_prompt *p, struct err *e)
{
    bool stopped, is_done = false;
    enum status st = add_answer(ep, w, &stopped, e);

    if (st)
        return st;
    if (!stopped) {
        end_with(ep, FINISH_LENGTH);
        return OK;
    }
    if (!env_has_step(w->env) || ep->n_turns >= (size_t)w->task->environment.turns ||
        ep->n_messages + 2 > ENV_MESSAGES_MAX) {
        end_with(ep, FINISH_END);
        return OK;
    }
    st = env_step(w->env, &p->problem, ep->message, ep->n_messages, &is_done,
                  &ep->texts[ep->n_messages], e);
    if (st)
        return st;
    if (is_done) {
        end_with(ep, FINISH_ENV);
        return OK;
    }
    return add_reply(ep, w, p, e);
}

enum status episode_score(const struct episode *ep, const struct rollout_world *w,
                          const struct episode_prompt *p, float *reward, struct err *e)
{
    struct env_score score;
    enum status st = env_score(w->env, &p->problem, ep->message, ep->n_messages, &score, e);

    *reward = st ? 0.0f : score.reward;
    return st;
}
