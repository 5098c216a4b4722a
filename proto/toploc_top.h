/*
 * proto/toploc_top.h - inside proto/: the choice that PyTorch makes on a CPU
 *
 * torch.topk calls std::partial_sort when 64 k <= n and std::nth_element otherwise. Which of
 * several equal magnitudes they leave among the first k is a property of libstdc++'s algorithms,
 * reproduced here step by step: heap selection, and introselect with the median of three.
 */
#ifndef PROTO_TOPLOC_TOP_H
#define PROTO_TOPLOC_TOP_H

#include <stddef.h>
#include <stdint.h>

struct toploc_item {
    uint16_t magnitude;
    uint32_t index;
};

/* Rearranges v so that its first k items are those that torch.topk takes. 0 < k < n. */
void toploc_heap_select(struct toploc_item *v, size_t n, size_t k);

#endif
