/* Reads tokenizer.json into a struct hf_tokenizer (engine/hf_tokenizer.h). */
#include "engine/hf_parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/json_text.h"
#include "engine/utf8.h"

/* A published vocabulary of 256k words has 3M values. */
#define VALUES_MAX (1u << 22)

/* Ids that no word has: published files have some hundreds at most, padding a vocabulary. Every id
 * takes its place in several arrays. */
#define HOLES_MAX (1u << 16)

enum status hf_unsupported(struct hf_parser *p, const char *what, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    enum status st = err_set(p->e, ERR_UNSUPPORTED, HF_FILE "%s %.200s is not supported", what,
                             text ? text : "that is missing");

    free(text);
    return st;
}

enum status hf_malformed(struct hf_parser *p, const char *what)
{
    return err_set(p->e, ERR_MALFORMED, HF_FILE "%s", what);
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
enum status hf_only_keys(struct hf_parser *p, const char *what, const json_t *object,
                         const char *keys)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        if (!json_is_null(value) && !is_listed(keys, key))
            return err_set(p->e, ERR_UNSUPPORTED, HF_FILE "%s with '%.64s' is not supported",
                           what, key);
    }
    return OK;
}

const char *hf_type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));

    return type ? type : "";
}

bool hf_is_type(const json_t *object, const char *type)
{
    return strcmp(hf_type_of(object), type) == 0;
}

struct bytes hf_json_text(const json_t *value)
{
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

enum status hf_get_text(struct hf_parser *p, struct hf_text *out, const json_t *object,
                        const char *key)
{
    const json_t *value = json_object_get(object, key);
    const struct bytes text = hf_json_text(value);

    if (!json_is_string(value) || text.len > HF_SETTING_MAX)
        return hf_unsupported(p, key, value);
    memcpy(out->at, text.data, text.len);
    out->len = text.len;
    return OK;
}

enum status hf_get_bool(struct hf_parser *p, bool *out, const json_t *object, const char *key,
                        bool absent)
{
    const json_t *value = json_object_get(object, key);

    *out = value && !json_is_null(value) ? json_is_true(value) : absent;
    if (value && !json_is_null(value) && !json_is_boolean(value))
        return hf_unsupported(p, key, value);
    return OK;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static enum status parse_replace(struct hf_parser *p, struct hf_text *from, struct hf_text *to,
                                 const json_t *j)
{
    enum status st = hf_only_keys(p, "Replace", j, "type pattern content");

    if (!st)
        st = hf_get_text(p, to, j, "content");
    if (!st && !json_is_string(json_object_get(json_object_get(j, "pattern"), "String")))
        st = hf_unsupported(p, "pattern", json_object_get(j, "pattern"));
    if (!st)
        st = hf_get_text(p, from, json_object_get(j, "pattern"), "String");
    if (!st && from->len == 0)
        st = hf_malformed(p, "Replace of nothing");
    return st;
}

static enum status parse_normalizer(struct hf_parser *p, const json_t *j)
{
    static const char *const composed[] = {
        [HF_NFC] = "NFC", [HF_NFD] = "NFD", [HF_NFKC] = "NFKC", [HF_NFKD] = "NFKD"};
    struct hf_normalizer n = {0};
    bool is_known = false;
    enum status st = OK;

    if (hf_is_type(j, "Sequence")) {
        const json_t *list = json_object_get(j, "normalizers");

        st = hf_only_keys(p, "a Sequence of normalizers", j, "type normalizers");
        if (!st && !json_is_array(list))
            st = hf_malformed(p, "a Sequence without normalizers");
        for (size_t i = 0; i < json_array_size(list) && !st; i++)
            st = hf_is_type(json_array_get(list, i), "Sequence")
                     ? hf_unsupported(p, "a Sequence in a Sequence of normalizers", NULL)
                     : parse_normalizer(p, json_array_get(list, i));
        return st;
    }
    for (int i = HF_NFC; i <= HF_NFKD; i++) {
        if (hf_is_type(j, composed[i])) {
            n.kind = i;
            is_known = true;
            st = hf_only_keys(p, composed[i], j, "type");
        }
    }
    if (hf_is_type(j, "Prepend")) {
        n.kind = HF_PREPEND;
        is_known = true;
        st = hf_only_keys(p, "Prepend", j, "type prepend");
        if (!st)
            st = hf_get_text(p, &n.to, j, "prepend");
    } else if (hf_is_type(j, "Replace")) {
        n.kind = HF_REPLACE;
        is_known = true;
        st = parse_replace(p, &n.from, &n.to, j);
    }
    if (!is_known)
        return hf_unsupported(p, "normalizer", j);
    if (!st && p->h->n_normalizers == HF_STEPS_MAX)
        st = err_set(p->e, ERR_UNSUPPORTED, HF_FILE "more than %u normalizers", HF_STEPS_MAX);
    if (!st)
        p->h->normalizer[p->h->n_normalizers++] = n;
    return st;
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

static enum status add_step(struct hf_parser *p, const struct hf_step *s)
{
    for (size_t i = 0; i < p->h->n_steps; i++)
        if (s->kind == p->h->step[i].kind &&
            (s->kind == HF_PREFIX_SPACE || s->kind == HF_METASPACE))
            return err_set(p->e, ERR_UNSUPPORTED, HF_FILE "two pre-tokenizers of one kind");
    if (p->h->n_steps == HF_STEPS_MAX)
        return err_set(p->e, ERR_UNSUPPORTED, HF_FILE "more than %u pre-tokenizers",
                       HF_STEPS_MAX);
    p->h->step[p->h->n_steps++] = *s;
    return OK;
}

static enum status parse_byte_level(struct hf_parser *p, const json_t *j)
{
    const struct hf_step prefix = {.kind = HF_PREFIX_SPACE};
    const struct hf_step cut = {.kind = HF_CUT, .cut = pretokenize_gpt2};
    bool has_prefix, has_regex;
    enum status st =
        hf_only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");

    if (!st)
        st = hf_get_bool(p, &has_prefix, j, "add_prefix_space", true);
    if (!st)
        st = hf_get_bool(p, &has_regex, j, "use_regex", true);
    if (!st && has_prefix)
        st = add_step(p, &prefix);
    if (!st && has_regex)
        st = add_step(p, &cut);
    p->by_bytes = true;
    return st;
}

static enum status parse_metaspace(struct hf_parser *p, const json_t *j)
{
    static const char *const schemes[] = {
        [HF_NEVER] = "never", [HF_FIRST] = "first", [HF_ALWAYS] = "always"};
    const json_t *scheme = json_object_get(j, "prepend_scheme");
    struct hf_step meta = {.kind = HF_METASPACE, .prepend = HF_ALWAYS};
    struct hf_step split = {.kind = HF_SPLIT, .place = HF_WITH_NEXT};
    bool has_prefix, is_known = !scheme, splits;
    enum status st = hf_only_keys(
        p, "Metaspace", j, "type replacement prepend_scheme split add_prefix_space str_rep");

    for (int i = HF_NEVER; i <= HF_ALWAYS && scheme; i++) {
        if (json_is_string(scheme) && !strcmp(json_string_value(scheme), schemes[i])) {
            meta.prepend = i;
            is_known = true;
        }
    }
    if (!st && !is_known)
        st = hf_unsupported(p, "prepend_scheme", scheme);
    if (!st)
        st = hf_get_bool(p, &has_prefix, j, "add_prefix_space", true);
    if (!st && !has_prefix)
        meta.prepend = HF_NEVER;
    if (!st)
        st = hf_get_bool(p, &splits, j, "split", true);
    if (!st)
        st = hf_get_text(p, &meta.mark, j, "replacement");
    if (!st && meta.mark.len == 0)
        st = hf_malformed(p, "Metaspace without a replacement");
    split.mark = meta.mark;
    if (!st)
        st = add_step(p, &meta);
    if (!st && splits)
        st = add_step(p, &split);
    return st;
}

static enum status parse_split(struct hf_parser *p, const json_t *j)
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
    enum status st = hf_only_keys(p, "Split", j, "type pattern behavior invert");

    if (!st)
        st = hf_get_bool(p, &invert, j, "invert", false);
    if (st)
        return st;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (behavior && !strcmp(behavior, places[i].name))
            s.place = places[i].place;
    if (json_is_string(regex)) {
        s.kind = HF_CUT;
        s.cut = pretokenize_find(hf_json_text(regex));
        /* These match all of a text: to keep the matches is to drop what is between. */
        if (!s.cut || !(invert ? s.place == HF_REMOVED : s.place == HF_ISOLATED))
            return hf_unsupported(p, "Split", j);
        return add_step(p, &s);
    }
    if (s.place == HF_WHOLE || invert)
        return hf_unsupported(p, "Split", j);
    st = hf_get_text(p, &s.mark, pattern, "String");
    if (!st && s.mark.len == 0)
        st = hf_malformed(p, "Split at nothing");
    return st ? st : add_step(p, &s);
}

static enum status parse_pre_tokenizer(struct hf_parser *p, const json_t *j)
{
    bool single;
    enum status st = OK;

    if (p->by_bytes)
        return err_set(p->e, ERR_UNSUPPORTED, HF_FILE "a pre-tokenizer after ByteLevel");
    if (hf_is_type(j, "ByteLevel"))
        return parse_byte_level(p, j);
    if (hf_is_type(j, "Metaspace"))
        return parse_metaspace(p, j);
    if (hf_is_type(j, "Split"))
        return parse_split(p, j);
    if (hf_is_type(j, "Digits")) {
        st = hf_only_keys(p, "Digits", j, "type individual_digits");
        if (!st)
            st = hf_get_bool(p, &single, j, "individual_digits", false);
        if (st)
            return st;
        const struct hf_step s = {.kind = HF_CUT,
                                  .cut = single ? pretokenize_digit : pretokenize_digits};
        return add_step(p, &s);
    }
    if (hf_is_type(j, "Sequence")) {
        const json_t *list = json_object_get(j, "pretokenizers");

        st = hf_only_keys(p, "a Sequence of pre-tokenizers", j, "type pretokenizers");
        if (!st && !json_is_array(list))
            st = hf_malformed(p, "a Sequence without pretokenizers");
        for (size_t i = 0; i < json_array_size(list) && !st; i++)
            st = hf_is_type(json_array_get(list, i), "Sequence")
                     ? hf_unsupported(p, "a Sequence in a Sequence of pre-tokenizers", NULL)
                     : parse_pre_tokenizer(p, json_array_get(list, i));
        return st;
    }
    return hf_unsupported(p, "pre_tokenizer", j);
}

/* ---- decoder and post-processor -------------------------------------------------------------- */

struct decoding {
    struct {
        struct hf_text from, to;
    } replace[HF_STEPS_MAX];
    size_t n_replace;
    bool has_fallback, has_fuse;
};

static enum status parse_piece_decoder(struct hf_parser *p, struct decoding *d, const json_t *j)
{
    enum status st = OK;

    if (hf_is_type(j, "Replace") && !d->has_fallback && d->n_replace < HF_STEPS_MAX) {
        st = parse_replace(p, &d->replace[d->n_replace].from, &d->replace[d->n_replace].to, j);
        d->n_replace++;
    } else if (hf_is_type(j, "ByteFallback") && !d->has_fallback && !d->has_fuse) {
        st = hf_only_keys(p, "ByteFallback", j, "type");
        d->has_fallback = true;
    } else if (hf_is_type(j, "Fuse") && !d->has_fuse) {
        st = hf_only_keys(p, "Fuse", j, "type");
        d->has_fuse = true;
    } else if (hf_is_type(j, "Strip") && d->has_fuse && p->h->strip.len == 0) {
        const json_t *start = json_object_get(j, "start"), *stop = json_object_get(j, "stop");

        st = hf_only_keys(p, "Strip", j, "type content start stop");
        if (!st)
            st = hf_get_text(p, &p->h->strip, j, "content");
        if (!st && (p->h->strip.len == 0 || json_integer_value(stop) != 0 ||
                    json_integer_value(start) < 0))
            st = hf_unsupported(p, "decoder", j);
        p->h->n_strip = (size_t)json_integer_value(start);
    } else {
        st = hf_unsupported(p, "decoder", j);
    }
    return st;
}

static enum status parse_decoder(struct hf_parser *p, struct decoding *d, const json_t *j)
{
    const json_t *list = json_object_get(j, "decoders");
    const json_t *scheme = json_object_get(j, "prepend_scheme");
    bool has_prefix;
    enum status st = OK;

    if (hf_is_type(j, "ByteLevel")) {
        p->h->decoder = HF_BYTES;
        return hf_only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");
    }
    if (hf_is_type(j, "Metaspace")) {
        p->h->decoder = HF_MARKS;
        st = hf_only_keys(p, "Metaspace", j,
                          "type replacement prepend_scheme split add_prefix_space str_rep");
        if (!st)
            st = hf_get_bool(p, &has_prefix, j, "add_prefix_space", true);
        if (!st)
            st = hf_get_text(p, &p->h->decoder_mark, j, "replacement");
        if (!st && p->h->decoder_mark.len == 0)
            st = hf_malformed(p, "Metaspace without a replacement");
        p->h->drops_first_mark =
            !st && has_prefix &&
            !(json_is_string(scheme) && !strcmp(json_string_value(scheme), "never"));
        return st;
    }
    p->h->decoder = HF_PIECES;
    if (!hf_is_type(j, "Sequence"))
        return parse_piece_decoder(p, d, j);
    st = hf_only_keys(p, "a Sequence of decoders", j, "type decoders");
    if (!st && (!json_is_array(list) || json_array_size(list) == 0))
        st = hf_malformed(p, "a Sequence without decoders");
    if (!st && json_array_size(list) == 1)
        return hf_is_type(json_array_get(list, 0), "Sequence")
                   ? hf_unsupported(p, "a Sequence in a Sequence of decoders", NULL)
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

/* What one id says, `replace`d and as bytes. A replacement may make much of a word and the next one
 * nothing of it: what all of them make of all words, *made_bytes, is held to the room of `says`. */
static void put_says(struct hf_parser *p, const struct decoding *d, int32_t id,
                     struct buf *spare, size_t *made_bytes)
{
    struct hf_tokenizer *h = p->h;
    struct bytes word = hf_string(h, id);
    uint8_t byte;

    if (h->decoder == HF_BYTES) {
        if (!hf_put_bytes(&h->says, p->byte_of, word))
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
        *made_bytes += out->len;
        if (out->bad || *made_bytes > h->says.max) {
            h->says.bad = true;
            return;
        }
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

static enum status make_says(struct hf_parser *p, const struct decoding *d)
{
    struct hf_tokenizer *h = p->h;
    struct buf spare[2];
    size_t made_bytes = 0;
    enum status st =
        alloc_array(&h->says_at, h->n_ids + 1, sizeof(*h->says_at), "a vocabulary", p->e);

    buf_init(&spare[0], 1u << 20);
    buf_init(&spare[1], 1u << 20);
    for (size_t id = 0; id < h->n_ids && !st && !h->says.bad; id++) {
        h->says_at[id] = h->says.len;
        put_says(p, d, (int32_t)id, spare, &made_bytes);
        h->says_at[id + 1] = h->says.len;
    }
    buf_clear(&spare[0]);
    buf_clear(&spare[1]);
    return st ? st : buf_status(&h->says, p->e);
}

/* {"single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}], ...} */
static enum status parse_template(struct hf_parser *p, const json_t *j)
{
    const json_t *list = json_object_get(j, "single");
    size_t n = json_array_size(list);
    const json_t *last = n > 0 ? json_array_get(list, n - 1) : NULL;
    const json_t *first = n == 2 ? json_array_get(list, 0) : NULL;
    const json_t *name = json_object_get(json_object_get(first, "SpecialToken"), "id");
    enum status st =
        hf_only_keys(p, "TemplateProcessing", j, "type single pair special_tokens");

    if (st)
        return st;
    if (n < 1 || n > 2 || !json_object_get(last, "Sequence") ||
        (n == 2 && !json_is_string(name)))
        return hf_unsupported(p, "TemplateProcessing", list);
    if (n == 1)
        return OK;
    const json_t *ids = json_object_get(
        json_object_get(json_object_get(j, "special_tokens"), json_string_value(name)), "ids");
    const json_t *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= (json_int_t)p->h->n_ids || p->h->bos >= 0)
        return hf_unsupported(p, "TemplateProcessing", list);
    p->h->bos = (int32_t)json_integer_value(id);
    return OK;
}

static enum status parse_post_processor(struct hf_parser *p, const json_t *j)
{
    const json_t *list = json_object_get(j, "processors");
    enum status st = OK;

    if (hf_is_type(j, "TemplateProcessing"))
        return parse_template(p, j);
    if (hf_is_type(j, "ByteLevel"))
        return hf_only_keys(p, "ByteLevel", j, "type add_prefix_space trim_offsets use_regex");
    if (!hf_is_type(j, "Sequence"))
        return hf_unsupported(p, "post_processor", j);
    st = hf_only_keys(p, "a Sequence of post-processors", j, "type processors");
    for (size_t i = 0; i < json_array_size(list) && !st; i++)
        st = hf_is_type(json_array_get(list, i), "Sequence")
                 ? hf_unsupported(p, "a Sequence in a Sequence of post-processors", NULL)
                 : parse_post_processor(p, json_array_get(list, i));
    return st;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* What a normalizer may make of an added token before the next makes less of it. */
#define NORMALIZED_MAX (8u * HF_CONTENT_MAX)

/* What is looked for: in normalized text, the content as the normalizer leaves it. */
static enum status make_patterns(struct hf_parser *p)
{
    struct hf_tokenizer *h = p->h;
    struct buf one;
    size_t at = 0;
    enum status st = OK;

    buf_init(&one, NORMALIZED_MAX);
    for (size_t i = 0; i < h->n_added && !st; i++) {
        struct hf_added *a = &h->added[i];

        buf_reset(&one);
        if (a->normalized)
            st = hf_normalize(&one, h, a->content, p->e);
        else
            buf_append(&one, a->content);
        a->pattern.len = one.len;
        if (st == ERR_LIMIT || (!st && one.len > HF_CONTENT_MAX))
            st = err_set(p->e, ERR_LIMIT, HF_FILE "an added token of more than %u bytes",
                         HF_CONTENT_MAX);
        buf_append(&h->patterns, buf_bytes(&one));
    }
    buf_clear(&one);
    if (!st)
        st = buf_status(&h->patterns, p->e);
    for (size_t i = 0; i < h->n_added && !st; i++) {
        h->added[i].pattern.data = h->patterns.data + at;
        at += h->added[i].pattern.len;
    }
    return st;
}

static enum status parse_parts(struct hf_parser *p, const json_t *root, struct bytes **word)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *post = json_object_get(root, "post_processor");
    struct decoding d = {0};
    enum status st = OK;

    p->n_vocab = json_object_size(json_object_get(p->model, "vocab"));
    if (p->n_vocab == 0 || p->n_vocab > BPE_MAX_IDS)
        return hf_malformed(p, "the model has no vocabulary");
    p->n_ids = (json_int_t)p->n_vocab + HOLES_MAX;
    p->n_ids += (json_int_t)json_array_size(json_object_get(root, "added_tokens"));
    if (p->n_ids > (json_int_t)BPE_MAX_IDS)
        p->n_ids = BPE_MAX_IDS;
    if (normalizer && !json_is_null(normalizer))
        st = parse_normalizer(p, normalizer);
    if (!st && pre && !json_is_null(pre))
        st = parse_pre_tokenizer(p, pre);
    if (!st)
        st = hf_parse_added(p, json_object_get(root, "added_tokens"));
    if (!st)
        st = hf_place_words(p, word, p->e);
    if (!st)
        st = hf_keep_strings(p, *word);
    if (!st)
        st = parse_decoder(p, &d, json_object_get(root, "decoder"));
    if (!st)
        st = make_says(p, &d);
    if (!st && post && !json_is_null(post))
        st = parse_post_processor(p, post);
    if (!st)
        st = hf_parse_model(p, *word);
    if (!st)
        st = make_patterns(p);
    return st ? st : hf_sort_added(p->h, p->e);
}

static enum status parse_root(struct hf_parser *p, const json_t *root)
{
    struct bytes *word = NULL;
    enum status st = hf_only_keys(p, "a file", root,
                                  "version truncation padding added_tokens normalizer "
                                  "pre_tokenizer post_processor decoder model");

    if (st)
        return st;
    p->model = json_object_get(root, "model");
    if (!hf_is_type(p->model, "BPE") &&
        !(*hf_type_of(p->model) == '\0' && json_is_array(json_object_get(p->model, "merges"))))
        return err_set(p->e, ERR_UNSUPPORTED, HF_FILE "model '%.32s' is not supported",
                       *hf_type_of(p->model) ? hf_type_of(p->model) : "?");
    st = hf_only_keys(p, "the model", p->model,
                      "type dropout unk_token continuing_subword_prefix end_of_word_suffix "
                      "fuse_unk byte_fallback ignore_merges vocab merges");
    if (!st)
        st = parse_parts(p, root, &word);
    free(word);
    return st;
}

enum status hf_parse(struct hf_tokenizer **out, struct bytes json, struct err *e)
{
    struct hf_parser p = {.h = xcalloc(1, sizeof(*p.h)), .e = e};
    int32_t byte_of[HF_ALPHABET_POINTS];
    json_t *root;
    enum status st;

    *out = NULL;
    p.byte_of = byte_of;
    hf_make_alphabet(byte_of);
    p.h->bos = -1;
    p.h->classes = utf8_classes_new();
    buf_init(&p.h->strings, json.len + 1);
    buf_init(&p.h->says, 4 * json.len + 4096);
    buf_init(&p.h->patterns, 4 * json.len + 4096);
    st = json_text_read(&root, json, VALUES_MAX, JSON_ALLOW_NUL, e);
    st = st ? err_prefix(e, st, "tokenizer.json") : parse_root(&p, root);
    json_decref(root);
    if (st) {
        hf_free(&p.h);
        return st;
    }
    *out = p.h;
    return OK;
}
