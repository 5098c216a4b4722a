/* Reads tokenizer.json into a struct hf_tokenizer (engine/hf_tokenizer.h). */
#include "engine/hf_tokenizer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "engine/utf8.h"

/* A published vocabulary of 256k words has 3M values. Each costs some hundred bytes while the file
 * is read, so that more are not even begun. */
#define VALUES_MAX (1u << 22)
#define FILE_IS    "tokenizer.json: "

struct parser {
    struct hf_tokenizer *h;
    const json_t *model;
    size_t n_vocab; /* words of the model */
    int32_t
        *byte_of;  /* owned: the byte that a character of the byte alphabet stands for, or -1 */
    bool by_bytes; /* the pre-tokenizer maps bytes to that alphabet */
    struct err *e;
};

#define ALPHABET_POINTS 324u /* the byte alphabet lies below U+0144 */

static enum status unsupported(struct parser *p, const char *what, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    enum status st = err_set(p->e, ERR_UNSUPPORTED, FILE_IS "%s %.200s is not supported", what,
                             text ? text : "that is missing");

    free(text);
    return st;
}

static enum status malformed(struct parser *p, const char *what)
{
    return err_set(p->e, ERR_MALFORMED, FILE_IS "%s", what);
}

static bool is_listed(const char *words, const char *word)
{
    const size_t n = strlen(word);

    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " ");

        if (len == n && memcmp(at, word, n) == 0)
            return true;
        at += len + (at[len] == ' ');
    }
    return false;
}

/* Holds the object to the keys listed (space-separated). A key with a null is as if absent. */
static enum status only_keys(struct parser *p, const char *what, const json_t *object,
                             const char *keys)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        if (!json_is_null(value) && !is_listed(keys, key))
            return err_set(p->e, ERR_UNSUPPORTED, FILE_IS "%s with '%.64s' is not supported",
                           what, key);
    }
    return OK;
}

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));

    return type ? type : "";
}

static bool is_type(const json_t *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

static struct bytes string_of(const json_t *value)
{
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

static enum status get_text(struct parser *p, struct hf_text *out, const json_t *object,
                            const char *key)
{
    const json_t *value = json_object_get(object, key);
    const struct bytes text = string_of(value);

    if (!json_is_string(value) || text.len > HF_SETTING_MAX)
        return unsupported(p, key, value);
    memcpy(out->at, text.data, text.len);
    out->len = text.len;
    return OK;
}

static enum status get_bool(struct parser *p, bool *out, const json_t *object, const char *key,
                            bool absent)
{
    const json_t *value = json_object_get(object, key);

    *out = value && !json_is_null(value) ? json_is_true(value) : absent;
    if (value && !json_is_null(value) && !json_is_boolean(value))
        return unsupported(p, key, value);
    return OK;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static enum status parse_replace(struct parser *p, struct hf_text *from, struct hf_text *to,
                                 const json_t *j)
{
    enum status st = only_keys(p, "Replace", j, "type pattern content");

    if (!st)
        st = get_text(p, to, j, "content");
    if (!st && !json_is_string(json_object_get(json_object_get(j, "pattern"), "String")))
        st = unsupported(p, "pattern", json_object_get(j, "pattern"));
    if (!st)
        st = get_text(p, from, json_object_get(j, "pattern"), "String");
    if (!st && from->len == 0)
        st = malformed(p, "Replace of nothing");
    return st;
}

static enum status parse_normalizer(struct parser *p, const json_t *j)
{
    static const char *const composed[] = {
        [HF_NFC] = "NFC", [HF_NFD] = "NFD", [HF_NFKC] = "NFKC", [HF_NFKD] = "NFKD"};
    struct hf_normalizer n = {0};
    bool is_known = false;
    enum status st = OK;

    if (is_type(j, "Sequence")) {
        const json_t *list = json_object_get(j, "normalizers");

        st = only_keys(p, "a Sequence of normalizers", j, "type normalizers");
        if (!st && !json_is_array(list))
            st = malformed(p, "a Sequence without normalizers");
        for (size_t i = 0; i < json_array_size(list) && !st; i++)
            st = is_type(json_array_get(list, i), "Sequence")
                     ? unsupported(p, "a Sequence in a Sequence of normalizers", NULL)
                     : parse_normalizer(p, json_array_get(list, i));
        return st;
    }
    for (int i = HF_NFC; i <= HF_NFKD; i++) {
        if (is_type(j, composed[i])) {
            n.kind = i;
            is_known = true;
            st = only_keys(p, composed[i], j, "type");
        }
    }
    if (is_type(j, "Prepend")) {
        n.kind = HF_PREPEND;
        is_known = true;
        st = only_keys(p, "Prepend", j, "type prepend");
        if (!st)
            st = get_text(p, &n.to, j, "prepend");
    } else if (is_type(j, "Replace")) {
        n.kind = HF_REPLACE;
        is_known = true;
        st = parse_replace(p, &n.from, &n.to, j);
    }
    if (!is_known)
        return unsupported(p, "normalizer", j);
    if (!st && p->h->n_normalizers == HF_STEPS_MAX)
        st = err_set(p->e, ERR_UNSUPPORTED, FILE_IS "more than %u normalizers", HF_STEPS_MAX);
    if (!st)
        p->h->normalizer[p->h->n_normalizers++] = n;
    return st;
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

static enum status add_step(struct parser *p, const struct hf_step *s)
{
    for (size_t i = 0; i < p->h->n_steps; i++)
        if (s->kind == p->h->step[i].kind &&
            (s->kind == HF_PREFIX_SPACE || s->kind == HF_METASPACE))
            return err_set(p->e, ERR_UNSUPPORTED, FILE_IS "two pre-tokenizers of one kind");
    if (p->h->n_steps == HF_STEPS_MAX)
        return err_set(p->e, ERR_UNSUPPORTED, FILE_IS "more than %u pre-tokenizers",
                       HF_STEPS_MAX);
    p->h->step[p->h->n_steps++] = *s;
    return OK;
}

static enum status parse_byte_level(struct parser *p, const json_t *j)
{
    const struct hf_step prefix = {.kind = HF_PREFIX_SPACE};
    const struct hf_step cut = {.kind = HF_CUT, .cut = pretokenize_gpt2};
    bool has_prefix, has_regex;
    enum status st =
        only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");

    if (!st)
        st = get_bool(p, &has_prefix, j, "add_prefix_space", true);
    if (!st)
        st = get_bool(p, &has_regex, j, "use_regex", true);
    if (!st && has_prefix)
        st = add_step(p, &prefix);
    if (!st && has_regex)
        st = add_step(p, &cut);
    p->by_bytes = true;
    return st;
}

static enum status parse_metaspace(struct parser *p, const json_t *j)
{
    static const char *const schemes[] = {
        [HF_NEVER] = "never", [HF_FIRST] = "first", [HF_ALWAYS] = "always"};
    const json_t *scheme = json_object_get(j, "prepend_scheme");
    struct hf_step meta = {.kind = HF_METASPACE, .prepend = HF_ALWAYS};
    struct hf_step split = {.kind = HF_SPLIT, .place = HF_WITH_NEXT};
    bool has_prefix, is_known = !scheme, splits;
    enum status st = only_keys(
        p, "Metaspace", j, "type replacement prepend_scheme split add_prefix_space str_rep");

    for (int i = HF_NEVER; i <= HF_ALWAYS && scheme; i++) {
        if (json_is_string(scheme) && !strcmp(json_string_value(scheme), schemes[i])) {
            meta.prepend = i;
            is_known = true;
        }
    }
    if (!st && !is_known)
        st = unsupported(p, "prepend_scheme", scheme);
    if (!st)
        st = get_bool(p, &has_prefix, j, "add_prefix_space", true);
    if (!st && !has_prefix)
        meta.prepend = HF_NEVER;
    if (!st)
        st = get_bool(p, &splits, j, "split", true);
    if (!st)
        st = get_text(p, &meta.mark, j, "replacement");
    if (!st && meta.mark.len == 0)
        st = malformed(p, "Metaspace without a replacement");
    split.mark = meta.mark;
    if (!st)
        st = add_step(p, &meta);
    if (!st && splits)
        st = add_step(p, &split);
    return st;
}

static enum status parse_split(struct parser *p, const json_t *j)
{
    static const struct {
        const char *name;
        int place;
    } places[] = {{"Isolated", HF_ISOLATED},
                  {"Removed", HF_REMOVED},
                  {"MergedWithPrevious", HF_WITH_PREVIOUS},
                  {"MergedWithNext", HF_WITH_NEXT}};
    const json_t *pattern = json_object_get(j, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const char *behavior = json_string_value(json_object_get(j, "behavior"));
    struct hf_step s = {.kind = HF_SPLIT, .place = HF_WHOLE};
    bool invert;
    enum status st = only_keys(p, "Split", j, "type pattern behavior invert");

    if (!st)
        st = get_bool(p, &invert, j, "invert", false);
    if (st)
        return st;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (behavior && !strcmp(behavior, places[i].name))
            s.place = places[i].place;
    if (json_is_string(regex)) {
        s.kind = HF_CUT;
        s.cut = pretokenize_find(string_of(regex));
        /* These match all of a text: to keep the matches is to drop what is between. */
        if (!s.cut || !(invert ? s.place == HF_REMOVED : s.place == HF_ISOLATED))
            return unsupported(p, "Split", j);
        return add_step(p, &s);
    }
    if (s.place == HF_WHOLE || invert)
        return unsupported(p, "Split", j);
    st = get_text(p, &s.mark, pattern, "String");
    if (!st && s.mark.len == 0)
        st = malformed(p, "Split at nothing");
    return st ? st : add_step(p, &s);
}

static enum status parse_pre_tokenizer(struct parser *p, const json_t *j)
{
    bool single;
    enum status st = OK;

    if (p->by_bytes)
        return err_set(p->e, ERR_UNSUPPORTED, FILE_IS "a pre-tokenizer after ByteLevel");
    if (is_type(j, "ByteLevel"))
        return parse_byte_level(p, j);
    if (is_type(j, "Metaspace"))
        return parse_metaspace(p, j);
    if (is_type(j, "Split"))
        return parse_split(p, j);
    if (is_type(j, "Digits")) {
        st = only_keys(p, "Digits", j, "type individual_digits");
        if (!st)
            st = get_bool(p, &single, j, "individual_digits", false);
        if (st)
            return st;
        const struct hf_step s = {.kind = HF_CUT,
                                  .cut = single ? pretokenize_digit : pretokenize_digits};
        return add_step(p, &s);
    }
    if (is_type(j, "Sequence")) {
        const json_t *list = json_object_get(j, "pretokenizers");

        st = only_keys(p, "a Sequence of pre-tokenizers", j, "type pretokenizers");
        if (!st && !json_is_array(list))
            st = malformed(p, "a Sequence without pretokenizers");
        for (size_t i = 0; i < json_array_size(list) && !st; i++)
            st = is_type(json_array_get(list, i), "Sequence")
                     ? unsupported(p, "a Sequence in a Sequence of pre-tokenizers", NULL)
                     : parse_pre_tokenizer(p, json_array_get(list, i));
        return st;
    }
    return unsupported(p, "pre_tokenizer", j);
}

/* ---- words ----------------------------------------------------------------------------------- */

/* GPT-2's alphabet: bytes that print stand for themselves, the others for U+0100 and on. */
static void make_alphabet(int32_t *byte_of)
{
    int32_t next = 256;

    for (size_t i = 0; i < ALPHABET_POINTS; i++)
        byte_of[i] = -1;
    for (int32_t b = 0; b < 256; b++) {
        bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

        byte_of[prints ? b : next++] = b;
    }
}

/* The bytes that a token string stands for in the byte alphabet. False: it has other characters. */
static bool put_bytes(struct buf *out, const int32_t *byte_of, struct bytes word)
{
    const size_t before = out->len;
    size_t at = 0;

    while (at < word.len) {
        uint32_t c = utf8_get(word.data, &at);

        if (c >= ALPHABET_POINTS || byte_of[c] < 0) {
            out->len = before;
            return false;
        }
        buf_put_u8(out, (uint8_t)byte_of[c]);
    }
    return true;
}

static enum status check_id(struct parser *p, const json_t *value, const char *word,
                            int32_t *id)
{
    json_int_t v = json_integer_value(value);

    if (!json_is_integer(value) || v < 0 || v >= (json_int_t)BPE_MAX_IDS)
        return err_set(p->e, ERR_MALFORMED, FILE_IS "'%.64s' has no id below %u", word,
                       BPE_MAX_IDS);
    *id = (int32_t)v;
    return OK;
}

static enum status added_id(struct parser *p, const json_t *vocab, const struct hf_added *a,
                            int32_t top, int32_t *want)
{
    const struct bytes c = a->content;
    const json_t *known = json_object_getn(vocab, (const char *)c.data, c.len);

    if (known)
        return check_id(p, known, (const char *)c.data, want);
    *want = top >= (int32_t)p->n_vocab ? top + 1 : (int32_t)p->n_vocab;
    return OK;
}

/* Added tokens. The reference gives them ids by a rule of its own and not by the file; a file that
 * says otherwise would be read differently here and there. */
static enum status parse_added(struct parser *p, const json_t *list)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    struct hf_tokenizer *h = p->h;
    int32_t top = -1;
    enum status st;

    if (list && !json_is_null(list) && !json_is_array(list))
        return malformed(p, "added_tokens is no list");
    if (json_array_size(list) > HF_ADDED_MAX)
        return err_set(p->e, ERR_LIMIT, FILE_IS "more than %u added tokens", HF_ADDED_MAX);
    st = alloc_array(&h->added, json_array_size(list) + 1, sizeof(*h->added), "added tokens",
                     p->e);
    for (size_t i = 0; i < json_array_size(list) && !st; i++) {
        const json_t *j = json_array_get(list, i);
        struct hf_added *a = &h->added[h->n_added];
        int32_t want = 0;

        a->content = string_of(json_object_get(j, "content"));
        if (!json_is_string(json_object_get(j, "content")) || a->content.len == 0)
            return malformed(p, "an added token without content");
        if (a->content.len > HF_CONTENT_MAX)
            return err_set(p->e, ERR_LIMIT, FILE_IS "an added token of more than %u bytes",
                           HF_CONTENT_MAX);
        st = only_keys(p, "an added token", j,
                       "id content single_word lstrip rstrip normalized special");
        if (!st)
            st = check_id(p, json_object_get(j, "id"), (const char *)a->content.data, &a->id);
        if (!st)
            st = get_bool(p, &a->is_special, j, "special", false);
        if (!st)
            st = get_bool(p, &a->normalized, j, "normalized", !a->is_special);
        if (!st)
            st = get_bool(p, &a->single_word, j, "single_word", false);
        if (!st)
            st = get_bool(p, &a->lstrip, j, "lstrip", false);
        if (!st)
            st = get_bool(p, &a->rstrip, j, "rstrip", false);
        if (!st)
            st = added_id(p, vocab, a, top, &want);
        if (!st && want != a->id)
            st = err_set(p->e, ERR_UNSUPPORTED,
                         FILE_IS "added token '%.64s' has id %" PRId32
                                 ", and the reference would give it %" PRId32,
                         (const char *)a->content.data, a->id, want);
        top = a->id > top ? a->id : top;
        h->n_added++;
    }
    return st;
}

/* Strings by id: `word` gets those of the model, and of added tokens where the model has none. */
static enum status place_words(struct parser *p, struct bytes **word, struct err *e)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    struct hf_tokenizer *h = p->h;
    const char *key;
    json_t *value;
    int32_t id = 0, top = -1;
    enum status st = OK;

    json_object_foreach((json_t *)vocab, key, value)
    {
        st = check_id(p, value, key, &id);
        if (st)
            return st;
        top = id > top ? id : top;
    }
    for (size_t i = 0; i < h->n_added; i++)
        top = h->added[i].id > top ? h->added[i].id : top;
    h->n_ids = (size_t)(top + 1);
    st = alloc_array(word, h->n_ids + 1, sizeof(**word), "a vocabulary", e);
    if (!st)
        st = alloc_array(&h->flags, h->n_ids + 1, 1, "a vocabulary", e);
    if (st)
        return st;
    for (void *it = json_object_iter((json_t *)vocab); it;
         it = json_object_iter_next((json_t *)vocab, it)) {
        id = (int32_t)json_integer_value(json_object_iter_value(it));
        if (h->flags[id] & HF_IS_TOKEN)
            return err_set(e, ERR_MALFORMED, FILE_IS "two words have id %" PRId32, id);
        h->flags[id] |= HF_IS_TOKEN;
        (*word)[id] = (struct bytes){(const uint8_t *)json_object_iter_key(it),
                                     json_object_iter_key_len(it)};
    }
    for (size_t i = 0; i < h->n_added; i++) {
        const struct hf_added *a = &h->added[i];

        h->flags[a->id] |= HF_IS_TOKEN | (a->is_special ? HF_IS_SPECIAL : 0);
        if (!(*word)[a->id].data)
            (*word)[a->id] = a->content;
    }
    return OK;
}

/* Copies the strings out of the JSON, which will be gone. */
static enum status keep_strings(struct parser *p, const struct bytes *word)
{
    struct hf_tokenizer *h = p->h;
    enum status st =
        alloc_array(&h->string_at, h->n_ids + 1, sizeof(*h->string_at), "a vocabulary", p->e);

    for (size_t id = 0; id < h->n_ids && !st; id++) {
        h->string_at[id] = h->strings.len;
        buf_append(&h->strings, word[id]);
        h->string_at[id + 1] = h->strings.len;
    }
    if (!st)
        st = buf_status(&h->strings, p->e);
    for (size_t i = 0; i < h->n_added && !st; i++)
        h->added[i].content = hf_string(h, h->added[i].id);
    return st;
}

/* ---- model ----------------------------------------------------------------------------------- */

/* One merge, "a b" or ["a", "b"]. */
static enum status read_merge(struct parser *p, const json_t *j, struct bytes *left,
                              struct bytes *right)
{
    *left = string_of(json_array_get(j, 0));
    *right = string_of(json_array_get(j, 1));
    if (json_is_string(j)) {
        const struct bytes both = string_of(j);
        const uint8_t *space = memchr(both.data, ' ', both.len);
        size_t n = space ? (size_t)(space - both.data) : both.len;

        if (!space || memchr(space + 1, ' ', both.len - n - 1))
            return malformed(p, "a merge is not two words");
        *left = (struct bytes){both.data, n};
        *right = (struct bytes){space + 1, both.len - n - 1};
        return OK;
    }
    if (json_array_size(j) != 2 || !json_is_string(json_array_get(j, 0)) ||
        !json_is_string(json_array_get(j, 1)))
        return malformed(p, "a merge is not two words");
    return OK;
}

static enum status find_word(struct parser *p, const json_t *vocab, struct bytes word,
                             int32_t *id)
{
    const json_t *value = json_object_getn(vocab, (const char *)word.data, word.len);

    if (!value || word.len == 0)
        return err_set(p->e, ERR_MALFORMED, FILE_IS "a merge names '%.*s', which is no word",
                       word.len > 64 ? 64 : (int)word.len, (const char *)word.data);
    *id = (int32_t)json_integer_value(value);
    return OK;
}

static enum status parse_merges(struct parser *p, struct bpe_spec *spec,
                                struct bpe_merge **merges)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    const json_t *list = json_object_get(p->model, "merges");
    size_t n = json_array_size(list);
    struct buf both;
    enum status st;

    if (!json_is_array(list) || n > BPE_MAX_MERGES)
        return malformed(p, "the model has no list of merges");
    st = alloc_array(merges, n + 1, sizeof(**merges), "merges", p->e);
    buf_init(&both, 1u << 20);
    for (size_t i = 0; i < n && !st; i++) {
        struct bpe_merge *m = *merges + i;
        struct bytes left, right;

        st = read_merge(p, json_array_get(list, i), &left, &right);
        if (!st)
            st = find_word(p, vocab, left, &m->left);
        if (!st)
            st = find_word(p, vocab, right, &m->right);
        if (st)
            break;
        buf_reset(&both);
        buf_append(&both, left);
        buf_append(&both, right);
        st = buf_status(&both, p->e);
        if (!st)
            st = find_word(p, vocab, buf_bytes(&both), &m->result);
    }
    buf_clear(&both);
    spec->merges = *merges;
    spec->n_merges = n;
    return st;
}

static enum status parse_model_flags(struct parser *p, struct bpe_spec *spec)
{
    const json_t *m = p->model, *vocab = json_object_get(m, "vocab");
    const json_t *unk = json_object_get(m, "unk_token");
    const json_t *dropout = json_object_get(m, "dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    enum status st = get_bool(p, &spec->fuse_unk, m, "fuse_unk", false);

    if (!st)
        st = get_bool(p, &spec->byte_fallback, m, "byte_fallback", false);
    if (!st)
        st = get_bool(p, &spec->ignore_merges, m, "ignore_merges", false);
    if (!st && dropout && !json_is_null(dropout) && json_number_value(dropout) != 0.0)
        st = unsupported(p, "dropout", dropout);
    for (size_t i = 0; i < 2 && !st; i++) {
        const json_t *affix = json_object_get(m, affixes[i]);

        if (affix && !json_is_null(affix) && json_string_length(affix) != 0)
            st = unsupported(p, affixes[i], affix);
    }
    spec->unk = -1;
    if (st || !unk || json_is_null(unk))
        return st;
    unk = json_is_string(unk)
              ? json_object_getn(vocab, json_string_value(unk), json_string_length(unk))
              : NULL;
    if (!unk)
        return malformed(p, "unk_token is no word");
    spec->unk = (int32_t)json_integer_value(unk);
    return OK;
}

/* The ids of single bytes: of the byte alphabet's characters, or of "<0x00>" to "<0xFF>". */
static void find_bytes(struct parser *p, struct bpe_spec *spec)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    struct buf name;

    buf_init(&name, 16);
    for (size_t b = 0; b < 256; b++)
        spec->byte_id[b] = -1;
    for (uint32_t i = 0; i < (p->by_bytes ? ALPHABET_POINTS : 256u); i++) {
        if (p->by_bytes && p->byte_of[i] < 0)
            continue;
        buf_reset(&name);
        if (p->by_bytes)
            utf8_put(&name, i);
        else
            buf_printf(&name, "<0x%02X>", i);
        const json_t *value = json_object_getn(vocab, (const char *)name.data, name.len);
        if (value)
            spec->byte_id[p->by_bytes ? (uint32_t)p->byte_of[i] : i] =
                (int32_t)json_integer_value(value);
    }
    buf_clear(&name);
}

/* The words as text has them: for bytes out of the byte alphabet, into `text`. A word that only an
 * added token gives is none of the model's. */
static enum status text_words(struct parser *p, struct bytes *word, struct buf *text)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    const struct hf_tokenizer *h = p->h;
    size_t at = 0;
    enum status st;

    for (size_t i = 0; i < h->n_added; i++) {
        const struct bytes c = h->added[i].content;

        if (!json_object_getn(vocab, (const char *)c.data, c.len))
            word[h->added[i].id] = (struct bytes){0};
    }
    if (!p->by_bytes)
        return OK;
    for (size_t id = 0; id < h->n_ids; id++) {
        size_t before = text->len;

        if (word[id].len == 0 || !put_bytes(text, p->byte_of, word[id]))
            word[id] = (struct bytes){0};
        else
            word[id].len = text->len - before;
    }
    st = buf_status(text, p->e);
    for (size_t id = 0; id < h->n_ids && !st; id++) {
        if (word[id].data)
            word[id].data = text->data + at;
        at += word[id].len;
    }
    return st;
}

static enum status parse_model(struct parser *p, struct bytes *word)
{
    struct bpe_spec spec = {.words = word, .n_words = p->h->n_ids, .by_bytes = p->by_bytes};
    struct bpe_merge *merges = NULL;
    struct buf text;
    enum status st = parse_model_flags(p, &spec);

    buf_init(&text, p->h->strings.max);
    if (!st)
        st = parse_merges(p, &spec, &merges);
    if (!st) {
        find_bytes(p, &spec);
        st = text_words(p, word, &text);
    }
    if (!st)
        st = bpe_new(&p->h->bpe, &spec, p->e);
    buf_clear(&text);
    free(merges);
    return st;
}

/* ---- decoder and post-processor -------------------------------------------------------------- */

struct decoding {
    struct {
        struct hf_text from, to;
    } replace[HF_STEPS_MAX];
    size_t n_replace;
    bool has_fallback, has_fuse;
};

static enum status parse_piece_decoder(struct parser *p, struct decoding *d, const json_t *j)
{
    enum status st = OK;

    if (is_type(j, "Replace") && !d->has_fallback && d->n_replace < HF_STEPS_MAX) {
        st = parse_replace(p, &d->replace[d->n_replace].from, &d->replace[d->n_replace].to, j);
        d->n_replace++;
    } else if (is_type(j, "ByteFallback") && !d->has_fallback && !d->has_fuse) {
        st = only_keys(p, "ByteFallback", j, "type");
        d->has_fallback = true;
    } else if (is_type(j, "Fuse") && !d->has_fuse) {
        st = only_keys(p, "Fuse", j, "type");
        d->has_fuse = true;
    } else if (is_type(j, "Strip") && d->has_fuse && p->h->strip.len == 0) {
        const json_t *start = json_object_get(j, "start"), *stop = json_object_get(j, "stop");

        st = only_keys(p, "Strip", j, "type content start stop");
        if (!st)
            st = get_text(p, &p->h->strip, j, "content");
        if (!st && (p->h->strip.len == 0 || json_integer_value(stop) != 0 ||
                    json_integer_value(start) < 0))
            st = unsupported(p, "decoder", j);
        p->h->n_strip = (size_t)json_integer_value(start);
    } else {
        st = unsupported(p, "decoder", j);
    }
    return st;
}

static enum status parse_decoder(struct parser *p, struct decoding *d, const json_t *j)
{
    const json_t *list = json_object_get(j, "decoders");
    const json_t *scheme = json_object_get(j, "prepend_scheme");
    bool has_prefix;
    enum status st = OK;

    if (is_type(j, "ByteLevel")) {
        p->h->decoder = HF_BYTES;
        return only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");
    }
    if (is_type(j, "Metaspace")) {
        p->h->decoder = HF_MARKS;
        st = only_keys(p, "Metaspace", j,
                       "type replacement prepend_scheme split add_prefix_space str_rep");
        if (!st)
            st = get_bool(p, &has_prefix, j, "add_prefix_space", true);
        if (!st)
            st = get_text(p, &p->h->decoder_mark, j, "replacement");
        if (!st && p->h->decoder_mark.len == 0)
            st = malformed(p, "Metaspace without a replacement");
        p->h->drops_first_mark =
            !st && has_prefix &&
            !(json_is_string(scheme) && !strcmp(json_string_value(scheme), "never"));
        return st;
    }
    p->h->decoder = HF_PIECES;
    if (!is_type(j, "Sequence"))
        return parse_piece_decoder(p, d, j);
    st = only_keys(p, "a Sequence of decoders", j, "type decoders");
    if (!st && (!json_is_array(list) || json_array_size(list) == 0))
        st = malformed(p, "a Sequence without decoders");
    if (!st && json_array_size(list) == 1)
        return is_type(json_array_get(list, 0), "Sequence")
                   ? unsupported(p, "a Sequence in a Sequence of decoders", NULL)
                   : parse_decoder(p, d, json_array_get(list, 0));
    for (size_t i = 0; i < json_array_size(list) && !st; i++)
        st = parse_piece_decoder(p, d, json_array_get(list, i));
    return st;
}

/* "<0x41>" is the byte 0x41. */
static bool is_byte_name(struct bytes word, uint8_t *byte)
{
    char hex[3];

    if (word.len != 6 || memcmp(word.data, "<0x", 3) != 0 || word.data[5] != '>')
        return false;
    memcpy(hex, word.data + 3, 2);
    hex[2] = '\0';
    return hex_decode(byte, 1, hex, NULL) == OK;
}

/* What one id says, `replace`d and as bytes. */
static void put_says(struct parser *p, const struct decoding *d, int32_t id, struct buf *spare)
{
    struct hf_tokenizer *h = p->h;
    struct bytes word = hf_string(h, id);
    uint8_t byte;

    if (h->decoder == HF_BYTES) {
        if (!put_bytes(&h->says, p->byte_of, word))
            buf_append(&h->says, word);
        return;
    }
    for (size_t i = 0; i < d->n_replace; i++) {
        const struct bytes from = {d->replace[i].from.at, d->replace[i].from.len};
        const struct bytes to = {d->replace[i].to.at, d->replace[i].to.len};
        struct buf *out = &spare[i % 2];

        buf_reset(out);
        for (size_t at = 0; at < word.len;) {
            bool hit =
                word.len - at >= from.len && !memcmp(word.data + at, from.data, from.len);

            buf_append(out, hit ? to : (struct bytes){word.data + at, 1});
            at += hit ? from.len : 1;
        }
        h->says.bad = h->says.bad || out->bad;
        word = buf_bytes(out);
    }
    if (d->has_fallback && is_byte_name(word, &byte)) {
        h->flags[id] |= HF_IS_BYTE;
        word = BYTES_OF(byte);
        buf_append(&h->says, word);
        return;
    }
    buf_append(&h->says, word);
}

static enum status make_says(struct parser *p, const struct decoding *d)
{
    struct hf_tokenizer *h = p->h;
    struct buf spare[2];
    enum status st =
        alloc_array(&h->says_at, h->n_ids + 1, sizeof(*h->says_at), "a vocabulary", p->e);

    buf_init(&spare[0], 1u << 20);
    buf_init(&spare[1], 1u << 20);
    for (size_t id = 0; id < h->n_ids && !st; id++) {
        h->says_at[id] = h->says.len;
        put_says(p, d, (int32_t)id, spare);
        h->says_at[id + 1] = h->says.len;
    }
    buf_clear(&spare[0]);
    buf_clear(&spare[1]);
    return st ? st : buf_status(&h->says, p->e);
}

/* {"single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}], ...} */
static enum status parse_template(struct parser *p, const json_t *j)
{
    const json_t *list = json_object_get(j, "single");
    size_t n = json_array_size(list);
    const json_t *last = n > 0 ? json_array_get(list, n - 1) : NULL;
    const json_t *first = n == 2 ? json_array_get(list, 0) : NULL;
    const json_t *name = json_object_get(json_object_get(first, "SpecialToken"), "id");
    enum status st = only_keys(p, "TemplateProcessing", j, "type single pair special_tokens");

    if (st)
        return st;
    if (n < 1 || n > 2 || !json_object_get(last, "Sequence") ||
        (n == 2 && !json_is_string(name)))
        return unsupported(p, "TemplateProcessing", list);
    if (n == 1)
        return OK;
    const json_t *ids = json_object_get(
        json_object_get(json_object_get(j, "special_tokens"), json_string_value(name)), "ids");
    const json_t *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= (json_int_t)p->h->n_ids || p->h->bos >= 0)
        return unsupported(p, "TemplateProcessing", list);
    p->h->bos = (int32_t)json_integer_value(id);
    return OK;
}

static enum status parse_post_processor(struct parser *p, const json_t *j)
{
    const json_t *list = json_object_get(j, "processors");
    enum status st = OK;

    if (is_type(j, "TemplateProcessing"))
        return parse_template(p, j);
    if (is_type(j, "ByteLevel"))
        return only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");
    if (!is_type(j, "Sequence"))
        return unsupported(p, "post_processor", j);
    st = only_keys(p, "a Sequence of post-processors", j, "type processors");
    for (size_t i = 0; i < json_array_size(list) && !st; i++)
        st = is_type(json_array_get(list, i), "Sequence")
                 ? unsupported(p, "a Sequence in a Sequence of post-processors", NULL)
                 : parse_post_processor(p, json_array_get(list, i));
    return st;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* What is looked for: in normalized text, the content as the normalizer leaves it. */
static enum status make_patterns(struct parser *p)
{
    struct hf_tokenizer *h = p->h;
    size_t at = 0;
    enum status st = OK;

    for (size_t i = 0; i < h->n_added && !st; i++) {
        struct hf_added *a = &h->added[i];
        size_t before = h->patterns.len;

        if (a->normalized)
            st = hf_normalize(&h->patterns, h, a->content, p->e);
        else
            buf_append(&h->patterns, a->content);
        a->pattern.len = h->patterns.len - before;
        if (!st && a->pattern.len > HF_CONTENT_MAX)
            st = err_set(p->e, ERR_LIMIT, FILE_IS "an added token of more than %u bytes",
                         HF_CONTENT_MAX);
    }
    if (!st)
        st = buf_status(&h->patterns, p->e);
    for (size_t i = 0; i < h->n_added && !st; i++) {
        h->added[i].pattern.data = h->patterns.data + at;
        at += h->added[i].pattern.len;
    }
    return st;
}

static enum status parse_parts(struct parser *p, const json_t *root, struct bytes **word)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *post = json_object_get(root, "post_processor");
    struct decoding d = {0};
    enum status st = OK;

    p->n_vocab = json_object_size(json_object_get(p->model, "vocab"));
    if (p->n_vocab == 0 || p->n_vocab > BPE_MAX_IDS)
        return malformed(p, "the model has no vocabulary");
    if (normalizer && !json_is_null(normalizer))
        st = parse_normalizer(p, normalizer);
    if (!st && pre && !json_is_null(pre))
        st = parse_pre_tokenizer(p, pre);
    if (!st)
        st = parse_added(p, json_object_get(root, "added_tokens"));
    if (!st)
        st = place_words(p, word, p->e);
    if (!st)
        st = keep_strings(p, *word);
    if (!st)
        st = parse_decoder(p, &d, json_object_get(root, "decoder"));
    if (!st)
        st = make_says(p, &d);
    if (!st && post && !json_is_null(post))
        st = parse_post_processor(p, post);
    if (!st)
        st = parse_model(p, *word);
    if (!st)
        st = make_patterns(p);
    return st ? st : hf_sort_added(p->h, p->e);
}

static enum status parse_root(struct parser *p, const json_t *root)
{
    struct bytes *word = NULL;
    enum status st = only_keys(p, "a file", root,
                               "version truncation padding added_tokens normalizer "
                               "pre_tokenizer post_processor decoder model");

    if (st)
        return st;
    p->model = json_object_get(root, "model");
    if (!is_type(p->model, "BPE") &&
        !(*type_of(p->model) == '\0' && json_is_array(json_object_get(p->model, "merges"))))
        return err_set(p->e, ERR_UNSUPPORTED, FILE_IS "model '%.32s' is not supported",
                       *type_of(p->model) ? type_of(p->model) : "?");
    st = only_keys(p, "the model", p->model,
                   "type dropout unk_token continuing_subword_prefix end_of_word_suffix "
                   "fuse_unk byte_fallback ignore_merges vocab merges");
    if (!st)
        st = parse_parts(p, root, &word);
    free(word);
    return st;
}

/* Commas and brackets outside of texts: at least as many as there are values. */
static size_t count_values(struct bytes json)
{
    bool in_text = false;
    size_t n = 0;

    for (size_t i = 0; i < json.len; i++) {
        uint8_t c = json.data[i];

        if (in_text && c == '\\')
            i++;
        else if (c == '"')
            in_text = !in_text;
        else if (!in_text)
            n += c == ',' || c == '[' || c == '{';
    }
    return n;
}

enum status hf_parse(struct hf_tokenizer **out, struct bytes json, struct err *e)
{
    struct parser p = {.h = xcalloc(1, sizeof(*p.h)), .e = e};
    int32_t byte_of[ALPHABET_POINTS];
    json_error_t where;
    json_t *root = NULL;
    enum status st = OK;

    *out = NULL;
    p.byte_of = byte_of;
    make_alphabet(byte_of);
    p.h->bos = -1;
    p.h->classes = utf8_classes_new();
    buf_init(&p.h->strings, json.len + 1);
    buf_init(&p.h->says, 4 * json.len + 4096);
    buf_init(&p.h->patterns, 4 * json.len + 4096);
    if (count_values(json) > VALUES_MAX)
        st = err_set(e, ERR_LIMIT, FILE_IS "more than %u values", VALUES_MAX);
    if (!st)
        root = json_loadb((const char *)json.data, json.len,
                          JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!st && !root)
        st = err_set(e, ERR_MALFORMED, FILE_IS "%s in line %d", where.text, where.line);
    if (!st)
        st = parse_root(&p, root);
    json_decref(root);
    if (st) {
        hf_free(&p.h);
        return st;
    }
    *out = p.h;
    return OK;
}
