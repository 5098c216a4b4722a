/*
 * engine/rope.h - how a model's rotary frequencies (arXiv:2104.09864) differ from theta^(-2i/D)
 *
 * Llama 3.1 (arXiv:2407.21783) stretched its context by slowing the low frequencies down ("rope_type": "llama3"):
 * channels that turn often within the original context keep their frequency, those that turn
 * seldom get a `factor`-th of it, and those between are mixed. docs/numerics.md, section 4, has
 * the order of operations.
 */
#ifndef ENGINE_ROPE_H
#define ENGINE_ROPE_H

#include <stdint.h>

enum rope_type { ROPE_DEFAULT, ROPE_LLAMA3 };

/* The other fields are 0 for ROPE_DEFAULT. */
struct rope_scaling {
    enum rope_type type;
    uint32_t original_len;   /* original_max_position_embeddings */
    double factor;           /* >= 1 */
    double low_freq_factor;  /* > 0; below so many turns in original_len: slowed down */
    double high_freq_factor; /* > low_freq_factor; above so many turns: kept */
};

#endif
