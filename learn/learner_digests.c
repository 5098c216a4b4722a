/*
 * learn/learner_digests.c - the digests that a learner's steps commit to (learn/learner.h)
 */
#include "learn/learner.h"

#include <string.h>

#include "base/check.h"
#include "learn/tiles.h"
#include "proto/digest.h"

static void put_f64(struct buf *b, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    buf_put_u64(b, bits);
}

void learn_settings_digest(struct digest *out, const struct learn_settings *s)
{
    struct buf b;

    buf_init(&b, 1024);
    buf_put_f32(&b, s->loss.clip_eps);
    buf_put_f32(&b, s->loss.delta);
    buf_put_f32(&b, s->loss.log_ratio_max);
    buf_put_f32(&b, s->temperature);
    put_f64(&b, s->optimizer.lr);
    put_f64(&b, s->optimizer.lr_end);
    buf_put_f32(&b, s->optimizer.beta1);
    buf_put_f32(&b, s->optimizer.beta2);
    buf_put_f32(&b, s->optimizer.eps);
    buf_put_f32(&b, s->optimizer.weight_decay);
    buf_put_f32(&b, s->optimizer.clip_norm);
    buf_put_u32(&b, (uint32_t)s->optimizer.schedule);
    buf_put_u64(&b, s->optimizer.warm_steps);
    buf_put_u64(&b, s->optimizer.total_steps);
    put_f64(&b, s->warmup_lr);
    buf_put_u32(&b, s->grad_lanes);
    CHECK(!b.bad);
    digest_tagged(out, "muster/settings", buf_bytes(&b));
    buf_clear(&b);
}

enum status learner_roots(const struct learner *l, struct digest *masters,
                          struct digest *optimizer, struct err *e)
{
    return state_roots(masters, optimizer, l->masters, l->opt, l->options.pool, e);
}
