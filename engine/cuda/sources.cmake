# The CUDA backend; included by engine/CMakeLists.txt. Sets ENGINE_CUDA_SOURCES.
#
# MUSTER_CUDA (top CMakeLists.txt) is by now "cuda", "emulated" or "off".
set(ENGINE_CUDA_KERNELS
  cuda/attention.cu
  cuda/attention_backward.cu
  cuda/gemm.cu
  cuda/limits.cu
  cuda/logits.cu
  cuda/math.cu
  cuda/open_sample.cu # exact noise
  cuda/optimizer.cu
  cuda/rows.cu
  cuda/top.cu
  )
# Those of class open-cuda, which keeps to no order and no bits.
set(ENGINE_CUDA_OPEN_KERNELS
  cuda/open_attention.cu
  cuda/open_attention_backward.cu
  cuda/open_decode.cu
  cuda/open_grad.cu
  cuda/open_loss.cu
  cuda/open_rows.cu
  cuda/open_thin.cu
  )
set(ENGINE_CUDA_SOURCES device.c)
if(MUSTER_CUDA_MODE STREQUAL "off")
  list(APPEND ENGINE_CUDA_SOURCES cuda_absent.c)
else()
  list(APPEND ENGINE_CUDA_SOURCES cuda/device.c cuda/f32.c cuda/open.c cuda/open_body.c
       cuda/open_graphs.c cuda/open_products.c ${ENGINE_CUDA_KERNELS} ${ENGINE_CUDA_OPEN_KERNELS})
endif()

# Nothing is contracted, and division, root and subnormals are IEEE's: the kernels of f32-1 give the
# CPU's bits. Line tables let compute-sanitizer name places.
if(MUSTER_CUDA_MODE STREQUAL "cuda")
  set_source_files_properties(${ENGINE_CUDA_KERNELS} PROPERTIES COMPILE_OPTIONS
    "-fmad=false;-ftz=false;-prec-div=true;-prec-sqrt=true;-lineinfo")
  set_source_files_properties(${ENGINE_CUDA_OPEN_KERNELS} PROPERTIES COMPILE_OPTIONS "-lineinfo")
elseif(MUSTER_CUDA_MODE STREQUAL "emulated")
  list(APPEND ENGINE_CUDA_SOURCES
       "${CMAKE_SOURCE_DIR}/tests/support/cuda_emulator/emulator.cpp"
       "${CMAKE_SOURCE_DIR}/tests/support/cuda_emulator/cublaslt.cpp")
  set_source_files_properties(${ENGINE_CUDA_KERNELS} ${ENGINE_CUDA_OPEN_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
    "-xc++;-O2;-mfma;-ffp-contract=off;-fno-trapping-math;-Wno-unknown-pragmas")
endif()

# What the sources above need of CUDA, or of the emulator.
function(muster_link_cuda target)
  if(NOT TARGET ${target})
    return()
  endif()
  if(MUSTER_CUDA_MODE STREQUAL "cuda")
    target_link_libraries(${target} PUBLIC CUDA::cudart_static)
    target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  elseif(MUSTER_CUDA_MODE STREQUAL "emulated")
    target_compile_definitions(${target} PRIVATE MUSTER_CUDA_EMULATED)
    target_include_directories(${target} BEFORE PRIVATE
                               "${CMAKE_SOURCE_DIR}/tests/support/cuda_emulator")
    target_link_libraries(${target} PUBLIC stdc++)
  endif()
endfunction()
