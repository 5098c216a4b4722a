#include "engine/device_ops.h"

#include <string.h>

#include "engine/cpu/table.h"
#include "support/test.h"

/* The GPU that there is, or the emulated one; NULL: neither, and the program exits with 77. */
static struct device *device;

static void numbers_go_there_and_back(void **state)
{
    const struct kernels *k;
    float x[300], y[300];
    void *at;
    struct err e;

    (void)state;
    assert_int_equal(device_kernels(&k, device, NUMERICS_F32_1, &e), OK);
    assert_ptr_equal(kernels_device(k), device);
    assert_int_equal(device_alloc(device, &at, sizeof(x), "numbers", &e), OK);
    for (size_t i = 0; i < 300; i++)
        x[i] = (float)i;
    device_put(device, at, x, sizeof(x));
    k->ops->add(device, at, at, at, 300);
    device_get(device, y, at, sizeof(y));
    assert_int_equal(device_wait(device, &e), OK);
    for (size_t i = 0; i < 300; i++)
        assert_true(y[i] == 2.0f * (float)i);
    device_release(device, at);
}

#ifdef MUSTER_CUDA_EMULATED
#include <cuda_runtime.h>

/* A GPU that is too old, and one that the program was not built for: refused by name, and "auto" is the
 * CPU. */
static void a_gpu_without_kernels_is_refused(void **state)
{
    const struct kernels *k;
    struct device *d;
    struct err e;

    (void)state;
    emulator_be(8, true);
    assert_int_equal(device_open(&d, "cuda:0", &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "compute capability 8.0"));
    emulator_be(10, false);
    assert_int_equal(device_open(&d, "cuda", &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "-DCMAKE_CUDA_ARCHITECTURES=100-real"));
    assert_null(d);
    assert_int_equal(device_choose(&d, &k, "auto", NUMERICS_F32_1, NULL, &e), OK);
    assert_null(d);
    emulator_be(9, true);
    assert_int_equal(device_open(&d, "auto", &e), OK);
    assert_non_null(d);
    device_close(&d);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_go_there_and_back),
#ifdef MUSTER_CUDA_EMULATED /* a GPU cannot be told to be another */
        cmocka_unit_test(a_gpu_without_kernels_is_refused),
#endif
    };
    struct err e;
    int failed;

    if (device_count() == 0)
        return 77;
    if (device_open(&device, "cuda", &e))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close(&device);
    return failed;
}
