/*
 * engine/cuda/launch.cuh - what the kernels need of CUDA, in words that the emulator has too
 *
 * Every .cu file includes this instead of NVIDIA's headers, starts its kernels by LAUNCH, and takes
 * dynamic shared memory by DYNAMIC_SHARED; then it can be compiled for the GPU by nvcc and for the
 * CPU by a C++ compiler with tests/support/cuda_emulator in front of the include path.
 *
 *   LAUNCH((kernel<64, 8>), grid, block, shared_bytes, stream, arguments...)
 *
 * Class f32-1: compiled with -fmad=false, IEEE division and square root, subnormals kept; a fused
 * multiply-add is where fmaf() stands and nowhere else.
 */
#ifndef ENGINE_CUDA_LAUNCH_CUH
#define ENGINE_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#ifdef MUSTER_CUDA_EMULATED
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    ((void)(stream), (void)emulator_call(kernel, grid, block, shared, __VA_ARGS__))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulator_shared())
#else
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                                             \
    extern __shared__ __align__(128) unsigned char name##_bytes[];                             \
    type *name = reinterpret_cast<type *>(name##_bytes)
#endif

#endif
