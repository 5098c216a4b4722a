#include "engine/device.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/memory.h"
#include "engine/cpu/table.h"
#include "engine/device_backend.h"
#include "engine/device_ops.h"

/* What is large lies on huge pages where the system has them: products walk down columns, whose
 * rows would be a page each. */
enum { CPU_ALIGN = 64, HUGE_PAGE = 2 << 20, HUGE_LEAST = 4 << 20 };

struct device *kernels_device(const struct kernels *k)
{
    return k->device;
}

const struct kernels *kernels_host(const struct kernels *k)
{
    return k->device ? k->host : k;
}

enum { ON_CPU = -1, ON_ANY = -2 }; /* beside the number of a GPU */

static enum status parse_name(int *which, const char *name, struct err *e)
{
    const char *digits;
    unsigned long index = 0;
    char *end;

    *which = !name || strcmp(name, "cpu") == 0 ? ON_CPU
             : strcmp(name, "auto") == 0       ? ON_ANY
                                               : 0;
    if (*which < 0 || strcmp(name, "cuda") == 0)
        return OK;
    digits = strncmp(name, "cuda:", 5) == 0 ? name + 5 : "";
    if (*digits >= '0' && *digits <= '9')
        index = strtoul(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || index > 1023)
        return err_set(e, ERR_INVALID,
                       "no device '%s': there are cpu, cuda, cuda:N (N from 0) and auto", name);
    *which = (int)index;
    return OK;
}

enum status device_check_name(const char *name, struct err *e)
{
    int which;

    return parse_name(&which, name, e);
}

enum status device_open(struct device **out, const char *name, struct err *e)
{
    int which;
    enum status st = parse_name(&which, name, e);

    *out = NULL;
    if (!st && which == ON_ANY)
        which = device_count() > 0 ? 0 : ON_CPU;
    return st || which == ON_CPU ? st : cuda_open(out, which, e);
}

void device_close(struct device **d)
{
    if (*d)
        cuda_close(*d);
    *d = NULL;
}

size_t device_count(void)
{
    return cuda_count();
}

const char *device_name(const struct device *d)
{
    return d ? cuda_name(d) : "cpu";
}

uint64_t device_free_bytes(const struct device *d)
{
    if (d)
        return cuda_free_bytes(d);
    return memory_available();
}

enum status device_kernels(const struct kernels **out, struct device *d, enum numerics numerics,
                           struct err *e)
{
    *out = NULL;
    return d ? cuda_kernels(out, d, numerics, e) : kernels_choose(out, numerics, NULL, e);
}

enum status device_alloc(struct device *d, void **out, uint64_t bytes, const char *what,
                         struct err *e)
{
    const size_t align = bytes < HUGE_LEAST ? CPU_ALIGN : HUGE_PAGE;
    const size_t n = (size_t)((bytes + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN);

    *out = NULL;
    if (d)
        return cuda_alloc(d, out, bytes, what, e);
    if (bytes > SIZE_MAX - HUGE_PAGE || posix_memalign(out, align, n ? n : CPU_ALIGN))
        return err_set(e, ERR_NO_MEMORY, "no memory for %s (%llu bytes)", what,
                       (unsigned long long)bytes);
    if (align == HUGE_PAGE)
        (void)madvise(*out, n, MADV_HUGEPAGE); /* a hint; it works without */
    memset(*out, 0, n);
    return OK;
}

enum status device_choose(struct device **d, const struct kernels **k, const char *device,
                          enum numerics numerics, const char *backend, struct err *e)
{
    const bool is_named = backend && strcmp(backend, "auto") != 0;
    const bool is_auto = device && strcmp(device, "auto") == 0;
    enum status st = device_open(d, is_auto && is_named ? "cpu" : device, e);

    *k = NULL;
    if (!st && *d && is_named)
        st = err_set(e, ERR_INVALID, "kernels '%s' are of the CPU, not of %s", backend,
                     device_name(*d));
    if (!st && *d)
        st = device_kernels(k, *d, numerics, e);
    if (st == ERR_UNSUPPORTED && is_auto) {
        device_close(d);
        st = OK;
    }
    if (!st && !*d)
        st = kernels_choose(k, numerics, backend, e);
    if (st)
        device_close(d);
    return st;
}

void device_release(struct device *d, void *p)
{
    if (d)
        cuda_release(d, p);
    else
        free(p);
}

void device_put(struct device *d, void *to, const void *from, size_t bytes)
{
    if (d)
        cuda_put(d, to, from, bytes);
    else if (bytes > 0)
        memcpy(to, from, bytes);
}

void device_get(struct device *d, void *to, const void *from, size_t bytes)
{
    if (d)
        cuda_get(d, to, from, bytes);
    else if (bytes > 0)
        memcpy(to, from, bytes);
}

enum status device_alloc_host(struct device *d, void **out, uint64_t bytes, const char *what,
                              struct err *e)
{
    *out = NULL;
    return d ? cuda_alloc_host(d, out, bytes, what, e)
             : device_alloc(NULL, out, bytes, what, e);
}

void device_release_host(struct device *d, void *p)
{
    if (d)
        cuda_release_host(d, p);
    else
        free(p);
}

void device_get_later(struct device *d, void *to, const void *from, size_t bytes)
{
    if (d)
        cuda_get_later(d, to, from, bytes);
    else if (bytes > 0)
        memcpy(to, from, bytes);
}

void device_mark(struct device *d, unsigned which)
{
    CHECK(which < DEVICE_MARKS);
    if (d)
        cuda_mark(d, which);
}

enum status device_await(struct device *d, unsigned which, struct err *e)
{
    CHECK(which < DEVICE_MARKS);
    return d ? cuda_await(d, which, e) : OK;
}

void device_copy(struct device *d, void *to, const void *from, size_t bytes)
{
    if (d)
        cuda_copy(d, to, from, bytes);
    else if (bytes > 0)
        memmove(to, from, bytes);
}

void device_zero(struct device *d, void *to, size_t bytes)
{
    if (d)
        cuda_zero(d, to, bytes);
    else if (bytes > 0)
        memset(to, 0, bytes);
}

uint64_t device_fma_peak(struct device *d, float *to, uint64_t n)
{
    const size_t unit = 192;

    if (d)
        return cuda_fma_peak(d, to, n);
    n = (n + unit - 1) / unit * unit;
    *to = kernels_best()->fma_peak((size_t)n);
    return n;
}

uint64_t device_next_id(void)
{
    static _Atomic uint64_t last;

    return atomic_fetch_add(&last, 1) + 1;
}

void device_watch(struct device *d, bool is_watched)
{
    if (d)
        cuda_watch(d, is_watched);
}

enum status device_wait(struct device *d, struct err *e)
{
    return d ? cuda_wait(d, e) : OK;
}
