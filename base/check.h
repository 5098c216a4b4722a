/*
 * base/check.h - what to do when the bug is ours
 *
 * CHECK is on in every build. It is for our own mistakes only; never for bytes from outside.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include "base/attr.h"

#ifdef __cplusplus /* CUDA kernels' launchers */
extern "C" {
#endif

#define CHECK(cond)                                                                            \
    do {                                                                                       \
        if (UNLIKELY(!(cond)))                                                                 \
            check_failed(__FILE__, __LINE__, #cond);                                           \
    } while (0)

/* Prints file, line and expression to stderr and aborts. */
NO_RETURN void check_failed(const char *file, int line, const char *cond);

#ifdef __cplusplus
}
#endif

#endif
