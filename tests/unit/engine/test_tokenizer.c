/*
 * The byte and the character tokenizer.
 */
#include "engine/tokenizer.h"

#include <string.h>

#include "support/tempdir.h"
#include "support/test.h"

#define CAP 64

static struct tokenizer *make(enum tokenizer_kind kind, const char *alphabet)
{
    struct tokenizer *t;
    struct err e;

    assert_ok(tokenizer_new(&t, kind, bytes_str(alphabet), &e), &e);
    return t;
}

/* Fails unless `text` encodes and comes back. Returns the number of ids. */
static size_t round_trip(const struct tokenizer *t, const char *text, int32_t *ids)
{
    struct buf back;
    struct err e;
    size_t n;

    buf_init(&back, 1024);
    assert_ok(tokenizer_encode(t, bytes_str(text), ids, CAP, &n, &e), &e);
    assert_ok(tokenizer_decode(&back, t, ids, n, &e), &e);
    assert_string_equal(buf_cstr(&back), text);
    buf_clear(&back);
    return n;
}

static void bytes_are_their_own_ids(void **state)
{
    (void)state;
    struct tokenizer *t = make(TOKENIZER_BYTE, "");
    int32_t ids[CAP];

    assert_int_equal(round_trip(t, "A\xc3\xa9\xff", ids), 4);

    assert_int_equal(ids[0], 'A');
    assert_int_equal(ids[3], 0xff);
    assert_int_equal(tokenizer_vocab(t), 259);
    assert_int_equal(tokenizer_bos(t), 256);
    assert_int_equal(tokenizer_eos(t), 257);
    assert_int_equal(tokenizer_pad(t), 258);
    tokenizer_free(&t);
}

static void characters_are_numbered_in_the_order_given(void **state)
{
    (void)state;
    struct tokenizer *t = make(TOKENIZER_CHAR, "ba>\xc3\xa9\xf0\x9f\x98\x80");
    int32_t ids[CAP];

    assert_int_equal(round_trip(t, "ab>\xf0\x9f\x98\x80\xc3\xa9", ids), 5);

    assert_int_equal(ids[0], 4);
    assert_int_equal(ids[1], 3);
    assert_int_equal(ids[2], 5);
    assert_int_equal(ids[3], 7);
    assert_int_equal(ids[4], 6);
    assert_int_equal(tokenizer_vocab(t), 8);
    assert_int_equal(tokenizer_pad(t), 0);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    tokenizer_free(&t);
}

static void a_character_outside_the_alphabet_is_named(void **state)
{
    (void)state;
    struct tokenizer *t = make(TOKENIZER_CHAR, "abc");
    int32_t ids[CAP];
    struct err e;
    size_t n;

    assert_status(tokenizer_encode(t, bytes_str("ab\xc3\xa9"), ids, CAP, &n, &e), ERR_INVALID,
                  &e);

    assert_contains(e.text, "'\xc3\xa9' (U+00E9) at byte 2");
    tokenizer_free(&t);
}

static void text_that_is_not_utf8_is_malformed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\xe2\x82"};
    struct tokenizer *t = make(TOKENIZER_CHAR, "abc");
    int32_t ids[CAP];
    struct err e;
    size_t n;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_status(tokenizer_encode(t, bytes_str(texts[i]), ids, CAP, &n, &e), ERR_MALFORMED,
                      &e);
    tokenizer_free(&t);
}

static void more_tokens_than_there_is_room_for_is_a_limit(void **state)
{
    (void)state;
    struct tokenizer *t = make(TOKENIZER_CHAR, "abc");
    int32_t ids[2];
    struct err e;
    size_t n;

    assert_status(tokenizer_encode(t, bytes_str("abc"), ids, 2, &n, &e), ERR_LIMIT, &e);
    tokenizer_free(&t);
}

static void specials_decode_to_nothing_and_strangers_are_refused(void **state)
{
    (void)state;
    struct tokenizer *t = make(TOKENIZER_CHAR, "abc");
    static const int32_t ids[] = {1, 3, 0, 4, 2}, high[] = {6}, low[] = {-1};
    struct buf out;
    struct err e;

    buf_init(&out, 16);
    assert_ok(tokenizer_decode(&out, t, ids, 5, &e), &e);
    assert_string_equal(buf_cstr(&out), "ab");
    assert_status(tokenizer_decode(&out, t, high, 1, &e), ERR_INVALID, &e);
    assert_status(tokenizer_decode(&out, t, low, 1, &e), ERR_INVALID, &e);
    buf_clear(&out);
    tokenizer_free(&t);
}

static void bad_alphabets_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "aba", "a\xff", "\xc3\xa9x\xc3\xa9"};
    struct tokenizer *t;
    struct err e;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_status(tokenizer_new(&t, TOKENIZER_CHAR, bytes_str(bad[i]), &e), ERR_INVALID,
                      &e);
}

static void what_is_saved_loads(void **state)
{
    const char *dir = *state;
    struct tokenizer *t = make(TOKENIZER_CHAR, "a\"\\\n\xc3\xa9"), *back;
    int32_t ids[CAP];
    struct err e;

    assert_ok(tokenizer_save(t, dir, &e), &e);
    assert_ok(tokenizer_load(&back, dir, &e), &e);

    assert_int_equal(tokenizer_kind(back), TOKENIZER_CHAR);
    assert_int_equal(round_trip(back, "a\"\\\n\xc3\xa9", ids), 5);
    assert_int_equal(ids[4], 7);
    tokenizer_free(&t);
    tokenizer_free(&back);
}

static void others_tokenizers_are_unsupported(void **state)
{
    (void)state;
    static const char *const in[] = {
        "{\"version\":\"1.0\",\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}",
        "{\"type\":\"muster-word\",\"version\":1}",
        "{\"type\":\"muster-byte\",\"version\":2}",
        "{}",
    };
    struct tokenizer *t;
    struct err e;

    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_status(tokenizer_parse(&t, bytes_str(in[i]), &e), ERR_UNSUPPORTED, &e);
    assert_status(tokenizer_parse(&t, bytes_str(in[0]), &e), ERR_UNSUPPORTED, &e);
    assert_contains(e.text, "WordPiece");
}

static void rubbish_is_malformed(void **state)
{
    (void)state;
    static const char *const in[] = {
        "",
        "{\"type\":\"muster-byte\",\"version\":1,\"x\":1}",
        "{\"type\":\"muster-char\",\"version\":1}",
        "{\"type\":\"muster-char\",\"version\":1,\"alphabet\":3}",
        "{\"type\":\"muster-byte\",\"type\":\"muster-byte\",\"version\":1}",
    };
    struct tokenizer *t;
    struct err e;

    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_status(tokenizer_parse(&t, bytes_str(in[i]), &e), ERR_MALFORMED, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_their_own_ids),
        cmocka_unit_test(characters_are_numbered_in_the_order_given),
        cmocka_unit_test(a_character_outside_the_alphabet_is_named),
        cmocka_unit_test(text_that_is_not_utf8_is_malformed),
        cmocka_unit_test(more_tokens_than_there_is_room_for_is_a_limit),
        cmocka_unit_test(specials_decode_to_nothing_and_strangers_are_refused),
        cmocka_unit_test(bad_alphabets_are_refused),
        cmocka_unit_test_setup_teardown(what_is_saved_loads, tempdir_setup, tempdir_teardown),
        cmocka_unit_test(others_tokenizers_are_unsupported),
        cmocka_unit_test(rubbish_is_malformed),
    };
    return cmocka_run_group_tests_name("engine/tokenizer", tests, NULL, NULL);
}
