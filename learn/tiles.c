#include "learn/tiles.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/merkle.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "leaves hash f32 data as it lies");

static size_t pieces(size_t n, size_t of)
{
    return (n + of - 1) / of;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct tiling tiling_of(size_t rows, size_t cols)
{
    CHECK(rows > 0 && cols > 0 && rows < UINT32_MAX && cols < UINT32_MAX);
    return (struct tiling){(uint32_t)rows, (uint32_t)cols, TILE_SIDE, TILE_SIDE};
}

uint64_t tiling_count(const struct tiling *t)
{
    return (uint64_t)pieces(t->rows, t->tile_rows) * pieces(t->cols, t->tile_cols);
}

struct tile tiling_at(const struct tiling *t, uint64_t index)
{
    uint64_t across = pieces(t->cols, t->tile_cols);
    struct tile at = {.row = (size_t)(index / across) * t->tile_rows,
                      .col = (size_t)(index % across) * t->tile_cols};

    CHECK(index < tiling_count(t));
    at.rows = least(t->tile_rows, t->rows - at.row);
    at.cols = least(t->tile_cols, t->cols - at.col);
    return at;
}

void tile_copy(float to[TILE_MAX], const struct tiling *t, const float *matrix, uint64_t index)
{
    struct tile at = tiling_at(t, index);

    for (size_t r = 0; r < at.rows; r++)
        memcpy(to + r * at.cols, matrix + (at.row + r) * t->cols + at.col,
               at.cols * sizeof(float));
}

void tile_leaf(struct digest *out, const float *numbers, size_t n)
{
    merkle_leaf(out, (struct bytes){(const uint8_t *)numbers, n * sizeof(float)});
}

struct leaves_job {
    struct digest *leaf;
    const struct tiling *t;
    const float *matrix;
};

static void hash_leaves(void *arg, size_t lo, size_t hi)
{
    const struct leaves_job *j = arg;
    float tile[TILE_MAX];

    for (size_t i = lo; i < hi; i++) {
        struct tile at = tiling_at(j->t, i);

        tile_copy(tile, j->t, j->matrix, i);
        tile_leaf(&j->leaf[i], tile, at.rows * at.cols);
    }
}

void tiles_leaves(struct digest *leaf, const struct tiling *t, const float *matrix,
                  struct pool *pool)
{
    struct leaves_job j = {leaf, t, matrix};

    pool_run(pool, (size_t)tiling_count(t), 16, hash_leaves, &j);
}

enum status tiles_root(struct digest *out, const struct tiling *t, const float *matrix,
                       struct pool *pool, struct err *e)
{
    size_t n = (size_t)tiling_count(t);
    struct digest *leaf;
    struct merkle tree;
    enum status st = alloc_array(&leaf, n, sizeof(*leaf), "hashes of tiles", e);

    if (st)
        return st;
    tiles_leaves(leaf, t, matrix, pool);
    merkle_init(&tree);
    for (size_t i = 0; i < n; i++)
        merkle_add_hash(&tree, &leaf[i]);
    merkle_root(&tree, out);
    free(leaf);
    return OK;
}

enum status tiles_weights_roots(struct digest *root, const struct weights *w, struct pool *pool,
                                struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; !st && i < w->n_tensors; i++) {
        struct tiling t = tiling_of(w->tensors[i].rows, w->tensors[i].cols);

        st = tiles_root(&root[i], &t, w->tensors[i].data, pool, e);
    }
    return st;
}

void state_masters_root(struct digest *out, const struct digest *root, size_t n)
{
    merkle_root_of_digests(out,
                           (struct bytes){(const uint8_t *)root, n * sizeof(struct digest)});
}

void state_optimizer_join(struct digest *out, uint64_t steps, const struct digest *m,
                          const struct digest *v)
{
    struct digest_state s;

    digest_begin(&s, "muster/optimizer");
    digest_add_u64(&s, steps);
    digest_add(&s, BYTES_OF(m->b));
    digest_add(&s, BYTES_OF(v->b));
    digest_end(&s, out);
}

void state_optimizer_root(struct digest *out, uint64_t steps, const struct digest *m_root,
                          const struct digest *v_root, size_t n)
{
    struct digest m, v;

    state_masters_root(&m, m_root, n);
    state_masters_root(&v, v_root, n);
    state_optimizer_join(out, steps, &m, &v);
}

enum status state_roots(struct digest *masters, struct digest *optimizer,
                        const struct weights *w, const struct adamw *opt, struct pool *pool,
                        struct err *e)
{
    size_t n = w->n_tensors;
    struct digest *root;
    enum status st = alloc_array(&root, 3 * n, sizeof(*root), "roots of parameters", e);

    if (st)
        return st;
    st = tiles_weights_roots(root, w, pool, e);
    if (!st)
        st = tiles_weights_roots(root + n, opt->m, pool, e);
    if (!st)
        st = tiles_weights_roots(root + 2 * n, opt->v, pool, e);
    if (!st) {
        state_masters_root(masters, root, n);
        state_optimizer_root(optimizer, opt->step, root + n, root + 2 * n, n);
    }
    free(root);
    return st;
}
