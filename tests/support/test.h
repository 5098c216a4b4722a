/*
 * support/test.h - cmocka with all it needs, and checks for enum status
 */
#ifndef SUPPORT_TEST_H
#define SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* Fails with the name of the status, and with the text of e where e is not NULL. */
#define assert_ok(st, e)           assert_status_at((st), OK, (e), #st, __FILE__, __LINE__)
#define assert_status(st, want, e) assert_status_at((st), (want), (e), #st, __FILE__, __LINE__)

/* Fails unless `text` contains `part`. */
#define assert_contains(text, part) assert_contains_at((text), (part), __FILE__, __LINE__)

void assert_status_at(enum status got, enum status want, const struct err *e, const char *expr,
                      const char *file, int line);
void assert_contains_at(const char *text, const char *part, const char *file, int line);

#endif
