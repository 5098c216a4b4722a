/*
 * proto/toploc.h - the TOPLOC polynomial: 258 bytes that commit to 32 rows of hidden states
 *
 * A proof is the polynomial over GF(65497) through the points (index mod m, bf16 pattern) of the
 * k largest-magnitude values among the rows, and the modulus m that keeps the indices apart
 * (arXiv:2501.16007). Bytes: be16(m), then k coefficients be16, ascending. Bytes and results are
 * those of the reference implementation (TOPLOC_TIE_HEAP: what it gives on a CPU).
 *
 * Fewer values than k (a toy model's last, short chunk): the polynomial has k_eff = rows * dim
 * points, and the coefficients past them are zero.
 *
 * Values are bf16 patterns. f32 activations are rounded to bf16 (to nearest even) first: the
 * format holds 16 bits a value and the reference refuses f32. The class f32-1 makes the same
 * bits everywhere, so there honest proofs are equal and verification is memcmp; the error
 * figures serve the open classes.
 */
#ifndef PROTO_TOPLOC_H
#define PROTO_TOPLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

#define TOPLOC_PRIME       65497u
#define TOPLOC_K           128u
#define TOPLOC_K_MAX       4096u
#define TOPLOC_PROOF_BYTES 258u                 /* for k = 128 */
#define TOPLOC_MODULUS_MIN (TOPLOC_PRIME - 64u) /* strict verification's lower bound of m */

/* Which of equal magnitudes at the k-th place are taken. */
enum toploc_tie {
    TOPLOC_TIE_LOWEST, /* lowest index first: the canonical rule, and CUDA's */
    TOPLOC_TIE_HEAP,   /* what libstdc++'s partial_sort leaves: PyTorch's on a CPU */
};

static inline size_t toploc_proof_bytes(uint32_t k)
{
    return 2 + 2 * (size_t)k;
}

/* out (2 + 2k)  values (rows, dim) bf16 patterns, row-major. 1 <= k <= TOPLOC_K_MAX, rows * dim
 * in 1..2^31-1. ERR_INVALID, ERR_NO_MEMORY, and ERR_NUMERIC when a value is NaN. */
MUST_USE enum status toploc_prove(uint8_t *out, const uint16_t *values, size_t rows, size_t dim,
                                  uint32_t k, enum toploc_tie tie, struct err *e);
/* The same from the points: the n <= k largest values and where they are in (rows, dim), which differ. */
MUST_USE enum status toploc_prove_points(uint8_t *out, const uint32_t *index,
                                         const uint16_t *value, uint32_t n, uint32_t k,
                                         struct err *e);
uint16_t toploc_bf16(float x); /* to nearest, ties to even; NaN stays NaN */

/* The parts, for vectors and for other implementations' tests. */

/* Indices of the min(k, n) largest magnitudes, in no promised order. `index` has room for k. */
MUST_USE enum status toploc_top(uint32_t *index, uint32_t *n_top, const uint16_t *values,
                                size_t n, uint32_t k, enum toploc_tie tie, struct err *e);
/* The largest m <= 65497 that keeps all index[i] mod m apart; 0 if there is none. */
uint32_t toploc_modulus(const uint32_t *index, uint32_t n);
/* coef (n), ascending, of the polynomial with f(x[i]) = y[i] mod 65497; ERR_INVALID if two x
 * agree mod 65497. */
MUST_USE enum status toploc_interpolate(uint16_t *coef, const uint32_t *x, const uint16_t *y,
                                        uint32_t n, struct err *e);
/* y (n_x), the polynomial of `n` <= TOPLOC_K_MAX coefficients, ascending, at each of x (n_x). */
void toploc_evaluate(uint16_t *y, const uint32_t *x, uint32_t n_x, const uint16_t *coef,
                     uint32_t n);

struct toploc_result {
    uint32_t exp_mismatches;
    double mant_err_mean;   /* over the values whose exponents agree; 2^64 when none do */
    double mant_err_median; /* the upper of the two middle ones */
    bool is_null;           /* the all-zero proof: "no proof", compared with nothing */
};

enum toploc_mode {
    TOPLOC_STRICT, /* length, coefficients < 65497, m in [TOPLOC_MODULUS_MIN, 65497], fewer than 3
                    * zero coefficients among the first k_eff, zeros past them, and a sign that
                    * differs counts as an exponent mismatch */
    TOPLOC_COMPAT, /* what the reference accepts, short of its crashes: m >= 1, 1..k coefficients */
};

/* Compares a proof with the verifier's own rows. ERR_MALFORMED: not a proof, by the mode's rules;
 * ERR_INVALID, ERR_NUMERIC, ERR_NO_MEMORY as toploc_prove. */
struct toploc_rows {
    const uint16_t *values; /* (rows, dim) bf16 patterns */
    size_t rows, dim;
};
MUST_USE enum status toploc_verify(struct toploc_result *out, struct bytes proof,
                                   const struct toploc_rows *own, uint32_t k,
                                   enum toploc_tie tie, enum toploc_mode mode, struct err *e);

/* The paper's thresholds (arXiv:2501.16007, section 5.2): within them passes. */
struct toploc_thresholds {
    uint32_t exp_mismatches;
    double mant_err_mean, mant_err_median;
};
extern const struct toploc_thresholds toploc_bf16_thresholds; /* 38, 10, 8 */
extern const struct toploc_thresholds toploc_f32_thresholds;  /* 8, 256, 128 */
bool toploc_passes(const struct toploc_result *r, const struct toploc_thresholds *t);

#endif
