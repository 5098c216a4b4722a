/*
 * Tokenizers of Hugging Face's, held to what the Python package tokenizers gives: small ones of each
 * family, trained for this by tests/reference/tokenizer.py, in tests/vectors/tokenizer; and GPT-2's
 * own where ../shared has it.
 */
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "engine/utf8.h"
#include "support/tempdir.h"
#include "support/test.h"

#define VECTORS MUSTER_SOURCE_DIR "/tests/vectors/tokenizer/"
#define SHARED  MUSTER_SOURCE_DIR "/../shared/vectors/tokenizer/gpt2"
#define IDS_MAX 65536

static const char *const family[] = {"gpt2", "llama3", "qwen",    "marks",    "tekken",
                                     "odd",  "llama",  "mistral", "metaspace"};
#define N_FAMILIES (sizeof(family) / sizeof(family[0]))

static struct tokenizer *load(const char *dir)
{
    struct tokenizer *t;
    struct err e;

    assert_ok(tokenizer_load(&t, dir, &e), &e);
    return t;
}

static struct tokenizer *load_family(size_t i)
{
    char dir[512];

    snprintf(dir, sizeof(dir), VECTORS "%s", family[i]);
    return load(dir);
}

static json_t *cases_of(size_t i)
{
    char path[512];
    json_t *root;

    snprintf(path, sizeof(path), VECTORS "%s/cases.json", family[i]);
    root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    return root;
}

static struct bytes text_of(const json_t *value)
{
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

static void assert_ids(const char *what, struct bytes text, const int32_t *ids, size_t n,
                       const json_t *want)
{
    size_t same = 0;

    while (same < n && same < json_array_size(want) &&
           ids[same] == json_integer_value(json_array_get(want, same)))
        same++;
    if (same != n || same != json_array_size(want))
        fail_msg("%s: '%.*s': %zu ids, want %zu; the first %zu agree", what, (int)text.len,
                 (const char *)text.data, n, json_array_size(want), same);
}

/* Fails unless the ids decode to `want`, at once and id by id; what has come out on the way never
 * ends inside a character. */
static void assert_decodes(const struct tokenizer *t, const int32_t *ids, size_t n,
                           struct bytes want)
{
    struct tokenizer_stream s;
    struct buf at_once, by_id;
    struct err e;

    buf_init(&at_once, 1u << 20);
    buf_init(&by_id, 1u << 20);
    tokenizer_stream_init(&s, t);
    assert_ok(tokenizer_decode(&at_once, t, ids, n, &e), &e);
    for (size_t i = 0; i < n; i++) {
        assert_ok(tokenizer_stream_push(&s, &by_id, ids[i], &e), &e);
        assert_int_equal(utf8_valid(buf_bytes(&by_id)), by_id.len);
    }
    assert_ok(tokenizer_stream_flush(&s, &by_id, &e), &e);
    if (!bytes_equal(buf_bytes(&at_once), want) || !bytes_equal(buf_bytes(&by_id), want))
        fail_msg("decoded '%.300s' and '%.300s', want '%.300s'", buf_cstr(&at_once),
                 buf_cstr(&by_id), (const char *)want.data);
    tokenizer_stream_clear(&s);
    buf_clear(&at_once);
    buf_clear(&by_id);
}

static void cases_give_the_ids_of_the_reference(void **state)
{
    (void)state;
    int32_t *ids = malloc(IDS_MAX * sizeof(*ids));
    struct err e;

    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = load_family(f);
        json_t *root = cases_of(f), *list = json_object_get(root, "cases");

        assert_true(json_array_size(list) >= 40);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *c = json_array_get(list, i);
            const struct bytes text = text_of(json_object_get(c, "text"));
            size_t n;

            assert_ok(tokenizer_encode(t, text, ids, IDS_MAX, &n, &e), &e);
            assert_ids(family[f], text, ids, n, json_object_get(c, "ids"));
            assert_ok(tokenizer_encode_trusted(t, text, ids, IDS_MAX, &n, &e), &e);
            assert_ids(family[f], text, ids, n,
                       json_object_get(c, json_object_get(c, "special") ? "special" : "ids"));
            assert_decodes(t, ids, n, text_of(json_object_get(c, "decoded")));
        }
        json_decref(root);
        tokenizer_free(&t);
    }
    free(ids);
}

static void any_ids_decode_as_in_the_reference(void **state)
{
    (void)state;
    int32_t ids[1024];

    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = load_family(f);
        json_t *root = cases_of(f), *list = json_object_get(root, "ids");

        for (size_t i = 0; i < json_array_size(list); i++)
            ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
        assert_decodes(t, ids, json_array_size(list),
                       text_of(json_object_get(root, "decoded")));
        list = json_object_get(root, "bos");
        assert_int_equal(tokenizer_bos(t), json_array_size(list)
                                               ? json_integer_value(json_array_get(list, 0))
                                               : -1);
        json_decref(root);
        tokenizer_free(&t);
    }
}

/* The published cases are of GPT-2 alone; the file has phi-2's added tokens too, runs of spaces,
 * which change what a case with such a run gives. Those tokens are cut off. */
static struct tokenizer *load_gpt2(void)
{
    json_t *root = json_load_file(SHARED "/tokenizer.json", 0, NULL);
    json_t *added = json_object_get(root, "added_tokens");
    struct tokenizer *t;
    struct err e;
    char *text;

    assert_non_null(root);
    while (json_array_size(added) > 1)
        json_array_remove(added, json_array_size(added) - 1);
    text = json_dumps(root, JSON_COMPACT);
    assert_ok(tokenizer_parse(&t, bytes_str(text), &e), &e);
    free(text);
    json_decref(root);
    return t;
}

static void published_cases_of_gpt2(void **state)
{
    (void)state;
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct buf in, out;
    int32_t ids[4096];
    struct err e;
    size_t n, n_cases = 0;

    if (!file_exists(SHARED "/cases.inp"))
        skip();
    struct tokenizer *t = load_gpt2();
    buf_init(&in, 1u << 20);
    buf_init(&out, 1u << 20);
    assert_ok(file_read(&in, SHARED "/cases.inp", &e), &e);
    assert_ok(file_read(&out, SHARED "/cases.out", &e), &e);
    const char *text = buf_cstr(&in), *want = buf_cstr(&out);
    for (const char *end; (end = strstr(text, separator)); text = end + strlen(separator)) {
        const struct bytes one = {(const uint8_t *)text, (size_t)(end - text)};

        assert_ok(tokenizer_encode(t, one, ids, 4096, &n, &e), &e);
        for (size_t i = 0; i < n; i++) {
            char *next;

            assert_int_equal(ids[i], strtol(want, &next, 10));
            want = next;
        }
        want += strspn(want, " ");
        assert_int_equal(*want++, '\n');
        n_cases++;
    }
    assert_int_equal(n_cases, 46);
    tokenizer_free(&t);
    buf_clear(&in);
    buf_clear(&out);
}

static void text_never_gives_a_special_id(void **state)
{
    (void)state;
    int32_t ids[64];
    struct err e;
    size_t n;

    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = load_family(f);

        for (uint32_t id = 0; id < tokenizer_vocab(t); id++) {
            if (!tokenizer_is_special(t, (int32_t)id))
                continue;
            assert_ok(tokenizer_encode(t, tokenizer_string(t, (int32_t)id), ids, 64, &n, &e),
                      &e);
            for (size_t i = 0; i < n; i++)
                assert_int_not_equal(ids[i], id);
        }
        tokenizer_free(&t);
    }
}

static void a_letter_repeated_is_no_attack(void **state)
{
    (void)state;
    const size_t len = 1000000;
    uint8_t *text = malloc(len);
    int32_t *ids = malloc(len * sizeof(*ids));
    struct err e;

    memset(text, 'e', len);
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = load_family(f);
        struct buf back;
        size_t n;

        buf_init(&back, len + 1);
        assert_ok(tokenizer_encode(t, (struct bytes){text, len}, ids, len, &n, &e), &e);
        assert_ok(tokenizer_decode(&back, t, ids, n, &e), &e);
        assert_true(bytes_equal((struct bytes){back.data + (back.len - len), len},
                                (struct bytes){text, len}));
        buf_clear(&back);
        tokenizer_free(&t);
    }
    free(text);
    free(ids);
}

/* Marks that stand against the order of composition, a number of each class after one letter. */
static void put_marks(struct buf *text, size_t n)
{
    static const uint32_t mark[] = {0x301, 0x323, 0x31b, 0x345, 0x3099}; /* 230 220 216 240 8 */

    buf_put_u8(text, 'e');
    for (size_t k = 0; k < sizeof(mark) / sizeof(mark[0]); k++)
        for (size_t i = 0; i < n; i++)
            utf8_put(text, mark[k]);
}

static void a_letter_under_a_heap_of_marks_is_no_attack(void **state)
{
    (void)state;
    static const uint32_t ordered[] = {0x3099, 0x31b, 0x323, 0x301, 0x345};
    const size_t n = 100000;
    struct tokenizer *t = load(VECTORS "qwen"); /* NFC */
    int32_t *ids = malloc(12 * n * sizeof(*ids));
    struct buf text, back, want;
    struct err e;
    size_t n_ids;

    buf_init(&text, 16 * n);
    buf_init(&back, 16 * n);
    buf_init(&want, 16 * n);
    put_marks(&text, n);
    utf8_put(&want,
             0x1eb9); /* e with the first of the dots below, the one thing that composes */
    for (size_t k = 0; k < 5; k++)
        for (size_t i = ordered[k] == 0x323; i < n; i++)
            utf8_put(&want, ordered[k]);

    assert_ok(tokenizer_encode(t, buf_bytes(&text), ids, 12 * n, &n_ids, &e), &e);
    assert_ok(tokenizer_decode(&back, t, ids, n_ids, &e), &e);

    assert_true(bytes_equal(buf_bytes(&back), buf_bytes(&want)));
    buf_clear(&text);
    buf_clear(&back);
    buf_clear(&want);
    free(ids);
    tokenizer_free(&t);
}

/* The text of a tokenizer.json whose added token is a space that takes the spaces beside it. */
#define SPACES                                                                                 \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},"                 \
    "\"added_tokens\":[{\"id\":2,\"content\":\" \",\"lstrip\":true,\"rstrip\":true}],"         \
    "\"decoder\":{\"type\":\"ByteLevel\"}}"

static void spaces_that_tokens_take_are_no_attack(void **state)
{
    (void)state;
    const size_t len = 1000000;
    uint8_t *text = malloc(len);
    int32_t *ids = malloc(len * sizeof(*ids));
    struct tokenizer *t;
    struct err e;
    size_t n;

    memset(text, ' ', len);
    text[0] = 'a';
    text[len - 1] = 'b';
    assert_ok(tokenizer_parse(&t, bytes_str(SPACES), &e), &e);

    assert_ok(tokenizer_encode(t, (struct bytes){text, len}, ids, len, &n, &e), &e);

    /* As the reference has it: the first has taken the others. */
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 2);
    assert_int_equal(ids[2], 1);
    tokenizer_free(&t);
    free(text);
    free(ids);
}

static void pieces_are_one_text_with_the_ids_given(void **state)
{
    (void)state;
    static const char whole[] = "<s>[INST] Hi there[/INST] yes</s>";
    int32_t a[64], b[64];
    size_t n_a, n_b;
    struct err e;
    struct tokenizer *t = load(VECTORS "mistral");
    const struct tokenizer_piece pieces[] = {
        {tokenizer_find_special(t, "<s>"), {0}},
        {tokenizer_find_special(t, "[INST]"), {0}},
        {-1, BYTES_LIT(" Hi there")},
        {tokenizer_find_special(t, "[/INST]"), {0}},
        {-1, BYTES_LIT(" yes")},
        {tokenizer_find_special(t, "</s>"), {0}},
    };

    assert_ok(tokenizer_encode_trusted(t, bytes_str(whole), a, 64, &n_a, &e), &e);
    assert_ok(tokenizer_encode_pieces(t, pieces, 6, b, 64, &n_b, &e), &e);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a * sizeof(a[0]));
    tokenizer_free(&t);
}

static void what_is_saved_is_what_was_read(void **state)
{
    static const char *const name[] = {"tokenizer.json", "tokenizer_config.json"};
    const char *dir = *state;
    struct tokenizer *t = load(VECTORS "qwen");
    struct err e;

    assert_ok(tokenizer_save(t, dir, &e), &e);
    for (size_t i = 0; i < 2; i++) {
        char *a = file_join(dir, name[i]), *b = file_join(VECTORS "qwen", name[i]);
        struct buf x, y;

        buf_init(&x, 1u << 20);
        buf_init(&y, 1u << 20);
        assert_ok(file_read(&x, a, &e), &e);
        assert_ok(file_read(&y, b, &e), &e);
        assert_true(bytes_equal(buf_bytes(&x), buf_bytes(&y)));
        buf_clear(&x);
        buf_clear(&y);
        free(a);
        free(b);
    }
    assert_int_equal(tokenizer_eos(t), tokenizer_find_special(t, "<|im_end|>"));
    assert_int_equal(tokenizer_pad(t), tokenizer_find_special(t, "<|endoftext|>"));
    tokenizer_free(&t);
}

/* transformers writes int(1e30) for "no limit". */
static void a_length_without_limit_is_read(void **state)
{
    static const char config[] = "{\"eos_token\": \"<|im_end|>\", "
                                 "\"model_max_length\": 1000000000000000019884624838656}";
    const char *dir = *state;
    char *path = file_join(dir, "tokenizer_config.json");
    struct tokenizer *t = load(VECTORS "qwen");
    struct err e;

    assert_ok(tokenizer_save(t, dir, &e), &e);
    tokenizer_free(&t);
    assert_ok(file_write_atomic(path, bytes_str(config), 0600, &e), &e);
    assert_ok(tokenizer_load(&t, dir, &e), &e);
    assert_int_equal(tokenizer_eos(t), tokenizer_find_special(t, "<|im_end|>"));
    tokenizer_free(&t);
    free(path);
}

#define MODEL(more) "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}," more "}"
#define DECODER     "\"decoder\":{\"type\":\"ByteLevel\"}"
#define LETTERS     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define REPLACE(from, to)                                                                      \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" from "\"},\"content\":\"" to "\"}"
/* Much of a letter, and nothing of that. */
#define BLOWN_UP REPLACE("a", LETTERS) "," REPLACE("a", LETTERS) "," REPLACE(LETTERS, "")

static void what_is_not_known_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
        enum status st;
    } in[] = {
        {"{" MODEL("\"merges\":[\"a b\"]") "," DECODER "}", "", OK},
        {"{" MODEL("\"merges\":[[\"a\",\"b\"]]") "," DECODER "}", "", OK},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[],\"dropout\":0.1") "," DECODER "}", "dropout",
         ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[],\"end_of_word_suffix\":\"</w>\"") "," DECODER "}", "</w>",
         ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[],\"colour\":1") "," DECODER "}", "colour", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "}", "decoder", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") ",\"decoder\":{\"type\":\"WordPiece\"}}", "WordPiece",
         ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "," DECODER ",\"normalizer\":{\"type\":\"Lowercase\"}}",
         "Lowercase", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "," DECODER ",\"pre_tokenizer\":{\"type\":\"Split\","
                                    "\"pattern\":{\"Regex\":\"x+\"},"
                                    "\"behavior\":\"Isolated\",\"invert\":false}}",
         "x+", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "," DECODER ",\"pre_tokenizer\":{\"type\":\"Whitespace\"}}",
         "Whitespace", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "," DECODER
                                    ",\"post_processor\":{\"type\":\"BertProcessing\"}}",
         "BertProcessing", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[]") "," DECODER
                                    ",\"added_tokens\":[{\"id\":7,\"content\":\"<x>\"}]}",
         "would give it 3", ERR_UNSUPPORTED},
        {"{" MODEL("\"merges\":[\"a x\"]") "," DECODER "}", "'x'", ERR_MALFORMED},
        {"{" MODEL("\"merges\":[\"b a\"]") "," DECODER "}", "'ba'", ERR_MALFORMED},
        {"{" MODEL("\"merges\":[\"a  b\"]") "," DECODER "}", "merge", ERR_MALFORMED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}," DECODER "}",
         "id 0", ERR_MALFORMED},
        {"{" MODEL(
             "\"merges\":[]") ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" BLOWN_UP
                              "]}}",
         "more than", ERR_LIMIT},
        {"{" MODEL(
             "\"merges\":[]") "," DECODER ",\"normalizer\":{\"type\":\"Sequence\","
                              "\"normalizers\":[" BLOWN_UP "," REPLACE(
                                  "b",
                                  "c") "]},"
                                       "\"added_tokens\":[{\"id\":3,\"content\":\"aab\"}]}",
         "an added token of more than", ERR_LIMIT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}," DECODER "}",
         "'a'", ERR_MALFORMED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":65537},\"merges\":[]}," DECODER "}",
         "'a' has id 65537, want 0 to 65536", ERR_MALFORMED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}," DECODER "}",
         "'a' has an id that is no integer", ERR_MALFORMED},
    };

    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
        struct tokenizer *t;
        struct err e = {0};

        assert_status(tokenizer_parse(&t, bytes_str(in[i].json), &e), in[i].st, &e);
        assert_contains(e.text, in[i].says);
        tokenizer_free(&t);
    }
}

static void ids_that_no_word_has_are_holes(void **state)
{
    struct tokenizer *t;
    struct err e = {0};

    (void)state;
    assert_ok(tokenizer_parse(
                  &t,
                  BYTES_LIT("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":65537},"
                            "\"merges\":[]}," DECODER "}"),
                  &e),
              &e);

    assert_int_equal(tokenizer_vocab(t), 65538);
    assert_true(bytes_equal(tokenizer_string(t, 65537), BYTES_LIT("b")));
    assert_int_equal(tokenizer_string(t, 65536).len, 0);
    tokenizer_free(&t);
}

static void text_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    struct tokenizer *t = load(VECTORS "gpt2");
    int32_t ids[8];
    struct err e;
    size_t n;

    assert_status(tokenizer_encode(t, BYTES_LIT("ab\xff"), ids, 8, &n, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "byte 2");
    assert_status(tokenizer_encode(t, BYTES_LIT("1 2 3 4 5 6 7"), ids, 4, &n, &e), ERR_LIMIT,
                  &e);
    tokenizer_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_give_the_ids_of_the_reference),
        cmocka_unit_test(any_ids_decode_as_in_the_reference),
        cmocka_unit_test(published_cases_of_gpt2),
        cmocka_unit_test(text_never_gives_a_special_id),
        cmocka_unit_test(a_letter_repeated_is_no_attack),
        cmocka_unit_test(a_letter_under_a_heap_of_marks_is_no_attack),
        cmocka_unit_test(spaces_that_tokens_take_are_no_attack),
        cmocka_unit_test(pieces_are_one_text_with_the_ids_given),
        cmocka_unit_test_setup_teardown(a_length_without_limit_is_read, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test_setup_teardown(what_is_saved_is_what_was_read, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(ids_that_no_word_has_are_holes),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
    };
    return cmocka_run_group_tests_name("engine/tokenizer_hf", tests, NULL, NULL);
}
