#include "engine/dtype.h"

#include <string.h>

#include "base/check.h"
#include "engine/cpu/math.h"

#define DTYPE_BYTES(member, bytes, st, hf) bytes,
static const size_t bytes_of[] = {DTYPE_MAP(DTYPE_BYTES)};
#undef DTYPE_BYTES
#define DTYPE_NAME(member, bytes, st, hf) st,
static const char *const name_of[] = {DTYPE_MAP(DTYPE_NAME)};
#undef DTYPE_NAME
#define DTYPE_HF_NAME(member, bytes, st, hf) hf,
static const char *const hf_name_of[] = {DTYPE_MAP(DTYPE_HF_NAME)};
#undef DTYPE_HF_NAME

size_t dtype_bytes(enum dtype t)
{
    CHECK(t < DTYPE_COUNT);
    return bytes_of[t];
}

const char *dtype_name(enum dtype t)
{
    CHECK(t < DTYPE_COUNT);
    return name_of[t];
}

const char *dtype_hf_name(enum dtype t)
{
    CHECK(t < DTYPE_COUNT);
    return hf_name_of[t];
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static float widen_f16(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 31;
    uint32_t fraction = h & 1023;

    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0)
        return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* subnormal or zero: exact */
    return sign ? -magnitude : magnitude;
}

static uint32_t load_u16(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8;
}

void dtype_widen(float *out, const uint8_t *in, enum dtype t, size_t n)
{
    switch (t) {
    case DTYPE_F32:
        for (size_t i = 0; i < n; i++)
            out[i] = float_of_bits(load_u16(in + 4 * i) | load_u16(in + 4 * i + 2) << 16);
        return;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = f32_from_bf16((uint16_t)load_u16(in + 2 * i));
        return;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = widen_f16(load_u16(in + 2 * i));
        return;
    case DTYPE_COUNT: break;
    }
    CHECK(!"a dtype");
}

void dtype_narrow(uint8_t *out, const float *in, enum dtype t, size_t n)
{
    CHECK(t == DTYPE_F32 || t == DTYPE_BF16);
    size_t width = dtype_bytes(t);

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = t == DTYPE_F32 ? bits_of_float(in[i]) : bf16_from_f32(in[i]);

        for (size_t j = 0; j < width; j++)
            out[width * i + j] = (uint8_t)(bits >> 8 * j);
    }
}
