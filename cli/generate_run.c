#include "cli/generate_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pool.h"
#include "engine/sampler.h"
#include "engine/truncate.h"
#include "engine/utf8.h"

#define LOG_MODULE "generate"
#include "base/log.h"

#define TEXT_MAX     ((size_t)1 << 30)
#define SAY_EVERY_US 5000000

/* What came of one sample so far. */
struct answer {
    struct tokenizer_stream stream;
    struct buf text;
    size_t n_shown; /* bytes of it that are printed */
    struct buf ids; /* as JSON, where they are wanted */
    size_t n;       /* tokens */
    double logp;    /* of all of them */
    bool is_done;
    enum sampler_finish why;
};

struct generator {
    const struct generate_settings *s;
    const struct tokenizer *t;
    struct sampler *sampler;
    struct truncate *truncate; /* NULL: nothing is cut off */
    int32_t stops[MODEL_STOPS_MAX + 2];
    size_t n_stops, n_slots;
    bool is_stream;
    struct answer *answers; /* owned, of the call at hand */
    size_t n_answers, n_done;
    uint64_t n_tokens;
    int64_t begun, first,
        said; /* microseconds: the call, its first token, the last line about it */
};

/* ---- one answer ------------------------------------------------------------------------------ */

static void answer_init(struct answer *a, const struct tokenizer *t)
{
    memset(a, 0, sizeof(*a));
    tokenizer_stream_init(&a->stream, t);
    buf_init(&a->text, TEXT_MAX);
    buf_init(&a->ids, TEXT_MAX);
}

static void answer_clear(struct answer *a)
{
    tokenizer_stream_clear(&a->stream);
    buf_clear(&a->text);
    buf_clear(&a->ids);
}

/* How much of the end of `text` may be the beginning of `stop`. */
static size_t begun_stop(struct bytes text, struct bytes stop)
{
    size_t n = stop.len < text.len ? stop.len : text.len;

    while (n > 0 && memcmp(text.data + text.len - n, stop.data, n) != 0)
        n--;
    return n;
}

/* Ends the text where `stop` begins in it. False: it does not; `from` bytes have been seen before. */
static bool cut_at_stop(struct buf *text, size_t from, struct bytes stop)
{
    size_t at = from >= stop.len ? from - stop.len + 1 : 0;

    for (; stop.len > 0 && at + stop.len <= text->len; at++)
        if (memcmp(text->data + at, stop.data, stop.len) == 0) {
            text->len = at;
            return true;
        }
    return false;
}

/* Takes a token in. True: the text to stop at has come. */
static bool answer_put(struct answer *a, const struct sampler_token *t,
                       const struct generate_settings *s)
{
    const size_t before = a->text.len;

    a->n++;
    a->logp += (double)t->logp;
    if (s->ids)
        buf_printf(&a->ids, "%s%" PRId32, a->ids.len ? ", " : "", t->token);
    /* Ids that models round their vocabulary up with say nothing. */
    if (tokenizer_stream_push(&a->stream, &a->text, t->token, NULL))
        return false;
    return cut_at_stop(&a->text, before, bytes_str(s->stop));
}

/* Prints what is certain: never half a character, nor what may become the text to stop at. */
static void answer_show(struct answer *a, const struct generate_settings *s)
{
    const size_t held = a->is_done ? 0 : begun_stop(buf_bytes(&a->text), bytes_str(s->stop));
    const size_t n = a->text.len - held;

    if (n > a->n_shown)
        fwrite(a->text.data + a->n_shown, 1, n - a->n_shown, stdout);
    a->n_shown = n > a->n_shown ? n : a->n_shown;
    fflush(stdout);
}

/* `text` as a JSON string, which free() is for; U+FFFD where it is no text. */
static char *quoted(struct bytes text)
{
    struct buf clean;
    json_t *string;
    char *out;

    buf_init(&clean, 3 * text.len + 1);
    utf8_put_lossy(&clean, text);
    string = json_stringn(clean.len ? (const char *)clean.data : "", clean.len);
    out = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    buf_clear(&clean);
    return out;
}

static void print_answer(const struct generator *g, const struct prompts *p, size_t i)
{
    struct answer *a = &g->answers[i];
    const size_t samples = (size_t)g->s->samples;
    const struct prompt *asked = &p->at[i / samples];
    char *text = quoted(buf_bytes(&a->text));

    printf("{\"prompt\": %zu, \"sample\": %zu, ", i / samples, i % samples);
    if (asked->name)
        printf("\"id\": %s, ", asked->name);
    printf("\"seed\": %" PRIu64 ", \"prompt_tokens\": %zu, \"tokens\": %zu, "
           "\"logp\": %.9g, \"finish\": \"%s\", ",
           (uint64_t)g->s->seed + i, asked->n, a->n, a->logp,
           a->why == SAMPLER_STOP ? "stop" : "length");
    if (g->s->ids)
        printf("\"ids\": [%s], ", buf_cstr(&a->ids));
    printf("\"text\": %s}\n", text ? text : "null");
    fflush(stdout);
    free(text);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void on_token(void *ctx, const struct sampler_token *t)
{
    struct generator *g = ctx;
    struct answer *a = &g->answers[t->tag + t->sample];

    if (g->n_tokens++ == 0)
        g->first = clock_mono_us();
    if (answer_put(a, t, g->s))
        sampler_end_sample(g->sampler);
    if (g->is_stream)
        answer_show(a, g->s);
}

static void on_done(void *ctx, uint64_t tag, size_t sample, size_t n, enum sampler_finish why)
{
    struct generator *g = ctx;
    struct answer *a = &g->answers[tag + sample];
    const size_t before = a->text.len;

    (void)n;
    /* What was held back comes now, and may complete the text to stop at. */
    if (tokenizer_stream_flush(&a->stream, &a->text, NULL) == OK &&
        cut_at_stop(&a->text, before, bytes_str(g->s->stop)))
        why = SAMPLER_STOP;
    a->why = why;
    a->is_done = true;
    g->n_done++;
}

enum status generator_new(struct generator **out, struct model *m, const struct model_config *c,
                          const struct tokenizer *t, const struct generate_settings *s,
                          size_t n_slots, size_t max_len, struct err *e)
{
    const struct truncate_options cut = {
        .top_k = (size_t)s->top_k, .top_p = (float)s->top_p, .min_p = (float)s->min_p};
    struct generator *g = xcalloc(1, sizeof(*g));
    struct sampler_options opt = {.n_slots = n_slots,
                                  .max_len = max_len < c->max_len ? max_len : c->max_len,
                                  .on_token = on_token,
                                  .on_done = on_done,
                                  .ctx = g};
    enum status st = OK;

    g->s = s;
    g->t = t;
    g->n_slots = n_slots;
    g->n_stops = c->n_stops;
    memcpy(g->stops, c->stops, c->n_stops * sizeof(c->stops[0]));
    if (tokenizer_eos(t) >= 0)
        g->stops[g->n_stops++] = tokenizer_eos(t);
    if (s->chat_end >= 0)
        g->stops[g->n_stops++] = s->chat_end;
    if (cut.top_k || cut.top_p < 1.0f || cut.min_p > 0.0f)
        st = truncate_new(&g->truncate, &cut, c->vocab, pool_threads(model_pool(m)), e);
    if (g->truncate) {
        opt.choose = truncate_draw;
        opt.choose_ctx = g->truncate;
    }
    if (!st)
        st = sampler_new(&g->sampler, m, &opt, e);
    if (st)
        generator_free(&g);
    *out = g;
    return st;
}

static void drop_answers(struct generator *g)
{
    for (size_t i = 0; i < g->n_answers; i++)
        answer_clear(&g->answers[i]);
    free(g->answers);
    g->answers = NULL;
    g->n_answers = g->n_done = 0;
}

void generator_free(struct generator **p)
{
    struct generator *g = *p;

    if (!g)
        return;
    drop_answers(g);
    sampler_free(&g->sampler);
    truncate_free(&g->truncate);
    free(g);
    *p = NULL;
}

static enum status begin(struct generator *g, size_t n_answers, bool is_stream, struct err *e)
{
    enum status st;

    drop_answers(g);
    st = alloc_array(&g->answers, n_answers, sizeof(g->answers[0]), "answers", e);
    if (st)
        return st;
    g->n_answers = n_answers;
    for (size_t i = 0; i < n_answers; i++)
        answer_init(&g->answers[i], g->t);
    g->is_stream = is_stream;
    g->n_tokens = 0;
    g->begun = g->first = g->said = clock_mono_us();
    return OK;
}

/* Asks for n samples of a prompt, whose answers are those from number `first` on. */
static enum status ask(struct generator *g, const struct prompt *p, size_t first, size_t n,
                       struct err *e)
{
    const struct generate_settings *s = g->s;
    uint64_t *seeds = xcalloc(n, sizeof(*seeds));
    struct sampler_request r = {.prompt = p->ids,
                                .n_prompt = p->n,
                                .seeds = seeds,
                                .temperature = (float)s->temperature,
                                .max_new = (size_t)s->max_new,
                                .stops = g->stops,
                                .n_stops = g->n_stops};
    enum status st = OK;

    for (size_t i = 0; i < n; i++)
        seeds[i] = (uint64_t)s->seed + first + i;
    /* A request has at most as many samples as there are slots; the next one finds its prompt in
     * the cache. */
    for (size_t at = 0; !st && at < n; at += r.n_samples) {
        r.tag = first + at;
        r.seeds = seeds + at;
        r.n_samples = n - at < g->n_slots ? n - at : g->n_slots;
        st = sampler_add(g->sampler, &r, e);
    }
    free(seeds);
    return st;
}

static double rate(uint64_t n, int64_t us)
{
    return us > 0 ? (double)n * 1e6 / (double)us : 0.0;
}

enum status generator_stream(struct generator *g, const struct prompt *p, struct buf *said,
                             struct err *e)
{
    const struct sampler_stats before = sampler_stats(g->sampler);
    enum status st = begin(g, 1, true, e);

    if (!st)
        st = ask(g, p, 0, 1, e);
    if (!st)
        st = sampler_run(g->sampler, e);
    if (st)
        return st;
    answer_show(&g->answers[0], g->s);
    putchar('\n');
    fflush(stdout);
    if (said)
        buf_append(said, buf_bytes(&g->answers[0].text));
    LOG_INFO("done prompt_tokens=%zu reused=%" PRIu64 " first_ms=%.0f tokens=%zu tok_s=%.1f",
             p->n, sampler_stats(g->sampler).reused - before.reused,
             (double)(g->first - g->begun) * 1e-3, g->answers[0].n,
             rate(g->n_tokens > 1 ? g->n_tokens - 1 : 0, clock_mono_us() - g->first));
    return OK;
}

static void say(struct generator *g, bool is_last)
{
    const int64_t now = clock_mono_us();
    const struct sampler_stats stats = sampler_stats(g->sampler);

    if (!is_last && now - g->said < SAY_EVERY_US)
        return;
    g->said = now;
    LOG_INFO("%s answers=%zu/%zu prompt_tokens=%" PRIu64 " reused=%" PRIu64 " tokens=%" PRIu64
             " tok_s=%.1f",
             is_last ? "done" : "progress", g->n_done, g->n_answers, stats.computed,
             stats.reused, g->n_tokens, rate(g->n_tokens, now - g->begun));
}

enum status generator_batch(struct generator *g, const struct prompts *p, struct err *e)
{
    const size_t samples = (size_t)g->s->samples;
    enum status st = begin(g, p->n * samples, false, e);
    size_t n_printed = 0;

    for (size_t i = 0; !st && i < p->n; i++)
        st = ask(g, &p->at[i], i * samples, samples, e);
    while (!st && sampler_active(g->sampler) > 0) {
        st = sampler_step(g->sampler, e);
        while (!st && n_printed < g->n_answers && g->answers[n_printed].is_done) {
            print_answer(g, p, n_printed);
            answer_clear(&g->answers[n_printed++]);
        }
        if (!st)
            say(g, false);
    }
    if (!st)
        say(g, true);
    return st;
}
