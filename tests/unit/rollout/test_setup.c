/*
 * rollout/setup: from a bundle's bytes to a task that can be worked on.
 */
#include "rollout/setup.h"

#include <string.h>

#include "support/test.h"

#include "unit/rollout/small_world.h"

static const char lua[] = "return {prompt = function() return 'a' end,"
                          " demo = function() return 'bb' end,"
                          " score = function() return 0 end}";
static const char lua_without_demo[] = "return {prompt = function() return 'a' end,"
                                       " score = function() return 0 end}";
static const char yaml[] = "name: x\nmodel: {dim: 16, heads: 2, max_len: 8, alphabet: 'ab'}\n"
                           "sampling: {max_new_tokens: 4}\n";
static const char config_json[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\","
    " \"vocab_size\": %u, \"hidden_size\": 16, \"num_hidden_layers\": 1,"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"intermediate_size\": 24,"
    " \"max_position_embeddings\": %u, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0,"
    " \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"torch_dtype\": \"float32\"}";

struct fixture {
    struct bundle b;
    struct buf encoded;
    struct setup *s;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->b.file[BUNDLE_TASK] = bytes_str(yaml);
    f->b.file[BUNDLE_ENV] = bytes_str(lua);
    buf_init(&f->encoded, BUNDLE_MAX_BYTES);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    setup_close(&f->s);
    buf_clear(&f->encoded);
    test_free(f);
    return 0;
}

static enum status open_it(struct fixture *f)
{
    buf_reset(&f->encoded);
    assert_ok(bundle_encode(&f->encoded, &f->b, &f->e), &f->e);
    return setup_open(&f->s, buf_bytes(&f->encoded), NULL, &f->e);
}

static void a_bundle_becomes_task_shape_tokenizer_and_plan(void **state)
{
    struct fixture *f = *state;
    struct digest id;

    assert_ok(open_it(f), &f->e);

    bundle_id(id.b, buf_bytes(&f->encoded));
    assert_true(digest_equal(&f->s->task_id, &id));
    assert_true(digest_equal(&f->s->plan.task, &id));
    assert_int_equal(f->s->plan.n_tasks, env_n_tasks(f->s->env));
    assert_int_equal(f->s->plan.seed, 1);
    assert_int_equal(f->s->config.vocab, 5); /* pad, bos, eos, a, b */
    assert_int_equal(f->s->config.max_len, 8);
    assert_int_equal(f->s->config.arch, MODEL_ARCH_LLAMA);
    assert_true(bytes_equal(buf_bytes(&f->s->bundle), buf_bytes(&f->encoded)));
}

static void a_world_is_that_of_the_version_asked_for(void **state)
{
    struct fixture *f = *state;
    const struct digest root = {{4}};

    assert_ok(open_it(f), &f->e);
    struct rollout_world w = setup_world(f->s, NULL, 12, &root);

    assert_int_equal(w.version, 12);
    assert_true(digest_equal(&w.weights, &root));
    assert_ptr_equal(w.task, &f->s->task);
    assert_ptr_equal(w.env, f->s->env);
}

static void a_demonstration_is_prompt_answer_and_stop(void **state)
{
    struct fixture *f = *state;
    const int32_t want[5] = {1, 3, 4, 4, 2};
    int32_t ids[8];
    size_t n_prompt, n;

    assert_ok(open_it(f), &f->e);
    assert_ok(setup_demo(f->s, 0, ids, 8, &n_prompt, &n, &f->e), &f->e);

    assert_int_equal(n_prompt, 2);
    assert_int_equal(n, 5);
    assert_memory_equal(ids, want, sizeof(want));
}

static void a_demonstration_that_does_not_fit_is_an_error(void **state)
{
    struct fixture *f = *state;
    int32_t ids[8];
    size_t n_prompt, n;

    assert_ok(open_it(f), &f->e);
    assert_ok(setup_demo(f->s, 0, ids, 5, &n_prompt, &n, &f->e), &f->e);
    assert_status(setup_demo(f->s, 0, ids, 4, &n_prompt, &n, &f->e), ERR_LIMIT, NULL);
    assert_status(setup_demo(f->s, 0, ids, 2, &n_prompt, &n, &f->e), ERR_LIMIT, NULL);
}

static void a_task_without_demonstrations_says_so(void **state)
{
    struct fixture *f = *state;
    int32_t ids[8];
    size_t n_prompt, n;

    f->b.file[BUNDLE_ENV] = bytes_str(lua_without_demo);
    assert_ok(open_it(f), &f->e);
    assert_status(setup_demo(f->s, 0, ids, 8, &n_prompt, &n, &f->e), ERR_NOT_FOUND, NULL);
}

static void a_config_in_the_bundle_is_the_shape(void **state)
{
    struct fixture *f = *state;
    struct buf json;

    buf_init(&json, 4096);
    buf_printf(&json, config_json, 5u, 32u);
    f->b.file[BUNDLE_CONFIG] = buf_bytes(&json);
    assert_ok(open_it(f), &f->e);

    assert_int_equal(f->s->config.arch, MODEL_ARCH_QWEN2);
    assert_int_equal(f->s->config.vocab, 5);
    assert_int_equal(f->s->config.layers, 1);
    buf_clear(&json);
}

static void a_config_that_cannot_serve_the_task_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf json;

    buf_init(&json, 4096);
    buf_printf(&json, config_json, 4u, 32u);
    f->b.file[BUNDLE_CONFIG] = buf_bytes(&json);
    assert_status(open_it(f), ERR_INVALID, NULL);
    assert_contains(f->e.text, "the tokenizer has 5 ids and the model's vocabulary 4");
    buf_reset(&json);
    buf_printf(&json, config_json, 9u, 32u); /* ids that no text stands for could be sampled */
    assert_status(open_it(f), ERR_INVALID, NULL);
    assert_contains(f->e.text, "the tokenizer has 5 ids and the model's vocabulary 9");
    buf_reset(&json);
    buf_printf(&json, config_json, 5u, 7u);
    f->b.file[BUNDLE_CONFIG] = buf_bytes(&json);
    assert_status(open_it(f), ERR_INVALID, NULL);
    assert_contains(f->e.text, "model.max_len is 8 and the model has 7 positions");
    buf_clear(&json);
}

static void a_tokenizer_that_is_not_known_is_refused(void **state)
{
    struct fixture *f = *state;

    f->b.file[BUNDLE_TOKENIZER] =
        BYTES_LIT("{\"version\": \"1.0\", \"model\": {\"type\": \"Unigram\"}}");
    assert_status(open_it(f), ERR_UNSUPPORTED, NULL);
    assert_null(f->s);
}

static void rubbish_is_refused_and_nothing_is_held(void **state)
{
    struct fixture *f = *state;

    assert_status(setup_open(&f->s, BYTES_LIT("MUSTERTB"), NULL, &f->e), ERR_MALFORMED, NULL);
    assert_null(f->s);
    f->b.file[BUNDLE_TASK] = BYTES_LIT("name: [");
    assert_status(open_it(f), ERR_MALFORMED, NULL);
    assert_null(f->s);
    f->b.file[BUNDLE_TASK] = BYTES_LIT("name: x\nno_such_key: 1\n");
    assert_status(open_it(f), ERR_INVALID, NULL);
    f->b.file[BUNDLE_TASK] = bytes_str(yaml);
    f->b.file[BUNDLE_ENV] = BYTES_LIT("this is not Lua");
    assert_status(open_it(f), ERR_INVALID, NULL);
    assert_null(f->s);
}

static void the_task_of_the_integration_tests_opens(void **state)
{
    struct fixture *f = *state;

    small_bundle(&f->encoded, SMALL_TASK_SMALL, 0);
    assert_ok(setup_open(&f->s, buf_bytes(&f->encoded), NULL, &f->e), &f->e);
    assert_string_equal(f->s->task.name, "small");
    assert_int_equal(f->s->config.vocab, 10);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* A class has limits of its own: the model of `yaml` has heads of 8 channels. */
static void a_model_that_the_class_does_not_compute_is_refused(void **state)
{
    struct fixture *f = *state;
#define OPEN(dim)                                                                              \
    "name: x\nmodel: {dim: " dim ", heads: 2, max_len: 8, alphabet: 'ab'}\n"                   \
    "sampling: {max_new_tokens: 4}\nprices: {f32-1: 0, open-cuda: 1}\n"

    f->b.file[BUNDLE_TASK] = bytes_str(OPEN("16"));
    assert_int_equal(open_it(f), ERR_UNSUPPORTED);
    assert_non_null(strstr(f->e.text, "heads of 32, 64 or 128 channels"));
    f->b.file[BUNDLE_TASK] = bytes_str(OPEN("64"));
    assert_ok(open_it(f), &f->e);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(a_bundle_becomes_task_shape_tokenizer_and_plan),
        CASE(a_world_is_that_of_the_version_asked_for),
        CASE(a_demonstration_is_prompt_answer_and_stop),
        CASE(a_demonstration_that_does_not_fit_is_an_error),
        CASE(a_task_without_demonstrations_says_so),
        CASE(a_config_in_the_bundle_is_the_shape),
        CASE(a_config_that_cannot_serve_the_task_is_refused),
        CASE(a_model_that_the_class_does_not_compute_is_refused),
        CASE(a_tokenizer_that_is_not_known_is_refused),
        CASE(rubbish_is_refused_and_nothing_is_held),
        CASE(the_task_of_the_integration_tests_opens),
    };
    return cmocka_run_group_tests_name("rollout/setup", tests, NULL, NULL);
}
