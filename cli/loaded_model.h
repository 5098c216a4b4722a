/*
 * cli/loaded_model.h - a model directory in memory, ready to run
 */
#ifndef CLI_LOADED_MODEL_H
#define CLI_LOADED_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/model.h"

/* How it is to run, as the command line has it. */
struct model_manner {
    char *numerics, *kernels, *device;
    int64_t threads;
    int64_t max_memory; /* MiB; 0: what is available */
};

struct loaded_model {
    struct weights_map *map;
    struct model *m;
    struct pool *pool;
    struct device *device; /* NULL: the CPU */
};

/* Opens the model in `dir`, with the stops of its generation_config.json. What it takes, a cache for
 * n_slots sequences of `positions` (or of the model's, if those are fewer) included, is computed and logged
 * before, and refused if it does not fit: ERR_LIMIT. `l` is to be closed also after a failure. */
MUST_USE enum status loaded_model_open(struct loaded_model *l, const char *dir,
                                       const struct model_manner *how, size_t n_slots,
                                       size_t positions, struct err *e);
void loaded_model_close(struct loaded_model *l);

#endif
