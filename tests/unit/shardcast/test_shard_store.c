/*
 * shard_store: what is filed is right, stays, and is the trainer's
 */
#include "shardcast/shard_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/digest.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "versions.h"

struct fixture {
    char *dir;
    struct shard_store *store;
    struct node_key *trainer;
    struct digest run;
    struct version_made v;
};

static int setup(void **state)
{
    static struct fixture f;
    struct err e;

    memset(&f, 0, sizeof(f));
    f.dir = tempdir_make();
    f.trainer = versions_key(1);
    memset(f.run.b, 7, sizeof(f.run.b));
    version_make(&f.v, f.trainer, &f.run, 3, 2 * SHARD_BYTES + 100, 0);
    assert_ok(shard_store_open(&f.store, f.dir, NULL, &e), &e);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    shard_store_close(&f->store);
    version_clear(&f->v);
    key_free(&f->trainer);
    tempdir_remove(&f->dir);
    return 0;
}

static void reopen(struct fixture *f)
{
    struct err e;

    shard_store_close(&f->store);
    assert_ok(shard_store_open(&f->store, f->dir, NULL, &e), &e);
}

static void put_refuses_bytes_that_do_not_match(void **state)
{
    struct fixture *f = *state;
    struct digest d = version_digest(&f->v, 0);
    struct err e;

    assert_status(shard_store_put(f->store, &d, BYTES_LIT("other bytes"), &e), ERR_DIGEST, &e);

    assert_false(shard_store_has(f->store, &d));
}

static void put_refuses_empty_and_oversized_shards(void **state)
{
    struct fixture *f = *state;
    struct bytes big = bytes_slice(buf_bytes(&f->v.file), 0, SHARD_BYTES + 1);
    struct bytes none = {0};
    struct digest d;
    struct err e;

    digest_of(&d, big);
    assert_status(shard_store_put(f->store, &d, big, &e), ERR_INVALID, &e);
    digest_of(&d, none);
    assert_status(shard_store_put(f->store, &d, none, &e), ERR_INVALID, &e);
}

static void a_shard_is_lent_as_it_was_put_also_after_reopening(void **state)
{
    struct fixture *f = *state;
    struct digest d = version_digest(&f->v, 1);
    struct shard_view view;
    struct err e;

    assert_ok(shard_store_put(f->store, &d, version_shard(&f->v, 1), &e), &e);
    assert_ok(shard_store_put(f->store, &d, version_shard(&f->v, 1), &e), &e);
    reopen(f);

    assert_ok(shard_view_open(&view, f->store, &d, &e), &e);
    assert_true(bytes_equal(view.data, version_shard(&f->v, 1)));
    assert_ok(shard_view_check(&view, &d, &e), &e);
    shard_view_close(&view);
}

static void dropped_shards_are_gone_and_missing_ones_do_not_matter(void **state)
{
    struct fixture *f = *state;
    struct digest d[2] = {version_digest(&f->v, 0), version_digest(&f->v, 1)};
    struct err e;
    assert_ok(shard_store_put(f->store, &d[1], version_shard(&f->v, 1), &e), &e);

    assert_ok(shard_store_drop(f->store, d, 2, &e), &e);

    assert_false(shard_store_has(f->store, &d[1]));
}

static void a_version_is_read_back_whole(void **state)
{
    struct fixture *f = *state;
    struct buf file, digests;
    struct err e;
    buf_init(&file, f->v.file.len);
    buf_init(&digests, 1024);

    assert_ok(shard_store_put_file(f->store, buf_bytes(&f->v.file), &digests, &e), &e);
    assert_ok(shard_store_publish(f->store, 3, buf_bytes(&f->v.envelope), &e), &e);
    reopen(f);
    assert_ok(shard_store_read(f->store, 3, &file, &e), &e);

    assert_true(bytes_equal(buf_bytes(&digests), buf_bytes(&f->v.digests)));
    assert_true(bytes_equal(buf_bytes(&file), buf_bytes(&f->v.file)));
    buf_clear(&file);
    buf_clear(&digests);
}

static void reading_says_what_is_missing(void **state)
{
    struct fixture *f = *state;
    struct digest d = version_digest(&f->v, 2);
    struct buf file;
    struct err e;
    buf_init(&file, f->v.file.len);

    assert_status(shard_store_read(f->store, 3, &file, &e), ERR_NOT_FOUND, NULL);
    assert_contains(e.text, "version 3: the manifest");
    assert_ok(shard_store_put_file(f->store, buf_bytes(&f->v.file), NULL, &e), &e);
    assert_ok(shard_store_keep(f->store, 3, buf_bytes(&f->v.envelope), &e), &e);
    assert_ok(shard_store_drop(f->store, &d, 1, &e), &e);
    assert_status(shard_store_read(f->store, 3, &file, &e), ERR_NOT_FOUND, NULL);
    assert_contains(e.text, "shard");
    buf_clear(&file);
}

static void flip_in_file(const char *path, struct bytes pattern)
{
    static uint8_t page[4096];
    int fd = open(path, O_RDWR);
    off_t at = 0;

    assert_true(fd >= 0);
    while (pread(fd, page, sizeof(page), at) == (ssize_t)sizeof(page)) {
        uint8_t *hit = memmem(page, sizeof(page), pattern.data, pattern.len);
        if (hit) {
            *hit ^= 1;
            assert_int_equal(pwrite(fd, page, sizeof(page), at), sizeof(page));
        }
        at += (off_t)sizeof(page);
    }
    close(fd);
}

static void a_shard_that_the_disk_spoilt_is_found_out(void **state)
{
    struct fixture *f = *state;
    static uint8_t marked[5000];
    struct shard_view view;
    struct digest d;
    struct err e;
    for (size_t i = 0; i < sizeof(marked); i++)
        marked[i] = (uint8_t)(i * 7 + 3 * (i >> 8));
    digest_of(&d, BYTES_OF(marked));
    assert_ok(shard_store_put(f->store, &d, BYTES_OF(marked), &e), &e);
    shard_store_close(&f->store);

    flip_in_file(tempdir_path(f->dir, "shards/data.mdb"), (struct bytes){marked + 100, 64});

    assert_ok(shard_store_open(&f->store, f->dir, NULL, &e), &e);
    assert_ok(shard_view_open(&view, f->store, &d, &e), &e);
    assert_status(shard_view_check(&view, &d, &e), ERR_DIGEST, &e);
    shard_view_close(&view);
}

static void a_ruined_shard_file_is_begun_anew_and_what_was_signed_stays(void **state)
{
    struct fixture *f = *state;
    struct buf envelope;
    struct err e;
    buf_init(&envelope, MSG_MAX_BYTES);
    assert_ok(shard_store_put_file(f->store, buf_bytes(&f->v.file), NULL, &e), &e);
    assert_ok(shard_store_publish(f->store, 3, buf_bytes(&f->v.envelope), &e), &e);
    shard_store_close(&f->store);
    FILE *file = fopen(tempdir_path(f->dir, "shards/data.mdb"), "r+");
    assert_non_null(file);
    static const char junk[8192] = {1};
    assert_int_equal(fwrite(junk, sizeof(junk), 1, file), 1);
    fclose(file);

    assert_ok(shard_store_open(&f->store, f->dir, NULL, &e), &e);

    struct digest d = version_digest(&f->v, 0);
    assert_false(shard_store_has(f->store, &d));
    assert_ok(shard_store_manifest(f->store, 3, &envelope, &e), &e);
    assert_true(bytes_equal(buf_bytes(&envelope), buf_bytes(&f->v.envelope)));
    buf_clear(&envelope);
}

static enum status count(void *arg, int64_t version, struct bytes envelope, struct err *e)
{
    int64_t *sum = arg;

    (void)envelope;
    (void)e;
    *sum += version;
    return OK;
}

static void add_pin(void *arg, int64_t version)
{
    int64_t *sum = arg;

    *sum += version;
}

static void every_manifest_is_visited_once_and_forgotten_ones_are_not(void **state)
{
    struct fixture *f = *state;
    int64_t sum = 0;
    struct err e;

    assert_ok(shard_store_publish(f->store, 3, buf_bytes(&f->v.envelope), &e), &e);
    assert_ok(shard_store_keep(f->store, 10, BYTES_LIT("x"), &e), &e);
    assert_ok(shard_store_publish(f->store, 100, BYTES_LIT("x"), &e), &e);
    assert_ok(shard_store_forget(f->store, 100, &e), &e);
    assert_ok(shard_store_forget(f->store, 55, &e), &e);
    reopen(f);
    assert_ok(shard_store_each(f->store, count, &sum, &e), &e);

    assert_int_equal(sum, 13);
}

static void pins_survive_and_end(void **state)
{
    struct fixture *f = *state;
    int64_t sum = 0;
    struct err e;

    assert_ok(shard_store_pin(f->store, 5, true, &e), &e);
    assert_ok(shard_store_pin(f->store, 7, true, &e), &e);
    assert_ok(shard_store_pin(f->store, 7, false, &e), &e);
    reopen(f);
    assert_ok(shard_store_pins(f->store, add_pin, &sum, &e), &e);

    assert_int_equal(sum, 5);
}

static void a_full_store_says_so_and_goes_on_after_forgetting(void **state)
{
    struct fixture *f = *state;
    struct shard_store_options small = {.max_bytes = 2u << 20};
    struct digest d;
    struct err e;
    shard_store_close(&f->store);
    char *dir = tempdir_make();
    assert_ok(shard_store_open(&f->store, dir, &small, &e), &e);

    assert_status(shard_store_put_file(f->store, buf_bytes(&f->v.file), NULL, &e), ERR_FULL,
                  NULL);
    d = version_digest(&f->v, 0);
    assert_ok(shard_store_put(f->store, &d, version_shard(&f->v, 0), &e), &e);
    struct digest other = version_digest(&f->v, 1);
    assert_status(shard_store_put(f->store, &other, version_shard(&f->v, 1), &e), ERR_FULL,
                  NULL);
    assert_ok(shard_store_drop(f->store, &d, 1, &e), &e);
    assert_ok(shard_store_put(f->store, &other, version_shard(&f->v, 1), &e), &e);

    shard_store_close(&f->store);
    tempdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(put_refuses_bytes_that_do_not_match, setup, teardown),
        cmocka_unit_test_setup_teardown(put_refuses_empty_and_oversized_shards, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_shard_is_lent_as_it_was_put_also_after_reopening,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_shards_are_gone_and_missing_ones_do_not_matter,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_version_is_read_back_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_says_what_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shard_that_the_disk_spoilt_is_found_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_ruined_shard_file_is_begun_anew_and_what_was_signed_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(
            every_manifest_is_visited_once_and_forgotten_ones_are_not, setup, teardown),
        cmocka_unit_test_setup_teardown(pins_survive_and_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_store_says_so_and_goes_on_after_forgetting,
                                        setup, teardown),
    };
    return cmocka_run_group_tests_name("shardcast/shard_store", tests, NULL, NULL);
}
