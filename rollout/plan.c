#include "rollout/plan.h"

#include "base/bytes.h"
#include "base/check.h"
#include "proto/digest.h"

enum plan_purpose {
    PLAN_TASK = 1,
    PLAN_ENV = 2,
    PLAN_SAMPLE = 3,
    PLAN_DEMO_TASK = 4,
    PLAN_DEMO_SEED = 5,
    PLAN_INIT = 6,
    PLAN_HELDOUT_TASK = 7,
    PLAN_HELDOUT_SEED = 8,
};

static uint64_t plan_value(const struct plan *p, uint64_t unit, enum plan_purpose purpose,
                           uint32_t n)
{
    struct buf b;
    struct digest h;
    struct reader r;

    buf_init(&b, 128);
    buf_append(&b, BYTES_LIT("muster/plan\0"));
    buf_append(&b, BYTES_OF(p->task.b));
    buf_put_u64(&b, p->seed);
    buf_put_u64(&b, unit);
    buf_put_u32(&b, (uint32_t)purpose);
    buf_put_u32(&b, n);
    CHECK(!b.bad);
    digest_of(&h, buf_bytes(&b));
    buf_clear(&b);
    r = reader_of(BYTES_OF(h.b));
    return reader_u64(&r);
}

uint64_t plan_task_index(const struct plan *p, uint64_t unit)
{
    CHECK(p->n_tasks > 0);
    return plan_value(p, unit, PLAN_TASK, 0) % p->n_tasks;
}

uint64_t plan_env_seed(const struct plan *p, uint64_t unit)
{
    return plan_value(p, unit, PLAN_ENV, 0);
}

uint64_t plan_sample_seed(const struct plan *p, uint64_t unit, uint32_t sample)
{
    return plan_value(p, unit, PLAN_SAMPLE, sample);
}

uint64_t plan_demo_index(const struct plan *p, uint64_t i)
{
    CHECK(p->n_tasks > 0);
    return plan_value(p, i, PLAN_DEMO_TASK, 0) % p->n_tasks;
}

uint64_t plan_demo_seed(const struct plan *p, uint64_t i)
{
    return plan_value(p, i, PLAN_DEMO_SEED, 0);
}

uint64_t plan_init_seed(const struct plan *p)
{
    return plan_value(p, 0, PLAN_INIT, 0);
}

uint64_t plan_heldout_index(const struct plan *p, uint64_t i)
{
    CHECK(p->n_tasks > 0);
    return plan_value(p, i, PLAN_HELDOUT_TASK, 0) % p->n_tasks;
}

uint64_t plan_heldout_seed(const struct plan *p, uint64_t i)
{
    return plan_value(p, i, PLAN_HELDOUT_SEED, 0);
}
