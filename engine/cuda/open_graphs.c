/*
 * Launches that repeat, as CUDA graphs: decoding launches some hundred small kernels a token, and a
 * launch takes the CPU longer than the kernel takes the GPU.
 *
 * A graph stands for its key: everything that was handed to the launches, pointers and sizes. The
 * first use of a key runs the launches themselves, since what is made on first use (plans, modules)
 * cannot be captured; the second captures them, and from then on the graph is launched. A graph whose
 * arrays were released is never launched again: no later pass has its weights_id, or where that is the
 * same, arrays at the same addresses hold what the launches expect there. It goes when it is the oldest.
 */
#include "engine/cuda/open.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

struct graph {
    unsigned char key[OPEN_GRAPH_KEY_BYTES];
    cudaGraphExec_t exec; /* NULL: used once so far */
    uint64_t used;        /* when last; 0: empty */
};

struct open_graphs {
    uint64_t clock;
    size_t n_made;
    struct graph graphs[OPEN_GRAPHS];
};

static void clear_graph(struct graph *g)
{
    if (g->exec)
        (void)cudaGraphExecDestroy(g->exec);
    memset(g, 0, sizeof(*g));
}

size_t open_graphs_made(const struct device *d)
{
    return d->graphs ? d->graphs->n_made : 0;
}

void open_graphs_close(struct device *d)
{
    for (size_t i = 0; d->graphs && i < OPEN_GRAPHS; i++)
        clear_graph(&d->graphs->graphs[i]);
    free(d->graphs);
    d->graphs = NULL;
}

/* That of the key, or else the one that was not used for the longest time, emptied. */
static struct graph *find(struct open_graphs *all, const void *key)
{
    struct graph *oldest = &all->graphs[0];

    for (size_t i = 0; i < OPEN_GRAPHS; i++) {
        struct graph *g = &all->graphs[i];

        if (g->used > 0 && memcmp(g->key, key, sizeof(g->key)) == 0)
            return g;
        if (g->used < oldest->used)
            oldest = g;
    }
    clear_graph(oldest);
    return oldest;
}

cudaGraphExec_t open_graph_make(struct device *d, open_launches *launches, const void *arg)
{
    cudaGraphExec_t exec = NULL;
    cudaGraph_t graph = NULL;
    cudaError_t ended;

    if (!device_note(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
                     "capturing a graph"))
        return NULL;
    d->is_capturing = true;
    launches(d, arg);
    d->is_capturing = false;
    ended = cudaStreamEndCapture(d->stream, &graph);
    (void)device_note(d, ended, "capturing a graph");
    if (device_is_well(d))
        (void)device_note(d, cudaGraphInstantiate(&exec, graph, 0), "making a graph");
    if (graph)
        (void)cudaGraphDestroy(graph);
    return exec;
}

void open_graph_run(struct device *d, const void *key, open_launches *launches, const void *arg)
{
    struct graph *g;

    if (!device_is_well(d))
        return;
    if (!d->graphs)
        d->graphs = xcalloc(1, sizeof(*d->graphs));
    g = find(d->graphs, key);
    if (g->used == 0) {
        memcpy(g->key, key, sizeof(g->key));
        g->used = ++d->graphs->clock;
        launches(d, arg);
        return;
    }
    g->used = ++d->graphs->clock;
    if (!g->exec) {
        g->exec = open_graph_make(d, launches, arg);
        d->graphs->n_made += g->exec != NULL;
    }
    if (!g->exec)
        return;
    (void)device_note(d, cudaGraphLaunch(g->exec, d->stream), "launching a graph");
}
