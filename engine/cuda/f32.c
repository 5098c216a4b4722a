#include "engine/cuda/f32.h"

const struct device_ops device_ops_f32 = {
    .add = cuda_f32_add,
    .page_floats = cuda_f32_page_floats,
    .attention = cuda_f32_attention,
    .attention_backward = cuda_f32_attention_backward,
};
