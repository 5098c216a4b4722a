/*
 * engine/weights.h - the named tensors of a model, and anything shaped like them
 *
 * One allocation, carved by one table of names and shapes (Hugging Face's names) into tensors that
 * lie in byte order of their names. The same struct serves weights, gradients and the optimizer's
 * moments: "for every tensor" is a loop over `tensors`, "for every number" a loop over `data`.
 *
 * A linear weight is (out, in), row-major. Everything is f32 here; other dtypes exist in files only.
 *
 * Threads: none of its own; readers may share.
 */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/config.h"
#include "engine/device.h"

#define WEIGHTS_NAME_BYTES    64
#define WEIGHTS_DIGEST_BYTES  32
#define WEIGHTS_LAYER_TENSORS 15 /* at most, of one layer */

struct weights_tensor {
    char name[WEIGHTS_NAME_BYTES];
    size_t rows, cols; /* a vector has one row */
    bool is_matrix;
    float *data; /* into weights.data, rows * cols */
};

/* The tensors of one layer, as pointers into weights.data. NULL: the architecture has none. */
struct weights_layer {
    float *input_norm; /* (C) */
    float *q, *k, *v;  /* (heads * head_dim, C), (kv_heads * head_dim, C) twice */
    float *q_bias, *k_bias, *v_bias;
    float *q_norm, *k_norm; /* (head_dim) */
    float *o;               /* (C, heads * head_dim) */
    float *o_bias;
    float *post_norm; /* (C) */
    float *gate, *up; /* (ffn, C) */
    float *down;      /* (C, ffn) */
};

struct weights {
    struct model_config config;
    struct device *device;          /* where `data` is; NULL: the host */
    struct weights_tensor *tensors; /* owned, in name order */
    size_t n_tensors;
    float *data;   /* owned, all tensors end to end */
    size_t n_data; /* numbers */

    float *embed;                 /* (V, C) */
    float *norm;                  /* (C) */
    float *head;                  /* (V, C); NULL when tied: the head is `embed` */
    struct weights_layer *layers; /* owned, config.layers of them */
};

/* All zeros. ERR_INVALID: the config does not pass model_config_check; ERR_NO_MEMORY. */
MUST_USE enum status weights_new(struct weights **out, const struct model_config *c,
                                 struct err *e);
/* The same on a device (NULL: the host). Of the functions below weights_zero and weights_copy take
 * weights of devices. */
MUST_USE enum status weights_new_on(struct weights **out, const struct model_config *c,
                                    struct device *d, struct err *e);
/* The same without matrices, whose `data` stays NULL: for a model whose matrices lie elsewhere. */
MUST_USE enum status weights_new_vectors(struct weights **out, const struct model_config *c,
                                         struct device *d, struct err *e);
void weights_free(struct weights **w);

/* The table alone, in name order: names and shapes, with `data` NULL. Takes no memory that grows
 * with the shapes. *out is the caller's to free. Fails as weights_new. */
MUST_USE enum status weights_table(struct weights_tensor **out, size_t *n,
                                   const struct model_config *c, struct err *e);
/* NULL: there is none of that name. */
struct weights_tensor *weights_table_find(struct weights_tensor *table, size_t n,
                                          const char *name);

/* A function of the config and the seed alone: a matrix is normal with deviation 1 / sqrt(inputs),
 * those that write to the residual stream (o, down) divided by 2 * layers; norms are 1, biases 0.
 * Number i of tensor t comes from Philox draw i of stream t: an own Box-Muller in binary64.
 * (The usual fixed deviation of 0.02 suits models a thousand wide; in one of 64 its signals are
 * faint: after 30 supervised steps on sort-letters the loss was 1.56, with this rule 0.24.) */
void weights_init_random(struct weights *w, uint64_t seed);

void weights_zero(struct weights *w);
/* Both must have equal configs. From or to the host, or within a device. */
void weights_copy(struct weights *to, const struct weights *from);
/* Rounds every number to the nearest value of `dtype`, in place. F32 changes nothing. */
void weights_round(struct weights *w, enum dtype dtype);
/* ERR_NUMERIC naming the tensor and index of the first NaN or infinity. */
MUST_USE enum status weights_check_finite(const struct weights *w, struct err *e);
/* NULL: there is none of that name. */
struct weights_tensor *weights_find(const struct weights *w, const char *name);
/* BLAKE2b-256 over the f32 data in name order, little-endian: a name for these very numbers. */
void weights_digest(uint8_t out[WEIGHTS_DIGEST_BYTES], const struct weights *w);

/* Appends one safetensors file: what shardcast cuts. `dtype` F32 or BF16. weights_encode_bytes is an
 * upper bound of its length, for the ceiling of `out`. ERR_LIMIT: the ceiling is lower. */
MUST_USE enum status weights_encode(struct buf *out, const struct weights *w, enum dtype dtype,
                                    struct err *e);
size_t weights_encode_bytes(const struct model_config *c);
/* What comes before the numbers in that file, from the table alone; they follow in its order. */
MUST_USE enum status weights_encode_header(struct buf *out, const struct weights_tensor *table,
                                           size_t n, enum dtype dtype, struct err *e);
/* Every tensor of the config must be there with its shape, and nothing else; what is passed over is
 * said in engine/weights_map.h. Memory of the model's size is taken after that was checked. Fails as
 * weights_map_decode, and with ERR_NO_MEMORY. `what` names the file in messages. */
MUST_USE enum status weights_decode(struct weights **out, const struct model_config *c,
                                    struct bytes file, const char *what, struct err *e);

/* A Hugging Face directory, read by way of a weights_map and written as weights_map_save does; the
 * tokenizer is saved by tokenizer_save. Fail as weights_map_open and weights_map_save, and with
 * ERR_NO_MEMORY. */
MUST_USE enum status weights_load(struct weights **out, const char *dir, struct err *e);
MUST_USE enum status weights_save(const struct weights *w, const char *dir, enum dtype dtype,
                                  struct err *e);

#endif
