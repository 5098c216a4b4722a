/*
 * invite_decode of any text: what it accepts can be written as a link, and that link means the
 * same, in as many characters.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/invite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct invite *a, const struct invite *b)
{
    CHECK(strcmp(a->control, b->control) == 0 && strcmp(a->enrol, b->enrol) == 0);
    CHECK(digest_equal(&a->run, &b->run) && key_equal(&a->server, &b->server));
    CHECK(memcmp(a->id, b->id, sizeof(a->id)) == 0);
    CHECK(memcmp(a->secret, b->secret, sizeof(a->secret)) == 0);
    CHECK(a->role == b->role && a->role > ROLE_NONE && a->role < ROLE_COUNT);
}

static void check_port(const char *endpoint)
{
    const char *port = strrchr(endpoint, ':') + 1;
    long number = strtol(port, NULL, 10);

    CHECK(number >= 1 && number <= 65535 && port[0] != '0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *link = xmalloc(size + 1); /* on the heap: a sanitizer sees a read past its end */
    char again[INVITE_LINK_BYTES];
    struct invite v, w;

    if (size)
        memcpy(link, data, size);
    link[size] = '\0';
    if (invite_decode(&v, link, NULL) == OK) {
        CHECK(memchr(v.control, 0, sizeof(v.control)) && memchr(v.enrol, 0, sizeof(v.enrol)));
        check_port(v.control);
        check_port(v.enrol);
        CHECK(invite_encode(again, &v, NULL) == OK);
        CHECK(invite_decode(&w, again, NULL) == OK);
        CHECK(strlen(again) == strlen(link));
        check_same(&v, &w);
    }
    free(link);
    return 0;
}
