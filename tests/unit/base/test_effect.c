/* base/effect */
#include "base/effect.h"

#include <string.h>

#include "support/test.h"

static int setup(void **state)
{
    static struct effects list;

    effects_init(&list);
    *state = &list;
    return 0;
}

static int teardown(void **state)
{
    effects_clear(*state);
    return 0;
}

static void list_keeps_order_and_fields(void **state)
{
    struct effects *l = *state;

    effects_put(l, 2, BYTES_LIT("key"), BYTES_LIT("value"));
    effects_del(l, 3, BYTES_LIT("gone"));
    effects_send(l, 77, BYTES_LIT("message"));
    effects_start(l, 5, 9, BYTES_LIT("args"));
    effects_timer(l, 1234);

    assert_int_equal(l->n, 5);
    assert_int_equal(l->v[0].kind, EFFECT_PUT);
    assert_int_equal(l->v[0].table, 2);
    assert_true(bytes_equal(l->v[0].key, BYTES_LIT("key")));
    assert_true(bytes_equal(l->v[0].value, BYTES_LIT("value")));
    assert_int_equal(l->v[1].kind, EFFECT_DEL);
    assert_int_equal(l->v[1].table, 3);
    assert_true(bytes_equal(l->v[1].key, BYTES_LIT("gone")));
    assert_int_equal(l->v[2].kind, EFFECT_SEND);
    assert_int_equal(l->v[2].peer, 77);
    assert_true(bytes_equal(l->v[2].value, BYTES_LIT("message")));
    assert_int_equal(l->v[3].kind, EFFECT_START);
    assert_int_equal(l->v[3].job, 5);
    assert_int_equal(l->v[3].peer, 9);
    assert_true(bytes_equal(l->v[3].value, BYTES_LIT("args")));
    assert_int_equal(l->v[4].kind, EFFECT_TIMER);
    assert_int_equal(l->v[4].at_ms, 1234);
}

static void list_owns_copies(void **state)
{
    struct effects *l = *state;
    char text[] = "before";

    effects_send(l, 1, BYTES_OF(text));
    memset(text, 'x', sizeof(text));

    assert_memory_equal(l->v[0].value.data, "before", 6);
}

static void empty_values_are_fine(void **state)
{
    struct effects *l = *state;

    effects_start(l, 1, 0, (struct bytes){NULL, 0});

    assert_int_equal(l->v[0].value.len, 0);
}

static void list_grows_and_can_be_used_again_after_reset(void **state)
{
    struct effects *l = *state;

    for (int i = 0; i < 1000; i++)
        effects_put(l, 0, BYTES_OF(i), BYTES_LIT("v"));
    assert_int_equal(l->n, 1000);
    assert_memory_equal(l->v[999].key.data, &(int){999}, sizeof(int));

    effects_reset(l);
    assert_int_equal(l->n, 0);
    effects_timer(l, 1);

    assert_int_equal(l->n, 1);
    assert_int_equal(l->v[0].kind, EFFECT_TIMER);
    assert_int_equal(l->v[0].key.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(list_keeps_order_and_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(list_owns_copies, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_values_are_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(list_grows_and_can_be_used_again_after_reset, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("base/effect", tests, NULL, NULL);
}
