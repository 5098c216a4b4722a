#include <inttypes.h>

#include "base/check.h"
#include "shardcast/cast_inside.h"

enum status signed_open(struct bytes envelope, enum msg_kind kind, const struct digest *run,
                        const struct public_key *trainer, struct msg_envelope *env,
                        struct err *e)
{
    enum status st = msg_envelope_decode(env, envelope, e);

    if (st)
        return st;
    if (env->kind != kind)
        return err_set(e, ERR_MALFORMED, "the envelope is no %s", msg_kind_name(kind));
    if (run && !digest_equal(&env->run, run))
        return err_set(e, ERR_DENIED, "%s of another run", msg_kind_name(kind));
    if (trainer && !key_equal(&env->signer, trainer))
        return err_set(e, ERR_DENIED, "%s not signed by the trainer", msg_kind_name(kind));
    return OK;
}

enum status segment_numbers(const struct msg_segment *m, struct err *e)
{
    enum status st = OK;

    if (!content_is_valid(&m->content))
        st = err_set(e, ERR_MALFORMED, "segment: there is no such content");
    if (!st && digest_is_zero(&m->previous) != (m->number == 0))
        st = err_set(e, ERR_MALFORMED, "segment %u: the one before it has no name", m->number);
    return st;
}

enum status cast_manifest_check(struct bytes envelope, const struct digest *run,
                                const struct public_key *trainer, struct msg_envelope *env,
                                struct msg_manifest *m, struct err *e)
{
    enum status st = signed_open(envelope, MSG_PUBLISH, run, trainer, env, e);

    if (!st)
        st = msg_envelope_verify(env, e);
    if (!st)
        st = msg_manifest_decode(m, env->body, e);
    return st ? st : content_manifest_check(m, e);
}

enum status segment_check(struct bytes envelope, const struct digest *run,
                          const struct public_key *trainer, struct msg_envelope *env,
                          struct msg_segment *m, struct err *e)
{
    enum status st = signed_open(envelope, MSG_SEGMENT, run, trainer, env, e);

    if (!st)
        st = msg_envelope_verify(env, e);
    if (!st)
        st = msg_segment_decode(m, env->body, e);
    return st ? st : segment_numbers(m, e);
}

/* ---- proofs ------------------------------------------------------------------------------ */

/* One side of a proof: a manifest is the number after the last segment. */
struct claim {
    struct content content;
    bool is_manifest;
    uint32_t number;
    uint32_t shard_bytes;
    uint32_t n_leaves;
    struct digest body, previous;
};

static enum status read_claim(struct claim *c, struct bytes envelope, const struct digest *run,
                              const struct public_key *trainer, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct msg_segment g;
    enum status st;

    *c = (struct claim){0};
    st = msg_envelope_decode(&env, envelope, e);
    if (!st && env.kind == MSG_PUBLISH) {
        st = cast_manifest_check(envelope, run, trainer, &env, &m, e);
        if (!st)
            *c = (struct claim){.content = m.content,
                                .is_manifest = true,
                                .number = (m.n_shards - 1) / MSG_MAX_LEAVES + 1,
                                .shard_bytes = m.shard_bytes,
                                .n_leaves = (m.n_shards - 1) % MSG_MAX_LEAVES + 1,
                                .previous = m.last_segment};
    } else if (!st) {
        st = segment_check(envelope, run, trainer, &env, &g, e);
        if (!st)
            *c = (struct claim){.content = g.content,
                                .number = g.number,
                                .shard_bytes = g.shard_bytes,
                                .n_leaves = (uint32_t)(g.leaves.len / DIGEST_BYTES),
                                .previous = g.previous};
    }
    if (!st)
        digest_of(&c->body, env.body);
    return st;
}

/* b cannot come after a: it names another segment before it, or a was short, so the last. */
static bool contradicts(const struct claim *a, const struct claim *b)
{
    if (a->is_manifest)
        return false;
    if (b->is_manifest && a->number >= b->number)
        return true;
    if (b->number <= a->number)
        return false;
    if (b->is_manifest && b->number == a->number + 1 && a->n_leaves != b->n_leaves)
        return true;
    if (a->n_leaves < MSG_MAX_LEAVES && (!b->is_manifest || b->number > a->number + 1))
        return true;
    return b->number == a->number + 1 && !digest_equal(&b->previous, &a->body);
}

enum status cast_proof_check(struct bytes first, struct bytes second, const struct digest *run,
                             const struct public_key *trainer, struct content *about,
                             struct err *e)
{
    struct claim a, b;
    enum status st = read_claim(&a, first, run, trainer, e);

    if (!st)
        st = read_claim(&b, second, run, trainer, e);
    if (st)
        return st;
    if (!content_equal(&a.content, &b.content))
        return err_set(e, ERR_DIGEST, "the two are about different contents");
    *about = a.content;
    if (a.shard_bytes != b.shard_bytes)
        return OK;
    if (a.is_manifest == b.is_manifest && (a.is_manifest || a.number == b.number) &&
        !digest_equal(&a.body, &b.body))
        return OK;
    if (contradicts(&a, &b) || contradicts(&b, &a))
        return OK;
    return err_set(e, ERR_DIGEST, "the two agree");
}
