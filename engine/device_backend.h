/*
 * engine/device_backend.h - what engine/device.h asks of CUDA (private to engine/)
 *
 * engine/cuda/device.c has these where CUDA is built in, engine/cuda_absent.c where it is not.
 * Contracts: engine/device.h. `d` is never NULL.
 */
#ifndef ENGINE_DEVICE_BACKEND_H
#define ENGINE_DEVICE_BACKEND_H

#include "engine/device.h"

MUST_USE enum status cuda_open(struct device **out, int index, struct err *e);
void cuda_close(struct device *d);
size_t cuda_count(void);
const char *cuda_name(const struct device *d);
uint64_t cuda_free_bytes(const struct device *d);
MUST_USE enum status cuda_kernels(const struct kernels **out, struct device *d,
                                  enum numerics numerics, struct err *e);
MUST_USE enum status cuda_alloc(struct device *d, void **out, uint64_t bytes, const char *what,
                                struct err *e);
void cuda_release(struct device *d, void *p);
void cuda_put(struct device *d, void *to, const void *from, size_t bytes);
void cuda_get(struct device *d, void *to, const void *from, size_t bytes);
MUST_USE enum status cuda_alloc_host(struct device *d, void **out, uint64_t bytes,
                                     const char *what, struct err *e);
void cuda_release_host(struct device *d, void *p);
void cuda_get_later(struct device *d, void *to, const void *from, size_t bytes);
void cuda_mark(struct device *d, unsigned which);
MUST_USE enum status cuda_await(struct device *d, unsigned which, struct err *e);
void cuda_copy(struct device *d, void *to, const void *from, size_t bytes);
void cuda_zero(struct device *d, void *to, size_t bytes);
void cuda_watch(struct device *d, bool is_watched);
uint64_t cuda_fma_peak(struct device *d, float *to, uint64_t n);
MUST_USE enum status cuda_wait(struct device *d, struct err *e);

#endif
