#include "rollout/evidence.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/kernels.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "proto/opening.h"
#include "rollout/model_set.h"
#include "rollout/setup.h"

#define MAGIC   "MUSTEREV"
#define VERSION 1u

enum status evidence_encode(struct buf *out, const struct evidence *v, struct err *e)
{
    struct digest d;
    size_t from = out->len;

    buf_append(out, BYTES_LIT(MAGIC));
    buf_put_u32(out, VERSION);
    buf_put_blob(out, v->bundle);
    buf_put_blob(out, v->submission);
    buf_put_blob(out, v->manifest);
    buf_put_blob(out, v->weights);
    if (!out->bad) {
        digest_of(&d, bytes_slice(buf_bytes(out), from, out->len - from));
        buf_append(out, BYTES_OF(d.b));
    }
    return buf_status(out, e);
}

enum status evidence_decode(struct evidence *v, struct bytes in, struct err *e)
{
    struct reader r;
    struct digest want, found;
    struct bytes magic;
    uint32_t version;

    if (in.len < DIGEST_BYTES)
        return err_set(e, ERR_MALFORMED, "%zu bytes are no evidence", in.len);
    r = reader_of(bytes_slice(in, 0, in.len - DIGEST_BYTES));
    magic = reader_bytes(&r, sizeof(MAGIC) - 1);
    version = reader_u32(&r);
    if (r.bad || !bytes_equal(magic, BYTES_LIT(MAGIC)))
        return err_set(
            e, ERR_MALFORMED,
            "neither evidence of a rejection (validators keep theirs in DIR/evidence), nor "
            "the transcript of a dispute, nor a proof of equivocation");
    if (version != VERSION)
        return err_set(e, ERR_UNSUPPORTED, "evidence of format %u; this program knows %u",
                       version, VERSION);
    memcpy(want.b, in.data + in.len - DIGEST_BYTES, DIGEST_BYTES);
    digest_of(&found, bytes_slice(in, 0, in.len - DIGEST_BYTES));
    if (!digest_equal(&want, &found))
        return err_set(e, ERR_DIGEST, "the evidence is damaged: its digest does not match");
    v->bundle = reader_blob(&r);
    v->submission = reader_blob(&r);
    v->manifest = reader_blob(&r);
    v->weights = reader_blob(&r);
    return reader_done(&r, "evidence", e);
}

/* The weights must be those that the trainer's manifest names. */
static enum status check_weights(const struct msg_manifest *m, struct bytes file, struct err *e)
{
    struct digest root;
    enum status st = content_manifest_check(m, e);

    if (!st && m->kind != CONTENT_FULL)
        st = err_set(e, ERR_MALFORMED, "the manifest is not one of weights");
    if (st)
        return st;
    content_root(&root, m->shard_bytes, file);
    if (file.len != m->file_bytes || !digest_equal(&root, &m->weights))
        return err_set(e, ERR_DIGEST, "the weights are not those of the manifest");
    return OK;
}

static enum status judge(const struct evidence *v, const struct msg_submit *s,
                         const struct msg_manifest *m, const struct env_options *env_opt,
                         struct evidence_result *out, struct err *e)
{
    struct model_set_options mo = {.cap = 1};
    enum check_depth depth;
    struct model_set *models = NULL;
    struct setup *setup;
    enum status st = setup_open(&setup, v->bundle, env_opt, e);

    if (st)
        return st;
    if (!digest_equal(&setup->task_id, &m->task))
        st = err_set(e, ERR_DIGEST, "the manifest belongs to another task");
    if (!st)
        st = setup_train_kernels(&mo.kernels, setup, kernels_best(), e);
    /* What costs stake in an open class is found without weights. */
    depth = opening_is_wanted(task_numerics(&setup->task)) ? CHECK_LIGHT : CHECK_FULL;
    if (!st) {
        model_set_new(&models, &setup->config, &mo);
        if (depth == CHECK_FULL)
            st = model_set_add(models, s->version, v->weights, e);
    }
    if (!st) {
        const struct rollout_world w =
            setup_world(setup, model_set_find(models, s->version), m->version, &m->weights);
        st = rollout_check(&w, s, NULL, depth, NULL, &out->finding, e);
    }
    model_set_free(&models);
    setup_close(&setup);
    return st;
}

enum status evidence_replay(const struct evidence *v, const struct env_options *env_opt,
                            struct evidence_result *out, struct err *e)
{
    struct msg_submit *s = xcalloc(1, sizeof(*s));
    struct msg_envelope submission, manifest;
    struct msg_manifest m;
    enum status st = msg_envelope_decode(&submission, v->submission, e);

    memset(out, 0, sizeof(*out));
    if (!st && submission.kind != MSG_SUBMIT)
        st = err_set(e, ERR_MALFORMED, "the evidence holds no submission");
    if (!st)
        st = msg_envelope_verify(&submission, e);
    if (!st)
        st = msg_submit_decode(s, submission.body, e);
    if (!st)
        st = msg_envelope_decode(&manifest, v->manifest, e);
    if (!st && (manifest.kind != MSG_PUBLISH || !digest_equal(&manifest.run, &submission.run)))
        st = err_set(e, ERR_MALFORMED, "the evidence holds no manifest of the same run");
    if (!st)
        st = msg_envelope_verify(&manifest, e);
    if (!st)
        st = msg_manifest_decode(&m, manifest.body, e);
    if (!st && m.version != s->version)
        st = err_set(e, ERR_MALFORMED,
                     "the manifest is of version %lld, the submission of version %lld",
                     (long long)m.version, (long long)s->version);
    if (!st)
        st = check_weights(&m, v->weights, e);
    if (!st) {
        out->worker = submission.signer;
        out->trainer = manifest.signer;
        out->run = submission.run;
        out->unit = s->unit;
        out->lease = s->lease;
        out->version = s->version;
        st = judge(v, s, &m, env_opt, out, e);
    }
    free(s);
    return st;
}
