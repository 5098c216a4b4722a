#include "learn/loss.h"

#include "base/check.h"
#include "engine/ops.h"

void loss_advantages(float *advantage, const float *reward, size_t n)
{
    CHECK(n >= 2);
    float mean = sum16(reward, n) / (float)n;

    for (size_t i = 0; i < n; i++)
        advantage[i] = reward[i] - mean;
}

bool loss_group_has_signal(const float *reward, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (reward[i] != reward[0])
            return true;
    return false;
}

static float clamp(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

struct loss_token loss_token_of(float logp, float logp_behaviour, float advantage,
                                const struct loss_settings *s)
{
    struct loss_token t;
    float log_ratio = clamp(logp - logp_behaviour, -s->log_ratio_max, s->log_ratio_max);
    float ratio = exp_f32(log_ratio);
    float bounded = ratio < s->delta ? ratio : s->delta;
    float clipped = clamp(ratio, 1.0f - s->clip_eps, 1.0f + s->clip_eps);
    float plain_gain = bounded * advantage;
    float clipped_gain = clipped * advantage;

    t.ratio = ratio;
    t.objective = plain_gain < clipped_gain ? plain_gain : clipped_gain;
    if (advantage > 0.0f)
        t.is_clipped = ratio >= 1.0f + s->clip_eps;
    else
        t.is_clipped = ratio <= 1.0f - s->clip_eps || ratio >= s->delta;
    t.coef = t.is_clipped ? 0.0f : ratio * advantage;
    return t;
}
