#include "ledger/tables.h"

#include <string.h>

#include "proto/digest.h"

const char *const ledger_tables[LEDGER_TABLE_COUNT + 1] = {
    [LEDGER_TABLE_ENTRIES] = "entries",
    [LEDGER_TABLE_IDEM] = "idem",
    [LEDGER_TABLE_BLOBS] = "blobs",
    [LEDGER_TABLE_META] = "meta",
};

struct ledger_idem_key ledger_idem_key(const struct public_key *signer, const struct idem *idem)
{
    struct ledger_idem_key k;

    memcpy(k.b, signer->b, KEY_BYTES);
    memcpy(k.b + KEY_BYTES, idem->b, sizeof(idem->b));
    return k;
}

void ledger_put_blob(struct effects *out, struct bytes blob, struct digest *digest)
{
    struct digest d;

    digest_of(&d, blob);
    effects_put(out, LEDGER_TABLE_BLOBS, BYTES_OF(d), blob);
    if (digest)
        *digest = d;
}
