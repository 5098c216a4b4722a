#include "engine/kv_cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* max_len, width and layers are below 2^24, 2^18 and 2^10 in any checked config. */
static uint64_t slot_floats(const struct model_config *c, size_t max_len)
{
    return 2 * (uint64_t)c->layers * c->kv_heads * c->head_dim * max_len;
}

uint64_t kv_cache_bytes(const struct model_config *c, size_t n_slots, size_t max_len)
{
    if (max_len > c->max_len || n_slots > UINT32_MAX)
        return UINT64_MAX;
    uint64_t slot = slot_floats(c, max_len) * sizeof(float) + 2 * sizeof(uint64_t);

    return n_slots > 0 && slot > UINT64_MAX / n_slots ? UINT64_MAX : slot * n_slots;
}

enum status kv_cache_new(struct kv_cache **out, const struct model_config *c, size_t n_slots,
                         size_t max_len, uint64_t max_bytes, struct err *e)
{
    uint64_t bytes = kv_cache_bytes(c, n_slots, max_len);
    struct kv_cache *kv = NULL;
    enum status st;

    *out = NULL;
    if (n_slots == 0 || max_len == 0 || max_len > c->max_len)
        return err_set(
            e, ERR_INVALID,
            "a cache of %zu slots of %zu positions: wants 1 or more, and 1..%" PRIu32, n_slots,
            max_len, c->max_len);
    if (bytes > (max_bytes ? max_bytes : SIZE_MAX - 1))
        return err_set(e, ERR_LIMIT,
                       "a cache of %zu slots of %zu positions takes %" PRIu64
                       " bytes, more than the %" PRIu64 " allowed",
                       n_slots, max_len, bytes, max_bytes);
    kv = xcalloc(1, sizeof(*kv));
    kv->n_slots = n_slots;
    kv->max_len = max_len;
    kv->layers = c->layers;
    kv->width = (size_t)c->kv_heads * c->head_dim;
    st = alloc_array(&kv->data, (size_t)slot_floats(c, max_len) * n_slots, sizeof(float),
                     "kv cache", e);
    if (!st)
        st = alloc_array(&kv->len, n_slots, sizeof(kv->len[0]), "kv cache slots", e);
    if (!st)
        st = alloc_array(&kv->stamp, n_slots, sizeof(kv->stamp[0]), "kv cache slots", e);
    if (!st) {
        *out = kv;
        kv = NULL; /* it is the caller's now */
    }
    kv_cache_free(&kv);
    return st;
}

void kv_cache_free(struct kv_cache **kv)
{
    if (!*kv)
        return;
    free((*kv)->data);
    free((*kv)->len);
    free((*kv)->stamp);
    free(*kv);
    *kv = NULL;
}

float *kv_cache_keys(const struct kv_cache *kv, size_t layer, size_t slot)
{
    CHECK(layer < kv->layers && slot < kv->n_slots);
    return kv->data + (layer * kv->n_slots + slot) * 2 * kv->max_len * kv->width;
}

float *kv_cache_values(const struct kv_cache *kv, size_t layer, size_t slot)
{
    return kv_cache_keys(kv, layer, slot) + kv->max_len * kv->width;
}

void kv_cache_copy(struct kv_cache *kv, size_t to, size_t from, size_t n)
{
    CHECK(to < kv->n_slots && from < kv->n_slots && n <= kv->len[from]);
    if (to == from)
        return;
    for (size_t layer = 0; layer < kv->layers; layer++) {
        memcpy(kv_cache_keys(kv, layer, to), kv_cache_keys(kv, layer, from),
               n * kv->width * sizeof(float));
        memcpy(kv_cache_values(kv, layer, to), kv_cache_values(kv, layer, from),
               n * kv->width * sizeof(float));
    }
    kv->len[to] = n;
}

void kv_cache_truncate(struct kv_cache *kv, size_t slot, size_t n)
{
    CHECK(slot < kv->n_slots);
    if (n < kv->len[slot])
        kv->len[slot] = n;
}
