#include "replay/dispute_jobs.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "proto/msg.h"
#include "replay/file_proof.h"

void dispute_jobs_init(struct dispute_jobs *j, const struct replica_options *options)
{
    j->party = NULL;
    replica_init(&j->replica, options);
}

void dispute_jobs_clear(struct dispute_jobs *j)
{
    party_free(&j->party);
    replica_clear(&j->replica);
}

static enum status seek(struct dispute_jobs *j, struct bytes args, struct buf *result,
                        struct err *e)
{
    struct reader r = reader_of(args);
    int64_t version = (int64_t)reader_u64(&r), at = 0;
    enum status st = replica_seek(&j->replica, version, reader_u8(&r) == 1, &at, e);

    buf_put_u64(result, (uint64_t)at);
    return st;
}

/* What a version came to, and began with. */
static void put_roots(struct buf *result, const struct course *c, const struct digest *masters,
                      const struct digest *optimizer)
{
    buf_put_u64(result, (uint64_t)c->version);
    buf_append(result, BYTES_OF(c->weights.b));
    buf_append(result, BYTES_OF(c->masters.b));
    buf_append(result, BYTES_OF(c->optimizer.b));
    buf_append(result, BYTES_OF(masters->b));
    buf_append(result, BYTES_OF(optimizer->b));
}

static enum status first(struct dispute_jobs *j, struct buf *result, struct err *e)
{
    static const struct digest none;
    bool is_done;
    enum status st = replica_first(&j->replica, &is_done, e);

    buf_put_u8(result, is_done);
    if (is_done)
        put_roots(result, &j->replica.course, &none, &none);
    return st;
}

static enum status step(struct dispute_jobs *j, struct bytes args, struct buf *result,
                        struct err *e)
{
    const struct course *c = &j->replica.course;
    const struct digest masters = c->masters, optimizer = c->optimizer;
    struct msg_batch *m = xcalloc(1, sizeof(*m));
    enum status st = msg_batch_decode(m, args, e);

    if (!st)
        st = replica_step(&j->replica, m, e);
    free(m);
    put_roots(result, c, &masters, &optimizer);
    return st;
}

/* The masters are those that were signed: is the file? */
static enum status prove(struct dispute_jobs *j, struct bytes args, struct buf *result,
                         struct err *e)
{
    const struct replica_options *ro = &j->replica.options;
    const struct course *c = &j->replica.course;
    struct msg_manifest *m = xcalloc(1, sizeof(*m));
    struct file_map file = {0};
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, args, e);

    if (!st)
        st = msg_manifest_decode(m, env.body, e);
    if (!st && (!c->learner || c->version != m->version))
        st = err_set(e, ERR_NOT_FOUND, "the masters of the version are not here");
    if (!st)
        st = ro->published(ro->ctx, m->version, &file, e);
    if (!st)
        st = file_proof_make(result, m, file.bytes, c->learner->masters, ro->course.pool, e);
    file_map_close(&file);
    free(m);
    return st;
}

static enum status open_party(struct dispute_jobs *j, struct bytes args, struct err *e)
{
    const struct replica_options *ro = &j->replica.options;
    struct party_options po = {.pool = ro->course.pool, .cheat = ro->course.cheat};
    struct msg_manifest *m = xcalloc(1, sizeof(*m));
    struct msg_envelope env;
    struct transcript t;
    enum status st;

    party_free(&j->party);
    po.side = args.len ? (enum dispute_side)args.data[args.len - 1] : DISPUTE_NOBODY;
    st = transcript_decode(&t, bytes_slice(args, 0, args.len ? args.len - 1 : 0), e);
    if (!st)
        st = msg_envelope_decode(&env, t.manifest, e);
    if (!st)
        st = msg_manifest_decode(m, env.body, e);
    if (!st && !replica_state(&j->replica, m->version - 1, &po.masters, &po.opt))
        st = err_set(e, ERR_NOT_FOUND, "the state before the disputed version is not here");
    t.bundle = buf_bytes(&ro->setup->bundle);
    if (!st)
        st = party_open(&j->party, &t, &po, e);
    free(m);
    return st;
}

enum status dispute_jobs_run(struct dispute_jobs *j, uint32_t job, struct bytes args,
                             struct buf *result, struct err *e)
{
    enum status st;

    switch (job) {
    case DISPUTE_JOB_FIRST: st = first(j, result, e); break;
    case DISPUTE_JOB_SEEK: st = seek(j, args, result, e); break;
    case DISPUTE_JOB_STEP: st = step(j, args, result, e); break;
    case DISPUTE_JOB_PROVE: st = prove(j, args, result, e); break;
    case DISPUTE_JOB_OPEN: st = open_party(j, args, e); break;
    default:
        st = j->party ? party_move(j->party, args, result, e)
                      : err_set(e, ERR_NOT_FOUND, "no side of a dispute is open");
        break;
    }
    return st ? st : buf_status(result, e);
}
