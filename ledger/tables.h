/*
 * ledger/tables.h - the LMDB directory that holds a ledger
 *
 *   entries  seq (u64 BE)            -> one encoded entry (ledger/entry.h)
 *   idem     signer[32] || idem[16]  -> seq (u64 BE) of the entry that answered that request
 *   blobs    BLAKE2b-256 of value    -> task bundle, SUBMIT, VERDICT and PUBLISH envelopes
 *   meta     "head"                  -> seq (u64 BE) || hash[32] of the last entry
 *
 * Other keys of "meta" belong to the orchestrator; the audit leaves them alone.
 */
#ifndef LEDGER_TABLES_H
#define LEDGER_TABLES_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "proto/types.h"

#define LEDGER_DB_MAGIC   "muster/ledger"
#define LEDGER_DB_VERSION 2u

enum ledger_table {
    LEDGER_TABLE_ENTRIES,
    LEDGER_TABLE_IDEM,
    LEDGER_TABLE_BLOBS,
    LEDGER_TABLE_META,
    LEDGER_TABLE_COUNT
};

/* NULL-terminated, in the order of enum ledger_table: for struct db_options. */
extern const char *const ledger_tables[LEDGER_TABLE_COUNT + 1];

#define LEDGER_META_HEAD "head"

struct ledger_idem_key {
    uint8_t b[KEY_BYTES + 16];
};
struct ledger_idem_key ledger_idem_key(const struct public_key *signer,
                                       const struct idem *idem);

/* Files `blob` under its BLAKE2b-256 digest, which is also stored in *digest (may be NULL). */
void ledger_put_blob(struct effects *out, struct bytes blob, struct digest *digest);

#endif
