#include "engine/cuda/launch.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"
#include "engine/cuda/gemm_thin.cuh"
#include "engine/cuda/gemm_tile.cuh"

namespace
{

using namespace gemm;

/* ---- which kernel ---------------------------------------------------------------------------- */

template <layout LA, layout LB, typename shape, bool WIDE>
void launch_tiles(struct device *d, const job &j)
{
    const size_t tiles =
        (j.M + shape::rows - 1) / shape::rows * ((j.N + shape::cols - 1) / shape::cols);
    const size_t bytes = tile_bytes<shape>();
    void (*const kernel)(job) = tile_kernel<LA, LB, shape, WIDE>;

    (void)device_note(
        d,
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
        "asking for shared memory");
    LAUNCH(kernel, (unsigned)tiles, shape::threads, bytes, d->stream, j);
    device_launched(d, "a matrix product");
}

bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* Whether rows of an operand can be read 16 bytes at a time. */
template <layout L> bool is_wide(const void *p, size_t rows, size_t steps)
{
    return is_aligned(p) && (L == OUTER ? rows : steps) % (16 / sizeof(number_of<L>)) == 0;
}

/* What tiles of a shape take, in a time of their own: a multiprocessor computes its share of them at
 * `rate`, but as if there were `lag` more, as few do not keep it busy. Both are fitted to the times
 * of some hundred products on an H200, from 32 x 896 to 8,192 x 8,192. */
template <typename shape>
double time_of(const struct device *d, const job &j, double rate, double lag)
{
    const size_t tiles =
        (j.M + shape::rows - 1) / shape::rows * ((j.N + shape::cols - 1) / shape::cols);
    const size_t share = (tiles + d->multiprocessors - 1) / d->multiprocessors;

    return ((double)share + lag) * shape::rows * shape::cols / rate;
}

/* By the tiles that are done first. */
template <layout LA, layout LB> void multiply(struct device *d, job j)
{
    if (j.M == 0 || j.N == 0 || !device_is_well(d))
        return;
    j.is_wide = j.N % 4 == 0 && is_aligned(j.c) && is_aligned(j.add) && is_aligned(j.bias);
    if (!is_wide<LA>(j.a, j.M, j.K) || !is_wide<LB>(j.b, j.N, j.K)) {
        launch_tiles<LA, LB, odd_tiles, false>(d, j);
        return;
    }
    const struct {
        double time;
        void (*launch)(struct device *, const job &);
    } ways[] = {
        {time_of<large_tiles>(d, j, 0.99, 0.0), launch_tiles<LA, LB, large_tiles, true>},
        {time_of<wide_tiles>(d, j, 1.0, 0.48), launch_tiles<LA, LB, wide_tiles, true>},
        {time_of<middle_tiles>(d, j, 0.92, 0.3), launch_tiles<LA, LB, middle_tiles, true>},
        {time_of<low_tiles>(d, j, 0.75, 0.32), launch_tiles<LA, LB, low_tiles, true>},
        {time_of<small_tiles>(d, j, 0.58, 0.48), launch_tiles<LA, LB, small_tiles, true>},
    };
    size_t best = 0;
    for (size_t i = 1; i < sizeof(ways) / sizeof(ways[0]); i++)
        if (ways[i].time < ways[best].time)
            best = i;
    ways[best].launch(d, j);
}

template <layout LB, int ROWS> void launch_thin(struct device *d, const job &j)
{
    const unsigned warps = (unsigned)((j.M + ROWS - 1) / ROWS);
    const size_t bytes = thin_bytes<LB>(warps * ROWS);
    void (*const kernel)(job) = thin_kernel<LB, ROWS>;

    (void)device_note(
        d,
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
        "asking for shared memory");
    LAUNCH(kernel, (unsigned)((j.N + THIN_COLS - 1) / THIN_COLS), warps * 32, bytes, d->stream,
           j);
    device_launched(d, "a matrix product of few rows");
}

template <layout LB> void forward(struct device *d, const job &j)
{
    if (j.M == 0 || !device_is_well(d))
        return;
    if (j.M > 16 || !is_wide<INNER>(j.a, j.M, j.K) || !is_wide<LB>(j.b, j.N, j.K))
        multiply<INNER, LB>(d, j);
    else if (j.M == 1)
        launch_thin<LB, 1>(d, j);
    else if (j.M <= 8)
        launch_thin<LB, 2>(d, j);
    else
        launch_thin<LB, 4>(d, j);
}

/* ---- conversion ------------------------------------------------------------------------------ */

__device__ float widen(const void *from, enum dtype dtype, size_t i)
{
    unsigned h, e, m;

    if (dtype == DTYPE_F32)
        return static_cast<const float *>(from)[i];
    h = static_cast<const unsigned short *>(from)[i];
    if (dtype == DTYPE_BF16)
        return __uint_as_float(h << 16);
    /* binary16: a subnormal one is m * 2^-24, which is exact */
    e = h >> 10 & 31u;
    m = h & 1023u;
    if (e == 0)
        return (h >> 15 ? -1.0f : 1.0f) * ((float)m * 0x1p-24f);
    return __uint_as_float((h & 0x8000u) << 16 | (e == 31 ? 255u : e + 112u) << 23 | m << 13);
}

/* To f32, or to bf16 by cutting off lower halves, which the caller knows to be 0. */
__global__ void convert_kernel(void *to, enum dtype kept, const void *from, enum dtype dtype,
                               size_t n)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        float x = widen(from, dtype, i);
        if (kept == DTYPE_F32)
            static_cast<float *>(to)[i] = x;
        else
            static_cast<unsigned short *>(to)[i] = (unsigned short)(__float_as_uint(x) >> 16);
    }
}

void convert(struct device *d, void *to, enum dtype kept, const void *from, enum dtype dtype,
             size_t n)
{
    LAUNCH(convert_kernel, (unsigned)(n / 1024 < 4096 ? n / 1024 + 1 : 4096), 256, 0, d->stream,
           to, kept, from, dtype, n);
    device_launched(d, "packing a matrix");
}

} // namespace

/* ---- operations ------------------------------------------------------------------------------ */

size_t cuda_f32_bytes(size_t N, size_t K, enum dtype dtype)
{
    size_t width = dtype_bytes(dtype);

    return K > 0 && N > SIZE_MAX / width / K ? SIZE_MAX : N * K * width;
}

enum dtype cuda_f32_keeps(enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

void cuda_f32_set(struct device *d, struct packed *p, const void *W, enum dtype dtype,
                  bool is_host)
{
    const size_t n = p->N * p->K, width = dtype_bytes(dtype), kept = dtype_bytes(p->dtype);
    const size_t piece = (size_t)1 << 22;
    void *room;

    if (n == 0 || !device_is_well(d))
        return;
    if (dtype == p->dtype) {
        (is_host ? cuda_put : cuda_copy)(d, p->data, W, n * kept);
        return;
    }
    if (!is_host) {
        convert(d, p->data, p->dtype, W, dtype, n);
        return;
    }
    room = device_scratch(d, (n < piece ? n : piece) * width);
    for (size_t i = 0; room && i < n; i += piece) {
        size_t len = n - i < piece ? n - i : piece;
        cuda_put(d, room, (const char *)W + i * width, len * width);
        convert(d, (char *)p->data + i * kept, p->dtype, room, dtype, len);
    }
}

void cuda_f32_forward(struct device *d, const struct product *p, const float *x, size_t M)
{
    const job j = {p->y, x, p->W->data, p->bias, p->add, M, p->W->N, p->W->K, false, false};

    if (p->W->dtype == DTYPE_BF16)
        forward<INNER_BF16>(d, j);
    else
        forward<INNER>(d, j);
}

void cuda_f32_dx(struct device *d, float *dx, const float *dy, const float *W, size_t M,
                 size_t N, size_t K, bool is_added)
{
    const job j = {dx, dy, W, NULL, is_added ? dx : NULL, M, K, N, false, false};

    multiply<INNER, OUTER>(d, j);
}

void cuda_f32_dw(struct device *d, float *dW, const float *dy, const float *x, size_t T,
                 size_t N, size_t K)
{
    const job j = {dW, dy, x, NULL, NULL, N, K, T, true, false};

    if (T > 0)
        multiply<OUTER, OUTER>(d, j);
}
