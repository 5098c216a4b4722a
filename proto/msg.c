#include "proto/msg.h"

#include <stdio.h>
#include <string.h>

#include <pb_decode.h>

#include "base/check.h"
#include "proto/msg_table.h"
#include "proto/muster.pb.h"
#include "proto/sign.h"

struct kind_row {
    const char *name;
    const char *tag; /* of its signature */
    enum msg_kind kind;
    bool is_signed;
};

#define KIND_ROW(name, number, is_signed) {#name, "muster/1/" #name, MSG_##name, is_signed},
static const struct kind_row kinds[] = {MSG_KIND_MAP(KIND_ROW)};
#undef KIND_ROW

static const struct kind_row *find_kind(uint32_t kind)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if ((uint32_t)kinds[i].kind == kind)
            return &kinds[i];
    }
    return NULL;
}

const char *msg_kind_name(enum msg_kind kind)
{
    const struct kind_row *row = find_kind((uint32_t)kind);

    return row ? row->name : NULL;
}

bool msg_kind_is_signed(enum msg_kind kind)
{
    const struct kind_row *row = find_kind((uint32_t)kind);

    return row && row->is_signed;
}

static bool is_signature_zero(const struct signature *s)
{
    uint8_t any = 0;

    for (size_t i = 0; i < sizeof(s->b); i++)
        any |= s->b[i];
    return any == 0;
}

static enum status check_presence(const struct kind_row *row, const struct msg_wire *w,
                                  struct err *e)
{
    bool has_sig = !is_signature_zero(&w->sig);
    bool has_signer = !key_is_zero(&w->signer);

    if (row->is_signed && (!has_sig || !has_signer))
        return err_set(e, ERR_MALFORMED, "%s without a signature", row->name);
    if (!row->is_signed && (has_sig || has_signer))
        return err_set(e, ERR_MALFORMED, "%s with a signature, which it has no use for",
                       row->name);
    if (row->is_signed && row->kind != MSG_JOIN && digest_is_zero(&w->run))
        return err_set(e, ERR_MALFORMED, "%s names no run", row->name);
    return OK;
}

/* The idempotency key of an envelope of another version, if it stands where ours does: so that the
 * refusal reaches whoever asked. Everything else is skipped. */
static void peek_idem(struct idem *idem, struct bytes in)
{
    pb_istream_t s = pb_istream_from_buffer(in.data, in.len);
    pb_wire_type_t wire;
    uint32_t tag;
    bool eof;

    while (pb_decode_tag(&s, &wire, &tag, &eof)) {
        struct idem found;
        uint64_t n;

        if (tag != muster_Envelope_idem_tag || wire != PB_WT_STRING) {
            if (!pb_skip_field(&s, wire))
                return;
            continue;
        }
        if (pb_decode_varint(&s, &n) && n == sizeof(found.b) &&
            pb_read(&s, found.b, sizeof(found.b)))
            *idem = found;
        return;
    }
}

/* `protocol` is the first field, so another version can be told from rubbish whatever it did to
 * the rest. */
static enum status check_protocol(struct bytes in, struct err *e)
{
    if (in.len >= 2 && in.data[0] == 0x08 && in.data[1] != MSG_PROTOCOL)
        return err_set(e, ERR_UNSUPPORTED, "protocol version %u%s, ours is %u",
                       in.data[1] & 0x7fu, in.data[1] & 0x80u ? " or later" : "", MSG_PROTOCOL);
    return OK;
}

enum status msg_envelope_decode(struct msg_envelope *m, struct bytes in, struct err *e)
{
    const struct kind_row *row;
    struct msg_wire w;
    enum status st;

    memset(m, 0, sizeof(*m));
    if (in.len > MSG_MAX_BYTES)
        return err_set(e, ERR_MALFORMED, "envelope of %zu bytes, more than %u", in.len,
                       MSG_MAX_BYTES);
    st = check_protocol(in, e);
    if (st) {
        peek_idem(&m->idem, in);
        return st;
    }
    st = msg_table_decode(&msg_table_wire, &w, in, e);
    if (st)
        return st;
    if (w.protocol != MSG_PROTOCOL)
        return err_set(e, ERR_MALFORMED, "envelope without a protocol version");
    row = find_kind(w.kind);
    if (!row)
        return err_set(e, ERR_MALFORMED, "unknown kind of message %u", w.kind);
    st = check_presence(row, &w, e);
    if (st)
        return st;
    *m = (struct msg_envelope){.kind = row->kind,
                               .run = w.run,
                               .signer = w.signer,
                               .idem = w.idem,
                               .body = w.body,
                               .sig = w.sig,
                               .raw = in};
    return OK;
}

/* What a signature covers after its tag. */
static void signed_parts(struct bytes part[4], const struct digest *run,
                         const struct public_key *signer, const struct idem *idem,
                         struct bytes body)
{
    part[0] = BYTES_OF(run->b);
    part[1] = BYTES_OF(signer->b);
    part[2] = BYTES_OF(idem->b);
    part[3] = body;
}

enum status msg_envelope_encode(struct buf *out, enum msg_kind kind, const struct digest *run,
                                const struct idem *idem, struct bytes body,
                                const struct secret_key *secret, struct err *e)
{
    const struct kind_row *row = find_kind((uint32_t)kind);
    struct msg_wire w = {.protocol = MSG_PROTOCOL, .kind = (uint32_t)kind, .body = body};
    struct bytes part[4];
    enum status st;

    CHECK(row);
    if (run)
        w.run = *run;
    if (idem)
        w.idem = *idem;
    if (row->is_signed) {
        if (!secret)
            return err_set(e, ERR_INVALID, "%s needs a key to sign with", row->name);
        sign_public_of(&w.signer, secret);
        signed_parts(part, &w.run, &w.signer, &w.idem, body);
        st = sign_make_parts(&w.sig, row->tag, part, 4, secret, e);
        if (st)
            return st;
    }
    st = check_presence(row, &w, e);
    if (st) {
        if (e)
            e->code = ERR_INVALID;
        return ERR_INVALID;
    }
    return msg_table_encode(&msg_table_wire, out, &w, e);
}

static void put_varint(struct buf *out, uint64_t v)
{
    for (; v > 0x7f; v >>= 7)
        buf_put_u8(out, (uint8_t)(v | 0x80));
    buf_put_u8(out, (uint8_t)v);
}

static void put_tag(struct buf *out, uint32_t field, uint64_t len)
{
    put_varint(out, (uint64_t)field << 3 | PB_WT_STRING);
    put_varint(out, len);
}

/* Fields stand in the order of their numbers, and the body is an unsigned envelope's last. */
void msg_shard_begin(struct buf *out, const struct digest *run, const struct msg_shard *m,
                     size_t n)
{
    struct msg_shard empty = *m;
    struct buf body, data;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&data, MSG_MAX_BYTES);
    empty.data = (struct bytes){NULL, 0};
    CHECK(!msg_shard_encode(&body, &empty, NULL));
    if (n)
        put_tag(&data, muster_Shard_data_tag, n);
    CHECK(!msg_envelope_encode(out, MSG_SHARD, run, NULL, (struct bytes){NULL, 0}, NULL, NULL));
    put_tag(out, muster_Envelope_body_tag, body.len + data.len + n);
    buf_append(out, buf_bytes(&body));
    buf_append(out, buf_bytes(&data));
    buf_clear(&body);
    buf_clear(&data);
}

enum status msg_envelope_verify(const struct msg_envelope *m, struct err *e)
{
    const struct kind_row *row = find_kind((uint32_t)m->kind);
    struct bytes part[4];

    CHECK(row);
    if (!row->is_signed)
        return err_set(e, ERR_DIGEST, "%s carries no signature", row->name);
    signed_parts(part, &m->run, &m->signer, &m->idem, m->body);
    return sign_check_parts(&m->sig, row->tag, part, 4, &m->signer, e);
}

#define CODEC(name, type)                                                                      \
    enum status msg_##name##_decode(struct type *m, struct bytes in, struct err *e)            \
    {                                                                                          \
        return msg_table_decode(&msg_table_##name, m, in, e);                                  \
    }                                                                                          \
    enum status msg_##name##_encode(struct buf *out, const struct type *m, struct err *e)      \
    {                                                                                          \
        return msg_table_encode(&msg_table_##name, out, m, e);                                 \
    }
MSG_CODEC_MAP(CODEC)
