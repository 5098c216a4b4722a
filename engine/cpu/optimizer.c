#include "engine/ops.h"

#include <math.h>

#include "engine/cpu/sum_tree.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"

#define GRAIN 16384u

float grad_square_sum(const struct kernels *k, const float *g, size_t rows, size_t cols)
{
    struct sum_tree tree;
    float row[SUM_BLOCK];

    sum_tree_init(&tree);
    for (size_t r = 0; r < rows; r += SUM_BLOCK) {
        size_t n = rows - r < SUM_BLOCK ? rows - r : SUM_BLOCK;
        for (size_t i = 0; i < n; i++)
            row[i] = k->dot(g + (r + i) * cols, g + (r + i) * cols, cols);
        sum_tree_add(&tree, k->sum(row, n));
    }
    return sum_tree_total(&tree);
}

float grad_norm(const float *square_sums, size_t n_tensors)
{
    return sqrtf(sum16(square_sums, n_tensors));
}

float grad_clip_scale(float norm, float max_norm)
{
    float scale = max_norm / (norm + 1e-6f);

    return max_norm == 0.0f || scale > 1.0f ? 1.0f : scale;
}

float adamw_bias_correction(float beta, uint64_t step)
{
    if (beta == 0.0f)
        return 1.0f;
    return (float)(1.0 - pow_f64(beta, (double)step));
}

struct adamw_job {
    const struct kernels *k;
    float *p, *m, *v;
    const float *g;
    const struct adamw_scalars *s;
};

static void adamw_part(void *arg, size_t lo, size_t hi)
{
    const struct adamw_job *j = arg;
    j->k->adamw(j->p + lo, j->m + lo, j->v + lo, j->g + lo, j->s, hi - lo);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void adamw_update(const struct kernels *k, struct pool *pool, float *p, float *m, float *v,
                  const float *g, const struct adamw_scalars *s, size_t n)
{
    struct adamw_job job = {.k = k, .p = p, .m = m, .v = v, .g = g, .s = s};

    if (k->device)
        k->ops->adamw(k->device, p, m, v, g, s, n);
    else
        pool_run(pool, n, GRAIN, adamw_part, &job);
}
