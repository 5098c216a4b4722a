#include "support/test.h"

#include <string.h>

void assert_status_at(enum status got, enum status want, const struct err *e, const char *expr,
                      const char *file, int line)
{
    if (got == want)
        return;
    print_error("%s = %s%s%s, want %s\n", expr, status_name(got), got && e ? ": " : "",
                got && e ? e->text : "", status_name(want));
    _fail(file, line);
}

void assert_contains_at(const char *text, const char *part, const char *file, int line)
{
    if (text && strstr(text, part))
        return;
    print_error("\"%s\" does not contain \"%s\"\n", text ? text : "(null)", part);
    _fail(file, line);
}
