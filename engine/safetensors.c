#include "engine/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/json_text.h"

/* Of a tensor: its object, dtype, shape and offsets, and some for the metadata. */
#define VALUES_MAX ((size_t)24 * SAFETENSORS_TENSORS_MAX)

/* A tensor while the header is read: where in the data it says it lies. */
struct extent {
    uint64_t from, to;
    size_t tensor; /* index into safetensors.tensors */
};

static enum status malformed(struct err *e, const char *what, const char *name, const char *why)
{
    return err_set(e, ERR_MALFORMED, "'%s': tensor '%s': %s", what, name, why);
}

static enum status read_dtype(struct safetensors_tensor *t, const json_t *spec,
                              const char *what, struct err *e)
{
    const char *text = json_string_value(json_object_get(spec, "dtype"));

    if (!text)
        return malformed(e, what, t->name, "no dtype");
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(text, dtype_name((enum dtype)i)) == 0) {
            t->dtype = (enum dtype)i;
            return OK;
        }
    }
    return err_set(e, ERR_UNSUPPORTED,
                   "'%s': tensor '%s': dtype '%.16s' is not F32, BF16 or F16", what, t->name,
                   text);
}

static enum status read_shape(struct safetensors_tensor *t, const json_t *spec,
                              const char *what, struct err *e)
{
    const json_t *shape = json_object_get(spec, "shape");

    if (!json_is_array(shape))
        return malformed(e, what, t->name, "no shape");
    if (json_array_size(shape) > SAFETENSORS_DIMS_MAX)
        return malformed(e, what, t->name, "too many dimensions");
    t->n_dims = (uint32_t)json_array_size(shape);
    t->n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);

        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return malformed(e, what, t->name, "a dimension is not a whole number");
        t->dims[i] = (uint64_t)json_integer_value(dim);
        /* 2^48 elements: the product of this with a dtype's width cannot overflow either. */
        if (t->dims[i] > 0 && t->n > (UINT64_C(1) << 48) / t->dims[i])
            return malformed(e, what, t->name, "the shape is too large");
        t->n *= t->dims[i];
    }
    return OK;
}

static enum status read_offsets(struct extent *x, const struct safetensors_tensor *t,
                                const json_t *spec, const char *what, struct err *e)
{
    const json_t *pair = json_object_get(spec, "data_offsets");
    const json_t *from = json_array_get(pair, 0), *to = json_array_get(pair, 1);

    if (json_array_size(pair) != 2 || !json_is_integer(from) || !json_is_integer(to) ||
        json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from))
        return malformed(e, what, t->name, "data_offsets are not an ascending pair");
    x->from = (uint64_t)json_integer_value(from);
    x->to = (uint64_t)json_integer_value(to);
    if (x->to - x->from != t->n * dtype_bytes(t->dtype))
        return err_set(e, ERR_MALFORMED,
                       "'%s': tensor '%s': its shape takes %" PRIu64
                       " bytes, its offsets span %" PRIu64,
                       what, t->name, t->n * (uint64_t)dtype_bytes(t->dtype), x->to - x->from);
    return OK;
}

static enum status read_tensor(struct safetensors *out, struct extent *x, const char *name,
                               const json_t *spec, const char *what, struct err *e)
{
    struct safetensors_tensor *t = &out->tensors[out->n];
    enum status st;

    if (name[0] == '\0' || strlen(name) > SAFETENSORS_NAME_MAX)
        return err_set(e, ERR_MALFORMED, "'%s': a tensor's name is empty or too long", what);
    if (!json_is_object(spec) || json_object_size(spec) != 3)
        return malformed(e, what, name,
                         "wants dtype, shape and data_offsets, and nothing else");
    t->name = xstrdup(name);
    x->tensor = out->n++;
    st = read_dtype(t, spec, what, e);
    if (!st)
        st = read_shape(t, spec, what, e);
    if (!st)
        st = read_offsets(x, t, spec, what, e);
    return st;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Lends each tensor its bytes; the extents must tile `data`. */
static enum status place(struct safetensors *st, struct extent *extents, struct bytes data,
                         const char *what, struct err *e)
{
    uint64_t at = 0;

    qsort(extents, st->n, sizeof(extents[0]), by_offset);
    for (size_t i = 0; i < st->n; i++) {
        const struct extent *x = &extents[i];
        struct safetensors_tensor *t = &st->tensors[x->tensor];

        if (x->from != at)
            return malformed(e, what, t->name,
                             x->from > at ? "there is a gap before it" : "it overlaps another");
        if (x->to > data.len)
            return err_set(e, ERR_MALFORMED,
                           "'%s' is cut short: tensor '%s' wants %" PRIu64
                           " bytes, the file has %" PRIu64 " of them",
                           what, t->name, x->to - x->from,
                           x->from > data.len ? 0 : (uint64_t)data.len - x->from);
        t->data = bytes_slice(data, (size_t)x->from, (size_t)(x->to - x->from));
        at = x->to;
    }
    if (at != data.len)
        return err_set(e, ERR_MALFORMED,
                       "'%s': %" PRIu64 " bytes are left over after the tensors", what,
                       (uint64_t)data.len - at);
    return OK;
}

static enum status check_metadata(json_t *meta, const char *what, struct err *e)
{
    const char *key;
    json_t *value;

    if (!json_is_object(meta))
        return err_set(e, ERR_MALFORMED, "'%s': __metadata__ is not an object", what);
    json_object_foreach(meta, key, value)
    {
        if (!json_is_string(value))
            return err_set(e, ERR_MALFORMED, "'%s': __metadata__ '%.64s' is not a string", what,
                           key);
    }
    return OK;
}

static enum status read_header(struct safetensors *out, json_t *root, struct bytes data,
                               const char *what, struct err *e)
{
    struct extent *extents = NULL;
    const char *name;
    json_t *spec;
    enum status st;

    if (json_object_size(root) > SAFETENSORS_TENSORS_MAX)
        return err_set(e, ERR_MALFORMED, "'%s': more than %u tensors", what,
                       SAFETENSORS_TENSORS_MAX);
    st = alloc_array(&out->tensors, json_object_size(root) + 1, sizeof(out->tensors[0]),
                     "tensor table", e);
    if (!st)
        st = alloc_array(&extents, json_object_size(root) + 1, sizeof(extents[0]),
                         "tensor offsets", e);
    if (st)
        goto out;
    json_object_foreach(root, name, spec)
    {
        if (strcmp(name, "__metadata__") == 0)
            st = check_metadata(spec, what, e);
        else
            st = read_tensor(out, &extents[out->n], name, spec, what, e);
        if (st)
            goto out;
    }
    st = place(out, extents, data, what, e);
    if (st)
        goto out;
    qsort(out->tensors, out->n, sizeof(out->tensors[0]), by_name);
out:
    free(extents);
    return st;
}

enum status safetensors_decode(struct safetensors *out, struct bytes file, const char *what,
                               struct err *e)
{
    struct reader r = reader_of(file);
    uint64_t n = reader_u64(&r);
    json_t *root;
    enum status st;

    *out = (struct safetensors){0};
    if (r.bad || n > SAFETENSORS_HEADER_MAX || n > reader_left(&r))
        return err_set(e, ERR_MALFORMED,
                       "'%s' is not a safetensors file, or is cut short in its header", what);
    struct bytes header = reader_bytes(&r, (size_t)n);
    struct bytes data = {r.at, reader_left(&r)};

    if (header.len == 0 || header.data[0] != '{')
        return err_set(e, ERR_MALFORMED, "'%s': the header is not a JSON object", what);
    st = json_text_read(&root, header, VALUES_MAX, 0, e);
    if (st)
        return err_prefix(e, st, "'%s': header", what);
    st = read_header(out, root, data, what, e);
    json_decref(root);
    if (st)
        safetensors_clear(out);
    return st;
}

void safetensors_clear(struct safetensors *st)
{
    for (size_t i = 0; i < st->n; i++)
        free(st->tensors[i].name);
    free(st->tensors);
    *st = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *st,
                                                  const char *name)
{
    size_t lo = 0, hi = st->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, st->tensors[mid].name);

        if (order == 0)
            return &st->tensors[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static bool is_plain_name(const char *s)
{
    size_t n = strlen(s);

    for (size_t i = 0; i < n; i++)
        if (s[i] < 0x20 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\')
            return false;
    return n > 0 && n <= SAFETENSORS_NAME_MAX && strcmp(s, "__metadata__") != 0;
}

static uint64_t entry_bytes(const struct safetensors_entry *x, enum dtype dtype)
{
    uint64_t n = dtype_bytes(dtype);

    CHECK(x->n_dims <= SAFETENSORS_DIMS_MAX);
    for (uint32_t i = 0; i < x->n_dims; i++) {
        CHECK(x->dims[i] == 0 || n <= UINT64_MAX / x->dims[i]);
        n *= x->dims[i];
    }
    return n;
}

static void print_header(struct buf *out, const struct safetensors_entry *entries, size_t n,
                         enum dtype dtype)
{
    uint64_t at = 0;

    buf_printf(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        uint64_t size = entry_bytes(&entries[i], dtype);

        buf_printf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", entries[i].name,
                   dtype_name(dtype));
        for (uint32_t d = 0; d < entries[i].n_dims; d++)
            buf_printf(out, "%s%" PRIu64, d ? "," : "", entries[i].dims[d]);
        buf_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + size);
        at += size;
    }
    buf_printf(out, "}");
}

enum status safetensors_header(struct buf *out, const struct safetensors_entry *entries,
                               size_t n, enum dtype dtype, struct err *e)
{
    struct buf header;
    enum status st;

    if (dtype != DTYPE_F32 && dtype != DTYPE_BF16)
        return err_set(e, ERR_INVALID, "tensors are written as F32 or BF16, not %s",
                       dtype_name(dtype));
    for (size_t i = 0; i < n; i++) {
        if (!is_plain_name(entries[i].name))
            return err_set(e, ERR_INVALID, "'%s' is not a tensor name", entries[i].name);
        if (i > 0 && strcmp(entries[i - 1].name, entries[i].name) >= 0)
            return err_set(e, ERR_INVALID, "tensors are not in name order: '%s' before '%s'",
                           entries[i - 1].name, entries[i].name);
    }
    buf_init(&header, SAFETENSORS_HEADER_MAX);
    print_header(&header, entries, n, dtype);
    while (!header.bad && header.len % 8 != 0)
        buf_put_u8(&header, ' ');
    st = buf_status(&header, e);
    if (!st) {
        buf_put_u64(out, header.len);
        buf_append(out, buf_bytes(&header));
        st = buf_status(out, e);
    }
    buf_clear(&header);
    return st;
}

enum status safetensors_encode(struct buf *out, const struct safetensors_entry *entries,
                               size_t n, enum dtype dtype, struct err *e)
{
    enum status st = safetensors_header(out, entries, n, dtype, e);

    for (size_t i = 0; !st && i < n; i++) {
        uint64_t size = entry_bytes(&entries[i], dtype);
        uint8_t *at = buf_extend(out, (size_t)size);

        if (at)
            dtype_narrow(at, entries[i].data, dtype, (size_t)(size / dtype_bytes(dtype)));
    }
    return st ? st : buf_status(out, e);
}
