#include "engine/cuda/f32.h"

const struct device_ops device_ops_f32 = {
    .add = cuda_f32_add,
};
