#include "engine/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/check.h"
#include "base/file.h"
#include "engine/ops.h"

#define CONFIG_JSON_MAX (1u << 20)
#define PARAMS_MAX      (UINT64_C(1) << 40)
#define THETA_DEFAULT   10000.0
#define WINDOW_DEFAULT  4096 /* of MistralConfig, Qwen2Config and Qwen3Config */

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
    {"head_dim", offsetof(struct model_config, head_dim), 2, ATTENTION_D_MAX, false},
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

static enum status check_id(const struct model_config *c, const char *key, int32_t id,
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
    if (c->dtype != DTYPE_F32 && c->dtype != DTYPE_BF16)
        return err_set(e, ERR_INVALID, "torch_dtype is neither float32 nor bfloat16");
    if (c->n_stops > MODEL_STOPS_MAX)
        return err_set(e, ERR_INVALID, "more than %u ids in eos_token_id", MODEL_STOPS_MAX);
    st = check_rope(c, e);
    if (!st)
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

/* What this key says would change the numbers, and is not computed. */
static enum status refuse(struct err *e, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);

    (void)err_set(e, ERR_UNSUPPORTED, "%s is %.64s, which is not supported", key,
                  text ? text : "?");
    free(text);
    return ERR_UNSUPPORTED;
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
            if (name && type && strcmp(type, type_of[i]) != 0)
                return refuse(e, "model_type", get(root, "model_type"));
            return OK;
        }
    }
    if (!name)
        name = type;
    if (!name)
        return err_set(e, ERR_MALFORMED,
                       "neither architectures nor model_type says what it is");
    return err_set(e, ERR_UNSUPPORTED,
                   "architecture '%.64s' is not LlamaForCausalLM, MistralForCausalLM, "
                   "Qwen2ForCausalLM or Qwen3ForCausalLM",
                   name);
}

/* ---- positions ------------------------------------------------------------------------------- */

/* What rope_scaling (transformers 4) or rope_parameters (5) says. */
struct rope {
    struct rope_scaling scaling;
    double theta; /* 0: not said */
};

/* Keys that the types known here do not have would mean another formula. */
static enum status refuse_rope_keys(const json_t *object, const char *where, bool is_llama3,
                                    struct err *e)
{
    static const char *const of_all[] = {"rope_type", "type", "rope_theta",
                                         "original_max_position_embeddings"};
    static const char *const of_llama3[] = {"factor", "low_freq_factor", "high_freq_factor"};
    const char *key;
    const json_t *value;
    char full[64];

    for (void *it = json_object_iter((json_t *)object); it;
         it = json_object_iter_next((json_t *)object, it)) {
        bool is_known = false;

        key = json_object_iter_key(it);
        value = json_object_iter_value(it);
        for (size_t i = 0; i < sizeof(of_all) / sizeof(of_all[0]); i++)
            is_known |= strcmp(key, of_all[i]) == 0;
        for (size_t i = 0; is_llama3 && i < sizeof(of_llama3) / sizeof(of_llama3[0]); i++)
            is_known |= strcmp(key, of_llama3[i]) == 0;
        if (!strcmp(key, "partial_rotary_factor"))
            is_known = json_is_number(value) && json_number_value(value) == 1.0;
        snprintf(full, sizeof(full), "%s.%.32s", where, key);
        if (!is_known && !json_is_null(value))
            return refuse(e, full, value);
    }
    return OK;
}

static enum status read_llama3(struct rope_scaling *s, const json_t *object, struct err *e)
{
    const json_t *len = get(object, "original_max_position_embeddings");
    enum status st = read_real(&s->factor, object, "factor", 0.0, e);

    if (!st)
        st = read_real(&s->low_freq_factor, object, "low_freq_factor", 0.0, e);
    if (!st)
        st = read_real(&s->high_freq_factor, object, "high_freq_factor", 0.0, e);
    if (st)
        return st;
    if (!json_is_integer(len) || json_integer_value(len) < 1 ||
        json_integer_value(len) > UINT32_MAX)
        return err_set(e, ERR_MALFORMED,
                       "original_max_position_embeddings is not a number of positions");
    s->original_len = (uint32_t)json_integer_value(len);
    s->type = ROPE_LLAMA3;
    return OK;
}

static enum status read_rope(struct rope *r, const json_t *object, const char *where,
                             struct err *e)
{
    const json_t *type = get(object, "rope_type");
    const char *name;
    bool is_llama3;
    enum status st;

    *r = (struct rope){0};
    if (!json_is_object(object))
        return refuse(e, where, object);
    if (!type)
        type = get(object, "type");
    name = json_string_value(type);
    is_llama3 = name && strcmp(name, "llama3") == 0;
    if (type && !is_llama3 && (!name || strcmp(name, "default") != 0)) {
        char full[40];

        snprintf(full, sizeof(full), "%s.rope_type", where);
        return refuse(e, full, type);
    }
    st = refuse_rope_keys(object, where, is_llama3, e);
    if (!st && is_llama3)
        st = read_llama3(&r->scaling, object, e);
    return st ? st : read_real(&r->theta, object, "rope_theta", 0.0, e);
}

static bool scaling_equal(const struct rope_scaling *a, const struct rope_scaling *b)
{
    return a->type == b->type && a->original_len == b->original_len && a->factor == b->factor &&
           a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor;
}

/* Joins what one object says to what was said before it. */
static enum status join_rope(struct rope *all, bool *is_said, const json_t *root,
                             const char *where, struct err *e)
{
    const json_t *object = get(root, where);
    struct rope r;
    enum status st;

    if (!object)
        return OK;
    st = read_rope(&r, object, where, e);
    if (st)
        return st;
    if (r.theta != 0.0 && all->theta != 0.0 && r.theta != all->theta)
        return err_set(e, ERR_INVALID, "rope_theta is %g, and %g in %s", all->theta, r.theta,
                       where);
    if (*is_said && !scaling_equal(&all->scaling, &r.scaling))
        return err_set(e, ERR_INVALID, "rope_scaling and %s disagree", where);
    if (r.theta != 0.0)
        all->theta = r.theta;
    all->scaling = r.scaling;
    *is_said = true;
    return OK;
}

static enum status read_positions(struct model_config *c, const json_t *root, struct err *e)
{
    struct rope r = {0};
    double partial;
    bool is_said = false;
    enum status st = read_real(&r.theta, root, "rope_theta", 0.0, e);

    if (!st && get(root, "rope_theta") && !(r.theta >= 1.0))
        st = err_set(e, ERR_INVALID, "rope_theta is %g, below 1", r.theta);
    if (!st)
        st = join_rope(&r, &is_said, root, "rope_scaling", e);
    if (!st)
        st = join_rope(&r, &is_said, root, "rope_parameters", e);
    if (!st)
        st = read_real(&partial, root, "partial_rotary_factor", 1.0, e);
    if (!st && partial != 1.0)
        st = refuse(e, "partial_rotary_factor", get(root, "partial_rotary_factor"));
    c->rope_theta = r.theta != 0.0 ? r.theta : THETA_DEFAULT;
    c->rope_scaling = r.scaling;
    return st;
}

/* Is there a window at all? Where layers differ, one that has it is enough. */
static enum status find_window(bool *out, const struct model_config *c, const json_t *root,
                               struct err *e)
{
    const json_t *window = json_object_get(root, "sliding_window");
    const json_t *types = get(root, "layer_types");
    enum status st = OK;

    if (c->arch == MODEL_ARCH_QWEN2 || c->arch == MODEL_ARCH_QWEN3)
        st = read_bool(out, root, "use_sliding_window", false, e);
    else
        *out = window ? !json_is_null(window) : c->arch == MODEL_ARCH_MISTRAL;
    for (size_t i = 0; !st && i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));

        if (type && strcmp(type, "sliding_attention") == 0)
            *out = true;
        else if (!type || strcmp(type, "full_attention") != 0)
            st = refuse(e, "layer_types", json_array_get(types, i));
    }
    return st;
}

/* A window lets position i see i - window + 1 .. i: as long as there are no more positions than
 * that, it hides none. */
static enum status check_window(const struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *window = json_object_get(root, "sliding_window");
    json_int_t n = window ? json_integer_value(window) : WINDOW_DEFAULT;
    bool is_there;
    enum status st = find_window(&is_there, c, root, e);

    if (st || !is_there)
        return st;
    if (window && !json_is_integer(window))
        return refuse(e, "sliding_window", window);
    if (n < c->max_len)
        return err_set(e, ERR_UNSUPPORTED,
                       "sliding_window is %" JSON_INTEGER_FORMAT "%s, which is not supported: "
                       "only a window that reaches over all %" PRIu32
                       " of max_position_embeddings is",
                       n, window ? "" : " where nothing is said", c->max_len);
    return OK;
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* Whatever else would change the numbers: keys by which kin of these architectures differ from
 * them, refused unless null or false. */
static enum status refuse_others(const json_t *root, struct err *e)
{
    static const char *const keys[] = {
        "attention_multiplier",
        "attn_logit_softcapping",
        "clip_qkv",
        "embedding_multiplier",
        "final_logit_softcapping",
        "logit_scale",
        "logits_scaling",
        "mlp_bias",
        "no_rope_layers",
        "num_experts",
        "num_local_experts",
        "quantization_config",
        "query_pre_attn_scalar",
        "residual_multiplier",
        "use_qk_norm",
    };
    const json_t *act = get(root, "hidden_act");

    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
        return refuse(e, "hidden_act", act);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *value = get(root, keys[i]);

        if (value && !json_is_false(value))
            return refuse(e, keys[i], value);
    }
    return OK;
}

static enum status read_switches(struct model_config *c, const json_t *root, struct err *e)
{
    bool bias, has_no_choice = c->arch == MODEL_ARCH_QWEN2 || c->arch == MODEL_ARCH_MISTRAL;
    double eps;
    enum status st = read_bool(&c->tie, root, "tie_word_embeddings", false, e);

    if (!st)
        st = read_bool(&bias, root, "attention_bias", false, e);
    if (!st)
        st = read_real(&eps, root, "rms_norm_eps", 1e-6, e);
    if (st)
        return st;
    if (bias && has_no_choice)
        return refuse(e, "attention_bias", get(root, "attention_bias"));
    c->norm_eps = (float)eps;
    c->qkv_bias = bias || c->arch == MODEL_ARCH_QWEN2;
    c->o_bias = bias;
    c->qk_norm = c->arch == MODEL_ARCH_QWEN3;
    return OK;
}

static enum status read_dtype(struct model_config *c, const json_t *root, struct err *e)
{
    const char *key = get(root, "torch_dtype") ? "torch_dtype" : "dtype";
    const json_t *value = get(root, key);
    const char *text = json_string_value(value);

    if (!value)
        return OK; /* transformers' default, float32 */
    if (text && strcmp(text, dtype_hf_name(DTYPE_BF16)) == 0)
        c->dtype = DTYPE_BF16;
    else if (text && (strcmp(text, dtype_hf_name(DTYPE_F32)) == 0 ||
                      strcmp(text, dtype_hf_name(DTYPE_F16)) == 0))
        c->dtype = DTYPE_F32; /* float16 is widened, and kept wide when written again */
    else
        return refuse(e, key, value);
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

/* Adds an end-of-sequence token unless it is there; -1 is none. */
static enum status add_stop(struct model_config *c, const json_t *value, struct err *e)
{
    int32_t id = -1;
    enum status st = read_id(&id, value, "eos_token_id", e);

    if (st || id < 0)
        return st;
    for (uint32_t i = 0; i < c->n_stops; i++)
        if (c->stops[i] == id)
            return OK;
    if (c->n_stops == MODEL_STOPS_MAX)
        return err_set(e, ERR_INVALID, "more than %u ids in eos_token_id", MODEL_STOPS_MAX);
    c->stops[c->n_stops++] = id;
    return OK;
}

/* eos_token_id: a number, a list of them, null or absent. */
static enum status add_stops(struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *eos = get(root, "eos_token_id");
    enum status st = OK;

    if (!eos)
        return OK;
    if (!json_is_array(eos))
        return add_stop(c, eos, e);
    for (size_t i = 0; !st && i < json_array_size(eos); i++)
        st = add_stop(c, json_array_get(eos, i), e);
    return st;
}

static enum status read_ids(struct model_config *c, const json_t *root, struct err *e)
{
    const json_t *bos = get(root, "bos_token_id"), *pad = get(root, "pad_token_id");
    enum status st = OK;

    c->bos = c->pad = -1;
    if (bos)
        st = read_id(&c->bos, bos, "bos_token_id", e);
    if (!st && pad)
        st = read_id(&c->pad, pad, "pad_token_id", e);
    return st ? st : add_stops(c, root, e);
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
        st = check_window(c, root, e);
    if (!st)
        st = refuse_others(root, e);
    if (!st)
        st = read_dtype(c, root, e);
    if (!st)
        st = read_ids(c, root, e);
    return st ? st : model_config_check(c, e);
}

/* *root is the caller's, to be given back to json_decref. */
static enum status parse(json_t **root, struct bytes json, struct err *e)
{
    json_error_t where;

    *root = NULL;
    if (json.len > CONFIG_JSON_MAX)
        return err_set(e, ERR_MALFORMED, "larger than 1 MiB");
    *root = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &where);
    if (!*root)
        return err_set(e, ERR_MALFORMED, "%s in line %d", where.text, where.line);
    if (!json_is_object(*root))
        return err_set(e, ERR_MALFORMED, "not a JSON object");
    return OK;
}

enum status model_config_decode(struct model_config *out, struct bytes json, struct err *e)
{
    json_t *root;
    enum status st = parse(&root, json, e);

    *out = (struct model_config){0};
    if (!st)
        st = read_config(out, root, e);
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

enum status model_config_add_stops(struct model_config *c, const char *dir, struct err *e)
{
    char *path = file_join(dir, "generation_config.json");
    json_t *root = NULL;
    struct buf text;
    enum status st;

    buf_init(&text, CONFIG_JSON_MAX);
    st = file_read(&text, path, e);
    if (st) {
        st = st == ERR_NOT_FOUND ? OK : st;
        goto out;
    }
    st = parse(&root, buf_bytes(&text), e);
    if (!st)
        st = add_stops(c, root, e);
    for (uint32_t i = 0; !st && i < c->n_stops; i++)
        st = check_id(c, "eos_token_id", c->stops[i], e);
    if (st)
        st = err_prefix(e, st, "generation_config.json");
out:
    json_decref(root);
    buf_clear(&text);
    free(path);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

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

bool model_config_equal(const struct model_config *a, const struct model_config *b)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (field_of(a, &fields[i]) != field_of(b, &fields[i]))
            return false;
    if (a->n_stops != b->n_stops ||
        memcmp(a->stops, b->stops, a->n_stops * sizeof(a->stops[0])) != 0)
        return false;
    return a->arch == b->arch && a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta &&
           scaling_equal(&a->rope_scaling, &b->rope_scaling) && a->tie == b->tie &&
           a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->qk_norm == b->qk_norm &&
           a->dtype == b->dtype && a->bos == b->bos && a->pad == b->pad;
}
