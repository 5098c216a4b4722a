/* ledger/entry.h */
#include "ledger/entry.h"

#include <string.h>

#include "support/test.h"

struct sample {
    struct ledger_entry entry;
    struct buf bytes;
};

static int setup(void **state)
{
    static struct sample s;
    struct public_key key = {{9}};
    struct err e;

    memset(&s, 0, sizeof(s));
    s.entry = (struct ledger_entry){.seq = 7,
                                    .time_us = 1700000000000001,
                                    .type = LEDGER_STAKE,
                                    .run = {{1}},
                                    .prev = {{2}},
                                    .idem = {{3}},
                                    .actor = {{4}},
                                    .body = BYTES_LIT("body"),
                                    .n_postings = 2};
    s.entry.posting[0] = (struct ledger_posting){account_of_key(ACCOUNT_AVAIL, &key), -5};
    s.entry.posting[1] = (struct ledger_posting){account_of_key(ACCOUNT_STAKE, &key), 5};
    buf_init(&s.bytes, LEDGER_ENTRY_MAX);
    *state = &s;
    return ledger_entry_encode(&s.bytes, &s.entry, &e) ? -1 : 0;
}

static int teardown(void **state)
{
    buf_clear(&((struct sample *)*state)->bytes);
    return 0;
}

static void decode_gives_back_what_was_encoded(void **state)
{
    struct sample *s = *state;
    struct ledger_entry en;
    struct buf again;
    struct err e;

    assert_ok(ledger_entry_decode(&en, buf_bytes(&s->bytes), &e), &e);

    assert_int_equal(s->bytes.len, LEDGER_HEADER_BYTES + 4 + 2 * 24);
    assert_int_equal(en.seq, 7);
    assert_int_equal(en.time_us, 1700000000000001);
    assert_int_equal(en.type, LEDGER_STAKE);
    assert_true(bytes_equal(en.body, BYTES_LIT("body")));
    assert_int_equal(en.posting[0].delta, -5);
    assert_true(account_equal(&en.posting[1].account, &s->entry.posting[1].account));
    buf_init(&again, LEDGER_ENTRY_MAX);
    assert_ok(ledger_entry_encode(&again, &en, &e), &e);
    assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&s->bytes)));
    buf_clear(&again);
}

static void the_layout_is_the_one_of_the_manual(void **state)
{
    struct sample *s = *state;
    const uint8_t head[] = {0x4c, 0x44, 0x45, 0x47, 1, 0, 7, 0, 7, 0, 0, 0, 0, 0, 0, 0};

    assert_memory_equal(s->bytes.data, head, sizeof(head));
    assert_int_equal(s->bytes.data[24], 1);    /* run */
    assert_int_equal(s->bytes.data[56], 2);    /* prev */
    assert_int_equal(s->bytes.data[88], 3);    /* idem */
    assert_int_equal(s->bytes.data[104], 4);   /* actor */
    assert_int_equal(s->bytes.data[136], 4);   /* body_len */
    assert_int_equal(s->bytes.data[140], 2);   /* n_postings */
    assert_int_equal(s->bytes.data[144], 'b'); /* body */
    assert_int_equal(s->bytes.data[148], ACCOUNT_AVAIL);
}

static void every_cut_is_refused(void **state)
{
    struct sample *s = *state;

    for (size_t n = 0; n < s->bytes.len; n++) {
        struct ledger_entry en;
        struct err e;
        enum status st = ledger_entry_decode(&en, (struct bytes){s->bytes.data, n}, &e);
        assert_status(st, ERR_MALFORMED, NULL);
    }
}

static void a_byte_too_many_is_refused(void **state)
{
    struct sample *s = *state;
    struct ledger_entry en;
    struct err e;

    buf_put_u8(&s->bytes, 0);

    assert_status(ledger_entry_decode(&en, buf_bytes(&s->bytes), &e), ERR_MALFORMED, NULL);
}

static void assert_refused_with(struct sample *s, size_t at, uint8_t value, enum status want)
{
    struct ledger_entry en;
    struct err e;
    uint8_t old = s->bytes.data[at];

    s->bytes.data[at] = value;
    assert_status(ledger_entry_decode(&en, buf_bytes(&s->bytes), &e), want, NULL);
    s->bytes.data[at] = old;
}

static void headers_out_of_range_are_refused(void **state)
{
    struct sample *s = *state;

    assert_refused_with(s, 0, 0, ERR_MALFORMED);      /* magic */
    assert_refused_with(s, 4, 2, ERR_UNSUPPORTED);    /* version */
    assert_refused_with(s, 6, 200, ERR_UNSUPPORTED);  /* type */
    assert_refused_with(s, 6, 0, ERR_UNSUPPORTED);    /* no type */
    assert_refused_with(s, 23, 0x80, ERR_MALFORMED);  /* time below zero */
    assert_refused_with(s, 139, 0x80, ERR_MALFORMED); /* body_len */
    assert_refused_with(s, 140, 17, ERR_MALFORMED);   /* n_postings */
    assert_refused_with(s, 142, 1, ERR_MALFORMED);    /* flags */
    assert_refused_with(s, 148, 99, ERR_MALFORMED);   /* account kind */
}

static void the_hash_depends_on_every_bit(void **state)
{
    struct sample *s = *state;
    struct digest was, is;

    ledger_entry_hash(&was, buf_bytes(&s->bytes));
    for (size_t i = 0; i < 8 * s->bytes.len; i++) {
        s->bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        ledger_entry_hash(&is, buf_bytes(&s->bytes));
        s->bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_false(digest_equal(&was, &is));
    }
}

static void too_much_cannot_be_encoded(void **state)
{
    struct sample *s = *state;
    struct err e;

    s->entry.n_postings = LEDGER_POSTINGS_MAX + 1;
    assert_status(ledger_entry_encode(&s->bytes, &s->entry, &e), ERR_LIMIT, NULL);
    s->entry.n_postings = 0;
    s->entry.body.len = LEDGER_BODY_MAX + 1;
    assert_status(ledger_entry_encode(&s->bytes, &s->entry, &e), ERR_LIMIT, NULL);
}

static void types_have_their_numbers_and_names(void **state)
{
    (void)state;
    int n = 0;

#define CHECK_TYPE(NAME, number, body, moves_money, text)                                      \
    assert_int_equal(LEDGER_##NAME, number);                                                   \
    assert_int_equal(ledger_type_parse(#NAME), number);                                        \
    assert_string_equal(ledger_type_name(LEDGER_##NAME), #NAME);                               \
    n++;
    LEDGER_TYPE_MAP(CHECK_TYPE)

    assert_int_equal(n, LEDGER_TYPE_COUNT - 1);
    assert_int_equal(ledger_type_parse("lease"), LEDGER_LEASE);
    assert_int_equal(ledger_type_parse("LEAS"), LEDGER_NONE);
    assert_null(ledger_type_name(LEDGER_TYPE_COUNT));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(decode_gives_back_what_was_encoded),
        TEST(the_layout_is_the_one_of_the_manual),
        TEST(every_cut_is_refused),
        TEST(a_byte_too_many_is_refused),
        TEST(headers_out_of_range_are_refused),
        TEST(the_hash_depends_on_every_bit),
        TEST(too_much_cannot_be_encoded),
        cmocka_unit_test(types_have_their_numbers_and_names),
    };
    return cmocka_run_group_tests_name("ledger/entry", tests, NULL, NULL);
}
