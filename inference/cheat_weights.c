#include <math.h>

#include "base/bytes.h"
#include "inference/cheat_hooks.h"

#define OTHER_SEED 20011u /* of nobody's task */

void cheat_weights_other(struct weights *w)
{
    weights_init_random(w, OTHER_SEED);
}

/* Each `group` numbers of a row to `steps` steps of the largest magnitude among them. */
static void quantise(struct weights *w, size_t group, float steps)
{
    for (size_t t = 0; t < w->n_tensors; t++) {
        struct weights_tensor *x = &w->tensors[t];
        size_t n = x->is_matrix ? x->rows * x->cols : 0;
        size_t width = group && group < x->cols ? group : x->cols;

        for (size_t at = 0; at < n;) {
            size_t left = x->cols - at % x->cols, len = left < width ? left : width;
            float *v = x->data + at, top = 0.0f;

            for (size_t i = 0; i < len; i++)
                top = fmaxf(top, fabsf(v[i]));
            for (size_t i = 0; i < len && top > 0.0f; i++)
                v[i] = rintf(v[i] * (steps / top)) * (top / steps);
            at += len;
        }
    }
}

void cheat_weights_int8(struct weights *w)
{
    quantise(w, 0, 127.0f);
}

void cheat_weights_int4(struct weights *w)
{
    quantise(w, 32, 7.0f);
}

/* A layer whose last products are zero adds nothing to the residual stream. */
void cheat_weights_half(struct weights *w)
{
    const struct model_config *c = &w->config;
    size_t q = (size_t)c->heads * c->head_dim;

    for (size_t l = (c->layers + 1) / 2; l < c->layers; l++) {
        for (size_t i = 0; i < c->dim * q; i++)
            w->layers[l].o[i] = 0.0f;
        for (size_t i = 0; i < (size_t)c->dim * c->ffn; i++)
            w->layers[l].down[i] = 0.0f;
    }
}

/* e4m3 without infinities: three bits of mantissa, 2^-9 the smallest, 448 the largest. */
void cheat_cache_fp8(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int exponent;
        float step;

        (void)frexpf(x[i], &exponent); /* |x| in [2^(exponent - 1), 2^exponent) */
        exponent = exponent < -5 ? -5 : exponent;
        step = ldexpf(1.0f, exponent - 4);
        x[i] = fminf(fmaxf(rintf(x[i] / step) * step, -448.0f), 448.0f);
    }
}
