/* ledger/account.h */
#include "ledger/account.h"

#include <string.h>

#include "support/test.h"

static struct public_key key_of(uint8_t first)
{
    struct public_key k = {{first, 2, 3}};

    return k;
}

static void names_survive_text_and_back(void **state)
{
    (void)state;
    struct public_key key = key_of(0xab);
    struct digest task = {{0xcd}};
    struct account all[] = {
        account_of_key(ACCOUNT_AVAIL, &key),      account_of_key(ACCOUNT_STAKE, &key),
        account_of_key(ACCOUNT_PENDING, &key),    account_of_task(ACCOUNT_ESCROW, &task),
        account_of_task(ACCOUNT_RESERVED, &task), account_of_pool(ACCOUNT_EXTERNAL),
        account_of_pool(ACCOUNT_JACKPOT),         account_of_pool(ACCOUNT_BURN)};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char text[ACCOUNT_TEXT_BYTES];
        struct account back;
        struct err e;
        account_text(text, &all[i]);
        assert_ok(account_parse(&back, text, &e), &e);
        assert_true(account_equal(&back, &all[i]));
    }
}

static void the_name_of_a_key_shows_its_digits(void **state)
{
    (void)state;
    struct public_key key = key_of(0xab);
    struct account a = account_of_key(ACCOUNT_STAKE, &key);
    char text[ACCOUNT_TEXT_BYTES];

    account_text(text, &a);

    assert_string_equal(text, "stake:ab0203000000000000000000000000");
}

/* As 'muster keys show' prints it. */
static void a_whole_key_names_its_account(void **state)
{
    struct public_key key = key_of(0xab);
    struct account a = account_of_key(ACCOUNT_STAKE, &key), back;
    char text[6 + 2 * KEY_BYTES + 1] = "stake:";
    struct err e;

    (void)state;
    hex_encode(text + 6, BYTES_OF(key.b));
    assert_ok(account_parse(&back, text, &e), &e);
    assert_true(account_equal(&back, &a));
}

static void parse_refuses_what_is_no_account(void **state)
{
    (void)state;
    const char *bad[] = {"",
                         "stake",
                         "stake:",
                         "stake:ab",
                         "nonsense",
                         "burn:ab",
                         "external:",
                         "stakes:ab0203000000000000000000000000",
                         "stake:zz0203000000000000000000000000",
                         "stake:ab02030000000000000000000000001"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct account a;
        struct err e;
        assert_status(account_parse(&a, bad[i], &e), ERR_MALFORMED, NULL);
    }
}

static void kinds_of_one_key_are_different_accounts(void **state)
{
    (void)state;
    struct public_key key = key_of(1);
    struct account a = account_of_key(ACCOUNT_AVAIL, &key);
    struct account b = account_of_key(ACCOUNT_PENDING, &key);

    assert_false(account_equal(&a, &b));
}

static void balances_add_up_and_rows_stay_sorted(void **state)
{
    (void)state;
    struct account_table t;

    account_table_init(&t);
    for (unsigned i = 0; i < 100; i++) {
        struct public_key key = key_of((uint8_t)(i * 37));
        struct account a = account_of_key(ACCOUNT_AVAIL, &key);
        account_add(&t, &a, i);
        account_add(&t, &a, -1);
    }

    assert_int_equal(t.n, 100);
    for (size_t i = 1; i < t.n; i++)
        assert_true(memcmp(t.v[i - 1].account.b, t.v[i].account.b, 16) < 0);
    for (unsigned i = 0; i < 100; i++) {
        struct public_key key = key_of((uint8_t)(i * 37));
        struct account a = account_of_key(ACCOUNT_AVAIL, &key);
        assert_int_equal(account_balance(&t, &a), (int64_t)i - 1);
    }
    account_table_clear(&t);
}

static void the_root_depends_on_every_balance_and_not_on_the_order(void **state)
{
    (void)state;
    struct public_key k1 = key_of(1), k2 = key_of(2);
    struct account a = account_of_key(ACCOUNT_AVAIL, &k1);
    struct account b = account_of_key(ACCOUNT_AVAIL, &k2);
    struct account_table x, y;
    struct digest rx, ry;

    account_table_init(&x);
    account_table_init(&y);
    account_add(&x, &a, 5);
    account_add(&x, &b, -7);
    account_add(&y, &b, -7);
    account_add(&y, &a, 5);
    account_table_root(&rx, &x);
    account_table_root(&ry, &y);
    assert_true(digest_equal(&rx, &ry));

    account_add(&y, &b, 1);
    account_table_root(&ry, &y);
    assert_false(digest_equal(&rx, &ry));
    account_table_clear(&x);
    account_table_clear(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_survive_text_and_back),
        cmocka_unit_test(the_name_of_a_key_shows_its_digits),
        cmocka_unit_test(a_whole_key_names_its_account),
        cmocka_unit_test(parse_refuses_what_is_no_account),
        cmocka_unit_test(kinds_of_one_key_are_different_accounts),
        cmocka_unit_test(balances_add_up_and_rows_stay_sorted),
        cmocka_unit_test(the_root_depends_on_every_balance_and_not_on_the_order),
    };
    return cmocka_run_group_tests_name("ledger/account", tests, NULL, NULL);
}
