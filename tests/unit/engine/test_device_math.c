/*
 * The elementary functions of a device: those of the definition at arguments all over the range, and,
 * on a GPU, at all 2^32 of them.
 */
#include "on_device.h"

#define BATCH 4096u

/* Sums over all arguments, as struct device_ops.math_sum has them. They were taken on a CPU in one
 * run with the fingerprints of docs/numerics.md, section 8, which came out as they stand there. */
static const struct {
    const char *name;
    uint64_t all;
} functions[] = {{"exp", UINT64_C(0x201f2de49b731f75)},
                 {"log", UINT64_C(0xa63ab6e110fe66a4)},
                 {"log1p", UINT64_C(0x1c8bd0fbb27b5371)}};

static uint64_t sum_on_device(const struct on_device *t, int which, uint32_t step, uint64_t n)
{
    uint64_t sum = 0, *on = PUT(t, &sum, 1), *got;

    t->ops->math_sum(t->device, on, which, 0, step, n);
    got = from_device(t, on, sizeof(sum));
    sum = *got;
    free(got);
    return sum;
}

static void functions_have_the_definition_s_bits(void **state)
{
    const struct on_device *t = *state;
    void (*const rows[])(float *, const float *, size_t) = {t->cpu->exp, t->cpu->log,
                                                            t->cpu->log1p};
    const uint32_t step = t->is_small ? 7817 : 977;
    const uint64_t n = (UINT64_C(1) << 32) / step;
    static float x[BATCH], y[BATCH];

    for (int i = 0; i < 3; i++) {
        uint64_t want = 0;
        for (uint64_t at = 0; at < n; at += BATCH) {
            size_t len = n - at < BATCH ? (size_t)(n - at) : BATCH;
            for (size_t j = 0; j < len; j++) {
                uint32_t u = (uint32_t)(at + j) * step;
                memcpy(&x[j], &u, sizeof(u));
            }
            rows[i](y, x, len);
            for (size_t j = 0; j < len; j++) {
                uint32_t bits;
                memcpy(&bits, &y[j], sizeof(bits));
                want += (uint64_t)(bits ^ 0x9e3779b9u) * (2 * ((at + j) * step) + 1);
            }
        }
        if (sum_on_device(t, i, step, n) != want)
            fail_msg("%s has other bits than its definition", functions[i].name);
    }
}

static void functions_have_them_at_every_argument(void **state)
{
    const struct on_device *t = *state;

    for (int i = 0; !t->is_small && i < 3; i++)
        if (sum_on_device(t, i, 1, UINT64_C(1) << 32) != functions[i].all)
            fail_msg("%s has other bits than its definition", functions[i].name);
}

int main(int argc, char **argv)
{
    struct on_device t = on_device_open(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(functions_have_the_definition_s_bits, &t),
        cmocka_unit_test_prestate(functions_have_them_at_every_argument, &t),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    device_close(&t.device);
    return failed;
}
