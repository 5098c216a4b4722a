/*
 * content_store: what is here stays, what is spoilt is found, what is dropped is gone
 */
#include "shardcast/content_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/tempdir.h"
#include "support/test.h"

#define SHARD 1008u
#define N     5u /* shards, the last of 100 bytes */
#define TOTAL ((N - 1) * SHARD + 100)
#define MIB   1048576u

static const struct content FULL3 = {3, CONTENT_FULL, -1};
static const struct content DELTA4 = {4, CONTENT_DELTA, 3};

struct fixture {
    char *dir;
    struct content_store *store;
    uint8_t file[TOTAL];
    unsigned n_checked;
    uint8_t *large; /* a shard of MIB zeros, while one is needed */
};

static struct bytes shard(const struct fixture *f, uint32_t i)
{
    size_t from = (size_t)i * SHARD;

    return (struct bytes){f->file + from, TOTAL - from < SHARD ? TOTAL - from : SHARD};
}

static bool is_right(void *arg, const struct content *c, uint32_t index, struct bytes data)
{
    struct fixture *f = arg;

    (void)c;
    f->n_checked++;
    return index < N && bytes_equal(data, shard(f, index));
}

static void open_store(struct fixture *f, uint64_t max_bytes, bool read_only)
{
    const struct content_store_options o = {max_bytes, read_only, is_right, f};
    struct err e;

    f->n_checked = 0;
    assert_ok(content_store_open(&f->store, f->dir, &o, &e), &e);
}

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.dir = tempdir_make();
    for (size_t i = 0; i < TOTAL; i++)
        f.file[i] = (uint8_t)(i * 31 + i / 256);
    open_store(&f, 0, false);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    content_store_close(&f->store);
    tempdir_remove(&f->dir);
    return 0;
}

static void reopen(struct fixture *f)
{
    content_store_close(&f->store);
    open_store(f, 0, false);
}

static void begin(struct fixture *f, const struct content *c)
{
    struct err e;

    assert_ok(content_store_begin(f->store, c, SHARD, &e), &e);
    assert_ok(content_store_size(f->store, c, TOTAL, &e), &e);
}

static void put(struct fixture *f, const struct content *c, uint32_t i)
{
    struct err e;

    assert_ok(content_store_put(f->store, c, i, shard(f, i), NULL, &e), &e);
}

static const char *file_of(const struct fixture *f, const char *name)
{
    return tempdir_path(tempdir_path(f->dir, "contents"), name);
}

/* Overwrites what the file has at `at`. */
static void spoil(const struct fixture *f, const char *name, off_t at)
{
    int fd = open(file_of(f, name), O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "spoilt", 6, at), 6);
    close(fd);
}

static void a_shard_is_lent_as_it_was_put_also_after_reopening(void **state)
{
    struct fixture *f = *state;
    struct buf out;
    struct err e;

    begin(f, &FULL3);
    put(f, &FULL3, 4);
    put(f, &FULL3, 1);
    put(f, &FULL3, 1);
    reopen(f);

    buf_init(&out, TOTAL);
    assert_ok(content_store_get(f->store, &FULL3, 1, &out, &e), &e);
    assert_true(bytes_equal(buf_bytes(&out), shard(f, 1)));
    buf_reset(&out);
    assert_ok(content_store_get(f->store, &FULL3, 4, &out, &e), &e);
    assert_true(bytes_equal(buf_bytes(&out), shard(f, 4)));
    assert_status(content_store_get(f->store, &FULL3, 0, &out, &e), ERR_NOT_FOUND, NULL);
    assert_int_equal(content_store_bytes(f->store), SHARD + 100);
    buf_clear(&out);
}

static void put_refuses_what_does_not_fit(void **state)
{
    struct fixture *f = *state;
    struct bytes all = BYTES_OF(f->file);
    struct err e;

    assert_status(content_store_put(f->store, &FULL3, 0, shard(f, 0), NULL, &e), ERR_INVALID,
                  &e);
    begin(f, &FULL3);
    assert_status(content_store_put(f->store, &FULL3, N, shard(f, 0), NULL, &e), ERR_INVALID,
                  &e);
    assert_status(content_store_put(f->store, &FULL3, 0, shard(f, 4), NULL, &e), ERR_INVALID,
                  &e);
    assert_status(content_store_put(f->store, &FULL3, 4, shard(f, 0), NULL, &e), ERR_INVALID,
                  &e);
    assert_status(
        content_store_put(f->store, &FULL3, 0, bytes_slice(all, 0, SHARD + 1), NULL, &e),
        ERR_INVALID, &e);
    assert_status(content_store_begin(f->store, &FULL3, SHARD + 1, &e), ERR_INVALID, &e);
}

static void a_complete_content_is_the_file_itself(void **state)
{
    struct fixture *f = *state;
    struct file_map map;
    bool is_last = true;
    struct err e;

    begin(f, &FULL3);
    assert_status(content_store_map(f->store, &FULL3, &map, &e), ERR_NOT_FOUND, &e);
    for (uint32_t i = N; i-- > 0;)
        assert_ok(content_store_put(f->store, &FULL3, i, shard(f, i), &is_last, &e), &e);

    assert_true(is_last);
    assert_int_equal(access(file_of(f, "3-1--1"), R_OK), 0);
    assert_ok(content_store_map(f->store, &FULL3, &map, &e), &e);
    assert_ok(content_store_drop(f->store, &FULL3, &e), &e);
    assert_true(bytes_equal(map.bytes, BYTES_OF(f->file)));
    assert_int_equal(f->n_checked, 0);
    file_map_close(&map);
}

static void the_size_may_come_last(void **state)
{
    struct fixture *f = *state;
    struct content_info info;
    struct err e;

    assert_ok(content_store_begin(f->store, &DELTA4, SHARD, &e), &e);
    for (uint32_t i = 0; i < N; i++)
        put(f, &DELTA4, i);
    assert_ok(content_store_info(f->store, &DELTA4, &info, &e), &e);
    assert_false(info.is_complete);
    assert_status(content_store_size(f->store, &DELTA4, SHARD, &e), ERR_INVALID, &e);

    assert_ok(content_store_size(f->store, &DELTA4, TOTAL, &e), &e);

    assert_ok(content_store_info(f->store, &DELTA4, &info, &e), &e);
    assert_true(info.is_complete);
    assert_int_equal(info.n_shards, N);
}

/* A process that is killed leaves its pages to the kernel, and no bitmap. */
static void what_a_killed_process_wrote_is_found_again(void **state)
{
    struct fixture *f = *state;
    struct buf gained;
    struct err e;
    int status;

    content_store_close(&f->store);
    pid_t pid = fork();
    if (pid == 0) {
        const struct content_store_options o = {.check = is_right, .arg = f};
        if (content_store_open(&f->store, f->dir, &o, NULL) ||
            content_store_begin(f->store, &FULL3, SHARD, NULL) ||
            content_store_size(f->store, &FULL3, TOTAL, NULL))
            _exit(1);
        for (uint32_t i = 1; i < 4; i++)
            if (content_store_put(f->store, &FULL3, i, shard(f, i), NULL, NULL))
                _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    spoil(f, "3-1--1.part", 2 * SHARD + 500); /* one that was torn */

    open_store(f, 0, false);
    assert_false(content_store_has(f->store, &FULL3, 1));
    buf_init(&gained, 64);
    assert_ok(content_store_scan(f->store, &FULL3, &gained, &e), &e);

    assert_int_equal(gained.len, 8);
    assert_true(content_store_has(f->store, &FULL3, 1));
    assert_false(content_store_has(f->store, &FULL3, 2));
    assert_true(content_store_has(f->store, &FULL3, 3));
    buf_clear(&gained);
    reopen(f);
    assert_true(content_store_has(f->store, &FULL3, 3));
    assert_int_equal(f->n_checked,
                     0); /* it was synced, so it need not be hashed to be claimed */
}

static void what_the_disk_spoilt_is_found_when_it_is_lent(void **state)
{
    struct fixture *f = *state;
    struct content_info info;
    struct file_map map;
    struct buf out;
    struct err e;

    begin(f, &FULL3);
    for (uint32_t i = 0; i < N; i++)
        put(f, &FULL3, i);
    reopen(f);
    spoil(f, "3-1--1", 10);

    buf_init(&out, TOTAL);
    assert_ok(content_store_get(f->store, &FULL3, 1, &out, &e), &e);
    assert_ok(content_store_get(f->store, &FULL3, 1, &out, &e), &e);
    assert_int_equal(f->n_checked, 1);
    assert_status(content_store_map(f->store, &FULL3, &map, &e), ERR_DIGEST, &e);
    assert_status(content_store_get(f->store, &FULL3, 0, &out, &e), ERR_NOT_FOUND, &e);
    reopen(f);
    assert_ok(content_store_info(f->store, &FULL3, &info, &e), &e);
    assert_int_equal(info.n_have, N - 1);
    spoil(f, "3-1--1", SHARD);
    buf_reset(&out);
    assert_status(content_store_get(f->store, &FULL3, 1, &out, &e), ERR_DIGEST, &e);
    assert_int_equal(out.len, 0);
    put(f, &FULL3, 0);
    put(f, &FULL3, 1);
    assert_ok(content_store_map(f->store, &FULL3, &map, &e), &e);
    assert_true(bytes_equal(map.bytes, BYTES_OF(f->file)));
    file_map_close(&map);
    buf_clear(&out);
}

static void a_full_store_says_so_and_dropping_makes_room(void **state)
{
    struct fixture *f = *state;
    struct err e;

    content_store_close(&f->store);
    open_store(f, 2 * SHARD, false);
    assert_ok(content_store_begin(f->store, &FULL3, SHARD, &e), &e);
    assert_status(content_store_size(f->store, &FULL3, TOTAL, &e), ERR_FULL, &e);
    assert_ok(content_store_begin(f->store, &DELTA4, SHARD, &e), &e);
    put(f, &FULL3, 0);
    put(f, &FULL3, 1);
    assert_status(content_store_put(f->store, &DELTA4, 0, shard(f, 0), NULL, &e), ERR_FULL, &e);
    assert_false(content_store_has(f->store, &DELTA4, 0));

    assert_ok(content_store_drop(f->store, &FULL3, &e), &e);

    put(f, &DELTA4, 0);
    assert_int_equal(content_store_bytes(f->store), SHARD);
}

/* A disk so full that not even a drop can be written down gives up the file first. */
static void what_has_no_file_any_more_is_not_claimed(void **state)
{
    struct fixture *f = *state;

    begin(f, &FULL3);
    put(f, &FULL3, 0);
    put(f, &FULL3, 4);
    content_store_close(&f->store);
    assert_int_equal(unlink(file_of(f, "3-1--1.part")), 0);
    open_store(f, 0, false);

    assert_false(content_store_has(f->store, &FULL3, 0));
    assert_false(content_store_has(f->store, &FULL3, 4));
    assert_int_equal(content_store_bytes(f->store), 0);
}

/* The last shard came before the length was known, which may never be. */
static void a_short_shard_is_counted_as_it_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct err e;

    assert_ok(content_store_begin(f->store, &FULL3, SHARD, &e), &e);
    put(f, &FULL3, N - 1);
    assert_ok(content_store_drop(f->store, &FULL3, &e), &e);
    assert_int_equal(content_store_bytes(f->store), 0);

    assert_ok(content_store_begin(f->store, &FULL3, SHARD, &e), &e);
    put(f, &FULL3, N - 1);
    assert_ok(content_store_size(f->store, &FULL3, TOTAL, &e), &e);
    assert_int_equal(content_store_bytes(f->store), shard(f, N - 1).len);
}

static enum status add_up(void *arg, uint32_t number, struct bytes envelope, struct err *e)
{
    (void)e;
    *(uint64_t *)arg += 100 * (number + 1) + envelope.len;
    return OK;
}

static void dropping_takes_all_but_the_proof(void **state)
{
    struct fixture *f = *state;
    uint64_t sum = 0, n = 0;
    struct buf out;
    struct err e;

    begin(f, &FULL3);
    begin(f, &DELTA4);
    put(f, &FULL3, 0);
    assert_ok(content_store_publish(f->store, &FULL3, BYTES_LIT("manifest"), true, &e), &e);
    assert_ok(content_store_segment(f->store, &FULL3, 0, BYTES_LIT("abc"), &e), &e);
    assert_ok(content_store_segment(f->store, &FULL3, 2, BYTES_LIT("abcd"), &e), &e);
    assert_ok(content_store_segment(f->store, &DELTA4, 0, BYTES_LIT("x"), &e), &e);
    assert_ok(content_store_proof(f->store, &FULL3, BYTES_LIT("both"), &e), &e);
    assert_ok(content_store_segments(f->store, &FULL3, add_up, &sum, &e), &e);
    assert_int_equal(sum, 100 + 3 + 300 + 4);
    buf_init(&out, 100);
    assert_ok(content_store_envelope(f->store, &FULL3, &out, &e), &e);
    assert_string_equal(buf_cstr(&out), "manifest");

    assert_ok(content_store_drop(f->store, &FULL3, &e), &e);
    assert_ok(content_store_drop(f->store, &FULL3, &e), &e);

    assert_int_equal(access(file_of(f, "3-1--1.part"), F_OK), -1);
    assert_status(content_store_envelope(f->store, &FULL3, &out, &e), ERR_NOT_FOUND, &e);
    assert_status(content_store_segment_get(f->store, &FULL3, 2, &out, &e), ERR_NOT_FOUND, &e);
    assert_ok(content_store_segment_get(f->store, &DELTA4, 0, &out, &e), &e);
    assert_ok(content_store_n_proofs(f->store, &n, &e), &e);
    assert_int_equal(n, 1);
    begin(f, &FULL3); /* and again, of which nothing may be claimed */
    reopen(f);
    assert_false(content_store_has(f->store, &FULL3, 0));
    buf_clear(&out);
}

static void a_file_that_nothing_is_known_of_is_unlinked(void **state)
{
    struct fixture *f = *state;
    FILE *stray = fopen(file_of(f, "9-1--1.part"), "w");
    FILE *other = fopen(file_of(f, "notes.txt"), "w");

    assert_non_null(stray);
    assert_non_null(other);
    fclose(stray);
    fclose(other);
    begin(f, &FULL3);
    put(f, &FULL3, 0);
    reopen(f);

    assert_int_equal(access(file_of(f, "9-1--1.part"), F_OK), -1);
    assert_int_equal(access(file_of(f, "notes.txt"), F_OK), 0);
    assert_int_equal(access(file_of(f, "3-1--1.part"), F_OK), 0);
}

static void sum_pins(void *arg, int64_t version)
{
    *(int64_t *)arg += version;
}

static void pins_survive(void **state)
{
    struct fixture *f = *state;
    int64_t sum = 0;
    struct err e;

    assert_ok(content_store_pin(f->store, 5, true, &e), &e);
    assert_ok(content_store_pin(f->store, 7, true, &e), &e);
    assert_ok(content_store_pin(f->store, 7, false, &e), &e);
    assert_ok(content_store_pin(f->store, 8, false, &e), &e);
    reopen(f);

    assert_ok(content_store_pins(f->store, sum_pins, &sum, &e), &e);
    assert_int_equal(sum, 5);
}

static enum status count(void *arg, const struct content_info *info, struct err *e)
{
    (void)e;
    *(uint32_t *)arg += info->n_have + 10 * (uint32_t)info->is_own;
    return OK;
}

static void a_store_that_is_open_can_be_looked_at(void **state)
{
    struct fixture *f = *state;
    const struct content_store_options o = {.read_only = true};
    struct content_store *other;
    uint32_t sum = 0;
    struct buf out;
    struct err e;

    begin(f, &FULL3);
    put(f, &FULL3, 0);
    assert_ok(content_store_publish(f->store, &FULL3, BYTES_LIT("m"), true, &e), &e);
    reopen(f);
    buf_init(&out, TOTAL);
    /* LMDB knows an environment once a process (reference: mdb_env_open), so it is closed here. */
    content_store_close(&f->store);
    assert_ok(content_store_open(&other, f->dir, &o, &e), &e);
    assert_ok(content_store_each(other, count, &sum, &e), &e);
    assert_int_equal(sum, 11);
    assert_ok(content_store_get(other, &FULL3, 0, &out, &e), &e);
    assert_true(content_store_put(other, &FULL3, 1, shard(f, 1), NULL, &e) != OK);
    content_store_close(&other);
    buf_clear(&out);
}

static void a_damaged_meta_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct content_store_options o = {.check = is_right, .arg = f};
    struct err e;
    int fd;

    begin(f, &FULL3);
    content_store_close(&f->store);
    fd = open(tempdir_path(tempdir_path(f->dir, "meta"), "data.mdb"), O_WRONLY);
    assert_true(fd >= 0);
    for (off_t at = 0; at < 8 * 4096; at += 64)
        assert_int_equal(pwrite(fd, "rubbish rubbish!", 16, at), 16);
    close(fd);

    assert_status(content_store_open(&f->store, f->dir, &o, &e), ERR_CORRUPT, &e);
    assert_null(f->store);
}

/* Bytes that the disk has given to the file of full version v. */
static uint64_t blocks_of(const struct fixture *f, int64_t v)
{
    char name[40];
    struct stat sb;

    snprintf(name, sizeof(name), "%d-1--1.part", (int)v);
    assert_int_equal(stat(file_of(f, name), &sb), 0);
    return (uint64_t)sb.st_blocks * 512;
}

static void put_first(struct fixture *f, int64_t v, uint64_t total)
{
    const struct content c = {v, CONTENT_FULL, -1};
    struct err e;

    assert_ok(content_store_begin(f->store, &c, MIB, &e), &e);
    assert_ok(content_store_size(f->store, &c, total, &e), &e);
    assert_ok(content_store_put(f->store, &c, 0, (struct bytes){f->large, MIB}, NULL, &e), &e);
}

/* A length is what somebody says. All contents together take no more than the quota leaves, */
static void lengths_reserve_no_more_than_the_quota(void **state)
{
    struct fixture *f = *state;

    content_store_close(&f->store);
    open_store(f, 64 * MIB, false);
    f->large = test_calloc(1, MIB);
    put_first(f, 1, 48 * MIB);
    put_first(f, 2, 48 * MIB);
    put_first(f, 3, 48 * MIB);
    assert_true(blocks_of(f, 1) <= 49 * MIB);
    assert_true(blocks_of(f, 2) <= 17 * MIB);
    assert_true(blocks_of(f, 3) <= 3 * MIB);
    test_free(f->large);
}

/* and one that has hardly come no more than CONTENT_AHEAD_BYTES. */
static void a_length_reserves_no_more_than_is_likely(void **state)
{
    struct fixture *f = *state;

    f->large = test_calloc(1, MIB);
    put_first(f, 1, CONTENT_AHEAD_BYTES * 3 / 2);
    assert_true(blocks_of(f, 1) <= CONTENT_AHEAD_BYTES + MIB);
    test_free(f->large);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_shard_is_lent_as_it_was_put_also_after_reopening),
        TEST(put_refuses_what_does_not_fit),
        TEST(lengths_reserve_no_more_than_the_quota),
        TEST(a_length_reserves_no_more_than_is_likely),
        TEST(a_complete_content_is_the_file_itself),
        TEST(the_size_may_come_last),
        TEST(what_a_killed_process_wrote_is_found_again),
        TEST(what_the_disk_spoilt_is_found_when_it_is_lent),
        TEST(a_full_store_says_so_and_dropping_makes_room),
        TEST(what_has_no_file_any_more_is_not_claimed),
        TEST(a_short_shard_is_counted_as_it_is_dropped),
        TEST(dropping_takes_all_but_the_proof),
        TEST(a_file_that_nothing_is_known_of_is_unlinked),
        TEST(pins_survive),
        TEST(a_store_that_is_open_can_be_looked_at),
        TEST(a_damaged_meta_is_refused),
    };
    return cmocka_run_group_tests_name("shardcast/content_store", tests, NULL, NULL);
}
