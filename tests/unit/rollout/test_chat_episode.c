/*
 * rollout/episode with a chat template: what the model sees is the conversation as engine/chat.h
 * renders it whole, however it came about turn by turn.
 */
#include "rollout/episode.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/chat.h"
#include "rollout/setup.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

#define DIR MUSTER_SOURCE_DIR "/tests/vectors/tokenizer/"

static const char lua[] =
    "return {prompt = function() return 'What is 3+4?' end,"
    " demo = function() return ' 7' end,"
    " step = function(_, m) if m[#m].text ~= '7' then return 'No, higher.' end end,"
    " score = function(_, m) return #m == 3 and 1 or 0 end}";
static const char config_json[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\","
    " \"vocab_size\": %u, \"hidden_size\": 16, \"num_hidden_layers\": 1,"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"intermediate_size\": 24,"
    " \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0,"
    " \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"torch_dtype\": \"float32\"}";

struct fixture {
    struct buf tokenizer, config, yaml, encoded;
    struct setup *s;
    struct err e;
};

/* A bundle with the tokenizer of `dir` and this template; *st is setup_open's. */
static enum status open_it(struct fixture *f, const char *dir, const char *template)
{
    char path[512];
    struct bundle b = {0};
    struct tokenizer *t;

    snprintf(path, sizeof(path), DIR "%s/tokenizer.json", dir);
    buf_init(&f->tokenizer, 1u << 23);
    buf_init(&f->config, 4096);
    buf_init(&f->yaml, 4096);
    buf_init(&f->encoded, BUNDLE_MAX_BYTES);
    assert_ok(file_read(&f->tokenizer, path, &f->e), &f->e);
    assert_ok(tokenizer_parse(&t, buf_bytes(&f->tokenizer), &f->e), &f->e);
    buf_printf(&f->config, config_json, tokenizer_vocab(t));
    tokenizer_free(&t);
    buf_printf(&f->yaml,
               "name: x\nmodel: {init: somewhere, max_len: 400, template: '%s'}\n"
               "environment: {turns: 2}\nsampling: {max_new_tokens: 60}\n",
               template);
    b.file[BUNDLE_TASK] = buf_bytes(&f->yaml);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    b.file[BUNDLE_CONFIG] = buf_bytes(&f->config);
    b.file[BUNDLE_TOKENIZER] = buf_bytes(&f->tokenizer);
    assert_ok(bundle_encode(&f->encoded, &b, &f->e), &f->e);
    return setup_open(&f->s, buf_bytes(&f->encoded), NULL, &f->e);
}

static void close_it(struct fixture *f)
{
    setup_close(&f->s);
    buf_clear(&f->tokenizer);
    buf_clear(&f->config);
    buf_clear(&f->yaml);
    buf_clear(&f->encoded);
}

/* The model says `text` and ends its turn. */
static void say(struct fixture *f, struct episode *ep, const struct rollout_world *w,
                const struct episode_prompt *p, const char *text)
{
    int32_t ids[64];
    size_t n;

    assert_ok(tokenizer_encode(f->s->tokenizer, bytes_str(text), ids, 63, &n, &f->e), &f->e);
    ids[n++] = chat_end(f->s->chat);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(episode_push(ep, w, p, ids[i], -1.0f), i + 1 == n);
    assert_ok(episode_turn_over(ep, w, p, &f->e), &f->e);
}

static void a_conversation_is_what_its_template_renders(void **state)
{
    static const struct {
        const char *dir, *template;
    } in[] = {
        {"qwen", "chatml"}, {"qwen", "qwen2.5"}, {"llama3", "llama3"}, {"llama3", "llama3.1"}};
    static const struct digest root;
    const struct env_problem problem = {.index = 0, .seed = 1, .split = ENV_TRAIN};

    (void)state;
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
        const struct chat_message said[] = {{CHAT_USER, BYTES_LIT("What is 3+4?")},
                                            {CHAT_ASSISTANT, BYTES_LIT("5")},
                                            {CHAT_USER, BYTES_LIT("No, higher.")}};
        struct fixture f = {0};
        struct episode_prompt p;
        struct episode ep;
        int32_t want[400];
        uint8_t is_answer[400];
        size_t n;
        float reward;

        assert_ok(open_it(&f, in[i].dir, in[i].template), &f.e);
        struct rollout_world w = setup_world(f.s, NULL, 0, &root);
        assert_ok(episode_prompt_make(&p, &w, &problem, &f.e), &f.e);
        assert_ok(episode_init(&ep, &w, &p, &f.e), &f.e);
        assert_ok(chat_render(f.s->chat, said, 1, true, want, NULL, 400, &n, &f.e), &f.e);
        assert_int_equal(p.n, n);
        assert_memory_equal(p.ids, want, n * sizeof(*want));

        say(&f, &ep, &w, &p, "5");
        assert_false(ep.is_over);
        assert_ok(chat_render(f.s->chat, said, 3, true, want, is_answer, 400, &n, &f.e), &f.e);
        assert_int_equal(p.n + ep.n, n);
        assert_memory_equal(ep.tokens, want + p.n, ep.n * sizeof(*want));
        assert_memory_equal(ep.mask, is_answer + p.n, ep.n); /* the model's, and no other */

        say(&f, &ep, &w, &p, "7");
        assert_true(ep.is_over);
        assert_int_equal(ep.message[2].text.len, 1); /* without what ends it */
        assert_ok(episode_score(&ep, &w, &p, &reward, &f.e), &f.e);
        assert_true(reward == 1.0f);
        episode_clear(&ep);
        episode_prompt_clear(&p);
        close_it(&f);
    }
}

static void a_demonstration_ends_as_an_answer_does(void **state)
{
    struct fixture f = {0};
    int32_t ids[400], want[400];
    const struct chat_message said[] = {{CHAT_USER, BYTES_LIT("What is 3+4?")}};
    size_t n_prompt, n, n_want;

    (void)state;
    assert_ok(open_it(&f, "qwen", "chatml"), &f.e);
    assert_ok(setup_demo(f.s, 0, ids, 400, &n_prompt, &n, &f.e), &f.e);
    assert_ok(chat_render(f.s->chat, said, 1, true, want, NULL, 400, &n_want, &f.e), &f.e);
    assert_int_equal(n_prompt, n_want);
    assert_memory_equal(ids, want, n_prompt * sizeof(*ids));
    assert_int_equal(ids[n - 1], tokenizer_find_special(f.s->tokenizer, "<|im_end|>"));
    close_it(&f);
}

static void a_template_that_is_not_known_or_does_not_fit_is_refused(void **state)
{
    struct fixture f = {0}, g = {0};

    (void)state;
    assert_status(open_it(&f, "qwen", "nonsense"), ERR_UNSUPPORTED, &f.e);
    assert_contains(f.e.text,
                    "model.template: no chat template 'nonsense'; there are chatml, ");
    assert_status(open_it(&g, "qwen", "llama3"), ERR_UNSUPPORTED, &g.e);
    close_it(&f);
    close_it(&g);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_is_what_its_template_renders),
        cmocka_unit_test(a_demonstration_ends_as_an_answer_does),
        cmocka_unit_test(a_template_that_is_not_known_or_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests_name("rollout/chat_episode", tests, NULL, NULL);
}
