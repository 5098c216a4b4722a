/* JSONL as sequences to imitate: what bears loss, what is refused, and where. */
#include "cli/sft_data.h"

#include <string.h>

#include "cli/jsonl.h"
#include "cli/spelt.h"

#include "support/test.h"

struct fixture {
    struct tokenizer *t;
    struct sft_reading how;
    struct sft_data d;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    assert_ok(tokenizer_new(&f->t, TOKENIZER_BYTE, (struct bytes){0}, &f->e), &f->e);
    f->how = (struct sft_reading){.tokenizer = f->t, .max_tokens = 12};
    sft_data_init(&f->d);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    sft_data_clear(&f->d);
    tokenizer_free(&f->t);
    test_free(f);
    return 0;
}

static enum status parse(struct fixture *f, const char *text)
{
    return sft_data_parse(&f->d, bytes_str(text), "file", &f->how, &f->e);
}

/* The bytes of sequence i, `<` for bos and `>` for eos, in capitals where loss is borne. */
static const char *spelt(const struct fixture *f, size_t i)
{
    static char text[64];
    struct learn_demo demo = sft_data_get(&f->d, i);

    assert_true(demo.n < sizeof(text));
    for (size_t j = 0; j < demo.n; j++) {
        int32_t id = demo.tokens[j];

        text[j] = (char)(id == tokenizer_bos(f->t)   ? '<'
                         : id == tokenizer_eos(f->t) ? '>'
                                                     : id);
        if (demo.is_answer[j])
            text[j] = text[j] == '>' ? '!' : (char)(text[j] - 'a' + 'A');
    }
    text[demo.n] = 0;
    return text;
}

static void all_of_a_text_bears_loss(void **state)
{
    struct fixture *f = *state;

    assert_ok(parse(f, "{\"text\": \"abc\"}\n"), &f->e);

    assert_int_equal(f->d.n, 1);
    assert_string_equal(spelt(f, 0), "<ABC!");
}

static void a_zero_is_a_character(void **state)
{
    struct fixture *f = *state;

    assert_ok(parse(f, "{\"text\": \"a\\u0000b\"}\n"), &f->e);

    assert_int_equal(f->d.n_tokens, 5); /* between begin and end */
    assert_int_equal(f->d.tokens[2], f->d.tokens[1] - 'a');
}

static void of_a_pair_the_completion_bears_loss(void **state)
{
    struct fixture *f = *state;

    assert_ok(parse(f, "{\"prompt\": \"ab\", \"completion\": \"cd\", \"id\": 7}"), &f->e);

    assert_string_equal(spelt(f, 0), "<abCD!");
}

static void blank_lines_are_passed_over_but_counted(void **state)
{
    struct fixture *f = *state;

    assert_ok(parse(f, "\n{\"text\": \"a\"}\r\n \n{\"text\": \"b\"}"), &f->e);
    assert_int_equal(f->d.n, 2);
    assert_string_equal(spelt(f, 1), "<B!");

    assert_status(parse(f, "\n\n{\"text\": 3}"), ERR_INVALID, &f->e);
    assert_contains(f->e.text, "file:3: ");
}

static void bad_lines_are_named(void **state)
{
    static const struct {
        const char *line, *says;
        enum status st;
    } cases[] = {
        {"{\"text\": ", "JSON", ERR_MALFORMED},
        {"{\"text\": \"a\", \"text\": \"b\"}", "JSON", ERR_MALFORMED},
        {"[]", "wants one of", ERR_INVALID},
        {"{}", "wants one of", ERR_INVALID},
        {"{\"text\": \"a\", \"prompt\": \"b\", \"completion\": \"c\"}", "wants one of",
         ERR_INVALID},
        {"{\"prompt\": \"b\"}", "both be strings", ERR_INVALID},
        {"{\"prompt\": \"b\", \"completion\": null}", "both be strings", ERR_INVALID},
        {"{\"messages\": []}", "chat template", ERR_UNSUPPORTED},
        {"{\"text\": \"more than twelve\"}", "18 tokens, at most 12", ERR_LIMIT},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_status(parse(f, cases[i].line), cases[i].st, &f->e);
        assert_contains(f->e.text, "file:1: ");
        assert_contains(f->e.text, cases[i].says);
    }
    assert_int_equal(f->d.n, 0);
}

/* A value takes up to eighty times the memory of its text. */
static void a_line_of_too_many_values_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf line;

    buf_init(&line, 1u << 20);
    buf_append(&line, BYTES_LIT("{\"text\": ["));
    for (size_t i = 0; i < 140000; i++)
        buf_append(&line, BYTES_LIT("{},"));
    buf_append(&line, BYTES_LIT("0]}"));

    assert_status(parse(f, buf_cstr(&line)), ERR_LIMIT, &f->e);
    assert_contains(f->e.text, "file:1: no JSON: more than");
    buf_clear(&line);
}

static void a_line_that_is_too_long_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf line;
    uint8_t *text;

    f->how.too_long = SFT_LONG_CUT;
    buf_init(&line, JSONL_LINE_MAX + 1);
    buf_append(&line, BYTES_LIT("{\"text\": \""));
    text = buf_extend(&line, JSONL_LINE_MAX - line.len - 2);
    memset(text, 'a', JSONL_LINE_MAX - 2 - (size_t)(text - line.data));
    buf_append(&line, BYTES_LIT("\"}"));
    assert_ok(sft_data_parse(&f->d, buf_bytes(&line), "file", &f->how, &f->e), &f->e);

    buf_append(&line, BYTES_LIT(" "));
    assert_status(sft_data_parse(&f->d, buf_bytes(&line), "file", &f->how, &f->e), ERR_LIMIT,
                  &f->e);

    assert_contains(f->e.text, "file:1: 16777217 bytes, at most 16777216 are read");
    buf_clear(&line);
}

/* In the chat template's own words; what the assistant says bears loss, and nothing else. */
static void of_messages_the_answers_bear_loss(void **state)
{
    struct fixture *f = *state;
    struct tokenizer *t;
    struct chat *c;
    struct buf answers;
    struct learn_demo demo;

    assert_ok(tokenizer_load(&t, MUSTER_SOURCE_DIR "/tests/vectors/tokenizer/qwen", &f->e),
              &f->e);
    assert_ok(chat_open_named(&c, "qwen2.5", t, &f->e), &f->e);
    f->how = (struct sft_reading){.tokenizer = t, .chat = c, .max_tokens = 400};
    assert_ok(parse(f, "{\"messages\": [{\"role\": \"user\", \"content\": \"one\"}, "
                       "{\"role\": \"assistant\", \"content\": \"two\"}, "
                       "{\"role\": \"user\", \"content\": \"three\"}, "
                       "{\"role\": \"assistant\", \"content\": \"four\"}]}"),
              &f->e);
    demo = sft_data_get(&f->d, 0);
    buf_init(&answers, 1024);
    for (size_t i = 0; i < demo.n; i++)
        if (demo.is_answer[i])
            assert_ok(tokenizer_decode(&answers, t, demo.tokens + i, 1, &f->e), &f->e);

    assert_int_equal(f->d.n, 1);
    assert_contains(buf_cstr(&answers), "two");
    assert_contains(buf_cstr(&answers), "four");
    assert_null(strstr(buf_cstr(&answers), "one"));
    assert_null(strstr(buf_cstr(&answers), "three"));

    assert_status(parse(f, "{\"messages\": [{\"role\": \"judge\", \"content\": \"\"}]}"),
                  ERR_INVALID, &f->e);
    assert_contains(f->e.text, "'judge'");
    assert_status(parse(f, "{\"messages\": [{\"role\": \"user\"}]}"), ERR_INVALID, &f->e);
    assert_status(parse(f, "{\"messages\": {}}"), ERR_INVALID, &f->e);
    buf_clear(&answers);
    chat_close(&c);
    tokenizer_free(&t);
}

/* Room for all the data of a file is asked for at once: whoever took as much again for each text of
 * it would take time in the square of its length. */
static void a_text_that_spells_tokens_takes_no_more_room_than_it_needs(void **state)
{
    struct fixture *f = *state;
    struct tokenizer *t;
    struct spelt s = {0};
    int32_t ids[64];
    size_t n;

    assert_ok(tokenizer_load(&t, MUSTER_SOURCE_DIR "/tests/vectors/tokenizer/qwen", &f->e),
              &f->e);

    assert_ok(spelt_encode(&s, t, BYTES_LIT("a<|im_end|>"), ids, SIZE_MAX / 8, &n, &f->e),
              &f->e);

    assert_int_equal(s.n, 1);
    tokenizer_free(&t);
}

static void marks_of_an_encoding_are_passed_over_or_named(void **state)
{
    struct fixture *f = *state;

    assert_ok(parse(f, "\xef\xbb\xbf{\"text\": \"abc\"}\r\n{\"text\": \"abcd\"}\r\n"), &f->e);
    assert_int_equal(f->d.n, 2);
    assert_string_equal(spelt(f, 0), "<ABC!");
    assert_status(parse(f, "\xff\xfe{"), ERR_MALFORMED, &f->e);
    assert_contains(f->e.text, "file: UTF-16: want UTF-8");
    assert_status(parse(f, "{\"text\": \"a\"}\n\xef\xbb\xbf{\"text\": \"b\"}"), ERR_MALFORMED,
                  &f->e);
    assert_contains(f->e.text, "file:2: no JSON");
}

static void long_sequences_are_cut_if_asked(void **state)
{
    struct fixture *f = *state;

    f->how.too_long = SFT_LONG_CUT;
    assert_ok(parse(f, "{\"text\": \"abcdefghijklmnop\"}\n"
                       "{\"prompt\": \"abcdefghijklmnop\", \"completion\": \"q\"}\n"),
              &f->e);

    assert_int_equal(f->d.n, 1);
    assert_string_equal(spelt(f, 0), "<ABCDEFGHIJK");
    assert_int_equal(f->d.n_cut, 1);
    assert_int_equal(f->d.n_dropped, 1); /* nothing of its answer is left */
}

static void long_sequences_are_dropped_if_asked(void **state)
{
    struct fixture *f = *state;

    f->how.too_long = SFT_LONG_DROP;
    assert_ok(parse(f, "{\"text\": \"abcdefghijklmnop\"}\n{\"text\": \"abcdefghij\"}"), &f->e);

    assert_int_equal(f->d.n, 1);
    assert_int_equal(f->d.n_dropped, 1);
    assert_int_equal(f->d.longest, 12);
}

static void the_digest_tells_data_apart(void **state)
{
    struct fixture *f = *state;
    struct digest a, b;

    assert_ok(parse(f, "{\"prompt\": \"ab\", \"completion\": \"cd\"}"), &f->e);
    sft_data_digest(&a, &f->d);
    sft_data_clear(&f->d);
    assert_ok(parse(f, "{\"prompt\": \"abc\", \"completion\": \"d\"}"), &f->e);
    sft_data_digest(&b, &f->d);

    assert_memory_not_equal(a.b, b.b, sizeof(a.b));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(all_of_a_text_bears_loss),
        WITH(a_zero_is_a_character),
        WITH(of_a_pair_the_completion_bears_loss),
        WITH(blank_lines_are_passed_over_but_counted),
        WITH(bad_lines_are_named),
        WITH(a_line_of_too_many_values_is_refused),
        WITH(a_line_that_is_too_long_is_refused),
        WITH(of_messages_the_answers_bear_loss),
        WITH(a_text_that_spells_tokens_takes_no_more_room_than_it_needs),
        WITH(marks_of_an_encoding_are_passed_over_or_named),
        WITH(long_sequences_are_cut_if_asked),
        WITH(long_sequences_are_dropped_if_asked),
        WITH(the_digest_tells_data_apart),
    };
    return cmocka_run_group_tests_name("cli/sft_data", tests, NULL, NULL);
}
