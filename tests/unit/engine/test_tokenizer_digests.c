/*
 * Every code point through small tokenizers of each family, against the digest of what the Python
 * package tokenizers gives (tests/reference/tokenizer.py). Ten million texts in all: with a sanitizer
 * it would take minutes, and is skipped; test_tokenizer_hf has the same code under one.
 */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "engine/utf8.h"
#include "support/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

#define VECTORS MUSTER_SOURCE_DIR "/tests/vectors/tokenizer/"

static const char *const family[] = {"gpt2", "llama3", "qwen",    "marks",    "tekken",
                                     "odd",  "llama",  "mistral", "metaspace"};
#define N_FAMILIES (sizeof(family) / sizeof(family[0]))

static struct tokenizer *load(const char *name)
{
    char dir[512];
    struct tokenizer *t;
    struct err e;

    snprintf(dir, sizeof(dir), VECTORS "%s", name);
    assert_ok(tokenizer_load(&t, dir, &e), &e);
    return t;
}

static json_t *cases_of(const char *name)
{
    char path[512];
    json_t *root;

    snprintf(path, sizeof(path), VECTORS "%s/cases.json", name);
    root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    return root;
}

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

static void every_code_point_gives_the_ids_of_the_reference(void **state)
{
    (void)state;
    crypto_generichash_state h;
    uint8_t digest[32];
    char hex[65];
    struct buf text, packed;
    int32_t ids[256];
    struct err e;
    size_t n;

    buf_init(&text, 64);
    buf_init(&packed, 2048);
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = load(family[f]);
        json_t *root = cases_of(family[f]);

        crypto_generichash_init(&h, NULL, 0, sizeof(digest));
        for (uint32_t c = 0; c < UTF8_CODE_SPACE; c++) {
            if (c == 0xd800)
                c = 0xe000;
            put_point_text(&text, c);
            assert_ok(tokenizer_encode(t, buf_bytes(&text), ids, 256, &n, &e), &e);
            buf_reset(&packed);
            buf_put_u32(&packed, (uint32_t)n);
            for (size_t i = 0; i < n; i++)
                buf_put_u32(&packed, (uint32_t)ids[i]);
            crypto_generichash_update(&h, packed.data, packed.len);
        }
        crypto_generichash_final(&h, digest, sizeof(digest));
        hex_encode(hex, (struct bytes){digest, sizeof(digest)});
        if (strcmp(hex, json_string_value(json_object_get(root, "points"))) != 0)
            fail_msg("%s: some code point has other ids", family[f]);
        json_decref(root);
        tokenizer_free(&t);
    }
    buf_clear(&text);
    buf_clear(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_gives_the_ids_of_the_reference),
    };

    if (IS_SANITIZED) {
        printf("skipped: a build with a sanitizer\n");
        return 77;
    }
    return cmocka_run_group_tests_name("engine/tokenizer_points", tests, NULL, NULL);
}
