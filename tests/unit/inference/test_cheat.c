/*
 * inference/cheat: the dishonest workers do what their names say, and each is found out.
 */
#include "inference/cheat.h"

#include <string.h>

#include "rollout/check.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

static const struct public_key key = {{3}};

static struct rollout_finding check(const struct small_world *s, const struct claim *c,
                                    enum check_depth depth)
{
    struct rollout_finding f;
    struct err e = {0};

    assert_ok(rollout_check(&s->world, c->s, depth, &key, &f, &e), &e);
    return f;
}

static void cheat_on(struct claim *c, enum infer_cheat cheat, const struct small_world *s)
{
    struct err e = {0};

    assert_ok(cheat_submission(&c->unit.body, cheat, &s->setup->task, &e), &e);
    assert_ok(msg_submit_decode(c->s, buf_bytes(&c->unit.body), &e), &e);
}

static void names_are_read_as_they_are_written(void **state)
{
    (void)state;

    for (int i = 0; i < CHEAT_COUNT; i++)
        assert_int_equal(infer_cheat_parse(infer_cheat_name((enum infer_cheat)i)), i);
    assert_int_equal(infer_cheat_parse("honest"), CHEAT_COUNT);
    assert_string_equal(infer_cheat_name(CHEAT_COUNT), "?");
}

static void an_honest_submission_is_left_alone(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct digest before;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 1);
    before = c.s->root;
    cheat_on(&c, CHEAT_NONE, &s);
    assert_true(digest_equal(&c.s->root, &before));
    assert_true(check(&s, &c, CHECK_FULL).is_accepted);
    claim_clear(&c);
    small_world_close(&s);
}

static void forged_rewards_are_found_by_a_light_check(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 1);
    cheat_on(&c, CHEAT_REWARD, &s);
    assert_true(c.s->sample[0].reward == 1.0f);
    assert_int_equal(check(&s, &c, CHECK_LIGHT).code, REASON_REWARD);
    claim_clear(&c);
    small_world_close(&s);
}

static void forged_tokens_are_found(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_finding f;

    small_world_open(&s, SMALL_TASK_LONG, 20);
    claim_make(&c, &s.world, 1);
    cheat_on(&c, CHEAT_TOKENS, &s);
    f = check(&s, &c, CHECK_FULL);
    assert_int_equal(f.code, REASON_TOKEN);
    assert_int_equal(f.position, 0);
    claim_clear(&c);
    small_world_close(&s);
}

static void quantised_weights_are_found(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_finding f;

    small_world_open(&s, SMALL_TASK_LONG, 40);
    cheat_quantise(s.weights);
    model_reload(s.model, s.weights);
    claim_make(&c, &s.world, 1);
    small_world_reweigh(&s, 1);
    assert_true(check(&s, &c, CHECK_LIGHT).is_accepted); /* it names the right weights */
    f = check(&s, &c, CHECK_FULL);
    assert_false(f.is_accepted);
    assert_true(f.code == REASON_TOKEN || f.code == REASON_LOGPROB);
    assert_int_equal(f.sample, 0);
    assert_int_equal(f.position, 0);
    claim_clear(&c);
    small_world_close(&s);
}

static void quantising_leaves_255_values_a_row(void **state)
{
    (void)state;
    struct small_world s;
    const float *row;
    float top = 0.0f;

    small_world_open(&s, SMALL_TASK_LONG, 4);
    row = s.weights->layers[0].q;
    for (size_t i = 0; i < 16; i++)
        top = row[i] > top ? row[i] : -row[i] > top ? -row[i] : top;
    s.weights->norm[0] = 0.3f;
    cheat_quantise(s.weights);
    for (size_t i = 0; i < 16; i++) {
        float step = row[i] / (top / 127.0f);
        float nearest = (float)(int)(step + (step < 0.0f ? -0.5f : 0.5f));

        /* A product and a quotient: one ulp of at most 127 each. */
        assert_true(step - nearest < 2e-5f && nearest - step < 2e-5f);
    }
    assert_true(s.weights->norm[0] == 0.3f); /* vectors are left alone */
    small_world_close(&s);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_as_they_are_written),
        cmocka_unit_test(an_honest_submission_is_left_alone),
        cmocka_unit_test(forged_rewards_are_found_by_a_light_check),
        cmocka_unit_test(forged_tokens_are_found),
        cmocka_unit_test(quantised_weights_are_found),
        cmocka_unit_test(quantising_leaves_255_values_a_row),
    };
    return cmocka_run_group_tests_name("inference/cheat", tests, NULL, NULL);
}
