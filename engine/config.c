#include "engine/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/config_fields.h"
#include "engine/ops.h"

#define PARAMS_MAX (UINT64_C(1) << 40)

#define ARCH_CLASS(member, class_name, type) class_name,
static const char *const class_of[] = {MODEL_ARCH_MAP(ARCH_CLASS)};
#undef ARCH_CLASS
#define ARCH_TYPE(member, class_name, type) type,
static const char *const type_of[] = {MODEL_ARCH_MAP(ARCH_TYPE)};
#undef ARCH_TYPE

/* The whole numbers of config.json. Positions are exact in binary32 up to 2^24, and every product
 * that others form of these fits 64 bits. */
const struct config_field config_fields[CONFIG_FIELDS] = {
    {"vocab_size", offsetof(struct model_config, vocab), 2, 1u << 24, true},
    {"hidden_size", offsetof(struct model_config, dim), 1, 1u << 16, true},
    {"num_hidden_layers", offsetof(struct model_config, layers), 1, 1024, true},
    {"num_attention_heads", offsetof(struct model_config, heads), 1, 1024, true},
    {"num_key_value_heads", offsetof(struct model_config, kv_heads), 1, 1024, false},
    {"head_dim", offsetof(struct model_config, head_dim), 2, ATTENTION_D_MAX, false},
    {"intermediate_size", offsetof(struct model_config, ffn), 1, 1u << 18, true},
    {"max_position_embeddings", offsetof(struct model_config, max_len), 1, 1u << 24, true},
};

uint32_t *config_field_at(struct model_config *c, const struct config_field *f)
{
    return (uint32_t *)(void *)((char *)c + f->offset);
}

static uint32_t field_of(const struct model_config *c, const struct config_field *f)
{
    return *(const uint32_t *)(const void *)((const char *)c + f->offset);
}

static uint64_t params_of_layer(const struct model_config *c)
{
    uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;
    uint64_t n = 2 * q * c->dim + 2 * kv * c->dim + 3 * (uint64_t)c->ffn * c->dim;

    n += 2 * (uint64_t)c->dim;
    n += c->qkv_bias ? q + 2 * kv : 0;
    n += c->o_bias ? c->dim : 0;
    n += c->qk_norm ? 2 * (uint64_t)c->head_dim : 0;
    return n;
}

uint64_t model_config_params(const struct model_config *c)
{
    uint64_t table = (uint64_t)c->vocab * c->dim;
    return (c->tie ? 1 : 2) * table + c->dim + c->layers * params_of_layer(c);
}

const char *model_arch_class(enum model_arch arch)
{
    CHECK(arch < MODEL_ARCH_COUNT);
    return class_of[arch];
}

const char *model_arch_type(enum model_arch arch)
{
    CHECK(arch < MODEL_ARCH_COUNT);
    return type_of[arch];
}

enum status config_check_id(const struct model_config *c, const char *key, int32_t id,
                            struct err *e)
{
    if (id < -1 || (id >= 0 && (uint32_t)id >= c->vocab))
        return err_set(e, ERR_INVALID, "%s is %" PRId32 ", outside the vocabulary of %" PRIu32,
                       key, id, c->vocab);
    return OK;
}

static enum status check_rope(const struct model_config *c, struct err *e)
{
    const struct rope_scaling *s = &c->rope_scaling;

    if (!(c->rope_theta >= 1.0 && c->rope_theta <= 1e12))
        return err_set(e, ERR_INVALID, "rope_theta is %g, not in 1..1e12", c->rope_theta);
    if (s->type == ROPE_DEFAULT)
        return OK;
    if (s->type != ROPE_LLAMA3)
        return err_set(e, ERR_INVALID, "unknown RoPE type %u", (unsigned)s->type);
    if (s->original_len < 1 || s->original_len > 1u << 24)
        return err_set(e, ERR_INVALID,
                       "original_max_position_embeddings is %" PRIu32 ", not in 1..%u",
                       s->original_len, 1u << 24);
    if (!(s->factor >= 1.0 && s->factor <= 1e6))
        return err_set(e, ERR_INVALID, "the factor of RoPE is %g, not in 1..1e6", s->factor);
    if (!(s->low_freq_factor >= 1e-6 && s->low_freq_factor < s->high_freq_factor &&
          s->high_freq_factor <= 1e6))
        return err_set(e, ERR_INVALID,
                       "low_freq_factor is %g and high_freq_factor %g: not ascending in "
                       "1e-6..1e6",
                       s->low_freq_factor, s->high_freq_factor);
    return OK;
}

const char *model_config_refuses(const struct model_config *c, enum numerics n)
{
    if (n != NUMERICS_OPEN_CUDA)
        return NULL;
    if (c->head_dim != 32 && c->head_dim != 64 && c->head_dim != 128)
        return "class open-cuda has heads of 32, 64 or 128 channels";
    if (c->heads / c->kv_heads > OPEN_GROUP_MAX)
        return "class open-cuda has at most 16 heads to a group";
    if (c->dim % 8 != 0 || c->ffn % 8 != 0 || c->dim > OPEN_WIDTH_MAX)
        return "class open-cuda has widths that are multiples of 8, and rows of at most 16384";
    return NULL;
}

enum status model_config_check(const struct model_config *c, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < CONFIG_FIELDS; i++) {
        uint32_t value = field_of(c, &config_fields[i]);

        if (value < config_fields[i].lo || value > config_fields[i].hi)
            return err_set(e, ERR_INVALID, "%s is %" PRIu32 ", not in %" PRIu32 "..%" PRIu32,
                           config_fields[i].key, value, config_fields[i].lo,
                           config_fields[i].hi);
    }
    if ((unsigned)c->arch >= MODEL_ARCH_COUNT)
        return err_set(e, ERR_INVALID, "unknown architecture %u", (unsigned)c->arch);
    if (c->heads % c->kv_heads != 0)
        return err_set(e, ERR_INVALID,
                       "num_key_value_heads is %" PRIu32 ", which does not divide %" PRIu32,
                       c->kv_heads, c->heads);
    if (c->head_dim % 2 != 0)
        return err_set(e, ERR_INVALID, "head_dim is %" PRIu32 ", which is odd", c->head_dim);
    if (!(c->norm_eps > 0.0f && c->norm_eps < 1.0f))
        return err_set(e, ERR_INVALID, "rms_norm_eps is %g, not in (0, 1)",
                       (double)c->norm_eps);
    if (c->dtype != DTYPE_F32 && c->dtype != DTYPE_BF16)
        return err_set(e, ERR_INVALID, "torch_dtype is neither float32 nor bfloat16");
    if (c->n_stops > MODEL_STOPS_MAX)
        return err_set(e, ERR_INVALID, "more than %u ids in eos_token_id", MODEL_STOPS_MAX);
    st = check_rope(c, e);
    if (!st)
        st = config_check_id(c, "bos_token_id", c->bos, e);
    if (!st)
        st = config_check_id(c, "pad_token_id", c->pad, e);
    for (uint32_t i = 0; !st && i < c->n_stops; i++)
        st = config_check_id(c, "eos_token_id", c->stops[i], e);
    if (st)
        return st;
    if (model_config_params(c) > PARAMS_MAX)
        return err_set(e, ERR_INVALID, "the model has %" PRIu64 " parameters, more than 2^40",
                       model_config_params(c));
    return OK;
}

/* The shortest decimal that reads back as the same binary32 (or binary64). */
static void put_number(struct buf *out, double value, bool is_f32)
{
    char text[40];

    if (value == floor(value) && value < 1e15) {
        buf_printf(out, "%.1f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        double back = strtod(text, NULL);

        if (is_f32 ? (float)back == (float)value : back == value)
            break;
    }
    buf_printf(out, "%s", text);
}

static void put_real(struct buf *out, const char *key, double value, bool is_f32)
{
    buf_printf(out, "  \"%s\": ", key);
    put_number(out, value, is_f32);
    buf_printf(out, ",\n");
}

static void put_scaling(struct buf *out, const struct rope_scaling *s)
{
    if (s->type == ROPE_DEFAULT)
        return;
    buf_printf(out, "  \"rope_scaling\": {\n    \"factor\": ");
    put_number(out, s->factor, false);
    buf_printf(out, ",\n    \"high_freq_factor\": ");
    put_number(out, s->high_freq_factor, false);
    buf_printf(out, ",\n    \"low_freq_factor\": ");
    put_number(out, s->low_freq_factor, false);
    buf_printf(out,
               ",\n    \"original_max_position_embeddings\": %" PRIu32
               ",\n    \"rope_type\": \"llama3\"\n  },\n",
               s->original_len);
}

static void put_id(struct buf *out, const char *key, int32_t id)
{
    if (id >= 0)
        buf_printf(out, "  \"%s\": %" PRId32 ",\n", key, id);
}

static void put_stops(struct buf *out, const struct model_config *c)
{
    if (c->n_stops == 1)
        put_id(out, "eos_token_id", c->stops[0]);
    if (c->n_stops < 2)
        return;
    buf_printf(out, "  \"eos_token_id\": [");
    for (uint32_t i = 0; i < c->n_stops; i++)
        buf_printf(out, "%s%" PRId32, i ? ", " : "", c->stops[i]);
    buf_printf(out, "],\n");
}

void model_config_encode(struct buf *out, const struct model_config *c)
{
    CHECK(c->arch < MODEL_ARCH_COUNT);
    buf_printf(out, "{\n  \"architectures\": [\"%s\"],\n", class_of[c->arch]);
    buf_printf(out, "  \"attention_bias\": %s,\n",
               c->qkv_bias && c->arch != MODEL_ARCH_QWEN2 ? "true" : "false");
    put_id(out, "bos_token_id", c->bos);
    put_stops(out, c);
    buf_printf(out, "  \"head_dim\": %" PRIu32 ",\n", c->head_dim);
    buf_printf(out, "  \"hidden_act\": \"silu\",\n");
    buf_printf(out, "  \"hidden_size\": %" PRIu32 ",\n", c->dim);
    buf_printf(out, "  \"intermediate_size\": %" PRIu32 ",\n", c->ffn);
    buf_printf(out, "  \"max_position_embeddings\": %" PRIu32 ",\n", c->max_len);
    buf_printf(out, "  \"model_type\": \"%s\",\n", type_of[c->arch]);
    buf_printf(out, "  \"num_attention_heads\": %" PRIu32 ",\n", c->heads);
    buf_printf(out, "  \"num_hidden_layers\": %" PRIu32 ",\n", c->layers);
    buf_printf(out, "  \"num_key_value_heads\": %" PRIu32 ",\n", c->kv_heads);
    put_id(out, "pad_token_id", c->pad);
    put_real(out, "rms_norm_eps", (double)c->norm_eps, true);
    put_scaling(out, &c->rope_scaling);
    put_real(out, "rope_theta", c->rope_theta, false);
    if (c->arch == MODEL_ARCH_MISTRAL)
        buf_printf(out, "  \"sliding_window\": null,\n"); /* absent would be 4096 */
    buf_printf(out, "  \"tie_word_embeddings\": %s,\n", c->tie ? "true" : "false");
    buf_printf(out, "  \"torch_dtype\": \"%s\",\n", dtype_hf_name(c->dtype));
    buf_printf(out, "  \"vocab_size\": %" PRIu32 "\n}\n", c->vocab);
}

bool config_scaling_equal(const struct rope_scaling *a, const struct rope_scaling *b)
{
    return a->type == b->type && a->original_len == b->original_len && a->factor == b->factor &&
           a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor;
}

bool model_config_equal(const struct model_config *a, const struct model_config *b)
{
    for (size_t i = 0; i < CONFIG_FIELDS; i++)
        if (field_of(a, &config_fields[i]) != field_of(b, &config_fields[i]))
            return false;
    if (a->n_stops != b->n_stops ||
        memcmp(a->stops, b->stops, a->n_stops * sizeof(a->stops[0])) != 0)
        return false;
    return a->arch == b->arch && a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta &&
           config_scaling_equal(&a->rope_scaling, &b->rope_scaling) && a->tie == b->tie &&
           a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->qk_norm == b->qk_norm &&
           a->dtype == b->dtype && a->bos == b->bos && a->pad == b->pad;
}
