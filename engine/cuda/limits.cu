#include "engine/cuda/launch.cuh"

#include "engine/cuda/inside.h"

namespace
{

const unsigned block = 512, blocks_each = 4, chains = 16;

/* Sixteen chains a thread, and threads enough to hide their latency. */
__global__ void __launch_bounds__(block) fma_kernel(float *to, float by, float plus, unsigned n)
{
    float acc[chains], all = 0.0f;

#pragma unroll
    for (unsigned c = 0; c < chains; c++)
        acc[c] = (float)(threadIdx.x + c);
    for (unsigned i = 0; i < n; i += 8) {
#pragma unroll
        for (unsigned j = 0; j < 8; j++)
#pragma unroll
            for (unsigned c = 0; c < chains; c++)
                acc[c] = fmaf(acc[c], by, plus);
    }
#pragma unroll
    for (unsigned c = 0; c < chains; c++)
        all = all + acc[c];
    if (all == 12345.0f || (blockIdx.x == 0 && threadIdx.x == 0))
        *to = all;
}

} // namespace

cudaError_t cuda_find_kernels(bool *has_some)
{
    cudaFuncAttributes about;
    const cudaError_t error = cudaFuncGetAttributes(&about, fma_kernel);

    *has_some = error == cudaSuccess;
    if (error == cudaSuccess)
        return error;
    (void)cudaGetLastError(); /* not of this thread's later calls */
    return error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction
               ? cudaSuccess
               : error;
}

uint64_t cuda_fma_peak(struct device *d, float *to, uint64_t n)
{
    const unsigned blocks = blocks_each * d->multiprocessors;
    const uint64_t each = (uint64_t)blocks * block * chains * 8;
    uint64_t rounds = (n + each - 1) / each;

    if (rounds == 0 || !device_is_well(d))
        return 0;
    if (rounds > 1u << 24)
        rounds = 1u << 24;
    LAUNCH(fma_kernel, blocks, block, 0, d->stream, to, 0.5f, 1.0f, (unsigned)rounds * 8);
    device_launched(d, "counting multiply-adds");
    return rounds * each;
}
