#include "engine/device_backend.h"

#include "base/check.h"

/* A program without CUDA never has a device, so of these only the first two are called. */

enum status cuda_open(struct device **out, int index, struct err *e)
{
    (void)out;
    return err_set(
        e, ERR_UNSUPPORTED,
        "this muster was built without CUDA, so there is no device cuda:%d; build it "
        "where the CUDA Toolkit is, or use --device cpu",
        index);
}

size_t cuda_count(void)
{
    return 0;
}

void cuda_close(struct device *d)
{
    (void)d;
    CHECK(!"a device");
}

const char *cuda_name(const struct device *d)
{
    (void)d;
    CHECK(!"a device");
    return "";
}

uint64_t cuda_free_bytes(const struct device *d)
{
    (void)d;
    CHECK(!"a device");
    return 0;
}

enum status cuda_kernels(const struct kernels **out, struct device *d, enum numerics numerics,
                         struct err *e)
{
    (void)out;
    (void)d;
    return err_set(e, ERR_UNSUPPORTED, "no CUDA for class %s", numerics_name(numerics));
}

enum status cuda_alloc(struct device *d, void **out, uint64_t bytes, const char *what,
                       struct err *e)
{
    (void)d;
    (void)out;
    return err_set(e, ERR_UNSUPPORTED, "no CUDA for %s (%llu bytes)", what,
                   (unsigned long long)bytes);
}

void cuda_release(struct device *d, void *p)
{
    (void)d;
    (void)p;
    CHECK(!"a device");
}

void cuda_put(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    (void)to;
    (void)from;
    (void)bytes;
    CHECK(!"a device");
}

void cuda_get(struct device *d, void *to, const void *from, size_t bytes)
{
    cuda_put(d, to, from, bytes);
}

enum status cuda_alloc_host(struct device *d, void **out, uint64_t bytes, const char *what,
                            struct err *e)
{
    return cuda_alloc(d, out, bytes, what, e);
}

void cuda_release_host(struct device *d, void *p)
{
    cuda_release(d, p);
}

void cuda_get_later(struct device *d, void *to, const void *from, size_t bytes)
{
    cuda_put(d, to, from, bytes);
}

void cuda_mark(struct device *d, unsigned which)
{
    (void)which;
    cuda_zero(d, NULL, 0);
}

enum status cuda_await(struct device *d, unsigned which, struct err *e)
{
    (void)which;
    return cuda_wait(d, e);
}

void cuda_copy(struct device *d, void *to, const void *from, size_t bytes)
{
    cuda_put(d, to, from, bytes);
}

void cuda_zero(struct device *d, void *to, size_t bytes)
{
    cuda_put(d, to, NULL, bytes);
}

uint64_t cuda_fma_peak(struct device *d, float *to, uint64_t n)
{
    cuda_put(d, to, NULL, sizeof(*to));
    return n;
}

void cuda_watch(struct device *d, bool is_watched)
{
    (void)is_watched;
    cuda_zero(d, NULL, 0);
}

enum status cuda_wait(struct device *d, struct err *e)
{
    (void)d;
    return err_set(e, ERR_UNSUPPORTED, "no CUDA");
}
