#include "engine/truncate.h"

#include <float.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"

/* In place of a logit that was cut off: no noise lifts it, and divided by the smallest temperature
 * there is it is still a number. */
#define CUT (-FLT_MAX * 1e-7f)

/* What one draw works in. */
struct room {
    atomic_bool is_taken;
    float *logits;  /* owned, (V): those that were kept, the others CUT */
    uint64_t *heap; /* owned, (V) */
};

struct truncate {
    struct truncate_options opt;
    size_t V, n_rooms;
    struct room *rooms; /* owned */
};

enum status truncate_new(struct truncate **out, const struct truncate_options *opt, size_t V,
                         size_t n_threads, struct err *e)
{
    struct truncate *t;
    enum status st = OK;

    *out = NULL;
    /* What is not a number is in no range. */
    if (!(opt->top_p >= 0.0f && opt->top_p <= 1.0f && opt->min_p >= 0.0f && opt->min_p <= 1.0f))
        return err_set(e, ERR_INVALID, "top-p is %g and min-p %g, want 0..1",
                       (double)opt->top_p, (double)opt->min_p);
    t = xcalloc(1, sizeof(*t));
    t->opt = *opt;
    t->V = V;
    t->n_rooms = n_threads;
    t->rooms = xcalloc(n_threads, sizeof(t->rooms[0]));
    for (size_t i = 0; !st && i < n_threads; i++) {
        st = alloc_array(&t->rooms[i].logits, V, sizeof(float), "logits to draw from", e);
        if (!st)
            st = alloc_array(&t->rooms[i].heap, V, sizeof(uint64_t), "ids to draw from", e);
    }
    if (st)
        truncate_free(&t);
    *out = t;
    return st;
}

void truncate_free(struct truncate **p)
{
    struct truncate *t = *p;

    if (!t)
        return;
    for (size_t i = 0; i < t->n_rooms; i++) {
        free(t->rooms[i].logits);
        free(t->rooms[i].heap);
    }
    free(t->rooms);
    free(t);
    *p = NULL;
}

static struct room *room_take(struct truncate *t)
{
    for (size_t i = 0; i < t->n_rooms; i++)
        if (!atomic_exchange(&t->rooms[i].is_taken, true))
            return &t->rooms[i];
    CHECK(false); /* more draws at a time than were announced */
    return NULL;
}

/* ---- in falling order ------------------------------------------------------------------------ */

/* A number that is lower for whatever comes earlier: the higher logit, and of equals the lower id. */
static uint64_t key_of(float logit, size_t id)
{
    uint32_t bits;

    logit += 0.0f; /* -0 is 0 */
    memcpy(&bits, &logit, sizeof(bits));
    bits ^= bits >> 31 ? UINT32_MAX : 1u << 31;
    return (uint64_t)~bits << 32 | (uint32_t)id;
}

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    const uint64_t moved = heap[at];

    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moved)
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void heap_make(uint64_t *heap, const float *logits, size_t V)
{
    for (size_t v = 0; v < V; v++)
        heap[v] = key_of(logits[v], v);
    for (size_t i = V / 2; i > 0; i--)
        sift_down(heap, V, i - 1);
}

/* The first of the n that are left, which goes where the last was: so they come to lie behind each
 * other from the array's end. */
static size_t heap_pop(uint64_t *heap, size_t n)
{
    const uint64_t first = heap[0];

    heap[0] = heap[n - 1];
    sift_down(heap, n - 1, 0);
    heap[n - 1] = first;
    return (uint32_t)first;
}

/* ---- the draw -------------------------------------------------------------------------------- */

/* exp(y - m), and m is max y: 1 for the likeliest. */
static float likelihood(const struct draw_place *at, float m, size_t id)
{
    return exp_f32(at->logits[id] / at->temperature - m);
}

static size_t popped_id(const struct room *r, size_t V, size_t i)
{
    return (uint32_t)r->heap[V - 1 - i];
}

/* Cuts at a rank: the first of the order up to top_k, and of those up to top_p, stay in r->logits. */
static void keep_first(const struct truncate *t, const struct draw_place *at, struct room *r)
{
    const size_t V = t->V, k = t->opt.top_k && t->opt.top_k < V ? t->opt.top_k : V;
    float m;
    double all = (double)exp_sum_forward(at->kernels, at->logits, &m, at->temperature, V);
    double sum = 0;
    size_t n_popped = 0, n;

    heap_make(r->heap, at->logits, V);
    if (k < V) {
        all = 0;
        for (; n_popped < k; n_popped++)
            all += (double)likelihood(at, m, heap_pop(r->heap, V - n_popped));
    }
    const double enough = (double)t->opt.top_p * all;
    for (n = 0; n < k && (n == 0 || sum < enough || t->opt.top_p == 1.0f); n++) {
        const size_t id = n < n_popped ? popped_id(r, V, n) : heap_pop(r->heap, V - n_popped++);

        sum += (double)likelihood(at, m, id);
        r->logits[id] = at->logits[id];
    }
}

static void keep_likely(const struct truncate *t, const struct draw_place *at, struct room *r)
{
    const size_t V = t->V;
    float m;

    (void)exp_sum_forward(at->kernels, at->logits, &m, at->temperature, V);
    for (size_t v = 0; v < V; v++)
        if (likelihood(at, m, v) < t->opt.min_p)
            r->logits[v] = CUT;
}

int32_t truncate_draw(void *ctx, const struct draw_place *at, float *logp)
{
    struct truncate *t = ctx;
    struct room *r;
    int32_t id;

    CHECK(at->V == t->V);
    if (at->temperature == 0.0f)
        return sample_token(at->kernels, logp, at->logits, at->V, 0.0f, at->seed, at->position);
    r = room_take(t);
    if ((t->opt.top_k && t->opt.top_k < t->V) || t->opt.top_p < 1.0f) {
        for (size_t v = 0; v < t->V; v++)
            r->logits[v] = CUT;
        keep_first(t, at, r);
    } else {
        memcpy(r->logits, at->logits, t->V * sizeof(float));
    }
    if (t->opt.min_p > 0.0f)
        keep_likely(t, at, r);
    id = sample_token(at->kernels, NULL, r->logits, t->V, at->temperature, at->seed,
                      at->position);
    atomic_store(&r->is_taken, false);
    if (logp)
        logprob_forward(at->kernels, NULL, logp, at->logits, &id, at->temperature, 1, t->V);
    return id;
}
