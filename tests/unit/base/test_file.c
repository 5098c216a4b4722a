/* base/file */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/tempdir.h"
#include "support/test.h"

static void write_then_read_gives_the_same_bytes(void **state)
{
    const char *path = tempdir_path(*state, "data");
    char *big = malloc(200000);
    struct buf b;
    struct err e;

    memset(big, 'x', 200000);
    buf_init(&b, 1 << 20);

    assert_ok(file_write_atomic(path, (struct bytes){(uint8_t *)big, 200000}, 0644, &e), &e);
    assert_ok(file_read(&b, path, &e), &e);

    assert_int_equal(b.len, 200000);
    assert_memory_equal(b.data, big, 200000);
    buf_clear(&b);
    free(big);
}

static void write_replaces_and_leaves_no_temporary_file(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct buf b;
    struct stat sb;
    struct err e;

    buf_init(&b, 100);
    assert_ok(file_write_atomic(path, BYTES_LIT("a long old text"), 0644, &e), &e);
    assert_ok(file_write_atomic(path, BYTES_LIT("new"), 0600, &e), &e);

    assert_ok(file_read(&b, path, &e), &e);
    assert_string_equal(buf_cstr(&b), "new");
    assert_false(file_exists(tempdir_path(*state, "data.tmp")));
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    buf_clear(&b);
}

static void write_does_not_follow_what_lies_at_the_temporary_name(void **state)
{
    const char *path = tempdir_path(*state, "data"), *other = tempdir_path(*state, "other");
    struct buf b;
    struct stat sb;
    struct err e;

    buf_init(&b, 100);
    assert_ok(file_write_atomic(other, BYTES_LIT("mine"), 0644, &e), &e);
    assert_int_equal(symlink(other, tempdir_path(*state, "data.tmp")), 0);

    assert_ok(file_write_atomic(path, BYTES_LIT("secret"), 0600, &e), &e);

    assert_ok(file_read(&b, other, &e), &e);
    assert_string_equal(buf_cstr(&b), "mine");
    assert_int_equal(lstat(path, &sb), 0);
    assert_true(S_ISREG(sb.st_mode));
    assert_int_equal(sb.st_mode & 0777, 0600);
    buf_clear(&b);
}

static void read_of_a_missing_file_is_not_found(void **state)
{
    struct buf b;
    struct err e;

    buf_init(&b, 100);
    assert_status(file_read(&b, tempdir_path(*state, "none"), &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "/none'");
    buf_clear(&b);
}

static void read_of_a_directory_is_an_error(void **state)
{
    struct buf b;
    struct err e;

    buf_init(&b, 100);
    assert_status(file_read(&b, *state, &e), ERR_IO, &e);
    buf_clear(&b);
}

/* Whoever waited for the pipe's writer would wait for ever: the alarm ends the test. */
static void read_waits_for_no_pipe_and_no_device(void **state)
{
    const char *path = tempdir_path(*state, "pipe");
    struct file_map map;
    struct buf b;
    struct err e;

    buf_init(&b, 100);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(20);

    assert_status(file_read(&b, path, &e), ERR_IO, &e);
    assert_contains(e.text, "/pipe' is no regular file but a pipe");
    assert_status(file_map_open(&map, path, &e), ERR_IO, &e);
    assert_contains(e.text, "/pipe' is no regular file but a pipe");
    assert_status(file_read(&b, "/dev/zero", &e), ERR_IO, &e);
    assert_contains(e.text, "no regular file but a device");
    assert_int_equal(b.len, 0);

    alarm(0);
    buf_clear(&b);
}

static void read_stops_at_the_ceiling(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct buf exact, small;
    struct err e;

    buf_init(&exact, 4);
    buf_init(&small, 3);
    assert_ok(file_write_atomic(path, BYTES_LIT("1234"), 0644, &e), &e);

    assert_ok(file_read(&exact, path, &e), &e);
    assert_status(file_read(&small, path, &e), ERR_LIMIT, &e);
    assert_contains(e.text, "/data'");
    buf_clear(&exact);
    buf_clear(&small);
}

/* A limit on the file size stands in for a full disk: write(2) then says EFBIG. */
static void write_on_a_full_disk_keeps_the_old_file(void **state)
{
    const char *path = tempdir_path(*state, "data");
    static uint8_t big[100000];
    struct rlimit old, tiny;
    struct buf b;
    struct err e;
    enum status st;

    buf_init(&b, 100);
    assert_ok(file_write_atomic(path, BYTES_LIT("old"), 0644, &e), &e);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = (struct rlimit){50000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);

    st = file_write_atomic(path, BYTES_OF(big), 0644, &e);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_status(st, ERR_FULL, &e);
    assert_false(file_exists(tempdir_path(*state, "data.tmp")));
    assert_ok(file_read(&b, path, &e), &e);
    assert_string_equal(buf_cstr(&b), "old");
    buf_clear(&b);
}

static void write_into_a_missing_directory_fails(void **state)
{
    struct err e;

    assert_status(file_write_atomic(tempdir_path(*state, "no/data"), BYTES_LIT("x"), 0644, &e),
                  ERR_NOT_FOUND, &e);
}

static void mkdirs_makes_every_level_and_accepts_what_is_there(void **state)
{
    const char *path = tempdir_path(*state, "a/b/c");
    struct err e;

    assert_ok(file_mkdirs(path, 0700, &e), &e);
    assert_ok(file_mkdirs(path, 0700, &e), &e);
    assert_ok(file_mkdirs(tempdir_path(*state, "a//d/"), 0700, &e), &e);

    assert_true(file_exists(path));
    assert_true(file_exists(tempdir_path(*state, "a/d")));
}

static void mkdirs_refuses_a_file_in_the_way(void **state)
{
    struct err e;

    assert_ok(file_write_atomic(tempdir_path(*state, "a"), BYTES_LIT("x"), 0644, &e), &e);

    assert_status(file_mkdirs(tempdir_path(*state, "a"), 0700, &e), ERR_IO, &e);
    assert_status(file_mkdirs(tempdir_path(*state, "a/b"), 0700, &e), ERR_IO, &e);
}

static void join_puts_one_slash(void **state)
{
    (void)state;
    char *a = file_join("dir", "name"), *b = file_join("dir/", "name");

    assert_string_equal(a, "dir/name");
    assert_string_equal(b, "dir/name");
    free(a);
    free(b);
}

static void map_shows_the_files_bytes(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct file_map m;
    struct err e;

    assert_ok(file_write_atomic(path, BYTES_LIT("content"), 0644, &e), &e);
    assert_ok(file_map_open(&m, path, &e), &e);

    assert_true(bytes_equal(m.bytes, BYTES_LIT("content")));
    file_map_close(&m);
    assert_int_equal(m.bytes.len, 0);
}

static void map_of_an_empty_file_is_empty(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct file_map m;
    struct err e;

    assert_ok(file_write_atomic(path, BYTES_LIT(""), 0644, &e), &e);
    assert_ok(file_map_open(&m, path, &e), &e);

    assert_int_equal(m.bytes.len, 0);
    file_map_close(&m);
}

static void map_refuses_what_is_missing_or_no_file(void **state)
{
    struct file_map m;
    struct err e;

    assert_status(file_map_open(&m, tempdir_path(*state, "none"), &e), ERR_NOT_FOUND, &e);
    assert_status(file_map_open(&m, *state, &e), ERR_IO, &e);
    assert_status(file_map_open(&m, "/dev/null", &e), ERR_IO, &e);
    file_map_close(&m);
    assert_int_equal(mkfifo(tempdir_path(*state, "pipe"), 0600), 0); /* nobody writes to it */
    assert_status(file_map_open(&m, tempdir_path(*state, "pipe"), &e), ERR_IO, &e);
}

/* In a process of its own: reads the second page of a mapped file that has one page by then. */
static void read_what_is_cut_off(const char *path, int to)
{
    struct file_map m;
    struct err e;

    file_map_guard();
    if (dup2(to, STDERR_FILENO) < 0 || file_map_open(&m, path, &e) || truncate(path, 4096))
        _exit(77);
    _exit(((const volatile uint8_t *)m.bytes.data)[4096] ? 78 : 79);
}

static void a_mapped_file_that_is_cut_short_ends_the_program_in_order(void **state)
{
    const char *path = tempdir_path(*state, "data");
    static const uint8_t pages[8192] = {0};
    char says[256] = "";
    int status = 0, ends[2];
    struct err e;
    pid_t child;

    assert_ok(file_write_atomic(path, BYTES_OF(pages), 0600, &e), &e);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        read_what_is_cut_off(path, ends[1]);
    close(ends[1]);
    assert_true(read(ends[0], says, sizeof(says) - 1) > 0);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);

    assert_contains(says, "muster: a file was cut short");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

/* A disk that is full is one reason for it, and stderr may lie there: status 2 is for a wrong command
 * line. */
static void it_ends_so_though_nobody_can_be_told(void **state)
{
    const char *path = tempdir_path(*state, "data");
    static const uint8_t pages[8192] = {0};
    int status = 0;
    struct err e;
    pid_t child;

    assert_ok(file_write_atomic(path, BYTES_OF(pages), 0600, &e), &e);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        read_what_is_cut_off(path, open("/dev/full", O_WRONLY));
    assert_int_equal(waitpid(child, &status, 0), child);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void a_lock_is_held_by_one_and_free_again_after_it(void **state)
{
    const char *path = tempdir_path(*state, "lock");
    struct err e = {0};
    int first, second;

    assert_int_equal(file_lock(&first, path, "a directory", &e), OK);
    assert_int_equal(file_lock(&second, path, "a directory", &e), ERR_EXISTS);
    assert_int_equal(second, -1);
    assert_non_null(strstr(e.text, "'a directory'"));
    file_unlock(&first);
    assert_int_equal(first, -1);
    assert_int_equal(file_lock(&second, path, "a directory", &e), OK);
    file_unlock(&second);
    file_unlock(&second);
}

/* Whoever works somewhere for the last time takes the file with it. */
static void a_lock_whose_file_its_holder_unlinked_is_made_anew(void **state)
{
    const char *path = tempdir_path(*state, "lock");
    struct err e = {0};
    int first, second, third;

    assert_ok(file_lock(&first, path, "a directory", &e), &e);
    assert_int_equal(unlink(path), 0);
    assert_ok(file_lock(&second, path, "a directory", &e), &e);
    file_unlock(&first);

    assert_status(file_lock(&third, path, "a directory", &e), ERR_EXISTS, &e);
    file_unlock(&second);
}

static void write_replaces_nothing_but_files(void **state)
{
    const char *path = tempdir_path(*state, "pipe");
    struct err e = {0};
    struct stat s;
    assert_int_equal(mkfifo(path, 0600), 0);

    enum status st = file_write_atomic(path, BYTES_LIT("x"), 0644, &e);

    assert_status(st, ERR_IO, &e);
    assert_contains(e.text, "no regular file");
    assert_int_equal(stat(path, &s), 0);
    assert_true(S_ISFIFO(s.st_mode));
}

static void write_replaces_no_link(void **state)
{
    const char *path = tempdir_path(*state, "link"), *to = tempdir_path(*state, "data");
    struct err e = {0};
    struct stat s;
    assert_ok(file_write_atomic(to, BYTES_LIT("old"), 0644, &e), &e);
    assert_int_equal(symlink(to, path), 0);

    enum status st = file_write_atomic(path, BYTES_LIT("x"), 0644, &e);

    assert_status(st, ERR_IO, &e);
    assert_contains(e.text, "a symbolic link");
    assert_int_equal(lstat(path, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
}

static void a_file_written_in_pieces_is_there_when_committed(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct file_out f;
    struct buf b;
    struct err e;

    buf_init(&b, 100);
    assert_ok(file_write_atomic(path, BYTES_LIT("old"), 0644, &e), &e);
    assert_ok(file_out_open(&f, path, 0600, &e), &e);
    assert_ok(file_out_put(&f, BYTES_LIT("one"), &e), &e);
    assert_ok(file_out_put(&f, BYTES_LIT(" two"), &e), &e);
    assert_ok(file_read(&b, path, &e), &e);
    assert_string_equal(buf_cstr(&b), "old");

    buf_reset(&b);
    assert_ok(file_out_commit(&f, &e), &e);
    file_out_close(&f);
    assert_ok(file_read(&b, path, &e), &e);
    assert_string_equal(buf_cstr(&b), "one two");
    assert_false(file_exists(tempdir_path(*state, "data.tmp")));
    buf_clear(&b);
}

static void a_file_that_is_not_committed_leaves_the_old_one(void **state)
{
    const char *path = tempdir_path(*state, "data");
    struct file_out f;
    struct buf b;
    struct err e;

    buf_init(&b, 100);
    assert_ok(file_write_atomic(path, BYTES_LIT("old"), 0644, &e), &e);
    assert_ok(file_out_open(&f, path, 0600, &e), &e);
    assert_ok(file_out_put(&f, BYTES_LIT("new"), &e), &e);
    file_out_close(&f);

    assert_ok(file_read(&b, path, &e), &e);
    assert_string_equal(buf_cstr(&b), "old");
    assert_false(file_exists(tempdir_path(*state, "data.tmp")));
    buf_clear(&b);
    assert_status(file_out_open(&f, tempdir_path(*state, "no/data"), 0600, &e), ERR_NOT_FOUND,
                  &e);
    file_out_close(&f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(write_then_read_gives_the_same_bytes),
        TEST(a_lock_is_held_by_one_and_free_again_after_it),
        TEST(a_lock_whose_file_its_holder_unlinked_is_made_anew),
        TEST(write_replaces_and_leaves_no_temporary_file),
        TEST(write_replaces_nothing_but_files),
        TEST(write_replaces_no_link),
        TEST(write_does_not_follow_what_lies_at_the_temporary_name),
        TEST(read_of_a_missing_file_is_not_found),
        TEST(read_of_a_directory_is_an_error),
        TEST(read_waits_for_no_pipe_and_no_device),
        TEST(read_stops_at_the_ceiling),
        TEST(write_on_a_full_disk_keeps_the_old_file),
        TEST(write_into_a_missing_directory_fails),
        TEST(mkdirs_makes_every_level_and_accepts_what_is_there),
        TEST(mkdirs_refuses_a_file_in_the_way),
        TEST(join_puts_one_slash),
        TEST(map_shows_the_files_bytes),
        TEST(map_of_an_empty_file_is_empty),
        TEST(map_refuses_what_is_missing_or_no_file),
        TEST(a_mapped_file_that_is_cut_short_ends_the_program_in_order),
        TEST(it_ends_so_though_nobody_can_be_told),
        TEST(a_file_written_in_pieces_is_there_when_committed),
        TEST(a_file_that_is_not_committed_leaves_the_old_one),
    };
    return cmocka_run_group_tests_name("base/file", tests, NULL, NULL);
}
