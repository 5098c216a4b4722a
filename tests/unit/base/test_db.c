/* base/db */
#include "base/db.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"

enum { PLAIN, OTHER };

static const char *const tables[] = {"plain", "other", NULL};

static const struct db_options options = {
    .magic = "muster/test", .version = 3, .tables = tables, .map_bytes = 16 << 20};

static struct db *open_ok(const char *dir)
{
    struct db *d;
    struct err e;

    assert_ok(db_open(&d, dir, &options, &e), &e);
    return d;
}

static struct db_txn *begin_ok(struct db *d, bool write)
{
    struct db_txn *t;
    struct err e;

    assert_ok(db_begin(&t, d, write, &e), &e);
    return t;
}

static void put_ok(struct db_txn *t, unsigned table, struct bytes key, struct bytes value)
{
    struct err e;

    assert_ok(db_put(t, table, key, value, &e), &e);
}

/* Under number n. */
static enum status put_number(struct db_txn *t, unsigned table, uint64_t n, struct bytes value,
                              struct err *e)
{
    struct db_key8 key = db_key_u64(n);

    return db_put(t, table, BYTES_OF(key.b), value, e);
}

static void commit_ok(struct db_txn *t)
{
    struct err e;

    assert_ok(db_commit(&t, &e), &e);
    assert_null(t);
}

static void fill(const char *dir, const char *key, const char *value)
{
    struct db *d = open_ok(dir);
    struct db_txn *t = begin_ok(d, true);

    put_ok(t, PLAIN, bytes_str(key), bytes_str(value));
    commit_ok(t);
    db_close(&d);
    assert_null(d);
}

static void what_was_committed_is_there_after_reopening(void **state)
{
    struct db *d;
    struct db_txn *t;
    struct bytes got;
    struct err e;

    fill(*state, "key", "value");
    d = open_ok(*state);
    t = begin_ok(d, false);

    assert_ok(db_get(t, PLAIN, BYTES_LIT("key"), &got, &e), &e);
    assert_true(bytes_equal(got, BYTES_LIT("value")));
    assert_int_equal(db_get(t, OTHER, BYTES_LIT("key"), &got, &e), ERR_NOT_FOUND);
    db_abort(&t);
    db_close(&d);
}

static void what_was_aborted_is_not(void **state)
{
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct bytes got;

    put_ok(t, PLAIN, BYTES_LIT("key"), BYTES_LIT("value"));
    db_abort(&t);
    assert_null(t);

    t = begin_ok(d, false);
    assert_int_equal(db_get(t, PLAIN, BYTES_LIT("key"), &got, NULL), ERR_NOT_FOUND);
    assert_int_equal(got.len, 0);
    db_abort(&t);
    db_close(&d);
}

static void not_found_leaves_the_error_untouched(void **state)
{
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct err e = {.text = "untouched"};
    struct bytes key, value;

    assert_int_equal(db_get(t, PLAIN, BYTES_LIT("k"), &value, &e), ERR_NOT_FOUND);
    assert_int_equal(db_del(t, PLAIN, BYTES_LIT("k"), &e), ERR_NOT_FOUND);
    assert_int_equal(db_last(t, PLAIN, &key, &value, &e), ERR_NOT_FOUND);

    assert_string_equal(e.text, "untouched");
    db_abort(&t);
    db_close(&d);
}

static void put_replaces_and_del_removes(void **state)
{
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct bytes got;
    struct err e;
    uint64_t n;

    put_ok(t, PLAIN, BYTES_LIT("a"), BYTES_LIT("1"));
    put_ok(t, PLAIN, BYTES_LIT("a"), BYTES_LIT("22"));
    put_ok(t, PLAIN, BYTES_LIT("b"), (struct bytes){NULL, 0});
    assert_ok(db_count(t, PLAIN, &n, &e), &e);
    assert_int_equal(n, 2);
    assert_ok(db_get(t, PLAIN, BYTES_LIT("a"), &got, &e), &e);
    assert_true(bytes_equal(got, BYTES_LIT("22")));
    assert_ok(db_get(t, PLAIN, BYTES_LIT("b"), &got, &e), &e);
    assert_int_equal(got.len, 0);

    assert_ok(db_del(t, PLAIN, BYTES_LIT("a"), &e), &e);

    assert_int_equal(db_get(t, PLAIN, BYTES_LIT("a"), &got, &e), ERR_NOT_FOUND);
    commit_ok(t);
    db_close(&d);
}

static void readers_see_the_state_of_their_beginning(void **state)
{
    struct db *d = open_ok(*state);
    struct db_txn *reader = begin_ok(d, false), *writer = begin_ok(d, true);
    struct db_txn *second = begin_ok(d, false); /* two readers of one thread */
    struct bytes got;

    put_ok(writer, PLAIN, BYTES_LIT("k"), BYTES_LIT("v"));
    commit_ok(writer);

    assert_int_equal(db_get(reader, PLAIN, BYTES_LIT("k"), &got, NULL), ERR_NOT_FOUND);
    assert_int_equal(db_get(second, PLAIN, BYTES_LIT("k"), &got, NULL), ERR_NOT_FOUND);
    db_abort(&reader);
    db_abort(&second);
    reader = begin_ok(d, false);
    assert_int_equal(db_get(reader, PLAIN, BYTES_LIT("k"), &got, NULL), OK);
    db_abort(&reader);
    db_close(&d);
}

struct seen {
    uint64_t keys[8];
    size_t n;
    size_t stop_after;
    enum status stop_with;
};

static enum status see(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct seen *s = arg;

    (void)value;
    s->keys[s->n++] = db_key_read_u64(key);
    if (s->n == s->stop_after)
        return err_set(e, s->stop_with, "enough");
    return OK;
}

static void each_visits_in_number_order_from_a_key_on(void **state)
{
    static const uint64_t numbers[] = {300, 1, 70000, 2, UINT64_MAX};
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct seen all = {.n = 0}, part = {.n = 0};
    struct db_key8 three = db_key_u64(3);
    struct bytes key, value;
    struct err e;

    for (size_t i = 0; i < 5; i++)
        assert_ok(put_number(t, OTHER, numbers[i], BYTES_LIT("x"), &e), &e);
    assert_ok(db_each(t, OTHER, (struct bytes){NULL, 0}, see, &all, &e), &e);
    assert_ok(db_each(t, OTHER, BYTES_OF(three.b), see, &part, &e), &e);

    assert_int_equal(all.n, 5);
    assert_int_equal(all.keys[0], 1);
    assert_int_equal(all.keys[1], 2);
    assert_int_equal(all.keys[2], 300);
    assert_int_equal(all.keys[3], 70000);
    assert_true(all.keys[4] == UINT64_MAX);
    assert_int_equal(part.n, 3);
    assert_int_equal(part.keys[0], 300);
    assert_ok(db_last(t, OTHER, &key, &value, &e), &e);
    assert_true(db_key_read_u64(key) == UINT64_MAX);
    db_abort(&t);
    db_close(&d);
}

static void each_stops_when_told(void **state)
{
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct seen enough = {.stop_after = 2, .stop_with = ERR_NOT_FOUND};
    struct seen failed = {.stop_after = 1, .stop_with = ERR_CORRUPT};
    struct err e;

    for (uint64_t i = 0; i < 5; i++)
        assert_ok(put_number(t, OTHER, i, BYTES_LIT("x"), &e), &e);

    assert_ok(db_each(t, OTHER, (struct bytes){NULL, 0}, see, &enough, &e), &e);
    assert_int_equal(enough.n, 2);
    assert_status(db_each(t, OTHER, (struct bytes){NULL, 0}, see, &failed, &e), ERR_CORRUPT,
                  &e);
    assert_int_equal(failed.n, 1);
    db_abort(&t);
    db_close(&d);
}

static void keys_of_no_or_too_many_bytes_are_refused(void **state)
{
    static const uint8_t big[512];
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct bytes got;
    struct err e;

    put_ok(t, PLAIN, (struct bytes){big, 511}, BYTES_LIT("x"));
    assert_status(db_put(t, PLAIN, (struct bytes){big, 512}, BYTES_LIT("x"), &e), ERR_INVALID,
                  &e);
    assert_contains(e.text, "'plain'");
    assert_status(db_put(t, PLAIN, (struct bytes){NULL, 0}, BYTES_LIT("x"), &e), ERR_INVALID,
                  &e);
    assert_status(db_get(t, PLAIN, (struct bytes){big, 512}, &got, &e), ERR_INVALID, &e);

    commit_ok(t); /* a refused key spoils nothing */
    db_close(&d);
}

static void a_full_map_keeps_nothing_of_the_transaction_and_stays_usable(void **state)
{
    static uint8_t megabyte[1 << 20];
    struct db_options small = options;
    struct db *d;
    struct db_txn *t;
    struct bytes got;
    struct err e;
    enum status st = OK;

    small.map_bytes = 4 << 20;
    assert_ok(db_open(&d, *state, &small, &e), &e);
    t = begin_ok(d, true);
    put_ok(t, PLAIN, BYTES_LIT("first"), BYTES_LIT("x"));
    for (uint64_t i = 0; i < 8 && !st; i++)
        st = put_number(t, PLAIN, i, BYTES_OF(megabyte), &e);

    assert_status(st, ERR_FULL, &e);
    assert_status(db_put(t, PLAIN, BYTES_LIT("small"), BYTES_LIT("x"), &e), ERR_FULL, &e);
    assert_status(db_commit(&t, &e), ERR_FULL, &e);
    assert_null(t);
    t = begin_ok(d, true);
    assert_int_equal(db_get(t, PLAIN, BYTES_LIT("first"), &got, &e), ERR_NOT_FOUND);
    put_ok(t, PLAIN, BYTES_LIT("second"), BYTES_LIT("x"));
    commit_ok(t);
    db_close(&d);
}

/* A limit on the file size stands in for a full disk: with the file just at it, the write of what
 * lies beyond says EFBIG. */
static void a_full_disk_keeps_nothing_of_the_transaction_and_stays_usable(void **state)
{
    static uint8_t megabyte[1 << 20];
    struct db *d = open_ok(*state);
    struct db_txn *t = begin_ok(d, true);
    struct rlimit old, tiny;
    struct bytes got;
    struct stat sb;
    struct err e;
    enum status st;

    put_ok(t, PLAIN, BYTES_LIT("kept"), BYTES_LIT("x"));
    commit_ok(t);
    assert_int_equal(stat(tempdir_path(*state, "data.mdb"), &sb), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = (struct rlimit){(rlim_t)sb.st_size, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);

    t = begin_ok(d, true);
    put_ok(t, PLAIN, BYTES_LIT("big"), BYTES_OF(megabyte));
    st = db_commit(&t, &e);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_status(st, ERR_FULL, &e);
    assert_null(t);
    t = begin_ok(d, true);
    assert_ok(db_get(t, PLAIN, BYTES_LIT("kept"), &got, &e), &e);
    assert_int_equal(db_get(t, PLAIN, BYTES_LIT("big"), &got, &e), ERR_NOT_FOUND);
    put_ok(t, PLAIN, BYTES_LIT("big"), BYTES_OF(megabyte));
    commit_ok(t);
    db_close(&d);
}

static void another_kind_or_version_is_refused(void **state)
{
    struct db_options other = options;
    struct db *d;
    struct err e;

    fill(*state, "key", "value");
    other.magic = "muster/shards";
    assert_status(db_open(&d, *state, &other, &e), ERR_UNSUPPORTED, &e);
    assert_null(d);
    assert_contains(e.text, "'muster/test'");

    other = options;
    other.version = 4;
    assert_status(db_open(&d, *state, &other, &e), ERR_UNSUPPORTED, &e);
    assert_contains(e.text, "version 3");
    assert_contains(e.text, "reads 4");
}

static void a_file_that_is_no_database_is_corrupt(void **state)
{
    static uint8_t rubbish[8192];
    struct db *d;
    struct err e;

    memset(rubbish, 0x5a, sizeof(rubbish));
    assert_ok(file_write_atomic(tempdir_path(*state, "data.mdb"), BYTES_OF(rubbish), 0600, &e),
              &e);

    assert_status(db_open(&d, *state, &options, &e), ERR_CORRUPT, &e);
    assert_null(d);
}

/* LMDB would wait for the writer of a pipe: the alarm ends the test. */
static void what_is_no_file_or_empty_is_said_and_not_waited_for(void **state)
{
    struct db_options look = options;
    const char *data = tempdir_path(*state, "data.mdb");
    struct db *d;
    struct err e;

    look.read_only = true;
    assert_int_equal(mkfifo(data, 0600), 0);
    alarm(20);
    assert_status(db_open(&d, *state, &look, &e), ERR_IO, &e);
    assert_contains(e.text, "data.mdb' is no regular file but a pipe");
    alarm(0);
    assert_int_equal(unlink(data), 0);

    assert_ok(file_write_atomic(data, BYTES_LIT(""), 0600, &e), &e);
    assert_status(db_open(&d, *state, &look, &e), ERR_CORRUPT, &e);
    assert_contains(e.text, "is empty");
}

static void read_only_needs_a_database_and_refuses_writes(void **state)
{
    struct db_options look = options;
    struct db_txn *t;
    struct bytes got;
    struct db *d;
    struct err e;

    look.read_only = true;
    assert_status(db_open(&d, *state, &look, &e), ERR_NOT_FOUND, &e);
    assert_status(db_open(&d, tempdir_path(*state, "none"), &look, &e), ERR_NOT_FOUND, &e);
    assert_false(file_exists(tempdir_path(*state, "none")));

    fill(*state, "key", "value");
    assert_ok(db_open(&d, *state, &look, &e), &e);
    t = begin_ok(d, false);
    assert_ok(db_get(t, PLAIN, BYTES_LIT("key"), &got, &e), &e);
    db_abort(&t);
    assert_status(db_begin(&t, d, true, &e), ERR_INVALID, &e);
    assert_null(t);
    db_close(&d);
}

/* The writer is killed between put and commit, holding LMDB's lock: the lock is robust, and
 * nothing of its transaction is seen. */
static void a_writer_killed_in_a_transaction_leaves_the_state_before(void **state)
{
    struct db_txn *t;
    struct bytes got;
    struct db *d;
    struct err e;
    int status;
    pid_t pid;

    fill(*state, "key", "before");
    pid = fork();
    if (pid == 0) {
        if (db_open(&d, *state, &options, NULL) || db_begin(&t, d, true, NULL) ||
            db_put(t, PLAIN, BYTES_LIT("key"), BYTES_LIT("after"), NULL))
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    d = open_ok(*state);
    t = begin_ok(d, true);
    assert_ok(db_get(t, PLAIN, BYTES_LIT("key"), &got, &e), &e);
    assert_true(bytes_equal(got, BYTES_LIT("before")));
    put_ok(t, PLAIN, BYTES_LIT("key"), BYTES_LIT("later"));
    commit_ok(t);
    db_close(&d);
}

static void close_and_abort_of_nothing_are_fine(void **state)
{
    struct db *d = NULL;
    struct db_txn *t = NULL;

    (void)state;
    db_close(&d);
    db_abort(&t);
    assert_null(d);
    assert_null(t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_committed_is_there_after_reopening),
        TEST(what_was_aborted_is_not),
        TEST(not_found_leaves_the_error_untouched),
        TEST(put_replaces_and_del_removes),
        TEST(readers_see_the_state_of_their_beginning),
        TEST(each_visits_in_number_order_from_a_key_on),
        TEST(each_stops_when_told),
        TEST(keys_of_no_or_too_many_bytes_are_refused),
        TEST(a_full_map_keeps_nothing_of_the_transaction_and_stays_usable),
        TEST(a_full_disk_keeps_nothing_of_the_transaction_and_stays_usable),
        TEST(another_kind_or_version_is_refused),
        TEST(a_file_that_is_no_database_is_corrupt),
        TEST(what_is_no_file_or_empty_is_said_and_not_waited_for),
        TEST(read_only_needs_a_database_and_refuses_writes),
        TEST(a_writer_killed_in_a_transaction_leaves_the_state_before),
        TEST(close_and_abort_of_nothing_are_fine),
    };
    return cmocka_run_group_tests_name("base/db", tests, NULL, NULL);
}
