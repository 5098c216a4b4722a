#include "shardcast/cast_proof.h"

#include <string.h>

#include "proto/digest.h"
#include "shardcast/cast_state.h"

#define VERSION 1u

enum status cast_proof_encode(struct buf *out, const struct cast_proof *p, struct err *e)
{
    struct digest d;
    size_t from = out->len;

    buf_append(out, BYTES_LIT(CAST_PROOF_MAGIC));
    buf_put_u32(out, VERSION);
    buf_put_blob(out, p->first);
    buf_put_blob(out, p->second);
    if (!out->bad) {
        digest_of(&d, bytes_slice(buf_bytes(out), from, out->len - from));
        buf_append(out, BYTES_OF(d.b));
    }
    return buf_status(out, e);
}

enum status cast_proof_decode(struct cast_proof *p, struct bytes in, struct err *e)
{
    struct digest want, found;
    struct bytes magic;
    struct reader r;
    uint32_t version;

    if (in.len < DIGEST_BYTES)
        return err_set(e, ERR_MALFORMED, "%zu bytes are no proof", in.len);
    r = reader_of(bytes_slice(in, 0, in.len - DIGEST_BYTES));
    magic = reader_bytes(&r, sizeof(CAST_PROOF_MAGIC) - 1);
    version = reader_u32(&r);
    if (r.bad || !bytes_equal(magic, BYTES_LIT(CAST_PROOF_MAGIC)))
        return err_set(e, ERR_MALFORMED, "no proof of equivocation");
    if (version != VERSION)
        return err_set(e, ERR_UNSUPPORTED, "a proof of format %u; this program knows %u",
                       version, VERSION);
    memcpy(want.b, in.data + in.len - DIGEST_BYTES, DIGEST_BYTES);
    digest_of(&found, bytes_slice(in, 0, in.len - DIGEST_BYTES));
    if (!digest_equal(&want, &found))
        return err_set(e, ERR_DIGEST, "the proof is damaged: its digest does not match");
    p->first = reader_blob(&r);
    p->second = reader_blob(&r);
    return reader_done(&r, "a proof of equivocation", e);
}

enum status cast_proof_judge(const struct cast_proof *p, struct cast_proof_result *out,
                             struct err *e)
{
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, p->first, e);

    memset(out, 0, sizeof(*out));
    if (st)
        return st;
    out->run = env.run;
    out->trainer = env.signer;
    return cast_proof_check(p->first, p->second, &env.run, &env.signer, &out->about, e);
}
