/*
 * engine/kv_cache.h - keys and values of many sequences
 *
 * A fixed number of slots of max_len positions, allocated at once. A slot holds one sequence's
 * past: positions [0, len[slot]). model_forward() writes positions in order; a prompt that
 * several samples share is computed once and copied.
 *
 * Layout of one layer of one slot: keys (max_len, kv_heads * head_dim), then values the same.
 *
 * Threads: belongs to the thread that calls model_forward().
 */
#ifndef ENGINE_KV_CACHE_H
#define ENGINE_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/config.h"

struct kv_cache {
    size_t n_slots, max_len;
    size_t layers, width; /* width = kv_heads * head_dim */
    float *data;          /* owned: (layers, n_slots, 2, max_len, width) */
    size_t *len;          /* owned, per slot: positions filed */
    uint64_t *stamp;      /* owned, per slot: the call of model_forward that used it last */
    uint64_t calls;
};

/* What kv_cache_new would allocate; UINT64_MAX when the product does not fit. */
uint64_t kv_cache_bytes(const struct model_config *c, size_t n_slots, size_t max_len);

/* ERR_INVALID: max_len is 0 or above the model's; ERR_LIMIT: more than max_bytes (0: no limit),
 * the text says how many it takes; ERR_NO_MEMORY. */
MUST_USE enum status kv_cache_new(struct kv_cache **out, const struct model_config *c,
                                  size_t n_slots, size_t max_len, uint64_t max_bytes,
                                  struct err *e);
void kv_cache_free(struct kv_cache **kv);

float *kv_cache_keys(const struct kv_cache *kv, size_t layer, size_t slot);
float *kv_cache_values(const struct kv_cache *kv, size_t layer, size_t slot);

/* Positions [0, n) of slot `from` become those of slot `to`. n <= length of `from`. */
void kv_cache_copy(struct kv_cache *kv, size_t to, size_t from, size_t n);
/* Forgets positions from n on. n = 0 frees the slot for another sequence. */
void kv_cache_truncate(struct kv_cache *kv, size_t slot, size_t n);

#endif
