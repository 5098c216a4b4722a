#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

namespace
{

const unsigned block = 256;

/* Elements are taken in strides of the grid, so that any n fits. */
unsigned blocks_of(size_t n)
{
    size_t blocks = (n + block - 1) / block;
    return (unsigned)(blocks < 65535 ? blocks : 65535);
}

__global__ void add_kernel(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block)
        y[i] = a[i] + b[i];
}

} // namespace

void cuda_f32_add(struct device *d, float *y, const float *a, const float *b, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(add_kernel, blocks_of(n), block, 0, d->stream, y, a, b, n);
    device_launched(d, "add");
}
