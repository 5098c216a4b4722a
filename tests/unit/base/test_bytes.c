/* base/bytes */
#include "base/bytes.h"

#include <math.h>
#include <string.h>

#include "support/test.h"

static void compare_orders_bytes_and_a_prefix_is_less(void **state)
{
    (void)state;

    assert_int_equal(bytes_compare(BYTES_LIT("abc"), BYTES_LIT("abc")), 0);
    assert_int_equal(bytes_compare(BYTES_LIT("ab"), BYTES_LIT("abc")), -1);
    assert_int_equal(bytes_compare(BYTES_LIT("abc"), BYTES_LIT("ab")), 1);
    assert_int_equal(bytes_compare(BYTES_LIT("abd"), BYTES_LIT("abc")), 1);
    assert_int_equal(bytes_compare(BYTES_LIT("\x01"), BYTES_LIT("\xff")), -1);
    assert_int_equal(bytes_compare((struct bytes){NULL, 0}, BYTES_LIT("")), 0);
    assert_int_equal(bytes_compare((struct bytes){NULL, 0}, BYTES_LIT("a")), -1);
}

static void equal_compares_length_and_content(void **state)
{
    (void)state;

    assert_true(bytes_equal(BYTES_LIT("ab"), bytes_str("ab")));
    assert_false(bytes_equal(BYTES_LIT("ab"), BYTES_LIT("abc")));
    assert_false(bytes_equal(BYTES_LIT("ab"), BYTES_LIT("ac")));
    assert_true(bytes_equal((struct bytes){NULL, 0}, BYTES_LIT("")));
}

static void slice_lends_a_part(void **state)
{
    (void)state;

    assert_true(bytes_equal(bytes_slice(BYTES_LIT("abcdef"), 2, 3), BYTES_LIT("cde")));
    assert_int_equal(bytes_slice(BYTES_LIT("abc"), 3, 0).len, 0);
    assert_int_equal(bytes_slice((struct bytes){NULL, 0}, 0, 0).len, 0);
}

static void buf_grows_to_its_ceiling_and_no_further(void **state)
{
    (void)state;
    struct buf b;
    struct err e;

    buf_init(&b, 1000);
    for (int i = 0; i < 1000; i++)
        buf_put_u8(&b, (uint8_t)i);
    assert_ok(buf_status(&b, &e), &e);
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.data[999], 999 % 256);

    buf_put_u8(&b, 1);

    assert_status(buf_status(&b, &e), ERR_LIMIT, &e);
    assert_contains(e.text, "1000");
    assert_int_equal(b.len, 1000);
    buf_clear(&b);
}

static void buf_that_went_bad_takes_nothing_more_until_reset(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, 4);
    buf_append(&b, BYTES_LIT("12345"));
    buf_put_u8(&b, 1);
    assert_true(b.bad);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_cstr(&b), "");

    buf_reset(&b);
    buf_append(&b, BYTES_LIT("1234"));

    assert_false(b.bad);
    assert_string_equal(buf_cstr(&b), "1234");
    buf_clear(&b);
}

static void buf_refuses_a_length_that_would_wrap(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, SIZE_MAX);
    buf_put_u8(&b, 1);

    assert_null(buf_extend(&b, SIZE_MAX));

    assert_true(b.bad);
    buf_clear(&b);
}

static void extend_gives_room_that_counts(void **state)
{
    (void)state;
    struct buf b;
    uint8_t *at;

    buf_init(&b, 1 << 20);
    buf_append(&b, BYTES_LIT("head"));
    at = buf_extend(&b, 70000);

    assert_non_null(at);
    assert_int_equal(b.len, 70004);
    memset(at, 7, 70000);
    assert_memory_equal(b.data, "head", 4);
    buf_clear(&b);
}

static void printf_appends_without_a_final_nul(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, 100);
    buf_printf(&b, "a=%d", 1);
    buf_printf(&b, " b=%s", "two");

    assert_int_equal(b.len, 9);
    assert_string_equal(buf_cstr(&b), "a=1 b=two");
    assert_int_equal(b.len, 9);
    buf_clear(&b);
}

static void printf_that_passes_the_ceiling_goes_bad(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, 5);
    buf_printf(&b, "%s", "12345");
    assert_false(b.bad);

    buf_printf(&b, "%s", "6");

    assert_true(b.bad);
    buf_clear(&b);
}

/* vsnprintf writes a NUL after the text, for which there must be room whatever the capacity. */
static void printf_has_room_for_the_nul_it_does_not_count(void **state)
{
    (void)state;

    for (int n = 1; n <= 300; n++) {
        struct buf b;

        buf_init(&b, (size_t)n);
        buf_printf(&b, "%0*d", n, 7);

        assert_false(b.bad);
        assert_int_equal(b.len, n);
        assert_int_equal(b.data[n - 1], '7');
        buf_clear(&b);
    }
}

static void clear_leaves_a_usable_buf(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, 10);
    buf_append(&b, BYTES_LIT("abc"));
    buf_clear(&b);
    buf_append(&b, BYTES_LIT("1234567890"));

    assert_false(b.bad);
    assert_int_equal(b.max, 10);
    buf_clear(&b);
}

static void integers_are_little_endian(void **state)
{
    (void)state;
    static const uint8_t want[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
                                   0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08};
    struct buf b;

    buf_init(&b, 100);
    buf_put_u8(&b, 0x01);
    buf_put_u16(&b, 0x0203);
    buf_put_u32(&b, 0x04050607);
    buf_put_u64(&b, 0x08090a0b0c0d0e0f);

    assert_true(bytes_equal(buf_bytes(&b), BYTES_OF(want)));
    buf_clear(&b);
}

static void reader_reads_what_was_put(void **state)
{
    (void)state;
    struct buf b;
    struct reader r;
    struct err e;
    char tail[3];

    buf_init(&b, 100);
    buf_put_u8(&b, 200);
    buf_put_u16(&b, 60000);
    buf_put_u32(&b, 4000000000u);
    buf_put_u64(&b, UINT64_MAX - 1);
    buf_put_f32(&b, -0.0f);
    buf_put_blob(&b, BYTES_LIT("blob"));
    buf_append(&b, BYTES_LIT("end"));

    r = reader_of(buf_bytes(&b));
    assert_int_equal(reader_u8(&r), 200);
    assert_int_equal(reader_u16(&r), 60000);
    assert_int_equal(reader_u32(&r), 4000000000u);
    assert_true(reader_u64(&r) == UINT64_MAX - 1);
    assert_true(signbit(reader_f32(&r)));
    assert_true(bytes_equal(reader_blob(&r), BYTES_LIT("blob")));
    assert_int_equal(reader_left(&r), 3);
    reader_copy(&r, tail, 3);

    assert_memory_equal(tail, "end", 3);
    assert_ok(reader_done(&r, "the record", &e), &e);
    buf_clear(&b);
}

static void reader_that_overran_yields_zeros_for_ever(void **state)
{
    (void)state;
    struct reader r = reader_of(BYTES_LIT("\x01\x02\x03"));
    uint8_t copy[2] = {9, 9};
    struct err e;

    assert_int_equal(reader_u32(&r), 0);
    assert_int_equal(reader_u8(&r), 0); /* although three bytes are there */
    assert_null(reader_bytes(&r, 0).data);
    reader_copy(&r, copy, 2);

    assert_int_equal(copy[0] | copy[1], 0);
    assert_int_equal(reader_left(&r), 0);
    assert_status(reader_done(&r, "the record", &e), ERR_MALFORMED, &e);
    assert_string_equal(e.text, "the record ends too early");
}

static void reader_refuses_a_blob_longer_than_the_input(void **state)
{
    (void)state;
    struct reader r = reader_of(BYTES_LIT("\xff\xff\xff\xff"
                                          "abc"));

    assert_int_equal(reader_blob(&r).len, 0);

    assert_true(r.bad);
}

static void reader_refuses_a_length_that_would_wrap(void **state)
{
    (void)state;
    struct reader r = reader_of(BYTES_LIT("abc"));

    assert_int_equal(reader_bytes(&r, SIZE_MAX).len, 0);

    assert_true(r.bad);
}

static void reader_reports_what_is_left_over(void **state)
{
    (void)state;
    struct reader r = reader_of(BYTES_LIT("abc"));
    struct err e;

    (void)reader_u8(&r);

    assert_status(reader_done(&r, "the record", &e), ERR_MALFORMED, &e);
    assert_string_equal(e.text, "the record has 2 bytes too many");
}

static void reader_of_nothing_is_done(void **state)
{
    (void)state;
    struct reader r = reader_of((struct bytes){NULL, 0});
    struct err e;

    assert_ok(reader_done(&r, "nothing", &e), &e);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.bad);
}

static void hex_goes_both_ways(void **state)
{
    (void)state;
    char text[9];
    uint8_t back[4];
    struct err e;

    hex_encode(text, BYTES_LIT("\x00\x9f\xa0\xff"));
    assert_string_equal(text, "009fa0ff");
    assert_ok(hex_decode(back, 4, "009FA0ff", &e), &e);

    assert_memory_equal(back, "\x00\x9f\xa0\xff", 4);
}

static void hex_refuses_other_lengths_and_letters(void **state)
{
    (void)state;
    uint8_t out[2];
    struct err e;

    assert_status(hex_decode(out, 2, "012", &e), ERR_MALFORMED, &e);
    assert_status(hex_decode(out, 2, "01234", &e), ERR_MALFORMED, &e);
    assert_status(hex_decode(out, 2, "01g4", &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "'g4'");
    assert_status(hex_decode(out, 2, "0x12", &e), ERR_MALFORMED, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_orders_bytes_and_a_prefix_is_less),
        cmocka_unit_test(equal_compares_length_and_content),
        cmocka_unit_test(slice_lends_a_part),
        cmocka_unit_test(buf_grows_to_its_ceiling_and_no_further),
        cmocka_unit_test(buf_that_went_bad_takes_nothing_more_until_reset),
        cmocka_unit_test(buf_refuses_a_length_that_would_wrap),
        cmocka_unit_test(extend_gives_room_that_counts),
        cmocka_unit_test(printf_appends_without_a_final_nul),
        cmocka_unit_test(printf_that_passes_the_ceiling_goes_bad),
        cmocka_unit_test(printf_has_room_for_the_nul_it_does_not_count),
        cmocka_unit_test(clear_leaves_a_usable_buf),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(reader_reads_what_was_put),
        cmocka_unit_test(reader_that_overran_yields_zeros_for_ever),
        cmocka_unit_test(reader_refuses_a_blob_longer_than_the_input),
        cmocka_unit_test(reader_refuses_a_length_that_would_wrap),
        cmocka_unit_test(reader_reports_what_is_left_over),
        cmocka_unit_test(reader_of_nothing_is_done),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(hex_refuses_other_lengths_and_letters),
    };
    return cmocka_run_group_tests_name("base/bytes", tests, NULL, NULL);
}
