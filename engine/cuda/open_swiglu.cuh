/*
 * engine/cuda/open_swiglu.cuh - silu(gate) up, for kernels of class open-cuda
 */
#ifndef ENGINE_CUDA_OPEN_SWIGLU_CUH
#define ENGINE_CUDA_OPEN_SWIGLU_CUH

#include "engine/cuda/open_mma.cuh"

static __device__ __forceinline__ float swiglu(float g, float u)
{
    return g / (1.0f + fast_exp2(-1.4426950408889634f * g)) * u;
}

#endif
