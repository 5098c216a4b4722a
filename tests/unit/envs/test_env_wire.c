/*
 * envs/env_wire.h
 */
#include "envs/env_wire.h"

#include <math.h>
#include <string.h>

#include "support/test.h"

static void a_setup_survives_the_wire(void **state)
{
    (void)state;
    struct task_param param[] = {{"n", TASK_PARAM_INT, -3, 0, NULL},
                                 {"x", TASK_PARAM_REAL, 0, 0.1, NULL},
                                 {"w", TASK_PARAM_TEXT, 0, 0, (char *)"word"}};
    struct env_setup s = {.src = {.lua = BYTES_LIT("return {}"),
                                  .data = BYTES_LIT("1\n"),
                                  .param = param,
                                  .n_params = 3,
                                  .instructions = 5,
                                  .memory_bytes = 7},
                          .allow_unsandboxed = true,
                          .wall_ms = 9};
    struct env_setup d;
    struct buf b;
    struct err e;

    buf_init(&b, 4096);
    env_setup_encode(&b, &s);
    assert_ok(env_setup_decode(&d, buf_bytes(&b), &e), &e);

    assert_true(bytes_equal(d.src.lua, s.src.lua) && bytes_equal(d.src.data, s.src.data));
    assert_int_equal(d.src.n_params, 3);
    assert_int_equal(d.src.param[0].integer, -3);
    assert_true(d.src.param[1].real == 0.1);
    assert_string_equal(d.src.param[2].text, "word");
    assert_int_equal(d.src.instructions, 5);
    assert_int_equal(d.wall_ms, 9);
    assert_true(d.allow_unsandboxed);
    env_setup_clear(&d);
    for (size_t n = 0; n < b.len; n++)
        assert_int_not_equal(env_setup_decode(&d, bytes_slice(buf_bytes(&b), 0, n), NULL), OK);
    buf_clear(&b);
}

static void a_call_survives_the_wire(void **state)
{
    (void)state;
    struct env_message m[] = {{ENV_MODEL, BYTES_LIT("a\0b")}, {ENV_WORLD, BYTES_LIT("")}};
    struct env_message room[ENV_MESSAGES_MAX];
    struct script_call c = {SCRIPT_SCORE, {3, 0xffffffffffffffffu, ENV_HELDOUT}, m, 2}, d;
    struct buf b;

    buf_init(&b, 4096);
    env_call_encode(&b, &c);
    assert_ok(env_call_decode(&d, room, buf_bytes(&b), NULL), NULL);

    assert_int_equal(d.op, SCRIPT_SCORE);
    assert_int_equal(d.problem.index, 3);
    assert_true(d.problem.seed == 0xffffffffffffffffu);
    assert_int_equal(d.problem.split, ENV_HELDOUT);
    assert_int_equal(d.n_messages, 2);
    assert_true(bytes_equal(d.message[0].text, m[0].text));
    assert_int_equal(d.message[1].author, ENV_WORLD);
    b.data[0] = SCRIPT_SCORE + 1;
    assert_status(env_call_decode(&d, room, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    buf_clear(&b);
}

static struct script_result sample(void)
{
    struct script_result r = {.end = SCRIPT_DONE, .reward = 0.25, .n_metrics = 2};

    r.text = BYTES_LIT("text");
    r.metric[0] = (struct env_metric){"alpha", 1};
    r.metric[1] = (struct env_metric){"beta", 2};
    r.usage = (struct env_usage){1000, 2000};
    return r;
}

static enum status send(const struct script_result *r, struct script_result *d)
{
    static struct buf b;
    enum status st;

    buf_clear(&b);
    buf_init(&b, 4096);
    env_result_encode(&b, r);
    st = env_result_decode(d, buf_bytes(&b), NULL);
    if (st)
        buf_clear(&b);
    return st;
}

static void a_result_survives_the_wire(void **state)
{
    (void)state;
    struct script_result r = sample(), d;

    assert_ok(send(&r, &d), NULL);

    assert_true(d.reward == 0.25);
    assert_true(bytes_equal(d.text, BYTES_LIT("text")));
    assert_int_equal(d.n_metrics, 2);
    assert_string_equal(d.metric[1].name, "beta");
    assert_int_equal(d.usage.memory_bytes, 2000);
    r.why[0] = '\n';
    send(&r, &d) /* frees the buffer */;
}

static void what_an_honest_worker_does_not_send_is_refused(void **state)
{
    (void)state;
    struct script_result r, d;

    r = sample();
    memcpy(r.why, "a\nb", 4);
    assert_status(send(&r, &d), ERR_MALFORMED, NULL);
    r = sample();
    r.metric[0].value = INFINITY;
    assert_status(send(&r, &d), ERR_MALFORMED, NULL);
    r = sample();
    memcpy(r.metric[1].name, "aa", 3); /* out of order */
    assert_status(send(&r, &d), ERR_MALFORMED, NULL);
    r = sample();
    memcpy(r.metric[1].name, "alpha", 6); /* twice */
    assert_status(send(&r, &d), ERR_MALFORMED, NULL);
    r = sample();
    r.end = SCRIPT_ABSENT + 1;
    assert_status(send(&r, &d), ERR_MALFORMED, NULL);
}

static void a_hello_with_unprintable_text_is_refused(void **state)
{
    (void)state;
    struct env_hello h = {.st = ERR_INVALID, .text = BYTES_LIT("fine")}, d;
    struct buf b;

    buf_init(&b, 4096);
    env_hello_encode(&b, &h);
    assert_ok(env_hello_decode(&d, buf_bytes(&b), NULL), NULL);
    assert_int_equal(d.st, ERR_INVALID);
    b.data[5] = 27;

    assert_status(env_hello_decode(&d, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_setup_survives_the_wire),
        cmocka_unit_test(a_call_survives_the_wire),
        cmocka_unit_test(a_result_survives_the_wire),
        cmocka_unit_test(what_an_honest_worker_does_not_send_is_refused),
        cmocka_unit_test(a_hello_with_unprintable_text_is_refused),
    };

    return cmocka_run_group_tests_name("envs/env_wire", tests, NULL, NULL);
}
