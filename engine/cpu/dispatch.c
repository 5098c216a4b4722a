#include "engine/kernels.h"

#include <string.h>

#include "engine/cpu/table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* What CPUID says the CPU has, and XCR0 that the system saves on a task switch. */
struct features {
    bool fma, avx2, avx512;
};

#define BIT(word, n) (((word) >> (n)) & 1u)

static struct features cpu_features(void)
{
    struct features f = {false, false, false};
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27) || !BIT(c, 28))
        return f; /* no XGETBV or no AVX */
    unsigned long long saved = _xgetbv(0);
    if ((saved & 0x6) != 0x6)
        return f; /* XMM and YMM */
    f.fma = BIT(c, 12);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return f;
    f.avx2 = f.fma && BIT(b, 5);
    f.avx512 = f.avx2 && BIT(b, 16) && BIT(b, 17) && BIT(b, 30) &&
               BIT(b, 31) &&           /* F DQ BW VL */
               (saved & 0xe6) == 0xe6; /* opmask, ZMM */
    return f;
}
#endif

static const char *const names[] = {"scalar", "avx2", "avx512"};

const char *kernels_name_at(size_t i)
{
    return i < sizeof(names) / sizeof(names[0]) ? names[i] : NULL;
}

/* NULL: this CPU cannot, or there is no such backend. */
static const struct kernels *find(const char *name)
{
#if defined(__x86_64__)
    struct features f = cpu_features();
    if (strcmp(name, "avx512") == 0)
        return f.avx512 ? &kernels_avx512 : NULL;
    if (strcmp(name, "avx2") == 0)
        return f.avx2 ? &kernels_avx2 : NULL;
    if (strcmp(name, "scalar") == 0 && f.fma)
        return &kernels_scalar_fma;
#endif
    return strcmp(name, "scalar") == 0 ? &kernels_scalar : NULL;
}

const struct kernels *kernels_best(void)
{
    const struct kernels *best = &kernels_scalar;
    for (size_t i = 0; kernels_name_at(i); i++) {
        const struct kernels *k = find(names[i]);
        if (k)
            best = k;
    }
    return best;
}

enum status kernels_choose(const struct kernels **out, const char *name, struct err *e)
{
    *out = NULL;
    if (!name || strcmp(name, "auto") == 0) {
        *out = kernels_best();
        return OK;
    }
    *out = find(name);
    if (*out)
        return OK;
    for (size_t i = 0; kernels_name_at(i); i++)
        if (strcmp(name, names[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED, "this CPU cannot run the '%s' kernels", name);
    return err_set(e, ERR_INVALID, "no kernels '%s': there are auto, scalar, avx2 and avx512",
                   name);
}

const char *kernels_name(const struct kernels *k)
{
    return k->name;
}

bool kernels_available(const char *name)
{
    return find(name) != NULL;
}
