#include "proto/toploc.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/toploc_top.h"

#define P TOPLOC_PRIME

const struct toploc_thresholds toploc_bf16_thresholds = {38, 10, 8};
const struct toploc_thresholds toploc_f32_thresholds = {8, 256, 128};

uint32_t toploc_modulus(const uint32_t *index, uint32_t n)
{
    uint64_t taken[(P + 63) / 64];

    for (uint32_t m = P; m >= n && m > 0; m--) {
        uint32_t i;

        memset(taken, 0, sizeof(taken));
        for (i = 0; i < n; i++) {
            uint32_t x = index[i] % m;
            uint64_t bit = (uint64_t)1 << (x % 64);
            if (taken[x / 64] & bit)
                break;
            taken[x / 64] |= bit;
        }
        if (i == n)
            return m;
    }
    return 0;
}

/* ---- proving ----------------------------------------------------------------------------- */

static enum status check_size(size_t rows, size_t dim, uint32_t k, struct err *e)
{
    if (k == 0 || k > TOPLOC_K_MAX)
        return err_set(e, ERR_INVALID, "toploc: k = %u, not 1..%u", k, TOPLOC_K_MAX);
    if (rows == 0 || dim == 0 || dim > INT32_MAX || rows > INT32_MAX / dim)
        return err_set(e, ERR_INVALID, "toploc: %zu rows of %zu", rows, dim);
    return OK;
}

static void put_be16(uint8_t *out, uint32_t v)
{
    out[0] = (uint8_t)(v >> 8);
    out[1] = (uint8_t)v;
}

enum status toploc_prove(uint8_t *out, const uint16_t *values, size_t rows, size_t dim,
                         uint32_t k, enum toploc_tie tie, struct err *e)
{
    uint32_t index[TOPLOC_K_MAX] = {0};
    uint16_t y[TOPLOC_K_MAX] = {0};
    enum status st;
    uint32_t n = 0;

    st = check_size(rows, dim, k, e);
    if (st)
        return st;
    st = toploc_top(index, &n, values, rows * dim, k, tie, e);
    if (st)
        return st;
    for (uint32_t i = 0; i < n; i++)
        y[i] = values[index[i]];
    return toploc_prove_points(out, index, y, n, k, e);
}

enum status toploc_prove_points(uint8_t *out, const uint32_t *index, const uint16_t *value,
                                uint32_t n, uint32_t k, struct err *e)
{
    uint32_t x[TOPLOC_K_MAX] = {0};
    uint16_t coef[TOPLOC_K_MAX] = {0};
    uint32_t m = toploc_modulus(index, n);
    enum status st;

    CHECK(m > 0); /* the indices differ and are fewer than P: some modulus keeps them apart */
    CHECK(n <= k && k <= TOPLOC_K_MAX);
    for (uint32_t i = 0; i < n; i++)
        x[i] = index[i] % m;
    st = toploc_interpolate(coef, x, value, n, e);
    if (st)
        return st;
    memset(out, 0, toploc_proof_bytes(k));
    put_be16(out, m);
    for (uint32_t i = 0; i < n; i++)
        put_be16(out + 2 + 2 * (size_t)i, coef[i]);
    return OK;
}

uint16_t toploc_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* quiet, and never rounded into infinity */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* ---- verifying --------------------------------------------------------------------------- */

struct proof {
    uint32_t modulus;
    uint16_t coef[TOPLOC_K_MAX];
    uint32_t n; /* coefficients */
    bool is_null;
};

/* What a forger could win by bending the format: verification reads docs/protocol.md. A modulus
 * equal to the dimension makes the polynomial one of the channel alone; a constant polynomial has
 * all other coefficients zero (an honest one has three zeros in 1.2e-9 of cases for k = 128). */
static enum status check_strict(const struct proof *p, uint32_t k, uint32_t k_eff,
                                struct err *e)
{
    uint32_t zeros = 0;

    if (p->n != k)
        return err_set(e, ERR_MALFORMED, "toploc proof of %u coefficients, not %u", p->n, k);
    if (p->modulus < TOPLOC_MODULUS_MIN || p->modulus > P)
        return err_set(e, ERR_MALFORMED, "toploc modulus %u is outside %u..%u", p->modulus,
                       TOPLOC_MODULUS_MIN, P);
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->coef[i] >= P)
            return err_set(e, ERR_MALFORMED, "toploc coefficient %u is %u, not below %u", i,
                           p->coef[i], P);
        if (i >= k_eff && p->coef[i] != 0)
            return err_set(e, ERR_MALFORMED, "toploc coefficient %u of %u points", i, k_eff);
        zeros += i < k_eff && p->coef[i] == 0;
    }
    if (zeros >= 3)
        return err_set(e, ERR_MALFORMED, "toploc proof with %u zero coefficients", zeros);
    return OK;
}

static enum status parse(struct proof *p, struct bytes in, uint32_t k, uint32_t k_eff,
                         enum toploc_mode mode, struct err *e)
{
    uint8_t any = 0;

    if (in.len < 4 || in.len % 2 != 0 || in.len > toploc_proof_bytes(k))
        return err_set(e, ERR_MALFORMED, "toploc proof of %zu bytes, not %zu", in.len,
                       toploc_proof_bytes(k));
    p->modulus = (uint32_t)in.data[0] << 8 | in.data[1];
    p->n = (uint32_t)(in.len / 2 - 1);
    for (size_t i = 0; i < in.len; i++)
        any |= in.data[i];
    for (uint32_t i = 0; i < p->n; i++)
        p->coef[i] = (uint16_t)(in.data[2 + 2 * i] << 8 | in.data[3 + 2 * i]);
    p->is_null = any == 0;
    if (p->is_null)
        return OK;
    if (mode == TOPLOC_STRICT)
        return check_strict(p, k, k_eff, e);
    if (p->modulus == 0)
        return err_set(e, ERR_MALFORMED, "toploc modulus is zero");
    return OK;
}

static void compare(struct toploc_result *out, const struct proof *p, const uint16_t *values,
                    const uint32_t *index, uint32_t n, enum toploc_mode mode)
{
    uint32_t seen[128] = {0}; /* how often each mantissa error comes: a sort by counting */
    uint32_t n_match = 0;
    uint64_t sum = 0;
    uint32_t compared = mode == TOPLOC_STRICT ? 0xff80 : 0x7f80;
    uint32_t x[TOPLOC_K_MAX];
    uint16_t claimed[TOPLOC_K_MAX];

    CHECK(p->modulus > 0);
    for (uint32_t i = 0; i < n; i++)
        x[i] = index[i] % p->modulus;
    toploc_evaluate(claimed, x, n, p->coef, p->n);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t found = values[index[i]];
        int diff = (claimed[i] & 0x7f) - (found & 0x7f);

        if ((claimed[i] ^ found) & compared) {
            out->exp_mismatches++;
            continue;
        }
        diff = diff < 0 ? -diff : diff;
        seen[diff]++;
        sum += (uint64_t)diff;
        n_match++;
    }
    if (n_match == 0)
        return;
    out->mant_err_mean = (double)sum / n_match;
    for (uint32_t v = 0, before = 0; v < 128; v++) {
        before += seen[v];
        if (before > n_match / 2) {
            out->mant_err_median = v;
            break;
        }
    }
}

enum status toploc_verify(struct toploc_result *out, struct bytes proof,
                          const struct toploc_rows *own, uint32_t k, enum toploc_tie tie,
                          enum toploc_mode mode, struct err *e)
{
    const double none = 18446744073709551616.0; /* 2^64, as the reference says it */
    uint32_t index[TOPLOC_K_MAX];
    struct proof p = {0};
    enum status st;
    size_t n_values;
    uint32_t n = 0;

    *out = (struct toploc_result){.mant_err_mean = none, .mant_err_median = none};
    st = check_size(own->rows, own->dim, k, e);
    if (st)
        return st;
    n_values = own->rows * own->dim;
    st = parse(&p, proof, k, n_values < k ? (uint32_t)n_values : k, mode, e);
    if (st)
        return st;
    st = toploc_top(index, &n, own->values, n_values, k, tie, e);
    if (st)
        return st;
    out->is_null = p.is_null;
    if (p.is_null)
        out->exp_mismatches = n;
    else
        compare(out, &p, own->values, index, n, mode);
    return OK;
}

bool toploc_passes(const struct toploc_result *r, const struct toploc_thresholds *t)
{
    return !r->is_null && r->exp_mismatches <= t->exp_mismatches &&
           r->mant_err_mean <= t->mant_err_mean && r->mant_err_median <= t->mant_err_median;
}
