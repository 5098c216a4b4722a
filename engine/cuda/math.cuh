/*
 * engine/cuda/math.cuh - the class's elementary functions and sums, for kernels
 *
 * The text of engine/cpu/math_lanes.h, which is the definition, compiled for the GPU.
 */
#ifndef ENGINE_CUDA_MATH_CUH
#define ENGINE_CUDA_MATH_CUH

#include "engine/cuda/launch.cuh"

#include "engine/cpu/math_lanes.h"

#endif
