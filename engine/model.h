/*
 * engine/model.h - the forward pass over rows
 *
 * A row is one token at one position of one sequence. model_forward takes any mixture of rows (a
 * whole prompt, a piece of one, one new token for each of a hundred sequences) and gives a row the
 * same bits in every mixture: prefill, chunked prefill, decode and the trainer's forward are one
 * function (docs/numerics.md). Rows of different sequences meet only in the matrix products, which
 * never mix rows.
 *
 *   x = embed[token]
 *   each layer:  h = rmsnorm(x) * input_norm
 *                q, k, v = h Wq', h Wk', h Wv' (+ biases); q, k = rmsnorm per head (Qwen3); RoPE
 *                x = x + (attention(q, K, V) Wo' (+ bias))
 *                h = rmsnorm(x) * post_norm
 *                x = x + (swiglu(h Wgate', h Wup') Wdown')
 *   hidden = rmsnorm(x) * norm;  logits = hidden head'
 *
 * Memory: all scratch is taken by model_new, for max_rows rows at a time; longer calls are cut.
 *         Afterwards only the tables of positions grow, by doubling, when a sequence is the longest
 *         so far.
 * Threads: a model belongs to one thread; inside, loops are split over the pool, which never
 *          changes a result.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/config.h"
#include "engine/kernels.h"
#include "engine/kv_cache.h"
#include "engine/weights.h"
#include "engine/weights_map.h"

struct pool; /* base/pool.h */
struct model;

struct model_options {
    const struct kernels *kernels; /* borrowed */
    struct pool *pool;             /* borrowed; NULL: this thread alone */
    size_t max_rows;    /* rows computed at once; 0: 256, on a device 2,048. Never changes
                                      a result */
    uint64_t max_bytes; /* refuse to take more memory than this; 0: no limit */
    /* What is done to n keys or values before the class does what it does; for experiments with
     * narrower caches. NULL: nothing. Called from the pool's threads. Not with
     * kernels of a device. */
    void (*round_cache)(float *x, size_t n);
};

/* Packs `w`, which is borrowed until model_reload or model_free (the embedding, norms and biases
 * are read from it; with kernels of a device all is copied there and nothing is borrowed, unless `w`
 * lies there itself). ERR_LIMIT: needs more than max_bytes, and the text says how much;
 * ERR_NO_MEMORY; ERR_UNSUPPORTED: the kernels' class does not compute it; ERR_IO: the device failed. */
MUST_USE enum status model_new(struct model **out, const struct weights *w,
                               const struct model_options *opt, struct err *e);
/* The same from the files of a map, which is borrowed until model_free: matrices are packed from
 * where they lie, in bf16 where that is how they are stored and the class allows it; rows of the
 * embedding are widened as they are looked up. Never holds the weights twice. */
MUST_USE enum status model_open(struct model **out, const struct weights_map *map,
                                const struct model_options *opt, struct err *e);
void model_free(struct model **p);

/* What model_new would take (packed weights, scratch, and the tables of positions when a sequence is
 * as long as the config allows), without the weights themselves. */
uint64_t model_bytes(const struct model_config *c, const struct kernels *k, size_t max_rows);
/* What model_open would take. */
uint64_t model_map_bytes(const struct weights_map *map, const struct kernels *k,
                         size_t max_rows);

/* Packs `w` (equal config) in place of the old weights, which may then be freed. Also to be called
 * after the numbers inside the borrowed weights changed. Only for models of model_new. ERR_IO, ERR_NO_MEMORY: of
 * a device, whose model is then worth nothing. */
MUST_USE enum status model_reload(struct model *m, const struct weights *w, struct err *e);

const struct model_config *model_config(const struct model *m);
/* For arrays of the host, whatever the model computes on (kernels_host). */
const struct kernels *model_kernels(const struct model *m);
enum numerics model_numerics(const struct model *m);
/* Where it computes; NULL: the CPU. */
struct device *model_device(const struct model *m);
struct pool *model_pool(const struct model *m);

/* A cache where the model computes: as kv_cache_new and its kin. */
MUST_USE enum status model_cache_new(struct kv_cache **out, const struct model *m,
                                     size_t n_slots, size_t max_len, uint64_t max_bytes,
                                     struct err *e);
MUST_USE enum status model_cache_new_pages(struct kv_cache **out, const struct model *m,
                                           size_t n_slots, size_t max_len, size_t n_pages,
                                           struct err *e);
uint64_t model_cache_page_bytes(const struct model *m);

/* n consecutive tokens of the sequence in `slot`, from position `first` on: at most the slot's
 * length, and what the slot held from there on is forgotten. The hidden states of the last n_out of
 * them are wanted. A slot may be in one run of a call only. */
struct model_run {
    size_t slot;
    size_t first;
    size_t n;
    size_t n_out;
};

/*
 * Computes the runs and files their keys and values.
 *
 *   hidden  (sum of n_out, C)  out  after the final norm, runs in order; or NULL: for model_draw only
 *   tokens  (sum of n)         in   runs end to end
 *
 * ERR_INVALID: a token outside the vocabulary, a position at or past the cache's max_len, an
 * unknown or repeated slot, an empty run, or one that would leave a gap. ERR_LIMIT: the cache has
 * too few free pages. ERR_NO_MEMORY: for the tables of positions. Nothing was changed. ERR_IO: the
 * device failed, now or earlier; model and cache can only be freed. With hidden NULL a failure may
 * show no earlier than in the next call.
 */
MUST_USE enum status model_forward(struct model *m, struct kv_cache *kv, float *hidden,
                                   const struct model_run *runs, size_t n_runs,
                                   const int32_t *tokens, struct err *e);

/*
 *   logits  (rows, V)  out
 *   hidden  (rows, C)  in
 *
 * ERR_IO, ERR_NO_MEMORY: of a device; never on the CPU.
 */
MUST_USE enum status model_logits(struct model *m, float *logits, const float *hidden,
                                  size_t rows, struct err *e);

/* Where a token is to be drawn. Pointers are good until the callback returns. */
struct draw_place {
    const struct kernels *kernels; /* the host's */
    const float *logits;           /* (V), the host's */
    size_t V;
    float temperature;
    uint64_t seed;
    uint32_t position;
};
/* Draws a token and gives its log-probability, instead of sample_token: for experiments. Called from
 * the pool's threads. */
typedef int32_t draw_fn(void *ctx, const struct draw_place *at, float *logp);

struct model_draw {
    size_t row; /* of the last model_forward's hidden */
    uint64_t seed;
    uint32_t position;
    float temperature;
    /* Out: sample_token's, and whether all logits of the row were finite; if not, the others are
     * worth nothing */
    int32_t token;
    float logp;
    bool is_finite;
};

/* Draws n tokens from rows of the last call of model_forward, ascending, whose `hidden` must still be
 * there. On a device neither logits nor hidden states leave it, unless `choose` (or NULL) wants to see
 * them. ERR_IO, ERR_NO_MEMORY. */
MUST_USE enum status model_draw(struct model *m, struct model_draw *draws, size_t n,
                                draw_fn *choose, void *ctx, struct err *e);

/* A token that is said to have been drawn from a hidden state. */
struct model_claim {
    uint64_t seed;
    uint32_t position;
    int32_t token; /* in 0..V-1 */
    /* Out: its log-probability, how far it is from being drawn (sample_margin), and whether all logits were
     * finite; if not, the others are worth nothing */
    float logp, margin;
    bool is_finite;
};

/* Looks at n claims by their hidden states (n, C), at a temperature above 0. On a device logits do not leave it, and a
 * margin that is not 0 comes from the log-probabilities of the claimed token and of the one that is drawn: to
 * some units in the last place of these. ERR_IO, ERR_NO_MEMORY. */
MUST_USE enum status model_claims(struct model *m, struct model_claim *claims,
                                  const float *hidden, size_t n, float temperature,
                                  struct err *e);

/* The elements of largest magnitude of hidden states in bf16, as TOPLOC wants them: by index, and of equal ones
 * the first. */
#define MODEL_TOP 128u

/* Whether they can be had without the states: of a device's model that is no narrower. */
bool model_has_top(const struct model *m);
/* Those of every row of the last call of model_forward. Between the two: model_draw, behind which the device then
 * computes them without being waited for; after it, what else is to be computed, the next model_forward among it.
 * *index, *value: (n_rows, MODEL_TOP), the model's, good until the next model_top_begin. ERR_IO, ERR_NO_MEMORY. */
MUST_USE enum status model_top_begin(struct model *m, struct err *e);
MUST_USE enum status model_top_end(struct model *m, const uint32_t **index,
                                   const uint16_t **value, struct err *e);
/* Takes the memory that drawing n tokens, of as many rows, needs, so that it will not fail for want of it.
 * ERR_NO_MEMORY. */
MUST_USE enum status model_draw_room(struct model *m, size_t n, struct err *e);
/* What that takes, with the hidden states, besides the model; k: NULL the CPU's. */
uint64_t model_draw_bytes(const struct model_config *c, const struct kernels *k, size_t n);

#endif
