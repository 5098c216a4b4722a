/*
 * rollout/room: what is claimed before a run is loaded, against what loading it takes.
 */
#include "rollout/room.h"

#include <string.h>

#include "engine/device.h"
#include "engine/model.h"
#include "rollout/generate.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

static void more_units_take_more_room_up_to_what_is_decoded_together(void **state)
{
    struct small_world w;
    const struct kernels *k;

    (void)state;
    small_world_open(&w, SMALL_TASK_SMALL, 0);
    k = model_kernels(w.model);

    assert_true(room_to_generate(w.setup, k, 2) > room_to_generate(w.setup, k, 1));
    assert_true(room_to_generate(w.setup, k, 1000) == room_to_generate(w.setup, k, 2000));
    assert_true(room_to_check(w.setup, k) >
                setup_versions(w.setup) * model_bytes(&w.setup->config, k, 0));

    small_world_close(&w);
}

static void what_does_not_fit_is_refused_with_both_numbers(void **state)
{
    struct small_world w;
    struct err e;

    (void)state;
    small_world_open(&w, SMALL_TASK_SMALL, 0);

    assert_ok(room_check(w.setup, model_kernels(w.model), 1 << 20, "something small", &e), &e);
    assert_status(room_check(w.setup, model_kernels(w.model), (uint64_t)1 << 60, "a unit", &e),
                  ERR_LIMIT, &e);
    assert_contains(e.text, "a unit takes 1099511627777 MiB");
    assert_contains(e.text, "free on cpu");

    small_world_close(&w);
}

/* Of a device, whose free memory can be asked: a model, its pages and room for its draws. */
static void a_device_takes_no_more_than_was_claimed_and_not_much_less(void **state)
{
    struct device *d = *state;
    const size_t slots = groups_slots(3, 4); /* the task's groups are of four */
    const struct kernels *k;
    struct small_world w;
    struct model *m[8] = {NULL};
    struct kv_cache *kv;
    uint64_t before, taken, claimed;
    struct err e;

    if (!d)
        return; /* this build, or this machine, has none: the program's other tests are the CPU's */
    small_world_open(&w, SMALL_TASK_SMALL, 0);
    assert_ok(device_kernels(&k, d, NUMERICS_F32_1, &e), &e);
    claimed = room_to_generate(w.setup, k, 3);
    before = device_free_bytes(d);
    for (uint32_t i = 0; i < setup_versions(w.setup); i++)
        assert_ok(model_new(&m[i], w.weights, &(struct model_options){.kernels = k}, &e), &e);
    assert_ok(model_cache_new(&kv, m[0], slots, (size_t)w.setup->task.model.max_len, 0, &e),
              &e);
    assert_ok(model_draw_room(m[0], slots, &e), &e);
    taken = before - device_free_bytes(d);

    assert_in_range(taken, claimed / 2, claimed);

    kv_cache_free(&kv);
    for (uint32_t i = 0; i < setup_versions(w.setup); i++)
        model_free(&m[i]);
    small_world_close(&w);
}

int main(int argc, char **argv)
{
    struct device *d = NULL;
    struct err e;
    int status;

    SMALL_WORLD_MAIN(argc, argv);
    if (device_count() > 0 && device_open(&d, "cuda", &e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_units_take_more_room_up_to_what_is_decoded_together),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_numbers),
        cmocka_unit_test_prestate(a_device_takes_no_more_than_was_claimed_and_not_much_less, d),
    };

    status = cmocka_run_group_tests_name("room", tests, NULL, NULL);
    device_close(&d);
    return status;
}
