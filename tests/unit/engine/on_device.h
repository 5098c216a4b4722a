/*
 * on_device.h - what the tests of a device's operations share
 *
 * The device is the GPU that there is, or the emulated one; where there is neither, the program exits
 * with 77 before its first test. Results are compared with those of the class's definition, the
 * backend "scalar", bit for bit; the payload of a NaN is not of the class.
 */
#ifndef ON_DEVICE_H
#define ON_DEVICE_H

#include <math.h>
#include <string.h>

#include "engine/device_ops.h"
#include "numerics.h"

struct on_device {
    struct device *device;
    const struct kernels *cpu; /* the definition */
    const struct device_ops *ops;
    bool is_small; /* in the emulator, or asked for (argument "small"): small shapes only */
    bool
        is_brief; /* asked for (argument "brief"): no more launches than racecheck comes to the end of */
};

/* Exits with 77 without a device, and with 1 if it cannot be used. */
static inline struct on_device on_device_open(int argc, char **argv)
{
    struct on_device t = {0};
    const struct kernels *k;
    struct err e;

    if (device_count() == 0) {
        printf("skipped: no GPU\n");
        exit(77);
    }
    if (device_open(&t.device, "cuda", &e) ||
        device_kernels(&k, t.device, NUMERICS_F32_1, &e) ||
        kernels_choose(&t.cpu, NUMERICS_F32_1, "scalar", &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    t.ops = k->ops;
    t.is_brief = argc > 1 && strcmp(argv[1], "brief") == 0;
    t.is_small = t.is_brief || strstr(device_name(t.device), "emulated") ||
                 (argc > 1 && strcmp(argv[1], "small") == 0);
    printf("device: %s\n", device_name(t.device));
    return t;
}

/* A copy on the device, to release. */
static inline void *to_device(const struct on_device *t, const void *x, size_t bytes)
{
    void *at;
    struct err e;

    assert_ok(device_alloc(t->device, &at, bytes, "an array of a test", &e), &e);
    device_put(t->device, at, x, bytes);
    return at;
}

/* A copy on the host, to free; what was on the device is released. */
static inline void *from_device(const struct on_device *t, void *at, size_t bytes)
{
    void *x = xcalloc(bytes + 1, 1);
    struct err e;

    device_get(t->device, x, at, bytes);
    assert_ok(device_wait(t->device, &e), &e);
    device_release(t->device, at);
    return x;
}

#define PUT(t, x, n) to_device(t, x, (n) * sizeof((x)[0]))

/* got lies on the device and is released. */
static inline void assert_device_has(const struct on_device *t, float *got, const float *want,
                                     size_t n, const char *what)
{
    float *x = from_device(t, got, n * sizeof(float));

    for (size_t i = 0; i < n; i++)
        if (memcmp(&x[i], &want[i], sizeof(float)) != 0 && !(isnan(x[i]) && isnan(want[i])))
            fail_msg("%s: element %zu of %zu is %a, not %a", what, i, n, x[i], want[i]);
    free(x);
}

/* What numbers are like: of moderate size; of every size, subnormal and zero among them; or so with a
 * few that are not finite. */
enum range { MODERATE, ANY_SIZE, NOT_FINITE, RANGES };

static inline float *numbers(struct rng *r, size_t n, enum range range)
{
    float *x = some_floats(r, n, 2.0f);

    for (size_t i = 0; range != MODERATE && i < n; i++) {
        uint32_t u = rng_u32(r);

        if (u % 64 == 0)
            x[i] = u & 64 ? -0.0f : 0.0f;
        else if (range == NOT_FINITE && u % 61 == 1)
            x[i] = u & 64 ? NAN : u & 128 ? INFINITY : -INFINITY;
        else if (u % 4 == 1) /* products of two of these underflow */
            x[i] = ldexpf(x[i], -(int)(u >> 8 & 127u) - 20);
        else if (u % 8 == 2)
            x[i] = ldexpf(x[i], (int)(u >> 8 & 31u));
    }
    return x;
}

#endif
