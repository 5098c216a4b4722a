#include "engine/hf_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/utf8.h"

static struct bytes text_of(const struct hf_text *t)
{
    return (struct bytes){t->at, t->len};
}

static struct bytes slice(struct bytes b, size_t from, size_t to)
{
    return (struct bytes){b.data + from, to - from};
}

static bool begins_with(struct bytes text, size_t at, struct bytes what)
{
    return text.len - at >= what.len && memcmp(text.data + at, what.data, what.len) == 0;
}

struct bytes hf_string(const struct hf_tokenizer *h, int32_t id)
{
    return slice(buf_bytes(&h->strings), h->string_at[id], h->string_at[id + 1]);
}

struct bytes hf_says(const struct hf_tokenizer *h, int32_t id)
{
    return slice(buf_bytes(&h->says), h->says_at[id], h->says_at[id + 1]);
}

void hf_free(struct hf_tokenizer **h)
{
    if (!*h)
        return;
    bpe_free(&(*h)->bpe);
    free((*h)->classes);
    buf_clear(&(*h)->strings);
    buf_clear(&(*h)->says);
    buf_clear(&(*h)->patterns);
    free((*h)->string_at);
    free((*h)->says_at);
    free((*h)->flags);
    free((*h)->added);
    free((*h)->raw.sorted);
    free((*h)->normalized.sorted);
    free(*h);
    *h = NULL;
}

/* ---- normalizing ----------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Puts the marks after each other in the order of their combining classes, marks of one class as
 * they stood. Not utf8proc's own way, whose time is the square of how many marks follow a letter. */
static enum status order_marks(utf8proc_int32_t *point, size_t n, struct err *e)
{
    uint64_t *key = NULL; /* class << 56 | place << 21 | code point */
    size_t cap = 0;
    enum status st = OK;

    for (size_t from = 0, to; from < n && !st; from = to + 1) {
        for (to = from; to < n && utf8proc_get_property(point[to])->combining_class; to++)
            ;
        if (to - from < 2)
            continue;
        if (to - from > cap) {
            free(key);
            cap = to - from;
            st = alloc_array(&key, cap, sizeof(*key), "marks of a text", e);
        }
        for (size_t i = from; i < to && !st; i++)
            key[i - from] = (uint64_t)utf8proc_get_property(point[i])->combining_class << 56 |
                            (uint64_t)(i - from) << 21 | (uint32_t)point[i];
        if (!st)
            qsort(key, to - from, sizeof(*key), by_key);
        for (size_t i = from; i < to && !st; i++)
            point[i] = (utf8proc_int32_t)(key[i - from] & 0x1fffff);
    }
    free(key);
    return st;
}

/* The code points of a run, decomposed, into `out` of room `cap`; returns how many they are. */
static size_t decompose(utf8proc_int32_t *out, size_t cap, struct bytes run, int options)
{
    int boundary = 0;
    size_t n = 0, at = 0;

    while (at < run.len) {
        const utf8proc_int32_t c = (utf8proc_int32_t)utf8_get(run.data, &at);

        n += (size_t)utf8proc_decompose_char(c, cap ? out + n : NULL,
                                             (utf8proc_ssize_t)(cap ? cap - n : 0),
                                             (utf8proc_option_t)options, &boundary);
    }
    return n;
}

/* A run between ASCII characters, through utf8proc. An ASCII character composes with what follows
 * it and with nothing before it, so such a run, with the ASCII character in front, may be taken by
 * itself. */
static enum status compose(struct buf *out, struct bytes run, int options, struct err *e)
{
    const size_t n = decompose(NULL, 0, run, options);
    utf8proc_int32_t *point = NULL; /* and one more, for the zero that reencode puts */
    utf8proc_ssize_t n_bytes;
    enum status st = alloc_array(&point, n + 1, sizeof(*point), "a text", e);

    if (st)
        return st;
    CHECK(decompose(point, n, run, options) == n);
    st = order_marks(point, n, e);
    if (st)
        goto out;
    n_bytes = utf8proc_reencode(point, (utf8proc_ssize_t)n, (utf8proc_option_t)options);
    if (n_bytes < 0)
        st = err_set(e, ERR_MALFORMED, "cannot normalize text: %s", utf8proc_errmsg(n_bytes));
    else
        buf_append(out, (struct bytes){(const uint8_t *)point, (size_t)n_bytes});
out:
    free(point);
    return st;
}

static enum status put_composed(struct buf *out, struct bytes text, int options, struct err *e)
{
    size_t at = 0, from = 0;

    while (at < text.len) {
        size_t begin;

        while (at < text.len && text.data[at] < 0x80)
            at++;
        if (at == text.len)
            break;
        begin = at > from ? at - 1 : at; /* with the ASCII character before */
        buf_append(out, slice(text, from, begin));
        while (at < text.len && text.data[at] >= 0x80)
            at++;
        enum status st = compose(out, slice(text, begin, at), options, e);
        if (st)
            return st;
        from = at;
    }
    buf_append(out, slice(text, from, text.len));
    return OK;
}

static void put_replaced(struct buf *out, struct bytes text, struct bytes from, struct bytes to)
{
    size_t at = 0, done = 0;

    while (at < text.len) {
        const uint8_t *hit = memchr(text.data + at, from.data[0], text.len - at);

        if (!hit)
            break;
        at = (size_t)(hit - text.data);
        if (!begins_with(text, at, from)) {
            at++;
            continue;
        }
        buf_append(out, slice(text, done, at));
        buf_append(out, to);
        at += from.len;
        done = at;
    }
    buf_append(out, slice(text, done, text.len));
}

static enum status normalize_once(struct buf *out, const struct hf_normalizer *n,
                                  struct bytes text, struct err *e)
{
    static const int options[] = {
        [HF_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [HF_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [HF_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE,
        [HF_NFKD] = UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE,
    };

    switch (n->kind) {
    case HF_PREPEND:
        if (text.len > 0)
            buf_append(out, text_of(&n->to));
        buf_append(out, text);
        break;
    case HF_REPLACE: put_replaced(out, text, text_of(&n->from), text_of(&n->to)); break;
    default: return put_composed(out, text, options[n->kind], e);
    }
    return buf_status(out, e);
}

/* What composition leaves alone without a look: everything below U+0300 is in NFC. */
static bool is_untouched(const struct hf_tokenizer *h, struct bytes text)
{
    if (h->n_normalizers == 0)
        return true;
    if (h->n_normalizers > 1 || h->normalizer[0].kind != HF_NFC)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] >= 0xcc)
            return false;
    return true;
}

enum status hf_normalize(struct buf *out, const struct hf_tokenizer *h, struct bytes text,
                         struct err *e)
{
    struct buf spare[2];
    enum status st = OK;

    buf_init(&spare[0], out->max);
    buf_init(&spare[1], out->max);
    for (size_t i = 0; i < h->n_normalizers && !st; i++) {
        struct buf *to = i + 1 == h->n_normalizers ? out : &spare[i % 2];

        buf_reset(&spare[i % 2]);
        st = normalize_once(to, &h->normalizer[i], text, e);
        text = buf_bytes(to);
    }
    if (h->n_normalizers == 0)
        buf_append(out, text);
    buf_clear(&spare[0]);
    buf_clear(&spare[1]);
    return st ? st : buf_status(out, e);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static int by_pattern(const void *a, const void *b)
{
    const struct hf_added *const *x = a, *const *y = b;

    return bytes_compare((*x)->pattern, (*y)->pattern);
}

static enum status sort_patterns(struct hf_patterns *p, struct hf_tokenizer *h, bool normalized,
                                 struct err *e)
{
    // NOLINTNEXTLINE(bugprone-sizeof-expression): they are pointers
    const size_t size = sizeof(p->sorted[0]);
    enum status st = alloc_array(&p->sorted, h->n_added + 1, size, "added tokens", e);

    if (st)
        return st;
    for (size_t i = 0; i < h->n_added; i++)
        if (h->added[i].normalized == normalized && h->added[i].pattern.len > 0)
            p->sorted[p->n++] = &h->added[i];
    qsort(p->sorted, p->n, size, by_pattern);
    for (size_t i = 1; i < p->n; i++)
        if (bytes_equal(p->sorted[i]->pattern, p->sorted[i - 1]->pattern))
            return err_set(e, ERR_UNSUPPORTED,
                           "tokenizer.json: added tokens %d and %d look the same",
                           p->sorted[i - 1]->id, p->sorted[i]->id);
    for (size_t i = 0, b = 0; b <= 256; b++) {
        while (i < p->n && p->sorted[i]->pattern.data[0] < b)
            i++;
        p->first[b] = (uint32_t)i;
    }
    return OK;
}

enum status hf_sort_added(struct hf_tokenizer *h, struct err *e)
{
    enum status st = sort_patterns(&h->raw, h, false, e);

    return st ? st : sort_patterns(&h->normalized, h, true, e);
}

/* The longest pattern that stands at text[at], or NULL: the sorted list narrowed byte by byte. */
static const struct hf_added *match_at(const struct hf_patterns *p, struct bytes text,
                                       size_t at)
{
    size_t low = p->first[text.data[at]], high = p->first[text.data[at] + 1];
    const struct hf_added *found = NULL;

    for (size_t depth = 1; low < high; depth++) {
        if (p->sorted[low]->pattern.len == depth)
            found = p->sorted[low++];
        if (at + depth == text.len)
            break;
        const uint8_t want = text.data[at + depth];
        size_t a = low, b = high;

        while (a < b) {
            size_t mid = a + (b - a) / 2;
            if (p->sorted[mid]->pattern.data[depth] < want)
                a = mid + 1;
            else
                b = mid;
        }
        low = a;
        b = high;
        while (a < b) {
            size_t mid = a + (b - a) / 2;
            if (p->sorted[mid]->pattern.data[depth] <= want)
                a = mid + 1;
            else
                b = mid;
        }
        high = a;
    }
    return found;
}

static uint8_t class_after(const struct hf_tokenizer *h, struct bytes text, size_t at,
                           size_t *end)
{
    *end = at;
    return h->classes[utf8_get(text.data, end)];
}

static uint8_t class_before(const struct hf_tokenizer *h, struct bytes text, size_t at,
                            size_t *start)
{
    do
        at--;
    while (at > 0 && (text.data[at] & 0xc0) == 0x80);
    *start = at;
    return class_after(h, text, at, &at);
}

static bool stands_alone(const struct hf_tokenizer *h, struct bytes text, size_t from,
                         size_t to)
{
    size_t ignored;

    return (from == 0 || !(class_before(h, text, from, &ignored) & UTF8_IS_WORD)) &&
           (to == text.len || !(class_after(h, text, to, &ignored) & UTF8_IS_WORD));
}

struct match {
    const struct hf_added *token; /* NULL: the end of the text */
    size_t from, to;
};

/* The next added token in text[*at ..], which is in use from `done`. A match that does not count
 * (a special token in plain text, part of a word) is passed over whole, as the reference does. */
static struct match next_match(const struct hf_tokenizer *h, const struct hf_patterns *p,
                               struct bytes text, size_t *at, size_t done, bool reads_specials)
{
    while (p->n > 0 && *at < text.len) {
        const struct hf_added *found = match_at(p, text, *at);
        struct match m = {found, *at, *at};
        size_t next;

        if (!found) {
            *at += 1;
            continue;
        }
        m.to = *at += found->pattern.len;
        if (found->is_special && !reads_specials)
            continue;
        if (found->single_word && !stands_alone(h, text, m.from, m.to))
            continue;
        /* What an earlier token took is not walked over again: for each of many tokens side by
         * side that would be the square of their number. */
        while (found->lstrip && m.from > done &&
               (class_before(h, text, m.from, &next) & UTF8_CLASS) == UTF8_SPACE)
            m.from = next;
        if (found->lstrip && m.from < done)
            m.from = done;
        if (found->rstrip && m.to < done)
            m.to = done; /* the token before took the spaces up to here */
        while (found->rstrip && m.to < text.len &&
               (class_after(h, text, m.to, &next) & UTF8_CLASS) == UTF8_SPACE)
            m.to = next;
        if (m.from >= m.to)
            continue; /* the token before has taken all of it */
        return m;
    }
    return (struct match){NULL, text.len, text.len};
}

/* ---- pre-tokenizing -------------------------------------------------------------------------- */

struct job {
    const struct hf_tokenizer *h;
    struct bpe_out *out;
    bool reads_specials;
    struct err *e;
};

static enum status run_step(const struct job *j, size_t i, struct bytes text, bool is_first);

/* Text that a step changed goes on through a buffer of its own. */
static enum status run_changed(const struct job *j, size_t i, struct bytes text, bool is_first,
                               bool has_prefix, struct bytes prefix, struct bytes from,
                               struct bytes to)
{
    struct buf changed;
    enum status st;

    buf_init(&changed, text.len * (to.len + 1) + prefix.len);
    if (has_prefix)
        buf_append(&changed, prefix);
    if (from.len > 0)
        put_replaced(&changed, text, from, to);
    else
        buf_append(&changed, text);
    st = buf_status(&changed, j->e);
    if (!st)
        st = run_step(j, i, buf_bytes(&changed), is_first);
    buf_clear(&changed);
    return st;
}

static enum status run_metaspace(const struct job *j, size_t i, struct bytes text,
                                 bool is_first)
{
    const struct hf_step *s = &j->h->step[i];
    const struct bytes mark = text_of(&s->mark);
    const bool has_mark = text.data[0] == ' ' || begins_with(text, 0, mark);
    const bool may = s->prepend == HF_ALWAYS || (s->prepend == HF_FIRST && is_first);

    return run_changed(j, i + 1, text, is_first, may && !has_mark, mark, BYTES_LIT(" "), mark);
}

/* Cuts at a literal. With the previous, each mark ends a piece; with the next, it begins one. */
static enum status run_split(const struct job *j, size_t i, struct bytes text, bool is_first)
{
    const struct hf_step *s = &j->h->step[i];
    const struct bytes mark = text_of(&s->mark);
    size_t from = 0, at = 0;
    enum status st = OK;

    while (at < text.len && !st) {
        if (!begins_with(text, at, mark)) {
            at++;
            continue;
        }
        size_t end = s->place == HF_WITH_PREVIOUS ? at + mark.len : at;
        size_t next = s->place == HF_WITH_NEXT ? at : at + mark.len;
        if (end > from)
            st = run_step(j, i + 1, slice(text, from, end), is_first && from == 0);
        if (!st && s->place == HF_ISOLATED)
            st = run_step(j, i + 1, slice(text, at, next), is_first && at == 0);
        from = next;
        at += mark.len;
    }
    if (!st && from < text.len)
        st = run_step(j, i + 1, slice(text, from, text.len), is_first && from == 0);
    return st;
}

static enum status run_step(const struct job *j, size_t i, struct bytes text, bool is_first)
{
    const struct hf_tokenizer *h = j->h;
    const struct hf_step *s = &h->step[i];
    enum status st = OK;

    if (i == h->n_steps)
        return bpe_encode(h->bpe, text, j->out, j->e);
    switch (s->kind) {
    case HF_PREFIX_SPACE:
        if (text.data[0] == ' ')
            return run_step(j, i + 1, text, is_first);
        return run_changed(j, i + 1, text, is_first, true, BYTES_LIT(" "), (struct bytes){0},
                           (struct bytes){0});
    case HF_METASPACE: return run_metaspace(j, i, text, is_first);
    case HF_SPLIT: return run_split(j, i, text, is_first);
    case HF_CUT: break;
    }
    for (size_t at = 0; at < text.len && !st;) {
        size_t end = s->cut(h->classes, text, at);

        if (i + 1 == h->n_steps)
            st = bpe_encode(h->bpe, slice(text, at, end), j->out, j->e);
        else
            st = run_step(j, i + 1, slice(text, at, end), is_first && at == 0);
        at = end;
    }
    return st;
}

/* ---- encoding -------------------------------------------------------------------------------- */

typedef enum status text_between(const struct job *j, struct bytes text, bool is_first);

/* Ids of the added tokens in `text`, and `between` on what is between them. */
static enum status each_match(const struct job *j, const struct hf_patterns *p,
                              struct bytes text, bool is_first, text_between *between)
{
    size_t at = 0, done = 0;
    enum status st = OK;

    while (!st) {
        const struct match m = next_match(j->h, p, text, &at, done, j->reads_specials);

        if (done < m.from)
            st = between(j, slice(text, done, m.from), is_first && done == 0);
        if (st || !m.token)
            return st;
        if (j->out->n == j->out->cap)
            return err_set(j->e, ERR_LIMIT, "the text is longer than %zu tokens", j->out->cap);
        j->out->ids[j->out->n++] = m.token->id;
        done = m.to;
    }
    return st;
}

static enum status encode_words(const struct job *j, struct bytes text, bool is_first)
{
    return run_step(j, 0, text, is_first);
}

static enum status encode_between(const struct job *j, struct bytes text, bool is_first)
{
    struct buf changed;
    enum status st;

    if (is_untouched(j->h, text))
        return each_match(j, &j->h->normalized, text, is_first, encode_words);
    buf_init(&changed, 32 * text.len + 4096); /* what a hostile replacement may make of it */
    st = hf_normalize(&changed, j->h, text, j->e);
    if (!st)
        st = each_match(j, &j->h->normalized, buf_bytes(&changed), is_first, encode_words);
    buf_clear(&changed);
    return st;
}

enum status hf_encode(const struct hf_tokenizer *h, struct bytes text, bool is_first,
                      bool reads_specials, struct bpe_out *out, struct err *e)
{
    const struct job j = {h, out, reads_specials, e};

    return each_match(&j, &h->raw, text, is_first, encode_between);
}
