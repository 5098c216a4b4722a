#include "base/alloc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN_BYTES 64u

static NO_RETURN void out_of_memory(size_t count, size_t size)
{
    (void)fprintf(stderr, "out of memory: cannot allocate %zu x %zu bytes\n", count, size);
    (void)fflush(stderr);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    if (!p)
        out_of_memory(1, n);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1); /* calloc checks the product */

    if (!p)
        out_of_memory(count, size);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);

    if (!q)
        out_of_memory(1, n);
    return q;
}

char *xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;

    return memcpy(xmalloc(n), s, n);
}

enum status alloc_array(void *out_pp, size_t count, size_t size, const char *what,
                        struct err *e)
{
    void *p = NULL;
    size_t n;

    memcpy(out_pp, &p,
           sizeof(p)); /* out_pp is a T **, whatever T: no aliasing through void ** */
    if (size && count > (SIZE_MAX - ALIGN_BYTES) / size)
        return err_set(e, ERR_NO_MEMORY, "cannot allocate %s: %zu x %zu bytes overflow", what,
                       count, size);
    n = (count * size + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (n == 0)
        n = ALIGN_BYTES;
    p = aligned_alloc(ALIGN_BYTES, n);
    if (!p)
        return err_set(e, ERR_NO_MEMORY, "cannot allocate %s: %zu x %zu bytes", what, count,
                       size);
    memset(p, 0, n);
    memcpy(out_pp, &p, sizeof(p));
    return OK;
}
