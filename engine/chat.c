#include "engine/chat.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "engine/json_text.h"
#include "engine/utf8.h"

#define TEMPLATE_MAX ((size_t)1 << 20)
#define CONFIG_MAX   ((size_t)4 << 20)
#define TEXT_MAX     ((size_t)1 << 30)
#define DIGEST_BYTES 32u

/* What is written in literals below as {bos} and {eos} stands for the tokenizer's. */
static const char *const special_name[] = {
    "{bos}",
    "{eos}",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
};
enum { BOS, EOS, IM_START, IM_END, HEADER_START, HEADER_END, EOT, INST, INST_END, N_SPECIALS };

/* What stands for the day of the conversation. */
#define DATE       "{date}"
#define FIRST_DATE "26 Jul 2024"

/* Where a first message of the system goes. */
enum system_place { OWN_MESSAGE, FIRST_USER, LAST_USER, NOWHERE };

struct family {
    const char *name;
    const char *begin;          /* before all messages */
    const char *default_system; /* where the first message is another's; NULL: nothing */
    const char *before_system, *before_user,
        *before_answer; /* NULL: the role's own, "user\n" */
    const char *after_user, *after_answer;
    const char *generation; /* the generation prompt */
    enum system_place place;
    bool alternates; /* refuses other orders than user, assistant, user, ... */
    bool trims_all, trims_answer;
    bool thinks; /* Qwen3's rules for <think> */
    int end;     /* the special that ends an answer */
    int needs;   /* the specials it cannot do without, as bits */
};

#define B(special)        (1 << (special))
#define CHATML_BEFORE     "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"
#define CHATML_AFTER      "<|im_end|>\n", "<|im_end|>\n", "<|im_start|>assistant\n"
#define LLAMA3_ROLE(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA3_BEFORE     LLAMA3_ROLE("system"), LLAMA3_ROLE("user"), LLAMA3_ROLE("assistant")
#define LLAMA3_AFTER      "<|eot_id|>", "<|eot_id|>", LLAMA3_ROLE("assistant")
#define LLAMA_DATES(day)  "Cutting Knowledge Date: December 2023\nToday Date: " day "\n\n"
#define NEEDS_CHATML      (B(IM_START) | B(IM_END))
#define NEEDS_LLAMA3      (B(BOS) | B(HEADER_START) | B(HEADER_END) | B(EOT))

static const struct family families[] = {
    {"chatml", "", NULL, CHATML_BEFORE, CHATML_AFTER, .end = IM_END, .needs = NEEDS_CHATML},
    {"qwen2.5", "", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     CHATML_BEFORE, CHATML_AFTER, .end = IM_END, .needs = NEEDS_CHATML},
    {"qwen3", "", NULL, CHATML_BEFORE, CHATML_AFTER, .thinks = true, .end = IM_END,
     .needs = NEEDS_CHATML},
    {"llama3", "{bos}", NULL, LLAMA3_BEFORE, LLAMA3_AFTER, .trims_all = true, .end = EOT,
     .needs = NEEDS_LLAMA3},
    {"llama3.1", "{bos}", "", LLAMA3_ROLE("system") LLAMA_DATES(FIRST_DATE),
     LLAMA3_ROLE("user"), LLAMA3_ROLE("assistant"), LLAMA3_AFTER, .trims_all = true, .end = EOT,
     .needs = NEEDS_LLAMA3},
    {"llama3.2", "{bos}", "", LLAMA3_ROLE("system") LLAMA_DATES(DATE), LLAMA3_ROLE("user"),
     LLAMA3_ROLE("assistant"), LLAMA3_AFTER, .trims_all = true, .end = EOT,
     .needs = NEEDS_LLAMA3},
    {"mistral", "{bos}", NULL, "", "[INST] ", "", " [/INST]", "{eos}", "", .place = NOWHERE,
     .alternates = true, .end = EOS, .needs = B(BOS) | B(EOS)},
    {"mistral-v0.1", "{bos}", NULL, "", "[INST] ", "", " [/INST]", "{eos} ", "",
     .place = NOWHERE, .alternates = true, .end = EOS, .needs = B(BOS) | B(EOS)},
    {"mistral-system", "{bos}", NULL, "", " [INST] ", " ", " [/INST]", "{eos}", "",
     .place = FIRST_USER, .alternates = true, .end = EOS, .needs = B(BOS) | B(EOS)},
    {"mistral-v3", "{bos}", NULL, "", "[INST] ", " ", "[/INST]", "{eos}", "",
     .place = LAST_USER, .alternates = true, .trims_answer = true, .end = EOS,
     .needs = B(BOS) | B(EOS)},
    {"mistral-tekken", "{bos}", NULL, "", "[INST]", "", "[/INST]", "{eos}", "",
     .place = LAST_USER, .alternates = true, .end = EOS, .needs = B(BOS) | B(EOS)},
};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

/* The BLAKE2b-256 of templates that were at hand, word for word (tests/reference/chat.py). */
static const struct {
    const char *digest, *family;
} known[] = {
#include "engine/chat_digests.h"
};

struct chat {
    const struct family *family;
    const struct tokenizer *t; /* borrowed */
    int32_t special[N_SPECIALS];
    char date[CHAT_DATE_MAX + 1];
};

/* ---- opening --------------------------------------------------------------------------------- */

static enum status open_family(struct chat **out, const struct family *f,
                               const struct tokenizer *t, struct err *e)
{
    struct chat *c = xcalloc(1, sizeof(*c));

    c->family = f;
    c->t = t;
    memcpy(c->date, FIRST_DATE, sizeof(FIRST_DATE));
    for (int i = 0; i < N_SPECIALS; i++)
        c->special[i] = i == BOS   ? tokenizer_bos(t)
                        : i == EOS ? tokenizer_eos(t)
                                   : tokenizer_find_special(t, special_name[i]);
    *out = c;
    for (int i = 0; i < N_SPECIALS; i++) {
        if (f->needs & B(i) && c->special[i] < 0) {
            chat_close(out);
            return err_set(e, ERR_UNSUPPORTED,
                           "chat template '%s': the tokenizer has no special token %s", f->name,
                           i == BOS   ? "to begin with"
                           : i == EOS ? "to end with"
                                      : special_name[i]);
        }
    }
    return OK;
}

enum status chat_open_named(struct chat **out, const char *name, const struct tokenizer *t,
                            struct err *e)
{
    char names[256] = "";
    size_t n = 0;

    *out = NULL;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (!strcmp(families[i].name, name))
            return open_family(out, &families[i], t, e);
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "",
                              families[i].name);
    }
    return err_set(e, ERR_NOT_FOUND, "no chat template '%.40s'; there are %s", name, names);
}

static enum status open_text(struct chat **out, struct bytes text, const struct tokenizer *t,
                             struct err *e)
{
    uint8_t digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];

    if (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--; /* Jinja drops it too */
    CHECK(crypto_generichash(digest, sizeof(digest), text.data, text.len, NULL, 0) == 0);
    hex_encode(hex, (struct bytes){digest, sizeof(digest)});
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strcmp(known[i].digest, hex))
            return chat_open_named(out, known[i].family, t, e);
    return err_set(e, ERR_UNSUPPORTED,
                   "the chat template with BLAKE2b-256 %s is not known; "
                   "--template NAME chooses one that is",
                   hex);
}

/* chat_template is a text, or a list of named ones of which "default" counts. */
static enum status open_config(struct chat **out, struct bytes json, const struct tokenizer *t,
                               struct err *e)
{
    json_t *root;
    enum status st =
        json_text_read(&root, json, TOKENIZER_CONFIG_VALUES_MAX, TOKENIZER_CONFIG_FLAGS, e);
    const json_t *text = json_object_get(root, "chat_template");

    if (json_is_array(text)) {
        const json_t *list = text;

        text = NULL;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *one = json_array_get(list, i);
            const char *name = json_string_value(json_object_get(one, "name"));

            if (name && !strcmp(name, "default"))
                text = json_object_get(one, "template");
        }
    }
    if (st)
        st = err_prefix(e, st, "tokenizer_config.json");
    else if (!json_is_string(text))
        st = err_set(e, ERR_NOT_FOUND,
                     "the model has no chat template; --template NAME chooses one");
    else
        st = open_text(
            out,
            (struct bytes){(const uint8_t *)json_string_value(text), json_string_length(text)},
            t, e);
    json_decref(root);
    return st;
}

static enum status read_named(struct buf *out, const char *dir, const char *name, struct err *e)
{
    char *path = file_join(dir, name);
    enum status st = file_read(out, path, e);

    free(path);
    return st;
}

enum status chat_open(struct chat **out, const char *dir, const struct tokenizer *t,
                      struct err *e)
{
    struct buf text;
    enum status st;

    *out = NULL;
    buf_init(&text, TEMPLATE_MAX);
    st = read_named(&text, dir, "chat_template.jinja", e);
    if (!st) {
        st = open_text(out, buf_bytes(&text), t, e);
    } else if (st == ERR_NOT_FOUND) {
        buf_clear(&text);
        buf_init(&text, CONFIG_MAX);
        st = read_named(&text, dir, "tokenizer_config.json", e);
        if (!st)
            st = open_config(out, buf_bytes(&text), t, e);
        else if (st == ERR_NOT_FOUND)
            st = err_set(e, ERR_NOT_FOUND,
                         "'%s' has no chat template; --template NAME chooses one", dir);
    }
    buf_clear(&text);
    return st;
}

enum status chat_set_date(struct chat *c, const char *date, struct err *e)
{
    const size_t n = strlen(date);

    if (n == 0 || n > CHAT_DATE_MAX || utf8_valid(bytes_str(date)) != n)
        return err_set(e, ERR_INVALID, "the date '%.40s' is not text of 1 to %u bytes", date,
                       CHAT_DATE_MAX);
    memcpy(c->date, date, n + 1);
    return OK;
}

void chat_close(struct chat **c)
{
    free(*c);
    *c = NULL;
}

const char *chat_name(const struct chat *c)
{
    return c->family->name;
}

int32_t chat_end(const struct chat *c)
{
    return c->special[c->family->end];
}

static const char *const role_name[] = {
    [CHAT_SYSTEM] = "system", [CHAT_USER] = "user", [CHAT_ASSISTANT] = "assistant"};

bool chat_role_parse(enum chat_role *out, struct bytes word)
{
    for (int i = CHAT_SYSTEM; i <= CHAT_ASSISTANT; i++) {
        if (bytes_equal(word, bytes_str(role_name[i]))) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* ---- strings, as Python has them ------------------------------------------------------------- */

/* str.isspace: Unicode's spaces, and the separators U+001C to U+001F. */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static struct bytes trim(struct bytes s)
{
    size_t from = 0, to = s.len;

    while (from < to) {
        size_t at = from;
        if (!is_space(utf8_get(s.data, &at)))
            break;
        from = at;
    }
    while (to > from) {
        size_t at = to - 1, start;

        while (at > from && (s.data[at] & 0xc0) == 0x80)
            at--;
        start = at;
        if (!is_space(utf8_get(s.data, &at)))
            break;
        to = start;
    }
    return (struct bytes){s.data + from, to - from};
}

static struct bytes strip_newlines(struct bytes s, bool left, bool right)
{
    while (left && s.len > 0 && s.data[0] == '\n') {
        s.data++;
        s.len--;
    }
    while (right && s.len > 0 && s.data[s.len - 1] == '\n')
        s.len--;
    return s;
}

/* The first or the last place of `part` in s; s.len if there is none. */
static size_t find(struct bytes s, const char *part, bool last)
{
    const size_t n = strlen(part);
    size_t found = s.len;

    for (size_t at = 0; at + n <= s.len && (last || found == s.len); at++)
        if (!memcmp(s.data + at, part, n))
            found = at;
    return found;
}

static struct bytes after(struct bytes s, size_t at)
{
    return (struct bytes){s.data + at, s.len - at};
}

/* ---- rendering ------------------------------------------------------------------------------- */

struct render {
    const struct chat *c;
    int32_t *ids;       /* borrowed */
    uint8_t *is_answer; /* borrowed; may be NULL */
    size_t cap, n;
    struct buf text;  /* since the last special token */
    size_t answer_at; /* where an answer begins in it; SIZE_MAX: nowhere */
    bool in_answer;
    int32_t last; /* the last special token; -1: none yet */
    enum status st;
    struct err *e;
};

static void emit(struct render *r, int32_t id, bool is_answer)
{
    if (!r->st && r->n == r->cap)
        r->st = err_set(r->e, ERR_LIMIT, "the conversation is longer than %zu tokens", r->cap);
    if (r->st)
        return;
    if (r->is_answer)
        r->is_answer[r->n] = is_answer;
    r->ids[r->n++] = id;
}

/* The ids of the text so far, to the caller's free(). A special token before it keeps it from being
 * taken for the start of the sequence. */
static int32_t *encode_text(struct render *r, size_t len, size_t *n)
{
    const struct tokenizer_piece pieces[] = {{r->last, {0}}, {-1, {r->text.data, len}}};
    const bool has_begun = r->last >= 0;
    size_t cap = TOKENIZER_ROOM(len);
    int32_t *ids = NULL;

    r->st = alloc_array(&ids, cap, sizeof(*ids), "a conversation", r->e);
    if (!r->st)
        r->st = tokenizer_encode_pieces(r->c->t, pieces + !has_begun, 1 + has_begun, ids, cap,
                                        n, r->e);
    if (!r->st && has_begun) {
        *n -= 1;
        memmove(ids, ids + 1, *n * sizeof(*ids));
    }
    return ids;
}

/* Text up to here becomes ids. A token that lies across the place where the answer begins is the
 * first that differs from the ids of what stands before; from there on it is the answer. */
static void flush(struct render *r)
{
    size_t n = 0, n_before = 0, first;
    int32_t *ids = NULL, *before = NULL;

    if (!r->st)
        r->st = buf_status(&r->text, r->e);
    if (r->st || r->text.len == 0)
        return;
    ids = encode_text(r, r->text.len, &n);
    first = r->in_answer ? 0 : n;
    if (r->answer_at != SIZE_MAX && r->answer_at > 0 && !r->st && r->is_answer) {
        before = encode_text(r, r->answer_at, &n_before);
        while (first < n_before && first < n && !r->st && ids[first] == before[first])
            first++;
    }
    for (size_t i = 0; i < n && !r->st; i++)
        emit(r, ids[i], i >= first);
    free(ids);
    free(before);
    buf_reset(&r->text);
    r->answer_at = SIZE_MAX;
}

/* A piece of the template: special tokens are tokens where the tokenizer has them. */
static void put(struct render *r, const char *literal)
{
    while (*literal) {
        int found = -1;

        if (!strncmp(literal, DATE, strlen(DATE))) {
            buf_append(&r->text, bytes_str(r->c->date));
            literal += strlen(DATE);
            continue;
        }
        for (int i = 0; i < N_SPECIALS && found < 0; i++)
            if (r->c->special[i] >= 0 &&
                !strncmp(literal, special_name[i], strlen(special_name[i])))
                found = i;
        if (found < 0) {
            buf_put_u8(&r->text, (uint8_t)*literal++);
            continue;
        }
        flush(r);
        emit(r, r->c->special[found], r->in_answer);
        r->last = r->c->special[found];
        r->in_answer = r->in_answer && found != r->c->family->end;
        literal += strlen(special_name[found]);
    }
}

static void put_text(struct render *r, struct bytes text)
{
    buf_append(&r->text, text);
}

static void put_user(struct render *r, struct bytes system, struct bytes text)
{
    const struct family *f = r->c->family;

    put(r, f->before_user);
    if (system.data) {
        put_text(r, system);
        put(r, "\n\n");
    }
    put_text(r, f->trims_all ? trim(text) : text);
    put(r, f->after_user);
}

/* Qwen3 takes a thought out of old answers, and gives an empty one to the last that has none. */
static void put_thinking(struct render *r, struct bytes text, bool is_current, bool is_last)
{
    const size_t close = find(text, "</think>", false);
    struct bytes thought = {text.data, 0};

    if (close < text.len) {
        const struct bytes head = strip_newlines((struct bytes){text.data, close}, false, true);
        const size_t open = find(head, "<think>", true);

        thought = open < head.len ? after(head, open + strlen("<think>")) : head;
        thought = strip_newlines(thought, true, false);
        text = after(text, find(text, "</think>", true) + strlen("</think>"));
        text = strip_newlines(text, true, false);
    }
    if (is_current && (is_last || thought.len > 0)) {
        put(r, "<think>\n");
        put_text(r, strip_newlines(thought, true, true));
        put(r, "\n</think>\n\n");
        text = strip_newlines(text, true, false);
    }
    put_text(r, text);
}

static void put_answer(struct render *r, struct bytes text, bool is_current, bool is_last)
{
    const struct family *f = r->c->family;

    put(r, f->before_answer);
    r->answer_at = r->text.len;
    if (r->text.len > 0 && r->text.data[r->text.len - 1] == ' ')
        r->answer_at--; /* a space belongs to the word that it stands before */
    r->in_answer = true;
    if (f->thinks)
        put_thinking(r, text, is_current, is_last);
    else
        put_text(r, f->trims_all || f->trims_answer ? trim(text) : text);
    put(r, f->after_answer);
}

/* The last message of the user that is no tool's answer in disguise: what comes after it is the
 * turn in progress. */
static size_t last_query(const struct chat_message *m, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        const struct bytes t = m[i].text;
        const size_t tail = strlen("</tool_response>");
        bool wraps = t.len >= tail && find(t, "<tool_response>", false) == 0 &&
                     find(after(t, t.len - tail), "</tool_response>", false) == 0;

        if (m[i].role == CHAT_USER && !wraps)
            return i;
    }
    return n - 1;
}

static enum status check(const struct family *f, const struct chat_message *m, size_t n,
                         bool has_system, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_INVALID, "a conversation without messages");
    for (size_t i = 0; i < n; i++) {
        const size_t turn = i - has_system;

        if (utf8_valid(m[i].text) != m[i].text.len)
            return err_set(e, ERR_MALFORMED, "message %zu is not UTF-8", i + 1);
        if (f->alternates && !(has_system && i == 0) &&
            m[i].role != (turn % 2 ? CHAT_ASSISTANT : CHAT_USER))
            return err_set(e, ERR_INVALID,
                           "message %zu is from '%s': chat template '%s' wants user and "
                           "assistant in turn",
                           i + 1, role_name[m[i].role], f->name);
    }
    return OK;
}

static void put_messages(struct render *r, const struct chat_message *m, size_t n,
                         bool has_system)
{
    const struct family *f = r->c->family;
    const size_t query = last_query(m, n);
    const struct bytes nothing = {0};

    put(r, f->begin);
    if (!has_system && f->default_system) {
        put(r, f->before_system);
        put(r, f->default_system);
        put(r, f->after_user);
    }
    for (size_t i = 0; i < n; i++) {
        const bool is_last = i + 1 == n;
        const bool takes_system = has_system && ((f->place == FIRST_USER && i == 1) ||
                                                 (f->place == LAST_USER && is_last));

        if (m[i].role == CHAT_ASSISTANT) {
            put_answer(r, m[i].text, i > query, is_last);
        } else if (m[i].role == CHAT_USER) {
            put_user(r, takes_system ? m[0].text : nothing, m[i].text);
        } else if (f->place == OWN_MESSAGE) {
            /* what a first one has in front, a later one has not: Llama 3.1's dates */
            put(r, i == 0 || !f->default_system || *f->default_system ? f->before_system
                                                                      : LLAMA3_ROLE("system"));
            put_text(r, f->trims_all ? trim(m[i].text) : m[i].text);
            put(r, f->after_user);
        }
    }
}

/* NOLINTBEGIN(readability-non-const-parameter,readability-function-size): written to through r */
enum status chat_render(const struct chat *c, const struct chat_message *messages,
                        size_t n_messages, bool add_generation_prompt, int32_t *ids,
                        uint8_t *is_answer, size_t cap, size_t *n, struct err *e)
{
    /* NOLINTEND(readability-non-const-parameter,readability-function-size) */
    struct render r = {.c = c, .ids = ids, .is_answer = is_answer, .cap = cap, .e = e};
    const bool has_system =
        n_messages > 0 && messages[0].role == CHAT_SYSTEM && c->family->place != NOWHERE;
    enum status st = check(c->family, messages, n_messages, has_system, e);

    *n = 0;
    if (st)
        return st;
    r.answer_at = SIZE_MAX;
    r.last = -1;
    buf_init(&r.text, TEXT_MAX);
    put_messages(&r, messages, n_messages, has_system);
    if (add_generation_prompt)
        put(&r, c->family->generation);
    flush(&r);
    buf_clear(&r.text);
    *n = r.n;
    return r.st;
}
