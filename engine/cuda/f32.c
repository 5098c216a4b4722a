#include "engine/cuda/f32.h"

const struct device_ops device_ops_f32 = {
    .bytes = cuda_f32_bytes,
    .keeps = cuda_f32_keeps,
    .set = cuda_f32_set,
    .forward = cuda_f32_forward,
    .swiglu = cuda_f32_swiglu,
    .dx = cuda_f32_dx,
    .dw = cuda_f32_dw,
    .bias_backward = cuda_f32_bias_backward,

    .add = cuda_f32_add,
    .page_floats = cuda_f32_page_floats,
    .attention = cuda_f32_attention,
    .attention_backward = cuda_f32_attention_backward,
    .scale = cuda_f32_scale,
    .embed = cuda_f32_embed,
    .embed_packed = cuda_f32_embed_packed,
    .embed_backward = cuda_f32_embed_backward,
    .gather = cuda_f32_gather,
    .scatter = cuda_f32_scatter,
    .rmsnorm = cuda_f32_rmsnorm,
    .rmsnorm_backward = cuda_f32_rmsnorm_backward,
    .rope = cuda_f32_rope,
    .swiglu_forward = cuda_f32_swiglu_forward,
    .swiglu_backward = cuda_f32_swiglu_backward,

    .logprob = cuda_f32_logprob,
    .logprob_backward = cuda_f32_logprob_backward,
    .sample = cuda_f32_sample,
    .top = cuda_f32_top,

    .math_sum = cuda_f32_math_sum,

    .square_sum = cuda_f32_square_sum,
    .adamw = cuda_f32_adamw,
    .round_bf16 = cuda_f32_round_bf16,
    .not_finite = cuda_f32_not_finite,
};
