#include "engine/adamw.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"

#define FINITE_GRAIN 65536u

static size_t most_rows(const struct weights *w)
{
    size_t most = 0;

    for (size_t i = 0; i < w->n_tensors; i++)
        most = w->tensors[i].rows > most ? w->tensors[i].rows : most;
    return most;
}

enum status adamw_new(struct adamw **out, const struct model_config *c, struct err *e)
{
    return adamw_new_on(out, c, NULL, e);
}

enum status adamw_new_on(struct adamw **out, const struct model_config *c, struct device *d,
                         struct err *e)
{
    struct adamw *a = xcalloc(1, sizeof(*a));
    enum status st = weights_new_on(&a->m, c, d, e);
    void *sums = NULL;

    *out = NULL;
    if (!st)
        st = weights_new_on(&a->v, c, d, e);
    if (!st && d)
        st = device_alloc(d, &sums, (a->m->n_tensors + 1 + most_rows(a->m)) * sizeof(float),
                          "square sums", e);
    a->sums = sums;
    if (!st) {
        *out = a;
        a = NULL; /* it is the caller's now */
    }
    adamw_free(&a);
    return st;
}

void adamw_free(struct adamw **a)
{
    if (!*a)
        return;
    if ((*a)->sums)
        device_release((*a)->m->device, (*a)->sums);
    weights_free(&(*a)->m);
    weights_free(&(*a)->v);
    free(*a);
    *a = NULL;
}

struct tensors_job {
    const struct kernels *k;
    const struct weights *w;
    float *sums;
    atomic_bool *has_bad;
};

static void sum_tensors(void *arg, size_t lo, size_t hi)
{
    const struct tensors_job *j = arg;

    for (size_t i = lo; i < hi; i++) {
        const struct weights_tensor *t = &j->w->tensors[i];

        j->sums[i] = grad_square_sum(j->k, t->data, t->rows, t->cols);
    }
}

static float norm_of(const struct adamw *a, const struct weights *g, const struct kernels *k,
                     struct pool *pool)
{
    float *sums = xcalloc(g->n_tensors, sizeof(sums[0]));
    struct tensors_job job = {.k = k, .w = g, .sums = sums};
    float norm;

    for (size_t i = 0; k->device && i < g->n_tensors; i++) {
        const struct weights_tensor *t = &g->tensors[i];

        k->ops->square_sum(k->device, a->sums + i, a->sums + g->n_tensors, t->data, t->rows,
                           t->cols);
    }
    if (k->device)
        device_get(k->device, sums, a->sums, g->n_tensors * sizeof(sums[0]));
    else
        pool_run(pool, g->n_tensors, 1, sum_tensors, &job);
    norm = grad_norm(sums, g->n_tensors);
    free(sums);
    return norm;
}

static void check_numbers(void *arg, size_t lo, size_t hi)
{
    const struct tensors_job *j = arg;

    if (!all_finite(j->k, j->w->data + lo, hi - lo))
        atomic_store(j->has_bad, true);
}

/* As weights_check_finite, which also says where. */
static enum status check_finite(const struct adamw *a, const struct weights *w,
                                const struct kernels *k, struct pool *pool, struct err *e)
{
    atomic_bool has_bad = false;
    struct tensors_job job = {.k = k, .w = w, .has_bad = &has_bad};
    uint32_t flag = 0;
    enum status st;

    if (!k->device) {
        pool_run(pool, w->n_data, FINITE_GRAIN, check_numbers, &job);
        return atomic_load(&has_bad) ? weights_check_finite(w, e) : OK;
    }
    device_zero(k->device, a->sums, sizeof(flag));
    k->ops->not_finite(k->device, (uint32_t *)(void *)a->sums, w->data, w->n_data);
    device_get(k->device, &flag, a->sums, sizeof(flag));
    st = device_wait(k->device, e);
    if (!st && flag)
        st = err_set(e, ERR_NUMERIC, "a weight is not finite after the step");
    return st;
}

enum status adamw_step(struct adamw *a, struct weights *masters, struct weights *grads,
                       const struct adamw_settings *s, const struct kernels *k,
                       struct pool *pool, struct adamw_report *report, struct err *e)
{
    struct adamw_scalars scalars = {
        .lr = s->lr,
        .b1 = s->beta1,
        .b2 = s->beta2,
        .eps = s->eps,
        .wd = s->weight_decay,
    };
    float norm = norm_of(a, grads, k, pool);
    enum status st = device_wait(k->device, e);

    if (st)
        return st;
    CHECK(masters->device == k->device && grads->device == k->device &&
          a->m->device == k->device);
    CHECK(grads->n_data == masters->n_data && a->m->n_data == masters->n_data);
    if (!isfinite(norm))
        return err_set(e, ERR_NUMERIC, "the norm of the gradients is not finite");
    a->step++;
    scalars.bc1 = adamw_bias_correction(s->beta1, a->step);
    scalars.bc2 = adamw_bias_correction(s->beta2, a->step);
    scalars.grad_scale = grad_clip_scale(norm, s->clip_norm);
    /* The tensors lie end to end in the same order everywhere, and no number needs another. */
    adamw_update(k, pool, masters->data, a->m->data, a->v->data, grads->data, &scalars,
                 masters->n_data);
    *report = (struct adamw_report){.grad_norm = norm, .scale = scalars.grad_scale};
    return check_finite(a, masters, k, pool, e);
}
