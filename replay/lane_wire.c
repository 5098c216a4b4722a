#include "replay/lane_wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define CONFIG_MAX ((size_t)64 << 10)

static void put_text(struct buf *out, const char *text)
{
    buf_put_blob(out, bytes_str(text));
}

static void take_text(struct reader *r, char *to, size_t room)
{
    struct bytes b = reader_blob(r);

    to[0] = 0;
    if (b.len == 0)
        return;
    if (b.len >= room || memchr(b.data, 0, b.len)) {
        r->bad = true;
        return;
    }
    memcpy(to, b.data, b.len);
    to[b.len] = 0;
}

static bool take_flag(struct reader *r)
{
    uint8_t flag = reader_u8(r);

    r->bad = r->bad || flag > 1;
    return flag == 1;
}

/* ---- setup ----------------------------------------------------------------------------------- */

void lane_setup_encode(struct buf *out, const struct lane_setup *s)
{
    struct buf config;

    buf_init(&config, CONFIG_MAX);
    model_config_encode(&config, &s->config);
    buf_put_blob(out, buf_bytes(&config));
    buf_clear(&config);
    put_text(out, s->numerics);
    put_text(out, s->kernels);
    put_text(out, s->device);
    buf_put_u32(out, s->threads);
    buf_put_u32(out, s->lanes);
    buf_put_u64(out, s->max_rows);
    buf_put_u8(out, s->recompute);
}

enum status lane_setup_decode(struct lane_setup *s, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    struct bytes config = reader_blob(&r);
    enum status st;

    take_text(&r, s->numerics, sizeof(s->numerics));
    take_text(&r, s->kernels, sizeof(s->kernels));
    take_text(&r, s->device, sizeof(s->device));
    s->threads = reader_u32(&r);
    s->lanes = reader_u32(&r);
    s->max_rows = reader_u64(&r);
    s->recompute = take_flag(&r);
    st = reader_done(&r, "the setup of a lane's worker", e);
    if (!st && (!lanes_is_count(s->lanes) || s->threads < 1 || s->threads > 1024))
        st = err_set(e, ERR_MALFORMED, "%u lanes and %u threads", s->lanes, s->threads);
    return st ? st : model_config_decode(&s->config, config, e);
}

/* ---- work ------------------------------------------------------------------------------------ */

#define SEQ_BYTES 17u /* at the head of a step, of each */

static void put_head(struct buf *out, const struct learn_work *w, uint32_t first, uint32_t n)
{
    buf_put_u32(out, w->n_lanes);
    buf_put_u32(out, first);
    buf_put_u32(out, n);
    buf_put_u64(out, w->n_tokens);
    buf_put_f32(out, w->temperature);
    buf_put_u8(out, w->is_imitation);
    buf_put_f32(out, w->loss.clip_eps);
    buf_put_f32(out, w->loss.delta);
    buf_put_f32(out, w->loss.log_ratio_max);
    buf_put_u64(out, w->n_seqs);
}

void lane_work_encode(struct buf *out, const struct learn_work *w, uint32_t first, uint32_t n)
{
    put_head(out, w, first, n);
    for (size_t i = 0; i < w->n_seqs; i++) {
        const struct learn_seq *s = &w->seq[i];

        CHECK(s->n <= UINT32_MAX && s->from <= UINT32_MAX);
        buf_put_u64(out, s->n);
        buf_put_u32(out, (uint32_t)s->from);
        buf_put_f32(out, s->advantage);
        buf_put_u8(out, s->is_target != NULL);
    }
    for (size_t i = 0; i < w->n_seqs; i++) {
        const struct learn_seq *s = &w->seq[i];

        buf_append(out, (struct bytes){(const uint8_t *)s->tokens, 4 * s->n});
        if (!w->is_imitation)
            buf_append(out, (struct bytes){(const uint8_t *)s->logprobs, 4 * s->n});
        if (s->is_target)
            buf_append(out, (struct bytes){s->is_target, s->n});
    }
}

static enum status take_head(struct lane_work *w, struct reader *r, struct err *e)
{
    struct learn_work *x = &w->work;

    x->n_lanes = reader_u32(r);
    w->first = reader_u32(r);
    w->n = reader_u32(r);
    x->n_tokens = reader_u64(r);
    x->temperature = reader_f32(r);
    x->is_imitation = take_flag(r);
    x->loss.clip_eps = reader_f32(r);
    x->loss.delta = reader_f32(r);
    x->loss.log_ratio_max = reader_f32(r);
    x->n_seqs = reader_u64(r);
    if (r->bad || !lanes_is_count(x->n_lanes) || !lanes_is_count(w->n) || x->n_tokens == 0 ||
        w->first % w->n || w->first >= x->n_lanes || w->n > x->n_lanes - w->first ||
        x->n_seqs > reader_left(r) / SEQ_BYTES)
        return err_set(e, ERR_MALFORMED, "a step's work does not make sense");
    return OK;
}

/* The heads of the sequences. Returns through *total how many tokens they have together. */
static enum status take_seqs(struct lane_work *w, struct reader *r, size_t *total,
                             struct err *e)
{
    static const uint8_t some = 1; /* stands for targets that follow */

    *total = 0;
    for (size_t i = 0; i < w->work.n_seqs; i++) {
        struct learn_seq *s = &w->seq[i];

        s->n = reader_u64(r);
        s->from = reader_u32(r);
        s->advantage = reader_f32(r);
        s->is_target = take_flag(r) ? &some : NULL;
        if (r->bad || s->n < 2 || s->n > reader_left(r) / 4 - *total)
            return err_set(e, ERR_MALFORMED, "sequence %zu of a step has %zu tokens", i, s->n);
        *total += s->n;
    }
    return OK;
}

static void take_tokens(struct lane_work *w, struct reader *r)
{
    size_t at = 0;

    for (size_t i = 0; i < w->work.n_seqs; i++) {
        struct learn_seq *s = &w->seq[i];

        reader_copy(r, w->tokens + at, 4 * s->n);
        s->tokens = w->tokens + at;
        if (w->logprobs) {
            reader_copy(r, w->logprobs + at, 4 * s->n);
            s->logprobs = w->logprobs + at;
        }
        if (s->is_target)
            s->is_target = reader_bytes(r, s->n).data;
        at += s->n;
    }
}

enum status lane_work_decode(struct lane_work *w, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    size_t total = 0;
    enum status st;

    memset(w, 0, sizeof(*w));
    st = take_head(w, &r, e);
    if (!st)
        st = alloc_array(&w->seq, w->work.n_seqs, sizeof(*w->seq), "a step's sequences", e);
    if (!st)
        st = take_seqs(w, &r, &total, e);
    if (!st)
        st = alloc_array(&w->tokens, total, sizeof(*w->tokens), "a step's tokens", e);
    if (!st && !w->work.is_imitation)
        st = alloc_array(&w->logprobs, total, sizeof(*w->logprobs), "a step's tokens", e);
    if (!st) {
        take_tokens(w, &r);
        st = reader_done(&r, "a step's work", e);
    }
    w->work.seq = w->seq;
    if (st)
        lane_work_clear(w);
    return st;
}

void lane_work_clear(struct lane_work *w)
{
    free(w->seq);
    free(w->tokens);
    free(w->logprobs);
    memset(w, 0, sizeof(*w));
}

/* ---- answers --------------------------------------------------------------------------------- */

static void put_f64(struct buf *out, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    buf_put_u64(out, bits);
}

static double take_f64(struct reader *r)
{
    uint64_t bits = reader_u64(r);
    double x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

void lane_answer_encode(struct buf *out, const struct lane_answer *a)
{
    buf_put_u32(out, (uint32_t)a->st);
    put_text(out, a->st ? a->why.text : "");
    buf_put_u32(out, a->n);
    for (uint32_t i = 0; i < a->n; i++) {
        put_f64(out, a->tally[i].objective);
        put_f64(out, a->tally[i].kl);
        buf_put_u64(out, a->tally[i].n_clipped);
        buf_put_f32(out, a->tally[i].ratio_max);
    }
}

enum status lane_answer_decode(struct lane_answer *a, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    uint32_t st = reader_u32(&r);

    memset(a, 0, sizeof(*a));
    take_text(&r, a->why.text, sizeof(a->why.text));
    a->n = reader_u32(&r);
    if (r.bad || st >= STATUS_COUNT || a->n > LANES_MAX)
        return err_set(e, ERR_MALFORMED, "the answer of a lane's worker does not make sense");
    a->st = a->why.code = (enum status)st;
    for (uint32_t i = 0; i < a->n; i++) {
        a->tally[i].objective = take_f64(&r);
        a->tally[i].kl = take_f64(&r);
        a->tally[i].n_clipped = reader_u64(&r);
        a->tally[i].ratio_max = reader_f32(&r);
    }
    return reader_done(&r, "the answer of a lane's worker", e);
}
