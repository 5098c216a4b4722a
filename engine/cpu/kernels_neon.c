#define BACKEND_NAME  "neon"
#define BACKEND_TABLE kernels_neon
#define VEC_NEON
#include "engine/cpu/bf16_vec.h"
#include "engine/cpu/gemm_vec.h"
#include "engine/cpu/limits_vec.h"
#include "engine/cpu/max_vec.h"
#include "engine/cpu/pack_plain.h"

#include "engine/cpu/loops.h"
