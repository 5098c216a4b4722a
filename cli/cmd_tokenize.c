/*
 * cli/cmd_tokenize.c - muster tokenize: text to the ids of a model and back
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "engine/tokenizer.h"

#define TEXT_MAX ((size_t)1 << 30)

struct tokenize {
    char *text, *file, *decode; /* owned by the table of options */
    bool has_text;              /* though it be empty */
    bool special, bos, lines, strings, count, bench, as_json;
};

/* ---- input ----------------------------------------------------------------------------------- */

static enum status read_input(struct buf *out, const struct tokenize *c, struct err *e)
{
    if (c->has_text) {
        buf_append(out, bytes_str(c->text));
        return buf_status(out, e);
    }
    return *c->file ? file_read(out, c->file, e) : file_read_stdin(out, e);
}

/* ---- encoding -------------------------------------------------------------------------------- */

static enum status encode(const struct tokenizer *t, struct bytes text,
                          const struct tokenize *c, int32_t **ids, size_t *n, struct err *e)
{
    const size_t n_bos = c->bos && tokenizer_bos(t) >= 0;
    size_t cap = TOKENIZER_ROOM(text.len);
    enum status st;

    for (;; cap *= 4) {
        st = alloc_array(ids, cap + n_bos, sizeof(**ids), "ids", e);
        if (st)
            return st;
        st = (c->special ? tokenizer_encode_trusted : tokenizer_encode)(t, text, *ids + n_bos,
                                                                        cap, n, e);
        if (st != ERR_LIMIT || cap > 128 * TOKENIZER_ROOM(text.len))
            break;
        free(*ids);
    }
    if (n_bos)
        (*ids)[0] = tokenizer_bos(t);
    *n += n_bos;
    return st;
}

/* A token as a JSON string, or NULL where it is no text. */
static json_t *string_json(const struct tokenizer *t, int32_t id)
{
    const struct bytes s = tokenizer_string(t, id);

    return json_stringn((const char *)s.data, s.len);
}

static void print_json(const struct tokenizer *t, const struct tokenize *c, const int32_t *ids,
                       size_t n)
{
    printf("{\"n\": %zu", n);
    for (size_t i = 0; !c->count && i < n; i++)
        printf("%s%" PRId32 "%s", i ? ", " : ", \"ids\": [", ids[i], i + 1 == n ? "]" : "");
    if (!c->count && n == 0)
        printf(", \"ids\": []");
    if (c->strings) {
        json_t *list = json_array();
        char *text;

        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, string_json(t, ids[i]));
        text = json_dumps(list, 0);
        printf(", \"strings\": %s", text ? text : "[]");
        free(text);
        json_decref(list);
    }
    printf("}\n");
}

static void print_ids(const struct tokenizer *t, const struct tokenize *c, const int32_t *ids,
                      size_t n)
{
    if (c->as_json) {
        print_json(t, c, ids, n);
        return;
    }
    if (c->count) {
        printf("%zu\n", n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        printf("%s%" PRId32, i && !c->strings ? " " : "", ids[i]);
        if (c->strings) {
            char *text = NULL;
            json_t *string = string_json(t, ids[i]);

            if (string)
                text = json_dumps(string, JSON_ENCODE_ANY);
            printf("\t%s\n", text ? text : "");
            free(text);
            json_decref(string);
        }
    }
    if (!c->strings)
        putchar('\n');
}

static enum status encode_and_print(const struct tokenizer *t, struct bytes text,
                                    const struct tokenize *c, struct err *e)
{
    int32_t *ids = NULL;
    size_t n;
    enum status st = encode(t, text, c, &ids, &n, e);

    if (!st)
        print_ids(t, c, ids, n);
    free(ids);
    return st;
}

static enum status encode_input(const struct tokenizer *t, struct bytes text,
                                const struct tokenize *c, struct err *e)
{
    enum status st = OK;

    if (!c->lines)
        return encode_and_print(t, text, c, e);
    for (size_t at = 0, n = 1; at < text.len && !st; n++) {
        const uint8_t *end = memchr(text.data + at, '\n', text.len - at);
        size_t len = end ? (size_t)(end - text.data) - at : text.len - at;

        st = encode_and_print(t, (struct bytes){text.data + at, len}, c, e);
        if (st)
            st = err_prefix(e, st, "line %zu", n);
        at += len + 1;
    }
    return st;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* The next number of a list between spaces, commas, brackets and ends of lines. ERR_NOT_FOUND at
 * its end. */
static enum status next_id(const char **at, int32_t *id, struct err *e)
{
    char *end;
    long v;

    *at += strspn(*at, " ,[]\t\r\n");
    if (!**at)
        return ERR_NOT_FOUND;
    errno = 0;
    v = strtol(*at, &end, 10);
    if (end == *at || errno || v < 0 || v > INT32_MAX)
        return err_set(e, ERR_INVALID, "'%.20s' in --decode is not a token id", *at);
    *at = end;
    *id = (int32_t)v;
    return OK;
}

static void print_text(const struct tokenize *c, struct buf *text)
{
    if (c->as_json) {
        json_t *string = json_stringn((const char *)text->data, text->len);
        char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;

        printf("{\"text\": %s}\n", quoted ? quoted : "null");
        free(quoted);
        json_decref(string);
        return;
    }
    fwrite(text->data, 1, text->len, stdout);
    putchar('\n');
}

static enum status decode(const struct tokenizer *t, const char *list, const struct tokenize *c,
                          struct err *e)
{
    struct tokenizer_stream s;
    struct buf text;
    int32_t id = 0;
    enum status st;

    buf_init(&text, TEXT_MAX);
    tokenizer_stream_init(&s, t);
    while (!(st = next_id(&list, &id, e))) {
        if (c->special && (uint32_t)id < tokenizer_vocab(t) && tokenizer_is_special(t, id)) {
            st = tokenizer_stream_flush(&s, &text, e);
            buf_append(&text, tokenizer_string(t, id));
        }
        if (!st)
            st = tokenizer_stream_push(&s, &text, id, e);
        if (st)
            break;
    }
    if (st == ERR_NOT_FOUND)
        st = tokenizer_stream_flush(&s, &text, e);
    if (!st)
        st = buf_status(&text, e);
    if (!st)
        print_text(c, &text);
    tokenizer_stream_clear(&s);
    buf_clear(&text);
    return st;
}

/* ---- how fast ------------------------------------------------------------------------------------ */

#define BENCH_RUNS 7

/* The best of some runs over the whole text, in MB (10^6 bytes) a second of processor time: there is
 * one thread, and what else the machine does should not count. */
static enum status bench(const struct tokenizer *t, struct bytes text, const struct tokenize *c,
                         struct err *e)
{
    clock_t best = 0;
    enum status st = OK;

    for (int run = 0; run < BENCH_RUNS && !st; run++) {
        int32_t *ids = NULL;
        size_t n;
        const clock_t began = clock();

        st = encode(t, text, c, &ids, &n, e);
        const clock_t took = clock() - began + 1;
        best = run == 0 || took < best ? took : best;
        free(ids);
    }
    if (!st)
        printf("{\"name\": \"tokenize\", \"value\": %.2f, \"unit\": \"MB/s\", \"peer\": null, "
               "\"peer_value\": null, \"target\": null, \"ok\": null, \"ms\": %.3f}\n",
               (double)text.len * CLOCKS_PER_SEC / (double)best / 1e6,
               (double)best * 1e3 / CLOCKS_PER_SEC);
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum status tokenize(const char *dir, const struct tokenize *c, struct err *e)
{
    struct tokenizer *t = NULL;
    struct buf input;
    const bool decodes = *c->decode != '\0', from_input = !decodes || !strcmp(c->decode, "-");
    enum status st = tokenizer_load(&t, dir, e);

    buf_init(&input, TEXT_MAX);
    if (!st && from_input)
        st = read_input(&input, c, e);
    if (!st && decodes && input.len && memchr(input.data, 0, input.len))
        st = err_set(e, ERR_INVALID, "a zero byte among the ids to decode");
    if (!st && decodes)
        st = decode(t, from_input ? buf_cstr(&input) : c->decode, c, e);
    else if (!st && c->bench)
        st = bench(t, buf_bytes(&input), c, e);
    else if (!st)
        st = encode_input(t, buf_bytes(&input), c, e);
    buf_clear(&input);
    tokenizer_free(&t);
    return st;
}

/* What is about a text to be encoded does not go with --decode. */
static const char *find_encoding(const struct opt *table, size_t n)
{
    static const char *const words[] = {"bos", "lines", "strings", "count", "bench"};

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < sizeof(words) / sizeof(words[0]); j++)
            if (table[i].was_set && !strcmp(table[i].name, words[j]))
                return words[j];
    return NULL;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *dir = NULL;
    struct tokenize c = {0};
    struct err e;
    struct opt table[] = {
        {"text", OPT_STRING, &c.text, "", NULL, "text to encode, instead of stdin", false},
        {"file", OPT_STRING, &c.file, "", NULL, "file of text to encode, instead of stdin",
         false},
        {"decode", OPT_STRING, &c.decode, "", NULL,
         "ids to turn into text, like \"1 2 3\"; - takes them from the file or stdin", false},
        {"special", OPT_FLAG, &c.special, "false", NULL,
         "read special tokens spelt out in the text, or show them when decoding", false},
        {"bos", OPT_FLAG, &c.bos, "false", NULL, "begin as the model's sequences do", false},
        {"lines", OPT_FLAG, &c.lines, "false", NULL, "each line is a text of its own", false},
        {"strings", OPT_FLAG, &c.strings, "false", NULL, "each id with the token's string",
         false},
        {"count", OPT_FLAG, &c.count, "false", NULL, "only how many ids there are", false},
        {"bench", OPT_FLAG, &c.bench, "false", NULL,
         "encode several times and print how fast it went, instead of ids", false},
        {"json", OPT_FLAG, &c.as_json, "false", NULL, "one JSON object a text", false},
    };
    struct usage u = {
        .line = "muster tokenize DIR [options]",
        .about = "Prints the token ids of a text (of stdin, if no other is named) as the model "
                 "in DIR "
                 "sees it,\nor with --decode the text of ids. Text is text: \"<|im_end|>\" in "
                 "it gives "
                 "no special id\nwithout --special. With --special and --bos the ids are those "
                 "that transformers gives.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    c.has_text = table[0].was_set;
    if (status == USAGE_RUN) {
        if (u.n_operands != 1)
            status = usage_complain(u.line, "which directory?");
        else if (c.has_text && *c.file)
            status = usage_complain(u.line, "--text and --file do not go together");
        else if (c.has_text && *c.decode)
            status = usage_complain(u.line, "--text is to be encoded, --decode takes ids");
        else if (*c.decode && find_encoding(table, u.n))
            status = usage_complain(u.line, "--decode and --%s do not go together",
                                    find_encoding(table, u.n));
        else
            status = tokenize(dir, &c, &e) ? usage_fail(e.text) : 0;
    }
    opt_clear(table, u.n);
    return status;
}
