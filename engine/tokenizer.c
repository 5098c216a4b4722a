#include "engine/tokenizer.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "engine/hf_tokenizer.h"
#include "engine/json_text.h"
#include "engine/utf8.h"

#define TOKENIZER_JSON_MAX (64u << 20) /* the largest published ones have 33 MB */
#define SIDE_FILE_MAX      (4u << 20)
#define HELD_MAX           (64u << 20)
#define TOKENIZER_CONFIG   "tokenizer_config.json"
#define BYTE_SPECIALS      256 /* the first special id of the byte kind: bos, eos, pad */
#define CHAR_SPECIALS      3   /* pad, bos, eos come before the characters */

struct character {
    uint32_t point;
    int32_t id;
};

/* Files beside a tokenizer.json of Hugging Face's, kept as they are for saving. */
enum side_file { SIDE_CONFIG, SIDE_TEMPLATE, N_SIDE_FILES };
static const char *const side_name[N_SIDE_FILES] = {TOKENIZER_CONFIG, "chat_template.jinja"};

struct tokenizer {
    enum tokenizer_kind kind;
    size_t n_chars;
    uint32_t *points;         /* owned, by id - CHAR_SPECIALS */
    struct character *sorted; /* owned, by code point */
    struct hf_tokenizer *hf;  /* owned; kind BPE only */
    struct buf json;          /* BPE: what it was read from */
    struct buf side[N_SIDE_FILES];
    bool has_side[N_SIDE_FILES];
    int32_t eos, pad; /* BPE: as tokenizer_config.json has them */
};

/* "'x' (U+0078)" for messages; control characters are shown by number only. */
static enum status refuse_point(struct err *e, enum status st, const char *why, uint32_t point,
                                size_t at)
{
    struct buf text;

    buf_init(&text, 16);
    if (point >= 0x20 && point != 0x7f)
        utf8_put(&text, point);
    err_set(e, st, "character '%s' (U+%04" PRIX32 ") at byte %zu %s", buf_cstr(&text), point,
            at, why);
    buf_clear(&text);
    return st;
}

/* ---- making ---------------------------------------------------------------------------------- */

static int by_point(const void *a, const void *b)
{
    const struct character *x = a, *y = b;
    return x->point < y->point ? -1 : x->point > y->point;
}

static enum status read_alphabet(struct tokenizer *t, struct bytes alphabet, struct err *e)
{
    size_t at = 0;

    t->points = xcalloc(TOKENIZER_ALPHABET_MAX, sizeof(t->points[0]));
    t->sorted = xcalloc(TOKENIZER_ALPHABET_MAX, sizeof(t->sorted[0]));
    while (at < alphabet.len) {
        uint32_t point;

        if (t->n_chars == TOKENIZER_ALPHABET_MAX)
            return err_set(e, ERR_INVALID, "the alphabet has more than %u characters",
                           TOKENIZER_ALPHABET_MAX);
        if (!utf8_next(&point, alphabet, &at))
            return err_set(e, ERR_INVALID, "the alphabet is not UTF-8");
        t->points[t->n_chars] = point;
        t->sorted[t->n_chars].point = point;
        t->sorted[t->n_chars].id = (int32_t)(CHAR_SPECIALS + t->n_chars);
        t->n_chars++;
    }
    if (t->n_chars == 0)
        return err_set(e, ERR_INVALID, "the alphabet is empty");
    qsort(t->sorted, t->n_chars, sizeof(t->sorted[0]), by_point);
    for (size_t i = 1; i < t->n_chars; i++)
        if (t->sorted[i].point == t->sorted[i - 1].point)
            return refuse_point(e, ERR_INVALID, "is twice in the alphabet", t->sorted[i].point,
                                0);
    return OK;
}

static struct tokenizer *make(enum tokenizer_kind kind)
{
    struct tokenizer *t = xcalloc(1, sizeof(*t));

    t->kind = kind;
    t->eos = t->pad = -1;
    buf_init(&t->json, TOKENIZER_JSON_MAX);
    for (int i = 0; i < N_SIDE_FILES; i++)
        buf_init(&t->side[i], SIDE_FILE_MAX);
    return t;
}

enum status tokenizer_new(struct tokenizer **out, enum tokenizer_kind kind,
                          struct bytes alphabet, struct err *e)
{
    struct tokenizer *t = make(kind);
    enum status st = OK;

    *out = NULL;
    CHECK(kind != TOKENIZER_BPE);
    if (kind == TOKENIZER_CHAR)
        st = read_alphabet(t, alphabet, e);
    if (!st) {
        *out = t;
        t = NULL; /* it is the caller's now */
    }
    tokenizer_free(&t);
    return st;
}

void tokenizer_free(struct tokenizer **t)
{
    if (!*t)
        return;
    free((*t)->points);
    free((*t)->sorted);
    hf_free(&(*t)->hf);
    buf_clear(&(*t)->json);
    for (int i = 0; i < N_SIDE_FILES; i++)
        buf_clear(&(*t)->side[i]);
    free(*t);
    *t = NULL;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static enum status parse_root(struct tokenizer **out, const json_t *root, struct err *e)
{
    const char *type = json_string_value(json_object_get(root, "type"));
    const json_t *alphabet = json_object_get(root, "alphabet");
    bool is_byte = type && strcmp(type, "muster-byte") == 0;
    bool is_char = type && strcmp(type, "muster-char") == 0;

    if (!is_byte && !is_char)
        return err_set(e, ERR_UNSUPPORTED,
                       "tokenizer.json: type '%.32s' is not 'muster-byte' or 'muster-char'",
                       type ? type : "?");
    if (json_integer_value(json_object_get(root, "version")) != 1)
        return err_set(e, ERR_UNSUPPORTED, "tokenizer.json: version is not 1");
    if (json_object_size(root) != (is_byte ? 2u : 3u) || (is_char && !json_is_string(alphabet)))
        return err_set(e, ERR_MALFORMED, "tokenizer.json: wants type, version%s only",
                       is_byte ? "" : " and an alphabet as text,");
    if (is_byte)
        return tokenizer_new(out, TOKENIZER_BYTE, (struct bytes){0}, e);
    return tokenizer_new(out, TOKENIZER_CHAR,
                         (struct bytes){(const uint8_t *)json_string_value(alphabet),
                                        json_string_length(alphabet)},
                         e);
}

static enum status parse_hf(struct tokenizer **out, struct bytes json, struct err *e)
{
    struct tokenizer *t = make(TOKENIZER_BPE);
    enum status st = hf_parse(&t->hf, json, e);

    if (!st) {
        buf_append(&t->json, json);
        st = buf_status(&t->json, e);
    }
    if (!st) {
        *out = t;
        t = NULL; /* it is the caller's now */
    }
    tokenizer_free(&t);
    return st;
}

/* Ours are small; whatever else is a Hugging Face file, or nothing. */
#define OURS_MAX 65536u

enum status tokenizer_parse(struct tokenizer **out, struct bytes json, struct err *e)
{
    json_t *root;
    enum status st;

    *out = NULL;
    if (json.len > OURS_MAX)
        return parse_hf(out, json, e);
    st = json_text_read(&root, json, OURS_MAX, JSON_ALLOW_NUL, e);
    if (st)
        return err_prefix(e, st, "tokenizer.json");
    if (json_is_object(json_object_get(root, "model")))
        st = parse_hf(out, json, e);
    else
        st = parse_root(out, root, e);
    json_decref(root);
    return st;
}

void tokenizer_print(struct buf *out, const struct tokenizer *t)
{
    if (t->kind == TOKENIZER_BPE) {
        buf_append(out, buf_bytes(&t->json));
        return;
    }
    if (t->kind == TOKENIZER_BYTE) {
        buf_printf(out, "{\"type\": \"muster-byte\", \"version\": 1}\n");
        return;
    }
    buf_printf(out, "{\"type\": \"muster-char\", \"version\": 1, \"alphabet\": \"");
    for (size_t i = 0; i < t->n_chars; i++) {
        uint32_t c = t->points[i];

        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", (int)c);
        else if (c < 0x20)
            buf_printf(out, "\\u%04" PRIx32, c);
        else
            utf8_put(out, c);
    }
    buf_printf(out, "\"}\n");
}

static enum status read_side(struct tokenizer *t, enum side_file which, const char *dir,
                             struct err *e)
{
    char *path = file_join(dir, side_name[which]);
    enum status st = file_read(&t->side[which], path, e);

    t->has_side[which] = !st;
    free(path);
    return st == ERR_NOT_FOUND ? OK : st;
}

/* A special token in tokenizer_config.json is a string, or an object with its content. */
static enum status config_token(const struct tokenizer *t, const json_t *config,
                                const char *key, int32_t *id, struct err *e)
{
    const json_t *value = json_object_get(config, key);
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;

    if (!value || json_is_null(value))
        return OK;
    if (!json_is_string(text))
        return err_set(e, ERR_MALFORMED, "%s is no token", key);
    for (uint32_t i = 0; i < tokenizer_vocab(t) && *id < 0; i++)
        if (bytes_equal(tokenizer_string(t, (int32_t)i), bytes_str(json_string_value(text))))
            *id = (int32_t)i;
    if (*id < 0)
        return err_set(e, ERR_MALFORMED, "%s '%.64s' is no token", key,
                       json_string_value(text));
    return OK;
}

static enum status read_config(struct tokenizer *t, struct err *e)
{
    static const char *const keys[] = {"bos_token", "eos_token", "pad_token"};
    json_t *config;
    enum status st = json_text_read(&config, buf_bytes(&t->side[SIDE_CONFIG]),
                                    TOKENIZER_CONFIG_VALUES_MAX, TOKENIZER_CONFIG_FLAGS, e);

    if (!st)
        st = json_text_check_keys(config, keys, sizeof(keys) / sizeof(keys[0]), e);
    if (!st)
        st = config_token(t, config, "eos_token", &t->eos, e);
    if (!st)
        st = config_token(t, config, "pad_token", &t->pad, e);
    json_decref(config);
    return st ? err_prefix(e, st, TOKENIZER_CONFIG) : OK;
}

enum status tokenizer_load(struct tokenizer **out, const char *dir, struct err *e)
{
    char *path = file_join(dir, "tokenizer.json");
    struct buf text;
    enum status st;

    *out = NULL;
    buf_init(&text, TOKENIZER_JSON_MAX);
    st = file_check_dir(dir, "a model", e);
    if (!st)
        st = file_read(&text, path, e);
    if (!st)
        st = tokenizer_parse(out, buf_bytes(&text), e);
    for (int i = 0; i < N_SIDE_FILES && !st && (*out)->kind == TOKENIZER_BPE; i++)
        st = read_side(*out, i, dir, e);
    if (!st && (*out)->has_side[SIDE_CONFIG])
        st = read_config(*out, e);
    if (st)
        tokenizer_free(out);
    buf_clear(&text);
    free(path);
    return st;
}

static enum status save_file(const char *dir, const char *name, struct bytes data,
                             struct err *e)
{
    char *path = file_join(dir, name);
    enum status st = file_write_atomic(path, data, 0666, e);

    free(path);
    return st;
}

enum status tokenizer_save(const struct tokenizer *t, const char *dir, struct err *e)
{
    struct buf text;
    enum status st;

    buf_init(&text, TOKENIZER_JSON_MAX);
    tokenizer_print(&text, t);
    st = buf_status(&text, e);
    if (!st)
        st = file_mkdirs(dir, 0777, e);
    if (!st)
        st = save_file(dir, "tokenizer.json", buf_bytes(&text), e);
    for (int i = 0; i < N_SIDE_FILES && !st; i++)
        if (t->has_side[i])
            st = save_file(dir, side_name[i], buf_bytes(&t->side[i]), e);
    buf_clear(&text);
    return st;
}

/* ---- using ----------------------------------------------------------------------------------- */

enum tokenizer_kind tokenizer_kind(const struct tokenizer *t)
{
    return t->kind;
}

uint32_t tokenizer_vocab(const struct tokenizer *t)
{
    switch (t->kind) {
    case TOKENIZER_BYTE: return BYTE_SPECIALS + 3;
    case TOKENIZER_CHAR: return (uint32_t)(CHAR_SPECIALS + t->n_chars);
    case TOKENIZER_BPE: break;
    }
    return (uint32_t)t->hf->n_ids;
}

/* By kind. */
static int32_t special(const struct tokenizer *t, int32_t of_byte, int32_t of_char,
                       int32_t of_bpe)
{
    return t->kind == TOKENIZER_BYTE ? of_byte : t->kind == TOKENIZER_CHAR ? of_char : of_bpe;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return special(t, BYTE_SPECIALS, 1, t->hf ? t->hf->bos : -1);
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return special(t, BYTE_SPECIALS + 1, 2, t->eos);
}

int32_t tokenizer_pad(const struct tokenizer *t)
{
    return special(t, BYTE_SPECIALS + 2, 0, t->pad);
}

void tokenizer_set_eos(struct tokenizer *t, int32_t eos)
{
    CHECK(t->kind == TOKENIZER_BPE);
    t->eos = eos;
}

struct bytes tokenizer_string(const struct tokenizer *t, int32_t id)
{
    CHECK(id >= 0 && (uint32_t)id < tokenizer_vocab(t));
    return t->hf ? hf_string(t->hf, id) : (struct bytes){0};
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    CHECK(id >= 0 && (uint32_t)id < tokenizer_vocab(t));
    if (t->kind == TOKENIZER_BPE)
        return t->hf->flags[id] & HF_IS_SPECIAL;
    return t->kind == TOKENIZER_BYTE ? id >= BYTE_SPECIALS : id < CHAR_SPECIALS;
}

int32_t tokenizer_find_special(const struct tokenizer *t, const char *string)
{
    for (size_t i = 0; t->hf && i < t->hf->n_added; i++)
        if (t->hf->added[i].is_special &&
            bytes_equal(t->hf->added[i].content, bytes_str(string)))
            return t->hf->added[i].id;
    return -1;
}

/* One id from text[*at], moving *at past what it stands for. */
static enum status encode_one(const struct tokenizer *t, int32_t *id, struct bytes text,
                              size_t *at, struct err *e)
{
    size_t from = *at;
    struct character key = {0};
    const struct character *found;

    if (t->kind == TOKENIZER_BYTE) {
        *id = text.data[(*at)++];
        return OK;
    }
    if (!utf8_next(&key.point, text, at))
        return err_set(e, ERR_MALFORMED, "the text is not UTF-8 at byte %zu", from);
    found = bsearch(&key, t->sorted, t->n_chars, sizeof(t->sorted[0]), by_point);
    if (!found)
        return refuse_point(e, ERR_INVALID, "is not in the tokenizer's alphabet", key.point,
                            from);
    *id = found->id;
    return OK;
}

static enum status not_utf8(struct bytes text, struct err *e)
{
    size_t good = utf8_valid(text);

    return good == text.len
               ? OK
               : err_set(e, ERR_MALFORMED, "the text is not UTF-8 at byte %zu", good);
}

static enum status encode_pieces(const struct tokenizer *t,
                                 const struct tokenizer_piece *pieces, size_t n_pieces,
                                 bool reads_specials, struct bpe_out *out, struct err *e)
{
    bool is_first = true;
    enum status st = OK;

    for (size_t i = 0; i < n_pieces && !st; i++) {
        const struct tokenizer_piece *p = &pieces[i];
        size_t at = 0;

        if (p->id < 0 && t->kind == TOKENIZER_BPE) {
            st = not_utf8(p->text, e);
            if (!st)
                st = hf_encode(t->hf, p->text, is_first, reads_specials, out, e);
            is_first = is_first && p->text.len == 0;
            continue;
        }
        is_first = false;
        while (!st && (p->id >= 0 ? at == 0 : at < p->text.len)) {
            int32_t id = p->id;

            if (id < 0)
                st = encode_one(t, &id, p->text, &at, e);
            else
                at = 1;
            if (!st && out->n == out->cap)
                st = err_set(e, ERR_LIMIT, "the text is longer than %zu tokens", out->cap);
            if (!st)
                out->ids[out->n++] = id;
        }
    }
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, struct bytes text, int32_t *ids,
                             size_t cap, size_t *n, struct err *e)
{
    const struct tokenizer_piece piece = {-1, text};

    return tokenizer_encode_pieces(t, &piece, 1, ids, cap, n, e);
}

enum status tokenizer_encode_pieces(const struct tokenizer *t,
                                    const struct tokenizer_piece *pieces, size_t n_pieces,
                                    int32_t *ids, size_t cap, size_t *n, struct err *e)
{
    struct bpe_out out = {ids, 0, cap};
    enum status st = encode_pieces(t, pieces, n_pieces, false, &out, e);

    *n = out.n;
    return st;
}

enum status tokenizer_encode_trusted(const struct tokenizer *t, struct bytes text, int32_t *ids,
                                     size_t cap, size_t *n, struct err *e)
{
    const struct tokenizer_piece piece = {-1, text};
    struct bpe_out out = {ids, 0, cap};
    enum status st = encode_pieces(t, &piece, 1, true, &out, e);

    *n = out.n;
    return st;
}

/* ---- decoding -------------------------------------------------------------------------------- */

void tokenizer_stream_init(struct tokenizer_stream *s, const struct tokenizer *t)
{
    memset(s, 0, sizeof(*s));
    s->t = t;
    s->n_strip = t->hf ? t->hf->n_strip : 0;
    buf_init(&s->held, HELD_MAX);
}

void tokenizer_stream_clear(struct tokenizer_stream *s)
{
    buf_clear(&s->held);
    tokenizer_stream_init(s, s->t);
}

/* Text of the bpe kind, less what is stripped from its start. */
static void put_text(struct tokenizer_stream *s, struct buf *out, struct bytes text)
{
    const struct hf_text *strip = s->n_strip > 0 ? &s->t->hf->strip : NULL;

    while (s->n_strip > 0 && text.len > 0) {
        if (text.len < strip->len || memcmp(text.data, strip->at, strip->len) != 0) {
            s->n_strip = 0;
            break;
        }
        text.data += strip->len;
        text.len -= strip->len;
        s->n_strip--;
    }
    buf_append(out, text);
}

/* Bytes that may end inside a character: what is whole goes out. */
static void put_bytes(struct tokenizer_stream *s, struct buf *out, struct bytes text,
                      bool is_end)
{
    size_t whole;

    if (s->held.len == 0 && utf8_valid(text) == text.len) {
        buf_append(out, text);
        return;
    }
    buf_append(&s->held, text);
    whole = is_end ? s->held.len : utf8_whole(buf_bytes(&s->held));
    if (s->t->kind == TOKENIZER_BPE)
        utf8_put_lossy(out, (struct bytes){s->held.data, whole});
    else
        buf_append(out, (struct bytes){s->held.data, whole});
    memmove(s->held.data, s->held.data + whole, s->held.len - whole);
    s->held.len -= whole;
}

/* The end of a run of byte fallback: a text, or as many U+FFFD as it has bytes. */
static void end_run(struct tokenizer_stream *s, struct buf *out)
{
    const struct bytes run = buf_bytes(&s->held);
    bool is_text = utf8_valid(run) == run.len;

    for (size_t i = 0; i < run.len && !is_text; i++)
        put_text(s, out, BYTES_LIT(UTF8_REPLACEMENT));
    if (is_text && run.len > 0)
        put_text(s, out, run);
    s->held.len = 0;
}

/* Metaspace: marks become spaces, or nothing in the first token of a text. */
static void put_marked(struct tokenizer_stream *s, struct buf *out, struct bytes text)
{
    const struct hf_text *mark = &s->t->hf->decoder_mark;
    bool drops = !s->has_begun && s->t->hf->drops_first_mark;

    for (size_t at = 0; at < text.len;) {
        bool hit = text.len - at >= mark->len && !memcmp(text.data + at, mark->at, mark->len);

        if (!hit)
            buf_put_u8(out, text.data[at]);
        else if (!drops)
            buf_put_u8(out, ' ');
        at += hit ? mark->len : 1;
    }
}

static void push_bpe(struct tokenizer_stream *s, struct buf *out, int32_t id)
{
    const struct hf_tokenizer *h = s->t->hf;
    const uint8_t flags = h->flags[id];

    if (flags & HF_IS_SPECIAL || !(flags & HF_IS_TOKEN))
        return;
    if (h->decoder == HF_BYTES) {
        put_bytes(s, out, hf_says(h, id), false);
    } else if (h->decoder == HF_MARKS) {
        put_marked(s, out, hf_says(h, id));
    } else if (flags & HF_IS_BYTE) {
        buf_append(&s->held, hf_says(h, id));
    } else {
        end_run(s, out);
        put_text(s, out, hf_says(h, id));
    }
    s->has_begun = true;
}

enum status tokenizer_stream_push(struct tokenizer_stream *s, struct buf *out, int32_t id,
                                  struct err *e)
{
    const struct tokenizer *t = s->t;

    if (id < 0 || (uint32_t)id >= tokenizer_vocab(t))
        return err_set(e, ERR_INVALID,
                       "token %" PRId32 " is outside the vocabulary of %" PRIu32, id,
                       tokenizer_vocab(t));
    if (t->kind == TOKENIZER_BPE) {
        push_bpe(s, out, id);
    } else if (t->kind == TOKENIZER_BYTE && id < BYTE_SPECIALS) {
        uint8_t byte = (uint8_t)id;

        put_bytes(s, out, BYTES_OF(byte), false);
    } else if (t->kind == TOKENIZER_CHAR && id >= CHAR_SPECIALS) {
        utf8_put(out, t->points[id - CHAR_SPECIALS]);
    }
    if (s->held.bad)
        return buf_status(&s->held, e);
    return buf_status(out, e);
}

enum status tokenizer_stream_flush(struct tokenizer_stream *s, struct buf *out, struct err *e)
{
    if (s->t->hf && s->t->hf->decoder == HF_PIECES)
        end_run(s, out);
    else if (s->held.len > 0)
        put_bytes(s, out, (struct bytes){0}, true);
    tokenizer_stream_clear(s);
    return buf_status(out, e);
}

enum status tokenizer_decode(struct buf *out, const struct tokenizer *t, const int32_t *ids,
                             size_t n, struct err *e)
{
    struct tokenizer_stream s;
    enum status st = OK;

    tokenizer_stream_init(&s, t);
    for (size_t i = 0; i < n && !st; i++)
        st = tokenizer_stream_push(&s, out, ids[i], e);
    if (!st)
        st = tokenizer_stream_flush(&s, out, e);
    tokenizer_stream_clear(&s);
    return st;
}
