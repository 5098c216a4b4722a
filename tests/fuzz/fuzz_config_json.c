/*
 * model_config_decode over arbitrary bytes: what it accepts passes the check, and survives being
 * written and read again.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "engine/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_config c, again;
    struct buf text;

    if (model_config_decode(&c, (struct bytes){data, size}, NULL) != OK)
        return 0;
    CHECK(model_config_check(&c, NULL) == OK);
    buf_init(&text, 1u << 16);
    model_config_encode(&text, &c);
    CHECK(model_config_decode(&again, buf_bytes(&text), NULL) == OK);
    CHECK(model_config_equal(&c, &again));
    buf_clear(&text);
    return 0;
}
