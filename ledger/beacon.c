#include "ledger/beacon.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/body.h"
#include "proto/digest.h"

struct beacon {
    uint64_t length;
    uint64_t stride;
    struct digest *checkpoint; /* owned: h_0, h_stride, h_2*stride ... */
    struct digest head;        /* h_length */
};

void beacon_next(struct digest *out, const struct digest *in)
{
    struct digest_state h;

    digest_begin(&h, "muster/1/beacon");
    digest_add(&h, BYTES_OF(*in));
    digest_end(&h, out);
}

void beacon_new(struct beacon **out, const struct digest *seed, uint64_t length)
{
    struct beacon *b = xcalloc(1, sizeof(*b));
    struct digest h = *seed;

    CHECK(length > 0 && length <= BEACON_LENGTH_MAX);
    b->length = length;
    b->stride = 1;
    while (b->stride * b->stride < length)
        b->stride++;
    b->checkpoint = xcalloc((size_t)(length / b->stride + 1), sizeof(*b->checkpoint));
    for (uint64_t i = 0; i < length; i++) {
        if (i % b->stride == 0)
            b->checkpoint[i / b->stride] = h;
        beacon_next(&h, &h);
    }
    b->head = h;
    sodium_memzero(&h, sizeof(h));
    *out = b;
}

void beacon_free(struct beacon **b)
{
    if (!*b)
        return;
    sodium_memzero((*b)->checkpoint,
                   (size_t)((*b)->length / (*b)->stride + 1) * sizeof(*(*b)->checkpoint));
    free((*b)->checkpoint);
    free(*b);
    *b = NULL;
}

const struct digest *beacon_head(const struct beacon *b)
{
    return &b->head;
}

enum status beacon_value(struct digest *out, const struct beacon *b, uint64_t round,
                         struct err *e)
{
    uint64_t i;

    if (round < 1 || round > b->length)
        return err_set(e, ERR_LIMIT, "beacon has no round %" PRIu64 ": its chain has %" PRIu64,
                       round, b->length);
    i = b->length - round;
    *out = b->checkpoint[i / b->stride];
    for (uint64_t n = i % b->stride; n > 0; n--)
        beacon_next(out, out);
    return OK;
}

void draw_value(struct digest *out, const struct digest *beacon_value, const struct digest *mix,
                uint64_t unit, const struct digest *commit_root)
{
    struct digest_state h;

    digest_begin(&h, "muster/1/draw");
    digest_add(&h, BYTES_OF(*beacon_value));
    digest_add(&h, BYTES_OF(*mix));
    digest_add_u64(&h, unit);
    digest_add(&h, BYTES_OF(*commit_root));
    digest_end(&h, out);
}

bool draw_is_audited(const struct digest *r, uint64_t p)
{
    uint64_t low = 0;

    for (int i = 7; i >= 0; i--)
        low = low << 8 | r->b[i];
    return p >= LEDGER_ONE || low < p << 32;
}

/* ceil(a * b / c) by long multiplication and division in 128 bits; UINT64_MAX if larger. c > 0. */
static uint64_t mul_div_up(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t a0 = a & UINT32_MAX, a1 = a >> 32, b0 = b & UINT32_MAX, b1 = b >> 32;
    uint64_t mid = a1 * b0 + (a0 * b0 >> 32);
    uint64_t mid2 = a0 * b1 + (mid & UINT32_MAX);
    uint64_t hi = a1 * b1 + (mid >> 32) + (mid2 >> 32);
    uint64_t lo = a * b;
    uint64_t rest = hi, q = 0;

    if (hi >= c)
        return UINT64_MAX;
    for (int i = 0; i < 64; i++) {
        bool carry = rest >> 63;
        rest = rest << 1 | lo >> 63;
        lo <<= 1;
        q <<= 1;
        if (carry || rest >= c) {
            rest -= c;
            q |= 1;
        }
    }
    return rest && q < UINT64_MAX ? q + 1 : q;
}

uint64_t audit_probability(const struct audit_policy *p)
{
    uint64_t at_stake, saving, wide, prob;

    CHECK(p->reward >= 0 && p->stake >= 0 && p->pending >= 0);
    CHECK(p->reward <= LEDGER_SUPPLY_MAX && p->stake <= LEDGER_SUPPLY_MAX &&
          p->pending <= LEDGER_SUPPLY_MAX && p->saving_ppm <= 1000000);
    at_stake = (uint64_t)p->reward + (uint64_t)p->stake + (uint64_t)p->pending;
    if (p->floor >= LEDGER_ONE || p->detection_ppm == 0)
        return LEDGER_ONE;
    if (at_stake == 0)
        return p->floor;
    /* 2 p* = (2 R saving / detection) / at_stake; the ppm cancel. R < 2^53 and 2 saving < 2^21, so
     * the first product needs 128 bits, and its quotient fits 64 unless detection is tiny. */
    saving = mul_div_up((uint64_t)p->reward, 2ull * p->saving_ppm, p->detection_ppm);
    if (saving >= at_stake)
        return LEDGER_ONE;
    wide = mul_div_up(saving, LEDGER_ONE, at_stake);
    prob = wide > p->floor ? wide : p->floor;
    return prob < LEDGER_ONE ? prob : LEDGER_ONE;
}

struct ticket {
    struct digest d;
    uint8_t index;
};

static int compare_tickets(const void *a, const void *b)
{
    return memcmp(((const struct ticket *)a)->d.b, ((const struct ticket *)b)->d.b,
                  DIGEST_BYTES);
}

size_t draw_validators(uint8_t order[], const struct digest *r, const struct draw_candidate *v,
                       size_t n, const struct public_key *worker,
                       const struct public_key *worker_owner)
{
    struct ticket t[LEDGER_CANDIDATES_MAX];
    size_t n_eligible = 0;
    bool has_others = false;

    CHECK(n <= LEDGER_CANDIDATES_MAX);
    for (size_t i = 0; i < n; i++)
        has_others |= !key_equal(&v[i].node, worker) && !key_equal(&v[i].owner, worker_owner);
    for (size_t i = 0; i < n; i++) {
        struct digest_state h;
        if (key_equal(&v[i].node, worker) ||
            (has_others && key_equal(&v[i].owner, worker_owner)))
            continue;
        digest_begin(&h, "muster/1/shuffle");
        digest_add(&h, BYTES_OF(*r));
        digest_add(&h, BYTES_OF(v[i].node));
        digest_end(&h, &t[n_eligible].d);
        t[n_eligible++].index = (uint8_t)i;
    }
    if (n_eligible)
        qsort(t, n_eligible, sizeof(t[0]), compare_tickets);
    for (size_t i = 0; i < n_eligible; i++)
        order[i] = t[i].index;
    return n_eligible;
}
