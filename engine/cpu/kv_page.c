#include "engine/cpu/kv_page.h"

#include <string.h>

#define HALF (PACK_LANES / 2)

size_t attention_page_head(size_t D, bool is_narrow)
{
    return page_room(ATTENTION_PAGE * (D + attention_width(D)), is_narrow);
}

struct page_head page_head(const float *page, size_t page_at, size_t group, size_t D,
                           bool is_narrow)
{
    const float *at = page + page_at + group * attention_page_head(D, is_narrow);

    return (struct page_head){at, at + page_room(ATTENTION_PAGE * D, is_narrow)};
}

struct span page_keys(const struct page_head *h, size_t n, size_t D, bool is_narrow)
{
    return (struct span){h->keys, page_room(attention_width(n) * D, is_narrow) * sizeof(float)};
}

struct span page_values(const struct page_head *h, size_t n, size_t D, bool is_narrow)
{
    return (struct span){h->values,
                         page_room(n * attention_width(D), is_narrow) * sizeof(float)};
}

/* Lane `lane` of a step of a panel. */
static float lane_get(const float *step, size_t lane, bool is_narrow)
{
    uint32_t word;
    float x;

    if (!is_narrow)
        return step[lane];
    memcpy(&word, step + lane % HALF, sizeof(word));
    word = lane < HALF ? word << 16 : word & 0xffff0000u;
    memcpy(&x, &word, sizeof(x));
    return x;
}

/* x is exactly bf16 where the panel is narrow. */
static void lane_set(float *step, size_t lane, float x, bool is_narrow)
{
    uint32_t word, bits;

    if (!is_narrow) {
        step[lane] = x;
        return;
    }
    memcpy(&word, step + lane % HALF, sizeof(word));
    memcpy(&bits, &x, sizeof(bits));
    word = lane < HALF ? (word & 0xffff0000u) | bits >> 16 : (word & 0xffffu) | bits;
    memcpy(step + lane % HALF, &word, sizeof(word));
}

// NOLINTNEXTLINE(readability-function-size): a layer of a page, and its shape
void attention_page_read(float *key, float *value, const float *layer, size_t at, size_t G,
                         size_t D, bool is_narrow)
{
    const size_t step = page_room(PACK_LANES, is_narrow);

    for (size_t g = 0; g < G; g++) {
        const struct page_head h = page_head(layer, 0, g, D, is_narrow);
        const float *panel = h.keys + at / PACK_LANES * step * D;
        const float *row = h.values + at * page_room(attention_width(D), is_narrow);

        for (size_t d = 0; d < D; d++) {
            key[g * D + d] = lane_get(panel + d * step, at % PACK_LANES, is_narrow);
            value[g * D + d] = lane_get(row + d / PACK_LANES * step, d % PACK_LANES, is_narrow);
        }
    }
}

/* n keys from lane `lane` of a panel on. */
static void file_keys(const struct kernels *k, float *panel, size_t lane, const float *key,
                      size_t n, const struct attention_shape *s, bool is_narrow)
{
    const size_t D = s->D, step = page_room(PACK_LANES, is_narrow);
    float wide[PACK_LANES * ATTENTION_D_MAX];

    if (n == PACK_LANES) {
        k->pack(is_narrow ? wide : panel, key, s->k_stride, n, D);
        if (is_narrow)
            k->narrow((uint32_t *)(void *)panel, wide, D);
        return;
    }
    for (size_t j = 0; j < n; j++)
        for (size_t d = 0; d < D; d++)
            lane_set(panel + d * step, lane + j, key[j * s->k_stride + d], is_narrow);
}

static void file_value(const struct kernels *k, float *row, const float *value, size_t D,
                       bool is_narrow)
{
    float wide[ATTENTION_D_MAX];

    if (!is_narrow) {
        memcpy(row, value, D * sizeof(float));
        return;
    }
    memset(wide, 0, attention_width(D) * sizeof(float));
    memcpy(wide, value, D * sizeof(float));
    k->narrow((uint32_t *)(void *)row, wide, attention_width(D) / PACK_LANES);
}

void page_file(const struct kernels *k, const struct attention_run *run,
               const struct attention_shape *s, size_t group)
{
    const bool is_narrow = cache_is_narrow(k);
    const size_t D = s->D, step = page_room(PACK_LANES, is_narrow);
    const size_t row = page_room(attention_width(D), is_narrow);
    const size_t head = run->page_at + group * attention_page_head(D, is_narrow);

    for (size_t i = 0, n; i < run->n; i += n) {
        const size_t at = run->first + i, in_page = at % ATTENTION_PAGE;
        const size_t lane = at % PACK_LANES;
        float *keys = run->pages[at / ATTENTION_PAGE] + head;
        float *values = keys + page_room(ATTENTION_PAGE * D, is_narrow);

        n = run->n - i < PACK_LANES - lane ? run->n - i : PACK_LANES - lane;
        file_keys(k, keys + in_page / PACK_LANES * step * D, lane,
                  run->k + i * s->k_stride + group * D, n, s, is_narrow);
        for (size_t j = 0; j < n; j++)
            file_value(k, values + (in_page + j) * row,
                       run->v + (i + j) * s->v_stride + group * D, D, is_narrow);
    }
}
