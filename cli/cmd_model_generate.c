/*
 * cli/cmd_model_generate.c - muster model generate: texts continued, messages answered
 *
 * One prompt is answered as the text comes. A file of prompts, or several samples of one, are decoded
 * together and answered in JSON. A chat without a prompt is a conversation, a line of stdin a message.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/cmd_model.h"
#include "cli/generate_prompts.h"
#include "cli/generate_run.h"
#include "cli/loaded_model.h"
#include "cli/usage.h"
#include "engine/weights_map.h"

#define LOG_MODULE "generate"
#include "base/log.h"

#define N_OPTIONS(table) (sizeof(table) / sizeof((table)[0]))
#define GENERATE_LINE                                                                          \
    "muster model generate DIR --prompt TEXT|--file FILE|--prompts FILE|--chat [options]"

#define PROMPT_MAX_BYTES ((size_t)64 << 20)
#define NEW_OF_TEXT      128
#define NEW_OF_CHAT      1024
#define CONTEXT          4096 /* positions of a conversation */

struct generate {
    const char *dir;
    char *prompt, *file, *prompts, *system, *template, *date, *stop;
    bool has_prompt; /* though it be empty */
    bool chat, json, special;
    int64_t batch, context;
    struct generate_settings s;
    struct model_manner how;

    struct model_config c;
    struct tokenizer *t;
    struct chat *talk; /* NULL: there is none, and why: */
    struct err no_chat;
    struct prompts asked;
};

static bool is_batch(const struct generate *g)
{
    return *g->prompts || g->s.samples > 1 || g->json;
}

static bool is_conversation(const struct generate *g)
{
    return g->chat && !g->has_prompt && !*g->file && !*g->prompts;
}

/* ---- what is asked --------------------------------------------------------------------------- */

/* As templates write a day. */
static void today(char out[CHAT_DATE_MAX + 1])
{
    const time_t now = time(NULL);
    struct tm day;

    if (!gmtime_r(&now, &day) || strftime(out, CHAT_DATE_MAX + 1, "%d %b %Y", &day) == 0)
        out[0] = '\0';
}

/* The chat by name or the model's own. Who only continues texts needs none. */
static enum status open_chat(struct generate *g, struct err *e)
{
    char date[CHAT_DATE_MAX + 1];
    enum status st;

    if (*g->template) {
        st = chat_open_named(&g->talk, g->template, g->t, e);
    } else {
        st = chat_open(&g->talk, g->dir, g->t, &g->no_chat);
        if (st && !g->chat)
            return OK;
        if (st)
            return err_set(e, st, "%s", g->no_chat.text);
    }
    if (st)
        return st;
    g->s.chat_end = chat_end(g->talk);
    today(date);
    return chat_set_date(g->talk, *g->date ? g->date : date, e);
}

/* The text of FILE, "-" being stdin. */
static enum status add_file(struct generate *g, struct err *e)
{
    struct buf text;
    enum status st;

    buf_init(&text, PROMPT_MAX_BYTES);
    st = strcmp(g->file, "-") ? file_read(&text, g->file, e) : file_read_stdin(&text, e);
    if (!st)
        st = prompts_add(&g->asked, buf_bytes(&text), e);
    buf_clear(&text);
    return st;
}

/* Tokenizer, chat and prompts: all that costs nothing, before the model is read. */
static enum status prepare(struct generate *g, struct err *e)
{
    enum status st = model_config_load(&g->c, g->dir, e);

    if (!st)
        st = model_config_add_stops(&g->c, g->dir, e);
    if (!st)
        st = tokenizer_load(&g->t, g->dir, e);
    if (!st && tokenizer_vocab(g->t) > g->c.vocab)
        st = err_set(e, ERR_INVALID, "the tokenizer has %" PRIu32 " ids, the model %" PRIu32,
                     tokenizer_vocab(g->t), g->c.vocab);
    if (!st)
        st = open_chat(g, e);
    if (st)
        return st;
    g->asked = (struct prompts){.t = g->t,
                                .c = &g->c,
                                .chat = g->talk,
                                .is_chat = g->chat,
                                .spelt = {.reads_special = g->special},
                                .no_chat = g->no_chat.text,
                                .system = bytes_str(g->system)};
    if (is_conversation(g))
        return OK;
    st = *g->prompts ? prompts_read(&g->asked, g->prompts, e)
         : *g->file  ? add_file(g, e)
                     : prompts_add(&g->asked, bytes_str(g->prompt), e);
    if (!st && g->asked.spelt.n)
        LOG_WARN("special tokens are spelt in prompts=%zu and taken for text: --special reads "
                 "them, --chat writes them",
                 g->asked.spelt.n);
    return st;
}

/* ---- a conversation -------------------------------------------------------------------------- */

struct conversation {
    struct chat_message *m; /* owned */
    uint8_t **text;         /* owned, and what each of m has */
    size_t n;
};

static void put_message(struct conversation *c, enum chat_role role, struct bytes text)
{
    uint8_t *copy = xmalloc(text.len + 1);

    if (text.len)
        memcpy(copy, text.data, text.len);
    c->m = xrealloc(c->m, (c->n + 1) * sizeof(c->m[0]));
    c->text = xrealloc(c->text, (c->n + 1) * sizeof(c->text[0]));
    c->text[c->n] = copy;
    c->m[c->n++] = (struct chat_message){role, {copy, text.len}};
}

static void conversation_clear(struct conversation *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->text[i]);
    free(c->text);
    free(c->m);
}

/* The next line that is not empty, without its end; *is_end: there is none. */
static enum status next_line(struct buf *line, bool *is_end, struct err *e)
{
    enum status st;

    do {
        if (isatty(STDIN_FILENO))
            fputs("> ", stderr);
        buf_reset(line);
        st = file_line_stdin(line, is_end, e);
        while (line->len && line->data[line->len - 1] == '\r')
            line->len--;
    } while (!st && !*is_end && line->len == 0);
    return st;
}

/* Renders what was said so far, and answers it. */
static enum status take_turn(struct generate *g, struct generator *r, struct conversation *c,
                             size_t context, struct err *e)
{
    struct buf said;
    enum status st;

    prompts_clear(&g->asked);
    st = prompts_add_messages(&g->asked, c->m, c->n, e);
    if (!st && g->asked.longest >= context)
        st = err_set(e, ERR_LIMIT,
                     "the conversation has %zu tokens, --context leaves room for %zu",
                     g->asked.longest, context);
    if (st)
        return st;
    buf_init(&said, PROMPT_MAX_BYTES);
    st = generator_stream(r, &g->asked.at[0], &said, e);
    if (!st)
        put_message(c, CHAT_ASSISTANT, buf_bytes(&said));
    buf_clear(&said);
    return st;
}

static enum status converse(struct generate *g, struct generator *r, size_t context,
                            struct err *e)
{
    struct conversation c = {0};
    struct buf line;
    bool is_end = false;
    enum status st;

    buf_init(&line, PROMPT_MAX_BYTES);
    if (*g->system)
        put_message(&c, CHAT_SYSTEM, bytes_str(g->system));
    st = next_line(&line, &is_end, e);
    while (!st && !is_end) {
        put_message(&c, CHAT_USER, buf_bytes(&line));
        st = take_turn(g, r, &c, context, e);
        if (!st)
            st = next_line(&line, &is_end, e);
    }
    buf_clear(&line);
    conversation_clear(&c);
    return st;
}

/* ---- doing it -------------------------------------------------------------------------------- */

static enum status generate(struct generate *g, struct err *e)
{
    struct loaded_model l = {0};
    struct generator *r = NULL;
    size_t n_slots = 1, room;
    enum status st = prepare(g, e);

    if (st)
        return st;
    if (g->s.max_new == 0)
        g->s.max_new = g->chat ? NEW_OF_CHAT : NEW_OF_TEXT;
    if (is_batch(g) && !is_conversation(g)) {
        const uint64_t all = (uint64_t)g->asked.n * (uint64_t)g->s.samples;

        n_slots = all < (uint64_t)g->batch ? (size_t)all : (size_t)g->batch;
    }
    room = is_conversation(g) ? (size_t)(g->context ? g->context : CONTEXT)
                              : g->asked.longest + (size_t)g->s.max_new;
    if (room > g->c.max_len)
        room = g->c.max_len;
    st = loaded_model_open(&l, g->dir, &g->how, n_slots, room, e);
    if (!st)
        st = generator_new(&r, l.m, &g->c, g->t, &g->s, n_slots, room, e);
    if (!st)
        st = is_conversation(g) ? converse(g, r, room, e)
             : is_batch(g)      ? generator_batch(r, &g->asked, e)
                                : generator_stream(r, &g->asked.at[0], NULL, e);
    generator_free(&r);
    loaded_model_close(&l);
    return st;
}

/* What of the command line does not go together. */
static int check(const struct generate *g, size_t n_operands)
{
    const int n = g->has_prompt + (*g->file != '\0') + (*g->prompts != '\0');

    if (n_operands != 1)
        return usage_complain(GENERATE_LINE, "which directory?");
    if (n > 1)
        return usage_complain(GENERATE_LINE, "--prompt, --file and --prompts: which of them?");
    if (n == 0 && !g->chat)
        return usage_complain(GENERATE_LINE,
                              "nothing to continue: --prompt, --file or --prompts say what, "
                              "--chat alone is a conversation");
    if (g->chat && g->special)
        return usage_complain(GENERATE_LINE, "--special is for texts, without --chat");
    if (!g->chat && *g->system)
        return usage_complain(GENERATE_LINE, "--system wants --chat");
    if (!g->chat && *g->template && !*g->prompts)
        return usage_complain(GENERATE_LINE, "--template wants --chat, or --prompts");
    if (!g->chat && *g->date && !*g->prompts)
        return usage_complain(GENERATE_LINE, "--date wants --chat, or --prompts");
    if (n == 0 && (g->json || g->s.samples > 1))
        return usage_complain(GENERATE_LINE, "--json and --samples want a prompt");
    if (n > 0 && g->context)
        return usage_complain(GENERATE_LINE, "--context is for a conversation");
    return USAGE_RUN;
}

#define GENERATE_OPTIONS 25u
#define OPTION_PROMPT    0u

static void put_options(struct opt *to, struct generate *g)
{
    struct generate_settings *s = &g->s;
    struct model_manner *how = &g->how;
    const struct opt table[GENERATE_OPTIONS] = {
        [OPTION_PROMPT] = {"prompt", OPT_STRING, &g->prompt, "", NULL, "text to continue",
                           false},
        {"file", OPT_STRING, &g->file, "", NULL, "the same from a file; -: from stdin", false},
        {"prompts", OPT_STRING, &g->prompts, "", NULL, "JSONL of prompts, decoded together",
         false},
        {"chat", OPT_FLAG, &g->chat, "false", NULL,
         "the prompt is a message, to be answered as the model was trained to; without a "
         "prompt: a conversation, each line of stdin a message",
         false},
        {"system", OPT_STRING, &g->system, "", NULL, "with --chat: a system message before it",
         false},
        {"template", OPT_STRING, &g->template, "", NULL,
         "a chat template by its name, instead of the model's own", false},
        {"date", OPT_STRING, &g->date, "", NULL,
         "the day, for a chat template that says it, like \"26 Jul 2024\"; default: today",
         false},
        {"special", OPT_FLAG, &g->special, "false", NULL,
         "without --chat: read special tokens spelt out in the text, as transformers does",
         false},
        {"max-new", OPT_INT, &s->max_new, "0", "0..16777216",
         "most new tokens; 0: 128, with --chat 1024", false},
        {"temperature", OPT_REAL, &s->temperature, "1", "0..100", "0: the likeliest token",
         false},
        {"top-k", OPT_INT, &s->top_k, "0", "0..16777216",
         "draw among so many of the likeliest tokens; 0: all", false},
        {"top-p", OPT_REAL, &s->top_p, "1", "0..1",
         "draw among the likeliest that have this probability together", false},
        {"min-p", OPT_REAL, &s->min_p, "0", "0..1",
         "draw among those at least so many times as likely as the likeliest", false},
        {"seed", OPT_INT, &s->seed, "0", "0..",
         "of the draws; further answers have the numbers after it", false},
        {"samples", OPT_INT, &s->samples, "1", "1..65536", "answers to each prompt, as JSON",
         false},
        {"stop", OPT_STRING, &g->stop, "", NULL,
         "text that ends an answer and is not part of it", false},
        {"batch", OPT_INT, &g->batch, "16", "1..4096",
         "answers decoded together; changes speed and memory, never the result", false},
        {"context", OPT_INT, &g->context, "0", "0..16777216",
         "positions of a conversation; 0: 4096, or the model's", false},
        {"json", OPT_FLAG, &g->json, "false", NULL, "one JSON object an answer", false},
        {"ids", OPT_FLAG, &s->ids, "false", NULL, "in JSON: the token ids as well", false},
        {"threads", OPT_INT, &how->threads, "0", "0..1024", "threads; 0: one a core", false},
        {"numerics", OPT_CHOICE, &how->numerics, "f32-1", USAGE_NUMERICS,
         "class of the numbers", false},
        {"kernels", OPT_CHOICE, &how->kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"device", OPT_STRING, &how->device, "auto", NULL, USAGE_DEVICE, false},
        {"max-memory", OPT_INT, &how->max_memory, "0", "0..",
         "MiB it may take; 0: what is available", false},
    };

    memcpy(to, table, sizeof(table));
}

int cmd_model_generate(int argc, char **argv)
{
    struct generate g = {.s = {.chat_end = -1}};
    struct opt table[GENERATE_OPTIONS];
    struct err e;
    struct usage u = {
        .line = GENERATE_LINE,
        .about = "Continues a text and prints what comes, as it comes. The same seed gives the "
                 "same text,\nalone or among others.\n\n"
                 "A file of --prompts has one a line, and so has what is printed then:\n\n"
                 "  {\"prompt\": \"...\"}                              a text; with --chat a "
                 "message\n"
                 "  {\"messages\": [{\"role\": ..., \"content\": ...}]}  a conversation\n\n"
                 "What an \"id\" there says is said again with the answer.",
        .table = table,
        .n = N_OPTIONS(table),
        .operand = &g.dir,
        .max_operands = 1,
    };
    int status;

    put_options(table, &g);
    status = usage_parse(&u, argc, argv);
    g.has_prompt = table[OPTION_PROMPT].was_set;
    g.s.stop = g.stop;
    if (status == USAGE_RUN)
        status = check(&g, u.n_operands);
    if (status == USAGE_RUN)
        status = generate(&g, &e) ? usage_fail(e.text) : 0;
    prompts_clear(&g.asked);
    chat_close(&g.talk);
    tokenizer_free(&g.t);
    opt_clear(table, u.n);
    return status;
}
