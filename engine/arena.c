#include "engine/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)

enum status arena_init(struct arena *a, struct device *d, size_t bytes, const char *what,
                       struct err *e)
{
    size_t whole = (bytes + PAGE - 1) / PAGE * PAGE, room = whole + ARENA_ALIGN, lead;
    uint8_t *p = MAP_FAILED;

    *a = (struct arena){.device = d, .bytes = bytes};
    if (d)
        return device_alloc(d, &a->data, bytes, what, e);
    if (bytes < SIZE_MAX - 2 * ARENA_ALIGN)
        p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ERR_NO_MEMORY, "cannot allocate %s: %zu bytes", what, bytes);
    lead = (ARENA_ALIGN - (uintptr_t)p % ARENA_ALIGN) % ARENA_ALIGN;
    if (lead > 0)
        munmap(p, lead);
    if (lead < ARENA_ALIGN)
        munmap(p + lead + whole, ARENA_ALIGN - lead);
    a->data = p + lead;
    a->bytes = whole;
    (void)madvise(a->data, whole, MADV_HUGEPAGE); /* a hint; it works without */
    return OK;
}

void arena_clear(struct arena *a)
{
    if (a->device)
        device_release(a->device, a->data);
    else if (a->data)
        munmap(a->data, a->bytes);
    memset(a, 0, sizeof(*a));
}
