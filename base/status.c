#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STATUS_TEXT(name, text) text,
#define STATUS_NAME(name, text) #name,
static const char *const texts[] = {STATUS_MAP(STATUS_TEXT)};
static const char *const names[] = {STATUS_MAP(STATUS_NAME)};
#undef STATUS_TEXT
#undef STATUS_NAME

const char *status_text(enum status st)
{
    return (unsigned)st < STATUS_COUNT ? texts[st] : "unknown status";
}

const char *status_name(enum status st)
{
    return (unsigned)st < STATUS_COUNT ? names[st] : "ERR_UNKNOWN";
}

enum status err_set(struct err *e, enum status st, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return st;
    e->code = st;
    va_start(ap, fmt);
    if (vsnprintf(e->text, sizeof(e->text), fmt, ap) < 0)
        e->text[0] = '\0';
    va_end(ap);
    return st;
}

enum status err_prefix(struct err *e, enum status st, const char *fmt, ...)
{
    char old[ERR_TEXT_BYTES];
    va_list ap;
    int n;

    if (!e)
        return st;
    memcpy(old, e->text, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(e->text))
        (void)snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s", old);
    return st;
}
