/*
 * The products of class open-cuda: cublasLtMatmul on bf16 operands with f32 sums.
 *
 * cuBLASLt is opened when the class is first asked for: a program that does not use it does not load
 * its half gigabyte, and starts where it is not installed. Which of its kernels is fastest for a shape,
 * or whether open_thin.cu is, is found out by running them: its heuristics rank them for a whole GPU
 * and long sums, and decoding has few rows.
 */
#include "engine/cuda/open.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/device_speed.h"

#define WORKSPACE_BYTES ((size_t)32 << 20) /* what NVIDIA advises for Hopper */
#define PLANS           1024u              /* a power of two */
#define PROBES          8u
#define CANDIDATES      8
#define WAYS            (CANDIDATES + OPEN_THIN_WAYS + 1) /* and none */
#define TRIES           2
#define ROUNDS          6
#define NORM_WIDTH      1024u /* of the row that is normed before a product that is timed */
#define TUNE_AT         3u    /* a plan is tuned when it is used so often */
#define TUNE_OPS        (1ull << 39) /* and only if a product has at most so many operations, */
#define TUNE_NUMBERS    (1u << 16)   /* and its largest matrix at least so many numbers */

/* X(name, arguments): what is used of the library */
#define LIBRARY_MAP(X)                                                                         \
    X(cublasLtCreate, (cublasLtHandle_t *))                                                    \
    X(cublasLtDestroy, (cublasLtHandle_t))                                                     \
    X(cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t)) \
    X(cublasLtMatmulDescSetAttribute,                                                          \
      (cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t))            \
    X(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t))                                       \
    X(cublasLtMatrixLayoutCreate,                                                              \
      (cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t))                   \
    X(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t))                                   \
    X(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t *))                          \
    X(cublasLtMatmulPreferenceSetAttribute,                                                    \
      (cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *,         \
       size_t))                                                                                \
    X(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t))                           \
    X(cublasLtMatmulAlgoGetHeuristic,                                                          \
      (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, \
       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,        \
       cublasLtMatmulHeuristicResult_t *, int *))                                              \
    X(cublasLtMatmul,                                                                          \
      (cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *,                     \
       cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t, const void *,             \
       const void *, cublasLtMatrixLayout_t, void *, cublasLtMatrixLayout_t,                   \
       const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t))

#define LIBRARY_MEMBER(name, arguments) cublasStatus_t(*name) arguments;
static struct {
    LIBRARY_MAP(LIBRARY_MEMBER)
} lt;
#undef LIBRARY_MEMBER

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_open;
static char why[200];

/* ISO C knows no way from a data pointer to a function's but to copy its bytes. */
#ifdef MUSTER_CUDA_EMULATED
#define LIBRARY_FIND(name, arguments) lt.name = name;
static void open_library(void)
{
    LIBRARY_MAP(LIBRARY_FIND)
    is_open = true;
}
#else
#define LIBRARY_FIND(name, arguments)                                                          \
    {                                                                                          \
        void *at = dlsym(library, #name);                                                      \
        if (!at) {                                                                             \
            strncpy(why, "it lacks " #name, sizeof(why) - 1);                                  \
            return;                                                                            \
        }                                                                                      \
        memcpy(&lt.name, &at, sizeof(at));                                                     \
    }
static void open_library(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                        "/usr/local/cuda/lib64/libcublasLt.so"};
    void *library = NULL;

    for (size_t i = 0; !library && i < sizeof(names) / sizeof(names[0]); i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *text = dlerror();
        strncpy(why, text ? text : "not found", sizeof(why) - 1);
        return;
    }
    LIBRARY_MAP(LIBRARY_FIND)
    is_open = true;
}
#endif
#undef LIBRARY_FIND

enum status open_products_load(struct err *e)
{
    pthread_once(&once, open_library);
    if (!is_open)
        return err_set(e, ERR_UNSUPPORTED,
                       "class open-cuda needs libcublasLt of the CUDA Toolkit: %s", why);
    return OK;
}

/* ---- plans: one for each shape that was asked for -------------------------------------------- */

struct key {
    uint64_t M, N, K, a_stride, b_stride, y_stride;
    uint32_t kind, is_f32, is_added, is_gated, align;
    uint32_t norms; /* 1: rows are divided; 2: a norm is given */
};

struct plan {
    struct key key; /* M 0: empty */
    unsigned uses;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t left, right, y; /* in the library's order: columns first */
    cublasLtMatmulAlgo_t algo[CANDIDATES];
    struct open_thin thin[OPEN_THIN_WAYS];
    size_t n_algo, n_thin; /* the candidates: the library's, then ours */
    size_t best;           /* of them */
    bool is_tuned;
};

struct open_products {
    cublasLtHandle_t lt;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    size_t cache_bytes; /* of the device */
    cudaEvent_t from, to;
    struct plan plans[PLANS];
};

static bool well(struct device *d, cublasStatus_t st, const char *what)
{
    if (st == CUBLAS_STATUS_SUCCESS)
        return true;
    if (device_is_well(d))
        (void)err_set(&d->error, ERR_IO, "%s: %s: cuBLASLt status %d", d->name, what, (int)st);
    return false;
}

static struct open_products *make(struct device *d)
{
    struct open_products *o = xcalloc(1, sizeof(*o));
    const size_t bytes = WORKSPACE_BYTES;
    struct cudaDeviceProp about;
    struct err e;

    d->products = o;
    if (open_products_load(&e)) {
        d->error = e;
        return o;
    }
    if (well(d, lt.cublasLtCreate(&o->lt), "opening cuBLASLt") &&
        well(d, lt.cublasLtMatmulPreferenceCreate(&o->preference), "a preference") &&
        well(d,
             lt.cublasLtMatmulPreferenceSetAttribute(o->preference,
                                                     CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &bytes, sizeof(bytes)),
             "a preference"))
        (void)(device_note(d, cudaMalloc(&o->workspace, bytes), "memory of cuBLASLt") &&
               device_note(d, cudaEventCreate(&o->from), "making an event") &&
               device_note(d, cudaEventCreate(&o->to), "making an event") &&
               device_note(d, cudaGetDeviceProperties(&about, d->index),
                           "asking for its cache"));
    if (device_is_well(d))
        o->cache_bytes = (size_t)about.l2CacheSize;
    return o;
}

static void clear_plan(struct plan *p)
{
    if (p->desc)
        (void)lt.cublasLtMatmulDescDestroy(p->desc);
    if (p->left)
        (void)lt.cublasLtMatrixLayoutDestroy(p->left);
    if (p->right)
        (void)lt.cublasLtMatrixLayoutDestroy(p->right);
    if (p->y)
        (void)lt.cublasLtMatrixLayoutDestroy(p->y);
    memset(p, 0, sizeof(*p));
}

void open_products_close(struct device *d)
{
    struct open_products *o = d->products;

    if (!o)
        return;
    for (size_t i = 0; i < PLANS; i++)
        clear_plan(&o->plans[i]);
    if (o->preference)
        (void)lt.cublasLtMatmulPreferenceDestroy(o->preference);
    if (o->lt)
        (void)lt.cublasLtDestroy(o->lt);
    (void)cudaFree(o->workspace);
    if (o->from)
        (void)cudaEventDestroy(o->from);
    if (o->to)
        (void)cudaEventDestroy(o->to);
    free(o);
    d->products = NULL;
}

/* The largest power of two, at most 256, that divides all addresses. */
static uint32_t alignment(const struct open_product *p)
{
    uintptr_t all = (uintptr_t)p->a | (uintptr_t)p->b | (uintptr_t)p->y | (uintptr_t)p->add |
                    (uintptr_t)p->room | (uintptr_t)256;
    return (uint32_t)(all & (~all + 1));
}

static bool set_preference(struct device *d, uint32_t align)
{
    static const cublasLtMatmulPreferenceAttributes_t all[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    bool is_well = true;

    for (size_t i = 0; i < 4; i++)
        is_well = is_well && well(d,
                                  lt.cublasLtMatmulPreferenceSetAttribute(
                                      d->products->preference, all[i], &align, sizeof(align)),
                                  "a preference");
    return is_well;
}

/* The library's matrices have their columns dense, so ours are their transposes to it:
 * y' (N, M) = left (N, K) right (K, M), left being made of b and right of a. */
static bool describe(struct device *d, struct plan *p)
{
    const struct key *k = &p->key;
    const bool b_turned = k->kind == OPEN_FORWARD, a_turned = k->kind == OPEN_DW;
    const cublasOperation_t left = b_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
                            right = a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;

    return well(d, lt.cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                "a product") &&
           well(d,
                lt.cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &left,
                                                  sizeof(left)),
                "a product") &&
           well(d,
                lt.cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &right,
                                                  sizeof(right)),
                "a product") &&
           well(d,
                lt.cublasLtMatrixLayoutCreate(&p->left, CUDA_R_16BF, b_turned ? k->K : k->N,
                                              b_turned ? k->N : k->K, (int64_t)k->b_stride),
                "a matrix") &&
           well(d,
                lt.cublasLtMatrixLayoutCreate(&p->right, CUDA_R_16BF, a_turned ? k->M : k->K,
                                              a_turned ? k->K : k->M, (int64_t)k->a_stride),
                "a matrix") &&
           well(d,
                lt.cublasLtMatrixLayoutCreate(&p->y, k->is_f32 ? CUDA_R_32F : CUDA_R_16BF, k->N,
                                              k->M,
                                              (int64_t)(k->is_gated ? k->N : k->y_stride)),
                "a matrix");
}

static bool rank(struct device *d, struct plan *p)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int n = 0;

    memset(found, 0, sizeof(found)); /* what is not filled is compared as well (counterpart) */
    if (!set_preference(d, p->key.align) ||
        !well(d,
              lt.cublasLtMatmulAlgoGetHeuristic(d->products->lt, p->desc, p->left, p->right,
                                                p->y, p->y, d->products->preference, CANDIDATES,
                                                found, &n),
              "choosing a kernel"))
        return false;
    for (int i = 0; i < n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            p->algo[p->n_algo++] = found[i].algo;
    return p->n_algo > 0 || well(d, CUBLAS_STATUS_NOT_SUPPORTED, "choosing a kernel");
}

static uint64_t hash_of(const struct key *k)
{
    const uint64_t *w = (const uint64_t *)(const void *)k;
    uint64_t h = 0;

    for (size_t i = 0; i < sizeof(*k) / sizeof(*w); i++)
        h = (h ^ w[i]) * 0x9e3779b97f4a7c15u;
    return h >> 32;
}

static bool takes(const struct open_product *x)
{
    return x->takes && x->takes->n > 0;
}

/* NULL: the device failed. A full neighbourhood loses its first plan. */
static struct plan *plan_of(struct device *d, const struct open_product *x)
{
    const struct key key = {.M = x->M,
                            .N = x->N,
                            .K = x->K,
                            .a_stride = x->a_stride,
                            .b_stride = x->b_stride,
                            .y_stride = x->y_stride,
                            .kind = x->kind,
                            .is_f32 = x->is_f32,
                            .is_added = x->add != NULL,
                            .is_gated = x->is_gated,
                            .align = alignment(x),
                            .norms = (takes(x) ? 1 : 0) + (x->gives ? 2 : 0)};
    const uint64_t hash = hash_of(&key);
    struct plan *p = NULL;

    for (unsigned i = 0; i < PROBES; i++) {
        struct plan *at = &d->products->plans[(hash + i) % PLANS];

        if (memcmp(&at->key, &key, sizeof(key)) == 0)
            return at;
        if (!p && at->key.M == 0)
            p = at;
    }
    if (!p)
        p = &d->products->plans[hash % PLANS];
    clear_plan(p);
    p->key = key;
    p->n_thin = open_thin_ways(d, x, p->thin);
    if (takes(x) && !x->is_gated) { /* the library does not divide rows */
        CHECK(p->n_thin > 0);
        return p;
    }
    if (describe(d, p) && rank(d, p))
        return p;
    clear_plan(p);
    return NULL;
}

/* Of y, by a kernel of its own. */
static void give_norm(struct device *d, const struct open_product *x)
{
    open_norm(d, x->gives->h, x->y, x->norm, x->M, x->N, x->gives->eps);
    x->gives->n = 0;
}

/* By a candidate. */
static cublasStatus_t multiply(struct device *d, const struct plan *p,
                               const struct open_product *x, size_t candidate)
{
    const float one = 1.0f, beta = x->add ? 1.0f : 0.0f;
    void *y = x->is_gated ? x->room : x->y;
    cublasStatus_t st;

    if (candidate >= p->n_algo) {
        open_thin_multiply(d, x, p->thin[candidate - p->n_algo]);
        return CUBLAS_STATUS_SUCCESS;
    }
    st = lt.cublasLtMatmul(d->products->lt, p->desc, &one, x->b, p->left, x->a, p->right, &beta,
                           x->add ? x->add : y, p->y, y, p->y, &p->algo[candidate],
                           d->products->workspace, WORKSPACE_BYTES, d->stream);
    if (x->is_gated && st == CUBLAS_STATUS_SUCCESS)
        open_swiglu(d, x->y, x->room, x->M, x->N / 2, x->takes);
    if (x->gives && st == CUBLAS_STATUS_SUCCESS)
        give_norm(d, x);
    return st;
}

#define NOTHING SIZE_MAX /* the candidate that is no product */

/* What a candidate is timed by. */
struct trial {
    const struct plan *plan;
    struct open_product x;
    size_t candidate;
    float *row;   /* memory of the device that is larger than its cache */
    size_t bytes; /* of it */
    bool is_well;
};

static void try_once(struct device *d, struct trial *t)
{
    if (t->candidate != NOTHING && t->is_well)
        t->is_well = multiply(d, t->plan, &t->x, t->candidate) == CUBLAS_STATUS_SUCCESS;
}

/* As in a step of decoding: the weights are not in the cache, and the kernels before and behind are
 * short ones, whose end and beginning the product may hide. */
static void repeat(struct device *d, const void *arg)
{
    struct trial *t = *(struct trial *const *)arg;
    uint16_t *y = (uint16_t *)(void *)(t->row + NORM_WIDTH);

    for (int i = 0; i < TRIES; i++) {
        (void)device_note(d, cudaMemsetAsync(t->row, 0, t->bytes, d->stream), "clearing");
        open_norm(d, y, t->row, t->row, 1, NORM_WIDTH, 1.0f);
        try_once(d, t);
        open_norm(d, y, t->row, t->row, 1, NORM_WIDTH, 1.0f);
    }
}

/* A graph leaves the time out that launching takes the CPU. NULL: the candidate cannot. */
static cudaGraphExec_t graph_of(struct device *d, struct trial *t, size_t candidate)
{
    cudaGraphExec_t graph;

    t->candidate = candidate;
    t->is_well = true;
    try_once(d, t);
    if (!t->is_well || !(graph = open_graph_make(d, repeat, &t)))
        return NULL;
    if (t->is_well)
        return graph;
    (void)cudaGraphExecDestroy(graph);
    return NULL;
}

/* Of one try; 0: the device failed. */
static float time_graph(struct device *d, cudaGraphExec_t graph)
{
    const struct open_products *o = d->products;
    float ms = 0.0f;

    if (device_note(d, cudaEventRecord(o->from, d->stream), "timing") &&
        device_note(d, cudaGraphLaunch(graph, d->stream), "timing") &&
        device_note(d, cudaEventRecord(o->to, d->stream), "timing") &&
        device_note(d, cudaEventSynchronize(o->to), "timing"))
        (void)device_note(d, cudaEventElapsedTime(&ms, o->from, o->to), "timing");
    return ms / TRIES;
}

/* Times all candidates, and in ms[n_algo + n_thin] what is timed besides. Zeros: not timed. They take turns,
 * for a GPU that was idle becomes faster meanwhile; the best of each one's counts. Where y may be what is added
 * to, the results go to memory of their own. */
static void time_all(struct device *d, float *ms, const struct plan *p,
                     const struct open_product *x)
{
    const size_t y_bytes =
        x->add ? (x->M * x->y_stride * (x->is_f32 ? 4 : 2) + 255) / 256 * 256 : 0;
    const size_t n = p->n_algo + p->n_thin;
    struct trial t = {
        .plan = p, .x = *x, .bytes = d->products->cache_bytes + 2 * NORM_WIDTH * sizeof(float)};
    cudaGraphExec_t graphs[WAYS] = {NULL};
    void *y;

    memset(ms, 0, (n + 1) * sizeof(ms[0]));
    if (cudaMalloc(&y, y_bytes + t.bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return;
    }
    if (x->add) {
        /* Zeros at first: initcheck does not see that the library's kernels write it, or they do not. */
        t.x.y = y;
        (void)device_note(d, cudaMemsetAsync(y, 0, y_bytes, d->stream), "clearing");
    }
    t.row = (float *)(void *)((unsigned char *)y + y_bytes);
    for (size_t i = 0; i <= n; i++)
        graphs[i] = graph_of(d, &t, i < n ? i : NOTHING);
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i <= n; i++) {
            const float took = graphs[i] ? time_graph(d, graphs[i]) : 0.0f;

            if (took > 0.0f && (ms[i] == 0.0f || took < ms[i]))
                ms[i] = took;
        }
    for (size_t i = 0; i <= n; i++)
        if (graphs[i])
            (void)cudaGraphExecDestroy(graphs[i]);
    (void)device_note(d, cudaFree(y), "releasing memory");
}

/* The number that differs between batches: a training step's gradient of weights sums over the rows. */
static uint64_t *rows_of(struct key *k)
{
    return k->kind == OPEN_DW ? &k->K : &k->M;
}

/* The candidate of p that is the best one of a plan for another number of rows; NOTHING: none. */
static size_t counterpart(const struct plan *p, const struct plan *other)
{
    if (other->best >= other->n_algo)
        return other->n_thin == p->n_thin ? p->n_algo + other->best - other->n_algo : NOTHING;
    for (size_t i = 0; i < p->n_algo; i++)
        if (memcmp(&p->algo[i], &other->algo[other->best], sizeof(p->algo[i])) == 0)
            return i;
    return NOTHING;
}

/* Whether it was found out for a few rows more or less what is the fastest, and p has that too. Steps of
 * training, and prompts, have every number of rows, and to time all ways takes as long as some tens of steps. */
static bool adopt(const struct device *d, struct plan *p)
{
    for (size_t i = 0; i < PLANS; i++) {
        const struct plan *other = &d->products->plans[i];
        struct key like = other->key;

        if (other == p || !other->is_tuned ||
            open_padded_rows(*rows_of(&like)) != open_padded_rows(*rows_of(&p->key)))
            continue;
        *rows_of(&like) = *rows_of(&p->key);
        if (memcmp(&like, &p->key, sizeof(like)) == 0 && counterpart(p, other) != NOTHING) {
            p->best = counterpart(p, other);
            return true;
        }
    }
    return false;
}

static bool is_worth_it(const struct plan *p)
{
    const uint64_t M = p->key.M, N = p->key.N, K = p->key.K;

    return p->n_algo + p->n_thin > 1 && 2 * M * N * K <= TUNE_OPS &&
           (M * N >= TUNE_NUMBERS || N * K >= TUNE_NUMBERS || M * K >= TUNE_NUMBERS);
}

/* Finds the fastest candidate. */
static void tune(struct device *d, struct plan *p, const struct open_product *x)
{
    float ms[WAYS], best = 0.0f;

    p->is_tuned = true;
    if (adopt(d, p))
        return;
    time_all(d, ms, p, x);
    for (size_t i = 0; i < p->n_algo + p->n_thin; i++)
        if (ms[i] > 0.0f && (best == 0.0f || ms[i] <= best)) {
            best = ms[i];
            p->best = i;
        }
}

size_t open_products_ways(struct device *d, struct device_way *ways,
                          const struct device_product *p)
{
    const size_t outs = p->is_gated ? p->N / 2 : p->N;
    const struct open_product x = {.kind = OPEN_FORWARD,
                                   .is_f32 = p->is_f32,
                                   .M = p->M,
                                   .N = p->N,
                                   .K = p->K,
                                   .a_stride = p->K,
                                   .b_stride = p->K,
                                   .y_stride = outs,
                                   .a = p->x,
                                   .b = p->w,
                                   .y = p->y,
                                   .is_gated = p->is_gated,
                                   .room = p->room};
    float ms[WAYS];
    const struct plan *plan;
    size_t n = 0;

    if (!device_is_well(d))
        return 0;
    if (!d->products)
        (void)make(d);
    if (!device_is_well(d) || !(plan = plan_of(d, &x)))
        return 0;
    time_all(d, ms, plan, &x);
    for (size_t i = 0; i < plan->n_algo + plan->n_thin; i++) {
        struct device_way *way = &ways[n];

        if (ms[i] <= 0.0f)
            continue;
        if (i < plan->n_algo)
            (void)snprintf(way->name, sizeof(way->name), "cuBLASLt %zu", i);
        else
            open_thin_name(way->name, sizeof(way->name), plan->thin[i - plan->n_algo]);
        way->seconds = 1e-3 * (double)(ms[i] - ms[plan->n_algo + plan->n_thin]);
        n++;
    }
    return n;
}

void open_multiply(struct device *d, const struct open_product *x)
{
    struct plan *p;

    if (x->M == 0 || !device_is_well(d))
        return;
    CHECK(x->N > 0 && x->K > 0 && (!x->is_gated || (x->room && x->y_stride == x->N / 2)) &&
          (!x->gives || (x->is_f32 && x->norm && x->y_stride == x->N)));
    if (!d->products)
        (void)make(d);
    if (!device_is_well(d) || !(p = plan_of(d, x)))
        return;
    if (++p->uses >= TUNE_AT && !p->is_tuned && !d->is_capturing && is_worth_it(p))
        tune(d, p, x);
    (void)well(d, multiply(d, p, x, p->best), "a product");
}
