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

void cuda_f32_add(struct device *d, float *y, const float *a, const float *b, size_t n);

#ifdef __cplusplus
}
#endif

#endif
