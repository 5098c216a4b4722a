/*
 * engine/train_inside.h - a step's arrays, shared by train_make.c and train.c (private to engine/)
 *
 * train_make.c sizes them, and moves weights, gradients and the optimizer; train.c runs over them.
 */
#ifndef ENGINE_TRAIN_INSIDE_H
#define ENGINE_TRAIN_INSIDE_H

#include "engine/attend.h"
#include "engine/layer.h"
#include "engine/train.h"

/* Logits exist for a few rows at a time: about this many numbers, and never less than a block. A
 * chunk should be large, for the head's weights and their gradient pass through memory with each. */
#define LOGITS_CHUNK (1u << 23)
#define LOGITS_ROWS  256u
#define DEVICE_CHUNK (1u << 27) /* a GPU has room, and wants more to do at once */
#define DEVICE_ROWS  2048u
#define LOGITS_BLOCK 32u /* of bf16-1: positions of a sequence that must not be torn apart */

/* What is at hand for one layer, or one chunk of logits, at a time. */
struct scratch {
    float *h;             /* (T, C): normed x_in, then normed x_mid */
    float *act;           /* (T, F): the activation, then its gradient */
    float *dx;            /* (T, C): the gradient of the residual stream */
    float *dh;            /* (T, C) */
    float *datt;          /* (T, H, D); then dq before q_norm */
    float *dq, *dk, *dv;  /* (T, H, D), (T, G, D) twice */
    float *dk_raw;        /* (T, G, D): dk before k_norm; NULL without one */
    float *logits;        /* (R, V) */
    float *rows, *drows;  /* (R, C): hidden states of the rows whose logits are at hand */
    float *logp, *weight; /* (R) */
};

/* Of a batch, addresses for operations. */
struct batch_there {
    const int32_t *tokens, *pos;
    const uint32_t *order, *start; /* rows by token (engine/device_ops.h), of a device */
    size_t n_ids;
};

/* The gradient of a tied embedding as an embedding, (V, C), while `grads` has the head's. A step has a
 * few thousand of its rows: on the host only those take memory, and only during the step. */
struct apart {
    float *at;     /* owned; NULL: there is none */
    size_t bytes;  /* of the host's */
    bool *has_row; /* owned, (V), of the host: which rows are not +0 throughout */
};

/* All numbers but those of `host_grads`, `logp` and `index` are where the model computes. */
struct train {
    struct model *model;        /* owned */
    struct device *device;      /* the model's */
    struct weights *weights;    /* owned: what a model on a device reads; NULL on the CPU */
    struct weights *grads;      /* owned */
    struct weights *host_grads; /* owned: a copy of a device's, once somebody asked for it */
    struct weights *masters; /* owned, on a device: the optimizer's, from the first update on */
    struct adamw *optimizer; /* owned, likewise */
    struct apart apart;      /* the embedding's gradient; empty unless tied */
    size_t max_rows, logits_rows;
    bool recompute, is_pass;

    void *pass;              /* owned: where is_pass, what a class keeps of the layers */
    float *floats;           /* owned: what the fields below point into */
    struct layer_acts *acts; /* owned, one a layer */
    float *hidden;           /* (T, C) */
    float *last;             /* (T, C): the stream after the last layer */
    struct scratch s;

    struct attend attend;
    struct stage call, chunk; /* what operations read of a batch, and of the rows at hand */
    struct batch_there there;
    const int32_t *pos;       /* (T), in `call` */
    int32_t *tokens;          /* owned, (R): targets of the rows at hand */
    const int32_t *tokens_at; /* the same, for operations */
    uint32_t *index;          /* owned, (R): which rows they are */
    const uint32_t *index_at;
    float *logp, *weight; /* owned, (R): the host's */
    float *inv; /* owned, (R), of the host: 1 / sum of the exponentials that logits became */
    uint64_t *sorted; /* owned, (T): rows by token, of a device */
};

#endif
