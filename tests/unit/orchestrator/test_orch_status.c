/* What people see. */
#include "orchestrator/orch_state.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "unit/orchestrator/moves.h"

static const struct world_options few = {.n_workers = 2,
                                         .n_verifiers = 2,
                                         .steps = 2,
                                         .units_per_batch = 5,
                                         .lag = 1,
                                         .order = "unit"};

static json_t *view(struct world *w, enum status_view what, uint64_t number)
{
    struct buf text;
    json_t *o;

    buf_init(&text, 1u << 20);
    orch_status(w->orch, what, number, w->now_ms, &text);
    o = json_loadb((const char *)text.data, text.len, 0, NULL);
    assert_non_null(o);
    buf_clear(&text);
    return o;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    assert_non_null(text);
    return text;
}

static void a_new_run_says_that_it_wants_a_task(void **state)
{
    struct world *w;
    json_t *o;

    (void)state;
    world_new(&w, &few, 1);
    o = view(w, STATUS_SUMMARY, 0);

    assert_string_equal(text_of(o, "state"), "waiting");
    assert_contains(text_of(o, "why"), "no task is open");
    json_decref(o);
    world_free(&w);
}

static void a_pending_batch_names_the_unit_and_its_worker(void **state)
{
    struct world *w;
    struct msg_lease l;
    json_t *o;

    (void)state;
    move_world(&w, &few);
    assert_true(move_lease(w, 0, 1, &l, NULL));
    o = view(w, STATUS_SUMMARY, 0);

    assert_string_equal(text_of(o, "state"), "training");
    assert_contains(text_of(o, "why"), "batch 0 has 0 of 5 units; unit 0 is leased by ");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "units"), "leased")),
                     1);
    assert_int_equal(json_array_size(json_object_get(o, "nodes")), w->n_nodes);
    json_decref(o);
    world_free(&w);
}

static void a_unit_s_life_is_told_with_its_postings(void **state)
{
    static const char *const want[] = {"LEASE", "VOID",    "LEASE", "COMMIT",
                                       "DRAW",  "VERDICT", "ACCEPT"};
    struct world *w;
    struct msg_receipt r;
    struct msg_lease l;
    json_t *o, *life;

    (void)state;
    move_world(&w, &few);
    assert_true(move_lease(w, 0, 1, &l, NULL));
    world_pass(w, 2100);
    move_hello(w);
    assert_true(move_lease(w, 1, 1, &l, NULL));
    move_submit(w, 1, &l.item[0], false, &r);
    move_judge_all(w, 0, REASON_NONE);
    move_judge_all(w, 1, REASON_NONE);
    o = view(w, STATUS_EXPLAIN, 0);

    life = json_object_get(o, "life");
    assert_int_equal(json_array_size(life), sizeof(want) / sizeof(want[0]));
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        assert_string_equal(text_of(json_array_get(life, i), "type"), want[i]);
    assert_string_equal(text_of(json_array_get(life, 1), "reason"), "EXPIRED");
    assert_string_equal(text_of(json_array_get(life, 4), "depth"), "full");
    assert_true(json_array_size(json_object_get(json_array_get(life, 6), "postings")) >= 3);
    assert_string_equal(text_of(o, "state"), "accepted");
    json_decref(o);
    world_free(&w);
}

/* Two commits in one round: the job of the first comes back and draws it alone. */
static void a_unit_is_told_the_draw_that_drew_it(void **state)
{
    uint32_t worker;
    struct world *w;
    struct msg_lease l;
    json_t *o, *life;

    (void)state;
    move_world(&w, &few);
    worker = world_node_of(w, ROLE_INFERENCE, 0);
    assert_true(move_lease(w, 0, 2, &l, NULL));
    for (uint32_t i = 0; i < 2; i++)
        world_deliver_submission(w, worker, &l.item[i]);
    orch_job(w->orch, ORCH_JOB_DRAW, move_unit(w, 0)->commit, w->now_ms, &w->out);
    orch_job(w->orch, ORCH_JOB_DRAW, move_unit(w, 1)->commit, w->now_ms, &w->out);
    world_pass(w, 10);
    o = view(w, STATUS_EXPLAIN, 1);

    life = json_object_get(o, "life");
    assert_string_equal(text_of(json_array_get(life, 2), "type"), "DRAW");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(life, 2), "round")), 2);
    json_decref(o);
    world_free(&w);
}

static void an_unknown_unit_was_never_leased(void **state)
{
    struct world *w;
    json_t *o;

    (void)state;
    move_world(&w, &few);
    o = view(w, STATUS_EXPLAIN, 1u << 30);

    assert_contains(text_of(o, "why"), "never leased");
    json_decref(o);
    world_free(&w);
}

static void the_task_s_settings_are_shown(void **state)
{
    struct world *w;
    json_t *o;

    (void)state;
    move_world(&w, &few);
    o = view(w, STATUS_TASK, 0);

    assert_contains(text_of(o, "settings"), "algorithm.lag=1");
    json_decref(o);
    world_free(&w);
}

/* 20 steps of 100, 200, ... tokens; only the last 16 versions are listed. */
static void the_tokens_of_all_steps_are_summed(void **state)
{
    struct world_options many = few;
    struct world *w;
    json_t *o;

    (void)state;
    many.steps = 20;
    world_new(&w, &many, 1);
    assert_true(world_run(w, 3600 * 1000));
    o = view(w, STATUS_SUMMARY, 0);

    assert_int_equal(json_array_size(json_object_get(o, "recent")), 16);
    assert_int_equal(json_integer_value(json_object_get(o, "tokens_trained")), 100 * 210);
    json_decref(o);
    world_free(&w);
}

/* Workers are there, and have nothing to work with: it says where it should come from. */
static void workers_without_weights_are_told_of(void **state)
{
    struct world *w;
    json_t *o;

    (void)state;
    move_world(&w, &few);
    o = view(w, STATUS_SUMMARY, 0);

    assert_contains(text_of(o, "why"),
                    "no worker has a weight version yet; the trainer serves");
    json_decref(o);
    world_free(&w);
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* All answers of the batch count, those of flat groups too, of which the trainer says nothing. */
static void a_version_has_the_rewards_of_all_answers_before_it(void **state)
{
    struct world *w;
    const uint64_t n_units = few.units_per_batch;
    json_t *o, *list;

    (void)state;
    world_new(&w, &few, 1);
    assert_true(world_run(w, 3600 * 1000));
    o = view(w, STATUS_VERSIONS, 0);
    list = json_object_get(o, "versions");

    assert_int_equal(json_array_size(list), few.steps + 1);
    assert_true(json_is_null(json_object_get(json_array_get(list, 0), "reward")));
    for (size_t v = 1; v <= (size_t)few.steps; v++) {
        const json_t *x = json_array_get(list, v);
        double sum = 0;
        int n_flat = 0;

        for (uint64_t u = (v - 1) * n_units; u < v * n_units; u++) {
            sum += world_is_flat(u) ? 0.25 : (WORLD_GROUP - 1) / 2.0;
            n_flat += world_is_flat(u);
        }
        assert_true(fabs(number_of(x, "reward") - sum / (double)n_units) <
                    1e-9); /* multiples of 1/4 */
        assert_int_equal(json_integer_value(json_object_get(x, "flat")), n_flat);
        assert_int_equal(json_integer_value(json_object_get(x, "answers")),
                         (int)(n_units * WORLD_GROUP));
    }
    assert_true(number_of(json_array_get(list, 2), "paid") >
                number_of(json_array_get(list, 1), "paid"));
    json_decref(o);
    o = view(w, STATUS_VERSIONS, 2);
    assert_true(number_of(json_array_get(json_object_get(o, "versions"), 0), "version") == 2);
    json_decref(o);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_run_says_that_it_wants_a_task),
        cmocka_unit_test(a_pending_batch_names_the_unit_and_its_worker),
        cmocka_unit_test(a_unit_s_life_is_told_with_its_postings),
        cmocka_unit_test(a_unit_is_told_the_draw_that_drew_it),
        cmocka_unit_test(an_unknown_unit_was_never_leased),
        cmocka_unit_test(the_task_s_settings_are_shown),
        cmocka_unit_test(a_version_has_the_rewards_of_all_answers_before_it),
        cmocka_unit_test(workers_without_weights_are_told_of),
        cmocka_unit_test(the_tokens_of_all_steps_are_summed),
    };
    return cmocka_run_group_tests_name("orchestrator/orch_status", tests, NULL, NULL);
}
