#include "engine/ops.h"

#include <math.h>

#include "base/check.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

#define BLOCK 256u

/* Keeps the first of the highest. */
static void block_best(const struct kernels *k, const float *x, size_t n, int32_t base,
                       float *best, int32_t *id)
{
    float m = k->max(x, n);

    if (!(m > *best))
        return;
    for (size_t i = 0; i < n; i++)
        if (x[i] == m) {
            *best = m;
            *id = base + (int32_t)i;
            return;
        }
}

int32_t argmax_forward(const struct kernels *k, const float *logits, size_t V)
{
    float best = -INFINITY;
    int32_t id = 0;

    for (size_t v = 0; v < V; v += BLOCK)
        block_best(k, logits + v, V - v < BLOCK ? V - v : BLOCK, (int32_t)v, &best, &id);
    return id;
}

float gumbel_f32(uint32_t r)
{
    return -lane_log(lane_gumbel_inner(r));
}

/* The highest of y + g, and what it is at `token` (or -1: nobody asks). */
static int32_t gumbel_argmax(const struct kernels *k, const float *logits, size_t V, float T,
                             uint64_t seed, uint32_t position, int32_t token, float *margin)
{
    uint32_t word[BLOCK];
    float z[BLOCK], best = -INFINITY, own = 0.0f;
    int32_t id = 0;

    for (size_t v = 0; v < V; v += BLOCK) {
        size_t n = V - v < BLOCK ? V - v : BLOCK;
        k->philox(word, seed, (uint32_t)(v / 4), position, (n + 3) / 4);
        k->gumbel(z, logits + v, word, T, n);
        block_best(k, z, n, (int32_t)v, &best, &id);
        if ((size_t)token - v < n)
            own = z[(size_t)token - v];
    }
    *margin = best - own;
    return id;
}

float sample_margin(const struct kernels *k, const float *logits, size_t V, float temperature,
                    uint64_t seed, uint32_t position, int32_t token)
{
    float margin;

    CHECK(V <= INT32_MAX && temperature > 0.0f && token >= 0 && (size_t)token < V);
    return gumbel_argmax(k, logits, V, temperature, seed, position, token, &margin) == token
               ? 0.0f
               : margin;
}

int32_t sample_token(const struct kernels *k, float *logp, const float *logits, size_t V,
                     float temperature, uint64_t seed, uint32_t position)
{
    float margin;
    int32_t id;

    CHECK(V > 0 && V <= INT32_MAX && temperature >= 0.0f);
    if (temperature == 0.0f)
        id = argmax_forward(k, logits, V);
    else
        id = gumbel_argmax(k, logits, V, temperature, seed, position, -1, &margin);
    if (logp)
        logprob_forward(k, NULL, logp, logits, &id, temperature, 1, V);
    return id;
}
