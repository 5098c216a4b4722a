#include "engine/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/utf8.h"

#define NO_RANK   UINT32_MAX
#define WHOLE_MAX 4096u /* bytes of a word that is known to encode to itself */
#define SHORT_MAX 64u   /* symbols: up to here the best pair is looked for by walking */
/* Tables are half empty, where a run of 128 full slots does not come about by chance. */
#define PROBES_MAX 128u

static const uint8_t space_mark[] = {0xe2, 0x96, 0x81}; /* U+2581, a space in SentencePiece */

struct word_slot {
    uint32_t hash;
    int32_t id; /* -1: free */
};

struct pair_slot {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank; /* NO_RANK: free */
    int32_t result;
};

struct bpe {
    struct bpe_spec spec; /* words and merges are NULL: they live in the tables */
    uint8_t *text;        /* owned: the words, one after the other */
    size_t *start;        /* owned: where word i begins in it; n_words + 1 of them */
    struct word_slot *word;
    size_t word_mask;
    struct pair_slot *pair;
    size_t pair_mask;
    size_t longest;     /* word, in bytes */
    int32_t ascii[128]; /* the words of one such character; -1: none */
    int32_t mark;       /* the word that is a space mark, or -1 */
    uint8_t *is_whole;  /* owned, by id: its word encodes to itself */
    bool cuts_at_marks; /* no merge reaches over the place before a space mark */
};

/* ---- tables ---------------------------------------------------------------------------------- */

static uint32_t hash_bytes(struct bytes in)
{
    const uint64_t k = 0x9e3779b97f4a7c15u;
    uint64_t h = in.len * k, w = 0;
    size_t at = 0;

    for (; in.len - at >= 8; at += 8) {
        memcpy(&w, in.data + at, 8);
        h = (h ^ w) * k;
        h ^= h >> 32;
    }
    w = 0;
    for (size_t i = 0; i < in.len - at; i++)
        w |= (uint64_t)in.data[at + i] << (8 * i);
    h = (h ^ w) * k;
    h ^= h >> 29;
    h *= k;
    return (uint32_t)(h >> 32);
}

static size_t hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    pair ^= pair >> 32;
    pair *= 0xd6e8feb86659fd93u;
    return (size_t)(pair >> 24);
}

static struct bytes word_of(const struct bpe *b, int32_t id)
{
    return (struct bytes){b->text + b->start[id], b->start[id + 1] - b->start[id]};
}

int32_t bpe_find(const struct bpe *b, struct bytes text)
{
    if (text.len > b->longest || text.len == 0)
        return -1;
    uint32_t hash = hash_bytes(text);

    for (size_t i = hash & b->word_mask;; i = (i + 1) & b->word_mask) {
        const struct word_slot *s = &b->word[i];

        if (s->id < 0)
            return -1;
        if (s->hash == hash && bytes_equal(word_of(b, s->id), text))
            return s->id;
    }
}

static inline const struct pair_slot *find_pair(const struct bpe *b, int32_t left,
                                                int32_t right)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    for (size_t i = hash_pair(pair) & b->pair_mask;; i = (i + 1) & b->pair_mask) {
        const struct pair_slot *s = &b->pair[i];

        if (s->pair == pair || s->rank == NO_RANK)
            return s;
    }
}

static size_t table_size(size_t n)
{
    size_t size = 16;

    while (size < 2 * n)
        size *= 2;
    return size;
}

static enum status too_crowded(const char *what, struct err *e)
{
    return err_set(e, ERR_MALFORMED, "the %s collide more than any by chance", what);
}

static enum status put_words(struct bpe *b, const struct bpe_spec *spec, struct err *e)
{
    const size_t size = table_size(spec->n_words);
    size_t total = 0;
    enum status st;

    for (size_t i = 0; i < spec->n_words; i++)
        total += spec->words[i].len;
    st = alloc_array(&b->text, total + 1, 1, "a vocabulary", e);
    if (!st)
        st = alloc_array(&b->start, spec->n_words + 1, sizeof(*b->start), "a vocabulary", e);
    if (!st)
        st = alloc_array(&b->word, size, sizeof(*b->word), "a vocabulary", e);
    if (st)
        return st;
    b->word_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        b->word[i].id = -1;
    total = 0;
    for (size_t id = 0; id < spec->n_words; id++) {
        const struct bytes w = spec->words[id];
        size_t probes = 0, i;

        b->start[id] = total;
        b->start[id + 1] = total + w.len;
        if (w.len == 0)
            continue;
        memcpy(b->text + total, w.data, w.len);
        total += w.len;
        b->longest = w.len > b->longest ? w.len : b->longest;
        const uint32_t hash = hash_bytes(w);
        for (i = hash & b->word_mask; b->word[i].id >= 0; i = (i + 1) & b->word_mask)
            if (++probes > PROBES_MAX)
                return too_crowded("words", e);
        b->word[i] = (struct word_slot){hash, (int32_t)id};
    }
    return OK;
}

static enum status put_merges(struct bpe *b, const struct bpe_spec *spec, struct err *e)
{
    const size_t size = table_size(spec->n_merges);
    enum status st = alloc_array(&b->pair, size, sizeof(*b->pair), "merges", e);

    if (st)
        return st;
    b->pair_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        b->pair[i] = (struct pair_slot){UINT64_MAX, NO_RANK, -1};
    for (size_t rank = 0; rank < spec->n_merges; rank++) {
        const struct bpe_merge *m = &spec->merges[rank];
        const uint64_t pair = (uint64_t)(uint32_t)m->left << 32 | (uint32_t)m->right;
        size_t probes = 0, i;

        for (i = hash_pair(pair) & b->pair_mask;
             b->pair[i].rank != NO_RANK && b->pair[i].pair != pair; i = (i + 1) & b->pair_mask)
            if (++probes > PROBES_MAX)
                return too_crowded("merges", e);
        b->pair[i] = (struct pair_slot){pair, (uint32_t)rank, m->result};
    }
    return OK;
}

static bool is_mark(struct bytes text, size_t at)
{
    return text.len - at >= sizeof(space_mark) &&
           memcmp(text.data + at, space_mark, sizeof(space_mark)) == 0;
}

/* Does the text go on with a mark somewhere after something that is none? */
static bool spans_a_mark(struct bytes text)
{
    size_t at = 0;

    while (is_mark(text, at))
        at += sizeof(space_mark);
    for (; at < text.len; at++)
        if (is_mark(text, at))
            return true;
    return false;
}

/* ---- merging --------------------------------------------------------------------------------- */

static enum status emit(struct bpe_out *out, int32_t id, struct err *e)
{
    if (out->n == out->cap)
        return err_set(e, ERR_LIMIT, "the text is longer than %zu tokens", out->cap);
    out->ids[out->n++] = id;
    return OK;
}

/* The id of the symbol at *at, which moves on behind it; -1 where it has none. */
static int32_t next_symbol(const struct bpe *b, struct bytes word, size_t *at)
{
    const size_t from = *at;
    uint32_t c;

    if (b->spec.by_bytes)
        return b->spec.byte_id[word.data[(*at)++]];
    c = utf8_get(word.data, at);
    return c < 128       ? b->ascii[c]
           : c == 0x2581 ? b->mark
                         : bpe_find(b, (struct bytes){word.data + from, *at - from});
}

/* Whether every byte has an id of its own. */
static bool falls_back(const struct bpe_spec *s, struct bytes symbol)
{
    bool fits = s->byte_fallback;

    for (size_t i = 0; i < symbol.len; i++)
        fits = fits && s->byte_id[symbol.data[i]] >= 0;
    return fits;
}

/* The ids of the symbols of `word` before any merge; there is room for one a byte. */
static size_t symbols(const struct bpe *b, struct bytes word, int32_t *ids)
{
    const struct bpe_spec *s = &b->spec;
    bool unk_waits = false; /* the reference files an unk when it meets the next known symbol */
    size_t n = 0, at = 0;

    while (at < word.len) {
        const size_t from = at;
        const int32_t id = next_symbol(b, word, &at);

        if (id >= 0) {
            if (unk_waits)
                ids[n++] = s->unk;
            unk_waits = false;
            ids[n++] = id;
            continue;
        }
        if (falls_back(s, (struct bytes){word.data + from, at - from})) {
            for (size_t i = from; i < at; i++)
                ids[n++] = s->byte_id[word.data[i]];
        } else if (s->unk >= 0) {
            if (unk_waits && !s->fuse_unk)
                ids[n++] = s->unk;
            unk_waits = true;
        }
    }
    if (unk_waits)
        ids[n++] = s->unk;
    return n;
}

static uint32_t rank_of(const struct bpe *b, int32_t left, int32_t right)
{
    return find_pair(b, left, right)->rank;
}

/* Merges in place, by walking. Returns how many are left. */
static size_t merge_short(const struct bpe *b, int32_t *ids, size_t n)
{
    uint32_t rank[SHORT_MAX];

    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(b, ids[i], ids[i + 1]);
    for (;;) {
        uint32_t best = NO_RANK;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            if (rank[i] < best) {
                best = rank[i];
                at = i;
            }
        }
        if (best == NO_RANK)
            return n;
        ids[at] = find_pair(b, ids[at], ids[at + 1])->result;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        if (at + 2 < n)
            memmove(rank + at + 1, rank + at + 2, (n - at - 2) * sizeof(*rank));
        n--;
        if (at + 1 < n)
            rank[at] = rank_of(b, ids[at], ids[at + 1]);
        if (at > 0)
            rank[at - 1] = rank_of(b, ids[at - 1], ids[at]);
    }
}

/* A long word: symbols in a list, and a heap of rank << 32 | place, the least on top. */
struct merging {
    const struct bpe *b;
    int32_t *ids;          /* borrowed */
    uint32_t *rank;        /* owned, by place: of the pair with the next; NO_RANK: none */
    uint32_t *prev, *next; /* owned, by place */
    uint64_t *heap;        /* owned */
    size_t n, n_heap;
};

static void sift_down(struct merging *m, size_t i)
{
    uint64_t v = m->heap[i];

    for (;;) {
        size_t child = 4 * i + 1, last = child + 4 < m->n_heap ? child + 4 : m->n_heap;
        size_t least = child;

        if (child >= m->n_heap)
            break;
        for (size_t c = child + 1; c < last; c++)
            least = m->heap[c] < m->heap[least] ? c : least;
        if (m->heap[least] >= v)
            break;
        m->heap[i] = m->heap[least];
        i = least;
    }
    m->heap[i] = v;
}

static void push(struct merging *m, uint64_t v)
{
    size_t i = m->n_heap++;

    for (; i > 0 && m->heap[(i - 1) / 4] > v; i = (i - 1) / 4)
        m->heap[i] = m->heap[(i - 1) / 4];
    m->heap[i] = v;
}

/* The pair at `place` has changed: its rank, and an entry in the heap if it has one. */
static void file_pair(struct merging *m, size_t place)
{
    size_t next = m->next[place];

    m->rank[place] = next < m->n ? rank_of(m->b, m->ids[place], m->ids[next]) : NO_RANK;
    if (m->rank[place] != NO_RANK)
        push(m, (uint64_t)m->rank[place] << 32 | place);
}

static void merge_at(struct merging *m, size_t place)
{
    size_t right = m->next[place], after = m->next[right];

    m->ids[place] = find_pair(m->b, m->ids[place], m->ids[right])->result;
    m->ids[right] = -1;
    m->rank[right] = NO_RANK;
    m->next[place] = (uint32_t)after;
    if (after < m->n)
        m->prev[after] = (uint32_t)place;
    file_pair(m, place);
    if (place > 0)
        file_pair(m, m->prev[place]);
}

/* As merge_short, for any length below 2^31. A merge takes an entry from the heap and files at most
 * two, so there are never more than 2n. */
static enum status merge_long(const struct bpe *b, int32_t *ids, size_t *n, struct err *e)
{
    struct merging m = {.b = b, .ids = ids, .n = *n};
    size_t kept = 0;
    enum status st = alloc_array(&m.rank, m.n, sizeof(*m.rank), "a long word", e);

    if (!st)
        st = alloc_array(&m.prev, m.n, sizeof(*m.prev), "a long word", e);
    if (!st)
        st = alloc_array(&m.next, m.n, sizeof(*m.next), "a long word", e);
    if (!st)
        st = alloc_array(&m.heap, 2 * m.n, sizeof(*m.heap), "a long word", e);
    if (st)
        goto out;
    for (size_t i = 0; i < m.n; i++) {
        m.prev[i] = (uint32_t)i - 1;
        m.next[i] = (uint32_t)i + 1;
        m.rank[i] = i + 1 < m.n ? rank_of(b, ids[i], ids[i + 1]) : NO_RANK;
        if (m.rank[i] != NO_RANK)
            m.heap[m.n_heap++] = (uint64_t)m.rank[i] << 32 | i;
    }
    for (size_t i = m.n_heap / 4 + 1; i-- > 0 && m.n_heap > 0;)
        if (i < m.n_heap)
            sift_down(&m, i);
    while (m.n_heap > 0) {
        uint64_t top = m.heap[0];

        m.heap[0] = m.heap[--m.n_heap];
        if (m.n_heap > 0)
            sift_down(&m, 0);
        if (m.rank[(uint32_t)top] == top >> 32)
            merge_at(&m, (uint32_t)top);
    }
    for (size_t i = 0; i < m.n; i++)
        if (ids[i] >= 0)
            ids[kept++] = ids[i];
    *n = kept;
out:
    free(m.rank);
    free(m.prev);
    free(m.next);
    free(m.heap);
    return st;
}

/* One word through its symbols and merges. */
static enum status merge_word(const struct bpe *b, struct bytes word, struct bpe_out *out,
                              struct err *e)
{
    int32_t few[SHORT_MAX], *ids = few;
    size_t n;
    enum status st = OK;

    if (word.len > SHORT_MAX)
        st = alloc_array(&ids, word.len, sizeof(*ids), "a long word", e);
    if (st)
        return st;
    n = symbols(b, word, ids);
    if (n > SHORT_MAX)
        st = merge_long(b, ids, &n, e);
    else
        n = merge_short(b, ids, n);
    for (size_t i = 0; i < n && !st; i++)
        st = emit(out, ids[i], e);
    if (ids != few)
        free(ids);
    return st;
}

static enum status encode_cut(const struct bpe *b, struct bytes word, struct bpe_out *out,
                              struct err *e)
{
    int32_t id = bpe_find(b, word);

    if (id >= 0 && b->is_whole[id])
        return emit(out, id, e);
    return merge_word(b, word, out, e);
}

enum status bpe_encode(const struct bpe *b, struct bytes word, struct bpe_out *out,
                       struct err *e)
{
    size_t at = 0;
    enum status st = OK;

    if (word.len > INT32_MAX)
        return err_set(e, ERR_LIMIT, "a word of %zu bytes is too long", word.len);
    if (!b->cuts_at_marks)
        return encode_cut(b, word, out, e);
    if (b->spec.ignore_merges && bpe_find(b, word) >= 0)
        return emit(out, bpe_find(b, word), e);
    while (at < word.len && !st) {
        size_t from = at;

        while (at < word.len && is_mark(word, at))
            at += sizeof(space_mark);
        while (at < word.len && !is_mark(word, at)) {
            const uint8_t *next = memchr(word.data + at + 1, space_mark[0], word.len - at - 1);

            at = next ? (size_t)(next - word.data) : word.len;
        }
        const struct bytes cut = {word.data + from, at - from};
        st = b->spec.ignore_merges ? merge_word(b, cut, out, e) : encode_cut(b, cut, out, e);
    }
    return st;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* The characters that most symbols are. */
static void find_characters(struct bpe *b)
{
    for (int c = 0; c < 128; c++) {
        const uint8_t byte = (uint8_t)c;

        b->ascii[c] = bpe_find(b, BYTES_OF(byte));
    }
    b->mark = bpe_find(b, BYTES_OF(space_mark));
}

/* Which words encode to themselves, which saves the merges when a text has them. The longest are
 * left to their merges: no text has a word of megabytes, and a file may. */
static enum status find_whole(struct bpe *b, struct err *e)
{
    enum status st = alloc_array(&b->is_whole, b->spec.n_words + 1, 1, "a vocabulary", e);

    for (size_t id = 0; id < b->spec.n_words && !st; id++) {
        const struct bytes w = word_of(b, (int32_t)id);
        int32_t one;
        struct bpe_out out = {&one, 0, 1};

        if (b->spec.ignore_merges) {
            b->is_whole[id] = 1;
            continue;
        }
        if (w.len == 0 || w.len > WHOLE_MAX)
            continue;
        st = merge_word(b, w, &out, NULL);
        b->is_whole[id] = !st && out.n == 1 && one == (int32_t)id;
        if (st == ERR_LIMIT) /* it falls into several */
            st = OK;
        else if (st)
            return err_set(e, st, "no memory for a vocabulary");
    }
    return st;
}

/* A merge whose result spans a mark, or takes in an unk, whose word is not its text, ties what
 * comes before a mark to what comes after. */
static bool may_cut(const struct bpe *b, const struct bpe_spec *spec)
{
    if (spec->by_bytes)
        return false;
    for (size_t i = 0; i < spec->n_merges; i++) {
        const struct bpe_merge *m = &spec->merges[i];

        if (m->left == spec->unk || m->right == spec->unk ||
            spans_a_mark(word_of(b, m->result)))
            return false;
    }
    return b->mark >= 0;
}

enum status bpe_new(struct bpe **out, const struct bpe_spec *spec, struct err *e)
{
    struct bpe *b = xcalloc(1, sizeof(*b));
    enum status st;

    *out = NULL;
    CHECK(spec->n_words <= BPE_MAX_IDS && spec->n_merges <= BPE_MAX_MERGES);
    b->spec = *spec;
    b->spec.words = NULL;
    b->spec.merges = NULL;
    st = put_words(b, spec, e);
    if (!st)
        find_characters(b);
    if (!st)
        st = put_merges(b, spec, e);
    if (!st)
        st = find_whole(b, e);
    if (st) {
        bpe_free(&b);
        return st;
    }
    b->cuts_at_marks = may_cut(b, spec);
    *out = b;
    return OK;
}

void bpe_free(struct bpe **b)
{
    if (!*b)
        return;
    free((*b)->text);
    free((*b)->start);
    free((*b)->word);
    free((*b)->pair);
    free((*b)->is_whole);
    free(*b);
    *b = NULL;
}
