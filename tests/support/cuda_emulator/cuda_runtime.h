/*
 * tests/support/cuda_emulator/cuda_runtime.h - CUDA kernels on the CPU, for tests
 *
 * Found in place of NVIDIA's header when MUSTER_CUDA is "emulated". It has what engine/cuda/ uses
 * of the language and of the run time, so that the kernels' logic can be tested on machines
 * without a GPU: grids run block by block (or cluster by cluster), a block's threads are fibers of one system thread that
 * change at barriers and warp exchanges. Every second launch runs the threads of a block in
 * descending order, so that a missing barrier shows. Dynamic shared memory begins as NaN.
 *
 * What it does not show: speed, alignment faults, memory of a GPU out of bounds (AddressSanitizer
 * does, arrays being the host's), and races within the same order.
 *
 * A barrier that not all threads of a block reach, and a warp exchange whose mask names a lane that
 * does not take part, end the program with a message.
 */
#ifndef TESTS_CUDA_EMULATOR_H
#define TESTS_CUDA_EMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the run time, as far as it is used ---- */

#define CUDART_VERSION 13000

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorLaunchFailure = 719
} cudaError_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaHostAllocDefault = 0 };
typedef struct emulated_stream *cudaStream_t;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize;
    int pageableMemoryAccessUsesHostPageTables;
};
struct cudaFuncAttributes {
    int binaryVersion;
};

cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int i);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaMalloc(void **p, size_t n);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t s);
/* Time stands still here. */
typedef struct emulated_event *cudaEvent_t;
cudaError_t cudaEventCreate(cudaEvent_t *e);
#define cudaEventDisableTiming 2u
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);

/* Launches, copies and products that are captured are kept, not run. */
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
/* Makes the next call of the run time fail like this, once: for tests of errors. */
void emulator_fail_next(cudaError_t e);
/* Another GPU than the one of compute capability 9.0 with kernels for it that it is otherwise. */
void emulator_be(int major, bool has_kernels);
/* How often something was timed (cudaEventElapsedTime). */
unsigned long emulator_timed(void);

#ifdef __cplusplus
}

/* ---- the language ---- */

#include <cmath>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__      static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n)  __attribute__((aligned(n)))
#define __CUDA_ARCH__ 0

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct uint3 {
    unsigned x, y, z;
};
struct __align__(8) float2
{
    float x, y;
};
struct __align__(16) float4
{
    float x, y, z, w;
};
struct __align__(8) uint2
{
    unsigned x, y;
};
struct __align__(16) uint4
{
    unsigned x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* Where the running fiber is. */
struct emulated_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    unsigned rank; /* of the block in its cluster */
};
extern emulated_place *emulator_place;
#define threadIdx (emulator_place->thread)
#define blockIdx  (emulator_place->block)
#define blockDim  (emulator_place->block_dim)
#define gridDim   (emulator_place->grid_dim)

void emulator_barrier();
/* Gives the bytes to the lanes of the mask, which read lane `from`'s. */
void emulator_exchange(unsigned mask, void *to, const void *mine, size_t bytes, unsigned from);
void emulator_warp_barrier(unsigned mask);
/* Gives the bytes to all lanes of a whole warp, which get what each of them gave, one after the other. */
void emulator_gather(void *all, const void *mine, size_t bytes);
void *emulator_shared();
void emulator_cluster_barrier();
/* What is at `at` in the running block's dynamic shared memory, in that of block `rank`. */
const void *emulator_cluster_at(const void *at, unsigned rank);
/* Copies wait until they are waited for: who reads too early sees what was there before. */
void emulator_copy_async(void *to, const void *from, size_t bytes, bool is_there);
void emulator_copy_commit();
void emulator_copy_wait(unsigned groups);
/* Blocks of a cluster of more than one have whole warps, and share what is __shared__ by mistake. */
cudaError_t emulator_launch(unsigned cluster, dim3 grid, dim3 block, size_t shared,
                            const std::function<void()> &kernel);
/* Runs it, or keeps it for the graph that is being captured. */
cudaError_t emulator_enqueue(const std::function<cudaError_t()> &work);

#define __syncthreads() emulator_barrier()
#define __threadfence() ((void)0) /* blocks run one after the other */
#define __syncwarp(...) emulator_warp_barrier(0xffffffffu)

static inline unsigned emulator_lane()
{
    const emulated_place *p = emulator_place;
    return (p->thread.x + p->block_dim.x * (p->thread.y + p->block_dim.y * p->thread.z)) % 32;
}
template <typename T> T emulator_shuffle(unsigned mask, T x, unsigned from)
{
    T y;
    emulator_exchange(mask, &y, &x, sizeof(x), from);
    return y;
}
template <typename T> void emulator_exchange_all(T (&all)[32], const T &mine)
{
    emulator_gather(all, &mine, sizeof(mine));
}
template <typename T> T __shfl_sync(unsigned mask, T x, int from, int width = 32)
{
    unsigned lane = emulator_lane(), w = (unsigned)width;
    return emulator_shuffle(mask, x, lane / w * w + (unsigned)from % w);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T x, int by, int width = 32)
{
    unsigned lane = emulator_lane(), from = lane ^ (unsigned)by, w = (unsigned)width;
    return emulator_shuffle(mask, x, from / w == lane / w ? from : lane);
}
template <typename T> T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32)
{
    unsigned lane = emulator_lane(), w = (unsigned)width;
    return emulator_shuffle(mask, x, lane % w + by < w ? lane + by : lane);
}
template <typename T> T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32)
{
    unsigned lane = emulator_lane(), w = (unsigned)width;
    return emulator_shuffle(mask, x, lane % w >= by ? lane - by : lane);
}
static inline unsigned __ballot_sync(unsigned mask, int is)
{
    unsigned all = 0;
    for (unsigned i = 0; i < 32; i++) /* of lanes outside the mask nothing is asked */
        if (mask >> i & 1u)
            all |= (unsigned)(emulator_shuffle(mask, is, i) != 0) << i;
    return all;
}
static inline int __any_sync(unsigned mask, int is)
{
    return __ballot_sync(mask, is) != 0;
}

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof(u));
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
/* Fibers change only at barriers, so plain arithmetic is atomic. */
template <typename T> T atomicAdd(T *at, T x)
{
    T old = *at;
    *at = old + x;
    return old;
}

template <typename... A, typename... B>
cudaError_t emulator_call_cluster(unsigned cluster, void (*kernel)(A...), dim3 grid, dim3 block,
                                  size_t shared, B... args)
{
    return emulator_enqueue([=] {
        return emulator_launch(cluster, grid, block, shared, [=] { kernel(args...); });
    });
}
template <typename... A, typename... B>
cudaError_t emulator_call(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, B... args)
{
    return emulator_call_cluster(1, kernel, grid, block, shared, args...);
}
cudaError_t emulator_kernels(struct cudaFuncAttributes *about);
template <typename... A>
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *about, void (*)(A...))
{
    return emulator_kernels(about);
}
template <typename... A>
cudaError_t cudaFuncSetAttribute(void (*)(A...), enum cudaFuncAttribute, int)
{
    return cudaSuccess;
}

#endif
#endif
