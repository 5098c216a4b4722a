/*
 * proto/digest and proto/sign, against RFC 7693's and RFC 8032's numbers (the former for 256 bits:
 * computed by python3's hashlib.blake2b(digest_size=32)).
 */
#include "proto/digest.h"

#include <stdlib.h>
#include <string.h>

#include "proto/sign.h"
#include "support/test.h"

static void assert_digest(const struct digest *d, const char *want)
{
    char hex[DIGEST_HEX_BYTES];

    digest_to_hex(hex, d);
    assert_string_equal(hex, want);
}

static void digests_are_blake2b_256(void **state)
{
    (void)state;
    struct digest d;

    digest_of(&d, (struct bytes){NULL, 0});
    assert_digest(&d, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    digest_of(&d, BYTES_LIT("abc"));
    assert_digest(&d, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void a_keyed_digest_is_blake2b_with_that_key(void **state)
{
    (void)state;
    struct digest d;

    digest_keyed(&d, BYTES_LIT("key"), BYTES_LIT("abc"));

    assert_digest(&d, "0330531d097355a3f72e80d55c1245ccf79f1704431c6e3887938320442c23c0");
}

static void a_tag_and_its_nul_come_first(void **state)
{
    (void)state;
    struct digest a, b;

    digest_tagged(&a, "muster/x", BYTES_LIT("abc"));
    digest_of(&b, BYTES_LIT("muster/x\0abc"));

    assert_true(digest_equal(&a, &b));
}

static void pieces_give_the_digest_of_the_whole(void **state)
{
    (void)state;
    struct digest_state s;
    struct digest a, b;

    digest_begin(&s, NULL);
    digest_add_u32(&s, 0x04030201);
    digest_add_u64(&s, 0x0c0b0a0908070605);
    digest_add_blob(&s, BYTES_LIT("hi"));
    digest_end(&s, &a);
    digest_of(&b, BYTES_LIT("\1\2\3\4\5\6\7\10\11\12\13\14\2\0\0\0hi"));

    assert_true(digest_equal(&a, &b));
}

static void hexadecimal_goes_both_ways(void **state)
{
    (void)state;
    struct digest a, b;
    char hex[DIGEST_HEX_BYTES];
    digest_of(&a, BYTES_LIT("abc"));

    digest_to_hex(hex, &a);

    assert_ok(digest_from_hex(&b, hex, NULL), NULL);
    assert_true(digest_equal(&a, &b));
    hex[10] = 'x';
    assert_status(digest_from_hex(&b, hex, NULL), ERR_MALFORMED, NULL);
}

/* RFC 8032, section 7.1, test 1: the key; the tag makes the message "\0" + nothing, so only the
 * key can be compared. */
static void keys_are_ed25519(void **state)
{
    (void)state;
    uint8_t seed[32];
    struct public_key pub;
    struct secret_key secret;
    char hex[65];
    assert_ok(hex_decode(seed, 32,
                         "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                         NULL),
              NULL);

    sign_keys_of_seed(&pub, &secret, seed);

    hex_encode(hex, BYTES_OF(pub.b));
    assert_string_equal(hex,
                        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
}

struct signer {
    struct public_key pub;
    struct secret_key secret;
};

static struct signer make_signer(uint8_t who)
{
    const uint8_t seed[32] = {who};
    struct signer s;

    sign_keys_of_seed(&s.pub, &s.secret, seed);
    return s;
}

static void a_signature_verifies_for_its_tag_key_and_message_only(void **state)
{
    (void)state;
    struct signer a = make_signer(1), b = make_signer(2);
    struct signature sig;
    assert_ok(sign_make(&sig, "tag", BYTES_LIT("message"), &a.secret, NULL), NULL);

    assert_ok(sign_check(&sig, "tag", BYTES_LIT("message"), &a.pub, NULL), NULL);
    assert_status(sign_check(&sig, "tag", BYTES_LIT("messagf"), &a.pub, NULL), ERR_DIGEST,
                  NULL);
    assert_status(sign_check(&sig, "tab", BYTES_LIT("message"), &a.pub, NULL), ERR_DIGEST,
                  NULL);
    assert_status(sign_check(&sig, "tag", BYTES_LIT("message"), &b.pub, NULL), ERR_DIGEST,
                  NULL);
    sig.b[5] ^= 1;
    assert_status(sign_check(&sig, "tag", BYTES_LIT("message"), &a.pub, NULL), ERR_DIGEST,
                  NULL);
}

static void parts_are_signed_as_one_message(void **state)
{
    (void)state;
    struct signer a = make_signer(1);
    const struct bytes part[3] = {BYTES_LIT("mess"), {NULL, 0}, BYTES_LIT("age")};
    struct signature sig;

    assert_ok(sign_make_parts(&sig, "tag", part, 3, &a.secret, NULL), NULL);

    assert_ok(sign_check(&sig, "tag", BYTES_LIT("message"), &a.pub, NULL), NULL);
}

static void a_key_of_small_order_verifies_nothing(void **state)
{
    (void)state;
    const struct public_key identity = {{1}};
    const struct signature sig = {{1}};

    assert_status(sign_check(&sig, "tag", BYTES_LIT("message"), &identity, NULL), ERR_DIGEST,
                  NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_blake2b_256),
        cmocka_unit_test(a_keyed_digest_is_blake2b_with_that_key),
        cmocka_unit_test(a_tag_and_its_nul_come_first),
        cmocka_unit_test(pieces_give_the_digest_of_the_whole),
        cmocka_unit_test(hexadecimal_goes_both_ways),
        cmocka_unit_test(keys_are_ed25519),
        cmocka_unit_test(a_signature_verifies_for_its_tag_key_and_message_only),
        cmocka_unit_test(parts_are_signed_as_one_message),
        cmocka_unit_test(a_key_of_small_order_verifies_nothing),
    };

    return cmocka_run_group_tests_name("proto/digest", tests, NULL, NULL);
}
