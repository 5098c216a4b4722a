/*
 * learn/tiles: where tiles lie, and what the two roots of a state cover.
 */
#include "learn/tiles.h"

#include <string.h>

#include "proto/merkle.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"

static void tiles_cover_a_matrix_once(void **state)
{
    static const size_t shapes[][2] = {{1, 1}, {32, 32}, {33, 1}, {1, 100}, {70, 45}};
    static uint8_t seen[70 * 100];

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (uint32_t side = 1; side <= TILE_SIDE; side += 31) {
            struct tiling t = tiling_of(shapes[i][0], shapes[i][1]);

            t.tile_rows = side;
            memset(seen, 0, sizeof(seen));
            for (uint64_t k = 0; k < tiling_count(&t); k++) {
                struct tile at = tiling_at(&t, k);

                assert_in_range(at.rows * at.cols, 1, TILE_MAX);
                for (size_t r = at.row; r < at.row + at.rows; r++)
                    for (size_t c = at.col; c < at.col + at.cols; c++)
                        seen[r * t.cols + c]++;
            }
            for (size_t j = 0; j < (size_t)t.rows * t.cols; j++)
                assert_int_equal(seen[j], 1);
        }
}

/* The second tile of a matrix of 2 x 40: columns 32 to 39 of both rows. */
static void a_leaf_is_a_tiles_numbers_row_by_row(void **state)
{
    struct tiling t = tiling_of(2, 40);
    float matrix[80], want[16];
    struct digest leaf[2], found, expected;

    (void)state;
    for (size_t i = 0; i < 80; i++)
        matrix[i] = (float)i;
    for (size_t i = 0; i < 16; i++)
        want[i] = (float)(i / 8 * 40 + 32 + i % 8);
    tiles_leaves(leaf, &t, matrix, NULL);
    merkle_leaf(&found, BYTES_OF(want));
    assert_memory_equal(leaf[1].b, found.b, DIGEST_BYTES);
    merkle_node(&expected, &leaf[0], &leaf[1]);
    assert_ok(tiles_root(&found, &t, matrix, NULL, NULL), NULL);
    assert_memory_equal(found.b, expected.b, DIGEST_BYTES);
}

struct roots {
    struct digest masters, optimizer;
};

static struct roots roots_of(const struct weights *w, const struct adamw *opt,
                             struct pool *pool)
{
    struct roots r;

    assert_ok(state_roots(&r.masters, &r.optimizer, w, opt, pool, NULL), NULL);
    return r;
}

static void the_roots_cover_masters_step_and_both_moments(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    struct weights *w = tiny_weights(&c, 1);
    struct roots a, b;
    struct pool *pool;
    struct adamw *opt;

    (void)state;
    assert_ok(adamw_new(&opt, &c, NULL), NULL);
    pool_new(&pool, 3);
    a = roots_of(w, opt, NULL);
    b = roots_of(w, opt, pool);
    assert_memory_equal(&a, &b, sizeof(a));
    opt->step++;
    b = roots_of(w, opt, NULL);
    assert_memory_not_equal(a.optimizer.b, b.optimizer.b, DIGEST_BYTES);
    opt->step--;
    opt->m->head[0] = 1.0f;
    b = roots_of(w, opt, NULL);
    assert_memory_not_equal(a.optimizer.b, b.optimizer.b, DIGEST_BYTES);
    opt->m->head[0] = 0.0f;
    opt->v->head[0] = 1.0f;
    b = roots_of(w, opt, NULL);
    assert_memory_not_equal(a.optimizer.b, b.optimizer.b, DIGEST_BYTES);
    assert_memory_equal(a.masters.b, b.masters.b, DIGEST_BYTES);
    opt->v->head[0] = 0.0f;
    w->norm[0] += 1.0f;
    b = roots_of(w, opt, NULL);
    assert_memory_not_equal(a.masters.b, b.masters.b, DIGEST_BYTES);
    assert_memory_equal(a.optimizer.b, b.optimizer.b, DIGEST_BYTES);
    weights_free(&w);
    adamw_free(&opt);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_cover_a_matrix_once),
        cmocka_unit_test(a_leaf_is_a_tiles_numbers_row_by_row),
        cmocka_unit_test(the_roots_cover_masters_step_and_both_moments),
    };

    return cmocka_run_group_tests_name("learn/tiles", tests, NULL, NULL);
}
