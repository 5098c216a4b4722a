#include "cli/up_eval.h"

#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "rollout/setup.h"

enum status up_evaluate(const struct up_eval *v, float *reward, struct rollout_sample *samples,
                        size_t n_samples, struct err *e)
{
    static const struct digest no_root;
    struct model_options mo = {.pool = v->pool};
    struct setup *setup = NULL;
    struct weights *w = NULL;
    struct model *m = NULL;
    enum status st = setup_open(&setup, v->bundle, v->env, e);

    if (!st)
        st = weights_load(&w, v->dir, e);
    if (!st && !model_config_equal(&w->config, &setup->config))
        st = err_set(e, ERR_INVALID, "the model in '%s' has another shape than the task's",
                     v->dir);
    if (!st)
        st = setup_train_kernels(&mo.kernels, setup, kernels_best(), e);
    if (!st)
        st = model_new(&m, w, &mo, e);
    if (!st) {
        struct rollout_world world = setup_world(setup, NULL, 0, &no_root);

        world.model = m;
        world.numerics = model_numerics(m);
        st = rollout_evaluate(&world, v->n, v->temperature, reward, samples, n_samples, e);
    }
    model_free(&m);
    weights_free(&w);
    setup_close(&setup);
    return st;
}
