#include "engine/adamw.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"

enum status adamw_new(struct adamw **out, const struct model_config *c, struct err *e)
{
    struct adamw *a = xcalloc(1, sizeof(*a));
    enum status st = weights_new(&a->m, c, e);

    *out = NULL;
    if (!st)
        st = weights_new(&a->v, c, e);
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
    weights_free(&(*a)->m);
    weights_free(&(*a)->v);
    free(*a);
    *a = NULL;
}

static float norm_of(const struct weights *g, const struct kernels *k)
{
    float *sums = xcalloc(g->n_tensors, sizeof(sums[0]));
    float norm;

    for (size_t i = 0; i < g->n_tensors; i++)
        sums[i] =
            grad_square_sum(k, g->tensors[i].data, g->tensors[i].rows, g->tensors[i].cols);
    norm = grad_norm(sums, g->n_tensors);
    free(sums);
    return norm;
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
    float norm = norm_of(grads, k);

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
    return weights_check_finite(masters, e);
}
