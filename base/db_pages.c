#include "base/db_pages.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

/* The format of LMDB 0.9 on 64-bit machines; numbers have the machine's byte order. */
#define META_MAGIC     0xBEEFC0DEu
#define HEAD_BYTES     16u /* of a page: number u64, pad u16, flags u16, lower u16, upper u16 */
#define META_BYTES     136u /* of the meta data, after the head */
#define META_FREE_AT   24u
#define META_MAIN_AT   72u
#define META_TXN_AT    128u
#define TREE_BYTES     48u /* pad u32, flags u16, depth u16, 4 counts u64, root u64 */
#define NODE_BYTES     8u /* size or page in two u16, flags u16, key length u16, then the key */
#define PAGE_BYTES_MAX 65536u
#define DEPTH_MAX      32u
#define NO_ROOT        UINT64_MAX

enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4 };
enum { NODE_BIG = 1, NODE_TREE = 2 };
enum tree_kind { TREE_FREE, TREE_MAIN, TREE_TABLE };

struct walk {
    int fd;
    uint32_t page_bytes;
    uint64_t n_pages; /* of the file */
    uint8_t *seen;    /* owned: a bit for each page */
    const char *dir;
};

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static enum status damaged(const struct walk *w, uint64_t page, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "database '%s' is cut short or damaged: page %" PRIu64 " %s",
                   w->dir, page, what);
}

static bool read_at(const struct walk *w, uint64_t at, uint8_t *out, size_t n)
{
    return pread(w->fd, out, n, (off_t)at) == (ssize_t)n;
}

/* Takes `n` pages from `page` on, which nothing else may have taken. */
static enum status take(struct walk *w, uint64_t page, uint64_t n, struct err *e)
{
    if (page < 2 || page >= w->n_pages || n > w->n_pages - page)
        return damaged(w, page, "is beyond the end of the file", e);
    for (uint64_t i = page; i < page + n; i++) {
        if (w->seen[i / 8] >> i % 8 & 1)
            return damaged(w, i, "is used twice", e);
        w->seen[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return OK;
}

static enum status check_overflow(struct walk *w, uint64_t page, uint64_t value_bytes,
                                  struct err *e)
{
    uint64_t n = (HEAD_BYTES - 1 + value_bytes) / w->page_bytes + 1;
    uint8_t head[HEAD_BYTES];
    enum status st = take(w, page, n, e);

    if (st)
        return st;
    if (!read_at(w, page * w->page_bytes, head, sizeof(head)) || u64_at(head) != page ||
        u16_at(head + 10) != PAGE_OVERFLOW || u32_at(head + 12) < n)
        return damaged(w, page, "does not begin a long value", e);
    return OK;
}

static enum status walk_tree(struct walk *w, const uint8_t *tree, enum tree_kind kind,
                             struct err *e);

/* A list of free pages says first how many it has. */
static bool is_free_list(const struct walk *w, const uint8_t *value, uint32_t bytes,
                         bool is_big)
{
    uint8_t n[8];

    if (bytes < sizeof(n))
        return false;
    if (!is_big)
        memcpy(n, value, sizeof(n));
    else if (!read_at(w, u64_at(value) * w->page_bytes + HEAD_BYTES, n, sizeof(n)))
        return false;
    return u64_at(n) <= bytes / sizeof(n) - 1;
}

/* One key and its value, which begin `at` bytes into the page. */
static enum status check_leaf_node(struct walk *w, const uint8_t *page, uint32_t at,
                                   enum tree_kind kind, struct err *e)
{
    const uint8_t *node = page + at;
    uint32_t bytes = u16_at(node) | (uint32_t)u16_at(node + 2) << 16;
    uint16_t flags = u16_at(node + 4), key_bytes = u16_at(node + 6);
    bool is_big = flags == NODE_BIG, is_tree = flags == NODE_TREE;
    uint32_t here = is_big ? 8 : bytes, left = w->page_bytes - at - NODE_BYTES;
    const uint8_t *value = node + NODE_BYTES + key_bytes;
    enum status st = OK;

    if ((flags && !is_big && !is_tree) || is_tree != (kind == TREE_MAIN))
        return damaged(w, u64_at(page), "has a value of an unknown kind", e);
    if (key_bytes > left || here > left - key_bytes || (is_tree && bytes != TREE_BYTES))
        return damaged(w, u64_at(page), "has a value that does not fit", e);
    if (is_tree)
        return walk_tree(w, value, TREE_TABLE, e);
    if (is_big)
        st = check_overflow(w, u64_at(value), bytes, e);
    if (!st && kind == TREE_FREE && (key_bytes != 8 || !is_free_list(w, value, bytes, is_big)))
        st = damaged(w, u64_at(page), "has a bad list of free pages", e);
    return st;
}

static enum status check_head(const struct walk *w, const uint8_t *page, uint64_t number,
                              bool is_leaf, enum tree_kind kind, struct err *e)
{
    uint16_t lower = u16_at(page + 12), upper = u16_at(page + 14);
    uint32_t least = is_leaf || kind == TREE_FREE ? 1 : 2;

    if (u64_at(page) != number || u16_at(page + 10) != (is_leaf ? PAGE_LEAF : PAGE_BRANCH))
        return damaged(w, number, "is of another kind than its place", e);
    if (lower < HEAD_BYTES + 2 * least || lower % 2 || lower > upper || upper > w->page_bytes)
        return damaged(w, number, "has bad bounds", e);
    return OK;
}

/* `depth` counts down to 1, a leaf. */
static enum status walk_page(struct walk *w, uint64_t number, unsigned depth,
                             enum tree_kind kind, struct err *e)
{
    uint8_t *page = xmalloc(w->page_bytes);
    enum status st = take(w, number, 1, e);
    uint32_t end = 0;

    if (!st && !read_at(w, number * w->page_bytes, page, w->page_bytes))
        st = damaged(w, number, "cannot be read", e);
    if (!st)
        st = check_head(w, page, number, depth == 1, kind, e);
    if (!st)
        end = u16_at(page + 12);
    for (uint32_t i = HEAD_BYTES; !st && i < end; i += 2) {
        uint32_t at = u16_at(page + i);
        const uint8_t *node = page + at;

        if (at < end || at % 2 || at + NODE_BYTES > w->page_bytes)
            st = damaged(w, number, "has an entry outside of itself", e);
        else if (depth == 1)
            st = check_leaf_node(w, page, at, kind, e);
        else if (u16_at(node + 6) > w->page_bytes - at - NODE_BYTES)
            st = damaged(w, number, "has a key that does not fit", e);
        else
            st = walk_page(w,
                           u16_at(node) | (uint64_t)u16_at(node + 2) << 16 |
                               (uint64_t)u16_at(node + 4) << 32,
                           depth - 1, kind, e);
    }
    free(page);
    return st;
}

static enum status walk_tree(struct walk *w, const uint8_t *tree, enum tree_kind kind,
                             struct err *e)
{
    uint16_t flags = u16_at(tree + 4), depth = u16_at(tree + 6);
    uint64_t root = u64_at(tree + 40);

    if (kind != TREE_FREE && flags)
        return err_set(e, ERR_CORRUPT, "database '%s' has a table with flags %x", w->dir,
                       flags);
    if (root == NO_ROOT)
        return OK;
    if (depth < 1 || depth > DEPTH_MAX)
        return damaged(w, root, "is the root of too deep a tree", e);
    return walk_page(w, root, depth, kind, e);
}

/* The meta data of the snapshot: the first two pages take turns. */
static enum status read_meta(struct walk *w, uint8_t *meta, uint64_t txn, struct err *e)
{
    uint64_t page = txn & 1;

    w->page_bytes = 0;
    if (read_at(w, HEAD_BYTES, meta, META_BYTES))
        w->page_bytes = u32_at(meta + META_FREE_AT);
    if (w->page_bytes < 256 || w->page_bytes > PAGE_BYTES_MAX ||
        w->page_bytes & (w->page_bytes - 1))
        return damaged(w, 0, "has no page size", e);
    if (!read_at(w, page * w->page_bytes + HEAD_BYTES, meta, META_BYTES) ||
        u32_at(meta) != META_MAGIC)
        return damaged(w, page, "does not begin a database", e);
    if (u64_at(meta + META_TXN_AT) != txn)
        return err_set(e, ERR_NOT_FOUND, "database '%s' has no snapshot %" PRIu64, w->dir, txn);
    return OK;
}

enum status db_pages_check(int fd, uint64_t txn, const char *dir, struct err *e)
{
    struct walk w = {.fd = fd, .dir = dir};
    uint8_t meta[META_BYTES];
    struct stat about;
    enum status st = read_meta(&w, meta, txn, e);

    if (st)
        return st;
    if (fstat(fd, &about))
        return err_set(e, ERR_IO, "cannot tell the size of database '%s'", dir);
    w.n_pages = (uint64_t)about.st_size / w.page_bytes;
    w.seen = xcalloc((size_t)(w.n_pages / 8 + 1), 1);
    st = walk_tree(&w, meta + META_FREE_AT, TREE_FREE, e);
    if (!st)
        st = walk_tree(&w, meta + META_MAIN_AT, TREE_MAIN, e);
    free(w.seen);
    return st;
}
