/*
 * engine/cuda/launch.cuh - what the kernels need of CUDA, in words that the emulator has too
 *
 * Every .cu file includes this instead of NVIDIA's headers, starts its kernels by LAUNCH, and takes
 * dynamic shared memory by DYNAMIC_SHARED; then it can be compiled for the GPU by nvcc and for the
 * CPU by a C++ compiler with tests/support/cuda_emulator in front of the include path.
 *
 *   LAUNCH((kernel<64, 8>), grid, block, shared_bytes, stream, arguments...)
 *
 * LAUNCH_EARLY is the same for a kernel that may begin while the one before it on the stream still runs
 * (programmatic dependent launch): each of its threads calls await_before() before it reads or
 * writes what an earlier kernel writes or reads, on every path, and before it may only read what no
 * kernel of this stream writes: weights, or keys and values of steps that have ended. Any kernel may call
 * begin_next() when it no longer minds the next one's blocks beside its own; without it they
 * come as its own blocks end. A kernel that calls await_before() may be started by LAUNCH too.
 *
 * LAUNCH_CLUSTER is LAUNCH_EARLY for a kernel whose blocks work together in clusters: each `cluster`
 * blocks (at most 8) that follow each other in x, of which the grid has a multiple. cluster_barrier() is a
 * barrier of all their threads, and cluster_read() reads what block `rank` of the cluster has at the
 * same place of its dynamic shared memory; a block that may still be read from must not end.
 *
 * Copies to shared memory that run beside the arithmetic: a thread starts some by copy_async, ends
 * a group of them by copy_commit, and copy_wait<n> waits until all but its n last groups are there
 * (for this thread: the others need a barrier as well).
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
#define LAUNCH_EARLY LAUNCH
#define LAUNCH_CLUSTER(kernel, cluster, grid, block, shared, stream, ...)                      \
    ((void)(stream),                                                                           \
     (void)emulator_call_cluster(cluster, kernel, grid, block, shared, __VA_ARGS__))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulator_shared())
#else
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define LAUNCH_EARLY(kernel, grid, block, shared, stream, ...)                                 \
    launch_early(1, kernel, grid, block, shared, stream, __VA_ARGS__)
#define LAUNCH_CLUSTER(kernel, cluster, grid, block, shared, stream, ...)                      \
    launch_early(cluster, kernel, grid, block, shared, stream, __VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                                             \
    extern __shared__ __align__(128) unsigned char name##_bytes[];                             \
    type *name = reinterpret_cast<type *>(name##_bytes)
#endif

#ifndef MUSTER_CUDA_EMULATED
/* Errors are found as after LAUNCH, by cudaGetLastError. */
template <typename... TAKES, typename... GIVEN>
static inline void launch_early(unsigned cluster, void (*kernel)(TAKES...), dim3 grid,
                                dim3 block, size_t shared, cudaStream_t stream, GIVEN... given)
{
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};

    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = cluster;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = cluster > 1 ? 2 : 1;
    /* The same for all: a multiprocessor that has to divide its memory anew runs empty first. */
    (void)cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
    (void)cudaLaunchKernelEx(&config, kernel, static_cast<TAKES>(given)...);
}
#endif

static __device__ __forceinline__ void await_before(void)
{
#if !defined(MUSTER_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void begin_next(void)
{
#if !defined(MUSTER_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

static __device__ __forceinline__ void cluster_barrier(void)
{
#ifdef MUSTER_CUDA_EMULATED
    emulator_cluster_barrier();
#elif __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::
                     : "memory");
#endif
}

/* at: aligned to 16 bytes, and this block's own. */
static __device__ __forceinline__ float4 cluster_read(const float *at, unsigned rank)
{
#ifdef MUSTER_CUDA_EMULATED
    return *reinterpret_cast<const float4 *>(emulator_cluster_at(at, rank));
#else
    float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n\t.reg .u32 there;\n\tmapa.shared::cluster.u32 there, %4, %5;\n\t"
                 "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n\t}"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(at))), "r"(rank)
                 : "memory");
#endif
    return x;
#endif
}

/* Asks for 128 bytes, which the level-2 cache then has. For what is read after await_before() and was
 * there before. */
static __device__ __forceinline__ void ask_for(const void *at)
{
#ifdef MUSTER_CUDA_EMULATED
    (void)at;
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

/* BYTES is 16 or 4, and both addresses are multiples of it. Where nothing `is_there`, zeros come and
 * `from` is not read. */
template <int BYTES>
static __device__ __forceinline__ void copy_async(void *to, const void *from, bool is_there)
{
    static_assert(BYTES == 16 || BYTES == 4, "a size that the instruction has");
#ifdef MUSTER_CUDA_EMULATED
    emulator_copy_async(to, from, BYTES, is_there);
#else
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    unsigned bytes = is_there ? BYTES : 0;

    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                     "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from),
                     "r"(bytes)
                     : "memory");
#endif
}

static __device__ __forceinline__ void copy_commit()
{
#ifdef MUSTER_CUDA_EMULATED
    emulator_copy_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int GROUPS> static __device__ __forceinline__ void copy_wait()
{
#ifdef MUSTER_CUDA_EMULATED
    emulator_copy_wait(GROUPS);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

#endif
