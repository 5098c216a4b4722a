/* The reading half of engine/config.h. */
#include "engine/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/config_fields.h"
#include "engine/json_text.h"

#define CONFIG_JSON_MAX   (1u << 20)
#define CONFIG_VALUES_MAX 65536u
#define THETA_DEFAULT     10000.0
#define WINDOW_DEFAULT    4096 /* of MistralConfig, Qwen2Config and Qwen3Config */

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
    for (size_t i = 0; i < CONFIG_FIELDS; i++) {
        const struct config_field *f = &config_fields[i];
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
        *config_field_at(c, f) = (uint32_t)json_integer_value(value);
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
        bool is_this = name ? strcmp(name, model_arch_class((enum model_arch)i)) == 0
                            : type && !strcmp(type, model_arch_type((enum model_arch)i));

        if (is_this && (!list || json_array_size(list) == 1)) {
            c->arch = (enum model_arch)i;
            if (name && type && strcmp(type, model_arch_type((enum model_arch)i)) != 0)
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
    if (*is_said && !config_scaling_equal(&all->scaling, &r.scaling))
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
    if (!st && types && json_array_size(types) != c->layers)
        st =
            err_set(e, ERR_MALFORMED, "layer_types is no list of %" PRIu32 " types", c->layers);
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
                       " of max_position_embeddings is; within the window the model is exact "
                       "with max_position_embeddings set to its length",
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

/* Every key that is read and is no whole number of config_fields; the refused ones as well. */
static const char *const other_keys[] = {
    "architectures",
    "model_type",
    "hidden_act",
    "tie_word_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "sliding_window",
    "layer_types",
    "use_sliding_window",
    "quantization_config",
    "torch_dtype",
    "dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
};
#define N_OTHER_KEYS (sizeof(other_keys) / sizeof(other_keys[0]))

static enum status refuse_misspelt(const json_t *root, struct err *e)
{
    const char *known[CONFIG_FIELDS + N_OTHER_KEYS];

    for (size_t i = 0; i < CONFIG_FIELDS; i++)
        known[i] = config_fields[i].key;
    memcpy(known + CONFIG_FIELDS, other_keys, sizeof(other_keys));
    return json_text_check_keys(root, known, CONFIG_FIELDS + N_OTHER_KEYS, e);
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
    enum status st = refuse_misspelt(root, e);

    if (!st)
        st = read_arch(c, root, e);
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
    enum status st = OK;

    *root = NULL;
    if (json.len > CONFIG_JSON_MAX)
        return err_set(e, ERR_MALFORMED, "larger than 1 MiB");
    st = json_text_read(root, json, CONFIG_VALUES_MAX, 0, e);
    if (!st && !json_is_object(*root))
        st = err_set(e, ERR_MALFORMED, "not a JSON object");
    return st;
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
    st = file_check_dir(dir, "a model", e);
    if (!st)
        st = file_read(&text, path, e);
    if (!st)
        st = model_config_decode(out, buf_bytes(&text), e);
    buf_clear(&text);
    free(path);
    return st;
}

enum status model_config_add_stops(struct model_config *c, const char *dir, struct err *e)
{
    static const char *const id_keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    char *path = file_join(dir, "generation_config.json");
    struct model_config with = *c;
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
        st = json_text_check_keys(root, id_keys, sizeof(id_keys) / sizeof(id_keys[0]), e);
    if (!st)
        st = add_stops(&with, root, e);
    for (uint32_t i = 0; !st && i < with.n_stops; i++)
        st = config_check_id(&with, "eos_token_id", with.stops[i], e);
    if (st)
        st = err_prefix(e, st, "generation_config.json");
    else
        *c = with;
out:
    json_decref(root);
    buf_clear(&text);
    free(path);
    return st;
}
