#include "cli/bench_shape.h"

#include <stddef.h>
#include <string.h>

static const struct bench_shape shapes[] = {{"15m", 288, 6, 6, 768, 2.8},
                                            {"110m", 768, 12, 12, 2048, 1.9}};

const struct bench_shape *bench_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (!strcmp(shapes[i].name, name))
            return &shapes[i];
    return NULL;
}

struct model_config bench_shape_config(const struct bench_shape *s, int64_t length)
{
    return (struct model_config){
        .arch = MODEL_ARCH_LLAMA,
        .vocab = 32000,
        .dim = s->dim,
        .layers = s->layers,
        .heads = s->heads,
        .kv_heads = s->heads,
        .head_dim = s->dim / s->heads,
        .ffn = s->ffn,
        .max_len = (uint32_t)length,
        .norm_eps = 1e-5f,
        .rope_theta = 10000.0,
        .tie = true,
        .bos = -1,
        .pad = -1,
    };
}
