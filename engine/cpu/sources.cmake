# The numerics of the engine. Paths are relative to engine/; included by engine/CMakeLists.txt.
#
# -O3 and -fno-trapping-math in every build: they let the loops of cpu/loops.h become vector
# code and change no bit. The scalar files stay scalar, so that tests compare two translations.
set(ENGINE_CPU_SOURCES
  matmul.c
  matmul_backward.c
  products.c
  products_bf16.c
  products_openblas.c
  cpu/math.c
  cpu/dispatch.c
  cpu/ops.c
  cpu/attention.c
  cpu/attention_decode.c
  cpu/kv_page.c
  cpu/attention_backward.c
  cpu/sample.c
  cpu/optimizer.c
  cpu/kernels_scalar.c)

set(ENGINE_CPU_FLAGS -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math)
set(ENGINE_SCALAR_FLAGS -fno-tree-vectorize -fno-tree-slp-vectorize)
if(CMAKE_C_COMPILER_ID MATCHES Clang)
  set(ENGINE_SCALAR_FLAGS -fno-vectorize -fno-slp-vectorize)
endif()

set_source_files_properties(cpu/kernels_scalar.c PROPERTIES
  COMPILE_OPTIONS "${ENGINE_CPU_FLAGS};${ENGINE_SCALAR_FLAGS}")
set_source_files_properties(matmul.c matmul_backward.c cpu/math.c cpu/ops.c cpu/attention.c cpu/attention_decode.c
  cpu/attention_backward.c cpu/sample.c cpu/optimizer.c PROPERTIES
  COMPILE_OPTIONS "${ENGINE_CPU_FLAGS}")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(ENGINE_AVX512_FLAGS -mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq
    -mprefer-vector-width=512)
  list(APPEND ENGINE_CPU_SOURCES
    cpu/kernels_scalar_fma.c cpu/kernels_avx2.c cpu/kernels_avx512.c cpu/kernels_amx.c)
  set_source_files_properties(cpu/dispatch.c PROPERTIES COMPILE_OPTIONS -mxsave)
  set_source_files_properties(cpu/kernels_scalar_fma.c PROPERTIES
    COMPILE_OPTIONS "${ENGINE_CPU_FLAGS};${ENGINE_SCALAR_FLAGS};-mfma")
  set_source_files_properties(cpu/kernels_avx2.c PROPERTIES
    COMPILE_OPTIONS "${ENGINE_CPU_FLAGS};-mavx2;-mfma")
  set_source_files_properties(cpu/kernels_avx512.c PROPERTIES
    COMPILE_OPTIONS "${ENGINE_CPU_FLAGS};${ENGINE_AVX512_FLAGS}")
  set_source_files_properties(cpu/kernels_amx.c PROPERTIES
    COMPILE_OPTIONS "${ENGINE_CPU_FLAGS};${ENGINE_AVX512_FLAGS};-mamx-tile;-mamx-bf16")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND ENGINE_CPU_SOURCES cpu/kernels_neon.c)
  set_source_files_properties(cpu/kernels_neon.c PROPERTIES
    COMPILE_OPTIONS "${ENGINE_CPU_FLAGS}")
endif()
