/*
 * engine/cuda/f32.h - class f32-1 on a GPU (private to engine/cuda/)
 *
 * The members of struct device_ops (engine/device_ops.h), whose contracts they have.
 */
#ifndef ENGINE_CUDA_F32_H
#define ENGINE_CUDA_F32_H

#include "engine/cuda/inside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pages: the keys of a head as columns (D, ATTENTION_PAGE), after those of all heads the values of a
 * head as rows (ATTENTION_PAGE, D). */
size_t cuda_f32_page_floats(const struct attention_shape *s);
void cuda_f32_attention(struct device *d, const struct device_attention *a);
void cuda_f32_attention_backward(struct device *d, const struct device_attention_grad *a);

/* gemm.cu */
size_t cuda_f32_bytes(size_t N, size_t K, enum dtype dtype);
enum dtype cuda_f32_keeps(enum dtype dtype);
void cuda_f32_set(struct device *d, struct packed *p, const void *W, enum dtype dtype,
                  bool is_host);
void cuda_f32_forward(struct device *d, const struct product *p, const float *x, size_t M);
void cuda_f32_dx(struct device *d, float *dx, const float *dy, const float *W, size_t M,
                 size_t N, size_t K, bool is_added);
void cuda_f32_dw(struct device *d, float *dW, const float *dy, const float *x, size_t T,
                 size_t N, size_t K);

/* rows.cu */
void cuda_f32_bias_backward(struct device *d, float *dbias, const float *dy, size_t T,
                            size_t N);
void cuda_f32_add(struct device *d, float *y, const float *a, const float *b, size_t n);
void cuda_f32_scale(struct device *d, float *y, const float *x, float s, size_t n);
void cuda_f32_embed(struct device *d, float *y, const float *table, const int32_t *id, size_t T,
                    size_t C);
void cuda_f32_embed_packed(struct device *d, float *y, const struct packed *table,
                           const int32_t *id, size_t T, size_t C);
void cuda_f32_embed_backward(struct device *d, float *dtable, const float *dy,
                             const int32_t *id, const uint32_t *order, const uint32_t *start,
                             size_t n_ids, size_t C);
void cuda_f32_gather(struct device *d, float *y, const float *x, const uint32_t *index,
                     size_t n, size_t C);
void cuda_f32_scatter(struct device *d, float *y, const float *x, const uint32_t *index,
                      size_t n, size_t C);
void cuda_f32_rmsnorm(struct device *d, float *y, const float *x, const float *w, size_t N,
                      size_t C, float eps);
void cuda_f32_rmsnorm_backward(struct device *d, float *dx, float *dw, const float *dy,
                               const float *x, const float *w, size_t N, size_t C, float eps);
void cuda_f32_rope(struct device *d, float *x, const float *cos, const float *sin,
                   const int32_t *pos, size_t T, size_t H, size_t D, bool is_inverse);
void cuda_f32_swiglu_forward(struct device *d, float *y, const float *g, const float *u,
                             size_t n);
void cuda_f32_swiglu_backward(struct device *d, float *dg, float *du, const float *dy,
                              const float *g, const float *u, size_t n);

/* logits.cu */
void cuda_f32_logprob(struct device *d, float *logp, const float *logits, const int32_t *token,
                      float temperature, size_t N, size_t V);
void cuda_f32_logprob_backward(struct device *d, float *dlogits, const float *weight,
                               const float *logits, const int32_t *token, float temperature,
                               size_t N, size_t V);
void cuda_f32_sample(struct device *d, struct device_drawn *out,
                     const struct device_draw *draws, const float *logits, size_t n, size_t V);

/* top.cu */
void cuda_f32_top(struct device *d, uint32_t *index, uint16_t *value, const float *x, size_t N,
                  size_t C);

/* math.cu */
void cuda_f32_math_sum(struct device *d, uint64_t *sum, int which, uint32_t first,
                       uint32_t step, uint64_t n);

/* optimizer.cu */
void cuda_f32_square_sum(struct device *d, float *sum, float *scratch, const float *g,
                         size_t rows, size_t cols);
void cuda_f32_adamw(struct device *d, float *p, float *m, float *v, const float *g,
                    const struct adamw_scalars *s, size_t n);
void cuda_f32_round_bf16(struct device *d, float *y, const float *x, size_t n);
void cuda_f32_not_finite(struct device *d, uint32_t *flag, const float *x, size_t n);

#ifdef __cplusplus
}
#endif

#endif
