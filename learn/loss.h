/*
 * learn/loss.h - advantages and the policy-gradient coefficient of each token
 *
 * GRPO anchored on the behaviour policy mu, whose log-probability was stored with each token.
 * Per token, with ratio = pi / mu, the objective to maximise is the two-sided clip of
 * INTELLECT-2 (arXiv:2505.07291, section 3):
 *
 *   J_t = min( min(ratio, delta) * A,  clip(ratio, 1 - eps, 1 + eps) * A )
 *
 * whose slope in log pi is ratio * A, or 0 where the clip is active:
 *
 *   A > 0:  active while ratio < 1 + eps
 *   A < 0:  active while 1 - eps < ratio < delta      (ratio >= delta: no runaway updates)
 *
 * The batch's loss is -sum_t J_t / n, n the number of the batch's sampled tokens (token-level
 * normalisation). All arithmetic is binary32 in a written order (docs/numerics.md).
 */
#ifndef LEARN_LOSS_H
#define LEARN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loss_settings {
    float clip_eps;      /* 0.2 */
    float delta;         /* 4: largest ratio that a negative advantage may use */
    float log_ratio_max; /* 20: log ratio is clamped to [-this, this] before exp */
};

/* advantage[i] = reward[i] - mean(reward), the mean by the class's sum and one division (Dr.GRPO,
 * arXiv:2503.20783: no division by the standard deviation). n >= 2. */
void loss_advantages(float *advantage, const float *reward, size_t n);

/* Whether the rewards of a group differ at all. If not, it carries no gradient. */
bool loss_group_has_signal(const float *reward, size_t n);

struct loss_token {
    float coef;      /* d J_t / d log pi */
    float objective; /* J_t */
    float ratio;     /* pi / mu after the clamp */
    bool is_clipped; /* coef was zeroed by the clip */
};

struct loss_token loss_token_of(float logp, float logp_behaviour, float advantage,
                                const struct loss_settings *s);

#endif
