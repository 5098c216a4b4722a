#include "cli/sft_data.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/jsonl.h"
#include "cli/spelt.h"
#include "proto/digest.h"

void sft_data_init(struct sft_data *d)
{
    memset(d, 0, sizeof(*d));
}

void sft_data_clear(struct sft_data *d)
{
    free(d->tokens);
    free(d->is_answer);
    free(d->end);
    sft_data_init(d);
}

/* Grows *array, of `size` bytes an element, to hold `n`. The length of a file bounds what is asked
 * for. */
static enum status grow(void *array_pp, size_t size, size_t n, struct err *e)
{
    void **array = array_pp, *grown = n > SIZE_MAX / size ? NULL : realloc(*array, n * size);

    if (!grown)
        return err_set(e, ERR_NO_MEMORY, "no memory for %zu numbers of training data", n);
    *array = grown;
    return OK;
}

static enum status reserve(struct sft_data *d, size_t n_tokens, struct err *e)
{
    size_t cap = d->cap_tokens;
    enum status st = OK;

    if (d->n == d->cap) {
        size_t more = d->cap ? 2 * d->cap : 64;

        st = grow(&d->end, sizeof(*d->end), more, e);
        if (st)
            return st;
        d->cap = more;
    }
    if (n_tokens <= cap - d->n_tokens)
        return OK;
    cap = 2 * cap > d->n_tokens + n_tokens ? 2 * cap : d->n_tokens + n_tokens;
    st = grow(&d->tokens, sizeof(*d->tokens), cap, e);
    if (!st)
        st = grow(&d->is_answer, 1, cap, e);
    if (!st)
        d->cap_tokens = cap;
    return st;
}

/* ---- one line -------------------------------------------------------------------------------- */

/* The sequence that a line is, behind those that are finished. */
struct line {
    struct sft_data *d;
    const struct sft_reading *how;
    const struct tokenizer *t;
    size_t n; /* tokens so far */
};

static void put_id(struct line *l, int32_t id, bool is_answer)
{
    size_t at = l->d->n_tokens + l->n++;

    l->d->tokens[at] = id;
    l->d->is_answer[at] = is_answer;
}

static enum status put_text(struct line *l, struct bytes text, bool is_answer, struct err *e)
{
    size_t at = l->d->n_tokens + l->n, n = 0;
    struct spelt s = {l->how->reads_special, 0};
    enum status st =
        spelt_encode(&s, l->t, text, l->d->tokens + at, l->d->cap_tokens - at, &n, e);

    if (st)
        return st;
    l->d->n_spelt += s.n;
    memset(l->d->is_answer + at, is_answer, n);
    l->n += n;
    return OK;
}

/* A conversation, as the model's own chat template renders it. */
static enum status put_messages(struct line *l, const json_t *messages, struct err *e)
{
    const struct sft_reading *how = l->how;
    size_t n, bytes;
    struct chat_message *m = NULL;
    enum status st;

    if (!how->chat)
        return err_set(e, ERR_UNSUPPORTED, "\"messages\": %s",
                       how->no_chat ? how->no_chat : "there is no chat template");
    st = jsonl_messages(&m, &n, &bytes, messages, e);
    if (!st)
        st = reserve(l->d, jsonl_messages_room(n, bytes), e);
    if (!st)
        st = chat_render(how->chat, m, n, false, l->d->tokens + l->d->n_tokens,
                         l->d->is_answer + l->d->n_tokens, l->d->cap_tokens - l->d->n_tokens,
                         &l->n, e);
    free(m);
    return st;
}

static enum status put_line(struct line *l, const json_t *o, struct err *e)
{
    struct bytes text = {0}, prompt = {0}, completion = {0};
    const json_t *messages = json_object_get(o, "messages");
    bool has_text = json_object_get(o, "text"), has_pair = json_object_get(o, "prompt");
    enum status st;

    if (!json_is_object(o) || has_text + has_pair + (messages != NULL) != 1)
        return err_set(e, ERR_INVALID,
                       "wants one of \"text\", \"prompt\" with \"completion\", "
                       "and \"messages\"");
    if (messages)
        return put_messages(l, messages, e);
    if (has_text && !jsonl_text(&text, o, "text"))
        return err_set(e, ERR_INVALID, "\"text\" is no string");
    if (has_pair &&
        (!jsonl_text(&prompt, o, "prompt") || !jsonl_text(&completion, o, "completion")))
        return err_set(e, ERR_INVALID, "\"prompt\" and \"completion\" must both be strings");
    st = reserve(l->d,
                 TOKENIZER_ROOM(text.len) + TOKENIZER_ROOM(prompt.len) +
                     TOKENIZER_ROOM(completion.len) + 2,
                 e);
    if (st)
        return st;
    if (tokenizer_bos(l->t) >= 0)
        put_id(l, tokenizer_bos(l->t), false);
    st = has_text ? put_text(l, text, true, e) : put_text(l, prompt, false, e);
    if (!st && has_pair)
        st = put_text(l, completion, true, e);
    if (!st && tokenizer_eos(l->t) >= 0)
        put_id(l, tokenizer_eos(l->t), true);
    return st;
}

static bool has_answer(const struct line *l)
{
    /* Nothing comes before the first token that could predict it. */
    return l->n > 1 && memchr(l->d->is_answer + l->d->n_tokens + 1, 1, l->n - 1);
}

/* Files the sequence, or does with it what how->too_long says. */
static enum status end_line(struct line *l, struct err *e)
{
    const struct sft_reading *how = l->how;
    const size_t max_tokens = how->max_tokens;
    struct sft_data *d = l->d;

    if (!has_answer(l))
        return err_set(e, ERR_INVALID, "there is nothing to learn: the answer is empty");
    if (l->n > max_tokens && how->too_long == SFT_LONG_REFUSE)
        return err_set(e, ERR_LIMIT, "%zu tokens, at most %zu are trained on", l->n,
                       max_tokens);
    if (l->n > max_tokens) {
        l->n = max_tokens;
        if (how->too_long == SFT_LONG_DROP || !has_answer(l)) {
            d->n_dropped++;
            return OK;
        }
        d->n_cut++;
    }
    d->is_answer[d->n_tokens] = 0;
    d->n_tokens += l->n;
    d->end[d->n++] = d->n_tokens;
    d->longest = l->n > d->longest ? l->n : d->longest;
    return OK;
}

/* Where one object a line goes. */
struct reading {
    struct sft_data *d;
    const struct sft_reading *how;
};

static enum status read_object(void *ctx, const json_t *o, struct err *e)
{
    const struct reading *r = ctx;
    struct line line = {.d = r->d, .how = r->how, .t = r->how->tokenizer};
    enum status st = put_line(&line, o, e);

    return st ? st : end_line(&line, e);
}

/* ---- the file -------------------------------------------------------------------------------- */

enum status sft_data_parse(struct sft_data *d, struct bytes file, const char *name,
                           const struct sft_reading *how, struct err *e)
{
    struct reading r = {d, how};

    return jsonl_parse(file, name, read_object, &r, e);
}

enum status sft_data_read(struct sft_data *d, const char *path, const struct sft_reading *how,
                          struct err *e)
{
    struct reading r = {d, how};

    return jsonl_read(path, read_object, &r, e);
}

struct learn_demo sft_data_get(const struct sft_data *d, size_t i)
{
    size_t from = i ? d->end[i - 1] : 0;

    return (struct learn_demo){
        .tokens = d->tokens + from, .is_answer = d->is_answer + from, .n = d->end[i] - from};
}

void sft_data_digest(struct digest *out, const struct sft_data *d)
{
    struct digest_state s;

    digest_begin(&s, "muster/sft-data");
    digest_add_u64(&s, d->n);
    for (size_t i = 0; i < d->n; i++)
        digest_add_u64(&s, d->end[i]);
    digest_add(&s,
               (struct bytes){(const uint8_t *)d->tokens, d->n_tokens * sizeof(*d->tokens)});
    digest_add(&s, (struct bytes){d->is_answer, d->n_tokens});
    digest_end(&s, out);
}
