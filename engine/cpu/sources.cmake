# The numerics of the engine. Paths are relative to engine/.
set(ENGINE_CPU_SOURCES
  matmul.c
  cpu/math.c
  cpu/dispatch.c
  cpu/ops.c
  cpu/attention.c
  cpu/attention_backward.c
  cpu/sample.c
  cpu/optimizer.c
  cpu/kernels_scalar.c)
