/*
 * inference/opening_store: openings outlive the process until they are dropped.
 */
#include "inference/opening_store.h"

#include <stdlib.h>

#include "base/file.h"
#include "proto/msg.h"
#include "support/tempdir.h"
#include "support/test.h"

static void encode(struct buf *out, uint64_t unit, uint64_t lease)
{
    const uint8_t proof[258] = {1, 2, 3};
    const struct msg_opening o = {
        .unit = unit, .lease = lease, .proofs = BYTES_OF(proof), .states = {{4}}};

    buf_init(out, 4096);
    assert_ok(msg_opening_encode(out, &o, NULL), NULL);
}

static void what_was_put_comes_back_until_it_is_over(void **state)
{
    char *dir = *state;
    struct buf made, found;
    struct err e;

    encode(&made, 7, 30);
    buf_init(&found, 4096);
    assert_ok(opening_store_put(dir, 7, 30, buf_bytes(&made), &e), &e);
    assert_ok(opening_store_get(dir, 7, 30, &found, &e), &e);
    assert_true(bytes_equal(buf_bytes(&made), buf_bytes(&found)));
    assert_ok(opening_store_settle(dir, 30, &e), &e);
    assert_ok(opening_store_get(dir, 7, 30, &found, &e), &e);
    assert_ok(opening_store_settle(dir, 31, &e), &e);
    assert_status(opening_store_get(dir, 7, 30, &found, &e), ERR_NOT_FOUND, &e);
    assert_ok(opening_store_settle(dir, 31, &e), &e);
    buf_clear(&made);
    buf_clear(&found);
}

static void the_newest_lease_is_known_after_a_restart(void **state)
{
    char *dir = *state;
    uint64_t last;
    struct buf made;
    struct err e;

    assert_ok(opening_store_last(dir, &last, &e), &e);
    assert_int_equal(last, 0);
    for (uint64_t lease = 9; lease < 12; lease++) {
        encode(&made, 7, lease);
        assert_ok(opening_store_put(dir, 7, lease, buf_bytes(&made), &e), &e);
        buf_clear(&made);
    }
    assert_ok(opening_store_last(dir, &last, &e), &e);
    assert_int_equal(last, 11);
}

static void what_a_crash_left_half_written_goes_too(void **state)
{
    char *dir = *state;
    char *all = file_join(dir, "openings"),
         *path = file_join(all, "unit-7-lease-30.opening.tmp");
    uint64_t last;
    struct err e;

    assert_ok(file_mkdirs(all, 0700, &e), &e);
    assert_ok(file_write_atomic(path, BYTES_LIT("half"), 0600, &e), &e);
    assert_ok(opening_store_last(dir, &last, &e), &e);
    assert_int_equal(last, 0);
    assert_ok(opening_store_settle(dir, 31, &e), &e);
    assert_false(file_exists(path));
    free(path);
    free(all);
}

/* A later attempt at the same unit has another opening. */
static void attempts_are_kept_apart(void **state)
{
    char *dir = *state;
    struct buf made[2], found;
    struct err e;

    for (uint64_t i = 0; i < 2; i++) {
        encode(&made[i], 7, 30 + i);
        assert_ok(opening_store_put(dir, 7, 30 + i, buf_bytes(&made[i]), &e), &e);
    }
    buf_init(&found, 4096);
    assert_ok(opening_store_get(dir, 7, 31, &found, &e), &e);
    assert_true(bytes_equal(buf_bytes(&made[1]), buf_bytes(&found)));
    buf_clear(&made[0]);
    buf_clear(&made[1]);
    buf_clear(&found);
}

static void a_file_that_is_no_opening_of_this_attempt_is_refused(void **state)
{
    char *dir = *state;
    struct buf made, found;
    struct err e;

    encode(&made, 7, 31);
    buf_init(&found, 4096);
    assert_ok(opening_store_put(dir, 7, 30, buf_bytes(&made), &e), &e);
    assert_status(opening_store_get(dir, 7, 30, &found, &e), ERR_MALFORMED, &e);
    assert_ok(opening_store_put(dir, 7, 30, BYTES_LIT("rubbish"), &e), &e);
    buf_reset(&found);
    assert_status(opening_store_get(dir, 7, 30, &found, &e), ERR_MALFORMED, &e);
    buf_clear(&made);
    buf_clear(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_comes_back_until_it_is_over, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test_setup_teardown(the_newest_lease_is_known_after_a_restart,
                                        tempdir_setup, tempdir_teardown),
        cmocka_unit_test_setup_teardown(what_a_crash_left_half_written_goes_too, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test_setup_teardown(attempts_are_kept_apart, tempdir_setup,
                                        tempdir_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_opening_of_this_attempt_is_refused,
                                        tempdir_setup, tempdir_teardown),
    };

    return cmocka_run_group_tests_name("inference/opening_store", tests, NULL, NULL);
}
