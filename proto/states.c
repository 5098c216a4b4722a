#include "proto/states.h"

#include "base/check.h"
#include "proto/digest.h"

static size_t at(const struct digest *h, size_t i, size_t n)
{
    uint64_t v = 0;

    CHECK(n > 0);
    for (size_t k = 0; k < 8; k++)
        v |= (uint64_t)h->b[8 * i + k] << 8 * k;
    return (size_t)(v % n);
}

void states_place(struct states_place *out, const struct digest *draw,
                  const struct public_key *validator, uint32_t i,
                  const struct states_shape *shape)
{
    struct digest_state s;
    struct digest h;

    digest_begin(&s, "muster/1/place");
    digest_add(&s, BYTES_OF(draw->b));
    digest_add(&s, BYTES_OF(validator->b));
    digest_add_u32(&s, i);
    digest_end(&s, &h);
    out->sample = at(&h, 0, shape->n_samples);
    out->layer = at(&h, 1, shape->n_layers);
    out->position = at(&h, 2, shape->n_positions[out->sample]);
}

void states_found(struct digest *found, const struct digest place[STATES_PLACES])
{
    struct digest_state s;

    digest_begin(&s, "muster/1/states");
    for (size_t i = 0; i < STATES_PLACES; i++)
        digest_add(&s, BYTES_OF(place[i].b));
    digest_end(&s, found);
}

void states_seal(struct digest *states, const struct public_key *validator,
                 const struct digest *found)
{
    digest_keyed(states, BYTES_OF(validator->b), BYTES_OF(found->b));
}

void states_recheck_value(struct digest *out, const struct digest *draw,
                          const struct digest *salt)
{
    struct digest_state s;

    digest_begin(&s, "muster/1/recheck");
    digest_add(&s, BYTES_OF(draw->b));
    digest_add(&s, BYTES_OF(salt->b));
    digest_end(&s, out);
}
