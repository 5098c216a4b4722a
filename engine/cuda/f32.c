#include "engine/cuda/f32.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/device_backend.h"

/* Of each head the keys as columns (D, ATTENTION_PAGE); behind those of all heads the values as rows
 * (ATTENTION_PAGE, D): struct page_place of attention.cu. */
static void page_read(struct device *d, float *key, float *value, const float *layer, size_t at,
                      size_t G, size_t D)
{
    const size_t n = 2 * G * ATTENTION_PAGE * D;
    float *page = xmalloc(n * sizeof(*page));

    cuda_get(d, page, layer, n * sizeof(*page));
    for (size_t g = 0; g < G; g++) {
        const float *keys = page + g * ATTENTION_PAGE * D;

        for (size_t i = 0; i < D; i++)
            key[g * D + i] = keys[i * ATTENTION_PAGE + at];
        memcpy(value + g * D, page + ((G + g) * ATTENTION_PAGE + at) * D, D * sizeof(*page));
    }
    free(page);
}

const struct device_ops device_ops_f32 = {
    .bytes = cuda_f32_bytes,
    .keeps = cuda_f32_keeps,
    .set = cuda_f32_set,
    .forward = cuda_f32_forward,
    .dx = cuda_f32_dx,
    .dw = cuda_f32_dw,
    .bias_backward = cuda_f32_bias_backward,

    .add = cuda_f32_add,
    .page_floats = cuda_f32_page_floats,
    .page_read = page_read,
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
