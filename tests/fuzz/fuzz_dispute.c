/*
 * learn/dispute over arbitrary moves: so many honest ones, then the input as whoever's turn it is.
 * Whatever it says, the defender (who is honest) cannot be made to lose by another's move, and an
 * opening that leads to its roots gives its numbers: it loses only by a move of its own that is not
 * what was asked.
 *
 *   input: u8 honest moves, u8 seed of the challenger's choices, then the move
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "learn/dispute.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOKENS 7u

static struct {
    int32_t token[2][TOKENS];
    float logprob[2][TOKENS];
    uint8_t mask[2][TOKENS];
    struct learn_sample sample[2];
    struct learn_batch batch;
    struct weights *masters;
    struct adamw *opt;
    struct graph *g;
    struct trace *t;
    struct opening_claim claim;
} step;

/* A step of a tiny model, once. */
static void make_step(void)
{
    const struct model_config c = {.arch = MODEL_ARCH_LLAMA,
                                   .vocab = 40,
                                   .dim = 8,
                                   .layers = 1,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 4,
                                   .ffn = 12,
                                   .max_len = 16,
                                   .norm_eps = 1e-5f,
                                   .rope_theta = 10000.0,
                                   .bos = -1,
                                   .pad = -1};
    const struct learn_settings s = {
        .loss = {.clip_eps = 0.2f, .delta = 4.0f, .log_ratio_max = 20.0f},
        .temperature = 1.0f,
        .optimizer = {.lr = 1e-2, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f},
        .grad_lanes = 1};
    const struct trace_options o = {.kernels = kernels_best()};

    for (size_t i = 0; i < 2; i++) {
        for (size_t t = 0; t < TOKENS; t++) {
            step.token[i][t] = (int32_t)((7 * t + 11 * i) % 40);
            step.logprob[i][t] = -3.5f;
            step.mask[i][t] = t > 2;
        }
        step.sample[i] = (struct learn_sample){.tokens = step.token[i],
                                               .logprobs = step.logprob[i],
                                               .mask = step.mask[i],
                                               .n = TOKENS,
                                               .advantage = i ? -0.5f : 0.5f};
    }
    step.batch = (struct learn_batch){.sample = step.sample, .n_samples = 2, .n_tokens = 8};
    CHECK(weights_new(&step.masters, &c, NULL) == OK);
    weights_init_random(step.masters, 1);
    CHECK(adamw_new(&step.opt, &c, NULL) == OK);
    CHECK(graph_new(&step.g, &c, &s, NUMERICS_F32_1, &step.batch, 0, 0, NULL) == OK);
    CHECK(trace_new(&step.t, step.g, step.masters, step.opt, &o, NULL) == OK);
    CHECK(trace_commit(step.t, NULL) == OK);
    step.claim = (struct opening_claim){.masters_before = step.t->masters_before,
                                        .optimizer_before = step.t->optimizer_before,
                                        .masters_after = step.t->masters_after,
                                        .optimizer_after = step.t->optimizer_after};
}

static void honest_move(struct dispute *d, struct dispute_party *v, struct rng *rng)
{
    struct buf move;

    buf_init(&move, OPENING_MAX_BYTES);
    if (d->turn == DISPUTE_DEFENDER) {
        CHECK(dispute_party_move(v, d, &move, NULL) == OK);
    } else {
        buf_put_u8(&move, DISPUTE_PICK);
        buf_put_u32(&move, (uint32_t)rng_below(rng, d->n_shown));
    }
    CHECK(dispute_move(d, d->turn, buf_bytes(&move), 0, NULL) == OK);
    buf_clear(&move);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct dispute_rules rules = {.kernels = kernels_best(), .move_ms = 1};
    struct dispute_party v;
    enum dispute_side turn;
    struct dispute d;
    struct rng rng;

    if (size < 2)
        return 0;
    if (!step.t)
        make_step();
    rng = rng_of(data[1], 1);
    dispute_init(&d, step.g, &step.claim, &rules, 0);
    dispute_party_init(&v, DISPUTE_DEFENDER, step.t);
    for (unsigned i = 0; i < data[0] % 16 && d.level < DISPUTE_OPENING; i++)
        honest_move(&d, &v, &rng);
    turn = d.turn;
    CHECK(dispute_move(&d, turn, (struct bytes){data + 2, size - 2}, 0, NULL) == OK);
    CHECK(turn == DISPUTE_DEFENDER || d.loser != DISPUTE_DEFENDER);
    while (d.level != DISPUTE_CLOSED)
        honest_move(&d, &v, &rng);
    CHECK(turn == DISPUTE_DEFENDER || d.loser == DISPUTE_CHALLENGER);
    dispute_clear(&d);
    dispute_party_clear(&v);
    return 0;
}
