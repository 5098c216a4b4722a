# The unit tests of the numerics; included by engine/CMakeLists.txt. Each program runs once per
# backend, as tests of their own: what this CPU cannot run is shown as skipped, never as passed.
function(add_numerics_test file)
  add_unit_test(engine ${file} ARGS scalar ${ARGN})
  if(TARGET test_unit_engine_${file})
    foreach(backend IN ITEMS avx2 avx512)
      set(name unit.engine.${file}.${backend})
      add_test(NAME ${name} COMMAND test_unit_engine_${file} ${backend})
      set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77
                           ENVIRONMENT "${MUSTER_TEST_ENV}")
    endforeach()
  endif()
endfunction()

foreach(file IN ITEMS math matmul attention ops ops_loss ops_optimizer)
  add_numerics_test(${file})
endforeach()
add_unit_test(engine matmul_lanes16)
add_unit_test(engine kernels)
