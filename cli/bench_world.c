#include "cli/bench_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "learn/batch.h"
#include "proto/sign.h"
#include "replay/course.h"

#define STEP_UNITS  16u
#define DEMO_TOKENS 60u /* of a demonstration, as the script has it */

static const char yaml[] =
    "name: lines\n"
    "seed: 11\n"
    "model: {dim: %zu, layers: %zu, heads: %zu, ffn: %zu, max_len: %zu,\n"
    "  alphabet: \"abcdefghijklmnopqrstuvwxyz >\"}\n"
    "sampling: {group: %zu, temperature: 1, max_new_tokens: %zu}\n"
    "warmup: {steps: %zu, batch: 32, lr: 3e-3}\n"
    "algorithm: {units_per_batch: 16, steps: 4}\n"
    "optimizer: {lr: 1e-5}\n";

/* Words follow one another by chance: what comes next is now certain, now open. */
static const char lua[] =
    "local words = {'stone', 'river', 'house', 'tree', 'star', 'bird', 'moon', 'street',"
    " 'stream', 'horse', 'tower', 'bread', 'snow', 'sand', 'hill', 'boat'}\n"
    "local function line(s, n)\n"
    "  local t = {}\n"
    "  s = s % 2147483646 + 1\n"
    "  while #table.concat(t, ' ') < n do\n"
    "    s = s * 48271 % 2147483647\n"
    "    t[#t + 1] = words[s // 131 % #words + 1]\n"
    "  end\n"
    "  return table.concat(t, ' '):sub(1, n)\n"
    "end\n"
    "return {prompt = function(p) return line(p.seed, 12) .. '>' end,\n"
    "  demo = function(p) return line(p.seed + 7, 60) end,\n"
    "  score = function(p, m)\n"
    "    local _, n = m[1].text:gsub('[eo]', '')\n"
    "    return n / (1 + #m[1].text) end}\n";

static enum status open_setup(struct bench_world *w, const struct bench_world_options *o,
                              struct err *e)
{
    size_t longest = o->tokens > DEMO_TOKENS ? o->tokens : DEMO_TOKENS;
    char task[1024];
    struct bundle b = {0};
    struct buf encoded;
    enum status st;

    snprintf(task, sizeof(task), yaml, o->dim, o->layers, o->dim / 16, 2 * o->dim, longest + 32,
             o->group, o->tokens, o->warmup);
    b.file[BUNDLE_TASK] = bytes_str(task);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    buf_init(&encoded, BUNDLE_MAX_BYTES);
    st = bundle_encode(&encoded, &b, e);
    if (!st)
        st = setup_open(&w->setup, buf_bytes(&encoded), NULL, e);
    buf_clear(&encoded);
    return st;
}

/* The weights that the course has come to, as version `at`. */
static enum status keep(struct bench_world *w, size_t at, const struct course *c, struct err *e)
{
    struct buf file;
    enum status st;

    buf_init(&file, course_file_bytes(c));
    st = course_file(c, &file, e);
    if (!st)
        st = weights_decode(&w->weights[at], &w->setup->config, buf_bytes(&file), "a version",
                            e);
    w->root[at] = c->weights;
    buf_clear(&file);
    return st;
}

/* What a worker submits for `unit`, signed, if its rewards differ: otherwise *out stays empty. */
static enum status signed_unit(struct buf *out, const struct rollout_world *world,
                               uint64_t unit, const struct digest *run, struct err *e)
{
    static const uint8_t seed[32] = {1};
    const struct idem idem = {{(uint8_t)unit}};
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct secret_key secret;
    struct public_key pub;
    struct rollout_unit u;
    bool has_signal = false;
    enum status st;

    sign_keys_of_seed(&pub, &secret, seed);
    rollout_unit_init(&u, unit, unit);
    st = rollout_generate(world, &u, 1, NULL, NULL, e);
    if (!st)
        st = msg_submit_decode(m, buf_bytes(&u.body), e);
    for (uint32_t i = 1; !st && i < m->n_samples; i++)
        has_signal = has_signal || m->sample[i].reward < m->sample[0].reward ||
                     m->sample[i].reward > m->sample[0].reward;
    if (!st && has_signal)
        st = msg_envelope_encode(out, MSG_SUBMIT, run, &idem, buf_bytes(&u.body), &secret, e);
    rollout_unit_clear(&u);
    free(m);
    return st;
}

/* Version 1: one batch of version 0's own units. */
static enum status take_step(struct bench_world *w, struct course *c, struct pool *pool,
                             struct err *e)
{
    const struct model_options mo = {.kernels = kernels_best(), .pool = pool};
    struct msg_batch *batch = xcalloc(1, sizeof(*batch));
    struct buf envelope[STEP_UNITS];
    struct model *m = NULL;
    enum status st = model_new(&m, w->weights[0], &mo, e);

    for (size_t i = 0; i < STEP_UNITS; i++)
        buf_init(&envelope[i], MSG_MAX_BYTES);
    for (uint64_t unit = 0; !st && batch->n < STEP_UNITS && unit < 20 * STEP_UNITS; unit++) {
        const struct rollout_world world = setup_world(w->setup, m, 0, &w->root[0]);
        struct buf *at = &envelope[batch->n];

        st = signed_unit(at, &world, unit, &c->options.run, e);
        if (!st && at->len)
            batch->envelope[batch->n++] = buf_bytes(at);
    }
    learn_batch_root(&batch->root, batch);
    if (!st)
        st = course_step(c, batch, e);
    for (size_t i = 0; i < STEP_UNITS; i++)
        buf_clear(&envelope[i]);
    model_free(&m);
    free(batch);
    return st;
}

enum status bench_world_open(struct bench_world *w, const struct bench_world_options *o,
                             struct err *e)
{
    const struct course_options co = {.run = {{9}}, .kernels = kernels_best(), .pool = o->pool};
    struct course c;
    enum status st;

    memset(w, 0, sizeof(*w));
    st = open_setup(w, o, e);
    if (st)
        return st;
    course_init(&c, w->setup, &co);
    st = course_begin(&c, e);
    if (!st)
        st = course_warm_up(&c, NULL, NULL, e);
    if (!st)
        st = keep(w, 0, &c, e);
    if (!st && o->warmup > 0)
        st = take_step(w, &c, o->pool, e);
    if (!st)
        st = keep(w, 1, &c, e);
    course_clear(&c);
    if (st)
        bench_world_close(w);
    return st;
}

void bench_world_close(struct bench_world *w)
{
    weights_free(&w->weights[0]);
    weights_free(&w->weights[1]);
    setup_close(&w->setup);
}

struct rollout_world bench_world_view(const struct bench_world *w, enum numerics numerics,
                                      struct model *m)
{
    struct rollout_world view = setup_world(w->setup, NULL, 1, &w->root[1]);

    view.model = m;
    view.numerics = numerics;
    return view;
}
