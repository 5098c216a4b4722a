#include "proto/digest_lanes.h"

#include <sodium.h>

#include "base/attr.h"
#include "base/check.h"
#include "proto/sign.h"

void digest_lanes_scalar(struct digest out[DIGEST_LANES], const uint8_t *in, size_t n)
{
    sign_ready();
    for (size_t i = 0; i < DIGEST_LANES; i++)
        CHECK(crypto_generichash_blake2b_salt_personal(
                  out[i].b, sizeof(out[i].b), in + i * n, n, NULL, 0, NULL,
                  (const uint8_t *)DIGEST_LANE_SCOPE) == 0);
}

void digest_lanes(struct digest out[DIGEST_LANES], const uint8_t *in, size_t n)
{
    CHECK(n > 0 && n % DIGEST_BLOCK == 0);
#if defined(__x86_64__)
    if (CPU_HAS("avx2")) {
        digest_lanes_avx2(out, in, n);
        return;
    }
#endif
    digest_lanes_scalar(out, in, n);
}
