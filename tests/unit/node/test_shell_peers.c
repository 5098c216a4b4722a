/*
 * node/shell_peers: numbers for clients, and how they are forgotten.
 */
#include "node/shell_peers.h"

#include <string.h>

#include "support/test.h"

static const struct public_key alice = {{1}}, bob = {{2}};

static void a_client_keeps_its_number(void **state)
{
    (void)state;
    struct peers *p;
    uint64_t first;
    peers_new(&p);

    first = peers_note(p, 1, BYTES_LIT("id"), &alice, 1000);

    assert_int_equal(peers_note(p, 1, BYTES_LIT("id"), &alice, 2000), first);
    assert_int_equal(peers_find(p, first)->heard_ms, 2000);
    assert_true(key_equal(&peers_find(p, first)->key, &alice));
    peers_free(&p);
}

/* A routing id is the client's to choose; the key is not. */
static void another_key_link_or_routing_id_is_another_client(void **state)
{
    (void)state;
    struct peers *p;
    uint64_t first;
    peers_new(&p);

    first = peers_note(p, 1, BYTES_LIT("id"), &alice, 1000);

    assert_int_not_equal(peers_note(p, 1, BYTES_LIT("id"), &bob, 1000), first);
    assert_int_not_equal(peers_note(p, 2, BYTES_LIT("id"), &alice, 1000), first);
    assert_int_not_equal(peers_note(p, 1, BYTES_LIT("ie"), &alice, 1000), first);
    assert_int_not_equal(peers_note(p, 1, BYTES_LIT("i"), &alice, 1000), first);
    peers_free(&p);
}

static void a_silent_client_is_forgotten(void **state)
{
    (void)state;
    struct peers *p;
    uint64_t a, b;
    peers_new(&p);
    a = peers_note(p, 1, BYTES_LIT("a"), &alice, 0);
    b = peers_note(p, 1, BYTES_LIT("b"), &bob, 200000);

    peers_expire(p, PEER_SILENT_MS);
    assert_non_null(peers_find(p, a));
    peers_expire(p, PEER_SILENT_MS + 100000);

    assert_null(peers_find(p, a));
    assert_non_null(peers_find(p, b));
    peers_free(&p);
}

static void a_full_link_forgets_its_most_silent_client(void **state)
{
    (void)state;
    struct peers *p;
    uint64_t number[PEERS_PER_LINK], other;
    peers_new(&p);
    other = peers_note(p, 2, BYTES_LIT("other link"), &bob, 0); /* more silent than all */
    for (uint32_t i = 0; i < PEERS_PER_LINK; i++)
        number[i] = peers_note(p, 1, BYTES_OF(i), &alice, i == 500 ? 1 : 1000 + i);

    (void)peers_note(p, 1, BYTES_LIT("one more"), &alice, 9000);

    assert_null(peers_find(p, number[500]));
    assert_non_null(peers_find(p, number[0]));
    assert_non_null(peers_find(p, number[PEERS_PER_LINK - 1]));
    assert_non_null(peers_find(p, other));
    peers_free(&p);
}

static void a_forgotten_number_is_not_used_again(void **state)
{
    (void)state;
    struct peers *p;
    uint64_t first, second;
    peers_new(&p);
    first = peers_note(p, 1, BYTES_LIT("id"), &alice, 1000);

    peers_forget(p, first);
    second = peers_note(p, 1, BYTES_LIT("id"), &alice, 1000);

    assert_null(peers_find(p, first));
    assert_int_not_equal(first, second);
    assert_int_not_equal(peers_next_number(p), second);
    peers_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_keeps_its_number),
        cmocka_unit_test(another_key_link_or_routing_id_is_another_client),
        cmocka_unit_test(a_silent_client_is_forgotten),
        cmocka_unit_test(a_full_link_forgets_its_most_silent_client),
        cmocka_unit_test(a_forgotten_number_is_not_used_again),
    };

    return cmocka_run_group_tests_name("node/shell_peers", tests, NULL, NULL);
}
