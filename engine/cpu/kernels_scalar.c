#define BACKEND_NAME  "scalar"
#define BACKEND_TABLE kernels_scalar
#include "engine/cpu/scalar.h"
