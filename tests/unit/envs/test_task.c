/*
 * envs/task.h: the task file
 */
#include "envs/task.h"

#include <string.h>

#include "base/file.h"
#include "support/test.h"

static enum status parse(struct task *t, const char *yaml, struct err *e)
{
    return task_parse(t, bytes_str(yaml), "task.yaml", e);
}

/* Parses what must be refused, with `part` in the error's text. */
static void assert_refused(const char *yaml, enum status want, const char *part)
{
    struct task t;
    struct err e = {0};

    assert_status(parse(&t, yaml, &e), want, &e);
    assert_contains(e.text, part);
    task_clear(&t);
}

static void a_minimal_file_gets_defaults(void **state)
{
    (void)state;
    struct task t;
    struct err e;

    assert_ok(parse(&t, "name: small\n", &e), &e);

    assert_string_equal(t.name, "small");
    assert_int_equal(t.sampling.group, 8);
    assert_int_equal(t.algorithm.lag, 2);
    assert_true(t.algorithm.clip_eps == 0.2);
    assert_string_equal(t.algorithm.order, "unit");
    assert_string_equal(t.environment.file, "env.lua");
    assert_true(t.model.tie);
    task_clear(&t);
}

static void derived_settings_are_resolved(void **state)
{
    (void)state;
    struct task t;
    struct err e;

    assert_ok(parse(&t, "name: x\nmodel: {dim: 96, heads: 6}\n", &e), &e);

    assert_int_equal(t.model.kv_heads, 6);
    assert_int_equal(t.model.head_dim, 16);
    assert_int_equal(t.model.ffn, 256);
    task_clear(&t);
}

static void sections_and_values_are_read(void **state)
{
    (void)state;
    struct task t;
    struct err e;

    assert_ok(parse(&t,
                    "name: x\nseed: 42\nsampling:\n  group: 4\n  temperature: 0.5\n"
                    "algorithm: {order: arrival, steps: 7}\nmodel:\n  tie: false\n"
                    "prices:\n  f32-1: 3\n",
                    &e),
              &e);

    assert_int_equal(t.seed, 42);
    assert_int_equal(t.sampling.group, 4);
    assert_true(t.sampling.temperature == 0.5);
    assert_string_equal(t.algorithm.order, "arrival");
    assert_int_equal(t.algorithm.steps, 7);
    assert_false(t.model.tie);
    assert_int_equal(task_price(&t, "f32-1"), 3);
    assert_int_equal(task_price(&t, "bf16-1"), 0);
    assert_int_equal(task_price(&t, "f32-2"), 0);
    assert_string_equal(task_numerics(&t), "f32-1");
    task_clear(&t);
}

static void the_class_is_the_one_that_is_paid_for(void **state)
{
    static const struct {
        const char *yaml, *numerics, *train;
    } cases[] = {
        {"name: x\n", "f32-1", "f32-1"},
        {"name: x\nprices: {f32-1: 0, bf16-1: 2}\n", "bf16-1", "bf16-1"},
        {"name: x\nprices: {f32-1: 0, open-openblas: 2}\n", "open-openblas", "f32-1"},
        {"name: x\nprices: {f32-1: 0, open-cuda: 2}\n", "open-cuda", "f32-1"},
    };
    struct task t;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_ok(parse(&t, cases[i].yaml, &e), &e);
        assert_string_equal(task_numerics(&t), cases[i].numerics);
        assert_string_equal(task_train_numerics(&t), cases[i].train);
        task_clear(&t);
    }
}

static void parameters_have_the_types_they_look_like(void **state)
{
    (void)state;
    struct task t;
    struct err e;
    const struct task_param *p = t.environment.param;

    assert_ok(parse(&t,
                    "name: x\nenvironment:\n  params:\n    length: 8\n    rate: 1.5e-1\n"
                    "    strict: true\n    word: eight\n    digits: \"8\"\n    dash: --\n",
                    &e),
              &e);

    assert_int_equal(t.environment.n_params, 6);
    assert_true(p[0].kind == TASK_PARAM_INT && p[0].integer == 8);
    assert_true(p[1].kind == TASK_PARAM_REAL && p[1].real == 0.15);
    assert_true(p[2].kind == TASK_PARAM_BOOL && p[2].integer == 1);
    assert_true(p[3].kind == TASK_PARAM_TEXT && !strcmp(p[3].text, "eight"));
    assert_true(p[4].kind == TASK_PARAM_TEXT && !strcmp(p[4].text, "8"));
    assert_true(p[5].kind == TASK_PARAM_TEXT && !strcmp(p[5].text, "--"));
    task_clear(&t);
}

static void an_unknown_key_is_refused_with_line_and_suggestion(void **state)
{
    (void)state;

    assert_refused("name: x\nsampling:\n  grup: 4\n", ERR_INVALID, "task.yaml:3");
    assert_refused("name: x\nsampling:\n  grup: 4\n", ERR_INVALID, "sampling.group");
    assert_refused("name: x\nsampling:\n  grup: 4\n", ERR_INVALID, "sampling.grup");
    assert_refused("name: x\nsampelling:\n  group: 4\n", ERR_INVALID, "task.yaml:2");
    assert_refused("name: x\nsampelling:\n  group: 4\n", ERR_INVALID, "sampelling");
    assert_refused("name: x\nsampelling:\n  group: 4\n", ERR_INVALID,
                   "model, environment, sampling");
    assert_refused("name: x\nsead: 4\n", ERR_INVALID, "seed");
}

static void a_value_out_of_range_is_refused_with_key_value_and_range(void **state)
{
    (void)state;

    assert_refused("name: x\nsampling:\n  group: 65\n", ERR_INVALID, "sampling.group");
    assert_refused("name: x\nsampling:\n  group: 65\n", ERR_INVALID, "65");
    assert_refused("name: x\nsampling:\n  group: 65\n", ERR_INVALID, "2..64");
    assert_refused("name: x\nsampling:\n  group: many\n", ERR_INVALID, "many");
    assert_refused("name: x\nalgorithm:\n  order: random\n", ERR_INVALID, "unit|arrival");
    assert_refused("name: x\noptimizer:\n  lr: nan\n", ERR_INVALID, "optimizer.lr");
}

static void a_key_given_twice_is_refused(void **state)
{
    (void)state;

    assert_refused("name: x\nseed: 1\nseed: 2\n", ERR_INVALID, "task.yaml:3");
    assert_refused("name: x\nsampling: {group: 4}\nsampling: {group: 4}\n", ERR_INVALID,
                   "twice");
    assert_refused("name: x\nenvironment: {params: {a: 1, a: 2}}\n", ERR_INVALID, "twice");
}

static void yaml_of_another_shape_is_refused(void **state)
{
    (void)state;
    struct task t;
    struct err e = {0};

    assert_refused("", ERR_MALFORMED, "empty");
    assert_status(task_parse(&t, (struct bytes){NULL, 0}, "task.yaml", &e), ERR_MALFORMED, &e);
    task_clear(&t);
    assert_refused("just text\n", ERR_MALFORMED, "task.yaml:1");
    assert_refused("- name: x\n", ERR_MALFORMED, "lists");
    assert_refused("name: [x]\n", ERR_MALFORMED, "lists");
    assert_refused("name: {x: 1}\n", ERR_INVALID, "value, not a section");
    assert_refused("name: x\nsampling: 3\n", ERR_INVALID, "section, not a value");
    assert_refused("name: &a x\nabout: *a\n", ERR_MALFORMED, "aliases");
    assert_refused("name: x\n---\nname: y\n", ERR_MALFORMED, "second document");
    assert_refused("name: x\n  bad: : indent\n", ERR_MALFORMED, "task.yaml:2");
    assert_refused("name: \"a\\0b\"\n", ERR_MALFORMED, "NUL");
    assert_refused("{? {a: b} : c}", ERR_MALFORMED, "mapping cannot be a key");
    assert_refused("name: x\nenvironment: {params: {a: {b: {c: 1}}}}\n", ERR_INVALID,
                   "environment.params.a");
    assert_refused("name: x\nsampling.group: 4\n", ERR_MALFORMED, "dot");
}

static void a_required_key_is_asked_for(void **state)
{
    (void)state;

    assert_refused("seed: 1\n", ERR_INVALID, "name");
}

static void rules_between_keys_hold(void **state)
{
    (void)state;

    assert_refused("name: x\nmodel: {dim: 65}\n", ERR_INVALID, "head_dim");
    assert_refused("name: x\nmodel: {head_dim: 15}\n", ERR_INVALID, "odd");
    assert_refused("name: x\nmodel: {kv_heads: 3}\n", ERR_INVALID, "kv_heads");
    assert_refused("name: x\nmodel: {alphabet: abca}\n", ERR_INVALID, "'a' twice");
    assert_refused("name: x\nmodel: {alphabet: \"\"}\n", ERR_INVALID, "empty");
    assert_refused("name: x\nmodel: {max_len: 16}\n", ERR_INVALID, "no room for a prompt");
    assert_refused("name: x\nacceptance: {reward_min: 1}\n", ERR_INVALID, "reward_max");
    assert_refused("name: x\nalgorithm: {lag: 9}\n", ERR_INVALID, "max_staleness");
    assert_refused("name: x\nleases: {hard_deadline_ms: 200}\n", ERR_INVALID, "lease_ms");
    assert_refused("name: x\nmodel: {max_len: 65536}\nsampling: {group: 64}\n", ERR_INVALID,
                   "more than 2621440 tokens");
    assert_refused("name: x\nbudget: {deposit: 5}\n", ERR_INVALID, "may cost");
    assert_refused("name: x\nprices: {open-openblas: 5}\n", ERR_INVALID, "one class");
    assert_refused("name: x\nprices: {bf16-1: 5}\n", ERR_INVALID, "one class");
    assert_refused("name: x\nprices: {f32-1: 0}\n", ERR_INVALID, "no class");
    assert_refused("name: 'a b'\n", ERR_INVALID, "a b");
}

static void an_alphabet_may_have_characters_of_several_bytes(void **state)
{
    (void)state;
    struct task t;
    struct err e;

    assert_ok(parse(&t, "name: x\nmodel: {alphabet: \"aäöü€\"}\n", &e), &e);
    task_clear(&t);
    assert_refused("name: x\nmodel: {alphabet: \"aäöä\"}\n", ERR_INVALID, "'ä' twice");
}

static void what_is_printed_can_be_read_again(void **state)
{
    (void)state;
    struct task t;
    struct err e;
    struct buf out;

    buf_init(&out, 1 << 20);
    assert_ok(parse(&t, "name: x\nenvironment: {params: {n: 3, w: two}}\n", &e), &e);

    task_print(&out, &t);

    assert_contains(buf_cstr(&out), "name=x\n");
    assert_contains(buf_cstr(&out), "model.head_dim=16\n");
    assert_contains(buf_cstr(&out), "environment.params.n=3\n");
    assert_contains(buf_cstr(&out), "environment.params.w=two\n");
    task_clear(&t);
    buf_clear(&out);
}

static void a_failed_parse_leaves_the_defaults(void **state)
{
    (void)state;
    struct task t;

    assert_status(parse(&t, "name: x\nseed: 7\nbad: 1\n", NULL), ERR_INVALID, NULL);

    assert_int_equal(t.seed, 1);
    assert_int_equal(t.environment.n_params, 0);
    task_clear(&t);
}

static void the_page_of_the_docs_has_every_key(void **state)
{
    (void)state;
    struct buf page, table;
    struct err e;

    buf_init(&page, 1 << 20);
    buf_init(&table, 1 << 20);
    assert_ok(file_read(&page, MUSTER_SOURCE_DIR "/docs/task-file.md", &e), &e);

    task_describe(&table);

    assert_contains(buf_cstr(&page), buf_cstr(&table)); /* as task_describe writes it */
    buf_clear(&page);
    buf_clear(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_file_gets_defaults),
        cmocka_unit_test(derived_settings_are_resolved),
        cmocka_unit_test(sections_and_values_are_read),
        cmocka_unit_test(the_class_is_the_one_that_is_paid_for),
        cmocka_unit_test(parameters_have_the_types_they_look_like),
        cmocka_unit_test(an_unknown_key_is_refused_with_line_and_suggestion),
        cmocka_unit_test(a_value_out_of_range_is_refused_with_key_value_and_range),
        cmocka_unit_test(a_key_given_twice_is_refused),
        cmocka_unit_test(yaml_of_another_shape_is_refused),
        cmocka_unit_test(a_required_key_is_asked_for),
        cmocka_unit_test(rules_between_keys_hold),
        cmocka_unit_test(an_alphabet_may_have_characters_of_several_bytes),
        cmocka_unit_test(what_is_printed_can_be_read_again),
        cmocka_unit_test(the_page_of_the_docs_has_every_key),
        cmocka_unit_test(a_failed_parse_leaves_the_defaults),
    };

    return cmocka_run_group_tests_name("envs/task", tests, NULL, NULL);
}
