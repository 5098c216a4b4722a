#include "envs/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

#define BLOCK_ALIGN   ((size_t)4 << 30)
#define SMALL_STEP    16u
#define SMALL_MAX     1024u
#define SMALL_CLASSES (SMALL_MAX / SMALL_STEP)
#define CLASSES       (SMALL_CLASSES + 32u) /* then 2 KiB, 4 KiB, ... */

struct arena {
    size_t limit; /* of the block, this header included */
    size_t top;   /* first byte never used */
    bool is_over;
    void *free_list[CLASSES]; /* each block's first word is the next */
    /* The following describe the mapping, and are the same before and after a restore. */
    void *mapping;
    size_t mapping_bytes;
    void *saved; /* owned, malloc: the block's first `top` bytes, or NULL */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

enum status arena_open(struct arena **out, size_t limit_bytes, struct err *e)
{
    size_t mapping_bytes = 2 * BLOCK_ALIGN;
    struct arena *a;
    uint8_t *base;
    void *m;

    *out = NULL;
    CHECK(limit_bytes <= ARENA_MAX_BYTES);
    limit_bytes = round_up(limit_bytes + sizeof(struct arena), 4096);
    m = mmap(NULL, mapping_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (m == MAP_FAILED)
        return err_set(e, ERR_NO_MEMORY, "cannot reserve address space for an environment: %s",
                       strerror(errno));
    base = (uint8_t *)m + (BLOCK_ALIGN - (uintptr_t)m % BLOCK_ALIGN) % BLOCK_ALIGN;
    if (mprotect(base, limit_bytes, PROT_READ | PROT_WRITE)) {
        munmap(m, mapping_bytes);
        return err_set(e, ERR_NO_MEMORY, "cannot use %zu bytes for an environment: %s",
                       limit_bytes, strerror(errno));
    }
    a = (struct arena *)(void *)base;
    a->limit = limit_bytes;
    a->top = round_up(sizeof(*a), SMALL_STEP);
    a->mapping = m;
    a->mapping_bytes = mapping_bytes;
    *out = a;
    return OK;
}

void arena_close(struct arena **a)
{
    if (!*a)
        return;
    free((*a)->saved);
    munmap((*a)->mapping, (*a)->mapping_bytes);
    *a = NULL;
}

/* The class of a request and the size its blocks have. */
static size_t class_of(size_t n, size_t *size)
{
    size_t c;

    if (n <= SMALL_MAX) {
        c = (n + SMALL_STEP - 1) / SMALL_STEP - 1;
        *size = (c + 1) * SMALL_STEP;
        return c;
    }
    c = SMALL_CLASSES;
    *size = (size_t)2 * SMALL_MAX;
    while (*size < n) {
        *size *= 2;
        c++;
    }
    return c;
}

static void *take(struct arena *a, size_t n)
{
    size_t size, c;
    void *p;

    if (a->is_over || n > ARENA_MAX_BYTES) {
        a->is_over = true;
        return NULL;
    }
    c = class_of(n, &size);
    p = a->free_list[c];
    if (p) {
        memcpy(&a->free_list[c], p, sizeof(void *));
        return p;
    }
    if (size > a->limit - a->top) {
        a->is_over = true;
        return NULL;
    }
    p = (uint8_t *)a + a->top;
    a->top += size;
    return p;
}

static void give_back(struct arena *a, void *p, size_t n)
{
    size_t size, c = class_of(n, &size);

    memcpy(p, &a->free_list[c], sizeof(void *));
    a->free_list[c] = p;
}

void *arena_realloc(struct arena *a, void *p, size_t old_n, size_t n)
{
    size_t old_size, size;
    void *q;

    if (n == 0) {
        if (p && old_n)
            give_back(a, p, old_n);
        return NULL;
    }
    if (!p || old_n == 0)
        return take(a, n);
    if (n > ARENA_MAX_BYTES) {
        a->is_over = true;
        return NULL;
    }
    class_of(old_n, &old_size);
    class_of(n, &size);
    if (size == old_size)
        return p;
    q = take(a, n);
    if (!q)
        return n < old_n ? p : NULL; /* Lua relies on shrinking never to fail */
    memcpy(q, p, old_n < n ? old_n : n);
    give_back(a, p, old_n);
    return q;
}

bool arena_is_over(const struct arena *a)
{
    return a->is_over;
}

size_t arena_taken(const struct arena *a)
{
    return a->top;
}

enum status arena_save(struct arena *a, struct err *e)
{
    CHECK(!a->saved);
    void *copy = malloc(a->top);

    if (!copy)
        return err_set(e, ERR_NO_MEMORY, "cannot keep %zu bytes of an environment's state",
                       a->top);
    memcpy(copy, a, a->top);
    a->saved = copy;
    return OK;
}

void arena_restore(struct arena *a)
{
    void *saved = a->saved;

    CHECK(saved);
    memcpy(a, saved, ((struct arena *)saved)->top);
    a->saved = saved;
}
