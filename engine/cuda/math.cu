#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

namespace
{

const unsigned block = 256, blocks = 1024;

/* Integers in any order have one sum. */
__global__ void math_sum_kernel(unsigned long long *sum, int which, uint32_t first,
                                uint32_t step, uint64_t n)
{
    unsigned long long mine = 0;

    for (uint64_t i = blockIdx.x * (uint64_t)block + threadIdx.x; i < n;
         i += (uint64_t)gridDim.x * block) {
        const uint32_t u = first + (uint32_t)i * step;
        const float x = lane_float(u);
        const float y = which == 0 ? lane_exp(x) : which == 1 ? lane_log(x) : lane_log1p(x);

        mine += (unsigned long long)(lane_bits(y) ^ 0x9e3779b9u) * (2ull * u + 1);
    }
    atomicAdd(sum, mine);
}

} // namespace

void cuda_f32_math_sum(struct device *d, uint64_t *sum, int which, uint32_t first,
                       uint32_t step, uint64_t n)
{
    const uint64_t want = (n + block - 1) / block;

    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(math_sum_kernel, (unsigned)(want < blocks ? want : blocks), block, 0, d->stream,
           reinterpret_cast<unsigned long long *>(sum), which, first, step, n);
    device_launched(d, "the elementary functions");
}
