#include "engine/kv_cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"

size_t kv_cache_pages(size_t len)
{
    return len / ATTENTION_PAGE + (len % ATTENTION_PAGE > 0);
}

/* layers, kv_heads and head_dim are below 2^10, 2^10 and 2^8 in any checked config. */
static uint64_t layer_floats(const struct model_config *c, const struct kernels *k)
{
    const struct attention_shape s = {.H = c->heads, .G = c->kv_heads, .D = c->head_dim};

    return k && k->device ? k->ops->page_floats(&s)
                          : c->kv_heads * attention_page_head(c->head_dim, cache_is_narrow(k));
}

uint64_t kv_cache_page_bytes(const struct model_config *c, const struct kernels *k)
{
    return c->layers * layer_floats(c, k) * sizeof(float) + sizeof(float *) +
           3 * sizeof(uint32_t);
}

uint64_t kv_cache_bytes(const struct model_config *c, const struct kernels *k, size_t n_slots,
                        size_t max_len)
{
    if (max_len > c->max_len || n_slots > UINT32_MAX)
        return UINT64_MAX;
    uint64_t slot =
        kv_cache_pages(max_len) * kv_cache_page_bytes(c, k) + sizeof(size_t) + sizeof(uint64_t);

    return n_slots > 0 && slot > UINT64_MAX / n_slots ? UINT64_MAX : slot * n_slots;
}

// NOLINTNEXTLINE(readability-function-size): what kv_cache_new_pages takes
enum status kv_cache_new(struct kv_cache **out, const struct model_config *c,
                         const struct kernels *k, size_t n_slots, size_t max_len,
                         uint64_t max_bytes, struct err *e)
{
    uint64_t bytes = kv_cache_bytes(c, k, n_slots, max_len);

    *out = NULL;
    if (max_len <= c->max_len && bytes > (max_bytes ? max_bytes : SIZE_MAX - 1))
        return err_set(e, ERR_LIMIT,
                       "a cache of %zu slots of %zu positions takes %" PRIu64
                       " bytes, more than the %" PRIu64 " allowed",
                       n_slots, max_len, bytes, max_bytes);
    return kv_cache_new_pages(out, c, k, n_slots, max_len, n_slots * kv_cache_pages(max_len),
                              e);
}

// NOLINTNEXTLINE(readability-function-size): a struct for its seven would be used once
enum status kv_cache_new_pages(struct kv_cache **out, const struct model_config *c,
                               const struct kernels *k, size_t n_slots, size_t max_len,
                               size_t n_pages, struct err *e)
{
    struct kv_cache *kv = NULL;
    enum status st;

    *out = NULL;
    if (n_slots == 0 || max_len == 0 || max_len > c->max_len)
        return err_set(
            e, ERR_INVALID,
            "a cache of %zu slots of %zu positions: wants 1 or more, and 1..%" PRIu32, n_slots,
            max_len, c->max_len);
    if (n_pages > UINT32_MAX || n_pages > SIZE_MAX / kv_cache_page_bytes(c, k))
        return err_set(e, ERR_LIMIT, "a cache of %zu pages", n_pages);
    kv = xcalloc(1, sizeof(*kv));
    kv->n_slots = n_slots;
    kv->max_len = max_len;
    kv->layers = c->layers;
    kv->width = (size_t)c->kv_heads * c->head_dim;
    kv->kv_heads = c->kv_heads;
    kv->is_narrow = cache_is_narrow(k);
    kv->page_read = k && kernels_device(k) ? k->ops->page_read : NULL;
    kv->n_pages = kv->n_free = n_pages;
    kv->slot_pages = kv_cache_pages(max_len);
    kv->layer_floats = (size_t)layer_floats(c, k);
    kv->page_floats = kv->layers * kv->layer_floats;
    st = arena_init(&kv->arena, k ? kernels_device(k) : NULL,
                    n_pages * kv->page_floats * sizeof(float), "kv cache", e);
    if (!st)
        st = alloc_array(&kv->table, n_slots, kv->slot_pages * sizeof(kv->table[0]),
                         "kv cache pages", e);
    if (!st)
        st = alloc_array(&kv->refs, n_pages, sizeof(kv->refs[0]), "kv cache pages", e);
    if (!st)
        st = alloc_array(&kv->claims, n_pages, sizeof(kv->claims[0]), "kv cache pages", e);
    if (!st)
        st = alloc_array(&kv->free, n_pages, sizeof(kv->free[0]), "kv cache pages", e);
    if (!st)
        st = alloc_array(&kv->len, n_slots, sizeof(kv->len[0]), "kv cache slots", e);
    if (!st)
        st = alloc_array(&kv->stamp, n_slots, sizeof(kv->stamp[0]), "kv cache slots", e);
    for (size_t i = 0; !st && i < n_pages; i++)
        kv->free[i] = (uint32_t)(n_pages - 1 - i); /* the lowest first */
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
    arena_clear(&(*kv)->arena);
    free((*kv)->table);
    free((*kv)->refs);
    free((*kv)->claims);
    free((*kv)->free);
    free((*kv)->len);
    free((*kv)->stamp);
    free(*kv);
    *kv = NULL;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static float **page_of(const struct kv_cache *kv, size_t slot, size_t i)
{
    return &kv->table[slot * kv->slot_pages + i];
}

static uint32_t *refs_of(const struct kv_cache *kv, const float *page)
{
    return &kv->refs[(size_t)(page - (const float *)kv->arena.data) / kv->page_floats];
}

static void take_page(struct kv_cache *kv, float **at)
{
    CHECK(kv->n_free > 0);
    *at = (float *)kv->arena.data + kv->free[--kv->n_free] * kv->page_floats;
    *refs_of(kv, *at) = 1;
}

static void drop_page(struct kv_cache *kv, float **at)
{
    uint32_t *refs;

    if (!*at)
        return;
    refs = refs_of(kv, *at);
    if (--*refs == 0)
        kv->free[kv->n_free++] = (uint32_t)(refs - kv->refs);
    *at = NULL;
}

void kv_cache_claims_reset(struct kv_cache *kv)
{
    memset(kv->claims, 0, kv->n_pages * sizeof(kv->claims[0]));
}

size_t kv_cache_claim(struct kv_cache *kv, size_t slot, size_t first, size_t n)
{
    size_t need = 0;

    for (size_t i = first / ATTENTION_PAGE; i < kv_cache_pages(first + n); i++) {
        const float *page = *page_of(kv, slot, i);

        if (!page) {
            need++;
            continue;
        }
        uint32_t refs = *refs_of(kv, page), *claims = &kv->claims[refs_of(kv, page) - kv->refs];
        if (refs - *claims > 1) {
            ++*claims;
            need++;
        }
    }
    return need;
}

void kv_cache_write(struct kv_cache *kv, size_t slot, size_t first, size_t n)
{
    CHECK(slot < kv->n_slots && first <= kv->len[slot] && n <= kv->max_len - first);
    kv_cache_truncate(kv, slot, first);
    for (size_t i = first / ATTENTION_PAGE; i < kv_cache_pages(first + n); i++) {
        float **at = page_of(kv, slot, i), *shared = *at;

        if (shared && *refs_of(kv, shared) == 1)
            continue;
        take_page(kv, at);
        if (!shared)
            continue;
        device_copy(kv->arena.device, *at, shared, kv->page_floats * sizeof(float));
        drop_page(kv, &shared);
    }
    kv->len[slot] = first + n;
}

float *const *kv_cache_table(const struct kv_cache *kv, size_t slot)
{
    CHECK(slot < kv->n_slots);
    return page_of(kv, slot, 0);
}

size_t kv_cache_layer(const struct kv_cache *kv, size_t layer)
{
    CHECK(layer < kv->layers);
    return layer * kv->layer_floats;
}

void kv_cache_read(const struct kv_cache *kv, float *key, float *value, size_t slot,
                   size_t layer, size_t position)
{
    const float *page;

    CHECK(slot < kv->n_slots && position < kv->len[slot]);
    CHECK(!kv->arena.device || kv->page_read);
    page = *page_of(kv, slot, position / ATTENTION_PAGE) + kv_cache_layer(kv, layer);
    if (kv->arena.device)
        kv->page_read(kv->arena.device, key, value, page, position % ATTENTION_PAGE,
                      kv->kv_heads, kv->width / kv->kv_heads);
    else
        attention_page_read(key, value, page, position % ATTENTION_PAGE, kv->kv_heads,
                            kv->width / kv->kv_heads, kv->is_narrow);
}

void kv_cache_copy(struct kv_cache *kv, size_t to, size_t from, size_t n)
{
    CHECK(to < kv->n_slots && from < kv->n_slots && n <= kv->len[from]);
    if (to == from) {
        kv_cache_truncate(kv, to, n);
        return;
    }
    kv_cache_truncate(kv, to, 0);
    for (size_t i = 0; i < kv_cache_pages(n); i++) {
        *page_of(kv, to, i) = *page_of(kv, from, i);
        ++*refs_of(kv, *page_of(kv, to, i));
    }
    kv->len[to] = n;
}

void kv_cache_truncate(struct kv_cache *kv, size_t slot, size_t n)
{
    CHECK(slot < kv->n_slots);
    for (size_t i = kv_cache_pages(n); i < kv_cache_pages(kv->len[slot]); i++)
        drop_page(kv, page_of(kv, slot, i));
    if (n < kv->len[slot])
        kv->len[slot] = n;
}
