/*
 * engine/cuda/f32.h - class f32-1 on a GPU (private to engine/cuda/)
 *
 * The members of struct device_ops (engine/device_ops.h), whose contracts they have.
 */
#ifndef ENGINE_CUDA_F32_H
#define ENGINE_CUDA_F32_H

#include "engine/cuda/inside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pages: the keys of a head as columns (D, ATTENTION_PAGE), after those of all heads the values of a
 * head as rows (ATTENTION_PAGE, D). */
size_t cuda_f32_page_floats(const struct attention_shape *s);
void cuda_f32_attention(struct device *d, const struct device_attention *a);
void cuda_f32_attention_backward(struct device *d, const struct device_attention_grad *a);

void cuda_f32_add(struct device *d, float *y, const float *a, const float *b, size_t n);

#ifdef __cplusplus
}
#endif

#endif
