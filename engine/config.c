#include "engine/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/check.h"
#include "base/file.h"

#define CONFIG_JSON_MAX (1u << 20)
#define PARAMS_MAX      (UINT64_C(1) << 40)

#define ARCH_CLASS(member, class_name, type) class_name,
static const char *const class_of[] = {MODEL_ARCH_MAP(ARCH_CLASS)};
#undef ARCH_CLASS
#define ARCH_TYPE(member, class_name, type) type,
static const char *const type_of[] = {MODEL_ARCH_MAP(ARCH_TYPE)};
#undef ARCH_TYPE

/* The whole numbers of config.json. Positions are exact in binary32 up to 2^24, and every product
 * that others form of these fits 64 bits. */
static const struct field {
    const char *key;
    size_t offset;
    uint32_t lo, hi;
    bool is_required;
} fields[] = {
    {"vocab_size", offsetof(struct model_config, vocab), 2, 1u << 24, true},
    {"hidden_size", offsetof(struct model_config, dim), 1, 1u << 16, true},
    {"num_hidden_layers", offsetof(struct model_config, layers), 1, 1024, true},
    {"num_attention_heads", offsetof(struct model_config, heads), 1, 1024, true},
    {"num_key_value_heads", offsetof(struct model_config, kv_heads), 1, 1024, false},
    {"head_dim", offsetof(struct model_config, head_dim), 2, 256, false},
    {"intermediate_size", offsetof(struct model_config, ffn), 1, 1u << 18, true},
    {"max_position_embeddings", offsetof(struct model_config, max_len), 1, 1u << 24, true},
};
#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

static uint32_t *field_at(struct model_config *c, const struct field *f)
{
    return (uint32_t *)(void *)((char *)c + f->offset);
}

static uint32_t field_of(const struct model_config *c, const struct field *f)
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

static enum status check_id(const struct model_config *c, const char *key, int32_t id,
                            struct err *e)
{
    if (id < -1 || (id >= 0 && (uint32_t)id >= c->vocab))
        return err_set(e, ERR_INVALID, "%s is %" PRId32 ", outside the vocabulary of %" PRIu32,
                       key, id, c->vocab);
    return OK;
}

enum status model_config_check(const struct model_config *c, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < N_FIELDS; i++) {
        uint32_t value = field_of(c, &fields[i]);

        if (value < fields[i].lo || value > fields[i].hi)
            return err_set(e, ERR_INVALID, "%s is %" PRIu32 ", not in %" PRIu32 "..%" PRIu32,
                           fields[i].key, value, fields[i].lo, fields[i].hi);
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
    if (!(c->rope_theta >= 1.0 && c->rope_theta <= 1e12))
        return err_set(e, ERR_INVALID, "rope_theta is %g, not in 1..1e12", c->rope_theta);
    if (c->dtype != DTYPE_F32 && c->dtype != DTYPE_BF16)
        return err_set(e, ERR_INVALID, "torch_dtype is neither float32 nor bfloat16");
    if (c->n_stops > MODEL_STOPS_MAX)
        return err_set(e, ERR_INVALID, "more than %u ids in eos_token_id", MODEL_STOPS_MAX);
    st = check_id(c, "bos_token_id", c->bos, e);
    if (!st)
        st = check_id(c, "pad_token_id", c->pad, e);
    for (uint32_t i = 0; !st && i < c->n_stops; i++)
        st = check_id(c, "eos_token_id", c->stops[i], e);
    if (st)
        return st;
    if (model_config_params(c) > PARAMS_MAX)
        return err_set(e, ERR_INVALID, "the model has %" PRIu64 " parameters, more than 2^40",
                       model_config_params(c));
    return OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* NULL when absent or null: transformers writes both. */
static const json_t *get(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    return json_is_null(value) ? NULL : value;
}

static enum status read_fields(struct model_config *c, const json_t *root, struct err *e)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        const json_t *value = get(root, f->key);

        if (!value && f->is_required)
            return err_set(e, ERR_MALFORMED, "%s is missing", f->key);
        if (!value)
            continue;
        if (!json_is_integer(value))
            return err_set(e, ERR_MALFORMED, "%s is not a whole number", f->key);
        if (json_integer_value(value) < f->lo || json_integer_value(value) > f->hi)
            return err_set(e, ERR_INVALID,
                           "%s is %" JSON_INTEGER_FORMAT ", not in %" PRIu32 "..%" PRIu32,
                           f->key, json_integer_value(value), f->lo, f->hi);
        *field_at(c, f) = (uint32_t)json_integer_value(value);
    }
    return OK;
}

static enum status read_bool(bool *out, const json_t *root, const char *key, bool def,
                             struct err *e)
{
    const json_t *value = get(root, key);

    *out = value ? json_is_true(value) : def;
    if (value && !json_is_boolean(value))
        return err_set(e, ERR_MALFORMED, "%s is not true or false", key);
    return OK;
}

static enum status read_real(double *out, const json_t *root, const char *key, double def,
                             struct err *e)
{
    const json_t *value = get(root, key);

    *out = value ? json_number_value(value) : def;
    if (value && !json_is_number(value))
        return err_set(e, ERR_MALFORMED, "%s is not a number", key);
    return OK;
}

static enum status read_arch(struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *list = get(root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    const char *type = json_string_value(get(root, "model_type"));

    for (int i = 0; i < MODEL_ARCH_COUNT; i++) {
        bool is_this =
            name ? strcmp(name, class_of[i]) == 0 : type && !strcmp(type, type_of[i]);

        if (is_this && (!list || json_array_size(list) == 1)) {
            c->arch = (enum model_arch)i;
            return OK;
        }
    }
    if (!name)
        name = type;
    if (!name)
        return err_set(e, ERR_MALFORMED,
                       "neither architectures nor model_type says what it is");
    return err_set(e, ERR_UNSUPPORTED,
                   "architecture '%.64s' is not LlamaForCausalLM, Qwen2ForCausalLM or "
                   "Qwen3ForCausalLM",
                   name);
}

/* Refuses a RoPE that is not the plain one; *theta is set when given inside `rope`. */
static enum status read_rope(double *theta, const json_t *rope, const char *key, struct err *e)
{
    const char *type = json_string_value(get(rope, "rope_type"));

    if (!type)
        type = json_string_value(get(rope, "type"));
    if (!json_is_object(rope) || (type && strcmp(type, "default") != 0) ||
        (!type && get(rope, "factor")))
        return err_set(e, ERR_UNSUPPORTED,
                       "%s of type '%.32s' is not supported, only 'default'", key,
                       type ? type : "?");
    return read_real(theta, rope, "rope_theta", *theta, e);
}

static enum status read_positions(struct model_config *c, const json_t *root, struct err *e)
{
    double partial;
    enum status st = read_real(&c->rope_theta, root, "rope_theta", 10000.0, e);

    if (!st && get(root, "rope_scaling"))
        st = read_rope(&c->rope_theta, get(root, "rope_scaling"), "rope_scaling", e);
    if (!st && get(root, "rope_parameters"))
        st = read_rope(&c->rope_theta, get(root, "rope_parameters"), "rope_parameters", e);
    if (!st)
        st = read_real(&partial, root, "partial_rotary_factor", 1.0, e);
    if (!st && partial != 1.0)
        st = err_set(e, ERR_UNSUPPORTED, "partial_rotary_factor other than 1 is not supported");
    return st;
}

static enum status refuse_windows(const json_t *root, struct err *e)
{
    const json_t *use = get(root, "use_sliding_window"), *types = get(root, "layer_types");

    if (use ? !json_is_false(use) : get(root, "sliding_window") != NULL)
        return err_set(e, ERR_UNSUPPORTED, "sliding windows are not supported");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));

        if (!type || strcmp(type, "full_attention") != 0)
            return err_set(e, ERR_UNSUPPORTED, "layer_types '%.32s' is not supported",
                           type ? type : "?");
    }
    return OK;
}

/* Whatever else would change the numbers. */
static enum status refuse_others(const json_t *root, struct err *e)
{
    const char *act = json_string_value(get(root, "hidden_act"));
    bool mlp_bias;
    enum status st = read_bool(&mlp_bias, root, "mlp_bias", false, e);

    if (st)
        return st;
    if (mlp_bias)
        return err_set(e, ERR_UNSUPPORTED, "mlp_bias is not supported");
    if (get(root, "hidden_act") && (!act || strcmp(act, "silu") != 0))
        return err_set(e, ERR_UNSUPPORTED, "hidden_act '%.32s' is not supported, only 'silu'",
                       act ? act : "?");
    if (get(root, "quantization_config"))
        return err_set(e, ERR_UNSUPPORTED, "quantised weights are not supported");
    return refuse_windows(root, e);
}

static enum status read_switches(struct model_config *c, const json_t *root, struct err *e)
{
    bool bias;
    double eps;
    enum status st = read_bool(&c->tie, root, "tie_word_embeddings", false, e);

    if (!st)
        st = read_bool(&bias, root, "attention_bias", false, e);
    if (!st)
        st = read_real(&eps, root, "rms_norm_eps", 1e-6, e);
    if (st)
        return st;
    c->norm_eps = (float)eps;
    c->qkv_bias = bias || c->arch == MODEL_ARCH_QWEN2;
    c->o_bias = bias && c->arch != MODEL_ARCH_QWEN2;
    c->qk_norm = c->arch == MODEL_ARCH_QWEN3;
    return OK;
}

static enum status read_dtype(struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *value = get(root, "torch_dtype");
    const char *text;

    if (!value)
        value = get(root, "dtype");
    if (!value)
        return OK; /* transformers' default, float32 */
    text = json_string_value(value);
    if (text && strcmp(text, dtype_hf_name(DTYPE_BF16)) == 0)
        c->dtype = DTYPE_BF16;
    else if (text && (strcmp(text, dtype_hf_name(DTYPE_F32)) == 0 ||
                      strcmp(text, dtype_hf_name(DTYPE_F16)) == 0))
        c->dtype = DTYPE_F32; /* float16 is widened, and kept wide when written again */
    else
        return err_set(e, ERR_UNSUPPORTED, "torch_dtype '%.32s' is not supported",
                       text ? text : "?");
    return OK;
}

static enum status read_id(int32_t *out, const json_t *value, const char *key, struct err *e)
{
    if (!json_is_integer(value) || json_integer_value(value) < -1 ||
        json_integer_value(value) > INT32_MAX)
        return err_set(e, ERR_MALFORMED, "%s is not a token id", key);
    *out = (int32_t)json_integer_value(value);
    return OK;
}

static enum status read_ids(struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *bos = get(root, "bos_token_id"), *pad = get(root, "pad_token_id");
    const json_t *eos = get(root, "eos_token_id");
    enum status st = OK;

    c->bos = c->pad = -1;
    if (bos)
        st = read_id(&c->bos, bos, "bos_token_id", e);
    if (!st && pad)
        st = read_id(&c->pad, pad, "pad_token_id", e);
    if (st || !eos)
        return st;
    if (!json_is_array(eos)) {
        c->n_stops = 1;
        return read_id(&c->stops[0], eos, "eos_token_id", e);
    }
    if (json_array_size(eos) > MODEL_STOPS_MAX)
        return err_set(e, ERR_INVALID, "more than %u ids in eos_token_id", MODEL_STOPS_MAX);
    while (!st && c->n_stops < json_array_size(eos)) {
        st = read_id(&c->stops[c->n_stops], json_array_get(eos, c->n_stops), "eos_token_id", e);
        c->n_stops++;
    }
    return st;
}

static enum status read_config(struct model_config *c, const json_t *root, struct err *e)
{
    enum status st = read_arch(c, root, e);

    if (!st)
        st = read_fields(c, root, e);
    if (!st && c->kv_heads == 0)
        c->kv_heads = c->heads;
    if (!st && c->head_dim == 0)
        c->head_dim = c->arch == MODEL_ARCH_QWEN3 ? 128 : c->dim / c->heads;
    if (!st)
        st = read_switches(c, root, e);
    if (!st)
        st = read_positions(c, root, e);
    if (!st)
        st = refuse_others(root, e);
    if (!st)
        st = read_dtype(c, root, e);
    if (!st)
        st = read_ids(c, root, e);
    return st ? st : model_config_check(c, e);
}

enum status model_config_decode(struct model_config *out, struct bytes json, struct err *e)
{
    json_error_t where;
    json_t *root;
    enum status st;

    *out = (struct model_config){0};
    if (json.len > CONFIG_JSON_MAX)
        return err_set(e, ERR_MALFORMED, "config.json is larger than 1 MiB");
    root = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return err_set(e, ERR_MALFORMED, "config.json: %s in line %d", where.text, where.line);
    if (json_is_object(root))
        st = read_config(out, root, e);
    else
        st = err_set(e, ERR_MALFORMED, "not a JSON object");
    json_decref(root);
    return st ? err_prefix(e, st, "config.json") : OK;
}

enum status model_config_load(struct model_config *out, const char *dir, struct err *e)
{
    char *path = file_join(dir, "config.json");
    struct buf text;
    enum status st;

    buf_init(&text, CONFIG_JSON_MAX);
    st = file_read(&text, path, e);
    if (!st)
        st = model_config_decode(out, buf_bytes(&text), e);
    buf_clear(&text);
    free(path);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The shortest decimal that reads back as the same binary32 (or binary64). */
static void put_real(struct buf *out, const char *key, double value, bool is_f32)
{
    char text[40];

    if (value == floor(value) && value < 1e15) {
        buf_printf(out, "  \"%s\": %.1f,\n", key, value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        double back = strtod(text, NULL);

        if (is_f32 ? (float)back == (float)value : back == value)
            break;
    }
    buf_printf(out, "  \"%s\": %s,\n", key, text);
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
    put_real(out, "rope_theta", c->rope_theta, false);
    buf_printf(out, "  \"tie_word_embeddings\": %s,\n", c->tie ? "true" : "false");
    buf_printf(out, "  \"torch_dtype\": \"%s\",\n", dtype_hf_name(c->dtype));
    buf_printf(out, "  \"vocab_size\": %" PRIu32 "\n}\n", c->vocab);
}

bool model_config_equal(const struct model_config *a, const struct model_config *b)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (field_of(a, &fields[i]) != field_of(b, &fields[i]))
            return false;
    if (a->n_stops != b->n_stops ||
        memcmp(a->stops, b->stops, a->n_stops * sizeof(a->stops[0])) != 0)
        return false;
    return a->arch == b->arch && a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta &&
           a->tie == b->tie && a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias &&
           a->qk_norm == b->qk_norm && a->dtype == b->dtype && a->bos == b->bos &&
           a->pad == b->pad;
}
