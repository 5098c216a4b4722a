/*
 * engine/kv_cache.h - keys and values of many sequences, in pages
 *
 * A slot holds one sequence's past: positions [0, len[slot]), in pages of ATTENTION_PAGE
 * positions that hold every layer. Pages come from one arena, sized when the cache is made, and go
 * back when no slot refers to them. Sequences that begin alike share pages: kv_cache_copy copies
 * no numbers, and a slot that writes where another one still reads gets a page of its own first.
 * Which page a position lies in never changes a result.
 *
 * The layout inside a page is attention's (engine/ops.h), or of a device that of its kernels: a cache
 * is made for kernels (`k`; NULL: the host's), and lies where they work. Its tables are the host's.
 *
 * Threads: belongs to the thread that calls model_forward().
 */
#ifndef ENGINE_KV_CACHE_H
#define ENGINE_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/arena.h"
#include "engine/config.h"
#include "engine/kernels.h"

struct kv_cache {
    size_t n_slots, max_len;
    size_t layers, width; /* width = kv_heads * head_dim */
    size_t kv_heads;
    size_t n_pages, n_free;
    size_t slot_pages;   /* of a slot at most */
    size_t layer_floats; /* room of one layer of a page */
    bool is_narrow;      /* pages are bf16 (cache_is_narrow) */
    struct arena arena;  /* (n_pages, layers, layer_floats) */
    size_t page_floats;  /* of all layers */
    float **table;       /* owned, (n_slots, slot_pages): NULL where there is no page */
    uint32_t *refs;      /* owned, per page: slots that refer to it */
    uint32_t *claims;    /* owned, per page: slots that are going to leave it */
    uint32_t *free;      /* owned, (n_pages): a stack of those with none */
    size_t *len;         /* owned, per slot: positions filed */
    uint64_t *stamp;     /* owned, per slot: the call of model_forward that used it last */
    uint64_t calls;
    /* Of a device: engine/device_ops.h */
    void (*page_read)(struct device *d, float *key, float *value, const float *layer, size_t at,
                      size_t G, size_t D);
};

/* Pages that `len` positions take, and bytes of one page with what is kept about it. */
size_t kv_cache_pages(size_t len);
uint64_t kv_cache_page_bytes(const struct model_config *c, const struct kernels *k);
/* What kv_cache_new would allocate; UINT64_MAX when the product does not fit. */
uint64_t kv_cache_bytes(const struct model_config *c, const struct kernels *k, size_t n_slots,
                        size_t max_len);

/* Pages for all slots at full length. ERR_INVALID: max_len is 0 or above the model's; ERR_LIMIT:
 * more than max_bytes (0: no limit), the text says how many it takes; ERR_NO_MEMORY. */
MUST_USE enum status kv_cache_new(struct kv_cache **out, const struct model_config *c,
                                  const struct kernels *k, size_t n_slots, size_t max_len,
                                  uint64_t max_bytes, struct err *e);
/* The same with n_pages pages, which may be fewer: then kv_cache_write can fail. */
MUST_USE enum status kv_cache_new_pages(struct kv_cache **out, const struct model_config *c,
                                        const struct kernels *k, size_t n_slots, size_t max_len,
                                        size_t n_pages, struct err *e);
void kv_cache_free(struct kv_cache **kv);

/* Makes positions first .. first + n - 1 of the slot its own to write, and forgets those it held
 * from `first` on; they count as filed. As many pages as kv_cache_claim says must be free. */
void kv_cache_write(struct kv_cache *kv, size_t slot, size_t first, size_t n);
/* Free pages that kv_cache_write would take for these positions, if it came after those of all
 * claims since kv_cache_claims_reset: of slots that share a page, the last to write keeps it. */
size_t kv_cache_claim(struct kv_cache *kv, size_t slot, size_t first, size_t n);
void kv_cache_claims_reset(struct kv_cache *kv);

/* The slot's pages in order, and where in each a layer begins: for attention. */
float *const *kv_cache_table(const struct kv_cache *kv, size_t slot);
size_t kv_cache_layer(const struct kv_cache *kv, size_t layer);

/* What layer `layer` has filed at a position of the slot: the key and the value, (width) each, on the
 * host. Of a cache on a device only in classes that define bits. */
void kv_cache_read(const struct kv_cache *kv, float *key, float *value, size_t slot,
                   size_t layer, size_t position);

/* Positions [0, n) of slot `from` become those of slot `to`. n <= length of `from`. */
void kv_cache_copy(struct kv_cache *kv, size_t to, size_t from, size_t n);
/* Forgets positions from n on. n = 0 frees the slot for another sequence. */
void kv_cache_truncate(struct kv_cache *kv, size_t slot, size_t n);

#endif
