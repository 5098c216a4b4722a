/*
 * config.json in and out.
 */
#include "engine/config.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"

#define SIZES                                                                                  \
    "\"vocab_size\":259,\"hidden_size\":64,\"intermediate_size\":128,"                         \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"max_position_embeddings\":128"
#define LLAMA   "\"architectures\":[\"LlamaForCausalLM\"],"
#define QWEN2   "\"architectures\":[\"Qwen2ForCausalLM\"],"
#define QWEN3   "\"architectures\":[\"Qwen3ForCausalLM\"],"
#define MISTRAL "\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\","
#define LLAMA3                                                                                 \
    "{\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"                       \
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}"

static void absent_keys_have_the_defaults_of_transformers(void **state)
{
    (void)state;
    struct model_config c;
    struct err e;

    assert_ok(model_config_decode(&c, bytes_str("{" LLAMA SIZES "}"), &e), &e);

    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_true(c.norm_eps == 1e-6f);
    assert_true(c.rope_theta == 10000.0);
    assert_false(c.tie);
    assert_false(c.qkv_bias);
    assert_false(c.qk_norm);
    assert_int_equal(c.dtype, DTYPE_F32);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.n_stops, 0);
}

static void qwen2_has_biases_and_an_unused_window(void **state)
{
    (void)state;
    struct model_config c;
    struct err e;

    assert_ok(model_config_decode(&c,
                                  bytes_str("{" QWEN2 SIZES ",\"use_sliding_window\":false,"
                                            "\"sliding_window\":32768,\"eos_token_id\":5,"
                                            "\"torch_dtype\":\"bfloat16\"}"),
                                  &e),
              &e);

    assert_true(c.qkv_bias);
    assert_false(c.o_bias);
    assert_int_equal(c.dtype, DTYPE_BF16);
    assert_int_equal(c.n_stops, 1);
    assert_int_equal(c.stops[0], 5);
}

static void qwen3_has_head_norms_and_heads_of_128(void **state)
{
    (void)state;
    struct model_config c;
    struct err e;

    assert_ok(model_config_decode(
                  &c,
                  bytes_str("{" QWEN3 SIZES ",\"eos_token_id\":[3,4],\"rope_parameters\":"
                            "{\"rope_theta\":1000000,\"rope_type\":\"default\"}}"),
                  &e),
              &e);

    assert_true(c.qk_norm);
    assert_int_equal(c.head_dim, 128);
    assert_true(c.rope_theta == 1e6);
    assert_int_equal(c.n_stops, 2);
}

/* Llama-3.2's, as transformers 4 and 5 write it. */
static void both_spellings_of_a_scaled_rope_are_the_same(void **state)
{
    (void)state;
    struct model_config a, b;
    struct err e;

    assert_ok(model_config_decode(&a,
                                  bytes_str("{" LLAMA SIZES ",\"rope_theta\":500000.0,"
                                            "\"rope_scaling\":" LLAMA3 ","
                                            "\"torch_dtype\":\"bfloat16\"}"),
                                  &e),
              &e);
    assert_ok(
        model_config_decode(
            &b,
            bytes_str(
                "{" LLAMA SIZES ",\"rope_parameters\":{\"factor\":32.0,"
                "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"rope_theta\":500000.0,"
                "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
                "\"dtype\":\"bfloat16\"}"),
            &e),
        &e);

    assert_int_equal(a.rope_scaling.type, ROPE_LLAMA3);
    assert_int_equal(a.rope_scaling.original_len, 8192);
    assert_true(a.rope_scaling.factor == 32.0);
    assert_true(a.rope_scaling.low_freq_factor == 1.0);
    assert_true(a.rope_scaling.high_freq_factor == 4.0);
    assert_int_equal(a.dtype, DTYPE_BF16);
    assert_true(model_config_equal(&a, &b));
    b.rope_scaling.low_freq_factor = 2.0;
    assert_false(model_config_equal(&a, &b));
}

/* Absent, MistralConfig's window is 4096. */
static void a_window_that_hides_nothing_is_accepted(void **state)
{
    (void)state;
    static const char *const in[] = {
        "{" MISTRAL SIZES "}",
        "{" MISTRAL SIZES ",\"sliding_window\":null}",
        "{" MISTRAL SIZES ",\"sliding_window\":128}",
        "{" QWEN2 SIZES ",\"sliding_window\":7}",
        "{" QWEN2 SIZES ",\"sliding_window\":128,\"use_sliding_window\":true,"
        "\"layer_types\":[\"full_attention\",\"sliding_attention\"]}",
    };
    struct model_config c;
    struct err e;

    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_ok(model_config_decode(&c, bytes_str(in[i]), &e), &e);
}

static void stops_are_a_number_a_list_or_none(void **state)
{
    (void)state;
    struct model_config c;
    struct err e;

    assert_ok(model_config_decode(
                  &c, bytes_str("{" LLAMA SIZES ",\"eos_token_id\":[7,3,7,-1,258]}"), &e),
              &e);
    assert_int_equal(c.n_stops, 3);
    assert_int_equal(c.stops[0], 7);
    assert_int_equal(c.stops[1], 3);
    assert_int_equal(c.stops[2], 258);
    assert_ok(model_config_decode(&c, bytes_str("{" LLAMA SIZES ",\"eos_token_id\":null}"), &e),
              &e);
    assert_int_equal(c.n_stops, 0);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    struct err e;

    assert_ok(file_write_atomic(tempdir_path(dir, name), bytes_str(text), 0600, &e), &e);
}

static void the_stops_of_generation_config_are_added(void **state)
{
    const char *dir = *state;
    struct model_config c;
    struct err e;

    write_text(dir, "config.json", "{" LLAMA SIZES ",\"eos_token_id\":5}");
    assert_ok(model_config_load(&c, dir, &e), &e);
    assert_ok(model_config_add_stops(&c, dir, &e), &e);
    assert_int_equal(c.n_stops, 1); /* there is no such file */

    write_text(dir, "generation_config.json", "{\"eos_token_id\":[6,5,9],\"top_p\":0.8}");
    assert_ok(model_config_add_stops(&c, dir, &e), &e);
    assert_int_equal(c.n_stops, 3);
    assert_int_equal(c.stops[0], 5);
    assert_int_equal(c.stops[1], 6);
    assert_int_equal(c.stops[2], 9);

    write_text(dir, "generation_config.json", "{\"eos_token_id\":259}");
    assert_status(model_config_add_stops(&c, dir, &e), ERR_INVALID, &e);
    assert_contains(e.text, "generation_config.json");
    assert_int_equal(c.n_stops, 3);
    write_text(dir, "generation_config.json", "{\"eos_token_id\":");
    assert_status(model_config_add_stops(&c, dir, &e), ERR_MALFORMED, &e);
    write_text(dir, "generation_config.json", "{\"eos_tokem_id\":6}");
    assert_status(model_config_add_stops(&c, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "generation_config.json: key 'eos_tokem_id' is 'eos_token_id'");
}

static void what_is_encoded_decodes_to_the_same(void **state)
{
    (void)state;
    static const char *const in[] = {
        "{" LLAMA SIZES ",\"attention_bias\":true,\"rms_norm_eps\":1e-5,\"bos_token_id\":1}",
        "{" QWEN2 SIZES ",\"tie_word_embeddings\":true,\"num_key_value_heads\":2}",
        "{" QWEN3 SIZES ",\"head_dim\":32,\"eos_token_id\":[3,4],\"rope_theta\":500000.5}",
        "{" LLAMA SIZES ",\"rope_scaling\":" LLAMA3 "}",
        "{" MISTRAL SIZES ",\"head_dim\":8,\"eos_token_id\":[-1]}",
    };
    struct model_config a, b;
    struct buf text;
    struct err e;

    buf_init(&text, 1u << 16);
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
        buf_reset(&text);
        assert_ok(model_config_decode(&a, bytes_str(in[i]), &e), &e);
        model_config_encode(&text, &a);
        assert_ok(model_config_decode(&b, buf_bytes(&text), &e), &e);
        assert_true(model_config_equal(&a, &b));
    }
    buf_clear(&text);
}

/* What would change the numbers is refused, and the message names it. */
static void unknown_features_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *json, *name;
    } cases[] = {
        {"{\"architectures\":[\"MixtralForCausalLM\"]," SIZES "}", "MixtralForCausalLM"},
        {"{" LLAMA SIZES ",\"model_type\":\"qwen2\"}", "model_type is \"qwen2\""},
        {"{" LLAMA SIZES ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}",
         "rope_scaling.rope_type is \"yarn\""},
        {"{" LLAMA SIZES ",\"rope_parameters\":{\"rope_type\":\"dynamic\"}}",
         "rope_parameters.rope_type is \"dynamic\""},
        {"{" LLAMA SIZES ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}", "linear"},
        {"{" LLAMA SIZES ",\"rope_scaling\":{\"factor\":2.0}}", "rope_scaling.factor is 2.0"},
        {"{" LLAMA SIZES ",\"rope_parameters\":{\"full_attention\":{}}}", "full_attention"},
        {"{" LLAMA SIZES ",\"rope_scaling\":3}", "rope_scaling is 3"},
        {"{" LLAMA SIZES ",\"sliding_window\":127}", "sliding_window is 127"},
        {"{" MISTRAL SIZES ",\"sliding_window\":127}", "sliding_window is 127"},
        {"{" MISTRAL SIZES ",\"use_sliding_window\":false,\"sliding_window\":127}",
         "sliding_window is 127"},
        {"{\"architectures\":[\"MistralForCausalLM\"],\"vocab_size\":259,\"hidden_size\":64,"
         "\"intermediate_size\":128,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
         "\"max_position_embeddings\":4097}",
         "sliding_window is 4096 where nothing is said"},
        {"{" MISTRAL SIZES ",\"attention_bias\":true}", "attention_bias is true"},
        {"{" QWEN2 SIZES ",\"use_sliding_window\":true,\"sliding_window\":64}",
         "sliding_window is 64"},
        {"{" QWEN3 SIZES ",\"layer_types\":[\"full_attention\",\"sliding_attention\"],"
         "\"sliding_window\":null}",
         "sliding_window is null"},
        {"{" QWEN3 SIZES ",\"layer_types\":[\"chunked_attention\",\"full_attention\"]}",
         "chunked_attention"},
        {"{" LLAMA SIZES ",\"hidden_act\":\"gelu\"}", "hidden_act is \"gelu\""},
        {"{" LLAMA SIZES ",\"mlp_bias\":true}", "mlp_bias is true"},
        {"{" LLAMA SIZES ",\"torch_dtype\":\"float64\"}", "torch_dtype is \"float64\""},
        {"{" LLAMA SIZES ",\"dtype\":\"float8\"}", "dtype is \"float8\""},
        {"{" LLAMA SIZES ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor is 0.5"},
        {"{" LLAMA SIZES ",\"rope_parameters\":{\"partial_rotary_factor\":0.5}}",
         "rope_parameters.partial_rotary_factor is 0.5"},
        {"{" LLAMA SIZES ",\"quantization_config\":{\"bits\":4}}",
         "quantization_config is {\"bits\":4}"},
        {"{" LLAMA SIZES ",\"final_logit_softcapping\":30.0}", "final_logit_softcapping"},
    };
    struct model_config c;
    struct err e;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_status(model_config_decode(&c, bytes_str(cases[i].json), &e), ERR_UNSUPPORTED,
                      &e);
        assert_contains(e.text, cases[i].name);
    }
}

static void values_out_of_range_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *json, *key;
    } cases[] = {
        {"{" LLAMA SIZES ",\"head_dim\":15}", "head_dim"},
        {"{" LLAMA SIZES ",\"head_dim\":130}", "head_dim"}, /* attention holds 128 */
        {"{" LLAMA SIZES ",\"num_key_value_heads\":3}", "num_key_value_heads"},
        {"{" LLAMA SIZES ",\"num_key_value_heads\":0}", "num_key_value_heads"},
        {"{" LLAMA SIZES ",\"rms_norm_eps\":0}", "rms_norm_eps"},
        {"{" LLAMA SIZES ",\"rope_theta\":-1}", "rope_theta"},
        {"{" LLAMA SIZES ",\"eos_token_id\":259}", "eos_token_id"},
        {"{" LLAMA SIZES ",\"bos_token_id\":259}", "bos_token_id"},
        {"{" LLAMA SIZES ",\"eos_token_id\":[0,1,2,3,4,5,6,7,8]}", "eos_token_id"},
        {"{" LLAMA SIZES ",\"rope_theta\":10000.0,\"rope_parameters\":{\"rope_theta\":5e5}}",
         "rope_theta is 10000, and 500000"},
        {"{" LLAMA SIZES ",\"rope_scaling\":" LLAMA3
         ",\"rope_parameters\":{\"rope_type\":\"default\"}}",
         "rope_scaling and rope_parameters disagree"},
        {"{" LLAMA SIZES ",\"rope_scaling\":{\"factor\":0.5,\"low_freq_factor\":1.0,"
         "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"
         "\"rope_type\":\"llama3\"}}",
         "factor"},
        {"{" LLAMA SIZES ",\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":4.0,"
         "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"
         "\"rope_type\":\"llama3\"}}",
         "low_freq_factor"},
    };
    struct model_config c;
    struct err e;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_status(model_config_decode(&c, bytes_str(cases[i].json), &e), ERR_INVALID, &e);
        assert_contains(e.text, cases[i].key);
    }
}

static void rubbish_is_malformed(void **state)
{
    (void)state;
    static const char *const in[] = {
        "",
        "[]",
        "{",
        "{" LLAMA SIZES ",\"vocab_size\":1}",
        "{" LLAMA "\"vocab_size\":5}",
        "{" SIZES "}",
        "{" LLAMA SIZES ",\"tie_word_embeddings\":1}",
        "{" LLAMA SIZES ",\"rms_norm_eps\":\"x\"}",
        "{" LLAMA SIZES ",\"eos_token_id\":\"x\"}",
        "{" LLAMA SIZES ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0}}",
        "{" LLAMA SIZES ",\"rope_parameters\":{\"rope_theta\":\"x\"}}",
        "{" LLAMA SIZES ",\"rope_thetb\":500000.0}",  /* would be 10000 */
        "{" LLAMA SIZES ",\"rope\\theta\":500000.0}", /* likewise, with one byte changed */
        "{" LLAMA SIZES ",\"rms\\norm_eps\":1e-5}",
        "{" QWEN3 SIZES ",\"layer_types\":\"sliding_attention\"}",
        "{" QWEN3 SIZES ",\"layer_types\":[\"full_attention\"]}", /* of two layers */
    };
    struct model_config c;
    struct err e;

    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_status(model_config_decode(&c, bytes_str(in[i]), &e), ERR_MALFORMED, &e);
}

/* Qwen2.5-0.5B has 494,032,768 parameters by its own card. */
static void parameters_are_counted(void **state)
{
    (void)state;
    static const char json[] =
        "{" QWEN2 "\"vocab_size\":151936,\"hidden_size\":896,\"intermediate_size\":4864,"
        "\"num_hidden_layers\":24,\"num_attention_heads\":14,\"num_key_value_heads\":2,"
        "\"max_position_embeddings\":32768,\"tie_word_embeddings\":true}";
    struct model_config c;
    struct err e;

    assert_ok(model_config_decode(&c, bytes_str(json), &e), &e);

    assert_int_equal(model_config_params(&c), 494032768);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_the_defaults_of_transformers),
        cmocka_unit_test(qwen2_has_biases_and_an_unused_window),
        cmocka_unit_test(qwen3_has_head_norms_and_heads_of_128),
        cmocka_unit_test(both_spellings_of_a_scaled_rope_are_the_same),
        cmocka_unit_test(a_window_that_hides_nothing_is_accepted),
        cmocka_unit_test(stops_are_a_number_a_list_or_none),
        cmocka_unit_test_setup_teardown(the_stops_of_generation_config_are_added, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test(what_is_encoded_decodes_to_the_same),
        cmocka_unit_test(unknown_features_are_refused_by_name),
        cmocka_unit_test(values_out_of_range_are_refused_by_key),
        cmocka_unit_test(rubbish_is_malformed),
        cmocka_unit_test(parameters_are_counted),
    };
    return cmocka_run_group_tests_name("engine/config", tests, NULL, NULL);
}
