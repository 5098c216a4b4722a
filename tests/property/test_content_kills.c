/*
 * content_store under SIGKILL: a child begins, writes, signs, adopts and drops versions and says what
 * it has done; wherever it is killed, all that it said is there when the store is opened again, what
 * is there is right, and what it dropped has left no file.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/content.h"
#include "shardcast/content_store.h"
#include "support/random.h"
#include "support/tempdir.h"
#include "support/test.h"

#define ROUNDS   25u
#define SHARD    1008u
#define N        6u
#define TOTAL    ((N - 1) * SHARD + 100)
#define VERSIONS 4096
#define KEPT     2

enum deed { PUT, ADOPTED, SIGNED, DROPPING, DROPPED };

struct word { /* what the child says */
    enum deed deed;
    int32_t version;
    uint32_t index;
};

struct model { /* what the parent heard */
    bool has[VERSIONS][N], is_signed[VERSIONS], is_going[VERSIONS], is_gone[VERSIONS];
    int32_t next; /* the first version that no child began */
};

static size_t make_shard(uint8_t out[SHARD], int64_t version, uint32_t index)
{
    size_t len = index == N - 1 ? TOTAL - (N - 1) * SHARD : SHARD;

    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)((uint64_t)version * 131 + index * 31 + i * 7);
    return len;
}

static bool is_right(void *arg, const struct content *c, uint32_t index, struct bytes data)
{
    uint8_t want[SHARD];

    (void)arg;
    return index < N &&
           bytes_equal(data, (struct bytes){want, make_shard(want, c->version, index)});
}

/* ---- the child --------------------------------------------------------------------------- */

static void say(int fd, enum deed deed, const struct content *c, uint32_t index)
{
    const struct word w = {deed, (int32_t)c->version, index};

    if (write(fd, &w, sizeof(w)) != (ssize_t)sizeof(w))
        _exit(3);
}

static void must(enum status st)
{
    if (st)
        _exit(2);
}

/* As a patch makes it, with two shards of it fetched before. */
static void adopt(struct content_store *s, const struct content *c, int fd)
{
    char *path = content_store_scratch(s, c);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    uint8_t shard[SHARD];

    for (uint32_t i = 0; i < N; i++) {
        size_t len = make_shard(shard, c->version, i);
        if (out < 0 || write(out, shard, len) != (ssize_t)len)
            _exit(4);
    }
    close(out);
    free(path);
    must(content_store_adopt(s, c, NULL));
    for (uint32_t i = 0; i < N; i++)
        say(fd, ADOPTED, c, i);
}

static void make_version(struct content_store *s, const struct content *c, int fd)
{
    bool is_patched = c->version % 3 == 2, is_size_last = c->version % 2 && !is_patched;
    uint8_t shard[SHARD];

    must(content_store_begin(s, c, SHARD, NULL));
    must(content_store_segment(s, c, 0, BYTES_LIT("leaves"), NULL));
    if (!is_size_last)
        must(content_store_size(s, c, TOTAL, NULL));
    for (uint32_t k = 0; k < (is_patched ? 2 : N); k++) {
        uint32_t i = (k * 5 + (uint32_t)c->version) % N;
        size_t len = make_shard(shard, c->version, i);
        must(content_store_put(s, c, i, (struct bytes){shard, len}, NULL, NULL));
        say(fd, PUT, c, i);
    }
    if (is_size_last)
        must(content_store_size(s, c, TOTAL, NULL));
    must(content_store_publish(s, c, BYTES_LIT("manifest"), false, NULL));
    say(fd, SIGNED, c, 0);
    if (is_patched)
        adopt(s, c, fd);
}

static void live(const char *dir, int32_t version, int fd)
{
    const struct content_store_options o = {.check = is_right};
    struct content_store *s;

    must(content_store_open(&s, dir, &o, NULL));
    for (; version < VERSIONS; version++) {
        struct content c = content_full(version), old = content_full(version - KEPT);
        make_version(s, &c, fd);
        if (old.version < 0)
            continue;
        say(fd, DROPPING, &old, 0);
        must(content_store_drop(s, &old, NULL));
        say(fd, DROPPED, &old, 0);
    }
    _exit(5);
}

/* ---- the parent -------------------------------------------------------------------------- */

static void hear(struct model *m, const struct word *w)
{
    assert_in_range(w->version, 0, VERSIONS - 1);
    if (w->version >= m->next)
        m->next = w->version + 1;
    switch (w->deed) {
    case PUT:
    case ADOPTED: m->has[w->version][w->index] = true; break;
    case SIGNED: m->is_signed[w->version] = true; break;
    case DROPPING: m->is_going[w->version] = true; break;
    case DROPPED: m->is_gone[w->version] = true; break;
    }
}

/* A child lives until it has said so many words; what it said before it died counts as well. */
static void one_life(struct model *m, const char *dir, uint32_t n_words)
{
    int pipes[2], status;
    struct word w;

    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        live(dir, m->next, pipes[1]);
    }
    close(pipes[1]);
    while (n_words-- > 0 && read(pipes[0], &w, sizeof(w)) == (ssize_t)sizeof(w))
        hear(m, &w);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(pipes[0], &w, sizeof(w)) == (ssize_t)sizeof(w))
        hear(m, &w);
    close(pipes[0]);
}

static enum status scan_one(void *arg, const struct content_info *info, struct err *e)
{
    return content_store_scan(arg, &info->content, NULL, e);
}

static void check_version(struct content_store *s, const struct model *m, int32_t version)
{
    const struct content c = content_full(version);
    struct content_info info;
    uint8_t want[SHARD];
    struct buf out;
    bool is_here = !content_store_info(s, &c, &info, NULL);

    buf_init(&out, 4096);
    assert_false(is_here && m->is_gone[version]);
    for (uint32_t i = 0; i < N; i++) {
        bool has = content_store_has(s, &c, i);
        if (m->has[version][i] && !m->is_going[version])
            assert_true(has); /* nothing that was stored is fetched again */
        buf_reset(&out);
        if (!has)
            continue;
        assert_ok(content_store_get(s, &c, i, &out, NULL), NULL);
        assert_true(
            bytes_equal(buf_bytes(&out), (struct bytes){want, make_shard(want, version, i)}));
    }
    if (m->is_signed[version] && !m->is_going[version])
        assert_ok(content_store_envelope(s, &c, &out, NULL), NULL);
    buf_clear(&out);
}

/* Each file is of a content that the store knows: nothing half-made or dropped lies about. */
static void check_files(struct content_store *s, const char *dir)
{
    DIR *d = opendir(tempdir_path(dir, "contents"));
    struct dirent *f;

    assert_non_null(d);
    while ((f = readdir(d))) {
        char name[64], part[80];
        int64_t version;
        struct content_info info;
        if (f->d_name[0] == '.')
            continue;
        assert_int_equal(sscanf(f->d_name, "%" SCNd64 "-", &version), 1);
        snprintf(name, sizeof(name), "%" PRId64 "-%d--1", version, CONTENT_FULL);
        snprintf(part, sizeof(part), "%s.part", name);
        assert_true(!strcmp(f->d_name, name) || !strcmp(f->d_name, part));
        const struct content c = content_full(version);
        assert_ok(content_store_info(s, &c, &info, NULL), NULL);
    }
    closedir(d);
}

static void
wherever_it_is_killed_nothing_it_said_is_lost_and_nothing_wrong_is_there(void **state)
{
    const char *dir = *state;
    static struct model m;
    struct rng r = random_seeded(11);
    const struct content_store_options o = {.check = is_right};
    struct content_store *s;

    memset(&m, 0, sizeof(m));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        one_life(&m, dir, 1 + rng_u32(&r) % 40);

        assert_ok(content_store_open(&s, dir, &o, NULL), NULL);
        assert_ok(content_store_each(s, scan_one, s, NULL), NULL);
        for (int32_t v = m.next > 64 ? m.next - 64 : 0; v <= m.next; v++)
            check_version(s, &m, v);
        check_files(s, dir);
        content_store_close(&s);
        m.next++; /* it may have begun one of which it said nothing */
    }
    print_message("%d versions\n", (int)m.next);
    assert_true(m.next > 2 * (int32_t)ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            wherever_it_is_killed_nothing_it_said_is_lost_and_nothing_wrong_is_there,
            tempdir_setup, tempdir_teardown),
    };
    return cmocka_run_group_tests_name("shardcast/content_kills", tests, NULL, NULL);
}
