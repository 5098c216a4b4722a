/*
 * safetensors: what is written reads back, the bytes are canonical, and hostile files are refused.
 */
#include "engine/safetensors.h"

#include <string.h>

#include "support/test.h"

struct fixture {
    struct buf file;
    struct safetensors view;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    buf_init(&f->file, 1u << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    safetensors_clear(&f->view);
    buf_clear(&f->file);
    test_free(f);
    return 0;
}

/* A file of a given header and n bytes of data. */
static struct bytes file_of(struct fixture *f, const char *header, size_t n)
{
    buf_reset(&f->file);
    buf_put_u64(&f->file, strlen(header));
    buf_append(&f->file, bytes_str(header));
    for (size_t i = 0; i < n; i++)
        buf_put_u8(&f->file, (uint8_t)i);
    return buf_bytes(&f->file);
}

static enum status decode(struct fixture *f, const char *header, size_t n)
{
    safetensors_clear(&f->view);
    return safetensors_decode(&f->view, file_of(f, header, n), "x.safetensors", &f->e);
}

static void what_is_written_reads_back(void **state)
{
    struct fixture *f = *state;
    static const float a[4] = {1, -2, 3, 0.5f}, b[2] = {7, 8};
    const struct safetensors_entry entries[] = {
        {.name = "a.weight", .n_dims = 2, .dims = {2, 2}, .data = a},
        {.name = "b", .n_dims = 1, .dims = {2}, .data = b},
    };
    float got[4];

    assert_int_equal(safetensors_encode(&f->file, entries, 2, DTYPE_F32, &f->e), OK);
    assert_int_equal(safetensors_decode(&f->view, buf_bytes(&f->file), "x", &f->e), OK);

    const struct safetensors_tensor *t = safetensors_find(&f->view, "a.weight");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[1], 2);
    dtype_widen(got, t->data.data, t->dtype, 4);
    assert_memory_equal(got, a, sizeof(a));
    assert_int_equal(safetensors_find(&f->view, "b")->data.len, 8);
    assert_null(safetensors_find(&f->view, "c"));
}

static void the_file_has_one_spelling(void **state)
{
    struct fixture *f = *state;
    static const float a[1] = {1.0f};
    const struct safetensors_entry entry = {.name = "a", .n_dims = 1, .dims = {1}, .data = a};
    static const char want[] = "\x58\0\0\0\0\0\0\0"
                               "{\"__metadata__\":{\"format\":\"pt\"},"
                               "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
                               "   "
                               "\0\0\x80\x3f";

    assert_int_equal(safetensors_encode(&f->file, &entry, 1, DTYPE_F32, &f->e), OK);

    assert_int_equal(f->file.len, sizeof(want) - 1);
    assert_memory_equal(f->file.data, want, sizeof(want) - 1);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    struct fixture *f = *state;
    /* 1 + 2^-8 is half way between 1 and 1 + 2^-7: to even, down; 1 + 3 * 2^-8: up. */
    static const float a[3] = {1.00390625f, 1.01171875f, 1e-40f};
    const struct safetensors_entry entry = {.name = "a", .n_dims = 1, .dims = {3}, .data = a};
    float got[3];

    assert_int_equal(safetensors_encode(&f->file, &entry, 1, DTYPE_BF16, &f->e), OK);
    assert_int_equal(safetensors_decode(&f->view, buf_bytes(&f->file), "x", &f->e), OK);
    dtype_widen(got, f->view.tensors[0].data.data, DTYPE_BF16, 3);

    assert_true(got[0] == 1.0f);
    assert_true(got[1] == 1.015625f);
    assert_true(got[2] > 0.0f && got[2] < 1.1e-40f);
}

static void f16_widens_exactly(void **state)
{
    (void)state;
    static const uint8_t in[] = {0x00, 0x3c, 0x01, 0x00, 0xff, 0x7b, 0x00, 0xfc, 0x00, 0x80};
    float got[5];

    dtype_widen(got, in, DTYPE_F16, 5);

    assert_true(got[0] == 1.0f);
    assert_true(got[1] == 0x1p-24f);
    assert_true(got[2] == 65504.0f);
    assert_true(got[3] < -3.4e38f);
    assert_true(got[4] == 0.0f && 1.0f / got[4] < 0.0f);
}

static void a_truncated_tensor_is_named_with_its_sizes(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        decode(f,
               "{\"first\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
               "\"second\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}",
               18),
        ERR_MALFORMED);

    assert_non_null(strstr(f->e.text, "x.safetensors"));
    assert_non_null(strstr(f->e.text, "'second'"));
    assert_non_null(strstr(f->e.text, "wants 16 bytes"));
    assert_non_null(strstr(f->e.text, "has 10 of them"));
}

#define TWO "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define ONE "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"

/* Each header is wrong in one way, over eight bytes of data. */
static void hostile_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char duplicate[] = "{\"a\":" TWO ",\"a\":" TWO "}";
    static const char overlap[] =
        "{\"a\":" TWO ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    static const char gap[] =
        "{\"a\":" ONE ",\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]}}";
    static const char metadata[] = "{\"__metadata__\":{\"a\":1},\"a\":" TWO "}";
    static const char not_utf8[] = "{\"a\xff\":" TWO "}";
    static const char no_name[] = "{\"\":" TWO "}";
    static const char left_over[] = "{\"a\":" ONE "}";
    /* A product that is 0 in 64 bits: without a check, an empty tensor of 2^64 elements. */
    static const char overflow[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
        "\"data_offsets\":[0,0]},\"b\":" TWO "}";
    static const char *const headers[] = {
        "[]",
        "{",
        "{} x",
        duplicate,
        overlap,
        gap,
        metadata,
        not_utf8,
        no_name,
        left_over,
        overflow,
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1,1,1,1,1,1,1,1],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}",
    };

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (decode(f, headers[i], 8) != ERR_MALFORMED)
            fail_msg("accepted: %s", headers[i]);
}

/* A value takes up to eighty times the memory of its text. */
static void a_header_of_too_many_values_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf header;

    buf_init(&header, 1u << 20);
    buf_append(&header, BYTES_LIT("{\"a\":["));
    for (size_t i = 0; i < 200000; i++)
        buf_append(&header, BYTES_LIT("{},"));
    buf_append(&header, BYTES_LIT("0]}"));

    assert_status(decode(f, buf_cstr(&header), 8), ERR_LIMIT, &f->e);
    assert_contains(f->e.text, "'x.safetensors': header: more than");
    buf_clear(&header);
}

static void the_sound_header_that_those_are_near_is_accepted(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        decode(f,
               "{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]},"
               "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[0,4]},"
               "\"c\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[8,8]}}   ",
               8),
        OK);

    assert_int_equal(f->view.n, 3);
    assert_string_equal(f->view.tensors[0].name, "a");
    assert_int_equal(f->view.tensors[1].n, 1);
    assert_int_equal(f->view.tensors[2].n, 0);
}

static void other_dtypes_are_unsupported(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        decode(f, "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8),
        ERR_UNSUPPORTED);

    assert_non_null(strstr(f->e.text, "I64"));
}

static void a_header_length_past_the_end_is_refused(void **state)
{
    struct fixture *f = *state;
    static const uint64_t lengths[] = {3, 1u << 20, UINT64_MAX, UINT64_MAX - 7};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        buf_reset(&f->file);
        buf_put_u64(&f->file, lengths[i]);
        buf_append(&f->file, bytes_str("{}"));
        assert_int_equal(safetensors_decode(&f->view, buf_bytes(&f->file), "x", &f->e),
                         ERR_MALFORMED);
    }
}

static void entries_must_come_in_name_order(void **state)
{
    struct fixture *f = *state;
    static const float a[1] = {1.0f};
    const struct safetensors_entry entries[] = {
        {.name = "b", .n_dims = 1, .dims = {1}, .data = a},
        {.name = "a", .n_dims = 1, .dims = {1}, .data = a},
    };

    assert_int_equal(safetensors_encode(&f->file, entries, 2, DTYPE_F32, &f->e), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_file_has_one_spelling, setup, teardown),
        cmocka_unit_test_setup_teardown(bf16_rounds_to_nearest_even, setup, teardown),
        cmocka_unit_test(f16_widens_exactly),
        cmocka_unit_test_setup_teardown(a_truncated_tensor_is_named_with_its_sizes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(hostile_headers_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_header_of_too_many_values_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_sound_header_that_those_are_near_is_accepted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_dtypes_are_unsupported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_header_length_past_the_end_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(entries_must_come_in_name_order, setup, teardown),
    };
    return cmocka_run_group_tests_name("engine/safetensors", tests, NULL, NULL);
}
