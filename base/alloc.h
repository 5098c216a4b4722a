/*
 * base/alloc.h - allocation
 *
 * x* functions are for small sizes that we chose ourselves and end the process when memory is
 * out. What a peer, a file or a model sizes goes through alloc_array, which may say no.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

#include "base/attr.h"
#include "base/status.h"

void *xmalloc(size_t n);
void *xcalloc(size_t count, size_t size); /* checks the product */
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);

/* count * size zeroed bytes, aligned to 64; *out is NULL on ERR_NO_MEMORY, whose text names
 * `what` and the size. Free with free(). */
MUST_USE enum status alloc_array(void *out_pp, size_t count, size_t size, const char *what,
                                 struct err *e);

#endif
