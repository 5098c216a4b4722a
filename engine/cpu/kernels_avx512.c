#define BACKEND_NAME  "avx512"
#define BACKEND_TABLE kernels_avx512
#define VEC_AVX512
#include "engine/cpu/bf16_vec.h"
#include "engine/cpu/gemm_vec.h"
#include "engine/cpu/limits_vec.h"
#include "engine/cpu/max_vec.h"
#include "engine/cpu/pack_avx.h"

#include "engine/cpu/loops.h"
