/*
 * engine/cpu/kv_page.h - how keys and values lie in a page of the cache (private to engine/cpu/)
 *
 * engine/ops.h says what a page holds. Here is where, for the products over it: strides count
 * floats, or the words of narrow panels, which are as wide.
 */
#ifndef ENGINE_CPU_KV_PAGE_H
#define ENGINE_CPU_KV_PAGE_H

#include "engine/cpu/attention.h"

/* n numbers take so many floats of room; n is even. */
ALWAYS_INLINE size_t page_room(size_t n, bool is_narrow)
{
    return is_narrow ? n / 2 : n;
}

/* One head of a page. */
struct page_head {
    const float *keys;   /* panels, page_room(PACK_LANES * D) apart */
    const float *values; /* rows, page_room(attention_width(D)) apart */
};
struct page_head page_head(const float *page, size_t page_at, size_t group, size_t D,
                           bool is_narrow);

/* Where its first n keys, or values, lie: in one stretch. */
struct span page_keys(const struct page_head *h, size_t n, size_t D, bool is_narrow);
struct span page_values(const struct page_head *h, size_t n, size_t D, bool is_narrow);

/* Files the run's keys and values of one head. */
void page_file(const struct kernels *k, const struct attention_run *run,
               const struct attention_shape *s, size_t group);

#endif
