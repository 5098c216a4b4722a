#include "proto/witness.h"

#include <string.h>

#include "proto/digest.h"

#define MAGIC   "MUSTERWH"
#define VERSION 1u

static void hash_nonce(struct digest *out, const char *tag, const struct public_key *witness,
                       const struct digest *nonce)
{
    struct digest_state h;

    digest_begin(&h, tag);
    digest_add(&h, BYTES_OF(witness->b));
    digest_add(&h, BYTES_OF(nonce->b));
    digest_end(&h, out);
}

void witness_commitment(struct digest *out, const struct public_key *witness,
                        const struct digest *nonce)
{
    hash_nonce(out, "muster/1/nonce", witness, nonce);
}

void witness_mix(struct digest *mix, const struct public_key *witness,
                 const struct digest *nonce)
{
    struct digest d;

    hash_nonce(&d, "muster/1/mix", witness, nonce);
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        mix->b[i] ^= d.b[i];
}

void witness_file_begin(struct buf *out)
{
    buf_append(out, BYTES_LIT(MAGIC));
    buf_put_u32(out, VERSION);
}

static enum status read_head(struct witness_head *h, struct bytes envelope, struct err *e)
{
    struct msg_witness_call call;
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, envelope, e);

    if (!st && env.kind != MSG_WITNESS_CALL)
        st = err_set(e, ERR_MALFORMED, "file of heads: an envelope of another kind");
    if (!st)
        st = msg_witness_call_decode(&call, env.body, e);
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        *h = (struct witness_head){env.signer, env.run, call.seq, call.entry};
    return st;
}

enum status witness_file_read(struct bytes file, witness_visit *fn, void *arg, struct err *e)
{
    struct reader r = reader_of(file);
    struct bytes magic = reader_bytes(&r, sizeof(MAGIC) - 1);
    uint32_t version = reader_u32(&r);
    enum status st = OK;

    if (r.bad || !bytes_equal(magic, BYTES_LIT(MAGIC)))
        return err_set(e, ERR_MALFORMED, "this is no file of heads");
    if (version != VERSION)
        return err_set(e, ERR_UNSUPPORTED, "file of heads: version %u, this program reads %u",
                       version, VERSION);
    while (!st && reader_left(&r)) {
        struct bytes envelope = reader_blob(&r);
        struct witness_head h;
        if (r.bad)
            return OK; /* its writer was cut off before it answered the call */
        st = read_head(&h, envelope, e);
        if (!st)
            st = fn(arg, &h, e);
    }
    return st;
}
