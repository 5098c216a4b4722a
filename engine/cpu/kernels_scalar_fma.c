#define BACKEND_NAME  "scalar"
#define BACKEND_TABLE kernels_scalar_fma
#include "engine/cpu/scalar.h"
