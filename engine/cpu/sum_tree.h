/*
 * engine/cpu/sum_tree.h - the sum of the numerics classes (docs/numerics.md, "Sums")
 *
 * Up to 256 terms are added in sixteen lanes and the lanes in halves; the sums of blocks of 256
 * are summed by the same rule, and so on. A struct sum_tree takes the block sums one after the
 * other. A block of one term is that term, so the ends of the levels need no special case.
 */
#ifndef ENGINE_CPU_SUM_TREE_H
#define ENGINE_CPU_SUM_TREE_H

#include <math.h>
#include <stddef.h>

#include "base/attr.h"

#define SUM_LANES  16u
#define SUM_BLOCK  256u
#define SUM_LEVELS 4u

ALWAYS_INLINE float sum_lanes(float *s)
{
    for (size_t half = SUM_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            s[j] += s[j + half];
    return s[0];
}

/* n <= SUM_BLOCK */
ALWAYS_INLINE float sum_block(const float *x, size_t n)
{
    float s[SUM_LANES] = {0};
    size_t i = 0;

    for (; i + SUM_LANES <= n; i += SUM_LANES)
        for (size_t j = 0; j < SUM_LANES; j++)
            s[j] += x[i + j];
    for (size_t j = 0; i + j < n; j++)
        s[j] += x[i + j];
    return sum_lanes(s);
}

ALWAYS_INLINE float dot_block(const float *a, const float *b, size_t n)
{
    float s[SUM_LANES] = {0};
    size_t i = 0;

    for (; i + SUM_LANES <= n; i += SUM_LANES)
        for (size_t j = 0; j < SUM_LANES; j++)
            s[j] = fmaf(a[i + j], b[i + j], s[j]);
    for (size_t j = 0; i + j < n; j++)
        s[j] = fmaf(a[i + j], b[i + j], s[j]);
    return sum_lanes(s);
}

/* Sums of blocks: level 0 of 256 terms each, level 1 of 65,536, ... */
struct sum_tree {
    size_t n[SUM_LEVELS];
    float part[SUM_LEVELS][SUM_BLOCK];
};

ALWAYS_INLINE void sum_tree_init(struct sum_tree *t)
{
    for (size_t l = 0; l < SUM_LEVELS; l++)
        t->n[l] = 0;
}

ALWAYS_INLINE void sum_tree_add(struct sum_tree *t, float block_sum)
{
    for (size_t l = 0; l < SUM_LEVELS; l++) {
        t->part[l][t->n[l]++] = block_sum;
        if (t->n[l] < SUM_BLOCK)
            return;
        block_sum = sum_block(t->part[l], SUM_BLOCK);
        t->n[l] = 0;
    }
}

ALWAYS_INLINE float sum_tree_total(struct sum_tree *t)
{
    float total = 0.0f;
    for (size_t l = 0; l < SUM_LEVELS; l++) {
        if (l > 0 && t->n[l - 1] > 0)
            t->part[l][t->n[l]++] = total;
        if (t->n[l] > 0)
            total = sum_block(t->part[l], t->n[l]);
    }
    return total;
}

#endif
