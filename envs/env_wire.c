#include "envs/env_wire.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static void put_f64(struct buf *b, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    buf_put_u64(b, bits);
}

static double reader_f64(struct reader *r)
{
    uint64_t bits = reader_u64(r);
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* A flag must be 0 or 1. */
static bool reader_flag(struct reader *r)
{
    uint8_t v = reader_u8(r);

    if (v > 1)
        r->bad = true;
    return v == 1;
}

/* Copies a printable string of at most cap - 1 bytes. */
static void reader_text(struct reader *r, char *out, size_t cap)
{
    struct bytes b = reader_blob(r);

    out[0] = '\0';
    if (r->bad || b.len >= cap) {
        r->bad = true;
        return;
    }
    for (size_t i = 0; i < b.len; i++)
        if (!isprint(b.data[i])) {
            r->bad = true;
            return;
        }
    if (b.len)
        memcpy(out, b.data, b.len);
    out[b.len] = '\0';
}

/* ---- setup --------------------------------------------------------------------------------- */

void env_setup_encode(struct buf *out, const struct env_setup *s)
{
    buf_put_blob(out, s->src.lua);
    buf_put_blob(out, s->src.data);
    buf_put_u64(out, s->src.instructions);
    buf_put_u64(out, s->src.memory_bytes);
    buf_put_u64(out, s->wall_ms);
    buf_put_u8(out, s->allow_unsandboxed);
    buf_put_u32(out, (uint32_t)s->src.n_params);
    for (size_t i = 0; i < s->src.n_params; i++) {
        const struct task_param *p = &s->src.param[i];

        buf_put_blob(out, bytes_str(p->name));
        buf_put_u8(out, (uint8_t)p->kind);
        buf_put_u64(out, (uint64_t)p->integer);
        put_f64(out, p->real);
        buf_put_blob(out, bytes_str(p->text ? p->text : ""));
    }
}

static void read_param(struct reader *r, struct task_param *p)
{
    struct bytes text;
    uint8_t kind;

    reader_text(r, p->name, sizeof(p->name));
    kind = reader_u8(r);
    p->integer = (int64_t)reader_u64(r);
    p->real = reader_f64(r);
    text = reader_blob(r);
    if (r->bad || kind > TASK_PARAM_TEXT || text.len > TASK_FILE_MAX_BYTES) {
        r->bad = true;
        return;
    }
    p->kind = (enum task_param_kind)kind;
    p->text = xcalloc(text.len + 1, 1);
    if (text.len)
        memcpy(p->text, text.data, text.len);
}

enum status env_setup_decode(struct env_setup *s, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    struct task_param *param;
    uint32_t n;
    enum status st;

    memset(s, 0, sizeof(*s));
    s->src.lua = reader_blob(&r);
    s->src.data = reader_blob(&r);
    s->src.instructions = reader_u64(&r);
    s->src.memory_bytes = reader_u64(&r);
    s->wall_ms = reader_u64(&r);
    s->allow_unsandboxed = reader_flag(&r);
    n = reader_u32(&r);
    if (n > TASK_PARAMS_MAX || s->src.memory_bytes > ((uint64_t)2 << 30))
        r.bad = true;
    if (!r.bad) {
        s->src.param = param = xcalloc(TASK_PARAMS_MAX, sizeof(*param));
        s->src.n_params = n;
        for (uint32_t i = 0; i < n; i++)
            read_param(&r, &param[i]);
    }
    st = reader_done(&r, "environment setup", e);
    if (st)
        env_setup_clear(s);
    return st;
}

void env_setup_clear(struct env_setup *s)
{
    for (size_t i = 0; i < s->src.n_params; i++)
        free(s->src.param[i].text);
    free((struct task_param *)s->src.param);
    memset(s, 0, sizeof(*s));
}

/* ---- hello --------------------------------------------------------------------------------- */

void env_hello_encode(struct buf *out, const struct env_hello *h)
{
    buf_put_u8(out, (uint8_t)h->st);
    buf_put_blob(out, h->text);
    buf_put_u8(out, h->is_sandboxed);
    buf_put_u64(out, h->n_tasks);
    buf_put_u8(out, h->has_demo);
    buf_put_u8(out, h->has_step);
}

enum status env_hello_decode(struct env_hello *h, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    uint8_t st;

    memset(h, 0, sizeof(*h));
    st = reader_u8(&r);
    h->text = reader_blob(&r);
    h->is_sandboxed = reader_flag(&r);
    h->n_tasks = reader_u64(&r);
    h->has_demo = reader_flag(&r);
    h->has_step = reader_flag(&r);
    if (st >= STATUS_COUNT || h->text.len >= ERR_TEXT_BYTES || (!st && h->n_tasks == 0))
        r.bad = true;
    for (size_t i = 0; i < h->text.len && !r.bad; i++)
        if (!isprint(h->text.data[i]))
            r.bad = true;
    h->st = (enum status)st;
    return reader_done(&r, "environment's hello", e);
}

/* ---- call ---------------------------------------------------------------------------------- */

void env_call_encode(struct buf *out, const struct script_call *c)
{
    buf_put_u8(out, (uint8_t)c->op);
    buf_put_u64(out, c->problem.index);
    buf_put_u64(out, c->problem.seed);
    buf_put_u8(out, (uint8_t)c->problem.split);
    buf_put_u32(out, (uint32_t)c->n_messages);
    for (size_t i = 0; i < c->n_messages; i++) {
        buf_put_u8(out, (uint8_t)c->message[i].author);
        buf_put_blob(out, c->message[i].text);
    }
}

enum status env_call_decode(struct script_call *c, struct env_message room[ENV_MESSAGES_MAX],
                            struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    uint8_t op;
    uint32_t n;

    memset(c, 0, sizeof(*c));
    op = reader_u8(&r);
    c->problem.index = reader_u64(&r);
    c->problem.seed = reader_u64(&r);
    c->problem.split = reader_flag(&r) ? ENV_HELDOUT : ENV_TRAIN;
    n = reader_u32(&r);
    if (op < SCRIPT_PROMPT || op > SCRIPT_SCORE || n > ENV_MESSAGES_MAX)
        r.bad = true;
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        room[i].author = reader_flag(&r) ? ENV_WORLD : ENV_MODEL;
        room[i].text = reader_blob(&r);
        if (room[i].text.len > ENV_TEXT_MAX_BYTES)
            r.bad = true;
    }
    if (!r.bad) {
        c->op = (enum script_op)op;
        c->message = room;
        c->n_messages = n;
    }
    return reader_done(&r, "environment call", e);
}

/* ---- result -------------------------------------------------------------------------------- */

void env_result_encode(struct buf *out, const struct script_result *r)
{
    buf_put_u8(out, (uint8_t)r->end);
    buf_put_blob(out, bytes_str(r->why));
    buf_put_blob(out, r->text);
    buf_put_u8(out, r->is_done);
    put_f64(out, r->reward);
    buf_put_u64(out, r->usage.instructions);
    buf_put_u64(out, r->usage.memory_bytes);
    buf_put_u32(out, (uint32_t)r->n_metrics);
    for (size_t i = 0; i < r->n_metrics; i++) {
        buf_put_blob(out, bytes_str(r->metric[i].name));
        put_f64(out, r->metric[i].value);
    }
}

enum status env_result_decode(struct script_result *r, struct bytes in, struct err *e)
{
    struct reader in_reader = reader_of(in), *b = &in_reader;
    uint8_t end;
    uint32_t n;

    memset(r, 0, sizeof(*r));
    end = reader_u8(b);
    reader_text(b, r->why, sizeof(r->why));
    r->text = reader_blob(b);
    r->is_done = reader_flag(b);
    r->reward = reader_f64(b);
    r->usage.instructions = reader_u64(b);
    r->usage.memory_bytes = reader_u64(b);
    n = reader_u32(b);
    if (end > SCRIPT_ABSENT || r->text.len > ENV_TEXT_MAX_BYTES || n > ENV_METRICS_MAX)
        b->bad = true;
    for (uint32_t i = 0; i < n && !b->bad; i++) {
        reader_text(b, r->metric[i].name, sizeof(r->metric[i].name));
        r->metric[i].value = reader_f64(b);
        if (!isfinite(r->metric[i].value) ||
            (i && strcmp(r->metric[i - 1].name, r->metric[i].name) >= 0))
            b->bad = true;
    }
    r->end = (enum script_end)end;
    r->n_metrics = n;
    return reader_done(b, "environment's result", e);
}
