/*
 * node/key: the files, who may read them, and certificates.
 */
#include "node/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "proto/sign.h"
#include "support/tempdir.h"
#include "support/test.h"

static struct node_key *load(const char *dir)
{
    struct node_key *k = NULL;
    struct err e = {0};

    assert_ok(key_load(&k, dir, &e), &e);
    return k;
}

static void assert_load_fails(const char *dir, enum status want, const char *why)
{
    struct node_key *k = (struct node_key *)1;
    struct err e = {0};

    assert_status(key_load(&k, dir, &e), want, &e);
    assert_contains(e.text, why);
    assert_null(k);
}

static void created_keys_are_loaded_again(void **state)
{
    const char *dir = tempdir_path(*state, "new/keys");
    struct node_key *a, *b;
    struct err e = {0};

    assert_ok(key_create(dir, &e), &e);
    a = load(dir);
    b = load(dir);

    assert_true(key_equal(&a->node, &b->node));
    assert_true(key_equal(&a->transport, &b->transport));
    assert_true(key_equal(&a->owner, &b->owner));
    assert_memory_equal(a->node_secret, b->node_secret, sizeof(*a->node_secret));
    assert_memory_equal(a->transport_secret, b->transport_secret, 32);
    assert_false(key_equal(&a->node, &a->owner));
    key_free(&a);
    key_free(&b);
}

static void key_files_are_for_their_owner_only(void **state)
{
    static const char *const names[] = {"owner.key", "node.key", "transport.key"};
    struct stat sb;
    assert_ok(key_create(*state, NULL), NULL);

    for (int i = 0; i < 3; i++) {
        assert_int_equal(stat(tempdir_path(*state, names[i]), &sb), 0);
        assert_int_equal(sb.st_mode & 0777, 0600);
    }
}

static void existing_keys_are_not_replaced(void **state)
{
    struct node_key *before, *after;
    struct err e = {0};
    assert_ok(key_create(*state, NULL), NULL);
    before = load(*state);

    assert_status(key_create(*state, &e), ERR_EXISTS, &e);
    after = load(*state);
    assert_true(key_equal(&before->node, &after->node));
    assert_int_equal(unlink(tempdir_path(*state, "owner.key")), 0);
    assert_status(key_create(*state, &e), ERR_EXISTS, &e); /* two of three are enough */

    assert_load_fails(*state, ERR_NOT_FOUND, "owner.cert");
    assert_false(file_exists(tempdir_path(*state, "owner.key")));
    key_free(&before);
    key_free(&after);
}

static void creation_goes_on_where_it_was_killed(void **state)
{
    struct node_key *before, *after;
    struct err e = {0};
    assert_ok(key_create(*state, NULL), NULL);
    before = load(*state);

    assert_int_equal(unlink(tempdir_path(*state, "node.key")), 0); /* the last to be written */
    assert_ok(key_create(*state, &e), &e);
    after = load(*state);
    assert_true(key_equal(&before->owner, &after->owner));
    assert_true(key_equal(&before->transport, &after->transport));
    assert_false(key_equal(&before->node, &after->node));
    key_free(&after);

    assert_int_equal(unlink(tempdir_path(*state, "node.key")), 0);
    assert_int_equal(unlink(tempdir_path(*state, "transport.key")), 0);
    assert_ok(key_create(*state, &e), &e);
    after = load(*state);
    assert_true(key_equal(&before->owner, &after->owner));
    key_free(&after);
    key_free(&before);
}

static void keys_that_others_can_read_are_refused(void **state)
{
    assert_ok(key_create(*state, NULL), NULL);

    assert_int_equal(chmod(tempdir_path(*state, "node.key"), 0640), 0);
    assert_load_fails(*state, ERR_DENIED, "node.key");
    assert_int_equal(chmod(tempdir_path(*state, "node.key"), 0604), 0);
    assert_load_fails(*state, ERR_DENIED, "node.key");
}

static void overwrite(const char *dir, const char *name, const char *text)
{
    assert_ok(file_write_atomic(tempdir_path(dir, name), bytes_str(text), 0600, NULL), NULL);
}

#define HEX "0101010101010101010101010101010101010101010101010101010101010101"

static void files_that_are_no_keys_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "muster-key-1 node\n",
        "muster-key-1 owner " HEX "\n",  /* another kind's */
        "muster-key-2 node " HEX "\n",   /* another format */
        "muster-key-1 node " HEX,        /* cut short */
        "muster-key-1 node " HEX "00\n", /* too long */
        "muster-key-1 node " HEX "\nmore\n",
        "muster-key-1 node g101010101010101010101010101010101010101010101010101010101010101\n",
    };
    assert_ok(key_create(*state, NULL), NULL);

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        overwrite(*state, "node.key", bad[i]);
        assert_load_fails(*state, ERR_MALFORMED, "node.key");
    }
    overwrite(*state, "node.key", "muster-key-1 node " HEX "\n");
    struct node_key *k = load(*state);
    key_free(&k);
}

static void a_derived_key_is_a_function_of_its_seed(void **state)
{
    (void)state;
    const uint8_t one[32] = {1}, two[32] = {2};
    struct node_key *a, *b, *c;

    key_derive(&a, one);
    key_derive(&b, one);
    key_derive(&c, two);

    assert_true(key_equal(&a->node, &b->node) && key_equal(&a->transport, &b->transport));
    assert_false(key_equal(&a->node, &c->node) || key_equal(&a->transport, &c->transport));
    key_free(&a);
    key_free(&b);
    key_free(&c);
}

static void a_certificate_is_for_these_keys_and_this_role(void **state)
{
    (void)state;
    const uint8_t one[32] = {1}, two[32] = {2};
    struct node_key *a, *b;
    struct signature sig;
    key_derive(&a, one);
    key_derive(&b, two);

    assert_ok(key_certify(&sig, a, ROLE_RELAY, NULL), NULL);

    assert_ok(key_verify_cert(&a->owner, &a->node, &a->transport, ROLE_RELAY, &sig, NULL),
              NULL);
    assert_status(key_verify_cert(&b->owner, &a->node, &a->transport, ROLE_RELAY, &sig, NULL),
                  ERR_DIGEST, NULL);
    assert_status(key_verify_cert(&a->owner, &b->node, &a->transport, ROLE_RELAY, &sig, NULL),
                  ERR_DIGEST, NULL);
    assert_status(key_verify_cert(&a->owner, &a->node, &b->transport, ROLE_RELAY, &sig, NULL),
                  ERR_DIGEST, NULL);
    assert_status(key_verify_cert(&a->owner, &a->node, &a->transport, ROLE_TRAINER, &sig, NULL),
                  ERR_DIGEST, NULL);
    /* only the low byte of a role is signed: larger numbers are refused before */
    assert_status(
        key_verify_cert(&a->owner, &a->node, &a->transport, ROLE_RELAY + 256, &sig, NULL),
        ERR_DIGEST, NULL);
    key_free(&a);
    key_free(&b);
}

static void a_node_whose_owner_is_elsewhere_uses_its_certificate(void **state)
{
    const uint8_t one[32] = {1};
    struct node_key *owner, *k;
    struct signature sig;
    struct err e = {0};
    assert_ok(key_create(*state, NULL), NULL); /* with an owner.key, which no longer counts */
    key_derive(&owner, one);

    assert_ok(key_write_cert(*state, owner, ROLE_INFERENCE, &e), &e);
    k = load(*state);

    assert_null(k->owner_secret);
    assert_true(key_equal(&k->owner, &owner->owner));
    assert_ok(key_certify(&sig, k, ROLE_INFERENCE, &e), &e);
    assert_ok(key_verify_cert(&owner->owner, &k->node, &k->transport, ROLE_INFERENCE, &sig, &e),
              &e);
    assert_status(key_certify(&sig, k, ROLE_TRAINER, &e), ERR_INVALID, &e);
    key_free(&k);
    key_free(&owner);
}

static void a_certificate_of_other_keys_is_refused(void **state)
{
    const char *other = tempdir_path(*state, "other"), *mine = tempdir_path(*state, "mine");
    const uint8_t one[32] = {1};
    struct node_key *owner;
    struct buf cert;
    buf_init(&cert, 1024);
    key_derive(&owner, one);
    assert_ok(key_create(other, NULL), NULL);
    assert_ok(key_create(mine, NULL), NULL);
    assert_ok(key_write_cert(other, owner, ROLE_INFERENCE, NULL), NULL);
    assert_ok(file_read(&cert, tempdir_path(other, "owner.cert"), NULL), NULL);
    assert_int_equal(unlink(tempdir_path(mine, "owner.key")), 0);

    overwrite(mine, "owner.cert", buf_cstr(&cert));

    assert_load_fails(mine, ERR_DIGEST, "owner.cert");
    overwrite(mine, "owner.cert", "muster-cert-1 nonsense\n");
    assert_load_fails(mine, ERR_MALFORMED, "owner.cert");
    buf_clear(&cert);
    key_free(&owner);
}

int main(void)
{
#define WITH_DIR(t) cmocka_unit_test_setup_teardown(t, tempdir_setup, tempdir_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(created_keys_are_loaded_again),
        WITH_DIR(key_files_are_for_their_owner_only),
        WITH_DIR(existing_keys_are_not_replaced),
        WITH_DIR(creation_goes_on_where_it_was_killed),
        WITH_DIR(keys_that_others_can_read_are_refused),
        WITH_DIR(files_that_are_no_keys_are_refused),
        cmocka_unit_test(a_derived_key_is_a_function_of_its_seed),
        cmocka_unit_test(a_certificate_is_for_these_keys_and_this_role),
        WITH_DIR(a_node_whose_owner_is_elsewhere_uses_its_certificate),
        WITH_DIR(a_certificate_of_other_keys_is_refused),
    };

    return cmocka_run_group_tests_name("node/key", tests, NULL, NULL);
}
