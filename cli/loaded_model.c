#include "cli/loaded_model.h"

#include <string.h>

#include "base/pool.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "engine/weights_map.h"

enum status loaded_model_open(struct loaded_model *l, const char *dir,
                              const struct model_manner *how, size_t n_slots, size_t positions,
                              struct err *e)
{
    struct model_options opt = {0};
    enum numerics class;
    enum status st = numerics_parse(&class, how->numerics, e);

    memset(l, 0, sizeof(*l));
    if (!st)
        st = device_choose(&l->device, &opt.kernels, how->device, class, how->kernels, e);
    if (!st)
        st = weights_map_open(&l->map, dir, e);
    if (!st)
        st = model_config_add_stops(&l->map->config, dir, e);
    if (st)
        return st;
    usage_pool(&l->pool, how->threads);
    opt.pool = l->pool;
    const struct model_config *c = &l->map->config;
    const uint64_t model =
        model_map_bytes(l->map, opt.kernels, 0) + model_draw_bytes(c, opt.kernels, n_slots);
    const uint64_t cache = kv_cache_bytes(c, opt.kernels, n_slots,
                                          positions < c->max_len ? positions : c->max_len);
    st = memory_check(l->device, cache > UINT64_MAX - model ? UINT64_MAX : model + cache,
                      how->max_memory, "the model with its cache", e);
    return st ? st : model_open(&l->m, l->map, &opt, e);
}

void loaded_model_close(struct loaded_model *l)
{
    model_free(&l->m);
    weights_map_close(&l->map);
    if (l->pool)
        pool_free(&l->pool);
    device_close(&l->device);
}
