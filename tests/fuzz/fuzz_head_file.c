/*
 * A file of heads from hostile bytes: nothing crashes, and every head it gives is signed.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "proto/witness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status see(void *arg, const struct witness_head *h, struct err *e)
{
    (void)arg, (void)e;
    CHECK(!key_is_zero(&h->orchestrator));
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)!witness_file_read((struct bytes){data, size}, see, NULL, NULL);
    return 0;
}
