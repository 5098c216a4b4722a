#include "sim/graph.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define TRIES 200u

struct adjacency {
    uint32_t *to; /* owned: degree each */
    uint32_t *n;  /* owned */
    uint32_t degree;
};

static bool is_adjacent(const struct adjacency *g, uint32_t a, uint32_t b)
{
    for (uint32_t k = 0; k < g->n[a]; k++)
        if (g->to[(size_t)a * g->degree + k] == b)
            return true;
    return false;
}

static void join(struct adjacency *g, uint32_t a, uint32_t b)
{
    g->to[(size_t)a * g->degree + g->n[a]++] = b;
    g->to[(size_t)b * g->degree + g->n[b]++] = a;
}

uint32_t graph_regular(struct graph_edge *edge, uint32_t n, uint32_t degree, struct rng *rng)
{
    if (degree >= n)
        degree = n - 1;
    size_t n_ends = (size_t)n * degree;
    uint32_t n_edges = 0;
    uint32_t *end = xcalloc(n_ends + 1, sizeof(*end));
    struct adjacency g = {.degree = degree};

    g.to = xcalloc(n_ends + 1, sizeof(*g.to));
    g.n = xcalloc(n, sizeof(*g.n));
    for (size_t i = 0; i < n_ends; i++)
        end[i] = (uint32_t)(i / degree);
    for (uint32_t t = 0; n_ends > 1; t++) {
        size_t j = (size_t)rng_below(rng, n_ends - 1);
        uint32_t a = end[n_ends - 1], b = end[j];
        if (a != b && !is_adjacent(&g, a, b)) {
            join(&g, a, b);
            edge[n_edges++] =
                rng_u32(rng) % 2 ? (struct graph_edge){a, b} : (struct graph_edge){b, a};
            end[j] = end[n_ends - 2];
            n_ends -= 2;
            t = 0;
        } else if (t > TRIES) {
            n_ends--; /* this end stays free */
            t = 0;
        }
    }
    free(end);
    free(g.to);
    free(g.n);
    return n_edges;
}
