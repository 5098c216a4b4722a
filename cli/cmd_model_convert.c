/*
 * cli/cmd_model_convert.c - muster model convert: a checkpoint written again
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cmd_model.h"
#include "cli/usage.h"
#include "engine/weights_map.h"

#define COPY_MAX_BYTES   ((size_t)256 << 20)
#define N_OPTIONS(table) (sizeof(table) / sizeof((table)[0]))

/* What lies beside the weights and goes along as it is. */
static const char *const companions[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
};
#define N_COMPANIONS (sizeof(companions) / sizeof(companions[0]))

struct convert {
    char *out, *dtype;
    int64_t shard_bytes;
};

static enum status refuse_if_there(const char *dir, const char *name, struct err *e)
{
    char *path = file_join(dir, name);
    enum status st = OK;

    if (file_exists(path))
        st = err_set(e, ERR_EXISTS, "'%s' is there already", path);
    free(path);
    return st;
}

/* A directory that holds anything of a model is left alone. */
static enum status check_empty(const char *dir, struct err *e)
{
    static const char *const names[] = {"config.json", "model.safetensors",
                                        "model.safetensors.index.json"};
    enum status st = OK;

    for (size_t i = 0; !st && i < sizeof(names) / sizeof(names[0]); i++)
        st = refuse_if_there(dir, names[i], e);
    for (size_t i = 0; !st && i < N_COMPANIONS; i++)
        st = refuse_if_there(dir, companions[i], e);
    return st;
}

static enum status copy(const char *from, const char *to, const char *name, struct err *e)
{
    char *source = file_join(from, name), *target = file_join(to, name);
    struct buf data;
    enum status st;

    buf_init(&data, COPY_MAX_BYTES);
    st = file_read(&data, source, e);
    if (st == ERR_NOT_FOUND)
        st = OK;
    else if (!st)
        st = file_write_atomic(target, buf_bytes(&data), 0666, e);
    buf_clear(&data);
    free(source);
    free(target);
    return st;
}

/* One line that is written over, where somebody may look. */
static void show(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)ctx;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%3" PRIu64 " %% of %" PRIu64 " bytes%s",
                done_bytes * 100 / all_bytes, all_bytes, done_bytes == all_bytes ? "\n" : "");
}

/* What a conversion that failed has copied: a directory is all there, or can be tried again. */
static void remove_companions(const char *dir)
{
    for (size_t i = 0; i < N_COMPANIONS; i++) {
        char *path = file_join(dir, companions[i]);

        (void)unlink(path);
        free(path);
    }
}

static enum status convert(const struct convert *c, const char *dir, struct err *e)
{
    struct weights_map_save how = {.shard_bytes = (uint64_t)c->shard_bytes, .progress = show};
    struct weights_map *m;
    enum status st = weights_map_open(&m, dir, e);

    if (st)
        return st;
    how.dtype = m->config.dtype;
    if (strcmp(c->dtype, "same") != 0)
        how.dtype = strcmp(c->dtype, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    st = check_empty(c->out, e);
    if (!st)
        st = file_mkdirs(c->out, 0777, e);
    if (st) {
        weights_map_close(&m);
        return st;
    }
    for (size_t i = 0; !st && i < N_COMPANIONS; i++)
        st = copy(dir, c->out, companions[i], e);
    if (!st)
        st = weights_map_save(m->tensors, m->n_tensors, &m->config, c->out, &how, e);
    if (!st)
        printf("%s: %" PRIu64 " parameters as %s\n", c->out, model_config_params(&m->config),
               dtype_hf_name(how.dtype));
    else
        remove_companions(c->out);
    weights_map_close(&m);
    return st;
}

int cmd_model_convert(int argc, char **argv)
{
    const char *dir = NULL;
    struct convert c = {0};
    struct err e;
    struct opt table[] = {
        {"out", OPT_STRING, &c.out, NULL, NULL, "directory to make", false},
        {"dtype", OPT_CHOICE, &c.dtype, "same", "same|f32|bf16",
         "how numbers are stored; f16 is read, and stored as f32", false},
        {"shard-bytes", OPT_INT, &c.shard_bytes, "0", "0..",
         "begin another file before one gets larger; 0: one file", false},
    };
    struct usage u = {
        .line = "muster model convert DIR --out DIR2 [options]",
        .about =
            "Writes the model in DIR again: weights as a safetensors file, or several with "
            "their index, a\nconfig.json that transformers understands, and the tokenizer's "
            "files as they are. Takes no\nmemory of the model's size, and overwrites "
            "nothing.",
        .table = table,
        .n = N_OPTIONS(table),
        .operand = &dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && u.n_operands != 1) {
        status = usage_complain(u.line, "which directory?");
    } else if (status == USAGE_RUN) {
        status = convert(&c, dir, &e) ? usage_fail(e.text) : 0;
    }
    opt_clear(table, u.n);
    return status;
}
