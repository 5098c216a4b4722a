#include "ledger/entry.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "proto/digest.h"

struct type_row {
    const char *name;
    const char *text;
};

#define TYPE_ROW(NAME, number, body, moves_money, text) [LEDGER_##NAME] = {#NAME, text},
static const struct type_row type_row[LEDGER_TYPE_COUNT] = {LEDGER_TYPE_MAP(TYPE_ROW)};
#undef TYPE_ROW

const char *ledger_type_name(enum ledger_type t)
{
    return (unsigned)t < LEDGER_TYPE_COUNT ? type_row[t].name : NULL;
}

const char *ledger_type_text(enum ledger_type t)
{
    return (unsigned)t < LEDGER_TYPE_COUNT ? type_row[t].text : NULL;
}

enum ledger_type ledger_type_parse(const char *name)
{
    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++)
        if (!strcasecmp(type_row[t].name, name))
            return (enum ledger_type)t;
    return LEDGER_NONE;
}

bool idem_is_zero(const struct idem *a)
{
    static const struct idem zero;

    return !memcmp(a->b, zero.b, sizeof(zero.b));
}

enum status ledger_entry_encode(struct buf *out, const struct ledger_entry *en, struct err *e)
{
    CHECK(ledger_type_name(en->type));
    if (en->body.len > LEDGER_BODY_MAX)
        return err_set(e, ERR_LIMIT, "%s entry: body has %zu bytes, at most %u",
                       ledger_type_name(en->type), en->body.len, LEDGER_BODY_MAX);
    if (en->n_postings > LEDGER_POSTINGS_MAX)
        return err_set(e, ERR_LIMIT, "%s entry: %u postings, at most %u",
                       ledger_type_name(en->type), en->n_postings, LEDGER_POSTINGS_MAX);
    buf_put_u32(out, LEDGER_MAGIC);
    buf_put_u16(out, LEDGER_VERSION);
    buf_put_u16(out, (uint16_t)en->type);
    buf_put_u64(out, en->seq);
    buf_put_u64(out, (uint64_t)en->time_us);
    buf_append(out, BYTES_OF(en->run));
    buf_append(out, BYTES_OF(en->prev));
    buf_append(out, BYTES_OF(en->idem));
    buf_append(out, BYTES_OF(en->actor));
    buf_put_u32(out, (uint32_t)en->body.len);
    buf_put_u16(out, (uint16_t)en->n_postings);
    buf_put_u16(out, 0);
    buf_append(out, en->body);
    for (uint32_t i = 0; i < en->n_postings; i++) {
        buf_append(out, BYTES_OF(en->posting[i].account));
        buf_put_u64(out, (uint64_t)en->posting[i].delta);
    }
    return buf_status(out, e);
}

static enum status read_postings(struct ledger_entry *en, struct reader *r, struct err *e)
{
    for (uint32_t i = 0; i < en->n_postings; i++) {
        struct ledger_posting *p = &en->posting[i];
        reader_copy(r, p->account.b, sizeof(p->account.b));
        p->delta = (int64_t)reader_u64(r);
        if (!r->bad && account_kind(&p->account) == ACCOUNT_NONE)
            return err_set(e, ERR_MALFORMED, "entry %" PRIu64 ": posting %u: unknown account",
                           en->seq, i);
    }
    return reader_done(r, "ledger entry", e);
}

enum status ledger_entry_decode(struct ledger_entry *en, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    uint32_t magic, version, type, body_bytes, flags;

    memset(en, 0, sizeof(*en));
    if (in.len > LEDGER_ENTRY_MAX)
        return err_set(e, ERR_MALFORMED, "ledger entry: %zu bytes, at most %u", in.len,
                       LEDGER_ENTRY_MAX);
    magic = reader_u32(&r);
    version = reader_u16(&r);
    type = reader_u16(&r);
    if (r.bad || magic != LEDGER_MAGIC)
        return err_set(e, ERR_MALFORMED, "ledger entry: wrong magic");
    if (version != LEDGER_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "ledger entry: version %u, this program reads %u",
                       version, LEDGER_VERSION);
    if (type >= LEDGER_TYPE_COUNT || !type_row[type].name)
        return err_set(e, ERR_UNSUPPORTED, "ledger entry: unknown type %u", type);
    en->type = (enum ledger_type)type;
    en->seq = reader_u64(&r);
    en->time_us = (int64_t)reader_u64(&r);
    reader_copy(&r, en->run.b, sizeof(en->run.b));
    reader_copy(&r, en->prev.b, sizeof(en->prev.b));
    reader_copy(&r, en->idem.b, sizeof(en->idem.b));
    reader_copy(&r, en->actor.b, sizeof(en->actor.b));
    body_bytes = reader_u32(&r);
    en->n_postings = reader_u16(&r);
    flags = reader_u16(&r);
    if (en->time_us < 0 || body_bytes > LEDGER_BODY_MAX || flags ||
        en->n_postings > LEDGER_POSTINGS_MAX)
        return err_set(e, ERR_MALFORMED, "ledger entry %" PRIu64 ": header out of range",
                       en->seq);
    en->body = reader_bytes(&r, body_bytes);
    return read_postings(en, &r, e);
}

void ledger_entry_hash(struct digest *out, struct bytes encoded)
{
    digest_tagged(out, "muster/1/entry", encoded);
}
