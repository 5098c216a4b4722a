#include "rollout/model_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/weights.h"

struct loaded {
    int64_t version;
    struct weights *weights; /* owned */
    struct model *model;     /* owned; NULL: the place is free */
};

struct model_set {
    struct model_config config;
    struct model_set_options opt;
    struct loaded *v; /* owned, (opt.cap) */
};

void model_set_new(struct model_set **out, const struct model_config *config,
                   const struct model_set_options *opt)
{
    struct model_set *s = xcalloc(1, sizeof(*s));

    CHECK(opt->cap >= 1);
    s->config = *config;
    s->opt = *opt;
    s->v = xcalloc(opt->cap, sizeof(*s->v));
    *out = s;
}

static void unload(struct loaded *l)
{
    model_free(&l->model);
    weights_free(&l->weights);
}

void model_set_free(struct model_set **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->opt.cap; i++)
        unload(&(*s)->v[i]);
    free((*s)->v);
    free(*s);
    *s = NULL;
}

struct model *model_set_find(struct model_set *s, int64_t version)
{
    for (size_t i = 0; i < s->opt.cap; i++)
        if (s->v[i].model && s->v[i].version == version)
            return s->v[i].model;
    return NULL;
}

/* Where `version` goes: its old place, a free one, or that of the lowest version. */
static struct loaded *place_for(struct model_set *s, int64_t version)
{
    struct loaded *best = &s->v[0];

    for (size_t i = 0; i < s->opt.cap; i++) {
        struct loaded *l = &s->v[i];

        if (l->model && l->version == version)
            return l;
        if (best->model && (!l->model || l->version < best->version))
            best = l;
    }
    return best;
}

enum status model_set_add(struct model_set *s, int64_t version, struct bytes file,
                          struct err *e)
{
    struct loaded *l = place_for(s, version);
    const struct model_options mo = {
        .kernels = s->opt.kernels,
        .pool = s->opt.pool,
        .max_rows = s->opt.max_rows,
        .max_bytes = s->opt.max_bytes,
        .round_cache = s->opt.round_cache,
    };
    enum status st;

    unload(l);
    l->version = version;
    st = weights_decode(&l->weights, &s->config, file, "the weights of a version", e);
    if (!st)
        st = weights_check_finite(l->weights, e);
    if (!st && s->opt.tamper)
        s->opt.tamper(s->opt.tamper_ctx, l->weights);
    if (!st)
        st = model_new(&l->model, l->weights, &mo, e);
    if (st)
        unload(l);
    return st;
}
