/*
 * inference/cheat_hooks.h - private: what a cheat does, by where it does it
 */
#ifndef INFERENCE_CHEAT_HOOKS_H
#define INFERENCE_CHEAT_HOOKS_H

#include "engine/sampler.h"
#include "inference/cheat.h"
#include "proto/msg.h"

/* ---- weights and cache (cheat_weights.c) ------------------------------------------------- */

void cheat_weights_other(struct weights *w);
void cheat_weights_int8(struct weights *w);
void cheat_weights_int4(struct weights *w);
void cheat_weights_half(struct weights *w); /* without the later half of its layers */
void cheat_cache_fp8(float *x, size_t n);

/* ---- drawing (cheat_draws.c): as struct sampler_options asks ------------------------------ */

/* cheat_draw_seed: ctx is NULL or a uint64_t that the seed is xored with. */

typedef int32_t cheat_draw_fn(void *ctx, const struct sampler_place *at, float *logp);
cheat_draw_fn cheat_draw_hot, cheat_draw_greedy, cheat_draw_top_p, cheat_draw_seed,
    cheat_draw_rarely;

/* ---- editing (cheat_edits.c) ------------------------------------------------------------- */

/* A submission being rewritten: what it lends is replaced by copies, kept here. */
struct cheat_edit {
    struct msg_submit *m;
    struct msg_opening opening; /* of it, in open classes */
    bool is_open;               /* there is one */
    const struct rollout_world *w;
    void *kept[8 * MSG_MAX_SAMPLES]; /* owned */
    size_t n_kept;
};

typedef void cheat_edit_fn(struct cheat_edit *x);
cheat_edit_fn cheat_edit_truncate, cheat_edit_pad, cheat_edit_reward, cheat_edit_logprob,
    cheat_edit_tokens, cheat_edit_proof_forged, cheat_edit_proof_constant,
    cheat_edit_proof_channel, cheat_edit_proof_null, cheat_edit_proof_long, cheat_edit_unopened;

/* A copy of *b, `len` bytes long with zeros at the end, that *b lends from now on. */
uint8_t *cheat_edit_own(struct cheat_edit *x, struct bytes *b, size_t len);
void cheat_edit_clear(struct cheat_edit *x);

#endif
