/*
 * Every code point, and megabytes of nasty text, against digests of what the Python package
 * tokenizers gives (tests/reference/tokenizer.py digests): through small tokenizers of each family,
 * and through published vocabularies where they are at hand, in ../shared or in the directory
 * $MUSTER_VOCABULARIES (tests/reference/published.py makes it).
 *
 * Of the small ones 1 MB each, with TOKENIZER_FULL=1 ten; of the published ones ten. With a
 * sanitizer it would take minutes, and is skipped; test_tokenizer_hf has the same code under one.
 */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "base/alloc.h"
#include "base/file.h"
#include "engine/utf8.h"
#include "support/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

#define VECTORS MUSTER_SOURCE_DIR "/tests/vectors/tokenizer"
#define SHARED  MUSTER_SOURCE_DIR "/../shared/vectors/tokenizer"

#define MB           ((size_t)1000000)
#define LONG_PIECES  20000u /* of every hundredth text */
#define TEXT_MAX     ((size_t)16 << 20)
#define PIECES_LIMIT 400u

struct state {
    json_t *small, *published; /* the expected digests by name */
    json_t *nasty;             /* what texts are made of */
};

/* ---- the vocabularies ------------------------------------------------------------------------ */

static json_t *read_json(const char *path)
{
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);

    if (!root)
        fail_msg("cannot read %s", path);
    return root;
}

static struct tokenizer *load(const char *dir, const char *name)
{
    char path[512];
    struct tokenizer *t;
    struct err e;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_ok(tokenizer_load(&t, path, &e), &e);
    return t;
}

static void digest_end(char hex[65], crypto_generichash_state *h)
{
    uint8_t digest[32];

    crypto_generichash_final(h, digest, sizeof(digest));
    hex_encode(hex, (struct bytes){digest, sizeof(digest)});
}

/* Whether the vocabulary is in `dir`. One by that name that is another is an error: nothing was
 * measured of it. */
static bool is_here(const char *dir, const char *name, const json_t *want)
{
    crypto_generichash_state h;
    char path[512], hex[65];
    struct buf text;
    struct err e;
    enum status st;

    snprintf(path, sizeof(path), "%s/%s/tokenizer.json", dir, name);
    buf_init(&text, (size_t)64 << 20);
    st = file_read(&text, path, &e);
    if (!st) {
        crypto_generichash_init(&h, NULL, 0, 32);
        crypto_generichash_update(&h, text.data, text.len);
        digest_end(hex, &h);
        assert_string_equal(hex, json_string_value(json_object_get(want, "file")));
    } else {
        assert_status(st, ERR_NOT_FOUND, &e);
    }
    buf_clear(&text);
    return !st;
}

typedef void check_fn(const struct state *s, const struct tokenizer *t, const char *name,
                      const json_t *want, bool is_published);

static void for_all(const struct state *s, check_fn *check)
{
    const char *elsewhere = getenv("MUSTER_VOCABULARIES"), *name;
    json_t *want;

    json_object_foreach(s->small, name, want)
    {
        struct tokenizer *t = load(VECTORS, name);

        check(s, t, name, want, false);
        tokenizer_free(&t);
    }
    json_object_foreach(s->published, name, want)
    {
        const char *dir = elsewhere ? elsewhere : SHARED;

        if (!is_here(dir, name, want)) {
            printf("%s is not here, and was not run\n", name);
            continue;
        }
        struct tokenizer *t = load(dir, name);
        check(s, t, name, want, true);
        tokenizer_free(&t);
    }
}

/* ---- code points ------------------------------------------------------------------------------ */

/* "c ac b c1'c\nc" of one code point, as tests/reference/tokenizer.py has it. */
static void put_point_text(struct buf *text, uint32_t c)
{
    static const char *const between[] = {" a", "b ", "1'", "\n", ""};

    buf_reset(text);
    for (size_t i = 0; i < 5; i++) {
        utf8_put(text, c);
        buf_append(text, bytes_str(between[i]));
    }
}

static void put_ids(crypto_generichash_state *h, struct buf *packed, const int32_t *ids,
                    size_t n)
{
    buf_reset(packed);
    buf_put_u32(packed, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        buf_put_u32(packed, (uint32_t)ids[i]);
    crypto_generichash_update(h, packed->data, packed->len);
}

static void check_points(const struct state *s, const struct tokenizer *t, const char *name,
                         const json_t *want, bool is_published)
{
    (void)s;
    (void)is_published;
    crypto_generichash_state h;
    char hex[65];
    struct buf text, packed;
    int32_t ids[256];
    struct err e;
    size_t n;

    buf_init(&text, 64);
    buf_init(&packed, 2048);
    crypto_generichash_init(&h, NULL, 0, 32);
    for (uint32_t c = 0; c < UTF8_CODE_SPACE; c++) {
        if (c == 0xd800)
            c = 0xe000;
        put_point_text(&text, c);
        assert_ok(tokenizer_encode(t, buf_bytes(&text), ids, 256, &n, &e), &e);
        put_ids(&h, &packed, ids, n);
    }
    digest_end(hex, &h);
    if (strcmp(hex, json_string_value(json_object_get(want, "points"))) != 0)
        fail_msg("%s: some code point has other ids", name);
    buf_clear(&text);
    buf_clear(&packed);
}

static void every_code_point_gives_the_ids_of_the_reference(void **state)
{
    for_all(*state, check_points);
}

/* ---- nasty text ------------------------------------------------------------------------------ */

/* splitmix64: what Python can do as well in a line. */
static uint32_t below(uint64_t *mix, uint32_t n)
{
    uint64_t z = *mix += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

struct pool_of_points {
    uint32_t point[64];
    uint32_t n;
};

/* What pieces of text come from. */
struct source {
    uint64_t mix;
    const struct tokenizer *t;
    struct pool_of_points pools[64];
    uint32_t n_pools;
    const json_t *bits;
    int32_t *specials; /* owned */
    uint32_t n_specials;
};

static void source_init(struct source *s, const struct tokenizer *t, const json_t *nasty)
{
    const json_t *pools = json_object_get(nasty, "pools");

    *s = (struct source){.mix = 1, .t = t, .bits = json_object_get(nasty, "bits")};
    assert_true(json_array_size(pools) <= 64);
    for (; s->n_pools < json_array_size(pools); s->n_pools++) {
        const struct bytes text =
            bytes_str(json_string_value(json_array_get(pools, s->n_pools)));
        struct pool_of_points *p = &s->pools[s->n_pools];

        for (size_t at = 0; at < text.len && p->n < 64; p->n++)
            assert_true(utf8_next(&p->point[p->n], text, &at));
    }
    s->specials = xcalloc(tokenizer_vocab(t), sizeof(s->specials[0]));
    for (uint32_t id = 0; id < tokenizer_vocab(t); id++)
        if (tokenizer_is_special(t, (int32_t)id))
            s->specials[s->n_specials++] = (int32_t)id;
}

static void put_piece(struct buf *text, struct source *s)
{
    const uint32_t kind = below(&s->mix, 12);
    uint32_t n;

    switch (kind) {
    case 0:
        buf_append(text,
                   tokenizer_string(s->t, (int32_t)below(&s->mix, tokenizer_vocab(s->t))));
        return;
    case 1:
        buf_append(text, tokenizer_string(s->t, s->specials[below(&s->mix, s->n_specials)]));
        return;
    case 5:
        buf_append(text, bytes_str(json_string_value(json_array_get(
                             s->bits, below(&s->mix, (uint32_t)json_array_size(s->bits))))));
        return;
    default: break;
    }
    n = 1 + below(&s->mix, kind == 4 ? 19 : kind > 5 ? 8 : 5);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = ' ';

        if (kind == 2)
            c = below(&s->mix, UTF8_CODE_SPACE - 0x800);
        else if (kind == 3)
            c = below(&s->mix, 0x300);
        if (kind > 5) {
            const struct pool_of_points *p = &s->pools[below(&s->mix, s->n_pools)];
            c = p->point[below(&s->mix, p->n)];
        }
        utf8_put(text, c < 0xd800 || kind != 2 ? c : c + 0x800);
    }
}

/* All that is compared: two digests. */
struct nasty_run {
    struct source from;
    crypto_generichash_state ids, texts;
    struct buf text, packed, said;
    int32_t *got, *drawn; /* owned */
};

static void hash_said(struct nasty_run *r, const int32_t *ids, size_t n)
{
    struct err e;
    uint8_t len[4];

    buf_reset(&r->said);
    assert_ok(tokenizer_decode(&r->said, r->from.t, ids, n, &e), &e);
    for (int i = 0; i < 4; i++)
        len[i] = (uint8_t)(r->said.len >> (8 * i));
    crypto_generichash_update(&r->texts, len, 4);
    crypto_generichash_update(&r->texts, r->said.data, r->said.len);
}

/* One text: its ids read plainly and with special tokens, what they decode to, and what ids drawn
 * at random decode to. Returns its length. */
static size_t run_text(struct nasty_run *r, size_t number)
{
    struct source *s = &r->from;
    const uint32_t n_pieces =
        number % 100 == 99 ? LONG_PIECES : 1 + below(&s->mix, PIECES_LIMIT);
    const size_t cap = 4 * TEXT_MAX / sizeof(int32_t);
    struct err e;
    size_t n;

    buf_reset(&r->text);
    for (uint32_t i = 0; i < n_pieces; i++)
        put_piece(&r->text, s);
    for (int special = 0; special < 2; special++) {
        assert_ok((special ? tokenizer_encode_trusted
                           : tokenizer_encode)(s->t, buf_bytes(&r->text), r->got, cap, &n, &e),
                  &e);
        for (uint32_t i = 0; i < n_pieces; i++)
            r->drawn[i] = (int32_t)below(&s->mix, tokenizer_vocab(s->t));
        put_ids(&r->ids, &r->packed, r->got, n);
        hash_said(r, r->got, n);
        hash_said(r, r->drawn, n_pieces);
    }
    return r->text.len;
}

static void check_nasty(const struct state *state, const struct tokenizer *t, const char *name,
                        const json_t *want, bool is_published)
{
    const bool is_full = is_published || getenv("TOKENIZER_FULL");
    const json_t *both = json_object_get(json_object_get(want, "random"), is_full ? "10" : "1");
    struct nasty_run r;
    char ids[65], texts[65];

    source_init(&r.from, t, state->nasty);
    crypto_generichash_init(&r.ids, NULL, 0, 32);
    crypto_generichash_init(&r.texts, NULL, 0, 32);
    buf_init(&r.text, TEXT_MAX);
    buf_init(&r.packed, 4 * TEXT_MAX);
    buf_init(&r.said, 4 * TEXT_MAX);
    r.got = xmalloc(4 * TEXT_MAX);
    r.drawn = xmalloc(LONG_PIECES * sizeof(r.drawn[0]));
    for (size_t done = 0, n = 0; done < (is_full ? 10 * MB : MB); n++)
        done += run_text(&r, n);
    digest_end(ids, &r.ids);
    digest_end(texts, &r.texts);
    if (strcmp(ids, json_string_value(json_array_get(both, 0))) != 0)
        fail_msg("%s: some text has other ids", name);
    if (strcmp(texts, json_string_value(json_array_get(both, 1))) != 0)
        fail_msg("%s: some ids have another text", name);
    free(r.got);
    free(r.drawn);
    free(r.from.specials);
    buf_clear(&r.text);
    buf_clear(&r.packed);
    buf_clear(&r.said);
}

static void nasty_text_gives_the_ids_of_the_reference_and_back(void **state)
{
    for_all(*state, check_nasty);
}

static int read_digests(void **state)
{
    static struct state s;

    s.small = read_json(VECTORS "/small.json");
    s.published = read_json(VECTORS "/published.json");
    s.nasty = read_json(VECTORS "/nasty.json");
    *state = &s;
    return 0;
}

static int free_digests(void **state)
{
    struct state *s = *state;

    json_decref(s->small);
    json_decref(s->published);
    json_decref(s->nasty);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_gives_the_ids_of_the_reference),
        cmocka_unit_test(nasty_text_gives_the_ids_of_the_reference_and_back),
    };

    if (IS_SANITIZED) {
        printf("skipped: a build with a sanitizer\n");
        return 77;
    }
    return cmocka_run_group_tests_name("engine/tokenizer_digests", tests, read_digests,
                                       free_digests);
}
