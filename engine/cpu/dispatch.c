#include "engine/kernels.h"

#include <pthread.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/rng.h"
#include "engine/cpu/bf16.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What CPUID says the CPU has, and XCR0 that the system saves on a task switch. */
struct features {
    bool fma, avx2, avx512, amx;
};

#define BIT(word, n) (((word) >> (n)) & 1u)

static struct features cpu_features(void)
{
    struct features f = {false, false, false, false};
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
               BIT(b, 31) &&                        /* F DQ BW VL */
               (saved & 0xe6) == 0xe6;              /* opmask, ZMM */
    f.amx = f.avx512 && BIT(d, 22) && BIT(d, 24) && /* BF16, TILE */
            (saved & 0x60000) == 0x60000;           /* tile configuration and data */
    return f;
}

/* Linux lends the tiles on request, to the whole process. */
static bool ask_for_tiles(void)
{
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */

    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

#define CHECK_ROWS  ((size_t)37)
#define CHECK_STEPS ((size_t)160)
#define CHECK_COLS  ((size_t)45)

/* A number of any sign and nearly any size, so that sums cancel, overflow and vanish. */
static float some_number(struct rng *r)
{
    uint32_t u = rng_u32(r), exponent = rng_below(r, 3) ? 96 + rng_u32(r) % 64 : u >> 24;
    return lane_float((u & 0x807fffffu) | (exponent < 254 ? exponent : 254) << 23);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through g
static void check_product(const struct bf16_loops *loops, float *c, const float *x,
                          const float *w)
{
    static _Alignas(64) uint8_t left[BF16_LEFT_BYTES(CHECK_ROWS, CHECK_STEPS)];
    static _Alignas(64) uint16_t right[3 * CHECK_STEPS * PACK_LANES];
    struct bf16_gemm g = {.c = c,
                          .b = right,
                          .c_row = CHECK_COLS,
                          .b_panel = CHECK_STEPS * PACK_LANES,
                          .rows = CHECK_ROWS,
                          .cols = CHECK_COLS,
                          .steps = CHECK_STEPS};

    loops->left(&g, left, x, CHECK_STEPS, 1, CHECK_STEPS - 3);
    loops->right(right, w, CHECK_COLS, CHECK_STEPS - 3, CHECK_COLS);
    loops->gemm(&g);
}

/* Whether AMX gives the definition's bits here. It is cheap, and what differs would otherwise be
 * found by a validator. NaN results count as one. */
static bool amx_agrees(void)
{
    static float x[CHECK_ROWS * CHECK_STEPS], w[CHECK_STEPS * CHECK_COLS];
    static float got[CHECK_ROWS * CHECK_COLS], want[CHECK_ROWS * CHECK_COLS];
    struct rng r = rng_of(1, 16);

    for (size_t i = 0; i < CHECK_ROWS * CHECK_STEPS; i++)
        x[i] = some_number(&r);
    for (size_t i = 0; i < CHECK_STEPS * CHECK_COLS; i++)
        w[i] = some_number(&r);
    check_product(kernels_scalar.bf16, want, x, w);
    check_product(&bf16_loops_amx, got, x, w);
    for (size_t i = 0; i < CHECK_ROWS * CHECK_COLS; i++)
        if (lane_bits(got[i]) != lane_bits(want[i]) &&
            !(got[i] != got[i] && want[i] != want[i]))
            return false;
    return true;
}
#endif

#define N_BACKENDS 5u
#define AMX        4u /* of bf16-1 alone */

static const char *const names[N_BACKENDS] = {"scalar", "neon", "avx2", "avx512", "amx"};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct kernels tables[NUMERICS_COUNT][N_BACKENDS]; /* without a name: not here */

/* The loops of f32-1, with which those of the other classes are made; NULL: not on this CPU. */
static const struct kernels *loops_of(const char *name)
{
#if defined(__x86_64__)
    struct features f = cpu_features();
    if (strcmp(name, "amx") == 0)
        return f.amx && ask_for_tiles() && amx_agrees() ? &kernels_avx512 : NULL;
    if (strcmp(name, "avx512") == 0)
        return f.avx512 ? &kernels_avx512 : NULL;
    if (strcmp(name, "avx2") == 0)
        return f.avx2 ? &kernels_avx2 : NULL;
    if (strcmp(name, "scalar") == 0 && f.fma)
        return &kernels_scalar_fma;
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0)
        return &kernels_neon;
#endif
    return strcmp(name, "scalar") == 0 ? &kernels_scalar : NULL;
}

static const struct products *const products_of[NUMERICS_COUNT] = {
    [NUMERICS_F32_1] = &products_f32,
    [NUMERICS_BF16_1] = &products_bf16,
    [NUMERICS_OPEN_OPENBLAS] = &products_openblas,
};

static void make_tables(void)
{
    for (size_t b = 0; b < N_BACKENDS; b++) {
        const struct kernels *loops = loops_of(names[b]);
        for (size_t n = 0; loops && n < NUMERICS_COUNT; n++) {
            struct kernels *k = &tables[n][b];
            if (!products_of[n] || (b == AMX && n != NUMERICS_BF16_1))
                continue;
            *k = *loops;
            k->name = names[b];
            k->numerics = (enum numerics)n;
            k->products = products_of[n];
#if defined(__x86_64__)
            if (b == AMX)
                k->bf16 = &bf16_loops_amx;
#endif
        }
    }
}

/* NULL: this CPU cannot, or there is no such backend. */
static const struct kernels *find(enum numerics numerics, const char *name)
{
    pthread_once(&once, make_tables);
    for (size_t b = 0; b < N_BACKENDS; b++)
        if (strcmp(name, names[b]) == 0 && tables[numerics][b].name)
            return &tables[numerics][b];
    return NULL;
}

const char *numerics_name(enum numerics n)
{
#define NUMERICS_NAME(member, name) [member] = (name),
    static const char *const all[NUMERICS_COUNT] = {NUMERICS_MAP(NUMERICS_NAME)};
#undef NUMERICS_NAME
    return all[n];
}

enum status numerics_parse(enum numerics *out, const char *name, struct err *e)
{
    for (size_t n = 0; n < NUMERICS_COUNT; n++)
        if (strcmp(name, numerics_name((enum numerics)n)) == 0) {
            *out = (enum numerics)n;
            return OK;
        }
    return err_set(
        e, ERR_INVALID,
        "no numerics class '%s': there are f32-1, bf16-1, open-openblas and open-cuda", name);
}

const char *kernels_name_at(enum numerics numerics, size_t i)
{
    if (!products_of[numerics])
        return NULL;
    return i < (numerics == NUMERICS_BF16_1 ? N_BACKENDS : AMX) ? names[i] : NULL;
}

static const struct kernels *best_of(enum numerics numerics)
{
    const struct kernels *best = NULL;
    for (size_t i = 0; kernels_name_at(numerics, i); i++) {
        const struct kernels *k = find(numerics, names[i]);
        if (k)
            best = k;
    }
    return best;
}

const struct kernels *kernels_best(void)
{
    return best_of(NUMERICS_F32_1);
}

/* "scalar, neon, avx2 and avx512" */
static void list_names(struct buf *out, enum numerics numerics)
{
    for (size_t i = 0; kernels_name_at(numerics, i); i++) {
        const char *between = kernels_name_at(numerics, i + 1) ? ", " : " and ";
        buf_printf(out, "%s%s", i > 0 ? between : "", names[i]);
    }
}

static enum status no_such_name(enum numerics numerics, const char *name, struct err *e)
{
    struct buf list;
    enum status st;

    buf_init(&list, 256);
    list_names(&list, numerics);
    st = err_set(e, ERR_INVALID, "no kernels '%s' in class %s: there are auto, %s", name,
                 numerics_name(numerics), buf_cstr(&list));
    buf_clear(&list);
    return st;
}

enum status kernels_choose(const struct kernels **out, enum numerics numerics, const char *name,
                           struct err *e)
{
    enum status st = OK;

    *out = NULL;
    if (!products_of[numerics])
        return err_set(e, ERR_UNSUPPORTED, "class %s runs on a GPU only (--device cuda)",
                       numerics_name(numerics));
    if (numerics == NUMERICS_OPEN_OPENBLAS)
        st = products_openblas_load(e);
    if (st)
        return st;
    if (!name || strcmp(name, "auto") == 0) {
        *out = best_of(numerics);
        return OK;
    }
    *out = find(numerics, name);
    if (*out)
        return OK;
    for (size_t i = 0; kernels_name_at(numerics, i); i++)
        if (strcmp(name, names[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED, "this CPU cannot run the '%s' kernels", name);
    return no_such_name(numerics, name, e);
}

const struct kernels *kernels_in_class(const struct kernels *k, enum numerics numerics)
{
    if (k->numerics == numerics)
        return k;
    CHECK(numerics != NUMERICS_OPEN_OPENBLAS && products_of[numerics]);
    return k == kernels_best() ? best_of(numerics) : find(numerics, k->name);
}

const char *kernels_name(const struct kernels *k)
{
    return k->name;
}

enum numerics kernels_numerics(const struct kernels *k)
{
    return k->numerics;
}

bool kernels_available(enum numerics numerics, const char *name)
{
    return find(numerics, name) != NULL;
}
