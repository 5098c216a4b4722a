/*
 * engine/weights_map.h - the tensors of a Hugging Face directory where they lie, and files made
 * from tensors
 *
 * A directory is config.json with model.safetensors, or with model.safetensors.index.json and the
 * files it names; where both are there the first is read, as transformers does. Opening maps the
 * files and checks all of it before anybody takes memory of the model's size:
 *
 *   - config.json is one that is computed here (engine/config.h);
 *   - every tensor that it asks for is there once, with its shape, as F32, BF16 or F16;
 *   - there is no other tensor, but for the rotary tables of old checkpoints and the head of a tied
 *     model, which must then be the embedding bit for bit;
 *   - an index names files of its own directory only, and each tensor lies where it says.
 *
 * So what a map lends fits its config, whoever made the files. The bytes are those of the files:
 * F32 and BF16 little-endian, at any address.
 *
 * Threads: readers may share a map.
 */
#ifndef ENGINE_WEIGHTS_MAP_H
#define ENGINE_WEIGHTS_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/dtype.h"
#include "engine/weights.h"

struct weights_map_tensor {
    struct weights_tensor shape; /* its `data` is NULL */
    enum dtype dtype;            /* as stored */
    struct bytes data;           /* lent; rows * cols numbers */
};

struct weights_map {
    struct model_config config;
    struct weights_map_tensor *tensors; /* owned, in name order */
    size_t n_tensors;
    struct weights_file *files; /* owned */
    size_t n_files;
    uint8_t *numbers; /* owned: of weights_map_of, or NULL */
};

/* ERR_NOT_FOUND, ERR_IO, ERR_MALFORMED, ERR_INVALID, ERR_UNSUPPORTED; *out is NULL then. */
MUST_USE enum status weights_map_open(struct weights_map **out, const char *dir, struct err *e);
/* One safetensors file of the caller's, which must outlive the map. `what` names it in errors. */
MUST_USE enum status weights_map_decode(struct weights_map **out, const struct model_config *c,
                                        struct bytes file, const char *what, struct err *e);
/* Of weights in memory, rounded to `dtype` (F32 or BF16) in memory of the map. ERR_NO_MEMORY. */
MUST_USE enum status weights_map_of(struct weights_map **out, const struct weights *w,
                                    enum dtype dtype, struct err *e);
void weights_map_close(struct weights_map **m);

/* NULL when there is none of that name. */
const struct weights_map_tensor *weights_map_find(const struct weights_map *m,
                                                  const char *name);
/* The tensor's bytes will not be read for a while: where they are mapped from a file, their memory
 * goes back to the system. Reading them afterwards is as before. */
void weights_map_rest(const struct weights_map *m, const struct weights_map_tensor *t);

/* The f32 numbers [from, from + n) of a tensor, widened exactly. */
void weights_map_read(float *out, const struct weights_map_tensor *t, size_t from, size_t n);
/* As weights_digest of the loaded weights. */
void weights_map_digest(uint8_t out[WEIGHTS_DIGEST_BYTES], const struct weights_map *m);

/* How a directory is written. */
struct weights_map_save {
    enum dtype dtype; /* F32 or BF16: rounded to nearest even */
    uint64_t
        shard_bytes; /* begin another file before the data of one gets longer; 0: one file */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes); /* may be NULL */
    void *ctx;
};

/* Makes the directory and writes the tensors, which must be those of `c` in name order, and then
 * config.json with the dtype as its torch_dtype: a directory that transformers loads. Holds no more
 * than a block of a tensor. ERR_IO, ERR_FULL, ERR_INVALID. */
MUST_USE enum status weights_map_save(const struct weights_map_tensor *tensors, size_t n,
                                      const struct model_config *c, const char *dir,
                                      const struct weights_map_save *how, struct err *e);

#endif
