#include <cuda_profiler_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/cuda/inside.h"
#include "engine/cuda/open.h"
#include "engine/device_backend.h"

int device_note(struct device *d, cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return 1;
    if (d->error.code == OK)
        (void)err_set(&d->error, ERR_IO, "%s: %s: %s (%s)", d->name, what,
                      cudaGetErrorString(e), cudaGetErrorName(e));
    return 0;
}

void device_launched(struct device *d, const char *what)
{
    (void)device_note(d, cudaGetLastError(), what);
}

void *device_scratch(struct device *d, size_t bytes)
{
    if (!device_is_well(d))
        return NULL;
    if (bytes > d->scratch_bytes) {
        size_t room = bytes > (1u << 20) ? bytes : 1u << 20;

        (void)device_note(d, cudaFree(d->scratch), "releasing scratch memory"); /* waits */
        d->scratch = NULL;
        d->scratch_bytes = 0;
        if (!device_note(d, cudaMalloc(&d->scratch, room), "allocating scratch memory"))
            return NULL;
        d->scratch_bytes = room;
    }
    return d->scratch;
}

unsigned *device_counts(struct device *d)
{
    const size_t bytes = DEVICE_COUNTS * sizeof(d->counts[0]);

    if (!d->counts && device_is_well(d) &&
        device_note(d, cudaMalloc((void **)&d->counts, bytes), "allocating counts"))
        (void)device_note(d, cudaMemsetAsync(d->counts, 0, bytes, d->stream), "zeroing counts");
    return device_is_well(d) ? d->counts : NULL;
}

size_t cuda_count(void)
{
    int n = 0;

    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        (void)cudaGetLastError(); /* not of this thread's later calls */
        return 0;
    }
    return n > 0 ? (size_t)n : 0;
}

/* The kernels of the classes that a GPU computes; the others' tables stay without a name. */
static void make_tables(struct device *d)
{
    static const struct {
        enum numerics numerics;
        const struct device_ops *ops;
    } classes[] = {{NUMERICS_F32_1, &device_ops_f32}, {NUMERICS_OPEN_CUDA, &device_ops_open}};

    d->tables = xcalloc(NUMERICS_COUNT, sizeof(d->tables[0]));
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        struct kernels *k = &d->tables[classes[i].numerics];

        k->name = "cuda";
        k->numerics = classes[i].numerics;
        k->device = d;
        k->ops = classes[i].ops;
        k->host = kernels_best();
    }
}

/* Compute capability: clusters, and kernels that begin before the last one has ended. */
#define LEAST_MAJOR 9

/* Whether the program's kernels run on the GPU that was just chosen. */
static enum status check_kernels(const struct cudaDeviceProp *prop, int index, struct err *e)
{
    bool has_some = false;
    cudaError_t error;

    if (prop->major < LEAST_MAJOR)
        return err_set(
            e, ERR_UNSUPPORTED,
            "cuda:%d (%s) has compute capability %d.%d, muster's kernels are for %d.0 "
            "and later; --device cpu computes without",
            index, prop->name, prop->major, prop->minor, LEAST_MAJOR);
    error = cuda_find_kernels(&has_some);
    if (error != cudaSuccess)
        return err_set(e, ERR_IO, "cuda:%d (%s): %s", index, prop->name,
                       cudaGetErrorString(error));
    return has_some
               ? OK
               : err_set(e, ERR_UNSUPPORTED,
                         "this muster has no kernels for cuda:%d (%s, compute capability "
                         "%d.%d): build it with -DCMAKE_CUDA_ARCHITECTURES=%d%d-real, or use "
                         "--device cpu",
                         index, prop->name, prop->major, prop->minor, prop->major, prop->minor);
}

static bool make_stream(struct device *d)
{
    bool is_well = device_note(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
                               "making a stream");

    for (unsigned i = 0; i < DEVICE_MARKS; i++)
        is_well = is_well &&
                  device_note(d, cudaEventCreateWithFlags(&d->marks[i], cudaEventDisableTiming),
                              "making an event");
    return is_well;
}

enum status cuda_open(struct device **out, int index, struct err *e)
{
    struct cudaDeviceProp prop;
    struct device *d;
    int n = 0;
    enum status st;
    cudaError_t error = cudaGetDeviceCount(&n);

    if (error == cudaSuccess && index >= n)
        error = cudaErrorInvalidDevice;
    if (error == cudaSuccess)
        error = cudaSetDevice(index);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&prop, index);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver)
            return err_set(
                e, ERR_NOT_FOUND,
                "no device cuda:%d: this machine has no GPU with a driver that knows "
                "CUDA %d; --device cpu computes without",
                index, CUDART_VERSION / 1000);
        return err_set(e, ERR_NOT_FOUND,
                       "no device cuda:%d: %s (this machine has %d, counted from 0)", index,
                       cudaGetErrorString(error), n);
    }
    st = check_kernels(&prop, index, e);
    if (st)
        return st;
    d = xcalloc(1, sizeof(*d));
    d->index = index;
    d->multiprocessors = (unsigned)prop.multiProcessorCount;
    d->shared_max = prop.sharedMemPerBlockOptin;
    d->reads_host = prop.pageableMemoryAccessUsesHostPageTables != 0;
    snprintf(d->name, sizeof(d->name), "cuda:%d (%s)", index, prop.name);
    make_tables(d);
    if (!make_stream(d)) {
        st = err_set(e, ERR_IO, "%s", d->error.text);
        cuda_close(d);
        return st;
    }
    *out = d;
    return OK;
}

void cuda_close(struct device *d)
{
    if (d->stream)
        (void)cudaStreamSynchronize(d->stream);
    open_graphs_close(d);
    open_products_close(d);
    for (unsigned i = 0; i < DEVICE_MARKS; i++)
        if (d->marks[i])
            (void)cudaEventDestroy(d->marks[i]);
    if (d->stream)
        (void)cudaStreamDestroy(d->stream);
    (void)cudaFree(d->scratch);
    (void)cudaFree(d->counts);
    free(d->tables);
    free(d);
}

const char *cuda_name(const struct device *d)
{
    return d->name;
}

uint64_t cuda_free_bytes(const struct device *d)
{
    size_t free_bytes = 0, total = 0;

    /* Of the device that this thread has chosen, which may be another. */
    return cudaSetDevice(d->index) == cudaSuccess &&
                   cudaMemGetInfo(&free_bytes, &total) == cudaSuccess
               ? free_bytes
               : 0;
}

enum status cuda_kernels(const struct kernels **out, struct device *d, enum numerics numerics,
                         struct err *e)
{
    if (numerics == NUMERICS_OPEN_CUDA) {
        enum status st = open_products_load(e);
        if (st)
            return st;
    }
    if (!d->tables[numerics].name)
        return err_set(e, ERR_UNSUPPORTED, "class %s does not run on %s",
                       numerics_name(numerics), d->name);
    *out = &d->tables[numerics];
    return OK;
}

/* The thread that asks may be another than last time. */
static int use(struct device *d)
{
    return device_is_well(d) && device_note(d, cudaSetDevice(d->index), "choosing the device");
}

enum status cuda_alloc(struct device *d, void **out, uint64_t bytes, const char *what,
                       struct err *e)
{
    cudaError_t error;

    if (!use(d))
        return err_set(e, d->error.code, "%s", d->error.text);
    error = bytes > SIZE_MAX ? cudaErrorMemoryAllocation
                             : cudaMalloc(out, bytes ? (size_t)bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* an allocation that failed does not spoil the device */
        *out = NULL;
        return err_set(e, ERR_NO_MEMORY, "%s has no memory for %s (%llu bytes, %llu free)",
                       d->name, what, (unsigned long long)bytes,
                       (unsigned long long)cuda_free_bytes(d));
    }
    if (!device_note(d, error, "allocating memory"))
        return err_set(e, d->error.code, "%s", d->error.text);
    cuda_zero(d, *out, (size_t)bytes);
    return OK;
}

void cuda_release(struct device *d, void *p)
{
    if (p)
        (void)device_note(d, cudaFree(p), "releasing memory"); /* cudaFree waits */
}

static void copy(struct device *d, void *to, const void *from, size_t bytes,
                 enum cudaMemcpyKind kind)
{
    if (bytes > 0 && use(d))
        (void)device_note(d, cudaMemcpyAsync(to, from, bytes, kind, d->stream), "copying");
}

/* From pageable memory, the call returns when the bytes were taken; but a device that walks the host's page
 * tables (Grace Hopper) needs no copy in between, and CUDA does not promise one. */
void cuda_put(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyHostToDevice);
    if (d->reads_host && bytes > 0 && device_is_well(d))
        (void)device_note(d, cudaStreamSynchronize(d->stream), "waiting for a copy");
}

void cuda_get(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyDeviceToHost);
    if (device_is_well(d))
        (void)device_note(d, cudaStreamSynchronize(d->stream), "waiting for a copy");
    if (!device_is_well(d) && bytes > 0)
        memset(to, 0, bytes); /* never what was there before */
}

enum status cuda_alloc_host(struct device *d, void **out, uint64_t bytes, const char *what,
                            struct err *e)
{
    cudaError_t error;

    if (!use(d))
        return err_set(e, d->error.code, "%s", d->error.text);
    error = bytes > SIZE_MAX
                ? cudaErrorMemoryAllocation
                : cudaHostAlloc(out, bytes ? (size_t)bytes : 1, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        *out = NULL;
        return err_set(e, ERR_NO_MEMORY,
                       "no memory of the host that %s reaches for %s (%llu bytes)", d->name,
                       what, (unsigned long long)bytes);
    }
    return device_note(d, error, "allocating memory of the host")
               ? OK
               : err_set(e, d->error.code, "%s", d->error.text);
}

void cuda_release_host(struct device *d, void *p)
{
    if (p)
        (void)device_note(d, cudaFreeHost(p), "releasing memory of the host");
}

void cuda_get_later(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyDeviceToHost);
}

void cuda_mark(struct device *d, unsigned which)
{
    if (use(d))
        (void)device_note(d, cudaEventRecord(d->marks[which], d->stream), "marking");
}

enum status cuda_await(struct device *d, unsigned which, struct err *e)
{
    if (use(d))
        (void)device_note(d, cudaEventSynchronize(d->marks[which]), "waiting");
    return device_is_well(d) ? OK : err_set(e, d->error.code, "%s", d->error.text);
}

void cuda_copy(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyDeviceToDevice);
}

void cuda_zero(struct device *d, void *to, size_t bytes)
{
    if (bytes > 0 && use(d))
        (void)device_note(d, cudaMemsetAsync(to, 0, bytes, d->stream), "zeroing");
}

void cuda_watch(struct device *d, bool is_watched)
{
    if (use(d))
        (void)device_note(d, is_watched ? cudaProfilerStart() : cudaProfilerStop(),
                          "telling a profiler");
}

enum status cuda_wait(struct device *d, struct err *e)
{
    if (use(d))
        (void)device_note(d, cudaStreamSynchronize(d->stream), "waiting");
    return device_is_well(d) ? OK : err_set(e, d->error.code, "%s", d->error.text);
}
