#include "rollout/setup.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/device.h"
#include "rollout/check_open.h"
#include "rollout/episode.h"

#define BUNDLE_CEILING BUNDLE_MAX_BYTES

static enum status make_tokenizer(struct tokenizer **out, const struct task *t,
                                  const struct bundle *b, struct err *e)
{
    if (b->file[BUNDLE_TOKENIZER].data)
        return tokenizer_parse(out, b->file[BUNDLE_TOKENIZER], e);
    if (!strcmp(t->model.tokenizer, "byte"))
        return tokenizer_new(out, TOKENIZER_BYTE, (struct bytes){NULL, 0}, e);
    return tokenizer_new(out, TOKENIZER_CHAR, bytes_str(t->model.alphabet), e);
}

/* The shape that the keys model.* describe: Llama's. */
static void config_of_task(struct model_config *c, const struct task *t,
                           const struct tokenizer *tok)
{
    memset(c, 0, sizeof(*c));
    c->arch = MODEL_ARCH_LLAMA;
    c->vocab = tokenizer_vocab(tok);
    c->dim = (uint32_t)t->model.dim;
    c->layers = (uint32_t)t->model.layers;
    c->heads = (uint32_t)t->model.heads;
    c->kv_heads = (uint32_t)t->model.kv_heads;
    c->head_dim = (uint32_t)t->model.head_dim;
    c->ffn = (uint32_t)t->model.ffn;
    c->max_len = (uint32_t)t->model.max_len;
    c->norm_eps = (float)t->model.norm_eps;
    c->rope_theta = t->model.rope_theta;
    c->tie = t->model.tie;
    c->dtype = DTYPE_F32;
    c->bos = tokenizer_bos(tok);
    c->pad = tokenizer_pad(tok);
    c->stops[0] = tokenizer_eos(tok);
    c->n_stops = 1;
}

enum status setup_model_config(struct model_config *out, struct tokenizer **tokenizer,
                               const struct task *t, const struct bundle *b, struct err *e)
{
    enum status st = make_tokenizer(tokenizer, t, b, e);

    if (st)
        return st;
    if (b->file[BUNDLE_CONFIG].data) {
        st = model_config_decode(out, b->file[BUNDLE_CONFIG], e);
    } else {
        config_of_task(out, t, *tokenizer);
        st = model_config_check(out, e);
    }
    if (!st && tokenizer_eos(*tokenizer) < 0) {
        if (out->n_stops > 0 && out->stops[0] >= 0)
            tokenizer_set_eos(*tokenizer, out->stops[0]);
        else if (!t->model.template[0]) /* that says it */
            st = err_set(e, ERR_INVALID,
                         "neither tokenizer.json nor config.json says what ends a text: give "
                         "config.json its eos_token_id");
    }
    if (!st && out->vocab != tokenizer_vocab(*tokenizer))
        st = err_set(e, ERR_INVALID, "the tokenizer has %u ids and the model's vocabulary %u",
                     tokenizer_vocab(*tokenizer), out->vocab);
    if (!st && out->max_len < (uint64_t)t->model.max_len)
        st = err_set(e, ERR_INVALID, "model.max_len is %lld and the model has %u positions",
                     (long long)t->model.max_len, out->max_len);
    if (st)
        tokenizer_free(tokenizer);
    return st;
}

/* Whether the class that the task pays for computes its model. */
static enum status check_class(const struct setup *s, struct err *e)
{
    enum numerics n;
    enum status st = numerics_parse(&n, task_numerics(&s->task), e);
    const char *why = st ? NULL : model_config_refuses(&s->config, n);

    return why ? err_set(e, ERR_UNSUPPORTED,
                         "the task is paid in a class that does not compute its model: %s", why)
               : st;
}

/* With a chat template, a turn ends as its answers do. */
static enum status open_chat(struct setup *s, struct err *e)
{
    enum status st;

    if (!s->task.model.template[0])
        return OK;
    st = chat_open_named(&s->chat, s->task.model.template, s->tokenizer, e);
    if (st)
        return err_prefix(e, st == ERR_NOT_FOUND ? ERR_UNSUPPORTED : st, "model.template");
    if (tokenizer_eos(s->tokenizer) != chat_end(s->chat))
        tokenizer_set_eos(s->tokenizer, chat_end(s->chat));
    return OK;
}

enum status setup_open(struct setup **out, struct bytes bundle,
                       const struct env_options *env_opt, struct err *e)
{
    struct setup *s = xcalloc(1, sizeof(*s));
    struct bundle b;
    enum status st;

    *out = NULL;
    buf_init(&s->bundle, BUNDLE_CEILING);
    buf_append(&s->bundle, bundle);
    st = buf_status(&s->bundle, e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&s->bundle), e);
    if (!st)
        st = task_parse(&s->task, b.file[BUNDLE_TASK], "task.yaml", e);
    if (!st)
        st = setup_model_config(&s->config, &s->tokenizer, &s->task, &b, e);
    if (!st)
        st = open_chat(s, e);
    if (!st)
        st = check_class(s, e);
    if (!st)
        st = env_open(&s->env, &s->task, &b, env_opt, e);
    if (st) {
        setup_close(&s);
        return st;
    }
    bundle_id(s->task_id.b, buf_bytes(&s->bundle));
    s->plan = (struct plan){
        .task = s->task_id,
        .seed = (uint64_t)s->task.seed,
        .n_tasks = env_n_tasks(s->env),
    };
    *out = s;
    return OK;
}

void setup_close(struct setup **s)
{
    if (!*s)
        return;
    env_close(&(*s)->env);
    chat_close(&(*s)->chat);
    tokenizer_free(&(*s)->tokenizer);
    task_clear(&(*s)->task);
    buf_clear(&(*s)->bundle);
    free(*s);
    *s = NULL;
}

uint32_t setup_versions(const struct setup *s)
{
    bool by_arrival = !strcmp(s->task.algorithm.order, "arrival");
    int64_t oldest = by_arrival ? s->task.algorithm.max_staleness : s->task.algorithm.lag;

    return (uint32_t)(oldest > s->task.algorithm.lag ? oldest : s->task.algorithm.lag) + 2;
}

static enum status kernels_of(const struct kernels **out, const char *class,
                              const struct kernels *k, struct err *e)
{
    struct device *d = kernels_device(k);
    enum numerics numerics;
    enum status st = numerics_parse(&numerics, class, NULL);

    CHECK(!st);
    if (d)
        return device_kernels(out, d, numerics, e);
    if (check_open_applies(numerics))
        return kernels_choose(out, numerics, NULL, e);
    *out = kernels_in_class(k, numerics);
    return OK;
}

enum status setup_kernels(const struct kernels **out, const struct setup *s,
                          const struct kernels *k, struct err *e)
{
    return kernels_of(out, task_numerics(&s->task), k, e);
}

enum status setup_train_kernels(const struct kernels **out, const struct setup *s,
                                const struct kernels *k, struct err *e)
{
    return kernels_of(out, task_train_numerics(&s->task), k, e);
}

struct rollout_world setup_world(const struct setup *s, struct model *m, int64_t version,
                                 const struct digest *weights)
{
    enum numerics numerics;
    enum status st = numerics_parse(&numerics, task_numerics(&s->task), NULL);

    CHECK(!st && (!m || model_numerics(m) == numerics));
    return (struct rollout_world){
        .task = &s->task,
        .task_id = s->task_id,
        .plan = s->plan,
        .tokenizer = s->tokenizer,
        .chat = s->chat,
        .env = s->env,
        .model = m,
        .version = version,
        .weights = *weights,
        .numerics = numerics,
    };
}

/* Prompt, answer and stop token of a demonstration whose answer is `text`. */
static enum status demo_ids(const struct setup *s, const struct episode_prompt *p,
                            struct bytes text, int32_t *ids, size_t cap, size_t *n_prompt,
                            size_t *n, struct err *e)
{
    size_t max_len = (size_t)s->task.model.max_len;
    size_t room = cap < max_len ? cap : max_len;
    size_t n_answer = 0;
    enum status st;

    if (p->n + 1 >= room)
        return err_set(e, ERR_LIMIT, "a demonstration does not fit %zu tokens", room);
    memcpy(ids, p->ids, p->n * sizeof(*ids));
    st = tokenizer_encode(s->tokenizer, text, ids + p->n, room - p->n - 1, &n_answer, e);
    if (st)
        return err_prefix(e, st, "answer of a demonstration");
    ids[p->n + n_answer] = tokenizer_eos(s->tokenizer);
    *n_prompt = p->n;
    *n = p->n + n_answer + 1;
    return OK;
}

enum status setup_demo(const struct setup *s, uint64_t i, int32_t *ids, size_t cap,
                       size_t *n_prompt, size_t *n, struct err *e)
{
    static const struct digest no_weights;
    const struct rollout_world w = setup_world(s, NULL, 0, &no_weights);
    const struct env_problem problem = {
        .index = plan_demo_index(&s->plan, i),
        .seed = plan_demo_seed(&s->plan, i),
        .split = ENV_TRAIN,
    };
    struct episode_prompt p;
    struct buf text;
    enum status st = episode_prompt_make(&p, &w, &problem, e);

    if (st)
        return st;
    buf_init(&text, ENV_TEXT_MAX_BYTES);
    st = env_demo(s->env, &problem, &text, e);
    if (!st)
        st = demo_ids(s, &p, buf_bytes(&text), ids, cap, n_prompt, n, e);
    buf_clear(&text);
    episode_prompt_clear(&p);
    return st;
}
