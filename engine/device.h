/*
 * engine/device.h - where arrays live and operations run: the CPU, or a GPU
 *
 * A NULL device is the CPU: its memory is the host's, and what is "put" or "got" is copied. A
 * CUDA device has memory of its own; the operations of engine/ops.h and engine/matmul.h take
 * arrays of the device whose `struct kernels` they are called with (device_kernels), and the
 * host's arrays with kernels of the host (kernels_choose). Nothing above engine/ holds arrays of
 * a device, nor needs to know which one computes.
 *
 * Order: everything that is asked of a device (operations, puts, copies) happens in the order in
 * which it was asked, though later: only device_get, device_await, device_wait and device_release wait.
 *
 * Errors: operations return nothing. The first error of a device sticks: device_wait tells it, and
 * every later use does nothing. A device that failed is to be closed; the numbers it gave since the
 * last device_wait that returned OK are worth nothing.
 *
 * Threads: a device and all arrays on it belong to one thread at a time. Who uses it next begins with
 * device_alloc, a put, a copy, device_zero or device_wait.
 */
#ifndef ENGINE_DEVICE_H
#define ENGINE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/kernels.h"

struct device;

/* "cpu" (or NULL): *out = NULL. "cuda" or "cuda:N": the first or the N-th GPU. "auto": the first GPU
 * if there is one, else the CPU. ERR_INVALID: no such word. ERR_UNSUPPORTED: this program was built
 * without CUDA, or has no kernels for that GPU. ERR_NOT_FOUND: no driver, or no such GPU; the text says
 * which. */
MUST_USE enum status device_open(struct device **out, const char *name, struct err *e);
/* Whether it is such a word, here or on another machine. ERR_INVALID. */
MUST_USE enum status device_check_name(const char *name, struct err *e);
/* Arrays on it must have been released. */
void device_close(struct device **d);

/* How many GPUs device_open would find; 0 without a driver or without CUDA in this program. */
size_t device_count(void);
/* "cpu", or "cuda:0 (NVIDIA H200)". Good until the device is closed. */
const char *device_name(const struct device *d);
/* Bytes that could be allocated now: of the host's memory for NULL. */
uint64_t device_free_bytes(const struct device *d);

/* The kernels of a class for arrays of this device; for NULL those of kernels_choose(.., "auto").
 * They live as long as the device. ERR_UNSUPPORTED: the class does not run there. */
MUST_USE enum status device_kernels(const struct kernels **out, struct device *d,
                                    enum numerics numerics, struct err *e);
/* Opens a device and chooses the kernels of a class there; on the CPU those called `backend`
 * (kernels_choose). "auto" is the CPU also where the class does not run on the GPU, or a backend was named.
 * ERR_INVALID also: a backend of the CPU for another device. *d (NULL: the CPU) is closed by the caller, after all
 * that was made with *k. */
MUST_USE enum status device_choose(struct device **d, const struct kernels **k,
                                   const char *device, enum numerics numerics,
                                   const char *backend, struct err *e);
/* The device that a kernels table works on; NULL: the CPU. */
struct device *kernels_device(const struct kernels *k);
/* The kernels of the same class for arrays of the host; k itself if it is such. For an open class of
 * a device: those of f32-1. */
const struct kernels *kernels_host(const struct kernels *k);

/* Zeroed memory, aligned to 256 bytes on a GPU and to 64 on the CPU. ERR_NO_MEMORY: the text says
 * what for, how many bytes, and how many are free. */
MUST_USE enum status device_alloc(struct device *d, void **out, uint64_t bytes,
                                  const char *what, struct err *e);
/* Waits for what still uses it. NULL does nothing. */
void device_release(struct device *d, void *p);

/* Host to device. `from` may be changed at once. */
void device_put(struct device *d, void *to, const void *from, size_t bytes);
/* Device to host; waits. */
void device_get(struct device *d, void *to, const void *from, size_t bytes);

/* Memory of the host, not zeroed, that the device reaches by itself, so that a copy into it goes on beside
 * the host's work. For NULL ordinary memory. ERR_NO_MEMORY, ERR_IO. */
MUST_USE enum status device_alloc_host(struct device *d, void **out, uint64_t bytes,
                                       const char *what, struct err *e);
/* No copy into it may be under way. NULL does nothing. */
void device_release_host(struct device *d, void *p);
/* Device to such memory; does not wait. It is there when a device_get or device_wait that was asked for later has
 * returned, or a device_await of a later mark. */
void device_get_later(struct device *d, void *to, const void *from, size_t bytes);

/* Puts mark number `which`, below DEVICE_MARKS, behind all that was asked so far, and takes it from where it was. */
#define DEVICE_MARKS 2u
void device_mark(struct device *d, unsigned which);
/* Waits until the device has come to the mark, whatever was asked since. Errors: as device_wait. */
MUST_USE enum status device_await(struct device *d, unsigned which, struct err *e);

/* Within the device. */
void device_copy(struct device *d, void *to, const void *from, size_t bytes);
void device_zero(struct device *d, void *to, size_t bytes);

/* What `muster bench` compares with: asks for n or a few more fused multiply-adds of binary32, all on
 * registers, and returns how many they are. One float is written `to`, so that none is left out. */
uint64_t device_fma_peak(struct device *d, float *to, uint64_t n);

/* From and until when a profiler that waits to be told (ncu --profile-from-start off) looks on. */
void device_watch(struct device *d, bool is_watched);

/* Waits for everything asked so far. ERR_IO: the device failed, now or earlier; the text names the
 * call and what CUDA said. */
MUST_USE enum status device_wait(struct device *d, struct err *e);

#endif
