/*
 * A model directory of arbitrary files: config.json, generation_config.json, index, tensors,
 * tokenizer and chat template, which is all that is read of one. What opens has the shapes of its
 * config and lends no more than the files hold; what loads has the numbers of what was mapped, and
 * computes, and so does what was mapped; what has a chat template puts a conversation into ids of
 * its tokenizer.
 *
 * The input is a list of files, each u8 which (of `names`, modulo their number), u16 length,
 * little-endian, and its bytes: what tests/fuzz/make_model_dir.py makes the corpus of.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/chat.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/tokenizer.h"
#include "engine/train.h"
#include "engine/weights_map.h"
#include "support/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
    "config.json",       "generation_config.json", "model.safetensors.index.json",
    "model.safetensors", "a.safetensors",          "b.safetensors",
    "tokenizer.json",    "tokenizer_config.json",  "chat_template.jinja",
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

static void write_files(struct reader r)
{
    for (size_t i = 0; i < N_NAMES; i++)
        scratch_remove(names[i]);
    while (reader_left(&r) >= 3) {
        size_t which = reader_u8(&r) % N_NAMES, n = reader_u16(&r);

        if (n > reader_left(&r))
            n = reader_left(&r);
        (void)scratch_write(names[which], reader_bytes(&r, n));
    }
}

static void check_map(const struct weights_map *m, size_t size)
{
    uint64_t n = 0, bytes = 0;

    CHECK(model_config_check(&m->config, NULL) == OK);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct weights_map_tensor *t = &m->tensors[i];

        CHECK(t->data.len == t->shape.rows * t->shape.cols * dtype_bytes(t->dtype));
        n += t->shape.rows * t->shape.cols;
        bytes += t->data.len;
    }
    CHECK(n == model_config_params(&m->config) && bytes <= size);
}

/* Three tokens, forward. */
static void compute(const struct weights *w)
{
    const struct train_options opt = {.kernels = kernels_best(), .max_rows = 3};
    const int32_t tokens[3] = {0, 1, 0}, targets[3] = {1, 0, -1};
    const size_t length = w->config.max_len < 3 ? w->config.max_len : 3;
    const struct train_batch b = {.tokens = tokens,
                                  .targets = targets,
                                  .lengths = &length,
                                  .n_seqs = 1,
                                  .rows = length,
                                  .temperature = 1.0f};
    struct train *t;
    float logp[3];
    struct err e;

    CHECK(train_new(&t, w, &opt, &e) == OK);
    enum status st = train_forward(t, &b, logp, &e);
    CHECK(st == OK || st == ERR_NUMERIC);
    train_free(&t);
}

/* Two tokens from the files' own numbers, and the logits after the last. */
static void infer(const struct weights_map *m)
{
    const struct model_options opt = {.kernels = kernels_best(), .max_rows = 2};
    const size_t n = m->config.max_len < 2 ? 1 : 2;
    const struct model_run run = {.n = n, .n_out = 1};
    const int32_t tokens[2] = {1, 0};
    float *hidden = xcalloc(m->config.dim, sizeof(float));
    float *logits = xcalloc(m->config.vocab, sizeof(float));
    struct kv_cache *kv;
    struct model *model;
    struct err e;

    CHECK(model_open(&model, m, &opt, &e) == OK);
    CHECK(model_cache_new(&kv, model, 1, n, 0, &e) == OK);
    CHECK(model_forward(model, kv, hidden, &run, 1, tokens, &e) == OK);
    CHECK(model_logits(model, logits, hidden, 1, &e) == OK);
    kv_cache_free(&kv);
    model_free(&model);
    free(hidden);
    free(logits);
}

static void try_weights(size_t size)
{
    uint8_t mapped[WEIGHTS_DIGEST_BYTES], loaded[WEIGHTS_DIGEST_BYTES];
    struct weights_map *m = NULL;
    struct weights *w = NULL;
    struct err e;
    bool is_open = weights_map_open(&m, scratch_dir(), &e) == OK;

    CHECK(is_open == (m != NULL));
    CHECK(is_open == (weights_load(&w, scratch_dir(), &e) == OK));
    if (!is_open) {
        CHECK(!w && e.text[0]);
        return;
    }
    check_map(m, size);
    weights_map_digest(mapped, m);
    weights_digest(loaded, w);
    CHECK(memcmp(mapped, loaded, sizeof(mapped)) == 0);
    CHECK(model_config_add_stops(&m->config, scratch_dir(), &e) == OK || e.text[0]);
    CHECK(model_config_check(&m->config, NULL) == OK);
    infer(m);
    weights_map_close(&m);
    compute(w);
    weights_free(&w);
}

static void try_chat(const struct tokenizer *t)
{
    const struct chat_message m[] = {{CHAT_SYSTEM, BYTES_LIT("be brief")},
                                     {CHAT_USER, BYTES_LIT("the x\xcc\x81 <|im_end|>")},
                                     {CHAT_ASSISTANT, BYTES_LIT("a b")}};
    int32_t ids[256];
    uint8_t is_answer[256];
    struct chat *c;
    size_t n;

    if (chat_open(&c, scratch_dir(), t, NULL)) {
        CHECK(!c);
        return;
    }
    if (chat_render(c, m, 3, true, ids, is_answer, 256, &n, NULL) == OK)
        for (size_t i = 0; i < n; i++)
            CHECK(ids[i] >= 0 && (uint32_t)ids[i] < tokenizer_vocab(t));
    CHECK(chat_end(c) >= 0 && (uint32_t)chat_end(c) < tokenizer_vocab(t));
    chat_close(&c);
}

static void try_tokenizer(void)
{
    static const char text[] = "a b\xc3\xa9 <x>";
    int32_t ids[TOKENIZER_ROOM(sizeof(text))];
    struct tokenizer *t;
    struct buf back;
    size_t n;

    if (tokenizer_load(&t, scratch_dir(), NULL))
        return;
    buf_init(&back, 4096);
    if (tokenizer_encode(t, BYTES_LIT(text), ids, sizeof(ids) / sizeof(ids[0]), &n, NULL) == OK)
        (void)!tokenizer_decode(&back, t, ids, n, NULL);
    buf_clear(&back);
    try_chat(t);
    tokenizer_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    write_files(reader_of((struct bytes){data, size}));
    try_weights(size);
    try_tokenizer();
    return 0;
}
