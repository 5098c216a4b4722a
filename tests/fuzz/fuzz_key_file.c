/*
 * key_load of a directory in which one file holds arbitrary bytes: the first byte picks which, the
 * others are those of a node. What it accepts are keys that fit together: the owner certifies
 * the node, and the node's signature is the node's.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "node/key.h"
#include "proto/sign.h"
#include "support/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"node.key", "transport.key", "owner.key", "owner.cert"};
#define N_NAMES (sizeof(names) / sizeof(names[0]))
#define CERT    (N_NAMES - 1)

/* Keys whose every byte is 1, 2, 3; owner.cert gets its say only where there is no owner.key. */
static void write_good(size_t but)
{
    static const char *const kinds[] = {"node", "transport", "owner"};
    struct buf text;

    buf_init(&text, 256);
    for (size_t i = 0; i < CERT; i++) {
        buf_reset(&text);
        buf_printf(&text, "muster-key-1 %s ", kinds[i]);
        for (size_t j = 0; j < 32; j++)
            buf_printf(&text, "%02zx", i + 1);
        buf_printf(&text, "\n");
        if (i != but)
            (void)scratch_write(names[i], buf_bytes(&text));
    }
    buf_clear(&text);
    scratch_remove(but == CERT ? "owner.key" : "owner.cert");
}

static void check_accepted(const struct node_key *k)
{
    enum role role = k->owner_secret ? ROLE_INFERENCE : k->cert_role;
    const struct bytes part = BYTES_LIT("what a node says");
    struct signature sig;

    CHECK(key_certify(&sig, k, (uint32_t)role, NULL) == OK);
    CHECK(key_verify_cert(&k->owner, &k->node, &k->transport, (uint32_t)role, &sig, NULL) ==
          OK);
    CHECK(sign_make_parts(&sig, "muster/1/test", &part, 1, k->node_secret, NULL) == OK);
    CHECK(sign_check_parts(&sig, "muster/1/test", &part, 1, &k->node, NULL) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct node_key *k;
    size_t which;

    if (size == 0)
        return 0;
    which = data[0] % N_NAMES;
    write_good(which);
    (void)scratch_write(names[which], (struct bytes){data + 1, size - 1});
    if (key_load(&k, scratch_dir(), NULL) == OK) {
        check_accepted(k);
        /* one line and nothing else: "muster-key-1 <kind> <64 digits>\n", with the name's kind */
        CHECK(which == CERT || size - 1 == strlen("muster-key-1  \n") + strlen(names[which]) -
                                               strlen(".key") + 64);
    }
    key_free(&k);
    return 0;
}
