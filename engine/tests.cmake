# The unit tests of the numerics; included by engine/CMakeLists.txt. Each program runs once per
# backend, as tests of their own: what this CPU cannot run is shown as skipped, never as passed.
# BACKENDS: besides scalar.
function(add_numerics_test file)
  cmake_parse_arguments(A "" "" "BACKENDS" ${ARGN})
  add_unit_test(engine ${file} ARGS scalar ${A_UNPARSED_ARGUMENTS})
  if(TARGET test_unit_engine_${file})
    foreach(backend IN LISTS A_BACKENDS)
      set(name unit.engine.${file}.${backend})
      add_test(NAME ${name} COMMAND test_unit_engine_${file} ${backend})
      set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77
                           ENVIRONMENT "${MUSTER_TEST_ENV}")
    endforeach()
  endif()
endfunction()

foreach(file IN ITEMS math matmul attention ops ops_loss ops_optimizer)
  add_numerics_test(${file} BACKENDS avx2 avx512)
endforeach()
add_numerics_test(elementary BACKENDS avx2 avx512)
add_numerics_test(matmul_bf16 BACKENDS avx2 avx512 amx)
add_unit_test(engine matmul_lanes16)
add_unit_test(engine matmul_bf16_tiles)
add_unit_test(engine device)
add_unit_test(engine device_attention)
add_unit_test(engine device_gemm)
add_unit_test(engine device_model SOURCES ../tests/unit/engine/tiny_model.c)
add_unit_test(engine device_open SOURCES ../tests/unit/engine/tiny_model.c)
add_unit_test(engine device_math)
add_unit_test(engine device_ops)
if(NOT MUSTER_CUDA_MODE STREQUAL "off") # its header is CUDA's
  muster_link_cuda(test_unit_engine_device)
  add_unit_test(engine device_open_attention)
  muster_link_cuda(test_unit_engine_device_open_attention)
  add_unit_test(engine device_open_thin)
  muster_link_cuda(test_unit_engine_device_open_thin)
endif()
if(MUSTER_CUDA_MODE STREQUAL "emulated") # a GPU whose blocks have less shared memory
  add_test(NAME unit.engine.device_open_attention.99k COMMAND test_unit_engine_device_open_attention)
  set_tests_properties(unit.engine.device_open_attention.99k PROPERTIES LABELS unit TIMEOUT 120
                       ENVIRONMENT "${MUSTER_TEST_ENV};MUSTER_EMULATED_SHARED_KIB=99")
endif()
add_unit_test(engine kernels)
add_unit_test(engine classes)
add_test(NAME unit.engine.classes.openblas COMMAND test_unit_engine_classes openblas)
set_tests_properties(unit.engine.classes.openblas PROPERTIES LABELS unit TIMEOUT 120
                     SKIP_RETURN_CODE 77 ENVIRONMENT "${MUSTER_TEST_ENV}")
