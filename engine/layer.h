/*
 * engine/layer.h - one layer's forward pass, shared by model.c and train.c
 *
 * Inference and training differ in where they put intermediate results: inference uses the same
 * scratch for every layer and overwrites what it can, training keeps all of it. Here is the
 * arithmetic, once; which buffers it runs over is the caller's table. Private to engine/.
 */
#ifndef ENGINE_LAYER_H
#define ENGINE_LAYER_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "engine/arena.h"
#include "engine/model.h"
#include "engine/ops.h"
#include "engine/stage.h"

struct attend; /* engine/attend.h */

/* Memory of a device (NULL: the host) that is as large as it had to be so far. */
struct room {
    float *at; /* owned */
    size_t n;  /* floats */
};

struct model_layer {
    struct packed q, k, v, o, gate, up, down;
};

/* A part of a run that is computed in one go. */
struct model_piece {
    size_t slot;
    size_t first;
    size_t n;
    size_t n_out; /* of its last rows */
};

struct model {
    struct model_config config;
    const struct weights *w;                /* borrowed; of a map: `vectors` */
    const struct weights_map *map;          /* borrowed, or NULL */
    const struct weights_map_tensor *embed; /* of the map */
    /* Owned: norms and biases of the map, widened, or of any model whose kernels are a device's */
    struct weights *vectors;
    struct arena arena; /* what the packed matrices lie in */
    const struct kernels *kernels;
    struct device *device; /* the kernels' */
    uint64_t weights_id;   /* of struct device_pass */
    struct pool *pool;
    void (*round_cache)(float *x, size_t n); /* before cache_round; or NULL */
    size_t max_rows;
    struct model_layer *layers; /* owned */
    struct packed head;
    struct packed table; /* the embedding, on a device that has it nowhere else */
    float *cos, *sin;    /* owned, (n_rope, D/2): grown by model_rope */
    size_t n_rope;
    float *floats; /* owned: the scratch that the fields of `a` point into */
    void *pass;    /* owned: of a class that passes through all layers itself */
    struct stage stage;
    struct attend *attend;      /* owned */
    struct model_piece *pieces; /* owned, (max_rows) */
    struct layer_acts *a;       /* owned */

    /* Hidden states of the last call of model_forward, (n_last, C): `hidden`, or the caller's. */
    const float *last;
    size_t n_last;
    struct room hidden, logits, drawn, top; /* of the device */
    struct room host_logits;
    struct room host_drawn, host_top; /* that the device reaches */
    size_t n_top;                     /* rows of which the largest elements are wanted */
    bool is_top_due;                  /* they were not asked for yet */
};

/* Makes the room at least n floats large, whose numbers are lost when it grows. */
MUST_USE enum status room_grow(struct room *r, struct device *d, uint64_t n, const char *what,
                               struct err *e);
/* The same for memory of the host that the device reaches: device_alloc_host. */
MUST_USE enum status room_grow_host(struct room *r, struct device *d, uint64_t n,
                                    const char *what, struct err *e);

/* The buffers of one layer. Those on one line may be one and the same when nobody needs the
 * earlier value again. Rows are dense. */
struct layer_acts {
    float *x_in, *x_mid, *x_out; /* (T, C): the residual stream before, between and after */
    float *h1, *h2;              /* (T, C): normed x_in, normed x_mid */
    float *q_raw, *q;  /* (T, H, D): before and after q_norm; RoPE works in place on q */
    float *k_raw, *k;  /* (T, G, D) */
    float *v;          /* (T, G, D) */
    float *att;        /* (T, H, D): the attention's output */
    float *lse;        /* (T, H), or NULL */
    float *gate, *act; /* (T, F) */
    float *up;         /* (T, F) */
};

/* Makes the rotation tables hold positions below n_pos <= max_len. What a config claims of its
 * longest sequence costs nothing until one gets there. ERR_NO_MEMORY. */
MUST_USE enum status model_rope(struct model *m, size_t n_pos, struct err *e);

/* y (T, C) = rmsnorm(x, norm) over the model's pool. y may be x. */
void layer_norm(const struct model *m, float *y, const float *x, const float *norm, size_t T);
/* From x_in to q, k, v, rotated. `pos` (T) are the rows' positions. */
void layer_before_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                            const int32_t *pos, size_t T);
/* From att to x_out. */
void layer_after_attention(const struct model *m, size_t layer, const struct layer_acts *a,
                           size_t T);

/* Heads and strides of the attention calls; K and V rows are (G, D), dense. */
struct attention_shape layer_attention_shape(const struct model *m);

/* A carver of one allocation into arrays. With base NULL it only counts. */
struct carve {
    float *base;
    uint64_t n; /* floats so far */
};
float *carve_take(struct carve *c, uint64_t n);

#endif
