/*
 * envs/task.h: bundles
 */
#include "envs/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"

#define TASK "name: x\nenvironment: {file: my.lua, data: rows.jsonl}\n"

static void write_text(const char *dir, const char *name, const char *text)
{
    assert_ok(file_write_atomic(tempdir_path(dir, name), bytes_str(text), 0644, NULL), NULL);
}

static struct bundle sample(void)
{
    struct bundle b = {0};

    b.file[BUNDLE_TASK] = BYTES_LIT("name: x\n");
    b.file[BUNDLE_ENV] = BYTES_LIT("return {}");
    b.file[BUNDLE_CONFIG] = BYTES_LIT("{}");
    return b;
}

static void what_is_encoded_decodes_to_the_same(void **state)
{
    (void)state;
    struct bundle b = sample(), c;
    struct buf out, again;
    struct err e;

    buf_init(&out, BUNDLE_MAX_BYTES);
    buf_init(&again, BUNDLE_MAX_BYTES);
    assert_ok(bundle_encode(&out, &b, &e), &e);
    assert_ok(bundle_decode(&c, buf_bytes(&out), &e), &e);
    assert_ok(bundle_encode(&again, &c, &e), &e);

    assert_true(bytes_equal(buf_bytes(&out), buf_bytes(&again)));
    assert_true(bytes_equal(c.file[BUNDLE_CONFIG], BYTES_LIT("{}")));
    assert_null(c.file[BUNDLE_DATA].data);
    buf_clear(&out);
    buf_clear(&again);
}

static void a_bundle_without_a_script_is_refused(void **state)
{
    (void)state;
    struct bundle b = sample();
    struct buf out;
    struct err e;

    buf_init(&out, BUNDLE_MAX_BYTES);
    b.file[BUNDLE_ENV].data = NULL;

    assert_status(bundle_encode(&out, &b, &e), ERR_INVALID, &e);
    assert_contains(e.text, "env.lua");
    buf_clear(&out);
}

static void each_shortened_or_lengthened_bundle_is_refused(void **state)
{
    (void)state;
    struct bundle b = sample(), c;
    struct buf out;

    buf_init(&out, BUNDLE_MAX_BYTES);
    assert_ok(bundle_encode(&out, &b, NULL), NULL);

    for (size_t n = 0; n < out.len; n++)
        assert_int_not_equal(bundle_decode(&c, bytes_slice(buf_bytes(&out), 0, n), NULL), OK);
    buf_put_u8(&out, 0);
    assert_status(bundle_decode(&c, buf_bytes(&out), NULL), ERR_MALFORMED, NULL);
    assert_null(c.file[BUNDLE_TASK].data);
    buf_clear(&out);
}

static void files_out_of_order_or_twice_are_refused(void **state)
{
    (void)state;
    static const char *const orders[][3] = {{"env.lua", "task.yaml", NULL},
                                            {"task.yaml", "task.yaml", "env.lua"},
                                            {"task.yaml", "env.lua", "../../etc/passwd"}};
    struct bundle c;
    struct buf out;

    buf_init(&out, 4096);
    for (size_t i = 0; i < 3; i++) {
        uint32_t n = orders[i][2] ? 3 : 2;

        buf_reset(&out);
        buf_append(&out, BYTES_LIT("MUSTERTB"));
        buf_put_u32(&out, 1);
        buf_put_u32(&out, n);
        for (uint32_t k = 0; k < n; k++) {
            buf_put_blob(&out, bytes_str(orders[i][k]));
            buf_put_blob(&out, BYTES_LIT("x"));
        }
        assert_status(bundle_decode(&c, buf_bytes(&out), NULL), ERR_MALFORMED, NULL);
    }
    buf_clear(&out);
}

static void a_later_version_is_refused_as_such(void **state)
{
    (void)state;
    struct bundle b = sample(), c;
    struct buf out;

    buf_init(&out, 4096);
    assert_ok(bundle_encode(&out, &b, NULL), NULL);
    out.data[8] = 2;

    assert_status(bundle_decode(&c, buf_bytes(&out), NULL), ERR_UNSUPPORTED, NULL);
    buf_clear(&out);
}

static void the_id_changes_with_every_byte(void **state)
{
    (void)state;
    uint8_t id[TASK_ID_BYTES], other[TASK_ID_BYTES];

    bundle_id(id, BYTES_LIT("abc"));
    bundle_id(other, BYTES_LIT("abd"));

    assert_memory_not_equal(id, other, sizeof(id));
    assert_int_equal(id[0], 0xbd); /* BLAKE2b-256("abc") = bddd813c... */
    assert_int_equal(id[1], 0xdd);
}

static void a_directory_is_loaded_with_the_files_its_task_names(void **state)
{
    const char *dir = *state;
    struct bundle b;
    struct buf out;
    struct err e;

    buf_init(&out, BUNDLE_MAX_BYTES);
    write_text(dir, "task.yaml", TASK);
    write_text(dir, "my.lua", "return {}");
    write_text(dir, "rows.jsonl", "");

    assert_ok(bundle_load(&out, dir, &e), &e);
    assert_ok(bundle_decode(&b, buf_bytes(&out), &e), &e);

    assert_true(bytes_equal(b.file[BUNDLE_ENV], BYTES_LIT("return {}")));
    assert_non_null(b.file[BUNDLE_DATA].data); /* empty, but there */
    assert_int_equal(b.file[BUNDLE_DATA].len, 0);
    assert_null(b.file[BUNDLE_CONFIG].data);
    buf_clear(&out);
}

static void a_task_file_of_any_name_gives_the_same_bundle(void **state)
{
    const char *dir = *state;
    struct buf a, b;

    buf_init(&a, BUNDLE_MAX_BYTES);
    buf_init(&b, BUNDLE_MAX_BYTES);
    write_text(dir, "task.yaml", TASK);
    write_text(dir, "other.yaml", TASK);
    write_text(dir, "my.lua", "return {}");
    write_text(dir, "rows.jsonl", "1\n");

    assert_ok(bundle_load(&a, dir, NULL), NULL);
    assert_ok(bundle_load(&b, tempdir_path(dir, "other.yaml"), NULL), NULL);

    assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    buf_clear(&a);
    buf_clear(&b);
}

static void a_missing_file_is_named(void **state)
{
    const char *dir = *state;
    struct buf out;
    struct err e;

    buf_init(&out, BUNDLE_MAX_BYTES);
    write_text(dir, "task.yaml", TASK);

    assert_status(bundle_load(&out, dir, &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "my.lua");
    assert_int_equal(out.len, 0);
    buf_clear(&out);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_decodes_to_the_same),
        cmocka_unit_test(a_bundle_without_a_script_is_refused),
        cmocka_unit_test(each_shortened_or_lengthened_bundle_is_refused),
        cmocka_unit_test(files_out_of_order_or_twice_are_refused),
        cmocka_unit_test(a_later_version_is_refused_as_such),
        cmocka_unit_test(the_id_changes_with_every_byte),
        IN_DIR(a_directory_is_loaded_with_the_files_its_task_names),
        IN_DIR(a_task_file_of_any_name_gives_the_same_bundle),
        IN_DIR(a_missing_file_is_named),
    };

    return cmocka_run_group_tests_name("envs/bundle", tests, NULL, NULL);
}
