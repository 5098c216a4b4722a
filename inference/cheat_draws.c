#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/ops.h"
#include "inference/cheat_hooks.h"

#define HOTTER     1.25f
#define TOP_P      0.9
#define RARELY     100u
#define OWN_SEED   0x5eedu
#define OUT_OF_TOP (-FLT_MAX / 4) /* finite, and out of reach of any noise */

/* Whatever was drawn, what is claimed is its probability under the assigned temperature. */
static int32_t claimed(const struct draw_place *at, int32_t token, float *logp)
{
    logprob_forward(at->kernels, NULL, logp, at->logits, &token, at->temperature, 1, at->V);
    return token;
}

int32_t cheat_draw_hot(void *ctx, const struct draw_place *at, float *logp)
{
    (void)ctx;
    return claimed(at,
                   sample_token(at->kernels, NULL, at->logits, at->V, at->temperature * HOTTER,
                                at->seed, at->position),
                   logp);
}

int32_t cheat_draw_greedy(void *ctx, const struct draw_place *at, float *logp)
{
    (void)ctx;
    return claimed(at, argmax_forward(at->kernels, at->logits, at->V), logp);
}

int32_t cheat_draw_seed(void *ctx, const struct draw_place *at, float *logp)
{
    uint64_t own = ctx ? *(const uint64_t *)ctx : OWN_SEED;

    return claimed(at,
                   sample_token(at->kernels, NULL, at->logits, at->V, at->temperature,
                                at->seed ^ own, at->position),
                   logp);
}

int32_t cheat_draw_rarely(void *ctx, const struct draw_place *at, float *logp)
{
    struct rng r = rng_of(at->seed, at->position);

    (void)ctx;
    if (rng_below(&r, RARELY) == 0)
        return cheat_draw_seed(NULL, at, logp);
    return sample_token(at->kernels, logp, at->logits, at->V, at->temperature, at->seed,
                        at->position);
}

static int by_logit(const void *a, const void *b)
{
    float x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x < y) - (x > y);
}

/* The logit down to which the most likely tokens make up TOP_P. */
static float top_p_limit(const struct draw_place *at)
{
    float *sorted = xmalloc(at->V * sizeof(*sorted));
    float top = at->logits[argmax_forward(at->kernels, at->logits, at->V)], limit = top;
    double all = 0.0, sum = 0.0;

    memcpy(sorted, at->logits, at->V * sizeof(*sorted));
    qsort(sorted, at->V, sizeof(*sorted), by_logit);
    for (size_t i = 0; i < at->V; i++)
        all += (double)exp_f32((sorted[i] - top) / at->temperature);
    for (size_t i = 0; i < at->V && sum < TOP_P * all; i++) {
        sum += (double)exp_f32((sorted[i] - top) / at->temperature);
        limit = sorted[i];
    }
    free(sorted);
    return limit;
}

int32_t cheat_draw_top_p(void *ctx, const struct draw_place *at, float *logp)
{
    float limit = top_p_limit(at);
    float *kept = xmalloc(at->V * sizeof(*kept));
    int32_t token;

    (void)ctx;
    for (size_t v = 0; v < at->V; v++)
        kept[v] = at->logits[v] < limit ? OUT_OF_TOP : at->logits[v];
    token =
        sample_token(at->kernels, NULL, kept, at->V, at->temperature, at->seed, at->position);
    free(kept);
    return claimed(at, token, logp);
}
