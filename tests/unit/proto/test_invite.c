/*
 * proto/invite: the link, as text that anybody may have typed, and its proof.
 */
#include "proto/invite.h"

#include <stdio.h>
#include <string.h>

#include "support/test.h"

#define A32 "0101010101010101010101010101010101010101010101010101010101010101"
#define B32 "0202020202020202020202020202020202020202020202020202020202020202"
#define C16 "03030303030303030303030303030303"
#define D32 "0404040404040404040404040404040404040404040404040404040404040404"
#define LINK                                                                                   \
    "muster://example.org:4000/?run=" A32 "&key=" B32 "&enrol=4001&invite=" C16 "&secret=" D32 \
    "&role=inference"

static struct invite make_invite(void)
{
    struct invite v = {.control = "tcp://example.org:4000",
                       .enrol = "tcp://example.org:4001",
                       .role = ROLE_INFERENCE};

    memset(v.run.b, 1, sizeof(v.run.b));
    memset(v.server.b, 2, sizeof(v.server.b));
    memset(v.id, 3, sizeof(v.id));
    memset(v.secret, 4, sizeof(v.secret));
    return v;
}

static void a_link_says_what_the_invite_holds(void **state)
{
    (void)state;
    struct invite v = make_invite();
    char link[INVITE_LINK_BYTES];
    struct err e;

    assert_ok(invite_encode(link, &v, &e), &e);

    assert_string_equal(link, LINK);
}

static void a_link_decodes_to_the_invite(void **state)
{
    (void)state;
    struct invite want = make_invite(), v;
    struct err e;

    assert_ok(invite_decode(&v, LINK, &e), &e);

    assert_string_equal(v.control, want.control);
    assert_string_equal(v.enrol, want.enrol);
    assert_memory_equal(v.run.b, want.run.b, 32);
    assert_memory_equal(v.server.b, want.server.b, 32);
    assert_memory_equal(v.id, want.id, 16);
    assert_memory_equal(v.secret, want.secret, 32);
    assert_int_equal(v.role, ROLE_INFERENCE);
}

static void the_order_of_parameters_does_not_matter(void **state)
{
    (void)state;
    struct invite v;
    struct err e;

    assert_ok(invite_decode(&v,
                            "muster://[::1]:1/?role=relay&secret=" D32 "&invite=" C16
                            "&enrol=65535&key=" B32 "&run=" A32,
                            &e),
              &e);

    assert_string_equal(v.control, "tcp://[::1]:1");
    assert_string_equal(v.enrol, "tcp://[::1]:65535");
}

static void rubbish_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "muster://",
        "http://example.org:4000/?run=" A32,
        "muster://example.org/?run=" A32,
        "muster://example.org:0/?run=" A32 "&key=" B32 "&enrol=1&invite=" C16 "&secret=" D32
        "&role=relay",
        "muster://example.org:99999/?run=" A32 "&key=" B32 "&enrol=1&invite=" C16 "&secret=" D32
        "&role=relay",
        "muster://:4000/?run=" A32 "&key=" B32 "&enrol=1&invite=" C16 "&secret=" D32
        "&role=relay",
        "muster://ex ample:4000/?run=" A32 "&key=" B32 "&enrol=1&invite=" C16 "&secret=" D32
        "&role=relay",
        LINK "&role=relay",  /* twice */
        LINK "&colour=blue", /* unknown */
        LINK "&",
        LINK "x", /* no such role */
        "muster://example.org:4000/?run=" A32 "&key=" B32 "&enrol=4001&invite=" C16
        "&secret=" D32, /* no role */
        "muster://example.org:4000/?run=" A32 "&key=" B32 "&enrol=4001&invite=" C16
        "&secret=" C16 "&role=relay", /* short secret */
        "muster://example.org:4000/?run=" A32 "&key=" B32 "&enrol=04001&invite=" C16
        "&secret=" D32 "&role=relay", /* leading zero */
        "muster://example.org:4000/?run=&key=" B32 "&enrol=4001&invite=" C16 "&secret=" D32
        "&role=relay",
    };
    struct invite v;
    struct err e;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        print_message("%s\n", bad[i]);
        assert_status(invite_decode(&v, bad[i], &e), ERR_MALFORMED, &e);
        assert_null(strstr(e.text, "0404")); /* an error never shows the secret */
    }
}

static void a_long_text_is_refused(void **state)
{
    (void)state;
    char link[2000];
    struct invite v;
    memset(link, 'a', sizeof(link));
    memcpy(link, "muster://", 9);
    link[sizeof(link) - 1] = '\0';

    assert_status(invite_decode(&v, link, NULL), ERR_MALFORMED, NULL);
}

static void endpoints_on_two_hosts_make_no_link(void **state)
{
    (void)state;
    struct invite v = make_invite();
    char link[INVITE_LINK_BYTES];

    (void)snprintf(v.enrol, sizeof(v.enrol), "tcp://example.com:4001");
    assert_status(invite_encode(link, &v, NULL), ERR_INVALID, NULL);
    (void)snprintf(v.enrol, sizeof(v.enrol), "ipc:///tmp/x");
    assert_status(invite_encode(link, &v, NULL), ERR_INVALID, NULL);
}

static void the_mac_depends_on_the_secret_and_on_every_field(void **state)
{
    (void)state;
    struct msg_join m = {.role = ROLE_RELAY, .invite = {9}};
    const uint8_t secret[32] = {1}, other[32] = {2};
    uint8_t *fields[] = {m.node.b, m.transport.b, m.owner.b, m.owner_sig.b, m.invite};
    invite_mac(&m.mac, secret, &m);

    assert_ok(invite_check_mac(&m, secret, NULL), NULL);
    assert_status(invite_check_mac(&m, other, NULL), ERR_DENIED, NULL);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        fields[i][7] ^= 1;
        assert_status(invite_check_mac(&m, secret, NULL), ERR_DENIED, NULL);
        fields[i][7] ^= 1;
    }
    m.role = ROLE_TRAINER;
    assert_status(invite_check_mac(&m, secret, NULL), ERR_DENIED, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_says_what_the_invite_holds),
        cmocka_unit_test(a_link_decodes_to_the_invite),
        cmocka_unit_test(the_order_of_parameters_does_not_matter),
        cmocka_unit_test(rubbish_is_refused),
        cmocka_unit_test(a_long_text_is_refused),
        cmocka_unit_test(endpoints_on_two_hosts_make_no_link),
        cmocka_unit_test(the_mac_depends_on_the_secret_and_on_every_field),
    };

    return cmocka_run_group_tests_name("proto/invite", tests, NULL, NULL);
}
