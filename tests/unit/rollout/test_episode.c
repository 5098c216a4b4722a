/*
 * rollout/episode: when a turn ends, and what the environment then adds. The tokens are the
 * test's own; the task is TALK: ids 3 and 4 are a and b, 2 ends an answer; 24 positions,
 * 3 turns of 7 tokens.
 */
#include "rollout/episode.h"

#include <string.h>

#include "support/close.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

#define BOS 1
#define EOS 2
#define A   3
#define B   4

struct fixture {
    struct small_world s;
    struct episode_prompt p;
    struct episode ep;
    struct err e;
};

/* A problem whose prompt is "ab" or "abab": 3 or 5 tokens with bos. */
static void begin(struct fixture *f, uint64_t seed)
{
    const struct env_problem problem = {.seed = seed};

    episode_clear(&f->ep);
    episode_prompt_clear(&f->p);
    assert_ok(episode_prompt_make(&f->p, &f->s.world, &problem, &f->e), &f->e);
    assert_ok(episode_init(&f->ep, &f->s.world, &f->p, &f->e), &f->e);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    small_world_open(&f->s, SMALL_TASK_TALK, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    episode_clear(&f->ep);
    episode_prompt_clear(&f->p);
    small_world_close(&f->s);
    test_free(f);
    return 0;
}

/* Pushes n tokens; only the last may end the turn, and whether it did is returned. */
static bool push(struct fixture *f, const int32_t *tokens, size_t n)
{
    bool over = false;

    for (size_t i = 0; i < n; i++) {
        assert_false(over);
        over = episode_push(&f->ep, &f->s.world, &f->p, tokens[i], -0.5f);
    }
    return over;
}

static void turn_over(struct fixture *f)
{
    assert_ok(episode_turn_over(&f->ep, &f->s.world, &f->p, &f->e), &f->e);
}

static void say(struct fixture *f, const int32_t *tokens, size_t n)
{
    assert_true(push(f, tokens, n));
    turn_over(f);
}

static void a_prompt_is_bos_and_its_text(void **state)
{
    struct fixture *f = *state;
    const int32_t want[5] = {BOS, A, B, A, B};

    begin(f, 1);
    assert_int_equal(f->p.n, 5);
    assert_memory_equal(f->p.ids, want, sizeof(want));
    assert_string_equal(buf_cstr(&f->p.text), "abab");
    assert_int_equal(f->ep.cap, 24 - 5);
}

static void a_turn_ends_with_the_stop_token(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[2] = {A, EOS};

    begin(f, 0);
    assert_true(push(f, tokens, 2));
    assert_false(f->ep.is_over); /* the environment has not spoken */
    assert_int_equal(f->ep.n_sampled, 2);
}

static void a_turn_ends_after_its_tokens_and_with_it_the_episode(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[7] = {A, A, A, A, A, A, A};

    begin(f, 0);
    assert_false(push(f, tokens, 6));
    assert_int_equal(episode_room(&f->ep, &f->s.world, &f->p), 1);
    assert_true(push(f, tokens, 1));
    turn_over(f);

    assert_true(f->ep.is_over);
    assert_int_equal(f->ep.finish, FINISH_LENGTH);
    assert_int_equal(f->ep.n_messages, 1);
    assert_int_equal(f->ep.message[0].text.len, 7);
}

static void a_stop_token_in_the_last_place_still_stops(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[7] = {A, A, A, A, A, A, EOS};

    begin(f, 0);
    say(f, tokens, 7);

    assert_false(f->ep.is_over);
    assert_int_equal(f->ep.n_messages, 2);
}

static void the_world_answers_with_mask_0_and_the_next_turn_begins(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[3] = {A, B, EOS};
    const int32_t all[5] = {A, B, EOS, A, B};
    const uint8_t mask[5] = {1, 1, 1, 0, 0};
    const float logprobs[5] = {-0.5f, -0.5f, -0.5f, 0.0f, 0.0f};

    begin(f, 0);
    say(f, tokens, 3);

    assert_false(f->ep.is_over);
    assert_int_equal(f->ep.n, 5);
    assert_memory_equal(f->ep.tokens, all, sizeof(all));
    assert_memory_equal(f->ep.mask, mask, sizeof(mask));
    assert_same_bits(f->ep.logprobs, logprobs, 5);
    assert_int_equal(f->ep.n_sampled, 3);
    assert_int_equal(f->ep.turn_start, 5);
    assert_int_equal(episode_room(&f->ep, &f->s.world, &f->p), 7);
    assert_int_equal(f->ep.message[0].author, ENV_MODEL);
    assert_true(bytes_equal(f->ep.message[0].text, BYTES_LIT("ab"))); /* without the stop */
    assert_int_equal(f->ep.message[1].author, ENV_WORLD);
    assert_true(bytes_equal(f->ep.message[1].text, BYTES_LIT("ab")));
}

static void the_world_may_end_the_episode(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[2] = {B, EOS};

    begin(f, 0);
    say(f, tokens, 2);

    assert_true(f->ep.is_over);
    assert_int_equal(f->ep.finish, FINISH_ENV);
    assert_int_equal(f->ep.n, 2);
    assert_int_equal(f->ep.n_messages, 1);
}

static void the_last_turn_ends_the_episode_unasked(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[2] = {A, EOS};

    begin(f, 0);
    say(f, tokens, 2); /* and the world says "ab" */
    say(f, tokens, 2); /* "abbb" */
    assert_false(f->ep.is_over);
    say(f, tokens, 2);

    assert_true(f->ep.is_over);
    assert_int_equal(f->ep.finish, FINISH_END);
    assert_int_equal(f->ep.n_messages, 5);
    assert_int_equal(f->ep.n, 2 + 2 + 2 + 4 + 2);
}

static void a_reply_that_leaves_no_room_is_not_appended(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[7] = {A, A, A, A, A, A, EOS};

    begin(f, 1);       /* 24 positions, 5 of prompt */
    say(f, tokens, 7); /* 12, and "ab": 14 */
    assert_int_equal(f->ep.n, 9);
    say(f, tokens + 1, 6); /* 20; "abbb" would fill the model */

    assert_true(f->ep.is_over);
    assert_int_equal(f->ep.finish, FINISH_LENGTH);
    assert_int_equal(f->ep.n, 15);
    assert_int_equal(f->ep.n_messages, 4); /* it was said, and there is no answer to it */
}

static void the_last_turn_is_as_short_as_the_model_wants(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[7] = {A, A, A, A, A, A, EOS};

    begin(f, 1);
    say(f, tokens, 7);     /* 14 positions with the reply */
    say(f, tokens + 2, 5); /* 19, and "abbb": 23 */
    assert_false(f->ep.is_over);
    assert_int_equal(episode_room(&f->ep, &f->s.world, &f->p), 1);
    say(f, tokens, 1);

    assert_true(f->ep.is_over);
    assert_int_equal(f->ep.finish, FINISH_LENGTH);
    assert_int_equal(f->ep.n, f->ep.cap);
}

static void an_episode_is_scored_by_all_its_messages(void **state)
{
    struct fixture *f = *state;
    const int32_t more[2] = {A, EOS}, enough[2] = {B, EOS};
    const float want = 0.0f, want_long = (float)(22.0 / 11.0 - 2.0 + 2.0 / 11.0);
    float reward;

    begin(f, 0);
    say(f, more, 2);
    say(f, enough, 2); /* a, ab, b: 1 + 20 + 1 = 22 */
    assert_ok(episode_score(&f->ep, &f->s.world, &f->p, &reward, &f->e), &f->e);
    assert_same_bits(&reward, &want, 1);

    begin(f, 0);
    say(f, (const int32_t[]){B, A, B, EOS}, 4); /* 3 / 11 */
    assert_ok(episode_score(&f->ep, &f->s.world, &f->p, &reward, &f->e), &f->e);
    assert_true(reward == (float)(3.0 / 11.0));
    assert_true(reward > want_long);
}

static void a_prompt_that_fills_the_model_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct task t = *f->s.world.task; /* shares its strings */

    t.model.max_len = 5;
    f->s.world.task = &t;
    assert_status(
        episode_prompt_make(&f->p, &f->s.world, &(struct env_problem){.seed = 1}, &f->e),
        ERR_LIMIT, NULL);
    t.model.max_len = 4;
    assert_status(
        episode_prompt_make(&f->p, &f->s.world, &(struct env_problem){.seed = 1}, &f->e),
        ERR_LIMIT, NULL);
    t.model.max_len = 6;
    assert_ok(episode_prompt_make(&f->p, &f->s.world, &(struct env_problem){.seed = 1}, &f->e),
              &f->e);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(a_prompt_is_bos_and_its_text),
        CASE(a_turn_ends_with_the_stop_token),
        CASE(a_turn_ends_after_its_tokens_and_with_it_the_episode),
        CASE(a_stop_token_in_the_last_place_still_stops),
        CASE(the_world_answers_with_mask_0_and_the_next_turn_begins),
        CASE(the_world_may_end_the_episode),
        CASE(the_last_turn_ends_the_episode_unasked),
        CASE(a_reply_that_leaves_no_room_is_not_appended),
        CASE(the_last_turn_is_as_short_as_the_model_wants),
        CASE(an_episode_is_scored_by_all_its_messages),
        CASE(a_prompt_that_fills_the_model_is_an_error),
    };
    return cmocka_run_group_tests_name("rollout/episode", tests, NULL, NULL);
}
