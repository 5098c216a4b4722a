#include "small_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/kernels.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "proto/submission.h"
#include "support/test.h"

static const char long_yaml[] = "name: long\n"
                                "seed: 5\n"
                                "model: {dim: 16, layers: 2, heads: 2, ffn: 24, max_len: 64,"
                                " tokenizer: byte}\n"
                                "sampling: {group: 2, temperature: 1.25, max_new_tokens: %u}\n";
static const char long_lua[] =
    "return {prompt = function(p) return 'say ' .. p.seed % 1000 end,"
    " demo = function(p) return 'this' end,"
    " score = function(p, m) return #m[1].text % 7 / 7 end}";

static const char talk_yaml[] =
    "name: talk\n"
    "seed: 6\n"
    "model: {dim: 16, layers: 2, heads: 2, ffn: 24, max_len: 24, alphabet: \"ab\"}\n"
    "environment: {turns: 3}\n"
    "sampling: {group: 4, temperature: 4, max_new_tokens: 7}\n";
/* The world says a and as many b as it was told words, and has enough of "b". */
static const char talk_lua[] =
    "return {prompt = function(p) return ('ab'):rep(1 + p.seed % 2) end,"
    " step = function(p, m)"
    "   if m[#m].text:sub(1, 1) == 'b' then return nil end"
    "   return 'a' .. ('b'):rep(#m) end,"
    " score = function(p, m)"
    "   local n = 0"
    "   for _, x in ipairs(m) do n = n + (x.role == 'world' and 10 or 1) * #x.text end"
    "   return n % 11 / 11 end}";

static void encode_text(struct buf *out, const char *yaml, const char *lua)
{
    struct bundle b = {0};
    struct err e = {0};

    b.file[BUNDLE_TASK] = bytes_str(yaml);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    assert_ok(bundle_encode(out, &b, &e), &e);
}

void small_bundle(struct buf *out, enum small_task task, unsigned tokens)
{
    char yaml[512];
    struct err e = {0};

    switch (task) {
    case SMALL_TASK_SMALL:
        assert_ok(bundle_load(out, MUSTER_SOURCE_DIR "/tests/integration/tasks/small", &e), &e);
        break;
    case SMALL_TASK_LONG:
        snprintf(yaml, sizeof(yaml), long_yaml, tokens ? tokens : 40u);
        encode_text(out, yaml, long_lua);
        break;
    case SMALL_TASK_TALK: encode_text(out, talk_yaml, talk_lua); break;
    }
}

/* Fresh weights are nearly indifferent; five times as large, they prefer some tokens. */
void small_weights(struct weights *w, uint64_t seed)
{
    weights_init_random(w, seed);
    for (size_t t = 0; t < w->n_tensors; t++)
        for (size_t i = 0;
             w->tensors[t].is_matrix && i < w->tensors[t].rows * w->tensors[t].cols; i++)
            w->tensors[t].data[i] *= 5.0f;
}

void small_file(struct buf *out, const struct weights *w)
{
    struct err e = {0};

    buf_init(out, weights_encode_bytes(&w->config));
    assert_ok(weights_encode(out, w, DTYPE_F32, &e), &e);
}

void small_root(struct digest *root, struct bytes file)
{
    content_root(root, content_shard_bytes(file.len), file);
}

void small_world_run_with(struct small_world *s, const char *kernels, size_t threads)
{
    struct model_options mo = {0};
    struct err e = {0};

    model_free(&s->model);
    pool_free(&s->pool);
    pool_new(&s->pool, threads);
    mo.pool = s->pool;
    assert_ok(kernels_choose(&mo.kernels, NUMERICS_F32_1, kernels, &e), &e);
    assert_ok(model_new(&s->model, s->weights, &mo, &e), &e);
    s->world.model = s->model;
}

void small_world_reweigh(struct small_world *s, uint64_t seed)
{
    small_weights(s->weights, seed);
    assert_ok(model_reload(s->model, s->weights, NULL), NULL);
}

void small_world_open(struct small_world *s, enum small_task task, unsigned tokens)
{
    struct buf file;
    struct err e = {0};

    memset(s, 0, sizeof(*s));
    buf_init(&s->bundle, BUNDLE_MAX_BYTES);
    small_bundle(&s->bundle, task, tokens);
    assert_ok(setup_open(&s->setup, buf_bytes(&s->bundle), NULL, &e), &e);
    assert_ok(weights_new(&s->weights, &s->setup->config, &e), &e);
    small_weights(s->weights, 1);
    small_file(&file, s->weights);
    small_root(&s->root, buf_bytes(&file));
    buf_clear(&file);
    s->world = setup_world(s->setup, NULL, 3, &s->root);
    small_world_run_with(s, "scalar", 1);
}

void small_world_close(struct small_world *s)
{
    model_free(&s->model);
    pool_free(&s->pool);
    weights_free(&s->weights);
    setup_close(&s->setup);
    buf_clear(&s->bundle);
}

void claim_make(struct claim *c, const struct rollout_world *w, uint64_t unit)
{
    struct err e = {0};

    rollout_unit_init(&c->unit, unit, 1000 + unit);
    assert_ok(rollout_generate(w, &c->unit, 1, NULL, NULL, &e), &e);
    c->s = xcalloc(1, sizeof(*c->s));
    assert_ok(msg_submit_decode(c->s, buf_bytes(&c->unit.body), &e), &e);
}

void claim_clear(struct claim *c)
{
    rollout_unit_clear(&c->unit);
    free(c->s);
    c->s = NULL;
}

void claim_seal(struct claim *c)
{
    submission_root(&c->s->root, c->s);
}

uint8_t *claim_byte(struct bytes b, size_t i)
{
    assert_true(i < b.len);
    return (uint8_t *)b.data + i; /* claim.unit.body, which is ours */
}

int32_t claim_token(const struct claim *c, size_t sample, size_t i)
{
    int32_t t;

    assert_true(4 * i + 4 <= c->s->sample[sample].tokens.len);
    memcpy(&t, c->s->sample[sample].tokens.data + 4 * i, sizeof(t));
    return t;
}
