/* base/db_pages: a file that was cut short or altered is refused or read, and crashes nobody */
#include "base/db_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/db.h"
#include "base/file.h"
#include "support/random.h"
#include "support/tempdir.h"
#include "support/test.h"

#define PAGE_BYTES 4096u
#define FILE_BYTES ((size_t)4 << 20)

static const char *const tables[] = {"small", "long", "empty", NULL};

/* No waiting for a disk: nothing here outlives the test. */
static const struct db_options options = {.magic = "muster/test",
                                          .version = 1,
                                          .tables = tables,
                                          .map_bytes = FILE_BYTES,
                                          .no_sync = true};

/* Trees of two levels, long values, and free pages. */
static void fill(const char *dir)
{
    static const uint8_t text[3 * PAGE_BYTES] = "text";
    struct db_txn *t;
    struct db *d;

    assert_ok(db_open(&d, dir, &options, NULL), NULL);
    for (uint64_t round = 0; round < 4; round++) {
        assert_ok(db_begin(&t, d, true, NULL), NULL);
        for (uint64_t i = 0; i < 200; i++) {
            struct db_key8 key = db_key_u64(200 * round + i),
                           old = db_key_u64(200 * round + i - 200);

            assert_ok(db_put(t, 0, BYTES_OF(key.b), (struct bytes){text, 60}, NULL), NULL);
            if (i < 5)
                assert_ok(db_put(t, 1, BYTES_OF(key.b), BYTES_OF(text), NULL), NULL);
            if (round && i % 2)
                assert_ok(db_del(t, 0, BYTES_OF(old.b), NULL), NULL);
        }
        assert_ok(db_commit(&t, NULL), NULL);
    }
    db_close(&d);
}

static enum status count_bytes(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    uint64_t *sum = arg;

    (void)e;
    for (size_t i = 0; i < key.len; i++)
        *sum += ((const uint8_t *)key.data)[i];
    for (size_t i = 0; i < value.len; i++)
        *sum += ((const uint8_t *)value.data)[i];
    return OK;
}

/* Opens and reads all that is there. */
static enum status read_all(const char *dir, struct err *e)
{
    struct db_options reading = options;
    struct db_txn *t = NULL;
    struct db *d;
    uint64_t sum = 0, n;
    enum status st;

    reading.read_only = true;
    st = db_open(&d, dir, &reading, e);
    if (st)
        return st;
    st = db_begin(&t, d, false, e);
    for (unsigned i = 0; !st && tables[i]; i++) {
        st = db_count(t, i, &n, e);
        if (!st)
            st = db_each(t, i, (struct bytes){NULL, 0}, count_bytes, &sum, e);
    }
    db_abort(&t);
    db_close(&d);
    return st;
}

struct fixture {
    char *from, *to; /* owned */
    struct buf file; /* the sound one */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->from = tempdir_make();
    f->to = tempdir_make();
    fill(f->from);
    buf_init(&f->file, FILE_BYTES);
    assert_ok(file_read(&f->file, tempdir_path(f->from, "data.mdb"), NULL), NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tempdir_remove(&f->from);
    tempdir_remove(&f->to);
    buf_clear(&f->file);
    free(f);
    return 0;
}

static enum status read_instead(const struct fixture *f, struct bytes file, struct err *e)
{
    FILE *out = fopen(tempdir_path(f->to, "data.mdb"), "wb");

    assert_non_null(out);
    assert_int_equal(fwrite(file.data, 1, file.len, out), file.len);
    assert_int_equal(fclose(out), 0);
    return read_all(f->to, e);
}

static void a_sound_file_is_read(void **state)
{
    struct fixture *f = *state;
    struct err e;

    assert_true(f->file.len > (size_t)20 * PAGE_BYTES);
    assert_ok(read_instead(f, buf_bytes(&f->file), &e), &e);
}

static void a_file_cut_short_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct err e;
    size_t n_refused = 0;

    for (size_t n = 3 * PAGE_BYTES - 7; n < f->file.len; n += PAGE_BYTES) {
        enum status st = read_instead(f, bytes_slice(buf_bytes(&f->file), 0, n), &e);

        if (st) { /* what the last pages hold may be free */
            assert_status(st, ERR_CORRUPT, &e);
            assert_contains(e.text, "is cut short or damaged: page");
            n_refused++;
        }
    }
    assert_true(n_refused * 2 > f->file.len / PAGE_BYTES);
}

/* A bit in the head of a page, in its list of entries, or in the nodes. */
static void no_altered_bit_crashes_a_reader(void **state)
{
    enum { TRIES = 3000 };
    struct fixture *f = *state;
    struct rng r = random_seeded(1);
    size_t n_refused = 0;

    for (int i = 0; i < TRIES; i++) {
        size_t page = 2 + rng_below(&r, f->file.len / PAGE_BYTES - 2);
        size_t at = page * PAGE_BYTES + rng_below(&r, i % 2 ? 80 : PAGE_BYTES);
        uint8_t was = f->file.data[at];

        f->file.data[at] ^= (uint8_t)(1u << rng_below(&r, 8));
        n_refused += read_instead(f, buf_bytes(&f->file), NULL) != OK;
        f->file.data[at] = was;
    }
    print_message("%zu of %d refused\n", n_refused, TRIES);
    assert_true(n_refused > TRIES / 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sound_file_is_read),
        TEST(a_file_cut_short_is_corrupt),
        TEST(no_altered_bit_crashes_a_reader),
    };
    return cmocka_run_group_tests_name("base/db_pages", tests, NULL, NULL);
}
