#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "shardcast/delta_block.h"

#define HEADER_MAX (16u << 20)

/* A tensor: where in the data it lies. */
struct extent {
    uint64_t from, to;
    enum delta_kind kind;
};

static enum delta_kind kind_of(const char *dtype)
{
    static const char *const names[DELTA_KINDS] = {
        [DELTA_BF16] = "BF16", [DELTA_F16] = "F16", [DELTA_F32] = "F32"};

    for (unsigned k = DELTA_BF16; dtype && k < DELTA_KINDS; k++)
        if (!strcmp(dtype, names[k]))
            return (enum delta_kind)k;
    return DELTA_RAW;
}

static bool read_extent(struct extent *x, const json_t *spec)
{
    const json_t *pair = json_object_get(spec, "data_offsets");
    const json_t *from = json_array_get(pair, 0), *to = json_array_get(pair, 1);

    if (!json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < json_integer_value(from))
        return false;
    x->from = (uint64_t)json_integer_value(from);
    x->to = (uint64_t)json_integer_value(to);
    x->kind = kind_of(json_string_value(json_object_get(spec, "dtype")));
    return (x->to - x->from) % delta_kind_bytes(x->kind) == 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

/* The tensors of a header, in file order, or none unless they tile `data_bytes`. */
static enum status read_extents(struct extent **out, size_t *n, const json_t *root,
                                uint64_t data_bytes, struct err *e)
{
    enum status st =
        alloc_array(out, json_object_size(root) + 1, sizeof(**out), "tensors of a file", e);
    const char *name;
    json_t *spec;
    uint64_t at = 0;
    bool is_good = !st;

    *n = 0;
    if (st)
        return st;
    json_object_foreach((json_t *)root, name, spec)
    {
        if (strcmp(name, "__metadata__") != 0)
            is_good = is_good && read_extent(&(*out)[(*n)++], spec);
    }
    qsort(*out, *n, sizeof(**out), by_offset);
    for (size_t i = 0; is_good && i < *n; i++) {
        is_good = (*out)[i].from == at;
        at = (*out)[i].to;
    }
    if (!is_good || at != data_bytes)
        *n = 0;
    return OK;
}

static void add_range(struct delta_range *ranges, size_t *n, uint64_t n_bytes,
                      enum delta_kind kind)
{
    if (n_bytes == 0)
        return;
    if (*n > 0 && ranges[*n - 1].kind == kind)
        ranges[*n - 1].n_bytes += n_bytes;
    else
        ranges[(*n)++] = (struct delta_range){n_bytes, kind};
}

/* The header as JSON; NULL: the file is no safetensors. */
static json_t *header_of(struct bytes file, size_t *n_header)
{
    struct reader r = reader_of(file);
    uint64_t n = reader_u64(&r);

    if (r.bad || n == 0 || n > HEADER_MAX || n > reader_left(&r) || *r.at != '{')
        return NULL;
    *n_header = (size_t)n;
    return json_loadb((const char *)r.at, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
}

enum status delta_ranges(struct delta_range **out, size_t *n, struct bytes file, struct err *e)
{
    size_t n_header = 0, n_extents = 0;
    struct extent *extents = NULL;
    json_t *root = header_of(file, &n_header);
    enum status st = OK;

    *out = NULL;
    *n = 0;
    if (root)
        st = read_extents(&extents, &n_extents, root, file.len - 8 - n_header, e);
    if (!st)
        st = alloc_array(out, n_extents + 1, sizeof(**out), "ranges of a file", e);
    if (!st && n_extents == 0)
        add_range(*out, n, file.len, DELTA_RAW);
    else if (!st)
        add_range(*out, n, 8 + n_header, DELTA_RAW);
    for (size_t i = 0; !st && i < n_extents; i++)
        add_range(*out, n, extents[i].to - extents[i].from, extents[i].kind);
    json_decref(root);
    free(extents);
    return st;
}
