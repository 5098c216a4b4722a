#include "proto/transcript.h"

#include <string.h>

#include "proto/digest.h"
#include "proto/sign.h"

#define VERSION 2u

enum status transcript_encode(struct buf *out, const struct transcript *t, struct err *e)
{
    struct digest d;
    size_t from = out->len;

    buf_append(out, BYTES_LIT(TRANSCRIPT_MAGIC));
    buf_put_u32(out, VERSION);
    buf_put_blob(out, t->bundle);
    buf_put_blob(out, t->manifest);
    buf_put_blob(out, t->batch);
    buf_put_u64(out, t->opt_steps);
    buf_append(out, BYTES_OF(t->challenger.b));
    buf_put_blob(out, t->challenge);
    buf_put_blob(out, t->moves);
    if (!out->bad) {
        digest_of(&d, bytes_slice(buf_bytes(out), from, out->len - from));
        buf_append(out, BYTES_OF(d.b));
    }
    return buf_status(out, e);
}

enum status transcript_decode(struct transcript *t, struct bytes in, struct err *e)
{
    struct digest want, found;
    struct reader r;
    struct bytes magic;
    uint32_t version;

    if (in.len < DIGEST_BYTES)
        return err_set(e, ERR_MALFORMED, "%zu bytes are no dispute", in.len);
    r = reader_of(bytes_slice(in, 0, in.len - DIGEST_BYTES));
    magic = reader_bytes(&r, sizeof(TRANSCRIPT_MAGIC) - 1);
    version = reader_u32(&r);
    if (r.bad || !bytes_equal(magic, BYTES_LIT(TRANSCRIPT_MAGIC)))
        return err_set(e, ERR_MALFORMED, "this is no dispute of muster's");
    if (version != VERSION)
        return err_set(e, ERR_UNSUPPORTED, "a dispute of format %u; this program knows %u",
                       version, VERSION);
    memcpy(want.b, in.data + in.len - DIGEST_BYTES, DIGEST_BYTES);
    digest_of(&found, bytes_slice(in, 0, in.len - DIGEST_BYTES));
    if (!digest_equal(&want, &found))
        return err_set(e, ERR_DIGEST, "the dispute is damaged: its digest does not match");
    t->bundle = reader_blob(&r);
    t->manifest = reader_blob(&r);
    t->batch = reader_blob(&r);
    t->opt_steps = reader_u64(&r);
    reader_copy(&r, t->challenger.b, sizeof(t->challenger.b));
    t->challenge = reader_blob(&r);
    t->moves = reader_blob(&r);
    return reader_done(&r, "a dispute", e);
}

void transcript_id(struct digest *out, const struct digest *manifest, uint64_t opt_steps,
                   const struct public_key *challenger)
{
    struct digest_state s;

    digest_begin(&s, "muster/dispute");
    digest_add(&s, BYTES_OF(manifest->b));
    digest_add_u64(&s, opt_steps);
    digest_add(&s, BYTES_OF(challenger->b));
    digest_end(&s, out);
}

enum status transcript_next(struct msg_dispute *m, struct bytes moves, const struct digest *id,
                            struct bytes move, struct err *e)
{
    struct reader r = reader_of(moves);

    *m = (struct msg_dispute){.dispute = *id, .move = move};
    while (reader_left(&r) > 0) {
        struct bytes last = reader_blob(&r);

        if (r.bad)
            return err_set(e, ERR_MALFORMED, "moves that are cut short");
        digest_of(&m->previous, last);
        m->number++;
    }
    return OK;
}

enum status transcript_add(struct buf *moves, const struct digest *id, const struct digest *run,
                           struct bytes move, const struct secret_key *secret, struct err *e)
{
    struct msg_dispute m;
    struct idem idem = {{0}};
    struct buf body, envelope;
    enum status st = transcript_next(&m, buf_bytes(moves), id, move, e);

    if (st)
        return st;
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    memcpy(idem.b, id->b, 12);
    for (size_t i = 0; i < 4; i++)
        idem.b[12 + i] = (uint8_t)(m.number >> 8 * i);
    st = msg_dispute_encode(&body, &m, e);
    if (!st)
        st = msg_envelope_encode(&envelope, MSG_DISPUTE, run, &idem, buf_bytes(&body), secret,
                                 e);
    if (!st) {
        buf_put_blob(moves, buf_bytes(&envelope));
        st = buf_status(moves, e);
    }
    buf_clear(&body);
    buf_clear(&envelope);
    return st;
}
