/* The words, merges and added tokens of a tokenizer.json (engine/hf_parse.h). */
#include "engine/hf_parse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/utf8.h"

/* ---- words ----------------------------------------------------------------------------------- */

/* GPT-2's alphabet: bytes that print stand for themselves, the others for U+0100 and on. */
void hf_make_alphabet(int32_t *byte_of)
{
    int32_t next = 256;

    for (size_t i = 0; i < HF_ALPHABET_POINTS; i++)
        byte_of[i] = -1;
    for (int32_t b = 0; b < 256; b++) {
        bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

        byte_of[prints ? b : next++] = b;
    }
}

/* The bytes that a token string stands for in the byte alphabet. False: it has other characters. */
bool hf_put_bytes(struct buf *out, const int32_t *byte_of, struct bytes word)
{
    const size_t before = out->len;
    size_t at = 0;

    while (at < word.len) {
        uint32_t c = utf8_get(word.data, &at);

        if (c >= HF_ALPHABET_POINTS || byte_of[c] < 0) {
            out->len = before;
            return false;
        }
        buf_put_u8(out, (uint8_t)byte_of[c]);
    }
    return true;
}

static enum status check_id(struct hf_parser *p, const json_t *value, const char *word,
                            int32_t *id)
{
    json_int_t v = json_integer_value(value);

    if (!json_is_integer(value))
        return err_set(p->e, ERR_MALFORMED, HF_FILE "'%.64s' has an id that is no integer",
                       word);
    if (v < 0 || v >= p->n_ids)
        return err_set(p->e, ERR_MALFORMED,
                       HF_FILE "'%.64s' has id %" JSON_INTEGER_FORMAT
                               ", want 0 to %" JSON_INTEGER_FORMAT " in a file of %zu words",
                       word, v, p->n_ids - 1, p->n_vocab);
    *id = (int32_t)v;
    return OK;
}

static enum status added_id(struct hf_parser *p, const json_t *vocab, const struct hf_added *a,
                            int32_t top, int32_t *want)
{
    const struct bytes c = a->content;
    const json_t *known = json_object_getn(vocab, (const char *)c.data, c.len);

    if (known)
        return check_id(p, known, (const char *)c.data, want);
    *want = top >= (int32_t)p->n_vocab ? top + 1 : (int32_t)p->n_vocab;
    return OK;
}

/* One added token as the file has it. */
static enum status read_added(struct hf_parser *p, struct hf_added *a, const json_t *j)
{
    enum status st;

    a->content = hf_json_text(json_object_get(j, "content"));
    if (!json_is_string(json_object_get(j, "content")) || a->content.len == 0)
        return hf_malformed(p, "an added token without content");
    if (a->content.len > HF_CONTENT_MAX)
        return err_set(p->e, ERR_LIMIT, HF_FILE "an added token of more than %u bytes",
                       HF_CONTENT_MAX);
    st = hf_only_keys(p, "an added token", j,
                      "id content single_word lstrip rstrip normalized special");
    if (!st)
        st = check_id(p, json_object_get(j, "id"), (const char *)a->content.data, &a->id);
    if (!st)
        st = hf_get_bool(p, &a->is_special, j, "special", false);
    if (!st)
        st = hf_get_bool(p, &a->normalized, j, "normalized", !a->is_special);
    if (!st)
        st = hf_get_bool(p, &a->single_word, j, "single_word", false);
    if (!st)
        st = hf_get_bool(p, &a->lstrip, j, "lstrip", false);
    return st ? st : hf_get_bool(p, &a->rstrip, j, "rstrip", false);
}

/* Added tokens. The reference gives them ids by a rule of its own and not by the file; a file that
 * says otherwise would be read differently here and there. */
enum status hf_parse_added(struct hf_parser *p, const json_t *list)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    struct hf_tokenizer *h = p->h;
    int32_t top = -1;
    enum status st;

    if (list && !json_is_null(list) && !json_is_array(list))
        return hf_malformed(p, "added_tokens is no list");
    if (json_array_size(list) > HF_ADDED_MAX)
        return err_set(p->e, ERR_LIMIT, HF_FILE "more than %u added tokens", HF_ADDED_MAX);
    st = alloc_array(&h->added, json_array_size(list) + 1, sizeof(*h->added), "added tokens",
                     p->e);
    for (size_t i = 0; i < json_array_size(list) && !st; i++) {
        struct hf_added *a = &h->added[h->n_added];
        int32_t want = 0;

        st = read_added(p, a, json_array_get(list, i));
        if (!st)
            st = added_id(p, vocab, a, top, &want);
        if (!st && want != a->id)
            st = err_set(p->e, ERR_UNSUPPORTED,
                         HF_FILE "added token '%.64s' has id %" PRId32
                                 ", and the reference would give it %" PRId32,
                         (const char *)a->content.data, a->id, want);
        top = a->id > top ? a->id : top;
        h->n_added++;
    }
    return st;
}

/* Strings by id: `word` gets those of the model, and of added tokens where the model has none. */
enum status hf_place_words(struct hf_parser *p, struct bytes **word, struct err *e)
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
    h->n_ids = (size_t)top + 1;
    st = alloc_array(word, h->n_ids + 1, sizeof(**word), "a vocabulary", e);
    if (!st)
        st = alloc_array(&h->flags, h->n_ids + 1, 1, "a vocabulary", e);
    if (st)
        return st;
    for (void *it = json_object_iter((json_t *)vocab); it;
         it = json_object_iter_next((json_t *)vocab, it)) {
        id = (int32_t)json_integer_value(json_object_iter_value(it));
        if (h->flags[id] & HF_IS_TOKEN)
            return err_set(e, ERR_MALFORMED, HF_FILE "two words have id %" PRId32, id);
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
enum status hf_keep_strings(struct hf_parser *p, const struct bytes *word)
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
static enum status read_merge(struct hf_parser *p, const json_t *j, struct bytes *left,
                              struct bytes *right)
{
    *left = hf_json_text(json_array_get(j, 0));
    *right = hf_json_text(json_array_get(j, 1));
    if (json_is_string(j)) {
        const struct bytes both = hf_json_text(j);
        const uint8_t *space = memchr(both.data, ' ', both.len);
        size_t n = space ? (size_t)(space - both.data) : both.len;

        if (!space || memchr(space + 1, ' ', both.len - n - 1))
            return hf_malformed(p, "a merge is not two words");
        *left = (struct bytes){both.data, n};
        *right = (struct bytes){space + 1, both.len - n - 1};
        return OK;
    }
    if (json_array_size(j) != 2 || !json_is_string(json_array_get(j, 0)) ||
        !json_is_string(json_array_get(j, 1)))
        return hf_malformed(p, "a merge is not two words");
    return OK;
}

static enum status find_word(struct hf_parser *p, const json_t *vocab, struct bytes word,
                             int32_t *id)
{
    const json_t *value = json_object_getn(vocab, (const char *)word.data, word.len);

    if (!value || word.len == 0)
        return err_set(p->e, ERR_MALFORMED, HF_FILE "a merge names '%.*s', which is no word",
                       word.len > 64 ? 64 : (int)word.len, (const char *)word.data);
    *id = (int32_t)json_integer_value(value);
    return OK;
}

static enum status parse_merges(struct hf_parser *p, struct bpe_spec *spec,
                                struct bpe_merge **merges)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    const json_t *list = json_object_get(p->model, "merges");
    size_t n = json_array_size(list);
    struct buf both;
    enum status st;

    if (!json_is_array(list) || n > BPE_MAX_MERGES)
        return hf_malformed(p, "the model has no list of merges");
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

static enum status parse_model_flags(struct hf_parser *p, struct bpe_spec *spec)
{
    const json_t *m = p->model, *vocab = json_object_get(m, "vocab");
    const json_t *unk = json_object_get(m, "unk_token");
    const json_t *dropout = json_object_get(m, "dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    enum status st = hf_get_bool(p, &spec->fuse_unk, m, "fuse_unk", false);

    if (!st)
        st = hf_get_bool(p, &spec->byte_fallback, m, "byte_fallback", false);
    if (!st)
        st = hf_get_bool(p, &spec->ignore_merges, m, "ignore_merges", false);
    if (!st && dropout && !json_is_null(dropout) && json_number_value(dropout) != 0.0)
        st = hf_unsupported(p, "dropout", dropout);
    for (size_t i = 0; i < 2 && !st; i++) {
        const json_t *affix = json_object_get(m, affixes[i]);

        if (affix && !json_is_null(affix) && json_string_length(affix) != 0)
            st = hf_unsupported(p, affixes[i], affix);
    }
    spec->unk = -1;
    if (st || !unk || json_is_null(unk))
        return st;
    unk = json_is_string(unk)
              ? json_object_getn(vocab, json_string_value(unk), json_string_length(unk))
              : NULL;
    if (!unk)
        return hf_malformed(p, "unk_token is no word");
    spec->unk = (int32_t)json_integer_value(unk);
    return OK;
}

/* The ids of single bytes: of the byte alphabet's characters, or of "<0x00>" to "<0xFF>". */
static void find_bytes(struct hf_parser *p, struct bpe_spec *spec)
{
    const json_t *vocab = json_object_get(p->model, "vocab");
    struct buf name;

    buf_init(&name, 16);
    for (size_t b = 0; b < 256; b++)
        spec->byte_id[b] = -1;
    for (uint32_t i = 0; i < (p->by_bytes ? HF_ALPHABET_POINTS : 256u); i++) {
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
static enum status text_words(struct hf_parser *p, struct bytes *word, struct buf *text)
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

        if (word[id].len == 0 || !hf_put_bytes(text, p->byte_of, word[id]))
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

enum status hf_parse_model(struct hf_parser *p, struct bytes *word)
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
