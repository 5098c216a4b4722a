#include "cli/sft_data.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "engine/json_text.h"
#include "proto/digest.h"

/* Of a line: 100,000 messages. */
#define SFT_VALUES_MAX ((size_t)1 << 20)

/* Tokens that a template may put around a message, generously. */
#define SFT_MESSAGE_ROOM 256u

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
    enum status st =
        tokenizer_encode(l->t, text, l->d->tokens + at, l->d->cap_tokens - at, &n, e);

    if (st)
        return st;
    memset(l->d->is_answer + at, is_answer, n);
    l->n += n;
    return OK;
}

static bool get_text(struct bytes *out, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_string(v))
        return false;
    *out = (struct bytes){(const uint8_t *)json_string_value(v), json_string_length(v)};
    return true;
}

/* One member of "messages". */
static enum status read_message(struct chat_message *out, const json_t *o, struct err *e)
{
    struct bytes role;

    if (!json_is_object(o) || !get_text(&role, o, "role") ||
        !get_text(&out->text, o, "content"))
        return err_set(e, ERR_INVALID,
                       "a message wants \"role\" and \"content\", both strings");
    if (!chat_role_parse(&out->role, role))
        return err_set(e, ERR_INVALID,
                       "a message of role '%.40s', wants system, user or assistant",
                       (const char *)role.data);
    return OK;
}

/* A conversation, as the model's own chat template renders it. */
static enum status put_messages(struct line *l, const json_t *messages, struct err *e)
{
    const struct sft_reading *how = l->how;
    size_t n = json_array_size(messages), bytes = 0;
    struct chat_message *m = NULL;
    enum status st = OK;

    if (!how->chat)
        return err_set(e, ERR_UNSUPPORTED,
                       "\"messages\": this tokenizer has no chat template%s%s",
                       how->no_chat ? ": " : "", how->no_chat ? how->no_chat : "");
    if (n == 0)
        return err_set(e, ERR_INVALID, "\"messages\" is no list, or empty");
    m = xcalloc(n, sizeof(*m));
    for (size_t i = 0; !st && i < n; i++) {
        st = read_message(&m[i], json_array_get(messages, i), e);
        bytes += m[i].text.len;
    }
    if (!st) /* and what a template puts around each, and before the first */
        st = reserve(l->d, TOKENIZER_ROOM(bytes) + (n + 2) * SFT_MESSAGE_ROOM, e);
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
    if (has_text && !get_text(&text, o, "text"))
        return err_set(e, ERR_INVALID, "\"text\" is no string");
    if (has_pair &&
        (!get_text(&prompt, o, "prompt") || !get_text(&completion, o, "completion")))
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

static enum status read_line(struct line *l, struct bytes line, struct err *e)
{
    json_t *o;
    enum status st;

    if (line.len > SFT_LINE_MAX)
        return err_set(e, ERR_LIMIT, "%zu bytes, at most %u are read", line.len, SFT_LINE_MAX);
    st = json_text_read(&o, line, SFT_VALUES_MAX, JSON_ALLOW_NUL, e);
    if (st)
        return err_prefix(e, st, "no JSON");
    st = put_line(l, o, e);
    json_decref(o);
    return st ? st : end_line(l, e);
}

static bool is_blank(struct bytes line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
            return false;
    return true;
}

/* ---- the file -------------------------------------------------------------------------------- */

enum status sft_data_parse(struct sft_data *d, struct bytes file, const char *name,
                           const struct sft_reading *how, struct err *e)
{
    size_t at = 0;
    enum status st = OK;

    for (size_t number = 1; !st && at < file.len; number++) {
        const uint8_t *from = file.data + at;
        const uint8_t *end = memchr(from, '\n', file.len - at);
        struct bytes text = {from, end ? (size_t)(end - from) : file.len - at};
        struct line line = {.d = d, .how = how, .t = how->tokenizer};

        at += text.len + 1;
        if (is_blank(text))
            continue;
        st = read_line(&line, text, e);
        if (st)
            err_prefix(e, st, "%s:%zu", name, number);
    }
    return st;
}

enum status sft_data_read(struct sft_data *d, const char *path, const struct sft_reading *how,
                          struct err *e)
{
    struct file_map map;
    enum status st = file_map_open(&map, path, e);

    if (st)
        return st;
    st = sft_data_parse(d, map.bytes, path, how, e);
    file_map_close(&map);
    return st;
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
