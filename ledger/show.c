#include "ledger/show.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "ledger/body_fields.h"
#include "proto/digest.h"

#define TEXT_HEX_BYTES 4u

static void show_name(struct buf *out, const char *name, bool is_json)
{
    buf_printf(out, is_json ? ", \"%s\": " : " %s=", name);
}

static void show_hex(struct buf *out, struct bytes raw, bool is_json)
{
    char hex[2 * 64 + 1];
    bool is_cut = !is_json && raw.len > TEXT_HEX_BYTES;

    if (is_cut)
        raw.len = TEXT_HEX_BYTES;
    hex_encode(hex, raw);
    buf_printf(out, is_json ? "\"%s\"" : "%s%s", hex, is_cut ? ".." : "");
}

/* Bodies hold printable ASCII only (ledger/body.c). */
static void show_text(struct buf *out, const char *text, bool is_json)
{
    if (is_json)
        buf_put_u8(out, '"');
    for (; *text; text++) {
        if (is_json && (*text == '"' || *text == '\\'))
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)*text);
    }
    if (is_json)
        buf_put_u8(out, '"');
}

static const char *depth_name(uint32_t depth)
{
    return depth == CHECK_FULL ? "full" : "light";
}

static void show_field(struct buf *out, const struct field *f, const void *body, bool is_json)
{
    const uint8_t *at = (const uint8_t *)body + f->at;
    uint32_t u32 = 0;
    int64_t i64 = 0;

    if (f->size == sizeof(u32))
        memcpy(&u32, at, sizeof(u32));
    if (f->size == sizeof(i64))
        memcpy(&i64, at, sizeof(i64));
    show_name(out, f->name, is_json);
    switch (f->kind) {
    case FIELD_RAW: show_hex(out, (struct bytes){at, f->size}, is_json); break;
    case FIELD_BOOL: buf_printf(out, "%s", *(const bool *)at ? "true" : "false"); break;
    case FIELD_U32: buf_printf(out, "%" PRIu32, u32); break;
    case FIELD_U64:
    case FIELD_MONEY: buf_printf(out, "%" PRId64, i64); break;
    case FIELD_ROLE: show_text(out, role_name((enum role)u32), is_json); break;
    case FIELD_DEPTH: show_text(out, depth_name(u32), is_json); break;
    case FIELD_CODE: show_text(out, reason_name((enum reason)u32), is_json); break;
    case FIELD_TEXT: show_text(out, (const char *)at, is_json); break;
    }
}

static void show_commit(struct buf *out, const struct ledger_commit *x, bool is_json)
{
    buf_printf(out, "%s", is_json ? ", \"samples\": [" : " samples=");
    for (uint32_t i = 0; i < x->n_samples; i++) {
        const struct ledger_sample *s = &x->sample[i];
        buf_printf(out,
                   is_json ? "%s{\"print\": \"%016" PRIx64 "\", \"tokens\": %u, "
                             "\"surprise\": %.3f, \"ended\": %s, \"reward\": %.3f}"
                           : "%s%016" PRIx64 ":%u:%.3f:%s:%.3f",
                   i ? is_json ? ", " : "," : "", s->print, s->tokens,
                   (double)s->surprise / 1000.0,
                   is_json        ? s->has_ended ? "true" : "false"
                   : s->has_ended ? "ended"
                                  : "cut",
                   (double)s->reward / 1000.0);
    }
    buf_printf(out, "%s", is_json ? "]" : "");
}

static void show_draw(struct buf *out, const struct ledger_draw *x, bool is_json)
{
    buf_printf(out, "%s", is_json ? ", \"rows\": [" : "");
    for (uint32_t i = 0; i < x->n_rows; i++) {
        const struct ledger_draw_row *row = &x->row[i];
        buf_printf(out,
                   is_json ? "%s{\"unit\": %" PRIu64 ", \"lease\": %" PRIu64
                             ", \"depth\": \"%s\", \"probability\": %" PRIu64
                             ", \"validators\": ["
                           : "%s unit=%" PRIu64 " lease=%" PRIu64 " depth=%s p=%" PRIu64
                             "/2^32 validators=",
                   is_json && i ? ", " : "", row->unit, row->lease, depth_name(row->depth),
                   row->probability);
        for (uint32_t k = 0; k < row->n_assigned; k++) {
            buf_printf(out, "%s", k ? is_json ? ", " : "," : "");
            show_hex(out, BYTES_OF(x->candidate[row->assigned[k]]), is_json);
        }
        buf_printf(out, "%s", is_json ? "]}" : "");
    }
    buf_printf(out, "%s", is_json ? "]" : "");
}

static void show_batch(struct buf *out, const struct ledger_batch *x, bool is_json)
{
    static const char *const use[] = {"", "trained", "flat", "given up"};

    buf_printf(out, "%s", is_json ? ", \"units\": [" : " units=");
    for (uint32_t i = 0; i < x->n_rows; i++) {
        const char *name = use[x->row[i].use];
        if (is_json)
            buf_printf(out, "%s{\"unit\": %" PRIu64 ", \"use\": \"%s\"}", i ? ", " : "",
                       x->row[i].unit, name);
        else
            buf_printf(out, "%s%" PRIu64 "%s%s%s", i ? "," : "", x->row[i].unit,
                       x->row[i].use == LEDGER_TRAINED ? "" : "(",
                       x->row[i].use == LEDGER_TRAINED ? "" : name,
                       x->row[i].use == LEDGER_TRAINED ? "" : ")");
    }
    buf_printf(out, "%s", is_json ? "]" : "");
}

static void show_opened(struct buf *out, const struct ledger_verdict *x, bool is_json)
{
    buf_printf(out, "%s", is_json ? ", \"opened\": [" : "");
    for (uint32_t i = 0; i < x->n_opened; i++) {
        buf_printf(out,
                   is_json ? "%s{\"validator\": " : "%s opened=", is_json && i ? ", " : "");
        show_hex(out, BYTES_OF(x->opened[i].validator), is_json);
        buf_printf(out, is_json ? ", \"found\": " : ":");
        show_hex(out, BYTES_OF(x->opened[i].found), is_json);
        buf_printf(out, "%s", is_json ? "}" : "");
    }
    buf_printf(out, "%s", is_json ? "]" : "");
}

static void show_postings(struct buf *out, const struct ledger_entry *en, bool is_json)
{
    char name[ACCOUNT_TEXT_BYTES];

    buf_printf(out, "%s", is_json ? ", \"postings\": [" : en->n_postings ? " |" : "");
    for (uint32_t i = 0; i < en->n_postings; i++) {
        const struct ledger_posting *p = &en->posting[i];
        account_text(name, &p->account);
        if (is_json)
            buf_printf(out, "%s{\"account\": \"%s\", \"delta\": %" PRId64 "}", i ? ", " : "",
                       name, p->delta);
        else
            buf_printf(out, " %s%+" PRId64, name, p->delta);
    }
    buf_printf(out, "%s", is_json ? "]" : "");
}

static void show_time(struct buf *out, int64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm tm;

    if (!gmtime_r(&seconds, &tm)) {
        buf_printf(out, "%" PRId64 "us", time_us);
        return;
    }
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900, tm.tm_mon + 1,
               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(time_us % 1000000));
}

static void show_frame(struct buf *out, const struct ledger_entry *en,
                       const struct digest *hash, bool is_json)
{
    if (is_json) {
        buf_printf(out, "{\"seq\": %" PRIu64 ", \"time_us\": %" PRId64 ", \"type\": \"%s\"",
                   en->seq, en->time_us, ledger_type_name(en->type));
    } else {
        buf_printf(out, "%" PRIu64 " ", en->seq);
        show_time(out, en->time_us);
        buf_printf(out, " %s", ledger_type_name(en->type));
    }
    if (hash && is_json) {
        show_name(out, "hash", is_json);
        show_hex(out, BYTES_OF(*hash), is_json);
    }
    if (!key_is_zero(&en->actor)) {
        show_name(out, "actor", is_json);
        show_hex(out, BYTES_OF(en->actor), is_json);
    }
    if (!idem_is_zero(&en->idem) && is_json) {
        show_name(out, "idem", is_json);
        show_hex(out, BYTES_OF(en->idem), is_json);
    }
}

enum status ledger_show(struct buf *out, const struct ledger_entry *en,
                        const struct digest *hash, bool is_json, struct err *e)
{
    union ledger_body *body = xcalloc(1, sizeof(*body));
    enum status st = ledger_body_decode(body, en->type, en->body, e);
    const struct field *f;
    size_t n;

    if (st)
        goto out;
    show_frame(out, en, hash, is_json);
    f = body_fields(en->type, &n);
    for (size_t i = 0; i < n; i++)
        show_field(out, &f[i], body, is_json);
    if (en->type == LEDGER_COMMIT)
        show_commit(out, &body->commit_, is_json);
    if (en->type == LEDGER_DRAW)
        show_draw(out, &body->draw_, is_json);
    if (en->type == LEDGER_VERDICT)
        show_opened(out, &body->verdict_, is_json);
    if (en->type == LEDGER_BATCH)
        show_batch(out, &body->batch_, is_json);
    show_postings(out, en, is_json);
    if (is_json)
        buf_put_u8(out, '}');
    st = buf_status(out, e);
out:
    free(body);
    return st;
}

bool ledger_body_has_unit(enum ledger_type type, const union ledger_body *b, uint64_t unit)
{
    size_t n;
    const struct field *f = body_fields(type, &n);

    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        if (strcmp(f[i].name, "unit") != 0)
            continue;
        memcpy(&v, (const uint8_t *)b + f[i].at, sizeof(v));
        return v == unit;
    }
    if (type == LEDGER_DRAW)
        for (uint32_t i = 0; i < b->draw_.n_rows; i++)
            if (b->draw_.row[i].unit == unit)
                return true;
    if (type == LEDGER_BATCH)
        for (uint32_t i = 0; i < b->batch_.n_rows; i++)
            if (b->batch_.row[i].unit == unit)
                return true;
    return false;
}
