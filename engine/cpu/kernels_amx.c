#include <immintrin.h>
#include <stdint.h>

/* Palette 1: eight tiles of 16 rows of 64 bytes. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} amx_config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

#define amx_begin()             _tile_loadconfig(&amx_config)
#define amx_end()               _tile_release()
#define amx_zero(t)             _tile_zero(t)
#define amx_load(t, p, stride)  _tile_loadd(t, p, stride)
#define amx_store(t, p, stride) _tile_stored(t, p, stride)
#define amx_dot(c, a, b)        _tile_dpbf16ps(c, a, b)

#include "engine/cpu/bf16_amx.h"
#include "engine/cpu/bf16_operands.h"

const struct bf16_loops bf16_loops_amx = {
    .left = bf16_left_amx,
    .right = bf16_right,
    .gemm = bf16_gemm_amx,
};
