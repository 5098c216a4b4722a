/* What simulated nodes send: made up from unit and version numbers. */
#include "unit/orchestrator/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "envs/task.h"
#include "proto/canary.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"

/* ---- the made-up content --------------------------------------------------------------- */

bool world_is_flat(uint64_t unit)
{
    return unit % 5 == 3;
}

/* Tokens and log-probs of a unit; room for the largest. */
struct made {
    int32_t token[WORLD_GROUP][4];
    float logprob[WORLD_GROUP][4];
    int32_t prompt[2];
};

/* A sample has at most four tokens: one chunk. */
static void make_opening(struct msg_opening *o,
                         uint8_t proofs[WORLD_GROUP * TOPLOC_PROOF_BYTES], uint64_t unit,
                         uint64_t lease)
{
    memset(proofs, (int)(1 + unit % 100), WORLD_GROUP * TOPLOC_PROOF_BYTES);
    *o = (struct msg_opening){.unit = unit,
                              .lease = lease,
                              .proofs = {proofs, WORLD_GROUP * TOPLOC_PROOF_BYTES},
                              .states = {{1}}};
}

static void make_submit(const struct world *w, struct msg_submit *m, struct made *x,
                        uint64_t unit, uint64_t lease, int64_t version, bool is_cheating)
{
    uint8_t proofs[WORLD_GROUP * TOPLOC_PROOF_BYTES];
    struct msg_opening o;
    struct digest shard;
    char text[64];

    memset(m, 0, sizeof(*m));
    memset(x, 0, sizeof(*x));
    m->unit = unit;
    m->lease = lease;
    m->version = version;
    m->task = w->task;
    snprintf(text, sizeof(text), "weights %" PRId64 " 0", version);
    digest_of(&shard, bytes_str(text));
    merkle_root_of_digests(&m->weights, BYTES_OF(shard.b));
    snprintf(m->numerics, sizeof(m->numerics), w->opt.is_open ? "open-openblas" : "f32-1");
    x->prompt[0] = (int32_t)(unit % 11);
    x->prompt[1] = 3;
    m->prompt = BYTES_OF(x->prompt);
    m->n_samples = WORLD_GROUP;
    for (uint32_t i = 0; i < WORLD_GROUP; i++) {
        size_t n = 1 + (unit + i) % 4;
        for (size_t k = 0; k < n; k++) {
            x->token[i][k] = (int32_t)((unit * 7 + i * 3 + k) % 13) + (is_cheating && k == 0);
            x->logprob[i][k] = -(float)((unit + k) % 5) / 8;
        }
        m->sample[i] = (struct msg_sample){
            .tokens = {(const uint8_t *)x->token[i], 4 * n},
            .logprobs = {(const uint8_t *)x->logprob[i], 4 * n},
            .reward = world_is_flat(unit) ? 0.25f : (float)i,
            .finish = FINISH_LENGTH,
        };
    }
    if (w->opt.is_open) {
        make_opening(&o, proofs, unit, lease);
        opening_root(&m->opening, m, &o);
    }
    submission_root(&m->root, m);
}

void world_opening(const struct world *w, struct buf *out, uint64_t unit, uint64_t lease)
{
    uint8_t proofs[WORLD_GROUP * TOPLOC_PROOF_BYTES];
    struct msg_opening o;

    (void)w;
    make_opening(&o, proofs, unit, lease);
    buf_reset(out);
    CHECK(!msg_opening_encode(out, &o, NULL));
}

void world_submission(const struct world *w, struct buf *out, const struct lease_item *l,
                      bool is_cheating)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct made x;

    make_submit(w, m, &x, l->unit, l->lease, l->version, is_cheating);
    buf_reset(out);
    CHECK(!msg_submit_encode(out, m, NULL));
    free(m);
}

void world_ordered_submission(const struct world *w, const struct world_node *n,
                              struct buf *out, const struct lease_item *l, bool is_cheating)
{
    world_submission(w, out, l, is_cheating);
    for (uint32_t i = 0; i < WORLD_ORDERS && i < n->n_orders; i++)
        if (n->order[i].lease == l->lease)
            CHECK(!canary_alter(out, &n->order[i].salt, NULL));
}

void world_take_orders(const struct world *w, struct world_node *n, struct msg_lease *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        struct lease_item *it = &l->item[i];
        struct msg_canary_order order;
        if (it->order.len) {
            CHECK(!canary_order_read(&order, it->order, orch_run_id(w->orch), it->unit,
                                     it->lease, NULL));
            n->order[n->n_orders++ % WORLD_ORDERS] =
                (struct world_order){it->lease, order.salt};
        }
        it->order = (struct bytes){NULL, 0}; /* it was lent */
    }
}

void world_expected_root(const struct world *w, uint64_t unit, int64_t version,
                         struct digest *root)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct made x;

    make_submit(w, m, &x, unit, 0, version, false);
    *root = m->root;
    free(m);
}

void world_manifest(const struct world *w, struct buf *out, int64_t version,
                    const struct digest *batch, uint32_t variant)
{
    struct msg_manifest m = {.content = content_full(version),
                             .task = w->task,
                             .file_bytes = 1000,
                             .shard_bytes = 1000,
                             .n_shards = 1,
                             .tokens_trained = 100 * (uint64_t)version};
    struct digest shard, before;
    char text[64];

    if (version > 0) {
        snprintf(text, sizeof(text), "weights %" PRId64 " 0", version - 1);
        digest_of(&before, bytes_str(text));
        merkle_root_of_digests(&m.parent, BYTES_OF(before.b));
        m.batch = *batch;
        digest_of(&m.masters_before, BYTES_OF(before.b));
        m.optimizer_before = m.masters_before;
        m.masters_before.b[0] ^= w->bends_masters;
        m.optimizer_before.b[0] ^= w->bends_optimizer;
    }
    snprintf(text, sizeof(text), "weights %" PRId64 " %u", version, variant);
    digest_of(&shard, bytes_str(text));
    merkle_root_of_digests(&m.weights, BYTES_OF(shard.b));
    digest_of(&m.masters_after, BYTES_OF(shard.b));
    m.optimizer_after = m.masters_after;
    digest_of(&m.settings, BYTES_LIT("settings"));
    snprintf(m.numerics, sizeof(m.numerics), "f32-1");
    m.reward_mean = 0.5f;
    buf_reset(out);
    CHECK(!msg_manifest_encode(out, &m, NULL));
}

void world_make_bundle(struct world *w)
{
    struct bundle b = {0};
    struct buf yaml;

    buf_init(&yaml, 1u << 16);
    buf_printf(&yaml,
               "name: made-up\nmodel: {init: %s}\nsampling:\n  group: %u\n  max_new_tokens: 8\n"
               "algorithm:\n  units_per_batch: %" PRId64 "\n  steps: %" PRId64
               "\n  lag: %" PRId64 "\n  order: %s\n"
               "acceptance:\n  canary_ppm: %" PRId64 "\n  recheck_ppm: %" PRId64
               "\n  witnesses: %" PRId64 "\n  step_ppm: %" PRId64 "\n%s"
               "leases:\n  dispute_ms: 5000\n  lease_ms: %d\n  hard_deadline_ms: %d\n"
               "  check_ms: %" PRId64 "\n  tries: %" PRId64
               "\n  opening_ms: %d\nprices: {f32-1: %d, open-openblas: %d}\n",
               w->opt.init ? w->opt.init : "random", WORLD_GROUP, w->opt.units_per_batch,
               w->opt.steps, w->opt.lag, w->opt.order, w->opt.canary_ppm, w->opt.recheck_ppm,
               w->opt.witnesses, w->opt.step_ppm,
               w->opt.is_light ? "  audit_saving_ppm: 0\n  audit_floor_ppm: 0\n" : "",
               WORLD_LEASE_MS, 4 * WORLD_LEASE_MS,
               w->opt.check_ms ? w->opt.check_ms : (int64_t)WORLD_CHECK_MS,
               w->opt.tries ? w->opt.tries : (int64_t)1000, WORLD_OPENING_MS,
               w->opt.is_open ? 0 : 10, w->opt.is_open ? 10 : 0);
    b.file[BUNDLE_TASK] = buf_bytes(&yaml);
    b.file[BUNDLE_ENV] = BYTES_LIT("return {}");
    CHECK(!bundle_encode(&w->bundle, &b, NULL));
    bundle_id(w->task.b, buf_bytes(&w->bundle));
    buf_clear(&yaml);
}
