#include "cli/generate_prompts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/jsonl.h"

/* Another one, empty, with room for `cap` ids. */
static enum status put(struct prompts *p, size_t cap, struct err *e)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 16;
        p->at = xrealloc(p->at, p->cap * sizeof(p->at[0]));
    }
    p->at[p->n] = (struct prompt){0};
    return alloc_array(&p->at[p->n++].ids, cap, sizeof(int32_t), "a prompt", e);
}

/* Gives back what the last one does not need. */
static enum status end_put(struct prompts *p, struct err *e)
{
    struct prompt *last = &p->at[p->n - 1];

    if (last->n == 0)
        return err_set(e, ERR_INVALID,
                       "the prompt is empty, and this model's sequences do not begin with a "
                       "token of their own");
    if (last->n >= p->c->max_len)
        return err_set(e, ERR_INVALID,
                       "a prompt of %zu tokens leaves no room in a model of %" PRIu32
                       " positions",
                       last->n, p->c->max_len);
    last->ids = xrealloc(last->ids, last->n * sizeof(last->ids[0]));
    p->longest = last->n > p->longest ? last->n : p->longest;
    return OK;
}

/* Sequences begin as they did in training: a tokenizer.json of Hugging Face's says how, for ours
 * config.json does. */
enum status prompts_add_text(struct prompts *p, struct bytes text, struct err *e)
{
    const int32_t bos = tokenizer_kind(p->t) == TOKENIZER_BPE ? tokenizer_bos(p->t) : p->c->bos;
    const size_t n_bos = bos >= 0, cap = TOKENIZER_ROOM(text.len);
    enum status st = put(p, cap + n_bos, e);

    if (st)
        return st;
    struct prompt *last = &p->at[p->n - 1];
    if (n_bos)
        last->ids[0] = bos;
    st = spelt_encode(&p->spelt, p->t, text, last->ids + n_bos, cap, &last->n, e);
    last->n += n_bos;
    return st ? st : end_put(p, e);
}

enum status prompts_add_messages(struct prompts *p, const struct chat_message *m, size_t n,
                                 struct err *e)
{
    size_t bytes = 0, cap;
    enum status st;

    if (!p->chat)
        return err_set(e, ERR_UNSUPPORTED, "\"messages\": %s",
                       p->no_chat ? p->no_chat : "there is no chat template");
    for (size_t i = 0; i < n; i++)
        bytes += m[i].text.len;
    cap = jsonl_messages_room(n, bytes);
    st = put(p, cap, e);
    if (st)
        return st;
    struct prompt *last = &p->at[p->n - 1];
    st = chat_render(p->chat, m, n, true, last->ids, NULL, cap, &last->n, e);
    return st ? st : end_put(p, e);
}

enum status prompts_add(struct prompts *p, struct bytes text, struct err *e)
{
    const struct chat_message m[] = {{CHAT_SYSTEM, p->system}, {CHAT_USER, text}};
    const bool has_system = p->system.len > 0;

    return p->is_chat ? prompts_add_messages(p, m + !has_system, 1 + has_system, e)
                      : prompts_add_text(p, text, e);
}

static enum status add_list(struct prompts *p, const json_t *list, struct err *e)
{
    struct chat_message *m = NULL;
    size_t n, n_bytes;
    enum status st = jsonl_messages(&m, &n, &n_bytes, list, e);

    if (!st)
        st = prompts_add_messages(p, m, n, e);
    free(m);
    return st;
}

enum status prompts_object(void *ctx, const json_t *o, struct err *e)
{
    struct prompts *p = ctx;
    const json_t *messages = json_object_get(o, "messages");
    const json_t *name = json_object_get(o, "id");
    bool has_prompt = json_object_get(o, "prompt");
    struct bytes text;
    enum status st;

    if (!json_is_object(o) || has_prompt + (messages != NULL) != 1)
        return err_set(e, ERR_INVALID, "wants one of \"prompt\" and \"messages\"");
    if (has_prompt && !jsonl_text(&text, o, "prompt"))
        return err_set(e, ERR_INVALID, "\"prompt\" is no string");
    st = messages ? add_list(p, messages, e) : prompts_add(p, text, e);
    if (!st && name)
        p->at[p->n - 1].name = json_dumps(name, JSON_ENCODE_ANY | JSON_COMPACT);
    return st;
}

enum status prompts_read(struct prompts *p, const char *path, struct err *e)
{
    enum status st = jsonl_read(path, prompts_object, p, e);

    return !st && p->n == 0 ? err_set(e, ERR_INVALID, "'%s' has no prompt", path) : st;
}

void prompts_clear(struct prompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->at[i].ids);
        free(p->at[i].name);
    }
    free(p->at);
    p->at = NULL;
    p->n = p->cap = p->longest = 0;
}
