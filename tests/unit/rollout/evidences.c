#include "evidences.h"

#include <string.h>

#include "proto/content.h"
#include "proto/digest.h"
#include "proto/sign.h"
#include "support/test.h"

static void sign_as(struct buf *out, enum msg_kind kind, struct public_key *pub, uint8_t who,
                    const struct digest *run, struct bytes body)
{
    const struct idem idem = {{who}};
    struct secret_key secret;
    uint8_t seed[32];
    struct err e = {0};

    memset(seed, who, sizeof(seed));
    sign_keys_of_seed(pub, &secret, seed);
    buf_init(out, MSG_MAX_BYTES);
    assert_ok(msg_envelope_encode(out, kind, run, &idem, body, &secret, &e), &e);
}

void evidence_made_init(struct evidence_made *m, const struct small_world *s,
                        const struct claim *c)
{
    struct msg_manifest x = {.content = content_full(s->world.version),
                             .task = s->setup->task_id,
                             .weights = s->root,
                             .numerics = "f32-1"};
    struct buf body;
    struct err e = {0};

    memset(m, 0, sizeof(*m));
    m->run.b[5] = 77;
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_submit_encode(&body, c->s, &e), &e);
    sign_as(&m->submission, MSG_SUBMIT, &m->worker, 1, &m->run, buf_bytes(&body));
    small_file(&m->weights, s->weights);
    x.file_bytes = m->weights.len;
    x.shard_bytes = content_shard_bytes(x.file_bytes);
    x.n_shards = (uint32_t)content_n_shards(x.file_bytes, x.shard_bytes);
    buf_reset(&body);
    assert_ok(msg_manifest_encode(&body, &x, &e), &e);
    sign_as(&m->manifest, MSG_PUBLISH, &m->trainer, 2, &m->run, buf_bytes(&body));
    buf_clear(&body);
    m->v = (struct evidence){.bundle = buf_bytes(&s->bundle),
                             .submission = buf_bytes(&m->submission),
                             .manifest = buf_bytes(&m->manifest),
                             .weights = buf_bytes(&m->weights)};
}

void evidence_made_clear(struct evidence_made *m)
{
    buf_clear(&m->submission);
    buf_clear(&m->manifest);
    buf_clear(&m->weights);
}
