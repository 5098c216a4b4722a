#include "rollout/probe.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/kv_cache.h"
#include "proto/digest.h"

void probe_begin(struct probe *p, struct rollout_probe *want, const struct msg_submit *s,
                 size_t n_prompt, size_t n_layers)
{
    size_t n_positions[MSG_MAX_SAMPLES];
    const struct states_shape shape = {s->n_samples, n_layers, n_positions};

    p->want = want;
    if (!want)
        return;
    CHECK(want->n <= ROLLOUT_PROBE_MAX);
    for (uint32_t i = 0; i < s->n_samples; i++)
        n_positions[i] = n_prompt + s->sample[i].tokens.len / sizeof(int32_t) - 1;
    for (uint32_t k = 0; k < want->n; k++)
        for (uint32_t i = 0; i < STATES_PLACES; i++)
            states_place(&p->place[k][i], &want->draw, &want->who[k], i, &shape);
}

void probe_sample(struct probe *p, size_t sample, const struct prefill_rows *rows)
{
    float *pair;

    if (!p->want)
        return;
    pair = xcalloc(2 * rows->kv->width, sizeof(*pair));
    for (uint32_t k = 0; k < p->want->n; k++)
        for (uint32_t i = 0; i < STATES_PLACES; i++) {
            const struct states_place *at = &p->place[k][i];

            if (at->sample != sample)
                continue;
            kv_cache_read(rows->kv, pair, pair + rows->kv->width, rows->slot, at->layer,
                          at->position);
            digest_of(&p->seen[k][i], (struct bytes){(const uint8_t *)pair,
                                                     2 * rows->kv->width * sizeof(*pair)});
        }
    free(pair);
}

void probe_end(struct probe *p)
{
    for (uint32_t k = 0; p->want && k < p->want->n; k++)
        states_found(&p->want->found[k], p->seen[k]);
}
