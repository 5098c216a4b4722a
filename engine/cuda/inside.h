/*
 * engine/cuda/inside.h - what the CUDA backend shares among its files (private to engine/cuda/)
 *
 * Host code is C and kernels are .cu files, whose launchers are the C functions below: each queues
 * kernels on the device's stream and returns. A launcher begins with `if (!device_is_well(d))
 * return;` and ends with device_launched(), which notes the first error.
 */
#ifndef ENGINE_CUDA_INSIDE_H
#define ENGINE_CUDA_INSIDE_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "engine/device_backend.h"
#include "engine/device_ops.h"

struct device {
    int index;
    cudaStream_t stream;
    cudaEvent_t marks[DEVICE_MARKS]; /* owned */
    char name[300];
    struct err error;       /* the first one; code OK: none yet */
    struct kernels *tables; /* owned, one per numerics class; without a name: not there */
    unsigned multiprocessors;
    size_t shared_max; /* bytes of dynamic shared memory that a block may have */
    void *scratch;     /* owned; device_scratch */
    size_t scratch_bytes;
    struct open_products *products; /* owned, open_products.c; NULL: not used yet */
    struct open_graphs *graphs;     /* owned, open_graphs.c; NULL: not used yet */
    unsigned *counts;               /* owned, the device's: device_counts; NULL: not used yet */
    bool is_capturing;              /* what is launched goes to a graph */
    bool reads_host; /* memory of the host where it lies: then a copy from there may be late */
};

static inline int device_is_well(const struct device *d)
{
    return d->error.code == OK;
}

/* Notes `what` failed with e, if e is an error and the first one. Returns whether e is success. */
int device_note(struct device *d, cudaError_t e, const char *what);
/* After a launch. */
void device_launched(struct device *d, const char *what);

/* Memory of the device for the kernels that are launched next; whoever asks again may get the same.
 * NULL: the device failed, or has none left. */
void *device_scratch(struct device *d, size_t bytes);

/* Zeros of the device, DEVICE_COUNTS of them, that a kernel leaves as zeros: blocks which have ended, by
 * which the last one knows itself. Not to be asked for the first time within a graph. NULL: it failed. */
#define DEVICE_COUNTS 512u
unsigned *device_counts(struct device *d);

/* Whether this program has kernels for the device at hand; another error than that there are none is
 * returned. limits.cu */
cudaError_t cuda_find_kernels(bool *has_some);

extern const struct device_ops device_ops_f32;  /* class f32-1 */
extern const struct device_ops device_ops_open; /* class open-cuda: open.c */

#ifdef __cplusplus
}
#endif

#endif
