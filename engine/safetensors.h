/*
 * engine/safetensors.h - the file format of named tensors
 *
 *   u64 N, little-endian | N bytes of JSON | data
 *   {"name":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]}, ..., "__metadata__":{...}}
 *
 * Reading trusts nothing: the header's length is bounded before it is parsed, JSON is strict
 * (UTF-8, no duplicate keys, whole numbers), every size is multiplied with overflow checks, and
 * the tensors must tile the data exactly: no holes, no overlap, nothing left over. A view lends
 * the bytes it was given; it copies only names.
 *
 * Writing is canonical: tensors in byte order of their names, one spelling of the header, which is
 * padded with spaces to a multiple of eight. The same tensors give the same bytes, which is what
 * the digests of weight versions stand on.
 *
 * The format: https://github.com/huggingface/safetensors. Threads: a view does not change; readers may
 * share it.
 */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/dtype.h"

#define SAFETENSORS_HEADER_MAX  (16u << 20) /* bytes: 256 for each of the most tensors */
#define SAFETENSORS_TENSORS_MAX 65536u
#define SAFETENSORS_DIMS_MAX    8u
#define SAFETENSORS_NAME_MAX    256u

struct safetensors_tensor {
    char *name; /* owned by the view */
    enum dtype dtype;
    uint32_t n_dims;
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    uint64_t n;        /* elements */
    struct bytes data; /* lent from the file's bytes */
};

struct safetensors {
    struct safetensors_tensor *tensors; /* owned, in name order */
    size_t n;
};

/* Parses `file`, whose bytes must outlive *out. `what` names the file in error texts.
 * ERR_MALFORMED; ERR_UNSUPPORTED for a dtype that is not in dtype.h. A file cut short says which
 * tensor it ends in, how many bytes that wants and how many there are. On failure *out is empty. */
MUST_USE enum status safetensors_decode(struct safetensors *out, struct bytes file,
                                        const char *what, struct err *e);
void safetensors_clear(struct safetensors *st);

/* NULL when there is none of that name. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *st,
                                                  const char *name);

/* A tensor to be written. */
struct safetensors_entry {
    const char *name; /* printable ASCII without quotes and backslashes */
    uint32_t n_dims;
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    const float *data; /* not looked at by safetensors_header */
};

/* Appends the canonical file of the entries, which must be in ascending byte order of their names
 * (ERR_INVALID otherwise), stored as `dtype` (F32 or BF16). ERR_LIMIT at the ceiling of `out`. */
MUST_USE enum status safetensors_encode(struct buf *out,
                                        const struct safetensors_entry *entries, size_t n,
                                        enum dtype dtype, struct err *e);
/* Appends what comes before the data in that file: the length and the header. The data of the
 * entries follow in their order, without gaps. */
MUST_USE enum status safetensors_header(struct buf *out,
                                        const struct safetensors_entry *entries, size_t n,
                                        enum dtype dtype, struct err *e);

#endif
