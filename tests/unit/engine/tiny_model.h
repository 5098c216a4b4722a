/*
 * unit/engine/tiny_model.h - models small enough to check completely, and the same model computed
 * in binary64 by other code
 */
#ifndef TEST_TINY_MODEL_H
#define TEST_TINY_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "engine/config.h"
#include "engine/weights.h"

/* Two layers, two query heads to a key head, heads * head_dim != dim. Llama: untied. Qwen2: biases,
 * tied. Qwen3: norms of heads, all biases, tied. */
struct model_config tiny_config(enum model_arch arch);

/* Random weights that make every nonlinearity bend; norms and biases are random as well, so that a
 * missing one is seen. */
struct weights *tiny_weights(const struct model_config *c, uint64_t seed);

/* n ids in [0, vocab). */
void tiny_tokens(int32_t *out, size_t n, const struct model_config *c, uint64_t seed);

/*
 * The definition of the model, term by term in binary64 with libm: hidden states after the final
 * norm and logits of one sequence.
 *
 *   hidden (n, C), logits (n, V)  out
 */
void tiny_reference(double *hidden, double *logits, const struct weights *w,
                    const int32_t *tokens, size_t n);

/* log softmax(logits / temperature)[token] of one row, in binary64. */
double tiny_logp(const double *logits, size_t V, int32_t token, double temperature);

#endif
