/*
 * verifier/head_file: what a witness was shown is on disk before it answers, whatever it was
 */
#include "verifier/head_file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/key.h"
#include "proto/msg.h"
#include "proto/witness.h"
#include "support/tempdir.h"
#include "support/test.h"

struct fixture {
    char *dir; /* owned */
    struct node_key *key;
    struct head_file f;
    struct buf env;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *x = test_calloc(1, sizeof(*x));
    const uint8_t seed[32] = {5};

    x->dir = tempdir_make();
    key_derive(&x->key, seed);
    buf_init(&x->env, WITNESS_CALL_MAX);
    assert_ok(head_file_open(&x->f, x->dir, &x->e), &x->e);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;

    head_file_close(&x->f);
    buf_clear(&x->env);
    key_free(&x->key);
    tempdir_remove(&x->dir);
    test_free(x);
    return 0;
}

static struct bytes call_of(struct fixture *x, uint64_t seq, uint8_t what)
{
    const struct msg_witness_call c = {.seq = seq, .entry = {{what}}};
    const struct digest run = {{9}};
    const struct idem idem = {{(uint8_t)seq}};
    struct buf body;

    buf_init(&body, 256);
    assert_ok(msg_witness_call_encode(&body, &c, NULL), NULL);
    buf_reset(&x->env);
    assert_ok(msg_envelope_encode(&x->env, MSG_WITNESS_CALL, &run, &idem, buf_bytes(&body),
                                  x->key->node_secret, NULL),
              NULL);
    buf_clear(&body);
    return buf_bytes(&x->env);
}

static enum status count(void *arg, const struct witness_head *h, struct err *e)
{
    (void)h, (void)e;
    ++*(int *)arg;
    return OK;
}

static int heads_on_disk(struct fixture *x)
{
    char *path = file_join(x->dir, "heads.witness");
    struct buf b;
    int n = 0;

    buf_init(&b, 1u << 20);
    assert_ok(file_read(&b, path, NULL), NULL);
    assert_ok(witness_file_read(buf_bytes(&b), count, &n, NULL), NULL);
    buf_clear(&b);
    free(path);
    return n;
}

static void reopen(struct fixture *x)
{
    head_file_close(&x->f);
    assert_ok(head_file_open(&x->f, x->dir, &x->e), &x->e);
}

/* Files of this process grow no further, which is as if the disk were full. */
static enum status put_on_a_full_disk(struct fixture *x, struct bytes call)
{
    struct rlimit before, none;
    struct stat sb;
    enum status st;

    assert_int_equal(fstat(x->f.fd, &sb), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = (struct rlimit){(rlim_t)sb.st_size + 5, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    st = head_file_put(&x->f, call, &x->key->node, &x->e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    return st;
}

static void without_room_it_says_which_file_and_what_was_kept_stays(void **state)
{
    struct fixture *x = *state;

    assert_ok(head_file_put(&x->f, call_of(x, 3, 1), &x->key->node, &x->e), &x->e);

    assert_status(put_on_a_full_disk(x, call_of(x, 9, 2)), ERR_FULL, &x->e);
    assert_contains(x->e.text, x->dir);
    assert_contains(x->e.text, "heads.witness");
    reopen(x);
    assert_int_equal(x->f.seq, 3);
    assert_int_equal(heads_on_disk(x), 1);
}

static void heads_are_kept_and_the_last_is_known_again(void **state)
{
    struct fixture *x = *state;

    assert_ok(head_file_put(&x->f, call_of(x, 4, 1), &x->key->node, &x->e), &x->e);
    assert_ok(head_file_put(&x->f, call_of(x, 9, 2), &x->key->node, &x->e), &x->e);
    assert_ok(head_file_put(&x->f, call_of(x, 9, 2), &x->key->node, &x->e), &x->e);
    assert_int_equal(heads_on_disk(x), 2);
    reopen(x);
    assert_int_equal(x->f.seq, 9);
    assert_int_equal(x->f.entry.b[0], 2);
    assert_ok(head_file_put(&x->f, call_of(x, 12, 3), &x->key->node, &x->e), &x->e);
    assert_int_equal(heads_on_disk(x), 3);
}

static void another_history_is_kept_and_not_answered(void **state)
{
    struct fixture *x = *state;

    assert_ok(head_file_put(&x->f, call_of(x, 9, 2), &x->key->node, &x->e), &x->e);
    assert_status(head_file_put(&x->f, call_of(x, 9, 3), &x->key->node, &x->e), ERR_DENIED,
                  NULL);
    assert_contains(x->e.text, "another history");
    assert_status(head_file_put(&x->f, call_of(x, 5, 1), &x->key->node, &x->e), ERR_DENIED,
                  NULL);
    assert_int_equal(heads_on_disk(x), 3); /* the proof */
    assert_int_equal(x->f.seq, 9);
}

static void what_the_orchestrator_did_not_sign_is_not_kept(void **state)
{
    struct fixture *x = *state;
    struct public_key other = {{1}};

    assert_status(head_file_put(&x->f, call_of(x, 4, 1), &other, &x->e), ERR_DIGEST, NULL);
    call_of(x, 4, 1);
    x->env.data[x->env.len - 1] ^= 1;
    assert_status(head_file_put(&x->f, buf_bytes(&x->env), &x->key->node, &x->e), ERR_DIGEST,
                  NULL);
    assert_status(head_file_put(&x->f, BYTES_LIT("rubbish"), &x->key->node, &x->e),
                  ERR_MALFORMED, NULL);
    assert_int_equal(heads_on_disk(x), 0);
}

/* The process died while it wrote: at each byte of the last head. */
static void a_head_that_was_cut_short_is_cut_off(void **state)
{
    struct fixture *x = *state;
    char *path = file_join(x->dir, "heads.witness");
    struct buf whole;
    size_t first;

    buf_init(&whole, 1u << 20);
    assert_ok(head_file_put(&x->f, call_of(x, 4, 1), &x->key->node, &x->e), &x->e);
    assert_ok(file_read(&whole, path, NULL), NULL);
    first = whole.len;
    assert_ok(head_file_put(&x->f, call_of(x, 9, 2), &x->key->node, &x->e), &x->e);
    buf_reset(&whole);
    assert_ok(file_read(&whole, path, NULL), NULL);
    for (size_t n = first; n < whole.len; n += 7) {
        assert_ok(file_write_atomic(path, (struct bytes){whole.data, n}, 0644, NULL), NULL);
        reopen(x);
        assert_int_equal(x->f.seq, 4);
        assert_ok(head_file_put(&x->f, call_of(x, 11, 3), &x->key->node, &x->e), &x->e);
        assert_int_equal(heads_on_disk(x), 2);
    }
    buf_clear(&whole);
    free(path);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(heads_are_kept_and_the_last_is_known_again),
        CASE(another_history_is_kept_and_not_answered),
        CASE(what_the_orchestrator_did_not_sign_is_not_kept),
        CASE(a_head_that_was_cut_short_is_cut_off),
        CASE(without_room_it_says_which_file_and_what_was_kept_stays),
    };
    return cmocka_run_group_tests_name("verifier/head_file", tests, NULL, NULL);
}
