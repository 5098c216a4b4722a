#include "cli/bench_machine.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/cpu/table.h"

#define PEAK_FMA   ((size_t)192 << 20) /* of one thread's part, 192 a round */
#define TRIES      5
#define READ_BYTES ((size_t)1 << 30) /* of one try */

static const size_t sizes[BENCH_READ_SIZES] = {
    (size_t)512 << 10, (size_t)4 << 20,   (size_t)16 << 20,  (size_t)32 << 20,
    (size_t)64 << 20,  (size_t)128 << 20, (size_t)256 << 20, (size_t)1 << 30,
};

struct job {
    const struct kernels *k;
    const float *x;
    size_t n;      /* floats of one thread */
    size_t rounds; /* how often they are read */
    float *kept;   /* owned by the caller, one a thread */
};

static void peak_parts(void *arg, size_t lo, size_t hi)
{
    const struct job *j = arg;

    for (size_t i = lo; i < hi; i++)
        j->kept[i] = j->k->fma_peak(PEAK_FMA);
}

static void read_parts(void *arg, size_t lo, size_t hi)
{
    const struct job *j = arg;

    for (size_t i = lo; i < hi; i++)
        for (size_t r = 0; r < j->rounds; r++)
            j->kept[i] += j->k->read(j->x + i * j->n, j->n);
}

/* Seconds of the fastest of TRIES. */
static double fastest(struct pool *pool, pool_fn *fn, struct job *job)
{
    double best = 0.0;

    for (int i = 0; i < TRIES; i++) {
        int64_t start = clock_mono_us();

        pool_run(pool, pool_threads(pool), 1, fn, job);
        double s = (double)(clock_mono_us() - start) * 1e-6;
        if (i == 0 || s < best)
            best = s;
    }
    return best;
}

enum status bench_machine_measure(struct bench_machine *m, const struct kernels *k,
                                  struct pool *pool, struct err *e)
{
    const size_t threads = pool_threads(pool), most = sizes[BENCH_READ_SIZES - 1];
    struct job job = {.k = k, .kept = xcalloc(threads, sizeof(float))};
    float *x;
    enum status st = alloc_array(&x, most, 1, "memory to read", e);

    memset(m, 0, sizeof(*m));
    if (st)
        goto out;
    memset(x, 1, most);
    job.x = x;
    m->flops = 2.0 * (double)PEAK_FMA * (double)threads / fastest(pool, peak_parts, &job);
    for (size_t i = 0; i < BENCH_READ_SIZES; i++) {
        job.n = sizes[i] / threads / sizeof(float);
        job.rounds = READ_BYTES / sizes[i];
        m->bytes[i] = sizes[i];
        m->read[i] = (double)(job.n * sizeof(float) * threads * job.rounds) /
                     fastest(pool, read_parts, &job);
    }
out:
    free(x);
    free(job.kept);
    return st;
}

enum status bench_machine_glance(double *flops, double *read, const struct kernels *k,
                                 struct pool *pool, struct err *e)
{
    const size_t threads = pool_threads(pool), bytes = sizes[BENCH_READ_SIZES - 3];
    struct job job = {.k = k,
                      .n = bytes / threads / sizeof(float),
                      .rounds = 1,
                      .kept = xcalloc(threads, sizeof(float))};
    float *x;
    enum status st = alloc_array(&x, bytes, 1, "memory to read", e);

    if (!st) {
        memset(x, 1, bytes);
        job.x = x;
        *flops = 2.0 * (double)PEAK_FMA * (double)threads / fastest(pool, peak_parts, &job);
        *read = (double)(job.n * sizeof(float) * threads) / fastest(pool, read_parts, &job);
    }
    free(x);
    free(job.kept);
    return st;
}

double bench_machine_read(const struct bench_machine *m, size_t bytes)
{
    size_t i = 0;

    while (i + 1 < BENCH_READ_SIZES && m->bytes[i] < bytes)
        i++;
    return m->read[i];
}
