#include "rollout/room.h"

#include <inttypes.h>

#include "engine/device.h"
#include "engine/model.h"
#include "rollout/generate.h"
#include "rollout/prefill.h"

#define MIB 1048576u

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t times(uint64_t n, uint64_t bytes)
{
    return n > 0 && bytes > UINT64_MAX / n ? UINT64_MAX : n * bytes;
}

/* All versions that are kept. */
static uint64_t models(const struct setup *s, const struct kernels *k)
{
    const uint64_t decoded =
        kernels_device(k) ? 0 : times(model_config_params(&s->config), sizeof(float));

    return times(setup_versions(s), sum(model_bytes(&s->config, k, 0), decoded));
}

static uint64_t with_pages(const struct setup *s, const struct kernels *k, size_t n_pages,
                           size_t n_rows)
{
    return sum(models(s, k), sum(times(n_pages, kv_cache_page_bytes(&s->config, k)),
                                 model_draw_bytes(&s->config, k, n_rows)));
}

uint64_t room_to_generate(const struct setup *s, const struct kernels *k, size_t n_units)
{
    const size_t slots = groups_slots(n_units, (size_t)s->task.sampling.group);

    return with_pages(s, k, slots * kv_cache_pages((size_t)s->task.model.max_len), slots);
}

uint64_t room_to_check(const struct setup *s, const struct kernels *k)
{
    size_t rows, pages = prefill_pages_most((size_t)s->task.model.max_len,
                                            (size_t)s->task.sampling.group, &rows);

    return with_pages(s, k, pages, rows);
}

enum status room_check(const struct setup *s, const struct kernels *k, uint64_t bytes,
                       const char *what, struct err *e)
{
    const struct device *d = kernels_device(k);
    const uint64_t limit = device_free_bytes(d);

    if (bytes <= limit)
        return OK;
    return err_set(e, ERR_LIMIT,
                   "%s takes %" PRIu64 " MiB (%" PRIu32 " weight versions %" PRIu64
                   " MiB), more than the %" PRIu64 " MiB free on %s",
                   what, bytes / MIB + 1, setup_versions(s), models(s, k) / MIB + 1,
                   limit / MIB, device_name(d));
}
