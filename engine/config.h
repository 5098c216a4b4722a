/*
 * engine/config.h - the shape of a model, in and out of Hugging Face's config.json
 *
 * Four architectures share one structure (decoder, RMSNorm before each block, rotary positions,
 * grouped-query attention, SwiGLU) and differ in switches:
 *
 *                      bias of q, k, v   bias of o       norm of q and k
 *   LlamaForCausalLM   attention_bias    attention_bias  no
 *   MistralForCausalLM no                no              no
 *   Qwen2ForCausalLM   always            no              no
 *   Qwen3ForCausalLM   attention_bias    attention_bias  per head, before RoPE
 *
 * Read is what transformers 4 writes (torch_dtype, rope_theta, rope_scaling) and what 5 writes
 * (dtype, rope_parameters); written is the first, which both read. A key that is absent has the
 * meaning that transformers gives it.
 *
 * What would change the numbers and is not computed here (other architectures and activations,
 * RoPE types other than default and llama3, biases in the MLP, quantised weights) is refused with
 * its key and value. A sliding window is accepted where it hides nothing, that is where no position
 * of the model is further back than the window reaches. Keys that do not matter to the numbers are
 * ignored, as everybody does, unless they differ from one that does in a single byte.
 *
 * Threads: plain data.
 */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/dtype.h"
#include "engine/kernels.h"
#include "engine/rope.h"

#define MODEL_STOPS_MAX 8u

/* X(member, class name, model_type) */
#define MODEL_ARCH_MAP(X)                                                                      \
    X(MODEL_ARCH_LLAMA, "LlamaForCausalLM", "llama")                                           \
    X(MODEL_ARCH_QWEN2, "Qwen2ForCausalLM", "qwen2")                                           \
    X(MODEL_ARCH_QWEN3, "Qwen3ForCausalLM", "qwen3")                                           \
    X(MODEL_ARCH_MISTRAL, "MistralForCausalLM", "mistral")

#define MODEL_ARCH_MEMBER(member, class_name, type) member,
enum model_arch { MODEL_ARCH_MAP(MODEL_ARCH_MEMBER) MODEL_ARCH_COUNT };
#undef MODEL_ARCH_MEMBER

struct model_config {
    enum model_arch arch;
    uint32_t vocab;    /* V, vocab_size */
    uint32_t dim;      /* C, hidden_size */
    uint32_t layers;   /* num_hidden_layers */
    uint32_t heads;    /* num_attention_heads */
    uint32_t kv_heads; /* num_key_value_heads, divides heads */
    uint32_t head_dim; /* even; need not be dim / heads */
    uint32_t ffn;      /* intermediate_size */
    uint32_t max_len;  /* max_position_embeddings */
    float norm_eps;
    double rope_theta;
    struct rope_scaling rope_scaling;
    bool tie; /* the head is the embedding */
    bool qkv_bias;
    bool o_bias;
    bool qk_norm;
    enum dtype dtype;               /* how the weights are published: F32 or BF16 */
    int32_t bos, pad;               /* -1: none */
    int32_t stops[MODEL_STOPS_MAX]; /* eos_token_id: none, one or several */
    uint32_t n_stops;
};

/* Ranges and what must hold between fields; ERR_INVALID naming key, value and range. Everything
 * else in engine/ takes a config that passed this, and may multiply its fields in 64 bits without
 * looking back. */
MUST_USE enum status model_config_check(const struct model_config *c, struct err *e);

#define OPEN_GROUP_MAX 16u    /* class open-cuda: heads of a group */
#define OPEN_WIDTH_MAX 16384u /* and numbers of a row of the stream */

/* Why a class does not compute a sound configuration, or NULL: it does. Only open-cuda has limits of its own
 * (docs/numerics.md, section 13). */
const char *model_config_refuses(const struct model_config *c, enum numerics n);

/* Parses config.json and checks it. ERR_MALFORMED, ERR_INVALID, ERR_UNSUPPORTED. */
MUST_USE enum status model_config_decode(struct model_config *out, struct bytes json,
                                         struct err *e);
/* Appends a config.json that transformers understands: same config, same bytes. */
void model_config_encode(struct buf *out, const struct model_config *c);

/* DIR/config.json. ERR_NOT_FOUND, ERR_IO, and as model_config_decode. */
MUST_USE enum status model_config_load(struct model_config *out, const char *dir,
                                       struct err *e);

/* Adds to c->stops the eos_token_id of DIR/generation_config.json, if there is one: chat models
 * name the end of a turn only there. Nothing else of that file is used; its temperature and top_p
 * are a choice of whoever samples. Not part of model_config_load, because configs are compared, and
 * where a sampler stops is no property of the weights. Fails as model_config_decode, and then
 * leaves *c as it was. */
MUST_USE enum status model_config_add_stops(struct model_config *c, const char *dir,
                                            struct err *e);

/* "LlamaForCausalLM", "llama". */
const char *model_arch_class(enum model_arch arch);
const char *model_arch_type(enum model_arch arch);

/* The number of parameters, a tied head counted once. */
uint64_t model_config_params(const struct model_config *c);
bool model_config_equal(const struct model_config *a, const struct model_config *b);

#endif
