/*
 * cli/cmd_model.c - muster model info / logits / init, and the words that have files of their own
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "cli/cmd_model.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "engine/chat.h"
#include "engine/model.h"
#include "engine/tokenizer.h"
#include "engine/weights_map.h"

#define MIB              1048576.0
#define N_OPTIONS(table) (sizeof(table) / sizeof((table)[0]))

/* ---- info ------------------------------------------------------------------------------------ */

/* "BF16", or "F32 and BF16" where tensors differ. */
static const char *stored_as(struct buf *text, const struct weights_map *m)
{
    for (int d = 0; d < DTYPE_COUNT; d++) {
        bool is_there = false;

        for (size_t i = 0; i < m->n_tensors; i++)
            is_there |= m->tensors[i].dtype == (enum dtype)d;
        if (is_there)
            buf_printf(text, "%s%s", text->len ? " and " : "", dtype_name((enum dtype)d));
    }
    return buf_cstr(text);
}

static uint64_t stored_bytes(const struct weights_map *m)
{
    uint64_t n = 0;

    for (size_t i = 0; i < m->n_tensors; i++)
        n += m->tensors[i].data.len;
    return n;
}

/* What turns text into ids here, and conversations. */
struct speech {
    char tokenizer[16], chat[32];
    char why_tokenizer[ERR_TEXT_BYTES], why_chat[ERR_TEXT_BYTES]; /* why it is not supported */
};

static void speech_of(struct speech *s, const char *dir)
{
    struct tokenizer *t;
    struct chat *chat = NULL;
    struct err e;
    enum status st = tokenizer_load(&t, dir, &e);
    const char *kind = "muster-byte";

    memset(s, 0, sizeof(*s));
    snprintf(s->chat, sizeof(s->chat), "none");
    if (st) {
        snprintf(s->tokenizer, sizeof(s->tokenizer), "%s",
                 st == ERR_NOT_FOUND ? "none" : "not supported");
        if (st != ERR_NOT_FOUND)
            snprintf(s->why_tokenizer, sizeof(s->why_tokenizer), ": %.500s", e.text);
        return;
    }
    if (tokenizer_kind(t) != TOKENIZER_BYTE)
        kind = tokenizer_kind(t) == TOKENIZER_CHAR ? "muster-char" : "bpe";
    snprintf(s->tokenizer, sizeof(s->tokenizer), "%s", kind);
    st = chat_open(&chat, dir, t, &e);
    if (st != ERR_NOT_FOUND)
        snprintf(s->chat, sizeof(s->chat), "%s", st ? "not supported" : chat_name(chat));
    if (st && st != ERR_NOT_FOUND)
        snprintf(s->why_chat, sizeof(s->why_chat), ": %.500s", e.text);
    chat_close(&chat);
    tokenizer_free(&t);
}

static void info_json(const struct weights_map *m, const char *digest,
                      const struct speech *says)
{
    const struct model_config *c = &m->config;
    struct buf config, stored;

    buf_init(&config, 1u << 20);
    buf_init(&stored, 64);
    model_config_encode(&config, c);
    for (size_t i = 0; i < config.len; i++)
        if (config.data[i] == '\n')
            config.data[i] = ' ';
    printf("{\"parameters\": %" PRIu64 ", \"tensors\": %zu, \"files\": %zu, "
           "\"stored\": \"%s\", \"stored_bytes\": %" PRIu64 ", \"root\": \"%s\", "
           "\"tokenizer\": \"%s\", \"chat\": \"%s\", \"runtime_bytes\": %" PRIu64
           ", \"config\": %s}\n",
           model_config_params(c), m->n_tensors, m->n_files, stored_as(&stored, m),
           stored_bytes(m), digest, says->tokenizer, says->chat, model_map_bytes(m, NULL, 0),
           buf_cstr(&config));
    buf_clear(&config);
    buf_clear(&stored);
}

static void print_rope(const struct model_config *c)
{
    const struct rope_scaling *s = &c->rope_scaling;

    printf("positions      %" PRIu32 ", theta %.17g", c->max_len, c->rope_theta);
    if (s->type == ROPE_LLAMA3)
        printf(", llama3: factor %.17g over %" PRIu32 " positions, from %.17g to %.17g turns",
               s->factor, s->original_len, s->low_freq_factor, s->high_freq_factor);
    printf("\n");
}

static void print_stops(const struct model_config *c)
{
    printf("ends with      ");
    for (uint32_t i = 0; i < c->n_stops; i++)
        printf("%s%" PRId32, i ? ", " : "token ", c->stops[i]);
    printf("%s\n", c->n_stops ? "" : "no token");
}

static void info_text(const struct weights_map *m, const char *digest,
                      const struct speech *says)
{
    const struct model_config *c = &m->config;
    struct buf stored;

    buf_init(&stored, 64);
    printf("family         %s (%s)\n", model_arch_type(c->arch), model_arch_class(c->arch));
    printf("parameters     %" PRIu64 "\n", model_config_params(c));
    printf("layers         %" PRIu32 " of dim %" PRIu32 ", ffn %" PRIu32 "\n", c->layers,
           c->dim, c->ffn);
    printf("heads          %" PRIu32 " of %" PRIu32 ", over %" PRIu32
           " of keys and values%s%s%s\n",
           c->heads, c->head_dim, c->kv_heads, c->qkv_bias ? ", biases of q, k, v" : "",
           c->o_bias ? " and o" : "", c->qk_norm ? ", norms of q and k" : "");
    printf("vocabulary     %" PRIu32 "%s\n", c->vocab, c->tie ? ", head tied" : "");
    print_rope(c);
    print_stops(c);
    printf("tokenizer      %s%s\n", says->tokenizer, says->why_tokenizer);
    printf("chat template  %s%s\n", says->chat, says->why_chat);
    printf("stored as      %s, %" PRIu64 " bytes in %zu file%s\n", stored_as(&stored, m),
           stored_bytes(m), m->n_files, m->n_files == 1 ? "" : "s");
    printf("written as     %s\n", dtype_hf_name(c->dtype));
    printf("memory to run  %.0f MiB, and %.0f MiB for 1024 cached positions\n",
           ceil((double)model_map_bytes(m, NULL, 0) / MIB),
           ceil((double)kv_cache_bytes(c, NULL, 1, c->max_len) / c->max_len * 1024 / MIB));
    if (*digest)
        printf("root           %s\n", digest);
    buf_clear(&stored);
}

static int cmd_info(int argc, char **argv)
{
    const char *dir = NULL;
    bool is_json = false, no_root = false;
    uint8_t digest[WEIGHTS_DIGEST_BYTES];
    char hex[2 * WEIGHTS_DIGEST_BYTES + 1] = "";
    struct weights_map *m;
    struct speech says;
    struct err e;
    struct opt table[] = {
        {"json", OPT_FLAG, &is_json, "false", NULL, "one JSON object", false},
        {"no-root", OPT_FLAG, &no_root, "false", NULL,
         "without the BLAKE2b-256, for which all of the weights are read", false},
    };
    struct usage u = {
        .line = "muster model info DIR [options]",
        .about = "Says what the model in DIR is: family, shape, size, tokenizer and chat "
                 "template, how "
                 "`model convert`\nwould write its numbers, the memory it takes, and the "
                 "BLAKE2b-256 of "
                 "its f32 weights in name order.",
        .table = table,
        .n = N_OPTIONS(table),
        .operand = &dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        return status;
    if (u.n_operands != 1)
        return usage_complain(u.line, "which directory?");
    if (weights_map_open(&m, dir, &e))
        return usage_fail(e.text);
    if (model_config_add_stops(&m->config, dir, &e)) {
        weights_map_close(&m);
        return usage_fail(e.text);
    }
    if (!no_root) {
        weights_map_digest(digest, m);
        hex_encode(hex, (struct bytes){digest, sizeof(digest)});
    }
    speech_of(&says, dir);
    (is_json ? info_json : info_text)(m, hex, &says);
    weights_map_close(&m);
    return 0;
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* Numbers between spaces or commas. */
static enum status parse_tokens(int32_t **out, size_t *n, const char *text, struct err *e)
{
    size_t cap = strlen(text) / 2 + 1;

    *out = xcalloc(cap, sizeof(**out));
    *n = 0;
    while (*text) {
        char *end;

        if (*text == ' ' || *text == ',') {
            text++;
            continue;
        }
        errno = 0;
        long id = strtol(text, &end, 10);
        if (end == text || errno || id < 0 || id > INT32_MAX)
            return err_set(e, ERR_INVALID, "'%.20s' in --tokens is not a token id", text);
        CHECK(*n < cap);
        (*out)[(*n)++] = (int32_t)id;
        text = end;
    }
    return *n ? OK : err_set(e, ERR_INVALID, "--tokens names no token");
}

static enum status check_length(const struct model_config *c, size_t n, struct err *e)
{
    if (n > c->max_len)
        return err_set(e, ERR_INVALID,
                       "--tokens names %zu, the model has %" PRIu32 " positions", n,
                       c->max_len);
    return OK;
}

/* Appends the logits after each of the n tokens. */
static enum status compute_logits(struct buf *out, struct loaded_model *l,
                                  const int32_t *tokens, size_t n, bool one_by_one,
                                  struct err *e)
{
    size_t C = l->map->config.dim, V = l->map->config.vocab, step = one_by_one ? 1 : n;
    float *hidden = NULL, *logits = NULL;
    struct kv_cache *kv = NULL;
    /* the logits, and a buffer of them that may have been doubled just before it held all */
    enum status st =
        memory_check(NULL, (uint64_t)n * (C + 3 * V) * sizeof(float), 0, "the logits", e);

    if (!st)
        st = alloc_array(&hidden, n, C * sizeof(float), "hidden states", e);
    if (!st)
        st = alloc_array(&logits, n, V * sizeof(float), "logits", e);
    if (!st)
        st = model_cache_new(&kv, l->m, 1, n, 0, e);
    for (size_t at = 0; !st && at < n; at += step) {
        const struct model_run run = {.first = at, .n = step, .n_out = step};

        st = model_forward(l->m, kv, hidden, &run, 1, tokens + at, e);
        if (!st)
            st = model_logits(l->m, logits + at * V, hidden, step, e);
    }
    for (size_t i = 0; !st && i < n * V; i++)
        buf_put_f32(out, logits[i]);
    kv_cache_free(&kv);
    free(hidden);
    free(logits);
    return st ? st : buf_status(out, e);
}

static int cmd_logits(int argc, char **argv)
{
    const char *dir = NULL;
    char *tokens = NULL, *path = NULL;
    struct model_manner how = {0};
    bool one_by_one = false;
    struct loaded_model l = {0};
    int32_t *ids = NULL;
    size_t n;
    struct buf out;
    struct err e;
    enum status st;
    struct opt table[] = {
        {"tokens", OPT_STRING, &tokens, NULL, NULL, "token ids, like \"1 2 3\"", false},
        {"out", OPT_STRING, &path, NULL, NULL,
         "file for the logits: (tokens, vocabulary) f32, little-endian", false},
        {"threads", OPT_INT, &how.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"numerics", OPT_CHOICE, &how.numerics, "f32-1", USAGE_NUMERICS, "class of the numbers",
         false},
        {"kernels", OPT_CHOICE, &how.kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"device", OPT_STRING, &how.device, "auto", NULL, USAGE_DEVICE, false},
        {"one-by-one", OPT_FLAG, &one_by_one, "false", NULL,
         "feed one token at a time, as when generating; the bits are the same", false},
    };
    struct usage u = {
        .line = "muster model logits DIR --tokens \"1 2 3\" --out FILE [options]",
        .about = "Writes the logits after each token of a sequence.",
        .table = table,
        .n = N_OPTIONS(table),
        .operand = &dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    buf_init(&out, (size_t)1 << 34);
    if (status != USAGE_RUN)
        goto out;
    if (u.n_operands != 1) {
        status = usage_complain(u.line, "which directory?");
        goto out;
    }
    st = parse_tokens(&ids, &n, tokens, &e);
    if (!st)
        st = loaded_model_open(&l, dir, &how, 1, n, &e);
    if (!st)
        st = check_length(&l.map->config, n, &e);
    if (!st)
        st = compute_logits(&out, &l, ids, n, one_by_one, &e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&out), 0666, &e);
    status = st ? usage_fail(e.text) : 0;
out:
    buf_clear(&out);
    loaded_model_close(&l);
    free(ids);
    opt_clear(table, u.n);
    return status;
}

/* ---- init ------------------------------------------------------------------------------------ */

struct init {
    char *tokenizer, *alphabet;
    int64_t dim, layers, heads, kv_heads, head_dim, ffn, max_len, seed;
    bool untied;
};

static struct model_config config_of(const struct init *in, const struct tokenizer *t)
{
    return (struct model_config){
        .arch = MODEL_ARCH_LLAMA,
        .vocab = tokenizer_vocab(t),
        .dim = (uint32_t)in->dim,
        .layers = (uint32_t)in->layers,
        .heads = (uint32_t)in->heads,
        .kv_heads = (uint32_t)(in->kv_heads ? in->kv_heads : in->heads),
        .head_dim = (uint32_t)(in->head_dim ? in->head_dim : in->dim / in->heads),
        .ffn = (uint32_t)(in->ffn ? in->ffn : 4 * in->dim),
        .max_len = (uint32_t)in->max_len,
        .norm_eps = 1e-5f,
        .rope_theta = 10000.0,
        .tie = !in->untied,
        .bos = tokenizer_bos(t),
        .pad = tokenizer_pad(t),
        .stops = {tokenizer_eos(t)},
        .n_stops = 1,
    };
}

static enum status init(const struct init *in, const char *dir, struct err *e)
{
    struct tokenizer *t = NULL;
    struct weights *w = NULL;
    struct model_config c;
    bool is_char = strcmp(in->tokenizer, "char") == 0;
    char *config = file_join(dir, "config.json");
    enum status st = OK;

    if (file_exists(config))
        st = err_set(e, ERR_EXISTS, "'%s' holds a model already", dir);
    else if (!in->head_dim && in->dim % in->heads != 0)
        st = err_set(e, ERR_INVALID,
                     "--heads %" PRId64 " does not divide --dim %" PRId64 ": say --head-dim",
                     in->heads, in->dim);
    else if (!is_char && *in->alphabet)
        st = err_set(e, ERR_INVALID, "--alphabet is for --tokenizer char");
    if (!st)
        st = tokenizer_new(&t, is_char ? TOKENIZER_CHAR : TOKENIZER_BYTE,
                           bytes_str(in->alphabet), e);
    if (st)
        goto out;
    c = config_of(in, t);
    st = model_config_check(&c, e);
    if (!st)
        st = memory_check(NULL, model_config_params(&c) * sizeof(float), 0, "the model", e);
    if (!st)
        st = weights_new(&w, &c, e);
    if (st)
        goto out;
    weights_init_random(w, (uint64_t)in->seed);
    st = tokenizer_save(t, dir, e);
    if (!st)
        st = weights_save(w, dir, DTYPE_F32, e);
out:
    weights_free(&w);
    tokenizer_free(&t);
    free(config);
    return st;
}

static int cmd_init(int argc, char **argv)
{
    const char *dir = NULL;
    struct init in = {0};
    struct err e;
    struct opt table[] = {
        {"tokenizer", OPT_CHOICE, &in.tokenizer, "byte", "byte|char", "what a token is", false},
        {"alphabet", OPT_STRING, &in.alphabet, "", NULL, "characters of a char tokenizer",
         false},
        {"dim", OPT_INT, &in.dim, "64", "1..65536", "width of the residual stream", false},
        {"layers", OPT_INT, &in.layers, "2", "1..1024", "layers", false},
        {"heads", OPT_INT, &in.heads, "4", "1..1024", "query heads", false},
        {"kv-heads", OPT_INT, &in.kv_heads, "0", "0..1024", "key heads; 0: as heads", false},
        {"head-dim", OPT_INT, &in.head_dim, "0", "0..128", "channels of a head; 0: dim / heads",
         false},
        {"ffn", OPT_INT, &in.ffn, "0", "0..262144", "width of the MLP; 0: 4 * dim", false},
        {"max-len", OPT_INT, &in.max_len, "256", "1..16777216", "positions", false},
        {"untied", OPT_FLAG, &in.untied, "false", NULL, "a head of its own", false},
        {"seed", OPT_INT, &in.seed, "0", "0..", "of the weights", false},
    };
    struct usage u = {
        .line = "muster model init DIR [options]",
        .about = "Makes a Llama model with random weights in DIR: a function of the options.",
        .table = table,
        .n = N_OPTIONS(table),
        .operand = &dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    if (u.n_operands != 1)
        status = usage_complain(u.line, "which directory?");
    else
        status = init(&in, dir, &e) ? usage_fail(e.text) : 0;
out:
    opt_clear(table, u.n);
    return status;
}

/* ---- dispatch -------------------------------------------------------------------------------- */

#define MODEL_LINE "muster model info|logits|generate|init|convert DIR [options]"

static void print_help(void)
{
    printf("usage: " MODEL_LINE "\n\n"
           "  info      what the model in a Hugging Face directory is\n"
           "  logits    the logits after each token of a sequence\n"
           "  generate  continue texts, answer messages, hold a conversation\n"
           "  init      make a model with random weights\n"
           "  convert   write a model again, as another dtype or in several files\n\n"
           "'muster model info --help' tells more of each.\n");
}

static const struct {
    const char *word;
    int (*run)(int argc, char **argv);
} words[] = {{"info", cmd_info},
             {"logits", cmd_logits},
             {"generate", cmd_model_generate},
             {"init", cmd_init},
             {"convert", cmd_model_convert}};

bool cmd_model_has(const char *word)
{
    for (size_t i = 0; i < N_OPTIONS(words); i++)
        if (!strcmp(word, words[i].word))
            return true;
    return false;
}

int cmd_model(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_help();
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < N_OPTIONS(words); i++)
        if (!strcmp(argv[1], words[i].word))
            return words[i].run(argc - 1, argv + 1);
    return argc > 1 ? usage_complain(MODEL_LINE, "'model %s' is not a command", argv[1])
                    : usage_complain(MODEL_LINE, "model what?");
}
