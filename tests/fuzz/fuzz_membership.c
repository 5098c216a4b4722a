/*
 * DIR/membership of arbitrary bytes: what member_home_load accepts is the file that its fields
 * write, to the byte but for the case of hexadecimal digits.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "proto/digest.h"
#include "shardcast/member.h"
#include "support/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_written(const struct member_home *h, struct bytes in)
{
    char run[2 * DIGEST_BYTES + 1], transport[2 * KEY_BYTES + 1], node[2 * KEY_BYTES + 1];
    struct buf text;

    CHECK(memchr(h->control, 0, sizeof(h->control)));
    hex_encode(run, BYTES_OF(h->run.b));
    hex_encode(transport, BYTES_OF(h->transport.b));
    hex_encode(node, BYTES_OF(h->node.b));
    buf_init(&text, 4096);
    buf_printf(&text, "muster-membership-1\nrun %s\ntransport %s\nnode %s\ncontrol ", run,
               transport, node);
    buf_printf(&text, "%s\nrole %s\n", h->control, role_name(h->role));
    CHECK(text.len == in.len);
    CHECK(strncasecmp(buf_cstr(&text), (const char *)in.data, in.len) == 0);
    buf_clear(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = {data, size};
    struct member_home home;

    (void)scratch_write("membership", in);
    if (member_home_load(&home, scratch_dir(), NULL) == OK)
        check_written(&home, in);
    return 0;
}
